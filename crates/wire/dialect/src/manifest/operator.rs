//! The manifest as an operator writes it: a section of desired properties for each module, for one device.

use skerry_model::json::{self, JsonError, JsonObject};
use skerry_model::{HubManifest, Json, Manifest, ModuleName};

use super::agent::agent_at;
use super::hub::{RouteCheck, hub_at};
use super::reader::{Reader, member};
use super::{ManifestError, locate};

/// Nesting of a manifest.
const DEPTH_MAX: usize = 64;
const DESIRED: &str = "properties.desired";

/// An operator's manifest that the edge will take.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorManifest {
    /// The whole desired properties of each module that has a section, in the order of the document.
    pub sections: Vec<(ModuleName, JsonObject)>,
    /// What the agent will make of its section.
    pub agent: Manifest,
    /// What the hub will make of its section, when there is one.
    pub hub: Option<HubManifest>,
}

impl OperatorManifest {
    /// The body of the service's call that applies it to a device: `{"modulesContent": …}` with whole sections only.
    pub fn to_content(&self) -> Json {
        let sections: JsonObject = self
            .sections
            .iter()
            .map(|(name, desired)| (name.to_string(), serde_json::json!({ DESIRED: desired })))
            .collect();
        serde_json::json!({ "modulesContent": sections })
    }
}

/// Reads a manifest for one device: `{"modulesContent": …}`, also under `content`, also by its old name `moduleContent`.
/// Keys like `properties.desired.routes.r1` replace that part of the section; without any `properties.desired` for
/// `$edgeAgent` the document is a layer and is refused. Names beginning with `$upstream` are left as they are.
///
/// # Errors
/// With everything that is wrong, each with its line.
pub fn operator(text: &str, check_route: RouteCheck<'_>) -> Result<OperatorManifest, Vec<ManifestError>> {
    let document = json::parse(text.as_bytes(), DEPTH_MAX).map_err(|error| vec![syntax(&error)])?;
    read(&document, check_route).map_err(|mut errors| {
        for error in &mut errors {
            error.place = locate::place(text, &error.path);
        }
        errors
    })
}

fn syntax(error: &JsonError) -> ManifestError {
    let place = match error {
        JsonError::Syntax { line, column, .. } => Some((*line, *column)),
        JsonError::TooDeep(_) => None,
    };
    let reason = match error {
        JsonError::Syntax { reason, .. } => format!("not JSON: {reason}"),
        JsonError::TooDeep(_) => error.to_string(),
    };
    ManifestError { path: Vec::new(), reason, place }
}

fn read(document: &Json, check_route: RouteCheck<'_>) -> Result<OperatorManifest, Vec<ManifestError>> {
    let mut reader = Reader::default();
    let Some((path, sections)) = sections(&mut reader, document) else { return Err(reader.errors) };
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut reader = Reader::at(&path);
    let merged: Vec<_> = sections
        .iter()
        .filter_map(|(name, section)| reader.within(name, |reader| merge(reader, name, section)))
        .collect();
    let mut errors = reader.errors;
    let find = |wanted: &ModuleName| merged.iter().find(|(name, _)| name == wanted).map(|(_, desired)| desired);
    let (agent_name, hub_name) = (ModuleName::edge_agent(), ModuleName::edge_hub());
    let agent_path = [&path[..], &[agent_name.as_str(), DESIRED]].concat();
    let hub_path = [&path[..], &[hub_name.as_str(), DESIRED]].concat();

    let agent = match find(&agent_name) {
        Some(desired) => agent_at(&agent_path, desired, Some("$upstream")).map_err(|found| errors.extend(found)).ok(),
        None => None,
    };
    let hub = match find(&hub_name) {
        Some(desired) => hub_at(&hub_path, desired, check_route).map(Some).map_err(|found| errors.extend(found)).ok(),
        None => Some(None),
    };
    if !sections.contains_key(agent_name.as_str()) {
        errors.push(Reader::at(&path).missing(&agent_name));
    }
    match (agent, hub) {
        (Some(agent), Some(hub)) if errors.is_empty() => Ok(OperatorManifest { sections: merged, agent, hub }),
        _ => Err(errors),
    }
}

/// The object with one section for each module, and the keys that lead to it.
fn sections<'a>(reader: &mut Reader, document: &'a Json) -> Option<(Vec<String>, &'a JsonObject)> {
    let mut path = Vec::new();
    let mut object = reader.object(document)?;
    if let Some((key, Json::Object(content))) = member(object, "content") {
        path.push(key.to_owned());
        object = content;
    }
    let found = member(object, "modulesContent").or_else(|| member(object, "moduleContent"));
    let Some((key, value)) = found else { return reader.fail("`modulesContent` is missing") };
    path.push(key.to_owned());
    reader.within(key, |reader| reader.object(value)).map(|sections| (path, sections))
}

/// The whole desired properties of one section.
fn merge(reader: &mut Reader, name: &str, section: &Json) -> Option<(ModuleName, JsonObject)> {
    let parsed = match ModuleName::parse(name) {
        Ok(name) => name,
        Err(error) => return reader.fail(error.to_string()),
    };
    let section = reader.object(section)?;
    let mut desired = JsonObject::new();
    match section.get(DESIRED) {
        Some(value) => desired = reader.within(DESIRED, |reader| reader.object(value))?.clone(),
        None if parsed == ModuleName::edge_agent() => {
            return reader
                .fail(format!("without `{DESIRED}` this is a layer, which cannot be applied to one device alone"));
        }
        None => {}
    }
    for (key, value) in section {
        match key.strip_prefix(DESIRED).map(|rest| rest.strip_prefix('.').unwrap_or(rest)) {
            Some("") => {}
            Some(path) => reader.within(key, |reader| put(reader, &mut desired, path, value))?,
            None => {
                return reader.within(key, |reader| reader.fail(format!("expected a key that begins with {DESIRED}")));
            }
        }
    }
    Some((parsed, desired))
}

/// Replaces the part of `desired` at a dotted path; a null takes it away.
fn put(reader: &mut Reader, desired: &mut JsonObject, path: &str, value: &Json) -> Option<()> {
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().filter(|last| !last.is_empty() && keys.iter().all(|key| !key.is_empty()));
    let Some(last) = last else { return reader.fail("a part of the path is empty") };
    let mut object = desired;
    for key in keys {
        let slot = object.entry(key).or_insert_with(|| Json::Object(JsonObject::new()));
        if !slot.is_object() {
            *slot = Json::Object(JsonObject::new());
        }
        let Json::Object(inner) = slot else { return None };
        object = inner;
    }
    if value.is_null() {
        object.shift_remove(last);
    } else {
        object.insert(last.to_owned(), value.clone());
    }
    Some(())
}

impl Reader {
    fn missing(mut self, name: &ModuleName) -> ManifestError {
        self.fail::<()>(format!("`{name}` is missing"));
        self.errors.remove(0)
    }
}
