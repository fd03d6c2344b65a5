//! One MQTT connection of the load generator: set up with waits, then driven in batches without an allocation per message.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use skerry_model::Limits;
use skerry_mqtt::{Connect, ConnectReturn, Grant, Packet, PacketId, Qos, WireLimits, decode, encode};
use skerry_net::{ClientTls, Stream, connect_tcp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::credentials::Login;
use crate::failure::Failure;

/// What one read may bring; larger than any packet that is taken.
const INPUT_BYTES: usize = 512 * 1024;
/// How long each step of setting up a connection may take.
const SETUP_MAX: Duration = Duration::from_secs(20);
/// Seconds; also how long a client may be silent.
pub(crate) const KEEP_ALIVE: u16 = 60;

/// A broker and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    tls: Option<(ClientTls, String)>,
}

impl Target {
    /// A broker at `address`; with TLS when `trust` names the PEM file of its authority.
    pub(crate) fn new(address: SocketAddr, trust: Option<&Path>, host: Option<&str>) -> Result<Self, Failure> {
        let Some(trust) = trust else { return Ok(Self { address, tls: None }) };
        let what = format!("cannot trust {}", trust.display());
        let pem = std::fs::read_to_string(trust).map_err(Failure::io(what.clone()))?;
        let tls = ClientTls::new(&pem).map_err(|error| Failure::because(what, &error))?;
        let host = host.map_or_else(|| address.ip().to_string(), str::to_owned);
        Ok(Self { address, tls: Some((tls, host)) })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A connection, through its TLS handshake.
    pub(crate) async fn connect(&self) -> Result<Stream, Failure> {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        let stream =
            connect_tcp(&host, port, SETUP_MAX).await.map_err(|error| Failure::because("connecting", &error))?;
        match &self.tls {
            None => Ok(stream),
            Some((tls, host)) => {
                let secured = tls.connect(stream, host, SETUP_MAX).await;
                secured.map_err(|error| Failure::because(format!("TLS with {}", self.address), &error))
            }
        }
    }
}

/// A client that a broker has let in.
pub(crate) struct Peer {
    name: String,
    stream: Stream,
    input: Input,
}

/// Bytes that have come, up to the packet that is not complete yet.
struct Input {
    bytes: Box<[u8]>,
    filled: usize,
    limits: WireLimits,
}

impl Input {
    /// Hands on every complete packet.
    fn packets(&mut self, mut take: impl FnMut(Packet<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut rest = &self.bytes[..self.filled];
        while let Some(packet) = decode(&mut rest, &self.limits).map_err(|error| Failure::because("reading", &error))? {
            take(packet)?;
        }
        let left = rest.len();
        self.bytes.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(())
    }
}

/// What a client does once it is connected.
pub(crate) trait Role {
    /// Takes a packet; may append answers.
    fn packet(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<(), Failure>;

    /// Called before every read: appends what can be sent now.
    fn fill(&mut self, out: &mut Vec<u8>) -> Result<(), Failure>;
}

impl Peer {
    /// Connects and waits until the broker lets the client in.
    pub(crate) async fn connect(target: &Target, login: &Login) -> Result<Self, Failure> {
        let limits = WireLimits::from(&Limits::default());
        let input = Input { bytes: vec![0; INPUT_BYTES].into_boxed_slice(), filled: 0, limits };
        let mut peer = Self { name: login.client_id.clone(), stream: target.connect().await?, input };
        let mut out = Vec::new();
        let connect = Connect {
            client_id: &login.client_id,
            clean_session: true,
            keep_alive: KEEP_ALIVE,
            will: None,
            user_name: login.user_name.as_deref(),
            password: login.password.as_deref().map(str::as_bytes),
        };
        encode::connect(&mut out, &connect).map_err(|error| Failure::because("CONNECT", &error))?;
        let answer = |packet: Packet<'_>| match packet {
            Packet::ConnAck(answer) => Some(answer.code),
            _ => None,
        };
        match peer.ask(&out, answer).await? {
            ConnectReturn::Accepted => Ok(peer),
            code => Err(Failure::Other(format!("{} is not let in: {code:?}", peer.name))),
        }
    }

