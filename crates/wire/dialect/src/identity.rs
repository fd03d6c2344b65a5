//! Devices and modules as JSON documents: what services and edge devices write, what they read, and what an edge hub is told about
//! those below it.
//!
//! Sources: `service-auth-and-registry` §4, `device-https` §6, `edge-hub-specifics` §8.

mod authentication;
mod read;
mod scope;

use serde_json::json;
use skerry_model::{
    Activity, DeviceDraft, DeviceId, DeviceRecord, DeviceStatus, EdgeScope, Json, ModuleDraft, ModuleId, ModuleRecord,
    NEVER, RequestError, STATUS_REASON_CHARS_MAX, Timestamp, json::JsonObject,
};

pub use read::{read_device, read_module};
pub use scope::{ScopeAnswer, ScopeRequest};

use crate::body::{invalid, member, object, text};

/// A device as a service sees it, keys included.
pub fn device_body(device: &DeviceRecord) -> Json {
    let mut body = device_core(device);
    body.insert("etag".to_owned(), device.etag.as_str().into());
    body.insert("statusReason".to_owned(), device.status_reason.as_deref().into());
    body.insert("statusUpdatedTime".to_owned(), time(device.status_updated).into());
    push_activity(&mut body, &device.activity);
    Json::Object(body)
}

/// A module as a service, or the edge device it runs on, sees it, keys included.
pub fn module_body(module: &ModuleRecord) -> Json {
    let mut body = module_core(module);
    body.insert("etag".to_owned(), module.etag.as_str().into());
    push_activity(&mut body, &module.activity);
    Json::Object(body)
}

/// What both a service and an edge hub are told of a device.
fn device_core(device: &DeviceRecord) -> JsonObject {
    let parents: Vec<&str> = device.parent.iter().map(EdgeScope::as_str).collect();
    let scope = device.own_scope().or_else(|| device.parent.clone());
    let mut body = JsonObject::new();
    body.insert("deviceId".to_owned(), device.id.as_str().into());
    body.insert("generationId".to_owned(), (&*device.generation).into());
    body.insert("status".to_owned(), device.status.as_str().into());
    body.insert("authentication".to_owned(), authentication::body(&device.authentication));
    body.insert("capabilities".to_owned(), json!({ "iotEdge": device.iot_edge }));
    if let Some(scope) = scope {
        body.insert("deviceScope".to_owned(), scope.as_str().into());
    }
    body.insert("parentScopes".to_owned(), parents.into());
    body
}

fn module_core(module: &ModuleRecord) -> JsonObject {
    let mut body = JsonObject::new();
    body.insert("moduleId".to_owned(), module.id.name.as_str().into());
    body.insert("managedBy".to_owned(), module.managed_by.as_str().into());
    body.insert("deviceId".to_owned(), module.id.device.as_str().into());
    body.insert("generationId".to_owned(), (&*module.generation).into());
    body.insert("authentication".to_owned(), authentication::body(&module.authentication));
    body
}

fn push_activity(body: &mut JsonObject, activity: &Activity) {
    body.insert("connectionState".to_owned(), activity.state.as_str().into());
    body.insert("connectionStateUpdatedTime".to_owned(), time(activity.state_updated).into());
    body.insert("lastActivityTime".to_owned(), time(activity.last).into());
    body.insert("cloudToDeviceMessageCount".to_owned(), activity.commands_waiting.into());
}

/// "Never" has a date of its own on this wire, in a spelling that clients compare as text.
pub(crate) fn time(at: Option<Timestamp>) -> String {
    match at {
        None | Some(NEVER) => "0001-01-01T00:00:00Z".to_owned(),
        Some(at) => at.to_string(),
    }
}

