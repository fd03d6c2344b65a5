//! The body of the create call: everything that the create options say, known to us or not, and what the platform adds.

use std::net::IpAddr;

use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::manifest::ImageArtifact;
use skerry_model::{Json, ModuleSpec};
use skerry_module_runtime::Binding;

use crate::image::Reference;
use crate::{ContainerConfig, WORKLOAD_FOLDER, labels};

/// Capabilities that are taken from containers where privileges are not allowed (`edge-module-environment` §4).
const DROPPED: [&str; 2] = ["CHOWN", "SETUID"];

/// What of the create options has the wrong shape.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongShape {
    pub(crate) field: &'static str,
    expected: &'static str,
}

impl std::fmt::Display for WrongShape {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "`{}` of the create options is not {}", self.field, self.expected)
    }
}

/// The create body, and whether it puts the module into the network of the modules.
pub(crate) fn create_body(
    config: &ContainerConfig,
    spec: &ModuleSpec,
    image: &ImageArtifact,
    binding: &Binding,
) -> Result<(Json, bool), WrongShape> {
    let mut body = image.create_options.clone();
    set(&mut body, "Image", Json::from(Reference::of(image).to_string()));
    let env = environment(spec, binding, array(&mut body, "Env")?);
    set(&mut body, "Env", Json::from(env));
    let labels = object(&mut body, "Labels")?;
    for (name, value) in our_labels(config, spec, image, binding) {
        labels.insert(name.to_owned(), Json::from(value));
    }
    let host = object(&mut body, "HostConfig")?;
    let mut binds = array(host, "Binds")?;
    binds.push(Json::from(format!("{}:{WORKLOAD_FOLDER}", binding.workload_folder.display())));
    set(host, "Binds", Json::from(binds));
    let mut hosts = array(host, "ExtraHosts")?;
    hosts.extend(binding.host_names.iter().map(|(name, address)| Json::from(extra_host(name, *address))));
    if !hosts.is_empty() {
        set(host, "ExtraHosts", Json::from(hosts));
    }
    if !config.elevated {
        take_privileges(host)?;
    }
    let networked = join_network(config, spec, &mut body)?;
    Ok((Json::Object(body), networked))
}

/// The manifest's variables, the platform's, and those of the create options; later ones win (`edge-module-environment` §1).
fn environment(spec: &ModuleSpec, binding: &Binding, options: Vec<Json>) -> Vec<Json> {
    let mut env: Vec<(String, Json)> = Vec::new();
    let mut put = |name: &str, entry: Json| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = entry,
        None => env.push((name.to_owned(), entry)),
    };
    let given = spec.env.iter().chain(binding.env.iter().map(|(name, value)| (name, value)));
    for (name, value) in given {
        put(name, Json::from(format!("{name}={value}")));
    }
    for entry in options {
        // An entry without `=` removes a variable of the image; what is not text is for the engine to refuse.
        let name =
            entry.as_str().map_or_else(|| entry.to_string(), |text| text.split('=').next().unwrap_or("").to_owned());
        put(&name, entry);
    }
    env.into_iter().map(|(_, entry)| entry).collect()
}

fn our_labels(
    config: &ContainerConfig,
    spec: &ModuleSpec,
    image: &ImageArtifact,
    binding: &Binding,
) -> [(&'static str, String); 6] {
    [
        (labels::EDGE, config.edge.clone()),
        (labels::MODULE, spec.name.to_string()),
        (labels::SPEC_DIGEST, spec.digest().to_string()),
        (labels::GENERATION, binding.generation.clone()),
        (labels::OWNER.0, labels::OWNER.1.to_owned()),
        (labels::ORIGINAL_IMAGE, image.image.clone()),
    ]
}

fn extra_host(name: &str, address: IpAddr) -> String {
    format!("{name}:{address}")
}

fn take_privileges(host: &mut JsonObject) -> Result<(), WrongShape> {
    set(host, "Privileged", Json::from(false));
    if let Some(key) = key_of(host, "CapAdd") {
        host.shift_remove(&key);
    }
    let mut dropped = array(host, "CapDrop")?;
    dropped.extend(DROPPED.map(Json::from));
    set(host, "CapDrop", Json::from(dropped));
    Ok(())
}

/// Puts the module into the network of the modules, unless the create options say something else about networks.
fn join_network(config: &ContainerConfig, spec: &ModuleSpec, body: &mut JsonObject) -> Result<bool, WrongShape> {
    let host = object(body, "HostConfig")?;
    let mode = key_of(host, "NetworkMode").and_then(|key| host[&key].as_str().map(str::to_owned)).unwrap_or_default();
    let elsewhere = ["host", "none"].contains(&mode.as_str()) || mode.starts_with("container:");
    let networking = object(body, "NetworkingConfig")?;
    let endpoints = object(networking, "EndpointsConfig")?;
    if elsewhere || !endpoints.is_empty() {
        // An empty object that was not there before says nothing to the engine.
        return Ok(false);
    }
    // By the alias modules find each other whatever the prefix of container names is.
    endpoints.insert(config.network.clone(), json!({"Aliases": [spec.name.as_str()]}));
    if ["", "default", "bridge"].contains(&mode.as_str()) {
        // Newer engines would join the default network too.
        set(object(body, "HostConfig")?, "NetworkMode", Json::from(config.network.clone()));
    }
    Ok(true)
}

/// The engine takes keys in any case, so a key that is there in another case is the same key.
fn key_of(object: &JsonObject, name: &str) -> Option<String> {
    object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned()
}

fn set(object: &mut JsonObject, name: &str, value: Json) {
    let key = key_of(object, name).unwrap_or_else(|| name.to_owned());
    object.insert(key, value);
}

/// The object at that key; made when there is none.
fn object<'a>(parent: &'a mut JsonObject, name: &'static str) -> Result<&'a mut JsonObject, WrongShape> {
    let key = key_of(parent, name).unwrap_or_else(|| name.to_owned());
    let value = parent.entry(key).or_insert(Json::Null);
    if value.is_null() {
        *value = Json::Object(JsonObject::new());
    }
    value.as_object_mut().ok_or(WrongShape { field: name, expected: "an object" })
}

/// A copy of the array at that key; empty when there is none.
fn array(parent: &mut JsonObject, name: &'static str) -> Result<Vec<Json>, WrongShape> {
    match key_of(parent, name).map(|key| &parent[&key]) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(items)) => Ok(items.clone()),
        Some(_) => Err(WrongShape { field: name, expected: "an array" }),
    }
}

#[cfg(test)]
#[path = "create_body_tests.rs"]
mod tests;
