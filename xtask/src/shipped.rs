//! The programs as they ship: release, static on musl, stripped. Demo, images, budgets and benchmarks all use this one build.

use std::path::PathBuf;

use crate::run::{Outcome, Run};
use crate::workspace::{Workspace, cargo};

/// Packages with a program of their name: those that ship, and those that show and measure them. They are always built
/// together: another choice would mean other features of what they share, and so a build of its own.
const PACKAGES: [&str; 8] = [
    "skerry-edge",
    "skerry-hub",
    "skerry",
    "host-metrics",
    "simulated-temperature-sensor",
    "threshold-filter",
    "skerry-demo",
    "skerry-bench-broker",
];

/// Rust's name for this machine's processor with musl as its C library.
fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Builds all of them; the folder they are in.
pub(crate) fn build(workspace: &Workspace) -> Outcome<PathBuf> {
    let target = target();
    let add = Run::new("rustup").args(["target", "add", &target]).folder(&workspace.root);
    add.into_file(&workspace.tools().join("rustup.log"))?;
    let mut build = Run::new(cargo()).args(["build", "--release", "--locked", "--bins", "--target", &target]);
    for package in PACKAGES {
        build = build.args(["--package", package]);
    }
    build.folder(&workspace.root).go()?;
    Ok(workspace.target.join(target).join("release"))
}
