//! Whoever knocks at a server: packets written by hand over TLS, and what comes back, one thing at a time.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use skerry_model::Limits;
use skerry_mqtt::{Connect, Grant, Packet, PacketId, Publish, Qos, Transfer, WireLimits, decode, encode};
use skerry_net::{ClientTls, Stream, connect_tcp};
use skerry_testkit::{ConnectionString, PATIENCE, sas_token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// 2040: later than any test.
pub(crate) const LATER: u64 = 2_208_988_800;

/// A server to knock at.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    tls: ClientTls,
}

impl Server {
    /// The server at `address`, a name in whose certificate is its address.
    pub(crate) fn new(address: SocketAddr, ca_file: &Path) -> Self {
        let tls = ClientTls::new(&fs::read_to_string(ca_file).unwrap()).unwrap();
        Self { address, tls }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same server at another port.
    pub(crate) fn at_port(&self, port: u16) -> Self {
        Self { address: SocketAddr::new(self.address.ip(), port), tls: self.tls.clone() }
    }

    /// A connection over which nothing was said yet.
    pub(crate) fn knock(&self) -> Peer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let host = self.address.ip().to_string();
        let stream = runtime.block_on(connect_tcp(&host, self.address.port(), PATIENCE)).unwrap();
        Peer { runtime, stream, unread: Vec::new() }
    }

    /// A connection through its TLS handshake.
    pub(crate) fn secured(&self) -> Peer {
        let Peer { runtime, stream, unread } = self.knock();
        let stream = runtime.block_on(self.tls.connect(stream, &self.address.ip().to_string(), PATIENCE)).unwrap();
        Peer { runtime, stream, unread }
    }

    /// Shows `login` and answers with the connection and what it was told.
    pub(crate) fn try_login(&self, login: &Login) -> (Peer, Heard) {
        let mut peer = self.secured();
        peer.introduce(login);
        let told = peer.hear();
        (peer, told)
    }

    /// Lets `login` in; it has to be.
    #[track_caller]
    pub(crate) fn login(&self, login: &Login) -> Peer {
        let (peer, told) = self.try_login(login);
        assert_eq!(told, Heard::ConnAck(0), "{}", login.client_id);
        peer
    }
}

/// What somebody shows to be let in.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) client_id: String,
    pub(crate) user_name: String,
    pub(crate) token: String,
}

impl Login {
    /// What the device or module of a connection string shows.
    pub(crate) fn new(connection: &ConnectionString) -> Self {
        let (host, device) = (connection.part("HostName"), connection.part("DeviceId"));
        let module = connection.text().contains(";ModuleId=").then(|| connection.part("ModuleId"));
        let (client_id, resource) = match module {
            None => (device.to_owned(), format!("{host}/devices/{device}")),
            Some(module) => (format!("{device}/{module}"), format!("{host}/devices/{device}/modules/{module}")),
        };
        let token = sas_token(&resource, connection.part("SharedAccessKey"), LATER);
        Self { user_name: format!("{host}/{client_id}/?api-version=2021-04-12"), client_id, token }
    }

    /// The same with another token.
    pub(crate) fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    /// `devices/{d}[/modules/{m}]`: where the client's own topics begin.
    pub(crate) fn topics(&self) -> String {
        match self.client_id.split_once('/') {
            Some((device, module)) => format!("devices/{device}/modules/{module}"),
            None => format!("devices/{}", self.client_id),
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    ConnAck(u8),
    PubAck(u16),
    /// Granted levels; 128 is a refusal.
    SubAck(Vec<u8>),
    Publish {
        topic: String,
        payload: String,
        id: Option<u16>,
    },
    PingResp,
    /// Something that no test waits for.
    Other(String),
    /// The end of the connection.
    Closed,
}

/// One end of a connection that a test holds in its hands.
pub(crate) struct Peer {
    runtime: Runtime,
    stream: Stream,
    unread: Vec<u8>,
}

impl Peer {
    /// Writes bytes as they are; that the server is gone is heard of when listening.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.runtime.block_on(async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
    }

    pub(crate) fn introduce(&mut self, login: &Login) {
        let bytes = connect(login);
        self.send(&bytes);
    }

    /// Sends a message that is to be acknowledged.
    pub(crate) fn publish(&mut self, id: u16, topic: &str, payload: &[u8]) {
        let bytes = publish(id, topic, payload);
        self.send(&bytes);
    }

    /// Listens to a topic filter; the server has to agree.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str) {
        let mut bytes = Vec::new();
        encode::subscribe(&mut bytes, packet_id(9_999), [(filter, Qos::AtLeastOnce)].into_iter()).unwrap();
        self.send(&bytes);
        assert_eq!(self.hear(), Heard::SubAck(vec![1]), "{filter}");
    }

