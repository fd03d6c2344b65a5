//! The captured conversations of the SDKs, and properties of both faces together.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use skerry_model::json::JsonObject;
use skerry_model::{
    Channel, ClientId, Command, Delivery, ErrorCode, FeedbackRequest, InputMessage, LockToken, Message, MethodCall,
    MethodCallId, PropertyBag, PropertyBagBuilder, Reply, Request, RequestError, Timestamp,
};

use super::client::{Heard, NotHeard, TwinAnswer, heard};
use super::*;
use crate::error::Tracking;

const TRACKING: Tracking<'static> = Tracking { id: "t", at: Timestamp::from_unix_seconds(0) };

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/mqtt-topics.json")).unwrap()
}

fn client(text: &str) -> ClientId {
    ClientId::parse(text).unwrap()
}

/// Who published or subscribed to a captured topic.
fn owner(topic: &str) -> ClientId {
    let Some(rest) = topic.strip_prefix("devices/") else { return client("dev-01") };
    let parts: Vec<_> = rest.split('/').collect();
    if parts.get(1) == Some(&"modules") { client(&format!("{}/{}", parts[0], parts[2])) } else { client(parts[0]) }
}

#[test]
fn everything_the_sdks_publish_is_understood() {
    for vector in vectors()["clientPublishes"].as_array().unwrap() {
        let (topic, payload) = (vector["topic"].as_str().unwrap(), vector["payload"].as_str().unwrap());
        let understood = said(&owner(topic), topic, payload.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        match understood {
            Said::Telemetry(message) => check_message(vector, message.properties),
            Said::Asked { rid, request } => {
                assert!(topic.ends_with(rid));
                match request.unwrap() {
                    Request::GetTwin => assert!(topic.starts_with("$iothub/twin/GET/")),
                    Request::PatchReported { patch, if_version } => {
                        assert_eq!(Value::Object(patch), json!({"fw": "2.0", "gone": null}));
                        assert_eq!(if_version, None);
                    }
                    other => panic!("{other:?}"),
                }
            }
            Said::Answered(answer) => {
                assert_eq!((answer.id, answer.status), (MethodCallId(0x9f1c), 200));
                assert_eq!(serde_json::from_slice::<Value>(&answer.payload).unwrap(), json!({"done": true}));
            }
            Said::Stray => panic!("{topic}"),
        }
    }
}

fn check_message(vector: &Value, bag: PropertyBag<'_>) {
    let message = &vector["message"];
    for (field, key) in [
        ("message_id", "$.mid"),
        ("correlation_id", "$.cid"),
        ("user_id", "$.uid"),
        ("content_type", "$.ct"),
        ("content_encoding", "$.ce"),
        ("output", "$.on"),
        ("expiry", "$.exp"),
    ] {
        assert_eq!(bag.get(key).as_deref(), message[field].as_str(), "{field} of {vector}");
    }
    if message == "no properties" {
        assert!(bag.is_empty());
    }
    for (key, value) in message["application"].as_object().into_iter().flatten() {
        // The vector notes what the application set; the SDK sends this one as a system property.
        let key = if key == "dt-subject" { "$.sub" } else { key };
        assert_eq!(bag.get(key).as_deref(), value.as_str(), "{key} of {vector}");
    }
}

#[test]
fn everything_the_sdks_subscribe_to_is_understood_and_ours_is_the_same() {
    for vector in vectors()["clientSubscribes"].as_array().unwrap() {
        let filter = vector["subscribe"].as_str().unwrap();
        let own = owner(filter);
        match subscription(filter, &own) {
            Subscription::Channel(channel) => assert_eq!(client::filter(channel, &own), filter),
            Subscription::TwinResponses => assert_eq!(client::TWIN_RESPONSE_FILTER, filter),
            other => panic!("{filter}: {other:?}"),
        }
    }
}

#[test]
fn filters_are_read_by_intent() {
    let check = |filter: &str, from: &str| subscription(filter, &client(from));
    assert_eq!(check("devices/e/modules/m/#", "e/m"), Subscription::Channel(Channel::Inputs));
    assert_eq!(check("devices/e/modules/m/messages/devicebound/#", "e/m"), Subscription::Channel(Channel::Commands));
    assert_eq!(check("devices/e/messages/deviceBound/#", "e"), Subscription::Channel(Channel::Commands));
    assert_eq!(check("$iothub/methods/POST/reboot/#", "e"), Subscription::Channel(Channel::Methods));
    for foreign in
        ["devices/f/messages/devicebound/#", "devices/+/messages/devicebound/#", "devices/e/modules/n/inputs/#"]
    {
        assert_eq!(check(foreign, "e"), Subscription::Foreign, "{foreign}");
        assert_eq!(check(foreign, "e/m"), Subscription::Foreign, "{foreign}");
    }
    assert_eq!(check("devices/e/messages/devicebound/#", "e/m"), Subscription::Foreign);
    for nothing in ["#", "devices/#", "devices/e/#", "$iothub/twin/res/200/#", "own/topic"] {
        assert_eq!(check(nothing, "e"), Subscription::Nothing, "{nothing}");
    }
}

#[test]
fn topics_without_meaning_and_of_others_are_refused() {
    let check = |topic: &str, from: &str| said(&client(from), topic, b"{}").unwrap_err();
    assert_eq!(
        check("devices/e/messages/events/k=secret", "f"),
        NotUnderstood::Foreign("devices/e/messages/events".into())
    );
    assert!(matches!(check("devices/e/messages/events/", "e/m"), NotUnderstood::Foreign(_)));
    assert!(matches!(check("devices/e/modules/m/messages/events/", "e/n"), NotUnderstood::Foreign(_)));
    assert!(matches!(check("devices/e/messages/eventsX", "e"), NotUnderstood::Topic(_)));
    assert!(matches!(check("devices/e/modules/m/messages/events/", "e"), NotUnderstood::Topic(_)));
    assert!(matches!(check("a/b", "e"), NotUnderstood::Topic(_)));
    assert!(matches!(check("$iothub/twin/DELETE/?$rid=1", "e"), NotUnderstood::Topic(_)));
    assert!(matches!(check("$iothub/twin/GET/", "e"), NotUnderstood::RequestId(_)));
    assert!(matches!(check("$iothub/twin/PATCH/properties/reported/?$rid=", "e"), NotUnderstood::RequestId(_)));
    assert!(matches!(check("$iothub/methods/res/ok/?$rid=1", "e"), NotUnderstood::Status(_)));
    assert_eq!(said(&client("e"), "$iothub/methods/res/200/?$rid=zz", b""), Ok(Said::Stray));
}

#[test]
fn a_wrong_patch_is_answered_not_closed() {
    let check = |topic: &str, payload: &[u8]| match said(&client("e"), topic, payload) {
        Ok(Said::Asked { rid: "1", request: Err(error) }) => error.code,
        other => panic!("{other:?}"),
    };
    let topic = "$iothub/twin/PATCH/properties/reported/?$rid=1";
    assert_eq!(check(topic, b"{"), ErrorCode::Format);
    assert_eq!(check(topic, b"[]"), ErrorCode::Format);
    assert_eq!(check(topic, "[".repeat(1000).as_bytes()), ErrorCode::Format);
    assert_eq!(check(&format!("{topic}&$version=x"), b"{}"), ErrorCode::ArgumentInvalid);
}

#[test]
fn retained_messages_and_wills_are_marked() {
    assert_eq!(marked(PropertyBag::new("a=1"), Mark::Retained), "a=1&mqtt-retain=true");
    assert_eq!(marked(PropertyBag::new(""), Mark::Will), "iothub-MessageType=Will");
}

fn publish(delivery: &Delivery, to: &str) -> (String, String) {
    let mut topic = String::new();
    let payload = publication(delivery, &client(to), &mut topic);
    (topic, String::from_utf8(payload.into_owned()).unwrap())
}

fn input(source: &str, bag: &str) -> Delivery {
    Delivery::Input {
        lock: LockToken(1),
        message: InputMessage {
            input: "in1".into(),
            source: client(source),
            properties: Bytes::copy_from_slice(bag.as_bytes()),
            body: Bytes::from_static(b"{\"t\":1}"),
            redelivered: false,
        },
    }
}

fn command(bag: &str, ack: FeedbackRequest) -> Delivery {
    let command = Command {
        message: Message { properties: bag.to_owned(), body: Bytes::from_static(b"hello") },
        sequence_number: 1,
        enqueued: Timestamp::from_unix_seconds(0),
        expires: Timestamp::from_unix_seconds(3600),
        delivery_count: 0,
        ack,
    };
    Delivery::Command { lock: LockToken(1), command: Arc::new(command) }
}

#[test]
fn what_is_published_is_what_the_sdks_were_shown_to_understand() {
    let vectors = vectors();
    let served = |start: &str| {
        let all = vectors["serverPublishes"].as_array().unwrap();
        let vector = all.iter().find(|vector| vector["topic"].as_str().unwrap().starts_with(start)).unwrap();
        (vector["topic"].as_str().unwrap().to_owned(), vector["payload"].as_str().unwrap().to_owned())
    };
    let method =
        MethodCall { id: MethodCallId(0x9f1c), name: "reboot".into(), payload: Bytes::from_static(b"{\"delay\":5}") };
    assert_eq!(publish(&Delivery::Method(method), "dev-01"), served("$iothub/methods/POST"));
    let patch: JsonObject = serde_json::from_str("{\"telemetryInterval\":60}").unwrap();
    let desired = Delivery::Desired { patch: Arc::new(patch), version: 8 };
    assert_eq!(publish(&desired, "dev-01"), served("$iothub/twin/PATCH"));
    assert_eq!(
        publish(&input("edge-dev-01/sender", "%24.mid=mm1&k=v"), "edge-dev-01/mod-a"),
        served("devices/edge-dev-01/modules")
    );
    // The captured one has an empty property, which the Java device SDK cannot read, and the acknowledgement at its end.
    let (topic, payload) =
        publish(&command("$.mid=m-1&$.cid=c-1&prop%20one=a%20b&flag=", FeedbackRequest::Full), "dev-01");
    assert_eq!(payload, "hello");
    let pairs = |topic: &str| {
        let mut pairs: Vec<_> = topic.rsplit('/').next().unwrap().split('&').map(str::to_owned).collect();
        pairs.retain(|pair| pair != "flag=");
        pairs.sort();
        pairs
    };
    assert_eq!(pairs(&topic), pairs(&served("devices/dev-01/messages/devicebound").0));
    assert!(topic.starts_with("devices/dev-01/messages/devicebound/%24.mid=m-1&%24.to=%2Fdevices%2Fdev-01%2Fmessages"));
}

#[test]
fn a_command_always_has_an_encoded_system_key_in_front() {
    assert_eq!(
        publish(&command("", FeedbackRequest::None), "e/m").0,
        "devices/e/modules/m/messages/devicebound/%24.to=%2Fdevices%2Fe%2Fmodules%2Fm%2Fmessages%2FdeviceBound"
    );
    let with_expiry =
        publish(&command("a=1&%24.exp=whenever&$.to=spoofed&iothub-ack=full&%24.ct=t", FeedbackRequest::None), "d").0;
    assert_eq!(
        with_expiry,
        "devices/d/messages/devicebound/%24.to=%2Fdevices%2Fd%2Fmessages%2FdeviceBound&%24.ct=t\
         &%24.exp=1970-01-01T01%3A00%3A00.0000000Z&a=1"
    );
}

#[test]
fn an_input_bag_is_made_readable_for_every_receiver() {
    let check = |bag: &str| publish(&input("e/s", bag), "e/m").0.split_once("/in1/").unwrap().1.to_owned();
    let sender = "%24.cdid=e&%24.cmid=s";
    assert_eq!(check("%24.on=out&k=v"), format!("{sender}&k=v"));
    assert_eq!(check("$.on=out&$.ct=application/json&k=a b"), format!("{sender}&%24.ct=application%2Fjson&k=a%20b"));
    assert_eq!(check("bare&empty=&=x&%24.cmid=other&$.cdid=other"), format!("{sender}&=x"));
    assert_eq!(check("k=%e4%zz&l=%c3%a4&m=%41"), format!("{sender}&k=%EF%BF%BD%25zz&l=%C3%A4&m=A"));
    assert_eq!(check(""), sender);
    assert_eq!(publish(&input("leaf", "k=v/"), "e/m").0, "devices/e/modules/m/inputs/in1/%24.cdid=leaf&k=v");
}

#[test]
fn method_names_are_encoded_only_where_they_have_to_be() {
    let call = |name: &str| MethodCall { id: MethodCallId(1), name: name.into(), payload: Bytes::new() };
    assert_eq!(
        publish(&Delivery::Method(call("a/b+#?% c")), "d").0,
        "$iothub/methods/POST/a%2Fb%2B%23%3F%25 c/?$rid=1"
    );
}

#[test]
fn twin_answers_are_read_back() {
    let own = client("d");
    let check = |reply: &Reply| {
        let mut topic = String::new();
        let payload = twin_response("rid-1", reply, TRACKING, &mut topic);
        match heard(&own, &topic, &payload).unwrap() {
            Heard::TwinResponse { rid: "rid-1", answer } => (topic, answer),
            other => panic!("{other:?}"),
        }
    };
    let twin = json!({"desired": {"$version": 7}, "reported": {"$version": 3}});
    assert_eq!(check(&Reply::Twin(twin.clone())), ("$iothub/twin/res/200/?$rid=rid-1".into(), TwinAnswer::Twin(twin)));
    assert_eq!(
        check(&Reply::Reported { version: Some(4) }),
        ("$iothub/twin/res/204/?$rid=rid-1&$version=4".into(), TwinAnswer::Done { version: Some(4) })
    );
    assert_eq!(check(&Reply::Reported { version: None }).1, TwinAnswer::Done { version: None });
    let error = RequestError::new(ErrorCode::TooLarge, "the reported section would have 40000 bytes");
    assert_eq!(
        check(&Reply::Failed(error.clone())),
        ("$iothub/twin/res/413/?$rid=rid-1".into(), TwinAnswer::Failed(error))
    );
}

#[test]
fn what_a_hub_should_not_send_is_not_understood() {
    let check = |topic: &str, payload: &str| heard(&client("d"), topic, payload.as_bytes()).unwrap_err();
    assert!(matches!(check("devices/e/messages/devicebound/", ""), NotHeard::Topic(_)));
    assert!(matches!(check("$iothub/twin/res/ok/?$rid=1", ""), NotHeard::Parameter { parameter: "status", .. }));
    assert!(matches!(check("$iothub/twin/res/200/", ""), NotHeard::Parameter { parameter: "$rid", .. }));
    assert!(matches!(
        check("$iothub/twin/PATCH/properties/desired/", "{}"),
        NotHeard::Parameter { parameter: "$version", .. }
    ));
    assert!(matches!(check("$iothub/twin/PATCH/properties/desired/?$version=1", "[]"), NotHeard::Payload { .. }));
    assert!(matches!(check("$iothub/methods/POST/x", ""), NotHeard::Parameter { .. }));
}

#[test]
fn the_version_of_a_desired_patch_may_stand_in_the_topic_alone() {
    let heard = heard(&client("d"), "$iothub/twin/PATCH/properties/desired/?$version=9", b"{\"a\":null}").unwrap();
    let Heard::Desired(desired) = heard else { panic!("{heard:?}") };
    assert_eq!((Value::Object(desired.patch), desired.version), (json!({"a": null}), 9));
}

fn bag() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::vec(("[a-z$./&= ä]{1,8}", "[a-z/&=% ü+]{1,8}"), 0..5)
        .prop_map(|pairs| pairs.into_iter().filter(|(key, _)| !key.starts_with("$.")).collect())
}

