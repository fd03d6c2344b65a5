//! A twin: the document that stands for a device or module, in three sections with their own rules of writing.
//!
//! `desired` and `tags` are written by services, `reported` by the client itself. A write is taken whole or not at all.
//! Sources: `twin-method-c2d-semantics` §1, `service-twins-and-query` §1.

mod check;
mod merge;
mod section;

pub use check::TwinError;
pub use merge::{difference, merge};
pub use section::{Metadata, NEVER, Section, TwinRecordError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::json::JsonObject;
use crate::{Json, Limits, Timestamp};

/// The whole twin of one identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    /// What services note about the identity; never shown to it.
    pub tags: JsonObject,
    /// What services want.
    pub desired: Section,
    /// What the client says is.
    pub reported: Section,
    /// Raised by every write of any section; 2 on a fresh twin.
    pub version: u64,
    /// Raised by every write of a service, so that its conditional writes do not lose against a client that reports often.
    pub service_writes: u64,
}

/// What a service writes; a part that is absent stays as it is on a patch, and becomes empty on a replacement.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TwinUpdate {
    /// Tags; on a patch, `null` deletes.
    pub tags: Option<JsonObject>,
    /// Desired properties; on a patch, `null` deletes.
    pub desired: Option<JsonObject>,
}

/// What a write of a service changed, for those who listen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TwinChange {
    /// The tags were written.
    pub tags: bool,
    /// The desired section was written: what to send to the client (`null` deletes), and the section's new version.
    pub desired: Option<(JsonObject, u64)>,
}

/// Which part of a twin a rule or an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TwinPart {
    /// `tags`.
    Tags,
    /// `properties.desired`.
    Desired,
    /// `properties.reported`.
    Reported,
}

impl TwinPart {
    /// The part's path in the service view.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Desired => "properties.desired",
            Self::Reported => "properties.reported",
        }
    }
}

impl Default for Twin {
    fn default() -> Self {
        Self {
            tags: JsonObject::new(),
            desired: Section::fresh(true),
            reported: Section::fresh(false),
            version: 2,
            service_writes: 1,
        }
    }
}

impl Twin {
    /// Merges `patch` into the reported section and returns the section's new version.
    ///
    /// # Errors
    /// When the patch or the merged section breaks a rule, or `if_version` is not the section's version; nothing is changed.
    pub fn patch_reported(
        &mut self,
        patch: &JsonObject,
        if_version: Option<u64>,
        at: Timestamp,
        limits: &Limits,
    ) -> Result<u64, TwinError> {
        if let Some(asked) = if_version
            && asked != self.reported.version
        {
            return Err(TwinError::Version { asked, current: self.reported.version });
        }
        self.reported = self.reported.patched(TwinPart::Reported, patch, at, limits)?;
        self.version += 1;
        Ok(self.reported.version)
    }

    /// Merges what a service wrote.
    ///
    /// # Errors
    /// When a patch or a merged part breaks a rule; nothing is changed.
    pub fn patch(&mut self, update: &TwinUpdate, at: Timestamp, limits: &Limits) -> Result<TwinChange, TwinError> {
        let tags = match &update.tags {
            None => None,
            Some(patch) => {
                check::patch(TwinPart::Tags, patch, limits)?;
                let mut merged = self.tags.clone();
                merge(&mut merged, &section::without_reserved(patch));
                check::whole(TwinPart::Tags, &merged, limits)?;
                Some(merged)
            }
        };
        let desired = match &update.desired {
            None => None,
            Some(patch) => Some((
                self.desired.patched(TwinPart::Desired, patch, at, limits)?,
                section::without_reserved(patch).into_owned(),
            )),
        };
        Ok(self.take(tags, desired))
    }

    /// Replaces tags and desired properties by what a service wrote; an absent part becomes empty, `null`s are dropped.
    ///
    /// # Errors
    /// When a part breaks a rule; nothing is changed.
    pub fn replace(&mut self, update: &TwinUpdate, at: Timestamp, limits: &Limits) -> Result<TwinChange, TwinError> {
        let tags = check::document(TwinPart::Tags, update.tags.as_ref(), limits)?;
        let desired = check::document(TwinPart::Desired, update.desired.as_ref(), limits)?;
        let replaced = self.replaced(desired, at);
        Ok(self.take(Some(tags), Some(replaced)))
    }

    /// Replaces the desired properties alone; tags stay as they are.
    ///
    /// # Errors
    /// When the document breaks a rule; nothing is changed.
    pub fn replace_desired(
        &mut self,
        desired: &JsonObject,
        at: Timestamp,
        limits: &Limits,
    ) -> Result<TwinChange, TwinError> {
        let desired = check::document(TwinPart::Desired, Some(desired), limits)?;
        let replaced = self.replaced(desired, at);
        Ok(self.take(None, Some(replaced)))
    }

    /// A new desired section, and what the client is told: all of it, and `null` for what is gone, since clients merge
    /// what they are told.
    fn replaced(&self, desired: JsonObject, at: Timestamp) -> (Section, JsonObject) {
        let mut notice = desired.clone();
        merge::name_what_is_gone(&self.desired.properties, &mut notice);
        (self.desired.replaced(desired, at), notice)
    }

    /// The twin as its own client sees it: both sections with `$version`; no tags, no `$metadata`.
    pub fn device_view(&self) -> Json {
        let mut view = JsonObject::new();
        view.insert("desired".to_owned(), Json::Object(self.desired.device_view()));
        view.insert("reported".to_owned(), Json::Object(self.reported.device_view()));
        Json::Object(view)
    }

    /// `properties` as a service sees them: both sections with `$metadata` and `$version`.
    pub fn service_properties(&self) -> Json {
        let mut view = JsonObject::new();
        view.insert("desired".to_owned(), Json::Object(self.desired.service_view()));
        view.insert("reported".to_owned(), Json::Object(self.reported.service_view()));
        Json::Object(view)
    }

    /// The etag of the service view: base64 of eight bytes, changed by every write of a service.
    pub fn etag(&self) -> String {
        BASE64.encode(self.service_writes.to_be_bytes())
    }

    fn take(&mut self, tags: Option<JsonObject>, desired: Option<(Section, JsonObject)>) -> TwinChange {
        let mut change = TwinChange::default();
        if let Some(tags) = tags {
            self.tags = tags;
            change.tags = true;
        }
        if let Some((section, notice)) = desired {
            change.desired = Some((notice, section.version));
            self.desired = section;
        }
        self.version += 1;
        self.service_writes += 1;
        change
    }
}

#[cfg(test)]
mod tests;
