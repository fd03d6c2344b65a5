//! Measures durable appends to queues against the bare durable write of this disk.
//!
//! `cargo run --release -p skerry-log --example durable_appends -- [folder]` prints, per number of threads and window: appends a
//! second, the size of groups, and how long an append waits for its ticket. Read the ratios; figures drift with the machine.

#![allow(clippy::unwrap_used, reason = "a measurement ends where something unexpected happens")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use skerry_log::disk::{BLOCK, Disk};
use skerry_log::{
    Destination, Folder, LogOptions, NewMessage, Queues, QueuesOptions, messages, random_salt, system_clock,
};
use skerry_model::{Refusal, Settlement, Tally, Ticket, Timestamp};

const TIME: Duration = Duration::from_secs(3);
const BODY_BYTES: usize = 256;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("skerry-durable-appends-{}", std::process::id()));
    bare(&folder.join("bare"));
    for (threads, window, batch) in [(1, 1, 1), (1, 64, 64), (2, 64, 64), (2, 640, 64), (2, 4096, 256)] {
        run(&folder.join(format!("log-{threads}-{window}")), threads, window, batch);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// The bare durable write: zero-filled file, one block or 192 KiB at a time.
fn bare(path: &Path) {
    let folder = Folder::open(path).unwrap();
    for bytes in [BLOCK, 5 * BLOCK, 48 * BLOCK] {
        let file = folder.create(&format!("{bytes}")).unwrap();
        let memory = vec![1; bytes + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        let zeros = vec![0; (16 << 20) + BLOCK];
        let from = zeros.as_ptr().align_offset(BLOCK);
        file.write_durable(&zeros[from..from + (16 << 20)], 0).unwrap();
        let mut took: Vec<Duration> = (0..500_u64)
            .map(|write| {
                let begin = Instant::now();
                let offset = write * bytes as u64 % (15 << 20) / BLOCK as u64 * BLOCK as u64;
                file.write_durable(&memory[start..start + bytes], offset).unwrap();
                begin.elapsed()
            })
            .collect();
        took.sort_unstable();
        println!("bare durable write of {bytes:6} bytes: p50 {:?}, p99 {:?}", took[250], took[495]);
    }
}

fn run(path: &Path, threads: usize, window: usize, batch: usize) {
    let options = QueuesOptions { log: LogOptions { bytes_max: 2 << 30, ..LogOptions::default() }, queues_max: 16 };
    let (queues, worker) =
        Queues::open(Arc::new(Folder::open(path).unwrap()), &options, system_clock(), random_salt()).unwrap();
    let _thread = worker.spawn("log").unwrap();
    let queue = queues.queue("$upstream", 1).unwrap();
    // The first segment is made and filled before anything is measured.
    std::thread::sleep(Duration::from_millis(500));
    let before = queues.status();
    let producers: Vec<_> = (0..threads)
        .map(|_| {
            let queues = queues.clone();
            std::thread::spawn(move || produce(&queues, Destination { queue, expires: None }, window, batch))
        })
        .collect();
    let consumer = {
        let queues = queues.clone();
        std::thread::spawn(move || consume(&queues, Destination { queue, expires: None }))
    };
    let mut waits: Vec<Duration> = producers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let consumed = consumer.join().unwrap();
    waits.sort_unstable();
    let status = queues.status();
    let (groups, records) = (status.groups - before.groups, waits.len() * batch);
    println!(
        "{threads} threads, window {window:4}, {batch:3} at a time: {:9.0} appends/s, {:6.1} in a group, {:5.1} KiB a write, \
         p50 {:?}, p99 {:?}, {consumed} consumed",
        records as f64 / TIME.as_secs_f64(),
        records as f64 / groups as f64,
        (status.bytes_written - before.bytes_written) as f64 / groups as f64 / 1024.0,
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
    );
}

fn produce(queues: &Queues, destination: Destination, window: usize, batch: usize) -> Vec<Duration> {
    let subscription = queues.subscribe(Waker::from(Arc::new(Unpark(std::thread::current()))));
    let body = [7; BODY_BYTES];
    let destinations = [destination];
    let new = NewMessage {
        source: "edge1/sensor",
        stamp: b"stamp",
        properties: "a=1",
        body: &body,
        enqueued: Timestamp::from_unix_millis(1),
        destinations: &destinations,
    };
    let new = vec![new; batch];
    let mut open: VecDeque<(Ticket, Instant)> = VecDeque::new();
    let mut waits = Vec::new();
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        while (open.len() + 1) * batch <= window.max(batch) {
            match queues.append(&new) {
                Ok(ticket) => open.push_back((ticket, Instant::now())),
                Err(Refusal::Full) => break,
                Err(other) => panic!("{other}"),
            }
        }
        std::thread::park_timeout(Duration::from_millis(10));
        drop(subscription.take());
        let durable = queues.durable();
        while open.front().is_some_and(|(ticket, _)| *ticket <= durable) {
            waits.extend(open.pop_front().map(|(_, since)| since.elapsed()));
        }
    }
    waits
}

/// Takes every message as it comes and settles it, as a receiver that keeps up does.
fn consume(queues: &Queues, destination: Destination) -> u64 {
    let subscription = queues.subscribe(Waker::from(Arc::new(Unpark(std::thread::current()))));
    let mut settlement = Settlement::default();
    let mut consumed = 0;
    let mut written = Instant::now();
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        std::thread::park_timeout(Duration::from_millis(10));
        for batch in subscription.take().batches {
            for message in messages(&batch).filter(|message| message.destination(destination.queue).is_some()) {
                consumed += 1;
                settlement.accepted.add(Tally { messages: 1, bytes: message.bytes() as u64 });
            }
            settlement.checkpoint.settled_to = batch.next();
        }
        if Duration::from_millis(20) < written.elapsed() {
            written = Instant::now();
            queues.settle(destination.queue, settlement.clone()).unwrap();
            settlement.accepted = Tally::default();
        }
    }
    consumed
}
