//! Reported patches that wait for the hub above: put together so that they do at once what they would do one after the other.

use skerry_model::Json;
use skerry_model::json::JsonObject;

/// Adds `patch` to patches that wait, so that they do at once what they would do one after the other to each of `bases`, what the hub
/// above may have: a `null` still has to delete there, so it stays, and what takes the place of something deleted or replaced must
/// not be merged with it.
pub(super) fn append(pending: &mut JsonObject, patch: &JsonObject, bases: &[&JsonObject]) {
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
pub(super) fn unite(into: &mut JsonObject, with: &JsonObject) {
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

/// What of `pending` is newer than `sent`: members that `sent` holds with the same value are left out.
pub(super) fn without(mut pending: JsonObject, sent: &JsonObject) -> Option<JsonObject> {
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
    use serde_json::json;
    use skerry_model::merge;

    use super::*;

    fn object(value: Json) -> JsonObject {
        value.as_object().cloned().unwrap()
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
