//! What an edge's identity is made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skerry_dialect::connection_string::{ClientConnection, split_port};
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient};
use skerry_net::{ClientTls, Clock, TlsError};
use skerry_pki::Random;

use crate::{CallerCheck, ModuleListing};

const DAY: Duration = Duration::from_secs(86_400);
/// Port of a hub whose name has none.
const HTTPS_PORT: u16 = 443;

/// How long what is issued here lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetimes {
    /// The root made here.
    pub root: Duration,
    /// The edge's authority below that root; a new one is made when 80 % have passed.
    pub authority: Duration,
    /// Certificates of modules, whatever they ask for (`edge-workload-and-management-api` §3).
    pub module_certificate: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { root: DAY * 3_650, authority: DAY * 90, module_certificate: DAY * 30 }
    }
}

/// Where the edge's authority comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthoritySource {
    /// A root and an authority below it are made here.
    MadeHere,
    /// An operator's files.
    Files {
        /// PEM: the authority's certificate, then those above it.
        certificate: PathBuf,
        /// PEM (PKCS#8) of its private key.
        key: PathBuf,
    },
}

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct IdentityConfig {
    /// The device's connection string, with a shared key.
    pub connection: ClientConnection,
    /// Keys, certificates and what is remembered of modules; private to this process.
    pub data_folder: PathBuf,
    /// One folder per module is made in here, with its workload socket; see [`crate::SocketAccess`].
    pub workload_folder: PathBuf,
    /// Where the edge's authority comes from.
    pub authority: AuthoritySource,
    /// PEM file with more roots for modules to trust.
    pub extra_trust: Option<PathBuf>,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
}

/// What an edge's identity works with.
pub struct IdentityParts {
    /// The time.
    pub clock: Clock,
    /// Random bytes.
    pub random: Random,
    /// A client of the hub's HTTPS head; see [`hub_client`].
    pub hub: HttpClient,
    /// Decides whether a process is a module's.
    pub caller_check: CallerCheck,
    /// Lists the modules of this edge.
    pub modules: ModuleListing,
}

/// A client of the HTTPS head of the hub, or of the parent edge, that `connection` names.
///
/// # Errors
/// When `roots_pem` holds no usable root certificate.
pub fn hub_client(connection: &ClientConnection, roots_pem: &str) -> Result<HttpClient, TlsError> {
    let (host, port) = split_port(connection.target());
    let tls = ClientTls::new(roots_pem)?;
    let address = HttpAddress::Tls { host: host.to_owned(), port: port.unwrap_or(HTTPS_PORT), tls };
    // Modules that are known already wait for this once before they start without the hub.
    let limits = ClientLimits {
        connect_max: Duration::from_secs(10),
        answer_max: Duration::from_secs(30),
        ..ClientLimits::default()
    };
    Ok(HttpClient::new(address, limits))
}

/// What is fixed once the configuration is read.
#[derive(Debug)]
pub(crate) struct Provisioning {
    pub(crate) device: skerry_model::DeviceId,
    /// The hub's name without port: what tokens are for.
    pub(crate) hub_host: String,
}

pub(crate) type SharedProvisioning = Arc<Provisioning>;