/// Reads what a service wants of the device `id`.
///
/// # Errors
/// When the document is malformed, names another device, or says something that cannot be.
pub fn device_draft(id: &DeviceId, body: &[u8]) -> Result<DeviceDraft, RequestError> {
    let body = object(body)?;
    same_id(&body, "deviceId", id.as_str())?;
    let iot_edge = match member(&body, "capabilities")?.and_then(|capabilities| capabilities.get("iotEdge")) {
        None | Some(Json::Null) => false,
        Some(Json::Bool(edge)) => *edge,
        Some(_) => return Err(invalid("`capabilities.iotEdge` is neither true nor false")),
    };
    let status_reason = text(&body, "statusReason")?;
    if status_reason.is_some_and(|reason| reason.chars().count() > STATUS_REASON_CHARS_MAX) {
        return Err(invalid(format!("`statusReason` has more than {STATUS_REASON_CHARS_MAX} characters")));
    }
    Ok(DeviceDraft {
        id: id.clone(),
        status: status(&body)?,
        status_reason: status_reason.map(str::to_owned),
        authentication: authentication::draft(&body)?,
        iot_edge,
        parent: parent(&body, iot_edge)?,
    })
}

/// Reads what a service, or the edge device itself, wants of the module `id`.
///
/// # Errors
/// When the document is malformed, names another module, or says something that cannot be.
pub fn module_draft(id: &ModuleId, body: &[u8]) -> Result<ModuleDraft, RequestError> {
    draft_of_module(id, &object(body)?)
}

fn draft_of_module(id: &ModuleId, body: &JsonObject) -> Result<ModuleDraft, RequestError> {
    same_id(body, "deviceId", id.device.as_str())?;
    same_id(body, "moduleId", id.name.as_str())?;
    Ok(ModuleDraft {
        id: id.clone(),
        managed_by: text(body, "managedBy")?.map(str::to_owned),
        authentication: authentication::draft(body)?,
    })
}

/// The document that asks for `draft`.
pub fn device_draft_body(draft: &DeviceDraft) -> Json {
    let parents: Vec<&str> = draft.parent.iter().map(EdgeScope::as_str).collect();
    let mut body = json!({
        "deviceId": draft.id.as_str(),
        "status": draft.status.as_str(),
        "authentication": authentication::draft_body(&draft.authentication),
        "capabilities": { "iotEdge": draft.iot_edge },
        "parentScopes": parents,
    });
    if let Some(reason) = &draft.status_reason {
        body["statusReason"] = reason.as_str().into();
    }
    body
}

/// The document that asks for `draft`.
pub fn module_draft_body(draft: &ModuleDraft) -> Json {
    let mut body = json!({
        "moduleId": draft.id.name.as_str(),
        "deviceId": draft.id.device.as_str(),
        "authentication": authentication::draft_body(&draft.authentication),
    });
    if let Some(managed_by) = &draft.managed_by {
        body["managedBy"] = managed_by.as_str().into();
    }
    body
}

fn same_id(body: &JsonObject, name: &str, path: &str) -> Result<(), RequestError> {
    match text(body, name)? {
        Some(id) if id != path => Err(invalid(format!("`{name}` is `{id}`, the path says `{path}`"))),
        _ => Ok(()),
    }
}

fn status(body: &JsonObject) -> Result<DeviceStatus, RequestError> {
    let Some(word) = text(body, "status")? else { return Ok(DeviceStatus::Enabled) };
    [DeviceStatus::Enabled, DeviceStatus::Disabled]
        .into_iter()
        .find(|status| status.as_str().eq_ignore_ascii_case(word))
        .ok_or_else(|| invalid("`status` is neither `enabled` nor `disabled`"))
}

/// An edge device's own scope is fixed, its parent stands in `parentScopes`. A leaf's parent stands in both places; an empty
/// `deviceScope` takes it away even when the old `parentScopes` still stand beside it, for one tool sends exactly that.
fn parent(body: &JsonObject, iot_edge: bool) -> Result<Option<EdgeScope>, RequestError> {
    let listed = match body.get("parentScopes") {
        None | Some(Json::Null) => None,
        Some(Json::Array(scopes)) => match scopes.as_slice() {
            [] => None,
            [Json::String(scope)] => EdgeScope::parse(scope),
            [_] => return Err(invalid("`parentScopes` holds something that is not a text")),
            _ => return Err(invalid("`parentScopes` holds more than one scope")),
        },
        Some(_) => return Err(invalid("`parentScopes` is not an array")),
    };
    let own = text(body, "deviceScope")?;
    Ok(if !iot_edge && body.contains_key("deviceScope") { own.and_then(EdgeScope::parse) } else { listed })
}

#[cfg(test)]
mod tests;
