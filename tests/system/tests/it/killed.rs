//! SIGKILL of the hub and of the edge while clients send: what was acknowledged is there afterwards.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::peer::{Heard, Login, Peer, Server};
use crate::site::{At, Site};

/// Messages that a sender has in flight at most.
const WINDOW: u16 = 50;

/// A sender that numbers its messages and keeps a ledger of those that were acknowledged.
struct Sender {
    peer: Peer,
    topic: String,
    sent: u64,
    acknowledged: Vec<u64>,
    /// Packet id and number of what is in flight, the oldest first.
    in_flight: std::collections::VecDeque<(u16, u64)>,
}

impl Sender {
    fn new(server: &Server, login: &Login, topic: String) -> Self {
        let peer = server.login(login);
        Self { peer, topic, sent: 0, acknowledged: Vec::new(), in_flight: std::collections::VecDeque::new() }
    }

    /// Keeps the window full until `count` more messages are acknowledged.
    fn send_until_acknowledged(&mut self, count: usize) {
        let wanted = self.acknowledged.len() + count;
        while self.acknowledged.len() < wanted {
            self.fill();
            assert!(self.take_one(), "the connection was lost");
        }
    }

    fn fill(&mut self) {
        while self.in_flight.len() < usize::from(WINDOW) {
            let id = u16::try_from(self.sent % 60_000).unwrap() + 1;
            self.peer.publish(id, &self.topic, self.sent.to_string().as_bytes());
            self.in_flight.push_back((id, self.sent));
            self.sent += 1;
        }
    }

    /// Takes one acknowledgement; false at the end of the connection.
    fn take_one(&mut self) -> bool {
        match self.peer.hear() {
            Heard::PubAck(id) => {
                let (expected, number) = self.in_flight.pop_front().unwrap();
                assert_eq!(id, expected, "acknowledged in order");
                self.acknowledged.push(number);
                true
            }
            Heard::Closed => false,
            other => panic!("an acknowledgement was expected, not {other:?}"),
        }
    }

    /// What the server had still said when it was killed.
    fn take_the_rest(&mut self) {
        while self.take_one() {}
    }

    /// Comes again after a kill and sends once more what was not acknowledged.
    fn come_again(&mut self, server: &Server, login: &Login) {
        self.peer = server.login(login);
        for (id, number) in &self.in_flight {
            self.peer.publish(*id, &self.topic, number.to_string().as_bytes());
        }
    }
}

#[test]
fn what_the_hub_acknowledged_survives_sigkill_and_is_read_from_an_offset() {
    let mut site = Site::start(At::Hub);
    let login = site.device("dev-1");
    let server = site.server();
    let mut sender = Sender::new(&server, &login, format!("{}/messages/events/", login.topics()));
    for _ in 0..3 {
        sender.send_until_acknowledged(200);
        sender.fill();
        site.hub.kill();
        sender.take_the_rest();
        site.hub.start_again();
        sender.come_again(&server, &login);
    }
    while !sender.in_flight.is_empty() {
        assert!(sender.take_one());
    }
    let mut numbers = Vec::new();
    let mut events = site.hub.events();
    let all = events.all_now();
    for event in &all {
        numbers.push(event["body"].as_str().unwrap().parse::<u64>().unwrap());
    }
    let there: BTreeSet<u64> = numbers.iter().copied().collect();
    let missing: Vec<_> = sender.acknowledged.iter().filter(|number| !there.contains(number)).collect();
    assert_eq!(missing, Vec::<&u64>::new(), "acknowledged but not there");
    // A message is stored again only when its sender had to send it again.
    assert!(numbers.len() - there.len() <= 3 * usize::from(WINDOW), "{} messages twice", numbers.len() - there.len());
    let firsts = numbers.iter().scan(None, |last, number| {
        let is_new = last.is_none_or(|last| last < *number);
        *last = (*last).max(Some(*number));
        Some(is_new.then_some(*number))
    });
    assert!(firsts.flatten().eq(there.iter().copied()), "in the order they were sent");

    // From the middle on, over the command line.
    let middle = &all[all.len() / 2];
    let (partition, sequence) = (&middle["partition"], middle["sequence"].as_u64().unwrap());
    let from = format!("{partition}:{sequence}");
    let told = site.cli(&["events", "--from", &from, "--partition", &partition.to_string(), "--no-follow", "--json"]);
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.first().map(|line| &line["body"]), Some(&middle["body"]));
    assert_eq!(lines.len(), all.len() - all.len() / 2, "and nothing is left out");
}

