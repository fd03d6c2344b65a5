//! What a client said: its packets, and where each of them goes.

use skerry_dialect::mqtt::{Mark, Said, marked, said};
use skerry_model::{MessageView, Outcome, PropertyBag, Reply, Request, Settled};
use skerry_mqtt::server::Event;
use skerry_mqtt::{Publish, decode};
use smallvec::SmallVec;

use super::mail::ReplyTo;
use super::telemetry::{BATCH_MESSAGES_MAX, Batch};
use super::{Client, End};
use crate::{Backend, Runtime};

impl<B: Backend> Client<B> {
    /// Understands whole packets from the front of `bytes` and answers how many bytes they were.
    pub(super) fn understand(&mut self, runtime: &Runtime<B>, bytes: &[u8]) -> Result<usize, End> {
        let now = runtime.clock.now();
        let mut rest = bytes;
        let mut batch = Batch::default();
        let mut settled: SmallVec<[Settled; 64]> = SmallVec::new();
        let outcome = loop {
            if !self.may_read() {
                self.backlog = !rest.is_empty();
                break Ok(());
            }
            let packet = match decode(&mut rest, &self.limits) {
                Ok(Some(packet)) => packet,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            let event = match self.mqtt.handle_packet(now.monotonic, packet, self.outgoing.open(&runtime.buffers)) {
                Ok(event) => event,
                Err(violation) => break Err(violation.into()),
            };
            let understood = match event {
                Some(Event::Publish { publish, sequence }) => {
                    self.hear(runtime, &mut batch, &publish, sequence.is_some())
                }
                Some(Event::Acked(Some(lock))) => {
                    settled.push(Settled { lock, outcome: Outcome::Accepted });
                    Ok(())
                }
                Some(Event::Subscribe(subscribe)) => self.subscribe(runtime, &subscribe),
                Some(Event::Unsubscribe(unsubscribe)) => self.unsubscribe(runtime, &unsubscribe),
                Some(Event::Disconnect) => Err(End::Left),
                // The state machine refuses a second introduction by itself.
                Some(Event::Acked(None) | Event::UnknownAck(_) | Event::Connect(_) | Event::ForeignProtocol { .. })
                | None => Ok(()),
            };
            if let Err(end) = understood {
                break Err(end);
            }
        };
        // What came in good order before a violation counts.
        let flushed = self.flush(runtime, &mut batch);
        if !settled.is_empty() {
            self.session.handle_settled(now, u32::try_from(settled.len()).unwrap_or(u32::MAX));
            self.attached.lane.settle(self.attached.key(), &settled);
        }
        outcome?;
        flushed?;
        Ok(bytes.len() - rest.len())
    }

    fn hear<'a>(
        &mut self,
        runtime: &Runtime<B>,
        batch: &mut Batch<'a>,
        publish: &Publish<'a>,
        with_ack: bool,
    ) -> Result<(), End> {
        match said(&self.id, publish.topic, publish.payload)? {
            Said::Telemetry(message) => {
                self.check_size(&message)?;
                if publish.retain {
                    self.flush(runtime, batch)?;
                    let bag = marked(message.properties, Mark::Retained);
                    let message = MessageView { properties: PropertyBag::new(&bag), body: message.body };
                    return self.append(runtime, &[message], u32::from(with_ack));
                }
                batch.messages.push(message);
                batch.with_ack += u32::from(with_ack);
                if batch.messages.len() >= BATCH_MESSAGES_MAX { self.flush(runtime, batch) } else { Ok(()) }
            }
            Said::Asked { rid, request } => {
                self.flush(runtime, batch)?;
                self.taken(runtime, with_ack);
                let to = ReplyTo::Twin { rid: rid.to_owned() };
                match request.and_then(|request| self.session.begin_request().map(|()| request)) {
                    Ok(request) => self.attached.submit(vec![request], to),
                    Err(error) => self.answer(runtime, &to, &Reply::Failed(error)),
                }
                Ok(())
            }
            Said::Answered(answer) => {
                self.flush(runtime, batch)?;
                self.taken(runtime, with_ack);
                self.attached.submit(vec![Request::AnswerMethod(answer)], ReplyTo::Nobody);
                Ok(())
            }
            Said::Stray => {
                self.flush(runtime, batch)?;
                self.taken(runtime, with_ack);
                Ok(())
            }
        }
    }
}
