//! Messages held in memory until they are settled, without keeping more alive than themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use skerry_model::ClientId;

/// Senders whose names are kept ready; with more, all are made anew.
const SENDERS_MAX: usize = 4_096;
/// What is held may keep this many times its size alive, as part of a batch that others share.
const KEEPS_ALIVE_MAX: usize = 4;

/// What is kept of a message: shares of the batch it came in.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

/// Moves messages out of a batch of `batch_bytes` when they are only a small part of it: one that waits for long must not keep the
/// whole batch in memory, or memory would grow with what others send.
pub(crate) fn unpin<T>(batch_bytes: usize, items: &mut [T], held: impl Fn(&mut T) -> &mut Held) {
    let mut bytes = 0;
    for item in items.iter_mut() {
        let held = held(item);
        bytes += held.properties.len() + held.body.len();
    }
    if bytes == 0 || batch_bytes <= bytes.saturating_mul(KEEPS_ALIVE_MAX) {
        return;
    }
    let mut copy = BytesMut::with_capacity(bytes);
    for item in items.iter_mut() {
        let held = held(item);
        copy.extend_from_slice(&held.properties);
        copy.extend_from_slice(&held.body);
    }
    let mut copy = copy.freeze();
    for item in items {
        let held = held(item);
        held.properties = copy.split_to(held.properties.len());
        held.body = copy.split_to(held.body.len());
    }
}

/// Names of senders, parsed once.
#[derive(Default)]
pub(crate) struct Senders(BTreeMap<Arc<str>, ClientId>);

impl Senders {
    /// The shared name and the client of a sender as the log names it.
    pub(crate) fn get(&mut self, name: &str) -> Option<(Arc<str>, ClientId)> {
        if let Some((name, client)) = self.0.get_key_value(name) {
            return Some((name.clone(), client.clone()));
        }
        let client = ClientId::parse(name).ok()?;
        if self.0.len() >= SENDERS_MAX {
            self.0.clear();
        }
        let name: Arc<str> = Arc::from(name);
        self.0.insert(name.clone(), client.clone());
        Some((name, client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(batch: &Bytes, from: usize, middle: usize, to: usize) -> Held {
        Held { properties: batch.slice(from..middle), body: batch.slice(middle..to) }
    }

    #[test]
    fn a_small_part_of_a_batch_is_moved_out_of_it_and_a_large_one_is_not() {
        let batch = Bytes::from((0..100_u8).collect::<Vec<_>>());
        let mut few = [held(&batch, 10, 12, 20), held(&batch, 40, 40, 45)];
        unpin(batch.len(), &mut few, |item| item);
        assert_eq!((&few[0].properties[..], &few[0].body[..2]), ([10, 11].as_slice(), [12, 13].as_slice()));
        assert_eq!((few[1].properties.len(), &few[1].body[..]), (0, [40, 41, 42, 43, 44].as_slice()));
        assert!(!batch.as_ptr_range().contains(&few[0].body.as_ptr()));

        let mut most = [held(&batch, 0, 10, 60)];
        unpin(batch.len(), &mut most, |item| item);
        assert!(batch.as_ptr_range().contains(&most[0].body.as_ptr()));
    }

    #[test]
    fn senders_are_parsed_once_and_bounded() {
        let mut senders = Senders::default();
        let (first, client) = senders.get("edge/m").unwrap();
        assert!(Arc::ptr_eq(&first, &senders.get("edge/m").unwrap().0));
        assert_eq!(client.to_string(), "edge/m");
        assert!(senders.get("not an id").is_none());
        for n in 0..=SENDERS_MAX {
            senders.get(&format!("d{n}")).unwrap();
        }
        assert!(senders.0.len() <= SENDERS_MAX);
    }
}
