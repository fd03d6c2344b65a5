//! What was sent with a packet id and is not answered yet: a ring indexed by packet id, no search and no hash.

use crate::packet::PacketId;

/// Slots that the first entry makes room for.
const SLOTS_MIN: usize = 16;
/// One slot for every packet id, and one too many.
const SLOTS_MAX: usize = 65_536;
/// Slots whose memory is kept while a connection is idle.
const IDLE_SLOTS_MAX: usize = 64;

/// At most `max` entries, each under an id of its own. Ids are given out in turn, so that a late answer to an old id does not meet
/// a new entry.
#[derive(Debug)]
pub(crate) struct Window<K> {
    /// Entry of id `i` is at `i` modulo the length, which is a power of two and at least twice the number of entries: a free slot
    /// is near.
    slots: Vec<Option<(PacketId, K)>>,
    next: PacketId,
    entries: usize,
    max: usize,
}

impl<K> Window<K> {
    /// `max` is cut to 32,767, half of the ids.
    pub(crate) fn new(max: u16, first: PacketId) -> Self {
        Self { slots: Vec::new(), next: first, entries: 0, max: usize::from(max).clamp(1, SLOTS_MAX / 2 - 1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    pub(crate) fn room(&self) -> usize {
        self.max - self.entries
    }

    /// Keeps `key` under the next free id; gives it back when the window is full.
    pub(crate) fn insert(&mut self, key: K) -> Result<PacketId, K> {
        if self.entries >= self.max {
            return Err(key);
        }
        if self.slots.len() < 2 * (self.entries + 1) {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        loop {
            let id = self.next;
            self.next = id.checked_add(1).unwrap_or(PacketId::MIN);
            let slot = &mut self.slots[usize::from(id.get()) & mask];
            if slot.is_none() {
                *slot = Some((id, key));
                self.entries += 1;
                return Ok(id);
            }
        }
    }

    /// Takes the entry of `id` out if `wanted` says so.
    pub(crate) fn remove_if(&mut self, id: PacketId, wanted: impl FnOnce(&K) -> bool) -> Option<K> {
        let mask = self.slots.len().checked_sub(1)?;
        let slot = &mut self.slots[usize::from(id.get()) & mask];
        match slot {
            Some((held, key)) if *held == id && wanted(key) => {
                self.entries -= 1;
                slot.take().map(|(_, key)| key)
            }
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: PacketId) -> Option<K> {
        self.remove_if(id, |_| true)
    }

    pub(crate) fn shrink_when_idle(&mut self) {
        if self.entries == 0 && self.slots.len() > IDLE_SLOTS_MAX {
            self.slots = Vec::new();
        }
    }

    fn grow(&mut self) {
        let length = (self.slots.len() * 2).clamp(SLOTS_MIN, SLOTS_MAX);
        let mut slots = Vec::with_capacity(length);
        slots.resize_with(length, || None);
        // Ids that differ modulo the old length differ modulo its double, so no two entries meet.
        for (id, key) in std::mem::take(&mut self.slots).into_iter().flatten() {
            slots[usize::from(id.get()) & (length - 1)] = Some((id, key));
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    #[test]
    fn ids_go_round_without_zero_and_skip_what_is_taken() {
        let mut window = Window::new(1_000, id(65_534));
        let given: Vec<_> = (0..3).map(|n| window.insert(n).unwrap().get()).collect();
        assert_eq!(given, [65_534, 65_535, 1]);
        for n in 0..70_000_u32 {
            let next = window.insert(n).unwrap();
            assert!(![65_534, 65_535, 1].contains(&next.get()));
            assert_eq!(window.remove(next), Some(n));
        }
        assert_eq!(window.remove(id(65_534)), Some(0));
        assert_eq!(window.remove(id(65_534)), None);
    }

    #[test]
    fn a_full_window_gives_the_key_back() {
        let mut window = Window::new(2, id(1));
        assert!(window.insert('a').is_ok() && window.insert('b').is_ok());
        assert_eq!(window.insert('c'), Err('c'));
        assert_eq!(window.room(), 0);
        assert_eq!(window.remove(id(2)), Some('b'));
        assert_eq!(window.insert('c'), Ok(id(3)));
    }

    #[test]
    fn the_largest_window_holds_what_it_says() {
        let mut window = Window::new(u16::MAX, id(1));
        let count = window.room();
        assert_eq!(count, 32_767);
        assert!((0..count).all(|n| window.insert(n).is_ok()));
        assert!(window.insert(0).is_err());
        assert!((0..count).all(|n| window.remove(id(n as u16 + 1)) == Some(n)));
        window.shrink_when_idle();
        assert_eq!(window.slots.capacity(), 0);
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..400), max in 1_u16..60) {
            let mut window = Window::new(max, id(65_500));
            let mut model = BTreeMap::new();
            for (number, (insert, which)) in steps.into_iter().enumerate() {
                if insert {
                    match window.insert(number) {
                        Ok(id) => prop_assert!(model.insert(id, number).is_none()),
                        Err(_) => prop_assert_eq!(model.len(), usize::from(max)),
                    }
                } else if !model.is_empty() {
                    let id = *model.keys().nth(which.index(model.len())).unwrap();
                    prop_assert_eq!(window.remove(id), model.remove(&id));
                }
                prop_assert_eq!(window.len(), model.len());
            }
        }
    }
}
