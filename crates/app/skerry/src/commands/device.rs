//! `skerry device`: the registry, and who is connected.

use serde_json::json;
use skerry_dialect::connection_string::{ClientConnection, Credential};
use skerry_dialect::http::Route;
use skerry_dialect::identity::{device_draft_body, read_device, read_module};
use skerry_dialect::own::Connections;
use skerry_model::{
    Authentication, ClientId, DeviceDraft, DeviceId, DeviceStatus, EdgeScope, Json, KeyPair, RequestError,
};
use skerry_net::http::Method;

use crate::arguments::Device;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::{Output, Table, done, moment, text};

pub(super) async fn run(command: Device, hub: &Hub, output: &mut Output) -> Result<(), Failure> {
    match command {
        Device::Create { id, edge, parent, disabled } => {
            let mut draft = DeviceDraft::new(id);
            draft.iot_edge = edge;
            draft.status = if disabled { DeviceStatus::Disabled } else { DeviceStatus::Enabled };
            draft.parent = match parent {
                None => None,
                Some(parent) => Some(scope_of(hub, &parent).await?),
            };
            create(hub, &draft, output).await
        }
        Device::List { top } => list(hub, top, output).await,
        Device::Show { id } => {
            let device = hub.json(Call::new(Method::GET, &Route::Device(id))).await?;
            Ok(output.table_or(&device, &details(&device))?)
        }
        Device::Delete { id } => {
            hub.send(Call::new(Method::DELETE, &Route::Device(id.clone())).if_any()).await?;
            Ok(output.line_or(&done(), format!("deleted `{id}`"))?)
        }
        Device::ConnectionString { client, secondary, gateway } => {
            let keys = keys(hub, &client).await?;
            let key = if secondary { keys.secondary } else { keys.primary };
            let connection =
                ClientConnection { host: hub.host().to_owned(), client, gateway, credential: Credential::Key(key) };
            let text = connection.to_string();
            Ok(output.line_or(&json!({ "connectionString": text }), &text)?)
        }
        Device::Connections => {
            let body = hub.send(Call::new(Method::GET, &Route::Connections)).await?;
            let connections = understood(Connections::read(&body))?;
            if output.is_json() {
                return Ok(output.document(&connections.document())?);
            }
            Ok(output.raw(connections_text(&connections).as_bytes())?)
        }
    }
}

/// The scope that an edge device opens.
async fn scope_of(hub: &Hub, parent: &DeviceId) -> Result<EdgeScope, Failure> {
    let device = hub.json(Call::new(Method::GET, &Route::Device(parent.clone()))).await?;
    let record = understood(read_device(&device))?;
    record.own_scope().ok_or_else(|| Failure::failed(format!("`{parent}` is not an edge device")))
}

async fn create(hub: &Hub, draft: &DeviceDraft, output: &mut Output) -> Result<(), Failure> {
    let call = Call::new(Method::PUT, &Route::Device(draft.id.clone())).json(&device_draft_body(draft).to_string());
    let made = hub.json(call).await?;
    output.line_or(&made, format!("created `{}`", draft.id))?;
    Ok(output.say(format!("how it connects: skerry device connection-string {}", draft.id))?)
}

async fn list(hub: &Hub, top: u32, output: &mut Output) -> Result<(), Failure> {
    let devices = hub.json(Call::with_query(Method::GET, &Route::Devices, &format!("top={top}"))).await?;
    let mut table = Table::new(["DEVICE", "EDGE", "STATUS", "STATE", "LAST ACTIVE"]);
    for device in devices.as_array().into_iter().flatten() {
        table.push([
            text(device, "deviceId"),
            if device["capabilities"]["iotEdge"] == true { "yes".to_owned() } else { "-".to_owned() },
            text(device, "status"),
            text(device, "connectionState"),
            moment(&text(device, "lastActivityTime")),
        ]);
    }
    Ok(output.table_or(&devices, &table)?)
}

/// A device for people: everything but its keys.
fn details(device: &Json) -> Table {
    let scope = |member: &Json| member.as_str().and_then(EdgeScope::parse).and_then(|scope| scope.device());
    let parent = scope(&device["parentScopes"][0]).map_or_else(|| "-".to_owned(), |parent| parent.to_string());
    Table::of_pairs([
        ("device", text(device, "deviceId")),
        ("edge", if device["capabilities"]["iotEdge"] == true { "yes" } else { "no" }.to_owned()),
        ("status", text(device, "status")),
        ("status reason", text(device, "statusReason")),
        ("authentication", text(&device["authentication"], "type")),
        ("below", parent),
        ("state", text(device, "connectionState")),
        ("last active", moment(&text(device, "lastActivityTime"))),
        ("messages waiting", text(device, "cloudToDeviceMessageCount")),
        ("generation", text(device, "generationId")),
    ])
}

/// The keys of a device or module.
pub(super) async fn keys(hub: &Hub, client: &ClientId) -> Result<KeyPair, Failure> {
    let authentication = match client {
        ClientId::Device(device) => {
            let document = hub.json(Call::new(Method::GET, &Route::Device(device.clone()))).await?;
            understood(read_device(&document))?.authentication
        }
        ClientId::Module(module) => {
            let document = hub.json(Call::new(Method::GET, &Route::Module(module.clone()))).await?;
            understood(read_module(&document))?.authentication
        }
    };
    match authentication {
        Authentication::Sas(keys) => Ok(keys),
        Authentication::None | Authentication::SelfSigned { .. } | Authentication::CertificateAuthority => {
            Err(Failure::failed(format!("`{client}` does not prove itself with keys")))
        }
    }
}

fn understood<T>(answer: Result<T, RequestError>) -> Result<T, Failure> {
    answer.map_err(|error| Failure::failed("the hub's answer is not understood").because(error))
}

/// Both lists as tables, with a word where one is empty.
pub(super) fn connections_text(connections: &Connections) -> String {
    let mut connected = Table::new(["CONNECTED", "FROM", "OVER", "SINCE", "PRODUCT"]);
    for line in &connections.connected {
        connected.push([
            line.client.to_string(),
            line.peer.clone(),
            line.protocol.clone(),
            line.since.to_string(),
            line.product.clone(),
        ]);
    }
    let mut refused = Table::new(["REFUSED", "FROM", "OVER", "TIMES", "LAST", "REASON"]);
    for line in &connections.refused {
        refused.push([
            if line.claimed.is_empty() { "-".to_owned() } else { line.claimed.clone() },
            line.peer.clone(),
            line.protocol.clone(),
            line.count.to_string(),
            line.last.to_string(),
            line.reason.clone(),
        ]);
    }
    let connected =
        if connections.connected.is_empty() { "nobody is connected\n".to_owned() } else { connected.to_string() };
    let refused = if connections.refused.is_empty() { "nobody was refused\n".to_owned() } else { refused.to_string() };
    format!("{connected}\n{refused}")
}
