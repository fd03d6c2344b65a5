//! A real edge for one test, provisioned at a hub of the same test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::address::Loopback;
use crate::hub::Hub;
use crate::places::program;
use crate::program::Program;
use crate::token::ConnectionString;

const MQTT: u16 = 8883;
const HTTPS: u16 = 443;
/// What the edge says once everything is open.
const READY: &str = "is ready as";

/// What a test wants to be different.
#[derive(Debug, Clone, Default)]
pub struct EdgeOptions {
    /// Lines for the edge's configuration file: top-level keys first, then tables that are not set here
    /// (`provisioning`, `upstream`, `hub`, `container` and `process` are).
    pub config: String,
    /// What modules in containers call the edge; they cannot reach it at an address of this machine alone. Without it
    /// modules and leaf devices use [`Edge::host`].
    pub hostname: Option<String>,
    /// More lines for the configuration's `container` table.
    pub container: String,
    /// Only the agent's role. The test starts a hub beside it, for modules and leaf devices to connect to; see
    /// [`Edge::environment_of_hub`].
    pub agent_alone: bool,
}

/// A running edge with a data folder, a module network and a control group of its own. Gone when dropped.
#[derive(Debug)]
pub struct Edge {
    program: Program,
    folder: TempDir,
    address: Loopback,
    device: String,
    role: &'static str,
    /// Lines of its log that are from before its last start.
    lines_before: usize,
}

impl Edge {
    /// Creates the edge device at the hub, starts an edge for it with an empty data folder and waits until it is ready.
    #[track_caller]
    pub fn start(hub: &Hub, device: &str) -> Edge {
        Edge::start_with(hub, device, &EdgeOptions::default())
    }

    /// The same with other settings.
    #[track_caller]
    pub fn start_with(hub: &Hub, device: &str, options: &EdgeOptions) -> Edge {
        let connection_string = hub.create_edge_device(device);
        let folder = tempfile::tempdir().unwrap_or_else(|cause| panic!("no temporary folder: {cause}"));
        // Module processes run as other users and look up their sockets below it.
        make_searchable(folder.path());
        let address = Loopback::next();
        let text = configuration(hub, folder.path(), address, options);
        write(&folder.path().join("edge.toml"), &text);
        write(&folder.path().join("connection-string"), connection_string.text());
        let role = if options.agent_alone { "agent" } else { "all" };
        let program = Program::start("skerry-edge", &mut command(folder.path(), role));
        let edge = Edge { program, folder, address, device: device.to_owned(), role, lines_before: 0 };
        edge.program.wait_for(READY);
        edge
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again on the same data after [`Edge::kill`] and waits until it is ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.lines_before = self.program.lines_so_far();
        self.program.start_again(&mut command(self.folder.path(), self.role));
        self.program.wait_for_from(self.lines_before, READY);
    }

    /// Makes it another device of the hub, after [`Edge::kill`]; the data stays.
    #[track_caller]
    pub fn provision_anew(&mut self, hub: &Hub, device: &str) {
        let connection_string = hub.create_edge_device(device);
        write(&self.folder.path().join("connection-string"), connection_string.text());
        device.clone_into(&mut self.device);
    }

    /// The name modules and leaf devices connect to: the address as text.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The address; every port on it belongs to this edge.
    pub fn address(&self) -> Loopback {
        self.address
    }

    /// The file with the environment of a hub that is to run beside this agent.
    pub fn environment_of_hub(&self) -> PathBuf {
        self.folder.path().join("data-modules/workload/edgeHub/environment")
    }

    /// The edge's device id.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Where it keeps everything.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The network of its container modules.
    pub fn network(&self) -> String {
        format!("skerry-test-{}", dashed(self.address))
    }

    /// The name of a module's container.
    pub fn container(&self, module: &str) -> String {
        format!("test-{}-{module}", dashed(self.address))
    }

