//! The MQTT head against a scripted hub and a scripted client, on simulated time.

mod client;
pub(crate) mod hub;

use std::rc::Rc;
use std::time::Duration;

use client::Client;
use hub::Hub;
use skerry_model::{
    Channel, Command, Delivery, FeedbackRequest, Limits, LockToken, Message, MethodCall, MethodCallId, Timestamp,
};

const START: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// Runs `situation` with a hub and simulated time; `limits` are the gateway's.
fn with_limits<F: Future<Output = ()>>(limits: Limits, situation: impl FnOnce(Rc<Hub>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { situation(Hub::new(limits)).await });
}

fn with_hub<F: Future<Output = ()>>(situation: impl FnOnce(Rc<Hub>) -> F) {
    with_limits(Limits::default(), situation);
}

fn command(id: u128) -> Delivery {
    let command = Command {
        message: Message { properties: format!("%24.mid=m{id}"), body: b"go".as_slice().into() },
        sequence_number: 1,
        enqueued: START,
        expires: START,
        delivery_count: 0,
        ack: FeedbackRequest::None,
    };
    Delivery::Command { lock: LockToken(id), command: command.into() }
}

#[test]
fn telemetry_is_acknowledged_in_order_when_it_is_durable_and_not_before() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.publish(1, "devices/d/messages/events/a=1", b"one");
        client.publish(2, "devices/d/messages/events/", b"two");
        client.publish(3, "$iothub/twin/GET/?$rid=7", b" ");
        client.publish(4, "devices/d/messages/events/", b"three");
        assert_eq!(client.next().await, "PUBLISH 0 $iothub/twin/res/200/?$rid=7 {\"desired\":{\"$version\":1}}");
        client.expect_silence().await;
        assert_eq!(hub.appended(), ["a=1 one", " two", " three"]);
        hub.commit(1);
        assert_eq!(client.take(3).await, ["PUBACK 1", "PUBACK 2", "PUBACK 3"]);
        client.expect_silence().await;
        hub.commit(2);
        assert_eq!(client.next().await, "PUBACK 4");
    });
}

#[test]
fn who_cannot_prove_who_they_are_is_told_and_listed() {
    let cases = [
        (
            "d",
            "hub.example/d/?api-version=2019-10-01",
            "sr=hub.example/devices/d&sig=d3Jvbmc%3D&se=1800000000",
            5,
            "wrong key",
        ),
        (
            "d",
            "hub.example/d/?api-version=2019-10-01",
            "sr=hub.example/devices/d&sig=b2s%3D&se=1699999000",
            5,
            "expired",
        ),
        (
            "d",
            "hub.example/d/?api-version=2019-10-01",
            "sr=hub.example/devices/e&sig=b2s%3D&se=1800000000",
            5,
            "not about d",
        ),
        (
            "d",
            "other.example/d/?api-version=2019-10-01",
            "sr=other.example/devices/d&sig=b2s%3D&se=1800000000",
            5,
            "hub is",
        ),
        (
            "d",
            "hub.example/e/?api-version=2019-10-01",
            "sr=hub.example/devices/e&sig=b2s%3D&se=1800000000",
            5,
            "client id",
        ),
        ("d", "hub.example/d/", "sr=hub.example/devices/d&sig=b2s%3D&se=1800000000", 4, "api-version"),
        ("busy", "hub.example/busy/?api-version=1", "sr=hub.example/devices/busy&sig=b2s%3D&se=1800000000", 3, "again"),
    ];
    for (client_id, user, token, code, reason) in cases {
        with_hub(|hub| async move {
            let mut client = Client::start(&hub);
            client.connect(client_id, user, &format!("SharedAccessSignature {token}"), true);
            assert_eq!(client.next().await, format!("CONNACK {code} false"), "{token}");
            assert_eq!(client.next().await, "closed");
            let refused = hub.door.refused();
            assert_eq!((refused.len(), refused[0].claimed.as_str()), (1, client_id));
            assert!(refused[0].reason.contains(reason), "{}", refused[0].reason);
            assert!(!refused[0].reason.contains("sig="), "{}", refused[0].reason);
            assert_eq!(hub.door.connected_count(), 0);
        });
    }
}

