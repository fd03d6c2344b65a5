//! The programs as they ship: release, static on musl, stripped. Demo, images, budgets and benchmarks all use this one build.

use std::path::PathBuf;

use crate::run::{Outcome, Run};
use crate::workspace::{Workspace, cargo};

/// Rust's name for this machine's processor with musl as its C library.
fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Builds these packages' programs; the folder they are in.
pub(crate) fn build(workspace: &Workspace, packages: &[&str]) -> Outcome<PathBuf> {
    let target = target();
    let add = Run::new("rustup").args(["target", "add", &target]).folder(&workspace.root);
    add.into_file(&workspace.tools().join("rustup.log"))?;
    let mut build = Run::new(cargo()).args(["build", "--release", "--locked", "--bins", "--target", &target]);
    for package in packages {
        build = build.args(["--package", package]);
    }
    build.folder(&workspace.root).go()?;
    Ok(workspace.target.join(target).join("release"))
}
