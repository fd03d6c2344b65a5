//! Runs modules as containers of a Docker-compatible engine, over its HTTP API on a unix socket (API 1.41 and later).
//!
//! Only containers that carry our label are ever looked at or touched. What a container was made from is written on it as
//! labels, so that containers go on while we are away and are taken over when we are back.

#![forbid(unsafe_code)]

mod create_body;
mod engine;
mod image;
mod inspect;
mod labels;
mod log_stream;
mod logs;
mod membership;
mod network;
mod pull;
mod runtime;
mod watch;

use std::path::PathBuf;

pub use runtime::ContainerRuntime;

/// Where modules find the folder with their workload socket.
pub const WORKLOAD_FOLDER: &str = "/var/run/iotedge";

/// Settings of a [`ContainerRuntime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerConfig {
    /// The engine's socket.
    pub socket: PathBuf,
    /// Tells the containers of this edge from those of others on the same engine; the device's id will do.
    pub edge: String,
    /// Comes before the module's name in the container's name.
    pub name_prefix: String,
    /// The network of the modules; made when missing. Inside of it modules find each other by their names.
    pub network: String,
    /// Whether create options may ask for privileges: privileged containers and added capabilities.
    pub elevated: bool,
}

impl ContainerConfig {
    /// The usual settings for the edge device `edge`: Docker's socket, names as they are in the manifest, the network
    /// `azure-iot-edge`, privileges allowed.
    pub fn new(edge: impl Into<String>) -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
            edge: edge.into(),
            name_prefix: String::new(),
            network: "azure-iot-edge".to_owned(),
            elevated: true,
        }
    }
}
