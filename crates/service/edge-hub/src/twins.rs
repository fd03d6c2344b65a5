//! Twins of local clients: a durable copy that serves them while the hub above is away, and reported patches that wait for it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::{
    Channel, ClientId, Delivery, ErrorCode, Json, Limits, Reply, Request, RequestError, Timestamp, Twin, difference,
    merge,
};
use skerry_state::{Change, Expect, Key, Kind, StateError, StateStore};
use tokio::sync::Mutex;

use crate::hub::Hub;

const TWIN: Kind = Kind::new("edge-twin");
/// Twins kept in memory; the others are read from the store when they are asked for.
const CACHED_MAX: usize = 1_000;

/// The copies of twins.
pub(crate) struct Twins {
    state: Arc<dyn StateStore>,
    cached: Mutex<HashMap<ClientId, Arc<Mutex<Copy>>>>,
}

/// What this edge knows of one twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Copy {
    desired: JsonObject,
    desired_version: u64,
    reported: JsonObject,
    reported_version: u64,
    /// What the client reported and the hub above has not taken yet, `null`s kept.
    pending: Option<JsonObject>,
    /// Desired properties have been followed without a gap on the connection of this number.
    followed_on: Option<u64>,
}

impl Copy {
    /// The client's view, what it has reported itself on top.
    fn view(&self) -> Json {
        let mut desired = self.desired.clone();
        desired.insert("$version".to_owned(), self.desired_version.max(1).into());
        let mut reported = self.reported.clone();
        if let Some(pending) = &self.pending {
            merge(&mut reported, pending);
        }
        reported.insert("$version".to_owned(), self.reported_version.max(1).into());
        json!({ "desired": desired, "reported": reported })
    }

    /// Takes over what the hub above says. Answers how the desired properties changed, when they did.
    fn take(&mut self, twin: &Json) -> Option<(JsonObject, u64)> {
        let (desired, desired_version) = section(&twin["desired"])?;
        let (reported, reported_version) = section(&twin["reported"])?;
        self.reported = reported;
        self.reported_version = reported_version;
        if desired_version == self.desired_version {
            return None;
        }
        let patch = difference(&self.desired, &desired);
        self.desired = desired;
        self.desired_version = desired_version;
        // Versions that changed nothing need not be told.
        (!patch.is_empty()).then_some((patch, desired_version))
    }

    /// Checks and keeps what the client reports.
    fn report(&mut self, patch: &JsonObject, at: Timestamp, limits: &Limits) -> Result<(), RequestError> {
        let mut reported = self.reported.clone();
        if let Some(pending) = &self.pending {
            merge(&mut reported, pending);
        }
        let mut twin = Twin::default();
        twin.reported.properties = reported;
        twin.patch_reported(patch, None, at, limits)
            .map_err(|error| RequestError::new(error.code(), error.to_string()))?;
        match &mut self.pending {
            Some(pending) => merge_keeping_nulls(pending, patch),
            none => *none = Some(patch.clone()),
        }
        Ok(())
    }

    fn to_record(&self) -> Json {
        json!({
            "desired": self.desired, "desiredVersion": self.desired_version,
            "reported": self.reported, "reportedVersion": self.reported_version,
            "pending": self.pending,
        })
    }

    fn from_record(record: &Json) -> Self {
        let object = |name: &str| record[name].as_object().cloned();
        Self {
            desired: object("desired").unwrap_or_default(),
            desired_version: record["desiredVersion"].as_u64().unwrap_or(0),
            reported: object("reported").unwrap_or_default(),
            reported_version: record["reportedVersion"].as_u64().unwrap_or(0),
            pending: object("pending"),
            followed_on: None,
        }
    }
}

fn section(value: &Json) -> Option<(JsonObject, u64)> {
    let mut properties = value.as_object()?.clone();
    let version = properties.shift_remove("$version")?.as_u64()?;
    properties.retain(|key, _| !key.starts_with('$'));
    Some((properties, version))
}

