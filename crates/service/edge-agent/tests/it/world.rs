//! What surrounds the agent in these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use skerry_edge_agent::{
    AgentConfig, AgentParts, Asked, EdgeAgent, EdgeHubNews, Identities, IdentityFailure, RuntimePart, Upstream,
    UpstreamState,
};
use skerry_edge_identity::SocketAccess;
use skerry_model::json::JsonObject;
use skerry_model::{
    Delivery, DeviceId, ErrorCode, Json, MethodCall, MethodCallId, ModuleName, Reply, Request, RequestError, Timestamp,
    merge,
};
use skerry_module_runtime::fake::FakeRuntime;
use skerry_net::Clock;
use tokio::sync::{Notify, watch};

/// When every test begins.
const BEGIN: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// A hub with one twin.
pub(crate) struct FakeHub {
    state: watch::Sender<UpstreamState>,
    inner: Mutex<HubState>,
    delivered: Notify,
}

#[derive(Default)]
struct HubState {
    desired: JsonObject,
    version: u64,
    reported: JsonObject,
    patches: Vec<JsonObject>,
    twin_reads: usize,
    answers: Vec<(i64, String)>,
    waiting: Vec<Delivery>,
    connections: u64,
    calls: u128,
    refuses_reports: bool,
}

impl FakeHub {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: watch::Sender::new(UpstreamState::default()),
            inner: Mutex::default(),
            delivered: Notify::new(),
        })
    }

    pub(crate) fn connect(&self) {
        let number = {
            let mut inner = self.inner.lock().unwrap();
            inner.connections += 1;
            inner.connections
        };
        self.state.send_replace(UpstreamState { connection: Some(number), ..UpstreamState::default() });
    }

    pub(crate) fn disconnect(&self) {
        let problem = Some("unplugged".to_owned());
        self.state.send_replace(UpstreamState { problem, ..UpstreamState::default() });
    }

    /// Replaces the desired properties without telling the agent.
    pub(crate) fn set_desired(&self, desired: Json) {
        let mut inner = self.inner.lock().unwrap();
        inner.desired = desired.as_object().cloned().unwrap();
        inner.version += 1;
    }

    /// Patches the desired properties and tells the agent.
    pub(crate) fn patch_desired(&self, patch: &Json) {
        let mut inner = self.inner.lock().unwrap();
        let patch = patch.as_object().cloned().unwrap();
        merge(&mut inner.desired, &patch);
        inner.version += 1;
        let version = inner.version;
        inner.waiting.push(Delivery::Desired { patch: Arc::new(patch), version });
        drop(inner);
        self.delivered.notify_one();
    }

    pub(crate) fn call(&self, name: &str, payload: &str) {
        let mut inner = self.inner.lock().unwrap();
        inner.calls += 1;
        let id = MethodCallId(inner.calls);
        let call = MethodCall { id, name: name.to_owned(), payload: payload.to_owned().into() };
        inner.waiting.push(Delivery::Method(call));
        drop(inner);
        self.delivered.notify_one();
    }

    pub(crate) fn answers(&self) -> Vec<(i64, String)> {
        self.inner.lock().unwrap().answers.clone()
    }

    pub(crate) fn reported(&self) -> Json {
        self.inner.lock().unwrap().reported.clone().into()
    }

    pub(crate) fn patches(&self) -> usize {
        self.inner.lock().unwrap().patches.len()
    }

    pub(crate) fn twin_reads(&self) -> usize {
        self.inner.lock().unwrap().twin_reads
    }

    pub(crate) fn refuse_reports(&self, refuses: bool) {
        self.inner.lock().unwrap().refuses_reports = refuses;
    }

    fn answer(&self, request: Request) -> Reply {
        let is_connected = self.state.borrow().connection.is_some();
        let mut inner = self.inner.lock().unwrap();
        match request {
            Request::Listen(_) | Request::Unlisten(_) => Reply::Done,
            _ if !is_connected => Reply::Failed(RequestError::new(ErrorCode::Unavailable, "not connected")),
            Request::GetTwin => {
                inner.twin_reads += 1;
                let (mut desired, mut reported) = (inner.desired.clone(), inner.reported.clone());
                desired.insert("$version".to_owned(), inner.version.into());
                reported.insert("$version".to_owned(), 1.into());
                Reply::Twin(json!({ "desired": desired, "reported": reported }))
            }
            Request::PatchReported { .. } if inner.refuses_reports => {
                Reply::Failed(RequestError::new(ErrorCode::TooLarge, "too large"))
            }
            Request::PatchReported { patch, .. } => {
                merge(&mut inner.reported, &patch);
                inner.patches.push(patch);
                Reply::Reported { version: None }
            }
            Request::AnswerMethod(answer) => {
                let payload = String::from_utf8(answer.payload.to_vec()).unwrap();
                inner.answers.push((answer.status, payload));
                Reply::Done
            }
            Request::InvokeMethod(_) => panic!("the agent calls no methods"),
        }
    }
}

