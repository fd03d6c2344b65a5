//! How often something took how long: a fixed table with steps that grow with the value.

/// Steps between a value and its double: what is read is at most one 64th too high.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const SLOTS: usize = ((64 - STEP_BITS as usize) + 1) * STEPS as usize;

/// Counts of values; they have no unit here.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; SLOTS].into_boxed_slice(), total: 0 }
    }

    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[slot(value)] += 1;
        self.total += 1;
    }

    /// How many were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The value that `share` (0 to 1) of all are not above; `None` when nothing was counted.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (slot, count) in self.counts.iter().enumerate() {
            seen += count;
            if rank <= seen {
                return Some(last_of(slot));
            }
        }
        None
    }
}

/// Values below [`STEPS`] have a slot each; above, every doubling has as many slots.
fn slot(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let within = (value >> shift) as usize;
    shift as usize * STEPS as usize + within
}

/// The largest value of a slot.
fn last_of(slot: usize) -> u64 {
    let steps = STEPS as usize;
    let shift = (slot / steps).saturating_sub(1);
    let within = (slot - shift * steps) as u64;
    (within << shift) | ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_counted_has_no_quantile() {
        assert_eq!(Histogram::new().quantile(0.5), None);
    }

    #[test]
    fn every_value_has_a_slot() {
        for value in [0, 1, 63, 64, 65, 127, 128, 129, 1 << 20, u64::MAX - 1, u64::MAX] {
            assert!(slot(value) < SLOTS, "{value}");
            assert!(value <= last_of(slot(value)), "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_quantile_is_at_most_a_64th_too_high(
            mut values in prop::collection::vec(prop_oneof![0..200_u64, 0..10_000_000_u64, any::<u64>()], 1..300),
            share in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let read = histogram.quantile(share).unwrap();
            prop_assert!(exact <= read, "{exact} {read}");
            prop_assert!(read - exact <= exact / STEPS, "{exact} {read}");
            prop_assert_eq!(histogram.total(), values.len() as u64);
        }

        #[test]
        fn slots_are_in_order(a in any::<u64>(), b in any::<u64>()) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(slot(low) <= slot(high));
        }
    }
}
