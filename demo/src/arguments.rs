//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use skerry_model::{DeviceId, ModuleName};

/// Load, comparison and live view for the demonstration of Skerry.
#[derive(Debug, Parser)]
#[command(name = "skerry-demo", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send numbered messages to an edge until standard input ends, and note in a ledger what was acknowledged.
    Load(Load),
    /// Read everything that arrived at the hub and compare it with the ledgers.
    Check(Check),
    /// Show what arrives at the hub, with the time it took.
    Watch(Watch),
}

/// Which hub and which edge device it is about.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The data folder of the hub.
    #[arg(long, value_name = "DIR")]
    pub(crate) hub_dir: PathBuf,
    /// The edge device.
    #[arg(long, value_name = "ID")]
    pub(crate) device: DeviceId,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Address or name of the edge's local hub, as it is in its certificate.
    #[arg(long, value_name = "HOST")]
    pub(crate) edge: String,
    /// Its port for MQTT over TLS.
    #[arg(long, default_value_t = 8883, value_name = "PORT")]
    pub(crate) port: u16,
    /// The certificate that the edge's leads to.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: PathBuf,
    /// Modules that send; made at the hub when they are missing.
    #[arg(long, value_delimiter = ',', required = true, value_name = "MODULES")]
    pub(crate) senders: Vec<ModuleName>,
    /// Those of them whose messages a route also leads to the sink.
    #[arg(long, value_delimiter = ',', value_name = "MODULES")]
    pub(crate) local: Vec<ModuleName>,
    /// The module that receives them.
    #[arg(long, default_value = "load-sink", value_name = "MODULE")]
    pub(crate) sink: ModuleName,
    /// The output that is sent to.
    #[arg(long, default_value = "load", value_name = "NAME")]
    pub(crate) output: String,
    /// Messages a second of each sender.
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Bytes of a message's body, at least.
    #[arg(long, default_value_t = 256, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=200_000))]
    pub(crate) bytes: u32,
    #[command(flatten)]
    pub(crate) run: Run,
}

/// Where the ledgers are, and which run it is.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Folder of the ledgers.
    #[arg(long, value_name = "DIR")]
    pub(crate) ledgers: PathBuf,
    /// Number of the run; each has a ledger of its own.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) run: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) run: Run,
    /// How long what is missing may take to arrive, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) wait: u64,
    /// The module whose measurements are passed on by `--filter`.
    #[arg(long, requires = "filter", value_name = "MODULE")]
    pub(crate) source: Option<ModuleName>,
    /// The module that passes on each measurement of `--source`, known by the same `time`.
    #[arg(long, requires = "source", value_name = "MODULE")]
    pub(crate) filter: Option<ModuleName>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) place: Place,
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