impl Upstream for FakeHub {
    fn state(&self) -> watch::Receiver<UpstreamState> {
        self.state.subscribe()
    }

    fn submit(&self, request: Request) -> Asked<'_, Reply> {
        Box::pin(async move {
            // An answer takes its time, as over a network.
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.answer(request)
        })
    }

    fn next_delivery(&self) -> Asked<'_, Option<Delivery>> {
        Box::pin(async {
            loop {
                {
                    let mut inner = self.inner.lock().unwrap();
                    if !inner.waiting.is_empty() {
                        return Some(inner.waiting.remove(0));
                    }
                }
                self.delivered.notified().await;
            }
        })
    }
}

/// Identities that are numbers.
pub(crate) struct FakeIdentities {
    device: DeviceId,
    folder: PathBuf,
    inner: Mutex<IdentityState>,
    pub(crate) provisioning_changed: bool,
}

#[derive(Default)]
struct IdentityState {
    known: BTreeMap<ModuleName, String>,
    made: u32,
    offline: bool,
    retained: Vec<BTreeSet<ModuleName>>,
    sockets: Vec<ModuleName>,
}

impl FakeIdentities {
    pub(crate) fn set_offline(&self, offline: bool) {
        self.inner.lock().unwrap().offline = offline;
    }

    /// The module's identity was deleted and made again.
    pub(crate) fn renew(&self, module: &ModuleName) {
        self.inner.lock().unwrap().known.insert(module.clone(), "renewed".to_owned());
    }

    pub(crate) fn retained(&self) -> Vec<BTreeSet<ModuleName>> {
        self.inner.lock().unwrap().retained.clone()
    }

    pub(crate) fn sockets(&self) -> Vec<ModuleName> {
        self.inner.lock().unwrap().sockets.clone()
    }
}

impl Identities for FakeIdentities {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn hub_host(&self) -> &str {
        "hub.example"
    }

    fn provisioning_changed(&self) -> bool {
        self.provisioning_changed
    }

    fn known(&self, module: &ModuleName) -> Option<String> {
        self.inner.lock().unwrap().known.get(module).cloned()
    }

    fn ensure<'a>(&'a self, module: &'a ModuleName) -> Asked<'a, Result<String, IdentityFailure>> {
        Box::pin(async move {
            let mut inner = self.inner.lock().unwrap();
            if let Some(known) = inner.known.get(module) {
                return Ok(known.clone());
            }
            if inner.offline {
                return Err(IdentityFailure { reason: "the hub does not answer".to_owned(), is_passing: true });
            }
            inner.made += 1;
            let generation = format!("g{}", inner.made);
            inner.known.insert(module.clone(), generation.clone());
            Ok(generation)
        })
    }

    fn retain<'a>(&'a self, wanted: &'a BTreeSet<ModuleName>) -> Asked<'a, Result<(), IdentityFailure>> {
        Box::pin(async move {
            let mut inner = self.inner.lock().unwrap();
            inner.known.retain(|module, _| wanted.contains(module));
            inner.retained.push(wanted.clone());
            Ok(())
        })
    }

    fn open_socket(&self, module: &ModuleName, _: SocketAccess) -> Result<PathBuf, String> {
        self.inner.lock().unwrap().sockets.push(module.clone());
        Ok(self.folder.join(module.as_str()))
    }
}

