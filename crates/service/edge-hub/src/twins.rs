//! Twins of local clients: a durable copy that serves them while the hub above is away, and reported patches that wait for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::{
    Channel, ClientId, Delivery, ErrorCode, Json, Limits, Reply, Request, RequestError, Timestamp, Twin, difference,
    merge,
};
use skerry_state::{Change, Expect, Filter, Key, Kind, Page, StateError, StateStore};
use skerry_uplink::{State, is_final};
use tokio::sync::Mutex;

use crate::hub::Hub;
use crate::upstream::One;

const TWIN: Kind = Kind::new("edge-twin");
/// Twins kept in memory; the others are read from the store when they are asked for.
const CACHED_MAX: usize = 1_000;
/// Bytes that one client may have reported without the hub above having taken them, as JSON text.
const PENDING_BYTES_MAX: usize = 256 * 1024;
/// Records read at once.
const PAGE: u32 = 200;

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
    /// What was sent of it; the hub above may have taken it without our knowing.
    perhaps_sent: JsonObject,
    /// The client was served a twin although nothing was heard of it.
    served_empty: bool,
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

    /// Takes over what the hub above says. Answers how the desired properties changed, when they did and somebody may care. A change
    /// that overtook the answer (`known` was the version when it was asked for) is not undone by it.
    fn take(&mut self, twin: &Json, known: u64) -> Option<(JsonObject, u64)> {
        let (desired, desired_version) = section(&twin["desired"])?;
        let (reported, reported_version) = section(&twin["reported"])?;
        self.reported = reported;
        self.reported_version = reported_version;
        if self.desired_version != known && desired_version < self.desired_version {
            return None;
        }
        let first = self.desired_version == 0 && !self.served_empty;
        let patch = difference(&self.desired, &desired);
        self.desired = desired;
        self.desired_version = desired_version;
        // Versions that changed nothing need not be told; nor what the client is about to read itself.
        (!patch.is_empty() && !first).then_some((patch, desired_version))
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
        let mut pending = self.pending.clone().unwrap_or_default();
        append(&mut pending, patch, &[&self.reported, &self.perhaps_sent]);
        if Json::Object(pending.clone()).to_string().len() > PENDING_BYTES_MAX {
            let text = "too much was reported that the hub has not taken yet";
            return Err(RequestError::new(ErrorCode::Throttled, text));
        }
        self.pending = Some(pending);
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
            ..Self::default()
        }
    }
}

fn section(value: &Json) -> Option<(JsonObject, u64)> {
    let mut properties = value.as_object()?.clone();
    let version = properties.shift_remove("$version")?.as_u64()?;
    properties.retain(|key, _| !key.starts_with('$'));
    Some((properties, version))
}