fn written(pairs: &[(String, String)]) -> String {
    let mut builder = PropertyBagBuilder::new();
    for (key, value) in pairs {
        builder.push(key, value);
    }
    builder.finish()
}

fn read(bag: PropertyBag<'_>) -> Vec<(String, String)> {
    bag.application().map(|(key, value)| (key.into_owned(), value.unwrap_or_default().into_owned())).collect()
}

proptest! {
    #[test]
    fn no_topic_breaks_the_parsers(
        topic in ".{0,80}",
        shaped in "(devices/e/|devices/e/modules/m/|\\$iothub/twin/|\\$iothub/methods/)(messages/events|GET|PATCH/properties/(reported|desired)|res|POST|inputs)/[ -~]{0,30}",
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        for topic in [topic, shaped] {
            for own in [client("e"), client("e/m")] {
                let _ = said(&own, &topic, &payload);
                let _ = heard(&own, &topic, &payload);
                let _ = subscription(&topic, &own);
            }
        }
    }

    #[test]
    fn telemetry_of_our_client_is_what_our_hub_understands(pairs in bag(), body in proptest::collection::vec(any::<u8>(), 0..20)) {
        for own in [client("e"), client("e/m")] {
            let (text, mut topic) = (written(&pairs), String::new());
            client::telemetry_topic(&own, PropertyBag::new(&text), &mut topic);
            match said(&own, &topic, &body) {
                Ok(Said::Telemetry(message)) => {
                    prop_assert_eq!(read(message.properties), pairs.clone());
                    prop_assert_eq!(message.body, &body[..]);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn inputs_and_commands_carry_what_the_sender_said(pairs in bag()) {
        let text = written(&pairs);
        let own = client("e/m");
        let (topic, _) = publish(&input("e/s", &text), "e/m");
        match heard(&own, &topic, b"") {
            Ok(Heard::Input { input: "in1", message }) => {
                prop_assert_eq!(read(message.properties), pairs.clone());
                prop_assert!(message.properties.get("$.cmid").is_some_and(|value| value == "s"));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        let (topic, _) = publish(&command(&text, FeedbackRequest::None), "e/m");
        match heard(&own, &topic, b"") {
            Ok(Heard::Command(message)) => prop_assert_eq!(read(message.properties), pairs),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn whatever_a_sender_writes_a_receiver_gets_a_canonical_bag(text in "[ -~ä]{0,40}") {
        let (topic, _) = publish(&input("e/s", &text), "e/m");
        let bag = topic.split_once("/in1/").unwrap().1;
        for pair in bag.split('&') {
            let (key, value) = pair.split_once('=').unwrap();
            prop_assert!(!value.is_empty());
            for part in [key, value] {
                let decoded = crate::percent::decode(part);
                prop_assert_eq!(crate::percent::encode(&decoded), part);
            }
        }
        prop_assert!(PropertyBag::new(bag).get("$.cdid").is_some_and(|value| value == "e"));
        prop_assert!(PropertyBag::new(bag).get("$.cmid").is_some_and(|value| value == "s"));
        prop_assert_eq!(PropertyBag::new(bag).get("$.on"), None);
    }

    #[test]
    fn method_calls_and_their_answers_find_each_other(id in any::<u128>(), name in "[ -~ä]{1,20}", status in any::<i64>()) {
        let call = MethodCall { id: MethodCallId(id), name: name.clone(), payload: Bytes::new() };
        let own = client("e");
        let (topic, _) = publish(&Delivery::Method(call), "e");
        let Ok(Heard::Method { rid, name: heard_name, .. }) = heard(&own, &topic, b"") else { panic!("{topic}") };
        prop_assert_eq!(heard_name, name);
        let mut answer = String::new();
        client::method_answer_topic(&rid.to_uppercase(), status, &mut answer);
        match said(&own, &answer, b"null") {
            Ok(Said::Answered(answer)) => prop_assert_eq!((answer.id, answer.status), (MethodCallId(id), status)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
