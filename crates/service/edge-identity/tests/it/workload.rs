//! The workload API over real sockets, asked by the platform's own client and by hand.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use skerry_edge_identity::{EdgeIdentity, SocketAccess};
use skerry_model::Timestamp;
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient, Method, Request};
use skerry_net::{ClientTls, Clock, HandshakeLimits, ListenAddress, Listener, ServerTls, TlsAcceptor, connect_tcp};
use skerry_pki::{CertificateDetails, SymmetricKey};
use skerry_workload::{WorkloadClient, WorkloadError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hub::Hub;
use crate::{Door, config, module, open};

struct Edge {
    identity: EdgeIdentity,
    hub: Hub,
    door: Door,
    folder: tempfile::TempDir,
}

impl Edge {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let (hub, client) = Hub::start(folder.path(), clock);
        let (identity, door) = open(&config(folder.path()), client, clock);
        let identity = identity.unwrap();
        identity.first_contact().await.unwrap();
        Self { identity, hub, door, folder }
    }

    async fn socket(&self, name: &str) -> PathBuf {
        self.identity.ensure(&module(name)).await.unwrap();
        self.identity.open_socket(&module(name), SocketAccess::Everybody).unwrap().join("workload.sock")
    }

    fn client(&self, socket: &Path, name: &str) -> WorkloadClient {
        let generation = self.identity.known(&module(name)).unwrap().generation;
        WorkloadClient::new(HttpAddress::Unix(socket.to_owned()), module(name), generation, "2022-08-03".into())
    }
}

