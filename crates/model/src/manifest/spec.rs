//! One module as it should be: what to run, with what around it, and when.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::json::JsonObject;
use crate::{Json, ModuleName};

/// One module as the manifest wants it.
#[derive(Clone, PartialEq)]
pub struct ModuleSpec {
    /// The module's name; `$edgeAgent` and `$edgeHub` for the system modules.
    pub name: ModuleName,
    /// What runs.
    pub artifact: Artifact,
    /// Environment variables the manifest gives it.
    pub env: BTreeMap<String, String>,
    /// Whether it should run.
    pub status: DesiredStatus,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// When it is started relative to the others.
    pub startup_order: StartupOrder,
    /// The operator's version; a change alone makes the module anew.
    pub version: String,
}

impl ModuleSpec {
    /// What makes a module "the same": every field but the desired status, in one stable text (keys sorted, no spaces).
    /// A module whose text differs is made anew (`edge-agent` §1, diff rules). It holds environment values: not for logs.
    pub fn digest_text(&self) -> String {
        let mut text = String::from("1;");
        let artifact = match &self.artifact {
            Artifact::Image(image) => serde_json::json!({
                "type": "docker",
                "image": image.image,
                "digest": image.digest,
                "createOptions": image.create_options,
                "pull": image.pull.as_str(),
            }),
            Artifact::Process(process) => serde_json::json!({
                "type": "process",
                "command": process.command,
                "args": process.args,
                "workingDirectory": process.working_directory,
                "limits": [
                    process.limits.memory_bytes,
                    process.limits.cpu_millis,
                    process.limits.open_files,
                    process.limits.processes,
                ],
            }),
        };
        let spec = serde_json::json!({
            "name": self.name.as_str(),
            "artifact": artifact,
            "env": self.env,
            "restart": self.restart.as_str(),
            "startupOrder": self.startup_order.0,
            "version": self.version,
        });
        write_sorted(&spec, &mut text);
        text
    }

    /// A short name for [`digest_text`](Self::digest_text), to be kept with the running module for adoption.
    pub fn digest(&self) -> SpecDigest {
        SpecDigest::of(&self.digest_text())
    }
}

impl fmt::Debug for ModuleSpec {
    /// With the names but not the values of environment variables: they often hold secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ModuleSpec")
            .field("name", &self.name)
            .field("artifact", &self.artifact)
            .field("env", &self.env.keys())
            .field("status", &self.status)
            .field("restart", &self.restart)
            .field("startup_order", &self.startup_order)
            .field("version", &self.version)
            .finish()
    }
}

/// What a module runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Artifact {
    /// `type: docker`: a container image.
    Image(ImageArtifact),
    /// `type: process`: a program of this machine.
    Process(ProcessArtifact),
}

impl Artifact {
    /// The manifest's word: `docker` or `process`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "docker",
            Self::Process(_) => "process",
        }
    }
}

/// A container image and how to make a container of it.
#[derive(Clone, PartialEq)]
pub struct ImageArtifact {
    /// Name with tag or digest, `$upstream` already replaced.
    pub image: String,
    /// `settings.digest`: the content that is expected, `sha256:…`.
    pub digest: Option<String>,
    /// Body of the engine's create call, with every field the manifest gave, known to us or not.
    pub create_options: JsonObject,
    /// When the image is fetched.
    pub pull: PullPolicy,
}

impl fmt::Debug for ImageArtifact {
    /// With the names but not the values of the create options: they often hold secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<_> = self.create_options.keys().collect();
        out.debug_struct("ImageArtifact")
            .field("image", &self.image)
            .field("digest", &self.digest)
            .field("create_options", &options)
            .field("pull", &self.pull)
            .finish()
    }
}

/// A program of this machine (`settings` of a module of type `process`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessArtifact {
    /// Absolute path of the program.
    pub command: String,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
    /// Absolute path of the folder it starts in; `None`: a private folder of the module.
    pub working_directory: Option<String>,
    /// What it may use.
    pub limits: ProcessLimits,
}

/// What a process module may use; `None` is no limit of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessLimits {
    /// Memory of the whole group, in bytes; at least 1.
    pub memory_bytes: Option<u64>,
    /// Processor time, in thousandths of one processor; at least 1.
    pub cpu_millis: Option<u32>,
    /// Open files of each process; at least 1.
    pub open_files: Option<u64>,
    /// Processes of the whole group; at least 1.
    pub processes: Option<u64>,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),* }) => {
        impl $type {
            /// Reads the manifest's word, in any case.
            pub fn parse(text: &str) -> Option<Self> {
                [$(Self::$variant),*].into_iter().find(|value| value.as_str().eq_ignore_ascii_case(text))
            }

            /// The manifest's word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PullPolicy {
    /// Before a container is created.
    #[default]
    OnCreate,
    /// Never: it must be on the machine.
    Never,
}
words!(PullPolicy { OnCreate = "on-create", Never = "never" });

/// When a module that ended is started again (`edge-deployment-manifest` §2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestartPolicy {
    /// Not by policy.
    Never,
    /// When it failed.
    OnFailure,
    /// When it failed or is unhealthy.
    #[default]
    OnUnhealthy,
    /// Whenever it does not run.
    Always,
}
words!(RestartPolicy { Never = "never", OnFailure = "on-failure", OnUnhealthy = "on-unhealthy", Always = "always" });

