//! The hub's own certificates: an authority made at the first start, a server certificate renewed when names or time want it.

use std::path::Path;
use std::time::Duration;

use skerry_model::Timestamp;
use skerry_pki::{
    AuthoritySpec, CertificateAuthority, CertificateDetails, CertificateRequest, PkiError, Random, files,
};
use zeroize::Zeroizing;

use crate::config::Settings;

/// The authority outlives the devices that trust it.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// Public clients refuse server certificates that live longer than 398 days.
const SERVER_LIFETIME: Duration = Duration::from_secs(397 * 24 * 60 * 60);

/// What the hub shows to clients.
pub(crate) struct ServerIdentity {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: Zeroizing<String>,
}

/// The certificate of the authority clients have to trust is in this file of the data folder.
pub(crate) const CA_FILE: &str = "ca.pem";

/// Loads or makes the authority, and the server certificate for the names of `settings`.
pub(crate) fn server_identity(
    folder: &Path,
    settings: &Settings,
    now: Timestamp,
    random: &Random,
) -> Result<ServerIdentity, PkiError> {
    let spec = AuthoritySpec {
        common_name: format!("Skerry hub {} CA", settings.name),
        lifetime: AUTHORITY_LIFETIME,
        path_length: None,
    };
    let authority =
        CertificateAuthority::load_or_create(&folder.join(CA_FILE), &folder.join("ca.key"), &spec, now, random)?;
    let addresses = settings.mqtt.iter().chain(&settings.https).map(|address| address.ip().to_string());
    let names = [settings.name.clone()].into_iter().chain(settings.also_known_as.iter().cloned()).chain(addresses);
    let wanted = CertificateRequest::server(names);
    let (chain_path, key_path) = (folder.join("server.pem"), folder.join("server.key"));
    if let (Some(chain), Some(key_pem)) = (files::read_text(&chain_path)?, files::read_text(&key_path)?) {
        // What cannot be read is made anew below; nobody but this hub relies on it.
        if let Ok(details) = CertificateDetails::from_pem(&chain)
            && authority.needs_reissue(&details, &wanted, now).is_none()
        {
            return Ok(ServerIdentity { chain_pem: chain.to_string(), key_pem });
        }
    }
    let issued = authority.issue(&wanted, now, SERVER_LIFETIME)?;
    files::write_private(&key_path, issued.key_pem.as_bytes())?;
    files::write_public(&chain_path, issued.chain_pem.as_bytes())?;
    Ok(ServerIdentity { chain_pem: issued.chain_pem, key_pem: issued.key_pem })
}
