//! Who takes part: a client on azure-iot-device, the service on azure-iot-hub, and the calls tests make most.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skerry_testkit::{Conversation, Hub, repository};

pub(crate) fn script(name: &str) -> PathBuf {
    repository().join("tests/azure-sdk/python").join(name)
}

/// A device or module on azure-iot-device; created, not connected.
pub(crate) struct Client {
    pub(crate) talk: Conversation,
}

/// What a client is created from.
pub(crate) enum From<'a> {
    ConnectionString(&'a str),
    Token(&'a str),
}

impl Client {
    #[track_caller]
    pub(crate) fn device(hub: &Hub, connection_string: &str) -> Client {
        Client::create(&hub.ca_file(), "device", From::ConnectionString(connection_string), json!({}))
    }

    #[track_caller]
    pub(crate) fn module(hub: &Hub, connection_string: &str) -> Client {
        Client::create(&hub.ca_file(), "module", From::ConnectionString(connection_string), json!({}))
    }

    /// `ca_file`: whom to trust; `options`: the SDK's own keyword arguments.
    #[track_caller]
    pub(crate) fn create(ca_file: &Path, kind: &str, from: From<'_>, options: Value) -> Client {
        let (how, text) = match from {
            From::ConnectionString(text) => ("connection_string", text),
            From::Token(text) => ("sastoken", text),
        };
        let mut talk = Conversation::python(kind, &script("client.py"), &[]);
        talk.call("create", json!({ "how": how, "kind": kind, "text": text, "ca_file": ca_file, "options": options }));
        Client { talk }
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
}

/// The service side on azure-iot-hub with the owner policy.
#[track_caller]
pub(crate) fn service(hub: &Hub) -> Conversation {
    let ca_file = hub.ca_file().display().to_string();
    let connection_string = hub.connection_string();
    let environment = [("HUB_CONNECTION_STRING", connection_string.text()), ("REQUESTS_CA_BUNDLE", &ca_file)];
    Conversation::python("service", &script("service.py"), &environment)
}