/// How a module is, in the words of the reported properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuntimeStatus {
    /// Cannot be told.
    Unknown,
    /// Runs.
    Running,
    /// Made but not running, or ended without error.
    Stopped,
    /// Ended with an error.
    Failed,
    /// Waits for its next start.
    Backoff,
    /// Runs, but its health check fails.
    Unhealthy,
    /// Beyond repair: to be removed and made anew.
    Dead,
}
words!(RuntimeStatus {
    Unknown = "unknown",
    Running = "running",
    Stopped = "stopped",
    Failed = "failed",
    Backoff = "backoff",
    Unhealthy = "unhealthy",
    Dead = "dead"
});

/// Whether a module should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DesiredStatus {
    /// It should.
    Running,
    /// It should exist, but not run.
    Stopped,
    /// One of the other status words: taken as the original runtime does, and without effect.
    AsItIs(RuntimeStatus),
}

impl DesiredStatus {
    /// Reads the manifest's word, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        RuntimeStatus::parse(text).map(|status| match status {
            RuntimeStatus::Running => Self::Running,
            RuntimeStatus::Stopped => Self::Stopped,
            RuntimeStatus::Unknown
            | RuntimeStatus::Failed
            | RuntimeStatus::Backoff
            | RuntimeStatus::Unhealthy
            | RuntimeStatus::Dead => Self::AsItIs(status),
        })
    }

    /// The manifest's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::AsItIs(status) => status.as_str(),
        }
    }
}

/// When a module is started relative to the others: lower numbers first. It orders attempts; nobody waits for "ready".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartupOrder(pub u32);

impl StartupOrder {
    /// What a module without the field has: last, together with all such.
    pub const LAST: Self = Self(u32::MAX);
}

impl Default for StartupOrder {
    fn default() -> Self {
        Self::LAST
    }
}

/// Names the content of a [`ModuleSpec`], so that a running module can be compared with a wanted one.
/// Tells changes apart, is no protection against somebody who looks for a collision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpecDigest(u128);

impl SpecDigest {
    /// FNV-1a over 128 bits.
    pub fn of(text: &str) -> Self {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        Self(text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
    }

    /// Reads the 32 hexadecimal digits it is written as.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
    }
}

impl fmt::Display for SpecDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl fmt::Debug for SpecDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// JSON with the keys of every object sorted, so that equal values give equal texts. Depth is bounded by whoever read the value.
fn write_sorted(value: &Json, out: &mut String) {
    match value {
        Json::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            out.push('{');
            for (at, (key, member)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                // Writing to a string cannot fail.
                let _ = write!(out, "{}:", Json::from(key.as_str()));
                write_sorted(member, out);
            }
            out.push('}');
        }
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        scalar @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
            let _ = write!(out, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(options: &str) -> ModuleSpec {
        ModuleSpec {
            name: ModuleName::parse("m").unwrap(),
            artifact: Artifact::Image(ImageArtifact {
                image: "reg.example/m:1".to_owned(),
                digest: None,
                create_options: serde_json::from_str(options).unwrap(),
                pull: PullPolicy::OnCreate,
            }),
            env: BTreeMap::from([("KEY".to_owned(), "hidden".to_owned())]),
            status: DesiredStatus::Running,
            restart: RestartPolicy::Always,
            startup_order: StartupOrder::LAST,
            version: "1.0".to_owned(),
        }
    }

    #[test]
    fn the_digest_tells_changes_from_rearrangements() {
        let one = spec(r#"{"a":{"x":1,"y":[1,2]},"b":"secret"}"#);
        let rearranged = spec(r#"{"b":"secret","a":{"y":[1,2],"x":1}}"#);
        let other = spec(r#"{"a":{"x":1,"y":[2,1]},"b":"secret"}"#);
        assert_eq!(one.digest(), rearranged.digest());
        assert_ne!(one.digest(), other.digest());
        assert_eq!(one.digest(), ModuleSpec { status: DesiredStatus::Stopped, ..one.clone() }.digest());
        assert_ne!(one.digest(), ModuleSpec { version: "1.1".to_owned(), ..one.clone() }.digest());
        assert_eq!(SpecDigest::parse(&one.digest().to_string()), Some(one.digest()));
        assert_eq!(SpecDigest::parse("+123456789012345678901234567890ab"), None);
        assert!(!format!("{one:?}").contains("hidden") && !format!("{one:?}").contains("secret"));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(SpecDigest::of("").to_string(), "6c62272e07bb014262b821756295c58d");
        assert_eq!(SpecDigest::of("a").to_string(), "d228cb696f1a8caf78912b704e4a8964");
    }

    #[test]
    fn words_are_read_in_any_case() {
        assert_eq!(RestartPolicy::parse("On-Unhealthy"), Some(RestartPolicy::OnUnhealthy));
        assert_eq!(RestartPolicy::parse("sometimes"), None);
        assert_eq!(DesiredStatus::parse("stopped"), Some(DesiredStatus::Stopped));
        assert_eq!(DesiredStatus::parse("dead").map(DesiredStatus::as_str), Some("dead"));
        assert_eq!(PullPolicy::parse("always"), None);
    }
}
