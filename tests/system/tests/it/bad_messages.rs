//! Bad input from clients that were let in: the connection or the request ends as it should, and nothing else happens.

use serde_json::{Value, json};
use skerry_model::Limits;
use skerry_testkit::{Rest, eventually};

use crate::peer::Heard;
use crate::site::{At, Site};

const PATCH_REPORTED: &str = "$iothub/twin/PATCH/properties/reported/?$rid=1";
const GET_TWIN: &str = "$iothub/twin/GET/?$rid=2";

struct Case {
    device: &'static str,
    /// The topic and the payload that the device publishes, given its own topics.
    publishes: fn(&str) -> (String, Vec<u8>),
    reason: &'static str,
}

const CASES: &[Case] = &[
    Case {
        device: "too-large",
        publishes: |own| (format!("{own}/messages/events/"), vec![b'.'; Limits::default().message_bytes_max + 1]),
        reason: "262145 bytes",
    },
    Case {
        device: "too-large-with-properties",
        publishes: |own| (format!("{own}/messages/events/a=b"), vec![b'.'; Limits::default().message_bytes_max - 1]),
        reason: "262145 bytes",
    },
    Case {
        device: "huge",
        publishes: |own| (format!("{own}/messages/events/"), vec![b'.'; 400_000]),
        reason: "PUBLISH of 400",
    },
    Case { device: "no-such-topic", publishes: |_| ("greetings".to_owned(), vec![]), reason: "published to the topic" },
    Case {
        device: "misspelt-topic",
        publishes: |own| (format!("{own}/message/events/"), vec![]),
        reason: "published to the topic",
    },
    Case {
        device: "request-without-id",
        publishes: |_| ("$iothub/twin/GET/?".to_owned(), vec![]),
        reason: "published to the topic `$iothub/twin/GET/` without a $rid",
    },
    Case {
        device: "impostor",
        publishes: |_| ("devices/other/messages/events/".to_owned(), b"as another".to_vec()),
        reason: "published to the topic `devices/other/messages/events` of another identity",
    },
    Case {
        device: "module-impostor",
        publishes: |own| (format!("{own}/modules/m/messages/events/"), b"as a module".to_vec()),
        reason: "published to the topic",
    },
];

fn a_bad_publication_ends_its_connection_alone(at: At) {
    let mut site = Site::start(at);
    let server = site.server();
    let good = site.device("other");
    let mut neighbour = server.login(&good);
    for case in CASES {
        let login = site.device(case.device);
        let mut peer = server.login(&login);
        // What came in good order before counts.
        peer.publish(1, &format!("{}/messages/events/", login.topics()), case.device.as_bytes());
        assert_eq!(peer.hear(), Heard::PubAck(1));
        let (topic, payload) = (case.publishes)(&login.topics());
        peer.publish(2, &topic, &payload);
        peer.hear_the_end();
        let entry = site.refused(case.device, 1);
        assert!(entry["reason"].as_str().unwrap().contains(case.reason), "{}: {entry}", case.device);
        let lines = site.refusal_lines(case.device);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(case.reason), "{}", lines[0]);
        // It may come again and do better.
        let mut again = server.login(&login);
        again.publish(1, &format!("{}/messages/events/", login.topics()), b"better");
        assert_eq!(again.hear(), Heard::PubAck(1));
    }
    neighbour.publish(9, &format!("{}/messages/events/", good.topics()), b"the last");
    assert_eq!(neighbour.hear(), Heard::PubAck(9));
    let mut events = site.hub.events();
    let mut seen = Vec::new();
    let expected = 2 * CASES.len() + 1;
    while seen.len() < expected {
        seen.push(events.next_event());
    }
    for event in &seen {
        let (device, body) = (event["deviceId"].as_str().unwrap(), event["body"].as_str().unwrap());
        let own = if device == "other" { body == "the last" } else { body == device || body == "better" };
        assert!(own, "{event}");
    }
    assert_eq!(events.all_now(), Vec::<Value>::new());
}

#[test]
fn a_bad_publication_ends_its_connection_alone_at_the_hub() {
    a_bad_publication_ends_its_connection_alone(At::Hub);
}

#[test]
fn a_bad_publication_ends_its_connection_alone_at_the_edge() {
    a_bad_publication_ends_its_connection_alone(At::Edge);
}

fn the_largest_message_is_taken(at: At) {
    let site = Site::start(at);
    let login = site.device("dev-1");
    let mut peer = site.server().login(&login);
    let body = vec![b'.'; Limits::default().message_bytes_max];
    peer.publish(1, &format!("{}/messages/events/", login.topics()), &body);
    assert_eq!(peer.hear(), Heard::PubAck(1));
    let event = site.hub.events().next_event();
    assert_eq!(event["body"].as_str().map(str::len), Some(body.len()));
}

#[test]
fn the_largest_message_is_taken_at_the_hub() {
    the_largest_message_is_taken(At::Hub);
}

#[test]
fn the_largest_message_is_taken_at_the_edge() {
    the_largest_message_is_taken(At::Edge);
}

fn the_filter_of_another_identity_ends_the_connection(at: At) {
    let site = Site::start(at);
    let server = site.server();
    site.device("other");
    let login = site.device("curious");
    let mut peer = server.login(&login);
    let mut bytes = Vec::new();
    let filters = [("devices/other/messages/devicebound/#", skerry_mqtt::Qos::AtLeastOnce)];
    skerry_mqtt::encode::subscribe(&mut bytes, skerry_mqtt::PacketId::MIN, filters.into_iter()).unwrap();
    peer.send(&bytes);
    peer.hear_the_end();
    let entry = site.refused("curious", 1);
    assert!(entry["reason"].as_str().unwrap().contains("of another identity"), "{entry}");
}

