//! Any bytes as an MQTT stream: nothing panics, what is taken can be written and read again, and where the stream is cut makes no
//! difference. The packets also go through both ends of a connection.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skerry_model::{Limits, Monotonic};
use skerry_mqtt::{ConnAck, ConnectReturn, Packet, PacketId, WireLimits, client, decode, encode, head, server};

fuzz_target!(|data: &[u8]| {
    let limits = WireLimits { packet_bytes_max: 4_096, connect_bytes_max: 1_024 };
    let now = Monotonic::default();
    let mut out = Vec::new();
    let mut server: server::Connection<u8> =
        server::Connection::new(now, server::Config::from(&Limits::default()), PacketId::MIN);
    let hello = skerry_mqtt::Connect {
        client_id: "c",
        clean_session: true,
        keep_alive: 60,
        will: None,
        user_name: None,
        password: None,
    };
    let mut client: client::Connection<u8> =
        client::Connection::open(now, client::Config::default(), &hello, &mut out).expect("a valid CONNECT");
    let welcome = ConnAck { session_present: false, code: ConnectReturn::Accepted };
    let _ = client.handle_packet(now, Packet::ConnAck(welcome));

    let mut input = data;
    loop {
        let before = input;
        let packet = match decode(&mut input, &limits) {
            Ok(Some(packet)) => packet,
            Ok(None) => {
                if let Ok(Some(head)) = head(before, &limits) {
                    assert!(before.len() < head.packet_bytes);
                }
                break;
            }
            Err(_) => break,
        };
        let taken = before.len() - input.len();
        // A packet without its last byte is incomplete, never something else.
        assert!(matches!(decode(&mut &before[..taken - 1], &limits), Ok(None)));
        out.clear();
        encode::packet(&mut out, &packet).expect("what was read can be written");
        if !matches!(packet, Packet::ForeignConnect { .. }) {
            assert_eq!(decode(&mut out.as_slice(), &limits), Ok(Some(packet)));
        }
        if let Ok(Some(server::Event::Connect(_))) = server.handle_packet(now, packet, &mut out) {
            server.accept(now, false, &mut out);
            let _ = server.publish_at_least_once(1, false, &["t"], b"p", &mut out);
        }
        let _ = client.handle_packet(now, packet);
        let _ = client.publish_at_least_once(1, false, &["t"], b"p", &mut out);
    }
});
