//! `cargo xtask test`: every check of a change, each with its title, its time and, when it fails, the reason.

use std::time::{Duration, Instant};

use clap::Args;

use crate::compatibility;
use crate::demo;
use crate::engine::Engine;
use crate::images;
use crate::machine::{self, Tools};
use crate::run::{Outcome, Run};
use crate::tidy;
use crate::workspace::{Workspace, cargo};

#[derive(Args)]
pub(crate) struct Options {
    /// Run only the steps named here (see their titles); the run then says that it was not the whole
    #[arg(long, value_name = "TITLE", value_delimiter = ',')]
    only: Vec<String>,
}

struct Report<'a> {
    only: &'a [String],
    lines: Vec<(String, Result<Duration, String>)>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Outcome {
    let mut report = Report { only: &options.only, lines: Vec::new() };
    let tools = report.step_always("prepare", || machine::prepare(workspace));
    report.step("format", || Run::new(cargo()).args(["fmt", "--all", "--check"]).folder(&workspace.root).go());
    report.step("tidy", || tidy::run(workspace));
    report.step("deny", || deny(workspace, need(tools.as_ref())?));
    report.step("clippy", || clippy(workspace));
    report.step("documentation", || documentation(workspace));
    report.step("examples", || test_command(workspace, tools.as_ref()).args(["test", "--workspace", "--doc"]).go());
    // Held to the end: it stops the engine if it was started here.
    let engine = report.step("engine", || {
        need(tools.as_ref())?;
        Engine::ensure(workspace)
    });
    report.step("images", || {
        need(tools.as_ref())?;
        images::make(workspace)
    });
    // No engine is no reason to know less about the rest: the container tests fail by themselves then.
    report.step("tests", || {
        compatibility::forget_last_run(workspace)?;
        all_tests(workspace, need(tools.as_ref())?)
    });
    report.step("compatibility", || compatibility::check(workspace));
    // The main job, the way the README shows it, with hub and edge killed under load.
    report.step("demo", || demo::run(workspace, &demo::Options::once(false)));
    report.step("demo-containers", || {
        need(tools.as_ref())?;
        demo::run(workspace, &demo::Options::once(true))
    });
    drop(engine);
    report.finish()
}

fn need(tools: Option<&Tools>) -> Outcome<&Tools> {
    tools.ok_or_else(|| "not run, because `prepare` failed".to_owned())
}

fn deny(workspace: &Workspace, tools: &Tools) -> Outcome {
    Run::new(&tools.cargo_deny)
        .args(["--workspace", "--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .folder(&workspace.root)
        .go()
}

fn clippy(workspace: &Workspace) -> Outcome {
    let lint = |what: &[&str], lints: &[&str]| {
        let flags = [["clippy", "--locked"].as_slice(), what, ["--", "-D", "warnings"].as_slice(), lints].concat();
        Run::new(cargo()).args(flags).folder(&workspace.root).go()
    };
    lint(&["--workspace", "--all-targets"], &[])?;
    // No hash order may decide anything in the pure layers; elsewhere it does no harm.
    let mut pure = Vec::new();
    for package in tidy::layers(workspace)?.pure(&workspace.packages) {
        pure.extend(["--package", package]);
    }
    lint(&pure, &["-D", "clippy::iter_over_hash_type"])
}

fn documentation(workspace: &Workspace) -> Outcome {
    Run::new(cargo())
        .args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .folder(&workspace.root)
        .go()
}

fn all_tests(workspace: &Workspace, tools: &Tools) -> Outcome {
    // Programs that tests start are found beside the tests, so they are built first.
    Run::new(cargo()).args(["build", "--locked", "--workspace", "--bins"]).folder(&workspace.root).go()?;
    with_environment(Run::new(&tools.cargo_nextest), workspace, tools)
        .args(["nextest", "run", "--locked", "--workspace", "--no-tests", "fail"])
        .env("CARGO_TERM_PROGRESS_WHEN", "never")
        .go()
}

fn test_command(workspace: &Workspace, tools: Option<&Tools>) -> Run {
    let run = Run::new(cargo());
    match tools {
        Some(tools) => with_environment(run, workspace, tools),
        None => run.folder(&workspace.root),
    }
}

fn with_environment(run: Run, workspace: &Workspace, tools: &Tools) -> Run {
    run.folder(&workspace.root).env("SKERRY_PYTHON", &tools.python).env("RUST_BACKTRACE", "1")
}

impl Report<'_> {
    fn step<T>(&mut self, title: &str, perform: impl FnOnce() -> Outcome<T>) -> Option<T> {
        let wanted = self.only.is_empty() || self.only.iter().any(|only| only == title);
        wanted.then(|| self.step_always(title, perform)).flatten()
    }

    fn step_always<T>(&mut self, title: &str, perform: impl FnOnce() -> Outcome<T>) -> Option<T> {
        println!("\n=== {title}");
        let started = Instant::now();
        let outcome = perform();
        let took = started.elapsed();
        let (line, value) = match outcome {
            Ok(value) => (Ok(took), Some(value)),
            Err(reason) => {
                println!("=== {title} FAILED after {}: {reason}", seconds(took));
                (Err(reason), None)
            }
        };
        self.lines.push((title.to_owned(), line));
        value
    }

    fn finish(self) -> Outcome {
        println!("\n=== summary");
        let mut failed = Vec::new();
        for (title, outcome) in &self.lines {
            match outcome {
                Ok(took) => println!("ok      {:>8}  {title}", seconds(*took)),
                Err(reason) => {
                    println!("FAILED            {title}: {}", reason.lines().next().unwrap_or_default());
                    failed.push(title.as_str());
                }
            }
        }
        if let Some(unknown) = self.only.iter().find(|only| !self.lines.iter().any(|(title, _)| title == *only)) {
            return Err(format!("there is no step `{unknown}`"));
        }
        if !self.only.is_empty() {
            println!("only a part was run: {}", self.only.join(", "));
        }
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
