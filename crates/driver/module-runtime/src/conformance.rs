//! What every implementation of [`ModuleRuntime`] must do; `conformance_suite!(Backend)` runs it.

use std::time::Duration;

use skerry_model::manifest::{Artifact, DesiredStatus, RestartPolicy, StartupOrder};
use skerry_model::{ModuleName, ModuleSpec};

use crate::{
    Act, Binding, LogLine, LogRange, LogStream, ModuleRuntime, ModuleState, ObservedModule, Problem, RuntimeError,
};

/// The longest that anything in the suite may take, machine under load included.
const PATIENCE: Duration = Duration::from_secs(60);

/// An implementation under test, empty at the start.
pub trait Backend: Sized + Send + Sync {
    /// The implementation.
    type Runtime: ModuleRuntime;

    /// A fresh runtime without modules, whatever other tests do at the same time.
    fn begin() -> impl Future<Output = Self> + Send;

    /// The runtime.
    fn runtime(&self) -> &Self::Runtime;

    /// An artifact, ready to run, that does `act` when `module` runs it.
    fn artifact(&self, module: &ModuleName, act: Act) -> Artifact;

    /// An artifact that does not exist.
    fn missing_artifact(&self) -> Artifact;

    /// An existing folder that can be bound to a module as its workload folder, with a file `greeting` in it that says `hello`.
    fn workload_folder(&self) -> std::path::PathBuf;

    /// Removes what the test left. Not called when the test failed.
    fn finish(self) -> impl Future<Output = ()> + Send;
}

/// Makes a test of every case of the suite for the named [`Backend`].
#[macro_export]
macro_rules! conformance_suite {
    ($backend:ty) => {
        $crate::conformance_suite!(@cases $backend;
            an_empty_runtime_has_no_modules,
            a_created_module_waits_for_its_start,
            a_started_module_runs,
            starting_twice_is_starting_once,
            an_exit_code_is_observed,
            an_end_is_announced,
            a_module_that_ended_can_be_started_again,
            stopping_lets_a_module_end_by_itself,
            a_module_that_does_not_stop_is_ended,
            what_does_not_run_can_be_stopped,
            a_running_module_is_removed,
            what_does_not_exist_can_be_removed,
            a_name_is_taken_once,
            a_removed_name_is_free_again,
            unknown_modules_are_named_in_the_error,
            a_missing_artifact_is_named,
            another_kind_of_artifact_is_refused,
            the_binding_wins_over_the_environment,
            the_workload_folder_is_seen,
            output_is_kept_in_order,
            the_tail_of_the_output,
            output_since_and_until,
            following_ends_with_the_module,
            processes_are_told_apart,
            modules_work_side_by_side
        );
    };
    (@cases $backend:ty; $($case:ident),*) => {$(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::run::<$backend, _>($crate::conformance::$case).await;
        }
    )*};
}

/// Runs one case on a fresh backend.
pub async fn run<B: Backend, F: AsyncFnOnce(&B)>(case: F) {
    let backend = B::begin().await;
    tokio::time::timeout(PATIENCE, case(&backend)).await.expect("the case takes too long");
    backend.finish().await;
}

/// The one place that knows how to say things to a runtime.
struct Module<'a, B: Backend> {
    backend: &'a B,
    spec: ModuleSpec,
    binding: Binding,
}

impl<'a, B: Backend> Module<'a, B> {
    fn new(backend: &'a B, name: &str, act: Act) -> Self {
        let name = ModuleName::parse(name).unwrap();
        let artifact = backend.artifact(&name, act);
        Self {
            backend,
            spec: ModuleSpec {
                name,
                artifact,
                env: [("FROM_MANIFEST".to_owned(), "manifest".to_owned())].into(),
                status: DesiredStatus::Running,
                restart: RestartPolicy::Never,
                startup_order: StartupOrder::LAST,
                version: "1".to_owned(),
            },
            binding: Binding {
                env: vec![("FROM_PLATFORM".to_owned(), "platform".to_owned())],
                generation: "g1".to_owned(),
                workload_folder: backend.workload_folder(),
                host_names: Vec::new(),
            },
        }
    }

