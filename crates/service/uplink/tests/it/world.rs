//! A hub that does what the test says, and an uplink that dials it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skerry_model::{ClientId, Monotonic, Timestamp};
use skerry_mqtt::{ConnectReturn, PacketId, WireLimits, decode, server};
use skerry_net::{Clock, ConnectError};
use skerry_uplink::{
    Boxed, Dial, DialError, Limits, Parts, SignedTokens, State, TokenSource, Uplink, UplinkConfig, UplinkSession, Wire,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

/// Bytes that a stream holds until the other end reads.
const STREAM_BYTES: usize = 1 << 16;

/// Tokens for an hour, signed with the signer's name.
pub(crate) fn tokens(clock: Clock) -> impl TokenSource {
    SignedTokens::new(clock, Duration::from_secs(3_600), |identity, _| {
        Box::pin(std::future::ready(Ok(identity.to_string().into_bytes())))
    })
}

pub(crate) struct World {
    pub(crate) uplink: Uplink,
    pub(crate) clock: Clock,
    pub(crate) reachable: Arc<AtomicBool>,
    dials: mpsc::UnboundedReceiver<(Monotonic, Option<DuplexStream>)>,
}

struct MemoryDial {
    clock: Clock,
    reachable: Arc<AtomicBool>,
    dials: mpsc::UnboundedSender<(Monotonic, Option<DuplexStream>)>,
}

impl Dial for MemoryDial {
    fn dial(&self) -> Boxed<'_, Result<Box<dyn Wire>, DialError>> {
        Box::pin(async move {
            let now = self.clock.now().monotonic;
            if !self.reachable.load(Ordering::Relaxed) {
                self.dials.send((now, None)).unwrap();
                let cause = std::io::ErrorKind::ConnectionRefused.into();
                return Err(ConnectError { target: "hub:8883".to_owned(), cause }.into());
            }
            let (near, far) = tokio::io::duplex(STREAM_BYTES);
            self.dials.send((now, Some(far))).unwrap();
            Ok(Box::new(near) as Box<dyn Wire>)
        })
    }
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        let clock = Clock::simulated(Timestamp::from_unix_seconds(1_700_000_000));
        Self::with(limits, clock, Arc::new(tokens(clock)), 7)
    }

    pub(crate) fn with(limits: Limits, clock: Clock, tokens: Arc<dyn TokenSource>, seed: u64) -> Self {
        let (sender, dials) = mpsc::unbounded_channel();
        let reachable = Arc::new(AtomicBool::new(true));
        let dial = MemoryDial { clock, reachable: Arc::clone(&reachable), dials: sender };
        let config = UplinkConfig { limits, ..UplinkConfig::new("contoso.example", "test/1") };
        let uplink = Uplink::new(config, Parts { dial: Arc::new(dial), tokens, clock, seed });
        Self { uplink, clock, reachable, dials }
    }

    /// A session of `edge/mod`.
    pub(crate) fn open(&self) -> UplinkSession {
        self.uplink.open(ClientId::parse("edge/mod").unwrap(), None)
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.clock.now().monotonic.since_start().as_secs_f64()
    }

    /// When the next attempt was made, in seconds since the start, while the hub cannot be reached.
    pub(crate) async fn attempt_in_vain(&mut self) -> f64 {
        let (at, stream) = self.dials.recv().await.unwrap();
        assert!(stream.is_none(), "the hub could be reached");
        at.since_start().as_secs_f64()
    }

    /// The next connection, with its CONNECT read but not answered.
    pub(crate) async fn knocking(&mut self) -> Hub {
        let (_, stream) = self.dials.recv().await.unwrap();
        Hub::new(self.clock, Box::new(stream.expect("a connection"))).await
    }

    /// The next connection, let in.
    pub(crate) async fn connected(&mut self) -> Hub {
        let mut hub = self.knocking().await;
        hub.accept().await;
        hub
    }
}

/// What the hub hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Publish { topic: String, payload: String, sequence: u64 },
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    Acked(u32),
    Disconnect,
    End,
}

/// The hub's end of one connection.
pub(crate) struct Hub {
    pub(crate) client_id: String,
    pub(crate) user_name: String,
    pub(crate) password: String,
    pub(crate) clean_session: bool,
    /// Answer to subscriptions; without it they stay unanswered.
    pub(crate) grants: bool,
    clock: Clock,
    stream: Box<dyn Wire>,
    buffer: Vec<u8>,
    connection: server::Connection<u32>,
}

const WIRE: WireLimits = WireLimits { packet_bytes_max: 1 << 20, connect_bytes_max: 1 << 16 };

