//! What a request's path names. One table for devices, edge hubs, modules and services, since they share addresses; who may do what
//! there is decided by whose token it is.
//!
//! Sources: `device-https` §1, §2, §6, §7, `edge-hub-specifics` §8, `service-auth-and-registry` §3–4.

use std::borrow::Cow;

use skerry_model::{ClientId, DeviceId, ErrorCode, ModuleId, ModuleName, RequestError};

use crate::body::invalid;
use crate::percent;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/devices`: the registry's devices.
    Devices,
    /// `/devices/{d}`: one device.
    Device(DeviceId),
    /// `/devices/{d}/modules`: its modules.
    Modules(DeviceId),
    /// `/devices/{d}/modules/{m}`: one module.
    Module(ModuleId),
    /// `/devices/{d}/applyConfigurationContent`: a manifest for one edge device.
    ApplyConfiguration(DeviceId),
    /// `/devices/{d}[/modules/{m}]/messages/events`: telemetry of a client.
    Telemetry(ClientId),
    /// `/devices/{d}[/modules/{m}]/messages/deviceBound`: commands to a client.
    Commands {
        /// To whom.
        to: ClientId,
        /// To whom when the id was encoded twice, as one tool does; to be tried when `to` does not exist.
        twice_decoded: Option<ClientId>,
    },
    /// `/devices/{d}/commands`: all commands that wait for a device.
    CommandQueue(DeviceId),
    /// `/twins/{d}[/modules/{m}]`: a twin.
    Twin(ClientId),
    /// `/twins/{d}[/modules/{m}]/methods`: the methods of a client.
    Methods(ClientId),
    /// `/devices/{edge}/modules/$edgeHub/…`: what an edge hub asks about those below it.
    Scope {
        /// The edge device whose hub asks.
        actor: DeviceId,
        /// What it asks.
        call: ScopeCall,
    },
    /// `/statistics/devices`: how many devices there are.
    DeviceStatistics,
    /// `/statistics/service`: how many are connected.
    ServiceStatistics,
    /// `/skerry/events`: reading telemetry.
    Events,
    /// `/skerry/connections`: who is connected, who was refused.
    Connections,
    /// A part of Azure's interface that is not built.
    Unbuilt(&'static str),
}

/// What an edge hub asks about those below it; POST with a JSON body unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScopeCall {
    /// Everybody in the scope of a target device.
    InTargetScope,
    /// One identity.
    OnBehalf,
    /// One module.
    ModuleOnBehalf,
    /// The modules of a target device.
    ModulesOnTarget,
    /// Create or update a module (PUT).
    PutModule,
    /// Delete a module.
    DeleteModule,
    /// Everybody in the own scope; GET with a query, from before there were nested gateways.
    InOwnScope,
    /// One identity in the own scope; GET with a query.
    OneInOwnScope,
}

const SCOPE_CALLS: [(&str, ScopeCall); 8] = [
    ("devicesAndModulesInTargetDeviceScope", ScopeCall::InTargetScope),
    ("getDeviceAndModuleOnBehalfOf", ScopeCall::OnBehalf),
    ("getModuleOnBehalfOf", ScopeCall::ModuleOnBehalf),
    ("getModulesOnTargetDevice", ScopeCall::ModulesOnTarget),
    ("putModuleOnBehalfOf", ScopeCall::PutModule),
    ("deleteModuleOnBehalfOf", ScopeCall::DeleteModule),
    ("devicesAndModulesInDeviceScope", ScopeCall::InOwnScope),
    ("deviceAndModuleInDeviceScope", ScopeCall::OneInOwnScope),
];

impl ScopeCall {
    /// The path of this call of the edge device `actor`.
    pub fn path(self, actor: &DeviceId) -> String {
        let word = SCOPE_CALLS.iter().find(|(_, call)| *call == self).map_or("", |(word, _)| word);
        format!("/devices/{}/modules/$edgeHub/{word}", percent::encode(actor.as_str()))
    }
}

/// Reads the path of a request (without query). Ids may be encoded, and so may the slashes, as one tool does; a trailing slash and
/// the case of words do not matter.
///
/// # Errors
/// `NotFound` when nothing is at this address, `ArgumentInvalid` when an id in it is not one.
pub fn route(method: &str, path: &str) -> Result<Route, RequestError> {
    let path = percent::decode(path);
    let trimmed = path.strip_prefix('/').unwrap_or(&path);
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let segments: Vec<&str> = trimmed.split('/').collect();
    let [first, rest @ ..] = segments.as_slice() else { return Err(nothing(&path)) };
    let word = |text: &str| first.eq_ignore_ascii_case(text);
    let found = match () {
        () if word("devices") => devices(method, rest)?,
        () if word("twins") => twins(rest)?,
        () if word("statistics") => match rest {
            [what] if what.eq_ignore_ascii_case("devices") => Some(Route::DeviceStatistics),
            [what] if what.eq_ignore_ascii_case("service") => Some(Route::ServiceStatistics),
            _ => None,
        },
        () if word("skerry") => match rest {
            ["events"] => Some(Route::Events),
            ["connections"] => Some(Route::Connections),
            _ => None,
        },
        () if word("configurations") => Some(Route::Unbuilt("configurations")),
        () if word("jobs") => Some(Route::Unbuilt("jobs")),
        () if word("digitaltwins") => Some(Route::Unbuilt("digital twins")),
        () => None,
    };
    found.ok_or_else(|| nothing(&path))
}

fn nothing(path: &str) -> RequestError {
    const CHARS_MAX: usize = 200;
    let path: String = path.chars().take(CHARS_MAX).filter(|c| !c.is_control()).collect();
    RequestError::new(ErrorCode::NotFound, format!("there is nothing at `{path}`"))
}

fn devices(method: &str, rest: &[&str]) -> Result<Option<Route>, RequestError> {
    Ok(Some(match rest {
        [] => Route::Devices,
        [word] if word.eq_ignore_ascii_case("query") && method.eq_ignore_ascii_case("POST") => {
            Route::Unbuilt("queries")
        }
        [first, second] if first.eq_ignore_ascii_case("keys") && second.eq_ignore_ascii_case("regenerate") => {
            Route::Unbuilt("key regeneration")
        }
        [id] => Route::Device(device(id)?),
        [id, word] if word.eq_ignore_ascii_case("modules") => Route::Modules(device(id)?),
        [id, word] if word.eq_ignore_ascii_case("applyConfigurationContent") => Route::ApplyConfiguration(device(id)?),
        [id, word] if word.eq_ignore_ascii_case("commands") => Route::CommandQueue(device(id)?),
        [id, word, ..] if word.eq_ignore_ascii_case("files") => {
            device(id)?;
            Route::Unbuilt("file upload")
        }
        [id, word, name] if word.eq_ignore_ascii_case("modules") => Route::Module(module(id, name)?),
        [id, word, hub, call] if word.eq_ignore_ascii_case("modules") && hub.eq_ignore_ascii_case("$edgeHub") => {
            let known = SCOPE_CALLS.iter().find(|(word, _)| word.eq_ignore_ascii_case(call));
            let Some((_, call)) = known else { return Ok(None) };
            Route::Scope { actor: device(id)?, call: *call }
        }
        [id, messages @ ..] if messages.first().is_some_and(|word| word.eq_ignore_ascii_case("messages")) => {
            return client_messages(id, None, &messages[1..]);
        }
        [id, word, name, messages @ ..]
            if word.eq_ignore_ascii_case("modules")
                && messages.first().is_some_and(|word| word.eq_ignore_ascii_case("messages")) =>
        {
            return client_messages(id, Some(name), &messages[1..]);
        }
        _ => return Ok(None),
    }))
}

/// What stands behind `messages`.
fn client_messages(id: &str, name: Option<&str>, rest: &[&str]) -> Result<Option<Route>, RequestError> {
    Ok(match rest {
        [word] if word.eq_ignore_ascii_case("events") => Some(Route::Telemetry(client(id, name)?)),
        [word] if word.eq_ignore_ascii_case("deviceBound") => {
            let (again, again_name) = (percent::decode(id), name.map(percent::decode));
            let twice = matches!(again, Cow::Owned(_)) || matches!(again_name, Some(Cow::Owned(_)));
            let twice_decoded = if twice { client(&again, again_name.as_deref()).ok() } else { None };
            match (client(id, name), twice_decoded) {
                (Ok(to), twice_decoded) => Some(Route::Commands { to, twice_decoded }),
                (Err(_), Some(to)) => Some(Route::Commands { to, twice_decoded: None }),
                (Err(error), None) => return Err(error),
            }
        }
        [word, ..] if word.eq_ignore_ascii_case("deviceBound") => Some(Route::Unbuilt("commands over HTTPS")),
        _ => None,
    })
}

fn twins(rest: &[&str]) -> Result<Option<Route>, RequestError> {
    Ok(Some(match rest {
        [id] => Route::Twin(client(id, None)?),
        [id, word] if word.eq_ignore_ascii_case("methods") => Route::Methods(client(id, None)?),
        [id, word, name] if word.eq_ignore_ascii_case("modules") => Route::Twin(client(id, Some(name))?),
        [id, word, name, last] if word.eq_ignore_ascii_case("modules") && last.eq_ignore_ascii_case("methods") => {
            Route::Methods(client(id, Some(name))?)
        }
        _ => return Ok(None),
    }))
}

fn device(id: &str) -> Result<DeviceId, RequestError> {
    DeviceId::parse(id).map_err(|error| invalid(format!("the device id in the path is wrong: {error}")))
}

fn module(id: &str, name: &str) -> Result<ModuleId, RequestError> {
    let name =
        ModuleName::parse(name).map_err(|error| invalid(format!("the module id in the path is wrong: {error}")))?;
    Ok(device(id)?.module(name))
}

fn client(id: &str, name: Option<&str>) -> Result<ClientId, RequestError> {
    match name {
        None => device(id).map(ClientId::Device),
        Some(name) => module(id, name).map(ClientId::Module),
    }
}

/// The value of `name` in a query (`a=1&b=2`, with or without the question mark), decoded; names in any case. A name without `=`
/// has an empty value.
pub fn query_parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let query = query.strip_prefix('?').unwrap_or(query);
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent::decode(key).eq_ignore_ascii_case(name).then(|| percent::decode(value))
    })
}

impl Route {
    /// The path of this route, ids encoded; [`route`] reads it back.
    pub fn path(&self) -> String {
        let id = |text: &str| percent::encode(text);
        let client = |client: &ClientId| match client.module() {
            None => id(client.device().as_str()),
            Some(module) => format!("{}/modules/{}", id(client.device().as_str()), id(module.as_str())),
        };
        match self {
            Self::Devices => "/devices".to_owned(),
            Self::Device(device) => format!("/devices/{}", id(device.as_str())),
            Self::Modules(device) => format!("/devices/{}/modules", id(device.as_str())),
            Self::Module(module) => format!("/devices/{}", client(&ClientId::Module(module.clone()))),
            Self::ApplyConfiguration(device) => format!("/devices/{}/applyConfigurationContent", id(device.as_str())),
            Self::Telemetry(from) => format!("/devices/{}/messages/events", client(from)),
            Self::Commands { to, .. } => format!("/devices/{}/messages/deviceBound", client(to)),
            Self::CommandQueue(device) => format!("/devices/{}/commands", id(device.as_str())),
            Self::Twin(of) => format!("/twins/{}", client(of)),
            Self::Methods(of) => format!("/twins/{}/methods", client(of)),
            Self::Scope { actor, call } => call.path(actor),
            Self::DeviceStatistics => "/statistics/devices".to_owned(),
            Self::ServiceStatistics => "/statistics/service".to_owned(),
            Self::Events => "/skerry/events".to_owned(),
            Self::Connections => "/skerry/connections".to_owned(),
            Self::Unbuilt(_) => "/".to_owned(),
        }
    }
}
