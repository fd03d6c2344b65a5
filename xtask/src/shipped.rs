//! The programs as they ship: release, static on musl, stripped. Demo, images, budgets and benchmarks all use this one build.

use std::path::{Path, PathBuf};

use crate::run::{Outcome, Run};
use crate::workspace::{Workspace, cargo};

/// Compiles the C parts of a static build; Debian has it in `musl-tools`.
pub(crate) const MUSL: &str = "/usr/bin/musl-gcc";

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
    release(workspace, &["--target", &target])?;
    Ok(workspace.target.join(target).join("release"))
}

/// The same for those who only want to see it run: where static programs cannot be made, for this machine's own C library.
pub(crate) fn build_to_try(workspace: &Workspace) -> Outcome<PathBuf> {
    if Path::new(MUSL).exists() {
        return build(workspace);
    }
    release(workspace, &[])?;
    Ok(workspace.target.join("release"))
}

fn release(workspace: &Workspace, more: &[&str]) -> Outcome {
    let mut build = Run::new(cargo()).args(["build", "--release", "--locked", "--bins"]).args(more);
    for package in PACKAGES {
        build = build.args(["--package", package]);
    }
    build.folder(&workspace.root).go()
}
