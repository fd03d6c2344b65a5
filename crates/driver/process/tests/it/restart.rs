//! What a new runtime on the same folder knows.

use std::time::Duration;

use skerry_module_runtime::{LogRange, ModuleRuntime, ModuleState, ObservedModule};
use skerry_process::ProcessRuntime;

use crate::backend::{World, observed, output, remove_control_group, shell, until_exited};

/// Gives up one runtime and opens the next on the same folder.
async fn next_runtime(world: World) -> (ProcessRuntime, World) {
    let World { runtime, config, folder } = world;
    drop(runtime);
    // The old one lets go of the folder when its last task has ended.
    let open = async {
        loop {
            match ProcessRuntime::open(config.clone()).await {
                Ok(runtime) => return runtime,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let runtime = tokio::time::timeout(Duration::from_secs(30), open).await.unwrap();
    (runtime.clone(), World { runtime, config, folder })
}

#[tokio::test]
async fn a_new_runtime_knows_how_modules_ended_and_can_start_them() {
    let world = World::new(|_| ()).await;
    let ended = shell("ended", "echo first; exit 3");
    let running = shell("running", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    let created = shell("created", "exit 0");
    world.start(&ended).await.unwrap();
    let before = world.until_exited(&ended).await;
    world.start(&running).await.unwrap();
    let mut lines = world.runtime.logs(&running.name, LogRange { follow: true, ..LogRange::default() }).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().text, "ready");
    drop(lines);
    world.runtime.create(&created, &binding(&world)).await.unwrap();

    let (runtime, world) = next_runtime(world).await;
    assert_eq!(observed(&runtime, &ended.name).await, before);
    let after = observed(&runtime, &running.name).await;
    assert_eq!((after.state, after.exit_code), (ModuleState::Exited, Some(9)), "{after:?}");
    assert!(after.was_stopped && !before.was_stopped);
    assert_eq!(after.spec_digest, Some(running.digest()));
    assert_eq!(observed(&runtime, &created.name).await.state, ModuleState::Created);

    runtime.start(&ended.name).await.unwrap();
    let again = until_exited(&runtime, &ended.name).await;
    assert!(before.started_at <= again.started_at);
    assert_eq!(output(&runtime, &ended.name, LogRange::default()).await, ["first", "first"]);
    drop(runtime);
    world.finish().await;
}

fn binding(world: &World) -> skerry_module_runtime::Binding {
    skerry_module_runtime::Binding { workload_folder: world.workload_folder(), ..Default::default() }
}

#[tokio::test]
async fn a_run_cut_short_with_its_machine_is_told_as_such() {
    let world = World::new(|_| ()).await;
    let module = shell("m", "exit 0");
    world.start(&module).await.unwrap();
    world.until_exited(&module).await;
    // What a machine that loses power leaves.
    let run = world.config.folder.join("modules/m/run.json");
    std::fs::write(&run, r#"{"started_at":1000,"process":4000000,"finished_at":null,"exit_code":null,"reason":null}"#)
        .unwrap();
    let (runtime, world) = next_runtime(world).await;
    let ObservedModule { state, exit_code, exit_reason, finished_at, .. } = observed(&runtime, &module.name).await;
    assert_eq!((state, exit_code), (ModuleState::Exited, None));
    assert_eq!(exit_reason.as_deref(), Some("it ended together with its supervisor"));
    assert!(finished_at.is_some());
    drop(runtime);
    world.finish().await;
}

#[tokio::test]
async fn a_folder_that_is_not_a_whole_module_is_removed() {
    let world = World::new(|_| ()).await;
    let folder = world.config.folder.join("modules/half");
    std::fs::create_dir(&folder).unwrap();
    let (runtime, world) = next_runtime(world).await;
    assert_eq!(runtime.observe().await, Ok(Vec::new()));
    assert!(!folder.exists());
    drop(runtime);
    remove_control_group(&world.config.control_group);
}
