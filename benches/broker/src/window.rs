//! What a publisher has sent and not seen acknowledged yet.

use std::collections::VecDeque;

use skerry_mqtt::PacketId;

/// Ids from the oldest open one to the newest: never so many that one is used twice.
const SPAN_MAX: u32 = 60_000;

/// At most `max` open messages; each id is the one after the last, so that a late answer does not meet a new message.
#[derive(Debug)]
pub(crate) struct Window {
    max: usize,
    next: PacketId,
    /// Oldest first; what was acknowledged out of turn stays as a gap until it is the oldest.
    open: VecDeque<Open>,
    gaps: usize,
}

#[derive(Debug)]
struct Open {
    id: PacketId,
    sent: u64,
    acknowledged: bool,
}

impl Window {
    pub(crate) fn new(max: usize) -> Self {
        Self { max: max.max(1), next: PacketId::MIN, open: VecDeque::new(), gaps: 0 }
    }

    /// Open messages.
    pub(crate) fn len(&self) -> usize {
        self.open.len() - self.gaps
    }

    /// Whether another message may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.max && (self.open.len() as u32) < SPAN_MAX
    }

    /// Opens a message that is sent at `now`; the id to send it with, or `None` when the window is full.
    pub(crate) fn open(&mut self, now: u64) -> Option<PacketId> {
        if !self.has_room() {
            return None;
        }
        let id = self.next;
        self.next = id.checked_add(1).unwrap_or(PacketId::MIN);
        self.open.push_back(Open { id, sent: now, acknowledged: false });
        Some(id)
    }

    /// Closes a message: how long it was open, and whether it was the oldest. `None`: no open message has this id.
    pub(crate) fn acknowledge(&mut self, id: PacketId, now: u64) -> Option<(u64, bool)> {
        let at = distance(self.open.front()?.id, id);
        let open = self.open.get_mut(at).filter(|open| !open.acknowledged)?;
        open.acknowledged = true;
        let took = now.saturating_sub(open.sent);
        self.gaps += 1;
        while self.open.front().is_some_and(|open| open.acknowledged) {
            self.open.pop_front();
            self.gaps -= 1;
        }
        Some((took, at == 0))
    }
}

/// How many ids further `to` is: they go round without zero.
fn distance(from: PacketId, to: PacketId) -> usize {
    let ids = u32::from(u16::MAX);
    ((u32::from(to.get()) + ids - u32::from(from.get())) % ids) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn acknowledged_in_turn_it_never_ends() {
        let mut window = Window::new(64);
        let mut sent = VecDeque::new();
        for now in 0..200_000_u64 {
            while let Some(id) = window.open(now) {
                sent.push_back(id);
            }
            assert_eq!(window.len(), 64);
            let id = sent.pop_front().unwrap();
            let (took, oldest) = window.acknowledge(id, now).unwrap();
            assert!(took <= 64 && oldest);
        }
    }

    #[test]
    fn one_that_stays_open_holds_the_ids_back() {
        let mut window = Window::new(2);
        let first = window.open(0).unwrap();
        let mut count = 0;
        while let Some(id) = window.open(1) {
            assert_ne!(id, first);
            window.acknowledge(id, 1).unwrap();
            count += 1;
        }
        assert_eq!(count, SPAN_MAX - 1);
        assert_eq!(window.acknowledge(first, 9), Some((9, true)));
        assert!(window.open(2).is_some());
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..500),
            max in 1_usize..80,
        ) {
            let mut window = Window::new(max);
            let mut model: BTreeMap<PacketId, u64> = BTreeMap::new();
            for (now, (send, which)) in steps.into_iter().enumerate() {
                let now = now as u64;
                if send {
                    match window.open(now) {
                        Some(id) => prop_assert!(model.insert(id, now).is_none()),
                        None => prop_assert_eq!(model.len(), max),
                    }
                } else if !model.is_empty() {
                    let id = *model.keys().nth(which.index(model.len())).unwrap();
                    let oldest = *model.keys().next().unwrap() == id;
                    let sent = model.remove(&id).unwrap();
                    prop_assert_eq!(window.acknowledge(id, now), Some((now - sent, oldest)));
                    prop_assert_eq!(window.acknowledge(id, now), None);
                }
                prop_assert_eq!(window.len(), model.len());
            }
        }
    }
}
