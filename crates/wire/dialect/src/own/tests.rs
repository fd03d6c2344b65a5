//! Both directions of our own documents.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use skerry_model::{
    AuthKind, AuthMethod, AuthScope, ClientId, DeviceId, ErrorCode, MessageSource, PropertyBag, Stamp, Timestamp,
};

use super::*;

fn stamp(source: &str) -> Stamp {
    Stamp {
        source: ClientId::parse(source).unwrap(),
        generation: "638".into(),
        auth_method: AuthMethod { scope: AuthScope::Device, kind: AuthKind::Sas },
        model_id: None,
        kind: MessageSource::Telemetry,
        enqueued: Timestamp::from_unix_millis(1_700_000_000_123),
    }
}

fn event(line: &str) -> EventLine {
    match read_line(line.as_bytes()).unwrap() {
        Line::Event(event) => event,
        Line::Cursor(cursor) => panic!("{cursor}"),
    }
}

#[test]
fn an_event_is_one_line_that_a_program_can_read() {
    let line = event_line(
        1,
        7,
        &stamp("edge1/sensor"),
        PropertyBag::new("%24.ct=application%2Fjson&a=b&bare"),
        b"{\"t\":1}\n",
    );
    assert_eq!(line.matches('\n').count(), 1);
    let event = event(&line);
    assert_eq!((event.partition, event.sequence, event.source.to_string()), (1, 7, "edge1/sensor".to_owned()));
    assert_eq!(event.enqueued, stamp("d").enqueued);
    assert_eq!(event.document["properties"], json!({"$.ct": "application/json", "a": "b", "bare": null}));
    assert_eq!(event.document["kind"], "Telemetry");
    assert_eq!(event.body(), b"{\"t\":1}\n");
}

#[test]
fn a_body_that_is_no_text_travels_as_base64() {
    let line = event_line(0, 0, &stamp("d"), PropertyBag::new(""), &[0xff, 0]);
    let event = event(&line);
    assert_eq!((event.body(), event.document.get("body")), (vec![0xff, 0], None));
}

#[test]
fn the_last_line_says_where_to_go_on() {
    let cursor = Cursor::new([(0, 12), (1, 7)]);
    assert_eq!(cursor_line(&cursor), "{\"cursor\":\"0:12,1:7\"}\n");
    assert_eq!(read_line(cursor_line(&cursor).as_bytes()), Ok(Line::Cursor(cursor.clone())));
    assert_eq!((cursor.position(1), cursor.position(2)), (Some(7), None));
    assert_eq!(read_line(b"{\"cursor\":\"\"}"), Ok(Line::Cursor(Cursor::default())));
    assert!(read_line(b"{\"cursor\":\"x\"}").is_err());
    assert!(read_line(b"{}").is_err());
}

#[test]
fn queries_are_read_back_and_bounded() {
    let mut query = EventQuery::new(Start::At(Timestamp::from_unix_seconds(9)));
    query.partition = Some(3);
    query.device = Some(DeviceId::parse("a#b").unwrap());
    query.wait = Duration::from_secs(20);
    assert_eq!(EventQuery::read(&query.to_string()), Ok(query));
    for from in ["oldest", "now", "0:5", "0:5,1:6"] {
        let query = EventQuery::new(Start::parse(from).unwrap());
        assert_eq!(EventQuery::read(&query.to_string()), Ok(query));
    }
    let bounded = EventQuery::read("wait=9999&count=0&from=").unwrap();
    assert_eq!((bounded.wait, bounded.count, bounded.from), (Duration::from_secs(60), 1, Start::Now));
    for wrong in ["from=yesterday", "partition=x", "partition=70000", "wait=-1", "device=a b"] {
        assert_eq!(EventQuery::read(wrong).unwrap_err().code, ErrorCode::ArgumentInvalid, "{wrong}");
    }
}

fn connections() -> Connections {
    Connections {
        connected: vec![ConnectedLine {
            client: ClientId::parse("edge1/sensor").unwrap(),
            peer: "127.0.0.1".into(),
            protocol: "mqtt".into(),
            product: "py/2.14".into(),
            since: Timestamp::from_unix_seconds(5),
        }],
        refused: vec![RefusedLine {
            peer: "::1".into(),
            claimed: "dev?".into(),
            protocol: "mqtt".into(),
            reason: "wrong key".into(),
            first: Timestamp::from_unix_seconds(1),
            last: Timestamp::from_unix_seconds(2),
            count: 9,
        }],
        refusals: 12,
    }
}

#[test]
fn connections_are_read_back() {
    assert_eq!(Connections::read(connections().document().to_string().as_bytes()), Ok(connections()));
    assert_eq!(Connections::read(b"{}"), Ok(Connections::default()));
    assert!(Connections::read(br#"{"connected":[{"client":"a b"}]}"#).is_err());
}

#[test]
fn a_status_is_read_back_with_and_without_its_parts() {
    let whole = EdgeStatus {
        device: "edge1".into(),
        hub: "hub.local".into(),
        version: "0.1.0".into(),
        upstream_connected: false,
        upstream_since: Some(Timestamp::from_unix_seconds(7)),
        upstream_error: Some("cannot connect".into()),
        deployment: Some(DeploymentState { version: 3, code: 500, description: "`sensor` does not start".into() }),
        store: Some(StoreState { messages: 5, bytes: 4_096, bytes_max: 8_192, full: true }),
        connections: Some(connections()),
    };
    for status in [whole, EdgeStatus::default()] {
        assert_eq!(EdgeStatus::read(status.document().to_string().as_bytes()), Ok(status));
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_readers(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in ".{0,30}") {
        let _ = read_line(&bytes);
        let _ = EventQuery::read(&text);
        let _ = Start::parse(&text);
        let _ = Connections::read(&bytes);
        let _ = EdgeStatus::read(json!({"upstream": text, "store": {"bytes": text}, "connections": {"refused": [text]}}).to_string().as_bytes());
    }

    #[test]
    fn events_carry_any_body_and_bag(body in proptest::collection::vec(any::<u8>(), 0..40), bag in "[a-z=&%0-9ä]{0,30}") {
        let line = event_line(0, 1, &stamp("d"), PropertyBag::new(&bag), &body);
        prop_assert_eq!(event(&line).body(), body);
    }
}
