//! The agent on its local socket, for the command line: list, logs, restart, status (`edge-workload-and-management-api` §4).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use skerry_dialect::management::{LogQuery, failure_body, modules_body};
use skerry_model::{ModuleName, Timestamp};
use skerry_module_runtime::{LogLine, LogLines, LogRange, Problem, RuntimeError};
use skerry_net::http::{Body, Method, Request, Response, ServerLimits, StatusCode, header, serve_http};
use skerry_net::{BindError, ListenAddress, Listener, Socket};
use tokio::task::{AbortHandle, JoinSet};

use crate::agent::{AgentHandle, ModuleError};

/// Connections at the same time; more are closed at once.
const CONNECTIONS_MAX: usize = 50;
/// Versions of the API that are known (`edge-workload-and-management-api` §1).
const API_VERSIONS: [&str; 7] =
    ["2018-06-28", "2019-01-30", "2019-10-22", "2019-11-05", "2020-07-07", "2021-12-07", "2022-08-03"];

/// The socket. Dropping it ends it and its connections.
pub struct ManagementSocket(AbortHandle);

impl ManagementSocket {
    /// Serves `agent` at `path`, to whom the permission bits `mode` (such as 0o660) let in. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn serve(path: PathBuf, mode: u32, agent: AgentHandle) -> Result<Self, BindError> {
        let listener = Listener::bind(&ListenAddress::Unix { path, mode })?;
        Ok(Self(tokio::spawn(serve(listener, agent)).abort_handle()))
    }
}

impl Drop for ManagementSocket {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(listener: Listener, agent: AgentHandle) {
    let limits = Arc::new(ServerLimits {
        body_max: Duration::from_secs(5),
        refusal: |status, reason| Response::json(status, failure_body(reason)),
        ..ServerLimits::default()
    });
    // In a set, so that the connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (socket, _) = listener.accept() => {
                if connections.len() < CONNECTIONS_MAX {
                    connections.spawn(connection(socket, agent.clone(), Arc::clone(&limits)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(socket: Socket, agent: AgentHandle, limits: Arc<ServerLimits>) {
    let Ok(stream) = socket.attach() else { return };
    let handler = |request| {
        let agent = agent.clone();
        async move { answer(&agent, &request).await }
    };
    if let Err(error) = serve_http(stream, handler, &limits).await {
        tracing::debug!(%error, "a connection to the management socket ended early");
    }
}

async fn answer(agent: &AgentHandle, request: &Request) -> Response<Body> {
    let Ok(segments) = request.segments() else { return refuse(StatusCode::BAD_REQUEST, "the path is not UTF-8") };
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    if segments == ["skerry", "status"] {
        return match agent.status().await {
            Ok(status) => Response::json(StatusCode::OK, status.document().to_string()).into(),
            Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        };
    }
    match request.query_value("api-version") {
        None => return refuse(StatusCode::BAD_REQUEST, "api-version not specified"),
        Some(version) if !API_VERSIONS.contains(&&*version) => {
            return refuse(StatusCode::BAD_REQUEST, &format!("invalid api-version \"{version}\""));
        }
        Some(_) => {}
    }
    match (&segments[..], &request.method) {
        (["modules"], &Method::GET) => Response::json(StatusCode::OK, modules_body(&agent.modules().await)).into(),
        (["modules", name, "restart"], &Method::POST) => match ModuleName::parse(name) {
            Ok(module) => restarted(agent.restart(&module).await),
            Err(error) => refuse(StatusCode::NOT_FOUND, &error.to_string()),
        },
        (["modules", name, "logs"], &Method::GET) => match ModuleName::parse(name) {
            Ok(module) => logs(agent, &module, request.query()).await,
            Err(error) => refuse(StatusCode::NOT_FOUND, &error.to_string()),
        },
        (["modules"] | ["modules", _, "restart" | "logs"], _) => refuse(StatusCode::BAD_REQUEST, "method not allowed"),
        _ => refuse(StatusCode::NOT_FOUND, "not found"),
    }
}

fn restarted(outcome: Result<(), ModuleError>) -> Response<Body> {
    let status = match &outcome {
        Ok(()) => return Response::new(StatusCode::NO_CONTENT).into(),
        Err(ModuleError::NoSuchModule(_)) => StatusCode::NOT_FOUND,
        Err(ModuleError::System(_) | ModuleError::Busy(_)) => StatusCode::CONFLICT,
        Err(ModuleError::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        Err(ModuleError::Ended) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, &outcome.err().map(|error| error.to_string()).unwrap_or_default())
}

async fn logs(agent: &AgentHandle, module: &ModuleName, query: &str) -> Response<Body> {
    let query = match LogQuery::read(query) {
        Ok(query) => query,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let range = LogRange {
        tail: query.tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
        since: query.since.map(Timestamp::from_unix_seconds),
        until: query.until.map(Timestamp::from_unix_seconds),
        follow: query.follow,
    };
    match agent.logs(module, &range).await {
        Ok(lines) => {
            let (pieces, body) = Body::streaming();
            tokio::spawn(send(lines, pieces, query.timestamps));
            let response = Response::new(StatusCode::OK).header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
            Response { status: response.status, headers: response.headers, body }
        }
        Err(error) => refuse(log_status(&error), &error.to_string()),
    }
}

const fn log_status(error: &RuntimeError) -> StatusCode {
    match error.problem {
        Problem::NoSuchModule => StatusCode::NOT_FOUND,
        Problem::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Problem::NameTaken
        | Problem::ArtifactNotFound
        | Problem::CredentialRefused
        | Problem::SpecRefused
        | Problem::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn send(mut lines: LogLines, pieces: skerry_net::http::BodySender, timestamps: bool) {
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = pieces.closed() => return,
        };
        let piece = match line {
            None => return,
            Some(Ok(line)) => written(&line, timestamps),
            Some(Err(error)) => {
                tracing::warn!(%error, "the output of a module ends early");
                return;
            }
        };
        if pieces.send(piece.freeze()).await.is_err() {
            return;
        }
    }
}

fn written(line: &LogLine, timestamps: bool) -> BytesMut {
    let mut piece = BytesMut::with_capacity(line.text.len() + 32);
    if let Some(at) = line.at.filter(|_| timestamps) {
        piece.put(at.to_string().as_bytes());
        piece.put_u8(b' ');
    }
    piece.put(&line.text[..]);
    piece.put_u8(b'\n');
    piece
}

fn refuse(status: StatusCode, reason: &str) -> Response<Body> {
    Response::json(status, failure_body(reason)).into()
}
