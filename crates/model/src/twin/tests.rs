//! Twin writes: the shared vectors, the bounds, versions and metadata, and properties of merging.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ErrorCode;

const AT: Timestamp = Timestamp::from_unix_millis(1_700_000_000_123);

fn object(json: Json) -> JsonObject {
    match json {
        Json::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

fn twin_with_reported(properties: Json) -> Twin {
    let mut twin = Twin::default();
    twin.patch_reported(&object(properties), None, AT, &Limits::default()).unwrap();
    twin
}

fn refusal(patch: Json) -> (ErrorCode, String) {
    let mut twin = twin_with_reported(json!({"kept": 1}));
    let before = twin.clone();
    let error = twin.patch_reported(&object(patch), None, AT, &Limits::default()).unwrap_err();
    assert_eq!(twin, before, "a refused write changes nothing");
    (error.code(), error.to_string())
}

#[test]
fn the_shared_merge_cases_hold() {
    let vectors: Json = serde_json::from_str(include_str!("../../tests/vectors/twin-merge.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let mut twin = twin_with_reported(case["before"].clone());
        let version = twin.reported.version;
        let now = twin.patch_reported(&object(case["patch"].clone()), None, AT, &Limits::default()).unwrap();
        assert_eq!(Json::Object(twin.reported.properties.clone()), case["after"], "{}", case["name"]);
        assert_eq!(now, version + 1);
    }
    for case in vectors["invalidReported"].as_array().unwrap() {
        if case["patch"].is_object() {
            assert_eq!(refusal(case["patch"].clone()).0, ErrorCode::ArgumentInvalid, "{}", case["reason"]);
        }
    }
}

#[test]
fn size_counts_the_result_and_is_413() {
    let entries = |from: usize, to: usize| {
        object(Json::Object((from..to).map(|n| (format!("k{n:03}"), json!("x".repeat(4_092)))).collect()))
    };
    let mut twin = Twin::default();
    twin.patch_reported(&entries(0, 8), None, AT, &Limits::default()).unwrap();
    let before = twin.clone();
    let error = twin.patch_reported(&object(json!({"a": true})), None, AT, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "properties.reported would have 32773 bytes, allowed are 32768");
    assert_eq!((error.code(), &twin), (ErrorCode::TooLarge, &before));
    // What is deleted in the same write makes room.
    twin.patch_reported(&object(json!({"a": true, "k000": null})), None, AT, &Limits::default()).unwrap();
}

#[test]
fn depth_keys_and_strings_have_bounds() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "n": inner }));
    let mut twin = Twin::default();
    twin.patch_reported(&object(json!({ "n": nested(10) })), None, AT, &Limits::default()).unwrap();
    let (code, text) = refusal(json!({ "n": nested(11) }));
    assert_eq!(
        (code, &*text),
        (ErrorCode::ArgumentInvalid, "properties.reported would nest 11 levels deep, allowed are 10")
    );
    assert_eq!(
        refusal(json!({"a": {"b c": 1}})).1,
        "properties.reported.a.b c: a key cannot contain control characters, '.', '$' or space"
    );
    assert_eq!(refusal(json!({"a": "x".repeat(4_097)})).1, "properties.reported.a: the text is too long");
    assert_eq!(refusal(json!({"k".repeat(1_025): 1})).0, ErrorCode::ArgumentInvalid);
    assert_eq!(refusal(json!({"a\u{85}": 1})).0, ErrorCode::ArgumentInvalid);
    assert_eq!(refusal(json!({"a": [[{"b": null}, null]]})).1, "properties.reported.a: an array cannot hold null");
    assert_eq!(refusal(json!({"a": u64::MAX})).0, ErrorCode::ArgumentInvalid);
    assert_eq!(refusal(json!({"$version": 3, "$x": 1})).0, ErrorCode::ArgumentInvalid);
}

#[test]
fn a_conditional_patch_needs_the_current_version() {
    let mut twin = Twin::default();
    let patch = object(json!({"a": 1}));
    assert_eq!(twin.patch_reported(&patch, Some(1), AT, &Limits::default()), Ok(2));
    let error = twin.patch_reported(&patch, Some(1), AT, &Limits::default()).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (ErrorCode::PreconditionFailed, "the section has version 2, not 1")
    );
}

