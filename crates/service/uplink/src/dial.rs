//! How a byte stream to the hub comes about.

use std::time::Duration;

use skerry_net::{ClientTls, ConnectError, HandshakeError, connect_tcp};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Boxed;

/// A byte stream to a hub.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Why there is no byte stream to the hub.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Somebody answers, but not the hub.
    #[error("no TLS connection with `{host}`")]
    Tls {
        /// Who should have answered.
        host: String,
        /// What went wrong.
        #[source]
        cause: HandshakeError,
    },
}

/// Makes byte streams to one hub.
pub trait Dial: Send + Sync + 'static {
    /// One more stream.
    fn dial(&self) -> Boxed<'_, Result<Box<dyn Wire>, DialError>>;
}

/// MQTT over TLS.
#[derive(Debug, Clone)]
pub struct TlsDial {
    /// The name or address that the server's certificate must have: the hub's, or the gateway's where one is used.
    pub host: String,
    /// The port, 8883 by custom.
    pub port: u16,
    /// Whom to trust.
    pub tls: ClientTls,
    /// Connect to this name or address and port instead; the certificate is still checked against `host`.
    pub connect_to: Option<(String, u16)>,
    /// Time for name resolution and TCP, and again for TLS.
    pub time_max: Duration,
}

impl Dial for TlsDial {
    fn dial(&self) -> Boxed<'_, Result<Box<dyn Wire>, DialError>> {
        Box::pin(async move {
            let (host, port) = match &self.connect_to {
                Some((host, port)) => (host.as_str(), *port),
                None => (self.host.as_str(), self.port),
            };
            let tcp = connect_tcp(host, port, self.time_max).await?;
            let tls = self.tls.connect(tcp, &self.host, self.time_max).await;
            let tls = tls.map_err(|cause| DialError::Tls { host: self.host.clone(), cause })?;
            Ok(Box::new(tls) as Box<dyn Wire>)
        })
    }
}
