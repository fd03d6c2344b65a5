//! Messages: order, window, watermark, and what is said when a connection is lost.

use std::time::Duration;

use skerry_model::{AuthChain, ClientId, ErrorCode, Ticket};
use skerry_uplink::{Ended, Limits, NotAppended, SendError, State};

use crate::world::{Said, World, state};

const TOPIC: &str = "devices/edge/modules/mod/messages/events/";

#[tokio::test(start_paused = true)]
async fn many_are_in_flight_in_order_and_the_watermark_follows() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    assert_eq!(hub.client_id, "edge/mod");
    assert_eq!(hub.user_name, "contoso.example/edge/mod/?api-version=2020-09-30&DeviceClientType=test%2F1");
    assert!(hub.password.starts_with("SharedAccessSignature sr=contoso.example%2Fdevices%2Fedge%2Fmodules%2Fmod&"));
    assert!(hub.clean_session);

    let link = session.link().await.unwrap();
    for number in 1..=500_u64 {
        assert_eq!(link.append("a=b", number.to_string().as_bytes()), Ok(Ticket(number)));
    }
    for number in 1..=500_u64 {
        let expected = Said::Publish { topic: format!("{TOPIC}a=b"), payload: number.to_string(), sequence: number };
        assert_eq!(hub.next().await, expected);
    }
    assert_eq!(link.acked(), Ticket(0));
    hub.ack_through(120).await;
    assert_eq!(link.acked_beyond(Ticket(0)).await.unwrap(), Ticket(120));
    hub.ack_through(500).await;
    assert_eq!(link.acked_beyond(Ticket(499)).await.unwrap(), Ticket(500));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_out_of_order_move_the_watermark_only_when_the_gap_closes() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    for _ in 0..3 {
        link.append("", b"x").unwrap();
    }
    hub.payloads(3).await;
    hub.write(b"\x40\x02\x00\x03\x40\x02\x00\x01").await;
    assert_eq!(link.acked_beyond(Ticket(0)).await.unwrap(), Ticket(1));
    hub.write(b"\x40\x02\x00\x02").await;
    assert_eq!(link.acked_beyond(Ticket(1)).await.unwrap(), Ticket(3));
}

#[tokio::test(start_paused = true)]
async fn a_full_window_says_so_and_when_there_is_room() {
    let mut world = World::new(Limits { window_messages: 2, ..Limits::default() });
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    link.append("", b"1").unwrap();
    link.append("", b"2").unwrap();
    assert_eq!(link.append("", b"3"), Err(NotAppended::Full));
    let waiting = tokio::spawn({
        let link = link.clone();
        async move { link.room().await.is_ok() }
    });
    hub.payloads(2).await;
    assert!(!waiting.is_finished());
    hub.ack_through(1).await;
    assert!(waiting.await.unwrap());
    assert_eq!(link.append("", b"3"), Ok(Ticket(3)));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_nobody_reads_are_bounded() {
    let mut world = World::new(Limits { out_bytes_max: 100_000, ..Limits::default() });
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    let body = vec![b'x'; 60_000];
    let mut taken = 0;
    loop {
        match link.append("", &body) {
            Ok(_) => taken += 1,
            Err(NotAppended::Full) => break,
            Err(other) => panic!("{other}"),
        }
        tokio::task::yield_now().await;
    }
    assert!((2..10).contains(&taken), "{taken}");
    let (room, heard) = tokio::join!(link.room(), hub.payloads(taken));
    assert!(room.is_ok());
    assert_eq!(heard.len(), taken);
}

#[tokio::test(start_paused = true)]
async fn a_loss_tells_what_the_hub_has_and_the_next_link_goes_on_from_there() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    for number in 1..=10 {
        link.append("", number.to_string().as_bytes()).unwrap();
    }
    hub.payloads(10).await;
    hub.ack_through(6).await;
    drop(hub);
    let lost = link.lost().await;
    assert_eq!(lost.acked, Ticket(6));
    assert!(matches!(*lost.reason, Ended::ByHub));
    assert_eq!(link.append("", b"11"), Err(NotAppended::Ending));
    assert!(link.room().await.is_err());

    let mut hub = world.connected().await;
    let next = session.link().await.unwrap();
    assert_eq!((link.number(), next.number()), (1, 2));
    assert_eq!(link.append("", b"7"), Err(NotAppended::Ending), "what is lost stays lost");
    for (ticket, number) in (lost.acked.0 + 1..=10).enumerate() {
        assert_eq!(next.append("", number.to_string().as_bytes()), Ok(Ticket(ticket as u64 + 1)));
    }
    assert_eq!(hub.payloads(4).await, ["7", "8", "9", "10"]);
    // The old link stays what it was, even though the new connection knows these numbers.
    hub.ack_through(4).await;
    assert_eq!(next.acked_beyond(Ticket(3)).await.unwrap(), Ticket(4));
    assert_eq!(link.acked(), Ticket(6));
}

