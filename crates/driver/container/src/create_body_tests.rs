//! Create options in, create body out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use skerry_model::ModuleName;
use skerry_model::manifest::{Artifact, DesiredStatus, PullPolicy, RestartPolicy, StartupOrder};

use super::*;

fn spec(options: &Json, env: &[(&str, &str)]) -> (ModuleSpec, ImageArtifact) {
    let image = ImageArtifact {
        image: "reg.example/m:1".to_owned(),
        digest: None,
        create_options: options.as_object().unwrap().clone(),
        pull: PullPolicy::OnCreate,
    };
    let spec = ModuleSpec {
        name: ModuleName::parse("m").unwrap(),
        artifact: Artifact::Image(image.clone()),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        status: DesiredStatus::Running,
        restart: RestartPolicy::Always,
        startup_order: StartupOrder::LAST,
        version: String::new(),
    };
    (spec, image)
}

fn binding() -> Binding {
    Binding {
        env: vec![("IOTEDGE_MODULEID".to_owned(), "m".to_owned())],
        generation: "g".to_owned(),
        workload_folder: PathBuf::from("/run/skerry/m"),
        host_names: vec![("edge.local".to_owned(), "172.20.0.1".parse().unwrap())],
    }
}

fn body_of(config: &ContainerConfig, options: &Json) -> Result<Json, WrongShape> {
    let (spec, image) = spec(options, &[("FROM_MANIFEST", "1")]);
    create_body(config, &spec, &image, &binding()).map(|(body, _)| body)
}

fn body(options: &Json) -> Json {
    body_of(&ContainerConfig::new("edge1"), options).unwrap()
}

#[test]
fn empty_options_give_the_platforms_part_alone() {
    let (spec, _) = spec(&json!({}), &[("FROM_MANIFEST", "1")]);
    assert_eq!(
        body(&json!({})),
        json!({
            "Image": "reg.example/m:1",
            "Env": ["FROM_MANIFEST=1", "IOTEDGE_MODULEID=m"],
            "Labels": {
                "io.skerry.edge": "edge1",
                "io.skerry.module": "m",
                "io.skerry.spec-digest": spec.digest().to_string(),
                "io.skerry.generation": "g",
                "net.azure-devices.edge.owner": "Microsoft.Azure.Devices.Edge.Agent",
                "net.azure-devices.edge.original-image": "reg.example/m:1",
            },
            "HostConfig": {
                "Binds": ["/run/skerry/m:/var/run/iotedge"],
                "ExtraHosts": ["edge.local:172.20.0.1"],
                "NetworkMode": "azure-iot-edge",
            },
            "NetworkingConfig": {"EndpointsConfig": {"azure-iot-edge": {"Aliases": ["m"]}}},
        })
    );
}

#[test]
fn options_come_first_in_lists_and_win_in_the_environment() {
    let body = body(&json!({
        "Env": ["IOTEDGE_MODULEID=other", "FROM_MANIFEST", "OWN=a=b"],
        "Image": "ignored",
        "Labels": {"own": "label", "io.skerry.edge": "not mine"},
        "HostConfig": {"Binds": ["/data:/data"], "ExtraHosts": ["edge.local:10.0.0.1"], "Memory": 1},
    }));
    assert_eq!(body["Env"], json!(["FROM_MANIFEST", "IOTEDGE_MODULEID=other", "OWN=a=b"]));
    assert_eq!(body["Image"], "reg.example/m:1");
    assert_eq!((&body["Labels"]["own"], &body["Labels"]["io.skerry.edge"]), (&json!("label"), &json!("edge1")));
    assert_eq!(body["HostConfig"]["Binds"], json!(["/data:/data", "/run/skerry/m:/var/run/iotedge"]));
    assert_eq!(body["HostConfig"]["ExtraHosts"], json!(["edge.local:10.0.0.1", "edge.local:172.20.0.1"]));
    assert_eq!(body["HostConfig"]["Memory"], 1);
}

#[test]
fn keys_in_another_case_are_the_same_keys() {
    let body = body(&json!({"env": ["A=1"], "hostconfig": {"binds": null, "PORTBINDINGS": {}}}));
    assert_eq!(body["env"], json!(["FROM_MANIFEST=1", "IOTEDGE_MODULEID=m", "A=1"]));
    assert_eq!(body["hostconfig"]["binds"], json!(["/run/skerry/m:/var/run/iotedge"]));
    assert!(body.get("Env").is_none() && body.get("HostConfig").is_none());
}

