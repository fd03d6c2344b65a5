//! What the operator wants, kept current: patches are merged as they come, and the whole is read again after a gap.

use skerry_model::json::JsonObject;
use skerry_model::{Json, merge};
use tokio::sync::{Notify, watch};

use crate::error::AskError;

const VERSION: &str = "$version";

/// The module's desired properties, followed.
#[derive(Debug, Clone)]
pub struct Desired(watch::Receiver<Option<Known>>);

impl Desired {
    /// The whole section as it is now, with its `$version`; marks it as seen.
    pub fn current(&mut self) -> Json {
        let known = self.0.borrow_and_update();
        Json::Object(known.as_ref().map(|known| known.section.clone()).unwrap_or_default())
    }

    /// Waits for a change that was not seen yet, and hands out the whole section.
    ///
    /// # Errors
    /// When the module was closed.
    pub async fn changed(&mut self) -> Result<Json, AskError> {
        self.0.changed().await.map_err(|_| AskError::Closed)?;
        Ok(self.current())
    }
}

/// A section that was read, and patches since.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    section: JsonObject,
    version: u64,
}

/// What all [`Desired`] of a module see.
#[derive(Debug)]
pub(crate) struct DesiredState {
    known: watch::Sender<Option<Known>>,
    /// The section has to be read again.
    pub(crate) gap: Notify,
}

impl Default for DesiredState {
    fn default() -> Self {
        DesiredState { known: watch::Sender::new(None), gap: Notify::new() }
    }
}

impl DesiredState {
    /// The version that is known; to be taken before the section is read again, for [`DesiredState::set`].
    pub(crate) fn version(&self) -> Option<u64> {
        self.known.borrow().as_ref().map(|known| known.version)
    }

    pub(crate) fn follow(&self) -> Desired {
        Desired(self.known.subscribe())
    }

    /// Takes what was read, unless patches that came since `before` are newer. Unchanged content wakes nobody. A lower version
    /// alone is no reason to refuse: an identity that was made anew begins again.
    pub(crate) fn set(&self, section: JsonObject, before: Option<u64>) {
        let version = section.get(VERSION).and_then(Json::as_u64).unwrap_or(0);
        let read = Known { section, version };
        self.known.send_if_modified(|known| {
            let newer =
                known.as_ref().is_some_and(|known| Some(known.version) != before && read.version < known.version);
            let changed = !newer && known.as_ref() != Some(&read);
            if changed {
                *known = Some(read);
            }
            changed
        });
    }

    /// Takes a patch. One that was seen is nothing new; one after a gap asks for the whole.
    pub(crate) fn patch(&self, patch: &JsonObject, version: u64) {
        let mut gap = false;
        self.known.send_if_modified(|known| {
            let Some(known) = known else { return false };
            gap = known.version + 1 < version;
            let next = known.version + 1 == version;
            if next {
                merge(&mut known.section, patch);
                known.section.insert(VERSION.to_owned(), version.into());
                known.version = version;
            }
            next
        });
        if gap {
            self.gap.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Json) -> JsonObject {
        value.as_object().cloned().unwrap_or_default()
    }

    fn state() -> (DesiredState, Desired) {
        let state = DesiredState::default();
        state.set(object(json!({ "a": 1, "b": { "c": 2 }, "$version": 4 })), None);
        let desired = state.follow();
        (state, desired)
    }

    async fn gap(state: &DesiredState) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, state.gap.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn the_next_patch_is_merged_and_wakes_who_follows() {
        let (state, mut desired) = state();
        desired.current();
        state.patch(&object(json!({ "a": null, "b": { "d": 3 }, "$version": 5 })), 5);
        assert_eq!(desired.changed().await, Ok(json!({ "b": { "c": 2, "d": 3 }, "$version": 5 })));
        assert!(!gap(&state).await);
    }

    #[tokio::test]
    async fn an_old_patch_is_nothing_new_and_a_gap_asks_for_the_whole() {
        let (state, mut desired) = state();
        let before = desired.current();
        state.patch(&object(json!({ "a": 9 })), 4);
        assert!(!gap(&state).await);
        state.patch(&object(json!({ "a": 9 })), 6);
        assert!(gap(&state).await);
        assert_eq!(desired.current(), before);
        state.set(object(json!({ "a": 9, "$version": 6 })), Some(4));
        assert_eq!(desired.changed().await, Ok(json!({ "a": 9, "$version": 6 })));
    }

    #[tokio::test]
    async fn reading_the_same_again_wakes_nobody_and_a_patch_that_came_meanwhile_stays() {
        let (state, mut desired) = state();
        let read = object(desired.current());
        state.set(read.clone(), Some(4));
        assert!(!desired.0.has_changed().unwrap());
        state.patch(&object(json!({ "a": 2 })), 5);
        state.patch(&object(json!({ "a": 3 })), 6);
        state.set(read, Some(4));
        assert_eq!(desired.current()["a"], 3);
    }

    #[tokio::test]
    async fn an_identity_made_anew_begins_with_a_lower_version() {
        let (state, mut desired) = state();
        state.set(object(json!({ "$version": 1 })), Some(4));
        assert_eq!(desired.current(), json!({ "$version": 1 }));
    }

    #[tokio::test]
    async fn the_end_is_noticed() {
        let (state, mut desired) = state();
        desired.current();
        drop(state);
        assert_eq!(desired.changed().await, Err(AskError::Closed));
    }
}
