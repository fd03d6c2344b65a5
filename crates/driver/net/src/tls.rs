//! TLS 1.2 and 1.3 on both ends: a server whose certificate can change while it runs, clients that trust given roots alone.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Stream;

/// Why certificates or keys cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text cannot be read.
    #[error("{what} is not PEM: {reason}")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not serve for TLS.
    #[error("the certificate cannot be used for TLS")]
    Unusable(#[source] rustls::Error),
}

/// The server's end: configuration shared by all connections.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificate: Arc<CurrentCertificate>,
}

impl ServerTls {
    /// TLS with the certificate chain (server first) and private key in `chain_pem` and `key_pem`. Clients are asked for a
    /// certificate but need none, and the chain they show is not judged here: see [`TlsPeer`].
    ///
    /// # Errors
    /// When either text is not PEM, or the key is not the certificate's.
    pub fn new(chain_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let certificate = Arc::new(CurrentCertificate(RwLock::new(certified(chain_pem, key_pem, &provider)?)));
        let verifier = Arc::new(AskButDoNotJudge(provider.signature_verification_algorithms));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<CurrentCertificate>::clone(&certificate));
        Ok(Self { config: Arc::new(config), certificate })
    }

    /// Shows this certificate to whoever connects from now on; connections that exist go on.
    ///
    /// # Errors
    /// As [`Self::new`]; the old certificate then stays.
    pub fn replace_certificate(&self, chain_pem: &str, key_pem: &str) -> Result<(), TlsError> {
        let new = certified(chain_pem, key_pem, self.config.crypto_provider())?;
        *self.certificate.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

fn certified(chain_pem: &str, key_pem: &str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates("the certificate chain", chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| TlsError::Pem { what: "the private key", reason: error.to_string() })?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Unusable)?;
    Ok(Arc::new(certified))
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    if found.is_empty() {
        return Err(TlsError::Pem { what, reason: "it holds no certificate".to_owned() });
    }
    Ok(found)
}

#[derive(Debug)]
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Takes any client certificate whose key the client holds; whether it is a known client is decided with the registry, later.
#[derive(Debug)]
struct AskButDoNotJudge(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AskButDoNotJudge {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What a client showed in its handshake.
#[derive(Debug, Clone, Default)]
pub struct TlsPeer {
    /// Its certificate, then its issuers as far as sent; empty when it showed none. It holds the key of the first; nothing else
    /// is known about the chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The host name it asked for.
    pub server_name: Option<String>,
}

/// Bounds on connections that are not through their handshake yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// Handshakes at the same time; a connection that has sent nothing yet is not one. One costs about 12 KiB.
    pub handshakes_max: usize,
    /// How long a connection may send nothing at all.
    pub silence_max: Duration,
    /// How long a handshake may take from its first byte, waiting for its turn included.
    pub duration_max: Duration,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { handshakes_max: 512, silence_max: Duration::from_secs(60), duration_max: Duration::from_secs(20) }
    }
}

/// Why a TLS handshake did not end well.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer sent nothing.
    #[error("the peer sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// It took too long.
    #[error("the TLS handshake took longer than {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The peer spoke no TLS, wanted what we do not offer, did not trust us, or closed the connection.
    #[error("the TLS handshake failed: {0}")]
    Failed(#[source] io::Error),
    /// TLS is spoken on TCP alone.
    #[error("TLS is spoken on TCP alone")]
    NotTcp,
}

/// Takes connections through their handshake. Clones share the limit.
#[derive(Debug, Clone)]
pub struct TlsAcceptor {
    tls: ServerTls,
    limits: HandshakeLimits,
    turns: Arc<Semaphore>,
}

impl TlsAcceptor {
    /// An acceptor with its own count of handshakes.
    pub fn new(tls: ServerTls, limits: HandshakeLimits) -> Self {
        let turns = Arc::new(Semaphore::new(limits.handshakes_max.min(Semaphore::MAX_PERMITS)));
        Self { tls, limits, turns }
    }

    /// The handshake of a TCP connection. Until the peer's first byte arrives it costs no more than its socket and task.
    ///
    /// # Errors
    /// When the peer is silent or slow, or the handshake fails.
    pub async fn accept(&self, stream: Stream) -> Result<(Stream, TlsPeer), HandshakeError> {
        let Stream::Tcp(tcp) = stream else { return Err(HandshakeError::NotTcp) };
        let silence = self.limits.silence_max;
        timeout(silence, tcp.readable())
            .await
            .map_err(|_| HandshakeError::Silent(silence))?
            .map_err(HandshakeError::Failed)?;
        let deadline = Instant::now() + self.limits.duration_max;
        let too_slow = |_| HandshakeError::TooSlow(self.limits.duration_max);
        let _turn = timeout_at(deadline, self.turns.acquire()).await.map_err(too_slow)?;
        let handshake = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.tls.config)).accept(tcp);
        // On the heap, so that a connection's task does not stay as large as its handshake was.
        let tls = timeout_at(deadline, Box::pin(handshake)).await.map_err(too_slow)?.map_err(HandshakeError::Failed)?;
        let (_, connection) = tls.get_ref();
        let peer = TlsPeer {
            chain: connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|one| one.clone().into_owned())
                .collect(),
            server_name: connection.server_name().map(str::to_owned),
        };
        Ok((Stream::TlsServer(Box::new(tls)), peer))
    }
}

/// The client's end: which roots it trusts.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// TLS that trusts the certificates in `roots_pem` and nothing else.
    ///
    /// # Errors
    /// When the text is not PEM, or a certificate cannot be a root.
    pub fn new(roots_pem: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates("the list of trusted roots", roots_pem)? {
            roots.add(root).map_err(TlsError::Unusable)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Unusable)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// The handshake with a server that must be `host`, a name or an address.
    ///
    /// # Errors
    /// When the server is another or not trusted, the handshake fails, or it takes longer than `limit`.
    pub async fn connect(&self, stream: Stream, host: &str, limit: Duration) -> Result<Stream, HandshakeError> {
        let Stream::Tcp(tcp) = stream else { return Err(HandshakeError::NotTcp) };
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| HandshakeError::Failed(io::Error::other(format!("`{host}` is not a host name"))))?;
        let handshake = tokio_rustls::TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp);
        match timeout(limit, handshake).await {
            Ok(Ok(tls)) => Ok(Stream::TlsClient(Box::new(tls))),
            Ok(Err(error)) => Err(HandshakeError::Failed(error)),
            Err(_) => Err(HandshakeError::TooSlow(limit)),
        }
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
