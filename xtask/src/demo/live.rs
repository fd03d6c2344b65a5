//! The demo for people: shows what arrives until it is stopped, and says what else there is to do.

use std::time::Duration;

use super::manifest::{FILTER, SOURCE};
use super::world::{DEVICE, World};
use crate::run::Outcome;

const WATCH: &str = "skerry-demo";
/// How long the demo runs by itself, which nobody waits for.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) fn run(world: &mut World) -> Outcome {
    println!("{}", hints(world));
    let mut command = world.command(WATCH);
    command.args(["watch", "--device", DEVICE, "--hub-dir", &world.folder.text("hub")]);
    world.start(WATCH, &mut command)?;
    let shown = world.pause(FOR_EVER, |who, line| {
        if who == WATCH {
            println!("{line}");
        }
    });
    match shown {
        // That is how a demo ends.
        Err(reason) if reason == "interrupted" => {
            println!("\nstopping");
            Ok(())
        }
        other => other,
    }
}

fn hints(world: &World) -> String {
    let program = world.folder.program("skerry");
    let (hub, edge) = (world.folder.text("hub"), world.folder.text("edge"));
    format!(
        "
A hub and an edge are running. {SOURCE} measures this machine every second; what {FILTER} lets through
(more than 20 % processor load) goes to the hub first, everything else after it.

In another terminal:
  alias skerry={}
  export SKERRY_PROFILE=demo
  skerry login --hub-dir {hub}
  skerry events --properties
  skerry method invoke {DEVICE}/{FILTER} setLimits --payload '{{\"above\": 1}}'
  skerry twin update {DEVICE}/{SOURCE} --desired '{{\"intervalSeconds\": 0.2}}'
  skerry twin show {DEVICE}/{FILTER}
  skerry edge list --edge-dir {edge}
  skerry edge logs {FILTER} --edge-dir {edge}
  skerry device connections

Ctrl-C ends the demo.
",
        program.display()
    )
}
