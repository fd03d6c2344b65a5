//! An edge's identity against a hub that answers from a script, and modules that ask over real sockets.

#![allow(clippy::unwrap_used, reason = "it is a test")]

mod hub;
mod identities;
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skerry_dialect::connection_string::ClientConnection;
use skerry_dialect::management::ManagedModule;
use skerry_edge_identity::{
    AuthoritySource, CallerCheck, EdgeIdentity, IdentityConfig, IdentityError, IdentityParts, Lifetimes, ModuleListing,
};
use skerry_model::ModuleName;
use skerry_net::Clock;
use skerry_net::http::HttpClient;
use skerry_pki::Random;

pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

pub(crate) fn module(name: &str) -> ModuleName {
    ModuleName::parse(name).unwrap()
}

pub(crate) fn config(folder: &Path) -> IdentityConfig {
    let connection = format!("HostName=Hub.example.net:8443;DeviceId=edge1;SharedAccessKey={KEY}");
    IdentityConfig {
        connection: ClientConnection::parse(&connection).unwrap(),
        data_folder: folder.join("data"),
        workload_folder: folder.join("workload"),
        authority: AuthoritySource::MadeHere,
        extra_trust: None,
        lifetimes: Lifetimes::default(),
    }
}

/// Whether the caller check says yes.
pub(crate) type Door = Arc<AtomicBool>;

pub(crate) fn open(
    config: &IdentityConfig,
    hub: HttpClient,
    clock: Clock,
) -> (Result<EdgeIdentity, IdentityError>, Door) {
    let door = Door::new(AtomicBool::new(true));
    let asked = Arc::clone(&door);
    let parts = IdentityParts {
        clock,
        random: Random::seeded(7),
        hub,
        caller_check: CallerCheck::new(move |_, peer| {
            let open = asked.load(Ordering::Relaxed);
            async move { open && peer.pid == Some(std::process::id() as i32) }
        }),
        modules: ModuleListing::new(|| async {
            vec![ManagedModule {
                name: "sensor".into(),
                kind: "process".into(),
                image: "/bin/sensor".into(),
                status: "running".into(),
                description: String::new(),
                started: None,
                exited: None,
                exit_code: None,
            }]
        }),
    };
    (EdgeIdentity::open(config, parts), door)
}
