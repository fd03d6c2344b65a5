//! Many connections that say nothing, from a process of their own: what a flood of strangers looks like to a server.
//!
//! `crowd ADDRESS:PORT CA_FILE CONNECTIONS WITH_TLS` opens that many connections, takes the last of them through their TLS
//! handshake, says `open`, and waits until the server has closed every one. Then it says how long the first and the last of
//! them lasted, in milliseconds: `closed after 60001 to 60420`.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skerry_net::{ClientTls, Stream, connect_tcp};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections that are being opened at the same time.
const AT_ONCE: usize = 64;
/// How long opening one may take; a busy machine is slow.
const OPENING_MAX: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Whom to bother, and how much.
struct Plan {
    server: SocketAddr,
    tls: ClientTls,
    connections: usize,
    with_tls: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = plan(&arguments)
        .and_then(|plan| runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(plan))));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn plan(arguments: &[String]) -> Result<Plan, Failure> {
    let [server, ca_file, connections, with_tls] = arguments else {
        return Err("usage: ADDRESS:PORT CA_FILE CONNECTIONS WITH_TLS".into());
    };
    let (connections, with_tls) = (connections.parse()?, with_tls.parse()?);
    if connections < with_tls {
        return Err("more handshakes than connections".into());
    }
    let tls = ClientTls::new(&std::fs::read_to_string(ca_file)?)?;
    Ok(Plan { server: server.parse()?, tls, connections, with_tls })
}

async fn run(plan: Plan) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for number in 0..plan.connections {
        let turn = turns.clone().acquire_owned().await?;
        let tls = (plan.connections - plan.with_tls <= number).then(|| plan.tls.clone());
        let server = plan.server;
        opening.spawn(async move {
            let opened = open(server, tls).await;
            drop(turn);
            opened
        });
    }
    let mut watching = JoinSet::new();
    while let Some(opened) = opening.join_next().await {
        let (stream, since) = opened??;
        watching.spawn(watch(stream, since));
    }
    println!("open");
    let mut lasted: Vec<Duration> = Vec::with_capacity(plan.connections);
    while let Some(span) = watching.join_next().await {
        lasted.push(span??);
    }
    let (first, last) = (lasted.iter().min().copied(), lasted.iter().max().copied());
    let milliseconds = |span: Option<Duration>| span.unwrap_or_default().as_millis();
    println!("closed after {} to {}", milliseconds(first), milliseconds(last));
    Ok(())
}

/// A connection, and when the server could first have lost its patience.
async fn open(server: SocketAddr, tls: Option<ClientTls>) -> Result<(Stream, Instant), Failure> {
    let stream = connect_tcp(&server.ip().to_string(), server.port(), OPENING_MAX).await?;
    let stream = match tls {
        Some(tls) => tls.connect(stream, &server.ip().to_string(), OPENING_MAX).await?,
        None => stream,
    };
    Ok((stream, Instant::now()))
}

/// Waits for the server to close; how long that took.
async fn watch(mut stream: Stream, since: Instant) -> Result<Duration, Failure> {
    let mut byte = [0];
    match stream.read(&mut byte).await {
        // A reset is an end too, and so is one without TLS's goodbye.
        Ok(0) | Err(_) => Ok(since.elapsed()),
        Ok(_) => Err("the server said something first".into()),
    }
}
