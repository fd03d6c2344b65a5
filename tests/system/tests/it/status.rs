//! What an operator is told about an edge that is cut off from its hub.

use serde_json::json;
use skerry_testkit::eventually;

use crate::peer::Heard;
use crate::site::{At, Site};

const MESSAGES: u16 = 5;

#[test]
fn an_operator_sees_what_waits_for_a_hub_that_is_away() {
    let mut site = Site::start(At::Edge);
    let login = site.device("dev-1");
    let mut device = site.server().login(&login);
    assert_eq!(site.edge_status()["store"]["messages"], 0);

    site.hub.kill();
    eventually("the edge knows that its hub is away", || {
        (site.edge_status()["upstream"]["connected"] == false).then_some(())
    });
    let topic = format!("{}/messages/events/", login.topics());
    for id in 1..=MESSAGES {
        device.publish(id, &topic, b"{}");
        assert_eq!(device.hear(), Heard::PubAck(id));
    }
    let store = site.edge_status()["store"].take();
    assert_eq!((&store["messages"], &store["full"]), (&json!(MESSAGES), &json!(false)), "{store}");
    assert_eq!(store["bytesMax"], json!(1 << 30), "{store}");
    assert!(store["bytes"].as_u64().is_some_and(|bytes| 0 < bytes && bytes <= 1 << 30), "{store}");

    site.hub.start_again();
    eventually("nothing waits any more", || (site.edge_status()["store"]["messages"] == 0).then_some(()));
}
