//! The desired properties of `$edgeAgent` as they come: whole, or patch by patch.

use skerry_model::json::JsonObject;
use skerry_model::{Json, merge};

/// What is known of the desired properties.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    known: Option<(JsonObject, u64)>,
}

impl Desired {
    /// What was kept on disk; a patch that fits on it needs no twin.
    pub(crate) fn kept(document: JsonObject, version: u64) -> Self {
        Self { known: Some((document, version)) }
    }

    /// The desired section of a twin, with its `$version`.
    pub(crate) fn take_whole(&mut self, section: &Json) {
        let mut document = section.as_object().cloned().unwrap_or_default();
        let version = document.get("$version").and_then(Json::as_u64).unwrap_or(0);
        document.retain(|key, _| !key.starts_with('$'));
        self.known = Some((document, version));
    }

    /// A patch; `false` when something before it is missing and the whole twin must be read.
    pub(crate) fn take_patch(&mut self, patch: &JsonObject, version: u64) -> bool {
        match &mut self.known {
            Some((document, known)) if *known + 1 == version => {
                merge(document, patch);
                document.retain(|key, _| !key.starts_with('$'));
                *known = version;
                true
            }
            // An old one that came twice changes nothing.
            Some((_, known)) => version <= *known,
            None => false,
        }
    }

    /// The whole document and its version.
    pub(crate) fn document(&self) -> Option<(&JsonObject, u64)> {
        self.known.as_ref().map(|(document, version)| (document, *version))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_fit_on_the_version_before_them_only() {
        let mut desired = Desired::default();
        let patch = |value: Json| value.as_object().cloned().unwrap();
        assert!(!desired.take_patch(&patch(json!({"a": 1})), 1));
        desired.take_whole(&json!({"a": {"x": 1, "y": 2}, "$version": 4, "$metadata": {}}));
        assert!(desired.take_patch(&patch(json!({"a": {"x": null}, "$version": 5})), 5));
        assert!(desired.take_patch(&patch(json!({"a": null})), 5), "seen before");
        assert!(!desired.take_patch(&patch(json!({"a": null})), 7));
        let (document, version) = desired.document().unwrap();
        assert_eq!((Json::from(document.clone()), version), (json!({"a": {"y": 2}}), 5));
    }
}
