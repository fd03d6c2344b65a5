//! One queue of an endpoint: its messages of one priority, with senders that are held back apart from the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_model::{Behind, BehindState, Checkpoint, Monotonic, Now, Outcome, Run, Settlement, Span, Tally};

use crate::lane::{Gone, Lane, merged};
use crate::outbox::{Entry, Offer, OutboxLimits, Wanted};

/// Messages that are counted into one run, and how far apart they lie at most.
const RUN_MESSAGES: u64 = 256;
const RUN_POSITIONS: u64 = 512;

/// A sender whose progress is its own.
#[derive(Debug)]
enum Apart<T> {
    Parked { from: u64, settled: Vec<Span>, on_the_way: Vec<Gone>, sent_to: u64 },
    CatchingUp { lane: Lane<T>, reading: bool, at_end: bool, discard: bool },
    Joined { from: u64, sent_to: u64 },
}

#[derive(Debug)]
pub(crate) struct Line<T> {
    pub(crate) priority: u32,
    main: Lane<T>,
    apart: BTreeMap<Arc<str>, Apart<T>>,
    /// How many of those are catching up or have joined again, to do nothing for the parked ones at each message.
    moving: usize,
    /// All that became durable so far was offered.
    caught_up: bool,
    reading: bool,
    /// Behind the last batch that was offered and not taken.
    passed: u64,
    dirty: bool,
    written_at: Monotonic,
    runs: Vec<Run>,
    accepted: Tally,
    expired: Tally,
    rejected: Tally,
}

/// Why a message is done with.
#[derive(Clone, Copy)]
enum Cause {
    Accepted,
    Expired,
    Rejected,
}

impl<T: Clone> Line<T> {
    pub(crate) fn new(priority: u32, checkpoint: Checkpoint) -> Self {
        let apart = |behind: Behind| match behind.state {
            BehindState::Parked => {
                Apart::Parked { from: behind.from, settled: behind.settled, on_the_way: Vec::new(), sent_to: 0 }
            }
            BehindState::CatchingUp => Apart::catching_up(behind.from, behind.settled, 0, false),
            BehindState::Joined => Apart::Joined { from: behind.from, sent_to: 0 },
        };
        let apart: BTreeMap<_, _> =
            checkpoint.behind.into_iter().map(|(sender, behind)| (sender, apart(behind))).collect();
        let mut line = Self {
            priority,
            main: Lane::new(checkpoint.settled_to, checkpoint.settled, 0),
            apart,
            moving: 0,
            caught_up: false,
            reading: false,
            passed: 0,
            dirty: false,
            written_at: Monotonic::default(),
            runs: Vec::new(),
            accepted: Tally::default(),
            expired: Tally::default(),
            rejected: Tally::default(),
        };
        line.count_moving();
        line
    }

    fn count_moving(&mut self) {
        self.moving = self.apart.values().filter(|apart| !matches!(apart, Apart::Parked { .. })).count();
    }

    /// Those that are catching up or have joined again.
    fn moving(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Apart<T>)> {
        self.apart.iter_mut().take(if self.moving == 0 { 0 } else { usize::MAX })
    }

    /// Senders that are held back.
    pub(crate) fn parked(&self) -> impl Iterator<Item = &Arc<str>> {
        let parked = self.apart.iter().filter(|(_, apart)| matches!(apart, Apart::Parked { .. }));
        parked.map(|(sender, _)| sender)
    }

    pub(crate) fn sent(&self) -> usize {
        if self.moving == 0 {
            return self.main.sent();
        }
        let apart = self.apart.values().map(|apart| match apart {
            Apart::CatchingUp { lane, .. } => lane.sent(),
            Apart::Parked { .. } | Apart::Joined { .. } => 0,
        });
        self.main.sent() + apart.sum::<usize>()
    }

    /// What just became durable: taken when all before was, and there is room.
    pub(crate) fn offer_fresh(&mut self, next: u64, entries: Vec<Entry<T>>, limits: &OutboxLimits) -> bool {
        let bytes: usize = entries.iter().map(|entry| entry.bytes as usize).sum();
        if !self.caught_up || !has_room(&self.main, entries.len(), bytes, limits) {
            self.caught_up = false;
            self.passed = self.passed.max(next);
            return false;
        }
        for entry in entries {
            self.push(entry);
        }
        self.main.read_up_to(next);
        true
    }

