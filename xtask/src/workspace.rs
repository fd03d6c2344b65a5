//! The workspace as cargo sees it: packages, where they lie, what they depend on.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::run::{Outcome, Run};

/// The repository and its packages.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One package of ours.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Relative to the repository, with `/`.
    pub(crate) folder: String,
    pub(crate) features: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) for_tests: bool,
    /// A package of this workspace.
    pub(crate) ours: bool,
    pub(crate) features: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) kind: String,
    /// Relative to the repository.
    pub(crate) source: String,
}

impl Workspace {
    pub(crate) fn load() -> Outcome<Workspace> {
        // What `cargo run` says now: several checkouts may share the folder that this program was built in.
        let here = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("to be run as `cargo xtask`")?;
        let here = Path::new(&here);
        let text = Run::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .folder(here.parent().unwrap_or(here))
            .text()?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Outcome<Workspace> {
        let metadata: Metadata =
            serde_json::from_str(text).map_err(|cause| format!("cannot read what cargo metadata printed: {cause}"))?;
        let root = metadata.workspace_root;
        let relative = |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
        let packages = metadata.packages.iter().map(|package| Package {
            name: package.name.clone(),
            description: package.description.clone().unwrap_or_default(),
            folder: package.manifest_path.parent().map(relative).unwrap_or_default(),
            features: package.features.keys().cloned().collect(),
            dependencies: package.dependencies.iter().map(RawDependency::to_dependency).collect(),
            targets: package
                .targets
                .iter()
                .flat_map(|target| {
                    target.kind.iter().map(|kind| Target { kind: kind.clone(), source: relative(&target.src_path) })
                })
                .collect(),
        });
        let packages = packages.collect();
        Ok(Workspace { root, target: metadata.target_directory, packages })
    }

    /// Where the tools and logs of these tasks live; `cargo clean` takes them along.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Files of the repository, tracked or new, that are not ignored; relative to its root.
    pub(crate) fn files(&self) -> Outcome<Vec<String>> {
        let listed = Run::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .folder(&self.root)
            .text()?;
        let mut files: Vec<String> = listed.split('\0').filter(|file| !file.is_empty()).map(str::to_owned).collect();
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// The cargo that started us, so that the pinned toolchain is kept.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    description: Option<String>,
    manifest_path: PathBuf,
    features: std::collections::BTreeMap<String, Vec<String>>,
    dependencies: Vec<RawDependency>,
    targets: Vec<RawTarget>,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
    features: Vec<String>,
}

impl RawDependency {
    fn to_dependency(&self) -> Dependency {
        Dependency {
            name: self.name.clone(),
            for_tests: self.kind.as_deref() == Some("dev"),
            ours: self.path.is_some(),
            features: self.features.clone(),
        }
    }
}

#[derive(Deserialize)]
struct RawTarget {
    kind: Vec<String>,
    src_path: PathBuf,
}
