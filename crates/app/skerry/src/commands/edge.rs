//! `skerry edge`: the edge on this machine, over its local socket.

use std::time::Duration;

use serde_json::json;
use skerry_dialect::management::{LogQuery, ManagedModule, list_path, read_modules, restart_path};
use skerry_dialect::own::EdgeStatus;
use skerry_model::{Json, RequestError, Timestamp};
use skerry_net::Clock;
use skerry_net::http::Method;

use super::device::connections_text;
use crate::arguments::{Edge, EdgeCommand};
use crate::failure::Failure;
use crate::output::{Output, Table, ago, bytes, done, span};
use crate::socket;

/// Where the edge tells how it fares.
const STATUS_PATH: &str = "/skerry/status";
/// Restarting waits for the module to end by itself first.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(edge: Edge, timeout: Duration, output: &mut Output) -> Result<(), Failure> {
    let socket = |timeout| socket::Edge::new(edge.socket.clone(), edge.edge_dir.as_deref(), timeout);
    match edge.command {
        EdgeCommand::List => list(&socket(timeout), output).await,
        EdgeCommand::Logs { module, follow, tail, since } => {
            let since = since.map(|text| moment(&text)).transpose()?;
            let query = LogQuery { follow, tail, since, ..LogQuery::default() };
            let mut body = socket(timeout).open(&query.path(module.as_str())).await?;
            while let Some(piece) = body.piece().await? {
                output.raw(&piece)?;
            }
            Ok(())
        }
        EdgeCommand::Restart { module } => {
            socket(timeout + STOP_PATIENCE).send(Method::POST, &restart_path(module.as_str())).await?;
            Ok(output.line_or(&done(), format!("restarted `{module}`"))?)
        }
        EdgeCommand::Status => {
            let body = socket(timeout).send(Method::GET, STATUS_PATH).await?;
            let status = understood(EdgeStatus::read(&body))?;
            if output.is_json() {
                return Ok(output.document(&status.document())?);
            }
            Ok(output.raw(status_text(&status, Clock::system().now().wall).as_bytes())?)
        }
    }
}

fn understood<T>(answer: Result<T, RequestError>) -> Result<T, Failure> {
    answer.map_err(|error| Failure::failed("the edge's answer is not understood").because(error))
}

/// Seconds since 1970 of a number or a date.
fn moment(text: &str) -> Result<i64, Failure> {
    text.parse()
        .ok()
        .or_else(|| Timestamp::parse(text).ok().map(Timestamp::unix_seconds))
        .ok_or_else(|| Failure::usage(format!("`{text}` is neither a date and time nor a number of seconds")))
}

async fn list(edge: &socket::Edge, output: &mut Output) -> Result<(), Failure> {
    let mut modules = understood(read_modules(&edge.send(Method::GET, &list_path()).await?))?;
    modules.sort_by(|one, other| one.name.cmp(&other.name));
    let now = Clock::system().now().wall;
    let mut table = Table::new(["MODULE", "STATUS", "DESCRIPTION", "TYPE", "RUNS"]);
    for module in &modules {
        table.push([
            module.name.clone(),
            module.status.clone(),
            description(module, now),
            module.kind.clone(),
            module.image.clone(),
        ]);
    }
    let documents: Vec<Json> = modules
        .iter()
        .map(|module| {
            json!({
                "name": module.name, "status": module.status, "description": module.description,
                "type": module.kind, "image": module.image,
                "started": module.started.map(|at| at.to_string()), "exited": module.exited.map(|at| at.to_string()),
                "exitCode": module.exit_code,
            })
        })
        .collect();
    Ok(output.table_or(&documents.into(), &table)?)
}

/// `Up 2 days`, `Failed (1) 5 minutes ago`: what the status means by now.
fn description(module: &ManagedModule, now: Timestamp) -> String {
    let code = module.exit_code.map_or_else(String::new, |code| format!(" ({code})"));
    let mut text = match (module.status.as_str(), module.started, module.exited) {
        ("running", Some(started), _) => format!("up {}", span(now.since(started))),
        ("failed", _, Some(exited)) => format!("failed{code} {}", ago(exited, now)),
        ("stopped", _, Some(exited)) => format!("stopped {}", ago(exited, now)),
        (_, _, Some(exited)) => format!("ended{code} {}", ago(exited, now)),
        _ => String::new(),
    };
    if !module.description.is_empty() && module.description != module.status {
        text = if text.is_empty() { module.description.clone() } else { format!("{text}, {}", module.description) };
    }
    text
}

