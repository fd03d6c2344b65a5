//! The port in memory: for tests, simulations and hubs that need not remember.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use skerry_model::{MessageView, Refusal, Stamp, Timestamp};
use tokio::sync::{Notify, watch};

use crate::port::READ_BYTES_MAX;
use crate::{Bounds, CommitListener, Committed, Event, EventStream, PartitionId, Pending, Position, Span, StreamError};

/// Events of one partition that wait to be committed, at most.
const WAITING_MAX: usize = 65_536;

/// Events in memory; gone with the value.
pub struct MemoryStream {
    inner: Arc<Inner>,
}

struct Inner {
    partitions: Vec<Partition>,
    listener: Mutex<Option<CommitListener>>,
    appended: Notify,
}

struct Partition {
    events: Mutex<Events>,
    committed: watch::Sender<Committed>,
}

#[derive(Default)]
struct Events {
    first: u64,
    kept: VecDeque<Event>,
    last_enqueued: Option<Timestamp>,
    failed: bool,
}

impl MemoryStream {
    /// A stream that commits by itself, from a task of the current tokio runtime.
    pub fn start(partitions: u16) -> Self {
        let stream = Self::held(partitions);
        let weak = Arc::downgrade(&stream.inner);
        tokio::spawn(async move {
            while let Some(inner) = weak.upgrade() {
                inner.commit();
                let appended = Arc::clone(&inner);
                drop(inner);
                // Wakes at the latest when the stream is dropped.
                appended.appended.notified().await;
            }
        });
        stream
    }

    /// A stream that commits only when [`MemoryStream::commit`] is called.
    pub fn held(partitions: u16) -> Self {
        let partition = || Partition { events: Mutex::default(), committed: watch::Sender::default() };
        let partitions = (0..partitions.max(1)).map(|_| partition()).collect();
        Self { inner: Arc::new(Inner { partitions, listener: Mutex::default(), appended: Notify::new() }) }
    }

    /// Makes everything appended so far durable.
    pub fn commit(&self) {
        self.inner.commit();
    }

    /// From now on nothing can be written; what was not committed is lost.
    pub fn fail(&self) {
        for (partition, id) in self.inner.each() {
            let mut events = partition.lock();
            events.failed = true;
            let durable = partition.committed.borrow().next;
            let keep = usize::try_from(durable.saturating_sub(events.first)).unwrap_or(usize::MAX);
            events.kept.truncate(keep);
            drop(events);
            let committed = Committed { next: durable, failed: true };
            partition.committed.send_replace(committed);
            self.inner.tell(id, committed);
        }
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.inner.appended.notify_one();
    }
}

impl Inner {
    fn each(&self) -> impl Iterator<Item = (&Partition, PartitionId)> {
        self.partitions.iter().zip(0..).map(|(partition, index)| (partition, PartitionId(index)))
    }

    fn partition(&self, id: PartitionId) -> Result<&Partition, StreamError> {
        self.partitions.get(usize::from(id.0)).ok_or(StreamError::NoSuchPartition(id))
    }

    fn commit(&self) {
        for (partition, id) in self.each() {
            let (next, failed) = {
                let events = partition.lock();
                (events.next(), events.failed)
            };
            if !failed && partition.committed.borrow().next < next {
                let committed = Committed { next, failed: false };
                partition.committed.send_replace(committed);
                self.tell(id, committed);
            }
        }
    }

    fn tell(&self, partition: PartitionId, committed: Committed) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener {
            listener(partition, committed);
        }
    }
}

impl Partition {
    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    fn next(&self) -> u64 {
        self.first + u64::try_from(self.kept.len()).unwrap_or(u64::MAX)
    }

    fn read(&self, durable: u64, from: Position, bytes_max: usize) -> Span {
        let start = match from {
            Position::Start => self.first,
            Position::End => durable,
            Position::Sequence(sequence) => sequence.max(self.first),
            Position::Enqueued(moment) => {
                let before = self.kept.partition_point(|event| event.stamp.enqueued < moment);
                self.first + u64::try_from(before).unwrap_or(u64::MAX)
            }
        };
        let mut span = Span { events: Vec::new(), next: start.min(durable) };
        let mut bytes = 0;
        let skip = usize::try_from(start - self.first).unwrap_or(usize::MAX);
        for event in self.kept.iter().skip(skip).take_while(|event| event.sequence < durable) {
            bytes += event.properties.len() + event.body.len();
            if !span.events.is_empty() && bytes > bytes_max.min(READ_BYTES_MAX) {
                break;
            }
            span.next = event.sequence + 1;
            span.events.push(event.clone());
        }
        span
    }
}

