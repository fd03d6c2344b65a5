//! The engine, asked beside the edge under test: through its own command line.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use serde_json::Value;

/// The engine that the edges of these tests use.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// Runs `docker` and hands back what it printed.
///
/// # Panics
/// When it fails, with what it said.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    try_docker(arguments).unwrap_or_else(|error| panic!("docker {}: {error}", arguments.join(" ")))
}

pub(crate) fn try_docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker")
        .args(["--host", &format!("unix://{SOCKET}")])
        .args(arguments)
        .output()
        .map_err(|cause| format!("cannot be started: {cause}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// The image of a module as `cargo xtask images` makes it.
///
/// # Panics
/// When there is no engine or it has no such image; says how to get either.
#[track_caller]
pub(crate) fn image(module: &str) -> String {
    if let Err(error) = try_docker(&["version", "--format", "{{.Server.Version}}"]) {
        panic!("these tests need a Docker Engine at {SOCKET} (`cargo xtask test` installs and starts one): {error}");
    }
    let image = format!("skerry/{module}:{}", env!("CARGO_PKG_VERSION"));
    if let Err(error) = try_docker(&["image", "inspect", &image]) {
        panic!("{image} is not in the engine (`cargo xtask images` makes it): {error}");
    }
    image
}

/// The engine's own word about a container; nothing when there is none of that name.
pub(crate) fn container(name: &str) -> Option<Value> {
    let text = try_docker(&["container", "inspect", "--format", "{{json .}}", name]).ok()?;
    serde_json::from_str(&text).ok()
}

/// An address of this machine that every container reaches, whatever network it is in.
#[track_caller]
pub(crate) fn reachable_from_containers() -> IpAddr {
    let inspect = |what: &str| {
        let format = format!("{{{{(index .IPAM.Config 0).{what}}}}}");
        docker(&["network", "inspect", "bridge", "--format", &format])
    };
    let gateway = inspect("Gateway");
    if let Ok(gateway) = gateway.parse() {
        return gateway;
    }
    // An engine that made this network in its first life names no gateway yet; it is the first address.
    let subnet = inspect("Subnet");
    let network: Option<Ipv4Addr> = subnet.split_once('/').and_then(|(network, _)| network.parse().ok());
    let Some(network) = network else {
        panic!("the engine's default network has neither gateway nor subnet: {gateway:?}, {subnet:?}");
    };
    Ipv4Addr::from_bits(network.to_bits() + 1).into()
}

/// Removes what an edge left in the engine: its containers, its network.
pub(crate) struct Leftovers {
    pub(crate) edge: String,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let filter = format!("label=io.skerry.edge={}", self.edge);
        let of = |what: &[&str]| {
            let text = try_docker(&[what, &["--quiet", "--filter", &filter]].concat()).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        for container in of(&["ps", "--all"]) {
            if std::thread::panicking() {
                let said = Command::new("docker").args(["logs", "--tail", "40", &container]).output();
                let said = said.map(|said| [said.stdout, said.stderr].concat()).unwrap_or_default();
                eprintln!("--- container {container}\n{}", String::from_utf8_lossy(&said));
            }
            let _ = try_docker(&["rm", "--force", "--volumes", &container]);
        }
        for network in of(&["network", "ls"]) {
            let _ = try_docker(&["network", "rm", &network]);
        }
    }
}
