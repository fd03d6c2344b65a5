//! Servers that answer what a script says and remember what they were asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use skerry_dialect::sas;
use skerry_model::Timestamp;
use skerry_net::http::{Body, HeaderName, Request, Response, ServerLimits, StatusCode, header, serve_http};
use skerry_net::{Clock, HandshakeLimits, ListenAddress, Listener, ServerTls, Stream, TlsAcceptor};
use skerry_pki::{AuthoritySpec, CertificateAuthority, CertificateRequest, Random, SymmetricKey};

/// The key of everybody in these tests.
pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// One step of a script.
pub(crate) enum Step {
    /// The next request is answered with this status and body.
    Answer(u16, String),
    /// The next connection is closed at once.
    HangUp,
}

/// The step that answers with JSON.
pub(crate) fn answer(status: u16, body: impl ToString) -> Step {
    Step::Answer(status, body.to_string())
}

/// A server on a thread of its own; it ends with the test.
pub(crate) struct Scripted {
    pub(crate) port: u16,
    pub(crate) ca_pem: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// An HTTPS server on 127.0.0.1.
    pub(crate) fn https(script: Vec<Step>) -> Self {
        let clock = Clock::system().now().wall;
        let random = Random::system();
        let spec =
            AuthoritySpec { common_name: "test".into(), lifetime: Duration::from_secs(3_600), path_length: None };
        let authority = CertificateAuthority::create(&spec, clock, &random).unwrap();
        let issued =
            authority.issue(&CertificateRequest::server(["127.0.0.1"]), clock, Duration::from_secs(3_600)).unwrap();
        let tls =
            TlsAcceptor::new(ServerTls::new(&issued.chain_pem, &issued.key_pem).unwrap(), HandshakeLimits::default());
        let address = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
        let (port, seen) = serve(address, Some(tls), script);
        Self { port: port.unwrap(), ca_pem: authority.chain_pem().to_owned(), seen }
    }

    /// An HTTP server on a unix socket.
    pub(crate) fn unix(path: PathBuf, script: Vec<Step>) -> Self {
        let (_, seen) = serve(ListenAddress::Unix { path, mode: 0o600 }, None, script);
        Self { port: 0, ca_pem: String::new(), seen }
    }

    /// What was asked, one request after the other.
    pub(crate) fn seen(&self) -> String {
        self.seen.lock().unwrap().join("\n")
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

fn serve(address: ListenAddress, tls: Option<TlsAcceptor>, script: Vec<Step>) -> (Option<u16>, Seen) {
    let seen = Seen::default();
    let (bound, wait) = mpsc::channel();
    let written = seen.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = Listener::bind(&address).unwrap();
            bound.send(listener.port()).unwrap();
            let script = Rc::new(RefCell::new(VecDeque::from(script)));
            loop {
                let (socket, _) = listener.accept().await;
                if matches!(script.borrow().front(), Some(Step::HangUp)) {
                    script.borrow_mut().pop_front();
                    continue;
                }
                let (tls, script, seen) = (tls.clone(), script.clone(), written.clone());
                tokio::task::spawn_local(async move {
                    let stream = socket.attach().unwrap();
                    // A client that does not trust us ends the handshake.
                    let Some(stream) = through_handshake(stream, tls).await else { return };
                    let handler = |request| std::future::ready(play(request, &script, &seen));
                    let _ = serve_http(stream, handler, &ServerLimits::default()).await;
                });
            }
        });
    });
    (wait.recv().unwrap(), seen)
}

async fn through_handshake(stream: Stream, tls: Option<TlsAcceptor>) -> Option<Stream> {
    match tls {
        None => Some(stream),
        Some(tls) => tls.accept(stream).await.ok().map(|(stream, _)| stream),
    }
}

fn play(request: Request, script: &RefCell<VecDeque<Step>>, seen: &Seen) -> Response<Body> {
    seen.lock().unwrap().push(written(&request));
    let (status, body) = match script.borrow_mut().pop_front() {
        Some(Step::Answer(status, body)) => (status, body),
        Some(Step::HangUp) | None => (500, "{\"Message\":\"the script has no answer for this\"}".to_owned()),
    };
    let response = Response::json(StatusCode::from_u16(status).unwrap(), Bytes::from(body));
    response.header(HeaderName::from_static("x-ms-request-id"), "test").into()
}

/// A request as a test compares it: without what is the same in all of them, with its token checked.
fn written(request: &Request) -> String {
    let mut text = format!("{} {}\n", request.method, request.target);
    if let Some(token) = request.header_text(header::AUTHORIZATION) {
        text.push_str(&format!("  token: {}\n", checked(token)));
    }
    for (name, value) in &request.headers {
        let shown = name == header::IF_MATCH || name.as_str().starts_with("iothub-");
        if shown {
            text.push_str(&format!("  {name}: {}\n", value.to_str().unwrap()));
        }
    }
    if !request.body.is_empty() {
        text.push_str(&format!("  {}\n", String::from_utf8_lossy(&request.body)));
    }
    text
}

/// Whose token it is, once it is known to be good.
fn checked(token: &str) -> String {
    let token = sas::parse(token).unwrap();
    let key = SymmetricKey::from_base64(KEY).unwrap();
    assert!(key.verify(token.signed_text().as_bytes(), &token.signature), "the signature is wrong");
    let now: Timestamp = Clock::system().now().wall;
    assert!(now < token.expiry && token.expiry < now.plus(Duration::from_secs(3_600)), "{:?}", token.expiry);
    match token.policy {
        Some(policy) => format!("policy {policy} for {}", token.resource),
        None => token.resource,
    }
}
