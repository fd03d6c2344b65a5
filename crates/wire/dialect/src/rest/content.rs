//! A manifest for one device: which modules get which desired properties.

use skerry_model::{ErrorCode, Json, ModuleName, RequestError, json::JsonObject};

use crate::body::{invalid, member, object};

/// The key of a section that holds a module's whole desired document.
const WHOLE: &str = "properties.desired";

/// What is to be applied to one edge device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigurationContent {
    /// Modules whose desired properties are replaced, and by what; in the order of the document.
    pub desired: Vec<(ModuleName, JsonObject)>,
    /// Modules that the agent's section lists; they get an identity, their twin stays as it is unless it is in `desired` too.
    pub listed: Vec<ModuleName>,
}

/// Reads the body of `applyConfigurationContent`. What the sections mean is not looked at: the edge checks its manifest itself, and
/// reports.
///
/// # Errors
/// When there is no `modulesContent`, a name is not a module's, or a section is not a whole desired document.
pub fn configuration_content(body: &[u8]) -> Result<ConfigurationContent, RequestError> {
    let body = object(body)?;
    for other in ["deviceContent", "moduleContent"] {
        if member(&body, other)?.is_some_and(|content| !content.is_empty()) {
            return Err(RequestError::new(ErrorCode::NotImplemented, format!("`{other}` cannot be applied yet")));
        }
    }
    let modules = member(&body, "modulesContent")?.ok_or_else(|| invalid("`modulesContent` is missing"))?;
    let mut content = ConfigurationContent::default();
    for (name, section) in modules {
        let module = name_of(name)?;
        let Json::Object(section) = section else {
            return Err(invalid(format!("the section of `{name}` is not an object")));
        };
        if let Some(layered) = section.keys().find(|key| *key != WHOLE) {
            return Err(invalid(format!(
                "the section of `{name}` has `{layered}`; a single device takes `{WHOLE}` only"
            )));
        }
        let Some(desired) = member(section, WHOLE)? else { continue };
        if module == ModuleName::edge_agent() {
            content.listed = listed(desired)?;
        }
        content.desired.push((module, desired.clone()));
    }
    Ok(content)
}

/// The user modules in the agent's desired properties.
fn listed(agent: &JsonObject) -> Result<Vec<ModuleName>, RequestError> {
    match member(agent, "modules")? {
        None => Ok(Vec::new()),
        Some(modules) => modules.keys().map(|name| name_of(name)).collect(),
    }
}

fn name_of(name: &str) -> Result<ModuleName, RequestError> {
    ModuleName::parse(name).map_err(|error| invalid(format!("`{name}` is not a module's name: {error}")))
}
