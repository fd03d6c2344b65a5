//! Queues: durability, settlement, back-pressure, the byte budget with a receiver that is away, expiry, retirement.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skerry_log::disk::{Disk, DiskFile};
use skerry_log::{
    Destination, Folder, LogOptions, LogThread, NewMessage, QueueKey, QueueStatus, Queues, QueuesOptions, Turn, Worker,
    messages, random_salt, system_clock,
};
use skerry_model::{Behind, BehindState, Checkpoint, Refusal, Run, Settlement, Tally, Ticket, Timestamp};

use crate::waker;

const BYTES_MAX: u64 = 1 << 20;

fn open(path: &Path) -> (Queues, LogThread) {
    let (queues, worker) = open_on(Arc::new(Folder::open(path).unwrap()));
    (queues, worker.spawn("log").unwrap())
}

fn open_on(disk: Arc<dyn Disk>) -> (Queues, Worker) {
    let log = LogOptions {
        bytes_max: BYTES_MAX,
        segment_bytes: Some(64 << 10),
        group_bytes_max: 16 << 10,
        ..LogOptions::default()
    };
    let options = QueuesOptions { log, queues_max: 16 };
    Queues::open(disk, &options, system_clock(), random_salt()).unwrap()
}

/// A folder that counts the files made in it.
struct Counted {
    folder: Folder,
    made: AtomicUsize,
}

impl Disk for Counted {
    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.folder.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.folder.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.folder.sync_directory()
    }
}

fn to(queue: QueueKey) -> Destination {
    Destination { queue, expires: None }
}

fn append(queues: &Queues, source: &str, body: &[u8], destinations: &[Destination]) -> Result<Ticket, Refusal> {
    let enqueued = Timestamp::from_unix_millis(5);
    queues.append(&[NewMessage { source, stamp: b"s", properties: "a=1", body, enqueued, destinations }])
}

fn wait_until(queues: &Queues, what: &str, mut done: impl FnMut() -> bool) {
    let subscription = queues.subscribe(waker());
    for _ in 0..3000 {
        subscription.take();
        if done() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("never {what}: {:?} {:?}", queues.status(), queues.queues());
}

fn wait(queues: &Queues, ticket: Ticket) {
    wait_until(queues, "durable", || ticket <= queues.durable());
}

fn bodies(queues: &Queues, queue: QueueKey, from: u64) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut from = from;
    loop {
        let read = queues.read(queue, from, 1000).unwrap();
        found.extend(messages(&read.batch).map(|message| message.body().to_vec()));
        from = read.batch.next();
        if read.at_end {
            return found;
        }
    }
}

fn settle_all(queues: &Queues, queue: QueueKey) {
    let waiting = status(queues, queue).waiting;
    let settled_to = queues.durable().0 + 1;
    let checkpoint = Checkpoint { settled_to, ..Checkpoint::default() };
    let run = Run { first: settled_to - 1, tally: waiting };
    let settlement = Settlement { checkpoint, runs: vec![run], accepted: waiting, ..Settlement::default() };
    queues.settle(queue, settlement).unwrap();
}

fn status(queues: &Queues, queue: QueueKey) -> QueueStatus {
    queues.queues().into_iter().find(|status| status.queue == queue).unwrap()
}

fn bytes_on_disk(path: &Path) -> u64 {
    std::fs::read_dir(path).unwrap().filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

#[test]
fn what_is_settled_stays_so_and_the_rest_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, thread) = open(folder.path());
    let (up, input) = (queues.queue("$upstream", 7).unwrap(), queues.queue("edge/m/in", 7).unwrap());
    assert_eq!(queues.queue("$upstream", 7).unwrap(), up);
    for body in [b"a", b"b", b"c"] {
        append(&queues, "edge/s", body, &[to(up), to(input)]).unwrap();
    }
    let last = append(&queues, "edge/s", b"nowhere", &[]).unwrap();
    wait(&queues, last);
    assert_eq!(bodies(&queues, up, 0), [b"a", b"b", b"c"]);
    let second = messages(&queues.read(up, 0, 1 << 20).unwrap().batch).nth(1).unwrap().position();
    let checkpoint = Checkpoint { settled_to: second + 1, ..Checkpoint::default() };
    let accepted = Tally { messages: 2, bytes: 100 };
    let runs = vec![Run { first: second, tally: accepted }];
    let ticket =
        queues.settle(up, Settlement { checkpoint: checkpoint.clone(), runs, accepted, ..Settlement::default() });
    queues.flush();
    wait(&queues, ticket.unwrap());
    drop(queues);
    drop(thread);
    let (queues, _thread) = open(folder.path());
    assert_eq!(queues.queue("$upstream", 7).unwrap(), up);
    assert_eq!(queues.checkpoint(up), Some(checkpoint));
    assert_eq!(bodies(&queues, up, 0), [b"c"]);
    assert_eq!(bodies(&queues, input, 0), [b"a", b"b", b"c"]);
    assert_eq!((status(&queues, up).waiting.messages, status(&queues, up).accepted), (1, accepted));
    assert_eq!(status(&queues, input).oldest, Some(Timestamp::from_unix_millis(5)));
    let next = append(&queues, "edge/s", b"d", &[to(up)]).unwrap();
    assert!(last < next);
    wait(&queues, next);
    assert_eq!(bodies(&queues, up, 0), [b"c", b"d"]);
}

