//! An edge hub on a simulated disk below a scripted hub, with clients that talk to it as a gateway's lane does.
//!
//! Time stands still while anything can be done, and moves in small steps when nothing can.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use serde_json::json;
use skerry_edge_hub::{EdgeHub, EdgeHubConfig, EdgeLane, EdgeParts};
use skerry_gateway::{Actor, ActorId, Attachment, Backend, Closed, Door, Lane, SessionKey, Terms};
use skerry_log::{LogOptions, Queues, QueuesOptions, Turn, Worker};
use skerry_model::json::JsonObject;
use skerry_model::{
    AuthKind, AuthMethod, AuthScope, Channel, ClientId, Delivery, Denied, DeviceId, InputMessage, Json, LockToken,
    MessageView, MethodCall, Outcome, PropertyBag, Refusal, Reply, Request, Settled, Ticket, Timestamp,
};
use skerry_net::Clock;
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient};
use skerry_sim::Dice;
use skerry_sim::disk::{Honesty, SimDisk};
use skerry_state::MemoryState;
use skerry_uplink::{Parts, SignedTokens, Uplink, UplinkConfig};

use crate::cloud::{Cloud, MemoryDial, serve_scope};

pub(crate) const EDGE: &str = "edge";
pub(crate) const OWN: &str = "edge/$edgeHub";
pub(crate) const START: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// Turns without any result after which time moves on.
const FRUITLESS_TURNS: u32 = 60;
/// Simulated time after which what is waited for will not come.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// Real time after which a test hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) hub: EdgeHub,
    pub(crate) cloud: Cloud,
    pub(crate) queues: Queues,
    pub(crate) state: Arc<MemoryState>,
    pub(crate) disk: SimDisk,
    pub(crate) clock: Clock,
    worker: RefCell<Worker>,
    /// The log thread stands still.
    pub(crate) disk_stalls: std::cell::Cell<bool>,
    lanes: RefCell<Vec<Rc<TestLane>>>,
    alive: Arc<AtomicBool>,
    settings: Setup,
    folder: tempfile::TempDir,
}

/// What differs between tests.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) log: LogOptions,
    pub(crate) config: EdgeHubConfig,
}

impl Default for Setup {
    fn default() -> Self {
        let log = LogOptions { bytes_max: 64 << 20, segment_bytes: Some(4 << 20), ..LogOptions::default() };
        Self { log, config: EdgeHubConfig::new(DeviceId::parse(EDGE).unwrap()) }
    }
}

pub(crate) fn id(text: &str) -> ClientId {
    ClientId::parse(text).unwrap()
}