fn status(error: &WorkloadError) -> u16 {
    match error {
        WorkloadError::Refused { status, .. } => *status,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_module_signs_with_the_key_the_hub_knows() {
    let edge = Edge::start().await;
    let client = edge.client(&edge.socket("sensor").await, "sensor");
    let digest = client.sign(b"text").await.unwrap();
    let registered = edge.hub.module("sensor").unwrap();
    let registered = registered.pointer("/authentication/symmetricKey/primaryKey").unwrap().as_str().unwrap();
    assert!(SymmetricKey::from_base64(registered).unwrap().verify(b"text", &digest));
    assert_eq!(client.modules().await.unwrap()[0].name, "sensor");
}

#[tokio::test]
async fn what_a_module_seals_only_its_own_generation_opens() {
    let edge = Edge::start().await;
    let socket = edge.socket("sensor").await;
    let client = edge.client(&socket, "sensor");
    // As agent and edge hub of the original do: 32 hex digits.
    let vector = b"0123456789abcdef0123456789abcdef";
    let sealed = client.encrypt(b"secret", vector).await.unwrap();
    assert_eq!(sealed[0], 2);
    assert_eq!(client.decrypt(&sealed, vector).await.unwrap().as_slice(), b"secret");
    assert_eq!(status(&client.decrypt(&sealed, b"other").await.unwrap_err()), 500);
    let stale = WorkloadClient::new(HttpAddress::Unix(socket), module("sensor"), "1".into(), "2018-06-28".into());
    assert_eq!(status(&stale.decrypt(&sealed, vector).await.unwrap_err()), 404);
    assert!(stale.sign(b"").await.is_ok(), "the generation in the path does not matter for signing");
}

#[tokio::test]
async fn the_edge_hub_gets_a_certificate_that_modules_trust() {
    let edge = Edge::start().await;
    let client = edge.client(&edge.socket("$edgeHub").await, "$edgeHub");
    let names = ["127.0.0.2".to_owned()];
    let issued = client.server_certificate("edge1.local", &names, Timestamp::default()).await.unwrap();
    let details = CertificateDetails::from_pem(&issued.chain_pem).unwrap();
    assert_eq!(details.common_name, "edge1.local");
    assert_eq!(details.dns_names, ["edge1.local", "edgeHub"]);
    assert_eq!(issued.expiration, details.not_after);

    let trust = client.trust_bundle().await.unwrap().unwrap();
    let acceptor =
        TlsAcceptor::new(ServerTls::new(&issued.chain_pem, &issued.key_pem).unwrap(), HandshakeLimits::default());
    let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let limit = Duration::from_secs(10);
    for name in ["edge1.local", "edgeHub", "127.0.0.2"] {
        let tcp = connect_tcp("127.0.0.1", listener.port().unwrap(), limit).await.unwrap();
        let stream = listener.accept().await.0.attach().unwrap();
        let tls = ClientTls::new(&trust).unwrap();
        let (accepted, connected) = tokio::join!(acceptor.accept(stream), tls.connect(tcp, name, limit));
        connected.unwrap_or_else(|error| panic!("{name}: {error}"));
        accepted.unwrap();
    }
    let identity = client.identity_certificate().await.unwrap();
    assert_eq!(CertificateDetails::from_pem(&identity.chain_pem).unwrap().common_name, "$edgeHub");
}

#[tokio::test]
async fn nobody_gets_what_is_another_modules() {
    let edge = Edge::start().await;
    let own = edge.socket("sensor").await;
    edge.socket("other").await;
    let as_other = edge.client(&own, "other");
    assert_eq!(status(&as_other.sign(b"").await.unwrap_err()), 403);
    let client = edge.client(&own, "sensor");
    client.sign(b"").await.unwrap();
    edge.door.store(false, Ordering::Relaxed);
    assert_eq!(status(&client.sign(b"").await.unwrap_err()), 403);
    assert!(client.trust_bundle().await.unwrap().is_some(), "trust is for everybody who reaches the socket");
}

#[tokio::test]
async fn sockets_have_their_modes_and_go_with_their_modules() {
    let edge = Edge::start().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let socket = edge.socket("sensor").await;
    assert_eq!(socket, edge.folder.path().join("workload/sensor/workload.sock"));
    assert_eq!((mode(socket.parent().unwrap()), mode(&socket)), (0o755, 0o666));
    assert_eq!(mode(&edge.folder.path().join("workload")), 0o711);
    let folder = edge.identity.open_socket(&module("sensor"), SocketAccess::Owner).unwrap();
    assert_eq!((mode(&folder), mode(&socket)), (0o700, 0o600));
    edge.client(&socket, "sensor").sign(b"").await.unwrap();

    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = (inode(&folder), inode(&socket));
    edge.identity.open_socket(&module("sensor"), SocketAccess::Owner).unwrap();
    assert_eq!((inode(&folder), inode(&socket)), before, "nothing changes when nothing is to change");
    edge.identity.close_socket(&module("sensor"));
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_restarted_edge_is_found_in_the_same_folder() {
    let edge = Edge::start().await;
    let socket = edge.socket("sensor").await;
    let client = edge.client(&socket, "sensor");
    let digest = client.sign(b"text").await.unwrap();
    let Edge { identity, folder, .. } = edge;
    let kept = std::fs::File::open(socket.parent().unwrap()).unwrap();
    drop(identity);
    let nobody = HttpClient::new(HttpAddress::Unix(folder.path().join("no")), ClientLimits::default());
    let again = open(&config(folder.path()), nobody, Clock::system()).0.unwrap();
    again.open_socket(&module("sensor"), SocketAccess::Everybody).unwrap();
    assert_eq!(client.sign(b"text").await.unwrap(), digest);
    let inode = std::os::unix::fs::MetadataExt::ino;
    assert_eq!(inode(&kept.metadata().unwrap()), inode(&std::fs::metadata(socket.parent().unwrap()).unwrap()));
}

#[tokio::test]
async fn by_hand_the_answers_are_those_of_the_original() {
    let edge = Edge::start().await;
    let socket = edge.socket("sensor").await;
    let client = HttpClient::new(HttpAddress::Unix(socket.clone()), ClientLimits::default());
    let ask = async |method: Method, target: &str, body: &'static str| {
        let answer = client.request(Request { body: body.into(), ..Request::new(method, target) }).await.unwrap();
        assert_eq!(answer.header_text("content-type"), Some("application/json; charset=utf-8"));
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    };
    // As the Python SDK does: without a content type.
    let sign = "/modules/sensor/genid/1/sign?api-version=2022-08-03";
    assert_eq!(ask(Method::POST, sign, r#"{"keyId":"primary","algo":"HMACSHA256","data":"AA=="}"#).await.0, 200);
    let (status, body) = ask(Method::GET, "/trust-bundle?api-version=2018-06-28", "").await;
    assert!(status == 200 && body.starts_with("{\"certificate\":\"-----BEGIN CERTIFICATE-----\\n"), "{body}");
    let manifest_trust = ask(Method::GET, "/manifest-trust-bundle?api-version=2022-08-03", "").await;
    assert_eq!(manifest_trust, (200, "{\"certificate\":\"\"}".to_owned()));
    assert_eq!(ask(Method::GET, "/modules", "").await, (400, "{\"message\":\"api-version not specified\"}".to_owned()));
    let identity = ask(Method::POST, "/modules/sensor/certificate/identity?api-version=2018-06-28", "").await;
    assert_eq!(identity.0, 201);
    let issued: serde_json::Value = serde_json::from_str(&identity.1).unwrap();
    assert_eq!(issued["privateKey"]["type"], "key");
    assert!(issued["privateKey"]["bytes"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let expiration = issued["expiration"].as_str().unwrap();
    assert!(expiration.len() == 25 && expiration.ends_with("+00:00"), "{expiration}");

    let mut raw = skerry_net::connect_unix(&socket, Duration::from_secs(5)).await.unwrap();
    raw.write_all(b"no http\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
