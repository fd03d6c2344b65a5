//! A program under test: started, listened to, stopped or killed, and gone when the test ends.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;
use crate::output::{Output, Silence, Stream};

/// A running program. When dropped it is killed, and its output printed if the test is failing.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Option<Child>,
    input: Option<ChildStdin>,
    output: Output,
    followers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts it with its input and output in our hands. `name` is for people.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command) -> Program {
        let mut program = Program {
            name: name.to_owned(),
            child: None,
            input: None,
            output: Output::default(),
            followers: Vec::new(),
        };
        program.launch(command);
        program
    }

    /// Starts it again after it ended; what it said before stays in the report.
    #[track_caller]
    pub fn start_again(&mut self, command: &mut Command) {
        assert!(self.child.is_none(), "{} still runs", self.name);
        self.launch(command);
    }

    #[track_caller]
    fn launch(&mut self, command: &mut Command) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|cause| panic!("cannot start {}: {cause}", self.name));
        self.input = child.stdin.take();
        self.followers.extend(child.stdout.take().map(|stream| self.output.follow(Stream::Out, stream)));
        self.followers.extend(child.stderr.take().map(|stream| self.output.follow(Stream::Err, stream)));
        self.child = Some(child);
    }

    /// The process id.
    #[track_caller]
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).id()
    }

    /// Waits until a line on either stream holds `text`, looking at everything said since the start.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_from(0, text)
    }

    /// Waits until a line holds `text` that comes after the first `from` lines; see [`Program::lines_so_far`].
    #[track_caller]
    pub fn wait_for_from(&self, from: usize, text: &str) -> String {
        self.wait(from, &format!("a line with `{text}`"), |_, line| line.contains(text).then(|| line.to_owned())).0
    }

    /// All lines said so far that hold `text`.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.output.lines_with(text)
    }

    /// How many lines it said so far: a mark for [`Program::wait_for_from`].
    pub fn lines_so_far(&self) -> usize {
        self.output.length()
    }

    /// Everything it says.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    #[track_caller]
    pub(crate) fn wait<T>(&self, from: usize, what: &str, wanted: impl FnMut(Stream, &str) -> Option<T>) -> (T, usize) {
        match self.output.wait(from, PATIENCE, wanted) {
            Ok(found) => found,
            Err(Silence::Late) => panic!("{} did not say {what} within {PATIENCE:?}", self.name),
            Err(Silence::Ended) => panic!("{} ended without {what}", self.name),
        }
    }

    /// Writes a line to its standard input.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let name = &self.name;
        let input = self.input.as_mut().unwrap_or_else(|| panic!("{name} takes no input any more"));
        writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .unwrap_or_else(|cause| panic!("{name} does not listen: {cause}"));
    }

    /// SIGKILL, as a power cut would; returns when it is gone.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end();
    }

    /// SIGTERM, then its exit status.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end()
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let pid = pid.unwrap_or_else(|| panic!("{} has an impossible process id", self.name));
        // It may have ended by itself a moment ago; then waiting tells how.
        let _ = kill_process(pid, signal);
    }

    /// Closes its input and waits for it to end.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.input = None;
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        let pid = child.id();
        let (tell, told) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let _ = tell.send(child.wait());
        });
        let Ok(status) = told.recv_timeout(PATIENCE) else {
            let _ = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
            panic!("{} did not end within {PATIENCE:?}", self.name);
        };
        let _ = waiter.join();
        // What it said last is there before anybody looks; grandchildren may hold the streams open, so not for ever.
        for follower in self.followers.drain(..) {
            wait_briefly(&follower);
        }
        status.unwrap_or_else(|cause| panic!("cannot wait for {}: {cause}", self.name))
    }
}

/// Gives a reader thread a moment to see the end of its stream.
fn wait_briefly(follower: &JoinHandle<()>) {
    for _ in 0..200 {
        if follower.is_finished() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("{}", self.output.report(&self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_heard_spoken_to_and_waited_for() {
        let mut program = Program::start("echo", &mut shell("echo ready; read line; echo \"got $line\" >&2; exit 3"));
        program.wait_for("ready");
        program.say("hello");
        assert_eq!(program.wait_for("got"), "got hello");
        assert_eq!(program.wait_for_end().code(), Some(3));
    }

    #[test]
    fn a_program_is_stopped_killed_and_started_again() {
        let mut program = Program::start("stubborn", &mut shell("echo first; sleep 1000"));
        program.wait_for("first");
        assert!(!program.stop().success());
        let mark = program.lines_so_far();
        program.start_again(&mut shell("trap '' TERM; echo first; while :; do sleep 1; done"));
        program.wait_for_from(mark, "first");
        program.kill();
    }

    #[test]
    #[should_panic(expected = "short ended without a line with `ready`")]
    fn a_program_that_ends_early_fails_the_test_at_once() {
        Program::start("short", &mut shell("echo other")).wait_for("ready");
    }
}
