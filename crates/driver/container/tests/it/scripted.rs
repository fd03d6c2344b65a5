//! A scripted engine: what exactly is asked, and what becomes of unusual answers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use skerry_container::{ContainerConfig, ContainerRuntime};
use skerry_model::Json;
use skerry_model::manifest::RegistryCredential;
use skerry_module_runtime::{Binding, LogRange, ModuleRuntime, ModuleState, Problem};
use skerry_net::http::{Body, Request, Response, ServerLimits, StatusCode, serve_http};
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::engine::{image, pulled, spec};

type Answer = dyn Fn(&str) -> (u16, Vec<u8>) + Send + Sync;

/// Answers by what `method target` begins with, the version left out; keeps what it was asked.
struct Scripted {
    runtime: ContainerRuntime,
    asked: Arc<Mutex<Vec<(String, Request)>>>,
    folder: TempDir,
}

impl Scripted {
    fn new(answer: impl Fn(&str) -> (u16, Vec<u8>) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept): (Arc<Answer>, _) = (Arc::new(answer), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, kept) = (answer.clone(), kept.clone());
                tokio::spawn(async move {
                    let handler = |request| respond(request, answer.clone(), kept.clone());
                    let _ = serve_http(stream, handler, &ServerLimits::default()).await;
                });
            }
        });
        let config = ContainerConfig { socket, ..ContainerConfig::new("edge1") };
        Self { runtime: ContainerRuntime::new(config), asked, folder }
    }

    /// The request that begins like this.
    fn asked(&self, start: &str) -> Request {
        let asked = self.asked.lock().unwrap();
        let found = asked.iter().find(|(line, _)| line.starts_with(start));
        found.unwrap_or_else(|| panic!("{start} was not asked: {:?}", lines(&asked))).1.clone()
    }

    fn binding(&self) -> Binding {
        Binding { workload_folder: self.folder.path().to_owned(), ..Binding::default() }
    }
}

fn lines(asked: &[(String, Request)]) -> Vec<&String> {
    asked.iter().map(|(line, _)| line).collect()
}

async fn respond(request: Request, answer: Arc<Answer>, asked: Arc<Mutex<Vec<(String, Request)>>>) -> Response<Body> {
    let target = request.target.strip_prefix("/v1.41").unwrap_or(&request.target).to_owned();
    let line = format!("{} {target}", request.method);
    asked.lock().unwrap().push((line.clone(), request));
    if line.starts_with("GET /version") {
        return ok(json!({"ApiVersion": "1.43", "MinAPIVersion": "1.12"})).into();
    }
    if line.starts_with("GET /events") {
        let (sender, body) = Body::streaming();
        tokio::spawn(async move { sender.closed().await });
        return Response { status: StatusCode::OK, headers: Default::default(), body };
    }
    let (status, body) = answer(&line);
    let mut response = Response::new(StatusCode::from_u16(status).unwrap());
    response.body = body.into();
    response.into()
}

fn ok(body: Json) -> Response {
    Response::json(StatusCode::OK, body.to_string())
}

fn message(status: u16, text: &str) -> (u16, Vec<u8>) {
    (status, json!({"message": text}).to_string().into_bytes())
}

fn one_container(state: &str) -> (u16, Vec<u8>) {
    let labels = json!({"io.skerry.edge": "edge1", "io.skerry.module": "m"});
    (200, json!([{"Id": "c1", "State": state, "Labels": labels}]).to_string().into_bytes())
}

#[tokio::test]
async fn a_pull_names_tag_and_credentials_and_finds_the_error_in_its_progress() {
    let engine = Scripted::new(|line| match line {
        _ if line.contains("tag=1") => (200, b"{\"status\":\"Pulling\"}\n{\"status\":\"done\"}\n".to_vec()),
        _ => (200, b"{\"status\":\"Pulling\"}\n{\"errorDetail\":{\"message\":\"manifest unknown\"}}\n".to_vec()),
    });
    let credential = RegistryCredential::new("r", "reg.example:5000", "me", "secret");
    engine.runtime.prepare(&pulled("reg.example:5000/a/b:1"), Some(&credential)).await.unwrap();
    let request = engine.asked("POST /images/create?fromImage=reg.example%3A5000%2Fa%2Fb&tag=1");
    assert!(request.headers.contains_key("x-registry-auth"));
    let error = engine.runtime.prepare(&pulled("reg.example:5000/a/b:2"), None).await.unwrap_err();
    assert_eq!(error.problem, Problem::ArtifactNotFound);
    assert_eq!(error.to_string(), "cannot pull image `reg.example:5000/a/b:2`: manifest unknown");
    assert!(
        !engine
            .asked("POST /images/create?fromImage=reg.example%3A5000%2Fa%2Fb&tag=2")
            .headers
            .contains_key("x-registry-auth")
    );
}

