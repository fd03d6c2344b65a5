//! What a subscription means: topic filters are read by intent, not matched as wildcards.
//!
//! Source: `device-mqtt` §2.1.

use skerry_model::{Channel, ClientId};

use super::{DESIRED, METHOD_CALLS, strip_own};

/// What a topic filter asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription {
    /// A kind of delivery.
    Channel(Channel),
    /// Answers to twin requests; they are sent to whoever asks, so this changes nothing.
    TwinResponses,
    /// Nothing that is ever sent; to be granted all the same.
    Nothing,
    /// Something of another identity; never to be delivered.
    Foreign,
}

/// The meaning of `filter` when `from` subscribes to it, or unsubscribes.
pub fn subscription(filter: &str, from: &ClientId) -> Subscription {
    if filter.starts_with(METHOD_CALLS) {
        return Subscription::Channel(Channel::Methods);
    }
    if filter.starts_with(DESIRED) {
        return Subscription::Channel(Channel::Desired);
    }
    if filter == "$iothub/twin/res/#" {
        return Subscription::TwinResponses;
    }
    match strip_own(filter, from) {
        Some(rest) if rest.eq_ignore_ascii_case("messages/devicebound/#") => Subscription::Channel(Channel::Commands),
        Some("#" | "inputs/#") if from.module().is_some() => Subscription::Channel(Channel::Inputs),
        // A device has no inputs, and its modules are identities of their own.
        Some(rest) if from.module().is_none() && rest.starts_with("modules/") => Subscription::Foreign,
        Some(_) => Subscription::Nothing,
        None if filter.starts_with("devices/") && filter != "devices/#" => Subscription::Foreign,
        None => Subscription::Nothing,
    }
}
