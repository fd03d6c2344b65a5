//! Starting: folders that are in use, configurations that are wrong.

use std::process::Command;

use skerry_testkit::{Loopback, Program, program};

use crate::site::{At, Site, text};

/// `EX_CONFIG`: starting again does not help.
const REFUSED: i32 = 78;

#[test]
fn a_hub_s_folder_is_not_used_twice() {
    let mut site = Site::start(At::Hub);
    let elsewhere = Loopback::next();
    let mut command = Command::new(program("skerry-hub"));
    command.args(["--data-dir", text(&site.hub.data_folder())]);
    command.args(["--listen-mqtt", &elsewhere.at(8883).to_string()]);
    command.args(["--listen-https", &elsewhere.at(443).to_string()]);
    let holder = site.hub.program().id();
    is_refused_because(&mut command, &format!("is in use by process {holder}"));
    site.hub.create_device("still-works");
}

#[test]
fn an_edge_s_folder_is_not_used_twice() {
    let mut site = Site::start(At::Edge);
    let folder = site.edge().data_folder();
    let mut command = Command::new(program("skerry-edge"));
    command.arg("--config").arg(folder.with_file_name("edge.toml"));
    let holder = site.edge().program().id();
    is_refused_because(&mut command, &format!("is in use by process {holder}"));
    let login = site.device("dev-1");
    site.server().login(&login);
}

/// Starts a program that has to end by itself with a failure that says `reason`.
#[track_caller]
fn is_refused_because(command: &mut Command, reason: &str) {
    let mut second = Program::start("the second", command);
    second.wait_for(reason);
    assert_eq!(second.wait_for_end().code(), Some(1));
}

/// A hub that is to run beside an agent, started without what the agent tells it.
#[test]
fn a_hub_without_an_agent_says_what_it_misses_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (config, trust, data) = ["hub.toml", "trust.pem", "data"].map(|name| folder.path().join(name)).into();
    std::fs::write(&config, format!("[upstream]\ntrust = \"{}\"\n", trust.display())).unwrap();
    std::fs::write(&trust, TRUST).unwrap();
    let mut command = Command::new(program("skerry-edge"));
    command.args(["--role", "hub", "--config", text(&config), "--data-dir", text(&data)]);
    is_refused_because(&mut command, "not the environment of an edge module: IOTEDGE_WORKLOADURI, IOTEDGE_DEVICEID");
    command.envs([
        ("IOTEDGE_WORKLOADURI", "unix:///nowhere"),
        ("IOTEDGE_DEVICEID", "edge-1"),
        ("IOTEDGE_MODULEID", "sensor"),
        ("IOTEDGE_MODULEGENERATIONID", "1"),
        ("IOTEDGE_IOTHUBHOSTNAME", "hub"),
    ]);
    is_refused_because(&mut command, "IOTEDGE_MODULEID is sensor, which is not $edgeHub");
    assert!(!data.exists());
}

/// Has the form of a certificate.
const TRUST: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

/// What `check-config` says of a file: the exit code and everything printed.
fn check_config(name: &str, text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    std::fs::write(folder.path().join("trust.pem"), TRUST).unwrap();
    let output = Command::new(program(name)).arg("--config").arg(&file).arg("check-config").output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "it makes nothing: {left:?}");
    (output.status.code(), String::from_utf8_lossy(&told).into_owned())
}

#[test]
fn a_hub_s_configuration_is_checked() {
    assert_eq!(check_config("skerry-hub", ""), (Some(0), "the configuration is good\n".to_owned()));
    for (text, reasons) in [
        ("nmae = \"x\"", &["nmae", "name"][..]),
        ("name = \"h\"\n[listen]\nmqtt = \"127.0.0.1:8883\"", &["config.toml:3:8", "sequence"]),
        ("runtimes = 0", &["`runtimes` is 0", "between 1 and 64"]),
        ("[listen]\nmqtt = [\"0.0.0.0:8883\"]", &["`listen.mqtt`", "one by one"]),
        ("[listen]\nhttps = [\"443\"]", &["`listen.https`", "443"]),
        ("name = \"a b\"", &["`name`", "a b"]),
        ("[log]\nlevel = \"chatty\"", &["log.level", "chatty"]),
        ("name = ", &["1"]),
    ] {
        refuses("skerry-hub", text, reasons);
    }
}

const EDGE: &str = "[upstream]\ntrust = \"FOLDER/trust.pem\"\n[provisioning]\nconnection_string = \"HostName=h;DeviceId=d;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==\"\n";

#[test]
fn an_edge_s_configuration_is_checked() {
    assert_eq!(check_config("skerry-edge", EDGE), (Some(0), "the configuration is good\n".to_owned()));
    for (text, reasons) in [
        (String::new(), &["`provisioning.connection_string_file` is missing"][..]),
        (format!("hostnmae = \"x\"\n{EDGE}"), &["hostnmae", "hostname"]),
        (EDGE.replace("DeviceId=d;", ""), &["`provisioning.connection_string`"]),
        (EDGE.replace("MDEy", "!!!!"), &["`provisioning.connection_string`"]),
        (EDGE.replace("trust.pem", "nowhere.pem"), &["`upstream.trust`", "nowhere.pem"]),
        (format!("{EDGE}[hub]\nplaintext_mqtt = [\"192.0.2.1:1883\"]"), &["`hub.plaintext_mqtt`", "127.0.0.0/8"]),
        (format!("{EDGE}[hub]\nconnections_max = 0"), &["`hub.connections_max` is 0"]),
        (format!("{EDGE}[store]\nbytes_max = 1"), &["`store.bytes_max` is 1"]),
        (format!("{EDGE}[process]\nfirst_uid = 0"), &["`process.first_uid`"]),
        (format!("{EDGE}[log]\nlevel = \"info,skerry_net=lots\""), &["log.level", "skerry_net=lots"]),
    ] {
        refuses("skerry-edge", &text, reasons);
    }
}

#[track_caller]
fn refuses(name: &str, text: &str, reasons: &[&str]) {
    let (code, told) = check_config(name, text);
    assert_eq!(code, Some(REFUSED), "{name} {text:?}: {told}");
    for reason in reasons {
        assert!(told.contains(reason), "{name} {text:?}: {told}");
    }
    assert!(told.lines().count() <= 8 && !told.contains("MDEy"), "{name} {text:?}: {told}");
}
