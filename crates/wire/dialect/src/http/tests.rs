//! The captured requests of the SDKs, and properties of both directions.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use skerry_model::{ClientId, DeviceId, ErrorCode, Limits, PropertyBag, PropertyBagBuilder};

use super::*;

fn client(text: &str) -> ClientId {
    ClientId::parse(text).unwrap()
}

fn device(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

/// Method and path of a captured request line.
fn line(vector: &Value) -> (&str, &str) {
    let mut words = vector["request"].as_str().unwrap().split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    (method, target.split('?').next().unwrap())
}

#[test]
fn the_requests_of_every_sdk_are_routed_and_read() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/https.json")).unwrap();
    let (mut methods, mut messages) = (0, 0);
    for vector in vectors["captured"].as_array().unwrap() {
        if vector["over"] != "TLS 443" {
            continue;
        }
        let (verb, path) = line(vector);
        let body = vector["body"].as_str().unwrap();
        let headers = vector["headers"].as_object().unwrap();
        match route(verb, path).unwrap_or_else(|error| panic!("{path}: {error}")) {
            Route::Methods(target) => {
                let call = invocation(target, body.as_bytes(), &Limits::default()).unwrap();
                assert_eq!(call.name, "reboot");
                let (payload, response) = match call.target.to_string().as_str() {
                    "edge-dev-01/mod-b" => (&b"{\"a\":1}"[..], 15),
                    "leaf-01" => (&b"null"[..], 30),
                    other => panic!("{other}"),
                };
                assert_eq!((&call.payload[..], call.response_timeout), (payload, Duration::from_secs(response)));
                let caller = calling_module(headers["x-ms-edge-moduleId"].as_str().unwrap()).unwrap();
                assert_eq!(caller.to_string(), "edge-dev-01/mod-a");
                methods += 1;
            }
            Route::Telemetry(from) => {
                assert_eq!(from, client("dev-01"));
                if headers.get("Content-Type").is_some_and(|value| value == BATCH_CONTENT_TYPE) {
                    let bodies: Vec<_> =
                        batch(body.as_bytes()).unwrap().into_iter().map(|message| message.body).collect();
                    assert_eq!(bodies, ["b1", "b2"]);
                } else {
                    let bag = telemetry_properties(headers.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())));
                    let expected = match body {
                        "uuidid" => {
                            "%24.mid=0a1b2c3d-0000-4000-8000-000000000001&%24.cid=0a1b2c3d-0000-4000-8000-000000000002"
                        }
                        "{\"t\":1}" | "sub" => "%24.sub=thermostat1",
                        "sec" => "%24.ifid=urn%3Aazureiot%3ASecurity%3ASecurityAgent%3A1",
                        "exp" => "%24.to=dst&%24.mid=0a1b2c3d-0000-4000-8000-000000000001",
                        _ => "",
                    };
                    assert_eq!(bag, expected);
                }
                messages += 1;
            }
            Route::Commands { to, twice_decoded: None } => assert_eq!(to, client("dev-01")),
            Route::Unbuilt(_) => assert!(path.contains("/files") || path.contains("/devicebound/"), "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    assert_eq!((methods, messages), (4, 7));
    for vector in vectors["derived"].as_array().unwrap() {
        let (verb, path) = line(vector);
        let path = path.replace("{id}", "a").replace("{d}", "a").replace("{m}", "b").replace("{etag}", "c");
        if let Route::Methods(target) = route(verb, &path).unwrap() {
            let body = vector["body"].as_str().unwrap();
            let call = invocation(target, body.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(call.response_timeout, Duration::from_secs(30));
        }
    }
}

#[test]
fn the_paths_of_every_service_client_are_routed() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/service-request-forms.json")).unwrap();
    for vector in vectors["paths"].as_array().unwrap() {
        let path = vector["target"].as_str().unwrap().split('?').next().unwrap();
        let found = route(vector["method"].as_str().unwrap(), path);
        let expected = match vector["meaning"].as_str().unwrap() {
            "list devices" | "bulk registry" => Route::Devices,
            "query" => Route::Unbuilt("queries"),
            "device twin dev1" => Route::Twin(client("dev1")),
            "device twin dev#1" => Route::Twin(client("dev#1")),
            "module method dev1/m1" => Route::Methods(client("dev1/m1")),
            "device a+b" | "device a+b (a plus in a path is a plus)" => Route::Device(device("a+b")),
            "list configurations" => Route::Unbuilt("configurations"),
            "module twin $edgeAgent" => Route::Twin(client("edge1/$edgeAgent")),
            // No id has a space; decoding twice leads to one that does not exist.
            "C2D for 'dev 1' (id encoded twice)" => Route::Commands { to: client("dev%201"), twice_decoded: None },
            "purge C2D queue" => Route::CommandQueue(device("dev1")),
            other => panic!("{other}"),
        };
        assert_eq!(found, Ok(expected), "{vector}");
    }
}

#[test]
fn if_match_is_read_in_all_its_forms() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/service-request-forms.json")).unwrap();
    for vector in vectors["ifMatch"].as_array().unwrap() {
        let expected = match vector["header"].as_str() {
            None => Precondition::Absent,
            Some("*" | "\"*\"") => Precondition::Any,
            Some(etag) => Precondition::Etag(etag.trim_matches('"').to_owned()),
        };
        assert_eq!(precondition(vector["header"].as_str()), expected);
        assert_eq!(precondition(if_match(&expected).as_deref()), expected);
    }
}

