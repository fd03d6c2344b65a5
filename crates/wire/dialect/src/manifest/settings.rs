//! Modules in the words of a manifest again, for reported properties.

use skerry_model::Json;
use skerry_model::json::JsonObject;
use skerry_model::manifest::{Artifact, ModuleSpec, ProcessArtifact};

use super::create_options::chunks;

/// `settings` of a module; create options in pieces, as twins want them. `image_hash` is what exactly runs, where it is known.
pub fn settings(artifact: &Artifact, image_hash: Option<&str>) -> JsonObject {
    let mut settings = JsonObject::new();
    match artifact {
        Artifact::Image(image) => {
            settings.insert("image".to_owned(), image.image.clone().into());
            if let Some(hash) = image_hash {
                settings.insert("imageHash".to_owned(), hash.into());
            }
            if let Some(digest) = &image.digest {
                settings.insert("digest".to_owned(), digest.clone().into());
            }
            settings.extend(chunks(&image.create_options).into_iter().map(|(key, text)| (key, text.into())));
        }
        Artifact::Process(process) => process_settings(process, &mut settings),
    }
    settings
}

fn process_settings(process: &ProcessArtifact, settings: &mut JsonObject) {
    settings.insert("command".to_owned(), process.command.clone().into());
    settings.insert("args".to_owned(), process.args.clone().into());
    if let Some(directory) = &process.working_directory {
        settings.insert("workingDirectory".to_owned(), directory.clone().into());
    }
    let limits = &process.limits;
    let mut written = JsonObject::new();
    let whole =
        [("memoryBytes", limits.memory_bytes), ("openFiles", limits.open_files), ("processes", limits.processes)];
    written.extend(whole.into_iter().filter_map(|(key, limit)| limit.map(|limit| (key.to_owned(), Json::from(limit)))));
    if let Some(millis) = limits.cpu_millis {
        written.insert("cpus".to_owned(), (f64::from(millis) / 1_000.0).into());
    }
    if !written.is_empty() {
        settings.insert("limits".to_owned(), written.into());
    }
}

/// `env` of a module.
pub fn env(spec: &ModuleSpec) -> JsonObject {
    spec.env.iter().map(|(name, value)| (name.clone(), serde_json::json!({ "value": value }))).collect()
}