impl EventStream for MemoryStream {
    fn partitions(&self) -> u16 {
        u16::try_from(self.inner.partitions.len()).unwrap_or(u16::MAX)
    }

    fn append(&self, id: PartitionId, stamp: &Stamp, messages: &[MessageView<'_>]) -> Result<u64, Refusal> {
        let partition = self.inner.partition(id).map_err(|error| Refusal::Failed(error.to_string().into()))?;
        let mut events = partition.lock();
        if events.failed {
            return Err(Refusal::Failed("the stream was stopped".into()));
        }
        let waiting = events.next() - partition.committed.borrow().next;
        if usize::try_from(waiting).unwrap_or(usize::MAX) + messages.len() > WAITING_MAX {
            return Err(Refusal::Full);
        }
        let enqueued = events.last_enqueued.map_or(stamp.enqueued, |last| last.max(stamp.enqueued));
        for message in messages {
            let event = Event {
                sequence: events.next(),
                stamp: Stamp { enqueued, ..stamp.clone() },
                properties: message.properties.as_str().to_owned(),
                body: Bytes::copy_from_slice(message.body),
            };
            events.kept.push_back(event);
            events.last_enqueued = Some(enqueued);
        }
        let next = events.next();
        drop(events);
        self.inner.appended.notify_one();
        Ok(next)
    }

    fn on_commit(&self, listener: CommitListener) {
        *self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    fn commits(&self, id: PartitionId) -> Result<watch::Receiver<Committed>, StreamError> {
        Ok(self.inner.partition(id)?.committed.subscribe())
    }

    fn bounds(&self, id: PartitionId) -> Result<Bounds, StreamError> {
        let partition = self.inner.partition(id)?;
        let events = partition.lock();
        let next = partition.committed.borrow().next;
        Ok(Bounds { first: events.first.min(next), next, last_enqueued: events.last_enqueued })
    }

    fn read(&self, id: PartitionId, from: Position, bytes_max: usize) -> Pending<'_, Span> {
        Box::pin(async move {
            let partition = self.inner.partition(id)?;
            let events = partition.lock();
            let durable = partition.committed.borrow().next;
            Ok(events.read(durable, from, bytes_max))
        })
    }

    fn trim(&self, id: PartitionId, before: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            let partition = self.inner.partition(id)?;
            let mut events = partition.lock();
            let durable = partition.committed.borrow().next;
            while events.first < before.min(durable) && events.kept.pop_front().is_some() {
                events.first += 1;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::stamp;
    use skerry_model::PropertyBag;

    crate::conformance_suite!(async || Box::new(MemoryStream::start(4)));

    #[test]
    fn what_is_not_committed_is_neither_read_nor_kept_by_a_failure() {
        let stream = MemoryStream::held(1);
        let message = MessageView { properties: PropertyBag::new(""), body: b"x" };
        let p = PartitionId(0);
        assert_eq!(stream.append(p, &stamp("d", 1), &[message]), Ok(1));
        assert_eq!(stream.bounds(p).unwrap().next, 0);
        stream.commit();
        assert_eq!(stream.append(p, &stamp("d", 1), &[message]), Ok(2));
        stream.fail();
        assert_eq!(stream.bounds(p).unwrap().next, 1);
        assert!(matches!(stream.append(p, &stamp("d", 1), &[message]), Err(Refusal::Failed(_))));
    }

    #[test]
    fn what_waits_is_bounded() {
        let stream = MemoryStream::held(1);
        let message = MessageView { properties: PropertyBag::new(""), body: b"x" };
        let many = vec![message; WAITING_MAX];
        assert!(stream.append(PartitionId(0), &stamp("d", 1), &many).is_ok());
        assert_eq!(stream.append(PartitionId(0), &stamp("d", 1), &[message]), Err(Refusal::Full));
        stream.commit();
        assert!(stream.append(PartitionId(0), &stamp("d", 1), &[message]).is_ok());
    }
}
