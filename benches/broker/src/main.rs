//! `skerry-bench-broker`: the measuring ends of `cargo xtask bench` and `cargo xtask budget`, each a task of its own process.

#![forbid(unsafe_code)]

mod certificate;
mod credentials;
mod disk;
mod failure;
mod histogram;
mod hold;
mod load;
mod peer;
mod prepare;
mod received;
mod run;
mod start_time;
mod window;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::failure::Failure;

#[derive(Debug, Parser)]
#[command(name = "skerry-bench-broker", version, about = "Load and measurements for MQTT brokers")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Load a broker with pairs of publishers and receivers and print what was measured as one line of JSON
    Run(run::Options),
    /// Connect the leaf devices and keep them connected until standard input ends
    Hold(hold::Options),
    /// Make an edge device, modules and leaf devices at a hub
    Prepare(prepare::Options),
    /// Make a server certificate with an authority of its own
    Certificate(certificate::Options),
    /// Start a program and print how long it takes to complete a TLS handshake
    StartTime(start_time::Options),
    /// Print how long durable writes take on a disk
    Disk(disk::Options),
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("cannot start a runtime"))?;
    match task {
        Task::Run(options) => {
            let outcome = runtime.block_on(run::run(options))?;
            print_json(&outcome)?;
            return Ok(if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Task::Hold(options) => {
            let held = runtime.block_on(hold::run(options));
            // Reading standard input may still be under way on its own thread.
            runtime.shutdown_background();
            held?;
        }
        Task::Prepare(options) => runtime.block_on(prepare::run(options))?,
        Task::Certificate(options) => certificate::run(&options)?,
        Task::StartTime(options) => print_json(&runtime.block_on(start_time::run(options))?)?,
        Task::Disk(options) => print_json(&disk::run(&options)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(outcome: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(outcome).map_err(|error| Failure::because("the outcome", &error))?;
    println!("{text}");
    Ok(())
}
