//! A hub with its drivers in memory, and clients that talk to it as a gateway's lane does.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use skerry_cloud_hub::{CloudConfig, CloudHub, CloudLane, CloudParts};
use skerry_gateway::{
    Actor, ActorId, Attachment, Backend, Claim, Closed, Credential, Lane, Proof, Published, SessionKey, Terms,
    TokenSigner,
};
use skerry_model::json::JsonObject;
use skerry_model::{
    AuthChain, AuthKind, AuthMethod, AuthScope, Channel, ClientId, Delivery, Denied, DeviceDraft, DeviceId,
    DeviceRecord, Json, ModuleDraft, ModuleId, Precondition, Reply, Request, SasToken, SharedKey, Timestamp,
};
use skerry_net::Clock;
use skerry_pki::{Random, SymmetricKey};
use skerry_state::{MemoryState, StateStore};
use skerry_stream::{EventStream, MemoryStream};
use tokio::sync::Notify;

pub(crate) const START: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// A hub, and what is below it.
pub(crate) struct World<S = MemoryState> {
    pub(crate) hub: CloudHub,
    pub(crate) state: Arc<S>,
}

pub(crate) async fn world() -> World {
    let state = Arc::new(MemoryState::default());
    let hub = hub_on(&state, Arc::new(MemoryStream::start(4))).await;
    World { hub, state }
}

pub(crate) async fn hub_on<S: StateStore>(state: &Arc<S>, stream: Arc<dyn EventStream>) -> CloudHub {
    let state: Arc<dyn StateStore> = state.clone();
    let parts = CloudParts { state, stream, clock: Clock::simulated(START), random: Random::seeded(1) };
    CloudHub::start(CloudConfig::default(), parts).await.unwrap()
}

pub(crate) fn id(text: &str) -> ClientId {
    ClientId::parse(text).unwrap()
}

pub(crate) fn device(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

pub(crate) fn object(json: Json) -> JsonObject {
    match json {
        Json::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

impl<S> World<S> {
    pub(crate) async fn add_device(&self, name: &str) -> DeviceRecord {
        self.hub.put_device(DeviceDraft::new(device(name)), &Precondition::Absent).await.unwrap()
    }

    /// An edge device, below another one where there is one.
    pub(crate) async fn add_edge(&self, name: &str, parent: Option<&DeviceRecord>) -> DeviceRecord {
        let parent = parent.and_then(DeviceRecord::own_scope);
        let draft = DeviceDraft { iot_edge: true, parent, ..DeviceDraft::new(device(name)) };
        self.hub.put_device(draft, &Precondition::Absent).await.unwrap()
    }

    pub(crate) async fn add_leaf(&self, name: &str, parent: &DeviceRecord) -> DeviceRecord {
        let draft = DeviceDraft { parent: parent.own_scope(), ..DeviceDraft::new(device(name)) };
        self.hub.put_device(draft, &Precondition::Absent).await.unwrap()
    }

    pub(crate) async fn add_module(&self, name: &str) {
        let draft = ModuleDraft::new(ModuleId::parse(name).unwrap());
        self.hub.put_module(draft, &Precondition::Absent).await.unwrap();
    }

    /// The primary key of a device or module.
    pub(crate) async fn key(&self, client: &str) -> SharedKey {
        let authentication = match id(client) {
            ClientId::Device(device) => self.hub.get_device(&device).await.unwrap().authentication,
            ClientId::Module(module) => self.hub.get_module(&module).await.unwrap().authentication,
        };
        authentication.keys().expect("shared keys").primary.clone()
    }

    /// A client that is attached.
    pub(crate) async fn attach(&self, client: &str) -> Client {
        self.try_attach(&own_actor(client), client, None, 1_000).await.unwrap()
    }

    pub(crate) async fn try_attach(
        &self,
        actor: &Actor,
        client: &str,
        chain: Option<&str>,
        window: u32,
    ) -> Result<Client, Denied> {
        let published = Arc::new(Woken(Notify::new()));
        let lane = self.hub.lane(Waker::from(published.clone()));
        let chain = chain.map(|chain| AuthChain::parse(chain).unwrap());
        let attachment = lane.attach(actor, id(client), chain, Terms { window, model_id: None }).await?;
        let key = attachment.key();
        Ok(Client { lane, attachment: Some(attachment), key, woken: published, seen: Published::default() })
    }
}

pub(crate) fn own_actor(client: &str) -> Actor {
    let method = AuthMethod { scope: AuthScope::Device, kind: AuthKind::Sas };
    Actor { id: ActorId::Client(id(client)), method, expires: None, credential: None }
}

pub(crate) fn edge_hub(edge: &str) -> Actor {
    let method = AuthMethod { scope: AuthScope::Module, kind: AuthKind::Sas };
    Actor { id: ActorId::EdgeHub(device(edge)), method, expires: None, credential: None }
}

struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// One session on a lane of its own.
pub(crate) struct Client {
    pub(crate) lane: CloudLane,
    attachment: Option<Attachment>,
    pub(crate) key: SessionKey,
    woken: Arc<Woken>,
    seen: Published,
}

impl Client {
    pub(crate) async fn submit(&self, request: Request) -> Reply {
        self.lane.submit(self.key, request).await
    }

    pub(crate) async fn listen(&self, channel: Channel) {
        assert_eq!(self.submit(Request::Listen(channel)).await, Reply::Done);
    }

    /// Ends the connection.
    pub(crate) fn disconnect(&mut self) {
        self.attachment = None;
    }

    /// Takes in what was published so far, after everybody else had their turn.
    pub(crate) async fn settle_down(&mut self) -> &mut Published {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.take_in();
        &mut self.seen
    }

    fn take_in(&mut self) {
        if let Some(more) = self.lane.published() {
            self.seen.commits.extend(more.commits);
            self.seen.deliveries.extend(more.deliveries);
            self.seen.closed.extend(more.closed);
            self.seen.room |= more.room;
        }
    }

    /// The next delivery; fails when none comes.
    pub(crate) async fn delivery(&mut self) -> Delivery {
        let wait = async {
            loop {
                self.take_in();
                if !self.seen.deliveries.is_empty() {
                    let (key, delivery) = self.seen.deliveries.remove(0);
                    assert_eq!(key, self.key);
                    return delivery;
                }
                self.woken.0.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1), wait).await.expect("a delivery")
    }

    /// Why the hub closed this session, if it did.
    pub(crate) async fn closed(&mut self) -> Option<Closed> {
        self.settle_down().await.closed.first().map(|(_, why)| *why)
    }

    pub(crate) async fn nothing_delivered(&mut self) {
        assert_eq!(self.settle_down().await.deliveries, []);
    }
}

/// A proof with a token about `resource`, signed with `key`.
pub(crate) fn proof(claim: Claim, signed_by: TokenSigner, key: &SharedKey) -> Proof {
    let mut token = SasToken {
        resource: "hub.example%2Fdevices%2Fwhatever".to_owned(),
        expiry_text: "1800000000".to_owned(),
        expiry: Timestamp::from_unix_seconds(1_800_000_000),
        signature: Vec::new(),
        policy: None,
    };
    let key = SymmetricKey::from_bytes(key.as_bytes().to_vec()).unwrap();
    token.signature = key.sign(token.signed_text().as_bytes()).to_vec();
    Proof { claim, credential: Credential::Token { token, signed_by } }
}