fn status_text(status: &EdgeStatus, now: Timestamp) -> String {
    let since = status.upstream_since.map_or_else(String::new, |since| format!(" for {}", span(now.since(since))));
    let upstream = match (status.upstream_connected, &status.upstream_error) {
        (true, _) => format!("connected to `{}`{since}", status.hub),
        (false, None) => format!("not connected to `{}`{since}", status.hub),
        (false, Some(error)) => format!("not connected to `{}`{since}: {error}", status.hub),
    };
    let mut pairs = vec![("device", status.device.clone()), ("version", status.version.clone()), ("hub", upstream)];
    if let Some(deployment) = &status.deployment {
        let good = if deployment.code == 200 { "in force".to_owned() } else { format!("code {}", deployment.code) };
        let why =
            if deployment.description.is_empty() { String::new() } else { format!(": {}", deployment.description) };
        pairs.push(("manifest", format!("version {}, {good}{why}", deployment.version)));
    }
    if let Some(store) = &status.store {
        let full = if store.full { ", FULL: nothing more is taken" } else { "" };
        let of = format!("{} of {}", bytes(store.bytes), bytes(store.bytes_max));
        pairs.push(("waiting", format!("{} messages, {of}{full}", store.messages)));
    }
    let head = Table::of_pairs(pairs).to_string();
    match &status.connections {
        None => head,
        Some(connections) => format!("{head}\n{}", connections_text(connections)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use skerry_dialect::own::{Connections, DeploymentState, StoreState};

    fn module(status: &str, exit_code: Option<i64>, note: &str) -> ManagedModule {
        ManagedModule {
            name: "m".into(),
            kind: "docker".into(),
            image: "i".into(),
            status: status.into(),
            description: note.into(),
            started: Some(Timestamp::from_unix_seconds(0)),
            exited: exit_code.map(|_| Timestamp::from_unix_seconds(100)),
            exit_code,
        }
    }

    #[test]
    fn a_module_says_since_when_and_why() {
        let now = Timestamp::from_unix_seconds(7_300);
        let check = |status, code, note| description(&module(status, code, note), now);
        assert_eq!(check("running", None, "running"), "up 2 hours");
        assert_eq!(check("running", None, "healthy"), "up 2 hours, healthy");
        assert_eq!(check("failed", Some(137), "killed"), "failed (137) 2 hours ago, killed");
        assert_eq!(check("stopped", Some(0), ""), "stopped 2 hours ago");
        assert_eq!(check("backoff", Some(1), "starts again in 20 s"), "ended (1) 2 hours ago, starts again in 20 s");
        assert_eq!(check("unknown", None, "no engine"), "no engine");
    }

    #[test]
    fn the_status_fits_on_a_screen() {
        let status = EdgeStatus {
            device: "edge1".into(),
            hub: "hub.local".into(),
            version: "0.1.0".into(),
            upstream_connected: false,
            upstream_since: Some(Timestamp::from_unix_seconds(0)),
            upstream_error: Some("cannot connect to `hub.local:8883`".into()),
            deployment: Some(DeploymentState { version: 3, code: 500, description: "`m` does not start".into() }),
            store: Some(StoreState { messages: 12, bytes: 4_096, bytes_max: 1 << 30, full: false }),
            connections: Some(Connections::default()),
        };
        expect![[r#"
            device    edge1
            version   0.1.0
            hub       not connected to `hub.local` for 1 minute: cannot connect to `hub.local:8883`
            manifest  version 3, code 500: `m` does not start
            waiting   12 messages, 4.0 KiB of 1.0 GiB

            nobody is connected

            nobody was refused
        "#]]
        .assert_eq(&status_text(&status, Timestamp::from_unix_seconds(90)));
    }
}