#[test]
fn one_client_too_many_is_told_to_come_again_and_listed() {
    with_hub(|hub| async move {
        hub.door.limit_clients(Some(1));
        let first = Client::connected(&hub, "d").await;
        let (user, token) = ("hub.example/e/?api-version=1", "sr=hub.example/devices/e&sig=b2s%3D&se=1800000000");
        let mut second = Client::start(&hub);
        second.connect("e", user, &format!("SharedAccessSignature {token}"), true);
        assert_eq!(second.take(2).await, ["CONNACK 3 false", "closed"]);
        let refused = hub.door.refused();
        assert_eq!((refused.len(), refused[0].claimed.as_str()), (1, "e"));
        assert_eq!(refused[0].reason, "as many clients as there may be: 1");
        // A client that comes anew takes its own place.
        let again = Client::connected(&hub, "d").await;
        drop((first, again));
    });
}

#[test]
fn another_protocol_is_told_so() {
    with_hub(|hub| async move {
        let mut client = Client::start(&hub);
        client.send_bytes(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00\x00");
        assert_eq!(client.take(2).await, ["CONNACK 1 false", "closed"]);
        assert_eq!(hub.door.refused()[0].reason, "speaks \"MQTT\" level 5, not MQTT 3.1.1");
    });
}

#[test]
fn a_peer_that_says_nothing_is_put_out_after_a_minute() {
    with_hub(|hub| async move {
        let mut client = Client::start(&hub);
        client.send_bytes(b"\x10");
        client.expect_silence_for(Duration::from_secs(59)).await;
        assert_eq!(client.next().await, "closed");
        assert_eq!(hub.door.refused()[0].reason, "no CONNECT within 60 s");
    });
}

#[test]
fn what_breaks_the_rules_closes_the_connection_and_is_listed() {
    let too_large = vec![b'x'; Limits::default().message_bytes_max + 1];
    let cases: [(&str, &[u8], &str); 6] = [
        ("devices/e/messages/events/", b"", "of another identity"),
        ("devices/d/messages/other/", b"", "no meaning"),
        ("some/topic", b"", "no meaning"),
        ("$iothub/twin/GET/", b"", "without a $rid"),
        ("$iothub/methods/res/abc/?$rid=1", b"", "not a number"),
        ("devices/d/messages/events/", &too_large, "262145 bytes"),
    ];
    for (topic, payload, reason) in cases {
        let payload = payload.to_vec();
        with_hub(|hub| async move {
            let mut client = Client::connected(&hub, "d").await;
            client.publish(1, "devices/d/messages/events/", b"good");
            client.publish(2, topic, &payload);
            assert_eq!(client.next().await, "closed", "{topic}");
            let refused = hub.door.refused();
            assert!(refused[0].reason.contains(reason), "{}", refused[0].reason);
            assert_eq!(hub.appended(), [" good"]);
        });
    }
}

#[test]
fn a_packet_above_the_limit_is_not_even_read() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.send_bytes(b"\x32\xff\xff\xff\x7f");
        assert_eq!(client.next().await, "closed");
        assert_eq!(hub.door.refused().len(), 1);
    });
}

#[test]
fn the_largest_message_passes_in_small_pieces() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        let largest = vec![b'x'; Limits::default().message_bytes_max - 2];
        client.publish(1, "devices/d/messages/events/a=1", &largest);
        client.publish(2, "devices/d/messages/events/", b"next");
        client.settle_down().await;
        assert_eq!(hub.appended().iter().map(String::len).collect::<Vec<_>>(), [largest.len() + 4, 5]);
    });
}

#[test]
fn a_full_store_holds_the_sender_back_and_loses_nothing() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        hub.set_full(true);
        client.publish(1, "devices/d/messages/events/", b"one");
        client.settle_down().await;
        client.publish(2, "devices/d/messages/events/", b"two");
        client.expect_silence_for(Duration::from_secs(30)).await;
        assert_eq!(hub.appended(), Vec::<String>::new());
        hub.set_full(false);
        client.settle_down().await;
        assert_eq!(hub.appended(), [" one", " two"]);
        hub.commit(9);
        assert_eq!(client.take(2).await, ["PUBACK 1", "PUBACK 2"]);
    });
}

