//! The client against an edge that answers from a script.

use super::*;
use proptest::prelude::*;
use skerry_net::http::{Body, Response, ServerLimits, serve_http};
use skerry_net::{ListenAddress, Listener};
use tokio::sync::mpsc;

/// An edge that gives every request the same answer, and tells what was asked: method, target, body.
fn edge(status: u16, answer: &str) -> (WorkloadClient, mpsc::UnboundedReceiver<String>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workload.sock");
    let listener = Listener::bind(&ListenAddress::Unix { path: path.clone(), mode: 0o600 }).unwrap();
    let (asked, seen) = mpsc::unbounded_channel();
    let (status, answer) = (StatusCode::from_u16(status).unwrap(), answer.to_owned());
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.0.attach().unwrap();
            let (asked, answer) = (asked.clone(), answer.clone());
            tokio::spawn(async move {
                let handler = |request: Request| {
                    let body = String::from_utf8_lossy(&request.body).into_owned();
                    asked.send(format!("{} {} {body}", request.method, request.target)).unwrap();
                    let response: Response<Body> = Response::json(status, answer.clone()).into();
                    async { response }
                };
                serve_http(stream, handler, &ServerLimits::default()).await
            });
        }
    });
    let module = ModuleName::parse("$edgeHub").unwrap();
    let client = WorkloadClient::new(HttpAddress::Unix(path), module, "6/3".into(), "2020-07-07".into());
    (client, seen, folder)
}

#[tokio::test]
async fn sign_asks_for_its_module_and_generation() {
    let (client, mut seen, _folder) = edge(200, r#"{"digest":"AQID"}"#);
    assert_eq!(client.sign(b"text").await.unwrap(), [1, 2, 3]);
    assert_eq!(
        seen.recv().await.unwrap(),
        r#"POST /modules/%24edgeHub/genid/6%2F3/sign?api-version=2020-07-07 {"keyId":"primary","algo":"HMACSHA256","data":"dGV4dA=="}"#
    );
}

#[tokio::test]
async fn data_is_sealed_and_opened() {
    let (client, mut seen, _folder) = edge(200, r#"{"ciphertext":"AQID","plaintext":"dGV4dA=="}"#);
    assert_eq!(client.encrypt(b"text", b"iv").await.unwrap(), [1, 2, 3]);
    assert_eq!(client.decrypt(&[1, 2, 3], b"iv").await.unwrap().as_slice(), b"text");
    assert!(seen.recv().await.unwrap().ends_with(r#"{"plaintext":"dGV4dA==","initializationVector":"aXY="}"#));
    assert!(seen.recv().await.unwrap().ends_with(r#"{"ciphertext":"AQID","initializationVector":"aXY="}"#));
}

#[tokio::test]
async fn certificates_are_read() {
    let answer =
        r#"{"privateKey":{"type":"key","bytes":"KEY"},"certificate":"CERT","expiration":"2026-01-31T00:00:00+00:00"}"#;
    let (client, mut seen, _folder) = edge(201, answer);
    let until = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
    let issued = client.server_certificate("edge.local", &["edgeHub".into()], until).await.unwrap();
    assert_eq!((issued.chain_pem.as_str(), issued.key_pem.as_str()), ("CERT", "KEY"));
    assert_eq!(issued.expiration, Timestamp::parse("2026-01-31T00:00:00Z").unwrap());
    assert!(!format!("{issued:?}").contains("KEY"));
    assert_eq!(
        seen.recv().await.unwrap(),
        r#"POST /modules/%24edgeHub/genid/6%2F3/certificate/server?api-version=2020-07-07 {"commonName":"edge.local","alternativeNames":["edgeHub"],"expiration":"2026-03-01T00:00:00.000Z"}"#
    );
    client.identity_certificate().await.unwrap();
    assert!(seen.recv().await.unwrap().starts_with("POST /modules/%24edgeHub/certificate/identity?"));
}

#[tokio::test]
async fn a_missing_trust_bundle_is_none_and_other_refusals_are_told() {
    let (client, _seen, _folder) = edge(200, r#"{"certificate":"ROOT"}"#);
    assert_eq!(client.trust_bundle().await.unwrap().as_deref(), Some("ROOT"));
    let (client, _seen, _folder) = edge(404, r#"{"message":"not found"}"#);
    assert_eq!(client.trust_bundle().await.unwrap(), None);
    let (client, _seen, _folder) = edge(403, r#"{"message":"forbidden"}"#);
    let error = client.trust_bundle().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot get the trust bundle: the edge answers 403 `forbidden`");
    let (client, _seen, folder) = edge(200, "{}");
    let error = client.sign(b"").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot have data signed: the edge's answer has no usable `digest`");
    std::fs::remove_file(folder.path().join("workload.sock")).unwrap();
    let fresh = WorkloadClient::new(client.http.address().clone(), client.module, String::new(), String::new());
    assert!(matches!(fresh.sign(b"").await, Err(WorkloadError::Unreachable { .. })));
}

#[tokio::test]
async fn modules_are_listed() {
    let answer = r#"{"modules":[{"id":"id","name":"m1","type":"docker","config":{},"status":{"runtimeStatus":{"status":"running"}}},
        {"name":"m2","type":"process"}]}"#;
    let (client, _seen, _folder) = edge(200, answer);
    let modules = client.modules().await.unwrap();
    assert_eq!(modules[0], ModuleStatus { name: "m1".into(), kind: "docker".into(), status: "running".into() });
    assert_eq!(modules[1].status, "unknown");
}

proptest! {
    #[test]
    fn any_answer_is_a_certificate_or_an_error(text in ".{0,40}", part in "(privateKey|certificate|expiration|digest)") {
        let answer = json!({part: text});
        let _ = certificate(&answer, "test");
        let _ = bytes(&answer, "test", "digest");
    }
}
