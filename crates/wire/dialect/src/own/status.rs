//! How an edge fares: `GET /skerry/status` on its local socket.

use serde_json::json;
use skerry_model::{Json, RequestError, Timestamp, json::JsonObject};

use super::Connections;
use crate::body::{member, object, text};

/// An edge as a whole. What a role does not know (an agent without a hub beside it) is left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeStatus {
    /// The device's id.
    pub device: String,
    /// The hub's name.
    pub hub: String,
    /// The program's version.
    pub version: String,
    /// Whether the hub is reached.
    pub upstream_connected: bool,
    /// Since when it is reached, or is not.
    pub upstream_since: Option<Timestamp>,
    /// Why it is not reached.
    pub upstream_error: Option<String>,
    /// How the current manifest fares.
    pub deployment: Option<DeploymentState>,
    /// What waits to be delivered.
    pub store: Option<StoreState>,
    /// Who is connected here, who was refused.
    pub connections: Option<Connections>,
}

/// How the current manifest fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeploymentState {
    /// Version of the agent's desired properties.
    pub version: u64,
    /// 200 when done; as reported to the hub otherwise.
    pub code: u64,
    /// What is wrong; empty when nothing is.
    pub description: String,
}

/// What waits to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreState {
    /// Messages that wait.
    pub messages: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that may be on disk.
    pub bytes_max: u64,
    /// No more is taken until some are delivered.
    pub full: bool,
}

impl StoreState {
    /// The document that says this.
    pub fn document(self) -> Json {
        json!({ "messages": self.messages, "bytes": self.bytes, "bytesMax": self.bytes_max, "full": self.full })
    }

    /// Reads such a document; what is missing is nothing.
    pub fn from_object(document: &JsonObject) -> Self {
        Self {
            messages: number(document, "messages"),
            bytes: number(document, "bytes"),
            bytes_max: number(document, "bytesMax"),
            full: flag(document, "full"),
        }
    }
}

impl EdgeStatus {
    /// The document that says this.
    pub fn document(&self) -> Json {
        let deployment = self.deployment.as_ref().map(|deployment| {
            json!({ "version": deployment.version, "code": deployment.code, "description": deployment.description })
        });
        json!({
            "device": self.device,
            "hub": self.hub,
            "version": self.version,
            "upstream": {
                "connected": self.upstream_connected,
                "since": self.upstream_since.map(|since| since.to_string()),
                "error": self.upstream_error,
            },
            "deployment": deployment,
            "store": self.store.map(StoreState::document),
            "connections": self.connections.as_ref().map(Connections::document),
        })
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    /// When it is not such a document.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        let body = object(body)?;
        let nothing = JsonObject::new();
        let upstream = member(&body, "upstream")?.unwrap_or(&nothing);
        let owned = |name: &str| text(&body, name).map(|value| value.unwrap_or_default().to_owned());
        let since = text(upstream, "since")?.and_then(|text| Timestamp::parse(text).ok());
        Ok(Self {
            device: owned("device")?,
            hub: owned("hub")?,
            version: owned("version")?,
            upstream_connected: flag(upstream, "connected"),
            upstream_since: since,
            upstream_error: text(upstream, "error")?.map(str::to_owned),
            deployment: member(&body, "deployment")?.map(deployment).transpose()?,
            store: member(&body, "store")?.map(StoreState::from_object),
            connections: member(&body, "connections")?.map(Connections::from_object).transpose()?,
        })
    }
}

fn deployment(document: &JsonObject) -> Result<DeploymentState, RequestError> {
    let description = text(document, "description")?.unwrap_or_default().to_owned();
    Ok(DeploymentState { version: number(document, "version"), code: number(document, "code"), description })
}

fn number(document: &JsonObject, name: &str) -> u64 {
    document.get(name).and_then(Json::as_u64).unwrap_or(0)
}

fn flag(document: &JsonObject, name: &str) -> bool {
    document.get(name).and_then(Json::as_bool).unwrap_or(false)
}
