//! Requests as SDKs send them, and as nobody should.

use super::*;
use proptest::prelude::*;

fn post(target: &str, body: &str) -> Request {
    Request { body: body.to_owned().into(), ..Request::new(Method::POST, target) }
}

fn module(call: ModuleCall) -> Call {
    Call::OfModule { module: ModuleName::parse("$edgeHub").unwrap(), call }
}

#[test]
fn every_call_is_understood() {
    let get = |target: &str| read(&Request::new(Method::GET, target)).unwrap();
    assert_eq!(get("/modules?api-version=2018-06-28"), Call::Modules);
    assert_eq!(get("/modules/?api-version=2022-08-03"), Call::Modules);
    assert_eq!(get("/trust-bundle?api-version=2018-06-28"), Call::TrustBundle);
    assert_eq!(get("/manifest-trust-bundle?api-version=2021-12-07"), Call::ManifestTrustBundle);

    let base = "/modules/%24edgeHub/genid/6%2F3";
    let asked = |call: &str, body: &str| read(&post(&format!("{base}/{call}?api-version=2020-07-07"), body)).unwrap();
    assert_eq!(
        asked("sign", r#"{"keyId":"primary","algo":"HMACSHA256","data":"dGV4dA=="}"#),
        module(ModuleCall::Sign { data: b"text".to_vec() })
    );
    assert_eq!(
        asked("encrypt", r#"{"plaintext":"dGV4dA==","initializationVector":"aXY="}"#),
        module(ModuleCall::Encrypt { generation: "6/3".into(), plain: b"text".to_vec(), vector: b"iv".to_vec() })
    );
    assert_eq!(
        asked("decrypt", r#"{"ciphertext":"dGV4dA","initializationVector":"aXY"}"#),
        module(ModuleCall::Decrypt { generation: "6/3".into(), sealed: b"text".to_vec(), vector: b"iv".to_vec() })
    );
    assert_eq!(
        asked(
            "certificate/server",
            r#"{"commonName":"h","expiration":"whatever","alternativeNames":["a","127.0.0.1"]}"#
        ),
        module(ModuleCall::ServerCertificate { common_name: "h".into(), names: vec!["a".into(), "127.0.0.1".into()] })
    );
    let identity = "/modules/$edgeHub/certificate/identity?api-version=2018-06-28";
    for body in ["", r#"{"expiration":"2030-01-01T00:00:00Z"}"#] {
        assert_eq!(read(&post(identity, body)).unwrap(), module(ModuleCall::IdentityCertificate));
    }
}

#[test]
fn the_content_type_may_be_missing_but_not_wrong() {
    let target = "/modules/m/genid/1/sign?api-version=2018-06-28";
    let with = |kind: &str| {
        read(&post(target, r#"{"data":""}"#).header(header::CONTENT_TYPE, kind)).map_err(|refused| refused.status)
    };
    assert!(read(&post(target, r#"{"data":""}"#)).is_ok());
    for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        assert!(with(kind).is_ok(), "{kind}");
    }
    for kind in ["text/plain", "application/json5", ""] {
        assert_eq!(with(kind), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{kind}");
    }
}

#[test]
fn refusals_are_the_original_s() {
    let refused = |method: Method, target: &str, body: &str| {
        let refusal = read(&Request { method, ..post(target, body) }).unwrap_err();
        (refusal.status.as_u16(), refusal.message)
    };
    let sign = "/modules/m/genid/1/sign?api-version=2018-06-28";
    for (method, target, body, status, message) in [
        (Method::GET, "/modules", "", 400, "api-version not specified"),
        (Method::GET, "/nothing?api-version=x", "", 400, "invalid api-version \"x\""),
        (Method::GET, "/nothing?api-version=2018-06-28", "", 404, "not found"),
        (Method::GET, "/manifest-trust-bundle?api-version=2020-07-07", "", 404, "not found"),
        (Method::GET, "/modules/m/genid/1?api-version=2018-06-28", "", 404, "not found"),
        (Method::POST, "/modules/a%20b/genid/1/sign?api-version=2018-06-28", "{}", 404, "not found"),
        (Method::POST, "/modules/%ff/genid/1/sign?api-version=2018-06-28", "{}", 404, "not found"),
        (Method::GET, sign, "", 400, "method not allowed"),
        (Method::POST, "/trust-bundle?api-version=2018-06-28", "", 400, "method not allowed"),
        (Method::POST, sign, "", 400, "missing request body"),
        (Method::POST, sign, "{", 422, "not JSON at line 1 column 1: EOF while parsing an object"),
        (Method::POST, sign, "[]", 422, "the request body is not a JSON object"),
        (Method::POST, sign, "{}", 422, "missing field `data`"),
        (Method::POST, sign, r#"{"data":1}"#, 422, "`data` is not a text"),
        (Method::POST, sign, r#"{"data":"*"}"#, 400, "`data` is not base64"),
        (
            Method::POST,
            "/modules/m/genid/1/encrypt?api-version=2018-06-28",
            r#"{"plaintext":"","initializationVector":""}"#,
            400,
            "`initializationVector` is empty",
        ),
        (
            Method::POST,
            "/modules/m/genid/1/certificate/server?api-version=2018-06-28",
            r#"{"commonName":"h","alternativeNames":[1]}"#,
            422,
            "`alternativeNames` holds something that is not a text",
        ),
    ] {
        assert_eq!(refused(method, target, body), (status, message.to_owned()), "{target} {body}");
    }
}

proptest! {
    #[test]
    fn any_request_is_a_call_or_a_refusal(
        target in "/(modules(/[ -~]{0,6}){0,5}|[ -~]{0,20})[?]?(api-version=2022-08-03)?",
        body in ".{0,60}",
        post in any::<bool>(),
    ) {
        let method = if post { Method::POST } else { Method::GET };
        let _ = read(&Request { body: body.into(), ..Request::new(method, target) });
    }

    #[test]
    fn what_is_signed_arrives_whole(data in proptest::collection::vec(any::<u8>(), 0..200), module in "[a-zA-Z0-9$._-]{1,20}") {
        let text = base64::engine::general_purpose::STANDARD.encode(&data);
        let target = format!("/modules/{module}/genid/1/sign?api-version=2018-06-28");
        let call = read(&post(&target, &format!("{{\"data\":\"{text}\"}}"))).unwrap();
        prop_assert_eq!(call, Call::OfModule { module: ModuleName::parse(&module).unwrap(), call: ModuleCall::Sign { data } });
    }
}
