//! What the hub says when it is ready: where it listens and how to connect, in a few lines.

use std::fmt::Write as _;
use std::path::Path;

use skerry_cloud_hub::Policy;

use crate::config::Settings;
use crate::identity::CA_FILE;

/// The owner's connection string is in this file of the data folder (mode 0600).
pub(crate) const CONNECTION_STRING_FILE: &str = "connection-string";

/// The connection string of a policy.
pub(crate) fn connection_string(settings: &Settings, policy: &Policy) -> String {
    let host = match settings.https.first() {
        Some(address) if address.port() != 443 => format!("{}:{}", settings.name, address.port()),
        _ => settings.name.clone(),
    };
    format!("HostName={host};SharedAccessKeyName={};SharedAccessKey={}", policy.name, policy.keys.primary.to_base64())
}

/// What to tell whoever started the hub. Holds no secret: this is what ends up in logs.
pub(crate) fn greeting(settings: &Settings, folder: &Path) -> String {
    let list = |addresses: &[std::net::SocketAddr]| {
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "off".to_owned() } else { texts.join(", ") }
    };
    let mut text = format!("skerry-hub {} is ready as `{}`\n", env!("CARGO_PKG_VERSION"), settings.name);
    let _ = writeln!(text, "  MQTT over TLS   {}", list(&settings.mqtt));
    let _ = writeln!(text, "  HTTPS           {}", list(&settings.https));
    let _ = writeln!(text, "  trust           {}", folder.join(CA_FILE).display());
    let _ = writeln!(text, "  owner           {}", folder.join(CONNECTION_STRING_FILE).display());
    let _ = writeln!(text, "  next            skerry login --hub-dir {}", folder.display());
    text
}