#[test]
fn a_full_log_refuses_until_something_is_settled_and_keeps_to_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, _thread) = open(folder.path());
    let up = queues.queue("$upstream", 7).unwrap();
    let body = [1; 3000];
    let mut taken = 0_u64;
    wait_until(&queues, "full", || {
        while append(&queues, "s", &body, &[to(up)]).is_ok() {
            taken += 1;
        }
        queues.status().full
    });
    // Two segments are in reserve, and each may leave the end unused that a whole group did not fit into.
    assert!(BYTES_MAX / 2 < taken * 3000, "only {taken} messages fit");
    let subscription = queues.subscribe(waker());
    assert_eq!(append(&queues, "s", &body, &[to(up)]), Err(Refusal::Full));
    wait_until(&queues, "durable", || u64::try_from(bodies(&queues, up, 0).len()).unwrap() == taken);
    settle_all(&queues, up);
    queues.flush();
    wait_until(&queues, "room again", || !queues.status().full);
    assert!(subscription.take().room);
    wait_until(&queues, "taken", || append(&queues, "s", &body, &[to(up)]).is_ok());
    assert_eq!(status(&queues, up).accepted.messages, taken);
    assert!(bytes_on_disk(folder.path()) <= BYTES_MAX);
}

/// A new file is filled with zeros first, so every byte of it is written twice.
#[test]
fn a_log_whose_receivers_keep_up_uses_its_files_again() {
    const ROUNDS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Counted { folder: Folder::open(folder.path()).unwrap(), made: AtomicUsize::new(0) });
    let (queues, mut worker) = open_on(disk.clone());
    let up = queues.queue("$upstream", 7).unwrap();
    for _ in 0..ROUNDS {
        // Work without a pause: there is no idle moment in which files could be made ahead.
        let ticket = (0..4).map(|_| append(&queues, "s", &[1; 3000], &[to(up)]).unwrap()).max().unwrap();
        while queues.durable() < ticket {
            assert!(matches!(worker.turn(), Turn::Worked | Turn::Gather(_)));
        }
        settle_all(&queues, up);
    }
    let written = queues.status().bytes_written;
    assert!(30 * (64 << 10) < written, "only {written} bytes were written");
    let made = disk.made.load(Ordering::Relaxed);
    assert!(made <= 8, "{made} files were made for {} segments", written / (64 << 10));
}

#[test]
fn a_receiver_that_is_away_does_not_hold_what_others_have_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, thread) = open(folder.path());
    let (up, away) = (queues.queue("$upstream", 7).unwrap(), queues.queue("edge/away/in", 7).unwrap());
    let body = [2; 1000];
    // Five times the budget goes up; every fiftieth message waits for somebody who is away.
    let total = 5 * BYTES_MAX / 1000;
    for number in 0..total {
        let destinations = [to(up), to(away)];
        let destinations = if number % 50 == 0 { &destinations[..] } else { &destinations[..1] };
        wait_until(&queues, "taken", || {
            let taken = append(&queues, "s", &body, destinations).is_ok();
            if !taken || number % 100 == 0 {
                settle_all(&queues, up);
                queues.flush();
            }
            taken
        });
        assert!(bytes_on_disk(folder.path()) <= BYTES_MAX);
    }
    wait_until(&queues, "durable", || status(&queues, away).waiting.messages == total.div_ceil(50));
    assert!(0 < queues.status().bytes_moved);
    let positions = |queues: &Queues| -> Vec<u64> {
        messages(&queues.read(away, 0, 1 << 20).unwrap().batch).map(|message| message.position()).collect()
    };
    let before = positions(&queues);
    assert_eq!(before.len() as u64, total.div_ceil(50));
    assert!(before.is_sorted());
    drop(queues);
    drop(thread);
    let (queues, _thread) = open(folder.path());
    assert_eq!(positions(&queues), before);
    assert_eq!(queues.status().damaged, 0);
}

