//! Merging and comparing JSON objects: `null` deletes, objects recurse, everything else replaces.

use crate::Json;
use crate::json::JsonObject;

/// Merges `patch` into `target`. The result has no `null` member that was not in `target` before.
pub fn merge(target: &mut JsonObject, patch: &JsonObject) {
    for (key, value) in patch {
        match value {
            Json::Null => {
                target.shift_remove(key);
            }
            Json::Object(patch) => {
                if let Some(Json::Object(inner)) = target.get_mut(key) {
                    merge(inner, patch);
                } else {
                    target.insert(key.clone(), Json::Object(without_nulls(patch)));
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

/// A copy of `object` without `null` members, at every depth of objects. Arrays are values and stay as they are.
pub(crate) fn without_nulls(object: &JsonObject) -> JsonObject {
    let mut clean = JsonObject::new();
    merge(&mut clean, object);
    clean
}

/// Adds to the document `to` a `null` for each member that `from` has besides, at any depth: a patch with all of the new
/// document in it, which leaves nothing of the old one.
pub(super) fn name_what_is_gone(from: &JsonObject, to: &mut JsonObject) {
    for (key, was) in from {
        match (was, to.get_mut(key)) {
            (_, None) => {
                to.insert(key.clone(), Json::Null);
            }
            (Json::Object(was), Some(Json::Object(now))) => name_what_is_gone(was, now),
            (_, Some(_)) => {}
        }
    }
}

/// The patch that turns `from` into `to` when merged; empty when they are equal. Neither may have `null` members.
pub fn difference(from: &JsonObject, to: &JsonObject) -> JsonObject {
    let mut patch = JsonObject::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Json::Null);
    }
    for (key, wanted) in to {
        match (from.get(key), wanted) {
            (Some(current), wanted) if current == wanted => {}
            (Some(Json::Object(current)), Json::Object(wanted)) => {
                patch.insert(key.clone(), Json::Object(difference(current, wanted)));
            }
            (_, wanted) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    patch
}
