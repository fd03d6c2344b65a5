//! Strangers at the door of the hub and of the edge: what they are told, what the operator is told, and nothing else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use skerry_testkit::{PATIENCE, eventually, sas_token};

use crate::peer::{Heard, LATER, Login, Peer, connect};
use crate::site::{At, Site};

/// Base64 of 32 bytes that are nobody's key.
const WRONG_KEY: &str = "bm9ib2R5J3Mga2V5IG5vYm9keSdzIGtleSBub2JvZHk=";
const NOT_AUTHORIZED: u8 = 5;
/// Longest time a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// What a busy test machine needs on top.
const SLACK: Duration = Duration::from_secs(10);

/// One kind of bad credentials.
struct Case {
    device: &'static str,
    token: fn(&str, &str, &Keys) -> String,
    reason: &'static str,
}

struct Keys {
    own: String,
    other: String,
}

const CASES: &[Case] = &[
    Case {
        device: "wrong-key",
        token: |host, device, _| sas_token(&format!("{host}/devices/{device}"), WRONG_KEY, LATER),
        reason: "the token was not signed with a key of",
    },
    Case {
        device: "key-of-another",
        token: |host, device, keys| sas_token(&format!("{host}/devices/{device}"), &keys.other, LATER),
        reason: "the token was not signed with a key of",
    },
    Case {
        device: "expired",
        token: |host, device, keys| sas_token(&format!("{host}/devices/{device}"), &keys.own, seconds_now() - 301),
        reason: "the token expired at",
    },
    Case {
        device: "token-of-another",
        token: |host, _, keys| sas_token(&format!("{host}/devices/other"), &keys.other, LATER),
        reason: "the token's resource",
    },
    Case { device: "no-token", token: |_, _, _| "nonsense".to_owned(), reason: "the token is malformed" },
];

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The key that signs for a device of the hub.
fn key_of(site: &Site, device: &str) -> String {
    let device = site.hub.rest().call("GET", &format!("/devices/{device}"), None);
    device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap().to_owned()
}

fn bad_credentials_are_refused_told_and_counted(at: At) {
    let mut site = Site::start(at);
    let server = site.server();
    let good = site.device("other");
    let mut neighbour = server.login(&good);
    for case in CASES {
        let login = site.device(case.device);
        let keys = Keys { own: key_of(&site, case.device), other: key_of(&site, "other") };
        let bad = login.with_token((case.token)(&site.hub.host(), case.device, &keys));
        let (mut peer, told) = server.try_login(&bad);
        assert_eq!(told, Heard::ConnAck(NOT_AUTHORIZED), "{}", case.device);
        peer.hear_the_end();
        let entry = site.refused(case.device, 1);
        assert!(entry["reason"].as_str().unwrap().starts_with(case.reason), "{}: {entry}", case.device);
        assert_eq!((&entry["peer"], &entry["protocol"]), (&"127.0.0.1".into(), &"mqtt".into()));
        let lines = site.refusal_lines(case.device);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(case.reason), "{}", lines[0]);
        assert!(!lines[0].contains(&keys.own) && !lines[0].contains(&bad.token), "{}", lines[0]);
    }
    // Nothing else has happened: who is in stays in, and who shows the right thing gets in.
    neighbour.publish(1, &format!("{}/messages/events/", good.topics()), b"still here");
    assert_eq!(neighbour.hear(), Heard::PubAck(1));
    let expired = site.hub.rest().call("GET", "/devices/expired", None);
    assert_eq!(expired["connectionState"], "Disconnected");
    let keys = key_of(&site, "expired");
    let login = Login {
        client_id: "expired".to_owned(),
        user_name: format!("{}/expired/?api-version=2021-04-12", site.hub.host()),
        token: sas_token(&format!("{}/devices/expired", site.hub.host()), &keys, LATER),
    };
    server.login(&login);
}

#[test]
fn bad_credentials_are_refused_told_and_counted_at_the_hub() {
    bad_credentials_are_refused_told_and_counted(At::Hub);
}

#[test]
fn bad_credentials_are_refused_told_and_counted_at_the_edge() {
    bad_credentials_are_refused_told_and_counted(At::Edge);
}

fn a_hundred_refusals_are_one_entry_and_at_most_two_lines(at: At) {
    let mut site = Site::start(at);
    let server = site.server();
    let login = site.device("stubborn");
    let bad = login.with_token(sas_token(&format!("{}/devices/stubborn", site.hub.host()), WRONG_KEY, LATER));
    for _ in 0..100 {
        let (_, told) = server.try_login(&bad);
        assert_eq!(told, Heard::ConnAck(NOT_AUTHORIZED));
    }
    let entry = site.refused("stubborn", 100);
    assert!(entry["first"].as_str() <= entry["last"].as_str(), "{entry}");
    let connections = site.connections();
    let entries = connections["refused"].as_array().unwrap();
    assert_eq!(entries.iter().filter(|entry| entry["claimed"] == "stubborn").count(), 1);
    assert_eq!(connections["refusals"], 100);
    let lines = site.refusal_lines("stubborn");
    assert!((1..=2).contains(&lines.len()), "{lines:?}");
    // A peer that takes a new name each time is told apart on the list, but does not flood the log either.
    for number in 0..30 {
        let name = format!("invented-{number}");
        let invented = Login {
            user_name: format!("{}/{name}/?api-version=2021-04-12", site.hub.host()),
            token: sas_token(&format!("{}/devices/{name}", site.hub.host()), WRONG_KEY, LATER),
            client_id: name,
        };
        let (_, told) = server.try_login(&invented);
        assert_eq!(told, Heard::ConnAck(NOT_AUTHORIZED));
    }
    site.refused("invented-29", 1);
    let lines = site.log("refused peer=");
    assert!(lines.len() <= 10 + 1, "{lines:?}");
}

