//! A world on the real engine: an image without any registry, and a runtime whose containers nobody else has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use skerry_container::{ContainerConfig, ContainerRuntime};
use skerry_model::manifest::{Artifact, DesiredStatus, ImageArtifact, PullPolicy, RestartPolicy, StartupOrder};
use skerry_model::{Json, ModuleName, ModuleSpec};
use skerry_module_runtime::conformance::Backend;
use skerry_module_runtime::{Act, Binding, LogRange, ModuleRuntime, ModuleState, ObservedModule};
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient, Method, Request, Response};
use tempfile::TempDir;

/// The image of all tests: busybox and nothing else.
pub(crate) const IMAGE: &str = "skerry-test/busybox:1";

/// Distinguishes the worlds of one test process.
static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) fn unique() -> String {
    format!("skerry-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn socket() -> PathBuf {
    std::env::var_os("SKERRY_TEST_DOCKER").map_or_else(|| PathBuf::from("/var/run/docker.sock"), PathBuf::from)
}

/// Asks the engine itself, beside the runtime under test.
pub(crate) async fn ask(request: Request) -> Response {
    let limits = ClientLimits { answer_max: Duration::from_secs(300), ..ClientLimits::default() };
    let client = HttpClient::new(HttpAddress::Unix(socket()), limits);
    match client.request(request).await {
        Ok(response) => response,
        Err(error) => panic!(
            "these tests need a Docker engine at `{}` (SKERRY_TEST_DOCKER names another socket): {error}; \
             see the head of tests/it/main.rs",
            socket().display()
        ),
    }
}

pub(crate) async fn get(target: &str) -> Json {
    let response = ask(Request::new(Method::GET, target)).await;
    assert!(response.status.is_success(), "{target}: {} {:?}", response.status, response.body);
    serde_json::from_slice(&response.body).unwrap()
}

/// Does something on a runtime of its own, from anywhere.
fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread =
            scope.spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work));
        thread.join().unwrap()
    })
}

/// Makes the image of the tests, unless it is there: every import would be another image.
pub(crate) fn make_image() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| block_on(import_busybox()));
}

async fn import_busybox() {
    if ask(Request::new(Method::GET, format!("/images/{IMAGE}/json"))).await.status.is_success() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("these tests need Debian's busybox-static");
    for name in ["sh", "cat", "sleep", "echo", "printf", "wget", "id", "head", "tail", "seq", "nslookup", "true"] {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(name)).unwrap();
    }
    let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().unwrap();
    assert!(tar.status.success());
    let (repository, tag) = IMAGE.split_once(':').unwrap();
    let target = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
    let mut request = Request::new(Method::POST, target);
    request.body = tar.stdout.into();
    let response = ask(request).await;
    assert!(response.status.is_success(), "{response:?}");
}

/// One edge on the real engine. What it made is removed when it is dropped.
pub(crate) struct World {
    pub(crate) runtime: ContainerRuntime,
    pub(crate) config: ContainerConfig,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::at(socket())
    }

    /// On the engine behind this socket.
    pub(crate) fn at(socket: PathBuf) -> Self {
        make_image();
        let edge = unique();
        let config = ContainerConfig {
            socket,
            name_prefix: format!("{edge}-"),
            network: format!("{edge}-net"),
            ..ContainerConfig::new(edge)
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("greeting"), "hello\n").unwrap();
        Self { runtime: ContainerRuntime::new(config.clone()), config, folder }
    }

    pub(crate) fn binding(&self) -> Binding {
        Binding { workload_folder: self.folder.path().to_owned(), generation: "g".to_owned(), ..Binding::default() }
    }

    pub(crate) async fn start(&self, spec: &ModuleSpec) {
        self.runtime.create(spec, &self.binding()).await.unwrap();
        self.runtime.start(&spec.name).await.unwrap();
    }

    pub(crate) async fn observed(&self, spec: &ModuleSpec) -> ObservedModule {
        observed(&self.runtime, spec).await
    }

    pub(crate) async fn until_exited(&self, spec: &ModuleSpec) -> ObservedModule {
        until(&self.runtime, |modules| {
            modules.iter().find(|module| module.name == spec.name && module.state == ModuleState::Exited).cloned()
        })
        .await
    }

    /// What a module writes until it ends.
    pub(crate) async fn output(&self, spec: &ModuleSpec) -> Vec<String> {
        self.until_exited(spec).await;
        let mut lines = self.runtime.logs(&spec.name, LogRange::default()).await.unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(String::from_utf8(line.unwrap().text.to_vec()).unwrap());
        }
        all
    }

    /// The engine's own word about the container.
    pub(crate) async fn inspect(&self, spec: &ModuleSpec) -> Json {
        get(&format!("/containers/{}{}/json", self.config.name_prefix, spec.name)).await
    }
}

