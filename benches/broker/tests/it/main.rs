//! The load generator against a broker that does as it is told: well, forgetting messages, sending them twice, hanging up.

#![allow(clippy::unwrap_used, reason = "it is a test")]

mod broker;

use std::process::{Command, Output};

use broker::{Broker, Manners};
use serde_json::Value;

fn run(broker: &Broker, extra: &[&str]) -> (Output, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_skerry-bench-broker"))
        .args(["run", "--target", "mosquitto", "--address", &broker.address.to_string()])
        .args(["--warm-up", "0.05", "--seconds", "0.2"])
        .args(extra)
        .output()
        .unwrap();
    let outcome = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, outcome)
}

fn number(outcome: &Value, name: &str) -> f64 {
    outcome[name].as_f64().unwrap_or_else(|| panic!("no {name} in {outcome}"))
}

#[test]
fn a_good_broker_loses_nothing() {
    let broker = Broker::start(Manners::Good);
    let (output, outcome) = run(&broker, &["--pairs", "3", "--window", "16", "--payload", "64"]);
    assert!(output.status.success(), "{output:?}");
    assert!(0.0 < number(&outcome, "messages_per_second"));
    assert!(0.0 < number(&outcome, "ack_p50") && number(&outcome, "ack_p50") <= number(&outcome, "ack_p99"));
    let sent = number(&outcome, "sent");
    assert!(48.0 < sent);
    assert_eq!((number(&outcome, "acknowledged"), number(&outcome, "received")), (sent, sent));
    for name in ["lost", "duplicated", "foreign", "received_out_of_turn", "acknowledged_out_of_turn"] {
        assert_eq!(number(&outcome, name), 0.0, "{name}");
    }
    assert_eq!(outcome["errors"], serde_json::json!([]));
}

#[test]
fn messages_that_come_twice_are_counted() {
    let broker = Broker::start(Manners::SendsTwice(10));
    let (output, outcome) = run(&broker, &["--window", "4"]);
    assert!(output.status.success(), "{output:?}");
    assert!(0.0 < number(&outcome, "duplicated"));
    assert_eq!(number(&outcome, "lost"), 0.0);
}

#[test]
fn a_broker_that_hangs_up_fails_the_run_and_what_is_missing_is_told() {
    let broker = Broker::start(Manners::HangsUpAfter { messages: 200, forgetting: 7 });
    let (output, outcome) = run(&broker, &["--window", "4"]);
    assert!(!output.status.success(), "{output:?}");
    assert!(0.0 < number(&outcome, "lost"), "{outcome}");
    assert!(outcome["errors"][0].as_str().unwrap().contains("connection"), "{outcome}");
}

#[test]
fn a_run_against_an_edge_hub_needs_credentials() {
    let output = Command::new(env!("CARGO_BIN_EXE_skerry-bench-broker"))
        .args(["run", "--target", "skerry", "--address", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--credentials"), "{output:?}");
}
