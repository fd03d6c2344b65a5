//! Which of a publisher's numbered messages have arrived: what is new, what came twice, what came out of turn.

use std::collections::BTreeSet;

/// Numbers from 0 on, as a receiver has seen them.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// All below were seen, but for the gaps.
    next: u64,
    gaps: BTreeSet<u64>,
    /// Arrivals of a number that had arrived before.
    pub(crate) duplicates: u64,
    /// Arrivals behind a later number, for the first time.
    pub(crate) out_of_turn: u64,
}

impl Received {
    /// Takes note of a number; whether it is new.
    pub(crate) fn note(&mut self, number: u64) -> bool {
        if number == self.next {
            self.next += 1;
            return true;
        }
        if self.next < number {
            self.gaps.extend(self.next..number);
            self.next = number + 1;
            return true;
        }
        let new = self.gaps.remove(&number);
        if new {
            self.out_of_turn += 1;
        } else {
            self.duplicates += 1;
        }
        new
    }

    /// How many different numbers have arrived.
    pub(crate) fn distinct(&self) -> u64 {
        self.next - self.gaps.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_late_one_is_not_lost_and_not_twice() {
        let mut received = Received::default();
        let new: Vec<bool> = [0, 1, 4, 3, 3, 0].into_iter().map(|number| received.note(number)).collect();
        assert_eq!(new, [true, true, true, true, false, false]);
        assert_eq!((received.distinct(), received.duplicates, received.out_of_turn), (4, 2, 1));
    }

    proptest! {
        #[test]
        fn counts_like_a_set(numbers in prop::collection::vec(0..60_u64, 0..200)) {
            let (mut received, mut model) = (Received::default(), BTreeSet::new());
            for number in &numbers {
                prop_assert_eq!(received.note(*number), model.insert(*number));
            }
            prop_assert_eq!(received.distinct(), model.len() as u64);
            prop_assert_eq!(received.duplicates, (numbers.len() - model.len()) as u64);
        }
    }
}