    pub(crate) fn acknowledge(&mut self, id: u16) {
        let mut bytes = Vec::new();
        encode::puback(&mut bytes, packet_id(id));
        self.send(&bytes);
    }

    /// The next thing the server says.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Heard {
        self.hear_within(PATIENCE).unwrap_or_else(|| panic!("the server said nothing for {PATIENCE:?}"))
    }

    /// The next thing the server says, unless it says nothing for so long.
    pub(crate) fn hear_within(&mut self, patience: Duration) -> Option<Heard> {
        let limits = WireLimits::from(&Limits::default());
        let Self { runtime, stream, unread } = self;
        let hearing = async {
            loop {
                let mut rest = unread.as_slice();
                if let Some(packet) = decode(&mut rest, &limits).unwrap() {
                    let heard = Heard::from(packet);
                    let understood = unread.len() - rest.len();
                    unread.drain(..understood);
                    return heard;
                }
                if stream.read_buf(unread).await.unwrap_or(0) == 0 {
                    return Heard::Closed;
                }
            }
        };
        runtime.block_on(async { tokio::time::timeout(patience, hearing).await.ok() })
    }

    /// Waits for the end of the connection; nothing else may come before.
    #[track_caller]
    pub(crate) fn hear_the_end(&mut self) {
        assert_eq!(self.hear(), Heard::Closed);
    }

    /// Everything a server that speaks something else than MQTT says up to the end, within `patience`.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self, patience: Duration) -> String {
        let Self { runtime, stream, .. } = self;
        let mut bytes = Vec::new();
        let read = runtime.block_on(async { tokio::time::timeout(patience, stream.read_to_end(&mut bytes)).await });
        assert!(read.is_ok(), "the server did not close within {patience:?}");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks for the twin, or patches it, and waits for the answer: its topic's part from the status on, and its body.
    #[track_caller]
    pub(crate) fn ask_twin(&mut self, topic: &str, payload: &[u8]) -> (String, String) {
        self.publish(77, topic, payload);
        let mut answer = None;
        let mut acknowledged = false;
        while answer.is_none() || !acknowledged {
            match self.hear() {
                Heard::PubAck(77) => acknowledged = true,
                Heard::Publish { topic, payload, .. } => {
                    let rest = topic.strip_prefix("$iothub/twin/res/").unwrap_or_else(|| panic!("{topic}"));
                    answer = Some((rest.to_owned(), payload));
                }
                other => panic!("an answer was expected, not {other:?}"),
            }
        }
        answer.unwrap_or_default()
    }
}

/// A CONNECT packet.
pub(crate) fn connect(login: &Login) -> Vec<u8> {
    let mut bytes = Vec::new();
    let connect = Connect {
        client_id: &login.client_id,
        clean_session: true,
        keep_alive: 240,
        will: None,
        user_name: Some(&login.user_name),
        password: Some(login.token.as_bytes()),
    };
    encode::connect(&mut bytes, &connect).unwrap();
    bytes
}

/// A PUBLISH packet of QoS 1.
pub(crate) fn publish(id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let transfer = Transfer::AtLeastOnce { id: packet_id(id), dup: false };
    encode::publish(&mut bytes, transfer, false, &[topic], payload).unwrap();
    bytes
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

impl From<Packet<'_>> for Heard {
    fn from(packet: Packet<'_>) -> Self {
        match packet {
            Packet::ConnAck(answer) => Self::ConnAck(answer.code.byte()),
            Packet::PubAck(id) => Self::PubAck(id.get()),
            Packet::SubAck(answer) => Self::SubAck(
                answer
                    .grants()
                    .map(|grant| match grant {
                        Grant::Granted(qos) => qos.bits(),
                        Grant::Failure => 128,
                    })
                    .collect(),
            ),
            Packet::Publish(Publish { topic, payload, transfer, .. }) => Self::Publish {
                topic: topic.to_owned(),
                payload: String::from_utf8_lossy(payload).into_owned(),
                id: match transfer {
                    Transfer::AtMostOnce => None,
                    Transfer::AtLeastOnce { id, .. } | Transfer::ExactlyOnce { id, .. } => Some(id.get()),
                },
            },
            Packet::PingResp => Self::PingResp,
            other => Self::Other(format!("{other:?}")),
        }
    }
}
