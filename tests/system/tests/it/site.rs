//! A hub, an edge below it where a test wants one, and the command line logged in.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use skerry_testkit::{Edge, EdgeOptions, Hub, HubOptions, eventually, program};
use tempfile::TempDir;

use crate::peer::{Login, Server};

/// Where clients of a test connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Hub,
    Edge,
}

/// The programs of one test.
pub(crate) struct Site {
    at: At,
    pub(crate) hub: Hub,
    edge: Option<Edge>,
    profile: TempDir,
}

/// Everything up, so that messages of the edge's clients are seen at the hub.
pub(crate) fn all_up() -> Value {
    json!({ "all": "FROM /messages/* INTO $upstream" })
}

impl Site {
    /// Starts what is needed for clients at `at`, with the defaults.
    pub(crate) fn start(at: At) -> Self {
        Self::start_with(at, &HubOptions::default(), &EdgeOptions::default())
    }

    pub(crate) fn start_with(at: At, hub: &HubOptions, edge: &EdgeOptions) -> Self {
        let hub = Hub::start_with(hub);
        let edge = (at == At::Edge).then(|| {
            let edge = Edge::start_with(&hub, "edge-1", edge);
            edge.deploy(&hub, &json!({}), &all_up());
            edge.wait_until_listening();
            edge
        });
        let site = Self { at, hub, edge, profile: tempfile::tempdir().unwrap() };
        site.cli(&["login", "--hub-dir", text(&site.hub.data_folder())]);
        site
    }

    pub(crate) fn edge(&mut self) -> &mut Edge {
        self.edge.as_mut().unwrap()
    }

    /// Gives the edge these routes and no modules.
    pub(crate) fn deploy(&self, routes: &Value) {
        self.deploy_with(&json!({}), routes);
    }

    /// The same, with this in `systemModules.edgeHub`.
    pub(crate) fn deploy_with(&self, edge_hub: &Value, routes: &Value) {
        self.edge.as_ref().unwrap().deploy_with(&self.hub, edge_hub, &json!({}), routes);
    }

    /// The MQTT head that the test is about.
    pub(crate) fn server(&self) -> Server {
        match &self.edge {
            None => Server::new(self.hub.address().at(8883), &self.hub.ca_file()),
            Some(edge) => Server::new(SocketAddr::new(edge.host().parse().unwrap(), 8883), &edge.ca_file()),
        }
    }

    /// A new device that connects there.
    pub(crate) fn device(&self, name: &str) -> Login {
        match &self.edge {
            None => Login::new(&self.hub.create_device(name)),
            Some(edge) => Login::new(&edge.create_leaf(&self.hub, name)),
        }
    }

    /// What the operator is shown of who is connected and who was refused there.
    pub(crate) fn connections(&self) -> Value {
        match &self.edge {
            None => self.cli_json(&["device", "connections", "--json"]),
            Some(_) => self.edge_status()["connections"].take(),
        }
    }

    /// What the operator is shown of the edge.
    #[track_caller]
    pub(crate) fn edge_status(&self) -> Value {
        let folder = self.edge.as_ref().unwrap().data_folder();
        self.cli_json(&["edge", "status", "--json", "--edge-dir", text(&folder)])
    }

    /// The entry of the list of refusals that is about `claimed`, once it counts `count`.
    #[track_caller]
    pub(crate) fn refused(&self, claimed: &str, count: u64) -> Value {
        eventually(&format!("{count} refusals of {claimed:?} on the list"), || {
            let mut connections = self.connections();
            let list = connections["refused"].as_array_mut()?;
            let at = list.iter().position(|entry| entry["claimed"] == claimed && entry["count"] == count)?;
            Some(list.swap_remove(at))
        })
    }

    /// The lines that the server logged about `claimed` being refused; there is one at least.
    #[track_caller]
    pub(crate) fn refusal_lines(&mut self, claimed: &str) -> Vec<String> {
        self.logged("refused", &format!("client={claimed}"))
    }

    /// The lines that the server logged with both texts in them; there is one at least. It may be heard over a connection before
    /// its log is read.
    #[track_caller]
    pub(crate) fn logged(&mut self, text: &str, about: &str) -> Vec<String> {
        eventually(&format!("a line with `{text}` and `{about}`"), || {
            let mut lines = self.log(text);
            lines.retain(|line| line.contains(about));
            (!lines.is_empty()).then_some(lines)
        })
    }

    /// The lines that the server logged up to now with `text` in them.
    pub(crate) fn log(&mut self, text: &str) -> Vec<String> {
        match (self.at, &mut self.edge) {
            (At::Edge, Some(edge)) => edge.program().lines_with(text),
            _ => self.hub.program().lines_with(text),
        }
    }

    /// Runs the command line, which has to succeed.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = self.try_cli(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "skerry {arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    pub(crate) fn cli_json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.cli(arguments)).unwrap()
    }

    pub(crate) fn try_cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("skerry"));
        command.args(arguments).env("SKERRY_CONFIG_DIR", self.profile.path());
        command.output().unwrap()
    }
}

/// A path of a test, which is always text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
