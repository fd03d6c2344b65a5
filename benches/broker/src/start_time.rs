//! How long a server program takes from its start to a completed TLS handshake.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use skerry_net::{ClientTls, HandshakeError, Stream};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::failure::Failure;

/// A program that is not there by then does not come.
const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(30);
/// Between two attempts.
const STEP: Duration = Duration::from_micros(500);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where it will listen with TLS.
    #[arg(long)]
    address: SocketAddr,
    /// PEM file with the authority of its certificate.
    #[arg(long)]
    trust: PathBuf,
    /// The name in its certificate, when that is not the address.
    #[arg(long)]
    host: Option<String>,
    /// The program and its arguments, behind `--`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    milliseconds: f64,
}

/// Starts the program, connects as soon as it can be, and stops it again.
pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let what = format!("cannot read {}", options.trust.display());
    let pem = std::fs::read_to_string(&options.trust).map_err(Failure::io(what))?;
    let tls = ClientTls::new(&pem).map_err(|error| Failure::because("the authority", &error))?;
    let host = options.host.clone().unwrap_or_else(|| options.address.ip().to_string());
    let (program, arguments) = options.command.split_first().ok_or_else(|| Failure::Other("no program".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn().map_err(Failure::io(format!("cannot start {program}")))?;
    let shaken = shake_hands(&mut child, options.address, &tls, &host, begun).await;
    let milliseconds = begun.elapsed().as_secs_f64() * 1_000.0;
    stop(child).await?;
    shaken.map(|()| Outcome { milliseconds })
}

async fn shake_hands(
    child: &mut Child,
    address: SocketAddr,
    tls: &ClientTls,
    host: &str,
    begun: Instant,
) -> Result<(), Failure> {
    loop {
        if let Ok(tcp) = TcpStream::connect(address).await {
            match tls.connect(Stream::Tcp(tcp), host, START_MAX).await {
                Ok(_) => return Ok(()),
                // The end of a connection nobody has taken yet; anything else would not get better.
                Err(HandshakeError::Failed(error)) if error.get_ref().is_none() => {}
                Err(error) => return Err(Failure::because(format!("TLS with {address}"), &error)),
            }
        }
        if let Some(status) = child.try_wait().map_err(Failure::io("waiting for the program"))? {
            return Err(Failure::Other(format!("the program ended with {status}")));
        }
        if START_MAX < begun.elapsed() {
            return Err(Failure::Other(format!("nobody listens at {address} after {} s", START_MAX.as_secs())));
        }
        sleep(STEP).await;
    }
}

async fn stop(mut child: Child) -> Result<(), Failure> {
    let waiting = Instant::now();
    let ended = |child: &mut Child| child.try_wait().map_err(Failure::io("waiting for the program"));
    if ended(&mut child)?.is_none()
        && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    {
        kill_process(pid, Signal::TERM).map_err(|error| Failure::io("stopping the program")(error.into()))?;
    }
    while ended(&mut child)?.is_none() {
        if STOP_MAX < waiting.elapsed() {
            child.kill().map_err(Failure::io("killing the program"))?;
            return Err(Failure::Other(format!("the program did not end within {} s", STOP_MAX.as_secs())));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
