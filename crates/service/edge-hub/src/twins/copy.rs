//! What this edge knows of one twin.

use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::{ErrorCode, Json, Limits, RequestError, Timestamp, Twin, difference, merge};

use super::pending::append;

/// Bytes that one client may have reported without the hub above having taken them, as JSON text.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// What this edge knows of one twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Copy {
    pub(super) desired: JsonObject,
    pub(super) desired_version: u64,
    pub(super) reported: JsonObject,
    pub(super) reported_version: u64,
    /// What the client reported and the hub above has not taken yet, `null`s kept.
    pub(super) pending: Option<JsonObject>,
    /// What was sent of it; the hub above may have taken it without our knowing.
    pub(super) perhaps_sent: JsonObject,
    /// The client was served a twin although nothing was heard of it.
    pub(super) served_empty: bool,
}

/// The versions of both halves of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Versions {
    desired: u64,
    reported: u64,
}

impl Copy {
    /// The versions that are known now.
    pub(super) const fn versions(&self) -> Versions {
        Versions { desired: self.desired_version, reported: self.reported_version }
    }

    /// The client's view, what it has reported itself on top.
    pub(super) fn view(&self) -> Json {
        let mut desired = self.desired.clone();
        desired.insert("$version".to_owned(), self.desired_version.max(1).into());
        let mut reported = self.reported.clone();
        if let Some(pending) = &self.pending {
            merge(&mut reported, pending);
        }
        reported.insert("$version".to_owned(), self.reported_version.max(1).into());
        json!({ "desired": desired, "reported": reported })
    }

    /// Takes over what the hub above says. Answers how the desired properties changed, when they did and somebody may care. What
    /// overtook the answer (`known` were the versions when it was asked for), a change above or a report of the client's that was
    /// taken there, is not undone by it.
    pub(super) fn take(&mut self, twin: &Json, known: Versions) -> Option<(JsonObject, u64)> {
        let (desired, desired_version) = section(&twin["desired"])?;
        let (reported, reported_version) = section(&twin["reported"])?;
        if self.reported_version == known.reported || self.reported_version <= reported_version {
            self.reported = reported;
            self.reported_version = reported_version;
        }
        if self.desired_version != known.desired && desired_version < self.desired_version {
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
    pub(super) fn report(&mut self, patch: &JsonObject, at: Timestamp, limits: &Limits) -> Result<(), RequestError> {
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

    pub(super) fn to_record(&self) -> Json {
        json!({
            "desired": self.desired, "desiredVersion": self.desired_version,
            "reported": self.reported, "reportedVersion": self.reported_version,
            "pending": self.pending,
        })
    }

    pub(super) fn from_record(record: &Json) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Json) -> JsonObject {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn what_is_reported_offline_is_seen_at_once_and_kept_with_its_nulls() {
        let mut copy = Copy::default();
        copy.take(
            &json!({"desired": {"$version": 4}, "reported": {"a": 1, "b": {"c": 2}, "$version": 7}}),
            Versions::default(),
        );
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

    fn desired(desired: u64) -> Versions {
        Versions { desired, reported: 1 }
    }

    #[test]
    fn what_was_taken_above_while_the_twin_was_asked_for_is_not_undone_by_the_answer() {
        let twin = |reported: Json| json!({"desired": {"$version": 1}, "reported": reported});
        let mut copy = Copy::default();
        copy.take(&twin(json!({"a": 1, "$version": 3})), Versions::default());
        let asked = copy.versions();
        // The client's report was answered before the question that was asked before it.
        (copy.reported, copy.reported_version) = (object(json!({"a": 1, "b": 2})), 4);
        copy.take(&twin(json!({"a": 1, "$version": 3})), asked);
        assert_eq!(copy.view()["reported"], json!({"a": 1, "b": 2, "$version": 4}));
        copy.take(&twin(json!({"a": 1, "b": 2, "c": 3, "$version": 5})), asked);
        assert_eq!(copy.view()["reported"], json!({"a": 1, "b": 2, "c": 3, "$version": 5}));
        // A device that was made anew begins at version 1 again.
        copy.take(&twin(json!({"$version": 1})), copy.versions());
        assert_eq!(copy.view()["reported"], json!({"$version": 1}));
    }

    #[test]
    fn a_newer_twin_gives_the_difference() {
        let mut copy = Copy::default();
        let none = copy.take(
            &json!({"desired": {"a": 1, "b": 2, "$version": 4}, "reported": {"$version": 1}}),
            Versions::default(),
        );
        assert_eq!(none, None, "the client reads the first one itself");
        let change =
            copy.take(&json!({"desired": {"a": 1, "c": 3, "$version": 6}, "reported": {"$version": 1}}), desired(4));
        let (patch, version) = change.unwrap();
        assert_eq!((Json::Object(patch), version), (json!({"b": null, "c": 3}), 6));
        let same = json!({"desired": {"a": 1, "c": 3, "$version": 6}, "reported": {"$version": 1}});
        assert_eq!(copy.take(&same, desired(6)), None);
        // A device that was made anew begins at version 1 again.
        let anew = json!({"desired": {"d": 4, "$version": 2}, "reported": {"$version": 1}});
        assert_eq!(copy.take(&anew, desired(6)).map(|change| change.1), Some(2));
        // A change to version 7 came in while this was asked for.
        copy.desired_version = 7;
        assert_eq!((copy.take(&same, desired(2)), copy.desired_version), (None, 7));
    }

    #[test]
    fn a_client_that_was_served_nothing_is_told_everything_later() {
        let mut copy = Copy { served_empty: true, ..Copy::default() };
        let change =
            copy.take(&json!({"desired": {"a": 1, "$version": 4}, "reported": {"$version": 1}}), Versions::default());
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
}