/// Merges `patch` into an earlier patch: a `null` still has to delete upstream, so it stays.
fn merge_keeping_nulls(into: &mut JsonObject, patch: &JsonObject) {
    for (key, value) in patch {
        match (into.get_mut(key), value) {
            (Some(Json::Object(known)), Json::Object(new)) => merge_keeping_nulls(known, new),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

impl Twins {
    pub(crate) fn new(state: Arc<dyn StateStore>) -> Self {
        Self { state, cached: Mutex::default() }
    }

    async fn copy(&self, client: &ClientId) -> Result<Arc<Mutex<Copy>>, StateError> {
        let mut cached = self.cached.lock().await;
        if let Some(copy) = cached.get(client) {
            return Ok(copy.clone());
        }
        let stored = self.state.get(&Key::new(TWIN, client.to_string())).await?;
        let copy = stored.map(|record| Copy::from_record(&record.value)).unwrap_or_default();
        let copy = Arc::new(Mutex::new(copy));
        if cached.len() >= CACHED_MAX {
            // One that nobody holds at the moment is as good as any other.
            cached.retain(|_, copy| Arc::strong_count(copy) > 1);
        }
        cached.insert(client.clone(), copy.clone());
        Ok(copy)
    }

    async fn store(&self, client: &ClientId, copy: &Copy) -> Result<(), StateError> {
        let key = Key::new(TWIN, client.to_string());
        self.state.commit(vec![Change::put(key, Expect::Any, copy.to_record())]).await.map(|_| ())
    }

    /// Forgets the copy of a client that is gone for good.
    pub(crate) async fn forget(&self, client: &ClientId) -> Result<(), StateError> {
        self.cached.lock().await.remove(client);
        let key = Key::new(TWIN, client.to_string());
        self.state.commit(vec![Change::delete(key, Expect::Any)]).await.map(|_| ())
    }
}

/// What a failing store means to a client.
fn unavailable(error: StateError) -> RequestError {
    tracing::error!(%error, "a twin cannot be read or written");
    RequestError::new(ErrorCode::Unavailable, "the store of twins cannot be used at the moment")
}

impl Hub {
    /// The twin as its client sees it: from above when that is possible in time, else the copy.
    pub(crate) async fn get_twin(self: &Arc<Self>, client: &ClientId) -> Result<Reply, RequestError> {
        let copy = self.twins.copy(client).await.map_err(unavailable)?;
        let connection = self.upstream.connection(client);
        {
            let copy = copy.lock().await;
            if connection.is_some() && copy.followed_on == connection && self.follows_desired(client) {
                return Ok(Reply::Twin(copy.view()));
            }
        }
        if connection.is_some() {
            self.read_twin(client, &copy).await;
        }
        let copy = copy.lock().await;
        Ok(Reply::Twin(copy.view()))
    }

    /// Reads the twin from above into the copy, and tells the client how its desired properties changed when it listens.
    async fn read_twin(self: &Arc<Self>, client: &ClientId, copy: &Mutex<Copy>) {
        let Some(session) = self.upstream.session(client) else { return };
        let connection = self.upstream.connection(client);
        let asked = tokio::time::timeout(self.config.twin_wait, session.submit(Request::GetTwin)).await;
        let twin = match asked {
            Ok(Reply::Twin(twin)) => twin,
            Ok(other) => {
                tracing::debug!(%client, ?other, "upstream does not give the twin");
                return;
            }
            Err(_) => return,
        };
        let mut copy = copy.lock().await;
        let change = copy.take(&twin);
        copy.followed_on = connection;
        if let Err(error) = self.twins.store(client, &copy).await {
            tracing::error!(%client, %error, "a twin cannot be stored");
        }
        if let Some((patch, version)) = change {
            self.sessions.deliver(client, Channel::Desired, Delivery::Desired { patch: patch.into(), version });
        }
    }

    /// Desired properties changed above.
    pub(crate) async fn desired_changed(self: &Arc<Self>, client: &ClientId, patch: &JsonObject, version: u64) {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return };
        {
            let mut known = copy.lock().await;
            if version <= known.desired_version {
                return;
            }
            if version == known.desired_version + 1 {
                merge(&mut known.desired, patch);
                known.desired_version = version;
                if let Err(error) = self.twins.store(client, &known).await {
                    tracing::error!(%client, %error, "a twin cannot be stored");
                }
                let delivery = Delivery::Desired { patch: Arc::new(patch.clone()), version };
                self.sessions.deliver(client, Channel::Desired, delivery);
                return;
            }
        }
        // Something was missed in between.
        self.read_twin(client, &copy).await;
    }

    /// Whether somebody here wants to know of changes: the client itself, or this hub when it is its own twin.
    fn follows_desired(&self, client: &ClientId) -> bool {
        *client == ClientId::Module(self.config.own_module()) || self.sessions.listens(client, Channel::Desired)
    }

    /// The desired properties of the copy and their version; `None` when nothing was ever heard from above.
    pub(crate) async fn known_desired(&self, client: &ClientId) -> Option<(JsonObject, u64)> {
        let copy = self.twins.copy(client).await.map_err(unavailable).ok()?;
        let copy = copy.lock().await;
        (copy.desired_version > 0).then(|| (copy.desired.clone(), copy.desired_version))
    }

    /// The client's connection above is new: what was missed is read, what waits is sent.
    pub(crate) async fn twin_reconnected(self: &Arc<Self>, client: &ClientId) {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return };
        if self.follows_desired(client) {
            self.read_twin(client, &copy).await;
        }
        self.send_reported(client).await;
    }

    /// Keeps what the client reports, answers at once, and sends it on when the hub above is there.
    pub(crate) async fn patch_reported(
        self: &Arc<Self>,
        client: &ClientId,
        patch: JsonObject,
    ) -> Result<Reply, RequestError> {
        let copy = self.twins.copy(client).await.map_err(unavailable)?;
        {
            let mut copy = copy.lock().await;
            let before = copy.clone();
            copy.report(&patch, self.clock.now().wall, &self.config.limits)?;
            if let Err(error) = self.twins.store(client, &copy).await {
                *copy = before;
                return Err(unavailable(error));
            }
        }
        self.notify_twin_change(client, &patch);
        self.upstream.reported_waits(client);
        Ok(Reply::Reported { version: None })
    }

    /// Sends what waits to the hub above; what is reported meanwhile waits for the next turn.
    pub(crate) async fn send_reported(self: &Arc<Self>, client: &ClientId) {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return };
        let Some(session) = self.upstream.session(client) else { return };
        let Some(patch) = copy.lock().await.pending.clone() else { return };
        let reply = session.submit(Request::PatchReported { patch: patch.clone(), if_version: None }).await;
        let mut copy = copy.lock().await;
        match reply {
            Reply::Reported { version } => {
                merge(&mut copy.reported, &patch);
                copy.reported_version = version.unwrap_or(copy.reported_version);
            }
            Reply::Failed(error) if is_final(error.code) => {
                tracing::warn!(%client, %error, "the hub does not take reported properties; they are dropped");
            }
            // Tried again when the connection is back.
            _ => return,
        }
        copy.pending = copy.pending.take().and_then(|pending| without(pending, &patch));
        if let Err(error) = self.twins.store(client, &copy).await {
            tracing::error!(%client, %error, "a twin cannot be stored");
        }
    }
}