#[test]
fn a_hundred_refusals_are_one_entry_and_at_most_two_lines_at_the_hub() {
    a_hundred_refusals_are_one_entry_and_at_most_two_lines(At::Hub);
}

#[test]
fn a_hundred_refusals_are_one_entry_and_at_most_two_lines_at_the_edge() {
    a_hundred_refusals_are_one_entry_and_at_most_two_lines(At::Edge);
}

fn names_that_make_no_sense_have_codes_of_their_own(at: At) {
    let site = Site::start(at);
    let server = site.server();
    let good = site.device("dev-1");
    let host = site.hub.host();
    let with = |client_id: &str, user_name: &str| Login {
        client_id: client_id.to_owned(),
        user_name: user_name.to_owned(),
        token: good.token.clone(),
    };
    for (login, code, reason) in [
        (with("dev-1", "dev-1"), 4, "the user name is not of the form"),
        (with("dev-1", &format!("{host}/dev-1/")), 4, "the user name"),
        (with("dev-2", &good.user_name), 5, "the client id is not the identity of the user name"),
        (with("dev-1", "other.example/dev-1/?api-version=2021-04-12"), 5, "the user name says the hub is"),
    ] {
        let (mut peer, told) = server.try_login(&login);
        assert_eq!(told, Heard::ConnAck(code), "{}", login.user_name);
        peer.hear_the_end();
        let refused = eventually("the refusal is on the list", || {
            let connections = site.connections();
            let list = connections["refused"].as_array()?.clone();
            list.into_iter().find(|entry| entry["claimed"] == login.client_id.as_str())
        });
        assert!(refused["reason"].as_str().unwrap().starts_with(reason), "{refused}");
    }
    // MQTT 5 and the empty client id.
    let mut peer = server.secured();
    let mut bytes = connect(&good);
    bytes[8] = 5;
    peer.send(&bytes);
    assert_eq!(peer.hear(), Heard::ConnAck(1));
    peer.hear_the_end();
    let (mut peer, told) = server.try_login(&with("", &good.user_name));
    assert_eq!(told, Heard::ConnAck(2));
    peer.hear_the_end();
    // No packet at all, and one that is not CONNECT: closed without an answer.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xc0, 0x00]] {
        let mut peer = server.secured();
        peer.send(bytes);
        peer.hear_the_end();
    }
}

#[test]
fn names_that_make_no_sense_have_codes_of_their_own_at_the_hub() {
    names_that_make_no_sense_have_codes_of_their_own(At::Hub);
}

#[test]
fn names_that_make_no_sense_have_codes_of_their_own_at_the_edge() {
    names_that_make_no_sense_have_codes_of_their_own(At::Edge);
}

/// Peers that stop talking at every point of an opening. One part of a test in `silence.rs`.
pub(crate) fn half_open_peers_are_given_up(at: At) {
    let mut site = Site::start(at);
    let (mqtt, https) = (site.server(), site.server().at_port(443));
    let login = site.device("dev-1");
    let mut neighbour = mqtt.login(&login);
    let begun = Instant::now();
    let silent = mqtt.knock();
    let mut mute = mqtt.secured();
    let mut stuttering = mqtt.secured();
    let bytes = connect(&login);
    stuttering.send(&bytes[..bytes.len() / 2]);
    let mut hello = mqtt.knock();
    // The head of a TLS record with the beginning of a ClientHello, which never goes on.
    hello.send(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    let mut asker = https.secured();
    asker.send(b"GET /devices HTTP/1.1\r\nHost: x\r\n");
    let mut idle = https.secured();

    let gone = |peer: &mut Peer, what: &str| {
        let said = peer.read_to_end(SILENCE + SLACK);
        let after = begun.elapsed();
        assert!(after < SILENCE + SLACK, "{what} was gone only after {after:?}");
        (said, after)
    };
    let (_, after) = gone(&mut hello, "a handshake that stops");
    assert!(after < SILENCE / 2 + SLACK, "a handshake that stops may take 20 s, not {after:?}");
    let mut silent = silent;
    for (peer, what) in [
        (&mut silent, "a connection without a byte"),
        (&mut mute, "a connection after TLS"),
        (&mut stuttering, "half a CONNECT"),
        (&mut idle, "HTTPS without a request"),
    ] {
        let (said, after) = gone(peer, what);
        assert_eq!(said, "", "{what}");
        assert!(SILENCE <= after + Duration::from_secs(1), "{what} had a minute, not {after:?}");
    }
    let (said, _) = gone(&mut asker, "half a request");
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");

    // One entry for all that gave no name, with the last reason; a line for each reason.
    let refused = eventually("the silent ones are on the list", || {
        let connections = site.connections();
        let list = connections["refused"].as_array()?.clone();
        list.into_iter().find(|entry| entry["claimed"] == "" && entry["count"].as_u64() >= Some(6))
    });
    assert_eq!(refused["peer"], "127.0.0.1");
    for reason in [
        "the peer sent nothing for 60 s",
        "the TLS handshake took longer than 20 s",
        "no CONNECT within 60 s",
        "no request within 60 s",
    ] {
        let lines = site.logged(reason, "");
        assert_eq!(lines.len(), 1, "{reason}: {lines:?}");
    }
    neighbour.publish(1, &format!("{}/messages/events/", login.topics()), b"still here");
    assert_eq!(neighbour.hear_within(PATIENCE), Some(Heard::PubAck(1)));
}
