//! The container runtime: on a scripted engine, and on a real one.
//!
//! The real engine is a Docker engine, and it must be there: without one these tests fail. `SKERRY_TEST_DOCKER` names its
//! socket (default `/var/run/docker.sock`). On Debian: `apt-get install docker.io iptables docker-registry busybox-static`,
//! and, where no service starts it, `dockerd` as root; it needs no options, with control groups of either version.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is a test")]

mod containers;
mod engine;
mod outage;
mod registry;
mod scripted;

mod conformance {
    skerry_module_runtime::conformance_suite!(crate::engine::World);
}
