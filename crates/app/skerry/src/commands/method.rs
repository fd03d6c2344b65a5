//! `skerry method`: calls a method and shows its answer.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use skerry_dialect::http::{Route, invocation_body, read_method_result};
use skerry_model::{Json, MethodInvocation};
use skerry_net::http::Method as HttpMethod;

use super::input;
use crate::arguments::Method;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::Output;

pub(super) async fn run(
    command: Method,
    hub: impl FnOnce(Duration) -> Result<Hub, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    let Method::Invoke { client, name, payload, response_timeout, connect_timeout } = command;
    let payload = payload.map(|text| input::json("--payload", &text)).transpose()?.unwrap_or(Json::Null);
    let invocation = MethodInvocation {
        target: client.clone(),
        name,
        payload: Bytes::from(payload.to_string()),
        response_timeout: Duration::from_secs(response_timeout),
        connect_timeout: Duration::from_secs(connect_timeout),
    };
    // The hub answers when the device has, or when the device's time is over; either comes before ours.
    let hub = hub(invocation.response_timeout + invocation.connect_timeout)?;
    let call = Call::new(HttpMethod::POST, &Route::Methods(client)).json(&invocation_body(&invocation));
    let (status, payload) = read_method_result(&hub.send(call).await?)
        .map_err(|error| Failure::failed("the hub's answer is not understood").because(error))?;
    output.say(format!("status {status}"))?;
    let document = if output.is_json() { json!({ "status": status, "payload": payload }) } else { payload };
    Ok(output.document(&document)?)
}
