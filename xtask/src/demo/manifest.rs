//! What the demo's edge runs: measurements through a filter and past it, and the routes of the load.

use serde_json::{Map, Value, json};

use super::folder::Folder;
use super::world::{LOAD_OUTPUT, LOAD_SINK, LOAD_TO_BOTH, LOAD_TO_HUB};
use crate::images;

/// The module that measures.
pub(crate) const SOURCE: &str = "host-metrics";
/// The module that lets through what crosses its limit.
pub(crate) const FILTER: &str = "threshold-filter";

/// The manifest. `accounted`: every measurement passes the filter, so that none can vanish unseen, and they come quickly.
pub(crate) fn manifest(folder: &Folder, containers: bool, accounted: bool) -> Value {
    let system = |image: &str| json!({ "type": "docker", "status": "running", "restartPolicy": "always", "settings": { "image": image } });
    let mut content = json!({
        "$edgeAgent": { "properties.desired": {
            "schemaVersion": "1.1",
            "runtime": { "type": "docker", "settings": {} },
            "systemModules": { "edgeAgent": system("skerry/agent"), "edgeHub": system("skerry/hub") },
            "modules": { SOURCE: module(folder, SOURCE, containers), FILTER: module(folder, FILTER, containers) },
        }},
        "$edgeHub": { "properties.desired": {
            "schemaVersion": "1.1",
            "routes": routes(accounted),
            "storeAndForwardConfiguration": { "timeToLiveSecs": 7200 },
        }},
    });
    let (interval, path, above) = if accounted { (0.2, "memory.usedPercent", 0) } else { (1.0, "cpu.percent", 20) };
    content[SOURCE] = json!({ "properties.desired": { "intervalSeconds": interval } });
    content[FILTER] = json!({ "properties.desired": { "path": path, "above": above } });
    json!({ "modulesContent": content })
}

fn module(folder: &Folder, name: &str, container: bool) -> Value {
    let mut module = json!({ "version": env!("CARGO_PKG_VERSION"), "status": "running", "restartPolicy": "always" });
    if container {
        // The machine's own figures, not the container's.
        let options = json!({ "HostConfig": { "Binds": ["/proc:/host/proc:ro", "/sys:/host/sys:ro"] } }).to_string();
        module["type"] = "docker".into();
        // The images are made here and in no registry.
        module["imagePullPolicy"] = "never".into();
        module["settings"] = json!({ "image": images::name(name), "createOptions": options });
        module["env"] = json!({ "HOST_PROC": { "value": "/host/proc" }, "HOST_SYS": { "value": "/host/sys" } });
    } else {
        module["type"] = "process".into();
        module["settings"] = json!({ "command": folder.program(name).to_string_lossy() });
    }
    module
}

fn routes(with_load: bool) -> Value {
    let measurements = format!("FROM /messages/modules/{SOURCE}/outputs/metrics");
    let input = |module: &str, input: &str| format!("INTO BrokeredEndpoint(\"/modules/{module}/inputs/{input}\")");
    let mut routes = Map::new();
    routes.insert("measurementsToFilter".to_owned(), format!("{measurements} {}", input(FILTER, "input")).into());
    let alerts = format!("FROM /messages/modules/{FILTER}/outputs/output INTO $upstream");
    routes.insert("alerts".to_owned(), json!({ "route": alerts, "priority": 0 }));
    let measurements = format!("{measurements} INTO $upstream");
    routes.insert("measurements".to_owned(), json!({ "route": measurements, "priority": 5 }));
    for sender in LOAD_TO_HUB.iter().chain(&LOAD_TO_BOTH).filter(|_| with_load) {
        let from = format!("FROM /messages/modules/{sender}/outputs/{LOAD_OUTPUT}");
        routes.insert(format!("{sender}ToHub"), format!("{from} INTO $upstream").into());
        if LOAD_TO_BOTH.contains(sender) {
            routes.insert(format!("{sender}ToSink"), format!("{from} {}", input(LOAD_SINK, "in")).into());
        }
    }
    routes.into()
}
