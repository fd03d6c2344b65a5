//! What a client listens to, and what of it is kept for its next connection.

use std::collections::BTreeMap;

use skerry_dialect::mqtt::{Subscription, subscription};
use skerry_model::{Channel, Request};
use skerry_mqtt::{Grant, Qos, Subscribe, Unsubscribe};
use smallvec::SmallVec;

use super::mail::ReplyTo;
use super::{Client, End};
use crate::lane::ToKeep;
use crate::{Backend, Kept, Runtime};

/// What a client listens to, and how sure the deliveries are.
pub(crate) type Subscriptions = BTreeMap<Channel, Qos>;

impl<B: Backend> Client<B> {
    pub(super) fn subscribe(&mut self, runtime: &Runtime<B>, subscribe: &Subscribe<'_>) -> Result<(), End> {
        let mut requests = Vec::new();
        let mut grants = SmallVec::new();
        let mut changed = false;
        for (filter, qos) in subscribe.filters() {
            match subscription(filter, &self.id) {
                Subscription::Channel(channel) => {
                    let before = self.subscriptions.insert(channel, qos.granted());
                    changed |= before != Some(qos.granted());
                    if before.is_none() {
                        requests.push(Request::Listen(channel));
                    }
                }
                Subscription::TwinResponses | Subscription::Nothing => {}
                Subscription::Foreign => return Err(End::ForeignFilter(filter.chars().take(200).collect())),
            }
            grants.push(Grant::Granted(qos.granted()));
        }
        // Answered when the hub knows it, so that who sees the SUBACK is online for others.
        let kept = self.to_keep(runtime, changed);
        self.attached.submit_and_keep(requests, kept, ReplyTo::SubAck { id: subscribe.id, grants });
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, runtime: &Runtime<B>, unsubscribe: &Unsubscribe<'_>) -> Result<(), End> {
        let mut requests = Vec::new();
        for filter in unsubscribe.filters() {
            if let Subscription::Channel(channel) = subscription(filter, &self.id)
                && self.subscriptions.remove(&channel).is_some()
            {
                requests.push(Request::Unlisten(channel));
            }
        }
        let kept = self.to_keep(runtime, !requests.is_empty());
        self.attached.submit_and_keep(requests, kept, ReplyTo::UnsubAck { id: unsubscribe.id });
        Ok(())
    }

    /// What the client now listens to, when that has changed and is to be kept.
    fn to_keep(&self, runtime: &Runtime<B>, changed: bool) -> Option<ToKeep<B>> {
        let kept = |(channel, qos): (&Channel, &Qos)| Kept { channel: *channel, acknowledged: *qos != Qos::AtMostOnce };
        (changed && self.keep_session).then(|| ToKeep {
            backend: runtime.backend.clone(),
            client: self.id.clone(),
            listening: self.subscriptions.iter().map(kept).collect(),
        })
    }

    /// Listens again to what the client listened to before.
    pub(crate) fn resume(&mut self, subscriptions: Subscriptions) {
        let requests = subscriptions.keys().copied().map(Request::Listen).collect();
        self.subscriptions = subscriptions;
        self.attached.submit(requests, ReplyTo::Nobody);
    }
}
