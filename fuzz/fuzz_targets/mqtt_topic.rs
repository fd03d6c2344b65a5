//! Any topic and payload in both directions: nothing panics, a client's telemetry is only ever its own, and a bag that is passed on
//! to an input comes out strictly encoded with its true sender.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use skerry_dialect::mqtt::{self, Said, Subscription};
use skerry_model::{ClientId, Delivery, InputMessage, LockToken, PropertyBag};

fuzz_target!(|input: (&str, &[u8])| {
    let (topic, payload) = input;
    for id in ["e", "e/m"] {
        let own = ClientId::parse(id).expect("a valid id");
        if let Ok(Said::Telemetry(message)) = mqtt::said(&own, topic, payload) {
            assert!(topic.starts_with("devices/e/"));
            assert_eq!(topic.starts_with("devices/e/modules/m/"), id == "e/m");
            let _ = message.counted_bytes();
        }
        let _ = mqtt::client::heard(&own, topic, payload);
        if let Subscription::Channel(channel) = mqtt::subscription(topic, &own) {
            let filter = mqtt::client::filter(channel, &own);
            assert_eq!(mqtt::subscription(&filter, &own), Subscription::Channel(channel));
        }
    }
    let to = ClientId::parse("e/m").expect("a valid id");
    let message = InputMessage {
        input: "in".into(),
        source: ClientId::parse("e/s").expect("a valid id"),
        properties: Bytes::copy_from_slice(topic.as_bytes()),
        body: Bytes::new(),
        redelivered: false,
    };
    let mut out = String::new();
    mqtt::publication(&Delivery::Input { lock: LockToken(1), message }, &to, &mut out);
    let bag = out.strip_prefix("devices/e/modules/m/inputs/in/").expect("the topic of the input");
    assert!(bag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%=&".contains(&b)));
    assert!(bag.split('&').all(|pair| pair.split('=').count() == 2 && !pair.ends_with('=')));
    assert_eq!(PropertyBag::new(bag).get("$.cmid").as_deref(), Some("s"));
});
