//! Any two texts as twin patches, one after the other, from both sides: a refused write changes nothing, an accepted one leaves no
//! `null` and keeps the bounds, and what is stored is read back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skerry_model::json::JsonObject;
use skerry_model::{Json, Limits, Section, Timestamp, Twin, TwinPart, TwinUpdate, difference, json, merge};

fuzz_target!(|texts: (&str, &str)| {
    let limits = Limits::default();
    let patch = |text: &str| match json::parse(text.as_bytes(), 64) {
        Ok(Json::Object(patch)) => Some(patch),
        _ => None,
    };
    let mut twin = Twin::default();
    for (second, patch) in [patch(texts.0), patch(texts.1)].into_iter().flatten().enumerate() {
        let at = Timestamp::from_unix_seconds(second as i64);
        let before = twin.clone();
        if twin.patch_reported(&patch, None, at, &limits).is_err() {
            assert_eq!(twin, before);
        }
        let before = twin.clone();
        let update = TwinUpdate { tags: Some(patch.clone()), desired: Some(patch.clone()) };
        if twin.patch(&update, at, &limits).is_err() {
            assert_eq!(twin, before);
        }
        for section in [&before.desired, &twin.desired, &twin.reported] {
            assert!(!has_null(&section.properties));
            assert!(section.properties.values().all(|value| json::depth(value) <= limits.twin_depth_max));
        }
        let mut reached = before.desired.properties.clone();
        merge(&mut reached, &difference(&before.desired.properties, &twin.desired.properties));
        assert_eq!(reached, twin.desired.properties);
    }
    let stored = twin.desired.service_view();
    assert_eq!(Section::from_service_view(TwinPart::Desired, &stored).as_ref(), Ok(&twin.desired));
});

fn has_null(object: &JsonObject) -> bool {
    object.values().any(|value| match value {
        Json::Null => true,
        Json::Object(members) => has_null(members),
        _ => false,
    })
}
