//! azure-iot-hub over REST: devices, modules, twins, methods, with the owner policy.

use serde_json::{Value, json};
use skerry_testkit::Hub;

use crate::actors::{Client, service};

/// A key of 32 bytes that only tests use.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn sas_device(id: &str) -> Value {
    json!({ "device_id": id, "primary_key": KEY, "secondary_key": KEY, "status": "enabled" })
}

#[test]
fn devices_are_created_read_changed_listed_and_deleted() {
    let hub = Hub::start();
    let mut service = service(&hub);
    let made = service.call("create_device_with_sas", sas_device("dev-1"));
    assert_eq!(made["deviceId"], "dev-1");
    assert_eq!(made["authentication"]["symmetricKey"]["primaryKey"], KEY);
    assert_eq!(made["connectionState"], "Disconnected");
    let again = service.try_call("create_device_with_sas", sas_device("dev-1")).unwrap_err();
    assert!(again.contains("status 409"), "{again}");

    let etag = made["etag"].clone();
    let mut change = sas_device("dev-1");
    change["etag"] = etag.clone();
    change["status"] = json!("disabled");
    change["status_reason"] = json!("on the bench");
    let changed = service.call("update_device_with_sas", change.clone());
    assert_eq!((&changed["status"], &changed["statusReason"]), (&json!("disabled"), &json!("on the bench")));
    let stale = service.try_call("update_device_with_sas", change).unwrap_err();
    assert!(stale.contains("status 412"), "{stale}");

    let mut edge = sas_device("edge-1");
    edge["iot_edge"] = json!(true);
    let edge = service.call("create_device_with_sas", edge);
    assert!(
        edge["deviceScope"].as_str().is_some_and(|scope| scope.starts_with("ms-azure-iot-edge://edge-1-")),
        "{edge}"
    );
    let listed = service.call("get_devices", json!({ "max_number_of_devices": 10 }));
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    let counted = service.call("get_device_registry_statistics", json!({}));
    assert_eq!(counted["totalDeviceCount"], 2);

    service.call("delete_device", json!({ "device_id": "dev-1" }));
    let gone = service.try_call("get_device", json!({ "device_id": "dev-1" })).unwrap_err();
    assert!(gone.contains("status 404") && gone.contains("DeviceNotFound"), "{gone}");
}

#[test]
fn devices_with_certificates_are_kept_as_given() {
    let hub = Hub::start();
    let mut service = service(&hub);
    let thumbprint = "A".repeat(40);
    let made = service.call(
        "create_device_with_x509",
        json!({ "device_id": "x-1", "primary_thumbprint": thumbprint, "secondary_thumbprint": thumbprint, "status": "enabled" }),
    );
    assert_eq!(made["authentication"]["type"], "selfSigned");
    let made =
        service.call("create_device_with_certificate_authority", json!({ "device_id": "x-2", "status": "enabled" }));
    assert_eq!(made["authentication"]["type"], "certificateAuthority");
}

#[test]
fn modules_are_created_read_changed_and_deleted() {
    let hub = Hub::start();
    let mut service = service(&hub);
    service.call("create_device_with_sas", sas_device("dev-1"));
    let module = json!({
        "device_id": "dev-1", "module_id": "m-1", "managed_by": "test", "primary_key": KEY, "secondary_key": KEY,
    });
    let made = service.call("create_module_with_sas", module.clone());
    assert_eq!((&made["moduleId"], &made["managedBy"]), (&json!("m-1"), &json!("test")));
    let mut change = module;
    change["etag"] = Value::Null;
    change["managed_by"] = json!("somebody");
    assert_eq!(service.call("update_module_with_sas", change)["managedBy"], "somebody");
    let listed = service.call("get_modules", json!({ "device_id": "dev-1" }));
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    service.call("delete_module", json!({ "device_id": "dev-1", "module_id": "m-1" }));
    let gone = service.try_call("get_module", json!({ "device_id": "dev-1", "module_id": "m-1" })).unwrap_err();
    assert!(gone.contains("status 404"), "{gone}");
}

