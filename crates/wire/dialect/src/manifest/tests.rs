//! Manifests against the published facts, and properties that hold for any document.

use proptest::prelude::*;
use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::manifest::{Artifact, DesiredStatus, ModuleSpec, ProcessLimits, registry_of};
use skerry_model::{Json, ModuleName};

use super::*;

fn vectors(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

/// Stands for the grammar, which is not this crate's: routes begin with FROM and a slash.
fn check_route(text: &str) -> Result<(), String> {
    if text.starts_with("FROM /") { Ok(()) } else { Err("expected `/` (line 1 column 6)".to_owned()) }
}

#[test]
fn desired_properties_of_the_agent_are_answered_as_published() {
    let vectors = vectors(include_str!("../../tests/vectors/edge-manifests-agent.json"));
    for case in vectors["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let outcome = agent(case["desired"].as_object().unwrap(), None);
        let (code, description) = match &outcome {
            Ok(_) => (200, String::new()),
            Err(fault) => (fault.code(), fault.description()),
        };
        assert_eq!(case["code"], code, "{id}: {outcome:?}");
        assert_eq!(case["description"], description, "{id}");
        if let (Ok(manifest), Some(effective)) = (&outcome, case["effective"].as_object()) {
            check_effective(id, manifest, effective);
        }
    }
}

fn check_effective(id: &str, manifest: &skerry_model::Manifest, effective: &JsonObject) {
    let module = manifest.modules.values().next().unwrap();
    let Artifact::Image(image) = &module.artifact else { panic!("{id}") };
    for (key, value) in effective {
        let found = match key.as_str() {
            "restartPolicy" => module.restart.as_str().into(),
            "version" => module.version.as_str().into(),
            "image" => image.image.as_str().into(),
            "startupOrder" => module.startup_order.0.into(),
            "env" => json!(module.env),
            "edgeAgent" => {
                let agent = manifest.edge_agent.as_ref().unwrap();
                json!({"status": agent.status.as_str(), "restartPolicy": agent.restart.as_str()})
            }
            other => panic!("{id}: {other}"),
        };
        assert_eq!(&found, value, "{id}");
    }
}

#[test]
fn desired_properties_of_the_hub_are_answered_as_published() {
    let vectors = vectors(include_str!("../../tests/vectors/edge-manifests-hub.json"));
    for case in vectors["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let outcome = hub(case["desired"].as_object().unwrap(), &check_route);
        assert_eq!(case["code"], if outcome.is_ok() { 200 } else { 400 }, "{id}: {outcome:?}");
        if let (Some(start), Err(fault)) = (case["descriptionStartsWith"].as_str(), &outcome) {
            assert!(fault.description().starts_with(start), "{id}: {}", fault.description());
        }
    }
}

#[test]
fn create_options_image_names_and_registries_are_read_as_published() {
    let vectors = vectors(include_str!("../../tests/vectors/edge-create-options.json"));
    for case in vectors["chunks"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let mut reader = reader::Reader::default();
        let options = create_options::read(&mut reader, case["settings"].as_object().unwrap());
        match case["error"].as_str() {
            None => assert_eq!(case["createOptions"], Json::from(options.unwrap()), "{id}"),
            Some("JSON error") => assert!(reader.errors[0].reason.contains("not JSON"), "{id}: {:?}", reader.errors),
            Some(error) => assert_eq!(reader.errors[0].reason, error, "{id}"),
        }
    }
    for case in vectors["images"].as_array().unwrap() {
        let name = case["image"].as_str().unwrap();
        let normalised = image(name, Some("parent.local")).ok();
        assert_eq!(case["ok"], normalised.is_some(), "{name}");
        assert_eq!(case["normalised"].as_str(), normalised.as_deref(), "{name}");
    }
    for case in vectors["registries"].as_array().unwrap() {
        assert_eq!(case["registry"].as_str(), registry_of(case["image"].as_str().unwrap()), "{case}");
    }
    assert_eq!(image("$upstream:8000/a:1", None), Err(InvalidImage::NoParent));
}

fn agent_desired(modules: &Json) -> JsonObject {
    let desired = json!({
        "schemaVersion": "1.1",
        "runtime": {"type": "docker"},
        "systemModules": {},
        "modules": modules,
        "$version": 3,
    });
    desired.as_object().unwrap().clone()
}

fn only_module(modules: &Json) -> Result<ModuleSpec, Vec<String>> {
    match agent(&agent_desired(modules), None) {
        Ok(manifest) => Ok(manifest.modules.into_values().next().unwrap()),
        Err(fault) => Err(fault.errors().iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn process_modules_are_read() {
    let spec = only_module(&json!({"p": {"type": "process", "status": "stopped", "settings": {
        "command": "/usr/bin/module", "args": ["-v", "a b"], "workingDirectory": "/srv",
        "limits": {"memoryBytes": 67_108_864, "cpus": 0.5, "openFiles": 64, "processes": 8}}}}))
    .unwrap();
    let Artifact::Process(process) = &spec.artifact else { panic!() };
    assert_eq!(process.command, "/usr/bin/module");
    assert_eq!(process.args, ["-v", "a b"]);
    assert_eq!(process.working_directory.as_deref(), Some("/srv"));
    let limits = ProcessLimits {
        memory_bytes: Some(67_108_864),
        cpu_millis: Some(500),
        open_files: Some(64),
        processes: Some(8),
    };
    assert_eq!(process.limits, limits);
    assert_eq!(spec.status, DesiredStatus::Stopped);
}

#[test]
fn everything_wrong_with_a_process_module_is_told() {
    let errors = only_module(&json!({"p": {"type": "process", "status": "running", "settings": {
        "command": "module", "args": "x", "image": "a:1", "createOptions01": "{}", "limits": {"cpus": 0, "openFiles": -1}}}}))
    .unwrap_err();
    assert_eq!(
        errors,
        [
            "modules.p.settings.image: has no meaning for a module of type process",
            "modules.p.settings.createOptions01: has no meaning for a module of type process",
            "modules.p.settings.command: expected an absolute path, such as /usr/bin/module",
            "modules.p.settings.args: expected an array of texts",
            "modules.p.settings.limits.openFiles: expected a whole number from 1 to 4503599627370495",
            "modules.p.settings.limits.cpus: expected a number of processors from 0.001 to 4096",
        ]
    );
}

#[test]
fn keys_are_read_in_any_case_and_values_as_texts() {
    let spec =
        only_module(&json!({"m": {"Type": "Docker", "STATUS": "Running", "version": 1.5, "Settings": {"Image": "a"},
        "env": {"N": {"value": 5}, "B": {"Value": true}, "E": {"value": null}}}}))
        .unwrap();
    assert_eq!(spec.version, "1.5");
    let env: Vec<_> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["B=True", "E=", "N=5"]);
}

#[test]
fn passwords_and_values_are_in_no_error() {
    let desired = json!({
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {"registryCredentials": {"r": {"address": "a", "password": ["s3cret"]}}}},
        "systemModules": {},
        "modules": {"m": {"type": "docker", "status": "running", "settings": {"image": "a"}, "env": {"A": "s3cret"}}},
    });
    let fault = agent(desired.as_object().unwrap(), None).unwrap_err();
    let told = format!("{fault:?}");
    assert!(told.contains("username") && !told.contains("s3cret"), "{told}");
}

const OPERATOR: &str = r#"{
  "content": {
    "modulesContent": {
      "$edgeAgent": {
        "properties.desired": {
          "schemaVersion": "1.1",
          "runtime": {"type": "docker"},
          "systemModules": {},
          "modules": {"m": {"type": "docker", "status": "running", "settings": {"image": "$upstream:443/m:1"}}}
        },
        "properties.desired.modules.p": {"type": "process", "status": "running", "settings": {"command": "/bin/p"}}
      },
      "$edgeHub": {
        "properties.desired": {
          "schemaVersion": "1.1",
          "routes": {},
          "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}
        },
        "properties.desired.routes.up": "FROM /* INTO $upstream"
      },
      "m": {"properties.desired.a.b": 1, "properties.desired.a.c": 2}
    }
  }
}"#;

#[test]
fn an_operators_manifest_becomes_whole_sections() {
    let manifest = operator(OPERATOR, &check_route).unwrap();
    assert_eq!(manifest.agent.modules.len(), 2);
    assert_eq!(manifest.hub.as_ref().unwrap().routes[0].name, "up");
    assert_eq!(Json::from(manifest.sections[2].1.clone()), json!({"a": {"b": 1, "c": 2}}));
    let content = manifest.to_content();
    assert_eq!(content["modulesContent"]["m"]["properties.desired"]["a"]["c"], 2);
    let again = operator(&content.to_string(), &check_route).unwrap();
    assert_eq!(again, manifest);
}

#[test]
fn errors_of_an_operators_manifest_have_lines() {
    let told = |text: &str| match operator(text, &check_route) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    let text = OPERATOR
        .replace("FROM /* INTO $upstream", "FRM /*")
        .replace("\"/bin/p\"", "\"p\"")
        .replace("\"runtime\": {\"type\": \"docker\"},", "\"runtime\": {\"type\": \"podman\"},");
    assert_eq!(
        told(&text),
        [
            "line 7: content.modulesContent.$edgeAgent.properties.desired.runtime.type: `podman` is none of docker",
            "line 11: content.modulesContent.$edgeAgent.properties.desired.modules.p.settings.command: \
             expected an absolute path, such as /usr/bin/module",
            "line 19: content.modulesContent.$edgeHub.properties.desired.routes.up: \
             Error parsing route up - expected `/` (line 1 column 6)",
        ]
    );
    assert_eq!(told("{\n\"a\": }"), ["line 2: not JSON: expected value"]);
    assert_eq!(told("{}"), ["line 1: `modulesContent` is missing"]);
    assert_eq!(told("{\"modulesContent\": {}}"), ["line 1: modulesContent: `$edgeAgent` is missing"]);
    let layer = "{\"modulesContent\": {\n\"$edgeAgent\": {\"properties.desired.modules.m\": {}}}}";
    assert!(told(layer)[0].starts_with("line 2: modulesContent.$edgeAgent: without `properties.desired`"), "{layer}");
    let wrong_schema = OPERATOR.replacen("\"1.1\"", "\"1.2\"", 1);
    assert!(told(&wrong_schema)[0].starts_with("line 6: "), "{:?}", told(&wrong_schema));
}

/// Any JSON, with the keys of manifests among the keys.
fn any_json() -> impl Strategy<Value = Json> {
    let key = prop::sample::select(vec![
        "schemaVersion",
        "runtime",
        "systemModules",
        "modules",
        "edgeAgent",
        "edgeHub",
        "type",
        "status",
        "settings",
        "image",
        "createOptions",
        "createOptions01",
        "env",
        "value",
        "routes",
        "route",
        "priority",
        "m",
        "command",
        "args",
        "limits",
        "storeAndForwardConfiguration",
        "timeToLiveSecs",
        "properties.desired",
        "modulesContent",
        "$edgeAgent",
        "$edgeHub",
    ]);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        prop::sample::select(vec![
            "",
            "1.1",
            "docker",
            "process",
            "running",
            "a:1",
            "/bin/x",
            "{}",
            "FROM /* INTO $upstream"
        ])
        .prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_breaks_the_readers(document in any_json()) {
        if let Some(object) = document.as_object() {
            if let Err(AgentFault::Format(errors)) = agent(object, None) {
                prop_assert!(!errors.is_empty());
            }
            if let Err(fault) = hub(object, &check_route) {
                prop_assert!(!fault.errors().is_empty());
            }
        }
        let text = serde_json::to_string_pretty(&document).unwrap();
        if let Err(errors) = operator(&text, &check_route) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                let (line, column) = error.place.unwrap();
                prop_assert!(line >= 1 && line <= text.lines().count() && column >= 1);
            }
        }
    }

    #[test]
    fn create_options_survive_their_pieces(text in ".{0,1500}", number: i32) {
        let options = json!({"Env": [text], "Number": number});
        let mut settings = JsonObject::new();
        for (key, piece) in chunks(options.as_object().unwrap()) {
            prop_assert!(piece.chars().count() <= CHUNK_CHARS);
            settings.insert(key, piece.into());
        }
        let read = create_options::read(&mut reader::Reader::default(), &settings);
        prop_assert_eq!(read.map(Json::from), Some(options));
    }

    #[test]
    fn a_module_written_is_read_back(args in prop::collection::vec("[^\0]{0,10}", 0..4), memory in 1_u64..1 << 40, millis in 1_u32..100_000) {
        let module = json!({"p": {"type": "process", "status": "running", "settings": {
            "command": "/bin/p", "args": args, "limits": {"memoryBytes": memory, "cpus": f64::from(millis) / 1000.0}}}});
        let spec = only_module(&module).unwrap();
        let written = json!({"p": {"type": "process", "status": "running", "settings": settings(&spec.artifact, None), "env": env(&spec)}});
        prop_assert_eq!(only_module(&written).unwrap(), spec);
    }
}

#[test]
fn an_image_module_written_is_read_back() {
    let options = "x".repeat(2_000);
    let module = json!({"m": {"type": "docker", "status": "running", "settings": {
        "image": "a:1", "digest": "sha256:1", "createOptions": {"Cmd": [options]}}, "env": {"A": {"value": "1"}}}});
    let spec = only_module(&module).unwrap();
    let written = settings(&spec.artifact, Some("sha256:2"));
    assert_eq!(written["imageHash"], "sha256:2");
    assert!(written.contains_key("createOptions03"));
    let again = json!({"m": {"type": "docker", "status": "running", "settings": written, "env": env(&spec)}});
    assert_eq!(only_module(&again).unwrap(), spec);
    assert_eq!(spec.name, ModuleName::parse("m").unwrap());
}