    /// The certificate leaf devices have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.data_folder().join("identity/certificates/root.pem")
    }

    /// Deploys modules and routes to this edge, as an operator would.
    #[track_caller]
    pub fn deploy(&self, hub: &Hub, modules: &Value, routes: &Value) {
        self.deploy_with(hub, &json!({}), modules, routes);
    }

    /// The same; `edge_hub` has what is to be different or more in `systemModules.edgeHub`.
    #[track_caller]
    pub fn deploy_with(&self, hub: &Hub, edge_hub: &Value, modules: &Value, routes: &Value) {
        let mut system = json!({
            "edgeAgent": { "type": "docker", "settings": { "image": "skerry/edge" } },
            "edgeHub": { "type": "docker", "status": "running", "restartPolicy": "always",
                "settings": { "image": "skerry/edge" } },
        });
        for (name, value) in edge_hub.as_object().into_iter().flatten() {
            system["edgeHub"][name] = value.clone();
        }
        let content = json!({ "modulesContent": {
            "$edgeAgent": { "properties.desired": {
                "schemaVersion": "1.1",
                "runtime": { "type": "docker", "settings": {} },
                "systemModules": system,
                "modules": modules,
            } },
            "$edgeHub": { "properties.desired": {
                "schemaVersion": "1.1",
                "routes": routes,
                "storeAndForwardConfiguration": { "timeToLiveSecs": 7200 },
            } },
        } });
        hub.rest().call("POST", &format!("/devices/{}/applyConfigurationContent", self.device), Some(&content));
    }

    /// Waits until modules and leaf devices can connect, which is when the edge has its first manifest; after
    /// [`Edge::start_again`] anew.
    #[track_caller]
    pub fn wait_until_listening(&self) {
        let line = format!("listening address={}", self.address.at(MQTT));
        self.program.wait_for_from(self.lines_before, &line);
    }

    /// Creates a device below this edge; its connection string goes through the edge.
    #[track_caller]
    pub fn create_leaf(&self, hub: &Hub, device: &str) -> ConnectionString {
        let edge = hub.rest().call("GET", &format!("/devices/{}", self.device), None);
        let scope = &edge["deviceScope"];
        let body = json!({ "deviceId": device, "status": "enabled", "deviceScope": scope, "parentScopes": [scope] });
        let direct = hub.create_device_from(device, &body);
        ConnectionString::new(&format!("{};GatewayHostName={}", direct.text(), self.host()))
    }

    /// The program, for its log.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

fn dashed(address: Loopback) -> String {
    address.to_string().replace('.', "-")
}

fn configuration(hub: &Hub, folder: &Path, address: Loopback, options: &EdgeOptions) -> String {
    let (data, key) = (folder.join("data"), folder.join("connection-string"));
    let name = dashed(address);
    let hostname = options.hostname.clone().unwrap_or_else(|| address.to_string());
    let EdgeOptions { config, container, .. } = options;
    format!(
        r#"data_dir = "{}"
hostname = "{hostname}"
{config}
[provisioning]
connection_string_file = "{}"
[upstream]
trust = "{}"
[hub]
mqtt = ["{}"]
https = ["{}"]
[container]
network = "skerry-test-{name}"
name_prefix = "test-{name}-"
{container}
[process]
control_group = "skerry-test-{name}"
"#,
        data.display(),
        key.display(),
        hub.ca_file().display(),
        address.at(MQTT),
        address.at(HTTPS),
    )
}

fn command(folder: &Path, role: &str) -> Command {
    let mut command = Command::new(program("skerry-edge"));
    command.arg("--config").arg(folder.join("edge.toml")).args(["--role", role]);
    command
}

fn make_searchable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let searchable = fs::Permissions::from_mode(0o711);
    fs::set_permissions(folder, searchable).unwrap_or_else(|cause| panic!("{}: {cause}", folder.display()));
}

#[track_caller]
fn write(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
}
