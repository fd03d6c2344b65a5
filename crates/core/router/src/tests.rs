//! Routing against the published facts, and against a slow and plain way to do the same.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value as Json;
use skerry_model::manifest::RoutePriority;
use skerry_model::{DeviceId, MessageView, PropertyBag, PropertyBagBuilder, Route};
use skerry_query::MessageFields;

use super::*;

fn route(name: &str, text: &str, priority: Option<u32>, ttl_secs: u64) -> Route {
    Route {
        name: name.to_owned(),
        text: text.to_owned(),
        priority: priority.map_or(RoutePriority::DEFAULT, |number| RoutePriority::new(number).unwrap()),
        time_to_live: (ttl_secs > 0).then(|| Duration::from_secs(ttl_secs)),
    }
}

fn origin(path: &str) -> Origin<'_> {
    if path == "/messages" {
        return Origin::Device;
    }
    if path == "/twinChangeNotifications" {
        return Origin::TwinChange;
    }
    let module = path.strip_prefix("/messages/modules/").unwrap();
    match module.split_once("/outputs/") {
        Some((module, output)) => Origin::Module { module, output: Some(output) },
        None => Origin::Module { module, output: None },
    }
}

fn destinations(router: &Router, from: &Origin<'_>, properties: &str) -> Destinations {
    let view = MessageView { properties: PropertyBag::new(properties), body: b"" };
    router.destinations(&router.sources(from), &MessageFields::new(view))
}

#[test]
fn sources_take_what_is_published() {
    let vectors: Json = serde_json::from_str(include_str!("../tests/vectors/edge-route-source-match.json")).unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let pattern = case["pattern"].as_str().unwrap();
        let router = Router::compile(&[route("r", &format!("FROM {pattern} INTO $upstream"), None, 0)]).unwrap();
        for (name, takes) in case["matches"].as_object().unwrap() {
            let path = vectors["messageSources"][name].as_str().unwrap();
            assert_eq!(origin(path).to_string(), path);
            let taken = !destinations(&router, &origin(path), "").is_empty();
            assert_eq!(taken, takes.as_bool().unwrap(), "{pattern} and {path}");
        }
    }
}

#[test]
fn messages_fan_out_as_published() {
    let vectors: Json = serde_json::from_str(include_str!("../tests/vectors/edge-route-fanout.json")).unwrap();
    let global = vectors["global"]["timeToLiveSecs"].as_u64().unwrap();
    let routes: Vec<_> = vectors["routes"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| {
            let priority = value["priority"].as_u64().map(|number| u32::try_from(number).unwrap());
            route(name, value["route"].as_str().unwrap(), priority, value["timeToLiveSecs"].as_u64().unwrap_or(0))
        })
        .collect();
    let router = Router::compile(&routes).unwrap();
    let edge = DeviceId::parse("edge1").unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let mut bag = PropertyBagBuilder::new();
        for (key, value) in case["message"]["properties"].as_object().unwrap() {
            bag.push(key, value.as_str().unwrap());
        }
        let source = case["message"]["source"].as_str().unwrap();
        let found = destinations(&router, &origin(source), &bag.finish());
        let mut queues: Vec<_> = found
            .iter()
            .map(|destination| {
                let endpoint = router.endpoint(destination.endpoint).unwrap();
                let ttl = destination.time_to_live.map_or(global, |ttl| ttl.as_secs());
                (endpoint.id(&edge), endpoint.queue(&edge, destination.priority), ttl)
            })
            .collect();
        queues.sort();
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        let mut expected: Vec<_> = case["queues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|queue| (text(&queue["endpoint"]), text(&queue["queue"]), queue["ttlSecs"].as_u64().unwrap()))
            .collect();
        expected.sort();
        assert_eq!(queues, expected, "{source}");
    }
}

#[test]
fn every_error_of_every_route_is_told() {
    let errors = Router::compile(&[
        route("good", "FROM /* INTO $upstream", None, 0),
        route("bad", "FROM x INTO y", None, 0),
        route("typed", "FROM /* WHERE a > 1 AND trim(b) INTO $upstream", None, 0),
    ])
    .unwrap_err();
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("route `bad`: expected `/`"), "{told:?}");
    assert!(told[1].starts_with("route `typed`: Invalid operands"), "{told:?}");
    assert!(matches!(errors[2].reason, RouteErrorReason::Type(_)));
}

