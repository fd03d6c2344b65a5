//! A runtime on a folder of its own, and programs for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use skerry_model::manifest::{Artifact, DesiredStatus, ProcessArtifact, ProcessLimits, RestartPolicy, StartupOrder};
use skerry_model::{ModuleName, ModuleSpec};
use skerry_module_runtime::conformance::Backend;
use skerry_module_runtime::{Act, Binding, LogRange, ModuleRuntime, ModuleState, ObservedModule, RuntimeError};
use skerry_process::{ProcessConfig, ProcessRuntime};
use tempfile::TempDir;

/// Distinguishes the control groups of tests that run at the same time in one process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The example next to this test: supervisor of the tests, and the edge in tests that kill it.
pub(crate) fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/run-modules");
    assert!(program.is_file(), "{} is not built", program.display());
    program
}

pub(crate) fn control_group() -> String {
    format!("skerry-test/{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder that modules can reach whatever user they are.
pub(crate) fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

pub(crate) fn config(folder: &Path) -> ProcessConfig {
    let supervisor = vec![example().into_os_string(), "supervise".into()];
    let mut config = ProcessConfig::new(folder.join("process"), supervisor);
    config.control_group = control_group();
    config.grace = Duration::from_secs(1);
    config
}

pub(crate) struct World {
    pub(crate) runtime: ProcessRuntime,
    pub(crate) config: ProcessConfig,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new(change: impl FnOnce(&mut ProcessConfig)) -> Self {
        let folder = open_folder();
        let workload = folder.path().join("workload");
        fs::create_dir(&workload).unwrap();
        fs::write(workload.join("greeting"), "hello\n").unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        Self { runtime: ProcessRuntime::open(config.clone()).await.unwrap(), config, folder }
    }

    pub(crate) fn workload_folder(&self) -> PathBuf {
        self.folder.path().join("workload")
    }

    pub(crate) async fn start(&self, spec: &ModuleSpec) -> Result<(), RuntimeError> {
        let binding = Binding { workload_folder: self.workload_folder(), ..Binding::default() };
        self.runtime.create(spec, &binding).await?;
        self.runtime.start(&spec.name).await
    }

    pub(crate) async fn observed(&self, spec: &ModuleSpec) -> ObservedModule {
        observed(&self.runtime, &spec.name).await
    }

    pub(crate) async fn until_exited(&self, spec: &ModuleSpec) -> ObservedModule {
        until_exited(&self.runtime, &spec.name).await
    }

    /// Runs a shell script as a module until it ends, and returns what it wrote.
    pub(crate) async fn output_of(&self, script: &str) -> Vec<String> {
        let spec = shell("prints", script);
        self.start(&spec).await.unwrap();
        self.until_exited(&spec).await;
        let lines = output(&self.runtime, &spec.name, LogRange::default()).await;
        self.runtime.remove(&spec.name).await.unwrap();
        lines
    }

    /// Ends everything and removes our control groups.
    pub(crate) async fn finish(self) {
        for module in self.runtime.observe().await.unwrap() {
            self.runtime.remove(&module.name).await.unwrap();
        }
        remove_control_group(&self.config.control_group);
    }
}

pub(crate) fn remove_control_group(path: &str) {
    let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for mount in mounts.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let _ = fs::remove_dir(mount.join(path));
    }
}

pub(crate) async fn observed(runtime: &ProcessRuntime, name: &ModuleName) -> ObservedModule {
    runtime.observe().await.unwrap().into_iter().find(|module| module.name == *name).unwrap()
}

pub(crate) async fn until_exited(runtime: &ProcessRuntime, name: &ModuleName) -> ObservedModule {
    let mut events = runtime.events();
    let wait = async {
        loop {
            let observed = observed(runtime, name).await;
            if observed.state == ModuleState::Exited {
                return observed;
            }
            events.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap()
}

pub(crate) async fn output(runtime: &ProcessRuntime, name: &ModuleName, range: LogRange) -> Vec<String> {
    let mut lines = runtime.logs(name, range).await.unwrap();
    let mut all = Vec::new();
    while let Some(line) = lines.next().await {
        all.push(String::from_utf8(line.unwrap().text.to_vec()).unwrap());
    }
    all
}

pub(crate) fn program(command: &str, args: &[&str]) -> ProcessArtifact {
    ProcessArtifact {
        command: command.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        working_directory: None,
        limits: ProcessLimits::default(),
    }
}

pub(crate) fn spec(name: &str, program: ProcessArtifact) -> ModuleSpec {
    ModuleSpec {
        name: ModuleName::parse(name).unwrap(),
        artifact: Artifact::Process(program),
        env: BTreeMap::new(),
        status: DesiredStatus::Running,
        restart: RestartPolicy::Never,
        startup_order: StartupOrder::LAST,
        version: String::new(),
    }
}

pub(crate) fn shell(name: &str, script: &str) -> ModuleSpec {
    spec(name, program("/bin/sh", &["-c", script]))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until the answer is yes; the process it is about is nobody's child that could be waited for.
pub(crate) async fn eventually(what: &str, mut answer: impl FnMut() -> bool) {
    let wait = async {
        while !answer() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A number that a test writes into a command line of a process and finds nowhere else.
pub(crate) fn marker() -> String {
    format!("77{:07}{:04}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The processes with this text in their command line, zombies not counted.
fn processes(marker: &str) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(move |entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let has_marker = String::from_utf8_lossy(&line).split('\0').any(|word| word == marker);
        entry.file_name().to_str()?.parse().ok().filter(|_| has_marker)
    })
}

pub(crate) fn processes_with(marker: &str) -> usize {
    processes(marker).count()
}

pub(crate) fn kill_all_with(marker: &str) {
    for process in processes(marker).filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
}

fn act(act: Act) -> ProcessArtifact {
    // The shell would tell that its `sleep` was terminated.
    let until_stopped = "trap 'exit 0' TERM; exec 2>/dev/null; while :; do sleep 3600 & wait $!; done";
    match act {
        Act::RunsUntilStopped => program("/bin/sh", &["-c", until_stopped]),
        Act::IgnoresStop => program("/bin/sh", &["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]),
        Act::Exits(code) => program("/bin/sh", &["-c", "exit $0", &code.to_string()]),
        Act::Prints(lines) => {
            let script = format!("trap 'exit 0' TERM; printf '%s\\n' \"$@\"; echo done >&2; {until_stopped}");
            let mut args = vec!["-c", &script, "sh"];
            args.extend(lines.iter().map(String::as_str));
            program("/bin/sh", &args)
        }
        Act::PrintsEnv(name) => program("/bin/sh", &["-c", &format!("echo \"${name}\"")]),
        Act::PrintsFile(path) => program("/bin/cat", &[path.to_str().unwrap()]),
    }
}

macro_rules! backend {
    ($name:ident, $change:expr) => {
        pub(crate) struct $name(World);

        impl Backend for $name {
            type Runtime = ProcessRuntime;

            async fn begin() -> Self {
                Self(World::new($change).await)
            }

            fn runtime(&self) -> &ProcessRuntime {
                &self.0.runtime
            }

            fn artifact(&self, _: &ModuleName, wanted: Act) -> Artifact {
                Artifact::Process(act(wanted))
            }

            fn missing_artifact(&self) -> Artifact {
                Artifact::Process(program("/nowhere/program", &[]))
            }

            fn workload_folder(&self) -> PathBuf {
                self.0.workload_folder()
            }

            async fn finish(self) {
                self.0.finish().await;
            }
        }
    };
}

backend!(AsWeAre, |_| ());
// Not a path that a control group can have, so that the runtime has to do without.
backend!(WithoutUsersAndGroups, |config: &mut ProcessConfig| {
    config.users = None;
    config.control_group = "not\0possible".to_owned();
});
