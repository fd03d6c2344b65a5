//! Twins as services see and write them.

use serde_json::json;
use skerry_model::{
    Authentication, DeviceRecord, DeviceStatus, Json, ModuleRecord, RequestError, Thumbprint, Timestamp, Twin,
    TwinUpdate, json::JsonObject,
};

use crate::body::{member, object};
use crate::identity::time;

/// Whose twin it is.
#[derive(Debug, Clone, Copy)]
pub enum TwinOf<'a> {
    /// A device's.
    Device(&'a DeviceRecord),
    /// A module's; a module has no status of its own but its device's.
    Module {
        /// The module.
        module: &'a ModuleRecord,
        /// Its device.
        device: &'a DeviceRecord,
    },
}

/// What the service view of a twin is made of.
#[derive(Debug, Clone, Copy)]
pub struct TwinView<'a> {
    /// The identity.
    pub of: TwinOf<'a>,
    /// Its twin.
    pub twin: &'a Twin,
    /// The plug-and-play model it announced last.
    pub model_id: Option<&'a str>,
}

/// The service view of a twin.
pub fn twin_body(view: TwinView<'_>) -> Json {
    let TwinView { of, twin, model_id } = view;
    let mut body = JsonObject::new();
    let mut put = |name: &str, value: Json| {
        body.insert(name.to_owned(), value);
    };
    let (device, module) = match of {
        TwinOf::Device(device) => (device, None),
        TwinOf::Module { module, device } => (device, Some(module)),
    };
    let (identity_etag, authentication, activity) = match module {
        None => (&device.etag, &device.authentication, &device.activity),
        Some(module) => (&module.etag, &module.authentication, &module.activity),
    };
    put("deviceId", device.id.as_str().into());
    if let Some(module) = module {
        put("moduleId", module.id.name.as_str().into());
    }
    put("etag", twin.etag().into());
    put("deviceEtag", identity_etag.as_str().into());
    put("status", status(device.status));
    if let Some(reason) = device.status_reason.as_deref().filter(|_| module.is_none()) {
        put("statusReason", reason.into());
    }
    let status_updated: Option<Timestamp> = device.status_updated.filter(|_| module.is_none());
    put("statusUpdateTime", time(status_updated).into());
    put("connectionState", activity.state.as_str().into());
    put("lastActivityTime", time(activity.last).into());
    put("cloudToDeviceMessageCount", activity.commands_waiting.into());
    put("authenticationType", authentication_type(authentication));
    put("x509Thumbprint", thumbprints(authentication));
    put("modelId", model_id.unwrap_or_default().into());
    put("version", twin.version.into());
    // The .NET client cannot take null here, and an empty object would not be what the platform sends.
    if !twin.tags.is_empty() {
        put("tags", Json::Object(twin.tags.clone()));
    }
    put("properties", twin.service_properties());
    if module.is_none() {
        put("capabilities", json!({ "iotEdge": device.iot_edge }));
        if let Some(scope) = device.own_scope().or_else(|| device.parent.clone()) {
            put("deviceScope", scope.as_str().into());
        }
        if device.iot_edge || device.parent.is_some() {
            let parents: Vec<&str> = device.parent.iter().map(|scope| scope.as_str()).collect();
            put("parentScopes", parents.into());
        }
    }
    Json::Object(body)
}

fn status(status: DeviceStatus) -> Json {
    status.as_str().into()
}

fn authentication_type(authentication: &Authentication) -> Json {
    match authentication {
        Authentication::None => "none",
        Authentication::Sas(_) => "sas",
        Authentication::SelfSigned { .. } => "selfSigned",
        Authentication::CertificateAuthority => "certificateAuthority",
    }
    .into()
}

fn thumbprints(authentication: &Authentication) -> Json {
    let (primary, secondary) = match authentication {
        Authentication::SelfSigned { primary, secondary } => (Some(primary), secondary.as_ref()),
        Authentication::None | Authentication::Sas(_) | Authentication::CertificateAuthority => (None, None),
    };
    json!({
        "primaryThumbprint": primary.map(Thumbprint::as_str),
        "secondaryThumbprint": secondary.map(Thumbprint::as_str),
    })
}

/// Reads what a service writes to a twin: tags and desired properties. Everything else of a complete twin is ignored; one tool sends
/// back all of it.
///
/// # Errors
/// When the body is not JSON, or one of the two is not an object.
pub fn twin_update(body: &[u8]) -> Result<TwinUpdate, RequestError> {
    let body = object(body)?;
    let tags = member(&body, "tags")?.cloned();
    let desired = match member(&body, "properties")? {
        None => None,
        Some(properties) => member(properties, "desired")?.cloned(),
    };
    Ok(TwinUpdate { tags, desired })
}

/// The body that writes `update`.
pub fn twin_update_body(update: &TwinUpdate) -> String {
    let mut body = JsonObject::new();
    if let Some(tags) = &update.tags {
        body.insert("tags".to_owned(), Json::Object(tags.clone()));
    }
    if let Some(desired) = &update.desired {
        body.insert("properties".to_owned(), json!({ "desired": desired }));
    }
    Json::Object(body).to_string()
}
