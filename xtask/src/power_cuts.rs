//! `cargo xtask power-cuts`: what the log and its queues must survive, far more often than in a normal test run.

use clap::Args;

use crate::run::{Outcome, Run};
use crate::workspace::{Workspace, cargo};

/// The one test that cuts the power, and the package it is in.
const PACKAGE: &str = "skerry-sim";
const TEST: &str = "crash::no_power_cut_loses_what_was_acknowledged";

#[derive(Args)]
pub(crate) struct Options {
    /// Cut the power at least so many times
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    points: u64,
    /// The first seed; each seed is one life of a simulated disk and up to four power cuts
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Fails, and names the seed, when one acknowledged message is lost.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Outcome {
    let test = || {
        let build = ["test", "--release", "--locked", "--package", PACKAGE, "--test", "it"];
        Run::new(cargo()).args(build).folder(&workspace.root)
    };
    test().args(["--no-run"]).go()?;
    println!("cutting the power {} times: some minutes", options.points);
    let said = test()
        .args(["--", "--nocapture", "--exact", TEST])
        .env("SKERRY_CRASH_POINTS", options.points.to_string())
        .env("SKERRY_CRASH_SEED", options.seed.to_string())
        .text()?;
    println!("{}", result(&said)?);
    Ok(())
}

/// The test's own words for what it did: without them it did nothing, as when it has another name by now.
fn result(said: &str) -> Outcome<&str> {
    let line = said.lines().find(|line| line.contains(" power cuts, "));
    line.ok_or_else(|| format!("the test {TEST} of {PACKAGE} did not run: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_did_not_run_is_a_failure() {
        let line = "7 power cuts, 900 messages acknowledged, none lost";
        assert_eq!(result(&format!("running 1 test\n{line}\ntest crash ... ok\n")), Ok(line));
        assert!(result("running 0 tests\n").unwrap_err().contains("did not run"));
    }
}