#[test]
fn a_client_sees_sections_and_versions_and_nothing_else() {
    let mut twin = Twin::default();
    assert_eq!(twin.device_view(), json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
    let update = TwinUpdate { tags: Some(object(json!({"site": "a"}))), desired: Some(object(json!({"rate": 5}))) };
    twin.patch(&update, AT, &Limits::default()).unwrap();
    assert_eq!(twin.device_view(), json!({"desired": {"rate": 5, "$version": 2}, "reported": {"$version": 1}}));
}

#[test]
fn a_service_write_is_one_step_and_tells_what_to_send() {
    let mut twin = Twin::default();
    let etag = twin.etag();
    assert_eq!(etag, "AAAAAAAAAAE=");
    let update = TwinUpdate {
        tags: Some(object(json!({"a": null, "b": 1}))),
        desired: Some(object(json!({"rate": 5, "old": null, "$version": 77, "$metadata": {"x": 1}}))),
    };
    let change = twin.patch(&update, AT, &Limits::default()).unwrap();
    assert_eq!(change.desired, Some((object(json!({"rate": 5, "old": null})), 2)));
    assert_eq!((twin.version, twin.desired.version, twin.reported.version), (3, 2, 1));
    assert_ne!(twin.etag(), etag);

    let tags_only = TwinUpdate { tags: Some(object(json!({"b": null}))), desired: None };
    let change = twin.patch(&tags_only, AT, &Limits::default()).unwrap();
    assert_eq!((change.tags, change.desired), (true, None));
    assert_eq!((twin.version, twin.desired.version, twin.tags.len()), (4, 2, 0));

    let etag = twin.etag();
    twin.patch_reported(&object(json!({"r": 1})), None, AT, &Limits::default()).unwrap();
    assert_eq!((twin.etag(), twin.version), (etag, 5));
}

#[test]
fn a_bad_part_of_a_service_write_refuses_the_whole() {
    let mut twin = Twin::default();
    let before = twin.clone();
    let large_tags = Json::Object((0..3).map(|n| (format!("k{n}"), json!("x".repeat(4_000)))).collect());
    let update = TwinUpdate { tags: Some(object(large_tags)), desired: Some(object(json!({"a": 1}))) };
    assert_eq!(twin.patch(&update, AT, &Limits::default()).unwrap_err().code(), ErrorCode::TooLarge);
    assert_eq!(twin.replace(&update, AT, &Limits::default()).unwrap_err().code(), ErrorCode::TooLarge);
    let update = TwinUpdate { tags: Some(object(json!({"a": 1}))), desired: Some(object(json!({"a.b": 1}))) };
    assert!(twin.patch(&update, AT, &Limits::default()).is_err());
    assert_eq!(twin, before);
}

#[test]
fn a_replacement_drops_nulls_and_what_is_left_out() {
    let mut twin = Twin::default();
    let desired = json!({"a": 1, "b": {"was": 1, "y": 2}});
    let update = TwinUpdate { tags: Some(object(json!({"t": 1}))), desired: Some(object(desired)) };
    twin.patch(&update, AT, &Limits::default()).unwrap();
    let change = twin
        .replace(
            &TwinUpdate { tags: None, desired: Some(object(json!({"b": {"x": null, "y": 1}, "c": null}))) },
            AT,
            &Limits::default(),
        )
        .unwrap();
    // A client merges what it is told.
    assert_eq!(change.desired, Some((object(json!({"b": {"y": 1, "was": null}, "a": null})), 3)));
    assert_eq!((Json::Object(twin.desired.properties.clone()), twin.tags.len()), (json!({"b": {"y": 1}}), 0));
}

#[test]
fn metadata_says_what_was_written_when_and_with_which_version() {
    let mut twin = Twin::default();
    let write = |twin: &mut Twin, second: i64, patch: Json| {
        let update = TwinUpdate { tags: None, desired: Some(object(patch)) };
        twin.patch(&update, Timestamp::from_unix_seconds(second), &Limits::default()).unwrap();
    };
    write(&mut twin, 2, json!({"cfg": {"rate": 5, "list": [1, {"a": 2}]}, "other": 1}));
    write(&mut twin, 3, json!({"cfg": {"rate": 6}}));
    write(&mut twin, 4, json!({"other": null}));
    let stamp = |second: i64, version: u64| json!({"$lastUpdated": format!("1970-01-01T00:00:0{second}.0000000Z"), "$lastUpdatedVersion": version});
    let mut expected = stamp(4, 4);
    expected["cfg"] = stamp(3, 3);
    expected["cfg"]["rate"] = stamp(3, 3);
    expected["cfg"]["list"] = stamp(2, 2);
    assert_eq!(twin.service_properties()["desired"]["$metadata"], expected);
    assert_eq!(
        twin.service_properties()["reported"],
        json!({"$metadata": {"$lastUpdated": "0001-01-01T00:00:00Z"}, "$version": 1})
    );
}

/// JSON that a twin can hold, with keys from a small set so that patches meet what is there.
fn twin_value(nulls: bool) -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Json::from),
        (crate::json::INTEGER_MIN..=crate::json::INTEGER_MAX).prop_map(Json::from),
        (-1e9..1e9f64).prop_map(Json::from),
        "[a-zä ]{0,6}".prop_map(Json::from),
        proptest::collection::vec(any::<bool>().prop_map(Json::from), 0..3).prop_map(Json::from),
        Just(if nulls { Json::Null } else { json!(0) }),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        proptest::collection::btree_map("[a-d]", inner, 0..4)
            .prop_map(|members| Json::Object(members.into_iter().collect()))
    })
}

