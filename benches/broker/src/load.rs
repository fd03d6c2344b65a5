//! The two sides of a pair: a publisher that keeps its window full, and a receiver that counts what arrives.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use skerry_mqtt::{Packet, PacketId, Publish, Transfer, encode};

use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::peer::Role;
use crate::received::Received;
use crate::window::Window;

/// Pair and number in front of every payload.
pub(crate) const MARK_BYTES: usize = 12;

/// What all clients of a run share.
pub(crate) struct Shared {
    pub(crate) start: Instant,
    /// Publishers go on sending.
    pub(crate) sending: Cell<bool>,
    /// What happens now counts.
    pub(crate) measuring: Cell<bool>,
    /// Nanoseconds from PUBLISH to PUBACK.
    pub(crate) acks: RefCell<Histogram>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What the two clients of a pair have done so far.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) sent: Cell<u64>,
    pub(crate) acknowledged: Cell<u64>,
    pub(crate) acknowledged_out_of_turn: Cell<u64>,
    pub(crate) received: RefCell<Received>,
    /// Arrivals that are none of this pair's messages.
    pub(crate) foreign: Cell<u64>,
}

/// Sends numbered messages, as many at a time as its window allows.
pub(crate) struct Publisher {
    pub(crate) shared: Rc<Shared>,
    pub(crate) progress: Rc<Progress>,
    topic: String,
    payload: Vec<u8>,
    window: Window,
}

impl Publisher {
    pub(crate) fn new(
        shared: Rc<Shared>,
        progress: Rc<Progress>,
        pair: u32,
        topic: String,
        payload_bytes: usize,
        window: usize,
    ) -> Self {
        // Bytes that do not compress and do not repeat from one pair to the next.
        let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761).wrapping_add(pair).to_le_bytes()[2];
        let mut payload: Vec<u8> = (0..payload_bytes.max(MARK_BYTES)).map(byte).collect();
        payload[..4].copy_from_slice(&pair.to_be_bytes());
        Self { shared, progress, topic, payload, window: Window::new(window) }
    }
}

impl Role for Publisher {
    fn packet(&mut self, packet: Packet<'_>, _: &mut Vec<u8>) -> Result<(), Failure> {
        let Packet::PubAck(id) = packet else {
            return Err(Failure::Other(format!("a publisher got {}", packet.kind())));
        };
        let Some((took, oldest)) = self.window.acknowledge(id, self.shared.now()) else {
            return Err(Failure::Other(format!("PUBACK for {id}, which is not open")));
        };
        let progress = &self.progress;
        progress.acknowledged.set(progress.acknowledged.get() + 1);
        if !oldest {
            progress.acknowledged_out_of_turn.set(progress.acknowledged_out_of_turn.get() + 1);
        }
        if self.shared.measuring.get() {
            self.shared.acks.borrow_mut().record(took);
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if !self.shared.sending.get() || !self.window.has_room() {
            return Ok(());
        }
        let now = self.shared.now();
        while let Some(id) = self.window.open(now) {
            let number = self.progress.sent.get();
            self.progress.sent.set(number + 1);
            self.payload[4..MARK_BYTES].copy_from_slice(&number.to_be_bytes());
            let transfer = Transfer::AtLeastOnce { id, dup: false };
            encode::publish(out, transfer, false, &[&self.topic], &self.payload)
                .map_err(|error| Failure::because("PUBLISH", &error))?;
        }
        Ok(())
    }
}

/// Counts and acknowledges.
pub(crate) struct Receiver {
    pub(crate) progress: Rc<Progress>,
    pub(crate) pair: u32,
}

impl Role for Receiver {
    fn packet(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Packet::Publish(Publish { payload, transfer, .. }) = packet else {
            return Err(Failure::Other(format!("a receiver got {}", packet.kind())));
        };
        match mark(payload) {
            Some((pair, number)) if pair == self.pair && number < self.progress.sent.get() => {
                self.progress.received.borrow_mut().note(number);
            }
            _ => self.progress.foreign.set(self.progress.foreign.get() + 1),
        }
        if let Some(id) = acknowledged_by(transfer) {
            encode::puback(out, id);
        }
        Ok(())
    }

    fn fill(&mut self, _: &mut Vec<u8>) -> Result<(), Failure> {
        Ok(())
    }
}

fn acknowledged_by(transfer: Transfer) -> Option<PacketId> {
    match transfer {
        Transfer::AtLeastOnce { id, .. } => Some(id),
        Transfer::AtMostOnce | Transfer::ExactlyOnce { .. } => None,
    }
}

/// Pair and number of a payload.
fn mark(payload: &[u8]) -> Option<(u32, u64)> {
    let (pair, rest) = payload.split_first_chunk()?;
    let number = rest.first_chunk()?;
    Some((u32::from_be_bytes(*pair), u64::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skerry_model::Limits;
    use skerry_mqtt::{WireLimits, decode};

    fn pair(window: usize) -> (Publisher, Receiver) {
        let shared = Rc::new(Shared {
            start: Instant::now(),
            sending: Cell::new(true),
            measuring: Cell::new(true),
            acks: RefCell::new(Histogram::new()),
        });
        let progress = Rc::new(Progress::default());
        let publisher = Publisher::new(shared, progress.clone(), 3, "bench/3".to_owned(), 256, window);
        (publisher, Receiver { progress, pair: 3 })
    }

    fn each(bytes: &[u8], mut take: impl FnMut(Packet<'_>)) {
        let (mut rest, limits) = (bytes, WireLimits::from(&Limits::default()));
        while let Some(packet) = decode(&mut rest, &limits).unwrap() {
            take(packet);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_window_is_filled_and_filled_again() {
        let (mut publisher, mut receiver) = pair(4);
        let (mut out, mut acks) = (Vec::new(), Vec::new());
        publisher.fill(&mut out).unwrap();
        publisher.fill(&mut out).unwrap();
        assert_eq!(publisher.progress.sent.get(), 4);
        each(&out, |packet| receiver.packet(packet, &mut acks).unwrap());
        // The receiver's own acknowledgements are the broker's business; here they stand for the broker's to the publisher.
        each(&acks, |packet| publisher.packet(packet, &mut Vec::new()).unwrap());
        let progress = &publisher.progress;
        assert_eq!((progress.acknowledged.get(), progress.received.borrow().distinct()), (4, 4));
        assert_eq!(publisher.shared.acks.borrow().total(), 4);
        publisher.shared.sending.set(false);
        let mut more = Vec::new();
        publisher.fill(&mut more).unwrap();
        assert!(more.is_empty());
        let stray = Packet::PubAck(PacketId::MIN);
        assert!(publisher.packet(stray, &mut more).is_err());
    }

    #[test]
    fn foreign_messages_are_seen() {
        let (_, mut receiver) = pair(1);
        let mut out = Vec::new();
        for payload in [&b"short"[..], &[0; 64]] {
            let publish = Publish { topic: "t", payload, transfer: Transfer::AtMostOnce, retain: false };
            receiver.packet(Packet::Publish(publish), &mut out).unwrap();
        }
        assert_eq!((receiver.progress.foreign.get(), out.len()), (2, 0));
    }

    proptest! {
        #[test]
        fn any_payload_can_arrive(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(mark(&payload).is_some(), MARK_BYTES <= payload.len());
        }
    }
}
