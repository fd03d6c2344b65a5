//! What the platform promises about containers, on the real engine.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;
use skerry_container::{ContainerConfig, ContainerRuntime};
use skerry_module_runtime::{LogRange, LogStream, ModuleRuntime, ModuleState, Problem};
use skerry_net::http::{Method, Request};

use crate::engine::{IMAGE, UNTIL_STOPPED, World, ask, image, observed, shell, spec, until};

#[tokio::test]
async fn create_options_arrive_known_to_us_or_not() {
    let world = World::new();
    let module = spec(
        "options",
        image(
            IMAGE,
            json!({
                "Cmd": ["sh", "-c", UNTIL_STOPPED],
                "Hostname": "given",
                "StopTimeout": 7,
                "ThisIsNoField": {"of": ["any", "engine"]},
                "Labels": {"own": "label"},
                "ExposedPorts": {"8080/tcp": {}},
                "HostConfig": {"Memory": 33_554_432, "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1"}]}, "AlsoNoField": 1},
            }),
        ),
    );
    world.start(&module).await;
    let container = world.inspect(&module).await;
    let config = &container["Config"];
    assert_eq!((&config["Hostname"], &config["StopTimeout"]), (&json!("given"), &json!(7)));
    let expected = json!({
        "own": "label",
        "io.skerry.edge": world.config.edge,
        "io.skerry.module": "options",
        "io.skerry.spec-digest": module.digest().to_string(),
        "io.skerry.generation": "g",
        "net.azure-devices.edge.owner": "Microsoft.Azure.Devices.Edge.Agent",
        "net.azure-devices.edge.original-image": IMAGE,
    });
    assert_eq!(config["Labels"], expected);
    assert_eq!(container["HostConfig"]["Memory"], 33_554_432);
    assert!(container["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"].is_string());
    assert_eq!(
        container["NetworkSettings"]["Networks"].as_object().unwrap().keys().next(),
        Some(&world.config.network)
    );
    assert_eq!(container["NetworkSettings"]["Networks"].as_object().unwrap().len(), 1);
    let artifact_digest = world.observed(&module).await.artifact_digest;
    assert_eq!(artifact_digest.as_deref(), container["Image"].as_str());
}

#[tokio::test]
async fn options_that_the_engine_does_not_take_are_refused_with_its_words() {
    let world = World::new();
    let module = spec("wrong", image(IMAGE, json!({"HostConfig": {"Memory": 1}})));
    let error = world.runtime.create(&module, &world.binding()).await.unwrap_err();
    assert_eq!(error.problem, Problem::SpecRefused);
    assert!(error.to_string().to_lowercase().contains("memory"), "{error}");
    let module = spec("no-program", image(IMAGE, json!({"Cmd": ["/nowhere"]})));
    world.runtime.create(&module, &world.binding()).await.unwrap();
    let error = world.runtime.start(&module.name).await.unwrap_err();
    assert_eq!(error.problem, Problem::SpecRefused, "{error}");
    let observed = world.observed(&module).await;
    assert_eq!(observed.state, ModuleState::Created);
    assert!(observed.exit_reason.unwrap().contains("/nowhere"));
}

#[tokio::test]
async fn containers_go_on_without_us_and_are_taken_over() {
    let world = World::new();
    let module = shell("stays", UNTIL_STOPPED);
    world.start(&module).await;
    let before =
        until(&world.runtime, |modules| modules.iter().find(|module| module.state == ModuleState::Running).cloned())
            .await;
    assert!(world.runtime.outlives_us());
    let id = world.inspect(&module).await["Id"].clone();
    // The next edge, after the first was killed: same settings, no memory.
    let next = ContainerRuntime::new(world.config.clone());
    assert_eq!(observed(&next, &module).await, before);
    assert_eq!(before.spec_digest, Some(module.digest()));
    next.start(&module.name).await.unwrap();
    assert_eq!(world.inspect(&module).await["Id"], id);
    next.stop(&module.name, None).await.unwrap();
    assert_eq!(observed(&next, &module).await.state, ModuleState::Exited);
}

