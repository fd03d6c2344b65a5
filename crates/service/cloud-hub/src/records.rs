//! How the hub's documents rest in the record store. Each has a layout number `v`; a reader refuses what it does not know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::{
    Activity, Authentication, Command, ConnectionState, DeviceId, DeviceRecord, DeviceStatus, EdgeScope,
    FeedbackRequest, Json, KeyPair, Message, ModuleId, ModuleRecord, Section, SharedKey, Thumbprint, Timestamp, Twin,
    TwinPart,
};
use skerry_state::{Kind, StateError};

use crate::{Policy, Rights};

pub(crate) const DEVICE: Kind = Kind::new("device");
pub(crate) const MODULE: Kind = Kind::new("module");
pub(crate) const TWIN: Kind = Kind::new("twin");
pub(crate) const ACTIVITY: Kind = Kind::new("activity");
pub(crate) const COMMAND: Kind = Kind::new("command");
pub(crate) const COMMAND_QUEUE: Kind = Kind::new("command-queue");
/// The member of a device's document by which children are found.
pub(crate) const PARENT: &str = "parent";

/// The number that every layout written here has.
const LAYOUT: u64 = 1;

/// A twin with what the hub keeps beside it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct StoredTwin {
    pub(crate) twin: Twin,
    /// The plug-and-play model that the client announced last.
    pub(crate) model_id: Option<String>,
}

type Read<T> = Result<T, StateError>;

/// A document with its kind and name, for messages about what is wrong with it.
struct Reader<'a> {
    what: &'static str,
    id: &'a str,
    document: &'a Json,
}

impl<'a> Reader<'a> {
    fn open(what: &'static str, id: &'a str, document: &'a Json) -> Read<Self> {
        let reader = Self { what, id, document };
        match document["v"].as_u64() {
            Some(LAYOUT) => Ok(reader),
            _ => Err(reader.wrong("v")),
        }
    }

    fn wrong(&self, member: &str) -> StateError {
        StateError::Failed(format!("the stored {} `{}` has an unknown `{member}`", self.what, self.id))
    }

    fn text(&self, member: &str) -> Read<&'a str> {
        self.document[member].as_str().ok_or_else(|| self.wrong(member))
    }

    fn some_text(&self, member: &str) -> Option<&'a str> {
        self.document[member].as_str()
    }

    fn number(&self, member: &str) -> Read<u64> {
        self.document[member].as_u64().ok_or_else(|| self.wrong(member))
    }

    fn flag(&self, member: &str) -> bool {
        self.document[member].as_bool().unwrap_or(false)
    }

    fn moment(&self, member: &str) -> Option<Timestamp> {
        self.document[member].as_i64().map(Timestamp::from_unix_millis)
    }

    fn object(&self, member: &str) -> Read<&'a JsonObject> {
        self.document[member].as_object().ok_or_else(|| self.wrong(member))
    }

    fn keys(&self, document: &Json) -> Read<KeyPair> {
        let key = |member: &str| {
            document[member]
                .as_str()
                .and_then(|text| SharedKey::from_base64(text).ok())
                .ok_or_else(|| self.wrong(member))
        };
        Ok(KeyPair { primary: key("primary")?, secondary: key("secondary")? })
    }

    fn authentication(&self) -> Read<Authentication> {
        let document = &self.document["authentication"];
        let print = |member: &str| document[member].as_str().and_then(|text| Thumbprint::parse(text).ok());
        match document["type"].as_str() {
            Some("none") => Ok(Authentication::None),
            Some("sas") => Ok(Authentication::Sas(self.keys(document)?)),
            Some("selfSigned") => Ok(Authentication::SelfSigned {
                primary: print("primary").ok_or_else(|| self.wrong("primary"))?,
                secondary: print("secondary"),
            }),
            Some("certificateAuthority") => Ok(Authentication::CertificateAuthority),
            _ => Err(self.wrong("authentication")),
        }
    }
}

fn write_keys(kind: &str, keys: &KeyPair) -> Json {
    json!({"type": kind, "primary": keys.primary.to_base64(), "secondary": keys.secondary.to_base64()})
}

fn write_authentication(authentication: &Authentication) -> Json {
    match authentication {
        Authentication::None => json!({"type": "none"}),
        Authentication::Sas(keys) => write_keys("sas", keys),
        Authentication::SelfSigned { primary, secondary } => json!({
            "type": "selfSigned",
            "primary": primary.as_str(),
            "secondary": secondary.as_ref().map(Thumbprint::as_str),
        }),
        Authentication::CertificateAuthority => json!({"type": "certificateAuthority"}),
    }
}

