//! The opening of an MQTT connection: CONNECT, who is it, may they come in.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use skerry_dialect::error::connack;
use skerry_dialect::mqtt::{Said, UserName, said};
use skerry_model::{ClientId, Denied, ErrorCode, Message, Timestamp};
use skerry_mqtt::server::{Config, Connection, Event};
use skerry_mqtt::{Connect, ConnectReturn, PacketId, Qos, WireLimits, decode};
use skerry_session::Session;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::{Client, Flight, Subscriptions};
use super::io::{Incoming, Outgoing};
use crate::auth::proof;
use crate::{ActorId, Admitted, Backend, Claim, Kept, Peer, Runtime, Terms};

/// A client that was let in.
pub(crate) struct Opened<B: Backend> {
    pub(crate) client: Client<B>,
    pub(crate) will: Option<Message>,
    pub(crate) product: String,
    pub(crate) admitted: Admitted,
}

/// Somebody who was not let in.
pub(crate) struct Refused {
    /// The name it gave.
    pub(crate) claimed: String,
    /// What was wrong with what; `None` when the peer merely went away.
    pub(crate) reason: Option<String>,
    /// What it is told before the connection is closed.
    pub(crate) answer: Vec<u8>,
}

impl Refused {
    fn silently(claimed: &str, reason: impl ToString) -> Self {
        Self { claimed: claimed.to_owned(), reason: Some(reason.to_string()), answer: Vec::new() }
    }
}

/// What a CONNECT packet says, owned.
struct Introduction {
    client_id: String,
    user_name: String,
    password: Option<String>,
    clean_session: bool,
    will: Option<Will>,
}

struct Will {
    topic: String,
    payload: Vec<u8>,
}

/// Waits for CONNECT, finds out who it is and attaches the session.
pub(crate) async fn open<B: Backend, S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &Rc<Runtime<B>>,
    stream: &mut S,
    peer: &Peer,
) -> Result<Opened<B>, Refused> {
    let limits = &runtime.config.limits;
    let now = runtime.clock.now();
    let mut mqtt: Connection<Flight> =
        Connection::new(now.monotonic, Config::from(limits), first_packet_id(runtime.next_number()));
    let mut incoming = Incoming::default();
    let introduction = introduction(runtime, stream, &mut mqtt, &mut incoming);
    let introduction = match tokio::time::timeout(limits.handshake_timeout, introduction).await {
        Ok(introduction) => introduction?,
        Err(_) => {
            return Err(Refused::silently("", format!("no CONNECT within {} s", limits.handshake_timeout.as_secs())));
        }
    };
    let claimed = introduction.client_id.clone();
    admit(runtime, peer, mqtt, incoming, introduction).await.map_err(|(denied, mut mqtt)| {
        let mut answer = Vec::new();
        mqtt.refuse(ConnectReturn::from_byte(denied.0).unwrap_or(ConnectReturn::NotAuthorized), &mut answer);
        Refused { claimed, reason: Some(denied.1), answer }
    })
}

/// The first packet id of a connection, spread so that ids of one connection mean nothing on the next.
fn first_packet_id(counter: u64) -> PacketId {
    let spread = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    PacketId::new(u16::try_from(spread).unwrap_or(1).max(1)).unwrap_or(PacketId::MIN)
}

/// Reads up to and including CONNECT; what the client sent behind it without waiting stays in `incoming`.
async fn introduction<B: Backend, S: AsyncRead + Unpin>(
    runtime: &Runtime<B>,
    stream: &mut S,
    mqtt: &mut Connection<Flight>,
    incoming: &mut Incoming,
) -> Result<Introduction, Refused> {
    let limits = WireLimits::from(&runtime.config.limits);
    loop {
        let mut introduced = None;
        let read = poll_fn(|cx| {
            incoming.poll_read(stream, &runtime.buffers, &limits, cx, |bytes| {
                let mut rest = bytes;
                let packet = decode(&mut rest, &limits).map_err(|error| Refused::silently("", error))?;
                let Some(packet) = packet else { return Ok(0) };
                let mut answer = Vec::new();
                let event = mqtt
                    .handle_packet(runtime.clock.now().monotonic, packet, &mut answer)
                    .map_err(|violation| Refused::silently("", violation))?;
                match event {
                    Some(Event::Connect(connect)) => introduced = Some(Introduction::from(&connect)),
                    Some(Event::ForeignProtocol { protocol, level }) => {
                        mqtt.refuse(ConnectReturn::UnacceptableProtocol, &mut answer);
                        let protocol: String = protocol.chars().take(20).collect();
                        let reason = Some(format!("speaks {protocol:?} level {level}, not MQTT 3.1.1"));
                        return Err(Refused { claimed: String::new(), reason, answer });
                    }
                    _ => {}
                }
                Ok(bytes.len() - rest.len())
            })
        })
        .await?;
        match introduced {
            Some(introduction) => return Ok(introduction),
            None if read == 0 => return Err(Refused { claimed: String::new(), reason: None, answer: Vec::new() }),
            None => {}
        }
    }
}

/// The CONNACK code and the reason, with the connection to say it on.
type NotAdmitted = ((u8, String), Connection<Flight>);

