//! What every backend of the port must do. A backend runs it with [`conformance_suite!`](crate::conformance_suite).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a suite of tests fails by panicking")]

use std::sync::{Arc, Mutex};

use skerry_model::{
    AuthKind, AuthMethod, AuthScope, ClientId, MessageSource, MessageView, PropertyBag, Refusal, Stamp, Timestamp,
};

use crate::{Event, EventStream, PartitionId, Position, StreamError};

/// Makes one test of each case. `$make` is an async function without arguments whose answer dereferences to a stream with four
/// partitions that commits by itself.
#[macro_export]
macro_rules! conformance_suite {
    ($make:expr) => {
        $crate::conformance_suite!(@cases $make;
            what_was_committed_is_read_back,
            readers_start_where_they_ask,
            a_read_is_bounded_but_never_stuck,
            partitions_do_not_mix,
            moments_never_fall_within_a_partition,
            what_is_trimmed_is_gone,
            the_listener_and_the_watch_learn_of_every_commit,
            no_partition_is_made_up,
        );
    };
    (@cases $make:expr; $($case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let make = $make;
                let held = make().await;
                $crate::conformance::$case(&*held).await;
            }
        )*
    };
}

/// A stamp of telemetry of the device `device`, taken at this second.
pub fn stamp(device: &str, second: i64) -> Stamp {
    Stamp {
        source: ClientId::parse(device).unwrap(),
        generation: Arc::from("1"),
        auth_method: AuthMethod { scope: AuthScope::Device, kind: AuthKind::Sas },
        model_id: None,
        kind: MessageSource::Telemetry,
        enqueued: Timestamp::from_unix_seconds(second),
    }
}

const P: PartitionId = PartitionId(1);

/// Appends one message of each body and waits until they are durable.
async fn append(stream: &impl EventStream, partition: PartitionId, second: i64, bodies: &[&str]) -> u64 {
    let messages: Vec<_> =
        bodies.iter().map(|body| MessageView { properties: PropertyBag::new("a=1"), body: body.as_bytes() }).collect();
    let next = stream.append(partition, &stamp("edge/mod", second), &messages).unwrap();
    stream.commits(partition).unwrap().wait_for(|committed| committed.next >= next).await.unwrap();
    next
}

fn bodies(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8_lossy(&event.body).into_owned()).collect()
}

async fn read(stream: &impl EventStream, from: Position) -> Vec<String> {
    bodies(&stream.read(P, from, 1 << 20).await.unwrap().events)
}

#[doc(hidden)]
pub async fn what_was_committed_is_read_back(stream: &impl EventStream) {
    assert_eq!(stream.partitions(), 4);
    assert_eq!(stream.bounds(P).unwrap().last_enqueued, None);
    assert_eq!(append(stream, P, 5, &["one", ""]).await, 2);
    assert_eq!(append(stream, P, 6, &["three"]).await, 3);
    let span = stream.read(P, Position::Start, 1 << 20).await.unwrap();
    assert_eq!((bodies(&span.events), span.next), (vec!["one".to_owned(), String::new(), "three".to_owned()], 3));
    let sequences: Vec<_> = span.events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [0, 1, 2]);
    assert_eq!((&span.events[0].stamp, span.events[0].properties.as_str()), (&stamp("edge/mod", 5), "a=1"));
    let bounds = stream.bounds(P).unwrap();
    assert_eq!((bounds.first, bounds.next, bounds.last_enqueued), (0, 3, Some(Timestamp::from_unix_seconds(6))));
}

#[doc(hidden)]
pub async fn readers_start_where_they_ask(stream: &impl EventStream) {
    for (second, body) in [(10, "a"), (20, "b"), (20, "c"), (30, "d")] {
        append(stream, P, second, &[body]).await;
    }
    assert_eq!(read(stream, Position::Start).await, ["a", "b", "c", "d"]);
    assert_eq!(read(stream, Position::Sequence(2)).await, ["c", "d"]);
    assert_eq!(read(stream, Position::Enqueued(Timestamp::from_unix_seconds(11))).await, ["b", "c", "d"]);
    assert_eq!(read(stream, Position::Enqueued(Timestamp::from_unix_seconds(20))).await, ["b", "c", "d"]);
    assert_eq!(read(stream, Position::Enqueued(Timestamp::from_unix_seconds(31))).await, Vec::<String>::new());
    let end = stream.read(P, Position::End, 1 << 20).await.unwrap();
    assert_eq!((end.events.len(), end.next), (0, 4));
    let beyond = stream.read(P, Position::Sequence(99), 1 << 20).await.unwrap();
    assert_eq!((beyond.events.len(), beyond.next), (0, 4), "a position that does not exist yet is cut to the end");
    append(stream, P, 31, &["e"]).await;
    assert_eq!(read(stream, Position::Sequence(end.next)).await, ["e"]);
}