#[tokio::test]
async fn two_edges_share_an_engine_and_touch_only_their_own() {
    let (one, two) = (World::new(), World::new());
    let module = shell("same-name", UNTIL_STOPPED);
    one.start(&module).await;
    assert_eq!(two.runtime.observe().await, Ok(Vec::new()));
    assert_eq!(two.runtime.stop(&module.name, None).await.unwrap_err().problem, Problem::NoSuchModule);
    two.runtime.remove(&module.name).await.unwrap();
    assert_eq!(one.observed(&module).await.state, ModuleState::Running);
    two.start(&module).await;
    two.runtime.remove(&module.name).await.unwrap();
    assert_eq!(one.observed(&module).await.state, ModuleState::Running);
}

#[tokio::test]
async fn a_container_that_is_not_ours_keeps_its_name_and_is_left_alone() {
    let world = World::new();
    let name = format!("{}foreign", world.config.name_prefix);
    let body = json!({"Image": IMAGE, "Cmd": ["sleep", "3600"]}).to_string();
    ask(Request::new(Method::POST, format!("/containers/create?name={name}")).json(body)).await;
    let module = shell("foreign", UNTIL_STOPPED);
    let error = world.runtime.create(&module, &world.binding()).await.unwrap_err();
    assert_eq!(error.problem, Problem::NameTaken, "{error}");
    world.runtime.remove(&module.name).await.unwrap();
    assert_eq!(world.runtime.start(&module.name).await.unwrap_err().problem, Problem::NoSuchModule);
    let left = ask(Request::new(Method::DELETE, format!("/containers/{name}?force=1"))).await;
    assert!(left.status.is_success(), "it was still there");
}

#[tokio::test]
async fn in_a_network_that_somebody_made_with_a_subnet_alone_modules_find_us_too() {
    let world = World::new();
    let body = json!({
        "Name": world.config.network, "Labels": {"io.skerry.edge": world.config.edge},
        "IPAM": {"Config": [{"Subnet": "10.213.0.0/24", "IPRange": "10.213.0.128/25"}]},
    });
    let made = ask(Request::new(Method::POST, "/networks/create").json(body.to_string())).await;
    assert!(made.status.is_success(), "{:?}", made.body);
    let network = world.runtime.ensure_network().await.unwrap();
    assert_eq!(
        network.gateways,
        ["10.213.0.128".parse::<IpAddr>().unwrap()],
        "the engine takes the first of the range"
    );
    tokio::net::TcpListener::bind((network.gateways[0], 0)).await.unwrap();
}

