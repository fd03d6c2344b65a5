//! `skerry message`: puts a message into a device's queue.

use std::time::Duration;

use bytes::Bytes;
use skerry_dialect::http::Route;
use skerry_dialect::rest::{CommandDraft, command_headers};
use skerry_model::{ClientId, Message as MessageParts, PropertyBagBuilder, system};
use skerry_net::http::Method;

use super::input;
use crate::arguments::{Content, Message};
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::{Output, done};

pub(super) async fn run(command: Message, hub: &Hub, output: &mut Output) -> Result<(), Failure> {
    let Message::Send { device, content, ack, expires_in } = command;
    let draft = CommandDraft {
        message: message(&content)?,
        expires: expires_in.map(|seconds| hub.clock().now().wall.plus(Duration::from_secs(seconds))),
        ack: ack.into(),
    };
    let route = Route::Commands { to: ClientId::Device(device.clone()), twice_decoded: None };
    let mut call = Call::new(Method::POST, &route).body(draft.message.body.clone());
    for (name, value) in command_headers(&draft) {
        call = call.header(&name, &value)?;
    }
    hub.send(call).await?;
    Ok(output.line_or(&done(), format!("queued for `{device}`"))?)
}

/// The message that the arguments describe.
pub(super) fn message(content: &Content) -> Result<MessageParts, Failure> {
    let mut bag = PropertyBagBuilder::new();
    bag.push_some(system::MESSAGE_ID, content.message_id.as_deref());
    bag.push_some(system::CONTENT_TYPE, content.content_type.as_deref());
    for (name, value) in &content.properties {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
            return Err(Failure::usage(format!("`{name}` cannot be the name of a property")));
        }
        if !value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
            return Err(Failure::usage(format!(
                "the value of property `{name}` has characters that HTTPS cannot carry"
            )));
        }
        bag.push(name, value);
    }
    Ok(MessageParts { properties: bag.finish(), body: Bytes::from(input::bytes(&content.body)?) })
}
