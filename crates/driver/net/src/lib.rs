//! Everything that touches a socket: listeners, TLS, HTTP client and server, and the clock that paces them.

#![forbid(unsafe_code)]

mod causes;
mod clock;
mod connect;
pub mod http;
mod listener;
mod stream;
mod tls;

pub use causes::with_causes;
pub use clock::Clock;
pub use connect::{ConnectError, connect_tcp, connect_unix};
pub use listener::{BindError, ListenAddress, Listener, Peer, PeerCredentials, Socket};
pub use stream::Stream;
pub use tls::{ClientTls, HandshakeError, HandshakeLimits, ServerTls, TlsAcceptor, TlsError, TlsPeer};
