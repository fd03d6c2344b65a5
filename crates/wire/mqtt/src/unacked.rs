//! Messages that arrived with QoS 1 and are not acknowledged yet. PUBACKs leave in the order of arrival (§4.6), whatever the order
//! in which messages are done.

use std::collections::VecDeque;

use bytes::BufMut;

use crate::encode;
use crate::packet::PacketId;

/// Entries whose memory is kept while a connection is idle.
const IDLE_ENTRIES_MAX: usize = 64;

/// Ids in order of arrival, four bytes each. Every message has a sequence number, counted from 1.
#[derive(Debug)]
pub(crate) struct Unacked {
    entries: VecDeque<Entry>,
    /// Sequence number of the front entry, or of the next message when there is none.
    front: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: PacketId,
    done: bool,
}

impl Unacked {
    pub(crate) fn new() -> Self {
        Self { entries: VecDeque::new(), front: 1 }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Notes a message and returns its sequence number.
    pub(crate) fn push(&mut self, id: PacketId) -> u64 {
        self.entries.push_back(Entry { id, done: false });
        self.front + self.entries.len() as u64 - 1
    }

    /// All messages up to `sequence` are done.
    pub(crate) fn ack_through(&mut self, sequence: u64, out: &mut impl BufMut) {
        let count = (sequence + 1).saturating_sub(self.front).min(self.entries.len() as u64);
        for entry in self.entries.drain(..count as usize) {
            encode::puback(out, entry.id);
        }
        self.front += count;
        self.release(out);
    }

    /// One message is done; its PUBACK waits for those of all messages before it.
    pub(crate) fn ack(&mut self, sequence: u64, out: &mut impl BufMut) {
        let Some(at) = sequence.checked_sub(self.front).and_then(|at| usize::try_from(at).ok()) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(at) {
            entry.done = true;
            self.release(out);
        }
    }

    pub(crate) fn shrink_when_idle(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > IDLE_ENTRIES_MAX {
            self.entries = VecDeque::new();
        }
    }

    fn release(&mut self, out: &mut impl BufMut) {
        while let Some(Entry { id, done: true }) = self.entries.front().copied() {
            encode::puback(out, id);
            self.entries.pop_front();
            self.front += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(ids: &[u16]) -> Unacked {
        let mut unacked = Unacked::new();
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(unacked.push(PacketId::new(*id).unwrap()), at as u64 + 1);
        }
        unacked
    }

    fn acked(out: &[u8]) -> Vec<u8> {
        out.chunks(4).map(|puback| puback[3]).collect()
    }

    #[test]
    fn a_watermark_releases_everything_up_to_it_once() {
        let (mut unacked, mut out) = (arrived(&[7, 8, 9]), Vec::new());
        unacked.ack_through(2, &mut out);
        unacked.ack_through(2, &mut out);
        assert_eq!(acked(&out), [7, 8]);
        unacked.ack_through(99, &mut out);
        assert_eq!(acked(&out), [7, 8, 9]);
        assert_eq!(unacked.push(PacketId::new(1).unwrap()), 4);
        unacked.ack_through(3, &mut out);
        assert_eq!(unacked.len(), 1);
    }

    #[test]
    fn what_is_done_early_waits_for_its_turn() {
        let (mut unacked, mut out) = (arrived(&[7, 8, 9, 10]), Vec::new());
        unacked.ack(2, &mut out);
        unacked.ack(4, &mut out);
        assert!(out.is_empty());
        unacked.ack(1, &mut out);
        assert_eq!(acked(&out), [7, 8]);
        unacked.ack_through(3, &mut out);
        assert_eq!(acked(&out), [7, 8, 9, 10]);
        unacked.ack(1, &mut out);
        unacked.ack(50, &mut out);
        assert_eq!(unacked.len(), 0);
    }
}
