//! What becomes of a client when time passes or a server is killed: tokens are renewed or end, connections are lost and found.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use skerry_testkit::{Hub, eventually};

use crate::actors::{Client, service};

/// The SDK renews a token 120 s before its end: this one every 10 s.
pub(crate) fn renewing() -> Value {
    json!({ "sastoken_ttl": 130 })
}

/// A lost connection is tried again soon.
pub(crate) fn eager() -> Value {
    json!({ "connection_retry_interval": 1 })
}

/// A lost connection stays lost.
pub(crate) fn resigned() -> Value {
    json!({ "connection_retry": false })
}

/// Seconds since 1970.
pub(crate) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

/// What a client sends before, during and after the renewal of its token arrives. It was created with [`renewing`].
pub(crate) fn nothing_is_lost_when_a_token_is_renewed(hub: &Hub, client: &mut Client, output: Option<&str>) {
    client.talk.call("listen", json!({ "methods": true }));
    client.wait_for_connection(true);
    client.talk.skip_events();
    let messages = json!({ "prefix": "renewal", "output": output, "pause": 0.05 });
    let sending = client.talk.begin("send_until_told", messages);
    client.talk.event("sent");
    client.wait_for_connection(false);
    client.wait_for_connection(true);
    for _ in 0..2 {
        // The first may have been acknowledged before its connection was given up.
        client.talk.event("sent");
    }
    client.talk.call("stop_sending", json!({}));
    let count = client.talk.finish(sending).unwrap();
    all_have_arrived(hub, "renewal", count.as_u64().unwrap());
    let answer = client.invoke(&mut service(hub), "x", &json!(null));
    assert_eq!(answer["status"], 200, "the subscription outlives the connection");
}

/// What was not acknowledged before an outage is sent again after it, so some may come twice.
#[track_caller]
fn all_have_arrived(hub: &Hub, prefix: &str, count: u64) {
    let mut events = hub.events();
    for number in 0..count {
        let body = format!("{prefix}-{number}");
        events.next_where("message that was acknowledged", |event| event["body"] == body);
    }
}

/// A client that was given a token is put out when it expires, where no skew of clocks is allowed. One that was given another in
/// time, `longer`, stays. Both are [`resigned`].
pub(crate) fn a_token_ends_the_connection_when_it_expires(
    client: &mut Client,
    expiry: u64,
    prudent: &mut Client,
    longer: &str,
) {
    client.connect();
    client.wait_for_connection(true);
    prudent.connect();
    prudent.talk.call("update_sastoken", json!({ "text": longer }));
    assert!(seconds_now() < expiry, "this machine is too slow for this test");
    client.wait_for_connection(false);
    let closed = seconds_now();
    assert!((expiry..=expiry + 2).contains(&closed), "expiry {expiry}, closed {closed}");
    assert_eq!(prudent.talk.call("connected", json!({})), true);
    prudent.talk.call("send", json!({ "data": "with another token" }));
}

/// Messages that a client sends while its server is killed.
const MESSAGES: u64 = 60;

/// A client that sends while the server it is connected to is killed and started again. It is [`eager`].
pub(crate) struct Outage {
    sending: u64,
}

impl Outage {
    /// Listens and sends until the middle, where the server is to be killed.
    pub(crate) fn begin(client: &mut Client) -> Self {
        client.talk.call("listen", json!({ "methods": true, "desired": true }));
        client.talk.call("patch_reported", json!({ "patch": { "kept": true } }));
        client.talk.skip_events();
        let messages = json!({ "prefix": "outage", "count": MESSAGES, "pause": 0.02, "keep_trying": true });
        let sending = client.talk.begin("send_many", messages);
        client.talk.event_where("sent", |event| event["number"] == MESSAGES / 3);
        Self { sending }
    }

    /// Nothing is lost, and the client is heard and told as before: azure-iot-device does not subscribe again by itself where
    /// its session was present.
    pub(crate) fn end(self, hub: &Hub, client: &mut Client) {
        client.talk.finish(self.sending).unwrap();
        all_have_arrived(hub, "outage", MESSAGES);
        is_heard_and_told_as_before(hub, client);
        assert_eq!(client.twin()["reported"]["kept"], true, "acknowledged before the kill");
    }
}

fn is_heard_and_told_as_before(hub: &Hub, client: &mut Client) {
    let mut service = service(hub);
    let answer = client.invoke(&mut service, "after", &json!("it"));
    assert_eq!(answer, json!({ "status": 200, "payload": { "echo": "it" } }));
    let version = client.desire(&mut service, &json!({ "after": "it" }));
    assert_eq!(client.desired_patch(&version)["after"], "it");
}

/// A client of an edge whose hub is killed and started again notices nothing.
pub(crate) fn a_client_of_an_edge_outlasts_its_hub(hub: &mut Hub, client: &mut Client) {
    client.talk.call("listen", json!({ "methods": true, "desired": true }));
    client.desire(&mut service(hub), &json!({ "before": 1 }));
    client.talk.event_where("desired", |event| event["patch"]["before"] == 1);
    client.talk.skip_events();

    hub.kill();
    client.talk.call("send_many", json!({ "prefix": "away", "count": 20 }));
    assert_eq!(client.twin()["desired"]["before"], 1, "the edge knows it");
    client.talk.call("patch_reported", json!({ "patch": { "while": "away" } }));
    assert_eq!(client.twin()["reported"]["while"], "away");
    hub.start_again();

    all_have_arrived(hub, "away", 20);
    is_heard_and_told_as_before(hub, client);
    let mut service = service(hub);
    eventually("the hub has what was reported while it was away", || {
        (client.twin_at(&mut service)["properties"]["reported"]["while"] == "away").then_some(())
    });
    assert_eq!(client.talk.events_so_far("connection"), Vec::<Value>::new(), "its own connection was never lost");
}
