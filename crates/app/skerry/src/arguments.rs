//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use skerry_model::{ClientId, DeviceId, FeedbackRequest, ModuleName};

use crate::profile::DEFAULT;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line makes no sense
  3  the device, module or address does not exist
  4  not logged in, or not allowed
  5  the hub or edge cannot be reached";

/// Work with a Skerry hub, its devices and the edge on this machine.
#[derive(Debug, Parser)]
#[command(name = "skerry", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Print JSON for programs: one document, or one per line where output goes on.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The saved login to use.
    #[arg(long, global = true, env = "SKERRY_PROFILE", default_value = DEFAULT, value_name = "NAME")]
    pub(crate) profile: String,
    /// How long an answer may take, in seconds.
    #[arg(long, global = true, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remember how to reach a hub.
    Login(Login),
    /// Devices of the hub.
    #[command(subcommand)]
    Device(Device),
    /// Modules of a device.
    #[command(subcommand)]
    Module(Module),
    /// The documents that stand for devices and modules.
    #[command(subcommand)]
    Twin(Twin),
    /// Methods of devices and modules.
    #[command(subcommand)]
    Method(Method),
    /// Messages to devices.
    #[command(subcommand)]
    Message(Message),
    /// Messages as a device, for trying things.
    #[command(subcommand)]
    Telemetry(Telemetry),
    /// What an edge device shall run.
    #[command(subcommand)]
    Deploy(Deploy),
    /// Show what devices send, as it arrives.
    Events(Events),
    /// The edge on this machine.
    Edge(Edge),
    /// Print a completion script, for example `skerry completions bash > /etc/bash_completion.d/skerry`.
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["connection_string", "hub_dir"]))]
pub(crate) struct Login {
    /// The connection string of a hub policy; `-` reads it from standard input, where nobody else sees it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) connection_string: Option<String>,
    /// The data folder of a hub on this machine.
    #[arg(long, value_name = "DIR")]
    pub(crate) hub_dir: Option<PathBuf>,
    /// The authority that signed the hub's certificate (PEM); without it those that the system trusts.
    #[arg(long, value_name = "FILE", conflicts_with = "hub_dir")]
    pub(crate) ca: Option<PathBuf>,
    /// Save the login without trying it.
    #[arg(long)]
    pub(crate) untried: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// Create a device.
    Create {
        /// Its id.
        id: DeviceId,
        /// It runs modules and is a gateway.
        #[arg(long)]
        edge: bool,
        /// The edge device it connects through.
        #[arg(long, value_name = "EDGE")]
        parent: Option<DeviceId>,
        /// It may not connect until it is enabled.
        #[arg(long)]
        disabled: bool,
    },
    /// List devices.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
        top: u32,
    },
    /// Show a device; with --json also its keys.
    Show {
        /// Its id.
        id: DeviceId,
    },
    /// Delete a device with its modules, twins and waiting messages.
    Delete {
        /// Its id.
        id: DeviceId,
    },
    /// Print what a device or module needs to connect. It holds the key.
    ConnectionString {
        /// `device` or `device/module`.
        client: ClientId,
        /// With the second key.
        #[arg(long)]
        secondary: bool,
        /// The host name of the edge device it connects through.
        #[arg(long, value_name = "HOST")]
        gateway: Option<String>,
    },
    /// Show who is connected to the hub, who was refused and why.
    Connections,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Module {
    /// List the modules of a device.
    List {
        /// The device.
        device: DeviceId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Twin {
    /// Show a twin; with --json all of it.
    Show {
        /// `device` or `device/module`.
        client: ClientId,
        /// Also when each property was changed.
        #[arg(long)]
        metadata: bool,
    },
    /// Merge into desired properties and tags; null deletes.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["desired", "tags"]))]
    Update {
        /// `device` or `device/module`.
        client: ClientId,
        /// Desired properties: JSON, `@file`, or `-` for standard input.
        #[arg(long, value_name = "JSON")]
        desired: Option<String>,
        /// Tags: JSON, `@file`, or `-` for standard input.
        #[arg(long, value_name = "JSON")]
        tags: Option<String>,
        /// Replace both whole instead of merging; what is not given becomes empty.
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Method {
    /// Call a method and print its answer.
    Invoke {
        /// `device` or `device/module`.
        client: ClientId,
        /// The method's name.
        name: String,
        /// What to hand over: JSON, `@file`, or `-` for standard input.
        #[arg(long, value_name = "JSON")]
        payload: Option<String>,
        /// How long the method may take, in seconds.
        #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=300))]
        response_timeout: u64,
        /// How long to wait for the device to come online, in seconds.
        #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=300))]
        connect_timeout: u64,
    },
}

/// What a message consists of.
#[derive(Debug, Args)]
pub(crate) struct Content {
    /// The payload: text, `@file`, or `-` for standard input.
    #[arg(long, short, default_value = "", value_name = "TEXT")]
    pub(crate) body: String,
    /// An application property; may be given more than once.
    #[arg(long = "property", short, value_name = "NAME=VALUE", value_parser = property)]
    pub(crate) properties: Vec<(String, String)>,
    /// A name for the message.
    #[arg(long, value_name = "ID")]
    pub(crate) message_id: Option<String>,
    /// What kind of payload it is, for example application/json.
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a property is NAME=VALUE".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Ack {
    None,
    Positive,
    Negative,
    Full,
}

impl From<Ack> for FeedbackRequest {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::None => Self::None,
            Ack::Positive => Self::Positive,
            Ack::Negative => Self::Negative,
            Ack::Full => Self::Full,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Message {
    /// Put a message into a device's queue.
    Send {
        /// The device.
        device: DeviceId,
        #[command(flatten)]
        content: Content,
        /// Which feedback is wanted.
        #[arg(long, value_enum, default_value_t = Ack::None)]
        ack: Ack,
        /// Throw it away when it was not taken after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Telemetry {
    /// Send a message as a device or module, over HTTPS with its own key.
    Send {
        /// `device` or `device/module`.
        client: ClientId,
        #[command(flatten)]
        content: Content,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Deploy {
    /// Check a manifest and hand it to an edge device.
    Apply {
        /// The edge device.
        device: DeviceId,
        /// The manifest (JSON).
        #[arg(long, short, value_name = "FILE")]
        manifest: PathBuf,
    },
    /// Only check a manifest.
    Check {
        /// The manifest (JSON).
        #[arg(long, short, value_name = "FILE")]
        manifest: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only those of this device and its modules.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceId>,
    /// Only those of this module.
    #[arg(long, value_name = "MODULE", requires = "device")]
    pub(crate) module: Option<ModuleName>,
    /// Where to begin: `now`, `oldest`, a date and time such as 2026-05-01T10:00:00Z, or partition:sequence.
    #[arg(long, default_value = "now", value_name = "WHERE")]
    pub(crate) from: String,
    /// Only this partition.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) partition: Option<u16>,
    /// End after so many.
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End when there are no more instead of waiting for new ones.
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Show properties too.
    #[arg(long)]
    pub(crate) properties: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Edge {
    /// The edge's local socket; by default `management.sock` in its data folder.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The edge's data folder.
    #[arg(long, global = true, env = "SKERRY_EDGE_DIR", value_name = "DIR")]
    pub(crate) edge_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: EdgeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EdgeCommand {
    /// List the modules on this machine.
    List,
    /// Print what a module wrote.
    Logs {
        /// The module.
        module: ModuleName,
        /// Go on as it writes more.
        #[arg(long, short)]
        follow: bool,
        /// Only the last so many lines.
        #[arg(long, value_name = "LINES")]
        tail: Option<u64>,
        /// Only what was written since: a date and time, or seconds since 1970.
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
    },
    /// Stop a module and start it again.
    Restart {
        /// The module.
        module: ModuleName,
    },
    /// Show how the edge fares, who is connected to it, who was refused and why.
    Status,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
