//! An agent and a hub in processes of their own, beside each other: how the hub is told who it is (a file with its environment),
//! and how the two keep each other informed (a unix socket of the agent's that the hub asks every few seconds).
//!
//! Either goes on as it was when the other is away.

use std::fmt::Write;
use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use skerry_daemon::Failure;
use skerry_dialect::own::{Connections, StoreState};
use skerry_model::{Json, Monotonic, json::parse};
use skerry_net::http::{
    ClientLimits, HttpAddress, HttpClient, Method, Request, Response, ServerLimits, StatusCode, serve_http,
};
use skerry_net::{Clock, ListenAddress, Listener, Peer, Socket};
use skerry_pki::files;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::local_hub::HubWishes;
use crate::view::View;

/// The socket that the hub asks the agent at; beside the hub's workload socket.
const SOCKET: &str = "agent.sock";
/// The file with the hub's environment, in the same folder.
const ENVIRONMENT: &str = "environment";
/// How often the hub asks.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// A hub that did not ask for so long is not there.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Connections of the hub at the same time; it needs one.
const CONNECTIONS_MAX: usize = 4;
/// Room for the list of who is connected to a hub at its largest.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Nesting of what the two say, with room to grow.
const BODY_DEPTH_MAX: usize = 16;

/// What a hub says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// Who is connected there, who was refused.
    pub(crate) connections: Connections,
    /// What waits there.
    pub(crate) store: Option<StoreState>,
}

/// What the agent knows of the hub beside it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Option<(Monotonic, Told)>>>);

impl Heard {
    /// What it said last, unless the hub is not there.
    pub(crate) fn told(&self, now: Monotonic) -> Option<Told> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, told) = heard.as_ref()?;
        (now.since(*at) <= SILENCE_MAX).then(|| told.clone())
    }

    /// Takes what the hub says; its connections are left out when they are as they were. Whether those are known here.
    fn take(&self, connections: Option<Connections>, store: Option<StoreState>, now: Monotonic) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.take().map(|(_, before)| before.connections);
        *heard = connections.or(before).map(|connections| (now, Told { connections, store }));
        heard.is_some()
    }
}

/// Writes the variables that a hub beside this agent is started with, for shells and for systemd's `EnvironmentFile`. None of
/// them is secret.
pub(crate) fn write_environment(folder: &Path, variables: &[(&str, String)]) -> Result<PathBuf, Failure> {
    let mut text = String::new();
    for (name, value) in variables {
        let _ = writeln!(text, "{name}='{}'", value.replace('\'', r"'\''"));
    }
    let path = folder.join(ENVIRONMENT);
    files::write_public(&path, text.as_bytes())?;
    Ok(path)
}

/// The agent's end. Dropping it ends it.
pub(crate) struct HubSocket(AbortHandle);

impl HubSocket {
    /// Answers the hub, which runs as the user `uid` (`None`: as we do), with `wishes`; what it says goes to `heard`.
    pub(crate) fn serve(
        folder: &Path,
        uid: Option<u32>,
        wishes: watch::Receiver<HubWishes>,
        heard: Heard,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let path = folder.join(SOCKET);
        // For the hub's user alone. The folder is ours: what is given away in it is what we put there.
        let listener = Listener::bind(&ListenAddress::Unix { path: path.clone(), mode: 0o600 })?;
        if let Some(uid) = uid {
            chown(&path, Some(uid), None)
                .map_err(|cause| format!("cannot give {} to user {uid}: {cause}", path.display()))?;
        }
        Ok(Self(tokio::spawn(serve(listener, wishes, heard, clock)).abort_handle()))
    }
}

impl Drop for HubSocket {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(listener: Listener, wishes: watch::Receiver<HubWishes>, heard: Heard, clock: Clock) {
    let limits = Arc::new(ServerLimits { body_bytes_max: BODY_BYTES_MAX, ..ServerLimits::default() });
    // In a set, so that the connections end with this task.
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            (socket, peer) = listener.accept() => {
                if matches!(peer, Peer::Unix(_)) && served.len() < CONNECTIONS_MAX {
                    served.spawn(connection(socket, wishes.clone(), heard.clone(), clock, Arc::clone(&limits)));
                }
            }
            Some(_) = served.join_next() => {}
        }
    }
}