#[doc(hidden)]
pub async fn a_read_is_bounded_but_never_stuck(stream: &impl EventStream) {
    let large = "x".repeat(1_000);
    append(stream, P, 1, &[&large, &large, &large]).await;
    let mut next = 0;
    let mut reads = 0;
    while next < 3 {
        let span = stream.read(P, Position::Sequence(next), 10).await.unwrap();
        assert_eq!(span.events.len(), 1);
        next = span.next;
        reads += 1;
    }
    assert_eq!(reads, 3);
    assert!(stream.read(P, Position::Start, 2_500).await.unwrap().events.len() < 3);
}

#[doc(hidden)]
pub async fn partitions_do_not_mix(stream: &impl EventStream) {
    append(stream, PartitionId(0), 1, &["zero"]).await;
    append(stream, P, 1, &["one"]).await;
    append(stream, PartitionId(0), 1, &["zero again"]).await;
    assert_eq!(read(stream, Position::Start).await, ["one"]);
    assert_eq!(stream.bounds(PartitionId(0)).unwrap().next, 2);
    assert_eq!(stream.bounds(PartitionId(3)).unwrap().next, 0);
}

#[doc(hidden)]
pub async fn moments_never_fall_within_a_partition(stream: &impl EventStream) {
    append(stream, P, 100, &["a"]).await;
    append(stream, P, 50, &["b"]).await;
    let span = stream.read(P, Position::Start, 1 << 20).await.unwrap();
    let seconds: Vec<_> = span.events.iter().map(|event| event.stamp.enqueued.unix_seconds()).collect();
    assert_eq!(seconds, [100, 100]);
}

#[doc(hidden)]
pub async fn what_is_trimmed_is_gone(stream: &impl EventStream) {
    append(stream, P, 1, &["a", "b", "c"]).await;
    stream.trim(P, 2).await.unwrap();
    let first = stream.bounds(P).unwrap().first;
    assert!(first <= 2, "what was not to be trimmed is kept");
    let span = stream.read(P, Position::Sequence(0), 1 << 20).await.unwrap();
    assert_eq!(span.events.first().map(|event| event.sequence), Some(first));
    stream.trim(P, 99).await.unwrap();
    assert_eq!(append(stream, P, 2, &["d"]).await, 4, "sequence numbers go on");
    assert_eq!(read(stream, Position::Sequence(3)).await, ["d"]);
}

#[doc(hidden)]
pub async fn the_listener_and_the_watch_learn_of_every_commit(stream: &impl EventStream) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    stream.on_commit(Arc::new(move |partition, committed| sink.lock().unwrap().push((partition, committed.next))));
    let mut watch = stream.commits(P).unwrap();
    append(stream, P, 1, &["a", "b"]).await;
    append(stream, P, 1, &["c"]).await;
    assert_eq!(watch.wait_for(|committed| committed.next == 3).await.unwrap().next, 3);
    // The listener may be called a moment after the watch was set.
    while told.lock().unwrap().last() != Some(&(P, 3)) {
        tokio::task::yield_now().await;
    }
    assert!(told.lock().unwrap().is_sorted());
}

#[doc(hidden)]
pub async fn no_partition_is_made_up(stream: &impl EventStream) {
    let missing = PartitionId(4);
    assert!(matches!(stream.append(missing, &stamp("d", 1), &[]), Err(Refusal::Failed(_))));
    assert_eq!(stream.bounds(missing), Err(StreamError::NoSuchPartition(missing)));
    assert!(stream.commits(missing).is_err());
    assert!(stream.read(missing, Position::Start, 1).await.is_err());
    assert!(stream.trim(missing, 1).await.is_err());
}
