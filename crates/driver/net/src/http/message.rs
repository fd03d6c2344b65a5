//! A request and a response as values.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::Body;

/// A request with its whole body.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query as they travel, such as `/modules?api-version=2018-06-28`.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty when there is none.
    pub body: Bytes,
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// With this header; a value that HTTP cannot carry is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// With this JSON body and its content type.
    #[must_use]
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = body.into();
        self
    }

    /// The path as it travels, percent-encoding and all.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The segments of the path, decoded. An empty segment at the end (a trailing slash) is left out.
    ///
    /// # Errors
    /// When a segment is not UTF-8 once decoded.
    pub fn segments(&self) -> Result<Vec<Cow<'_, str>>, std::str::Utf8Error> {
        let path = self.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        path.split('/').map(|segment| percent_decode_str(segment).decode_utf8()).collect()
    }

    /// The query as it travels; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of the first query key that is `name` in any case, decoded; empty when it has none.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query().split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent_decode_str(key).decode_utf8_lossy();
            key.eq_ignore_ascii_case(name).then(|| percent_decode_str(value).decode_utf8_lossy())
        })
    }

    /// The value of a header as text; `None` when it is missing or not visible ASCII.
    pub fn header_text(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A response; its body is whole unless its type says otherwise.
#[derive(Debug, Clone)]
pub struct Response<B = Bytes> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: B,
}

impl Response {
    /// A response without headers or body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A response with a JSON body. Its content type has the charset, on which a device SDK insists.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let mut response = Self { body: body.into(), ..Self::new(status) };
        let kind = HeaderValue::from_static("application/json; charset=utf-8");
        response.headers.insert(header::CONTENT_TYPE, kind);
        response
    }

    /// With this header; a value that HTTP cannot carry is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl<B> Response<B> {
    /// The value of a header as text; `None` when it is missing or not visible ASCII.
    pub fn header_text(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl From<Response> for Response<Body> {
    fn from(response: Response) -> Self {
        Self { status: response.status, headers: response.headers, body: Body::from(response.body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(target: &str) -> Request {
        Request::new(Method::GET, target)
    }

    #[test]
    fn targets_are_taken_apart() {
        let asked = request("/modules/%24edgeHub/genid/1%2F2/?api-version=2018-06-28&x&Y=a%20b=c&x=2");
        assert_eq!(asked.segments().unwrap(), ["modules", "$edgeHub", "genid", "1/2"]);
        assert_eq!(asked.query_value("API-version").as_deref(), Some("2018-06-28"));
        assert_eq!(asked.query_value("x").as_deref(), Some(""));
        assert_eq!(asked.query_value("y").as_deref(), Some("a b=c"));
        assert_eq!(asked.query_value("z"), None);
        assert_eq!(request("/").segments().unwrap(), [""]);
        assert!(request("/%ff").segments().is_err());
    }

    proptest! {
        #[test]
        fn any_target_can_be_asked(target in ".{0,60}", name in ".{0,5}") {
            let asked = request(&target);
            let _ = asked.segments();
            let _ = asked.query_value(&name);
        }
    }
}
