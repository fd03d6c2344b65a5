//! The modules that come with Skerry, as the images that come with it.

use serde_json::{Value, json};

use crate::docker::image;
use crate::site::{Site, module};

#[test]
fn a_sensor_s_messages_go_through_the_filter_to_the_hub_and_all_of_it_is_reported() {
    let site = Site::start();
    let env = json!({ "MessageCount": { "value": "-1" }, "MessageDelay": { "value": "00:00:00.2" } });
    let modules = json!({
        "sensor": module("simulated-temperature-sensor", &json!({}), &env),
        "filter": module("threshold-filter", &json!({}), &json!({})),
    });
    let routes = json!({
        "local": "FROM /messages/modules/sensor/outputs/temperatureOutput INTO BrokeredEndpoint(\"/modules/filter/inputs/input\")",
        "alerts": "FROM /messages/modules/filter/outputs/output INTO $upstream",
    });
    site.deploy(&modules, &routes);
    site.set_desired("filter", &json!({ "path": "machine.temperature", "above": 21.5 }));
    let alert = site.hub.events().next_where("message of the filter", |event| event["moduleId"] == "filter");
    let body: Value = serde_json::from_str(alert["body"].as_str().unwrap_or_default()).unwrap();
    assert!(body["machine"]["temperature"].as_f64().is_some_and(|degrees| 21.5 < degrees), "{alert}");
    assert_eq!(alert["properties"]["limit"], "21.5", "{alert}");

    let reported = site.reported_where("both run and the deployment is done", |reported| {
        let runs = |name: &str| reported["modules"][name]["runtimeStatus"] == "running";
        runs("sensor") && runs("filter") && reported["lastDesiredStatus"]["code"] == 200
    });
    let sensor = &reported["modules"]["sensor"];
    let container = site.container("sensor").unwrap();
    assert_eq!(sensor["settings"]["image"], image("simulated-temperature-sensor"));
    assert_eq!(sensor["settings"]["imageHash"], container["Image"]);
    assert_eq!(
        (&sensor["status"], &sensor["restartPolicy"], &sensor["type"]),
        (&json!("running"), &json!("always"), &json!("docker"))
    );
    assert_eq!(
        (&sensor["imagePullPolicy"], &sensor["version"], &sensor["restartCount"]),
        (&json!("never"), &json!("1"), &json!(0))
    );
    assert_eq!(sensor["env"]["MessageDelay"]["value"], "00:00:00.2");
    let started = container["State"]["StartedAt"].as_str().unwrap();
    let told = sensor["lastStartTimeUtc"].as_str().unwrap();
    assert_eq!(told.get(..19), started.get(..19));
    for system in ["edgeAgent", "edgeHub"] {
        assert_eq!(reported["systemModules"][system]["runtimeStatus"], "running", "{reported}");
    }
}
