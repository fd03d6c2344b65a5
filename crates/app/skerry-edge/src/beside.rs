//! An agent and a hub in processes of their own, beside each other: how the hub is told who it is (a file with its environment),
//! and how the two keep each other informed (a unix socket of the agent's that the hub asks every few seconds).
//!
//! Either goes on as it was when the other is away.

use std::fmt::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use skerry_daemon::Failure;
use skerry_dialect::own::{Connections, StoreState};
use skerry_edge_agent::EdgeHubNews;
use skerry_model::{Json, Monotonic, json::parse};
use skerry_net::http::{
    ClientLimits, HttpAddress, HttpClient, Method, Request, Response, ServerLimits, StatusCode, serve_http,
};
use skerry_net::{Clock, ListenAddress, Listener, Peer, Socket};
use skerry_pki::files;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::view::View;
use crate::wishes::HubWishes;

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
/// Remarks that are taken; a hub has fewer.
const REMARKS_MAX: usize = 64;
/// Nesting of what the two say, with room to grow.
const BODY_DEPTH_MAX: usize = 16;

/// What a hub says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// Who is connected there, who was refused.
    pub(crate) connections: Connections,
    /// What waits there.
    pub(crate) store: Option<StoreState>,
    /// What it cannot do that it was told to.
    pub(crate) remarks: Vec<String>,
}

/// The same as it comes; the connections are left out when they are as they were.
#[derive(Debug, Default)]
struct Said {
    connections: Option<Connections>,
    store: Option<StoreState>,
    remarks: Vec<String>,
}

/// What the agent knows of the hub beside it. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Heard(Arc<HeardInner>);

#[derive(Debug)]
struct HeardInner {
    /// What the hub said, and when it asked last; at first, since when it could have.
    last: Mutex<(Monotonic, Option<Told>)>,
    news: watch::Sender<EdgeHubNews>,
}

impl Heard {
    /// Nothing yet; the hub has some time to come.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self(Arc::new(HeardInner { last: Mutex::new((now, None)), news: watch::Sender::default() }))
    }

    /// What it said last, unless the hub is not there.
    pub(crate) fn told(&self, now: Monotonic) -> Option<Told> {
        let (at, told) = &*self.last();
        told.clone().filter(|_| !is_silent(*at, now))
    }

    /// Whether it is there and what it cannot do, to be watched; a change is seen with [`Heard::look`].
    pub(crate) fn news(&self) -> watch::Receiver<EdgeHubNews> {
        self.0.news.subscribe()
    }

    /// Looks whether there is news at `now`.
    fn look(&self, now: Monotonic) {
        let news = {
            let (at, told) = &*self.last();
            let is_away = is_silent(*at, now);
            let remarks = told.as_ref().filter(|_| !is_away).map(|told| told.remarks.clone());
            EdgeHubNews { is_away, remarks: remarks.unwrap_or_default() }
        };
        self.0.news.send_if_modified(|known| {
            let is_new = *known != news;
            *known = news;
            is_new
        });
    }

    /// Takes what the hub says. Whether its connections are known here.
    fn take(&self, said: Said, now: Monotonic) -> bool {
        let Said { connections, store, remarks } = said;
        let mut last = self.last();
        let before = last.1.take().map(|before| before.connections);
        let told = connections.or(before).map(|connections| Told { connections, store, remarks });
        let is_known = told.is_some();
        *last = (now, told);
        drop(last);
        self.look(now);
        is_known
    }

    fn last(&self) -> MutexGuard<'_, (Monotonic, Option<Told>)> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_silent(since: Monotonic, now: Monotonic) -> bool {
    now.since(since) > SILENCE_MAX
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
        heard.look(clock.now().monotonic);
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
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
    let said = match said(&request.body) {
        Ok(said) => said,
        Err(error) => return Response::json(StatusCode::BAD_REQUEST, json!({ "message": error }).to_string()),
    };
    let known = heard.take(said, now);
    let mut body = wishes.borrow().document();
    body["connectionsKnown"] = known.into();
    Response::json(StatusCode::OK, body.to_string())
}

/// Reads what a hub says of itself.
fn said(body: &[u8]) -> Result<Said, String> {
    let body = parse(body, BODY_DEPTH_MAX).map_err(|error| error.to_string())?;
    let part = |name| body.get(name).and_then(Json::as_object);
    let connections =
        part("connections").map(Connections::from_object).transpose().map_err(|error| error.to_string())?;
    let remarks = body.get("remarks").and_then(Json::as_array).into_iter().flatten();
    let remarks = remarks.filter_map(Json::as_str).take(REMARKS_MAX).map(str::to_owned).collect();
    Ok(Said { connections, store: part("store").map(StoreState::from_object), remarks })
}

/// The hub's end: asks the agent whose folder with `workload_uri` this is, for as long as anybody wants to know its wishes, and
/// tells it who is connected, what waits and what the hub cannot do. An agent that is away wishes what it wished before.
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
        let remarks = view.news().borrow().remarks.clone();
        match ask(&agent, news, view.store(), &remarks).await {
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
    remarks: &[String],
) -> Result<(HubWishes, bool), String> {
    let said = json!({
        "connections": news.map(Connections::document), "store": store.map(StoreState::document), "remarks": remarks,
    });
    let request = Request::new(Method::POST, "/hub").json(said.to_string());
    let answer = agent.request(request).await.map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("it answers {}", answer.status));
    }
    let answer = parse(&answer.body, BODY_DEPTH_MAX).map_err(|error| error.to_string())?;
    let known = answer.get("connectionsKnown").and_then(Json::as_bool).unwrap_or(false);
    let wishes = HubWishes::read(&answer).ok_or("its answer is not understood")?;
    Ok((wishes, known))
}

#[cfg(test)]
#[path = "beside_tests.rs"]
mod tests;