#[test]
fn a_store_that_stays_full_closes_the_connection_after_a_minute() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        hub.set_full(true);
        client.publish(1, "devices/d/messages/events/", b"one");
        client.expect_silence_for(Duration::from_secs(59)).await;
        assert_eq!(client.next_within(Duration::from_secs(2)).await, "closed");
        assert_eq!(hub.door.refused()[0].reason, "the store was full for too long");
    });
}

#[test]
fn a_token_ends_the_connection_when_its_skew_is_over() {
    with_hub(|hub| async move {
        let mut client = Client::start(&hub);
        let token =
            format!("SharedAccessSignature sr=hub.example/devices/d&sig=b2s%3D&se={}", START.unix_seconds() - 250);
        client.connect("d", "hub.example/d/?api-version=2019-10-01", &token, true);
        assert_eq!(client.next().await, "CONNACK 0 false");
        client.expect_silence_for(Duration::from_secs(49)).await;
        assert_eq!(client.next_within(Duration::from_secs(2)).await, "closed");
        assert_eq!(hub.door.refused()[0].reason, "its token expired");
    });
}

#[test]
fn the_newer_connection_takes_over() {
    with_hub(|hub| async move {
        let mut first = Client::connected(&hub, "d").await;
        let mut second = Client::connected(&hub, "d").await;
        assert_eq!(first.next().await, "closed");
        second.publish(1, "devices/d/messages/events/", b"here");
        second.settle_down().await;
        assert_eq!(hub.appended(), [" here"]);
        assert_eq!((hub.door.connected_count(), hub.door.refused().len()), (1, 0));
    });
}

#[test]
fn commands_are_settled_when_the_client_acknowledges_them() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.subscribe(9, "devices/d/messages/devicebound/#", 1);
        assert_eq!(client.next().await, "SUBACK 9 [1]");
        assert_eq!(hub.listening("d"), [Channel::Commands]);
        hub.deliver("d", command(1));
        let sent = client.next().await;
        let to = "%24.to=%2Fdevices%2Fd%2Fmessages%2FdeviceBound";
        assert_eq!(sent, format!("PUBLISH 1 devices/d/messages/devicebound/%24.mid=m1&{to} go"));
        assert_eq!(hub.settled(), Vec::<String>::new());
        client.ack_last();
        client.settle_down().await;
        assert_eq!(hub.settled(), ["1 Accepted"]);
        client.unsubscribe(10, "devices/d/messages/devicebound/#");
        assert_eq!(client.next().await, "UNSUBACK 10");
        hub.deliver("d", command(2));
        client.settle_down().await;
        assert_eq!(hub.settled(), ["1 Accepted", "2 Released"]);
    });
}

#[test]
fn what_goes_out_with_qos_0_is_settled_when_it_is_written() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.subscribe(9, "devices/d/messages/devicebound/#", 0);
        assert_eq!(client.next().await, "SUBACK 9 [0]");
        hub.deliver("d", command(1));
        assert!(client.next().await.starts_with("PUBLISH 0 devices/d/messages/devicebound/"));
        assert_eq!(hub.settled(), ["1 Accepted"]);
    });
}

#[test]
fn a_client_that_acknowledges_nothing_is_put_out_and_what_exceeds_the_window_waits() {
    with_limits(Limits { window_messages: 2, ..Limits::default() }, |hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.subscribe(9, "devices/d/messages/devicebound/#", 1);
        client.next().await;
        for id in 1..=3 {
            hub.deliver("d", command(id));
        }
        assert!(client.next().await.contains("m1"));
        assert!(client.next().await.contains("m2"));
        client.expect_silence_for(Duration::from_secs(20)).await;
        client.ack_last();
        assert!(client.next().await.contains("m3"));
        assert_eq!(client.next_within(Duration::from_secs(31)).await, "closed");
        assert_eq!(hub.door.refused()[0].reason, "it settled nothing for too long");
    });
}

