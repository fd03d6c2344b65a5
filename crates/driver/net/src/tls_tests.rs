//! Handshakes between our two ends, with certificates made on the spot.

use super::*;
use crate::{ListenAddress, Listener, connect_tcp};
use skerry_model::Timestamp;
use skerry_pki::{AuthoritySpec, CertificateAuthority, CertificateRequest, IssuedCertificate, Random};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(10);

fn authority() -> CertificateAuthority {
    let spec = AuthoritySpec { common_name: "test root".into(), lifetime: LIMIT * 10_000, path_length: None };
    CertificateAuthority::create(&spec, today(), &Random::system()).unwrap()
}

/// Certificates are checked against the machine's clock.
fn today() -> Timestamp {
    crate::Clock::system().now().wall
}

fn issue(authority: &CertificateAuthority, name: &str) -> IssuedCertificate {
    authority.issue(&CertificateRequest::server([name]), today(), LIMIT * 1_000).unwrap()
}

fn server(certificate: &IssuedCertificate) -> ServerTls {
    ServerTls::new(&certificate.chain_pem, &certificate.key_pem).unwrap()
}

async fn listener() -> (Listener, u16) {
    let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let port = listener.port().unwrap();
    (listener, port)
}

async fn shake(
    acceptor: &TlsAcceptor,
    client: &ClientTls,
    host: &str,
) -> (Result<(Stream, TlsPeer), HandshakeError>, Result<Stream, HandshakeError>) {
    let (listener, port) = listener().await;
    let connecting = async {
        let tcp = connect_tcp("127.0.0.1", port, LIMIT).await.unwrap();
        client.connect(tcp, host, LIMIT).await
    };
    let accepting = async { acceptor.accept(listener.accept().await.0.attach().unwrap()).await };
    tokio::join!(accepting, connecting)
}

#[tokio::test]
async fn a_trusted_server_is_spoken_to_and_its_certificate_can_change() {
    let authority = authority();
    let tls = server(&issue(&authority, "one.local"));
    let acceptor = TlsAcceptor::new(tls.clone(), HandshakeLimits::default());
    let client = ClientTls::new(authority.chain_pem()).unwrap();
    let (accepted, connected) = shake(&acceptor, &client, "one.local").await;
    let ((mut theirs, peer), mut ours) = (accepted.unwrap(), connected.unwrap());
    assert_eq!((peer.chain.len(), peer.server_name.as_deref()), (0, Some("one.local")));
    ours.write_all(b"ping").await.unwrap();
    ours.flush().await.unwrap();
    let mut text = [0; 4];
    theirs.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"ping");

    let next = issue(&authority, "127.0.0.9");
    tls.replace_certificate(&next.chain_pem, &next.key_pem).unwrap();
    assert!(tls.replace_certificate("", &next.key_pem).is_err());
    let (_, connected) = shake(&acceptor, &client, "one.local").await;
    assert!(matches!(connected, Err(HandshakeError::Failed(_))));
    assert!(shake(&acceptor, &client, "127.0.0.9").await.1.is_ok());
}

#[tokio::test]
async fn an_end_without_farewell_is_an_error_in_plain_words() {
    let authority = authority();
    let acceptor = TlsAcceptor::new(server(&issue(&authority, "h")), HandshakeLimits::default());
    let (accepted, connected) = shake(&acceptor, &ClientTls::new(authority.chain_pem()).unwrap(), "h").await;
    let ((mut theirs, _), mut ours) = (accepted.unwrap(), connected.unwrap());
    // What is left unread turns an end into a reset.
    theirs.write_all(b"all").await.unwrap();
    theirs.flush().await.unwrap();
    ours.read_exact(&mut [0; 3]).await.unwrap();
    drop(ours);
    let error = theirs.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(error.to_string(), "the other end closed it without a farewell");
}

#[tokio::test]
async fn another_root_is_not_trusted() {
    let acceptor = TlsAcceptor::new(server(&issue(&authority(), "h")), HandshakeLimits::default());
    let (accepted, connected) = shake(&acceptor, &ClientTls::new(authority().chain_pem()).unwrap(), "h").await;
    assert!(accepted.is_err());
    let error = connected.unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_handed_on_unjudged() {
    let authority = authority();
    let acceptor = TlsAcceptor::new(server(&issue(&authority, "h")), HandshakeLimits::default());
    let own = authority.issue(&CertificateRequest::client("device1"), today(), LIMIT).unwrap();
    let chain = certificates("chain", &own.chain_pem).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificates("roots", authority.chain_pem()).unwrap().remove(0)).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap())
            .unwrap();
        let (accepted, connected) = shake(&acceptor, &ClientTls(Arc::new(config)), "h").await;
        connected.unwrap();
        assert_eq!(accepted.unwrap().1.chain, chain);
    }
}

#[tokio::test(start_paused = true)]
async fn silent_and_slow_peers_are_not_waited_for() {
    let acceptor = TlsAcceptor::new(server(&issue(&authority(), "h")), HandshakeLimits::default());
    let (listener, port) = listener().await;
    let _silent = connect_tcp("127.0.0.1", port, LIMIT).await.unwrap();
    let error = acceptor.accept(listener.accept().await.0.attach().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "the peer sent nothing for 60 s");

    let mut slow = connect_tcp("127.0.0.1", port, LIMIT).await.unwrap();
    slow.write_all(&[22]).await.unwrap();
    let error = acceptor.accept(listener.accept().await.0.attach().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "the TLS handshake took longer than 20 s");
}

#[tokio::test]
async fn rubbish_ends_the_handshake() {
    let acceptor = TlsAcceptor::new(server(&issue(&authority(), "h")), HandshakeLimits::default());
    let (listener, port) = listener().await;
    let mut client = connect_tcp("127.0.0.1", port, LIMIT).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let accepted = acceptor.accept(listener.accept().await.0.attach().unwrap()).await;
    assert!(matches!(accepted, Err(HandshakeError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn handshakes_wait_for_their_turn() {
    let limits = HandshakeLimits { handshakes_max: 1, ..HandshakeLimits::default() };
    let authority = authority();
    let acceptor = TlsAcceptor::new(server(&issue(&authority, "h")), limits);
    let (listener, port) = listener().await;
    let mut slow = connect_tcp("127.0.0.1", port, LIMIT).await.unwrap();
    slow.write_all(&[22]).await.unwrap();
    let stream = listener.accept().await.0.attach().unwrap();
    let first = tokio::spawn({
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream).await }
    });
    let taken = async {
        while acceptor.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    };
    taken.await;
    // The second waits behind the first; when that gives up, its own time has just run out too.
    let mut other = connect_tcp("127.0.0.1", port, LIMIT).await.unwrap();
    other.write_all(&[22]).await.unwrap();
    let second = acceptor.accept(listener.accept().await.0.attach().unwrap()).await;
    assert!(matches!(second, Err(HandshakeError::TooSlow(_))));
    assert!(matches!(first.await.unwrap(), Err(HandshakeError::TooSlow(_))));
    assert_eq!(acceptor.turns.available_permits(), 1);
}

#[tokio::test]
async fn a_silent_connection_costs_little() {
    let acceptor = TlsAcceptor::new(server(&issue(&authority(), "h")), HandshakeLimits::default());
    let (listener, port) = listener().await;
    let _silent = connect_tcp("127.0.0.1", port, LIMIT).await.unwrap();
    let waiting = acceptor.accept(listener.accept().await.0.attach().unwrap());
    // 10,000 of them are to stay well below 60 MB, kernel not counted.
    let bytes = std::mem::size_of_val(&waiting);
    assert!(bytes <= 1_024, "{bytes}");
}