impl Hub {
    /// Waits for CONNECT.
    pub(crate) async fn new(clock: Clock, stream: Box<dyn Wire>) -> Self {
        let config = server::Config {
            connect_timeout: Duration::from_secs(60),
            keep_alive_max: Duration::from_secs(1_177),
            window_max: 1_000,
            unacked_max: 10_000,
        };
        let mut hub = Self {
            client_id: String::new(),
            user_name: String::new(),
            password: String::new(),
            clean_session: false,
            grants: true,
            clock,
            stream,
            buffer: Vec::new(),
            connection: server::Connection::new(clock.now().monotonic, config, PacketId::MIN),
        };
        assert_eq!(hub.hear().await, None, "CONNECT comes first");
        hub
    }

    pub(crate) async fn accept(&mut self) {
        let mut out = Vec::new();
        self.connection.accept(self.clock.now().monotonic, false, &mut out);
        self.write(&out).await;
    }

    pub(crate) async fn refuse(mut self, code: ConnectReturn) {
        let mut out = Vec::new();
        self.connection.refuse(code, &mut out);
        self.write(&out).await;
    }

    /// The next thing the client says; pings are answered, subscriptions granted.
    pub(crate) async fn next(&mut self) -> Said {
        self.hear().await.expect("one CONNECT only")
    }

    /// Nothing is said for this long.
    pub(crate) async fn silent_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.next()).await.is_err()
    }

    /// `None`: a CONNECT.
    async fn hear(&mut self) -> Option<Said> {
        loop {
            let mut input = self.buffer.as_slice();
            if let Some(packet) = decode(&mut input, &WIRE).unwrap() {
                let mut out = Vec::new();
                let now = self.clock.now().monotonic;
                let event = self.connection.handle_packet(now, packet, &mut out).unwrap();
                let mut said = None;
                let mut connected = false;
                match event {
                    None => {}
                    Some(server::Event::Connect(connect)) => {
                        self.client_id = connect.client_id.to_owned();
                        self.user_name = connect.user_name.unwrap().to_owned();
                        self.password = String::from_utf8(connect.password.unwrap().to_vec()).unwrap();
                        self.clean_session = connect.clean_session;
                        connected = true;
                    }
                    Some(server::Event::Publish { publish, sequence }) => {
                        said = Some(Said::Publish {
                            topic: publish.topic.to_owned(),
                            payload: String::from_utf8_lossy(publish.payload).into_owned(),
                            sequence: sequence.unwrap_or(0),
                        });
                    }
                    Some(server::Event::Subscribe(subscribe)) => {
                        if self.grants {
                            self.connection.grant(&subscribe, &mut out).unwrap();
                        }
                        let filters = subscribe.filters().map(|(filter, _)| filter.to_owned());
                        said = Some(Said::Subscribe(filters.collect()));
                    }
                    Some(server::Event::Unsubscribe(unsubscribe)) => {
                        self.connection.unsuback(unsubscribe.id, &mut out);
                        said = Some(Said::Unsubscribe(unsubscribe.filters().map(str::to_owned).collect()));
                    }
                    Some(server::Event::Acked(key)) => said = Some(Said::Acked(key)),
                    Some(server::Event::Disconnect) => said = Some(Said::Disconnect),
                    Some(other) => panic!("{other:?}"),
                }
                let left = input.len();
                self.buffer.drain(..self.buffer.len() - left);
                self.write(&out).await;
                if connected {
                    return None;
                }
                if said.is_some() {
                    return said;
                }
                continue;
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return Some(Said::End);
            }
        }
    }

    /// Payloads of the next `count` messages.
    pub(crate) async fn payloads(&mut self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.len() < count {
            match self.next().await {
                Said::Publish { payload, .. } => payloads.push(payload),
                other => panic!("{other:?}"),
            }
        }
        payloads
    }

    pub(crate) async fn ack_through(&mut self, sequence: u64) {
        let mut out = Vec::new();
        self.connection.ack_through(sequence, &mut out);
        self.write(&out).await;
    }

    pub(crate) async fn publish(&mut self, key: u32, topic: &str, payload: &str) {
        let mut out = Vec::new();
        self.connection.publish_at_least_once(key, false, &[topic], payload.as_bytes(), &mut out).unwrap();
        self.write(&out).await;
    }

    /// Bytes of any kind.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}

/// Waits until the session's state is what `wanted` says, and answers it.
pub(crate) async fn state(session: &UplinkSession, wanted: impl Fn(&State) -> bool) -> State {
    session.state().wait_for(|state| wanted(state)).await.unwrap().clone()
}