#[test]
fn a_method_reaches_the_client_and_its_answer_the_hub() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.subscribe(9, "$iothub/methods/POST/#", 1);
        assert_eq!(client.next().await, "SUBACK 9 [1]");
        let call = MethodCall { id: MethodCallId(0xabc), name: "reboot".to_owned(), payload: b"{}".as_slice().into() };
        hub.deliver("d", Delivery::Method(call));
        assert_eq!(client.next().await, "PUBLISH 1 $iothub/methods/POST/reboot/?$rid=abc {}");
        client.publish(2, "$iothub/methods/res/200/?$rid=abc", b"true");
        assert_eq!(client.next().await, "PUBACK 2");
        client.settle_down().await;
        assert_eq!(hub.asked(), ["Listen(Methods)", "answer 2748 200 true"]);
    });
}

#[test]
fn a_kept_session_listens_again_by_itself() {
    with_hub(|hub| async move {
        let mut client = Client::start(&hub);
        client.connect_good("d", false);
        assert_eq!(client.next().await, "CONNACK 0 false");
        client.subscribe(9, "$iothub/twin/PATCH/properties/desired/#", 1);
        client.next().await;
        client.leave();
        assert_eq!(client.next().await, "closed");
        let mut again = Client::start(&hub);
        again.connect_good("d", false);
        assert_eq!(again.next().await, "CONNACK 0 true");
        hub.deliver("d", Delivery::Desired { patch: std::sync::Arc::default(), version: 3 });
        let desired = "PUBLISH 1 $iothub/twin/PATCH/properties/desired/?$version=3 {\"$version\":3}";
        assert_eq!(again.next().await, desired);
        again.leave();
        assert_eq!(again.next().await, "closed");
        assert_eq!(Client::connected(&hub, "d").await.greeting, "CONNACK 0 false");
    });
}

#[test]
fn the_will_is_published_when_the_client_does_not_say_goodbye() {
    for (goodbye, published) in [(true, vec![]), (false, vec!["a=1&iothub-MessageType=Will gone"])] {
        with_hub(|hub| async move {
            let mut client = Client::start(&hub);
            client.connect_with_will("d", "devices/d/messages/events/a=1", b"gone");
            assert_eq!(client.next().await, "CONNACK 0 false");
            if goodbye {
                client.leave();
            } else {
                client.hang_up();
            }
            client.settle_down().await;
            assert_eq!(hub.appended(), published);
            assert_eq!(hub.door.connected_count(), 0);
        });
    }
}

#[test]
fn retained_messages_are_marked() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.publish_retained(1, "devices/d/messages/events/a=1", b"x");
        client.settle_down().await;
        assert_eq!(hub.appended(), ["a=1&mqtt-retain=true x"]);
    });
}

#[test]
fn a_failed_twin_request_has_a_body_that_says_why() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.publish(1, "$iothub/twin/PATCH/properties/reported/?$rid=5", b"[1]");
        assert_eq!(client.next().await, "PUBACK 1");
        let answer = client.next().await;
        assert!(answer.starts_with("PUBLISH 0 $iothub/twin/res/400/?$rid=5 {\"errorCode\":400006,"), "{answer}");
        assert!(answer.contains("not a JSON object"), "{answer}");
        client.publish(2, "$iothub/twin/PATCH/properties/reported/?$rid=6", b"{\"a\":1}");
        assert_eq!(client.take(2).await, ["PUBACK 2", "PUBLISH 0 $iothub/twin/res/204/?$rid=6&$version=2 "]);
    });
}

#[test]
fn keep_alive_is_honoured() {
    with_hub(|hub| async move {
        let mut client = Client::connected(&hub, "d").await;
        client.expect_silence_for(Duration::from_secs(80)).await;
        client.ping();
        assert_eq!(client.next().await, "PINGRESP");
        client.expect_silence_for(Duration::from_secs(89)).await;
        assert_eq!(client.next_within(Duration::from_secs(2)).await, "closed");
        assert_eq!(hub.door.refused().len(), 0);
    });
}
