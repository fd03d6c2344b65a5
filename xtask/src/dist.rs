//! `cargo xtask dist`: the programs as they ship, in one folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::machine;
use crate::run::Outcome;
use crate::shipped;
use crate::workspace::Workspace;

/// The programs that make up a release.
pub(crate) const PROGRAMS: [&str; 3] = ["skerry-edge", "skerry-hub", "skerry"];

/// Builds, copies and checks; prints where they are and how large.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    install_missing(workspace, &[shipped::MUSL])?;
    let built = shipped::build(workspace)?;
    let folder = workspace.target.join("dist");
    fs::create_dir_all(&folder).map_err(|cause| format!("cannot create {}: {cause}", folder.display()))?;
    for name in PROGRAMS {
        let program = copy(&built, &folder, name)?;
        println!("{:>6.2} MB  {}", shipped::check(&program)? as f64 / 1e6, program.display());
    }
    Ok(())
}

/// Installs what the tasks of this repository need when one of the programs named here is not there.
pub(crate) fn install_missing(workspace: &Workspace, programs: &[&str]) -> Outcome {
    if programs.iter().all(|program| Path::new(program).exists()) {
        return Ok(());
    }
    machine::prepare(workspace).map(drop)
}

fn copy(from: &Path, to: &Path, name: &str) -> Outcome<PathBuf> {
    let (from, to) = (from.join(name), to.join(name));
    // A running program cannot be written over, but replaced.
    let beside = to.with_extension("new");
    fs::copy(&from, &beside)
        .and_then(|_| fs::rename(&beside, &to))
        .map_err(|cause| format!("cannot copy {} to {}: {cause}", from.display(), to.display()))?;
    Ok(to)
}
