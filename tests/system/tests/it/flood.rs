//! Ten thousand strangers that say nothing: the edge stays small, lets its own clients in, and is rid of them after a minute.

use std::process::Command;
use std::time::{Duration, Instant};

use skerry_testkit::{Program, eventually};

use crate::peer::Heard;
use crate::site::{At, Site, text};

const CONNECTIONS: u64 = 10_000;
const WITH_TLS: u64 = 500;
const RESIDENT_MAX_KIB: u64 = 60 * 1_024;
/// Longest time a connection may say nothing, and what it may take to close so many of them on a small machine.
const SILENCE: Duration = Duration::from_secs(60);
const SLACK: Duration = Duration::from_secs(5);

/// One part of a test in `silence.rs`.
pub(crate) fn ten_thousand_silent_connections_cost_little_and_end() {
    let mut site = Site::start(At::Edge);
    let login = site.device("dev-1");
    let server = site.server();
    // The edge knows the device from before; asking the hub is not what is measured.
    drop(server.login(&login));
    let ca_file = site.edge().ca_file();
    let mut command = Command::new(env!("CARGO_BIN_EXE_crowd"));
    command.args([&server.address().to_string(), text(&ca_file), &CONNECTIONS.to_string(), &WITH_TLS.to_string()]);
    let begun = Instant::now();
    let crowd = Program::start("crowd", &mut command);
    crowd.wait_for("open");
    let opened = begun.elapsed();
    let edge = site.edge().program().id();

    let knocked = Instant::now();
    let mut peer = server.login(&login);
    let let_in = knocked.elapsed();
    peer.publish(1, &format!("{}/messages/events/", login.topics()), b"through the crowd");
    assert_eq!(peer.hear(), Heard::PubAck(1));
    let resident = Resident::of(edge);
    let files = open_files(edge);
    // All of them at the same time, or the test says nothing.
    assert!(opened < SILENCE, "opening took {opened:?}, so that the first were gone before the last came");
    assert!(CONNECTIONS <= files, "only {files} files are open");
    eprintln!("{CONNECTIONS} connections: {resident:?}, a client in after {let_in:?}");
    assert!(resident.as_shipped() <= RESIDENT_MAX_KIB, "{resident:?}");
    assert!(let_in < Duration::from_secs(2), "let in only after {let_in:?}");

    let ended = crowd.wait_for("closed after");
    let last: u64 = ended.rsplit(' ').next().and_then(|text| text.parse().ok()).unwrap();
    assert!(Duration::from_millis(last) < SILENCE + SLACK, "{ended}");
    let refused = eventually("all are on the list", || {
        let connections = site.connections();
        let list = connections["refused"].as_array()?.clone();
        list.into_iter().find(|entry| entry["count"] == CONNECTIONS)
    });
    assert_eq!((&refused["claimed"], &refused["peer"]), (&"".into(), &"127.0.0.1".into()));
    let lines = site.logged("refused peer=", "");
    assert!((1..=4).contains(&lines.len()), "{lines:?}");
    assert!(open_files(edge) < 200, "{} files are still open", open_files(edge));
    peer.publish(2, &format!("{}/messages/events/", login.topics()), b"still here");
    assert_eq!(peer.hear(), Heard::PubAck(2));
}

/// What a process has in memory, in KiB.
#[derive(Debug)]
struct Resident {
    /// Its own data.
    own: u64,
    /// Pages of its program file and libraries.
    program: u64,
}

impl Resident {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let value = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Self { own: value("RssAnon:") + value("RssShmem:"), program: value("RssFile:") }
    }

    /// As it would be with the program that ships, which is at most so large; one with debug information is larger.
    fn as_shipped(&self) -> u64 {
        const PROGRAM_MAX: u64 = 15 * 1_024;
        self.own + self.program.min(PROGRAM_MAX)
    }
}

fn open_files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}
