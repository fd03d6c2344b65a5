//! What a module finds around itself (`edge-module-environment` §1).

use std::net::IpAddr;
use std::path::PathBuf;

use skerry_model::{DeviceId, ModuleSpec};
use skerry_module_runtime::{Binding, ModuleRuntime};

use crate::AgentConfig;

/// The version of the workload API that modules are told to use.
const API_VERSION: &str = "2022-08-03";
/// Name of a module's workload socket in its folder.
const SOCKET: &str = "workload.sock";

/// Who a module is, and where its socket is.
pub(crate) struct Bound<'a> {
    pub(crate) device: &'a DeviceId,
    pub(crate) hub_host: &'a str,
    pub(crate) generation: String,
    pub(crate) workload_folder: PathBuf,
    /// Addresses of this machine on the modules' network.
    pub(crate) gateways: &'a [IpAddr],
}

/// What `spec` is bound to.
pub(crate) fn binding(
    config: &AgentConfig,
    runtime: &dyn ModuleRuntime,
    spec: &ModuleSpec,
    bound: Bound<'_>,
) -> Binding {
    let socket = runtime.seen_by_module(&bound.workload_folder).join(SOCKET);
    let mut env = vec![
        ("IOTEDGE_WORKLOADURI", format!("unix://{}", socket.display())),
        ("IOTEDGE_AUTHSCHEME", "sasToken".to_owned()),
        ("IOTEDGE_MODULEGENERATIONID", bound.generation.clone()),
        ("IOTEDGE_IOTHUBHOSTNAME", bound.hub_host.to_owned()),
        ("IOTEDGE_DEVICEID", bound.device.to_string()),
        ("IOTEDGE_MODULEID", spec.name.to_string()),
        ("IOTEDGE_GATEWAYHOSTNAME", config.host_name.clone()),
        ("IOTEDGE_APIVERSION", API_VERSION.to_owned()),
    ];
    if let Some(parent) = &config.parent_host {
        env.push(("IOTEDGE_PARENTHOSTNAME", parent.clone()));
    }
    let defaults =
        [("RuntimeLogLevel", Some(&config.log_level)), ("UpstreamProtocol", config.upstream_protocol.as_ref())];
    for (name, value) in defaults {
        if let Some(value) = value.filter(|_| !spec.env.contains_key(name)) {
            env.push((name, value.clone()));
        }
    }
    // A runtime without gateways is one whose modules are in this machine's network.
    let address = bound.gateways.first().copied().or(config.host_address);
    let names = [config.host_name.as_str(), "edgeHub"].into_iter().filter(|name| name.parse::<IpAddr>().is_err());
    let host_names = address.map(|address| names.map(|name| (name.to_owned(), address)).collect());
    Binding {
        env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        generation: bound.generation,
        workload_folder: bound.workload_folder,
        host_names: host_names.unwrap_or_default(),
    }
}
