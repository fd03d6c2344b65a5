//! Direct methods: calls of modules to modules and leaf devices of this edge, and calls relayed from the hub above.

use std::sync::Arc;

use skerry_gateway::{MethodResult, UnderWay, check_invocation, invoke};
use skerry_model::{
    Channel, ClientId, Delivery, ErrorCode, Json, MethodCall, MethodCallId, MethodInvocation, RequestError, json,
};

use crate::hub::Hub;

/// Identities that one call can have refreshed.
const REFRESHED_IDS_MAX: usize = 100;
/// How deep a payload may nest.
const PAYLOAD_DEPTH_MAX: usize = 16;

impl Hub {
    /// A module of this device calls a module or leaf device that is connected here; nobody else is reached.
    pub(crate) async fn invoke_as(
        self: &Arc<Self>,
        caller: &ClientId,
        invocation: MethodInvocation,
    ) -> Result<MethodResult, RequestError> {
        if caller.module().is_none() || caller.device() != &self.config.device {
            return Err(RequestError::new(ErrorCode::Forbidden, "methods are called by modules of this edge device"));
        }
        check_invocation(&invocation, &self.config.limits)?;
        let target = &invocation.target;
        let own = ClientId::Module(self.config.own_module());
        if *target == own {
            return self.own_method(&invocation.name, &invocation.payload).await;
        }
        let entry = self.identities.find(target);
        let known = match target {
            ClientId::Device(_) => entry.device.is_some(),
            ClientId::Module(module) => entry.module.is_some() && module.device == self.config.device,
        };
        if !known {
            let text = format!("`{target}` is not a module or leaf device of `{}`", self.config.device);
            return Err(RequestError::new(ErrorCode::DeviceNotFound, text));
        }
        self.call(invocation).await
    }

    /// Calls a client that is connected here, or comes within the call's connect timeout.
    pub(crate) async fn call(&self, invocation: MethodInvocation) -> Result<MethodResult, RequestError> {
        let listeners = self.sessions.method_listeners();
        invoke(invocation, MethodCallId((self.random)()), listeners, |target, call| self.send_call(target, call)).await
    }

    /// Sends a call when the target listens for methods.
    fn send_call(&self, target: &ClientId, call: &MethodCall) -> Result<Option<UnderWay<'_>>, RequestError> {
        // All in one look at the session, so that its end finds the call, or the call finds no session.
        self.sessions
            .with(target, |live| {
                if !live.listening.to(Channel::Methods) {
                    return Ok(None);
                }
                let under_way = self.calls.expect(target, live.key.serial, call.id, &self.config.limits)?;
                live.lane.deliver(live.key, Delivery::Method(call.clone()));
                Ok(Some(under_way))
            })
            .unwrap_or(Ok(None))
    }

    /// Methods of `$edgeHub` itself.
    pub(crate) async fn own_method(self: &Arc<Self>, name: &str, payload: &[u8]) -> Result<MethodResult, RequestError> {
        if name != "RefreshDeviceScopeIdentityCache" {
            return Ok(MethodResult { status: 404, payload: b"null".as_slice().into() });
        }
        let failed = |status, reason: String| {
            Ok(MethodResult { status, payload: serde_json::json!({ "message": reason }).to_string().into() })
        };
        let devices = match devices_to_refresh(payload) {
            Ok(devices) => devices,
            Err(reason) => return failed(400, reason),
        };
        let refreshed = match devices {
            None => self.refresh_scope().await,
            Some(devices) => self.refresh_identities(&devices).await,
        };
        match refreshed {
            Ok(()) => Ok(MethodResult { status: 200, payload: b"null".as_slice().into() }),
            Err(error) => failed(500, error.to_string()),
        }
    }
}

/// Reads `{"deviceIds":["d", "d/m", …]}`; `None` when no ids are named, which means everybody.
fn devices_to_refresh(payload: &[u8]) -> Result<Option<Vec<ClientId>>, String> {
    let Json::Object(body) = json::parse(payload, PAYLOAD_DEPTH_MAX)
        .or_else(|error| if payload.is_empty() { Ok(Json::Null) } else { Err(error.to_string()) })?
    else {
        return Ok(None);
    };
    match body.get("deviceIds") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Array(ids)) if ids.len() <= REFRESHED_IDS_MAX => {
            let read = |id: &Json| id.as_str().and_then(|id| ClientId::parse(id).ok());
            ids.iter().map(read).collect::<Option<_>>().map(Some).ok_or_else(|| "an id is malformed".to_owned())
        }
        Some(Json::Array(_)) => Err(format!("at most {REFRESHED_IDS_MAX} ids can be refreshed at once")),
        Some(_) => Err("`deviceIds` is not an array".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_be_refreshed_is_read_from_the_payload() {
        let read = |payload: &str| devices_to_refresh(payload.as_bytes());
        for everybody in ["", "null", "{}", "{\"deviceIds\":null}"] {
            assert_eq!(read(everybody), Ok(None), "{everybody}");
        }
        let two = ["leaf", "edge/m"].map(|id| ClientId::parse(id).unwrap());
        assert_eq!(read("{\"deviceIds\":[\"leaf\",\"edge/m\"]}"), Ok(Some(two.to_vec())));
        for wrong in ["{", "{\"deviceIds\":\"leaf\"}", "{\"deviceIds\":[\"a b\"]}", "{\"deviceIds\":[1]}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
