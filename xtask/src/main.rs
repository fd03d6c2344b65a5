//! `cargo xtask`: everything that is automated in this repository.

#![forbid(unsafe_code)]

mod background;
mod bench;
mod budget;
mod check;
mod compatibility;
mod demo;
mod dist;
mod engine;
mod images;
mod machine;
mod power_cuts;
mod run;
mod shipped;
mod stage;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::engine::Engine;
use crate::run::Outcome;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything that is automated in this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check a change as CI does: install what is needed, format, lints, layers, licences, documentation, every test
    Test(check::Options),
    /// Check the rules no compiler knows: layers, allowed crates, file heads, words
    Tidy,
    /// Write docs/reference/compatibility.md from tests/compatibility.toml, if the last test run shows what it claims
    Compatibility,
    /// Make the modules' container images in the Docker Engine, without any registry
    Images,
    /// Install what the tests need (Debian and Python packages) and stop there
    Prepare,
    /// Build the programs as they ship: static, stripped, in `target/dist`
    Dist,
    /// Measure the edge's size, memory, idle processor time and start, and hold them to their limits
    Budget(budget::Options),
    /// Run a hub, an edge and modules on this machine: to look at, or (`--once`) to be killed while every message is accounted for
    Demo(demo::Options),
    /// Cut the power of a simulated disk many times: the log and its queues must lose nothing that was acknowledged
    PowerCuts(power_cuts::Options),
    /// Measure how fast something is beside another of its kind
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Outcome {
    let workspace = Workspace::load()?;
    match task {
        Task::Test(options) => check::run(&workspace, &options),
        Task::Tidy => tidy::run(&workspace),
        Task::Compatibility => compatibility::run(&workspace),
        Task::Images => {
            machine::prepare(&workspace)?;
            let _engine = Engine::ensure(&workspace)?;
            images::make(&workspace)
        }
        Task::Prepare => machine::prepare(&workspace).map(drop),
        Task::Dist => dist::run(&workspace),
        Task::Budget(options) => budget::run(&workspace, &options),
        Task::Demo(options) => demo::run(&workspace, &options),
        Task::PowerCuts(options) => power_cuts::run(&workspace, &options),
        Task::Bench(bench) => bench::run(&workspace, &bench),
    }
}