    async fn created(backend: &'a B, name: &str, act: Act) -> Self {
        let module = Self::new(backend, name, act);
        module.create().await.unwrap();
        module
    }

    async fn started(backend: &'a B, name: &str, act: Act) -> Self {
        let module = Self::created(backend, name, act).await;
        module.start().await;
        module
    }

    fn runtime(&self) -> &B::Runtime {
        self.backend.runtime()
    }

    async fn create(&self) -> Result<(), RuntimeError> {
        self.runtime().create(&self.spec, &self.binding).await
    }

    async fn start(&self) {
        self.runtime().start(&self.spec.name).await.unwrap();
    }

    async fn stop(&self) {
        self.runtime().stop(&self.spec.name, Some(PATIENCE)).await.unwrap();
    }

    async fn observed(&self) -> ObservedModule {
        find(self.runtime(), &self.spec.name).await.expect("the module exists")
    }

    async fn until(&self, state: ModuleState) -> ObservedModule {
        let mut events = self.runtime().events();
        loop {
            let observed = self.observed().await;
            if observed.state == state {
                return observed;
            }
            events.changed().await;
        }
    }

    async fn lines(&self, range: LogRange) -> Vec<LogLine> {
        let mut lines = self.runtime().logs(&self.spec.name, range).await.unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line.unwrap());
        }
        all
    }

    /// What the module wrote to its standard output until it ended.
    async fn output(&self) -> Vec<String> {
        let lines = self.lines(LogRange { follow: true, ..LogRange::default() }).await;
        texts(&lines, LogStream::Output)
    }

    /// Waits for the first line that the module writes.
    async fn first_line(&self) {
        let range = LogRange { follow: true, ..LogRange::default() };
        let mut lines = self.runtime().logs(&self.spec.name, range).await.unwrap();
        lines.next().await.expect("the module still runs").unwrap();
    }

    /// All lines of a module that does [`Act::Prints`], which says when it is done.
    async fn lines_until_done(&self) -> Vec<LogLine> {
        let range = LogRange { follow: true, ..LogRange::default() };
        let mut lines = self.runtime().logs(&self.spec.name, range).await.unwrap();
        let mut all = Vec::new();
        let mut done = false;
        // The two streams are not ordered against each other, so a line of the other may come after `done`.
        while !done || texts(&all, LogStream::Output).len() < 3 {
            let line = lines.next().await.expect("the module still runs").unwrap();
            done |= line.stream == LogStream::Error && line.text.as_ref() == b"done";
            all.push(line);
        }
        all
    }
}

fn texts(lines: &[LogLine], stream: LogStream) -> Vec<String> {
    let wanted = lines.iter().filter(|line| line.stream == stream);
    wanted.map(|line| String::from_utf8(line.text.to_vec()).unwrap()).collect()
}

async fn find(runtime: &impl ModuleRuntime, name: &ModuleName) -> Option<ObservedModule> {
    runtime.observe().await.unwrap().into_iter().find(|module| module.name == *name)
}

/// Nothing is there before something was made.
pub async fn an_empty_runtime_has_no_modules<B: Backend>(backend: &B) {
    assert_eq!(backend.runtime().observe().await, Ok(Vec::new()));
}

/// Created is not started; the digest and the generation are there to be compared.
pub async fn a_created_module_waits_for_its_start<B: Backend>(backend: &B) {
    let module = Module::created(backend, "waits", Act::RunsUntilStopped).await;
    let observed = module.observed().await;
    assert_eq!(observed.state, ModuleState::Created);
    assert_eq!(observed.spec_digest, Some(module.spec.digest()));
    assert_eq!(observed.generation.as_deref(), Some("g1"));
    assert_eq!((observed.exit_code, observed.started_at, observed.process_id), (None, None, None));
}

/// A module that runs has a start and a process, and no exit code.
pub async fn a_started_module_runs<B: Backend>(backend: &B) {
    let module = Module::started(backend, "runs", Act::RunsUntilStopped).await;
    let observed = module.until(ModuleState::Running).await;
    assert!(observed.started_at.is_some() && observed.process_id.is_some());
    assert_eq!(observed.exit_code, None);
}

