//! Outgoing connections: by name or address with a time limit, or to a unix socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::Stream;

/// Addresses of one name that are tried, in the resolver's order.
const ADDRESSES_TRIED_MAX: usize = 8;

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to `{target}`")]
pub struct ConnectError {
    /// To whom.
    pub target: String,
    /// The last reason; of the kind `TimedOut` when the time was up.
    #[source]
    pub cause: io::Error,
}

/// Connects to `host` (a name or an address), trying its addresses one after the other until `limit` is over.
///
/// # Errors
/// When the name is unknown, no address answers, or the time is up.
pub async fn connect_tcp(host: &str, port: u16, limit: Duration) -> Result<Stream, ConnectError> {
    let deadline = Instant::now() + limit;
    connect_any(host, port, deadline)
        .await
        .map(Stream::Tcp)
        .map_err(|cause| ConnectError { target: format!("{host}:{port}"), cause })
}

async fn connect_any(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses = timeout_at(deadline, resolve(host, port)).await??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let count = addresses.len();
    for (at, address) in addresses.into_iter().enumerate() {
        // An address that swallows packets must leave time for the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = Instant::now() + left / u32::try_from(count - at).unwrap_or(1);
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    // An address needs no resolver, whose thread would stay for a while.
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    Ok(tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_TRIED_MAX).collect())
}

/// Connects to the unix socket at `path`.
///
/// # Errors
/// When nobody listens there, its queue stays full until `limit` is over, or this process may not connect.
pub async fn connect_unix(path: &Path, limit: Duration) -> Result<Stream, ConnectError> {
    let connected = match tokio::time::timeout(limit, UnixStream::connect(path)).await {
        Ok(connected) => connected,
        Err(elapsed) => Err(elapsed.into()),
    };
    connected.map(Stream::Unix).map_err(|cause| ConnectError { target: format!("unix:{}", path.display()), cause })
}
