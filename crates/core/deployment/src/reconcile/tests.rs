//! Situations and their plans, the published figures, and a simulated machine that must come to rest.

mod machine;
mod situation;

use std::time::Duration;

use expect_test::expect;
use serde_json::Value as Json;
use skerry_model::manifest::{RestartPolicy, RuntimeStatus};

use super::Policy;
use situation::check;

#[test]
fn what_is_missing_is_made_and_started() {
    check("want a@1", &expect!["a: prepare, create, start"]);
    check("want a@1 stopped", &expect!["a: prepare, create"]);
    check("want a@1; have a@1 running", &expect![""]);
    check("want a@1; have a@1 new", &expect!["a: start"]);
    check("want a@1 never; have a@1 new", &expect!["a: start"]);
}

#[test]
fn what_is_not_wanted_goes_first() {
    check(
        "want a@1; have b@1 running; have c@1 exited 0 5s ago",
        &expect!["b: stop, remove; c: remove; a: prepare, create, start"],
    );
    check("have b@1 dead", &expect!["b: remove"]);
}

#[test]
fn what_differs_is_made_anew_and_runs_while_its_successor_is_prepared() {
    check("want a@2; have a@1 running", &expect!["a: prepare, stop, remove, create, start"]);
    check("want a@2 stopped; have a@1 running", &expect!["a: prepare, stop, remove, create"]);
    check("want a@1; have a@1 running old-identity", &expect!["a: prepare, stop, remove, create, start"]);
    check("want a@1; have a@1 dead", &expect!["a: prepare, remove, create, start"]);
    check("want a@1 process; have a@1 docker running", &expect!["a: prepare, stop, remove, create, start"]);
    check("want a@1 process; have a@1 docker running; have a@1 process running", &expect!["a: stop, remove"]);
}

#[test]
fn the_desired_status_is_followed() {
    check("want a@1 stopped; have a@1 running", &expect!["a: stop"]);
    check("want a@1 stopped; have a@1 exited 1 5s ago", &expect![""]);
    check("want a@1 as-it-is; have a@1 running", &expect![""]);
    check("want a@1 as-it-is; have a@1 exited 1 500s ago", &expect![""]);
}

#[test]
fn a_crashing_module_waits_out_its_backoff() {
    check("want sensor@1 always; have sensor@1 crashed 3 times, last 10s ago", &expect!["sensor: wait 30s"]);
    check("want a@1 always; have a@1 crashed 1 times, last 10s ago", &expect!["a: wait 0s"]);
    check("want a@1 always; have a@1 crashed 1 times, last 11s ago", &expect!["a: restart"]);
    check("want a@1 always; have a@1 crashed 50 times, last 299s ago", &expect!["a: wait 1s"]);
    check("want a@1 always; have a@1 crashed 1 times, last 0s ago", &expect!["a: wait 10s"]);
    check("want a@1 always; have a@1 crashed 1 times, last -5s ago", &expect!["a: restart"]);
    check("want a@1 never; have a@1 crashed 1 times, last 900s ago", &expect![""]);
    check("want a@1 always; have a@1 unhealthy", &expect!["a: stop, restart"]);
    check("want a@1 never; have a@1 unhealthy", &expect![""]);
}

#[test]
fn a_limit_of_restarts_is_kept() {
    check("limit 20; want a@1 always; have a@1 crashed 20 times, last 400s ago", &expect!["a: restart"]);
    check("limit 20; want a@1 always; have a@1 crashed 21 times, last 400s ago", &expect![""]);
}

#[test]
fn what_ended_well_is_started_at_once_but_not_in_a_tight_loop() {
    check("want a@1 on-failure; have a@1 exited 0 6s ago", &expect!["a: start"]);
    check("want a@1 on-failure; have a@1 exited 0 1s ago", &expect!["a: wait 4s"]);
    check("want a@1 never; have a@1 exited 0 60s ago", &expect![""]);
    check("want a@1 always; have a@1 exited 0 6s ago", &expect!["a: wait 4s"]);
}

#[test]
fn what_ended_before_the_machine_started_did_not_fail() {
    check("booted 5s ago; want a@1 always; have a@1 crashed 5 times, last 30s ago", &expect!["a: start"]);
    check("booted 5s ago; want a@1 never; have a@1 exited 255 30s ago", &expect!["a: start"]);
    check("booted 50s ago; want a@1 never; have a@1 exited 255 30s ago", &expect![""]);
}

#[test]
fn what_was_stopped_did_not_fail() {
    check("want a@1 always; have a@1 was-stopped 143 1s ago", &expect!["a: start"]);
    check("want a@1 never; have a@1 was-stopped 0 1s ago", &expect!["a: start"]);
    check("want a@1 stopped; have a@1 was-stopped 0 1s ago", &expect![""]);
}

#[test]
fn a_module_that_stays_up_is_well_again() {
    check("want a@1; have a@1 restarted 2 times, up 100s", &expect!["a: wait 500s"]);
    check("want a@1; have a@1 restarted 2 times, up 601s", &expect!["a: forgive"]);
    check("want a@1; have a@1 restarted 0 times, up 601s", &expect![""]);
}