#[test]
fn a_sender_can_be_read_apart_from_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, _thread) = open(folder.path());
    let up = queues.queue("$upstream", 7).unwrap();
    for (sender, body) in [("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"4")] {
        wait(&queues, append(&queues, sender, body, &[to(up)]).unwrap());
    }
    let settled_to = queues.durable().0 + 1;
    let behind = Behind { from: 0, settled: vec![], state: BehindState::Parked };
    let behind = [(Arc::from("a"), behind)].into_iter().collect();
    let checkpoint = Checkpoint { settled_to, settled: vec![], behind };
    queues.settle(up, Settlement { checkpoint, ..Settlement::default() }).unwrap();
    let read = queues.read_sender(up, "a", 0, 1 << 20).unwrap();
    let found: Vec<&[u8]> = messages(&read.batch).map(|message| message.body()).collect();
    assert_eq!((found, read.at_end), (vec![b"1".as_slice(), b"3"], true));
    assert_eq!(queues.read_sender(up, "b", 0, 1 << 20).unwrap().batch.memory_bytes(), 0);
    assert_eq!(status(&queues, up).parked, 1);
}

#[test]
fn the_queue_of_an_endpoint_that_is_gone_is_dropped_in_time_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, _thread) = open(folder.path());
    let gone = queues.queue("edge/gone/in", 7).unwrap();
    wait(&queues, append(&queues, "s", b"x", &[to(gone)]).unwrap());
    queues.retire(gone, Some(Timestamp::from_unix_millis(i64::MAX))).unwrap();
    assert_eq!(bodies(&queues, gone, 0), [b"x"], "what is in it is still served");
    queues.retire(gone, Some(Timestamp::from_unix_millis(1))).unwrap();
    wait_until(&queues, "dropped", || queues.queues().is_empty());
    assert_eq!(queues.removal().removed.messages, 1);
    let refusal = append(&queues, "s", b"x", &[to(gone)]);
    assert!(matches!(refusal, Err(Refusal::Message { index: 0, .. })), "{refusal:?}");
    let new = queues.queue("edge/gone/in", 7).unwrap();
    assert_ne!(new, gone);
    wait(&queues, append(&queues, "s", b"y", &[to(new)]).unwrap());
    assert_eq!(bodies(&queues, new, 0), [b"y"]);
}

#[test]
fn a_closed_log_has_written_all_it_took_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, thread) = open(folder.path());
    let up = queues.queue("$upstream", 7).unwrap();
    let ticket = append(&queues, "s", b"x", &[to(up)]).unwrap();
    drop(thread);
    assert_eq!(queues.durable(), ticket);
    assert!(matches!(append(&queues, "s", b"y", &[to(up)]), Err(Refusal::Failed(_))));
    assert_eq!(bodies(&queues, up, 0), [b"x"]);
}

#[test]
fn what_can_never_be_taken_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, _thread) = open(folder.path());
    let up = queues.queue("$upstream", 7).unwrap();
    let large = vec![0; queues.largest_record()];
    assert!(matches!(append(&queues, "s", &large, &[to(up)]), Err(Refusal::Message { .. })));
    let long = "x".repeat(70_000);
    assert!(matches!(append(&queues, &long, b"", &[to(up)]), Err(Refusal::Message { .. })));
    assert!(matches!(queues.queue(&long, 1), Err(Refusal::Message { .. })));
    for priority in 0..15 {
        queues.queue("m", priority).unwrap();
    }
    assert!(matches!(queues.queue("m", 15), Err(Refusal::Message { .. })));
    assert_eq!(
        queues.settle(QueueKey(99), Settlement::default()).map_err(|refusal| refusal.to_string()),
        Err("message 0 of the batch is refused: there is no queue 99".to_owned())
    );
}
