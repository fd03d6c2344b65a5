//! Containers go on when the edge is killed, and work when it is back.

use serde_json::{Value, json};
use skerry_testkit::eventually;

use crate::docker::docker;
use crate::python_modules::{connected, invitation, steered};
use crate::site::{Site, UNTIL_STOPPED, shell};

#[test]
fn the_same_container_works_on_after_the_edge_was_killed_and_renews_its_token() {
    let mut site = Site::start();
    let waiting = invitation();
    site.deploy(&json!({ "module": steered(&waiting) }), &json!({ "up": "FROM /messages/* INTO $upstream" }));
    // The SDK renews 120 s before the end: here every 10 s, each time with a signature of the workload API.
    let options = json!({ "sastoken_ttl": 130, "connection_retry_interval": 1 });
    let mut talk = connected(&waiting, "module", &options);
    talk.call("send", json!({ "data": "before" }));
    let before = site.container("module").unwrap();
    let pid = &before["State"]["Pid"];

    site.edge.kill();
    talk.event_where("connection", |event| event["connected"] == false);
    assert!(process_runs(pid), "it went on");
    let sending = talk.begin("send_many", json!({ "prefix": "meanwhile", "count": 5, "keep_trying": true }));
    site.edge.start_again();
    talk.event_where("connection", |event| event["connected"] == true);
    talk.finish(sending).unwrap();
    let mut events = site.hub.events();
    for number in 0..5 {
        let body = format!("meanwhile-{number}");
        events.next_where("message", |event| event["body"] == body);
    }
    site.module_is("module", "running");
    let after = site.container("module").unwrap();
    let same = |name: &str| assert_eq!(after["State"][name], before["State"][name], "{name}");
    assert_eq!(after["Id"], before["Id"]);
    ["Pid", "StartedAt"].into_iter().for_each(same);

    // A renewal is a new connection with a new token; the socket it was signed through is that of the new edge.
    talk.skip_events();
    for _ in 0..2 {
        talk.event_where("connection", |event| event["connected"] == false);
        talk.event_where("connection", |event| event["connected"] == true);
    }
    talk.call("send", json!({ "data": "with a new token" }));
    events.next_where("message with the new token", |event| event["body"] == "with a new token");
    let identity = talk.call("get_twin", json!({}));
    assert!(identity["desired"]["$version"].is_u64(), "{identity}");
}

#[test]
fn what_a_manifest_changed_while_the_edge_was_away_is_done_when_it_is_back() {
    let mut site = Site::start();
    let (stays, goes) = (invitation(), invitation());
    let (stays_wanted, goes_wanted) = (steered(&stays), steered(&goes));
    site.deploy(&json!({ "stays": stays_wanted, "goes": goes_wanted }), &json!({}));
    let id = site.running_id("stays");
    site.running_id("goes");
    site.edge.kill();
    site.edge.deploy(&site.hub, &json!({ "stays": stays_wanted }), &json!({}));
    site.edge.start_again();
    eventually("the container is gone", || site.container("goes").is_none().then_some(()));
    assert_eq!(site.running_id("stays"), id);
}

#[test]
fn without_its_hub_the_edge_starts_what_it_ran_and_keeps_what_modules_say() {
    let mut site = Site::start();
    let waiting = invitation();
    site.deploy(&json!({ "module": steered(&waiting) }), &json!({ "up": "FROM /messages/* INTO $upstream" }));
    let mut talk = connected(&waiting, "module", &json!({}));
    site.set_desired("module", &json!({ "rate": 3 }));
    eventually("its twin is known", || (talk.call("get_twin", json!({}))["desired"]["rate"] == 3).then_some(()));
    drop(talk);
    let id = site.running_id("module");
    // The next best to a power cut: nothing runs, and the hub is out of reach.
    site.edge.kill();
    site.hub.kill();
    docker(&["kill", &site.edge.container("module")]);
    site.edge.start_again();
    let mut talk = connected(&waiting, "module, started again", &json!({}));
    assert_eq!(site.running_id("module"), id);
    talk.call("send", json!({ "data": "without a hub" }));
    assert_eq!(talk.call("get_twin", json!({}))["desired"]["rate"], 3);
    site.hub.start_again();
    site.hub.events().next_where("message that waited", |event| event["body"] == "without a hub");
    site.module_is("module", "running");
}

#[test]
fn a_machine_that_becomes_another_device_removes_what_it_ran_before() {
    let mut site = Site::start();
    site.deploy(&json!({ "before": shell(UNTIL_STOPPED), "both": shell(UNTIL_STOPPED) }), &json!({}));
    site.running_id("before");
    let old = site.running_id("both");
    site.edge.kill();
    let other = format!("{}-other", site.edge.device());
    site.edge.provision_anew(&site.hub, &other);
    site.edge.start_again();
    eventually("the containers are gone", || {
        (site.container("before").is_none() && site.container("both").is_none()).then_some(())
    });
    site.edge.deploy(&site.hub, &json!({ "both": shell(UNTIL_STOPPED) }), &json!({}));
    site.module_is("both", "running");
    assert_ne!(site.running_id("both"), old);
    // And it knows its own again after that.
    let new = site.running_id("both");
    site.edge.kill();
    site.edge.start_again();
    site.module_is("both", "running");
    assert_eq!(site.running_id("both"), new);
}

fn process_runs(pid: &Value) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}
