//! One versioned section of a twin, with a mirror of it that says when each part was last written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::json::JsonObject;
use crate::{Json, Limits, Timestamp};

use super::TwinPart;
use super::{check, merge};

/// The moment that stands for "never" in the platform's documents, `0001-01-01T00:00:00Z`.
pub const NEVER: Timestamp = Timestamp::from_unix_millis(-62_135_596_800_000);

/// `desired` or `reported`: properties, version and metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The properties, without any `$` member.
    pub properties: JsonObject,
    /// Raised by one with every write of this section; 1 on a fresh twin.
    pub version: u64,
    /// When what was written.
    pub metadata: Metadata,
    /// Whether metadata says with which version a part was written: in `desired` only.
    versioned_metadata: bool,
}

/// When a property, an object or the whole section was last written. An array is one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// When.
    pub last_updated: Timestamp,
    /// With which version of the section.
    pub last_updated_version: u64,
    /// The same for each member of an object.
    pub members: BTreeMap<String, Metadata>,
}

/// A stored section that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a twin section: {0}")]
pub struct TwinRecordError(&'static str);

impl Section {
    /// Version 1, empty. `versioned_metadata` for `desired`.
    pub(super) fn fresh(versioned_metadata: bool) -> Self {
        Self { properties: JsonObject::new(), version: 1, metadata: Metadata::leaf(NEVER, 1), versioned_metadata }
    }

    /// The section with `patch` merged and the version raised.
    pub(super) fn patched(
        &self,
        part: TwinPart,
        patch: &JsonObject,
        at: Timestamp,
        limits: &Limits,
    ) -> Result<Self, super::TwinError> {
        check::patch(part, patch, limits)?;
        let patch = without_reserved(patch);
        let mut next = self.clone();
        next.version += 1;
        merge(&mut next.properties, &patch);
        check::whole(part, &next.properties, limits)?;
        next.metadata.merge(&next.properties, &patch, at, next.version);
        Ok(next)
    }

    /// The section with these properties instead, written now as a whole.
    pub(super) fn replaced(&self, properties: JsonObject, at: Timestamp) -> Self {
        let version = self.version + 1;
        let metadata = Metadata::of_object(&properties, at, version);
        Self { properties, version, metadata, versioned_metadata: self.versioned_metadata }
    }

    /// Properties and `$version`.
    pub fn device_view(&self) -> JsonObject {
        let mut view = self.properties.clone();
        view.insert("$version".to_owned(), Json::from(self.version));
        view
    }

    /// Properties, `$metadata` and `$version`; also the form a section is stored in.
    pub fn service_view(&self) -> JsonObject {
        let mut view = self.properties.clone();
        view.insert("$metadata".to_owned(), self.metadata.to_json(self.versioned_metadata));
        view.insert("$version".to_owned(), Json::from(self.version));
        view
    }

    /// Reads what [`Section::service_view`] wrote for `part`.
    ///
    /// # Errors
    /// When `$version` or `$metadata` is missing or malformed.
    pub fn from_service_view(part: TwinPart, view: &JsonObject) -> Result<Self, TwinRecordError> {
        let version = view.get("$version").and_then(Json::as_u64).ok_or(TwinRecordError("no `$version`"))?;
        let metadata = view.get("$metadata").ok_or(TwinRecordError("no `$metadata`"))?;
        Ok(Self {
            properties: without_reserved(view).into_owned(),
            version,
            metadata: Metadata::from_json(metadata)?,
            versioned_metadata: part == TwinPart::Desired,
        })
    }
}

impl Metadata {
    fn leaf(at: Timestamp, version: u64) -> Self {
        Self { last_updated: at, last_updated_version: version, members: BTreeMap::new() }
    }

    fn of_value(value: &Json, at: Timestamp, version: u64) -> Self {
        match value {
            Json::Object(members) => Self::of_object(members, at, version),
            _ => Self::leaf(at, version),
        }
    }

    fn of_object(object: &JsonObject, at: Timestamp, version: u64) -> Self {
        let members = object.iter().map(|(key, value)| (key.clone(), Self::of_value(value, at, version))).collect();
        Self { last_updated: at, last_updated_version: version, members }
    }

    /// Follows a merge: `merged` is the object after `patch` was merged into it.
    fn merge(&mut self, merged: &JsonObject, patch: &JsonObject, at: Timestamp, version: u64) {
        self.last_updated = at;
        self.last_updated_version = version;
        for (key, written) in patch {
            match (merged.get(key), written) {
                (None, _) => {
                    self.members.remove(key);
                }
                (Some(Json::Object(merged)), Json::Object(patch)) => match self.members.get_mut(key) {
                    Some(known) if !known.members.is_empty() => known.merge(merged, patch, at, version),
                    _ => {
                        self.members.insert(key.clone(), Self::of_object(merged, at, version));
                    }
                },
                (Some(value), _) => {
                    self.members.insert(key.clone(), Self::of_value(value, at, version));
                }
            }
        }
    }

    fn to_json(&self, versioned: bool) -> Json {
        let mut json = JsonObject::new();
        let when = match self.last_updated {
            NEVER => "0001-01-01T00:00:00Z".to_owned(),
            moment => moment.to_round_trip(),
        };
        json.insert("$lastUpdated".to_owned(), Json::String(when));
        if versioned {
            json.insert("$lastUpdatedVersion".to_owned(), Json::from(self.last_updated_version));
        }
        for (key, member) in &self.members {
            json.insert(key.clone(), member.to_json(versioned));
        }
        Json::Object(json)
    }

    fn from_json(json: &Json) -> Result<Self, TwinRecordError> {
        let object = json.as_object().ok_or(TwinRecordError("`$metadata` holds something that is not an object"))?;
        let last_updated = object
            .get("$lastUpdated")
            .and_then(Json::as_str)
            .and_then(|text| Timestamp::parse(text).ok())
            .ok_or(TwinRecordError("`$metadata` without `$lastUpdated`"))?;
        let last_updated_version = object.get("$lastUpdatedVersion").and_then(Json::as_u64).unwrap_or(0);
        let members = object
            .iter()
            .filter(|(key, _)| !key.starts_with('$'))
            .map(|(key, member)| Ok((key.clone(), Self::from_json(member)?)))
            .collect::<Result<_, TwinRecordError>>()?;
        Ok(Self { last_updated, last_updated_version, members })
    }
}

/// The object without `$version` and `$metadata`: tools send back whole documents with both, and both are the hub's alone.
pub(super) fn without_reserved(object: &JsonObject) -> Cow<'_, JsonObject> {
    const RESERVED: [&str; 2] = ["$version", "$metadata"];
    if !RESERVED.iter().any(|key| object.contains_key(*key)) {
        return Cow::Borrowed(object);
    }
    let kept = object.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str()));
    Cow::Owned(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}
