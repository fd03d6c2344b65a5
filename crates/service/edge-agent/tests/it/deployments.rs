//! Manifests taken, refused, changed, kept.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::{Value as Json, json};
use skerry_edge_agent::EdgeHubNews;
use skerry_module_runtime::fake::Call;
use skerry_net::Clock;
use tracing::Level;

use crate::world::{World, desired, image, name, program};

#[tokio::test(start_paused = true)]
async fn what_the_hub_wants_runs_and_is_reported() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"m": image("reg.example/m"), "p": program("/bin/p")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.until_status("m", "running").await;
    world.until_status("p", "running").await;

    let reported = world.hub.reported();
    assert_eq!(reported["schemaVersion"], "1.0");
    assert_eq!(reported["version"]["version"], "9.9");
    assert_eq!(reported["runtime"]["platform"]["os"], "linux");
    assert_eq!(reported["runtime"]["settings"]["registryCredentials"]["r1"]["password"], "***");
    assert!(!reported.to_string().contains("s3cret"));
    assert_eq!(reported["systemModules"]["edgeAgent"]["settings"]["image"], "agent:1");
    assert_eq!(reported["systemModules"]["edgeHub"]["statusDescription"], "running; ignored environment: Odd");
    let module = &reported["modules"]["m"];
    assert_eq!(module["settings"]["image"], "reg.example/m:latest");
    assert_eq!(module["settings"]["createOptions"], "{}");
    assert_eq!(module["lastExitTimeUtc"], "0001-01-01T00:00:00Z");
    assert!(module.get("startupOrder").is_none());

    let (m, user) = (name("m"), Some("user".to_owned()));
    let calls =
        [Call::Prepare("reg.example/m:latest".to_owned(), user), Call::Create(m.clone()), Call::Start(m.clone())];
    assert_eq!(world.docker.calls(), calls);
    let binding = world.docker.binding(&m).unwrap();
    let env = |wanted: &str| binding.env.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
    assert_eq!(env("IOTEDGE_WORKLOADURI"), Some("unix:///run/edge/m/workload.sock"));
    assert_eq!(env("IOTEDGE_DEVICEID"), Some("edge1"));
    assert_eq!(env("IOTEDGE_MODULEID"), Some("m"));
    assert_eq!(env("IOTEDGE_IOTHUBHOSTNAME"), Some("hub.example"));
    assert_eq!(env("IOTEDGE_GATEWAYHOSTNAME"), Some("edge.local"));
    assert_eq!(env("RuntimeLogLevel"), Some("info"));
    assert_eq!(env("IOTEDGE_MODULEGENERATIONID"), Some(binding.generation.as_str()));
    let names = ["edge.local", "edgeHub"].map(|name| (name.to_owned(), [127, 0, 0, 9].into()));
    assert_eq!(binding.host_names, names, "on the machine's own network the edge is at its own address");
    let kept = std::fs::metadata(world.folder().join("manifest.json")).unwrap();
    assert_eq!(kept.mode() & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn what_the_edge_hub_says_of_itself_is_reported() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    let reports = |status: &'static str, sentence: &'static str| {
        move |world: &World| {
            let entry = &world.hub.reported()["systemModules"]["edgeHub"];
            entry["runtimeStatus"] == status && entry["statusDescription"] == sentence
        }
    };
    world.edge_hub.send_replace(EdgeHubNews { is_away: false, remarks: vec!["cannot listen there".to_owned()] });
    let sentence = "running; ignored environment: Odd; cannot listen there";
    world.until("the remark is reported", reports("running", sentence)).await;
    world.edge_hub.send_replace(EdgeHubNews { is_away: true, remarks: Vec::new() });
    let sentence = "failed; the hub beside this agent does not answer; ignored environment: Odd";
    world.until("that it is away is reported", reports("failed", sentence)).await;
    let listed = world.agent.as_ref().unwrap().handle().modules().await;
    let listed: Vec<_> = listed
        .iter()
        .map(|module| (module.name.as_str(), module.status.as_str(), module.description.as_str()))
        .collect();
    let remarks = "the hub beside this agent does not answer; ignored environment: Odd";
    assert_eq!(listed, [("edgeAgent", "running", ""), ("edgeHub", "failed", remarks)]);
}

#[tokio::test(start_paused = true)]
async fn only_differences_are_reported_and_nothing_when_nothing_changes() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    world.until_status("m", "running").await;
    world.until_reported(1, 200).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let patches = world.hub.patches();
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    assert_eq!(world.hub.patches(), patches);
    assert_eq!(world.hub.twin_reads(), 1);
    tokio::time::sleep(Duration::from_secs(1_900)).await;
    assert_eq!(world.hub.twin_reads(), 2, "the whole twin is read every hour");
}

