//! A hub and an edge whose modules are containers with names and a network that no other test has.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use skerry_testkit::{Edge, EdgeOptions, Hub, eventually};

use crate::docker::{Leftovers, container, image};

/// What modules in containers call the edge.
pub(crate) const EDGE_NAME: &str = "edge.test";

/// The programs of one test.
pub(crate) struct Site {
    pub(crate) hub: Hub,
    pub(crate) edge: Edge,
    /// After the edge, which would make anew what was removed.
    _leftovers: Leftovers,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// `container`: lines for the edge's settings of containers.
    pub(crate) fn start_with(container: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // The label of an edge's containers is its device id: unique, since all tests share the engine.
        let device = format!("edge-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let hub = Hub::start();
        let options = EdgeOptions {
            hostname: Some(EDGE_NAME.to_owned()),
            container: container.to_owned(),
            ..EdgeOptions::default()
        };
        let edge = Edge::start_with(&hub, &device, &options);
        Self { hub, edge, _leftovers: Leftovers { edge: device } }
    }

    /// Deploys modules and routes, and waits until clients can come.
    #[track_caller]
    pub(crate) fn deploy(&self, modules: &Value, routes: &Value) {
        self.edge.deploy(&self.hub, modules, routes);
        self.edge.wait_until_listening();
    }

    /// Deploys modules whose images are in a registry with a password.
    #[track_caller]
    pub(crate) fn deploy_from(&self, modules: &Value, registry: &str, user: &str, password: &str) {
        let credential = json!({ "address": registry, "username": user, "password": password });
        let system = json!({ "type": "docker", "status": "running", "restartPolicy": "always", "settings": { "image": "skerry/edge" } });
        let content = json!({ "modulesContent": {
            "$edgeAgent": { "properties.desired": {
                "schemaVersion": "1.1",
                "runtime": { "type": "docker", "settings": { "registryCredentials": { "private": credential } } },
                "systemModules": { "edgeAgent": system, "edgeHub": system },
                "modules": modules,
            } },
            "$edgeHub": { "properties.desired": { "schemaVersion": "1.1", "routes": {},
                "storeAndForwardConfiguration": { "timeToLiveSecs": 7200 } } },
        } });
        let path = format!("/devices/{}/applyConfigurationContent", self.edge.device());
        self.hub.rest().call("POST", &path, Some(&content));
    }

    /// The reported properties of the agent.
    #[track_caller]
    pub(crate) fn reported(&self) -> Value {
        let path = format!("/twins/{}/modules/$edgeAgent", self.edge.device());
        self.hub.rest().call("GET", &path, None)["properties"]["reported"].take()
    }

    /// Waits until what is reported fits; hands it back. A failure shows what was reported last.
    #[track_caller]
    pub(crate) fn reported_where(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + skerry_testkit::PATIENCE;
        loop {
            let reported = self.reported();
            if fits(&reported) {
                return reported;
            }
            assert!(std::time::Instant::now() < deadline, "not reported: {what}; reported is {reported:#}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// Waits until a module is reported with this status; hands back its entry.
    #[track_caller]
    pub(crate) fn module_is(&self, module: &str, status: &str) -> Value {
        let mut reported = self.reported_where(&format!("{module} is {status}"), |reported| {
            reported["modules"][module]["runtimeStatus"] == status
        });
        reported["modules"][module].take()
    }

    /// The engine's own word about a module's container.
    pub(crate) fn container(&self, module: &str) -> Option<Value> {
        container(&self.edge.container(module))
    }

    /// The id of the container that runs a module, once it runs.
    #[track_caller]
    pub(crate) fn running_id(&self, module: &str) -> String {
        eventually(&format!("{module} runs in a container"), || {
            let container = self.container(module)?;
            (container["State"]["Running"] == true).then(|| container["Id"].as_str().unwrap_or_default().to_owned())
        })
    }

    #[track_caller]
    pub(crate) fn set_desired(&self, module: &str, desired: &Value) {
        let patch = json!({ "properties": { "desired": desired } });
        self.hub.rest().call("PATCH", &format!("/twins/{}/modules/{module}", self.edge.device()), Some(&patch));
    }
}

/// A module of the manifest from an image that is in the engine already.
#[track_caller]
pub(crate) fn module(name: &str, create_options: &Value, env: &Value) -> Value {
    json!({
        "type": "docker", "version": "1", "status": "running", "restartPolicy": "always", "imagePullPolicy": "never",
        "settings": { "image": image(name), "createOptions": create_options.to_string() },
        "env": env,
    })
}

/// A module that runs a shell script.
#[track_caller]
pub(crate) fn shell(script: &str) -> Value {
    module("python-example", &shell_options(script), &json!({}))
}

pub(crate) fn shell_options(script: &str) -> Value {
    json!({ "Entrypoint": ["/bin/sh", "-c", script] })
}

/// Runs until it is asked to stop, and then ends well.
pub(crate) const UNTIL_STOPPED: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
