//! Any text as an operator's manifest, as desired properties of `$edgeAgent` and of `$edgeHub`: nothing panics, every refusal says
//! what is wrong and where, and what is taken is taken again when it is written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skerry_dialect::manifest::{AgentFault, agent, hub, operator};
use skerry_model::Json;
use skerry_query::edge_routes;

fuzz_target!(|text: &str| {
    let check = |route: &str| edge_routes::parse(route).map(drop).map_err(|error| error.to_string());
    match operator(text, &check) {
        Ok(manifest) => {
            let again = operator(&manifest.to_content().to_string(), &check).expect("what was taken is taken again");
            assert_eq!(again, manifest);
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for (line, _) in errors.iter().filter_map(|error| error.place) {
                assert!(line >= 1 && line <= text.lines().count() + 1);
            }
        }
    }
    let Ok(Json::Object(desired)) = serde_json::from_str(text) else { return };
    if let Err(AgentFault::Format(errors)) = agent(&desired, Some("parent.local")) {
        assert!(!errors.is_empty());
    }
    if let Err(fault) = hub(&desired, &check) {
        assert!(!fault.errors().is_empty());
    }
});
