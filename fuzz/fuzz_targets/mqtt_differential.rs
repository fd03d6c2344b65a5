//! Our MQTT decoder beside that of `mqtt-protocol-core`: what ours takes, the other takes too and reads the same. (The other
//! direction does not hold: ours is stricter with flags, wildcards and NUL characters.)

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mqtt_protocol_core::mqtt::packet::v3_1_1 as other;
use skerry_mqtt::{Packet, Transfer, WireLimits, decode, encode};

fuzz_target!(|data: &[u8]| {
    let limits = WireLimits { packet_bytes_max: 4_096, connect_bytes_max: 4_096 };
    let mut input = data;
    while let Ok(Some(packet)) = decode(&mut input, &limits) {
        // Written again, so that the length is in its shortest form.
        let mut bytes = Vec::new();
        encode::packet(&mut bytes, &packet).expect("what was read can be written");
        compare(&packet, &bytes);
    }
});

fn compare(packet: &Packet<'_>, bytes: &[u8]) {
    let body_at = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0).expect("a length") + 1;
    let body = &bytes[body_at..];
    let written = match packet {
        Packet::Publish(ours) => {
            let (theirs, used) = other::Publish::parse(bytes[0] & 0x0f, Arc::from(body)).expect("a PUBLISH");
            assert_eq!(used, body.len());
            assert_eq!((theirs.topic_name(), theirs.payload().as_slice()), (ours.topic, ours.payload));
            assert_eq!((theirs.qos() as u8, theirs.retain()), (bytes[0] >> 1 & 3, ours.retain));
            match ours.transfer {
                Transfer::AtMostOnce => assert_eq!((theirs.packet_id(), theirs.dup()), (None, false)),
                Transfer::AtLeastOnce { id, dup } | Transfer::ExactlyOnce { id, dup } => {
                    assert_eq!((theirs.packet_id(), theirs.dup()), (Some(id.get()), dup));
                }
            }
            theirs.to_continuous_buffer()
        }
        Packet::Connect(ours) => {
            let (theirs, used) = other::Connect::parse(body).expect("a CONNECT");
            assert_eq!(used, body.len());
            assert_eq!(
                (theirs.client_id(), theirs.user_name(), theirs.keep_alive(), theirs.clean_session()),
                (ours.client_id, ours.user_name, ours.keep_alive, ours.clean_session)
            );
            assert_eq!((theirs.password(), theirs.will_topic()), (ours.password, ours.will.map(|will| will.topic)));
            theirs.to_continuous_buffer()
        }
        Packet::Subscribe(ours) => {
            let (theirs, _) = other::Subscribe::parse(body).expect("a SUBSCRIBE");
            let read = theirs.entries().iter().map(|entry| (entry.topic_filter(), entry.sub_opts().qos() as u8));
            assert!(read.eq(ours.filters().map(|(filter, qos)| (filter, qos.bits()))));
            theirs.to_continuous_buffer()
        }
        Packet::Unsubscribe(ours) => {
            let (theirs, _) = other::Unsubscribe::parse(body).expect("an UNSUBSCRIBE");
            assert!(theirs.entries().iter().map(|entry| entry.as_str()).eq(ours.filters()));
            theirs.to_continuous_buffer()
        }
        Packet::ConnAck(_) => other::Connack::parse(body).expect("a CONNACK").0.to_continuous_buffer(),
        Packet::PubAck(_) => other::Puback::parse(body).expect("a PUBACK").0.to_continuous_buffer(),
        Packet::PubRec(_) => other::Pubrec::parse(body).expect("a PUBREC").0.to_continuous_buffer(),
        Packet::PubRel(_) => other::Pubrel::parse(body).expect("a PUBREL").0.to_continuous_buffer(),
        Packet::PubComp(_) => other::Pubcomp::parse(body).expect("a PUBCOMP").0.to_continuous_buffer(),
        Packet::SubAck(_) => other::Suback::parse(body).expect("a SUBACK").0.to_continuous_buffer(),
        Packet::UnsubAck(_) => other::Unsuback::parse(body).expect("an UNSUBACK").0.to_continuous_buffer(),
        Packet::ForeignConnect { .. } | Packet::PingReq | Packet::PingResp | Packet::Disconnect => return,
    };
    assert_eq!(written, bytes);
}
