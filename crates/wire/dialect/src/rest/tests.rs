//! Service bodies in both directions.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use skerry_model::{
    Activity, Authentication, DeviceRecord, DeviceStatus, EdgeScope, ErrorCode, FeedbackRequest, KeyPair, Limits,
    ModuleId, ModuleName, ModuleRecord, PropertyBagBuilder, SharedKey, Timestamp, Twin, TwinUpdate,
};

use super::*;
use crate::connection_string::{ClientConnection, Credential, ServiceConnection};

fn device(iot_edge: bool) -> DeviceRecord {
    let key = SharedKey::from_bytes(&[7; 32]).unwrap();
    DeviceRecord {
        id: DeviceId::parse("dev1").unwrap(),
        generation: "9".into(),
        etag: "MTk4".into(),
        status: DeviceStatus::Enabled,
        status_reason: None,
        status_updated: None,
        authentication: Authentication::Sas(KeyPair { primary: key.clone(), secondary: key }),
        iot_edge,
        parent: None,
        activity: Activity::default(),
    }
}

#[test]
fn a_fresh_twin_looks_as_the_platform_shows_it() {
    let body = twin_body(TwinView { of: TwinOf::Device(&device(false)), twin: &Twin::default(), model_id: None });
    for (member, expected) in [
        ("deviceId", json!("dev1")),
        ("deviceEtag", json!("MTk4")),
        ("status", json!("enabled")),
        ("statusUpdateTime", json!("0001-01-01T00:00:00Z")),
        ("connectionState", json!("Disconnected")),
        ("lastActivityTime", json!("0001-01-01T00:00:00Z")),
        ("cloudToDeviceMessageCount", json!(0)),
        ("authenticationType", json!("sas")),
        ("x509Thumbprint", json!({"primaryThumbprint": null, "secondaryThumbprint": null})),
        ("modelId", json!("")),
        ("version", json!(2)),
        ("capabilities", json!({"iotEdge": false})),
    ] {
        assert_eq!(body[member], expected, "{member}");
    }
    for absent in ["moduleId", "tags", "statusReason", "deviceScope", "parentScopes"] {
        assert_eq!(body.get(absent), None, "{absent}");
    }
    assert_eq!(body["properties"]["desired"]["$version"], 1);
    assert!(body["properties"]["desired"]["$metadata"]["$lastUpdated"].is_string());
}

#[test]
fn edge_devices_and_modules_have_members_of_their_own() {
    let mut edge = device(true);
    edge.parent = EdgeScope::parse("ms-azure-iot-edge://top-1");
    let body = twin_body(TwinView { of: TwinOf::Device(&edge), twin: &Twin::default(), model_id: Some("dtmi:x;1") });
    assert_eq!(body["deviceScope"], "ms-azure-iot-edge://dev1-9");
    assert_eq!(body["parentScopes"], json!(["ms-azure-iot-edge://top-1"]));
    assert_eq!(body["modelId"], "dtmi:x;1");

    let module = ModuleRecord {
        id: ModuleId::parse("dev1/m").unwrap(),
        generation: "1".into(),
        etag: "m-etag".into(),
        managed_by: String::new(),
        authentication: Authentication::None,
        activity: Activity::default(),
    };
    let of = TwinOf::Module { module: &module, device: &edge };
    let body = twin_body(TwinView { of, twin: &Twin::default(), model_id: None });
    assert_eq!(
        (&body["moduleId"], &body["deviceEtag"], &body["authenticationType"]),
        (&json!("m"), &json!("m-etag"), &json!("none"))
    );
    assert_eq!((body.get("capabilities"), body.get("deviceScope")), (None, None));
}