    /// Subscribes at QoS 1.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Result<(), Failure> {
        let mut out = Vec::new();
        let filters = [(filter, Qos::AtLeastOnce)];
        encode::subscribe(&mut out, PacketId::MIN, filters.into_iter())
            .map_err(|error| Failure::because("SUBSCRIBE", &error))?;
        let answer = |packet: Packet<'_>| match packet {
            Packet::SubAck(answer) => Some(answer.grants().next()),
            _ => None,
        };
        match self.ask(&out, answer).await? {
            Some(Grant::Granted(Qos::AtLeastOnce)) => Ok(()),
            other => Err(Failure::Other(format!("{} gets {other:?} for {filter}", self.name))),
        }
    }

    /// Sends a request and waits for its answer.
    async fn ask<T>(&mut self, request: &[u8], wanted: impl Fn(Packet<'_>) -> Option<T>) -> Result<T, Failure> {
        self.send(request).await?;
        let mut found = None;
        let waiting = async {
            while found.is_none() {
                let packet = |packet: Packet<'_>| {
                    found = found.take().or_else(|| wanted(packet));
                    Ok(())
                };
                self.receive(packet).await?;
            }
            Ok::<_, Failure>(())
        };
        let silent = |_| Failure::Other("no answer in time".to_owned());
        timeout(SETUP_MAX, waiting).await.map_err(silent)??;
        found.ok_or_else(|| Failure::Other("no answer".to_owned()))
    }

    /// Sends and waits until everything is on its way.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sending = format!("{}: sending", self.name);
        self.stream.write_all(bytes).await.map_err(Failure::io(sending.clone()))?;
        self.stream.flush().await.map_err(Failure::io(sending))
    }

    /// Waits for bytes, then hands on every complete packet. May be cancelled while it waits.
    pub(crate) async fn receive(&mut self, take: impl FnMut(Packet<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let free = &mut self.input.bytes[self.input.filled..];
        match self.stream.read(free).await.map_err(Failure::io(format!("{}: receiving", self.name)))? {
            0 => Err(closed(&self.name)),
            count => {
                self.input.filled += count;
                self.input.packets(take)
            }
        }
    }

    /// Plays the role until the connection fails.
    pub(crate) async fn play(mut self, mut role: impl Role) -> Failure {
        let mut out = Output::default();
        poll_fn(|cx| self.poll_role(cx, &mut role, &mut out)).await
    }

    fn poll_role(&mut self, cx: &mut Context<'_>, role: &mut impl Role, out: &mut Output) -> Poll<Failure> {
        loop {
            if let Err(failure) = role.fill(&mut out.bytes) {
                return Poll::Ready(failure);
            }
            if let Poll::Ready(Err(cause)) = out.poll_send(cx, &mut self.stream) {
                return Poll::Ready(Failure::Io { what: format!("{}: sending", self.name), cause });
            }
            let mut free = ReadBuf::new(&mut self.input.bytes[self.input.filled..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut free) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(cause)) => {
                    return Poll::Ready(Failure::Io { what: format!("{}: receiving", self.name), cause });
                }
                Poll::Ready(Ok(())) if free.filled().is_empty() => return Poll::Ready(closed(&self.name)),
                Poll::Ready(Ok(())) => self.input.filled += free.filled().len(),
            }
            if let Err(failure) = self.input.packets(|packet| role.packet(packet, &mut out.bytes)) {
                return Poll::Ready(failure);
            }
        }
    }
}

fn closed(name: &str) -> Failure {
    Failure::Other(format!("the broker closed the connection of {name}"))
}

/// Bytes on their way out.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// Writes as much as the socket takes; ready when nothing is left.
    fn poll_send(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<std::io::Result<()>> {
        while self.sent < self.bytes.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Pin::new(stream).poll_flush(cx)
    }
}
