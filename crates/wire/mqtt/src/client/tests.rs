//! A server's doings and what the client's end makes of them; and both ends against each other.

use super::*;
use crate::{Grant, WireLimits, decode, server};

const LIMITS: WireLimits = WireLimits { packet_bytes_max: 1_000_000, connect_bytes_max: 1_000 };
const CONFIG: Config = Config {
    connect_timeout: Duration::from_secs(30),
    ping_timeout: Duration::from_secs(10),
    window_max: 3,
    unacked_max: 2,
};

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_start(Duration::from_secs(seconds))
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn introduction(keep_alive: u16) -> Connect<'static> {
    Connect {
        client_id: "dev",
        clean_session: false,
        keep_alive,
        will: None,
        user_name: Some("u"),
        password: Some(b"p"),
    }
}

fn opening(keep_alive: u16) -> Connection<u32> {
    let mut out = Vec::new();
    let connection = Connection::open(at(0), CONFIG, &introduction(keep_alive), &mut out).unwrap();
    assert_eq!(decode(&mut out.as_slice(), &LIMITS), Ok(Some(Packet::Connect(introduction(keep_alive)))));
    connection
}

const WELCOME: Packet<'static> = Packet::ConnAck(ConnAck { session_present: false, code: ConnectReturn::Accepted });

fn opened(keep_alive: u16) -> Connection<u32> {
    let mut connection = opening(keep_alive);
    assert_eq!(connection.handle_packet(at(1), WELCOME), Ok(Some(Event::Accepted { session_present: false })));
    connection
}

#[test]
fn a_refusal_ends_it_and_says_why() {
    let mut connection = opening(60);
    let refusal = Packet::ConnAck(ConnAck { session_present: false, code: ConnectReturn::NotAuthorized });
    assert_eq!(connection.handle_packet(at(1), refusal), Ok(Some(Event::Refused(ConnectReturn::NotAuthorized))));
    assert!(!connection.is_open());
    assert_eq!(connection.handle_packet(at(1), WELCOME), Err(Violation::Ended(PacketKind::ConnAck)));
    assert_eq!(connection.publish_at_most_once(&["t"], b"", &mut Vec::new()), Err(NotSent::NotOpen));
}

#[test]
fn connack_comes_first_once_and_in_time() {
    assert_eq!(opening(60).handle_packet(at(1), Packet::PingResp), Err(Violation::NotConnected(PacketKind::PingResp)));
    assert_eq!(opened(60).handle_packet(at(1), WELCOME), Err(Violation::ConnectedTwice));
    let mut connection = opening(60);
    assert_eq!(connection.next_timeout(), Some(at(30)));
    assert_eq!(connection.handle_timeout(at(29), &mut Vec::new()), None);
    assert_eq!(connection.handle_timeout(at(30), &mut Vec::new()), Some(Expired::Connect(Duration::from_secs(30))));
}

#[test]
fn it_pings_in_time_and_gives_up_when_nobody_answers() {
    let (mut connection, mut out) = (opened(60), Vec::new());
    assert_eq!(connection.next_timeout(), Some(at(61)));
    assert_eq!(connection.handle_timeout(at(60), &mut out), None);
    assert!(out.is_empty());
    assert_eq!(connection.handle_timeout(at(61), &mut out), None);
    assert_eq!(out, b"\xc0\x00");
    assert_eq!(connection.next_timeout(), Some(at(71)));
    connection.handle_packet(at(65), Packet::PingResp).unwrap();
    assert_eq!(connection.next_timeout(), Some(at(121)));
    assert_eq!(connection.handle_timeout(at(121), &mut out), None);
    assert_eq!(connection.handle_timeout(at(131), &mut out), Some(Expired::Ping(Duration::from_secs(10))));
    assert_eq!(connection.next_timeout(), None);
}

#[test]
fn a_client_that_promises_nothing_does_not_ping() {
    let mut connection = opened(0);
    assert_eq!(connection.next_timeout(), None);
    assert_eq!(connection.handle_timeout(at(9_999), &mut Vec::new()), None);
}

