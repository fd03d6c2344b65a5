//! A scripted hub: takes everything, commits and delivers when told to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use serde_json::json;
use skerry_model::{
    AuthChain, AuthKind, AuthMethod, AuthScope, Channel, ClientId, Delivery, Denied, Limits, MessageView, Refusal,
    Reply, Request, Settled, Ticket,
};
use skerry_net::Clock;

use super::START;
use crate::runtime::{Runtime, Shared};
use crate::{
    Actor, ActorId, Attachment, Backend, Claim, Closed, Credential, Door, GatewayConfig, Kept, Lane, Proof, Published,
    SessionKey, Terms,
};

#[derive(Default)]
struct World {
    next: u64,
    sessions: BTreeMap<String, SessionKey>,
    listening: BTreeMap<u64, Vec<Channel>>,
    appended: Vec<String>,
    tickets: u64,
    last_of: BTreeMap<SessionKey, u64>,
    full: bool,
    kept: BTreeMap<ClientId, Vec<Kept>>,
    settled: Vec<String>,
    asked: Vec<String>,
    published: Published,
    waker: Option<Waker>,
}

/// Both the script's hold on the hub and the backend.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<World>>);

impl Scripted {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, change: impl FnOnce(&mut World)) {
        let mut world = self.world();
        change(&mut world);
        if let Some(waker) = world.waker.clone() {
            waker.wake();
        }
    }
}

pub(crate) struct ScriptedLane(Scripted);

impl Backend for Scripted {
    type Lane = ScriptedLane;

    fn lane(&self, wake: Waker) -> ScriptedLane {
        self.world().waker = Some(wake);
        ScriptedLane(self.clone())
    }

    async fn authenticate(&self, proof: Proof) -> Result<Actor, Denied> {
        let Claim::Client(client) = proof.claim else { return Err(Denied::unauthorized("not a client")) };
        let Credential::Token { token, .. } = proof.credential else { return Err(Denied::unauthorized("no token")) };
        if client.to_string() == "busy" {
            return Err(Denied::unavailable("come again"));
        }
        if token.signature != b"ok" {
            return Err(Denied::unauthorized("wrong key"));
        }
        let method = AuthMethod { scope: AuthScope::Device, kind: AuthKind::Sas };
        Ok(Actor { id: ActorId::Client(client), method, expires: Some(token.expiry), credential: None })
    }

    async fn recall(&self, client: &ClientId) -> Vec<Kept> {
        self.world().kept.get(client).cloned().unwrap_or_default()
    }

    async fn keep(&self, client: &ClientId, listening: Vec<Kept>) {
        self.world().kept.insert(client.clone(), listening);
    }
}

impl Lane for ScriptedLane {
    async fn attach(&self, _: &Actor, subject: ClientId, _: Option<AuthChain>, _: Terms) -> Result<Attachment, Denied> {
        let hub = self.0.clone();
        let mut world = hub.world();
        world.next += 1;
        let key = SessionKey { slot: u32::try_from(world.next).unwrap(), serial: world.next };
        if let Some(older) = world.sessions.insert(subject.to_string(), key) {
            world.published.closed.push((older, Closed::Superseded));
            if let Some(waker) = world.waker.clone() {
                waker.wake();
            }
        }
        drop(world);
        Ok(Attachment::new(key, move || {
            hub.world().listening.remove(&key.serial);
        }))
    }

    fn append(&self, from: SessionKey, batch: &[MessageView<'_>]) -> Result<Option<Ticket>, Refusal> {
        let mut world = self.0.world();
        if world.full {
            return Err(Refusal::Full);
        }
        for message in batch {
            let text = format!("{} {}", message.properties.as_str(), String::from_utf8_lossy(message.body));
            world.appended.push(text);
        }
        world.tickets += 1;
        let ticket = world.tickets;
        world.last_of.insert(from, ticket);
        Ok(Some(Ticket(ticket)))
    }

    fn settle(&self, _: SessionKey, settled: &[Settled]) {
        self.0.world().settled.extend(settled.iter().map(|one| format!("{} {:?}", one.lock.0, one.outcome)));
    }

    async fn submit(&self, from: SessionKey, request: Request) -> Reply {
        let mut world = self.0.world();
        match request {
            Request::GetTwin => return Reply::Twin(json!({"desired": {"$version": 1}})),
            Request::PatchReported { .. } => return Reply::Reported { version: Some(2) },
            Request::Listen(channel) => {
                world.listening.entry(from.serial).or_default().push(channel);
                world.asked.push(format!("Listen({channel:?})"));
            }
            Request::Unlisten(channel) => world.listening.entry(from.serial).or_default().retain(|one| *one != channel),
            Request::AnswerMethod(answer) => {
                let text = String::from_utf8_lossy(&answer.payload).into_owned();
                world.asked.push(format!("answer {} {} {text}", answer.id.0, answer.status));
            }
            Request::InvokeMethod(_) => {}
        }
        Reply::Done
    }

    fn published(&self) -> Option<Published> {
        let mut world = self.0.world();
        let published = std::mem::take(&mut world.published);
        let nothing = published.commits.is_empty()
            && published.deliveries.is_empty()
            && published.closed.is_empty()
            && !published.room;
        (!nothing).then_some(published)
    }
}

/// A hub with one connection runtime.
pub(crate) struct Hub {
    pub(crate) runtime: Rc<Runtime<Scripted>>,
    pub(crate) door: Arc<Door>,
    scripted: Scripted,
    pub(crate) tasks: RefCell<Vec<tokio::task::JoinHandle<()>>>,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Rc<Self> {
        let (scripted, door) = (Scripted::default(), Arc::new(Door::new()));
        let config = GatewayConfig { limits, ..GatewayConfig::new("hub.example") };
        let runtime = Runtime::new(Arc::new(Shared {
            backend: Arc::new(scripted.clone()),
            config,
            clock: Clock::simulated(START),
            door: door.clone(),
            routes: None,
            numbers: 1.into(),
        }));
        let lane = runtime.lane.clone();
        let dispatch = tokio::task::spawn_local(async move { lane.dispatch().await });
        Rc::new(Self { runtime, door, scripted, tasks: RefCell::new(vec![dispatch]) })
    }

    /// Everything up to this ticket is durable.
    pub(crate) fn commit(&self, ticket: u64) {
        self.scripted.publish(|world| {
            for key in world.last_of.keys() {
                world.published.commits.push((*key, Ticket(ticket)));
            }
        });
    }

    pub(crate) fn deliver(&self, to: &str, delivery: Delivery) {
        self.scripted.publish(|world| {
            let key = world.sessions[to];
            world.published.deliveries.push((key, delivery));
        });
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.scripted.publish(|world| {
            world.full = full;
            world.published.room = !full;
        });
    }

    pub(crate) fn appended(&self) -> Vec<String> {
        self.scripted.world().appended.clone()
    }

    pub(crate) fn settled(&self) -> Vec<String> {
        self.scripted.world().settled.clone()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.scripted.world().asked.clone()
    }

    pub(crate) fn listening(&self, client: &str) -> Vec<Channel> {
        let world = self.scripted.world();
        world.listening.get(&world.sessions[client].serial).cloned().unwrap_or_default()
    }
}
