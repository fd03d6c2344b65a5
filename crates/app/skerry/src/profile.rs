//! How to reach a hub, saved by `skerry login` for the commands after it. The file holds a key and has mode 0600.

use std::path::{Path, PathBuf};

use skerry_dialect::connection_string::ServiceConnection;
use skerry_pki::files;

use crate::failure::Failure;

/// Where certificates that everybody trusts are found, when the hub's own authority was not given.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The profile that is used when none is named.
pub(crate) const DEFAULT: &str = "default";

/// A hub, how to prove oneself there, and whom to trust.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    pub(crate) connection: ServiceConnection,
    /// PEM of the authority that signed the hub's certificate; `None` for the system's.
    pub(crate) ca_pem: Option<String>,
}

impl Profile {
    /// The profile of this name.
    pub(crate) fn load(name: &str) -> Result<Self, Failure> {
        let path = path(name)?;
        let text = files::read_text(&path)
            .map_err(|cause| Failure::failed("cannot read the saved login").because(cause))?
            .ok_or_else(|| Failure::unauthorised(not_logged_in(name)))?;
        Self::read(&text).map_err(|reason| Failure::failed(format!("{} is damaged: {reason}", path.display())))
    }

    /// Saves it under this name and tells where.
    pub(crate) fn save(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = path(name)?;
        let cannot = "cannot save the login";
        if let Some(folder) = path.parent() {
            files::private_folder(folder).map_err(|cause| Failure::failed(cannot).because(cause))?;
        }
        files::write_private(&path, self.write().as_bytes()).map_err(|cause| Failure::failed(cannot).because(cause))?;
        Ok(path)
    }

    /// The certificates to trust, as PEM.
    pub(crate) fn roots(&self) -> Result<String, Failure> {
        if let Some(pem) = &self.ca_pem {
            return Ok(pem.clone());
        }
        let own = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let candidates = own.into_iter().chain(SYSTEM_ROOTS.map(PathBuf::from));
        candidates
            .into_iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
            .ok_or_else(|| Failure::failed("this machine has no list of trusted certificates; log in with --ca"))
    }

    fn write(&self) -> String {
        let mut table = toml::Table::new();
        table.insert("connection_string".to_owned(), self.connection.to_string().into());
        if let Some(pem) = &self.ca_pem {
            table.insert("ca".to_owned(), pem.as_str().into());
        }
        table.to_string()
    }

    fn read(text: &str) -> Result<Self, String> {
        // The parser's own message would show the line, and with it the key.
        let table: toml::Table = text.parse().map_err(|_| "it is not TOML".to_owned())?;
        let connection = table.get("connection_string").and_then(toml::Value::as_str).unwrap_or_default();
        let connection = ServiceConnection::parse(connection).map_err(|error| error.to_string())?;
        Ok(Self { connection, ca_pem: table.get("ca").and_then(toml::Value::as_str).map(str::to_owned) })
    }
}

fn not_logged_in(name: &str) -> String {
    if name == DEFAULT {
        return "not logged in to a hub; `skerry login --help` says how".to_owned();
    }
    format!("no login is saved under the name `{name}`; `skerry --profile {name} login` saves one")
}

fn path(name: &str) -> Result<PathBuf, Failure> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !plain || name.starts_with('.') {
        return Err(Failure::usage(
            "a profile's name has letters, digits, `-`, `_` and `.`, and does not begin with `.`",
        ));
    }
    Ok(folder()?.join("profiles").join(format!("{name}.toml")))
}

/// `SKERRY_CONFIG_DIR`, else the XDG folder.
fn folder() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("SKERRY_CONFIG_DIR") {
        return Ok(folder);
    }
    variable("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))
        .map(|folder| folder.join("skerry"))
        .ok_or_else(|| Failure::usage("neither SKERRY_CONFIG_DIR nor HOME is set, so there is no place for the login"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "HostName=hub.local:8443;SharedAccessKeyName=iothubowner;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==";

    #[test]
    fn a_profile_is_read_back() {
        let connection = ServiceConnection::parse(TEXT).unwrap();
        for ca_pem in [None, Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned())] {
            let profile = Profile { connection: connection.clone(), ca_pem };
            assert_eq!(Profile::read(&profile.write()), Ok(profile));
        }
    }

    #[test]
    fn a_damaged_profile_does_not_show_its_key() {
        for text in [format!("connection_string = \"{TEXT};x"), format!("connection_string = \"{TEXT};DeviceId=d\"")] {
            let error = Profile::read(&text).unwrap_err();
            assert!(!error.contains("MDEy"), "{error}");
        }
    }

    #[test]
    fn names_of_profiles_stay_in_their_folder() {
        for name in ["", "../x", "a/b", ".hidden", "a b"] {
            assert!(path(name).is_err(), "{name}");
        }
    }
}
