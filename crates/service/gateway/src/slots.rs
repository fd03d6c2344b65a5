//! For backends: the table of a lane's sessions, indexed by small reused numbers.

use crate::SessionKey;

/// What a lane knows of each of its sessions, found without a search.
#[derive(Debug)]
pub struct Slots<T> {
    entries: Vec<Option<(u64, T)>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Keeps `entry` for the session with this serial and names its slot.
    pub fn insert(&mut self, serial: u64, entry: T) -> SessionKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.entries.get_mut(slot as usize) {
            *place = Some((serial, entry));
        }
        SessionKey { slot, serial }
    }

    /// The entry of `key`; `None` once it is removed, also when the slot has a new user.
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut T> {
        match self.entries.get_mut(key.slot as usize) {
            Some(Some((serial, entry))) if *serial == key.serial => Some(entry),
            _ => None,
        }
    }

    /// Forgets the entry of `key`.
    pub fn remove(&mut self, key: SessionKey) -> Option<T> {
        let place = self.entries.get_mut(key.slot as usize)?;
        let (_, entry) = place.take_if(|(serial, _)| *serial == key.serial)?;
        self.free.push(key.slot);
        Some(entry)
    }

    /// All entries with their keys.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SessionKey, &mut T)> {
        self.entries.iter_mut().enumerate().filter_map(|(slot, entry)| {
            let (serial, entry) = entry.as_mut()?;
            Some((SessionKey { slot: u32::try_from(slot).ok()?, serial: *serial }, entry))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_entry_only() {
        let mut slots = Slots::default();
        let first = slots.insert(1, 'a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert(2, 'b');
        assert_eq!(second.slot, first.slot);
        assert_eq!((slots.get_mut(first).copied(), slots.remove(first)), (None, None));
        assert_eq!(slots.get_mut(second).copied(), Some('b'));
        assert_eq!(slots.iter_mut().map(|(key, entry)| (key, *entry)).collect::<Vec<_>>(), [(second, 'b')]);
    }
}
