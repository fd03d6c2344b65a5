//! Desired properties of `$edgeHub` with the real grammar of routes: the published answers.

use serde_json::Value as Json;
use skerry_dialect::manifest::hub;
use skerry_query::edge_routes;

#[test]
fn desired_properties_of_the_hub_are_answered_as_published() {
    let text = include_str!("../../../../wire/dialect/tests/vectors/edge-manifests-hub.json");
    let vectors: Json = serde_json::from_str(text).unwrap();
    let check = |route: &str| edge_routes::parse(route).map(drop).map_err(|error| error.to_string());
    for case in vectors["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let outcome = hub(case["desired"].as_object().unwrap(), &check);
        assert_eq!(case["code"], if outcome.is_ok() { 200 } else { 400 }, "{id}: {outcome:?}");
        if let (Some(start), Err(fault)) = (case["descriptionStartsWith"].as_str(), &outcome) {
            assert!(fault.description().starts_with(start), "{id}: {}", fault.description());
        }
    }
}
