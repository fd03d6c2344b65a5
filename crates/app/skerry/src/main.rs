//! `skerry`: the command line for operators and module developers. Speaks the hub's REST interface and the edge's local socket.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod failure;
mod hub;
mod output;
mod profile;
mod socket;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser as _;
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::to_stdout(arguments.json);
    match run(arguments, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: Arguments, output: &mut Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::failed("cannot start").because(cause))?;
    let done = runtime.block_on(commands::run(arguments, output));
    // A name that is still being resolved must not keep the program from ending.
    runtime.shutdown_background();
    done
}
