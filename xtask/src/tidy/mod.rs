//! The rules no compiler knows (ARCHITECTURE.md, section 1): layers, allowed crates, lint files, file heads, words.

mod imports;
mod layers;
mod lints;
mod manifests;
mod sources;

use std::fmt;
use std::fs;

use crate::run::Outcome;
use crate::tidy::layers::Layers;
use crate::workspace::Workspace;

/// One place that breaks one rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// A file, or `file:line`, relative to the repository.
    pub(crate) place: String,
    pub(crate) what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Finding { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Who may import whom.
pub(crate) fn layers(workspace: &Workspace) -> Outcome<Layers> {
    let path = workspace.root.join("layers.toml");
    Layers::parse(&fs::read_to_string(path).map_err(|cause| format!("cannot read layers.toml: {cause}"))?)
}

/// Checks everything and prints what it found.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let read = |path: &str| {
        fs::read_to_string(workspace.root.join(path)).map_err(|cause| format!("cannot read {path}: {cause}"))
    };
    let layers = layers(workspace)?;
    let mut findings = imports::check(&layers, &workspace.packages);
    for package in &workspace.packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        findings.extend(manifests::check(package, &manifest, &read(&manifest)?));
    }
    findings.extend(lints::check(&layers, &read("clippy.toml")?, |path| {
        fs::read_to_string(workspace.root.join(path)).ok()
    }));

    let files = workspace.files()?;
    let mut texts = Vec::new();
    for file in files.iter().filter(|file| sources::is_text(file)) {
        texts.push((file.as_str(), read(file)?));
    }
    for (file, text) in &texts {
        findings.extend(sources::check(file, text));
    }
    findings.extend(sources::check_roots(&layers, &workspace.packages, &texts));
    findings.extend(sources::check_ports(&layers, &workspace.packages, &texts));

    findings.sort();
    findings.dedup();
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} packages, {} files, nothing to say", workspace.packages.len(), texts.len());
            Ok(())
        }
        count => Err(format!("tidy has {count} finding{}", if count == 1 { "" } else { "s" })),
    }
}
