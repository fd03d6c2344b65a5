//! Which of a sender's messages can be acknowledged: a watermark over what it handed over, in order.

use std::collections::VecDeque;

use skerry_model::Ticket;

/// Messages handed over and not yet acknowledged, as runs that share a ticket. Grows by one entry per batch, not per message;
/// bounded by what the sender's protocol lets it have unacknowledged.
#[derive(Debug, Default)]
pub struct Acks {
    waiting: VecDeque<(Ticket, u32)>,
}

impl Acks {
    /// `messages` more were handed over. Answers how many can be acknowledged at once: those without a ticket, when nothing
    /// before them waits. Otherwise they go with the batch before them.
    pub fn appended(&mut self, ticket: Option<Ticket>, messages: u32) -> u32 {
        match (ticket, self.waiting.back_mut()) {
            (None, None) => return messages,
            (None, Some((_, run))) => *run += messages,
            (Some(ticket), Some((last, run))) if *last == ticket => *run += messages,
            (Some(ticket), _) => self.waiting.push_back((ticket, messages)),
        }
        0
    }

    /// Everything up to `ticket` is durable. Answers how many more can be acknowledged.
    pub fn committed(&mut self, ticket: Ticket) -> u32 {
        let mut released = 0;
        while let Some((_, run)) = self.waiting.pop_front_if(|(first, _)| *first <= ticket) {
            released += run;
        }
        released
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn acks_follow_the_watermark() {
        let mut acks = Acks::default();
        assert_eq!(acks.appended(None, 3), 3);
        assert_eq!(acks.appended(Some(Ticket(5)), 2), 0);
        assert_eq!(acks.appended(None, 1), 0);
        assert_eq!(acks.appended(Some(Ticket(9)), 4), 0);
        assert_eq!(acks.committed(Ticket(4)), 0);
        assert_eq!(acks.committed(Ticket(5)), 3);
        assert_eq!(acks.committed(Ticket(100)), 4);
        assert!(acks.is_empty());
    }

    proptest! {
        #[test]
        fn no_message_is_acknowledged_before_its_ticket_or_twice(
            steps in proptest::collection::vec((proptest::option::of(1u64..4), 1u32..5, proptest::bool::ANY), 1..40)
        ) {
            let (mut acks, mut last, mut done) = (Acks::default(), 0, 0u64);
            // (ticket the message must wait for, sequence)
            let (mut owed, mut acked) = (Vec::new(), 0usize);
            for (ahead, messages, commit) in steps {
                let ticket = ahead.map(|ahead| { last += ahead; Ticket(last) });
                acked += acks.appended(ticket, messages) as usize;
                owed.extend(std::iter::repeat_n(ticket.map_or(0, |t| t.0), messages as usize));
                if commit {
                    done = last.saturating_sub(1);
                    acked += acks.committed(Ticket(done)) as usize;
                }
                prop_assert!(acked <= owed.len());
                prop_assert!(owed[..acked].iter().all(|ticket| *ticket <= done));
            }
            acked += acks.committed(Ticket(u64::MAX)) as usize;
            prop_assert_eq!(acked, owed.len());
        }
    }
}
