//! `skerry telemetry`: sends a message as a device, with the device's own key.

use std::time::Duration;

use skerry_dialect::http::{Route, telemetry_headers};
use skerry_dialect::sas::Unsigned;
use skerry_net::http::Method;

use super::{device, message};
use crate::arguments::Telemetry;
use crate::failure::Failure;
use crate::hub::{Call, Hub, signed};
use crate::output::{Output, done};

/// How long the device's token lives: for this one request.
const TOKEN_LIFETIME: Duration = Duration::from_secs(5 * 60);

pub(super) async fn run(command: Telemetry, hub: &Hub, output: &mut Output) -> Result<(), Failure> {
    let Telemetry::Send { client, content } = command;
    let message = message::message(&content)?;
    let keys = device::keys(hub, &client).await?;
    let expiry = hub.clock().now().wall.plus(TOKEN_LIFETIME);
    let token = signed(&Unsigned::for_client(hub.host(), &client, expiry), &keys.primary)?;
    let mut call =
        Call::new(Method::POST, &Route::Telemetry(client.clone())).body(message.body.clone()).authorized_by(token);
    for (name, value) in telemetry_headers(message.bag()) {
        call = call.header(&name, &value)?;
    }
    hub.send(call).await?;
    Ok(output.line_or(&done(), format!("sent as `{client}`"))?)
}
