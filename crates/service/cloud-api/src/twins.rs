//! Twins, methods and commands over REST.

use skerry_cloud_hub::{CommandDraft, Identity, TwinView};
use skerry_dialect::http::{CALLING_MODULE_HEADER, calling_module, invocation, method_result};
use skerry_dialect::rest::{self, TwinOf, command, purged, twin_body, twin_update};
use skerry_model::{ClientId, DeviceId, ErrorCode, RequestError};
use skerry_net::http::{HeaderName, Method, Response};

use crate::CloudApi;
use crate::caller::Right;
use crate::respond::{Answered, done, entity, json};
use crate::routes::{Call, not_built};

/// One tool reads the target's status from here.
const COMMAND_STATUS: HeaderName = HeaderName::from_static("x-ms-command-statuscode");

impl CloudApi {
    pub(crate) async fn twin(&self, call: &Call<'_>, client: &ClientId) -> Answered {
        if ![Method::GET, Method::PATCH, Method::PUT].contains(&call.method) {
            return Err(call.no_such_method().into());
        }
        self.service(call, Right::ServiceConnect).await?;
        let view = if call.method == Method::GET {
            self.hub.twin(client).await?
        } else {
            let update = twin_update(&call.request.body)?;
            let when = call.precondition();
            if call.method == Method::PATCH {
                self.hub.patch_twin(client, &update, &when).await?
            } else {
                self.hub.replace_twin(client, &update, &when).await?
            }
        };
        Ok(twin_entity(&view))
    }

    /// A service calls a method; or a module does, which says so in a header and shows its own token.
    pub(crate) async fn invoke_method(&self, call: &Call<'_>, target: ClientId) -> Answered {
        if call.method != Method::POST {
            return Err(call.no_such_method().into());
        }
        let caller = match call.request.header_text(CALLING_MODULE_HEADER) {
            None => {
                self.service(call, Right::ServiceConnect).await?;
                None
            }
            Some(text) => {
                let caller = calling_module(text).map_err(|error| {
                    let text = format!("the header `{CALLING_MODULE_HEADER}`: {error}");
                    RequestError::new(ErrorCode::ArgumentInvalid, text)
                })?;
                let caller = ClientId::from(caller);
                self.client(call, &caller).await?;
                Some(caller)
            }
        };
        let invocation = invocation(target, &call.request.body, self.hub.limits())?;
        let result = match &caller {
            None => self.hub.invoke_method(invocation).await?,
            Some(caller) => self.hub.invoke_method_as(caller, invocation).await?,
        };
        let body = method_result(result.status, &result.payload)?;
        Ok(json(body).header(COMMAND_STATUS, &result.status.to_string()))
    }

    pub(crate) async fn send_command(
        &self,
        call: &Call<'_>,
        to: ClientId,
        twice_decoded: Option<ClientId>,
    ) -> Answered {
        match call.method {
            Method::POST => {}
            Method::GET => return Err(not_built("receiving commands over HTTPS").into()),
            _ => return Err(call.no_such_method().into()),
        }
        self.service(call, Right::ServiceConnect).await?;
        let headers = call.request.headers.iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let rest::CommandDraft { message, expires, ack } = command(headers, call.request.body.clone())?;
        let draft = CommandDraft { message, expires, ack };
        let sent = self.hub.send_command(addressee(&to)?, draft.clone()).await;
        match (sent, twice_decoded) {
            (Err(error), Some(other)) if error.code == ErrorCode::DeviceNotFound => {
                self.hub.send_command(addressee(&other)?, draft).await?;
            }
            (sent, _) => {
                sent?;
            }
        }
        Ok(done())
    }

    pub(crate) async fn purge_commands(&self, call: &Call<'_>, device: &DeviceId) -> Answered {
        if call.method != Method::DELETE {
            return Err(call.no_such_method().into());
        }
        self.service(call, Right::ServiceConnect).await?;
        let count = self.hub.purge_commands(device).await?;
        Ok(json(purged(device, count.into())))
    }
}

fn addressee(client: &ClientId) -> Result<&DeviceId, RequestError> {
    match client {
        ClientId::Device(device) => Ok(device),
        ClientId::Module(_) => Err(not_built("commands to modules")),
    }
}

fn twin_entity(view: &TwinView) -> Response {
    let of = match &view.identity {
        Identity::Device(device) => TwinOf::Device(device),
        Identity::Module(module) => TwinOf::Module { module, device: &view.device },
    };
    let body = twin_body(rest::TwinView { of, twin: &view.twin, model_id: view.model_id.as_deref() });
    entity(&view.twin.etag(), body.to_string())
}
