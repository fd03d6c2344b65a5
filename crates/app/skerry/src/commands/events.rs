//! `skerry events`: shows what devices send, from anywhere in the stream, across restarts of the hub.

use std::collections::BTreeMap;
use std::time::Duration;

use skerry_dialect::http::Route;
use skerry_dialect::own::{EventLine, EventQuery, Line, Start, read_line};
use skerry_model::{ClientId, Json};
use skerry_net::http::Method;

use crate::arguments::Events;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::{Output, printable};

/// How long the hub holds a request open until something arrives.
pub(super) const WAIT: Duration = Duration::from_secs(20);
/// Pause before the hub is asked again after it could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// A line: a message at its limit, written as base64 in JSON.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Room for the sender's name in a table.
const SOURCE_WIDTH: usize = 28;

pub(super) async fn run(events: Events, hub: &Hub, output: &mut Output) -> Result<(), Failure> {
    let start = Start::parse(&events.from).map_err(|error| Failure::usage(error.detail))?;
    let mut query = EventQuery::new(start);
    query.partition = events.partition;
    query.device = events.device.clone();
    let mut reader = Reader { events, shown: 0, next: BTreeMap::new() };
    output.say(format!("{:24}  {:SOURCE_WIDTH$}  MESSAGE", "TAKEN", "FROM"))?;
    // The first answer comes at once and says where the stream stands: what arrives while the hub is away is not missed then.
    let mut from = reader.read(&query, hub, output).await?;
    loop {
        let at_end = from == query.from;
        if reader.is_done() || (reader.events.no_follow && at_end) {
            return Ok(());
        }
        query.from = from.clone();
        query.wait = if reader.events.no_follow { Duration::ZERO } else { WAIT };
        match reader.read(&query, hub, output).await {
            Ok(next) => from = next,
            // A hub that is being restarted is waited for; one that was never reached is a failure.
            Err(failure) if failure.is_unreachable() && !reader.events.no_follow => {
                let notice = format!("-- {}; trying again\n", failure.in_a_line());
                let _ = std::io::Write::write_all(&mut std::io::stderr(), notice.as_bytes());
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

struct Reader {
    events: Events,
    shown: u64,
    /// The next event of each partition: one that an interrupted answer showed already is not shown again.
    next: BTreeMap<u16, u64>,
}

impl Reader {
    fn is_done(&self) -> bool {
        self.events.count.is_some_and(|count| self.shown >= count)
    }

    /// Shows the events of one answer and gives where to go on.
    async fn read(&mut self, query: &EventQuery, hub: &Hub, output: &mut Output) -> Result<Start, Failure> {
        let mut body = hub.open(Call::with_query(Method::GET, &Route::Events, &query.to_string())).await?;
        let mut from = query.from.clone();
        let mut waiting = Vec::new();
        while let Some(piece) = body.piece().await? {
            waiting.extend_from_slice(&piece);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                match read_line(&line)
                    .map_err(|error| Failure::failed("the hub's answer is not understood").because(error))?
                {
                    Line::Cursor(cursor) => from = Start::Cursor(cursor),
                    Line::Event(event) => self.show(&event, output)?,
                }
                if self.is_done() {
                    return Ok(from);
                }
            }
            if waiting.len() > LINE_BYTES_MAX {
                return Err(Failure::failed(format!("the hub sent a line of more than {LINE_BYTES_MAX} bytes")));
            }
        }
        Ok(from)
    }

    fn show(&mut self, event: &EventLine, output: &mut Output) -> Result<(), Failure> {
        let next = self.next.entry(event.partition).or_default();
        if event.sequence < *next {
            return Ok(());
        }
        *next = event.sequence + 1;
        if self.events.module.is_some() && event.source.module() != self.events.module.as_ref() {
            return Ok(());
        }
        self.shown += 1;
        let document = Json::Object(event.document.clone());
        let line = row(event, self.events.properties);
        Ok(output.line_or(&document, line)?)
    }
}

fn row(event: &EventLine, with_properties: bool) -> String {
    let source: &ClientId = &event.source;
    let body = event.body();
    let body = match std::str::from_utf8(&body) {
        Ok(text) => printable(text.trim()),
        Err(_) => format!("({} bytes that are no text)", body.len()),
    };
    let mut row = format!("{}  {:SOURCE_WIDTH$}  {body}", event.enqueued, source.to_string());
    if with_properties
        && let Some(properties) =
            event.document.get("properties").filter(|all| **all != Json::Object(Default::default()))
    {
        row.push_str("  ");
        row.push_str(&properties.to_string());
    }
    row
}
