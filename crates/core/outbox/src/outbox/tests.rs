//! Situations of an outbox over queues that are lists in memory.

use super::*;

/// A log of messages `(queue, sender, expires)` at positions 10, 20, 30 …, and an outbox over its queues.
struct Situation {
    log: Vec<(usize, &'static str, Option<i64>)>,
    outbox: Outbox<u64>,
    now: Now,
}

fn at(millis: u64) -> Now {
    Now {
        monotonic: Monotonic::from_start(Duration::from_millis(millis)),
        wall: Timestamp::from_unix_millis(i64::try_from(millis).unwrap()),
    }
}

impl Situation {
    fn new(log: &[(usize, &'static str)]) -> Self {
        let log = log.iter().map(|(line, sender)| (*line, *sender, None)).collect();
        let empty = || Checkpoint { settled_to: 1, ..Checkpoint::default() };
        let outbox = Outbox::new(OutboxLimits::default(), vec![(5, empty()), (1, empty())]);
        Self { log, outbox, now: at(1000) }
    }

    fn entry(&self, index: usize) -> Entry<u64> {
        let (_, sender, expires) = self.log[index];
        let position = 10 * (index as u64 + 1);
        let expires = expires.map(Timestamp::from_unix_millis);
        Entry { position, sender: Arc::from(sender), bytes: 1, expires, item: position }
    }

    /// Answers all that is wanted, as the log would.
    fn read(&mut self) {
        while let Some(wanted) = self.outbox.wanted() {
            let checkpoint = self.outbox.checkpoint(wanted.line).unwrap();
            let mine = |index: &usize| {
                let entry = self.entry(*index);
                let sender_fits = match &wanted.sender {
                    Some(sender) => *sender == entry.sender,
                    None => checkpoint
                        .behind
                        .get(&entry.sender)
                        .is_none_or(|behind| behind.state == skerry_model::BehindState::Joined),
                };
                let settled = checkpoint.is_settled(&entry.sender, entry.position);
                self.log[*index].0 == wanted.line && wanted.from <= entry.position && sender_fits && !settled
            };
            let entries = (0..self.log.len()).filter(mine).map(|index| self.entry(index)).collect();
            let next = 10 * self.log.len() as u64 + 1;
            let Wanted { line, sender, from } = wanted;
            self.outbox.offer_read(Offer { line, sender, from, next, at_end: true, entries });
        }
    }

    /// Sends all that can be sent.
    fn send(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.outbox.next(self.now)).map(|sent| sent.entry.item).collect()
    }

    fn settle(&mut self, positions: &[u64], outcome: Outcome) {
        for position in positions {
            let line = self.log[usize::try_from(*position).unwrap() / 10 - 1].0;
            assert!(self.outbox.settled(line, *position, outcome), "{position}");
        }
    }

    /// What a crash leaves: a new outbox from the checkpoints.
    fn restart(&mut self) {
        let queues = [5, 1].into_iter().enumerate();
        let queues = queues.map(|(line, priority)| (priority, self.outbox.checkpoint(line).unwrap())).collect();
        self.outbox = Outbox::new(OutboxLimits::default(), queues);
        self.read();
    }
}

#[test]
fn the_lower_priority_number_goes_first_and_each_queue_keeps_its_order() {
    let mut test = Situation::new(&[(0, "a"), (1, "a"), (0, "b"), (1, "b")]);
    assert!(test.send().is_empty(), "nothing is sent before the first queue was read");
    test.read();
    assert_eq!(test.send(), [20, 40, 10, 30]);
}

#[test]
fn a_window_bounds_what_is_on_its_way() {
    let mut test = Situation::new(&[(0, "a"); 5]);
    test.outbox.limits.window_messages = 2;
    test.read();
    assert_eq!(test.send(), [10, 20]);
    test.settle(&[20], Outcome::Accepted);
    assert_eq!(test.send(), [30]);
    assert_eq!(test.outbox.on_the_way(), 2);
}

#[test]
fn released_messages_go_again_before_the_others_and_rejected_ones_do_not() {
    let mut test = Situation::new(&[(0, "a"); 4]);
    test.outbox.limits.window_messages = 3;
    test.read();
    assert_eq!(test.send(), [10, 20, 30]);
    test.settle(&[20], Outcome::Released);
    test.settle(&[30], Outcome::Rejected);
    let again = test.outbox.next(test.now).unwrap();
    assert_eq!((again.entry.item, again.redelivered), (20, true));
    assert_eq!(test.send(), [40]);
    assert!(!test.outbox.settled(0, 30, Outcome::Accepted));
}

#[test]
fn after_a_failure_nothing_is_sent_for_a_while() {
    let mut test = Situation::new(&[(0, "a")]);
    test.read();
    assert_eq!(test.outbox.failed(test.now, 200), Duration::from_secs(1));
    assert!(test.send().is_empty());
    assert_eq!(test.outbox.next_timeout(test.now), Some(at(2000).monotonic));
    test.now = at(2000);
    assert_eq!(test.send(), [10]);
}

#[test]
fn a_receiver_that_was_away_is_sent_all_again_that_it_did_not_settle() {
    let mut test = Situation::new(&[(0, "a"); 4]);
    test.read();
    assert_eq!(test.send(), [10, 20, 30, 40]);
    test.settle(&[20, 30], Outcome::Accepted);
    test.outbox.rewind();
    assert_eq!(test.send(), [10, 40]);
    let checkpoint = test.outbox.checkpoint(0).unwrap();
    assert_eq!(checkpoint.settled_to, 10);
    assert_eq!(checkpoint.settled, [skerry_model::Span { first: 20, last: 30 }]);
    test.restart();
    assert_eq!(test.send(), [10, 40]);
    assert_eq!(test.outbox.checkpoint(0).unwrap().settled, [skerry_model::Span { first: 20, last: 30 }]);
    test.settle(&[10], Outcome::Accepted);
    let checkpoint = test.outbox.checkpoint(0).unwrap();
    assert_eq!((checkpoint.settled_to, checkpoint.settled), (40, vec![]));
}

#[test]
fn expired_messages_are_passed_over_and_counted() {
    let mut test = Situation::new(&[(0, "a"); 3]);
    test.log[1].2 = Some(900);
    test.read();
    assert_eq!(test.send(), [10, 30]);
    test.settle(&[10, 30], Outcome::Accepted);
    let settlements = test.outbox.settlements(test.now.monotonic);
    assert_eq!(settlements.len(), 1);
    let (line, settlement) = &settlements[0];
    assert_eq!((*line, settlement.accepted.messages, settlement.expired.messages), (0, 2, 1));
    assert_eq!(settlement.checkpoint.settled_to, 31);
    assert_eq!(test.outbox.settlements(test.now.monotonic), []);
}

#[test]
fn a_parked_sender_holds_up_nobody_and_loses_nothing() {
    let mut test = Situation::new(&[(0, "bad"), (0, "good"), (0, "bad"), (0, "good"), (0, "bad")]);
    test.outbox.limits.window_messages = 4;
    test.read();
    assert_eq!(test.send(), [10, 20, 30, 40]);
    test.settle(&[30, 20], Outcome::Accepted);
    assert!(test.outbox.park(0, &Arc::from("bad")));
    test.settle(&[40], Outcome::Accepted);
    assert!(test.send().is_empty());
    assert_eq!(test.outbox.checkpoint(0).unwrap().settled_to, 51);
    test.restart();
    assert!(test.send().is_empty());
    assert_eq!(test.outbox.parked(0), [Arc::from("bad")]);
    test.outbox.unpark("bad");
    test.read();
    assert_eq!(test.send(), [10, 50]);
    assert!(test.outbox.park(0, &Arc::from("bad")));
    test.outbox.unpark("bad");
    test.read();
    let again = test.outbox.next(test.now).unwrap();
    assert_eq!((again.entry.item, again.redelivered), (10, true));
    test.restart();
    assert_eq!(test.send(), [10, 50], "the third message was settled");
    test.settle(&[10, 50], Outcome::Accepted);
    let checkpoint = test.outbox.checkpoint(0).unwrap();
    assert!(checkpoint.behind.is_empty(), "{checkpoint:?}");
    test.log.extend([(0, "bad", None), (0, "good", None)]);
    test.restart();
    assert_eq!(test.send(), [60, 70]);
}

#[test]
fn a_sender_joins_the_others_with_all_that_it_has_settled() {
    let behind = skerry_model::Behind {
        from: 30,
        settled: vec![skerry_model::Span { first: 50, last: 50 }],
        state: skerry_model::BehindState::CatchingUp,
    };
    let behind = [(Arc::from("late"), behind)].into_iter().collect();
    let mut test = Situation::new(&[(0, "other"), (0, "other"), (0, "late"), (0, "late"), (0, "late")]);
    let queues = vec![(5, Checkpoint { settled_to: 10, settled: vec![], behind }), (1, Checkpoint::default())];
    test.outbox = Outbox::new(OutboxLimits::default(), queues);
    // Main and the late sender are read to the same place, before the message that was settled.
    for (sender, from, next) in [(None, 10, 25), (Some(Arc::from("late")), 30, 30)] {
        test.outbox.offer_read(Offer { line: 0, sender, from, next, at_end: false, entries: vec![] });
    }
    test.read();
    assert_eq!(test.send(), [30, 40]);
}

#[test]
fn a_sender_joins_above_all_that_the_others_settled_without_it() {
    let behind = skerry_model::Behind { from: 30, settled: vec![], state: skerry_model::BehindState::CatchingUp };
    let behind = [(Arc::from("late"), behind)].into_iter().collect();
    let mut test = Situation::new(&[(0, "other"), (0, "other"), (0, "late"), (0, "other")]);
    // The others' second and last message are settled, with the late sender's between them.
    let settled = vec![skerry_model::Span { first: 20, last: 40 }];
    let queues = vec![(5, Checkpoint { settled_to: 10, settled, behind }), (1, Checkpoint::default())];
    test.outbox = Outbox::new(OutboxLimits::default(), queues);
    test.outbox.offer_read(Offer { line: 0, sender: None, from: 10, next: 15, at_end: false, entries: vec![] });
    test.read();
    assert_eq!(test.send(), [30]);
}

#[test]
fn a_sender_that_joins_at_once_is_told_what_it_was_sent_before() {
    let behind = skerry_model::Behind { from: 10, settled: vec![], state: skerry_model::BehindState::CatchingUp };
    let behind = [(Arc::from("late"), behind)].into_iter().collect();
    let mut test = Situation::new(&[(0, "late")]);
    let queues = vec![(5, Checkpoint { settled_to: 1, settled: vec![], behind }), (1, Checkpoint::default())];
    test.outbox = Outbox::new(OutboxLimits::default(), queues);
    let late: Arc<str> = Arc::from("late");
    let (sender, entries) = (Some(Arc::clone(&late)), vec![test.entry(0)]);
    test.outbox.offer_read(Offer { line: 1, sender: None, from: 0, next: 11, at_end: true, entries: vec![] });
    test.outbox.offer_read(Offer { line: 0, sender, from: 10, next: 11, at_end: true, entries });
    assert_eq!(test.send(), [10]);
    // Held back and let go while the others are not read that far: there is nothing to catch up with.
    assert!(test.outbox.park(0, &late));
    test.outbox.unpark("late");
    test.outbox.offer_read(Offer { line: 0, sender: None, from: 1, next: 5, at_end: false, entries: vec![] });
    let state = test.outbox.checkpoint(0).unwrap().behind["late"].state;
    assert_eq!(state, skerry_model::BehindState::Joined);
    test.read();
    let again = test.outbox.next(test.now).unwrap();
    assert_eq!((again.entry.item, again.redelivered), (10, true));
}

#[test]
fn what_a_parked_sender_has_can_be_dropped() {
    let mut test = Situation::new(&[(0, "gone"), (0, "good"), (0, "gone")]);
    assert!(test.outbox.park(0, &Arc::from("gone")));
    test.read();
    assert_eq!(test.send(), [20]);
    test.outbox.discard("gone");
    test.read();
    test.settle(&[20], Outcome::Accepted);
    let settlements = test.outbox.all_settlements();
    assert_eq!(settlements[0].1.rejected.messages, 2);
    assert_eq!(settlements[0].1.checkpoint, Checkpoint { settled_to: 31, ..Checkpoint::default() });
}

#[test]
fn fresh_messages_are_taken_only_behind_all_others() {
    let mut test = Situation::new(&[(0, "a")]);
    let fresh = test.entry(0);
    assert!(!test.outbox.offer_fresh(0, 11, vec![fresh]), "the queue was not read yet");
    // A read that ended before the batch that was passed is not the end.
    let wanted = std::iter::from_fn(|| test.outbox.wanted()).find(|wanted| wanted.line == 0).unwrap();
    test.outbox.offer_read(Offer { line: 0, sender: None, from: wanted.from, next: 5, at_end: true, entries: vec![] });
    assert_eq!(test.outbox.wanted(), Some(Wanted { line: 0, sender: None, from: 5 }));
    test.outbox.read_failed(&Wanted { line: 0, sender: None, from: 5 });
    test.outbox.lines[1].read_failed(None);
    test.read();
    test.log.push((0, "a", None));
    let fresh = test.entry(1);
    assert!(test.outbox.offer_fresh(0, 21, vec![fresh]));
    assert_eq!(test.send(), [10, 20]);
    test.outbox.lagged();
    test.log.push((0, "a", None));
    test.read();
    assert_eq!(test.send(), [30]);
}

#[test]
fn memory_is_bounded_however_long_the_queue() {
    let mut test = Situation::new(&[]);
    test.outbox.limits.buffered_messages_max = 10;
    test.read();
    let many = |from: u64, count: u64| {
        (from..from + count).map(|position| Entry {
            position,
            sender: Arc::from("a"),
            bytes: 1,
            expires: None,
            item: position,
        })
    };
    assert!(test.outbox.offer_fresh(0, 20, many(10, 10).collect()));
    assert!(!test.outbox.offer_fresh(0, 21, many(20, 1).collect()));
    assert_eq!(test.outbox.wanted(), None, "half the room must be free before more is read");
    assert_eq!(test.send().len(), 10);
    for position in 10..16 {
        assert!(test.outbox.settled(0, position, Outcome::Accepted));
    }
    assert_eq!(test.outbox.wanted(), Some(Wanted { line: 0, sender: None, from: 20 }));
}