#[test]
fn paths_are_read_whatever_their_spelling() {
    let check = |path: &str| route("GET", path).map_err(|error| error.code);
    assert_eq!(check("/DEVICES/a/Modules/b/"), Ok(Route::Module(device("a").module("b".parse().unwrap()))));
    assert_eq!(check("/devices/query"), Ok(Route::Device(device("query"))));
    assert_eq!(
        check("/devices/a%2523b/messages/devicebound"),
        Ok(Route::Commands { to: client("a%23b"), twice_decoded: Some(client("a#b")) })
    );
    assert_eq!(
        check("/devices/edge1/modules/%24edgeHub/devicesAndModulesInTargetDeviceScope"),
        Ok(Route::Scope { actor: device("edge1"), call: ScopeCall::InTargetScope })
    );
    assert_eq!(check("/devices/a b"), Err(ErrorCode::ArgumentInvalid));
    for nothing in ["", "/", "/devices//modules/x/y", "/devices/a/modules/b/c", "/skerry", "/twins", "/nothing/here"] {
        assert!(matches!(check(nothing), Err(ErrorCode::NotFound | ErrorCode::ArgumentInvalid)), "{nothing}");
    }
    assert_eq!(query_parameter("?api-version=2021&a%20b=c%2Fd&reject", "A B").as_deref(), Some("c/d"));
    assert_eq!(query_parameter("api-version=2021&reject", "reject").as_deref(), Some(""));
    assert_eq!(query_parameter("api-version=2021", "top"), None);
}