#[tokio::test(start_paused = true)]
async fn without_a_hub_the_last_good_manifest_runs() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.crash();
    world.hub.disconnect();
    world.identities.set_offline(true);
    // As after a reboot of a machine that runs processes.
    world.docker = skerry_module_runtime::fake::FakeRuntime::new("docker");
    world.start();
    world.until("m runs again", |world| world.docker.calls().contains(&Call::Start(name("m")))).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_already_is_taken_over() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.crash();
    let (calls, sockets) = (world.docker.calls(), world.identities.sockets().len());
    world.start();
    world.until("the socket is served again", |world| world.identities.sockets().len() > sockets).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.docker.calls(), calls);

    world.identities.renew(&name("m"));
    world
        .until("a new identity needs a new module", |world| {
            world.docker.binding(&name("m")).is_some_and(|binding| binding.generation == "renewed")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_manifest_is_followed_patch_by_patch() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"a": image("a:1"), "b": image("b:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.hub.patch_desired(&json!({"modules": {"a": null, "b": {"settings": {"image": "b:2"}}, "c": image("c:1")}}));
    world.until_reported(2, 200).await;
    world.until_status("c", "running").await;
    let reported = world.hub.reported();
    assert!(reported["modules"].get("a").is_none());
    assert_eq!(reported["modules"]["b"]["settings"]["image"], "b:2");
    assert_eq!(world.hub.twin_reads(), 1);
    let calls = world.docker.calls();
    let of_b: Vec<_> = calls.iter().filter(|call| format!("{call:?}").contains("b")).skip(3).collect();
    assert_eq!(
        of_b,
        [
            &Call::Prepare("b:2".to_owned(), None),
            &Call::Stop(name("b"), None),
            &Call::Remove(name("b")),
            &Call::Create(name("b")),
            &Call::Start(name("b")),
        ]
    );
    world
        .until("the identity of a is deleted", |world| {
            world.identities.retained().last().is_some_and(|wanted| !wanted.contains(&name("a")))
        })
        .await;

    // A patch that does not follow on the one before leads to the whole twin.
    world.hub.set_desired(desired(&json!({"d": image("d:1")})));
    world.hub.patch_desired(&json!({"modules": {"e": image("e:1")}}));
    world.until_reported(4, 200).await;
    world.until_status("d", "running").await;
    assert_eq!(world.hub.twin_reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_document_is_answered_and_leaves_everything_as_it_is() {
    let mut world = World::new();
    let good = desired(&json!({"m": image("m:1")}));
    world.hub.set_desired(good.clone());
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    let calls = world.docker.calls();
    let mut wrong_schema = good.clone();
    wrong_schema["schemaVersion"] = "1.2".into();
    let refused = [
        (desired(&json!({"m": {"type": "docker"}})), 400, "Agent configuration format is invalid."),
        (
            wrong_schema,
            412,
            "The desired properties schema version 1.2 is not compatible with the expected version 1.1.0",
        ),
        (
            json!({}),
            417,
            "This device has an empty configuration for the edge agent. Please set a deployment manifest.",
        ),
    ];
    for (version, (document, code, description)) in (2..).zip(refused) {
        world.hub.set_desired(document);
        world.hub.connect();
        world.until_reported(version, code).await;
        assert_eq!(world.hub.reported()["lastDesiredStatus"]["description"], description);
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.docker.calls(), calls);
    assert_eq!(world.hub.reported()["modules"]["m"]["runtimeStatus"], "running");
    let told = world.agent.as_ref().unwrap().handle().status().await.unwrap().deployment.unwrap();
    assert_eq!(told.code, 417);

    // After a restart the last good one is in force, not the last one.
    world.crash();
    world.hub.disconnect();
    world.start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.agent.as_ref().unwrap().handle().modules().await.len(), 3);
    world.hub.set_desired(good);
    world.hub.connect();
    world.until_reported(5, 200).await;
    assert_eq!(world.docker.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn an_edge_without_a_deployment_says_that_it_waits_and_a_bad_one_is_named() {
    let log = skerry_sim::Log::read_along();
    let mut world = World::new();
    world.hub.set_desired(json!({}));
    world.start();
    world.hub.connect();
    world.until_reported(1, 417).await;
    // Reading the same again is no news.
    world.hub.disconnect();
    world.hub.connect();
    world.until("the twin is read again", |world| world.hub.twin_reads() == 2).await;
    let waits = "INFO there is no deployment for this device yet; the edge waits for one version=1";
    assert_eq!(log.lines_with("deployment"), [waits]);
    assert_eq!(log.lines_with("refused"), Vec::<String>::new());
    let told = world.agent.as_ref().unwrap().handle().status().await.unwrap().deployment.unwrap();
    assert!(told.description.starts_with("This device has an empty configuration"), "{}", told.description);

    world.hub.set_desired(desired(&json!({"m": {"type": "docker"}})));
    world.hub.connect();
    world.until_reported(2, 400).await;
    let [line] = &log.lines_with("desired properties are refused")[..] else { panic!("{:?}", log.lines_with("")) };
    assert!(line.starts_with("WARN") && line.contains("modules.m: `settings` is missing"), "{line}");

    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.hub.connect();
    world.until_reported(3, 200).await;
    world.hub.set_desired(json!({}));
    world.hub.connect();
    world.until_reported(4, 417).await;
    assert_eq!(log.lines_with("was emptied").len(), 1);
    assert_eq!(log.lines_with("waits for one"), [waits]);
}

#[tokio::test(start_paused = true)]
async fn modules_of_another_device_are_removed() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    let docker = world.docker.clone();
    let mut other = World::with(true, world.clock);
    other.docker = docker;
    drop(world);
    other.start();
    other
        .until("what the other device ran is gone", |world| world.docker.calls().contains(&Call::Remove(name("m"))))
        .await;
    other.hub.set_desired(desired(&json!({"n": image("n:1")})));
    other.hub.connect();
    other.until_reported(1, 200).await;
}

#[tokio::test(start_paused = true)]
async fn without_an_engine_programs_run_and_the_reason_is_reported() {
    let mut world = World::new();
    world.docker.set_away(Some("no container engine answers"));
    world.hub.set_desired(desired(&json!({"m": image("m:1"), "p": program("/bin/p")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 500).await;
    world.until_status("p", "running").await;
    let reported = world.hub.reported();
    let description = reported["lastDesiredStatus"]["description"].as_str().unwrap();
    assert!(description.contains("no container engine answers"), "{description}");
    assert_eq!(reported["modules"]["m"]["runtimeStatus"], "unknown");
    world.docker.set_away(None);
    world.until_reported(1, 200).await;
    world.until_status("m", "running").await;
}

#[tokio::test(start_paused = true)]
async fn a_module_without_identity_waits_for_the_hub_and_no_longer() {
    let mut world = World::new();
    world.identities.set_offline(true);
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 500).await;
    // By now it waits for a good half hour.
    tokio::time::sleep(Duration::from_secs(2_600)).await;
    world.identities.set_offline(false);
    world.hub.connect();
    let before = world.clock.now().monotonic;
    world.until_reported(1, 200).await;
    assert!(world.clock.now().monotonic.since(before) < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_report_the_hub_never_takes_is_not_sent_again_and_again() {
    let mut world = World::new();
    world.hub.refuse_reports(true);
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.hub.patches(), 0);
    world.hub.refuse_reports(false);
    world.hub.patch_desired(&json!({"modules": {"n": image("n:1")}}));
    world.until_reported(2, 200).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_stopped_stops_its_modules_and_says_so() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"p": program("/bin/p")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.agent.take().unwrap().stop().await;
    assert_eq!(world.process.calls().last(), Some(&Call::Stop(name("p"), None)));
    let expected: Json = json!({"code": 406, "description": "Agent is not running"});
    assert_eq!(world.hub.reported()["lastDesiredStatus"], expected);

    // Its modules did not fail: they are back at once, and nothing is counted.
    let stopped_at = world.clock.now().wall;
    world.start();
    let starts = |world: &World| world.process.calls().iter().filter(|call| matches!(call, Call::Start(_))).count();
    world.until("the module runs again", |world| starts(world) == 2).await;
    assert!(world.clock.now().wall.since(stopped_at) < Duration::from_secs(2));
    world.until_status("p", "running").await;
    assert_eq!(world.hub.reported()["modules"]["p"]["restartCount"], 0);
}

#[tokio::test(start_paused = true)]
async fn the_edge_hub_learns_what_the_manifest_says_about_it() {
    let mut world = World::with(false, Clock::simulated(skerry_model::Timestamp::from_unix_seconds(1)));
    world.hub.set_desired(desired(&json!({})));
    world.start();
    let mut settings = world.agent.as_ref().unwrap().edge_hub();
    assert!(settings.borrow_and_update().runs);
    world.hub.connect();
    settings.changed().await.unwrap();
    assert_eq!(settings.borrow_and_update().log_level, Some(Level::DEBUG));
    world.hub.patch_desired(&json!({"systemModules": {"edgeHub": {"status": "stopped"}}}));
    settings.changed().await.unwrap();
    assert!(!settings.borrow_and_update().runs);
    world
        .until("the stop is reported", |world| {
            world.hub.reported()["systemModules"]["edgeHub"]["runtimeStatus"] == "stopped"
        })
        .await;
}
