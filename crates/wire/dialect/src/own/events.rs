//! Reading events: `GET /skerry/events?from=…&partition=…&device=…&wait=…&count=…` answers one JSON document per line, events first,
//! and as the last line where to go on. When nothing is there it waits up to `wait` seconds.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use skerry_model::{
    ClientId, DeviceId, Json, ModuleName, PropertyBag, RequestError, Stamp, Timestamp, json::JsonObject,
};

use crate::body::{invalid, object, text};
use crate::http::query_parameter;
use crate::percent;

/// Longest wait for the first event, in seconds.
const WAIT_S_MAX: u64 = 60;
/// Events of one answer when the asker does not say.
const COUNT_DEFAULT: usize = 1_000;
/// Most events of one answer.
const COUNT_MAX: usize = 10_000;

/// How far each partition was read: the sequence number of the next event. Written `0:12,1:7`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(Vec<(u16, u64)>);

impl Cursor {
    /// A cursor of partitions and the sequence numbers of their next events.
    pub fn new(positions: impl IntoIterator<Item = (u16, u64)>) -> Self {
        Self(positions.into_iter().collect())
    }

    /// Where to go on in `partition`; `None` when the cursor does not speak of it.
    pub fn position(&self, partition: u16) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == partition).map(|(_, next)| *next)
    }

    /// All partitions and positions.
    pub fn positions(&self) -> &[(u16, u64)] {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let positions = text.split(',').map(|part| {
            let (partition, next) = part.split_once(':')?;
            Some((partition.parse().ok()?, next.parse().ok()?))
        });
        positions.collect::<Option<Vec<_>>>().map(Self)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (partition, next)) in self.0.iter().enumerate() {
            let divider = if at == 0 { "" } else { "," };
            write!(out, "{divider}{partition}:{next}")?;
        }
        Ok(())
    }
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event that is kept.
    Oldest,
    /// With what comes from now on.
    Now,
    /// With what was taken at this moment or later.
    At(Timestamp),
    /// Where an answer before said; partitions it does not speak of from their oldest event.
    Cursor(Cursor),
}

impl Start {
    /// Reads `oldest`, `now`, a date and time, or a cursor.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "now" => Ok(Self::Now),
            _ => {
                Timestamp::parse(text).ok().map(Self::At).or_else(|| Cursor::parse(text).map(Self::Cursor)).ok_or_else(
                    || invalid("`from` is none of `oldest`, `now`, a date and time, and partition:sequence,…"),
                )
            }
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oldest => out.write_str("oldest"),
            Self::Now => out.write_str("now"),
            Self::At(at) => at.fmt(out),
            Self::Cursor(cursor) => cursor.fmt(out),
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Where to begin.
    pub from: Start,
    /// Only this partition.
    pub partition: Option<u16>,
    /// Only events of this device and its modules.
    pub device: Option<DeviceId>,
    /// How long to wait for the first event, up to 60 s.
    pub wait: Duration,
    /// Most events of the answer, 1 to 10,000.
    pub count: usize,
}

impl EventQuery {
    /// Everything from `from` on, without waiting.
    pub fn new(from: Start) -> Self {
        Self { from, partition: None, device: None, wait: Duration::ZERO, count: COUNT_DEFAULT }
    }

    /// Reads the query of a request.
    ///
    /// # Errors
    /// When a parameter is malformed.
    pub fn read(query: &str) -> Result<Self, RequestError> {
        let parameter = |name| query_parameter(query, name).filter(|value| !value.is_empty());
        let number = |name| {
            parameter(name)
                .map(|value| value.parse::<u64>())
                .transpose()
                .map_err(|_| invalid(format!("`{name}` is not a whole number")))
        };
        let partition = number("partition")?
            .map(u16::try_from)
            .transpose()
            .map_err(|_| invalid("`partition` is not a number of a partition"))?;
        let device = parameter("device")
            .map(|id| DeviceId::parse(&id))
            .transpose()
            .map_err(|error| invalid(format!("`device`: {error}")))?;
        let count = number("count")?.and_then(|count| usize::try_from(count).ok()).unwrap_or(COUNT_DEFAULT);
        Ok(Self {
            from: parameter("from").map_or(Ok(Start::Now), |text| Start::parse(&text))?,
            partition,
            device,
            wait: Duration::from_secs(number("wait")?.unwrap_or(0).min(WAIT_S_MAX)),
            count: count.clamp(1, COUNT_MAX),
        })
    }
}