#[test]
fn answers_meet_what_they_answer() {
    let (mut connection, mut out) = (opened(60), Vec::new());
    let message = connection.publish_at_least_once(5, false, &["t"], b"", &mut out).unwrap();
    let subscription = connection.subscribe(&[("a/#", Qos::AtLeastOnce)], &mut out).unwrap();
    let end = connection.unsubscribe(&["a/#"], &mut out).unwrap();
    assert_eq!((message, subscription, end), (id(1), id(2), id(3)));
    assert_eq!(connection.publish_at_least_once(5, false, &["t"], b"", &mut out), Err(NotSent::WindowFull));
    assert_eq!(
        connection.handle_packet(at(2), Packet::PubAck(subscription)),
        Err(Violation::UnknownAnswer { kind: PacketKind::PubAck, id: subscription })
    );
    let bytes = b"\x90\x03\x00\x02\x01\x90\x04\x00\x02\x01\x01";
    let mut input = bytes.as_slice();
    let answer = decode(&mut input, &LIMITS).unwrap().unwrap();
    let Ok(Some(Event::Subscribed(answer))) = connection.handle_packet(at(2), answer) else { panic!("a SUBACK") };
    assert!(answer.grants().eq([Grant::Granted(Qos::AtLeastOnce)]));
    assert_eq!(connection.handle_packet(at(2), Packet::UnsubAck(end)), Ok(Some(Event::Unsubscribed(end))));
    assert_eq!(connection.handle_packet(at(2), Packet::PubAck(message)), Ok(Some(Event::Acked(5))));
    assert_eq!(connection.in_flight(), 0);
    assert_eq!(connection.subscribe(&[("a", Qos::AtMostOnce)], &mut out), Ok(id(4)));
    let wrong = decode(&mut b"\x90\x04\x00\x04\x01\x01".as_slice(), &LIMITS).unwrap().unwrap();
    assert_eq!(connection.handle_packet(at(2), wrong), Err(Violation::WrongSubAck { filters: 1, answers: 2 }));
}

#[test]
fn messages_are_acknowledged_in_order_of_arrival() {
    let (mut connection, mut out) = (opened(60), Vec::new());
    let message = |id| {
        let transfer = Transfer::AtLeastOnce { id, dup: false };
        Packet::Publish(Publish { topic: "t", payload: b"", transfer, retain: false })
    };
    for number in [8, 9] {
        assert!(connection.may_receive());
        connection.handle_packet(at(2), message(id(number))).unwrap();
    }
    assert_eq!(connection.handle_packet(at(2), message(id(10))), Err(Violation::TooManyUnacked(2)));
    connection.ack(2, &mut out);
    assert!(out.is_empty());
    connection.ack(1, &mut out);
    assert_eq!(out, b"\x40\x02\x00\x08\x40\x02\x00\x09");
}

#[test]
fn servers_do_not_act_as_clients() {
    for packet in [Packet::PingReq, Packet::Disconnect] {
        assert_eq!(opened(60).handle_packet(at(2), packet), Err(Violation::NotFromServers(packet.kind())));
    }
    assert_eq!(opened(60).handle_packet(at(2), Packet::PubRec(id(1))), Err(Violation::ExactlyOnce(PacketKind::PubRec)));
}

#[test]
fn both_ends_understand_each_other() {
    let config = server::Config {
        connect_timeout: Duration::from_secs(60),
        keep_alive_max: Duration::from_secs(1_177),
        window_max: 10,
        unacked_max: 10,
    };
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut client: Connection<u32> = Connection::open(at(0), CONFIG, &introduction(60), &mut up).unwrap();
    let mut server: server::Connection<u32> = server::Connection::new(at(0), config, id(1));
    let mut heard = Vec::new();
    for second in 1..6 {
        let mut input = up.as_slice();
        while let Some(packet) = decode(&mut input, &LIMITS).unwrap() {
            match server.handle_packet(at(second), packet, &mut down).unwrap() {
                Some(server::Event::Connect(_)) => server.accept(at(second), false, &mut down),
                Some(server::Event::Subscribe(subscribe)) => {
                    server.grant(&subscribe, &mut down).unwrap();
                    server.publish_at_least_once(1, false, &["for/you"], b"hello", &mut down).unwrap();
                }
                Some(server::Event::Publish { sequence: Some(sequence), publish }) => {
                    heard.push(format!("server: {}", publish.topic));
                    server.ack_through(sequence, &mut down);
                }
                Some(server::Event::Acked(key)) => heard.push(format!("server: acked {key}")),
                Some(server::Event::Disconnect) => heard.push("server: end".to_owned()),
                other => panic!("{other:?}"),
            }
        }
        up.clear();
        let mut input = down.as_slice();
        while let Some(packet) = decode(&mut input, &LIMITS).unwrap() {
            match client.handle_packet(at(second), packet).unwrap() {
                Some(Event::Accepted { .. }) => {
                    client.subscribe(&[("for/#", Qos::ExactlyOnce)], &mut up).map(drop).unwrap();
                    client.publish_at_least_once(7, false, &["from/me"], b"x", &mut up).map(drop).unwrap();
                }
                Some(Event::Subscribed(_)) => heard.push("client: subscribed".to_owned()),
                Some(Event::Publish { publish, sequence: Some(sequence) }) => {
                    heard.push(format!("client: {}", publish.topic));
                    client.ack(sequence, &mut up);
                }
                Some(Event::Acked(key)) => {
                    heard.push(format!("client: acked {key}"));
                    client.disconnect(&mut up);
                }
                other => panic!("{other:?}"),
            }
        }
        down.clear();
    }
    assert_eq!(
        heard,
        [
            "server: from/me",
            "client: subscribed",
            "client: for/you",
            "client: acked 7",
            "server: acked 1",
            "server: end"
        ]
    );
}
