//! The dialect over MQTT: who connects, what a client says, what it listens to, what it is sent; and the same from the client's
//! side.

pub mod client;
mod deliver;
mod listen;
mod said;
mod user_name;

pub use deliver::{publication, twin_response};
pub use listen::{Subscription, subscription};
pub use said::{Mark, NotUnderstood, Said, marked, said};
pub use user_name::{BadUserName, UserName};

/// What every answer to a twin request arrives on.
const TWIN_RESPONSES: &str = "$iothub/twin/res/";
/// Where changes of desired properties arrive.
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/";
/// Where reported properties are sent.
const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/";
/// Where a twin is asked for.
const TWIN_GET: &str = "$iothub/twin/GET/";
/// Where calls of methods arrive.
const METHOD_CALLS: &str = "$iothub/methods/POST/";
/// Where answers to methods are sent.
const METHOD_ANSWERS: &str = "$iothub/methods/res/";

/// The value of `name` in a topic's parameters (`?$rid=1&$version=2`); a leading `?` is optional. Values are never decoded: they
/// are echoed as they came.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let parameters = parameters.strip_prefix('?').unwrap_or(parameters);
    parameters.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
}

/// `devices/{device}` or `devices/{device}/modules/{module}` and a slash, taken off the front of `topic` when it names `own`.
fn strip_own<'a>(topic: &'a str, own: &skerry_model::ClientId) -> Option<&'a str> {
    let rest = topic.strip_prefix("devices/")?.strip_prefix(own.device().as_str())?.strip_prefix('/')?;
    match own.module() {
        None => Some(rest),
        Some(module) => rest.strip_prefix("modules/")?.strip_prefix(module.as_str())?.strip_prefix('/'),
    }
}

/// Writes `devices/{device}/` or `devices/{device}/modules/{module}/`.
fn push_own(topic: &mut String, own: &skerry_model::ClientId) {
    topic.push_str("devices/");
    topic.push_str(own.device().as_str());
    if let Some(module) = own.module() {
        topic.push_str("/modules/");
        topic.push_str(module.as_str());
    }
    topic.push('/');
}

#[cfg(test)]
mod tests;
