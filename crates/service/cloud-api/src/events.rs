//! The hub's own routes: reading events from any place and waiting for new ones, and who is connected.

use std::time::Duration;

use futures_util::future::select_all;
use skerry_dialect::own::{Cursor, EventQuery, LINES_CONTENT_TYPE, Start, cursor_line, event_line};
use skerry_model::{ErrorCode, PropertyBag, RequestError};
use skerry_net::http::{Method, Response, StatusCode, header};
use skerry_stream::{Committed, Event, PartitionId, Position, Span, StreamError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::CloudApi;
use crate::caller::Right;
use crate::respond::{Answered, json};
use crate::routes::Call;

/// Bytes of events read for one answer, all partitions together; an answer that is cut says where to go on.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// How far one partition is read.
struct Reader {
    partition: PartitionId,
    /// Where to read on, once the first read has told.
    from: Position,
    commits: watch::Receiver<Committed>,
}

impl CloudApi {
    pub(crate) async fn events(&self, call: &Call<'_>) -> Answered {
        if call.method != Method::GET {
            return Err(call.no_such_method().into());
        }
        self.service(call, Right::ServiceConnect).await?;
        let query = EventQuery::read(call.request.query())?;
        let mut readers = self.readers(&query)?;
        let deadline = Instant::now() + query.wait;
        loop {
            let (events, cursor, more) = self.read(&mut readers, &query).await?;
            if !events.is_empty() || (!more && !wait_for_more(&mut readers, deadline).await) {
                return Ok(lines(&events, &cursor));
            }
        }
    }

    pub(crate) async fn connections(&self, call: &Call<'_>) -> Answered {
        if call.method != Method::GET {
            return Err(call.no_such_method().into());
        }
        self.service(call, Right::ServiceConnect).await?;
        Ok(json(self.door.connections().document().to_string()))
    }

    /// Which partitions to read, and from where.
    fn readers(&self, query: &EventQuery) -> Result<Vec<Reader>, RequestError> {
        let stream = self.hub.stream();
        let of_device = query.device.as_ref().map(|device| PartitionId::of(device, stream.partitions()));
        let asked = query.partition.map(PartitionId);
        let mut readers = Vec::new();
        for partition in (0..stream.partitions()).map(PartitionId) {
            let wanted = asked.is_none_or(|asked| asked == partition) && of_device.is_none_or(|of| of == partition);
            if !wanted {
                continue;
            }
            let from = match &query.from {
                Start::Oldest => Position::Start,
                Start::Now => Position::Sequence(stream.bounds(partition).map_err(failed)?.next),
                Start::At(moment) => Position::Enqueued(*moment),
                Start::Cursor(cursor) => cursor.position(partition.0).map_or(Position::Start, Position::Sequence),
            };
            readers.push(Reader { partition, from, commits: stream.commits(partition).map_err(failed)? });
        }
        if let Some(asked) = asked.filter(|asked| asked.0 >= stream.partitions()) {
            return Err(RequestError::new(ErrorCode::ArgumentInvalid, StreamError::NoSuchPartition(asked).to_string()));
        }
        Ok(readers)
    }

    /// One round: what is wanted of all partitions, oldest first; where to go on; and whether there is more already.
    async fn read(
        &self,
        readers: &mut [Reader],
        query: &EventQuery,
    ) -> Result<(Vec<(PartitionId, Event)>, Cursor, bool), RequestError> {
        let bytes_max = READ_BYTES_MAX / readers.len().max(1);
        let mut found = Vec::new();
        let mut more = false;
        for reader in readers.iter_mut() {
            reader.commits.mark_unchanged();
            let stream = self.hub.stream();
            let Span { events, next } = stream.read(reader.partition, reader.from, bytes_max).await.map_err(failed)?;
            more |= next < stream.bounds(reader.partition).map_err(failed)?.next;
            reader.from = Position::Sequence(next);
            let wanted = events
                .into_iter()
                .filter(|event| query.device.as_ref().is_none_or(|device| event.stamp.source.device() == device));
            found.extend(wanted.map(|event| (reader.partition, event)));
        }
        // Within a partition moments never fall, so this keeps the order of each.
        found.sort_by_key(|(partition, event)| (event.stamp.enqueued, *partition, event.sequence));
        let left_out = found.split_off(query.count.min(found.len()));
        for reader in readers.iter_mut() {
            if let Some((_, first)) = left_out.iter().find(|(partition, _)| *partition == reader.partition) {
                reader.from = Position::Sequence(first.sequence);
            }
        }
        let positions = readers.iter().filter_map(|reader| match reader.from {
            Position::Sequence(next) => Some((reader.partition.0, next)),
            Position::Start | Position::End | Position::Enqueued(_) => None,
        });
        Ok((found, Cursor::new(positions), more))
    }
}

/// Waits until one of the partitions has more; says whether it has before `deadline`.
async fn wait_for_more(readers: &mut [Reader], deadline: Instant) -> bool {
    if deadline <= Instant::now() || readers.is_empty() {
        return false;
    }
    let changes = readers.iter_mut().map(|reader| Box::pin(reader.commits.changed()));
    let (changed, ..) = match tokio::time::timeout_at(deadline, select_all(changes)).await {
        Ok(first) => first,
        Err(_) => return false,
    };
    if changed.is_err() {
        // The stream ended; whoever asks again learns why.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    changed.is_ok()
}

fn lines(events: &[(PartitionId, Event)], cursor: &Cursor) -> Response {
    let mut text = String::new();
    for (partition, event) in events {
        let bag = PropertyBag::new(&event.properties);
        text.push_str(&event_line(partition.0, event.sequence, &event.stamp, bag, &event.body));
    }
    text.push_str(&cursor_line(cursor));
    let mut response = Response::new(StatusCode::OK).header(header::CONTENT_TYPE, LINES_CONTENT_TYPE);
    response.body = text.into();
    response
}

fn failed(error: StreamError) -> RequestError {
    RequestError::new(ErrorCode::Unavailable, error.to_string())
}