/// `start` is repeated without effect.
pub async fn starting_twice_is_starting_once<B: Backend>(backend: &B) {
    let module = Module::started(backend, "once", Act::RunsUntilStopped).await;
    let first = module.until(ModuleState::Running).await;
    module.start().await;
    assert_eq!(module.observed().await, first);
}

/// A module that ends by itself leaves its exit code and the time.
pub async fn an_exit_code_is_observed<B: Backend>(backend: &B) {
    for (name, code) in [("fails", 3), ("succeeds", 0)] {
        let module = Module::started(backend, name, Act::Exits(code)).await;
        let observed = module.until(ModuleState::Exited).await;
        assert_eq!(observed.exit_code, Some(i64::from(code)));
        assert!(observed.started_at <= observed.finished_at && observed.finished_at.is_some());
        assert_eq!(observed.process_id, None);
    }
}

/// Whoever waits for events hears of an end.
pub async fn an_end_is_announced<B: Backend>(backend: &B) {
    let module = Module::created(backend, "ends", Act::Exits(1)).await;
    let mut events = module.runtime().events();
    module.start().await;
    while module.observed().await.state != ModuleState::Exited {
        events.changed().await;
    }
}

/// A second run has a later start, and its own end.
pub async fn a_module_that_ended_can_be_started_again<B: Backend>(backend: &B) {
    let module = Module::started(backend, "again", Act::RunsUntilStopped).await;
    let first = module.until(ModuleState::Running).await;
    module.stop().await;
    module.start().await;
    let second = module.until(ModuleState::Running).await;
    assert!(first.started_at <= second.started_at);
    assert_ne!(first.process_id, second.process_id);
    assert_eq!(second.exit_code, None);
}

/// A module that listens ends with its own code.
pub async fn stopping_lets_a_module_end_by_itself<B: Backend>(backend: &B) {
    let module = Module::started(backend, "listens", Act::Prints(vec!["1".into(), "2".into(), "3".into()])).await;
    // It listens to the request from its first line on.
    module.lines_until_done().await;
    module.stop().await;
    let observed = module.observed().await;
    assert_eq!((observed.state, observed.exit_code), (ModuleState::Exited, Some(0)));
}

/// A module that does not listen is ended after the time given.
pub async fn a_module_that_does_not_stop_is_ended<B: Backend>(backend: &B) {
    let module = Module::started(backend, "stubborn", Act::IgnoresStop).await;
    module.first_line().await;
    module.runtime().stop(&module.spec.name, Some(Duration::from_secs(1))).await.unwrap();
    let observed = module.observed().await;
    assert_eq!((observed.state, observed.exit_code), (ModuleState::Exited, Some(137)));
}

/// `stop` of what was never started, or has ended, is done at once.
pub async fn what_does_not_run_can_be_stopped<B: Backend>(backend: &B) {
    let module = Module::created(backend, "still", Act::Exits(4)).await;
    module.stop().await;
    assert_eq!(module.observed().await.state, ModuleState::Created);
    module.start().await;
    module.until(ModuleState::Exited).await;
    module.stop().await;
    assert_eq!(module.observed().await.exit_code, Some(4));
}

/// Removing does not need a stop before.
pub async fn a_running_module_is_removed<B: Backend>(backend: &B) {
    let module = Module::started(backend, "removed", Act::IgnoresStop).await;
    module.first_line().await;
    module.runtime().remove(&module.spec.name).await.unwrap();
    assert_eq!(module.runtime().observe().await, Ok(Vec::new()));
}

/// Removing is repeated without effect.
pub async fn what_does_not_exist_can_be_removed<B: Backend>(backend: &B) {
    backend.runtime().remove(&ModuleName::parse("nothing").unwrap()).await.unwrap();
}

/// Two modules cannot have one name, and the first is not disturbed.
pub async fn a_name_is_taken_once<B: Backend>(backend: &B) {
    let module = Module::created(backend, "taken", Act::RunsUntilStopped).await;
    let mut other = Module::new(backend, "taken", Act::RunsUntilStopped);
    other.spec.version = "2".to_owned();
    assert_eq!(other.create().await.unwrap_err().problem, Problem::NameTaken);
    assert_eq!(module.observed().await.spec_digest, Some(module.spec.digest()));
}

