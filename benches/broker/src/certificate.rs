//! A server certificate with an authority of its own, made the way our programs make theirs, for a broker that is not ours.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use skerry_net::Clock;
use skerry_pki::{AuthoritySpec, CertificateAuthority, CertificateRequest, PkiError, Random, files};

use crate::failure::Failure;

const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder for `ca.pem`, `server.pem` and `server.key`.
    #[arg(long)]
    out: PathBuf,
    /// A name or address of the server.
    #[arg(long, required = true)]
    name: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    make(options).map_err(|error| Failure::because("certificate", &error))
}

fn make(options: &Options) -> Result<(), PkiError> {
    let (now, random) = (Clock::system().now().wall, Random::system());
    let spec = AuthoritySpec { common_name: "benchmark".to_owned(), lifetime: LIFETIME, path_length: None };
    let authority = CertificateAuthority::create(&spec, now, &random)?;
    let issued =
        authority.issue(&CertificateRequest::server(options.name.iter().map(String::as_str)), now, LIFETIME)?;
    files::private_folder(&options.out)?;
    files::write_public(&options.out.join("ca.pem"), authority.chain_pem().as_bytes())?;
    files::write_public(&options.out.join("server.pem"), issued.chain_pem.as_bytes())?;
    files::write_private(&options.out.join("server.key"), issued.key_pem.as_bytes())
}
