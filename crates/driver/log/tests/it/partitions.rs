//! Partitions: sequence numbers, durability, reading from an offset, retention.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skerry_log::{Folder, LogOptions, LogThread, Partitions, PartitionsOptions, events, random_salt, system_clock};
use skerry_model::{Refusal, Ticket};

use crate::waker;

fn options() -> PartitionsOptions {
    let log = LogOptions {
        bytes_max: 1 << 20,
        segment_bytes: Some(64 << 10),
        group_bytes_max: 16 << 10,
        ..LogOptions::default()
    };
    PartitionsOptions { log, partitions: 4, keep_for: None }
}

fn open(path: &Path, direct: bool) -> (Partitions, LogThread) {
    let mut folder = Folder::open(path).unwrap();
    if !direct {
        folder = folder.without_direct_writes();
    }
    let (partitions, worker) = Partitions::open(Arc::new(folder), &options(), system_clock(), random_salt()).unwrap();
    (partitions, worker.spawn("log").unwrap())
}

fn wait(partitions: &Partitions, ticket: Ticket) {
    let subscription = partitions.subscribe(waker());
    while partitions.durable() < ticket {
        std::thread::park_timeout(Duration::from_secs(10));
        subscription.take();
    }
}

fn append(partitions: &Partitions, partition: u32, payload: &[u8]) -> skerry_log::Appended {
    loop {
        match partitions.append(partition, &[payload]) {
            Ok(appended) => return appended,
            Err(Refusal::Full) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn events_are_there_after_the_log_is_opened_again() {
    for direct in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..3_u64 {
            let (partitions, thread) = open(&folder.path().join("stream"), direct);
            assert_eq!(partitions.range(2), 0..round * 100);
            let mut last = Ticket(0);
            for number in round * 100..(round + 1) * 100 {
                for partition in 0..4 {
                    let appended = append(&partitions, partition, format!("{partition}/{number}").as_bytes());
                    assert_eq!(appended.sequence, number);
                    assert!(last < appended.ticket);
                    last = appended.ticket;
                }
            }
            wait(&partitions, last);
            let mut from = 50;
            let mut read = Vec::new();
            while read.len() < usize::try_from((round + 1) * 100 - 50).unwrap() {
                let found = partitions.read(2, from, 64).unwrap();
                assert_eq!(found.events.first().map(|event| event.sequence), Some(from));
                from = found.next;
                read.extend(found.events);
            }
            for (event, number) in read.iter().zip(50..) {
                assert_eq!((event.sequence, event.payload.as_ref()), (number, format!("2/{number}").as_bytes()));
            }
            assert!(partitions.read(2, from, 64).unwrap().at_end);
            assert_eq!(partitions.status().damaged, 0);
            drop(partitions);
            drop(thread);
        }
    }
}

/// Reads a whole partition.
fn read_all(partitions: &Partitions, partition: u32) -> Vec<skerry_log::Event> {
    let mut read = Vec::new();
    loop {
        let found = partitions.read(partition, read.len() as u64, 5000).unwrap();
        read.extend(found.events);
        if found.at_end {
            return read;
        }
    }
}

#[test]
fn many_threads_append_while_segments_change_and_nothing_is_lost() {
    const EACH: u64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let (partitions, thread) = open(folder.path(), true);
    std::thread::scope(|scope| {
        for partition in 0..4 {
            let partitions = &partitions;
            scope.spawn(move || {
                for number in 0..EACH {
                    let body = vec![1; usize::try_from(number % 200).unwrap()];
                    let appended = append(partitions, partition, &[number.to_le_bytes().as_slice(), &body].concat());
                    assert_eq!(appended.sequence, number);
                    if number % 7 == 0 {
                        wait(partitions, appended.ticket);
                    }
                }
            });
        }
    });
    drop(thread);
    drop(partitions);
    let (partitions, _thread) = open(folder.path(), true);
    assert!(3 < partitions.status().segments);
    for partition in 0..4 {
        let read = read_all(&partitions, partition);
        assert_eq!(read.len() as u64, EACH);
        for (event, number) in read.iter().zip(0_u64..) {
            assert_eq!(event.payload[..8], number.to_le_bytes());
        }
    }
}

#[test]
fn a_log_is_opened_with_other_sizes_and_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (segment, group) in [(256, 64), (64, 16), (128, 8), (32, 8)] {
        let mut options = options();
        options.log.bytes_max = 8 << 20;
        options.log.segment_bytes = Some(segment << 10);
        options.log.group_bytes_max = group << 10;
        let disk = Arc::new(Folder::open(folder.path()).unwrap());
        let (partitions, worker) = Partitions::open(disk, &options, system_clock(), random_salt()).unwrap();
        let thread = worker.spawn("log").unwrap();
        assert_eq!(read_all(&partitions, 1).len(), count);
        for _ in 0..100 {
            append(&partitions, 1, &[5; 2000]);
            count += 1;
        }
        drop(thread);
        assert_eq!(read_all(&partitions, 1).len(), count);
    }
}

#[test]
fn a_subscriber_gets_every_batch_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (partitions, _thread) = open(folder.path(), true);
    let subscription = partitions.subscribe(waker());
    let mut last = Ticket(0);
    for number in 0..200_u32 {
        last = append(&partitions, number % 4, &number.to_le_bytes()).ticket;
    }
    let mut seen = Vec::new();
    while partitions.durable() < last || seen.len() < 200 {
        let arrivals = subscription.take();
        assert!(!arrivals.lagged && !arrivals.failed);
        for batch in &arrivals.batches {
            seen.extend(events(batch).map(|event| u32::from_le_bytes(event.payload.as_ref().try_into().unwrap())));
        }
        if seen.len() < 200 {
            std::thread::park_timeout(Duration::from_secs(10));
        }
    }
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    drop(partitions);
}

#[test]
fn the_budget_is_kept_by_dropping_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let (partitions, thread) = open(folder.path(), true);
    let payload = [7; 2000];
    let mut last = Ticket(0);
    for number in 0..2000_u32 {
        last = append(&partitions, number % 3, &payload).ticket;
    }
    wait(&partitions, last);
    let range = partitions.range(1);
    assert!(range.start > 0 && range.end == 667, "{range:?}");
    let found = partitions.read(1, 0, 1).unwrap();
    assert_eq!((found.events[0].sequence, found.next), (range.start, range.start + 1));
    assert_eq!(partitions.range(3), 0..0);
    let used: u64 = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(used <= 1 << 20, "{used}");
    drop(partitions);
    drop(thread);
    let (partitions, _thread) = open(folder.path(), true);
    assert_eq!(partitions.range(1).end, 667);
    assert_eq!(append(&partitions, 1, b"on").sequence, 667);
    drop(partitions);
}

#[test]
fn what_can_never_be_taken_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let (partitions, _thread) = open(folder.path(), true);
    let large = vec![0; partitions.largest_payload() + 1];
    assert!(matches!(partitions.append(0, &[&large]), Err(Refusal::Message { .. })));
    assert!(matches!(partitions.append(4, &[b"x"]), Err(Refusal::Message { .. })));
    let fits = append(&partitions, 0, &large[1..]);
    wait(&partitions, fits.ticket);
    assert_eq!(partitions.read(0, 0, 1).unwrap().events[0].payload.len(), large.len() - 1);
    drop(partitions);
}