pub(crate) async fn observed(runtime: &ContainerRuntime, spec: &ModuleSpec) -> ObservedModule {
    runtime.observe().await.unwrap().into_iter().find(|module| module.name == spec.name).unwrap()
}

/// Waits for an observation, woken by events alone.
pub(crate) async fn until<T>(runtime: &ContainerRuntime, found: impl Fn(&[ObservedModule]) -> Option<T>) -> T {
    let mut events = runtime.events();
    let wait = async {
        loop {
            if let Some(found) = runtime.observe().await.ok().and_then(|modules| found(&modules)) {
                return found;
            }
            events.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it never happens")
}

impl Drop for World {
    fn drop(&mut self) {
        let edge = self.config.edge.clone();
        block_on(async move {
            let filters = json!({"label": [format!("io.skerry.edge={edge}")]}).to_string();
            let filters: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let containers = get(&format!("/containers/json?all=1&filters={filters}")).await;
            for container in containers.as_array().unwrap() {
                let target = format!("/containers/{}?force=1&v=1", container["Id"].as_str().unwrap());
                ask(Request::new(Method::DELETE, target)).await;
            }
            let networks = get(&format!("/networks?filters={filters}")).await;
            for network in networks.as_array().unwrap() {
                ask(Request::new(Method::DELETE, format!("/networks/{}", network["Id"].as_str().unwrap()))).await;
            }
        });
    }
}

/// An image that comes from a registry.
pub(crate) fn pulled(name: &str) -> Artifact {
    Artifact::Image(ImageArtifact {
        image: name.to_owned(),
        digest: None,
        create_options: serde_json::Map::new(),
        pull: PullPolicy::OnCreate,
    })
}

/// An image that is in the engine already.
pub(crate) fn image(name: &str, create_options: Json) -> Artifact {
    Artifact::Image(ImageArtifact {
        image: name.to_owned(),
        digest: None,
        create_options: create_options.as_object().unwrap().clone(),
        pull: PullPolicy::Never,
    })
}

pub(crate) fn spec(name: &str, artifact: Artifact) -> ModuleSpec {
    ModuleSpec {
        name: ModuleName::parse(name).unwrap(),
        artifact,
        env: BTreeMap::new(),
        status: DesiredStatus::Running,
        restart: RestartPolicy::Never,
        startup_order: StartupOrder::LAST,
        version: String::new(),
    }
}

/// A module that runs a shell script.
pub(crate) fn shell(name: &str, script: &str) -> ModuleSpec {
    spec(name, image(IMAGE, json!({"Cmd": ["sh", "-c", script]})))
}

pub(crate) const UNTIL_STOPPED: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

fn command(act: Act) -> Vec<String> {
    let script = match act {
        Act::RunsUntilStopped => UNTIL_STOPPED.to_owned(),
        Act::IgnoresStop => "trap '' TERM; echo ready; while :; do sleep 1; done".to_owned(),
        Act::Exits(code) => format!("exit {code}"),
        Act::Prints(lines) => {
            let script = format!("trap 'exit 0' TERM; printf '%s\\n' \"$@\"; echo done >&2; {UNTIL_STOPPED}");
            let start = ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
            return start.into_iter().chain(lines).collect();
        }
        Act::PrintsEnv(name) => format!("echo \"${name}\""),
        Act::PrintsFile(path) => format!("cat {}", path.display()),
    };
    ["sh".to_owned(), "-c".to_owned(), script].into()
}

impl Backend for World {
    type Runtime = ContainerRuntime;

    async fn begin() -> Self {
        Self::new()
    }

    fn runtime(&self) -> &ContainerRuntime {
        &self.runtime
    }

    fn artifact(&self, _: &ModuleName, act: Act) -> Artifact {
        image(IMAGE, json!({"Cmd": command(act)}))
    }

    fn missing_artifact(&self) -> Artifact {
        pulled(&format!("{}/missing:1", crate::registry::empty_registry()))
    }

    fn workload_folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    async fn finish(self) {}
}

/// The folder that a path is in.
pub(crate) fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(name)
}
