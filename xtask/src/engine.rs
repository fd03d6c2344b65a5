//! A Docker Engine for the container tests: the one that runs, or one started for the time of the run.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::Outcome;
use crate::workspace::Workspace;

const SOCKET: &str = "/var/run/docker.sock";
/// Short, because the paths of sockets below it may have no more than 107 bytes.
const RUN_FOLDER: &str = "/run/skerry-test-docker";
const START_WAIT: Duration = Duration::from_secs(60);
const STOP_WAIT: Duration = Duration::from_secs(30);

/// Ends the engine on drop if we started it.
pub(crate) struct Engine {
    ours: Option<Child>,
}

impl Engine {
    pub(crate) fn ensure(workspace: &Workspace) -> Outcome<Engine> {
        if answers(Path::new(SOCKET)) {
            println!("a Docker Engine already answers at {SOCKET}");
            return Ok(Engine { ours: None });
        }
        let log = workspace.tools().join("dockerd.log");
        let child = start(&workspace.tools().join("docker"), &log)?;
        println!("started a Docker Engine (log: {})", log.display());
        let mut engine = Engine { ours: Some(child) };
        engine.wait_until_ready(&log)?;
        Ok(engine)
    }

    fn wait_until_ready(&mut self, log: &Path) -> Outcome {
        let started = Instant::now();
        while !answers(Path::new(SOCKET)) {
            let ended = self.ours.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || START_WAIT < started.elapsed() {
                let what = ended.map_or_else(
                    || format!("gave no answer in {START_WAIT:?}"),
                    |status| format!("ended with {status}"),
                );
                return Err(format!("dockerd {what}; the end of its log:\n    {}", tail(log)));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(mut child) = self.ours.take() else { return };
        // The engine ends its containers and containerd on SIGTERM; a killed one would leave them behind.
        let asked = Command::new("kill").arg(child.id().to_string()).status().is_ok_and(|status| status.success());
        let started = Instant::now();
        while asked && started.elapsed() < STOP_WAIT {
            if let Ok(Some(_)) = child.try_wait() {
                println!("stopped the Docker Engine");
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("the Docker Engine did not stop in {STOP_WAIT:?}; killing it");
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn start(images: &Path, log: &Path) -> Outcome<Child> {
    fs::create_dir_all(images).map_err(|cause| format!("cannot create {}: {cause}", images.display()))?;
    let file = fs::File::create(log).map_err(|cause| format!("cannot create {}: {cause}", log.display()))?;
    let copy = file.try_clone().map_err(|cause| format!("cannot open {} twice: {cause}", log.display()))?;
    let run: PathBuf = RUN_FOLDER.into();
    Command::new("dockerd")
        .arg("--data-root")
        .arg(images)
        .arg("--exec-root")
        .arg(&run)
        .arg("--pidfile")
        .arg(run.with_extension("pid"))
        .args(["--host", &format!("unix://{SOCKET}")])
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .map_err(|cause| format!("cannot start dockerd: {cause}"))
}

/// Whether an engine answers `GET /_ping` at the socket.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n    ")
}