async fn connection(
    socket: Socket,
    wishes: watch::Receiver<HubWishes>,
    heard: Heard,
    clock: Clock,
    limits: Arc<ServerLimits>,
) {
    let Ok(stream) = socket.attach() else { return };
    let handler = |request: Request| {
        let answer = answer(&request, &wishes, &heard, clock.now().monotonic);
        async move { answer.into() }
    };
    if let Err(error) = serve_http(stream, handler, &limits).await {
        tracing::debug!(%error, "a connection of the hub beside this agent ended early");
    }
}

fn answer(request: &Request, wishes: &watch::Receiver<HubWishes>, heard: &Heard, now: Monotonic) -> Response {
    let (connections, store) = match said(&request.body) {
        Ok(said) => said,
        Err(error) => return Response::json(StatusCode::BAD_REQUEST, json!({ "message": error }).to_string()),
    };
    let known = heard.take(connections, store, now);
    let wishes = wishes.borrow();
    let addresses: Vec<_> = wishes.addresses.iter().map(ToString::to_string).collect();
    let body = json!({ "stopped": wishes.stopped, "addresses": addresses, "connectionsKnown": known });
    Response::json(StatusCode::OK, body.to_string())
}

/// Reads what a hub says of itself.
fn said(body: &[u8]) -> Result<(Option<Connections>, Option<StoreState>), String> {
    let body = parse(body, BODY_DEPTH_MAX).map_err(|error| error.to_string())?;
    let part = |name| body.get(name).and_then(Json::as_object);
    let connections =
        part("connections").map(Connections::from_object).transpose().map_err(|error| error.to_string())?;
    Ok((connections, part("store").map(StoreState::from_object)))
}

/// The hub's end: asks the agent whose folder with `workload_uri` this is, for as long as anybody wants to know its wishes, and
/// tells it who is connected and what waits. An agent that is away wishes what it wished before.
pub(crate) async fn follow_agent(workload_uri: String, view: View, wishes: watch::Sender<HubWishes>) {
    let Some(folder) = workload_uri.strip_prefix("unix://").and_then(|path| Path::new(path).parent()) else {
        tracing::warn!(workload_uri, "not on this machine: no agent is asked when to listen and where");
        return;
    };
    let agent = HttpClient::new(HttpAddress::Unix(folder.join(SOCKET)), ClientLimits::default());
    let mut told: Option<Connections> = None;
    let mut is_there = true;
    while !wishes.is_closed() {
        let now = view.door.connections();
        let news = (told.as_ref() != Some(&now)).then_some(&now);
        match ask(&agent, news, view.store()).await {
            Ok((wished, known)) => {
                told = known.then_some(now);
                is_there = true;
                wishes.send_if_modified(|current| {
                    let changed = *current != wished;
                    *current = wished;
                    changed
                });
            }
            Err(error) => {
                told = None;
                if std::mem::take(&mut is_there) {
                    tracing::warn!(error, "the agent does not answer; its last wishes stand");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = wishes.closed() => {}
        }
    }
}

async fn ask(
    agent: &HttpClient,
    news: Option<&Connections>,
    store: Option<StoreState>,
) -> Result<(HubWishes, bool), String> {
    let said = json!({
        "connections": news.map(Connections::document), "store": store.map(StoreState::document),
    });
    let request = Request::new(Method::POST, "/hub").json(said.to_string());
    let answer = agent.request(request).await.map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("it answers {}", answer.status));
    }
    let answer = parse(&answer.body, BODY_DEPTH_MAX).map_err(|error| error.to_string())?;
    let addresses = answer.get("addresses").and_then(Json::as_array).into_iter().flatten();
    let addresses = addresses.map(|address| address.as_str()?.parse::<IpAddr>().ok()).collect::<Option<_>>();
    let stopped = answer.get("stopped").and_then(Json::as_bool);
    let wishes = stopped.zip(addresses).map(|(stopped, addresses)| HubWishes { stopped, addresses });
    let known = answer.get("connectionsKnown").and_then(Json::as_bool).unwrap_or(false);
    wishes.map(|wishes| (wishes, known)).ok_or_else(|| "its answer is not understood".to_owned())
}

#[cfg(test)]
#[path = "beside_tests.rs"]
mod tests;