    /// What was read where [`Line::wanted`] said.
    pub(crate) fn offer_read(&mut self, offer: Offer<T>) {
        match offer.sender {
            None => {
                self.reading = false;
                if offer.from != self.main.read_to() {
                    return;
                }
                for entry in offer.entries {
                    self.push(entry);
                }
                self.main.read_up_to(offer.next);
                self.caught_up = offer.at_end && self.passed <= offer.next;
            }
            Some(sender) => self.offer_sender(&sender, offer.from, offer.next, offer.at_end, offer.entries),
        }
        self.join();
    }

    fn offer_sender(&mut self, sender: &str, from: u64, next: u64, end: bool, entries: Vec<Entry<T>>) {
        let mut discarded = Vec::new();
        if let Some(Apart::CatchingUp { lane, reading, at_end, discard }) = self.apart.get_mut(sender) {
            *reading = false;
            if from != lane.read_to() {
                return;
            }
            for entry in entries {
                let position = entry.position;
                lane.push(entry, 0);
                if *discard {
                    discarded.extend(lane.settle(position));
                }
            }
            lane.read_up_to(next);
            *at_end = end;
            self.dirty = true;
        }
        for gone in discarded {
            self.count(gone, Cause::Rejected);
        }
    }

    pub(crate) fn read_failed(&mut self, sender: Option<&str>) {
        match sender.map(|sender| self.apart.get_mut(sender)) {
            None => self.reading = false,
            Some(Some(Apart::CatchingUp { reading, .. })) => *reading = false,
            Some(_) => {}
        }
    }

    fn push(&mut self, entry: Entry<T>) {
        match self.apart.get(&entry.sender) {
            Some(Apart::Parked { .. } | Apart::CatchingUp { .. }) => self.main.read_up_to(entry.position + 1),
            Some(Apart::Joined { from, .. }) if entry.position < *from => self.main.read_up_to(entry.position + 1),
            Some(Apart::Joined { sent_to, .. }) => self.main.push(entry, *sent_to),
            None => self.main.push(entry, 0),
        }
    }

    pub(crate) fn lagged(&mut self) {
        self.caught_up = false;
    }

    /// Whether it may turn out that there is something to send before anything of a lower rank.
    pub(crate) fn may_have_more(&self) -> bool {
        !self.caught_up && self.main.is_empty()
    }

    pub(crate) fn wanted(&mut self, line: usize, limits: &OutboxLimits) -> Option<Wanted> {
        if !self.caught_up && !self.reading && has_room(&self.main, 1, 0, limits) {
            self.reading = true;
            return Some(Wanted { line, sender: None, from: self.main.read_to() });
        }
        let main = self.main.reach();
        for (sender, apart) in self.moving() {
            if let Apart::CatchingUp { lane, reading, at_end, .. } = apart {
                let more = !*at_end || lane.read_to() < main;
                if more && !*reading && has_room(lane, 1, 0, limits) {
                    *reading = true;
                    return Some(Wanted { line, sender: Some(Arc::clone(sender)), from: lane.read_to() });
                }
            }
        }
        None
    }

    /// The oldest message that waits, now on its way; with whether it was before.
    pub(crate) fn send(&mut self, now: Now) -> Option<(Entry<T>, bool)> {
        self.drop_expired(now);
        let mut oldest = self.main.next_waiting().map(|position| (position, None));
        for (sender, apart) in self.moving() {
            if let Apart::CatchingUp { lane, .. } = apart
                && let Some(position) = lane.next_waiting()
                && oldest.as_ref().is_none_or(|(older, _)| position < *older)
            {
                oldest = Some((position, Some(Arc::clone(sender))));
            }
        }
        match oldest?.1.and_then(|sender| self.apart.get_mut(&sender)) {
            Some(Apart::CatchingUp { lane, .. }) => lane.send(),
            _ => self.main.send(),
        }
    }