#[test]
fn the_filter_of_another_identity_ends_the_connection_at_the_hub() {
    the_filter_of_another_identity_ends_the_connection(At::Hub);
}

#[test]
fn the_filter_of_another_identity_ends_the_connection_at_the_edge() {
    the_filter_of_another_identity_ends_the_connection(At::Edge);
}

/// Patches that no twin takes, with the status that says so and what the log says of them.
fn bad_patches() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let deep = (0..12).fold(json!(1), |inner, _| json!({ "a": inner }));
    let large: serde_json::Map<_, _> = (0..9).map(|n| (format!("k{n}"), json!("x".repeat(4_000)))).collect();
    let bytes = |value: Value| value.to_string().into_bytes();
    vec![
        ("too deep", bytes(deep), "400/", "levels deep"),
        ("too large", bytes(Value::Object(large)), "413/", "would have"),
        ("a long text", bytes(json!({ "t": "x".repeat(4_097) })), "400/", "the text is too long"),
        ("a dollar", bytes(json!({ "a": { "$b": 1 } })), "400/", "a key cannot contain"),
        ("an array", bytes(json!([1])), "400/", "not a JSON object"),
        ("no JSON", b"{\"a\":".to_vec(), "400/", "the reported patch is"),
        ("endless nesting", vec![b'['; 100_000], "400/", "the reported patch is"),
    ]
}

fn a_bad_reported_patch_is_refused_and_changes_nothing(at: At) {
    let mut site = Site::start(at);
    let server = site.server();
    for (number, (what, patch, status, reason)) in bad_patches().into_iter().enumerate() {
        let login = site.device(&format!("dev-{number}"));
        let mut peer = server.login(&login);
        peer.subscribe("$iothub/twin/res/#");
        let (answer, _) = peer.ask_twin(PATCH_REPORTED, br#"{"kept":{"a":1}}"#);
        assert!(answer.starts_with("204/"), "{what}: {answer}");
        let (answer, body) = peer.ask_twin(PATCH_REPORTED, &patch);
        assert!(answer.starts_with(status), "{what}: {answer} {body}");
        assert!(body.contains("errorCode") && body.contains("trackingId"), "{what}: {body}");
        let (answer, twin) = peer.ask_twin(GET_TWIN, b"");
        assert!(answer.starts_with("200/"), "{what}: {answer}");
        let twin: Value = serde_json::from_str(&twin).unwrap();
        assert_eq!(twin["reported"]["kept"], json!({ "a": 1 }), "{what}");
        assert_eq!(twin["reported"].as_object().unwrap().len(), 2, "{what}: {twin}");
        let lines = site.logged("twin request refused", &format!("client={} ", login.client_id));
        assert_eq!(lines.len(), 1, "{what}: {lines:?}");
        assert!(lines[0].contains(reason), "{what}: {}", lines[0]);
    }
}

#[test]
fn a_bad_reported_patch_is_refused_and_changes_nothing_at_the_hub() {
    a_bad_reported_patch_is_refused_and_changes_nothing(At::Hub);
}

#[test]
fn a_bad_reported_patch_is_refused_and_changes_nothing_at_the_edge() {
    a_bad_reported_patch_is_refused_and_changes_nothing(At::Edge);
}

#[test]
fn a_bad_twin_over_rest_is_refused_and_changes_nothing() {
    let mut site = Site::start(At::Hub);
    site.hub.create_device("dev-1");
    let rest = site.hub.rest();
    rest.call(
        "PATCH",
        "/twins/dev-1",
        Some(&json!({ "properties": { "desired": { "kept": 1 } }, "tags": { "t": 1 } })),
    );
    let before = rest.call("GET", "/twins/dev-1", None);
    let deep = (0..12).fold(json!(1), |inner, _| json!({ "a": inner }));
    let large: serde_json::Map<_, _> = (0..9).map(|n| (format!("k{n}"), json!("x".repeat(4_000)))).collect();
    let large_tags: serde_json::Map<_, _> = (0..3).map(|n| (format!("k{n}"), json!("x".repeat(4_000)))).collect();
    for (what, document, status) in [
        ("too deep", json!({ "properties": { "desired": deep } }), 400),
        ("too large", json!({ "properties": { "desired": large } }), 413),
        ("tags too large", json!({ "tags": large_tags }), 413),
        ("one good, one bad", json!({ "tags": { "t": 2 }, "properties": { "desired": { "$x": 1 } } }), 400),
    ] {
        for method in ["PATCH", "PUT"] {
            refused_with(&rest, method, &document, status, what);
            let after = rest.call("GET", "/twins/dev-1", None);
            assert_eq!(after, before, "{method} {what}");
        }
    }
    // The same reason is logged once a minute, and not for PATCH and again for PUT.
    for (reason, lines) in [
        ("would nest 11 levels deep", 1),
        ("properties.desired would have", 2),
        ("tags would have", 2),
        ("properties.desired.$x: a key", 1),
    ] {
        let told = eventually("the refusals are logged", || {
            let told = site.log("request refused").into_iter().filter(|line| line.contains(reason)).collect::<Vec<_>>();
            (told.len() == lines).then_some(told)
        });
        assert!(told.iter().all(|line| line.contains("/twins/dev-1")), "{told:?}");
    }
}

#[track_caller]
fn refused_with(rest: &Rest, method: &str, document: &Value, status: u16, what: &str) {
    let answer = rest.ask(method, "/twins/dev-1", &[("If-Match", "*")], Some(document));
    assert_eq!(answer.status, status, "{method} {what}: {}", answer.text);
    assert!(answer.header("iothub-errorcode").is_some(), "{method} {what}: {:?}", answer.headers);
}
