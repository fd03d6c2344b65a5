//! The conformance suite on the fake, and what only the fake can do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is a test")]

use std::path::PathBuf;

use skerry_model::manifest::{Artifact, ProcessArtifact, ProcessLimits};
use skerry_model::{ModuleName, Timestamp};
use skerry_module_runtime::conformance::Backend;
use skerry_module_runtime::fake::{Call, FakeRuntime};
use skerry_module_runtime::{Act, Binding, ModuleRuntime, ModuleState, Problem, RuntimeError};

struct Fake {
    runtime: FakeRuntime,
    folder: tempfile::TempDir,
}

fn program(command: &str) -> Artifact {
    Artifact::Process(ProcessArtifact {
        command: command.to_owned(),
        args: Vec::new(),
        working_directory: None,
        limits: ProcessLimits::default(),
    })
}

impl Backend for Fake {
    type Runtime = FakeRuntime;

    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("greeting"), "hello\n").unwrap();
        let runtime = FakeRuntime::new("process");
        runtime.take_away("/missing");
        runtime.set_now(Timestamp::from_unix_seconds(1_000));
        Self { runtime, folder }
    }

    fn runtime(&self) -> &FakeRuntime {
        &self.runtime
    }

    fn artifact(&self, module: &ModuleName, act: Act) -> Artifact {
        self.runtime.set_act(module, act);
        program("/program")
    }

    fn missing_artifact(&self) -> Artifact {
        program("/missing")
    }

    fn workload_folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    async fn finish(self) {}
}

skerry_module_runtime::conformance_suite!(Fake);

fn spec(name: &str) -> skerry_model::ModuleSpec {
    use skerry_model::manifest::{DesiredStatus, RestartPolicy, StartupOrder};
    skerry_model::ModuleSpec {
        name: ModuleName::parse(name).unwrap(),
        artifact: program("/program"),
        env: Default::default(),
        status: DesiredStatus::Running,
        restart: RestartPolicy::Always,
        startup_order: StartupOrder::LAST,
        version: String::new(),
    }
}

#[tokio::test]
async fn the_fake_fails_and_goes_away_when_told() {
    let fake = FakeRuntime::new("process");
    let module = spec("m");
    let error = RuntimeError::new(Problem::Failed, "cannot create module `m`", "disk full");
    fake.fail_once(Call::Create(module.name.clone()), error.clone());
    assert_eq!(fake.create(&module, &Binding::default()).await, Err(error));
    assert_eq!(fake.create(&module, &Binding::default()).await, Ok(()));
    fake.set_away(Some("no engine at /run/engine.sock"));
    let error = fake.observe().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot list modules: no engine at /run/engine.sock");
    assert_eq!(error.problem, Problem::Unavailable);
    fake.set_away(None);
    assert_eq!(fake.observe().await.map(|modules| modules.len()), Ok(1));
    assert_eq!(fake.calls(), [Call::Create(module.name.clone()), Call::Create(module.name)]);
}

#[tokio::test]
async fn the_fake_ends_modules_at_the_time_it_is_told() {
    let fake = FakeRuntime::new("process");
    let module = spec("m");
    fake.create(&module, &Binding::default()).await.unwrap();
    fake.set_now(Timestamp::from_unix_seconds(10));
    fake.start(&module.name).await.unwrap();
    fake.set_now(Timestamp::from_unix_seconds(20));
    fake.end(&module.name, 9);
    let observed = fake.observe().await.unwrap().remove(0);
    assert_eq!((observed.state, observed.exit_code), (ModuleState::Exited, Some(9)));
    assert_eq!(observed.started_at, Some(Timestamp::from_unix_seconds(10)));
    assert_eq!(observed.finished_at, Some(Timestamp::from_unix_seconds(20)));
    fake.set_state(&module.name, ModuleState::Dead);
    assert_eq!(fake.observe().await.unwrap().remove(0).state, ModuleState::Dead);
}
