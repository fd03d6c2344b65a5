//! One sending module: numbers its messages, keeps those that are not acknowledged, and sends them again on a new connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skerry_model::{PropertyBagBuilder, Ticket, Timestamp, system};
use skerry_net::Clock;
use skerry_uplink::{Link, NotAppended, UplinkSession};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Failure;
use crate::board::Board;
use crate::ledger::{Acknowledged, LedgerSender};

/// Messages that may be unacknowledged; while there are so many, no new ones are made.
const IN_FLIGHT_MAX: usize = 1_000;
/// Messages are made about this often, several at a time where the rate wants it.
const TICK: Duration = Duration::from_millis(10);
/// What was not made for so long, because too much was in flight, is not made up for.
const OWED_MAX: Duration = Duration::from_secs(1);

/// What is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) run: u32,
    /// Messages a second.
    pub(crate) rate: u32,
    /// Bytes of a body, at least.
    pub(crate) bytes: u32,
    pub(crate) output: String,
}

/// A module that sends.
pub(crate) struct Sender {
    name: String,
    order: Order,
    properties: String,
    session: Arc<UplinkSession>,
    notes: LedgerSender,
    board: Board,
    clock: Clock,
    /// Number of the last message that was made.
    last: u64,
    /// Made and not acknowledged, in order.
    waiting: VecDeque<(u64, String)>,
    /// Messages up to this moment are made.
    made_to: Instant,
}

impl Sender {
    pub(crate) fn new(
        name: String,
        order: Order,
        session: Arc<UplinkSession>,
        notes: LedgerSender,
        board: Board,
    ) -> Self {
        let mut bag = PropertyBagBuilder::new();
        bag.push(system::OUTPUT_NAME, &order.output);
        bag.push(system::CONTENT_TYPE, "application/json").push(system::CONTENT_ENCODING, "utf-8");
        let properties = bag.finish();
        let (clock, waiting) = (Clock::system(), VecDeque::new());
        Self { name, order, properties, session, notes, board, clock, last: 0, waiting, made_to: Instant::now() }
    }

    /// Sends until it is to stop and everything is acknowledged.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), Failure> {
        loop {
            let link = self.session.link().await?;
            if self.send_on(&link, &mut stopped).await? {
                return Ok(());
            }
        }
    }

    /// Sends on one connection; whether all is done.
    async fn send_on(&mut self, link: &Link, stopped: &mut watch::Receiver<bool>) -> Result<bool, Failure> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut handed_over, mut acked) = (0, Ticket(0));
        loop {
            let full = self.hand_over(link, &mut handed_over)?;
            let stop = *stopped.borrow_and_update();
            if stop && self.waiting.is_empty() {
                return Ok(true);
            }
            tokio::select! {
                progress = link.acked_beyond(acked) => {
                    let (now, lost) = match progress {
                        Ok(now) => (now, false),
                        Err(lost) => (lost.acked, true),
                    };
                    let messages = usize::try_from(now.0 - acked.0)?;
                    self.note(messages).await?;
                    if lost {
                        return Ok(false);
                    }
                    (handed_over, acked) = (handed_over - messages, now);
                }
                _ = ticks.tick(), if !stop && self.waiting.len() < IN_FLIGHT_MAX => self.make(),
                // Its loss is told above as well.
                _ = link.room(), if full => {}
                changed = stopped.changed(), if !stop => changed?,
            }
        }
    }

    /// Gives the connection what it does not have yet; whether it is full.
    fn hand_over(&self, link: &Link, handed_over: &mut usize) -> Result<bool, Failure> {
        while let Some((number, body)) = self.waiting.get(*handed_over) {
            match link.append(&self.properties, body.as_bytes()) {
                Ok(_) => *handed_over += 1,
                Err(NotAppended::Full) => return Ok(true),
                Err(NotAppended::Ending) => return Ok(false),
                Err(NotAppended::Refused(error)) => {
                    return Err(format!("message {number} of {} is refused: {error}", self.name).into());
                }
            }
        }
        Ok(false)
    }

    /// The oldest so many messages are acknowledged.
    async fn note(&mut self, messages: usize) -> Result<(), Failure> {
        let done: Vec<u64> = self.waiting.drain(..messages).map(|(number, _)| number).collect();
        if let (Some(first), Some(last)) = (done.first(), done.last()) {
            let acknowledged = Acknowledged { sender: self.name.clone(), first: *first, last: *last };
            self.notes.send(acknowledged).await.map_err(|_| "the ledger is closed")?;
        }
        Ok(())
    }

    /// Makes what is due.
    fn make(&mut self) {
        let each = Duration::from_secs(1) / self.order.rate;
        let before = self.last;
        while each <= self.made_to.elapsed() && self.waiting.len() < IN_FLIGHT_MAX {
            self.made_to += each;
            self.last += 1;
            self.waiting.push_back((self.last, body(&self.order, self.last, self.clock.now().wall)));
        }
        if let Some(too_long) = self.made_to.elapsed().checked_sub(OWED_MAX) {
            self.made_to += too_long;
        }
        if before < self.last {
            self.board.sent(&self.name, self.last);
        }
    }
}

fn body(order: &Order, number: u64, now: Timestamp) -> String {
    let mut body = json!({ "run": order.run, "number": number, "time": now.to_string(), "fill": "" });
    let bytes = body.to_string().len();
    body["fill"] = "x".repeat((order.bytes as usize).saturating_sub(bytes)).into();
    body.to_string()
}

/// What a message of a load says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) run: u32,
    pub(crate) number: u64,
    /// When it was made.
    pub(crate) time: Timestamp,
}

impl Numbered {
    /// Reads a body; `None` when it is not one of a load.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let time = Timestamp::parse(body.get("time")?.as_str()?).ok()?;
        Some(Self { run: u32::try_from(body.get("run")?.as_u64()?).ok()?, number: body.get("number")?.as_u64()?, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_has_its_size_and_reads_back() {
        let order = Order { run: 3, rate: 1, bytes: 256, output: "load".to_owned() };
        let now = Timestamp::from_unix_millis(1_700_000_000_123);
        let text = body(&order, 42, now);
        assert_eq!(text.len(), 256);
        assert_eq!(Numbered::read(text.as_bytes()), Some(Numbered { run: 3, number: 42, time: now }));
        assert!(body(&Order { bytes: 0, ..order }, 1, now).len() < 256);
    }

    proptest! {
        #[test]
        fn any_body_reads_as_one_of_ours_or_not(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Numbered::read(&body);
        }
    }
}
