//! Listening sockets: an explicit address each, TCP or unix, that outlive a shortage of file descriptors.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::Stream;

/// Connections the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;
/// First and longest wait when the process or the system has no file descriptor to give.
const SHORTAGE_WAIT_MIN: Duration = Duration::from_millis(20);
const SHORTAGE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address of this machine; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket file, which appears with exactly this mode and replaces an older one.
    Unix {
        /// Its path; the folder must exist.
        path: PathBuf,
        /// Permission bits, such as 0o660.
        mode: u32,
    },
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix { path, .. } => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`")]
pub struct BindError {
    /// Where.
    pub address: ListenAddress,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

/// The process at the other end of a unix socket, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id when it connected; `None` when it is in another process namespace.
    pub pid: Option<i32>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An address.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix(PeerCredentials),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(PeerCredentials { pid: Some(pid), uid, .. }) => write!(out, "process {pid} of user {uid}"),
            Self::Unix(PeerCredentials { pid: None, uid, .. }) => write!(out, "a process of user {uid}"),
        }
    }
}

/// An accepted connection that belongs to no runtime yet, so that it can be handed to another one.
#[derive(Debug)]
pub struct Socket(Accepted);

#[derive(Debug)]
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Gives the connection to the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch another file descriptor.
    pub fn attach(self) -> io::Result<Stream> {
        match self.0 {
            Accepted::Tcp(socket) => TcpStream::from_std(socket).map(Stream::Tcp),
            Accepted::Unix(socket) => UnixStream::from_std(socket).map(Stream::Unix),
        }
    }
}

/// Accepts connections at one address. A unix socket's file is removed when its listener is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: ListeningSocket,
    address: ListenAddress,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, inode: (u64, u64) },
}

impl Listener {
    /// Begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address is not this machine's, is taken, or may not be used by this process.
    pub fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address).and_then(|listener| {
                let address = ListenAddress::Tcp(listener.local_addr()?);
                Ok(Self { socket: ListeningSocket::Tcp(listener), address })
            }),
            ListenAddress::Unix { path, mode } => bind_unix(path, *mode).map(|(listener, inode)| Self {
                socket: ListeningSocket::Unix { listener, inode },
                address: address.clone(),
            }),
        };
        bound.map_err(|cause| BindError { address: address.clone(), cause })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The TCP port it listens on; `None` for a unix socket.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            ListenAddress::Tcp(address) => Some(address.port()),
            ListenAddress::Unix { .. } => None,
        }
    }

    /// The next connection. Never fails: a peer that is gone already is passed over, a shortage is waited out with one log line.
    pub async fn accept(&self) -> (Socket, Peer) {
        let mut wait = Duration::ZERO;
        loop {
            match self.try_accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_shortage(&error) => {
                    if wait.is_zero() {
                        tracing::warn!(address = %self.address, %error, "cannot accept connections for now");
                    }
                    wait = (wait * 2).clamp(SHORTAGE_WAIT_MIN, SHORTAGE_WAIT_MAX);
                    tokio::time::sleep(wait).await;
                }
                // The peer went away between its knock and our answer.
                Err(error) => {
                    tracing::debug!(address = %self.address, %error, "a connection was lost before it was accepted")
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<(Socket, Peer)> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Socket(Accepted::Tcp(stream.into_std()?)), Peer::Tcp(address)))
            }
            ListeningSocket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer = PeerCredentials {
                    // The kernel says 0 when the process is in a namespace that we cannot see.
                    pid: credentials.pid().filter(|pid| *pid > 0),
                    uid: credentials.uid(),
                    gid: credentials.gid(),
                };
                Ok((Socket(Accepted::Unix(stream.into_std()?)), Peer::Unix(peer)))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let (ListeningSocket::Unix { inode, .. }, ListenAddress::Unix { path, .. }) = (&self.socket, &self.address) {
            // Another listener may have taken the name since.
            if inode_of(path).is_ok_and(|now| now == *inode) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds under another name and renames, so that the socket never stands there with a wrong mode and an old one is replaced at once.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, (u64, u64))> {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    let unfinished = PathBuf::from(name);
    let _ = fs::remove_file(&unfinished);
    let listener = UnixListener::bind(&unfinished)?;
    let finished = fs::set_permissions(&unfinished, fs::Permissions::from_mode(mode))
        .and_then(|()| inode_of(&unfinished))
        .and_then(|inode| fs::rename(&unfinished, path).map(|()| inode));
    match finished {
        Ok(inode) => Ok((listener, inode)),
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

fn inode_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// No file descriptor or memory left: the connection stays in the kernel's queue, so trying again at once would spin.
fn is_shortage(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_tcp_listener_tells_its_port_and_its_peers() {
        let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let port = listener.port().unwrap();
        let client = crate::connect_tcp("127.0.0.1", port, Duration::from_secs(5)).await.unwrap();
        let (socket, peer) = listener.accept().await;
        assert!(matches!(peer, Peer::Tcp(address) if address.ip().is_loopback()));
        let Stream::Tcp(stream) = socket.attach().unwrap() else { panic!() };
        assert!(stream.nodelay().unwrap());
        drop(client);
        let error = Listener::bind(listener.address()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on `127.0.0.1:{port}`"));
    }

    #[tokio::test]
    async fn a_unix_listener_has_its_mode_and_knows_the_process_at_the_other_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = ListenAddress::Unix { path: path.clone(), mode: 0o660 };
        let first = Listener::bind(&address).unwrap();
        let second = Listener::bind(&address).unwrap();
        drop(first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let mut client = crate::connect_unix(&path, Duration::from_secs(5)).await.unwrap();
        let (socket, peer) = second.accept().await;
        let Peer::Unix(credentials) = peer else { panic!() };
        assert_eq!(credentials.pid, Some(std::process::id() as i32));
        client.write_all(b"hello").await.unwrap();
        let mut text = [0; 5];
        socket.attach().unwrap().read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        drop(second);
        assert!(!path.exists());
        assert!(crate::connect_unix(&path, Duration::from_secs(5)).await.is_err());
    }

    #[test]
    fn only_a_shortage_is_waited_out() {
        assert!(is_shortage(&io::Error::from_raw_os_error(24)));
        assert!(!is_shortage(&io::Error::from(io::ErrorKind::ConnectionAborted)));
    }
}
