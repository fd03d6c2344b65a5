//! Reading the hub's events, from the first or from now on, each once.

use std::collections::BTreeMap;
use std::time::Duration;

use skerry_dialect::own::{EventLine, EventQuery, Line, Start, read_line};
use skerry_model::DeviceId;

use crate::Failure;
use crate::hub::Hub;

/// Events of one answer.
const COUNT: usize = 10_000;

/// A place in the hub's events.
pub(crate) struct Events<'a> {
    hub: &'a Hub,
    query: EventQuery,
    /// The next event of each partition, to see that none is given twice.
    next: BTreeMap<u16, u64>,
}

impl<'a> Events<'a> {
    /// Events of one device and its modules.
    pub(crate) fn new(hub: &'a Hub, device: &DeviceId, start: Start) -> Self {
        let mut query = EventQuery::new(start);
        query.device = Some(device.clone());
        query.count = COUNT;
        Self { hub, query, next: BTreeMap::new() }
    }

    /// What comes next, waiting for it at most `wait`; nothing means that there is nothing for now.
    pub(crate) async fn read(&mut self, wait: Duration) -> Result<Vec<EventLine>, Failure> {
        self.query.wait = wait;
        loop {
            let answer = self.hub.events(&self.query).await?;
            let before = self.query.from.clone();
            let events = self.take(&answer)?;
            // An answer without events may all the same be a step: events of others were passed over.
            if !events.is_empty() || self.query.from == before || self.query.wait > Duration::ZERO {
                return Ok(events);
            }
        }
    }

    fn take(&mut self, answer: &[u8]) -> Result<Vec<EventLine>, Failure> {
        let mut events = Vec::new();
        let mut ended = false;
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match read_line(line)? {
                Line::Cursor(cursor) => {
                    ended = true;
                    // A stream without events has no place to go on from yet.
                    if !cursor.positions().is_empty() {
                        self.query.from = Start::Cursor(cursor);
                    }
                }
                Line::Event(event) => {
                    let next = self.next.entry(event.partition).or_default();
                    if event.sequence < *next {
                        let (partition, sequence) = (event.partition, event.sequence);
                        return Err(format!("the hub gave event {partition}:{sequence} twice or out of order").into());
                    }
                    *next = event.sequence + 1;
                    events.push(event);
                }
            }
        }
        if ended { Ok(events) } else { Err("the hub's answer ends in the middle".into()) }
    }
}