fn twin_object(nulls: bool) -> impl Strategy<Value = JsonObject> {
    proptest::collection::btree_map("[a-d]", twin_value(nulls), 0..4).prop_map(|members| members.into_iter().collect())
}

fn has_null(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Object(members) => members.values().any(has_null),
        Json::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}

/// Whether metadata has exactly the shape of the properties.
fn mirrors(metadata: &Metadata, value: &Json) -> bool {
    match value {
        Json::Object(members) => {
            metadata.members.len() == members.len()
                && members
                    .iter()
                    .all(|(key, value)| metadata.members.get(key).is_some_and(|inner| mirrors(inner, value)))
        }
        _ => metadata.members.is_empty(),
    }
}

proptest! {
    #[test]
    fn a_merge_leaves_no_null_and_repeating_it_changes_nothing(base in twin_object(false), patch in twin_object(true)) {
        let mut once = base;
        merge(&mut once, &patch);
        prop_assert!(!has_null(&Json::Object(once.clone())));
        let mut twice = once.clone();
        merge(&mut twice, &patch);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_difference_leads_from_one_to_the_other(from in twin_object(false), to in twin_object(false)) {
        let mut reached = from.clone();
        merge(&mut reached, &difference(&from, &to));
        prop_assert_eq!(&reached, &to);
        prop_assert!(difference(&to, &to).is_empty());
    }

    #[test]
    fn versions_rise_metadata_mirrors_and_a_stored_section_reads_back(
        patches in proptest::collection::vec((twin_object(true), any::<bool>()), 1..6)
    ) {
        let mut twin = Twin::default();
        let mut at_the_client = JsonObject::new();
        for (step, (patch, replace)) in patches.iter().enumerate() {
            let at = Timestamp::from_unix_seconds(i64::try_from(step).unwrap());
            let update = TwinUpdate { tags: None, desired: Some(patch.clone()) };
            let change = if *replace {
                twin.replace(&update, at, &Limits::default()).unwrap()
            } else {
                twin.patch(&update, at, &Limits::default()).unwrap()
            };
            let (notice, version) = change.desired.unwrap();
            prop_assert_eq!(version, step as u64 + 2);
            merge(&mut at_the_client, &notice);
            prop_assert_eq!(&at_the_client, &twin.desired.properties, "a client that merges has what the hub has");
            prop_assert!(mirrors(&twin.desired.metadata, &Json::Object(twin.desired.properties.clone())));
        }
        let stored = twin.desired.service_view();
        prop_assert_eq!(Section::from_service_view(TwinPart::Desired, &stored), Ok(twin.desired));
    }

    #[test]
    fn no_patch_makes_a_write_panic_or_half_done(text in "[\\[\\]{}\",:.$a-c0-9nul -]{0,60}") {
        if let Ok(Json::Object(patch)) = crate::json::parse(text.as_bytes(), 20) {
            let mut twin = twin_with_reported(json!({"a": {"b": 1}}));
            let before = twin.clone();
            if twin.patch_reported(&patch, None, AT, &Limits::default()).is_err() {
                prop_assert_eq!(twin, before);
            }
        }
    }
}