#[test]
fn networks_of_the_options_are_left_as_they_are() {
    let endpoints = json!({"NetworkingConfig": {"EndpointsConfig": {"other": {"Aliases": ["x"]}}}});
    assert_eq!(body(&endpoints)["NetworkingConfig"], endpoints["NetworkingConfig"]);
    assert_eq!(body(&endpoints)["HostConfig"].get("NetworkMode"), None);
    for mode in ["host", "none", "container:x"] {
        let body = body(&json!({"HostConfig": {"NetworkMode": mode}}));
        assert_eq!(body["NetworkingConfig"], json!({"EndpointsConfig": {}}), "{mode}");
    }
    let own = body(&json!({"HostConfig": {"NetworkMode": "own"}}));
    assert_eq!(own["HostConfig"]["NetworkMode"], "own");
    let habit = json!({"HostConfig": {"NetworkMode": "host"}, "NetworkingConfig": {"EndpointsConfig": {"host": {}}}});
    assert_eq!(body(&habit)["NetworkingConfig"], habit["NetworkingConfig"]);
}

#[test]
fn privileges_are_taken_where_they_are_not_allowed() {
    let options = json!({"HostConfig": {"Privileged": true, "CapAdd": ["NET_ADMIN"], "CapDrop": ["KILL"]}});
    let allowed = body(&options);
    assert_eq!(allowed["HostConfig"]["CapAdd"], json!(["NET_ADMIN"]));
    let config = ContainerConfig { elevated: false, ..ContainerConfig::new("edge1") };
    let host = body_of(&config, &options).unwrap()["HostConfig"].clone();
    assert_eq!(host["Privileged"], false);
    assert_eq!(host.get("CapAdd"), None);
    assert_eq!(host["CapDrop"], json!(["KILL", "CHOWN", "SETUID"]));
}

#[test]
fn a_wrong_shape_is_named() {
    let error = body_of(&ContainerConfig::new("e"), &json!({"Env": {"A": "1"}})).unwrap_err();
    assert_eq!(error.to_string(), "`Env` of the create options is not an array");
    let error = body_of(&ContainerConfig::new("e"), &json!({"HostConfig": []})).unwrap_err();
    assert_eq!(error.to_string(), "`HostConfig` of the create options is not an object");
}

#[test]
fn options_of_the_published_cases_arrive() {
    let vectors: Json = serde_json::from_str(include_str!("../tests/vectors/edge-create-options.json")).unwrap();
    for case in vectors["chunks"].as_array().unwrap() {
        if case["createOptions"].is_object() {
            let expected = case["createOptions"]["Env"].as_array().cloned().unwrap_or_default();
            let env = body(&case["createOptions"])["Env"].as_array().unwrap().clone();
            assert!(expected.iter().all(|entry| env.contains(entry)), "{case}");
        }
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(Json::from),
        "[a-zA-Z=:/]{0,8}".prop_map(Json::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("[a-zA-Z]{1,6}", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever the options hold beside what the platform has a part in is in the body as it was.
    #[test]
    fn no_field_of_the_options_is_lost(
        options in proptest::collection::btree_map("[A-Z][a-zA-Z]{0,8}", any_json(), 0..6),
        host in proptest::collection::btree_map("[A-Z][a-zA-Z]{0,8}", any_json(), 0..6),
    ) {
        let shared = ["Image", "Env", "Labels", "HostConfig", "NetworkingConfig"];
        let mut object: JsonObject = options
            .into_iter()
            .filter(|(key, _)| !shared.iter().any(|name| name.eq_ignore_ascii_case(key)))
            .collect();
        let ours = ["Binds", "ExtraHosts", "NetworkMode"];
        let host: JsonObject =
            host.into_iter().filter(|(key, _)| !ours.iter().any(|name| name.eq_ignore_ascii_case(key))).collect();
        object.insert("HostConfig".to_owned(), Json::Object(host.clone()));
        let body = body(&Json::Object(object.clone()));
        for (key, value) in &object {
            if key != "HostConfig" {
                prop_assert_eq!(&body[key], value);
            }
        }
        for (key, value) in &host {
            prop_assert_eq!(&body["HostConfig"][key], value);
        }
    }

    #[test]
    fn any_options_give_a_body_or_an_error(options in any_json()) {
        if options.is_object() {
            let _ = body_of(&ContainerConfig::new("e"), &options);
        }
    }
}
