//! The same over a real socket with TLS.

use std::sync::Arc;
use std::time::Duration;

use skerry_net::{ClientTls, Clock, HandshakeLimits, ListenAddress, Listener, ServerTls, TlsAcceptor};
use skerry_pki::{AuthoritySpec, CertificateAuthority, CertificateRequest, Random};
use skerry_uplink::{Ended, Limits, Parts, State, TlsDial, Uplink, UplinkConfig, UplinkSession};

use crate::world::{Hub, state, tokens};

const DAY: Duration = Duration::from_secs(86_400);

fn authority(clock: Clock) -> CertificateAuthority {
    let spec = AuthoritySpec { common_name: "test root".into(), lifetime: DAY * 10, path_length: None };
    CertificateAuthority::create(&spec, clock.now().wall, &Random::system()).unwrap()
}

/// A session of `edge/mod` that reaches the hub through the gateway at this port.
fn open(clock: Clock, trusted: &CertificateAuthority, port: u16) -> UplinkSession {
    let dial = TlsDial {
        host: "gateway.local".to_owned(),
        port: 8_883,
        tls: ClientTls::new(trusted.chain_pem()).unwrap(),
        connect_to: Some(("127.0.0.1".to_owned(), port)),
        time_max: Duration::from_secs(20),
    };
    let config = UplinkConfig { limits: Limits::default(), ..UplinkConfig::new("contoso.example", "test/1") };
    let uplink = Uplink::new(config, Parts { dial: Arc::new(dial), tokens: Arc::new(tokens(clock)), clock, seed: 1 });
    uplink.open("edge/mod".parse().unwrap(), None)
}

fn gateway(clock: Clock, authority: &CertificateAuthority) -> (Listener, u16, TlsAcceptor) {
    let certificate = authority.issue(&CertificateRequest::server(["gateway.local"]), clock.now().wall, DAY).unwrap();
    let tls = ServerTls::new(&certificate.chain_pem, &certificate.key_pem).unwrap();
    let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let port = listener.port().unwrap();
    (listener, port, TlsAcceptor::new(tls, HandshakeLimits::default()))
}

#[tokio::test]
async fn a_gateway_is_dialled_and_the_hub_named() {
    let clock = Clock::system();
    let authority = authority(clock);
    let (listener, port, acceptor) = gateway(clock, &authority);
    let session = open(clock, &authority, port);
    let (stream, peer) = acceptor.accept(listener.accept().await.0.attach().unwrap()).await.unwrap();
    assert_eq!(peer.server_name.as_deref(), Some("gateway.local"));
    let mut hub = Hub::new(clock, Box::new(stream)).await;
    assert!(hub.user_name.starts_with("contoso.example/edge/mod/"), "{}", hub.user_name);
    hub.accept().await;
    let (sent, ()) = tokio::join!(session.send("a=b", b"hello"), async {
        assert_eq!(hub.payloads(1).await, ["hello"]);
        hub.ack_through(1).await;
    });
    assert_eq!(sent, Ok(()));
}

#[tokio::test]
async fn a_hub_that_is_not_trusted_gets_nothing() {
    let clock = Clock::system();
    let (listener, port, acceptor) = gateway(clock, &authority(clock));
    let session = open(clock, &authority(clock), port);
    let refused = acceptor.accept(listener.accept().await.0.attach().unwrap()).await;
    assert!(refused.is_err());
    let disconnected = state(&session, |state| matches!(state, State::Disconnected { .. })).await;
    let State::Disconnected { reason, .. } = disconnected else { panic!("{disconnected:?}") };
    assert!(matches!(*reason, Ended::Dial(_)), "{reason}");
}
