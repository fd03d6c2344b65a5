//! A hub and an edge of this build on loopback addresses of their own, for measuring: set up, started, stopped, removed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::background::Background;
use crate::run::{Outcome, Run};
use crate::workspace::Workspace;

const HUB: Ipv4Addr = Ipv4Addr::new(127, 41, 7, 1);
const EDGE: Ipv4Addr = Ipv4Addr::new(127, 41, 7, 2);
const MQTTS: u16 = 8883;
const MQTT: u16 = 1883;
const HTTPS: u16 = 8443;
const START_MAX: Duration = Duration::from_secs(60);

/// The edge's MQTT over TLS.
pub(crate) const EDGE_TLS: SocketAddr = SocketAddr::new(IpAddr::V4(EDGE), MQTTS);
/// The edge's MQTT without TLS.
pub(crate) const EDGE_PLAIN: SocketAddr = SocketAddr::new(IpAddr::V4(EDGE), MQTT);
/// The id of the edge device.
pub(crate) const DEVICE: &str = "bench";

/// Hub and edge. Dropping it ends both and removes what they wrote.
pub(crate) struct Stage {
    /// Everything that is written, on the disk of the build.
    pub(crate) folder: PathBuf,
    programs: PathBuf,
    /// Where users without rights can reach it: process modules, and their programs.
    open_folder: PathBuf,
    hub: Option<Background>,
    edge: Option<Background>,
}

impl Stage {
    /// An empty stage; `programs` is where the programs of this build are.
    pub(crate) fn new(workspace: &Workspace, name: &str, programs: &Path) -> Outcome<Stage> {
        let folder = workspace.target.join("stage").join(name);
        let open_folder = std::env::temp_dir().join(format!("skerry-{name}-{}", std::process::id()));
        let failed = |cause| format!("cannot create {}: {cause}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        fs::create_dir_all(&folder).map_err(failed)?;
        fs::create_dir_all(&open_folder)
            .and_then(|()| fs::set_permissions(&open_folder, fs::Permissions::from_mode(0o755)))
            .map_err(|cause| format!("cannot create {}: {cause}", open_folder.display()))?;
        Ok(Stage { folder, programs: programs.to_owned(), open_folder, hub: None, edge: None })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A copy of a program that process modules can run, whoever owns the repository.
    pub(crate) fn module_program(&self, name: &str) -> Outcome<String> {
        let to = self.open_folder.join(name);
        fs::copy(self.program(name), &to)
            .map_err(|cause| format!("cannot copy {name} to {}: {cause}", to.display()))?;
        Ok(to.to_string_lossy().into_owned())
    }

    /// Starts the hub, makes the edge device with `pairs` of modules and `leaves` below it, and hands it its manifest.
    pub(crate) fn set_up(&mut self, manifest: &Value, pairs: usize, leaves: usize) -> Outcome {
        self.start_hub()?;
        let manifest_file = self.write("manifest.json", &manifest.to_string())?;
        let hub_dir = self.folder.join("hub");
        let out = self.credentials();
        let texts = [&hub_dir, &manifest_file, &out].map(|path| path.to_string_lossy().into_owned());
        Run::new(self.program("skerry-bench-broker"))
            .args(["prepare", "--device", DEVICE, "--pairs", &pairs.to_string(), "--leaves", &leaves.to_string()])
            .args(["--hub-dir", &texts[0], "--manifest", &texts[1], "--out", &texts[2]])
            .go()?;
        let made = fs::read_to_string(&out).map_err(|cause| format!("cannot read {}: {cause}", out.display()))?;
        let made: Value = serde_json::from_str(&made).map_err(|cause| format!("{}: {cause}", out.display()))?;
        self.write("edge-connection-string", made["edge"].as_str().unwrap_or_default())?;
        self.write("edge.toml", &self.edge_settings()).map(drop)
    }

    fn edge_settings(&self) -> String {
        let text = |path: PathBuf| Value::from(path.to_string_lossy().into_owned()).to_string();
        let file = |name: &str| text(self.folder.join(name));
        // No engine: what runs in containers on this machine is none of a measurement's business.
        format!(
            "data_dir = {}\nmodules_dir = {}\n\
             provisioning.connection_string_file = {}\n\
             upstream = {{ trust = {}, mqtt_port = {MQTTS}, https_port = {HTTPS} }}\n\
             hub = {{ mqtt = [\"{EDGE_TLS}\"], https = [], plaintext_mqtt = [\"{EDGE_PLAIN}\"] }}\n\
             container.engine = \"\"\nprocess.control_group = \"skerry-measured\"\n",
            file("edge"),
            text(self.open_folder.join("modules")),
            file("edge-connection-string"),
            file("hub/ca.pem"),
        )
    }

    fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .map_err(|cause| format!("cannot write {}: {cause}", path.display()))?;
        Ok(path)
    }

    fn start_hub(&mut self) -> Outcome {
        let mut command = Command::new(self.program("skerry-hub"));
        command.arg("--data-dir").arg(self.folder.join("hub"));
        command.args(["--name", &HUB.to_string(), "--listen-mqtt", &format!("{HUB}:{MQTTS}")]);
        command.args(["--listen-https", &format!("{HUB}:{HTTPS}")]);
        let mut hub = Background::start("skerry-hub", command, &self.folder)?;
        hub.wait_for("is ready", START_MAX)?;
        self.hub = Some(hub);
        Ok(())
    }

    /// Starts the edge and waits until it takes clients.
    pub(crate) fn start_edge(&mut self) -> Outcome<u32> {
        let [program, config, file] = self.edge_command();
        let mut command = Command::new(program);
        command.args([config, file]);
        let mut edge = Background::start("skerry-edge", command, &self.folder)?;
        edge.wait_for_listener(EDGE_TLS, START_MAX)?;
        edge.wait_for_listener(EDGE_PLAIN, START_MAX)?;
        let id = edge.id();
        self.edge = Some(edge);
        Ok(id)
    }

    /// How the edge is started.
    pub(crate) fn edge_command(&self) -> [String; 3] {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        [text(self.program("skerry-edge")), "--config".to_owned(), text(self.folder.join("edge.toml"))]
    }

    /// The socket that answers `skerry edge`.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.folder.join("edge/management.sock")
    }

    /// Tokens of the modules and leaf devices that were made.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.folder.join("credentials.json")
    }

    /// The authority of the edge's server certificate.
    pub(crate) fn edge_trust(&self) -> PathBuf {
        self.folder.join("edge/identity/certificates/root.pem")
    }

    /// The data folder of the hub.
    pub(crate) fn hub_folder(&self) -> PathBuf {
        self.folder.join("hub")
    }

    pub(crate) fn stop_edge(&mut self) {
        if let Some(edge) = self.edge.take() {
            edge.stop();
        }
    }

    pub(crate) fn stop_hub(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.stop();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop_edge();
        self.stop_hub();
        // What stays is in the build's folder or the system's for such things.
        let _ = fs::remove_dir_all(&self.open_folder);
    }
}

/// A manifest with these modules and routes.
pub(crate) fn manifest(modules: Value, routes: Value) -> Value {
    let system =
        json!({"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": "skerry"}});
    json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired": {
            "schemaVersion": "1.1",
            "runtime": { "type": "docker", "settings": {} },
            "systemModules": { "edgeAgent": system, "edgeHub": system },
            "modules": modules,
        }},
        "$edgeHub": { "properties.desired": {
            "schemaVersion": "1.1",
            "routes": routes,
            "storeAndForwardConfiguration": { "timeToLiveSecs": 7200 },
        }},
    }})
}
