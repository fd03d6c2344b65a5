//! The desired properties of `$edgeHub`.

use std::time::Duration;

use skerry_model::json::JsonObject;
use skerry_model::manifest::{RoutePriority, StoreAndForward};
use skerry_model::{HubManifest, Json, Route};

use super::ManifestError;
use super::agent::{document_member, version_parts};
use super::reader::{Reader, kind, member};

/// Reads a route's text: `Err` with the reason, and the place in the route, when it is none.
pub type RouteCheck<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// Why desired properties of `$edgeHub` are not taken: everything that is wrong, not empty. The previous ones stay in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFault(Vec<ManifestError>);

impl HubFault {
    /// The code for `lastDesiredStatus`.
    pub const CODE: u16 = 400;

    /// The description for `lastDesiredStatus`: the original's beginning and the first reason.
    pub fn description(&self) -> String {
        let reason = self.0.first().map_or("", |error| error.reason.as_str());
        format!("Error while parsing desired properties - {reason}")
    }

    /// Everything that is wrong.
    pub fn errors(&self) -> &[ManifestError] {
        &self.0
    }
}

/// Reads the desired properties of `$edgeHub`. `check_route` is asked about each route's text; it is to refuse what the grammar
/// refuses and to let errors of type pass: those are found when the routes are applied (`edge-deployment-manifest` §4).
///
/// # Errors
/// With everything that is wrong; nothing of the document is to be applied then.
pub fn hub(desired: &JsonObject, check_route: RouteCheck<'_>) -> Result<HubManifest, HubFault> {
    hub_at(&[], desired, check_route).map_err(HubFault)
}

pub(super) fn hub_at(
    path: &[&str],
    desired: &JsonObject,
    check_route: RouteCheck<'_>,
) -> Result<HubManifest, Vec<ManifestError>> {
    let mut reader = Reader::at(path);
    match read(&mut reader, desired, check_route) {
        Some(manifest) if reader.errors.is_empty() => Ok(manifest),
        _ => Err(reader.errors),
    }
}

fn read(reader: &mut Reader, desired: &JsonObject, check_route: RouteCheck<'_>) -> Option<HubManifest> {
    let (schema_version, is_first) = schema(reader, desired)?;
    let read_routes = |reader: &mut Reader, value: &Json| {
        let members = reader.object(value)?;
        let mut routes = Vec::new();
        for (name, value) in members {
            let is_skipped = is_first && value.as_str().is_some_and(|text| text.trim().is_empty());
            if !is_skipped {
                routes.extend(reader.within(name, |reader| route(reader, name, value, is_first, check_route)));
            }
        }
        Some(routes)
    };
    let routes = if is_first {
        reader.optional(desired, "routes", read_routes).map(Option::unwrap_or_default)
    } else {
        reader.required(desired, "routes", read_routes)
    };
    let store = reader.required(desired, "storeAndForwardConfiguration", |reader, value| {
        let object = reader.object(value)?;
        store(reader, object)
    });
    Some(HubManifest { schema_version, routes: routes?, store: store? })
}

/// The version, and whether it is 1.0.
fn schema(reader: &mut Reader, desired: &JsonObject) -> Option<(String, bool)> {
    let version = match document_member(desired, "schemaVersion") {
        None | Some(Json::Null) => return reader.fail("EdgeHub config missing SchemaVersion"),
        Some(value) => reader.within("schemaVersion", |reader| reader.text(value))?,
    };
    reader.within("schemaVersion", |reader| match version_parts(&version).as_deref() {
        _ if version.trim().is_empty() => reader.fail("EdgeHub config missing SchemaVersion"),
        None => reader.fail(format!(
            "Error parsing schema version string: {version}, Exception: not a version of two to four numbers"
        )),
        Some([1, minor @ 0..=3]) => Some((version.clone(), *minor == 0)),
        Some(_) => reader.fail(format!("EdgeHub config contains unsupported SchemaVersion: {version}")),
    })
}

fn route(reader: &mut Reader, name: &str, value: &Json, is_first: bool, check: RouteCheck<'_>) -> Option<Route> {
    let route = match value {
        Json::String(text) => {
            let text = filled(reader, text)?;
            Route { name: name.to_owned(), text, priority: RoutePriority::DEFAULT, time_to_live: None }
        }
        Json::Object(object) if !is_first => with_details(reader, name, object)?,
        Json::Object(_) => return reader.fail("a route of schema 1.0 is a text"),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => {
            return reader.fail(format!("Malformed route specification: {}", kind(value)));
        }
    };
    match check(&route.text) {
        Ok(()) => Some(route),
        Err(reason) => reader.fail(format!("Error parsing route {name} - {reason}")),
    }
}

fn with_details(reader: &mut Reader, name: &str, object: &JsonObject) -> Option<Route> {
    let text = reader.required(object, "route", |reader, value| match value {
        Json::String(text) => filled(reader, text),
        _ => reader.fail(format!("expected a text, found {}", kind(value))),
    });
    let shown = text.clone().unwrap_or_default();
    let priority = reader.optional(object, "priority", |reader, value| {
        let number = reader.whole(value, 0..=i64::from(u32::MAX))?;
        u32::try_from(number)
            .ok()
            .and_then(RoutePriority::new)
            .or_else(|| reader.fail(format!("Invalid priority for route: {shown}, priority can only be between 0-9")))
    });
    let time_to_live = reader.optional(object, "timeToLiveSecs", |reader, value| {
        reader.whole(value, 0..=i64::from(u32::MAX)).and_then(|secs| u64::try_from(secs).ok())
    });
    Some(Route {
        name: name.to_owned(),
        text: text?,
        priority: priority?.unwrap_or_default(),
        time_to_live: time_to_live?.filter(|secs| *secs > 0).map(Duration::from_secs),
    })
}

fn filled(reader: &mut Reader, text: &str) -> Option<String> {
    if text.trim().is_empty() { reader.fail("a route must not be blank") } else { Some(text.to_owned()) }
}

fn store(reader: &mut Reader, object: &JsonObject) -> Option<StoreAndForward> {
    let default = StoreAndForward::default();
    let time_to_live = reader.optional(object, "timeToLiveSecs", |reader, value| {
        // Any negative number means that messages never expire.
        let secs = reader.whole(value, i64::from(i32::MIN)..=i64::from(i32::MAX))?;
        Some(u64::try_from(secs).ok().map(Duration::from_secs))
    });
    let bytes_max = match member(object, "storeLimits") {
        None | Some((_, Json::Null)) => Some(None),
        Some((key, value)) => reader.within(key, |reader| {
            let limits = reader.object(value)?;
            reader.optional(limits, "maxSizeBytes", |reader, value| reader.whole(value, i64::MIN..=i64::MAX))
        }),
    };
    Some(StoreAndForward {
        time_to_live: time_to_live?.unwrap_or(default.time_to_live),
        bytes_max: bytes_max?.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
    })
}
