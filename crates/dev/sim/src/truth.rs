//! The reference model: what was acknowledged and settled, so what must and what must not be delivered.

use std::collections::BTreeMap;

use skerry_model::Ticket;

/// A message in one of its queues.
type Place = (u64, u32);

#[derive(Debug, Clone, Copy, Default)]
struct Fact {
    ticket: Ticket,
    acknowledged: bool,
    /// When it expires, in milliseconds; `None` never.
    expires: Option<i64>,
    /// Its receiver settled it.
    settled: bool,
    /// That was recorded, in the settlement with this ticket.
    recorded: Option<Ticket>,
    /// The record was durable.
    settled_for_good: bool,
    /// It need not come any more: its receiver settled it once, even if nobody remembers, or its queue was to be dropped.
    excused: bool,
    /// It was delivered since the last restart.
    delivered: bool,
}

/// What is true of all messages, by number, in each queue they are in.
#[derive(Debug, Default)]
pub struct Truth {
    facts: BTreeMap<Place, Fact>,
    /// The last position delivered for the first time, by queue and sender, since the last restart.
    last: BTreeMap<(u32, String), u64>,
    /// The largest position that was acknowledged or delivered.
    highest: u64,
    /// The last that was said to be durable.
    durable: Ticket,
}

impl Truth {
    /// A message was appended to a queue; `ticket` will say when it is acknowledged.
    pub fn appended(&mut self, message: u64, queue: u32, ticket: Ticket, expires: Option<i64>) {
        assert!(self.highest < ticket.0, "position {} is given away twice", ticket.0);
        self.facts.insert((message, queue), Fact { ticket, expires, ..Fact::default() });
    }

    /// Tickets up to this one are complete: acknowledgements go out, settlements are for good.
    pub fn durable(&mut self, ticket: Ticket) {
        self.highest = self.highest.max(ticket.0);
        if self.durable == ticket {
            return;
        }
        self.durable = ticket;
        for fact in self.facts.values_mut() {
            fact.acknowledged |= fact.ticket <= ticket;
            fact.settled_for_good |= fact.recorded.is_some_and(|recorded| recorded <= ticket);
        }
    }

    /// A message is delivered.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn delivered(
        &mut self,
        message: u64,
        queue: u32,
        sender: &str,
        position: u64,
        again: bool,
    ) -> Result<(), String> {
        let place = format!("message {message} (position {position}, from {sender}) in queue {queue}");
        let Some(fact) = self.facts.get_mut(&(message, queue)) else {
            return Err(format!("{place} was never put there"));
        };
        if fact.settled_for_good {
            return Err(format!("{place} is delivered although it was settled for good"));
        }
        if !again {
            let last = self.last.entry((queue, sender.to_owned())).or_default();
            if position <= *last {
                return Err(format!("{place} is delivered after position {last}"));
            }
            *last = position;
        }
        fact.delivered = true;
        self.highest = self.highest.max(position);
        Ok(())
    }

    /// A receiver settled a message.
    pub fn settled(&mut self, message: u64, queue: u32) {
        if let Some(fact) = self.facts.get_mut(&(message, queue)) {
            fact.settled = true;
            fact.excused = true;
        }
    }

    /// All that was settled in a queue so far is recorded in the settlement with this ticket.
    pub fn recorded(&mut self, queue: u32, ticket: Ticket) {
        for ((_, in_queue), fact) in &mut self.facts {
            if *in_queue == queue && fact.settled && fact.recorded.is_none() {
                fact.recorded = Some(ticket);
            }
        }
    }

    /// The receiver's memory of a queue is gone, and with it what was settled and not recorded.
    pub fn forgotten(&mut self, queue: u32) {
        self.last.retain(|(of, _), _| *of != queue);
        let facts = self.facts.iter_mut().filter(|((_, of), _)| *of == queue);
        facts.for_each(|(_, fact)| fact.settled &= fact.recorded.is_some());
    }

    /// The power went: what was not durable may be there or not.
    pub fn restarted(&mut self) {
        self.last.clear();
        self.durable = Ticket::default();
        for fact in self.facts.values_mut() {
            fact.delivered = false;
            if !fact.acknowledged {
                // It may have reached the disk, and its position may be given away again.
                fact.excused = true;
                fact.ticket = Ticket(u64::MAX);
            }
            if !fact.settled_for_good {
                fact.recorded = None;
                fact.settled = false;
            }
        }
    }

    /// A queue is to be dropped with what it holds; what is in it may be lost from now on.
    pub fn dropped(&mut self, queue: u32) {
        for ((_, of), fact) in &mut self.facts {
            fact.excused |= *of == queue;
        }
    }

    /// After everything was drained: what was acknowledged, never settled, never expired by `now`, and did not come.
    pub fn missing(&self, now: i64) -> Vec<String> {
        let missing = |fact: &Fact| {
            fact.acknowledged && !fact.excused && !fact.delivered && fact.expires.is_none_or(|expires| now < expires)
        };
        let missing = self.facts.iter().filter(|(_, fact)| missing(fact));
        missing.map(|((message, queue), fact)| format!("message {message} in queue {queue}: {fact:?}")).collect()
    }

    /// Messages that were acknowledged, over all queues.
    pub fn acknowledged(&self) -> usize {
        self.facts.values().filter(|fact| fact.acknowledged).count()
    }
}
