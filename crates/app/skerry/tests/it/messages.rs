//! Messages to devices and as devices, and manifests.

use expect_test::expect;
use serde_json::json;

use crate::scripted::{KEY, answer};
use crate::world::World;

#[test]
fn a_message_is_put_into_a_queue() {
    let world = World::logged_in(vec![answer(204, "")]);
    let arguments = [
        "message",
        "send",
        "d",
        "--body",
        "hello",
        "-p",
        "color=red",
        "--message-id",
        "m1",
        "--ack",
        "full",
        "--content-type",
        "text/plain",
    ];
    assert_eq!(world.out(&arguments), "queued for `d`\n");
    expect![[r"
        POST /devices/d/messages/deviceBound?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1
          iothub-messageid: m1
          iothub-contenttype: text/plain
          iothub-app-color: red
          iothub-ack: full
          hello
    "]]
    .assert_eq(&world.hub.seen());
}

#[test]
fn what_https_cannot_carry_is_refused_before_it_is_sent() {
    let world = World::logged_in(Vec::new());
    let send = |property: &str| world.failure(&["message", "send", "d", "-p", property]);
    assert_eq!(send("a b=1"), (2, "error: `a b` cannot be the name of a property\n".to_owned()));
    assert_eq!(send("a=ä").0, 2);
    assert_eq!(send("a").0, 2);
    assert_eq!(world.hub.seen(), "");
}

#[test]
fn telemetry_is_sent_with_the_devices_own_key() {
    let module = json!({
        "deviceId": "e", "moduleId": "m", "generationId": "1",
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } },
    });
    let world = World::logged_in(vec![answer(200, module), answer(204, "")]);
    let outcome = world.run_with_input(&["telemetry", "send", "e/m", "--body", "-", "-p", "k=v"], "{\"t\":21.5}");
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "sent as `e/m`\n"));
    expect![[r#"
        GET /devices/e/modules/m?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1

        POST /devices/e/modules/m/messages/events?api-version=2021-04-12
          token: 127.0.0.1%2Fdevices%2Fe%2Fmodules%2Fm
          iothub-app-k: v
          {"t":21.5}
    "#]]
    .assert_eq(&world.hub.seen());
}

fn manifest(image: &str, route: &str) -> String {
    format!(
        r#"{{"modulesContent": {{
  "$edgeAgent": {{"properties.desired": {{
    "schemaVersion": "1.1",
    "runtime": {{"type": "docker", "settings": {{}}}},
    "systemModules": {{
      "edgeAgent": {{"type": "docker", "settings": {{"image": "a:1"}}}},
      "edgeHub": {{"type": "docker", "status": "running", "restartPolicy": "always", "settings": {{"image": "h:1"}}}}
    }},
    "modules": {{
      "sensor": {{"type": "docker", "status": "running", "restartPolicy": "always",
        "settings": {{"image": "{image}"}}}}
    }}
  }}}},
  "$edgeHub": {{"properties.desired": {{
    "schemaVersion": "1.1",
    "routes": {{
      "up": "{route}"
    }},
    "storeAndForwardConfiguration": {{"timeToLiveSecs": 7200}}
  }}}}
}}}}"#
    )
}

#[test]
fn a_good_manifest_is_handed_over() {
    let world = World::logged_in(vec![answer(200, "{}")]);
    world.write("m.json", &manifest("sensor:1", "FROM /messages/* INTO $upstream"));
    assert_eq!(world.out(&["deploy", "check", "-m", "{home}/m.json"]), "{home}/m.json is good: 1 module (sensor)\n");
    assert_eq!(
        world.out(&["deploy", "apply", "edge1", "-m", "{home}/m.json"]),
        "handed to `edge1`: 1 module (sensor)\n"
    );
    let seen = world.hub.seen();
    assert!(seen.starts_with("POST /devices/edge1/applyConfigurationContent?"), "{seen}");
    assert!(seen.contains(r#"{"modulesContent":{"$edgeAgent":{"properties.desired":"#), "{seen}");
}

#[test]
fn a_bad_manifest_is_refused_with_lines_and_reasons_and_never_sent() {
    let world = World::logged_in(Vec::new());
    world.write("m.json", &manifest("", "FROM /messages/* INTO nowhere"));
    let (code, said) = world.failure(&["deploy", "apply", "edge1", "-m", "{home}/m.json"]);
    assert_eq!(code, 1);
    expect![[r#"
        error: {home}/m.json would be refused by the edge:
          line 11: modulesContent.$edgeAgent.properties.desired.modules.sensor.settings.image: an image name is missing
          line 17: modulesContent.$edgeHub.properties.desired.routes.up: Error parsing route up - expected `(`, found the end of the route (line 1 column 30)
    "#]]
    .assert_eq(&said);
    assert_eq!(world.hub.seen(), "");
    assert_eq!(world.failure(&["deploy", "check", "-m", "{home}/absent.json"]).0, 1);
}

/// The file that the guide starts with.
#[test]
fn the_guide_s_deployment_is_good() {
    let world = World::new(Vec::new());
    let text = include_str!("../../../../../docs/guide/first-deployment.json");
    assert!(text.contains("\"PROGRAMS/host-metrics\""), "the guide replaces PROGRAMS");
    world.write("deployment.json", &text.replace("PROGRAMS", "/opt/skerry"));
    assert_eq!(
        world.out(&["deploy", "check", "-m", "{home}/deployment.json"]),
        "{home}/deployment.json is good: 1 module (host-metrics)\n"
    );
    world.write("deployment.json", text);
    let (code, said) = world.failure(&["deploy", "check", "-m", "{home}/deployment.json"]);
    assert!(
        code == 1 && said.contains("host-metrics.settings.command"),
        "a path that is still to be filled in: {said}"
    );
}
