//! `skerry-demo`: what `cargo xtask demo` needs besides the product: load with a ledger, the comparison with what arrived, a live view.

#![forbid(unsafe_code)]

mod arguments;
mod board;
mod check;
mod events;
mod hub;
mod ledger;
mod load;
mod numbers;
mod outcome;
mod sender;
mod sink;
mod watch;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};

/// Why the program ends early; its causes are printed too.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {}", with_causes(failure.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Whether all was as it should be.
fn run(arguments: Arguments) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let good = runtime.block_on(async {
        match arguments.command {
            Command::Load(load) => load::run(load).await.map(|()| true),
            Command::Check(check) => check::run(check).await,
            Command::Watch(watch) => watch::run(watch).await.map(|()| true),
        }
    });
    // A thread that waits for standard input does not keep the program from ending.
    runtime.shutdown_background();
    good
}

/// An error in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        // Transparent errors would say the same twice.
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        cause = next.source();
    }
    texts.join(": ")
}
