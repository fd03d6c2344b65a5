//! `skerry-edge`: the edge runtime. Reads its settings, starts the parts of its role.

#![forbid(unsafe_code)]

mod agent;
mod beside;
mod config;
mod entrances;
mod local_hub;
mod log_level;
mod program;
mod surroundings;
mod view;
mod wishes;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use config::{Config, FIELDS};
use log_level::LogLevel;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// First argument of the process that watches over a process module.
const SUPERVISE: &str = "supervise";

/// The edge runtime: runs modules, serves them and devices beside them, and works without its hub.
#[derive(Debug, Parser)]
#[command(name = "skerry-edge", version)]
struct Arguments {
    /// The configuration file (TOML). `SKERRY_*` variables override it.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the edge keeps everything. Overrides `data_dir`.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Which duties this process has.
    #[arg(long, value_enum, default_value_t = Role::All, global = true)]
    role: Role,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The duties of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Both.
    All,
    /// Identities, workload API, modules; listens to nothing but local sockets.
    Agent,
    /// The local hub; reaches its identity through the workload API (`IOTEDGE_*` variables, as any module), which an agent
    /// beside it writes into a file.
    Hub,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration, say what is wrong with it, and start nothing.
    CheckConfig,
    /// Print a configuration file with every setting explained.
    SampleConfig,
}

fn main() -> ExitCode {
    // Before anything else is started: the supervisor of a module has to stay tiny.
    let mut given = std::env::args_os();
    if given.nth(1).as_deref() == Some(OsStr::new(SUPERVISE)) {
        return skerry_process::supervisor_main(given);
    }
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
    config.override_with(arguments.data_dir);
    let settings = match config.check(arguments.role) {
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
    let control = match skerry_daemon::start_logging(&config.log) {
        Ok(control) => control,
        Err(refused) => return skerry_daemon::refuse(&refused),
    };
    for name in &loaded.ignored_environment {
        tracing::warn!(name, "an environment variable means nothing to the edge");
    }
    let log_level = LogLevel::new(control, config.log.level, arguments.role == Role::Hub);
    skerry_daemon::run(async |daemon| program::run(settings, arguments.role, log_level, daemon).await)
}