impl fmt::Display for EventQuery {
    /// As the query of a request.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = percent::encode(&self.from.to_string());
        write!(out, "from={from}&wait={}&count={}", self.wait.as_secs(), self.count)?;
        if let Some(partition) = self.partition {
            write!(out, "&partition={partition}")?;
        }
        match &self.device {
            None => Ok(()),
            Some(device) => write!(out, "&device={}", percent::encode(device.as_str())),
        }
    }
}

/// An event as a reader gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventLine {
    /// Its partition.
    pub partition: u16,
    /// Its place there.
    pub sequence: u64,
    /// Whose event it is.
    pub source: ClientId,
    /// When the hub took it.
    pub enqueued: Timestamp,
    /// The whole document: the members above, `kind`, `generation`, `authMethod`, `modelId`, `properties` (system ones by their short
    /// names, `$.mid`), and `body` (a text), or `bodyBase64` where the body is not UTF-8.
    pub document: JsonObject,
}

impl EventLine {
    /// The payload's bytes.
    pub fn body(&self) -> Vec<u8> {
        match (self.document.get("body"), self.document.get("bodyBase64")) {
            (Some(Json::String(text)), _) => text.clone().into_bytes(),
            (_, Some(Json::String(text))) => STANDARD.decode(text).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// One event as a line, line feed included.
pub fn event_line(partition: u16, sequence: u64, stamp: &Stamp, properties: PropertyBag<'_>, body: &[u8]) -> String {
    let said: JsonObject = properties
        .iter()
        .map(|(key, value)| (key.into_owned(), value.map_or(Json::Null, |value| value.into_owned().into())))
        .collect();
    let mut document = json!({
        "partition": partition,
        "sequence": sequence,
        "deviceId": stamp.source.device().as_str(),
        "moduleId": stamp.source.module().map(ModuleName::as_str),
        "enqueued": stamp.enqueued.to_string(),
        "kind": stamp.kind.as_str(),
        "generation": &*stamp.generation,
        "authMethod": stamp.auth_method.to_stamp(),
        "modelId": stamp.model_id.as_deref(),
        "properties": said,
    });
    match std::str::from_utf8(body) {
        Ok(text) => document["body"] = text.into(),
        Err(_) => document["bodyBase64"] = STANDARD.encode(body).into(),
    }
    format!("{document}\n")
}

/// The last line of an answer, line feed included.
pub fn cursor_line(cursor: &Cursor) -> String {
    format!("{}\n", json!({ "cursor": cursor.to_string() }))
}

/// A line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// An event.
    Event(EventLine),
    /// Where to go on; the last line.
    Cursor(Cursor),
}

/// Reads one line of an answer.
///
/// # Errors
/// When it is neither an event nor a cursor.
pub fn read_line(line: &[u8]) -> Result<Line, RequestError> {
    let document = object(line)?;
    if let Some(cursor) = text(&document, "cursor")? {
        return match cursor {
            "" => Ok(Line::Cursor(Cursor::default())),
            cursor => Cursor::parse(cursor).map(Line::Cursor).ok_or_else(|| invalid("`cursor` is not one")),
        };
    }
    let number =
        |name| document.get(name).and_then(Json::as_u64).ok_or_else(|| invalid(format!("`{name}` is missing")));
    let required = |name| text(&document, name)?.ok_or_else(|| invalid(format!("`{name}` is missing")));
    let device = DeviceId::parse(required("deviceId")?).map_err(|error| invalid(format!("`deviceId`: {error}")))?;
    let module = text(&document, "moduleId")?
        .map(ModuleName::parse)
        .transpose()
        .map_err(|error| invalid(format!("`moduleId`: {error}")))?;
    Ok(Line::Event(EventLine {
        partition: u16::try_from(number("partition")?).map_err(|_| invalid("`partition` is too large"))?,
        sequence: number("sequence")?,
        source: ClientId::new(device, module),
        enqueued: Timestamp::parse(required("enqueued")?).map_err(|error| invalid(format!("`enqueued` is {error}")))?,
        document,
    }))
}
