//! A scripted client: sends packets, tells in words what comes back.

use std::time::Duration;

use skerry_mqtt::{Connect, Packet, PacketId, Publish, Qos, Transfer, Will, WireLimits, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::hub::Hub;
use crate::{Peer, mqtt};

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Client {
    stream: DuplexStream,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    last_id: Option<PacketId>,
    pub(crate) greeting: String,
}

impl Client {
    /// A connection on which nothing was said yet.
    pub(crate) fn start(hub: &Hub) -> Self {
        let (stream, theirs) = tokio::io::duplex(4_096);
        let peer = Peer { address: "127.0.0.1:5000".parse().unwrap(), certificates: Vec::new() };
        let task = tokio::task::spawn_local(mqtt::serve(hub.runtime.clone(), theirs, peer));
        hub.tasks.borrow_mut().push(task);
        Self { stream, unread: Vec::new(), unsent: Vec::new(), last_id: None, greeting: String::new() }
    }

    /// A client that is in, with a clean session.
    pub(crate) async fn connected(hub: &Hub, id: &str) -> Self {
        let mut client = Self::start(hub);
        client.connect_good(id, true);
        client.greeting = client.next().await;
        assert!(client.greeting.starts_with("CONNACK 0"), "{}", client.greeting);
        client
    }

    pub(crate) fn connect_good(&mut self, id: &str, clean_session: bool) {
        let user = format!("hub.example/{id}/?api-version=2019-10-01");
        let token = format!("SharedAccessSignature sr=hub.example/devices/{id}&sig=b2s%3D&se=1800000000");
        self.connect(id, &user, &token, clean_session);
    }

    pub(crate) fn connect(&mut self, client_id: &str, user: &str, token: &str, clean_session: bool) {
        self.introduce(client_id, user, token, clean_session, None);
    }

    pub(crate) fn connect_with_will(&mut self, id: &str, topic: &str, payload: &[u8]) {
        let user = format!("hub.example/{id}/?api-version=2019-10-01");
        let token = format!("SharedAccessSignature sr=hub.example/devices/{id}&sig=b2s%3D&se=1800000000");
        self.introduce(id, &user, &token, true, Some(Will { topic, payload, qos: Qos::AtLeastOnce, retain: false }));
    }

    fn introduce(&mut self, client_id: &str, user: &str, token: &str, clean_session: bool, will: Option<Will<'_>>) {
        let connect = Connect {
            client_id,
            clean_session,
            keep_alive: 60,
            will,
            user_name: Some(user),
            password: Some(token.as_bytes()),
        };
        encode::connect(&mut self.unsent, &connect).unwrap();
    }

    pub(crate) fn publish(&mut self, id: u16, topic: &str, payload: &[u8]) {
        self.put(id, topic, payload, false);
    }

    pub(crate) fn publish_retained(&mut self, id: u16, topic: &str, payload: &[u8]) {
        self.put(id, topic, payload, true);
    }

    fn put(&mut self, id: u16, topic: &str, payload: &[u8], retain: bool) {
        let transfer = Transfer::AtLeastOnce { id: PacketId::new(id).unwrap(), dup: false };
        let publish = Publish { topic, payload, transfer, retain };
        encode::packet(&mut self.unsent, &Packet::Publish(publish)).unwrap();
    }

    pub(crate) fn subscribe(&mut self, id: u16, filter: &str, qos: u8) {
        let filters = [(filter, Qos::from_bits(qos).unwrap())];
        encode::subscribe(&mut self.unsent, PacketId::new(id).unwrap(), filters.into_iter()).unwrap();
    }

    pub(crate) fn unsubscribe(&mut self, id: u16, filter: &str) {
        encode::unsubscribe(&mut self.unsent, PacketId::new(id).unwrap(), [filter].into_iter()).unwrap();
    }

    /// Acknowledges the last message that came.
    pub(crate) fn ack_last(&mut self) {
        encode::puback(&mut self.unsent, self.last_id.take().unwrap());
    }

    pub(crate) fn ping(&mut self) {
        encode::pingreq(&mut self.unsent);
    }

    pub(crate) fn leave(&mut self) {
        encode::disconnect(&mut self.unsent);
    }

    pub(crate) fn hang_up(&mut self) {
        let (stream, _) = tokio::io::duplex(1);
        self.stream = stream;
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Sends what is to be sent and lets everybody do what they can without time passing noticeably.
    pub(crate) async fn settle_down(&mut self) {
        let unsent = std::mem::take(&mut self.unsent);
        let _ = self.stream.write_all(&unsent).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// The next thing the server says, in words; `closed` when it closes.
    pub(crate) async fn next(&mut self) -> String {
        self.next_within(PATIENCE).await
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..count {
            said.push(self.next().await);
        }
        said
    }

    pub(crate) async fn next_within(&mut self, patience: Duration) -> String {
        tokio::time::timeout(patience, self.read()).await.unwrap_or_else(|_| "nothing".to_owned())
    }

    pub(crate) async fn expect_silence(&mut self) {
        self.expect_silence_for(Duration::from_secs(1)).await;
    }

    pub(crate) async fn expect_silence_for(&mut self, span: Duration) {
        assert_eq!(self.next_within(span).await, "nothing");
    }

    async fn read(&mut self) -> String {
        let unsent = std::mem::take(&mut self.unsent);
        // A server that has closed already is heard of when reading.
        let _ = self.stream.write_all(&unsent).await;
        loop {
            let mut rest = self.unread.as_slice();
            let limits = WireLimits { packet_bytes_max: 1_000_000, connect_bytes_max: 1_000_000 };
            if let Some(packet) = decode(&mut rest, &limits).unwrap() {
                let said = self::say(&packet);
                if let Packet::Publish(Publish { transfer: Transfer::AtLeastOnce { id, .. }, .. }) = packet {
                    self.last_id = Some(id);
                }
                let consumed = self.unread.len() - rest.len();
                self.unread.drain(..consumed);
                return said;
            }
            if self.stream.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return "closed".to_owned();
            }
        }
    }
}

fn say(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(ack) => format!("CONNACK {} {}", ack.code.byte(), ack.session_present),
        Packet::PubAck(id) => format!("PUBACK {id}"),
        Packet::UnsubAck(id) => format!("UNSUBACK {id}"),
        Packet::PingResp => "PINGRESP".to_owned(),
        Packet::SubAck(ack) => {
            let grants: Vec<_> = ack
                .grants()
                .map(|grant| match grant {
                    skerry_mqtt::Grant::Granted(qos) => qos.bits(),
                    skerry_mqtt::Grant::Failure => 128,
                })
                .collect();
            format!("SUBACK {} {grants:?}", ack.id)
        }
        Packet::Publish(publish) => {
            let qos = u8::from(publish.transfer != Transfer::AtMostOnce);
            format!("PUBLISH {qos} {} {}", publish.topic, String::from_utf8_lossy(publish.payload))
        }
        other => format!("{other:?}"),
    }
}