/// After a removal the same name can be something else.
pub async fn a_removed_name_is_free_again<B: Backend>(backend: &B) {
    let mut module = Module::created(backend, "free", Act::RunsUntilStopped).await;
    module.runtime().remove(&module.spec.name).await.unwrap();
    module.spec.version = "2".to_owned();
    module.create().await.unwrap();
    assert_eq!(module.observed().await.spec_digest, Some(module.spec.digest()));
}

/// What needs a module says which one is missing.
pub async fn unknown_modules_are_named_in_the_error<B: Backend>(backend: &B) {
    let (runtime, name) = (backend.runtime(), ModuleName::parse("unknown").unwrap());
    let errors = [
        runtime.start(&name).await.unwrap_err(),
        runtime.stop(&name, None).await.unwrap_err(),
        runtime.logs(&name, LogRange::default()).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.problem, Problem::NoSuchModule);
        assert!(error.to_string().contains("`unknown`"), "{error}");
    }
    assert_eq!(runtime.is_member(&name, std::process::id()).await, Ok(false));
}

/// What is not there is neither prepared nor made, and the error says so.
pub async fn a_missing_artifact_is_named<B: Backend>(backend: &B) {
    let artifact = backend.missing_artifact();
    let error = backend.runtime().prepare(&artifact, None).await.unwrap_err();
    assert_eq!(error.problem, Problem::ArtifactNotFound, "{error}");
    let mut module = Module::new(backend, "missing", Act::RunsUntilStopped);
    module.spec.artifact = artifact;
    let error = module.create().await.unwrap_err();
    assert_eq!(error.problem, Problem::ArtifactNotFound, "{error}");
    assert_eq!(backend.runtime().observe().await, Ok(Vec::new()));
}

/// A runtime takes its own kind of artifact only.
pub async fn another_kind_of_artifact_is_refused<B: Backend>(backend: &B) {
    use skerry_model::manifest::{ImageArtifact, ProcessArtifact, ProcessLimits, PullPolicy};
    let mut module = Module::new(backend, "other", Act::RunsUntilStopped);
    module.spec.artifact = match module.spec.artifact.kind() {
        "process" => Artifact::Image(ImageArtifact {
            image: "image:1".to_owned(),
            digest: None,
            create_options: Default::default(),
            pull: PullPolicy::Never,
        }),
        _ => Artifact::Process(ProcessArtifact {
            command: "/bin/sh".to_owned(),
            args: Vec::new(),
            working_directory: None,
            limits: ProcessLimits::default(),
        }),
    };
    assert_eq!(module.create().await.unwrap_err().problem, Problem::SpecRefused);
    assert_eq!(module.runtime().prepare(&module.spec.artifact, None).await.unwrap_err().problem, Problem::SpecRefused);
}

/// The manifest's variables are there, and the platform's win.
pub async fn the_binding_wins_over_the_environment<B: Backend>(backend: &B) {
    for (name, variable, expected) in
        [("one", "FROM_MANIFEST", "manifest"), ("two", "FROM_PLATFORM", "platform"), ("three", "BOTH", "platform")]
    {
        let mut module = Module::new(backend, name, Act::PrintsEnv(variable.to_owned()));
        module.spec.env.insert("BOTH".to_owned(), "manifest".to_owned());
        module.binding.env.push(("BOTH".to_owned(), "platform".to_owned()));
        module.create().await.unwrap();
        module.start().await;
        assert_eq!(module.output().await, [expected], "{variable}");
    }
}

/// The module finds its folder where the runtime says.
pub async fn the_workload_folder_is_seen<B: Backend>(backend: &B) {
    let file = backend.runtime().seen_by_module(&backend.workload_folder()).join("greeting");
    let module = Module::started(backend, "reads", Act::PrintsFile(file)).await;
    assert_eq!(module.output().await, ["hello"]);
}

