//! A plain HTTPS client for the service API: one request per connection, written out by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use crate::PATIENCE;

/// Sends requests to one server with one token.
#[derive(Debug, Clone)]
pub struct Rest {
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    authorization: String,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// JSON, or a string where it is none, or null where there is none.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

/// What the service's own clients send; the server takes every value.
const API_VERSION: &str = "api-version=2021-04-12";

impl Rest {
    /// A client that trusts `ca_pem` alone.
    #[track_caller]
    pub fn new(address: SocketAddr, host: &str, ca_pem: &[u8], authorization: String) -> Rest {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            let certificate = certificate.unwrap_or_else(|cause| panic!("the CA file is no PEM: {cause}"));
            roots.add(certificate).unwrap_or_else(|cause| panic!("the CA file holds no CA: {cause}"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|cause| panic!("no TLS versions: {cause}"))
            .with_root_certificates(roots)
            .with_no_client_auth();
        Rest { address, host: host.to_owned(), tls: Arc::new(tls), authorization }
    }

    /// The same server with another token.
    pub fn with_authorization(&self, authorization: String) -> Rest {
        Rest { authorization, ..self.clone() }
    }

    /// Expects a status of 2xx and hands back the body.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.ask(method, path, &[], body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
        answer.body
    }

    /// Sends one request. `api-version` is added to the path if it has no query.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        self.try_ask(method, path, headers, body).unwrap_or_else(|cause| panic!("{method} {path}: {cause}"))
    }

    fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> std::io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = match path.contains('?') {
            true => format!("{method} {path} HTTP/1.1\r\n"),
            false => format!("{method} {path}?{API_VERSION} HTTP/1.1\r\n"),
        };
        let length = body.len().to_string();
        let ours = [
            ("Host", self.host.as_str()),
            ("Connection", "close"),
            ("Authorization", self.authorization.as_str()),
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Length", length.as_str()),
        ];
        for (name, value) in ours.iter().chain(headers) {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.push_str("\r\n");
        request.push_str(&body);

        let socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.tls), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(request.as_bytes())?;
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw)?;
        parse(&raw).ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {}", String::from_utf8_lossy(&raw))))
    }
}

impl Answer {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

fn parse(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let split =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let headers: Vec<(String, String)> = lines.filter_map(split).collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let rest = &raw[end + 4..];
    let bytes = if chunked { unchunk(rest)? } else { rest.to_vec() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    Some(Answer { status, headers, body, text })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = rest.get(line + 2..)?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_read_in_both_framings() {
        let plain = b"HTTP/1.1 404 Not Found\r\nETag: \"x\"\r\nContent-Length: 11\r\n\r\n{\"Message\":1}";
        let answer = parse(plain).unwrap();
        assert_eq!((answer.status, answer.header("etag")), (404, Some("\"x\"")));
        assert_eq!(answer.body, json!({ "Message": 1 }));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, json!([1, 2]));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().body, Value::Null);
        assert!(parse(b"nonsense").is_none());
    }
}
