//! The edge on this machine.

use expect_test::expect;
use skerry_dialect::management::{ManagedModule, failure_body, modules_body};
use skerry_dialect::own::EdgeStatus;
use skerry_model::Timestamp;

use crate::scripted::{Scripted, answer};
use crate::world::World;

fn module(name: &str, status: &str) -> ManagedModule {
    ManagedModule {
        name: name.into(),
        kind: "docker".into(),
        image: format!("{name}:1"),
        status: status.into(),
        description: "told so".into(),
        started: None,
        exited: None,
        exit_code: None,
    }
}

#[test]
fn modules_are_listed_restarted_and_read() {
    let world = World::new(Vec::new());
    let list = modules_body(&[module("sensor", "unknown"), module("edgeHub", "unknown")]);
    let edge = Scripted::unix(
        world.path("management.sock"),
        vec![
            answer(200, list),
            answer(204, ""),
            answer(200, "line 1\nline 2\n"),
            answer(404, failure_body("there is no module `x`")),
        ],
    );
    expect![[r"
        MODULE   STATUS   DESCRIPTION  TYPE    RUNS
        edgeHub  unknown  told so      docker  edgeHub:1
        sensor   unknown  told so      docker  sensor:1
    "]]
    .assert_eq(&world.out(&["edge", "list", "--edge-dir", "{home}"]));
    let socket = ["--socket", "{home}/management.sock"];
    assert_eq!(world.out(&["edge", socket[0], socket[1], "restart", "sensor"]), "restarted `sensor`\n");
    assert_eq!(
        world.out(&["edge", socket[0], socket[1], "logs", "sensor", "--tail", "2", "--since", "1970-01-01T00:00:09Z"]),
        "line 1\nline 2\n"
    );
    assert_eq!(
        world.failure(&["edge", socket[0], socket[1], "logs", "x"]),
        (3, "error: there is no module `x`\n".to_owned())
    );
    expect![[r"
        GET /modules?api-version=2022-08-03

        POST /modules/sensor/restart?api-version=2022-08-03

        GET /modules/sensor/logs?api-version=2022-08-03&tail=2&since=9

        GET /modules/x/logs?api-version=2022-08-03
    "]]
    .assert_eq(&edge.seen());
}

#[test]
fn the_status_is_shown_and_an_absent_edge_is_told() {
    let world = World::new(Vec::new());
    let status = EdgeStatus {
        device: "edge1".into(),
        hub: "hub.local".into(),
        version: "0.1.0".into(),
        upstream_connected: true,
        upstream_since: Some(Timestamp::from_unix_seconds(0)),
        ..EdgeStatus::default()
    };
    let _edge = Scripted::unix(
        world.path("management.sock"),
        vec![answer(200, status.document()), answer(200, status.document())],
    );
    let out = world.out(&["edge", "status", "--edge-dir", "{home}"]);
    assert!(out.starts_with("device   edge1\nversion  0.1.0\nhub      connected to `hub.local` for "), "{out}");
    let json: serde_json::Value =
        serde_json::from_str(&world.out(&["edge", "status", "--edge-dir", "{home}", "--json"])).unwrap();
    assert_eq!(json["upstream"]["connected"], true);
    let (code, said) = world.failure(&["edge", "status", "--edge-dir", "{home}/nowhere"]);
    assert_eq!(code, 5);
    assert!(said.contains("cannot connect to `unix:{home}/nowhere/management.sock`"), "{said}");
}