#[test]
fn twins_are_read_patched_and_replaced() {
    let hub = Hub::start();
    let mut service = service(&hub);
    hub.create_device("dev-1");
    hub.create_module("dev-1", "m-1");
    let fresh = service.call("get_twin", json!({ "device_id": "dev-1" }));
    assert_eq!(fresh["properties"]["desired"]["$version"], 1);
    let patched = service.call(
        "update_twin",
        json!({ "device_id": "dev-1", "tags": { "site": "north" }, "desired": { "interval": 5, "a": { "b": 1 } } }),
    );
    assert_eq!(patched["tags"], json!({ "site": "north" }));
    assert_eq!(patched["properties"]["desired"]["interval"], 5);
    assert_eq!(patched["properties"]["desired"]["$version"], 2);
    assert!(patched["properties"]["desired"]["$metadata"]["interval"]["$lastUpdated"].is_string());
    let merged =
        service.call("update_twin", json!({ "device_id": "dev-1", "desired": { "a": { "c": 2 }, "interval": null } }));
    assert_eq!(merged["properties"]["desired"]["a"], json!({ "b": 1, "c": 2 }));
    assert!(merged["properties"]["desired"].get("interval").is_none());
    let stale = json!({ "device_id": "dev-1", "desired": { "x": 1 }, "etag": patched["etag"] });
    let refused = service.try_call("update_twin", stale).unwrap_err();
    assert!(refused.contains("status 412"), "{refused}");
    let replaced =
        service.call("replace_twin", json!({ "device_id": "dev-1", "tags": {}, "desired": { "only": true } }));
    assert!(replaced["properties"]["desired"].get("a").is_none(), "{replaced}");
    let module =
        service.call("update_module_twin", json!({ "device_id": "dev-1", "module_id": "m-1", "desired": { "y": 2 } }));
    assert_eq!((&module["moduleId"], &module["properties"]["desired"]["y"]), (&json!("m-1"), &json!(2)));
    let read = service.call("get_module_twin", json!({ "device_id": "dev-1", "module_id": "m-1" }));
    assert_eq!(read["properties"]["desired"]["y"], 2);
}

#[test]
fn methods_reach_devices_and_modules_and_say_when_they_cannot() {
    let hub = Hub::start();
    let mut service = service(&hub);
    let mut device = Client::device(&hub, hub.create_device("dev-1").text());
    let mut module = Client::module(&hub, hub.create_module("dev-1", "m-1").text());
    let offline = service.try_call("invoke", json!({ "name": "reboot", "device_id": "dev-1" })).unwrap_err();
    assert!(offline.contains("status 404") && offline.contains("404103"), "{offline}");

    device.talk.call("listen", json!({ "methods": true }));
    module.talk.call("listen", json!({ "methods": true }));
    device.talk.call("answer", json!({ "name": "reboot", "status": 418, "payload": { "in": 3 } }));
    let answered = service.call("invoke", json!({ "name": "reboot", "device_id": "dev-1", "payload": { "delay": 5 } }));
    assert_eq!(answered, json!({ "status": 418, "payload": { "in": 3 } }));
    let seen = device.talk.event("method");
    assert_eq!((&seen["name"], &seen["payload"]), (&json!("reboot"), &json!({ "delay": 5 })));
    let answered =
        service.call("invoke", json!({ "name": "m", "device_id": "dev-1", "module_id": "m-1", "payload": [1] }));
    assert_eq!(answered["payload"], json!({ "echo": [1] }));

    device.talk.call("answer", json!({ "name": "slow", "silent": true }));
    let late =
        service.try_call("invoke", json!({ "name": "slow", "device_id": "dev-1", "response_timeout": 5 })).unwrap_err();
    assert!(late.contains("status 504") && late.contains("504101"), "{late}");
}

#[test]
fn a_method_waits_for_a_device_that_is_about_to_come() {
    let hub = Hub::start();
    let mut service = service(&hub);
    let mut device = Client::device(&hub, hub.create_device("dev-1").text());
    let call = service.begin("invoke", json!({ "name": "hello", "device_id": "dev-1", "connect_timeout": 30 }));
    device.talk.call("listen", json!({ "methods": true }));
    assert_eq!(service.finish(call).unwrap()["status"], 200);
}

#[test]
fn a_manifest_reaches_the_modules_of_an_edge_device() {
    let hub = Hub::start();
    let mut service = service(&hub);
    let mut edge = sas_device("edge-1");
    edge["iot_edge"] = json!(true);
    service.call("create_device_with_sas", edge);
    let content = json!({
        "$edgeAgent": { "properties.desired": { "schemaVersion": "1.1", "runtime": { "type": "docker", "settings": {} },
            "systemModules": {
                "edgeAgent": { "type": "docker", "settings": { "image": "agent:1" } },
                "edgeHub": { "type": "docker", "status": "running", "restartPolicy": "always", "settings": { "image": "hub:1" } },
            },
            "modules": {} } },
        "$edgeHub": { "properties.desired": { "schemaVersion": "1.1", "routes": {},
            "storeAndForwardConfiguration": { "timeToLiveSecs": 7200 } } },
    });
    service.call("apply_configuration", json!({ "device_id": "edge-1", "content": content }));
    let twin = service.call("get_module_twin", json!({ "device_id": "edge-1", "module_id": "$edgeAgent" }));
    assert_eq!(twin["properties"]["desired"]["systemModules"]["edgeHub"]["settings"]["image"], "hub:1");
    let twin = service.call("get_module_twin", json!({ "device_id": "edge-1", "module_id": "$edgeHub" }));
    assert_eq!(twin["properties"]["desired"]["storeAndForwardConfiguration"]["timeToLiveSecs"], 7200);
}