#[test]
fn what_the_edge_acknowledged_survives_sigkill_of_edge_and_hub() {
    let mut site = Site::start(At::Edge);
    let login = site.device("dev-1");
    let server = site.server();
    let mut sender = Sender::new(&server, &login, format!("{}/messages/events/", login.topics()));
    sender.send_until_acknowledged(200);
    site.hub.kill();
    sender.send_until_acknowledged(200);
    sender.fill();
    site.edge().kill();
    sender.take_the_rest();
    site.edge().start_again();
    site.edge().wait_until_listening();
    sender.come_again(&server, &login);
    sender.send_until_acknowledged(100);
    site.hub.start_again();
    while !sender.in_flight.is_empty() {
        assert!(sender.take_one());
    }
    let mut missing: BTreeSet<u64> = sender.acknowledged.iter().copied().collect();
    let mut events = site.hub.events();
    while !missing.is_empty() {
        let event = events.next_event();
        missing.remove(&event["body"].as_str().unwrap().parse().unwrap());
    }
}

/// Module `ping` sends numbers to `pong`, which sends each back; the edge is killed in the middle.
#[test]
fn two_modules_exchange_messages_over_routes_through_sigkill_of_the_edge() {
    let mut site = Site::start(At::Edge);
    let routes = json!({
        "there": r#"FROM /messages/modules/ping/outputs/out INTO BrokeredEndpoint("/modules/pong/inputs/in")"#,
        "back": r#"FROM /messages/modules/pong/outputs/out INTO BrokeredEndpoint("/modules/ping/inputs/in")"#,
    });
    let logins = ["ping", "pong"].map(|name| Login::new(&site.hub.create_module("edge-1", name)));
    let mark = site.log("routes are in force").len();
    site.deploy(&routes);
    skerry_testkit::eventually("the routes are in force", || {
        (mark < site.log("routes are in force").len()).then_some(())
    });
    let server = site.server();
    let [mut ping, mut pong] = logins.each_ref().map(|login| Module::new(&server, login));

    ping.send(0);
    for number in 0..20 {
        assert_eq!(pong.receive(), number);
        pong.send(number);
        assert_eq!(ping.receive(), number);
        ping.send(number + 1);
    }
    // Acknowledged while the receiver is away, then the edge is killed: all of it arrives, in order. Only what was received in
    // the last moments before the kill may come again.
    drop(pong);
    for number in 21..40 {
        ping.send(number);
    }
    site.edge().kill();
    site.edge().start_again();
    site.edge().wait_until_listening();
    let [mut ping, mut pong] = logins.each_ref().map(|login| Module::new(&server, login));
    for number in 20..40 {
        assert_eq!(pong.receive_from(20), number);
        pong.send(number);
    }
    for number in 20..40 {
        assert_eq!(ping.receive_from(20), number);
    }
    ping.send(40);
    assert_eq!(pong.receive(), 40, "and it goes on");
}

/// A module of an edge that takes numbers at its input and sends numbers from its output.
struct Module {
    peer: Peer,
    topic: String,
    /// What came while an acknowledgement was waited for.
    received: std::collections::VecDeque<u64>,
}

impl Module {
    fn new(server: &Server, login: &Login) -> Self {
        let mut peer = server.login(login);
        peer.subscribe(&format!("{}/inputs/#", login.topics()));
        let topic = format!("{}/messages/events/%24.on=out", login.topics());
        Self { peer, topic, received: std::collections::VecDeque::new() }
    }

    /// Sends a number and waits until it is acknowledged.
    #[track_caller]
    fn send(&mut self, number: u64) {
        self.peer.publish(1, &self.topic, number.to_string().as_bytes());
        while !self.hear() {}
    }

    /// The next number at the input.
    #[track_caller]
    fn receive(&mut self) -> u64 {
        while self.received.is_empty() {
            self.hear();
        }
        self.received.pop_front().unwrap_or_default()
    }

    /// The next number at the input, past those that were received before.
    #[track_caller]
    fn receive_from(&mut self, first: u64) -> u64 {
        loop {
            let number = self.receive();
            if first <= number {
                return number;
            }
        }
    }

    /// Takes what comes next; whether it was an acknowledgement.
    #[track_caller]
    fn hear(&mut self) -> bool {
        match self.peer.hear() {
            Heard::PubAck(1) => true,
            Heard::Publish { topic, payload, id: Some(id) } => {
                assert!(topic.contains("/inputs/in/"), "{topic}");
                self.peer.acknowledge(id);
                self.received.push_back(payload.parse().unwrap());
                false
            }
            other => panic!("a message was expected, not {other:?}"),
        }
    }
}