#[test]
fn a_kept_match_is_known_to_be_old() {
    let first = Router::compile(&[route("a", "FROM /* INTO $upstream", None, 0)]).unwrap();
    let renamed = Router::compile(&[route("b", "FROM /* INTO $upstream", None, 0)]).unwrap();
    let other = Router::compile(&[route("a", "FROM /* INTO $upstream", Some(1), 0)]).unwrap();
    let kept = first.sources(&Origin::Device);
    assert!(kept.is_of(&first) && kept.is_of(&renamed) && !kept.is_of(&other));
    assert!(kept.fixed().is_some());
    let fields = MessageFields::new(MessageView { properties: PropertyBag::new(""), body: b"" });
    assert!(other.destinations(&kept, &fields).is_empty());
}

#[test]
fn many_endpoints_and_no_routes() {
    let routes: Vec<_> = (0..200)
        .map(|at| {
            let text = format!("FROM /* WHERE a = '1' INTO BrokeredEndpoint(\"/modules/m{at}/inputs/i\")");
            route(&at.to_string(), &text, None, 0)
        })
        .collect();
    let router = Router::compile(&routes).unwrap();
    let all = destinations(&router, &Origin::Device, "a=1");
    assert_eq!(all.set().iter().map(EndpointIndex::get).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    let last = router.index_of(router.endpoints().last().unwrap()).unwrap();
    assert!(all.set().contains(last));
    assert!(destinations(&router, &Origin::Device, "a=2").is_empty());
    assert!(destinations(&Router::compile(&[]).unwrap(), &Origin::Device, "").is_empty());
    let too_many = vec![route("r", "FROM /* INTO $upstream", None, 0); ROUTES_MAX + 1];
    assert_eq!(Router::compile(&too_many).unwrap_err().len(), 1);
}

#[test]
fn priorities_of_an_endpoint_are_told_once_each() {
    let router = Router::compile(&[
        route("a", "FROM /* INTO $upstream", None, 0),
        route("b", "FROM /* INTO $upstream", Some(3), 0),
        route("c", "FROM /messages INTO $upstream", Some(3), 0),
    ])
    .unwrap();
    let upstream = router.index_of(&Endpoint::Upstream).unwrap();
    let numbers: Vec<_> = router.priorities(upstream).into_iter().map(RoutePriority::number).collect();
    assert_eq!(numbers, [3, 2_000_000_000]);
}

/// One of a few sources, whether it has a condition, one of three endpoints, a priority.
fn any_route() -> impl Strategy<Value = (usize, bool, usize, Option<u32>)> {
    (0..3_usize, any::<bool>(), 0..3_usize, prop::option::of(0..10_u32))
}

proptest! {
    #[test]
    fn routing_agrees_with_the_plain_way(parts in prop::collection::vec(any_route(), 0..12), condition_holds: bool) {
        let sources = ["/*", "/messages/modules/m", "/twinChangeNotifications"];
        let sinks = ["$upstream", "BrokeredEndpoint('/modules/a/inputs/x')", "BrokeredEndpoint('/modules/b/inputs/x')"];
        let routes: Vec<_> = parts.iter().enumerate().map(|(at, (source, has_condition, sink, priority))| {
            let condition = if *has_condition { "WHERE a = '1'" } else { "" };
            route(&at.to_string(), &format!("FROM {} {condition} INTO {}", sources[*source], sinks[*sink]), *priority, at as u64)
        }).collect();
        let router = Router::compile(&routes).unwrap();
        let from = Origin::Module { module: "m", output: Some("o") };
        let found = destinations(&router, &from, if condition_holds { "a=1" } else { "a=2" });

        for (at, sink) in sinks.iter().enumerate() {
            let best = routes.iter().zip(&parts)
                .filter(|(_, (source, has_condition, to, _))| *to == at && *source < 2 && (condition_holds || !has_condition))
                .map(|(route, _)| route)
                .min_by_key(|route| route.priority);
            let chosen = found.iter().find(|destination| {
                let text = match router.endpoint(destination.endpoint).unwrap() {
                    Endpoint::Upstream => "$upstream".to_owned(),
                    Endpoint::Input { module, input } => format!("BrokeredEndpoint('/modules/{module}/inputs/{input}')"),
                };
                text == *sink
            });
            prop_assert_eq!(chosen.map(|c| c.priority), best.map(|route| route.priority));
            if let (Some(chosen), Some(best)) = (chosen, best) {
                prop_assert_eq!(chosen.time_to_live, best.time_to_live);
            }
        }
        prop_assert!(found.iter().map(|d| d.priority).is_sorted());
        prop_assert_eq!(found.set().iter().count(), found.iter().count());
    }
}