    fn drop_expired(&mut self, now: Now) {
        let mut gone = Vec::new();
        while let Some(expired) = self.main.take_expired(now) {
            gone.push(expired);
        }
        for (_, apart) in self.moving() {
            if let Apart::CatchingUp { lane, .. } = apart {
                while let Some(expired) = lane.take_expired(now) {
                    gone.push(expired);
                }
            }
        }
        for expired in gone {
            self.count(expired, Cause::Expired);
        }
        self.join();
    }

    /// What became of a message that was on its way; `false` when it was not.
    pub(crate) fn settled(&mut self, position: u64, outcome: Outcome) -> bool {
        let cause = match outcome {
            Outcome::Accepted => Cause::Accepted,
            Outcome::Rejected => Cause::Rejected,
            Outcome::Released | Outcome::Modified => return self.release(position),
        };
        let gone =
            self.main.settle(position).or_else(|| self.apart.values_mut().find_map(|apart| apart.settle(position)));
        let known = gone.is_some();
        if let Some(gone) = gone {
            self.count(gone, cause);
            self.join();
        }
        known
    }

    fn release(&mut self, position: u64) -> bool {
        let apart = self.apart.values_mut();
        self.main.release(position) || apart.into_iter().any(|apart| apart.release(position))
    }

    pub(crate) fn rewind(&mut self) {
        self.main.rewind();
        for apart in self.apart.values_mut() {
            match apart {
                Apart::CatchingUp { lane, .. } => lane.rewind(),
                Apart::Parked { on_the_way, .. } => on_the_way.clear(),
                Apart::Joined { .. } => {}
            }
        }
    }

    fn count(&mut self, gone: Gone, cause: Cause) {
        let one = Tally { messages: 1, bytes: u64::from(gone.bytes) };
        match cause {
            Cause::Accepted => self.accepted.add(one),
            Cause::Expired => self.expired.add(one),
            Cause::Rejected => self.rejected.add(one),
        }
        self.dirty = true;
        match self.runs.last_mut() {
            Some(run)
                if run.tally.messages < RUN_MESSAGES
                    && (run.first..run.first.saturating_add(RUN_POSITIONS)).contains(&gone.position) =>
            {
                run.tally.add(one);
            }
            _ => self.runs.push(Run { first: gone.position, tally: one }),
        }
    }

    /// Holds a sender back; `false` when too many are already.
    pub(crate) fn park(&mut self, sender: &Arc<str>, limits: &OutboxLimits) -> bool {
        let known = self.apart.remove(sender);
        let sent_to = self.main.sent_last(sender);
        if known.is_none() && limits.senders_apart_max <= self.apart.len() {
            return false;
        }
        let parked = match known {
            Some(parked @ Apart::Parked { .. }) => parked,
            Some(Apart::CatchingUp { lane, .. }) => {
                let sent_to = lane.sent_last(sender);
                Apart::Parked { from: lane.settled_to(), settled: lane.spans(), on_the_way: lane.on_the_way(), sent_to }
            }
            Some(Apart::Joined { from: least, sent_to: before }) => {
                let (from, settled, on_the_way) = self.main.take_out(sender);
                Apart::Parked { from: from.max(least), settled, on_the_way, sent_to: sent_to.max(before) }
            }
            None => {
                let (from, settled, on_the_way) = self.main.take_out(sender);
                Apart::Parked { from, settled, on_the_way, sent_to }
            }
        };
        self.apart.insert(Arc::clone(sender), parked);
        self.count_moving();
        self.dirty = true;
        true
    }

    /// Lets a sender that is held back go on, or drops what it has (`discard`).
    pub(crate) fn unpark(&mut self, sender: &str, discard_all: bool) {
        match self.apart.get_mut(sender) {
            Some(Apart::CatchingUp { discard, .. }) => *discard |= discard_all,
            Some(apart @ Apart::Parked { .. }) => {
                if let Apart::Parked { from, settled, sent_to, .. } = apart {
                    *apart = Apart::catching_up(*from, std::mem::take(settled), *sent_to, discard_all);
                }
                self.dirty = true;
            }
            Some(Apart::Joined { .. }) | None => {}
        }
        self.count_moving();
    }