#[tokio::test]
async fn the_create_body_is_what_the_options_say() {
    let engine = Scripted::new(|line| match line {
        _ if line.starts_with("GET /networks") => (200, b"[{\"Name\":\"azure-iot-edge\"}]".to_vec()),
        _ => (201, b"{\"Id\":\"c1\",\"Warnings\":[\"careful\"]}".to_vec()),
    });
    let module = spec("m", image("a:1", json!({"Unknown": {"Field": [1, null]}})));
    engine.runtime.create(&module, &engine.binding()).await.unwrap();
    let request = engine.asked("POST /containers/create?name=m");
    let body: Json = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["Unknown"], json!({"Field": [1, null]}));
    assert_eq!(body["Image"], "a:1");
    assert_eq!(request.headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_missing_network_is_made_with_our_label_also_when_somebody_is_quicker() {
    let made = Mutex::new(false);
    let engine = Scripted::new(move |line| {
        let mut made = made.lock().unwrap();
        match line {
            _ if line.starts_with("POST /networks/create") => {
                *made = true;
                message(409, "network with name azure-iot-edge already exists")
            }
            _ if *made => {
                let network = json!({"Name": "azure-iot-edge", "IPAM": {"Config": [{"Gateway": "172.20.0.1"}]}});
                (200, json!([network]).to_string().into_bytes())
            }
            _ => (200, json!([{"Name": "azure-iot-edge-2"}]).to_string().into_bytes()),
        }
    });
    let network = engine.runtime.ensure_network().await.unwrap();
    assert_eq!(network.gateways, ["172.20.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let body: Json = serde_json::from_slice(&engine.asked("POST /networks/create").body).unwrap();
    let expected = json!({
        "Name": "azure-iot-edge", "Driver": "bridge", "CheckDuplicate": true, "Labels": {"io.skerry.edge": "edge1"},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn of_two_networks_of_one_name_the_older_counts_and_ours_goes() {
    let network = |id: &str, created: &str, edge: &str, gateway: &str| {
        json!({
            "Name": "azure-iot-edge", "Id": id, "Created": created, "Labels": {"io.skerry.edge": edge},
            "IPAM": {"Config": [{"Gateway": gateway}]},
        })
    };
    let list = json!([
        network("ours", "2026-05-01T10:00:02Z", "edge1", "172.22.0.1"),
        network("older", "2026-05-01T10:00:01Z", "edge2", "172.21.0.1"),
        network("theirs", "2026-05-01T10:00:03Z", "edge3", "172.23.0.1"),
    ]);
    let engine = Scripted::new(move |_| (200, list.to_string().into_bytes()));
    let network = engine.runtime.ensure_network().await.unwrap();
    assert_eq!(network.gateways, ["172.21.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let asked = engine.asked.lock().unwrap();
    let removed: Vec<_> = lines(&asked).into_iter().filter(|line| line.starts_with("DELETE")).collect();
    assert_eq!(removed, ["DELETE /networks/ours"]);
}

#[tokio::test]
async fn a_stop_counts_whole_seconds_and_leaves_the_time_to_the_options_without_one() {
    let engine = Scripted::new(|line| match line {
        _ if line.starts_with("GET /containers/json") => one_container("running"),
        _ => (304, Vec::new()),
    });
    let name = spec("m", image("a:1", json!({}))).name;
    engine.runtime.stop(&name, Some(Duration::from_millis(1200))).await.unwrap();
    engine.asked("POST /containers/c1/stop?t=2");
    engine.runtime.stop(&name, None).await.unwrap();
    let asked = engine.asked.lock().unwrap();
    assert!(lines(&asked).contains(&&"POST /containers/c1/stop".to_owned()));
    let list = lines(&asked).into_iter().find(|line| line.starts_with("GET /containers/json")).unwrap().clone();
    assert!(list.contains("io.skerry.edge%3Dedge1") && list.contains("io.skerry.module%3Dm"), "{list}");
}

#[tokio::test]
async fn a_removal_that_is_under_way_is_waited_for() {
    let left = Mutex::new(2);
    let engine = Scripted::new(move |line| {
        let mut left = left.lock().unwrap();
        match line {
            _ if line.starts_with("DELETE /containers/c1?force=1&v=1") => {
                *left -= 1;
                message(409, "removal of container c1 is already in progress")
            }
            _ if *left == 0 => (200, b"[]".to_vec()),
            _ => one_container("removing"),
        }
    });
    engine.runtime.remove(&spec("m", image("a:1", json!({}))).name).await.unwrap();
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let engine = Scripted::new(|line| match line {
        _ if line.starts_with("GET /containers/json") => one_container("created"),
        _ if line.starts_with("GET /networks") => (200, b"[{\"Name\":\"azure-iot-edge\"}]".to_vec()),
        _ if line.contains("name=taken") => message(409, "Conflict. The container name \"/taken\" is already in use"),
        _ if line.contains("name=missing") => message(404, "No such image: a:1"),
        _ if line.contains("name=wrong") => message(400, "invalid reference format"),
        _ if line.contains("/start") => message(500, "driver failed programming external connectivity"),
        _ => (500, b"not even JSON".to_vec()),
    });
    for (name, problem) in [
        ("taken", Problem::NameTaken),
        ("missing", Problem::ArtifactNotFound),
        ("wrong", Problem::SpecRefused),
        ("other", Problem::Failed),
    ] {
        let module = spec(name, image("a:1", json!({})));
        let error = engine.runtime.create(&module, &engine.binding()).await.unwrap_err();
        assert_eq!(error.problem, problem, "{error}");
    }
    let error = engine.runtime.start(&spec("m", image("a:1", json!({}))).name).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start module `m`: driver failed programming external connectivity");
    assert_eq!(error.problem, Problem::Failed);
}

#[tokio::test]
async fn a_container_that_goes_during_an_observation_is_left_out() {
    let engine = Scripted::new(|line| match line {
        _ if line.starts_with("GET /containers/json") => one_container("running"),
        _ => message(404, "No such container: c1"),
    });
    assert_eq!(engine.runtime.observe().await, Ok(Vec::new()));
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_an_engine_that_is_away() {
    let engine = Scripted::new(|_| (200, b"<html>".to_vec()));
    let error = engine.runtime.observe().await.unwrap_err();
    assert_eq!(error.problem, Problem::Unavailable);
    assert!(error.to_string().contains("not JSON"), "{error}");
}

#[tokio::test]
async fn known_containers_are_not_inspected_again() {
    let engine = Scripted::new(|line| match line {
        _ if line.starts_with("GET /containers/json") => one_container("running"),
        _ => (200, json!({"State": {"Status": "running", "Pid": 5}}).to_string().into_bytes()),
    });
    let mut events = engine.runtime.events();
    while engine.asked.lock().unwrap().iter().all(|(line, _)| !line.starts_with("GET /events")) {
        events.changed().await;
    }
    let mut inspections = 0;
    for _ in 0..20 {
        let modules = engine.runtime.observe().await.unwrap();
        assert_eq!((modules[0].state, modules[0].process_id), (ModuleState::Running, Some(5)));
        let asked = engine.asked.lock().unwrap();
        inspections = asked.iter().filter(|(line, _)| line.starts_with("GET /containers/c1/json")).count();
    }
    assert!(inspections < 20, "asked every time");
}

#[tokio::test]
async fn a_log_that_breaks_off_in_a_frame_ends_without_it() {
    let engine = Scripted::new(|line| match line {
        _ if line.starts_with("GET /containers/json") => one_container("running"),
        _ if line.contains("/logs") => {
            (200, [&[1, 0, 0, 0, 0, 0, 0, 3], &b"abc"[..], &[2, 0, 0, 0, 0, 0, 0, 9], b"x"].concat())
        }
        _ => (200, b"{}".to_vec()),
    });
    let name = spec("m", image("a:1", json!({}))).name;
    let mut lines = engine.runtime.logs(&name, LogRange::default()).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().text, "abc");
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn an_engine_that_was_never_there_is_named_with_what_to_do() {
    let config = ContainerConfig { socket: PathBuf::from("/nowhere/engine.sock"), ..ContainerConfig::new("edge1") };
    let runtime = ContainerRuntime::new(config);
    let error = runtime.observe().await.unwrap_err();
    assert_eq!(error.problem, Problem::Unavailable);
    let expected = "cannot list containers: no container engine answers at `unix:///nowhere/engine.sock` \
                    (No such file or directory (os error 2)): is it installed and running?";
    assert_eq!(error.to_string(), expected);
}
