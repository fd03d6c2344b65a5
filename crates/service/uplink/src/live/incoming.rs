//! What the hub sends, packet by packet.

use skerry_dialect::mqtt::client::{self as dialect, Heard};
use skerry_model::{ClientId, MethodCallId, Monotonic, Now};
use skerry_mqtt::{Grant, Packet, PacketId, Publish, Qos, Transfer, client};

use super::{Change, Key, Live, Phase};
use crate::config::Limits;
use crate::ended::Ended;
use crate::inbox::{self, Arrival, Inbox};

impl Live {
    /// Takes one packet. `wanted` are the filters that a new connection begins with; deliveries go into `inbox`.
    pub(crate) fn handle_packet(
        &mut self,
        now: Now,
        packet: Packet<'_>,
        own: &ClientId,
        wanted: &[String],
        inbox: &mut Inbox,
        limits: &Limits,
    ) -> Result<Change, Ended> {
        match self.connection.handle_packet(now.monotonic, packet)? {
            None => {}
            Some(client::Event::Accepted { .. }) => return self.accepted(now.monotonic, wanted),
            Some(client::Event::Refused(code)) => return Err(Ended::Refused(code)),
            Some(client::Event::Acked(Key::Message(ticket))) => {
                self.messages.acked(ticket);
                self.progressed = now.monotonic;
            }
            Some(client::Event::Acked(Key::Control)) => {}
            Some(client::Event::Subscribed(answer)) => {
                let granted = answer.grants().all(|grant| grant != Grant::Failure);
                return Ok(self.subscribed(now.monotonic, answer.id, granted, own));
            }
            Some(client::Event::Unsubscribed(id)) => return Ok(self.subscribed(now.monotonic, id, true, own)),
            Some(client::Event::Publish { publish, sequence }) => {
                return Ok(self.publication(now, &publish, sequence.unwrap_or(0), own, inbox, limits));
            }
        }
        Ok(Change::None)
    }

    fn accepted(&mut self, now: Monotonic, wanted: &[String]) -> Result<Change, Ended> {
        if wanted.is_empty() {
            return Ok(self.become_ready(now));
        }
        let filters: Vec<_> = wanted.iter().map(|filter| (filter.as_str(), Qos::AtLeastOnce)).collect();
        self.twin_subscribed = wanted.iter().any(|filter| filter == dialect::TWIN_RESPONSE_FILTER);
        match self.connection.subscribe(&filters, &mut self.out) {
            Ok(id) => self.phase = Phase::Subscribing(id),
            Err(error) => return Err(Ended::Broken(std::io::Error::other(error))),
        }
        Ok(Change::None)
    }

    fn become_ready(&mut self, now: Monotonic) -> Change {
        self.phase = Phase::Ready;
        self.ready_at = Some(now);
        Change::Ready
    }

    fn subscribed(&mut self, now: Monotonic, id: PacketId, granted: bool, own: &ClientId) -> Change {
        if let Some(waiting) = self.subscriptions.remove(&id) {
            // Who asked may have given up.
            let _ = waiting.send(granted);
        }
        match self.phase {
            Phase::Subscribing(awaited) if awaited == id => {
                if !granted {
                    tracing::warn!(client = %own, "the hub refuses a subscription that it had granted before");
                }
                self.become_ready(now)
            }
            _ => Change::None,
        }
    }

    fn publication(
        &mut self,
        now: Now,
        publish: &Publish<'_>,
        sequence: u64,
        own: &ClientId,
        inbox: &mut Inbox,
        limits: &Limits,
    ) -> Change {
        let heard = match dialect::heard(own, publish.topic, publish.payload) {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(client = %own, %error, "a publication of the hub was dropped");
                self.ack(sequence);
                return Change::None;
            }
        };
        self.calls += 1;
        let arrival = Arrival {
            lock: inbox::lock(self.number, sequence),
            call: MethodCallId(u128::from(self.number) << 64 | u128::from(self.calls)),
            redelivered: matches!(
                publish.transfer,
                Transfer::AtLeastOnce { dup: true, .. } | Transfer::ExactlyOnce { dup: true, .. }
            ),
            at: now.wall,
        };
        let to_be_settled = matches!(heard, Heard::Command(_) | Heard::Input { .. });
        if !to_be_settled {
            self.ack(sequence);
        }
        if let Some(delivery) = inbox::delivery(&heard, own, &arrival) {
            inbox.push(delivery, publish.topic.len() + publish.payload.len());
        }
        match heard {
            Heard::Method { rid, .. } => {
                // The call whose answer is missing for the longest time has timed out at the hub.
                if self.methods.len() >= limits.methods_max {
                    self.methods.pop_first();
                }
                self.methods.insert(arrival.call, rid.to_owned());
            }
            Heard::TwinResponse { rid, answer } => {
                if let Some(waiting) = rid.parse().ok().and_then(|rid| self.requests.remove(&rid)) {
                    // Who asked may have given up.
                    let _ = waiting.send(answer);
                    self.progress.send_modify(|_| {});
                }
                return Change::None;
            }
            Heard::Command(_) | Heard::Input { .. } | Heard::Desired(_) => {}
        }
        Change::Delivered
    }
}
