//! A client's doings and what the server's end makes of them.

use super::*;
use crate::packet::{Qos, SubAck};
use crate::{WireLimits, decode};

const LIMITS: WireLimits = WireLimits { packet_bytes_max: 1_000_000, connect_bytes_max: 1_000 };
const CONFIG: Config = Config {
    connect_timeout: Duration::from_secs(60),
    keep_alive_max: Duration::from_secs(1_177),
    window_max: 1_000,
    unacked_max: 4,
};

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_start(Duration::from_secs(seconds))
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn introduction(keep_alive: u16) -> Packet<'static> {
    Packet::Connect(Connect {
        client_id: "dev",
        clean_session: false,
        keep_alive,
        will: None,
        user_name: Some("hub/dev/?api-version=2021-04-12"),
        password: None,
    })
}

fn message(number: u16) -> Packet<'static> {
    let transfer = PacketId::new(number).map_or(Transfer::AtMostOnce, |id| Transfer::AtLeastOnce { id, dup: false });
    Packet::Publish(Publish { topic: "t", payload: b"p", transfer, retain: false })
}

fn opened(keep_alive: u16) -> Connection<u32> {
    let mut connection = Connection::new(at(0), CONFIG, id(100));
    let mut out = Vec::new();
    assert!(matches!(
        connection.handle_packet(at(1), introduction(keep_alive), &mut out),
        Ok(Some(Event::Connect(connect))) if connect.client_id == "dev"
    ));
    assert!(out.is_empty());
    connection.accept(at(2), true, &mut out);
    assert_eq!(out, b"\x20\x02\x01\x00");
    connection
}