    /// Senders that have caught up go with the others again; those whose catching up is history are forgotten.
    fn join(&mut self) {
        if self.moving == 0 {
            return;
        }
        // What the others settled while the sender was apart says nothing about its messages, so it joins above all of that.
        let (main, settled_to) = (self.main.reach(), self.main.settled_to());
        let before = self.apart.len();
        let mut changed = false;
        self.apart.retain(|sender, apart| {
            if let Apart::CatchingUp { lane, .. } = apart
                && lane.is_done()
                && main <= lane.read_to()
            {
                *apart = Apart::Joined { from: lane.read_to(), sent_to: lane.sent_last(sender) };
                changed = true;
            }
            !matches!(apart, Apart::Joined { from, sent_to } if *from <= settled_to && *sent_to < settled_to)
        });
        // A checkpoint that still names them would keep their segments from being dropped.
        self.dirty |= changed || self.apart.len() < before;
        self.count_moving();
    }

    /// What is to be written down now, if anything is.
    pub(crate) fn settlement(&mut self, now: Monotonic, limits: &OutboxLimits) -> Option<Settlement> {
        // With many senders apart a checkpoint is large, and is written less often.
        let senders = u32::try_from(self.apart.len() / 10).unwrap_or(u32::MAX);
        let interval = limits.checkpoint_interval.saturating_mul(senders.saturating_add(1));
        if !self.dirty || now.since(self.written_at) < interval {
            return None;
        }
        self.dirty = false;
        self.written_at = now;
        Some(Settlement {
            checkpoint: self.checkpoint(),
            runs: std::mem::take(&mut self.runs),
            accepted: std::mem::take(&mut self.accepted),
            expired: std::mem::take(&mut self.expired),
            rejected: std::mem::take(&mut self.rejected),
        })
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let behind = self.apart.iter().map(|(sender, apart)| (Arc::clone(sender), apart.behind())).collect();
        Checkpoint { settled_to: self.main.settled_to(), settled: self.main.spans(), behind }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(crate) fn written_at(&self) -> Monotonic {
        self.written_at
    }
}

impl<T: Clone> Apart<T> {
    fn catching_up(from: u64, settled: Vec<Span>, sent_to: u64, discard: bool) -> Self {
        Self::CatchingUp { lane: Lane::new(from, settled, sent_to), reading: false, at_end: false, discard }
    }

    fn behind(&self) -> Behind {
        match self {
            Self::Parked { from, settled, .. } => {
                Behind { from: *from, settled: settled.clone(), state: BehindState::Parked }
            }
            Self::CatchingUp { lane, .. } => {
                Behind { from: lane.settled_to(), settled: lane.spans(), state: BehindState::CatchingUp }
            }
            Self::Joined { from, .. } => Behind { from: *from, settled: Vec::new(), state: BehindState::Joined },
        }
    }

    fn settle(&mut self, position: u64) -> Option<Gone> {
        match self {
            Self::CatchingUp { lane, .. } => lane.settle(position),
            Self::Parked { settled, on_the_way, .. } => {
                let index = on_the_way.iter().position(|gone| gone.position == position)?;
                let mut spans = std::mem::take(settled);
                spans.push(Span { first: position, last: position });
                spans.sort_by_key(|span| span.first);
                *settled = merged(spans);
                Some(on_the_way.swap_remove(index))
            }
            Self::Joined { .. } => None,
        }
    }

    fn release(&mut self, position: u64) -> bool {
        match self {
            Self::CatchingUp { lane, .. } => lane.release(position),
            Self::Parked { on_the_way, .. } => {
                let before = on_the_way.len();
                on_the_way.retain(|gone| gone.position != position);
                on_the_way.len() < before
            }
            Self::Joined { .. } => false,
        }
    }
}

fn has_room<T: Clone>(lane: &Lane<T>, messages: usize, bytes: usize, limits: &OutboxLimits) -> bool {
    // Half the room must be free before more is read, so that a read is worth its while.
    let half = if bytes == 0 { 2 } else { 1 };
    let fits = lane.len() + messages <= limits.buffered_messages_max / half
        && lane.bytes() + bytes <= limits.buffered_bytes_max / half;
    fits || lane.is_empty()
}
