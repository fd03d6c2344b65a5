//! Crashes, back-off, failed steps, order.

use std::time::Duration;

use serde_json::json;
use skerry_model::Timestamp;
use skerry_module_runtime::Act;
use skerry_module_runtime::fake::Call;

use crate::world::{World, desired, image, name, program};

fn starts(world: &World) -> usize {
    world.docker.calls().iter().filter(|call| matches!(call, Call::Start(_))).count()
}

#[tokio::test(start_paused = true)]
async fn a_crashing_module_is_restarted_later_and_later_also_over_restarts_of_the_agent() {
    let mut world = World::new();
    world.docker.set_act(&name("m"), Act::Exits(3));
    world.hub.set_desired(desired(&json!({"m": image("m:1")})));
    world.start();
    world.hub.connect();
    world.until_status("m", "backoff").await;
    let mut moments = vec![world.clock.now().wall];
    for count in 2..=4 {
        world.until("the next start", |world| starts(world) == count).await;
        moments.push(world.clock.now().wall);
    }
    // The first is counted from the report, which comes a little later than the exit.
    for (pair, wait) in moments.windows(2).zip([9.5, 20.0, 40.0]) {
        let waited = pair[1].since(pair[0]).as_secs_f64();
        assert!((waited - wait).abs() < 0.6, "{waited} instead of {wait}");
    }
    world
        .until("the exit is reported", |world| {
            let module = &world.hub.reported()["modules"]["m"];
            module["restartCount"] == 3 && module["exitCode"] == 3
        })
        .await;

    let crashed_at = world.clock.now().wall;
    world.crash();
    world.start();
    world.until("the next start", |world| starts(world) == 5).await;
    let waited = world.clock.now().wall.since(crashed_at).as_secs_f64();
    assert!((78.0..80.5).contains(&waited), "{waited}");

    world.docker.set_act(&name("m"), Act::RunsUntilStopped);
    world.until_status("m", "running").await;
    world
        .until("well again after ten minutes", |world| world.hub.reported()["modules"]["m"]["restartCount"] == 0)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_one_module_disturbs_no_other() {
    let mut world = World::new();
    world.hub.set_desired(desired(&json!({"a": image("a:1"), "b": image("b:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.docker.end(&name("a"), 1);
    world.until_status("a", "backoff").await;
    world.until_status("a", "running").await;
    let of_b = world.docker.calls().iter().filter(|call| format!("{call:?}").contains('b')).count();
    assert_eq!(of_b, 3);
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_told_and_tried_again_while_others_run() {
    let mut world = World::new();
    world.docker.take_away("m:1");
    world.hub.set_desired(desired(&json!({"m": image("m:1"), "n": image("n:1")})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 500).await;
    world.until_status("n", "running").await;
    let reported = world.hub.reported();
    assert!(reported["lastDesiredStatus"]["description"].as_str().unwrap().contains("m:1"));
    assert_eq!(reported["modules"]["m"]["runtimeStatus"], "backoff");
    world.docker.provide("m:1");
    let before = world.clock.now().wall;
    world.until_reported(1, 200).await;
    let waited = world.clock.now().wall.since(before);
    assert!((Duration::from_secs(17)..Duration::from_secs(22)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_ended_before_the_machine_started_is_started_at_once() {
    let mut world = World::new();
    let mut once = image("m:1");
    once["restartPolicy"] = "never".into();
    world.hub.set_desired(desired(&json!({"m": once})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.docker.end(&name("m"), 255);
    world.until_status("m", "failed").await;
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(starts(&world), 1);
    world.crash();
    world.config.machine.booted_at = Some(Timestamp::from_unix_millis(world.clock.now().wall.unix_millis() - 1_000));
    world.start();
    world.until_status("m", "running").await;
    assert_eq!(starts(&world), 2);
}

#[tokio::test(start_paused = true)]
async fn modules_start_in_their_order_and_a_stopped_one_is_only_made() {
    let mut world = World::new();
    let with_order = |mut module: serde_json::Value, order: u32| {
        module["startupOrder"] = order.into();
        module
    };
    let mut stopped = image("s:1");
    stopped["status"] = "stopped".into();
    world.hub.set_desired(desired(&json!({
        "a": with_order(image("a:1"), 2), "b": with_order(image("b:1"), 1), "c": with_order(program("/bin/c"), 0), "s": stopped})));
    world.start();
    world.hub.connect();
    world.until_reported(1, 200).await;
    world.until_status("a", "running").await;
    let started: Vec<_> = world.docker.calls().into_iter().filter(|call| matches!(call, Call::Start(_))).collect();
    assert_eq!(started, [Call::Start(name("b")), Call::Start(name("a"))]);
    assert_eq!(world.hub.reported()["modules"]["s"]["runtimeStatus"], "stopped");
    assert_eq!(world.hub.reported()["modules"]["b"]["startupOrder"], 1);
}