#[test]
fn starts_follow_the_startup_order() {
    check(
        "want a@1 order 2; want b@1 order 1; want c@1",
        &expect!["b: prepare, create, start; a: prepare, create; c: prepare, create"],
    );
    check("want a@1 order 2; want b@1 order 1; have b@1 running; have a@1 new", &expect!["a: start"]);
    check("want a@1 order 1; want b@1 order 1", &expect!["a: prepare, create, start; b: prepare, create, start"]);
    check("want a@1 order 2; want b@1 stopped order 1", &expect!["b: prepare, create; a: prepare, create, start"]);
}

#[test]
fn a_long_pull_delays_first_starts_but_no_restart() {
    check("want b@1 order 1; want a@1 order 2; busy b@1 preparing; have a@1 new", &expect![""]);
    check(
        "want b@1 order 1; want a@1 always order 2; busy b@1 preparing; have a@1 crashed 1 times, last 20s ago",
        &expect!["a: restart"],
    );
    check(
        "want b@1 order 1; want a@1 always order 2; busy b@1 starting; have a@1 crashed 1 times, last 20s ago",
        &expect![""],
    );
    check(
        "want b@1 order 1; failed b 1 times, last 5s ago; want a@1 order 2; have a@1 new",
        &expect!["b: wait 15s; a: start"],
    );
}

#[test]
fn failed_steps_are_tried_again_later_and_later() {
    check("want a@1; failed a 1 times, last 5s ago", &expect!["a: wait 15s"]);
    check("want a@1; failed a 2 times, last 41s ago", &expect!["a: prepare, create, start"]);
    check("want a@1; failed a 30 times, last 0s ago", &expect!["a: wait 3600s"]);
    check("limit 20; want a@1; failed a 20 times, last 9999999s ago", &expect![""]);
    check("have a@1 running; failed a 1 times, last 5s ago", &expect!["a: wait 15s"]);
    check("want a@1; have a@1 running; failed a 3 times, last 5s ago", &expect![""]);
}

#[test]
fn what_is_under_way_is_left_to_finish_unless_it_is_pointless() {
    check("want a@1; busy a@1 preparing", &expect![""]);
    check("want a@1; busy a@1 starting", &expect![""]);
    check("want a@2; busy a@1 preparing", &expect!["a: abandon"]);
    check("want a@2; busy a@1 starting", &expect![""]);
    check("busy a@1 preparing", &expect!["a: abandon"]);
    check("have a@1 running; busy a@2 preparing", &expect!["a: abandon, stop, remove"]);
    check("have a@1 running; busy a@2 starting", &expect![""]);
}

#[test]
fn modules_of_a_runtime_that_is_away_are_left_alone() {
    check("no docker; want a@1; want p@1 process", &expect!["p: prepare, create, start"]);
    check("no docker; have a@1 docker running", &expect![""]);
    check("no docker; want a@1 process; have a@1 docker running", &expect![""]);
    check("want a@1; have a@1 unknown", &expect![""]);
}

fn vectors() -> Json {
    serde_json::from_str(include_str!("../../tests/vectors/edge-restart-backoff.json")).unwrap()
}

fn number(case: &Json, key: &str) -> u32 {
    u32::try_from(case[key].as_u64().unwrap()).unwrap()
}

#[test]
fn waits_are_the_published_ones() {
    let (vectors, policy) = (vectors(), Policy::original());
    for case in vectors["waits"].as_array().unwrap() {
        let wait = policy.restart_wait(number(case, "restartCount"));
        assert_eq!(case["waitSecondsAfterLastExit"], wait.as_secs(), "{case}");
    }
    for case in vectors["due"].as_array().unwrap() {
        let wait = policy.restart_wait(number(case, "restartCount"));
        let elapsed = case["secondsSinceLastExit"].as_i64().unwrap() * 1_000;
        assert_eq!(case["restartNow"], Policy::is_over(wait, elapsed), "{case}");
    }
    for case in vectors["failedCommandRetry"]["waitsAfterFailure"].as_array().unwrap() {
        let wait = policy.failure_wait(number(case, "failures"));
        assert_eq!(case["waitSeconds"], wait.as_secs(), "{case}");
    }
    let healthy = &vectors["healthy"];
    let well_after = Duration::from_secs(60 * u64::from(number(healthy, "intensiveCareMinutes")));
    assert_eq!(policy.well_after, well_after);
    for case in healthy["cases"].as_array().unwrap() {
        let millis = case["runningMinutes"].as_f64().unwrap() * 60_000.0;
        #[expect(clippy::cast_possible_truncation, reason = "a few minutes")]
        let is_well = Policy::is_over(well_after, millis as i64);
        assert_eq!(case["cleared"], is_well, "{case}");
    }
    assert_eq!(policy.failure_wait(200), Duration::from_secs(10 * u64::from(u32::MAX)));
}

#[test]
fn effective_statuses_are_the_published_ones() {
    for case in vectors()["effectiveStatus"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap();
        let policy = RestartPolicy::parse(text("policy")).unwrap();
        let observed = RuntimeStatus::parse(text("observed")).unwrap();
        let effective = Policy::original().effective(policy, observed, number(case, "restartCount"));
        assert_eq!(effective.as_str(), text("effectiveStatus"), "{case}");
    }
}
