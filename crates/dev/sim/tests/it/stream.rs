//! Power cuts over partitions: sequence numbers have no gaps, what was acknowledged is read back until retention drops it.

use std::sync::Arc;
use std::time::Duration;

use skerry_log::{LogOptions, OpenError, Partitions, PartitionsOptions, Turn, Worker};
use skerry_model::{Refusal, Ticket};
use skerry_sim::Dice;
use skerry_sim::disk::SimDisk;

use crate::store::SimClock;

const LIVES: u64 = 300;
const PARTITIONS: u32 = 3;
const SEGMENT_BYTES: u64 = 32 << 10;
const BYTES_MAX: u64 = 8 * SEGMENT_BYTES;

/// What a partition must hold: for each sequence number, the events that may be there; all but the last are for sure.
#[derive(Default)]
struct Expected {
    events: Vec<(u64, Ticket)>,
    acknowledged: usize,
}

fn open(disk: &SimDisk, clock: &SimClock, salt: u64) -> Option<(Partitions, Worker)> {
    let log = LogOptions {
        bytes_max: BYTES_MAX,
        segment_bytes: Some(SEGMENT_BYTES),
        group_bytes_max: 8 << 10,
        groups_waiting_max: 2,
        ..LogOptions::default()
    };
    let options = PartitionsOptions { log, partitions: PARTITIONS, keep_for: Some(Duration::from_secs(60)) };
    match Partitions::open(Arc::new(disk.clone()), &options, clock.clock(), salt) {
        Ok(opened) => Some(opened),
        Err(OpenError::Disk(_)) => None,
        Err(other) => panic!("the log does not open: {other}"),
    }
}

fn payload(event: u64) -> Vec<u8> {
    let length = Dice::new(event).index(700);
    event.to_le_bytes().into_iter().chain((0..length).map(|at| u8::try_from(at % 251).unwrap())).collect()
}

/// Appends and writes until the power goes.
fn live(
    partitions: &Partitions,
    worker: &mut Worker,
    dice: &mut Dice,
    clock: &SimClock,
    all: &mut [Expected],
    next: &mut u64,
) {
    loop {
        if dice.chance(50) {
            let partition = dice.index(all.len());
            match partitions.append(u32::try_from(partition).unwrap(), &[&payload(*next)]) {
                Ok(appended) => {
                    assert_eq!(appended.sequence, all[partition].events.len() as u64);
                    all[partition].events.push((*next, appended.ticket));
                    *next += 1;
                }
                Err(Refusal::Full) => {}
                Err(Refusal::Failed(_)) => return,
                Err(other) => panic!("{other}"),
            }
        } else if worker.turn() == Turn::Failed {
            return;
        } else if dice.chance(2) {
            clock.pass(dice.below(20_000));
        }
        for expected in all.iter_mut() {
            let durable = expected.events.partition_point(|(_, ticket)| *ticket <= partitions.durable());
            expected.acknowledged = expected.acknowledged.max(durable);
        }
    }
}

/// After a power cut: everything acknowledged is there and in its place; what else survived is what was appended.
fn check(partitions: &Partitions, all: &mut [Expected], seed: u64) {
    assert_eq!(partitions.status().damaged, 0, "seed {seed}");
    for (partition, expected) in all.iter_mut().enumerate() {
        let partition = u32::try_from(partition).unwrap();
        let range = partitions.range(partition);
        let survived = usize::try_from(range.end).unwrap();
        assert!(expected.acknowledged <= survived, "seed {seed}: {range:?} of {} acknowledged", expected.acknowledged);
        assert!(survived <= expected.events.len(), "seed {seed}: {range:?} of {} appended", expected.events.len());
        let mut from = 0;
        let mut read = Vec::new();
        loop {
            let found = partitions.read(partition, from, 2000).unwrap();
            from = found.next;
            read.extend(found.events);
            if found.at_end {
                break;
            }
        }
        assert_eq!(read.len() as u64, range.end - range.start, "seed {seed}");
        for (event, sequence) in read.iter().zip(range) {
            let (number, _) = expected.events[usize::try_from(sequence).unwrap()];
            assert_eq!((event.sequence, event.payload.as_ref()), (sequence, payload(number).as_slice()), "seed {seed}");
        }
        expected.events.truncate(survived);
        expected.events.iter_mut().for_each(|(_, ticket)| *ticket = Ticket(0));
        expected.acknowledged = survived;
    }
}

#[test]
fn partitions_keep_what_was_acknowledged() {
    let mut dropped = 0;
    for seed in 0..LIVES / 10 {
        let mut dice = Dice::new(seed);
        let clock = SimClock::default();
        let mut disk = SimDisk::new(dice.split(), skerry_sim::disk::Honesty::Honest);
        let mut all: Vec<Expected> = (0..PARTITIONS).map(|_| Expected::default()).collect();
        let mut next = 1;
        for _ in 0..10 {
            let after = if dice.chance(25) { 1 + dice.below(6) } else { 1 + dice.below(200) };
            disk.cut_power_after(after);
            if let Some((partitions, mut worker)) = open(&disk, &clock, dice.number()) {
                check(&partitions, &mut all, seed);
                live(&partitions, &mut worker, &mut dice, &clock, &mut all, &mut next);
            }
            disk = disk.restart();
        }
        let (partitions, _worker) = open(&disk, &clock, dice.number()).unwrap();
        check(&partitions, &mut all, seed);
        dropped += partitions.range(0).start;
        assert!(disk.bytes_most() <= BYTES_MAX, "seed {seed}: {} bytes", disk.bytes_most());
    }
    assert!(0 < dropped, "retention was never at work");
}