#[test]
fn a_whole_twin_can_be_sent_back_as_an_update() {
    let mut twin = Twin::default();
    let update = TwinUpdate {
        tags: json!({"site": "a"}).as_object().cloned(),
        desired: json!({"cfg": {"rate": 5}}).as_object().cloned(),
    };
    twin.patch(&update, Timestamp::from_unix_seconds(0), &Limits::default()).unwrap();
    let body = twin_body(TwinView { of: TwinOf::Device(&device(false)), twin: &twin, model_id: None });
    let read = twin_update(body.to_string().as_bytes()).unwrap();
    let mut again = twin.clone();
    again.patch(&read, Timestamp::from_unix_seconds(0), &Limits::default()).unwrap();
    assert_eq!(again.device_view()["desired"]["cfg"], json!({"rate": 5}));
    assert_eq!(twin_update(twin_update_body(&update).as_bytes()), Ok(update));
    assert_eq!(twin_update(b"{}"), Ok(TwinUpdate::default()));
    assert_eq!(twin_update(br#"{"tags":[]}"#).unwrap_err().detail, "`tags` is not an object");
    assert_eq!(twin_update(b"{").unwrap_err().code, ErrorCode::Format);
}

#[test]
fn commands_are_read_from_both_spellings_of_headers() {
    let explorer = [
        ("iothub-app-ack", "full"),
        ("iothub-app-messageId", "m1"),
        ("IoTHub-App-contentType", "text/plain"),
        ("iothub-app-expiryTimeUtc", "2030-01-01T00:00:00Z"),
        ("iothub-app-lockToken", "x"),
        ("iothub-app-color", "red"),
        ("content-encoding", "utf-8"),
    ];
    let draft = command(explorer, Bytes::from_static(b"hi")).unwrap();
    assert_eq!(draft.ack, FeedbackRequest::Full);
    assert_eq!(draft.expires, Timestamp::parse("2030-01-01T00:00:00Z").ok());
    assert_eq!(
        draft.message.properties,
        "%24.mid=m1&%24.ct=text%2Fplain&%24.exp=2030-01-01T00%3A00%3A00.0000000Z&color=red"
    );
    let headers = command_headers(&draft);
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let back = command(pairs, Bytes::from_static(b"hi")).unwrap();
    assert_eq!((back.ack, back.expires), (draft.ack, draft.expires));
    assert_eq!(back.message.message_id().as_deref(), Some("m1"));
    assert_eq!(command([("iothub-ack", "maybe")], Bytes::new()).unwrap_err().code, ErrorCode::ArgumentInvalid);
    assert_eq!(command([("iothub-expiry", "soon")], Bytes::new()).unwrap_err().code, ErrorCode::ArgumentInvalid);
}

#[test]
fn a_manifest_is_divided_into_its_modules() {
    let body = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"modules": {"sensor": {}, "filter": {}}}},
        "$edgeHub": {"properties.desired": {"routes": {}}},
        "sensor": {"properties.desired": {"everySec": 5}},
        "bare": {},
    }, "deviceContent": null});
    let content = configuration_content(body.to_string().as_bytes()).unwrap();
    let names: Vec<_> = content.desired.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["$edgeAgent", "$edgeHub", "sensor"]);
    assert_eq!(content.listed, ["sensor", "filter"].map(|name| ModuleName::parse(name).unwrap()));
    assert_eq!(Value::Object(content.desired[2].1.clone()), json!({"everySec": 5}));

    let check = |body: Value| {
        let error = configuration_content(body.to_string().as_bytes()).unwrap_err();
        (error.code, error.detail.into_owned())
    };
    assert_eq!(check(json!({})), (ErrorCode::ArgumentInvalid, "`modulesContent` is missing".into()));
    assert_eq!(check(json!({"deviceContent": {"properties.desired.a": 1}})).0, ErrorCode::NotImplemented);
    assert_eq!(
        check(json!({"modulesContent": {"m": {"properties.desired.a": 1}}})).1,
        "the section of `m` has `properties.desired.a`; a single device takes `properties.desired` only"
    );
    assert!(check(json!({"modulesContent": {"a b": {}}})).1.starts_with("`a b` is not a module's name"));
    assert!(
        check(json!({"modulesContent": {"$edgeAgent": {"properties.desired": {"modules": {"": {}}}}}}))
            .1
            .contains("name")
    );
}

#[test]
fn counts_are_said_as_the_platform_does() {
    assert_eq!(device_statistics(2, 1), r#"{"totalDeviceCount":3,"enabledDeviceCount":2,"disabledDeviceCount":1}"#);
    assert_eq!(service_statistics(1), r#"{"connectedDeviceCount":1}"#);
    assert_eq!(
        purged(&DeviceId::parse("dev1").unwrap(), 3),
        r#"{"deviceId":"dev1","moduleId":null,"totalMessagesPurged":3}"#
    );
}

#[test]
fn the_connection_strings_of_services_and_devices_are_told_apart() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/service-request-forms.json")).unwrap();
    for vector in vectors["connectionStrings"].as_array().unwrap() {
        let (text, expect) = (vector["text"].as_str().unwrap(), &vector["expect"]);
        match expect["kind"].as_str() {
            Some("service" | "dps") => {
                let service = ServiceConnection::parse(text).unwrap();
                assert_eq!(
                    (&service.host, &service.policy),
                    (&expect["host"].as_str().unwrap().to_owned(), &expect["policy"].as_str().unwrap().to_owned())
                );
                if let (Some(key), Credential::Key(own)) = (expect["key"].as_str(), &service.credential) {
                    assert_eq!(own.to_base64(), key);
                }
            }
            Some("device" | "module") => {
                let connection = ClientConnection::parse(text).unwrap();
                assert_eq!(connection.client.device().as_str(), expect["deviceId"]);
                assert_eq!(connection.client.module().map(ModuleName::as_str), expect["moduleId"].as_str());
                assert_eq!(connection.credential == Credential::Certificate, expect["x509"] == true);
            }
            // The Event Hubs form names an endpoint, not a host, and belongs to another protocol.
            Some("eventhub") | None => assert!(ServiceConnection::parse(text).is_err(), "{text}"),
            Some(other) => panic!("{other}"),
        }
    }
}

proptest! {
    #[test]
    fn no_body_breaks_the_readers(text in ".{0,20}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = twin_update(&bytes);
        let _ = configuration_content(&bytes);
        let sections = json!({"modulesContent": {&text: {"properties.desired": {"modules": {&text: text}}}, "m": text}});
        let _ = configuration_content(sections.to_string().as_bytes());
        let _ = twin_update(json!({"tags": text, "properties": {"desired": text}}).to_string().as_bytes());
        let _ = command([(text.as_str(), text.as_str()), ("iothub-app-x", &text), ("iothub-expiry", &text)], Bytes::new());
    }

    #[test]
    fn commands_are_read_back(pairs in proptest::collection::vec(("x[a-z0-9]{0,8}", "[!-~]{1,10}"), 0..4), id in "[!-~]{1,10}", ack in 0usize..4) {
        let mut bag = PropertyBagBuilder::new();
        bag.push("$.mid", &id);
        for (key, value) in &pairs {
            bag.push(key, value);
        }
        let ack = [FeedbackRequest::None, FeedbackRequest::Positive, FeedbackRequest::Negative, FeedbackRequest::Full][ack];
        let message = skerry_model::Message { properties: bag.finish(), body: Bytes::from_static(b"b") };
        let draft = CommandDraft { message, expires: None, ack };
        let headers = command_headers(&draft);
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        prop_assert_eq!(command(pairs, Bytes::from_static(b"b")), Ok(draft));
    }
}
