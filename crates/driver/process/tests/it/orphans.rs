//! Nobody is left behind, whoever is killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use skerry_module_runtime::{ModuleRuntime, ModuleState, Problem};
use skerry_process::{OpenError, ProcessRuntime};

use crate::backend::{
    World, config, control_group, eventually, example, is_root, kill_all_with, marker, observed, open_folder,
    processes_with, remove_control_group, shell,
};

/// A module whose children are as hard to catch as they can be: one that ignores being asked, one in a session of its own,
/// and one whose parents are all gone. All three show the marker.
fn family(marker: &str) -> String {
    let sleeper = format!("exec -a m sh -c 'trap \"\" TERM; while :; do sleep 1; done' {marker}");
    format!(
        "bash -c \"$(cat <<'END'\n{sleeper}\nEND\n)\" & \
         setsid bash -c \"$(cat <<'END'\n{sleeper}\nEND\n)\" & \
         (setsid bash -c \"$(cat <<'END'\n{sleeper}\nEND\n)\" &) & \
         wait"
    )
}

/// The example as an edge of its own, with one module.
struct Edge {
    child: Child,
    folder: tempfile::TempDir,
    control_group: String,
}

impl Edge {
    fn run(script: &str, as_user: Option<u32>) -> Self {
        use std::os::unix::process::CommandExt;
        let folder = open_folder();
        let control_group = control_group();
        // Another user may not be able to enter the folder that the example was built in.
        let program: PathBuf = folder.path().join("edge");
        std::fs::copy(example(), &program).unwrap();
        let mut command = Command::new(&program);
        if let Some(user) = as_user {
            command.uid(user).gid(user);
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        command.arg(folder.path().join("process")).arg(&control_group).arg(format!("family={script}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "running\n");
        Self { child, folder, control_group }
    }

    async fn finish(mut self) {
        self.child.wait().unwrap();
        let mut config = config(self.folder.path());
        config.control_group.clone_from(&self.control_group);
        // Opening waits for the supervisors.
        drop(ProcessRuntime::open(config).await.unwrap());
        remove_control_group(&self.control_group);
    }
}

async fn killing_the_edge_ends_the_family(as_user: Option<u32>) {
    let marker = marker();
    let mut edge = Edge::run(&family(&marker), as_user);
    eventually("three children run", || processes_with(&marker) == 3).await;
    edge.child.kill().unwrap();
    eventually("all have ended", || processes_with(&marker) == 0).await;
    edge.finish().await;
}

#[tokio::test]
async fn killing_the_edge_ends_its_modules_with_all_they_started() {
    killing_the_edge_ends_the_family(None).await;
}

#[tokio::test]
async fn killing_the_edge_of_an_ordinary_user_ends_its_modules_too() {
    // As root we become nobody; else we are an ordinary user anyway.
    killing_the_edge_ends_the_family(is_root().then_some(65_534)).await;
}

#[tokio::test]
async fn an_edge_that_ends_by_itself_takes_its_modules_along() {
    let marker = marker();
    let mut edge = Edge::run(&family(&marker), None);
    eventually("three children run", || processes_with(&marker) == 3).await;
    drop(edge.child.stdin.take());
    eventually("all have ended", || processes_with(&marker) == 0).await;
    edge.finish().await;
}

#[tokio::test]
async fn stopping_a_module_ends_all_it_started() {
    let world = World::new(|_| ()).await;
    let marker = marker();
    let module = shell("family", &family(&marker));
    world.start(&module).await.unwrap();
    eventually("three children run", || processes_with(&marker) == 3).await;
    world.runtime.stop(&module.name, Some(std::time::Duration::from_millis(200))).await.unwrap();
    assert_eq!(processes_with(&marker), 0);
    let observed = world.observed(&module).await;
    assert_eq!((observed.state, observed.was_stopped), (ModuleState::Exited, true));
    world.finish().await;
}

#[tokio::test]
async fn a_module_that_ends_takes_its_children_along() {
    let world = World::new(|_| ()).await;
    let marker = marker();
    let module = shell("parent", &format!("(setsid sh -c 'sleep 3600' {marker} &) ; exit 5"));
    world.start(&module).await.unwrap();
    let observed = world.until_exited(&module).await;
    assert_eq!((observed.exit_code, observed.was_stopped), (Some(5), false));
    assert_eq!(processes_with(&marker), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_the_module_along_and_is_told() {
    let world = World::new(|_| ()).await;
    let marker = marker();
    let module = shell("family", &family(&marker));
    world.start(&module).await.unwrap();
    eventually("three children run", || processes_with(&marker) == 3).await;
    let first = world.observed(&module).await.process_id.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let supervisor = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    let observed = world.until_exited(&module).await;
    assert_eq!(observed.exit_reason.as_deref(), Some("its supervisor was killed"));
    assert_eq!(observed.exit_code, Some(137));
    if is_root() {
        eventually("all have ended", || processes_with(&marker) == 0).await;
        world.runtime.start(&module.name).await.unwrap();
        eventually("three children run again", || processes_with(&marker) == 3).await;
    } else {
        // Without control groups nobody finds those that left the session.
        kill_all_with(&marker);
    }
    world.finish().await;
    eventually("all have ended", || processes_with(&marker) == 0).await;
}

#[tokio::test]
async fn two_runtimes_cannot_share_a_folder() {
    let world = World::new(|_| ()).await;
    let error = ProcessRuntime::open(world.config.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    world.finish().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_refused_with_the_reason() {
    let world = World::new(|_| ()).await;
    let script = world.folder.path().join("script");
    std::fs::write(&script, "#!/nowhere/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let module = crate::backend::spec("m", crate::backend::program(script.to_str().unwrap(), &[]));
    let error = world.start(&module).await.unwrap_err();
    assert_eq!(error.problem, Problem::SpecRefused);
    let expected = format!("cannot start module `m`: cannot run `{}`: No such file", script.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(observed(&world.runtime, &module.name).await.state, ModuleState::Created);
    world.finish().await;
}

#[tokio::test]
async fn what_a_stopping_module_leaves_behind_does_not_hold_up_the_stop() {
    let world = World::new(|_| ()).await;
    let marker = marker();
    let module = shell("parent", &format!("trap 'exit 0' TERM; setsid sh -c 'sleep 3600' {marker} & wait"));
    world.start(&module).await.unwrap();
    eventually("the child runs", || processes_with(&marker) == 1).await;
    let stop = world.runtime.stop(&module.name, Some(std::time::Duration::from_secs(3600)));
    tokio::time::timeout(std::time::Duration::from_secs(60), stop).await.unwrap().unwrap();
    assert_eq!(processes_with(&marker), 0);
    assert_eq!(world.observed(&module).await.exit_code, Some(0));
    world.finish().await;
}
