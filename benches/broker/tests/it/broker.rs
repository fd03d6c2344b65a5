//! A small broker for one publisher per topic and one receiver per topic, with manners that a test chooses.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use skerry_mqtt::{
    ConnAck, ConnectReturn, Grant, Packet, PacketId, Publish, Qos, Transfer, WireLimits, decode, encode,
};

/// How a broker behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manners {
    /// As it should.
    Good,
    /// Every nth message goes out twice.
    SendsTwice(u64),
    /// Every nth message is acknowledged and forgotten; after so many, all connections end.
    HangsUpAfter { messages: u64, forgetting: u64 },
}

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
}

#[derive(Default)]
struct Receivers(Mutex<BTreeMap<String, (TcpStream, PacketId)>>);

impl Broker {
    pub(crate) fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let receivers = Arc::new(Receivers::default());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let receivers = receivers.clone();
                thread::spawn(move || serve(stream.unwrap(), manners, &receivers));
            }
        });
        Self { address }
    }
}

fn serve(mut stream: TcpStream, manners: Manners, receivers: &Receivers) {
    let limits = WireLimits::from(&skerry_model::Limits::default());
    let (mut input, mut chunk, mut taken) = (Vec::new(), [0; 16_384], 0);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => input.extend_from_slice(&chunk[..count]),
        }
        let (mut rest, mut out) = (input.as_slice(), Vec::new());
        while let Some(packet) = decode(&mut rest, &limits).unwrap() {
            match packet {
                Packet::Connect(_) => {
                    encode::connack(&mut out, ConnAck { session_present: false, code: ConnectReturn::Accepted });
                }
                Packet::Subscribe(subscribe) => {
                    let (filter, _) = subscribe.filters().next().unwrap();
                    let known = (stream.try_clone().unwrap(), PacketId::MIN);
                    receivers.0.lock().unwrap().insert(filter.to_owned(), known);
                    let grants = [Grant::Granted(Qos::AtLeastOnce)];
                    encode::suback(&mut out, subscribe.id, grants.into_iter()).unwrap();
                }
                Packet::Publish(publish) => {
                    taken += 1;
                    if let Transfer::AtLeastOnce { id, .. } = publish.transfer {
                        encode::puback(&mut out, id);
                    }
                    receivers.deliver(&publish, copies(manners, taken));
                    if let Manners::HangsUpAfter { messages, .. } = manners
                        && messages <= taken
                    {
                        let _ = stream.write_all(&out);
                        let _ = stream.shutdown(Shutdown::Both);
                        return;
                    }
                }
                _ => {}
            }
        }
        let left = rest.len();
        input.drain(..input.len() - left);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

fn copies(manners: Manners, number: u64) -> usize {
    match manners {
        Manners::SendsTwice(nth) if number.is_multiple_of(nth) => 2,
        Manners::HangsUpAfter { forgetting, .. } if number.is_multiple_of(forgetting) => 0,
        _ => 1,
    }
}

impl Receivers {
    fn deliver(&self, publish: &Publish<'_>, copies: usize) {
        let mut receivers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((stream, next)) = receivers.get_mut(publish.topic) else { return };
        let mut out = Vec::new();
        for _ in 0..copies {
            let transfer = Transfer::AtLeastOnce { id: *next, dup: false };
            *next = next.checked_add(1).unwrap_or(PacketId::MIN);
            encode::publish(&mut out, transfer, false, &[publish.topic], publish.payload).unwrap();
        }
        let _ = stream.write_all(&out);
    }
}
