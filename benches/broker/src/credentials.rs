//! Who the clients are: one JSON file, written by `prepare` with mode 0600, read by `run` and `hold`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Everybody that `prepare` has made at a hub.
#[derive(Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The edge device's connection string.
    pub(crate) edge: String,
    /// Modules of the edge device, two by two.
    pub(crate) pairs: Vec<Pair>,
    /// Devices below the edge device.
    pub(crate) leaves: Vec<Login>,
}

/// A module that sends, and the one its messages are for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) publisher: Login,
    pub(crate) receiver: Login,
}

/// What a client says in its CONNECT packet. Holds a token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) client_id: String,
    #[serde(default)]
    pub(crate) user_name: Option<String>,
    #[serde(default)]
    pub(crate) password: Option<String>,
}

impl Login {
    /// Without name and password.
    pub(crate) fn anonymous(client_id: String) -> Self {
        Self { client_id, user_name: None, password: None }
    }

    /// `devices/{d}[/modules/{m}]`: where the client's topics begin.
    pub(crate) fn topic_prefix(&self) -> String {
        match self.client_id.split_once('/') {
            Some((device, module)) => format!("devices/{device}/modules/{module}"),
            None => format!("devices/{}", self.client_id),
        }
    }
}

impl Credentials {
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let what = format!("cannot read {}", path.display());
        let text = std::fs::read_to_string(path).map_err(Failure::io(what.clone()))?;
        // Only the place of a mistake is told: the text itself holds tokens.
        serde_json::from_str(&text)
            .map_err(|error| Failure::Other(format!("{what}: line {} column {}", error.line(), error.column())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_begin_with_the_identity() {
        assert_eq!(Login::anonymous("d/m".to_owned()).topic_prefix(), "devices/d/modules/m");
        assert_eq!(Login::anonymous("d".to_owned()).topic_prefix(), "devices/d");
    }

    #[test]
    fn a_damaged_file_does_not_show_its_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        std::fs::write(&path, r#"{"edge": "secret", "pairs": 1}"#).unwrap();
        let failure = Credentials::load(&path).map(drop).unwrap_err().to_string();
        assert!(failure.contains("line 1") && !failure.contains("secret"), "{failure}");
    }
}