fn hand(connection: &mut Connection<u32>, packet: Packet<'static>) -> Result<Option<Event<'static, u32>>, Violation> {
    connection.handle_packet(at(3), packet, &mut Vec::new())
}

#[test]
fn connect_comes_first_and_once() {
    let mut connection: Connection<u32> = Connection::new(at(0), CONFIG, id(1));
    assert_eq!(hand(&mut connection, message(1)), Err(Violation::NotConnected(PacketKind::Publish)));
    assert_eq!(hand(&mut connection, Packet::PingReq), Err(Violation::NotConnected(PacketKind::PingReq)));
    assert!(hand(&mut connection, introduction(60)).is_ok());
    assert_eq!(hand(&mut connection, message(1)), Err(Violation::NotAccepted(PacketKind::Publish)));
    assert_eq!(hand(&mut connection, introduction(60)), Err(Violation::ConnectedTwice));
    assert_eq!(hand(&mut opened(60), introduction(60)), Err(Violation::ConnectedTwice));
}

#[test]
fn nothing_is_sent_to_who_is_not_in() {
    let mut connection = Connection::new(at(0), CONFIG, id(1));
    let mut out = Vec::new();
    connection.accept(at(0), false, &mut out);
    assert_eq!(connection.publish_at_least_once(1, false, &["t"], b"", &mut out), Err(NotSent::NotOpen));
    hand(&mut connection, introduction(60)).unwrap();
    assert_eq!(connection.publish_at_most_once(&["t"], b"", &mut out), Err(NotSent::NotOpen));
    assert!(out.is_empty());
    connection.refuse(ConnectReturn::NotAuthorized, &mut out);
    assert_eq!(out, b"\x20\x02\x00\x05");
    assert_eq!(connection.next_timeout(), None);
    assert_eq!(hand(&mut connection, Packet::PingReq), Err(Violation::Ended(PacketKind::PingReq)));
}

#[test]
fn another_protocol_gets_answer_1() {
    let mut connection: Connection<u32> = Connection::new(at(0), CONFIG, id(1));
    let foreign = Packet::ForeignConnect { protocol: "MQTT", level: 5 };
    assert_eq!(hand(&mut connection, foreign), Ok(Some(Event::ForeignProtocol { protocol: "MQTT", level: 5 })));
    let mut out = Vec::new();
    connection.refuse(ConnectReturn::UnacceptableProtocol, &mut out);
    assert_eq!(out, b"\x20\x02\x00\x01");
}

#[test]
fn who_never_gets_in_is_timed_out() {
    let mut connection: Connection<u32> = Connection::new(at(10), CONFIG, id(1));
    assert_eq!(connection.next_timeout(), Some(at(70)));
    hand(&mut connection, introduction(60)).unwrap();
    assert_eq!(connection.next_timeout(), Some(at(70)), "a slow decision does not hold a connection for ever");
    assert_eq!(connection.handle_timeout(at(69)), None);
    assert_eq!(connection.handle_timeout(at(70)), Some(Expired::Connect(Duration::from_secs(60))));
    assert_eq!(connection.next_timeout(), None);
}

#[test]
fn silence_ends_after_one_and_a_half_keep_alives() {
    for (asked, seconds) in [(60, 90), (1_177, 1_765), (40_000, 1_765), (0, 1_765), (1, 1)] {
        let mut connection = opened(asked);
        let end = connection.next_timeout().unwrap();
        assert_eq!(end.since(at(2)).as_secs(), seconds, "{asked}");
        assert_eq!(connection.handle_timeout(at(2)), None);
        connection.handle_packet(at(500), Packet::PingReq, &mut Vec::new()).unwrap();
        assert_eq!(connection.handle_timeout(end.max(at(500))), None, "{asked}");
        assert!(matches!(connection.handle_timeout(at(500 + seconds + 1)), Some(Expired::KeepAlive(_))));
    }
}

#[test]
fn a_ping_is_answered() {
    let mut out = Vec::new();
    assert_eq!(opened(60).handle_packet(at(3), Packet::PingReq, &mut out), Ok(None));
    assert_eq!(out, b"\xd0\x00");
}

#[test]
fn messages_are_numbered_and_acknowledged_in_order() {
    let (mut connection, mut out) = (opened(60), Vec::new());
    let mut numbers = Vec::new();
    for packet in [message(7), message(0), message(9), message(7)] {
        let Ok(Some(Event::Publish { sequence, .. })) = hand(&mut connection, packet) else { panic!("a message") };
        numbers.push(sequence);
    }
    assert_eq!(numbers, [Some(1), None, Some(2), Some(3)]);
    connection.ack(3, &mut out);
    assert!(out.is_empty());
    connection.ack_through(2, &mut out);
    assert_eq!(out, b"\x40\x02\x00\x07\x40\x02\x00\x09\x40\x02\x00\x07");
    assert_eq!(connection.unacked(), 0);
}

#[test]
fn a_flood_is_bounded() {
    let mut connection = opened(60);
    for number in 1..=4 {
        assert!(connection.may_receive());
        hand(&mut connection, message(number)).unwrap();
    }
    assert!(!connection.may_receive());
    assert_eq!(hand(&mut connection, message(5)), Err(Violation::TooManyUnacked(4)));
    connection.ack_through(1, &mut Vec::new());
    assert!(connection.may_receive());
}

#[test]
fn acknowledgements_may_come_in_any_order_but_for_known_ids() {
    let (mut connection, mut out) = (opened(60), Vec::new());
    for key in 0..1_000_u16 {
        let given = connection.publish_at_least_once(u32::from(key), key == 1, &["a/", "b"], b"x", &mut out);
        assert_eq!(given, Ok(id(100 + key)));
    }
    assert_eq!(&out[..20], b"\x32\x08\x00\x03a/b\x00\x64x\x3a\x08\x00\x03a/b\x00\x65x");
    assert_eq!(connection.publish_at_least_once(9, false, &["a"], b"", &mut out), Err(NotSent::WindowFull));
    assert_eq!((connection.room(), connection.in_flight()), (0, 1_000));
    assert_eq!(hand(&mut connection, Packet::PubAck(id(1_099))), Ok(Some(Event::Acked(999))));
    assert_eq!(hand(&mut connection, Packet::PubAck(id(1_099))), Ok(Some(Event::UnknownAck(id(1_099)))));
    assert_eq!(hand(&mut connection, Packet::PubAck(id(100))), Ok(Some(Event::Acked(0))));
    assert_eq!(connection.publish_at_least_once(9, false, &["a"], b"", &mut out), Ok(id(1_100)));
}

#[test]
fn what_cannot_be_written_takes_no_place() {
    let (mut connection, mut out) = (opened(60), Vec::new());
    assert_eq!(
        connection.publish_at_least_once(1, false, &["a/#"], b"", &mut out),
        Err(NotSent::Encode(EncodeError::Topic))
    );
    assert_eq!(
        connection.publish_at_least_once(1, false, &["a", &"x".repeat(65_535)], b"", &mut out),
        Err(NotSent::Encode(EncodeError::Field(65_536)))
    );
    assert_eq!((connection.in_flight(), out.len()), (0, 0));
}

#[test]
fn subscriptions_get_level_1_at_most() {
    let mut connection = opened(60);
    let bytes = b"\x82\x0e\x00\x0a\x00\x01a\x00\x00\x01b\x01\x00\x01c\x02";
    let mut input = bytes.as_slice();
    let packet = decode(&mut input, &LIMITS).unwrap().unwrap();
    let mut out = Vec::new();
    let Ok(Some(Event::Subscribe(subscribe))) = connection.handle_packet(at(3), packet, &mut out) else {
        panic!("a SUBSCRIBE")
    };
    connection.grant(&subscribe, &mut out).unwrap();
    let Ok(Some(Packet::SubAck(SubAck { id: answered, .. }))) = decode(&mut out.as_slice(), &LIMITS) else {
        panic!("a SUBACK")
    };
    assert_eq!(answered, id(10));
    assert_eq!(out, b"\x90\x05\x00\x0a\x00\x01\x01");
    assert_eq!(Qos::ExactlyOnce.granted(), Qos::AtLeastOnce);
    out.clear();
    connection.unsuback(id(11), &mut out);
    assert_eq!(out, b"\xb0\x02\x00\x0b");
}

#[test]
fn what_clients_must_not_send_ends_the_connection() {
    let twice = Packet::Publish(Publish {
        topic: "t",
        payload: b"",
        transfer: Transfer::ExactlyOnce { id: id(1), dup: false },
        retain: false,
    });
    assert_eq!(hand(&mut opened(60), twice), Err(Violation::ExactlyOnce(PacketKind::Publish)));
    assert_eq!(hand(&mut opened(60), Packet::PubRel(id(1))), Err(Violation::ExactlyOnce(PacketKind::PubRel)));
    assert_eq!(hand(&mut opened(60), Packet::PingResp), Err(Violation::NotFromClients(PacketKind::PingResp)));
    let mut connection = opened(60);
    assert_eq!(hand(&mut connection, Packet::Disconnect), Ok(Some(Event::Disconnect)));
    assert_eq!(hand(&mut connection, message(1)), Err(Violation::Ended(PacketKind::Publish)));
    assert_eq!(connection.next_timeout(), None);
}
