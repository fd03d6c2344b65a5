//! A program of the demo: what it says goes to a log and to whoever waits; its end is told; it is killed or asked to end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::run::Outcome;

/// Lines of a log that are shown after a failure.
const TAIL_LINES: usize = 25;

/// What happens while the demo runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// A program said a line.
    Said {
        /// Which.
        program: &'static str,
        /// Without its end.
        line: String,
    },
    /// A program ended; it is still to be waited for.
    Ended {
        /// Which.
        program: &'static str,
        /// Its process.
        id: u32,
    },
    /// Somebody asked us to stop.
    Interrupted,
}

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    followers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts `command` in a process group of its own, so that Ctrl-C in a terminal reaches us alone and we end things in order.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        logs: &Path,
        events: &Sender<Event>,
    ) -> Outcome<Program> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|cause| format!("cannot start {name}: {cause}"))?;
        let input = child.stdin.take();
        let mut program = Program { child, input, followers: Vec::new() };
        let path = log_path(logs, name);
        let open = || File::options().create(true).append(true).open(&path);
        let failed = |cause| format!("cannot write {}: {cause}", path.display());
        writeln!(open().map_err(failed)?, "--- started as process {}", program.child.id()).map_err(failed)?;
        if let Some(stream) = program.child.stdout.take() {
            program.followers.push(follow(name, stream, open().map_err(failed)?, events.clone()));
        }
        if let Some(stream) = program.child.stderr.take() {
            program.followers.push(follow(name, stream, open().map_err(failed)?, events.clone()));
        }
        watch(name, program.child.id(), events.clone());
        Ok(program)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it read the end of its input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill().map_err(|cause| format!("cannot kill process {}: {cause}", self.child.id()))?;
        self.reap().map(drop)
    }

    /// SIGTERM.
    pub(crate) fn ask_to_end(&self) {
        if let Some(pid) = pid(self.child.id()) {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// How it ended; to be asked after its end was told.
    pub(crate) fn reap(&mut self) -> Outcome<ExitStatus> {
        self.child.wait().map_err(|cause| format!("cannot wait for process {}: {cause}", self.child.id()))
    }

    /// Waits until all that it said is in the log; for a program that started no others.
    pub(crate) fn read_to_end(&mut self) {
        for follower in self.followers.drain(..) {
            // A follower only reads and writes lines.
            let _ = follower.join();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where nothing is left to be done.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

fn follow(
    program: &'static str,
    stream: impl Read + Send + 'static,
    mut log: File,
    events: Sender<Event>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut bytes = Vec::new();
        while let Ok(1..) = lines.read_until(b'\n', &mut bytes) {
            // A full disk is told by the programs themselves.
            let _ = log.write_all(&bytes);
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            let _ = events.send(Event::Said { program, line });
            bytes.clear();
        }
    })
}

/// Tells when the process has ended, and leaves it to be waited for, so that its number is not another's meanwhile.
fn watch(program: &'static str, id: u32, events: Sender<Event>) {
    thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Some(pid) = pid(id) {
            match waitid(WaitId::Pid(pid), options) {
                Err(rustix::io::Errno::INTR) => {}
                // An error says that somebody has waited for it already.
                Ok(_) | Err(_) => break,
            }
        }
        let _ = events.send(Event::Ended { program, id });
    });
}

fn log_path(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{name}.log"))
}

/// The last lines of a program's log.
pub(crate) fn tail(logs: &Path, name: &str) -> String {
    let path = log_path(logs, name);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    format!("--- last lines of {}:\n    {}", path.display(), lines[from..].join("\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn what_a_program_says_and_how_it_ends_is_told() {
        let logs = std::env::temp_dir().join(format!("xtask-program-{}", std::process::id()));
        fs::create_dir_all(&logs).unwrap();
        let (sender, events) = channel();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo hello; read word; exit 3"]);
        let mut program = Program::start("shell", &mut command, &logs, &sender).unwrap();
        assert!(matches!(events.recv().unwrap(), Event::Said { program: "shell", line } if line == "hello"));
        program.close_input();
        assert!(matches!(events.recv().unwrap(), Event::Ended { id, .. } if id == program.id()));
        assert_eq!(program.reap().unwrap().code(), Some(3));
        program.read_to_end();
        assert!(tail(&logs, "shell").ends_with("hello"));
        fs::remove_dir_all(&logs).unwrap();
    }
}
