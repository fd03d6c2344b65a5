//! What is taken, what is not, and that nothing else happens: tables, captured CONNECTs, properties.

use proptest::prelude::*;

use super::*;
use crate::encode;

const LIMITS: WireLimits = WireLimits { packet_bytes_max: 327_680, connect_bytes_max: 65_536 };

fn one(bytes: &[u8]) -> Result<Option<Packet<'_>>, DecodeError> {
    let mut input = bytes;
    let packet = decode(&mut input, &LIMITS);
    if matches!(packet, Ok(Some(_))) {
        assert!(input.is_empty(), "{} bytes left", input.len());
    } else {
        assert_eq!(input, bytes, "nothing is taken unless a packet is");
    }
    packet
}

fn fault(bytes: &[u8]) -> Fault {
    match one(bytes) {
        Err(DecodeError::Malformed { fault, .. }) => fault,
        other => panic!("{other:?} from {bytes:02x?}"),
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

#[test]
fn the_bytes_of_the_standard_are_read() {
    let connect = b"\x10\x22\x00\x04MQTT\x04\xce\x00\x0a\x00\x01c\x00\x01t\x00\x02wp\x00\x04user\x00\x06secret";
    assert_eq!(
        one(connect),
        Ok(Some(Packet::Connect(Connect {
            client_id: "c",
            clean_session: true,
            keep_alive: 10,
            will: Some(Will { topic: "t", payload: b"wp", qos: Qos::AtLeastOnce, retain: false }),
            user_name: Some("user"),
            password: Some(b"secret"),
        })))
    );
    assert_eq!(
        one(b"\x3b\x08\x00\x03a/b\x00\x0a!"),
        Ok(Some(Packet::Publish(Publish {
            topic: "a/b",
            payload: b"!",
            transfer: Transfer::AtLeastOnce { id: id(10), dup: true },
            retain: true,
        })))
    );
    let Ok(Some(Packet::Subscribe(subscribe))) = one(b"\x82\x0e\x00\x0a\x00\x03a/b\x01\x00\x03c/#\x02") else {
        panic!("a SUBSCRIBE")
    };
    assert!(subscribe.filters().eq([("a/b", Qos::AtLeastOnce), ("c/#", Qos::ExactlyOnce)]));
    assert_eq!(subscribe.id, id(10));
    let Ok(Some(Packet::SubAck(answer))) = one(b"\x90\x05\x00\x0a\x00\x02\x80") else { panic!("a SUBACK") };
    assert!(answer.grants().eq([Grant::Granted(Qos::AtMostOnce), Grant::Granted(Qos::ExactlyOnce), Grant::Failure]));
    let Ok(Some(Packet::Unsubscribe(unsubscribe))) = one(b"\xa2\x07\x00\x0a\x00\x03a/+") else {
        panic!("an UNSUBSCRIBE")
    };
    assert!(unsubscribe.filters().eq(["a/+"]));
    assert_eq!(
        one(b"\x20\x02\x01\x00"),
        Ok(Some(Packet::ConnAck(ConnAck { session_present: true, code: ConnectReturn::Accepted })))
    );
    assert_eq!(
        one(b"\x20\x02\x01\x05"),
        Ok(Some(Packet::ConnAck(ConnAck { session_present: false, code: ConnectReturn::NotAuthorized })))
    );
    assert_eq!(one(b"\x40\x02\x12\x34"), Ok(Some(Packet::PubAck(id(0x1234)))));
    assert_eq!(one(b"\xc0\x00"), Ok(Some(Packet::PingReq)));
    assert_eq!(one(b"\xd0\x00"), Ok(Some(Packet::PingResp)));
    assert_eq!(one(b"\xe0\x00"), Ok(Some(Packet::Disconnect)));
}

#[test]
fn other_protocols_are_told_apart_and_not_read_further() {
    assert_eq!(
        one(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"),
        Ok(Some(Packet::ForeignConnect { protocol: "MQTT", level: 5 }))
    );
    assert_eq!(
        one(b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c"),
        Ok(Some(Packet::ForeignConnect { protocol: "MQIsdp", level: 3 }))
    );
    assert_eq!(
        one(b"\x10\x0d\x00\x04mqtt\x04\x02\x00\x3c\x00\x01c"),
        Ok(Some(Packet::ForeignConnect { protocol: "mqtt", level: 4 }))
    );
}

#[test]
fn first_bytes_that_begin_no_packet_are_refused_at_once() {
    assert_eq!(one(b"\x00"), Err(DecodeError::ReservedType(0)));
    assert_eq!(one(b"\xf0"), Err(DecodeError::ReservedType(15)));
    assert_eq!(one(b"GET / HTTP/1.1"), Err(DecodeError::Flags { kind: PacketKind::PubAck, flags: 7 }));
    assert_eq!(one(b"\x16\x03\x01"), Err(DecodeError::Flags { kind: PacketKind::Connect, flags: 6 }));
    assert_eq!(one(b"\x80\x06"), Err(DecodeError::Flags { kind: PacketKind::Subscribe, flags: 0 }));
    assert_eq!(one(b"\x60\x02\x00\x01"), Err(DecodeError::Flags { kind: PacketKind::PubRel, flags: 0 }));
}

#[test]
fn the_length_has_four_bytes_at_most_and_needs_not_be_short() {
    assert_eq!(one(b"\x30\x80\x80\x80\x80\x01"), Err(DecodeError::LengthEncoding(PacketKind::Publish)));
    assert_eq!(one(b"\x30\x80\x80\x80\x80"), Err(DecodeError::LengthEncoding(PacketKind::Publish)));
    assert_eq!(one(b"\xc0\x80\x80\x00"), Ok(Some(Packet::PingReq)));
    assert_eq!(one(b"\x30\x80\x80\x80"), Ok(None));
}

#[test]
fn too_large_is_seen_with_the_length_alone() {
    let limits = WireLimits { packet_bytes_max: 130, connect_bytes_max: 20 };
    assert_eq!(
        head(b"\x30\x80\x01", &limits),
        Err(DecodeError::TooLarge { kind: PacketKind::Publish, bytes: 131, bytes_max: 130 })
    );
    assert_eq!(head(b"\x30\x7f", &limits).map(|head| head.map(|head| head.packet_bytes)), Ok(Some(129)));
    assert_eq!(
        head(b"\x10\x13", &limits),
        Err(DecodeError::TooLarge { kind: PacketKind::Connect, bytes: 21, bytes_max: 20 })
    );
    let limits = WireLimits::from(&skerry_model::Limits::default());
    assert_eq!(limits, LIMITS);
}

#[test]
fn what_is_malformed_says_why() {
    let cases: &[(&[u8], Fault)] = &[
        (b"\x36\x05\x00\x01a\x00\x01", Fault::Qos),
        (b"\x38\x03\x00\x01a", Fault::DupWithoutQos),
        (b"\x30\x02\x00\x00", Fault::Topic),
        (b"\x30\x05\x00\x03a/#", Fault::Topic),
        (b"\x30\x03\x00\x01+", Fault::Topic),
        (b"\x30\x03\x00\x01\x00", Fault::Topic),
        (b"\x30\x03\x00\x01\xff", Fault::NotUtf8),
        (b"\x30\x05\x00\x03\xed\xa0\x80", Fault::NotUtf8),
        (b"\x30\x03\x00\x05a", Fault::Ends),
        (b"\x32\x05\x00\x01a\x00\x00", Fault::PacketIdZero),
        (b"\x32\x04\x00\x01a\x00", Fault::Ends),
        (b"\x40\x02\x00\x00", Fault::PacketIdZero),
        (b"\x40\x03\x00\x01\x00", Fault::Trailing(1)),
        (b"\x40\x01\x00", Fault::Ends),
        (b"\xc0\x01\x00", Fault::Trailing(1)),
        (b"\x82\x02\x00\x01", Fault::EmptyList),
        (b"\x82\x05\x00\x01\x00\x01a", Fault::Ends),
        (b"\x82\x06\x00\x01\x00\x01a\x03", Fault::Qos),
        (b"\x82\x06\x00\x01\x00\x01a\x04", Fault::Qos),
        (b"\x82\x07\x00\x01\x00\x02a#\x00", Fault::Filter),
        (b"\x82\x05\x00\x01\x00\x00\x00", Fault::Filter),
        (b"\xa2\x02\x00\x01", Fault::EmptyList),
        (b"\xa2\x05\x00\x01\x00\x01\x00", Fault::Nul),
        (b"\x90\x02\x00\x01", Fault::EmptyList),
        (b"\x90\x03\x00\x01\x03", Fault::ReturnCode(3)),
        (b"\x20\x02\x02\x00", Fault::AckFlags(2)),
        (b"\x20\x02\x00\x06", Fault::ReturnCode(6)),
        (b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01c", Fault::ConnectFlags(3)),
        (b"\x10\x0d\x00\x04MQTT\x04\x22\x00\x3c\x00\x01c", Fault::ConnectFlags(0x22)),
        (b"\x10\x0d\x00\x04MQTT\x04\x0a\x00\x3c\x00\x01c", Fault::ConnectFlags(0x0a)),
        (b"\x10\x0d\x00\x04MQTT\x04\x1e\x00\x3c\x00\x01c", Fault::Qos),
        (b"\x10\x10\x00\x04MQTT\x04\x42\x00\x3c\x00\x01c\x00\x01p", Fault::ConnectFlags(0x42)),
        (b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c!", Fault::Trailing(1)),
        (b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\x00", Fault::Nul),
        (b"\x10\x0d\x00\x04MQTT\x04\x82\x00\x3c\x00\x01c", Fault::Ends),
    ];
    for (bytes, expected) in cases {
        assert_eq!(fault(bytes), *expected, "{bytes:02x?}");
    }
}

#[test]
fn an_error_names_the_packet_and_never_shows_a_password() {
    let error = one(b"\x82\x06\x00\x01\x00\x01a\x03").unwrap_err();
    assert_eq!(error.to_string(), "SUBSCRIBE: an unknown QoS");
    let connect = b"\x10\x15\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x01u\x00\x03key";
    let shown = format!("{:?}", one(connect).unwrap());
    assert!(shown.contains("user_name: Some(\"u\")") && !shown.contains("107"), "{shown}");
}

#[test]
fn captured_connects_of_device_sdks_are_read() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/mqtt-connect.json")).unwrap();
    let captured = vectors["captured"].as_array().unwrap();
    assert!(captured.len() > 20);
    for case in captured {
        let wanted = &case["connect"];
        assert_eq!((wanted["protocolName"].as_str(), wanted["protocolLevel"].as_u64()), (Some("MQTT"), Some(4)));
        assert_eq!(wanted["will"], false);
        let connect = Connect {
            client_id: wanted["clientId"].as_str().unwrap(),
            clean_session: wanted["cleanSession"].as_bool().unwrap(),
            keep_alive: u16::try_from(wanted["keepAliveSeconds"].as_u64().unwrap()).unwrap(),
            will: None,
            user_name: wanted["username"].as_str(),
            password: wanted["password"].as_str().map(str::as_bytes),
        };
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect).unwrap();
        assert_eq!(one(&bytes), Ok(Some(Packet::Connect(connect))), "{}", case["id"]);
    }
}

/// Bytes of a random packet that is well formed, and of which length is left for the rest.
fn packet_bytes() -> impl Strategy<Value = Vec<u8>> {
    let topic = "[a-zA-Z0-9/$?=&% äß€😀-]{1,30}";
    let filter = "(#|a/\\+/b/#|[a-zäß€/$ ]{1,30})";
    let qos = (0_u8..3).prop_map(|bits| Qos::from_bits(bits).unwrap());
    let bytes = |max: usize| proptest::collection::vec(any::<u8>(), 0..max);
    let id = (1_u16..).prop_map(id);
    let write = |write: &dyn Fn(&mut Vec<u8>) -> Result<(), encode::EncodeError>| {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        out
    };
    let transfer = (qos.clone(), id.clone(), any::<bool>()).prop_map(|(qos, id, dup)| match qos {
        Qos::AtMostOnce => Transfer::AtMostOnce,
        Qos::AtLeastOnce => Transfer::AtLeastOnce { id, dup },
        Qos::ExactlyOnce => Transfer::ExactlyOnce { id, dup },
    });
    let publish = (transfer, any::<bool>(), topic, bytes(300)).prop_map(move |(transfer, retain, topic, payload)| {
        write(&|out| {
            let (first, second) = topic.split_at(topic.char_indices().nth(1).map_or(topic.len(), |(at, _)| at));
            encode::publish(out, transfer, retain, &[first, second], &payload)
        })
    });
    let will = proptest::option::of((topic, bytes(40), qos.clone(), any::<bool>()));
    let user = proptest::option::of(("[^\0]{0,20}", proptest::option::of(bytes(20))));
    let connect = ("[^\0]{0,20}", any::<bool>(), any::<u16>(), will, user).prop_map(
        move |(client_id, clean_session, keep_alive, will, user)| {
            let connect = Connect {
                client_id: &client_id,
                clean_session,
                keep_alive,
                will: will.as_ref().map(|(topic, payload, qos, retain)| Will {
                    topic,
                    payload,
                    qos: *qos,
                    retain: *retain,
                }),
                user_name: user.as_ref().map(|(name, _)| name.as_str()),
                password: user.as_ref().and_then(|(_, password)| password.as_deref()),
            };
            let bytes = write(&|out| encode::connect(out, &connect));
            assert_eq!(one(&bytes), Ok(Some(Packet::Connect(connect))));
            bytes
        },
    );
    let filters = proptest::collection::vec((filter, qos), 1..5);
    let subscribe = (id.clone(), filters.clone()).prop_map(move |(id, filters)| {
        write(&|out| encode::subscribe(out, id, filters.iter().map(|(filter, qos)| (filter.as_str(), *qos))))
    });
    let unsubscribe = (id.clone(), filters).prop_map(move |(id, filters)| {
        write(&|out| encode::unsubscribe(out, id, filters.iter().map(|(filter, _)| filter.as_str())))
    });
    let grants = proptest::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 0x80]), 1..6);
    let suback = (id.clone(), grants).prop_map(move |(id, grants)| {
        write(&|out| encode::suback(out, id, grants.iter().map(|byte| Grant::from_byte(*byte).unwrap())))
    });
    let connack = (any::<bool>(), 0_u8..6).prop_map(move |(present, code)| {
        let code = ConnectReturn::from_byte(code).unwrap();
        let session_present = present && code == ConnectReturn::Accepted;
        write(&|out| encode::packet(out, &Packet::ConnAck(ConnAck { session_present, code })))
    });
    let small = (0_usize..8, id).prop_map(move |(which, id)| {
        let packets = [
            Packet::PubAck(id),
            Packet::PubRec(id),
            Packet::PubRel(id),
            Packet::PubComp(id),
            Packet::UnsubAck(id),
            Packet::PingReq,
            Packet::PingResp,
            Packet::Disconnect,
        ];
        write(&|out| encode::packet(out, &packets[which]))
    });
    prop_oneof![publish, connect, subscribe, unsubscribe, suback, connack, small]
}

/// Takes packets until none is complete; each is written again.
fn drain(buffer: &mut Vec<u8>, seen: &mut Vec<Vec<u8>>) -> Result<(), DecodeError> {
    let mut input = buffer.as_slice();
    while let Some(packet) = decode(&mut input, &LIMITS)? {
        let mut bytes = Vec::new();
        encode::packet(&mut bytes, &packet).unwrap();
        seen.push(bytes);
    }
    let left = input.len();
    buffer.drain(..buffer.len() - left);
    Ok(())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(bytes in packet_bytes()) {
        let packet = one(&bytes).unwrap().unwrap();
        let mut again = Vec::new();
        encode::packet(&mut again, &packet).unwrap();
        prop_assert_eq!(&again, &bytes);
        let head = head(&bytes[..bytes.len().min(5)], &LIMITS).unwrap().unwrap();
        prop_assert_eq!((head.kind, head.packet_bytes), (packet.kind(), bytes.len()));
    }

    #[test]
    fn where_the_stream_is_cut_makes_no_difference(
        packets in proptest::collection::vec(packet_bytes(), 1..6),
        cuts in proptest::collection::vec(1_usize..80, 1..20),
    ) {
        let stream = packets.concat();
        let (mut rest, mut buffer, mut seen) = (stream.as_slice(), Vec::new(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (part, later) = rest.split_at((*cut).min(rest.len()));
            buffer.extend_from_slice(part);
            drain(&mut buffer, &mut seen).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(seen, packets);
    }

    #[test]
    fn a_packet_with_one_wrong_byte_never_panics(bytes in packet_bytes(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = drain(&mut bytes, &mut Vec::new());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_what_is_taken_is_stable(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut input = bytes.as_slice();
        while let Ok(Some(packet)) = decode(&mut input, &LIMITS) {
            let mut again = Vec::new();
            encode::packet(&mut again, &packet).unwrap();
            if !matches!(packet, Packet::ForeignConnect { .. }) {
                prop_assert_eq!(one(&again), Ok(Some(packet)));
            }
        }
    }
}
