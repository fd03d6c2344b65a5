//! `skerry-hub`: the hub devices connect to. Reads its settings, starts its parts, says how to reach it.

#![forbid(unsafe_code)]

mod config;
mod greeting;
mod identity;
mod program;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::{Config, FIELDS};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The hub that edge devices and other devices connect to.
#[derive(Debug, Parser)]
#[command(name = "skerry-hub", version)]
struct Arguments {
    /// The configuration file (TOML). Without one the defaults hold; `SKERRY_*` variables override either.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the hub keeps everything. Overrides `data_dir`.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// The hub's host name. Overrides `name`.
    #[arg(long, value_name = "HOST", global = true)]
    name: Option<String>,
    /// Where to listen for MQTT. Overrides `listen.mqtt`.
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    listen_mqtt: Vec<String>,
    /// Where to listen for HTTPS. Overrides `listen.https`.
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    listen_https: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration, say what is wrong with it, and start nothing.
    CheckConfig,
    /// Print a configuration file with every setting explained.
    SampleConfig,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::SampleConfig) = arguments.command {
        print!("{}", skerry_daemon::sample(FIELDS));
        return ExitCode::SUCCESS;
    }
    let loaded = match skerry_daemon::load::<Config>(arguments.config.as_deref(), FIELDS, std::env::vars()) {
        Ok(loaded) => loaded,
        Err(refused) => return skerry_daemon::refuse(&refused),
    };
    let mut config = loaded.config;
    config.override_with(arguments.data_dir, arguments.name, arguments.listen_mqtt, arguments.listen_https);
    let settings = match config.check() {
        Ok(settings) => settings,
        Err(refused) => return skerry_daemon::refuse(&refused),
    };
    if let Err(refused) = config.log.check() {
        return skerry_daemon::refuse(&refused);
    }
    if let Some(Command::CheckConfig) = arguments.command {
        println!("the configuration is good");
        return ExitCode::SUCCESS;
    }
    if let Err(refused) = skerry_daemon::start_logging(&config.log) {
        return skerry_daemon::refuse(&refused);
    }
    for name in &loaded.ignored_environment {
        tracing::warn!(name, "an environment variable means nothing to the hub");
    }
    skerry_daemon::run(async |daemon| program::run(settings, daemon).await)
}