#[tokio::test]
async fn modules_find_each_other_by_name_and_us_at_the_gateway() {
    let world = World::new();
    let network = world.runtime.ensure_network().await.unwrap();
    assert_eq!(world.runtime.ensure_network().await.as_ref(), Ok(&network), "made once");
    let gateway = network.gateways[0];
    let listener = tokio::net::TcpListener::bind((gateway, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut binding = world.binding();
    binding.host_names = vec![("edge.test".to_owned(), gateway), ("edgehub".to_owned(), gateway)];
    world.start(&shell("other", UNTIL_STOPPED)).await;
    let module =
        shell("asks", &format!("cat /etc/hosts; nslookup other 127.0.0.11; wget -q -O - http://edge.test:{port}/"));
    world.runtime.create(&module, &binding).await.unwrap();
    world.runtime.start(&module.name).await.unwrap();
    let (stream, _) = tokio::time::timeout(Duration::from_secs(30), listener.accept()).await.unwrap().unwrap();
    let (mut reader, mut writer) = stream.into_split();
    tokio::io::AsyncWriteExt::write_all(&mut writer, b"HTTP/1.0 200 OK\r\n\r\nreached\n").await.unwrap();
    drop(writer);
    let output = world.output(&module).await;
    let _ = tokio::io::AsyncReadExt::read(&mut reader, &mut [0; 16]).await;
    for name in ["edge.test", "edgehub"] {
        assert!(output.contains(&format!("{gateway}\t{name}")), "{output:?}");
    }
    assert!(output.iter().any(|line| line.starts_with("Name:") && line.contains("other")), "{output:?}");
    assert_eq!(output.last().map(String::as_str), Some("reached"));
}

#[tokio::test]
async fn a_workload_socket_survives_in_its_folder() {
    let world = World::new();
    let file = world.folder.path().join("greeting");
    let module =
        shell("reads", "cat /var/run/iotedge/greeting; while ! cat /var/run/iotedge/second; do sleep 0.1; done");
    world.start(&module).await;
    // What a restarted edge does: the file goes, another comes.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(world.folder.path().join("new"), "again\n").unwrap();
    std::fs::rename(world.folder.path().join("new"), world.folder.path().join("second")).unwrap();
    let output = world.output(&module).await;
    assert_eq!(output.last().map(String::as_str), Some("again"));
}

#[tokio::test]
async fn a_terminals_log_is_read_too() {
    let world = World::new();
    let module = spec("tty", image(IMAGE, json!({"Tty": true, "Cmd": ["sh", "-c", "echo one; echo two >&2"]})));
    world.start(&module).await;
    world.until_exited(&module).await;
    let mut lines = world.runtime.logs(&module.name, LogRange::default()).await.unwrap();
    for expected in ["one", "two"] {
        let line = lines.next().await.unwrap().unwrap();
        assert_eq!((line.stream, &*line.text), (LogStream::Output, expected.as_bytes()));
        assert!(line.at.is_some());
    }
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn a_memory_limit_is_named_as_the_reason() {
    let world = World::new();
    let options = json!({
        "Cmd": ["tail", "/dev/zero"],
        "HostConfig": {"Memory": 16 << 20, "MemorySwap": 16 << 20},
    });
    let module = spec("greedy", image(IMAGE, options));
    world.start(&module).await;
    let observed = world.until_exited(&module).await;
    assert_eq!(observed.exit_code, Some(137));
    assert!(observed.exit_reason.unwrap().contains("memory limit"));
}

#[tokio::test]
async fn privileges_are_not_given_where_they_are_not_allowed() {
    let mut world = World::new();
    world.config = ContainerConfig { elevated: false, ..world.config.clone() };
    world.runtime = ContainerRuntime::new(world.config.clone());
    let options = json!({"Cmd": ["true"], "HostConfig": {"Privileged": true, "CapAdd": ["NET_ADMIN"]}});
    let module = spec("modest", image(IMAGE, options));
    world.runtime.create(&module, &world.binding()).await.unwrap();
    let host = world.inspect(&module).await["HostConfig"].clone();
    assert_eq!((&host["Privileged"], &host["CapAdd"]), (&json!(false), &json!(null)));
    assert_eq!(host["CapDrop"], json!(["CHOWN", "SETUID"]));
}

#[tokio::test]
async fn a_process_that_we_run_ourselves_is_no_member() {
    let world = World::new();
    let module = shell("m", UNTIL_STOPPED);
    world.start(&module).await;
    let first = world.observed(&module).await.process_id.unwrap();
    // Not only the first process of a container, but every one.
    let children = format!("/proc/{first}/task/{first}/children");
    let child = until_some(|| std::fs::read_to_string(&children).ok()?.split(' ').next()?.parse().ok()).await;
    assert_eq!(world.runtime.is_member(&module.name, child).await, Ok(true));
    assert_eq!(world.runtime.is_member(&module.name, 1).await, Ok(false));
    assert_eq!(world.runtime.is_member(&module.name, u32::MAX).await, Ok(false));
}

async fn until_some<T>(find: impl Fn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = find() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it never happens")
}