fn three_lines() -> Act {
    Act::Prints(vec!["one".to_owned(), "zwei €".to_owned(), String::new()])
}

/// Lines keep their order, their stream and their text, also an empty one, and have a time.
pub async fn output_is_kept_in_order<B: Backend>(backend: &B) {
    let module = Module::started(backend, "prints", three_lines()).await;
    let lines = module.lines_until_done().await;
    assert_eq!(texts(&lines, LogStream::Output), ["one", "zwei €", ""]);
    assert_eq!(texts(&lines, LogStream::Error), ["done"]);
    assert!(lines.iter().all(|line| line.at.is_some()));
    module.stop().await;
    assert_eq!(module.lines(LogRange::default()).await.len(), 4, "the output stays after the end");
}

/// The last lines only.
pub async fn the_tail_of_the_output<B: Backend>(backend: &B) {
    let module = Module::started(backend, "tail", three_lines()).await;
    module.lines_until_done().await;
    let all = module.lines(LogRange::default()).await;
    for (tail, expected) in [(0, &all[4..]), (2, &all[2..]), (100, &all[..])] {
        let range = LogRange { tail: Some(tail), ..LogRange::default() };
        assert_eq!(module.lines(range).await, expected, "tail {tail}");
    }
}

/// Bounds in time: the first counts, the second does not.
pub async fn output_since_and_until<B: Backend>(backend: &B) {
    let module = Module::started(backend, "since", three_lines()).await;
    module.lines_until_done().await;
    let all = module.lines(LogRange::default()).await;
    let (first, last) = (all.first().unwrap().at.unwrap(), all.last().unwrap().at.unwrap());
    let after = last.plus(Duration::from_millis(1));
    let count = async |since, until| module.lines(LogRange { since, until, ..LogRange::default() }).await.len();
    assert_eq!(count(Some(first), Some(after)).await, 4);
    assert_eq!(count(Some(after), None).await, 0);
    assert_eq!(count(None, Some(first)).await, 0);
}

/// Who follows hears of the end.
pub async fn following_ends_with_the_module<B: Backend>(backend: &B) {
    let module = Module::started(backend, "follow", three_lines()).await;
    module.lines_until_done().await;
    let follow = LogRange { follow: true, tail: Some(1), ..LogRange::default() };
    let mut lines = module.runtime().logs(&module.spec.name, follow).await.unwrap();
    assert!(lines.next().await.is_some());
    module.stop().await;
    assert_eq!(lines.next().await, None);
}

/// A process belongs to its own module and to no other.
pub async fn processes_are_told_apart<B: Backend>(backend: &B) {
    let one = Module::started(backend, "one", Act::RunsUntilStopped).await;
    let two = Module::started(backend, "two", Act::RunsUntilStopped).await;
    let process = one.until(ModuleState::Running).await.process_id.unwrap();
    let runtime = backend.runtime();
    assert_eq!(runtime.is_member(&one.spec.name, process).await, Ok(true));
    assert_eq!(runtime.is_member(&two.spec.name, process).await, Ok(false));
    assert_eq!(runtime.is_member(&one.spec.name, std::process::id()).await, Ok(false));
    one.stop().await;
    assert_eq!(runtime.is_member(&one.spec.name, process).await, Ok(false));
}

/// Calls for different modules do not wait for each other or mix up.
pub async fn modules_work_side_by_side<B: Backend>(backend: &B) {
    let (slow, quick) = tokio::join!(
        Module::started(backend, "slow", Act::IgnoresStop),
        Module::started(backend, "quick", Act::RunsUntilStopped),
    );
    slow.first_line().await;
    quick.until(ModuleState::Running).await;
    let mut slow_stop = backend.runtime().stop(&slow.spec.name, Some(Duration::from_secs(20)));
    tokio::select! {
        _ = &mut slow_stop => panic!("the slow stop overtook"),
        () = quick.stop() => {}
    }
    assert_eq!(slow.observed().await.state, ModuleState::Running);
    backend.runtime().remove(&slow.spec.name).await.unwrap();
    assert_eq!(quick.observed().await.state, ModuleState::Exited);
}
