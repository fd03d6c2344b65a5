//! The local stream alone: what survives a restart, batches larger than the room, and a disk that fails.

use std::ops::Deref;

use skerry_model::PropertyBag;

use super::*;
use crate::conformance::stamp;

struct InTempFolder {
    stream: LocalStream,
    folder: tempfile::TempDir,
}

impl Deref for InTempFolder {
    type Target = LocalStream;

    fn deref(&self) -> &LocalStream {
        &self.stream
    }
}

const P: PartitionId = PartitionId(2);

fn open(folder: &Path) -> LocalStream {
    let options = LocalStreamOptions { bytes_max: 32 << 20, ..LocalStreamOptions::default() };
    LocalStream::open(folder, &options).unwrap()
}

fn in_temp_folder() -> InTempFolder {
    let folder = tempfile::tempdir().unwrap();
    InTempFolder { stream: open(folder.path()), folder }
}

crate::conformance_suite!(async || in_temp_folder());

fn message(body: &[u8]) -> MessageView<'_> {
    MessageView { properties: PropertyBag::new("a=1"), body }
}

async fn durable(stream: &LocalStream, next: u64) {
    stream.commits(P).unwrap().wait_for(|committed| committed.next >= next).await.unwrap();
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let InTempFolder { stream, folder } = in_temp_folder();
    stream.append(P, &stamp("d", 100), &[message(b"1"), message(b"2")]).unwrap();
    durable(&stream, 2).await;
    drop(stream);
    let stream = open(folder.path());
    assert_eq!(stream.commits(P).unwrap().borrow().next, 2);
    let bounds = stream.bounds(P).unwrap();
    assert_eq!((bounds.first, bounds.next, bounds.last_enqueued), (0, 2, Some(Timestamp::from_unix_seconds(100))));
    assert_eq!(stream.append(P, &stamp("d", 50), &[message(b"3")]), Ok(3));
    durable(&stream, 3).await;
    let span = stream.read(P, Position::Start, 1 << 20).await.unwrap();
    let found: Vec<_> =
        span.events.iter().map(|event| (&event.body[..], event.stamp.enqueued.unix_seconds())).collect();
    assert_eq!(found, [(&b"1"[..], 100), (b"2", 100), (b"3", 100)], "moments do not fall over a restart either");
}

#[tokio::test]
async fn what_was_taken_is_written_when_the_stream_is_dropped() {
    let InTempFolder { stream, folder } = in_temp_folder();
    stream.append(P, &stamp("d", 1), &[message(b"1")]).unwrap();
    drop(stream);
    assert_eq!(open(folder.path()).bounds(P).unwrap().next, 1);
}

#[tokio::test]
async fn a_batch_that_does_not_fit_at_once_is_taken_whole_or_not_at_all() {
    let InTempFolder { stream, folder: _folder } = in_temp_folder();
    // Far more than the groups that may wait: the log refuses somewhere in the middle.
    let body = vec![7; 200_000];
    let batch: Vec<_> = (0..60).map(|_| message(&body)).collect();
    let mut taken = 0;
    let mut refused = 0;
    let mut commits = stream.commits(P).unwrap();
    while taken < 180 {
        match stream.append(P, &stamp("d", 1), &batch) {
            Ok(next) => {
                assert_eq!(next, taken + 60);
                taken = next;
            }
            Err(Refusal::Full) => {
                refused += 1;
                commits.changed().await.unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
    durable(&stream, taken).await;
    assert!(refused > 0, "the test is about batches that are refused");
    assert_eq!(stream.bounds(P).unwrap().next, 180);
}

#[tokio::test]
async fn the_oldest_events_make_room_for_new_ones() {
    let InTempFolder { stream, folder: _folder } = in_temp_folder();
    let body = vec![7; 200_000];
    let mut commits = stream.commits(P).unwrap();
    let mut next = 0;
    while next < 300 {
        match stream.append(P, &stamp("d", i64::try_from(next).unwrap()), &[message(&body)]) {
            Ok(taken) => next = taken,
            Err(_) => commits.changed().await.unwrap(),
        }
    }
    durable(&stream, next).await;
    let first = stream.bounds(P).unwrap().first;
    assert!(first > 100, "60 MB do not fit into 32: {first}");
    let span = stream.read(P, Position::Start, 1).await.unwrap();
    assert_eq!((span.events[0].sequence, span.next), (first, first + 1));
    let late = Position::Enqueued(Timestamp::from_unix_seconds(290));
    assert_eq!(stream.read(P, late, 1).await.unwrap().events[0].sequence, 290);
}

#[tokio::test]
async fn whoever_is_refused_because_of_another_partition_hears_when_there_is_room() {
    let InTempFolder { stream, folder: _folder } = in_temp_folder();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    stream.on_commit(Arc::new(move |partition, committed| {
        if partition == P {
            told.send(committed.next).unwrap();
        }
    }));
    let body = vec![7; 200_000];
    let batch: Vec<_> = (0..60).map(|_| message(&body)).collect();
    let refused = (0..1_000).any(|_| {
        let _ = stream.append(PartitionId(0), &stamp("d", 1), &batch);
        stream.append(P, &stamp("d", 1), &[message(&body)]) == Err(Refusal::Full)
    });
    assert!(refused, "the test is about being refused");
    // What was taken before is told, and then once more that there is room.
    let taken = stream.inner.partitions[2].lock().next;
    while hears.recv().await.unwrap() < taken {}
    while stream.append(P, &stamp("d", 1), &[message(&body)]) == Err(Refusal::Full) {
        hears.recv().await.unwrap();
    }
}