pub(crate) fn write_policy(policy: &Policy) -> Json {
    let Rights { registry_read, registry_write, service_connect, device_connect } = policy.rights;
    json!({
        "v": LAYOUT,
        "keys": write_keys("sas", &policy.keys),
        "registryRead": registry_read,
        "registryWrite": registry_write,
        "serviceConnect": service_connect,
        "deviceConnect": device_connect,
    })
}

pub(crate) fn read_policy(name: &str, document: &Json) -> Read<Policy> {
    let reader = Reader::open("policy", name, document)?;
    let rights = Rights {
        registry_read: reader.flag("registryRead"),
        registry_write: reader.flag("registryWrite"),
        service_connect: reader.flag("serviceConnect"),
        device_connect: reader.flag("deviceConnect"),
    };
    Ok(Policy { name: name.to_owned(), rights, keys: reader.keys(&document["keys"])? })
}

pub(crate) fn write_device(device: &DeviceRecord) -> Json {
    let mut document = json!({
        "v": LAYOUT,
        "generation": &*device.generation,
        "etag": device.etag,
        "status": device.status.as_str(),
        "statusReason": device.status_reason,
        "statusUpdated": device.status_updated.map(Timestamp::unix_millis),
        "authentication": write_authentication(&device.authentication),
        "iotEdge": device.iot_edge,
    });
    if let Some(parent) = &device.parent {
        document[PARENT] = json!(parent.as_str());
    }
    document
}

/// Reads a device; its activity is not part of the document.
pub(crate) fn read_device(id: &str, document: &Json) -> Read<DeviceRecord> {
    let reader = Reader::open("device", id, document)?;
    Ok(DeviceRecord {
        id: DeviceId::parse(id).map_err(|_| reader.wrong("id"))?,
        generation: reader.text("generation")?.into(),
        etag: reader.text("etag")?.to_owned(),
        status: match reader.text("status")? {
            "enabled" => DeviceStatus::Enabled,
            "disabled" => DeviceStatus::Disabled,
            _ => return Err(reader.wrong("status")),
        },
        status_reason: reader.some_text("statusReason").map(str::to_owned),
        status_updated: reader.moment("statusUpdated"),
        authentication: reader.authentication()?,
        iot_edge: reader.flag("iotEdge"),
        parent: reader.some_text(PARENT).and_then(EdgeScope::parse),
        activity: Activity::default(),
    })
}

pub(crate) fn write_module(module: &ModuleRecord) -> Json {
    json!({
        "v": LAYOUT,
        "generation": &*module.generation,
        "etag": module.etag,
        "managedBy": module.managed_by,
        "authentication": write_authentication(&module.authentication),
    })
}

/// Reads a module; its activity is not part of the document.
pub(crate) fn read_module(id: &str, document: &Json) -> Read<ModuleRecord> {
    let reader = Reader::open("module", id, document)?;
    Ok(ModuleRecord {
        id: ModuleId::parse(id).map_err(|_| reader.wrong("id"))?,
        generation: reader.text("generation")?.into(),
        etag: reader.text("etag")?.to_owned(),
        managed_by: reader.text("managedBy")?.to_owned(),
        authentication: reader.authentication()?,
        activity: Activity::default(),
    })
}

pub(crate) fn write_twin(stored: &StoredTwin) -> Json {
    json!({
        "v": LAYOUT,
        "tags": stored.twin.tags,
        "desired": stored.twin.desired.service_view(),
        "reported": stored.twin.reported.service_view(),
        "version": stored.twin.version,
        "serviceWrites": stored.twin.service_writes,
        "modelId": stored.model_id,
    })
}

pub(crate) fn read_twin(id: &str, document: &Json) -> Read<StoredTwin> {
    let reader = Reader::open("twin", id, document)?;
    let section = |part, member: &str| {
        Section::from_service_view(part, reader.object(member)?)
            .map_err(|error| StateError::Failed(format!("the stored twin `{id}`: {member}: {error}")))
    };
    let twin = Twin {
        tags: reader.object("tags")?.clone(),
        desired: section(TwinPart::Desired, "desired")?,
        reported: section(TwinPart::Reported, "reported")?,
        version: reader.number("version")?,
        service_writes: reader.number("serviceWrites")?,
    };
    Ok(StoredTwin { twin, model_id: reader.some_text("modelId").map(str::to_owned) })
}

pub(crate) fn write_activity(activity: &Activity) -> Json {
    json!({
        "v": LAYOUT,
        "stateUpdated": activity.state_updated.map(Timestamp::unix_millis),
        "last": activity.last.map(Timestamp::unix_millis),
    })
}