#[test]
fn wrong_calls_of_methods_say_what_is_wrong() {
    let check = |body: &str| {
        let error = invocation(client("d"), body.as_bytes(), &Limits::default()).unwrap_err();
        (error.code, error.detail.into_owned())
    };
    assert_eq!(check("{}"), (ErrorCode::ArgumentInvalid, "`methodName` is missing".to_owned()));
    assert_eq!(check("[1]").0, ErrorCode::Format);
    assert_eq!(
        check(r#"{"methodName":"x","responseTimeoutInSeconds":4}"#).1,
        "`responseTimeoutInSeconds` is not a whole number from 5 to 300"
    );
    assert_eq!(
        check(r#"{"methodName":"x","connectTimeoutInSeconds":301}"#).1,
        "`connectTimeoutInSeconds` is not a whole number from 0 to 300"
    );
    assert_eq!(check(&json!({"methodName": "x".repeat(101)}).to_string()).0, ErrorCode::ArgumentInvalid);
    assert_eq!(check(&json!({"methodName": "x", "payload": "y".repeat(140_000)}).to_string()).0, ErrorCode::TooLarge);
}

#[test]
fn method_answers_are_json_or_nothing() {
    assert_eq!(method_result(200, b" ").unwrap(), r#"{"status":200,"payload":null}"#);
    assert_eq!(method_result(-1, b"{\"a\": 1}").unwrap(), r#"{"status":-1,"payload":{"a":1}}"#);
    assert_eq!(method_result(200, b"nonsense").unwrap_err().code, ErrorCode::BadRequest);
    assert_eq!(read_method_result(br#"{"status":404,"payload":[1]}"#), Ok((404, json!([1]))));
    assert!(read_method_result(br#"{"payload":1}"#).is_err());
}

#[test]
fn batches_are_taken_whole_or_not_at_all() {
    let messages = batch(
        br#"[{"body":"aGVsbG8=","base64Encoded":true,"properties":{"iothub-app-color":"red","iothub-messageid":"1"}},
             {"body":"plain text","base64Encoded":false}]"#,
    )
    .unwrap();
    assert_eq!((&messages[0].body[..], messages[0].properties.as_str()), (&b"hello"[..], "%24.mid=1&color=red"));
    assert_eq!((&messages[1].body[..], messages[1].properties.as_str()), (&b"plain text"[..], ""));
    let check = |body: &str| batch(body.as_bytes()).unwrap_err().detail.into_owned();
    assert_eq!(check(r#"[{"body":"aGVsbG8="},{"body":"*"}]"#), "message 1 of the batch: `body` is not base64");
    assert_eq!(check(r#"[{"properties":{"a":1}}]"#), "message 0 of the batch: a property is not a text");
    assert_eq!(check("{}"), "the batch is not an array");
}

proptest! {
    #[test]
    fn no_path_breaks_the_router(path in ".{0,60}", shaped in "/(devices|twins|statistics)(/[!-~]{0,8}){0,5}") {
        let _ = route("GET", &path);
        if let Ok(found) = route("PUT", &shaped) && !matches!(found, Route::Unbuilt(_)) {
            let again = route("PUT", &found.path());
            match (found, again) {
                (Route::Commands { to, .. }, Ok(Route::Commands { to: same, .. })) => prop_assert_eq!(to, same),
                (found, again) => prop_assert_eq!(again, Ok(found)),
            }
        }
        let _ = query_parameter(&path, "a");
    }

    #[test]
    fn no_body_breaks_the_readers(body in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,30}") {
        let _ = batch(&body);
        let _ = invocation(client("d"), &body, &Limits::default());
        let _ = read_method_result(&body);
        let _ = batch(json!([{ "body": text, "properties": { &text: &text } }]).to_string().as_bytes());
    }

    #[test]
    fn headers_say_what_the_bag_said(pairs in proptest::collection::vec(("[a-z][a-z0-9.-]{0,8}", "[ -~]{1,10}"), 0..5), id in "[!-~]{1,20}") {
        let mut builder = PropertyBagBuilder::new();
        builder.push("$.mid", &id).push("$.ct", "application/json");
        for (key, value) in &pairs {
            builder.push(key, value);
        }
        let text = builder.finish();
        let headers = telemetry_headers(PropertyBag::new(&text));
        let back = telemetry_properties(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        prop_assert_eq!(back, text);
    }

    #[test]
    fn calls_of_methods_are_read_back(name in ".{1,30}", response in 5u64..=300, connect in 0u64..=300, payload in ".{0,20}") {
        let call = skerry_model::MethodInvocation {
            target: client("d/m"),
            name,
            payload: json!({ "a": payload }).to_string().into(),
            response_timeout: Duration::from_secs(response),
            connect_timeout: Duration::from_secs(connect),
        };
        prop_assert_eq!(invocation(client("d/m"), invocation_body(&call).as_bytes(), &Limits::default()), Ok(call));
    }
}
