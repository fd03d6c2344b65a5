//! Reading the documents that a hub answers with.

use std::sync::Arc;

use skerry_model::{
    Activity, ConnectionState, DeviceId, DeviceRecord, Json, ModuleName, ModuleRecord, NEVER, RequestError, Timestamp,
    json::JsonObject,
};

use super::{authentication, parent, status};
use crate::body::{invalid, member, text};

/// Reads a device as a hub shows it, to a service or to an edge hub. Members that are not known are ignored.
///
/// # Errors
/// When a member that is needed is missing or malformed.
pub fn read_device(document: &Json) -> Result<DeviceRecord, RequestError> {
    let body = document.as_object().ok_or_else(|| invalid("a device is not a JSON object"))?;
    let iot_edge = member(body, "capabilities")?
        .is_some_and(|capabilities| capabilities.get("iotEdge") == Some(&Json::Bool(true)));
    Ok(DeviceRecord {
        id: device_id(body)?,
        generation: generation(body)?,
        etag: text(body, "etag")?.unwrap_or_default().to_owned(),
        status: status(body)?,
        status_reason: text(body, "statusReason")?.map(str::to_owned),
        status_updated: time(body, "statusUpdatedTime"),
        authentication: authentication::read(body)?,
        iot_edge,
        parent: parent(body, iot_edge)?,
        activity: activity(body),
    })
}

/// Reads a module as a hub shows it, to a service, to the device it runs on, or to an edge hub.
///
/// # Errors
/// When a member that is needed is missing or malformed.
pub fn read_module(document: &Json) -> Result<ModuleRecord, RequestError> {
    let body = document.as_object().ok_or_else(|| invalid("a module is not a JSON object"))?;
    let name = text(body, "moduleId")?.ok_or_else(|| invalid("`moduleId` is missing"))?;
    let name = ModuleName::parse(name).map_err(|error| invalid(format!("`moduleId`: {error}")))?;
    Ok(ModuleRecord {
        id: device_id(body)?.module(name),
        generation: generation(body)?,
        etag: text(body, "etag")?.unwrap_or_default().to_owned(),
        managed_by: text(body, "managedBy")?.unwrap_or_default().to_owned(),
        authentication: authentication::read(body)?,
        activity: activity(body),
    })
}

fn device_id(body: &JsonObject) -> Result<DeviceId, RequestError> {
    let id = text(body, "deviceId")?.ok_or_else(|| invalid("`deviceId` is missing"))?;
    DeviceId::parse(id).map_err(|error| invalid(format!("`deviceId`: {error}")))
}

fn generation(body: &JsonObject) -> Result<Arc<str>, RequestError> {
    text(body, "generationId")?.map(Arc::from).ok_or_else(|| invalid("`generationId` is missing"))
}

fn activity(body: &JsonObject) -> Activity {
    let state = match body.get("connectionState").and_then(Json::as_str) {
        Some(word) if word.eq_ignore_ascii_case(ConnectionState::Connected.as_str()) => ConnectionState::Connected,
        _ => ConnectionState::Disconnected,
    };
    let waiting = body.get("cloudToDeviceMessageCount").and_then(Json::as_u64).unwrap_or(0);
    Activity {
        state,
        state_updated: time(body, "connectionStateUpdatedTime"),
        last: time(body, "lastActivityTime"),
        commands_waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
    }
}

fn time(body: &JsonObject, name: &str) -> Option<Timestamp> {
    Timestamp::parse(body.get(name)?.as_str()?).ok().filter(|at| *at != NEVER)
}
