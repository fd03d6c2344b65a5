//! A real hub for one test, on an address of its own with the fixed ports that Azure's SDKs use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::address::Loopback;
use crate::events::Events;
use crate::places::program;
use crate::program::Program;
use crate::rest::Rest;
use crate::token::ConnectionString;

const MQTT: u16 = 8883;
const HTTPS: u16 = 443;
/// What the hub says once everything is open.
const READY: &str = "is ready as";

/// What a test wants to be different.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// Lines for the hub's configuration file, top-level keys first.
    pub config: String,
}

/// A running hub with a data folder of its own. Gone when dropped.
#[derive(Debug)]
pub struct Hub {
    program: Program,
    folder: TempDir,
    address: Loopback,
}

impl Hub {
    /// Starts a hub with an empty data folder and waits until it is ready.
    #[track_caller]
    pub fn start() -> Hub {
        Hub::start_with(&HubOptions::default())
    }

    /// The same with other settings.
    #[track_caller]
    pub fn start_with(options: &HubOptions) -> Hub {
        let folder = tempfile::tempdir().unwrap_or_else(|cause| panic!("no temporary folder: {cause}"));
        let address = Loopback::next();
        fs::write(folder.path().join("hub.toml"), &options.config)
            .unwrap_or_else(|cause| panic!("cannot write the hub's configuration: {cause}"));
        let program = Program::start("skerry-hub", &mut command(folder.path(), address));
        let hub = Hub { program, folder, address };
        hub.program.wait_for(READY);
        hub
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again on the same data after [`Hub::kill`] and waits until it is ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        let mark = self.program.lines_so_far();
        self.program.start_again(&mut command(self.folder.path(), self.address));
        self.program.wait_for_from(mark, READY);
    }

    /// The name clients use: the address as text.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The address; every port on it belongs to this hub.
    pub fn address(&self) -> Loopback {
        self.address
    }

    /// The certificate clients have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.data_folder().join("ca.pem")
    }

    /// Where it keeps everything.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The owner policy's connection string.
    #[track_caller]
    pub fn connection_string(&self) -> ConnectionString {
        let file = self.data_folder().join("connection-string");
        let text = fs::read_to_string(&file).unwrap_or_else(|cause| panic!("cannot read {}: {cause}", file.display()));
        ConnectionString::new(&text)
    }

    /// A client of its service API with the owner policy.
    #[track_caller]
    pub fn rest(&self) -> Rest {
        let ca = fs::read(self.ca_file()).unwrap_or_else(|cause| panic!("cannot read the hub's CA: {cause}"));
        Rest::new(self.address.at(HTTPS), &self.host(), &ca, self.connection_string().service_token())
    }

    /// Reads what arrives, from the first event on.
    #[track_caller]
    pub fn events(&self) -> Events {
        Events::new(self.rest())
    }

    /// Creates a device with keys made by the hub; its connection string.
    #[track_caller]
    pub fn create_device(&self, device: &str) -> ConnectionString {
        let body = json!({ "deviceId": device, "status": "enabled" });
        self.create_device_from(device, &body)
    }

    /// Creates an edge device with keys made by the hub; its connection string.
    #[track_caller]
    pub fn create_edge_device(&self, device: &str) -> ConnectionString {
        let body = json!({ "deviceId": device, "status": "enabled", "capabilities": { "iotEdge": true } });
        self.create_device_from(device, &body)
    }

    /// Creates a device as `body` says, with keys made by the hub; its connection string.
    #[track_caller]
    pub fn create_device_from(&self, device: &str, body: &Value) -> ConnectionString {
        let made = self.rest().call("PUT", &format!("/devices/{device}"), Some(body));
        let key = primary_key(&made);
        ConnectionString::new(&format!("HostName={};DeviceId={device};SharedAccessKey={key}", self.host()))
    }

    /// Creates a module of a device with keys made by the hub; its connection string.
    #[track_caller]
    pub fn create_module(&self, device: &str, module: &str) -> ConnectionString {
        let body = json!({ "deviceId": device, "moduleId": module });
        let made = self.rest().call("PUT", &format!("/devices/{device}/modules/{module}"), Some(&body));
        let key = primary_key(&made);
        let host = self.host();
        ConnectionString::new(&format!("HostName={host};DeviceId={device};ModuleId={module};SharedAccessKey={key}"))
    }

    /// The program, for its log.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

#[track_caller]
fn primary_key(identity: &Value) -> &str {
    let key = identity["authentication"]["symmetricKey"]["primaryKey"].as_str();
    key.unwrap_or_else(|| panic!("the hub made an identity without a key: {identity}"))
}

fn command(folder: &Path, address: Loopback) -> Command {
    let mut command = Command::new(program("skerry-hub"));
    command.arg("--config").arg(folder.join("hub.toml"));
    command.arg("--data-dir").arg(folder.join("data"));
    command.arg("--name").arg(address.to_string());
    command.arg("--listen-mqtt").arg(address.at(MQTT).to_string());
    command.arg("--listen-https").arg(address.at(HTTPS).to_string());
    command
}
