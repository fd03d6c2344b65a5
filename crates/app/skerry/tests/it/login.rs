//! Logging in, and what happens without.

use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect;

use crate::scripted::{KEY, Scripted, answer};
use crate::world::World;

#[test]
fn a_login_is_tried_saved_and_private() {
    let world = World::new(vec![answer(200, "{\"totalDeviceCount\":0}")]);
    expect![[r"
        logged in to `127.0.0.1` as `iothubowner`; saved in {home}/config/profiles/default.toml
    "]]
    .assert_eq(&world.out(&["login", "--hub-dir", "{home}/hub"]));
    expect![[r"
        GET /statistics/devices?api-version=2021-04-12
          token: policy iothubowner for 127.0.0.1
    "]]
    .assert_eq(&world.hub.seen());
    let mode = |name: &str| std::fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("config/profiles/default.toml"), mode("config/profiles")), (0o600, 0o700));
}

#[test]
fn a_login_that_the_hub_refuses_is_not_saved() {
    let refusal =
        r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;the token has a wrong signature","ExceptionMessage":""}"#;
    let world = World::new(vec![answer(401, refusal)]);
    let (code, said) = world.failure(&["login", "--hub-dir", "{home}/hub"]);
    assert_eq!(code, 4);
    expect![[r"
        error: hub `127.0.0.1` does not let policy `iothubowner` do this: the token has a wrong signature
    "]]
    .assert_eq(&said);
    assert!(!world.path("config/profiles/default.toml").exists());
}

#[test]
fn a_connection_string_can_come_from_standard_input_under_a_name() {
    let world = World::new(vec![answer(200, "{}"), answer(200, "[]")]);
    let text = format!("HostName=127.0.0.1:{};SharedAccessKeyName=service;SharedAccessKey={KEY}", world.hub.port);
    let login = ["--profile", "work", "login", "--connection-string", "-", "--ca", "{home}/hub/ca.pem"];
    let outcome = world.run_with_input(&login, &text);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    assert_eq!(world.failure(&["device", "list"]).0, 4);
    assert_eq!(world.out(&["--profile", "work", "device", "list", "--json"]), "[]\n");
}

#[test]
fn without_a_login_the_way_to_it_is_told() {
    let world = World::new(Vec::new());
    let (code, said) = world.failure(&["device", "list"]);
    assert_eq!((code, said.as_str()), (4, "error: not logged in to a hub; `skerry login --help` says how\n"));
    let (code, said) = world.failure(&["--profile", "work", "device", "list"]);
    let wanted = "error: no login is saved under the name `work`; `skerry --profile work login` saves one\n";
    assert_eq!((code, said.as_str()), (4, wanted));
}

#[test]
fn a_device_cannot_log_in() {
    let world = World::new(Vec::new());
    let text = format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}");
    let (code, said) = world.failure(&["login", "--connection-string", &text]);
    assert_eq!(code, 2);
    assert_eq!(said, "error: this is the connection string of a device or module, one of a hub policy is wanted\n");
}

#[test]
fn an_absent_hub_and_a_stranger_are_told_apart_from_a_refusal() {
    let world = World::logged_in(Vec::new());
    let stranger = Scripted::https(Vec::new());
    world.write("other", &format!("HostName=127.0.0.1:{};SharedAccessKeyName=p;SharedAccessKey={KEY}", stranger.port));
    let text = std::fs::read_to_string(world.path("other")).unwrap();
    let (code, said) = world.failure(&["login", "--connection-string", &text, "--ca", "{home}/hub/ca.pem"]);
    assert_eq!(code, 5);
    assert!(said.contains("cannot speak TLS with"), "{said}");
    let nobody = format!("HostName=127.0.0.1:1;SharedAccessKeyName=p;SharedAccessKey={KEY}");
    let (code, said) = world.failure(&["login", "--connection-string", &nobody, "--ca", "{home}/hub/ca.pem"]);
    assert_eq!(code, 5);
    assert!(said.contains("cannot connect to `127.0.0.1:1`"), "{said}");
}

#[test]
fn the_help_documents_exit_codes_and_every_shell_has_completions() {
    let world = World::new(Vec::new());
    let help = world.out(&["--help"]);
    assert!(help.contains("5  the hub or edge cannot be reached"), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.out(&["completions", shell]).contains("connection-string"), "{shell}");
    }
    assert_eq!(world.failure(&["device", "create", "a b"]).0, 2);
    assert_eq!(world.failure(&[]).0, 2);
}
