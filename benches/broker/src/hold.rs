//! Clients that connect and stay, as leaf devices do: silent but for their keep-alive, or with a message now and then.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use skerry_mqtt::{Packet, PacketId, Transfer, encode};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::credentials::{Credentials, Login};
use crate::failure::Failure;
use crate::peer::{KEEP_ALIVE, Peer, Target};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the broker listens.
    #[arg(long)]
    address: SocketAddr,
    /// PEM file with the authority of its certificate; without it, no TLS is spoken.
    #[arg(long)]
    trust: Option<PathBuf>,
    /// The name in its certificate, when that is not the address.
    #[arg(long, requires = "trust")]
    host: Option<String>,
    /// The file that `prepare` has written; all its leaves connect.
    #[arg(long)]
    credentials: PathBuf,
    /// Each sends a message of 256 bytes so often; 0 sends none.
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    every: u64,
}

/// Connects, says `ready`, and stays until standard input ends.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let target = Target::new(options.address, options.trust.as_deref(), options.host.as_deref())?;
    let known = Credentials::load(&options.credentials)?;
    let mut clients = JoinSet::new();
    for login in known.leaves {
        let peer = Peer::connect(&target, &login).await?;
        clients.spawn(stay(peer, login, options.every));
    }
    println!("ready");
    let ended = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        _ = ended => Ok(()),
        Some(failed) = clients.join_next() => {
            Err(failed.unwrap_or_else(|error| Failure::because("a client", &error)))
        }
    }
}

/// Stays connected until something fails.
async fn stay(mut peer: Peer, login: Login, every: u64) -> Failure {
    let (pause, payload) = match every {
        0 => (Duration::from_secs(u64::from(KEEP_ALIVE) / 2), None),
        every => (Duration::from_millis(every), Some([b'.'; 256])),
    };
    let topic = format!("{}/messages/events/", login.topic_prefix());
    let mut id = PacketId::MIN;
    let mut next = Instant::now();
    let mut out = Vec::new();
    loop {
        tokio::select! {
            received = peer.receive(quiet) => {
                if let Err(failure) = received {
                    return failure;
                }
            }
            () = sleep_until(next) => {
                next += pause;
                out.clear();
                match &payload {
                    None => encode::pingreq(&mut out),
                    Some(payload) => {
                        let transfer = Transfer::AtLeastOnce { id, dup: false };
                        id = id.checked_add(1).unwrap_or(PacketId::MIN);
                        if let Err(error) = encode::publish(&mut out, transfer, false, &[&topic], payload) {
                            return Failure::because("PUBLISH", &error);
                        }
                    }
                }
                if let Err(failure) = peer.send(&out).await {
                    return failure;
                }
            }
        }
    }
}

fn quiet(packet: Packet<'_>) -> Result<(), Failure> {
    match packet {
        Packet::PubAck(_) | Packet::PingResp => Ok(()),
        other => Err(Failure::Other(format!("a client that only sends got {}", other.kind()))),
    }
}
