//! Each command, from its arguments to what it prints.

mod deploy;
mod device;
mod edge;
mod events;
mod input;
mod login;
mod message;
mod method;
mod module;
mod telemetry;
mod twin;

use std::time::Duration;

use clap::CommandFactory as _;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;
use crate::hub::Hub;
use crate::output::Output;
use crate::profile::Profile;

/// Does what was asked.
pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<(), Failure> {
    let timeout = Duration::from_secs(arguments.timeout);
    let hub_within = |timeout| Hub::new(Profile::load(&arguments.profile)?, timeout);
    let hub = || hub_within(timeout);
    match arguments.command {
        Command::Login(login) => login::run(login, &arguments.profile, timeout, output).await,
        Command::Device(command) => device::run(command, &hub()?, output).await,
        Command::Module(command) => module::run(command, &hub()?, output).await,
        Command::Twin(command) => twin::run(command, &hub()?, output).await,
        Command::Method(command) => method::run(command, |patience| hub_within(timeout + patience), output).await,
        Command::Message(command) => message::run(command, &hub()?, output).await,
        Command::Telemetry(command) => telemetry::run(command, &hub()?, output).await,
        Command::Deploy(command) => deploy::run(command, hub, output).await,
        Command::Events(events) => events::run(events, &hub_within(timeout + events::WAIT)?, output).await,
        Command::Edge(edge) => edge::run(edge, timeout, output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "skerry", &mut script);
            Ok(output.raw(&script)?)
        }
    }
}
