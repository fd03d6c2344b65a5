//! Up to which ticket everything is acknowledged, when acknowledgements may overtake each other.

use std::collections::VecDeque;

use skerry_model::Ticket;

/// Tickets are numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    handed_out: u64,
    done: u64,
    /// What came early: entry `i` is ticket `done + 1 + i`. Empty as long as a hub acknowledges in order.
    early: VecDeque<bool>,
}

impl Watermark {
    /// The ticket of the next message; see [`Self::hand_out`].
    pub(crate) fn next(&self) -> Ticket {
        Ticket(self.handed_out + 1)
    }

    /// The next ticket belongs to a message now.
    pub(crate) fn hand_out(&mut self) {
        self.handed_out += 1;
    }

    /// `ticket` is acknowledged.
    pub(crate) fn acked(&mut self, ticket: Ticket) {
        let Some(ahead) = ticket.0.checked_sub(self.done + 1) else {
            return;
        };
        if ahead == 0 {
            self.done += 1;
            self.early.pop_front();
            while self.early.front() == Some(&true) {
                self.early.pop_front();
                self.done += 1;
            }
            return;
        }
        let Ok(at) = usize::try_from(ahead) else { return };
        if self.early.len() <= at {
            self.early.resize(at + 1, false);
        }
        if let Some(early) = self.early.get_mut(at) {
            *early = true;
        }
    }

    /// Everything up to and including this ticket is acknowledged.
    pub(crate) fn done(&self) -> Ticket {
        Ticket(self.done)
    }

    /// Tickets beyond the watermark.
    pub(crate) fn in_flight(&self) -> u64 {
        self.handed_out - self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_watermark_is_below_the_first_that_is_missing(order in Just((1..=40_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut watermark = Watermark::default();
            for _ in &order {
                watermark.hand_out();
            }
            let mut seen = [false; 42];
            for ticket in order {
                watermark.acked(Ticket(ticket));
                watermark.acked(Ticket(ticket));
                seen[ticket as usize] = true;
                let first_missing = (1..).find(|at| !seen[*at as usize]).unwrap();
                prop_assert_eq!(watermark.done(), Ticket(first_missing - 1));
                prop_assert_eq!(watermark.in_flight(), 40 - (first_missing - 1));
                prop_assert_eq!(watermark.next(), Ticket(41));
            }
        }
    }
}
