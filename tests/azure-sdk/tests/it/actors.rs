//! Who takes part: a client on azure-iot-device, the service on azure-iot-hub, and the calls tests make most.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skerry_testkit::{ConnectionString, Conversation, Hub, Invitation, repository};

pub(crate) fn script(name: &str) -> PathBuf {
    repository().join("tests/azure-sdk/python").join(name)
}

/// A device or module on azure-iot-device; created, not connected.
pub(crate) struct Client {
    pub(crate) talk: Conversation,
    device: String,
    module: Option<String>,
}

impl Client {
    #[track_caller]
    pub(crate) fn device(hub: &Hub, connection_string: &str) -> Client {
        Client::create(&hub.ca_file(), connection_string, json!({}))
    }

    #[track_caller]
    pub(crate) fn module(hub: &Hub, connection_string: &str) -> Client {
        Client::create(&hub.ca_file(), connection_string, json!({}))
    }

    /// The device or module of a connection string. `ca_file`: whom to trust; `options`: the SDK's own keyword arguments.
    #[track_caller]
    pub(crate) fn create(ca_file: &Path, connection_string: &str, options: Value) -> Client {
        let identity = ConnectionString::new(connection_string);
        let module = connection_string.contains(";ModuleId=").then(|| identity.part("ModuleId"));
        let arguments = json!({ "how": "connection_string", "text": connection_string });
        Client::started(identity.part("DeviceId"), module, arguments, ca_file, options)
    }

    /// A client that is given a token for `resource` (`host/devices/d` or `host/devices/d/modules/m`).
    #[track_caller]
    pub(crate) fn create_with_token(ca_file: &Path, resource: &str, token: &str, options: Value) -> Client {
        let mut parts = resource.split('/').skip(2).step_by(2);
        let device = parts.next().unwrap_or_else(|| panic!("{resource} names no device"));
        Client::started(device, parts.next(), json!({ "how": "sastoken", "text": token }), ca_file, options)
    }

    #[track_caller]
    fn started(device: &str, module: Option<&str>, arguments: Value, ca_file: &Path, options: Value) -> Client {
        let kind = if module.is_some() { "module" } else { "device" };
        let mut talk = Conversation::python(module.unwrap_or(device), &script("client.py"), &[]);
        let more = json!({ "kind": kind, "ca_file": ca_file, "options": options });
        talk.call("create", merged(arguments, more));
        Client { talk, device: device.to_owned(), module: module.map(str::to_owned) }
    }

    /// A module that an edge started and that creates itself from its environment.
    #[track_caller]
    pub(crate) fn of_edge(invitation: &Invitation, device: &str, module: &str, options: Value) -> Client {
        let mut talk = invitation.accept(module);
        talk.call("create", json!({ "how": "edge_environment", "kind": "module", "options": options }));
        Client { talk, device: device.to_owned(), module: Some(module.to_owned()) }
    }

    #[track_caller]
    pub(crate) fn connect(&mut self) {
        self.talk.call("connect", json!({}));
    }

    #[track_caller]
    pub(crate) fn twin(&mut self) -> Value {
        self.talk.call("get_twin", json!({}))
    }

    /// Waits until the SDK says it is connected, or not.
    #[track_caller]
    pub(crate) fn wait_for_connection(&mut self, connected: bool) {
        self.talk.event_where("connection", |event| event["connected"] == connected);
    }

    /// The next desired patch with this version, which the SDK hands out.
    #[track_caller]
    pub(crate) fn desired_patch(&mut self, version: &Value) -> Value {
        self.talk.event_where("desired", |event| event["patch"]["$version"] == *version)["patch"].take()
    }

    /// Its twin as the service sees it.
    #[track_caller]
    pub(crate) fn twin_at(&self, service: &mut Conversation) -> Value {
        let call = if self.module.is_some() { "get_module_twin" } else { "get_twin" };
        service.call(call, self.about(json!({})))
    }

    /// Changes its desired properties; the version they then have.
    #[track_caller]
    pub(crate) fn desire(&self, service: &mut Conversation, patch: &Value) -> Value {
        let call = if self.module.is_some() { "update_module_twin" } else { "update_twin" };
        service.call(call, self.about(json!({ "desired": patch })))["properties"]["desired"]["$version"].take()
    }

    /// Invokes a method of it, waiting for it to come if it is not there.
    #[track_caller]
    pub(crate) fn invoke(&self, service: &mut Conversation, name: &str, payload: &Value) -> Value {
        service.call("invoke", self.about(json!({ "name": name, "payload": payload, "connect_timeout": 30 })))
    }

    /// Whether an event of a hub is a message of this client.
    pub(crate) fn sent(&self, event: &Value) -> bool {
        event["deviceId"] == self.device && event["moduleId"].as_str() == self.module.as_deref()
    }

    /// The device it is, if it is no module.
    #[track_caller]
    pub(crate) fn device_id(&self) -> &str {
        assert_eq!(self.module, None, "a module");
        &self.device
    }

    /// Arguments for a call of the service about this client.
    fn about(&self, more: Value) -> Value {
        let mut identity = json!({ "device_id": self.device });
        if let Some(module) = &self.module {
            identity["module_id"] = json!(module);
        }
        merged(identity, more)
    }
}

fn merged(mut into: Value, more: Value) -> Value {
    if let (Value::Object(into), Value::Object(more)) = (&mut into, more) {
        into.extend(more);
    }
    into
}

/// The service side on azure-iot-hub with the owner policy.
#[track_caller]
pub(crate) fn service(hub: &Hub) -> Conversation {
    let ca_file = hub.ca_file().display().to_string();
    let connection_string = hub.connection_string();
    let environment = [("HUB_CONNECTION_STRING", connection_string.text()), ("REQUESTS_CA_BUNDLE", &ca_file)];
    Conversation::python("service", &script("service.py"), &environment)
}