/// Reads what an identity did before this hub started: whatever is stored, it is not connected now.
pub(crate) fn read_activity(id: &str, document: &Json) -> Read<Activity> {
    let reader = Reader::open("activity", id, document)?;
    Ok(Activity {
        state: ConnectionState::Disconnected,
        state_updated: reader.moment("stateUpdated"),
        last: reader.moment("last"),
        commands_waiting: 0,
    })
}

pub(crate) fn write_command(command: &Command) -> Json {
    json!({
        "v": LAYOUT,
        "properties": command.message.properties,
        "body": BASE64.encode(&command.message.body),
        "enqueued": command.enqueued.unix_millis(),
        "expires": command.expires.unix_millis(),
        "deliveryCount": command.delivery_count,
        "ack": command.ack.as_str(),
    })
}

/// Reads the command whose record is named `{device}/{sequence number}`.
pub(crate) fn read_command(id: &str, document: &Json) -> Read<Command> {
    let reader = Reader::open("command", id, document)?;
    let sequence_number = id.rsplit_once('/').and_then(|(_, number)| number.parse().ok());
    Ok(Command {
        message: Message {
            properties: reader.text("properties")?.to_owned(),
            body: Bytes::from(BASE64.decode(reader.text("body")?).map_err(|_| reader.wrong("body"))?),
        },
        sequence_number: sequence_number.ok_or_else(|| reader.wrong("id"))?,
        enqueued: reader.moment("enqueued").ok_or_else(|| reader.wrong("enqueued"))?,
        expires: reader.moment("expires").ok_or_else(|| reader.wrong("expires"))?,
        delivery_count: u32::try_from(reader.number("deliveryCount")?).unwrap_or(u32::MAX),
        ack: FeedbackRequest::parse(reader.text("ack")?).ok_or_else(|| reader.wrong("ack"))?,
    })
}

pub(crate) fn write_queue(next: u64) -> Json {
    json!({"v": LAYOUT, "next": next})
}

pub(crate) fn read_queue(id: &str, document: &Json) -> Read<u64> {
    Reader::open("command queue", id, document)?.number("next")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents of layout 1 as they were first written: they must be read as long as there is a layout 1.
    #[test]
    fn documents_of_layout_1_are_read_and_written_again_the_same() {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let keys = json!({"type": "sas", "primary": key, "secondary": key});
        let device = json!({
            "v": 1, "generation": "638678901234567890", "etag": "MTk4MTM4MTkz", "status": "disabled",
            "statusReason": "stolen", "statusUpdated": 1_700_000_000_000i64, "authentication": keys,
            "iotEdge": true, "parent": "ms-azure-iot-edge://p-1"
        });
        assert_eq!(write_device(&read_device("edge1", &device).unwrap()), device);
        let module = json!({
            "v": 1, "generation": "6386", "etag": "MQ==", "managedBy": "iotEdge", "authentication": {"type": "none"}
        });
        assert_eq!(write_module(&read_module("edge1/$edgeHub", &module).unwrap()), module);
        let twin = json!({
            "v": 1, "tags": {"a": 1},
            "desired": {"x": 1, "$metadata": {"$lastUpdated": "2024-05-01T10:00:00.1230000Z", "$lastUpdatedVersion": 2,
                "x": {"$lastUpdated": "2024-05-01T10:00:00.1230000Z", "$lastUpdatedVersion": 2}}, "$version": 2},
            "reported": {"$metadata": {"$lastUpdated": "0001-01-01T00:00:00Z"}, "$version": 1},
            "version": 3, "serviceWrites": 2, "modelId": "dtmi:a;1"
        });
        assert_eq!(write_twin(&read_twin("edge1", &twin).unwrap()), twin);
        let command = json!({
            "v": 1, "properties": "a=1", "body": "AAE=", "enqueued": 5, "expires": 9, "deliveryCount": 2, "ack": "full"
        });
        let read = read_command("d/00000000000000000007", &command).unwrap();
        assert_eq!((read.sequence_number, write_command(&read)), (7, command));
        let policy = json!({
            "v": 1, "keys": keys, "registryRead": true, "registryWrite": false, "serviceConnect": true, "deviceConnect": false
        });
        assert_eq!(write_policy(&read_policy("p", &policy).unwrap()), policy);
    }

    #[test]
    fn a_document_of_an_unknown_layout_is_refused_with_its_name() {
        let error = read_device("edge1", &json!({"v": 2})).unwrap_err();
        assert_eq!(error.to_string(), "the record store failed: the stored device `edge1` has an unknown `v`");
    }
}