pub(crate) fn object(json: Json) -> JsonObject {
    match json {
        Json::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

/// Desired properties of `$edgeHub` with these routes.
pub(crate) fn routes(routes: Json, time_to_live: i64) -> Json {
    json!({
        "schemaVersion": "1.1",
        "routes": routes,
        "storeAndForwardConfiguration": { "timeToLiveSecs": time_to_live },
    })
}

impl World {
    /// An edge with these routes, which the hub above knows as well, configured.
    pub(crate) async fn with_routes(given: Json) -> Self {
        Self::with(given, Setup::default()).await
    }

    pub(crate) async fn with(given: Json, setup: Setup) -> Self {
        let world = Self::bare(setup).await;
        world.cloud.desire(OWN, routes(given, 7_200));
        world.run(world.hub.configured()).await;
        world
    }

    /// An edge that has heard of no configuration yet.
    pub(crate) async fn bare(setup: Setup) -> Self {
        let clock = Clock::simulated(START);
        let cloud = Cloud::new(clock);
        let devices = ["edge", "leaf", "leaf2"];
        let device = |id: &&str| {
            json!({ "deviceId": id, "generationId": "1", "status": "enabled", "authentication": { "type": "none" },
                "capabilities": { "iotEdge": *id == "edge" } })
        };
        let modules = ["$edgeHub", "a", "b", "c"];
        let module = |id: &&str| json!({ "deviceId": "edge", "moduleId": id, "generationId": "1", "authentication": { "type": "none" } });
        cloud.book().devices = devices.iter().map(device).collect();
        cloud.book().modules = modules.iter().map(module).collect();
        let folder = tempfile::tempdir().unwrap();
        serve_scope(&cloud, &folder.path().join("scope.sock"));
        let disk = SimDisk::new(Dice::new(7), Honesty::Honest);
        Self::start(setup, cloud, clock, disk, Arc::default(), folder).await
    }

    async fn start(
        setup: Setup,
        cloud: Cloud,
        clock: Clock,
        disk: SimDisk,
        state: Arc<MemoryState>,
        folder: tempfile::TempDir,
    ) -> Self {
        let alive = Arc::new(AtomicBool::new(true));
        let tokens = Arc::new(SignedTokens::new(clock, Duration::from_secs(86_400), |identity, _| {
            Box::pin(std::future::ready(Ok(identity.to_string().into_bytes())))
        }));
        let dial = Arc::new(MemoryDial { cloud: cloud.clone(), alive: alive.clone() });
        let uplink = Uplink::new(
            UplinkConfig::new("hub.example", "test/1"),
            Parts { dial, tokens: tokens.clone(), clock, seed: 7 },
        );
        let options = QueuesOptions { log: setup.log.clone(), queues_max: 64 };
        let (queues, worker) =
            Queues::open(Arc::new(disk.clone()), &options, Arc::new(move || clock.now()), disk.operations()).unwrap();
        let address = HttpAddress::Unix(folder.path().join("scope.sock"));
        let numbers = AtomicU64::new(1);
        let parts = EdgeParts {
            state: state.clone(),
            queues: queues.clone(),
            uplink,
            http: HttpClient::new(address, ClientLimits::default()),
            hub_host: "hub.example".to_owned(),
            tokens,
            door: Arc::new(Door::new()),
            clock,
            random: Arc::new(move || u128::from(numbers.fetch_add(1, Ordering::Relaxed))),
        };
        let hub = EdgeHub::start(setup.config.clone(), parts).await.unwrap();
        Self {
            hub,
            cloud,
            queues,
            state,
            disk,
            clock,
            worker: RefCell::new(worker),
            disk_stalls: std::cell::Cell::new(false),
            lanes: RefCell::default(),
            alive,
            settings: setup,
            folder,
        }
    }

    /// The power goes; what was not durable is lost. The record store keeps all it said it had.
    pub(crate) async fn power_cut(self) -> Self {
        self.alive.store(false, Ordering::Relaxed);
        let connected: Vec<String> = self.cloud.book().connects.keys().cloned().collect();
        connected.iter().for_each(|client| self.cloud.drop_connection(client));
        for lane in self.lanes.take() {
            lane.sessions.take();
        }
        let Self { hub, queues, state, disk, clock, worker, settings, folder, cloud, .. } = self;
        drop((hub, queues, worker));
        let disk = disk.restart();
        Self::start(settings, cloud, clock, disk, state, folder).await
    }

    /// Does what can be done without waiting.
    fn turn(&self) {
        if !self.disk_stalls.get() {
            let mut worker = self.worker.borrow_mut();
            for _ in 0..8 {
                if !matches!(worker.turn(), Turn::Worked) {
                    break;
                }
            }
        }
        let lanes: Vec<_> = self.lanes.borrow().iter().cloned().collect();
        lanes.iter().for_each(|lane| lane.look());
    }

    async fn work(&self) {
        let (begun, real) = (self.clock.now().monotonic, Instant::now());
        let (mut fruitless, mut step) = (0, Duration::from_millis(5));
        loop {
            self.turn();
            tokio::task::yield_now().await;
            fruitless += 1;
            if fruitless % FRUITLESS_TURNS == 0 {
                tokio::time::advance(step).await;
                step = (step * 5 / 4).min(Duration::from_secs(1));
            }
            assert!(self.clock.now().monotonic.since(begun) < PATIENCE, "it does not come about");
            assert!(real.elapsed() < HANGS_AFTER, "the test hangs");
        }
    }

    /// Waits for a future.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = future => done,
            () = self.work() => unreachable!(),
        }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        self.run(async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Lets everything come to rest while time stands still.
    pub(crate) async fn settle(&self) {
        for _ in 0..400 {
            self.turn();
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass, and everything happen that happens meanwhile.
    pub(crate) async fn pass(&self, time: Duration) {
        let step = (time / 50).clamp(Duration::from_millis(5), Duration::from_secs(1));
        let mut left = time;
        while !left.is_zero() {
            let next = step.min(left);
            tokio::time::advance(next).await;
            left -= next;
            for _ in 0..40 {
                self.turn();
                tokio::task::yield_now().await;
            }
        }
        self.settle().await;
    }

    pub(crate) fn lane(&self) -> Rc<TestLane> {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let lane = self.hub.lane(Waker::from(woken.clone()));
        let lane = Rc::new(TestLane { lane, woken, sessions: RefCell::default() });
        self.lanes.borrow_mut().push(lane.clone());
        lane
    }

    /// A client on a lane of its own.
    pub(crate) async fn attach(&self, client: &str) -> Client {
        let lane = self.lane();
        self.attach_on(&lane, client, 1_000).await
    }

    pub(crate) async fn attach_on(&self, lane: &Rc<TestLane>, client: &str, window: u32) -> Client {
        let method = AuthMethod { scope: AuthScope::Device, kind: AuthKind::Sas };
        let actor = Actor { id: ActorId::Client(id(client)), method, expires: None, credential: None };
        self.attach_as(lane, &actor, window).await.unwrap()
    }

    /// Whoever was authenticated.
    pub(crate) async fn attach_as(&self, lane: &Rc<TestLane>, actor: &Actor, window: u32) -> Result<Client, Denied> {
        let ActorId::Client(client) = &actor.id else { panic!("{actor:?}") };
        let terms = Terms { window, model_id: None };
        let attachment = lane.lane.attach(actor, client.clone(), None, terms).await?;
        lane.sessions.borrow_mut().entry(attachment.key()).or_default();
        Ok(Client { lane: lane.clone(), key: attachment.key(), attachment: Some(attachment) })
    }

    /// A client that listens.
    pub(crate) async fn listener(&self, client: &str, channel: Channel) -> Client {
        let client = self.attach(client).await;
        self.listen(&client, channel).await;
        client
    }

    pub(crate) async fn listen(&self, client: &Client, channel: Channel) {
        assert_eq!(self.submit(client, Request::Listen(channel)).await, Reply::Done);
    }

    pub(crate) async fn submit(&self, client: &Client, request: Request) -> Reply {
        self.run(client.lane.lane.submit(client.key, request)).await
    }

    /// The twin as its client sees it.
    pub(crate) async fn twin(&self, client: &Client) -> Json {
        match self.submit(client, Request::GetTwin).await {
            Reply::Twin(twin) => twin,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn report(&self, client: &Client, patch: Json) {
        let reply = self.submit(client, Request::PatchReported { patch: object(patch), if_version: None }).await;
        assert_eq!(reply, Reply::Reported { version: None });
    }

    /// Sends and waits for the acknowledgement.
    pub(crate) async fn send(&self, client: &Client, properties: &str, body: &str) {
        if let Some(ticket) = client.append(properties, &[body]).unwrap() {
            self.until(|| client.acked() >= ticket).await;
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A lane that is looked at when it says so.
pub(crate) struct TestLane {
    pub(crate) lane: EdgeLane,
    woken: Arc<Woken>,
    sessions: RefCell<BTreeMap<SessionKey, Seen>>,
}

#[derive(Default)]
struct Seen {
    acked: Ticket,
    deliveries: Vec<Delivery>,
    closed: Option<Closed>,
    room: u32,
}

impl TestLane {
    pub(crate) fn lane_settle(&self, by: SessionKey, settled: &[Settled]) {
        self.lane.settle(by, settled);
    }

    fn look(&self) {
        if !self.woken.0.swap(false, Ordering::AcqRel) {
            return;
        }
        while let Some(published) = self.lane.published() {
            let mut sessions = self.sessions.borrow_mut();
            for (key, ticket) in published.commits {
                if let Some(seen) = sessions.get_mut(&key) {
                    assert!(seen.acked <= ticket, "acknowledgements go forward");
                    seen.acked = ticket;
                }
            }
            for (key, delivery) in published.deliveries {
                if let Some(seen) = sessions.get_mut(&key) {
                    seen.deliveries.push(delivery);
                }
            }
            for (key, closed) in published.closed {
                if let Some(seen) = sessions.get_mut(&key) {
                    seen.closed = Some(closed);
                }
            }
            if published.room {
                sessions.values_mut().for_each(|seen| seen.room += 1);
            }
        }
    }
}

/// One session.
pub(crate) struct Client {
    pub(crate) lane: Rc<TestLane>,
    pub(crate) key: SessionKey,
    attachment: Option<Attachment>,
}

impl Client {
    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(self.lane.sessions.borrow_mut().entry(self.key).or_default())
    }

    /// The connection is lost.
    pub(crate) fn disconnect(&mut self) {
        self.attachment = None;
    }

    pub(crate) fn append(&self, properties: &str, bodies: &[&str]) -> Result<Option<Ticket>, Refusal> {
        let properties = PropertyBag::new(properties);
        let batch: Vec<_> = bodies.iter().map(|body| MessageView { properties, body: body.as_bytes() }).collect();
        self.lane.lane.append(self.key, &batch)
    }

    pub(crate) fn acked(&self) -> Ticket {
        self.seen(|seen| seen.acked)
    }

    pub(crate) fn closed(&self) -> Option<Closed> {
        self.seen(|seen| seen.closed)
    }

    pub(crate) fn room(&self) -> u32 {
        self.seen(|seen| seen.room)
    }

    pub(crate) fn count(&self) -> usize {
        self.seen(|seen| seen.deliveries.len())
    }

    pub(crate) fn take(&self) -> Vec<Delivery> {
        self.seen(|seen| std::mem::take(&mut seen.deliveries))
    }

    /// Messages to inputs that arrived.
    pub(crate) fn inputs(&self) -> Vec<(LockToken, InputMessage)> {
        let input = |delivery| match delivery {
            Delivery::Input { lock, message } => (lock, message),
            other => panic!("{other:?}"),
        };
        self.take().into_iter().map(input).collect()
    }

    pub(crate) fn settle(&self, lock: LockToken, outcome: Outcome) {
        self.lane.lane.settle(self.key, &[Settled { lock, outcome }]);
    }

    /// Takes the messages that arrived and settles them; their bodies.
    pub(crate) fn process(&self) -> Vec<String> {
        let inputs = self.inputs();
        let settled: Vec<_> =
            inputs.iter().map(|(lock, _)| Settled { lock: *lock, outcome: Outcome::Accepted }).collect();
        self.lane.lane.settle(self.key, &settled);
        inputs.iter().map(|(_, message)| text(&message.body)).collect()
    }

    /// The only method call that arrived.
    pub(crate) fn method(&self) -> MethodCall {
        match self.take().as_slice() {
            [Delivery::Method(call)] => call.clone(),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
