//! Devices and modules over REST: operators with a policy, and a device about its own modules with its own token.

use skerry_dialect::identity::{device_body, device_draft, module_body, module_draft};
use skerry_dialect::rest::{configuration_content, device_statistics, service_statistics};
use skerry_model::{DeviceId, ErrorCode, Json, ModuleId, RequestError};
use skerry_net::http::Method;

use crate::CloudApi;
use crate::caller::Right;
use crate::respond::{Answered, done, entity, json};
use crate::routes::{Call, not_built};

/// Devices of one listing when the asker does not say.
const DEVICES_LISTED: u32 = 1_000;

impl CloudApi {
    pub(crate) async fn devices(&self, call: &Call<'_>) -> Answered {
        match call.method {
            Method::GET => {
                self.service(call, Right::RegistryRead).await?;
                let max = match call.request.query_value("top") {
                    None => DEVICES_LISTED,
                    Some(text) => text.parse().map_err(|_| {
                        RequestError::new(ErrorCode::ArgumentInvalid, "`top` is not a whole number above 0")
                    })?,
                };
                let devices = self.hub.list_devices(max).await?;
                Ok(json(Json::Array(devices.iter().map(device_body).collect()).to_string()))
            }
            Method::POST => Err(not_built("changing many devices at once").into()),
            _ => Err(call.no_such_method().into()),
        }
    }

    pub(crate) async fn device(&self, call: &Call<'_>, id: &DeviceId) -> Answered {
        let device = match call.method {
            Method::GET => {
                self.service(call, Right::RegistryRead).await?;
                self.hub.get_device(id).await?
            }
            Method::PUT => {
                self.service(call, Right::RegistryWrite).await?;
                let draft = device_draft(id, &call.request.body)?;
                self.hub.put_device(draft, &call.precondition()).await?
            }
            Method::DELETE => {
                self.service(call, Right::RegistryWrite).await?;
                self.hub.delete_device(id, &call.precondition()).await?;
                return Ok(done());
            }
            _ => return Err(call.no_such_method().into()),
        };
        Ok(entity(&device.etag, device_body(&device).to_string()))
    }

    pub(crate) async fn modules(&self, call: &Call<'_>, device: &DeviceId) -> Answered {
        if call.method != Method::GET {
            return Err(call.no_such_method().into());
        }
        self.service_or_device(call, Right::RegistryRead, device).await?;
        let modules = self.hub.list_modules(device).await?;
        Ok(json(Json::Array(modules.iter().map(module_body).collect()).to_string()))
    }

    pub(crate) async fn module(&self, call: &Call<'_>, id: &ModuleId) -> Answered {
        let module = match call.method {
            Method::GET => {
                self.service_or_device(call, Right::RegistryRead, &id.device).await?;
                self.hub.get_module(id).await?
            }
            Method::PUT => {
                self.service_or_device(call, Right::RegistryWrite, &id.device).await?;
                let draft = module_draft(id, &call.request.body)?;
                self.hub.put_module(draft, &call.precondition()).await?
            }
            Method::DELETE => {
                self.service_or_device(call, Right::RegistryWrite, &id.device).await?;
                self.hub.delete_module(id, &call.precondition()).await?;
                return Ok(done());
            }
            _ => return Err(call.no_such_method().into()),
        };
        Ok(entity(&module.etag, module_body(&module).to_string()))
    }

    pub(crate) async fn apply_configuration(&self, call: &Call<'_>, device: &DeviceId) -> Answered {
        if call.method != Method::POST {
            return Err(call.no_such_method().into());
        }
        self.service(call, Right::RegistryWrite).await?;
        let content = configuration_content(&call.request.body)?;
        self.hub.apply_configuration(device, &content.desired, &content.listed).await?;
        Ok(done())
    }

    pub(crate) async fn device_statistics(&self, call: &Call<'_>) -> Answered {
        if call.method != Method::GET {
            return Err(call.no_such_method().into());
        }
        self.service(call, Right::RegistryRead).await?;
        let statistics = self.hub.statistics().await?;
        let disabled = statistics.devices.saturating_sub(statistics.enabled);
        Ok(json(device_statistics(statistics.enabled, disabled)))
    }

    pub(crate) async fn service_statistics(&self, call: &Call<'_>) -> Answered {
        if call.method != Method::GET {
            return Err(call.no_such_method().into());
        }
        self.service(call, Right::RegistryRead).await?;
        let connected = u64::try_from(self.hub.attached_count()).unwrap_or(u64::MAX);
        Ok(json(service_statistics(connected)))
    }
}