/// The same patch again would be refused again.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::BadRequest
            | ErrorCode::ArgumentInvalid
            | ErrorCode::Format
            | ErrorCode::TooLarge
            | ErrorCode::Forbidden
    )
}

/// What of `pending` is newer than `sent`: members that `sent` holds with the same value are left out.
fn without(mut pending: JsonObject, sent: &JsonObject) -> Option<JsonObject> {
    pending.retain(|key, value| {
        if sent.get(key) == Some(value) {
            return false;
        }
        let (Json::Object(inner), Some(Json::Object(sent))) = (value, sent.get(key)) else { return true };
        let newer = without(std::mem::take(inner), sent);
        let some_is_newer = newer.is_some();
        *inner = newer.unwrap_or_default();
        some_is_newer
    });
    (!pending.is_empty()).then_some(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Json) -> JsonObject {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn what_is_reported_offline_is_seen_at_once_and_kept_with_its_nulls() {
        let mut copy = Copy::default();
        copy.take(&json!({"desired": {"$version": 4}, "reported": {"a": 1, "b": {"c": 2}, "$version": 7}}));
        let at = Timestamp::default();
        copy.report(&object(json!({"a": null, "b": {"d": 3}})), at, &Limits::default()).unwrap();
        copy.report(&object(json!({"b": {"c": null}, "e": 5})), at, &Limits::default()).unwrap();
        assert_eq!(copy.view()["reported"], json!({"b": {"d": 3}, "$version": 7, "e": 5}));
        assert_eq!(Json::Object(copy.pending.clone().unwrap()), json!({"a": null, "b": {"d": 3, "c": null}, "e": 5}));
        assert_eq!(Copy::from_record(&copy.to_record()), copy);
    }

    #[test]
    fn a_patch_that_breaks_a_rule_changes_nothing() {
        let mut copy = Copy::default();
        let before = copy.clone();
        let error = copy.report(&object(json!({"a.b": 1})), Timestamp::default(), &Limits::default()).unwrap_err();
        assert_eq!((error.code, copy), (ErrorCode::ArgumentInvalid, before));
    }

    #[test]
    fn a_newer_twin_gives_the_difference() {
        let mut copy = Copy::default();
        copy.take(&json!({"desired": {"a": 1, "b": 2, "$version": 4}, "reported": {"$version": 1}}));
        let change = copy.take(&json!({"desired": {"a": 1, "c": 3, "$version": 6}, "reported": {"$version": 1}}));
        let (patch, version) = change.unwrap();
        assert_eq!((Json::Object(patch), version), (json!({"b": null, "c": 3}), 6));
        assert_eq!(copy.take(&json!({"desired": {"$version": 6}, "reported": {"$version": 1}})), None);
    }

    #[test]
    fn what_was_sent_does_not_wait_any_more_but_what_came_since_does() {
        let sent = object(json!({"a": 1, "b": {"c": 2, "d": 3}}));
        let pending = object(json!({"a": 1, "b": {"c": 9, "d": 3}, "e": null}));
        assert_eq!(without(pending, &sent).map(Json::Object), Some(json!({"b": {"c": 9}, "e": null})));
        assert_eq!(without(sent.clone(), &sent), None);
    }
}