/// Adds `patch` to patches that wait, so that they do at once what they would do one after the other to each of `bases`, what the hub
/// above may have: a `null` still has to delete there, so it stays, and what takes the place of something deleted or replaced must
/// not be merged with it.
fn append(pending: &mut JsonObject, patch: &JsonObject, bases: &[&JsonObject]) {
    for (key, value) in patch {
        let below: Vec<&JsonObject> = bases.iter().filter_map(|base| base.get(key)?.as_object()).collect();
        match (pending.get_mut(key), value) {
            (Some(Json::Object(waiting)), Json::Object(patch)) => append(waiting, patch, &below),
            (Some(_), Json::Object(patch)) => {
                pending.insert(key.clone(), Json::Object(replacing(patch, &below)));
            }
            _ => {
                pending.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The patch that leaves `members` and nothing else of any of `bases`.
fn replacing(members: &JsonObject, bases: &[&JsonObject]) -> JsonObject {
    let mut patch = JsonObject::new();
    for key in bases.iter().flat_map(|base| base.keys()).filter(|key| !members.contains_key(*key)) {
        patch.insert(key.clone(), Json::Null);
    }
    for (key, value) in members {
        let below: Vec<&JsonObject> = bases.iter().filter_map(|base| base.get(key)?.as_object()).collect();
        let value = match value {
            Json::Object(members) => Json::Object(replacing(members, &below)),
            other => other.clone(),
        };
        patch.insert(key.clone(), value);
    }
    patch
}

/// All members of both, so that none is missing that either has.
fn unite(into: &mut JsonObject, with: &JsonObject) {
    for (key, value) in with {
        match (into.get_mut(key), value) {
            (Some(Json::Object(known)), Json::Object(more)) => unite(known, more),
            (Some(Json::Object(_)), _) => {}
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

    /// Clients that reported something before the last restart that the hub above has not taken yet.
    pub(crate) async fn unsent(&self) -> Result<Vec<ClientId>, StateError> {
        let mut clients = Vec::new();
        let mut page = Page::first(PAGE);
        loop {
            let found = self.state.find(&TWIN, &Filter::all(), page).await?;
            let waits = |record: &&skerry_state::Record| !record.value["pending"].is_null();
            clients
                .extend(found.records.iter().filter(waits).filter_map(|record| ClientId::parse(&record.key.id).ok()));
            match found.next {
                Some(after) => page = Page { after: Some(after), records_max: PAGE },
                None => return Ok(clients),
            }
        }
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
        if let Some(one) = self.upstream.session(client) {
            let in_time = async {
                if self.upstream.is_reachable() {
                    // A client that has just come is about to be connected above.
                    let connecting = |state: &State| matches!(state, State::Connecting);
                    let _ = one.state().wait_for(|state| !connecting(state)).await;
                }
                if one.connection().is_some() && !one.follows_twin() {
                    self.read_twin(&one, client, &copy).await;
                }
            };
            // Late is as good as never: then the copy is served.
            let _ = tokio::time::timeout(self.config.twin_wait, in_time).await;
        }
        let mut copy = copy.lock().await;
        copy.served_empty |= copy.desired_version == 0;
        Ok(Reply::Twin(copy.view()))
    }

    /// Reads the twin from above into the copy, and tells the client how its desired properties changed when it listens.
    async fn read_twin(self: &Arc<Self>, one: &One, client: &ClientId, copy: &Mutex<Copy>) {
        let Some(connection) = one.connection() else { return };
        let hears = one.hears_on() == connection;
        let known = copy.lock().await.desired_version;
        let asked = tokio::time::timeout(self.config.twin_wait, one.submit(Request::GetTwin)).await;
        let twin = match asked {
            Ok(Reply::Twin(twin)) => twin,
            Ok(other) => {
                tracing::debug!(%client, ?other, "upstream does not give the twin");
                return;
            }
            Err(_) => return,
        };
        let mut copy = copy.lock().await;
        let change = copy.take(&twin, known);
        if hears {
            one.twin_is_current_on(connection);
        }
        if let Err(error) = self.twins.store(client, &copy).await {
            tracing::error!(%client, %error, "a twin cannot be stored");
        }
        if let Some((patch, version)) = change {
            self.sessions.deliver(client, Channel::Desired, Delivery::Desired { patch: patch.into(), version });
        }
    }

    /// Reads the twin because something may have been missed.
    pub(crate) async fn refresh_twin(self: &Arc<Self>, client: &ClientId) {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return };
        let Some(one) = self.upstream.session(client) else { return };
        self.read_twin(&one, client, &copy).await;
        self.own_desired_changed(client).await;
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
        if let Some(one) = self.upstream.session(client) {
            self.read_twin(&one, client, &copy).await;
        }
    }

    /// Keys of the clients that the report of this hub names at the moment.
    pub(crate) async fn reported_clients(&self, own: &ClientId) -> BTreeSet<String> {
        let Ok(copy) = self.twins.copy(own).await.map_err(unavailable) else { return BTreeSet::new() };
        let view = copy.lock().await.view();
        view["reported"]["clients"].as_object().map(|clients| clients.keys().cloned().collect()).unwrap_or_default()
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

    /// The client's connection above is new: what was missed is read.
    pub(crate) async fn twin_reconnected(self: &Arc<Self>, client: &ClientId) {
        if self.follows_desired(client) {
            self.refresh_twin(client).await;
        }
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
        self.reach_up(client).reported_waits();
        Ok(Reply::Reported { version: None })
    }

    /// Sends what waits to the hub above; what is reported meanwhile waits for the next turn. Answers whether something is left.
    pub(crate) async fn send_reported(self: &Arc<Self>, client: &ClientId, one: &One) -> bool {
        let Ok(copy) = self.twins.copy(client).await.map_err(unavailable) else { return true };
        let patch = {
            let mut copy = copy.lock().await;
            let Some(patch) = copy.pending.clone() else { return false };
            if one.connection().is_some() {
                unite(&mut copy.perhaps_sent, &patch);
            }
            patch
        };
        let reply = one.submit(Request::PatchReported { patch: patch.clone(), if_version: None }).await;
        let mut copy = copy.lock().await;
        match reply {
            Reply::Reported { version } => {
                merge(&mut copy.reported, &patch);
                copy.reported_version = version.unwrap_or(copy.reported_version);
            }
            Reply::Failed(error) if is_final(error.code) => {
                tracing::warn!(%client, %error, "the hub does not take reported properties; they are dropped");
            }
            Reply::Failed(error) => {
                tracing::debug!(%client, %error, "the hub does not take reported properties now");
                return true;
            }
            Reply::Twin(_) | Reply::Done | Reply::MethodResult { .. } => return true,
        }
        copy.perhaps_sent = JsonObject::new();
        copy.pending = copy.pending.take().and_then(|pending| without(pending, &patch));
        if let Err(error) = self.twins.store(client, &copy).await {
            tracing::error!(%client, %error, "a twin cannot be stored");
        }
        copy.pending.is_some()
    }

    /// Connects clients above whose reports have waited there since before the restart.
    pub(crate) async fn send_what_was_reported(self: &Arc<Self>) {
        match self.twins.unsent().await {
            Ok(clients) => clients.iter().for_each(|client| self.reach_up(client).reported_waits()),
            Err(error) => tracing::error!(%error, "reported properties that wait cannot be looked up"),
        }
    }
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
    use proptest::prelude::*;

    use super::*;

    fn object(value: Json) -> JsonObject {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn what_is_reported_offline_is_seen_at_once_and_kept_with_its_nulls() {
        let mut copy = Copy::default();
        copy.take(&json!({"desired": {"$version": 4}, "reported": {"a": 1, "b": {"c": 2}, "$version": 7}}), 0);
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
        let none = copy.take(&json!({"desired": {"a": 1, "b": 2, "$version": 4}, "reported": {"$version": 1}}), 0);
        assert_eq!(none, None, "the client reads the first one itself");
        let change = copy.take(&json!({"desired": {"a": 1, "c": 3, "$version": 6}, "reported": {"$version": 1}}), 4);
        let (patch, version) = change.unwrap();
        assert_eq!((Json::Object(patch), version), (json!({"b": null, "c": 3}), 6));
        let same = json!({"desired": {"a": 1, "c": 3, "$version": 6}, "reported": {"$version": 1}});
        assert_eq!(copy.take(&same, 6), None);
        // A device that was made anew begins at version 1 again.
        let anew = json!({"desired": {"d": 4, "$version": 2}, "reported": {"$version": 1}});
        assert_eq!(copy.take(&anew, 6).map(|change| change.1), Some(2));
        // A change to version 7 came in while this was asked for.
        copy.desired_version = 7;
        assert_eq!((copy.take(&same, 2), copy.desired_version), (None, 7));
    }

    #[test]
    fn a_client_that_was_served_nothing_is_told_everything_later() {
        let mut copy = Copy { served_empty: true, ..Copy::default() };
        let change = copy.take(&json!({"desired": {"a": 1, "$version": 4}, "reported": {"$version": 1}}), 0);
        assert_eq!(change.map(|(patch, version)| (Json::Object(patch), version)), Some((json!({"a": 1}), 4)));
    }

    #[test]
    fn what_waits_for_the_hub_is_bounded() {
        let deleted = (0..600).map(|n| (format!("{n}{}", "k".repeat(450)), Json::Null)).collect();
        let mut copy = Copy { pending: Some(deleted), ..Copy::default() };
        let before = copy.clone();
        let error = copy.report(&object(json!({"a": 1})), Timestamp::default(), &Limits::default()).unwrap_err();
        assert_eq!((error.code, copy), (ErrorCode::Throttled, before));
    }

    fn documents() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![Just(Json::Null), (0..3_i64).prop_map(Json::from)];
        leaf.prop_recursive(3, 12, 3, |inner| {
            proptest::collection::vec(("[abc]", inner), 0..3)
                .prop_map(|members| Json::Object(members.into_iter().collect()))
        })
    }

    fn objects() -> impl Strategy<Value = JsonObject> {
        proptest::collection::vec(("[abc]", documents()), 0..4).prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn patches_that_wait_do_at_once_what_they_would_do_one_after_the_other(
            first in objects(), patches in proptest::collection::vec(objects(), 1..5),
        ) {
            let mut base = JsonObject::new();
            merge(&mut base, &first);
            let (mut one_by_one, mut pending) = (base.clone(), JsonObject::new());
            for patch in &patches {
                merge(&mut one_by_one, patch);
                append(&mut pending, patch, &[&base]);
            }
            merge(&mut base, &pending);
            prop_assert_eq!(Json::Object(base), Json::Object(one_by_one));
        }
    }

    #[test]
    fn what_was_sent_does_not_wait_any_more_but_what_came_since_does() {
        let sent = object(json!({"a": 1, "b": {"c": 2, "d": 3}}));
        let pending = object(json!({"a": 1, "b": {"c": 9, "d": 3}, "e": null}));
        assert_eq!(without(pending, &sent).map(Json::Object), Some(json!({"b": {"c": 9}, "e": null})));
        assert_eq!(without(sent.clone(), &sent), None);
    }
}
