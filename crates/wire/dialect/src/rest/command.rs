//! Sending a cloud-to-device message by POST: its properties stand in headers, also the system ones of one tool.

use bytes::Bytes;
use skerry_model::{FeedbackRequest, Message, PropertyBag, PropertyBagBuilder, RequestError, Timestamp, system};

use crate::body::invalid;
use crate::http::telemetry_headers;

/// A command as its sender gave it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandDraft {
    /// Properties and payload.
    pub message: Message,
    /// When it shall expire; `None` leaves that to the hub.
    pub expires: Option<Timestamp>,
    /// Which feedback is wanted.
    pub ack: FeedbackRequest,
}

/// What a header says, once its name is understood.
enum Said<'a> {
    System(&'static str),
    Ack,
    Expiry,
    Application(&'a str),
    Nothing,
}

const APPLICATION: &str = "iothub-app-";

/// Names of system properties as one tool sends them among the application's, and as everybody else sends them.
const NAMES: [(&str, &str, &str); 5] = [
    ("messageId", "iothub-messageid", system::MESSAGE_ID),
    ("correlationId", "iothub-correlationid", system::CORRELATION_ID),
    ("userId", "iothub-userid", system::USER_ID),
    ("contentType", "iothub-contenttype", system::CONTENT_TYPE),
    ("contentEncoding", "iothub-contentencoding", system::CONTENT_ENCODING),
];

fn understand(name: &str) -> Said<'_> {
    let is = |word: &str| name.eq_ignore_ascii_case(word);
    let application = name
        .get(..APPLICATION.len())
        .filter(|start| start.eq_ignore_ascii_case(APPLICATION))
        .map(|start| &name[start.len()..]);
    let Some(property) = application else {
        return match NAMES.iter().find(|(_, header, _)| is(header)) {
            Some((.., key)) => Said::System(key),
            None if is("iothub-ack") => Said::Ack,
            None if is("iothub-expiry") => Said::Expiry,
            None => Said::Nothing,
        };
    };
    let is = |word: &str| property.eq_ignore_ascii_case(word);
    match NAMES.iter().find(|(short, ..)| is(short)) {
        Some((.., key)) => Said::System(key),
        None if is("ack") => Said::Ack,
        None if is("expiryTimeUtc") => Said::Expiry,
        None if is("lockToken") || property.is_empty() || property.starts_with("$.") => Said::Nothing,
        None => Said::Application(property),
    }
}

/// Reads a command from a request's headers and body.
///
/// # Errors
/// When the wanted feedback or the expiry is malformed.
pub fn command<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: Bytes,
) -> Result<CommandDraft, RequestError> {
    let (mut own, mut application) = (PropertyBagBuilder::new(), PropertyBagBuilder::new());
    let mut draft = CommandDraft::default();
    for (name, value) in headers {
        match understand(name) {
            Said::Nothing => {}
            _ if value.is_empty() => {}
            Said::System(key) => {
                own.push(key, value);
            }
            Said::Application(property) => {
                application.push(property, value);
            }
            Said::Ack => {
                draft.ack = FeedbackRequest::parse(value)
                    .ok_or_else(|| invalid("the wanted feedback is none of none, positive, negative and full"))?;
            }
            Said::Expiry => {
                let expires = Timestamp::parse(value).map_err(|error| invalid(format!("the expiry is {error}")))?;
                draft.expires = Some(expires);
                own.push(system::EXPIRY, &expires.to_round_trip());
            }
        }
    }
    let (own, application) = (own.finish(), application.finish());
    let divider = if own.is_empty() || application.is_empty() { "" } else { "&" };
    draft.message = Message { properties: format!("{own}{divider}{application}"), body };
    Ok(draft)
}

/// The headers that say `draft`. Names and values that cannot be headers are left out.
pub fn command_headers(draft: &CommandDraft) -> Vec<(String, String)> {
    let bag = draft.message.bag();
    let mut headers: Vec<_> = telemetry_headers(PropertyBag::new(bag.as_str()));
    headers.retain(|(name, _)| name != "iothub-expiry" && name != "iothub-to");
    if let Some(expires) = draft.expires {
        headers.push(("iothub-expiry".to_owned(), expires.to_string()));
    }
    if draft.ack != FeedbackRequest::None {
        headers.push(("iothub-ack".to_owned(), draft.ack.as_str().to_owned()));
    }
    headers
}
