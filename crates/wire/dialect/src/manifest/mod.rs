//! Deployment manifests: what an operator writes, what `$edgeAgent` and `$edgeHub` receive of it, and how a bad document is
//! answered (`edge-deployment-manifest`). Everything wrong with a document is found in one go, each with its path.

mod agent;
mod create_options;
mod hub;
mod image;
mod locate;
mod module;
mod operator;
mod reader;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;

pub use agent::{AgentFault, agent};
pub use create_options::{CHUNK_CHARS, chunks};
pub use hub::{HubFault, RouteCheck, hub};
pub use image::{InvalidImage, address, image};
pub use operator::{OperatorManifest, operator};
pub use settings::{env, settings};

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The keys that lead to it, outermost first; empty for the document itself.
    pub path: Vec<String>,
    /// What is wrong there; never holds a password or the value of an environment variable.
    pub reason: String,
    /// Line and column in the text it was read from, both from 1; `None` when there was no text.
    pub place: Option<(usize, usize)>,
}

impl fmt::Display for ManifestError {
    /// `line 12: modules.m.settings.image: an image name is missing`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, _)) = self.place {
            write!(out, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path.join("."))?;
        }
        out.write_str(&self.reason)
    }
}

impl std::error::Error for ManifestError {}