/// Everything around one agent, and the agent.
pub(crate) struct World {
    pub(crate) hub: Arc<FakeHub>,
    pub(crate) identities: Arc<FakeIdentities>,
    pub(crate) docker: FakeRuntime,
    pub(crate) process: FakeRuntime,
    pub(crate) clock: Clock,
    pub(crate) config: AgentConfig,
    pub(crate) edge_hub: watch::Sender<EdgeHubNews>,
    pub(crate) agent: Option<EdgeAgent>,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(false, Clock::simulated(BEGIN))
    }

    pub(crate) fn with(provisioning_changed: bool, clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = AgentConfig::new(folder.path(), "edge.local");
        config.host_address = Some([127, 0, 0, 9].into());
        config.machine.version = "9.9".to_owned();
        let identities = FakeIdentities {
            device: DeviceId::parse("edge1").unwrap(),
            folder: "/run/edge".into(),
            inner: Mutex::default(),
            provisioning_changed,
        };
        let (docker, process) = (FakeRuntime::new("docker"), FakeRuntime::new("process"));
        for runtime in [docker.clone(), process.clone()] {
            runtime.set_now(clock.now().wall);
            // Their clock follows ours.
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    runtime.set_now(clock.now().wall);
                }
            });
        }
        Self {
            hub: FakeHub::new(),
            identities: Arc::new(identities),
            docker,
            process,
            clock,
            config,
            edge_hub: watch::Sender::default(),
            agent: None,
            folder,
        }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn start(&mut self) {
        let access = SocketAccess::Owner;
        let parts = AgentParts {
            runtimes: vec![
                RuntimePart { runtime: Arc::new(self.docker.clone()), access },
                RuntimePart { runtime: Arc::new(self.process.clone()), access },
            ],
            identities: Arc::clone(&self.identities) as Arc<dyn Identities>,
            upstream: Arc::clone(&self.hub) as Arc<dyn Upstream>,
            clock: self.clock,
            edge_hub: self.edge_hub.subscribe(),
            status: None,
        };
        self.agent = Some(EdgeAgent::start(self.config.clone(), parts).unwrap());
    }

    /// Ends the agent as a crash would.
    pub(crate) fn crash(&mut self) {
        self.agent = None;
    }

    /// Waits until something is so; time passes only while everybody waits.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..50_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}; reported: {:#}; calls: {:?}", self.hub.reported(), self.docker.calls());
    }

    /// Waits until the hub knows how version `version` of the desired properties fared.
    pub(crate) async fn until_reported(&self, version: u64, code: u64) {
        let what = format!("version {version} with code {code}");
        self.until(&what, |world| {
            let reported = world.hub.reported();
            reported["lastDesiredVersion"] == version && reported["lastDesiredStatus"]["code"] == code
        })
        .await;
    }

    pub(crate) async fn until_status(&self, module: &str, status: &str) {
        let what = format!("{module} is {status}");
        self.until(&what, |world| world.hub.reported()["modules"][module]["runtimeStatus"] == status).await;
    }
}

pub(crate) fn name(text: &str) -> ModuleName {
    ModuleName::parse(text).unwrap()
}

/// Desired properties with these modules.
pub(crate) fn desired(modules: &Json) -> Json {
    json!({
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25", "registryCredentials": {
            "r1": {"address": "reg.example", "username": "user", "password": "s3cret"}}}},
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {"image": "agent:1", "createOptions": "{}"}},
            "edgeHub": {"type": "docker", "status": "running", "env": {"RuntimeLogLevel": {"value": "debug"}, "Odd": {"value": "1"}},
                "settings": {"image": "hub:1", "createOptions": "{}"}}},
        "modules": modules,
    })
}

pub(crate) fn image(image: &str) -> Json {
    json!({"type": "docker", "status": "running", "restartPolicy": "always", "version": "1.0",
        "settings": {"image": image, "createOptions": "{}"}})
}

pub(crate) fn program(command: &str) -> Json {
    json!({"type": "process", "status": "running", "restartPolicy": "always", "settings": {"command": command}})
}