async fn admit<B: Backend>(
    runtime: &Rc<Runtime<B>>,
    peer: &Peer,
    mut mqtt: Connection<Flight>,
    incoming: Incoming,
    introduction: Introduction,
) -> Result<Opened<B>, NotAdmitted> {
    let names = match UserName::of_connect(&introduction.user_name, &introduction.client_id) {
        Ok(names) => names,
        Err(error) => return Err(((error.connack(), error.to_string()), mqtt)),
    };
    let will = match introduction.will(&names) {
        Ok(will) => will,
        Err(reason) => return Err(((ConnectReturn::NotAuthorized.byte(), reason), mqtt)),
    };
    let authenticated = tokio::time::timeout(
        runtime.config.authenticate_timeout,
        attach(runtime, peer, &names, introduction.password.as_deref()),
    );
    let (attached, admitted, expires) = match authenticated.await {
        Ok(Ok(attached)) => attached,
        Ok(Err(denied)) => return Err(((connack(denied.code), denied.detail.into_owned()), mqtt)),
        Err(_) => {
            let reason = "finding out who it is took too long".to_owned();
            return Err(((connack(ErrorCode::Unavailable), reason), mqtt));
        }
    };
    let remembered = recall(runtime, &names.client, introduction.clean_session).await;
    let now = runtime.clock.now();
    let mut outgoing = Outgoing::default();
    mqtt.accept(now.monotonic, !remembered.is_empty(), outgoing.open(&runtime.buffers));
    let limits = &runtime.config.limits;
    let session = Session::new(now, limits, expires);
    let mut client = Client::new(names.client, mqtt, session, attached, incoming, outgoing, limits);
    client.keep_session = !introduction.clean_session;
    if !remembered.is_empty() {
        client.resume(remembered);
    }
    let product = names.product.unwrap_or_default().chars().filter(|c| !c.is_control()).take(80).collect();
    Ok(Opened { client, will, product, admitted })
}

/// What the client listened to before; a client that wants a clean session has it forgotten.
async fn recall<B: Backend>(runtime: &Runtime<B>, client: &ClientId, clean_session: bool) -> Subscriptions {
    let kept = runtime.backend.recall(client).await;
    if clean_session && !kept.is_empty() {
        runtime.backend.keep(client, Vec::new()).await;
        return Subscriptions::new();
    }
    let qos = |kept: &Kept| if kept.acknowledged { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    kept.iter().map(|kept| (kept.channel, qos(kept))).collect()
}

async fn attach<B: Backend>(
    runtime: &Rc<Runtime<B>>,
    peer: &Peer,
    names: &UserName,
    password: Option<&str>,
) -> Result<(crate::lane::Attached<B>, Admitted, Option<Timestamp>), Denied> {
    let config = &runtime.config;
    let hosts: Vec<&str> = config.hosts.iter().map(String::as_str).collect();
    if !hosts.iter().any(|host| host.eq_ignore_ascii_case(&names.host)) {
        return Err(Denied::unauthorized(format!(
            "the user name says the hub is {:?}, this one is {:?}",
            names.host.chars().take(100).collect::<String>(),
            config.hosts.first().map_or("", String::as_str),
        )));
    }
    let claim = match &names.auth_chain {
        None => Claim::Client(names.client.clone()),
        Some(chain) if chain.subject() == Some(&names.client) => Claim::OnBehalf { chain: chain.clone() },
        Some(_) => return Err(Denied::unauthorized("the auth chain does not begin with the connecting identity")),
    };
    let now = runtime.clock.now().wall;
    let proof = proof(claim, password, &peer.certificates, &hosts, now, config.limits.clock_skew)?;
    let actor = runtime.backend.authenticate(proof).await?;
    // Before the session begins, which would end the one the client had.
    let admitted = runtime.door.admit(&names.client).map_err(Denied::unavailable)?;
    let chain = match actor.id {
        ActorId::EdgeHub(_) => names.auth_chain.clone(),
        ActorId::Client(_) | ActorId::Policy(_) => None,
    };
    let terms = Terms { window: config.limits.window_messages, model_id: names.model_id.as_deref().map(Arc::from) };
    let attached = runtime.lane.attach(&actor, names.client.clone(), chain, terms).await?;
    Ok((attached, admitted, actor.expires))
}

impl From<&Connect<'_>> for Introduction {
    fn from(connect: &Connect<'_>) -> Self {
        Self {
            client_id: connect.client_id.to_owned(),
            user_name: connect.user_name.unwrap_or_default().to_owned(),
            // A password that is no text is no token; what it reads as instead will not verify.
            password: connect.password.map(|password| String::from_utf8_lossy(password).into_owned()),
            clean_session: connect.clean_session,
            will: connect.will.map(|will| Will { topic: will.topic.to_owned(), payload: will.payload.to_vec() }),
        }
    }
}

impl Introduction {
    /// The will as a message; its topic has to be the client's own telemetry topic.
    fn will(&self, names: &UserName) -> Result<Option<Message>, String> {
        let Some(will) = &self.will else { return Ok(None) };
        match said(&names.client, &will.topic, &will.payload) {
            Ok(Said::Telemetry(message)) => Ok(Some(message.to_owned())),
            Ok(_) => Err("the will's topic is not the client's telemetry topic".to_owned()),
            Err(error) => Err(format!("the will: {error}")),
        }
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        tracing::debug!(%error, "a connection was lost before CONNECT");
        Self { claimed: String::new(), reason: None, answer: Vec::new() }
    }
}
