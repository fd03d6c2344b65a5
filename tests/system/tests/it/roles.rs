//! Agent and hub of an edge as two processes beside each other, the hub as a user without rights.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use skerry_testkit::{Edge, EdgeOptions, Hub, Program, eventually, program};
use tempfile::TempDir;

use crate::peer::{Heard, Login, Server};
use crate::site::{all_up, text};

/// The user of the hub beside the agent; below those that modules get.
const HUB_UID: u32 = 58_999;

/// The local hub as a process of its own.
struct LocalHub {
    program: Program,
    command: Command,
}

impl LocalHub {
    /// Starts it as the guide says: with the environment that the agent wrote.
    fn start(folder: &TempDir, hub: &Hub, edge: &Edge) -> Self {
        open_to_all(folder.path());
        let (config, trust, data) = ["hub.toml", "trust.pem", "data"].map(|name| folder.path().join(name)).into();
        fs::copy(hub.ca_file(), &trust).unwrap();
        fs::set_permissions(&trust, fs::Permissions::from_mode(0o644)).unwrap();
        fs::create_dir(&data).unwrap();
        chown(&data, Some(HUB_UID), Some(HUB_UID)).unwrap();
        let address = edge.address();
        let settings = format!(
            "hostname = \"{}\"\n[upstream]\ntrust = \"{}\"\n[hub]\nmqtt = [\"{}\"]\nhttps = [\"{}\"]\n",
            edge.host(),
            trust.display(),
            address.at(8883),
            // A user without rights has no port below 1024.
            address.at(8443),
        );
        fs::write(&config, settings).unwrap();
        let script = r#"set -a; . "$0"; exec "$@""#;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).arg(edge.environment_of_hub()).arg(program("skerry-edge"));
        command.args(["--role", "hub", "--config", text(&config), "--data-dir", text(&data)]);
        command.uid(HUB_UID).gid(HUB_UID);
        Self { program: Program::start("skerry-edge --role hub", &mut command), command }
    }

    fn kill(&mut self) {
        self.program.kill();
    }

    fn start_again(&mut self) {
        let mark = self.program.lines_so_far();
        self.program.start_again(&mut self.command);
        self.program.wait_for_from(mark, "listening address=");
    }
}

fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What `skerry edge` says.
fn ask_agent(edge: &Edge, what: &str) -> Value {
    let output = Command::new(program("skerry"))
        .args(["edge", what, "--json", "--edge-dir", text(&edge.data_folder())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `skerry edge list` says of the hub.
fn status_of_hub(edge: &Edge) -> Option<String> {
    let list = ask_agent(edge, "list");
    let entry = list.as_array()?.iter().find(|entry| entry["name"] == "edgeHub")?;
    Some(entry["status"].as_str()?.to_owned())
}

/// Since when the module runs.
fn running_since(edge: &Edge, module: &str) -> Option<Value> {
    let list = ask_agent(edge, "list");
    let entry = list.as_array()?.iter().find(|entry| entry["name"] == module && entry["status"] == "running")?;
    Some(entry["started"].clone())
}

#[test]
fn a_hub_beside_its_agent_serves_modules_and_leaves_and_dies_alone() {
    let hub = Hub::start();
    let options =
        EdgeOptions { config: format!("[agent]\nhub_uid = {HUB_UID}\n"), agent_alone: true, ..EdgeOptions::default() };
    let mut edge = Edge::start_with(&hub, "edge-1", &options);
    let sensor = json!({
        "type": "process", "version": "1", "status": "running", "restartPolicy": "always",
        "settings": { "command": program("simulated-temperature-sensor") },
        "env": { "MessageCount": { "value": "-1" }, "MessageDelay": { "value": "00:00:00.2" } },
    });
    let modules = json!({ "sensor": sensor });
    edge.deploy(&hub, &modules, &all_up());
    let started = eventually("the agent runs the module", || running_since(&edge, "sensor"));
    let mqtt: SocketAddr = edge.address().at(8883);
    assert!(TcpStream::connect(mqtt).is_err(), "the agent listens on nothing");
    assert_eq!(ask_agent(&edge, "status")["connections"], Value::Null, "there is no hub beside it yet");

    let folder = tempfile::tempdir().unwrap();
    let mut local = LocalHub::start(&folder, &hub, &edge);
    local.program.wait_for("listening address=");
    let mut events = hub.events();
    events.next_where("message of the module", |event| event["moduleId"] == "sensor");
    let login = Login::new(&edge.create_leaf(&hub, "dev-1"));
    let server = Server::new(mqtt, &edge.ca_file());
    let topic = format!("{}/messages/events/", login.topics());
    let mut peer = server.login(&login);
    peer.publish(1, &topic, b"from below");
    assert_eq!(peer.hear(), Heard::PubAck(1));
    events.next_where("message of the leaf", |event| event["body"] == "from below");
    eventually("the agent tells who is connected to the hub", || {
        let status = ask_agent(&edge, "status");
        let connected = status["connections"]["connected"].as_array()?;
        connected.iter().any(|line| line["client"] == "dev-1").then_some(())
    });

    assert_eq!(status_of_hub(&edge).as_deref(), Some("running"));

    local.kill();
    peer.hear_the_end();
    eventually("the agent says that the hub is away", || (status_of_hub(&edge)? == "failed").then_some(()));
    assert_eq!(running_since(&edge, "sensor").as_ref(), Some(&started), "the module runs on");
    local.start_again();
    events.all_now();
    events.next_where("message of the module, again", |event| event["moduleId"] == "sensor");
    assert_eq!(running_since(&edge, "sensor"), Some(started), "it is still the same");
    eventually("the agent says that the hub is back", || (status_of_hub(&edge)? == "running").then_some(()));

    // The other way round the hub goes on taking what its clients send; to connect upwards it needs its agent's signature.
    let mut peer = server.login(&login);
    edge.kill();
    peer.publish(1, &topic, b"without the agent");
    assert_eq!(peer.hear(), Heard::PubAck(1));
    edge.start_again();
    events.next_where("message of the leaf", |event| event["body"] == "without the agent");
    events.all_now();
    events.next_where("message of the module that ended with its agent", |event| event["moduleId"] == "sensor");

    // What the manifest says of the hub reaches it.
    edge.deploy_with(&hub, &json!({ "status": "stopped" }), &modules, &all_up());
    eventually("the hub listens no longer", || TcpStream::connect(mqtt).is_err().then_some(()));
}
