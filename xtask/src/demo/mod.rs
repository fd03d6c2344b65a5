//! `cargo xtask demo`: a hub, an edge and modules on this machine, to look at, or to be shot at while every message is accounted for.

mod folder;
mod live;
mod manifest;
mod once;
mod program;
mod world;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;

use crate::engine::Engine;
use crate::images;
use crate::machine;
use crate::run::{Outcome, Run};
use crate::shipped;
use crate::workspace::{Workspace, cargo};
use folder::Folder;
use world::World;

/// What runs in the demo; each package has a program of its name.
const PROGRAMS: [&str; 6] = ["skerry-hub", "skerry-edge", "skerry", "skerry-demo", "host-metrics", "threshold-filter"];

const HUB_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
const EDGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[derive(Args)]
pub(crate) struct Options {
    /// Needs no terminal: 20 s of traffic, then hub and edge are killed under load; fails when an acknowledged message is missing
    #[arg(long)]
    once: bool,
    /// Do what `--once` does so many times on the same data
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..))]
    soak: Option<u32>,
    /// Run the modules as containers in this machine's engine
    #[arg(long)]
    containers: bool,
    /// Use debug builds
    #[arg(long)]
    debug: bool,
    /// Use the programs in this folder and build nothing
    #[arg(long, value_name = "DIR", conflicts_with = "debug")]
    programs: Option<PathBuf>,
    /// Where everything is kept; emptied first [default: target/demo, or the folder for temporary files if that path is too long]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address of the hub
    #[arg(long, default_value_t = HUB_ADDRESS, value_name = "ADDRESS")]
    hub_address: Ipv4Addr,
    /// Address of the edge
    #[arg(long, default_value_t = EDGE_ADDRESS, value_name = "ADDRESS")]
    edge_address: Ipv4Addr,
}

impl Options {
    /// What `--once` on the command line asks for.
    pub(crate) fn once(containers: bool) -> Options {
        Options {
            once: true,
            soak: None,
            containers,
            debug: false,
            programs: None,
            dir: None,
            hub_address: HUB_ADDRESS,
            edge_address: EDGE_ADDRESS,
        }
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Outcome {
    if options.containers {
        machine::prepare(workspace)?;
    }
    let built = match &options.programs {
        Some(folder) => folder.clone(),
        None if options.debug => debug_build(workspace)?,
        None if options.containers => shipped::build(workspace)?,
        None => shipped::build_to_try(workspace)?,
    };
    // Held to the end: it stops the engine if it was started here.
    let _engine = if options.containers {
        let engine = Engine::ensure(workspace)?;
        images::make(workspace)?;
        Some(engine)
    } else {
        None
    };
    let place = options.dir.clone().unwrap_or_else(|| folder::usual(&workspace.target));
    let folder = Folder::make(&place, &built, &PROGRAMS)?;
    let rounds = options.soak.or(options.once.then_some(1));
    let mut world = World::new(folder, options.hub_address, options.edge_address, options.containers)?;
    let outcome = world.set_up(rounds.is_some()).and_then(|()| match rounds {
        None => live::run(&mut world),
        Some(rounds) => once::run(&mut world, rounds),
    });
    if outcome.is_err() {
        world.show_logs();
    }
    world.end();
    outcome
}

fn debug_build(workspace: &Workspace) -> Outcome<PathBuf> {
    let mut build = Run::new(cargo()).args(["build", "--locked", "--bins"]);
    for package in PROGRAMS {
        build = build.args(["--package", package]);
    }
    build.folder(&workspace.root).go()?;
    Ok(workspace.target.join("debug"))
}
