//! Messages in one order: read, sent, settled. A queue has one for all its senders, and one for each that is catching up.

use std::collections::VecDeque;

use skerry_model::{Now, Span};

use crate::outbox::Entry;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    Sent,
    Settled,
}

#[derive(Debug)]
struct Slot<T> {
    entry: Entry<T>,
    standing: Standing,
    /// It was sent before.
    repeated: bool,
}

/// What was taken out of a lane for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) position: u64,
    pub(crate) bytes: u32,
}

#[derive(Debug)]
pub(crate) struct Lane<T> {
    slots: VecDeque<Slot<T>>,
    /// Everything below was read.
    read_to: u64,
    /// Nothing before this slot waits.
    waiting_from: usize,
    sent: usize,
    bytes: usize,
    /// What lies up to here was sent before this lane began.
    sent_before: u64,
    /// Settled before this lane began, at or above where it began. Sorted and apart.
    before: Vec<Span>,
}

impl<T: Clone> Lane<T> {
    pub(crate) fn new(from: u64, before: Vec<Span>, sent_before: u64) -> Self {
        Self { slots: VecDeque::new(), read_to: from, waiting_from: 0, sent: 0, bytes: 0, sent_before, before }
    }

    pub(crate) fn read_to(&self) -> u64 {
        self.read_to
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// Bytes of messages that are kept in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message behind all others; one that was read or settled before is left out. What lies up to `sent_to` was sent
    /// before by somebody else.
    pub(crate) fn push(&mut self, entry: Entry<T>, sent_to: u64) {
        if entry.position < self.read_to || Span::any_contains(&self.before, entry.position) {
            return;
        }
        self.read_to = entry.position + 1;
        self.bytes += entry.bytes as usize;
        let repeated = entry.position <= self.sent_before.max(sent_to);
        self.slots.push_back(Slot { entry, standing: Standing::Waiting, repeated });
    }

    /// Nothing at or above this was read or settled, now or before this lane began.
    pub(crate) fn reach(&self) -> u64 {
        self.before.iter().map(|span| span.last + 1).fold(self.read_to, u64::max)
    }

    /// Whether all that was read is settled, and nothing is known to be settled beyond.
    pub(crate) fn is_done(&self) -> bool {
        self.slots.is_empty() && self.before.iter().all(|span| span.last < self.read_to)
    }

    pub(crate) fn read_up_to(&mut self, next: u64) {
        self.read_to = self.read_to.max(next);
    }

    /// Everything below this is settled.
    pub(crate) fn settled_to(&self) -> u64 {
        self.slots.front().map_or(self.read_to, |slot| slot.entry.position)
    }

    /// What else is settled.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let settled_to = self.settled_to();
        let mut spans: Vec<Span> = self.before.iter().copied().filter(|span| settled_to <= span.last).collect();
        let mut last_settled = false;
        for slot in &self.slots {
            let settled = slot.standing == Standing::Settled;
            let position = slot.entry.position;
            match spans.last_mut() {
                Some(span) if settled && last_settled => span.last = position,
                _ if settled => spans.push(Span { first: position, last: position }),
                _ => {}
            }
            last_settled = settled;
        }
        spans.sort_by_key(|span| span.first);
        merged(spans)
    }

    /// The position of the next message that waits.
    pub(crate) fn next_waiting(&mut self) -> Option<u64> {
        self.waiting().map(|slot| slot.entry.position)
    }

    fn waiting(&mut self) -> Option<&mut Slot<T>> {
        while self.slots.get(self.waiting_from)?.standing != Standing::Waiting {
            self.waiting_from += 1;
        }
        self.slots.get_mut(self.waiting_from)
    }

    /// Takes the next message that waits if it has expired.
    pub(crate) fn take_expired(&mut self, now: Now) -> Option<Gone> {
        let slot = self.waiting()?;
        let position = slot.entry.position;
        slot.entry.expires.filter(|expires| *expires <= now.wall).and_then(|_| self.settle(position))
    }

    /// The next message that waits, now on its way; with whether it was before.
    pub(crate) fn send(&mut self) -> Option<(Entry<T>, bool)> {
        let slot = self.waiting()?;
        slot.standing = Standing::Sent;
        let sent = (slot.entry.clone(), std::mem::replace(&mut slot.repeated, true));
        self.sent += 1;
        Some(sent)
    }

