//! A client's telemetry on its way to the hub: in batches, held while the store is full, acknowledged in its turn.

use skerry_dialect::mqtt::{Mark, marked};
use skerry_model::{ErrorCode, Message, MessageView, PropertyBag, Refusal, RequestError};
use smallvec::SmallVec;

use super::{Client, End};
use crate::{Backend, Closed, Runtime};

/// Messages handed to the hub at once.
pub(super) const BATCH_MESSAGES_MAX: usize = 256;

/// Messages of one read that go to the hub together.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub(super) messages: SmallVec<[MessageView<'a>; 64]>,
    pub(super) with_ack: u32,
}

/// A batch that the store had no room for.
pub(super) struct Held {
    messages: Vec<Message>,
    with_ack: u32,
}

impl<B: Backend> Client<B> {
    pub(super) fn check_size(&self, message: &MessageView<'_>) -> Result<(), End> {
        // Encoded properties are never shorter than decoded ones, so most messages need no counting.
        let at_most = message.body.len() + message.properties.as_str().len();
        if at_most <= self.message_bytes_max || message.counted_bytes() <= self.message_bytes_max {
            return Ok(());
        }
        let detail = format!(
            "sent a message of {} bytes, where {} are allowed",
            message.counted_bytes(),
            self.message_bytes_max
        );
        Err(End::Message(RequestError::new(ErrorCode::TooLarge, detail)))
    }

    pub(super) fn flush(&mut self, runtime: &Runtime<B>, batch: &mut Batch<'_>) -> Result<(), End> {
        if batch.messages.is_empty() {
            return Ok(());
        }
        let with_ack = std::mem::take(&mut batch.with_ack);
        let outcome = self.append(runtime, &batch.messages, with_ack);
        batch.messages.clear();
        outcome
    }

    pub(super) fn append(
        &mut self,
        runtime: &Runtime<B>,
        messages: &[MessageView<'_>],
        with_ack: u32,
    ) -> Result<(), End> {
        match self.attached.lane.append(self.attached.key(), messages) {
            Ok(ticket) => {
                let released = self.session.handle_appended(ticket, with_ack);
                self.acknowledge(runtime, released);
                Ok(())
            }
            Err(Refusal::Full) => {
                self.session.handle_store_full(runtime.clock.now());
                let messages = messages.iter().map(MessageView::to_owned).collect();
                self.held = Some(Held { messages, with_ack });
                Ok(())
            }
            Err(Refusal::Superseded) => Err(End::Hub(Closed::Superseded)),
            Err(Refusal::Failed(reason)) => {
                tracing::error!(client = %self.id, %reason, "the store failed");
                Err(End::Hub(Closed::StoreFailed))
            }
            Err(Refusal::Message { error, .. }) => Err(End::Message(error)),
        }
    }

    pub(super) fn offer_again(&mut self, runtime: &Runtime<B>) -> Result<(), End> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let messages: Vec<_> = held.messages.iter().map(Message::view).collect();
        self.append(runtime, &messages, held.with_ack)
    }

    /// Something that is no telemetry has arrived: it is acknowledged in its turn.
    pub(super) fn taken(&mut self, runtime: &Runtime<B>, with_ack: bool) {
        let released = self.session.handle_appended(None, u32::from(with_ack));
        self.acknowledge(runtime, released);
    }

    pub(super) fn acknowledge(&mut self, runtime: &Runtime<B>, released: u32) {
        if released > 0 {
            self.acked += u64::from(released);
            self.mqtt.ack_through(self.acked, self.outgoing.open(&runtime.buffers));
        }
    }

    /// Hands the client's will to the hub; what cannot be taken is given up, as its sender is gone.
    pub(crate) fn publish_will(&self, will: &Message) {
        let bag = marked(will.bag(), Mark::Will);
        let message = MessageView { properties: PropertyBag::new(&bag), body: &will.body };
        if let Err(error) = self.attached.lane.append(self.attached.key(), &[message]) {
            tracing::warn!(client = %self.id, %error, "the will was not taken");
        }
    }
}