#[tokio::test(start_paused = true)]
async fn what_the_hub_would_never_take_is_refused_here() {
    let mut world = World::new(Limits { message_bytes_max: 10, ..Limits::default() });
    let session = world.open();
    let _hub = world.connected().await;
    let link = session.link().await.unwrap();
    let code = |properties: &str, body: &[u8]| match link.append(properties, body) {
        Err(NotAppended::Refused(error)) => Some(error.code),
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(code("", b"12345678901"), Some(ErrorCode::TooLarge));
    assert_eq!(code("%24.ct=12345678", b"12"), None, "names of system properties do not count");
    assert_eq!(code("a=1&b=2", b"1234567"), Some(ErrorCode::TooLarge));
    assert_eq!(code("a=#", b""), Some(ErrorCode::ArgumentInvalid));
    let refused = session.send("", b"12345678901").await;
    assert!(matches!(refused, Err(SendError::Refused(error)) if error.code == ErrorCode::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn send_goes_on_until_the_hub_has_it() {
    let mut world = World::new(Limits::default());
    let session = std::sync::Arc::new(world.open());
    let sending = tokio::spawn({
        let session = std::sync::Arc::clone(&session);
        async move { session.send("p=1", b"hello").await }
    });
    let mut hub = world.connected().await;
    assert_eq!(hub.payloads(1).await, ["hello"]);
    drop(hub);
    let mut hub = world.connected().await;
    assert_eq!(hub.payloads(1).await, ["hello"]);
    assert!(!sending.is_finished());
    hub.ack_through(1).await;
    // The acknowledgement and the end of the connection are seen together.
    drop(hub);
    assert_eq!(sending.await.unwrap(), Ok(()));
    let mut hub = world.connected().await;
    assert!(hub.silent_for(Duration::from_secs(5)).await, "it is not sent again");
}

#[tokio::test(start_paused = true)]
async fn an_edge_hub_speaks_for_others_with_its_own_token() {
    let mut world = World::new(Limits::default());
    let chain = AuthChain::parse("leaf;edge2;edge1").unwrap();
    let session = world.uplink.open(ClientId::parse("leaf").unwrap(), Some(chain));
    let mut hub = world.connected().await;
    assert_eq!(hub.client_id, "leaf");
    assert!(hub.user_name.ends_with("&auth-chain=leaf%3Bedge2%3Bedge1"), "{}", hub.user_name);
    let resource = "sr=contoso.example%2Fdevices%2Fedge1%2Fmodules%2F%24edgeHub&";
    assert!(hub.password.contains(resource), "{}", hub.password);
    session.link().await.unwrap().append("", b"x").unwrap();
    assert!(matches!(hub.next().await, Said::Publish { topic, .. } if topic == "devices/leaf/messages/events/"));
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_in_flight_for_a_while() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    link.append("", b"1").unwrap();
    let closing = tokio::spawn(async move { session.close().await });
    hub.payloads(1).await;
    assert_eq!(link.append("", b"2"), Err(NotAppended::Ending));
    assert!(hub.silent_for(Duration::from_secs(4)).await);
    hub.ack_through(1).await;
    assert_eq!(hub.next().await, Said::Disconnect);
    assert_eq!(hub.next().await, Said::End);
    closing.await.unwrap();
    let lost = link.lost().await;
    assert_eq!(lost.acked, Ticket(1));
    assert!(matches!(*lost.reason, Ended::Closed));
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    link.append("", b"1").unwrap();
    let begin = world.seconds();
    let ((), lost) = tokio::join!(session.close(), link.lost());
    assert!((4.9..8.0).contains(&(world.seconds() - begin)));
    assert_eq!(lost.acked, Ticket(0));
    hub.payloads(1).await;
    assert_eq!(hub.next().await, Said::Disconnect);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_session_ends_the_connection() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    state(&session, |state| matches!(state, State::Connected { number: 1 })).await;
    let mut watched = session.state();
    drop(session);
    assert_eq!(hub.next().await, Said::Disconnect);
    assert_eq!(hub.next().await, Said::End);
    watched.wait_for(|state| matches!(state, State::Closed)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_words_get_out_though_the_hub_still_talks() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    for _ in 0..3 {
        link.append("", &[b'x'; 60_000]).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(session);
    tokio::time::sleep(Duration::from_millis(1)).await;
    // More than the stream holds is still to be written when this arrives behind the client's last word.
    hub.publish(1, "devices/edge/modules/mod/inputs/in1/", "late").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(hub.payloads(3).await.len(), 3);
    assert_eq!(hub.next().await, Said::Disconnect);
    assert!(matches!(*link.lost().await.reason, Ended::Closed));
}
