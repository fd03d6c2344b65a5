//! Who is connected, who was refused and why: `GET /skerry/connections` of a hub, and a part of an edge's status.

use serde_json::json;
use skerry_model::{ClientId, Json, RequestError, Timestamp, json::JsonObject};

use crate::body::{invalid, object, text};

/// A client that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedLine {
    /// Who.
    pub client: ClientId,
    /// From which address.
    pub peer: String,
    /// Over which protocol.
    pub protocol: String,
    /// What the client says of itself.
    pub product: String,
    /// Since when.
    pub since: Timestamp,
}

/// Somebody who was not let in, or was put out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    /// From which address.
    pub peer: String,
    /// The name it gave; may be empty.
    pub claimed: String,
    /// Over which protocol.
    pub protocol: String,
    /// What was wrong with what.
    pub reason: String,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
}

/// Both lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connections {
    /// Who is connected, longest first.
    pub connected: Vec<ConnectedLine>,
    /// Who was refused, the most recent first.
    pub refused: Vec<RefusedLine>,
    /// All refusals since the start, also those that are not listed any more.
    pub refusals: u64,
}

impl Connections {
    /// The document that says this.
    pub fn document(&self) -> Json {
        let connected: Vec<_> = self
            .connected
            .iter()
            .map(|line| {
                json!({
                    "client": line.client.to_string(), "peer": line.peer, "protocol": line.protocol,
                    "product": line.product, "since": line.since.to_string(),
                })
            })
            .collect();
        let refused: Vec<_> = self
            .refused
            .iter()
            .map(|line| {
                json!({
                    "peer": line.peer, "claimed": line.claimed, "protocol": line.protocol, "reason": line.reason,
                    "first": line.first.to_string(), "last": line.last.to_string(), "count": line.count,
                })
            })
            .collect();
        json!({ "connected": connected, "refused": refused, "refusals": self.refusals })
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    /// When it is not such a document.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        Self::from_object(&object(body)?)
    }

    /// Reads the document where it is part of another.
    ///
    /// # Errors
    /// When it is not such a document.
    pub fn from_object(body: &JsonObject) -> Result<Self, RequestError> {
        Ok(Self {
            connected: list(body, "connected", connected)?,
            refused: list(body, "refused", refused)?,
            refusals: body.get("refusals").and_then(Json::as_u64).unwrap_or(0),
        })
    }
}

fn list<T>(
    body: &JsonObject,
    name: &str,
    read: impl Fn(&JsonObject) -> Result<T, RequestError>,
) -> Result<Vec<T>, RequestError> {
    match body.get(name) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(entries)) => entries
            .iter()
            .map(|entry| {
                read(entry.as_object().ok_or_else(|| invalid(format!("an entry of `{name}` is not an object")))?)
            })
            .collect(),
        Some(_) => Err(invalid(format!("`{name}` is not an array"))),
    }
}

fn connected(entry: &JsonObject) -> Result<ConnectedLine, RequestError> {
    let client = text(entry, "client")?.unwrap_or_default();
    Ok(ConnectedLine {
        client: ClientId::parse(client).map_err(|error| invalid(format!("`client`: {error}")))?,
        peer: owned(entry, "peer")?,
        protocol: owned(entry, "protocol")?,
        product: owned(entry, "product")?,
        since: time(entry, "since")?,
    })
}

fn refused(entry: &JsonObject) -> Result<RefusedLine, RequestError> {
    Ok(RefusedLine {
        peer: owned(entry, "peer")?,
        claimed: owned(entry, "claimed")?,
        protocol: owned(entry, "protocol")?,
        reason: owned(entry, "reason")?,
        first: time(entry, "first")?,
        last: time(entry, "last")?,
        count: entry.get("count").and_then(Json::as_u64).unwrap_or(1),
    })
}

fn owned(entry: &JsonObject, name: &str) -> Result<String, RequestError> {
    Ok(text(entry, name)?.unwrap_or_default().to_owned())
}

fn time(entry: &JsonObject, name: &str) -> Result<Timestamp, RequestError> {
    let text = text(entry, name)?.ok_or_else(|| invalid(format!("`{name}` is missing")))?;
    Timestamp::parse(text).map_err(|error| invalid(format!("`{name}` is {error}")))
}
