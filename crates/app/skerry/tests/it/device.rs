//! Devices, modules, twins and methods.

use expect_test::expect;
use serde_json::{Value, json};

use crate::scripted::{KEY, answer};
use crate::world::World;

fn device(id: &str, edge: bool) -> Value {
    json!({
        "deviceId": id, "generationId": "638", "etag": "MQ==", "status": "enabled",
        "connectionState": "Disconnected", "lastActivityTime": "0001-01-01T00:00:00Z", "cloudToDeviceMessageCount": 2,
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } },
        "capabilities": { "iotEdge": edge }, "parentScopes": [],
    })
}

#[test]
fn a_device_is_created_below_its_gateway() {
    let world = World::logged_in(vec![answer(200, device("edge1", true)), answer(200, device("leaf", false))]);
    expect![[r"
        created `leaf`
        how it connects: skerry device connection-string leaf
    "]]
    .assert_eq(&world.out(&["device", "create", "leaf", "--parent", "edge1"]));
    expect![[r#"
        GET /devices/edge1?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1

        PUT /devices/leaf?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1
          {"deviceId":"leaf","status":"enabled","authentication":{"symmetricKey":{"primaryKey":null,"secondaryKey":null},"x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"sas"},"capabilities":{"iotEdge":false},"parentScopes":["ms-azure-iot-edge://edge1-638"]}
    "#]]
    .assert_eq(&world.hub.seen());
}

#[test]
fn devices_are_listed_and_shown_without_their_keys() {
    let devices = json!([device("edge1", true), device("a#b", false)]);
    let world = World::logged_in(vec![answer(200, devices), answer(200, device("a#b", false))]);
    expect![[r"
        DEVICE  EDGE  STATUS   STATE         LAST ACTIVE
        edge1   yes   enabled  Disconnected  never
        a#b     -     enabled  Disconnected  never
    "]]
    .assert_eq(&world.out(&["device", "list", "--top", "5"]));
    expect![[r"
        device            a#b
        edge              no
        status            enabled
        status reason     -
        authentication    sas
        below             -
        state             Disconnected
        last active       never
        messages waiting  2
        generation        638
    "]]
    .assert_eq(&world.out(&["device", "show", "a#b"]));
    let seen = world.hub.seen();
    assert!(seen.contains("GET /devices?api-version=2021-04-12&top=5\n"), "{seen}");
    assert!(seen.contains("GET /devices/a%23b?"), "{seen}");
}

#[test]
fn a_connection_string_names_the_hub_without_its_https_port() {
    let module = json!({
        "deviceId": "edge1", "moduleId": "m", "generationId": "1",
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } },
    });
    let world = World::logged_in(vec![answer(200, device("leaf", false)), answer(200, module)]);
    assert_eq!(
        world.out(&["device", "connection-string", "leaf", "--gateway", "edge.local"]),
        format!("HostName=127.0.0.1;DeviceId=leaf;SharedAccessKey={KEY};GatewayHostName=edge.local\n")
    );
    assert_eq!(
        world.out(&["device", "connection-string", "edge1/m", "--json"]),
        format!("{{\"connectionString\":\"HostName=127.0.0.1;DeviceId=edge1;ModuleId=m;SharedAccessKey={KEY}\"}}\n")
    );
}

#[test]
fn what_does_not_exist_has_a_code_of_its_own() {
    let gone = r#"{"Message":"{\"errorCode\":404001,\"message\":\"ErrorCode:DeviceNotFound;`x` is not registered\"}"}"#;
    let world = World::logged_in(vec![
        answer(404, gone),
        answer(204, ""),
        answer(409, r#"{"errorCode":409001,"message":"`x` exists"}"#),
    ]);
    assert_eq!(world.failure(&["device", "delete", "x"]), (3, "error: `x` is not registered\n".to_owned()));
    assert_eq!(world.out(&["device", "delete", "x"]), "deleted `x`\n");
    assert_eq!(world.failure(&["device", "create", "x"]), (1, "error: `x` exists\n".to_owned()));
    assert!(world.hub.seen().contains("if-match: *"));
}

#[test]
fn modules_are_listed() {
    let modules = json!([
        {"moduleId": "$edgeAgent", "connectionState": "Connected", "lastActivityTime": "2026-05-01T10:00:00.000Z", "managedBy": "iotEdge", "authentication": {"type": "none"}},
        {"moduleId": "m", "connectionState": "Disconnected", "lastActivityTime": "", "managedBy": "", "authentication": {"type": "sas"}},
    ]);
    let world = World::logged_in(vec![answer(200, modules)]);
    expect![[r"
        MODULE      STATE         LAST ACTIVE               MANAGED BY  AUTHENTICATION
        $edgeAgent  Connected     2026-05-01T10:00:00.000Z  iotEdge     none
        m           Disconnected  never                     -           sas
    "]]
    .assert_eq(&world.out(&["module", "list", "edge1"]));
}

#[test]
fn a_twin_is_shown_and_updated() {
    let twin =
        json!({"deviceId": "d", "properties": {"desired": {"rate": 5, "$metadata": {"rate": {}}, "$version": 4}}});
    let world = World::logged_in((0..5).map(|_| answer(200, &twin)).collect());
    expect![[r#"
        {
          "deviceId": "d",
          "properties": {
            "desired": {
              "rate": 5,
              "$version": 4
            }
          }
        }
    "#]]
    .assert_eq(&world.out(&["twin", "show", "d"]));
    for whole in [["twin", "show", "d", "--metadata"], ["twin", "show", "d", "--json"]] {
        assert!(world.out(&whole).contains("$metadata"), "{whole:?}");
    }
    world.write("tags.json", r#"{"site":"a"}"#);
    assert_eq!(
        world.out(&["twin", "update", "d/m", "--desired", r#"{"rate":5,"old":null}"#, "--tags", "@{home}/tags.json"]),
        "updated `d/m`; desired properties have version 4\n"
    );
    world.out(&["twin", "update", "d", "--replace", "--desired", "{}", "--json"]);
    expect![[r#"
        GET /twins/d?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1

        GET /twins/d?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1

        GET /twins/d?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1

        PATCH /twins/d/modules/m?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1
          if-match: *
          {"tags":{"site":"a"},"properties":{"desired":{"rate":5,"old":null}}}

        PUT /twins/d?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1
          if-match: *
          {"properties":{"desired":{}}}
    "#]]
    .assert_eq(&world.hub.seen());
}

#[test]
fn a_wrong_update_is_not_sent() {
    let world = World::logged_in(Vec::new());
    assert_eq!(
        world.failure(&["twin", "update", "d", "--desired", "[1]"]),
        (2, "error: --desired is not a JSON object\n".to_owned())
    );
    assert_eq!(world.failure(&["twin", "update", "d"]).0, 2);
    assert_eq!(world.hub.seen(), "");
}

#[test]
fn a_method_is_called_and_its_answer_shown() {
    let offline = r#"{"errorCode":404103,"message":"`d` is not connected"}"#;
    let world = World::logged_in(vec![
        answer(200, r#"{"status":200,"payload":{"done":true}}"#),
        answer(200, r#"{"status":500,"payload":null}"#),
        answer(404, offline),
    ]);
    expect![[r#"
        status 200
        {
          "done": true
        }
    "#]]
    .assert_eq(&world.out(&[
        "method",
        "invoke",
        "d/m",
        "reboot",
        "--payload",
        "{\"delay\":3}",
        "--connect-timeout",
        "5",
    ]));
    assert_eq!(world.out(&["method", "invoke", "d", "x", "--json"]), "{\"status\":500,\"payload\":null}\n");
    assert_eq!(world.failure(&["method", "invoke", "d", "x"]), (1, "error: `d` is not connected\n".to_owned()));
    let seen = world.hub.seen();
    assert!(
        seen.contains(
            r#"{"methodName":"reboot","payload":{"delay":3},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":5}"#
        ),
        "{seen}"
    );
}

#[test]
fn connections_and_refusals_are_shown() {
    let connections = json!({
        "connected": [{"client": "edge1/sensor", "peer": "127.0.0.2", "protocol": "mqtt", "product": "py/2.14", "since": "2026-05-01T10:00:00Z"}],
        "refused": [{"peer": "127.0.0.9", "claimed": "dev", "protocol": "mqtt", "reason": "the token is expired", "first": "2026-05-01T10:00:00Z", "last": "2026-05-01T10:00:09Z", "count": 4}],
        "refusals": 4,
    });
    let world = World::logged_in(vec![answer(200, &connections), answer(200, "{}")]);
    expect![[r"
        CONNECTED     FROM       OVER  SINCE                     PRODUCT
        edge1/sensor  127.0.0.2  mqtt  2026-05-01T10:00:00.000Z  py/2.14

        REFUSED  FROM       OVER  TIMES  LAST                      REASON
        dev      127.0.0.9  mqtt  4      2026-05-01T10:00:09.000Z  the token is expired
    "]]
    .assert_eq(&world.out(&["device", "connections"]));
    assert_eq!(world.out(&["device", "connections"]), "nobody is connected\n\nnobody was refused\n");
}
