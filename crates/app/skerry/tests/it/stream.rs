//! Events as they arrive.

use expect_test::expect;
use skerry_dialect::own::{Cursor, cursor_line, event_line};
use skerry_model::{AuthKind, AuthMethod, AuthScope, ClientId, MessageSource, PropertyBag, Stamp, Timestamp};

use crate::scripted::{Step, answer};
use crate::world::World;

fn event(sequence: u64, source: &str, body: &[u8]) -> String {
    let stamp = Stamp {
        source: ClientId::parse(source).unwrap(),
        generation: "1".into(),
        auth_method: AuthMethod { scope: AuthScope::Device, kind: AuthKind::Sas },
        model_id: None,
        kind: MessageSource::Telemetry,
        enqueued: Timestamp::from_unix_seconds(1_700_000_000),
    };
    event_line(0, sequence, &stamp, PropertyBag::new("k=v"), body)
}

fn lines(events: &[String], next: u64) -> Step {
    answer(200, events.concat() + &cursor_line(&Cursor::new([(0, next)])))
}

#[test]
fn events_are_shown_from_where_they_are_wanted_to_the_end() {
    let world = World::logged_in(vec![
        lines(&[event(3, "edge1/sensor", b"{\"t\":1}\n"), event(4, "leaf", &[0xff])], 5),
        lines(&[], 5),
    ]);
    expect![[r#"
        TAKEN                     FROM                          MESSAGE
        2023-11-14T22:13:20.000Z  edge1/sensor                  {"t":1}  {"k":"v"}
        2023-11-14T22:13:20.000Z  leaf                          (1 bytes that are no text)  {"k":"v"}
    "#]]
    .assert_eq(&world.out(&["events", "--from", "0:3", "--no-follow", "--properties", "--device", "edge1"]));
    expect![[r"
        GET /skerry/events?api-version=2021-04-12&from=0%3A3&wait=0&count=1000&device=edge1
          token: policy iothubowner for 127.0.0.1

        GET /skerry/events?api-version=2021-04-12&from=0%3A5&wait=0&count=1000&device=edge1
          token: policy iothubowner for 127.0.0.1
    "]]
    .assert_eq(&world.hub.seen());
}

#[test]
fn a_hub_that_goes_away_is_waited_for_and_nothing_is_shown_twice() {
    let world = World::logged_in(vec![
        lines(&[], 7),
        // This answer ends before it says where to go on, so the event comes again in the next.
        answer(200, event(7, "d", b"first")),
        Step::HangUp,
        lines(&[event(7, "d", b"first"), event(8, "d", b"second")], 9),
    ]);
    let outcome = world.run(&["events", "--json", "-n", "2"]);
    assert_eq!(outcome.code, 0);
    let bodies: Vec<_> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["body"].clone())
        .collect();
    assert_eq!(bodies, ["first", "second"]);
    assert!(outcome.err.contains("trying again"), "{}", outcome.err);
    assert_eq!(world.hub.seen().matches("from=0%3A7&wait=20").count(), 2);
}

#[test]
fn only_one_module_is_shown_when_asked_for() {
    let world = World::logged_in(vec![lines(&[event(0, "e/a", b"1"), event(1, "e/b", b"2"), event(2, "e", b"3")], 3)]);
    let out = world.out(&["events", "--device", "e", "--module", "b", "-n", "1", "--from", "oldest"]);
    assert_eq!(out.lines().skip(1).collect::<Vec<_>>(), ["2023-11-14T22:13:20.000Z  e/b                           2"]);
}

#[test]
fn a_place_that_is_none_is_not_asked_for() {
    let world = World::logged_in(Vec::new());
    let (code, said) = world.failure(&["events", "--from", "yesterday"]);
    assert_eq!(code, 2);
    assert!(said.contains("`from` is none of `oldest`, `now`"), "{said}");
    assert_eq!(world.failure(&["events", "--from", "oldest"]).0, 1);
}
