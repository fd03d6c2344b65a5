//! A hub with its API, and requests to it with tokens.

use std::sync::Arc;
use std::task::Waker;

use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use skerry_cloud_api::{ApiConfig, CloudApi};
use skerry_cloud_hub::{CloudConfig, CloudHub, CloudLane, CloudParts};
use skerry_dialect::sas::Unsigned;
use skerry_gateway::{Actor, ActorId, Attachment, Backend as _, Door, HttpRoutes as _, Lane as _, Peer, Terms};
use skerry_model::{AuthKind, AuthMethod, AuthScope, ClientId, SharedKey, Timestamp};
use skerry_net::Clock;
use skerry_net::http::{HeaderMap, HeaderName, Method, Request};
use skerry_pki::{Random, SymmetricKey};
use skerry_state::{Change, Expect, Key, Kind, MemoryState, StateStore as _};
use skerry_stream::MemoryStream;

pub(crate) const HOST: &str = "hub.example.com";
pub(crate) const START: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
/// The key of every policy here, as in the shared cases.
pub(crate) const POLICY_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Where every request here comes from.
pub(crate) const PEER: &str = "192.0.2.7";

pub(crate) struct World {
    pub(crate) hub: CloudHub,
    pub(crate) door: Arc<Door>,
    api: CloudApi,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code's name of a failure, which header and body agree on.
    pub(crate) fn code(&self) -> String {
        let name = self.header("iothub-errorcode").expect("a failure").to_owned();
        let inner: Json = serde_json::from_str(self.json()["Message"].as_str().unwrap()).unwrap();
        assert!(inner["message"].as_str().unwrap().contains(&name));
        name
    }
}

/// A request under construction.
pub(crate) struct Ask<'a> {
    world: &'a World,
    request: Request,
}

pub(crate) async fn world() -> World {
    let state = Arc::new(MemoryState::default());
    let right = |name: &str| {
        let is_one_of = |names: &[&str]| names.contains(&name);
        json!({
            "v": 1, "keys": {"primary": POLICY_KEY, "secondary": POLICY_KEY},
            "registryRead": (is_one_of(&["iothubowner", "registryRead"])),
            "registryWrite": name == "iothubowner",
            "serviceConnect": (is_one_of(&["iothubowner", "service"])),
            "deviceConnect": (is_one_of(&["iothubowner", "device"])),
        })
    };
    let policy = |name: &str| Change::put(Key::new(Kind::new("policy"), name), Expect::Any, right(name));
    let policies = ["iothubowner", "service", "device", "registryRead"].map(policy).to_vec();
    state.commit(policies).await.unwrap();
    let parts = CloudParts {
        state,
        stream: Arc::new(MemoryStream::start(4)),
        clock: Clock::simulated(START),
        random: Random::seeded(1),
    };
    let hub = CloudHub::start(CloudConfig::default(), parts).await.unwrap();
    let door = Arc::new(Door::new());
    let config = ApiConfig { hosts: vec![HOST.to_owned()] };
    let api = CloudApi::new(hub.clone(), config, door.clone(), Random::seeded(2));
    World { hub, door, api }
}

impl World {
    /// A request without a token; the API version is added to the target.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Ask<'_> {
        let joint = if target.contains('?') { '&' } else { '?' };
        self.ask_exactly(method, &format!("{target}{joint}api-version=2021-04-12"))
    }

    /// A request as it stands.
    pub(crate) fn ask_exactly(&self, method: &str, target: &str) -> Ask<'_> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Ask { world: self, request: Request::new(method, target) }
    }

    /// A request of the owner.
    pub(crate) fn owner(&self, method: &str, target: &str) -> Ask<'_> {
        self.ask(method, target).policy("iothubowner")
    }

    /// Makes a device and answers with its document.
    pub(crate) async fn device(&self, id: &str, more: Json) -> Json {
        let mut document = json!({ "deviceId": id });
        for (key, value) in more.as_object().unwrap() {
            document[key] = value.clone();
        }
        let answer = self.owner("PUT", &format!("/devices/{id}")).json(document).send().await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Somebody attached over another head.
    pub(crate) async fn attach(&self, client: &str) -> (CloudLane, Attachment) {
        let lane = self.hub.lane(Waker::noop().clone());
        let client = ClientId::parse(client).unwrap();
        let method = AuthMethod { scope: AuthScope::Device, kind: AuthKind::Sas };
        let actor = Actor { id: ActorId::Client(client.clone()), method, expires: None, credential: None };
        let terms = Terms { window: 10, model_id: None };
        let attachment = lane.attach(&actor, client, None, terms).await.unwrap();
        (lane, attachment)
    }
}

impl Ask<'_> {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request = self.request.header(HeaderName::from_static(name), value);
        self
    }

    /// With a token of this policy.
    pub(crate) fn policy(self, name: &str) -> Self {
        let unsigned = Unsigned::for_policy(HOST, name, Timestamp::from_unix_seconds(1_800_000_000));
        self.signed(&unsigned, POLICY_KEY)
    }

    /// With the token of a device or module, signed with its key.
    pub(crate) fn client(self, client: &str, key: &str) -> Self {
        let client = ClientId::parse(client).unwrap();
        let unsigned = Unsigned::for_client(HOST, &client, Timestamp::from_unix_seconds(1_800_000_000));
        self.signed(&unsigned, key)
    }

    fn signed(self, unsigned: &Unsigned, key: &str) -> Self {
        let key = SymmetricKey::from_base64(key).unwrap();
        let token = unsigned.finish(&key.sign(unsigned.signed_text().as_bytes()));
        self.header("authorization", &token)
    }

    pub(crate) fn json(self, body: Json) -> Self {
        self.body(&body.to_string())
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.request.body = body.to_owned().into();
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let peer = Peer { address: format!("{PEER}:4711").parse().unwrap(), certificates: Vec::new() };
        let response = self.world.api.handle(self.request, Arc::new(peer)).await;
        assert!(response.header_text("x-ms-request-id").is_some());
        Answer {
            status: response.status.as_u16(),
            headers: response.headers,
            body: response.body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    pub(crate) async fn status(self) -> u16 {
        self.send().await.status
    }
}

/// A key that is written in documents and not a secret of anybody.
pub(crate) fn key(byte: u8) -> String {
    SharedKey::from_bytes(&[byte; 32]).unwrap().to_base64()
}

/// The primary key in an identity's document.
pub(crate) fn primary_key(document: &Json) -> &str {
    document["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap()
}