    fn find(&self, position: u64) -> Option<usize> {
        let index = self.slots.binary_search_by_key(&position, |slot| slot.entry.position).ok()?;
        (self.slots[index].standing != Standing::Settled).then_some(index)
    }

    /// The message is done with. `None` when it is not here, or is already.
    pub(crate) fn settle(&mut self, position: u64) -> Option<Gone> {
        let index = self.find(position)?;
        let slot = &mut self.slots[index];
        if slot.standing == Standing::Sent {
            self.sent -= 1;
        }
        slot.standing = Standing::Settled;
        let bytes = slot.entry.bytes;
        self.bytes -= bytes as usize;
        while self.slots.front().is_some_and(|slot| slot.standing == Standing::Settled) {
            self.slots.pop_front();
            self.waiting_from = self.waiting_from.saturating_sub(1);
        }
        let settled_to = self.settled_to();
        self.before.retain(|span| settled_to <= span.last);
        Some(Gone { position, bytes })
    }

    /// The message is to be sent again. `false` when it is not on its way.
    pub(crate) fn release(&mut self, position: u64) -> bool {
        let Some(index) = self.find(position).filter(|index| self.slots[*index].standing == Standing::Sent) else {
            return false;
        };
        self.slots[index].standing = Standing::Waiting;
        self.sent -= 1;
        self.waiting_from = self.waiting_from.min(index);
        true
    }

    /// Everything that is on its way is to be sent again.
    pub(crate) fn rewind(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.standing == Standing::Sent) {
            slot.standing = Standing::Waiting;
        }
        self.sent = 0;
        self.waiting_from = 0;
    }

    /// The last of a sender's messages that was sent.
    pub(crate) fn sent_last(&self, sender: &str) -> u64 {
        let sent = |slot: &&Slot<T>| slot.repeated && &*slot.entry.sender == sender;
        self.slots.iter().rev().find(sent).map_or(0, |slot| slot.entry.position).max(self.sent_before)
    }

    /// Takes a sender's messages out. Returns the position its progress begins at, what is settled above, and what is on its way.
    pub(crate) fn take_out(&mut self, sender: &str) -> (u64, Vec<Span>, Vec<Gone>) {
        let read_to = self.read_to;
        let theirs = |slot: &&Slot<T>| &*slot.entry.sender == sender;
        let open = |slot: &&Slot<T>| slot.standing != Standing::Settled;
        let from = self.slots.iter().filter(theirs).find(open).map_or(read_to, |slot| slot.entry.position);
        let above = |slot: &&Slot<T>| !open(slot) && from < slot.entry.position;
        let single = |slot: &Slot<T>| Span { first: slot.entry.position, last: slot.entry.position };
        let singles = self.slots.iter().filter(theirs).filter(above).map(single);
        // What was settled before this lane began was settled for this sender as well: it was not apart then.
        let mut settled: Vec<Span> =
            self.before.iter().copied().filter(|span| from <= span.last).chain(singles).collect();
        settled.sort_by_key(|span| span.first);
        let settled = merged(settled);
        let mut on_the_way = Vec::new();
        self.slots.retain(|slot| {
            if &*slot.entry.sender != sender || slot.standing == Standing::Settled {
                return true;
            }
            self.bytes -= slot.entry.bytes as usize;
            if slot.standing == Standing::Sent {
                self.sent -= 1;
                on_the_way.push(Gone { position: slot.entry.position, bytes: slot.entry.bytes });
            }
            false
        });
        self.waiting_from = 0;
        while self.slots.front().is_some_and(|slot| slot.standing == Standing::Settled) {
            self.slots.pop_front();
        }
        (from, settled, on_the_way)
    }

    /// What is on its way, when the lane is given up.
    pub(crate) fn on_the_way(&self) -> Vec<Gone> {
        let sent = self.slots.iter().filter(|slot| slot.standing == Standing::Sent);
        sent.map(|slot| Gone { position: slot.entry.position, bytes: slot.entry.bytes }).collect()
    }
}

/// Spans that overlap become one; they are sorted by their first positions.
pub(crate) fn merged(spans: Vec<Span>) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match out.last_mut() {
            Some(last) if span.first <= last.last => last.last = last.last.max(span.last),
            _ => out.push(span),
        }
    }
    out
}
