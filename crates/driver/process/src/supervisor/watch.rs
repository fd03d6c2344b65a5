//! The loop of a supervisor: passes output on, hears requests to end the module, reaps, and ends what has to end.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitOptions, WaitStatus, kill_process_group, wait};
use skerry_model::Timestamp;
use skerry_module_runtime::LogStream;

use super::{Child, STOP, Signals, now, remove_group};
use crate::cgroup::Group;
use crate::ended;
use crate::output::OutputWriter;
use crate::procfs;
use crate::record::Launch;

/// How long after a kill to look for processes that escaped it by being born meanwhile.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How long what a stopping module leaves behind may take to end, after its first process has ended.
const STRAGGLER_GRACE: Duration = Duration::from_secs(2);
/// Most bytes of output taken at a time, so that a noisy module cannot keep us from hearing that it should end.
const READ_BYTES: usize = 8 * 1024;
/// Most bytes of a request.
const REQUEST_BYTES_MAX: usize = 64;

/// How the run ended.
pub(super) struct End {
    pub(super) exit_code: i32,
    pub(super) reason: Option<String>,
    /// Milliseconds since 1970.
    pub(super) at: i64,
    /// It was asked to end.
    pub(super) was_stopped: bool,
}

pub(super) struct Watch {
    child: Child,
    group: Option<Group>,
    signals: Signals,
    writer: OutputWriter,
    grace: Duration,
    control_open: bool,
    request: Vec<u8>,
    output_open: bool,
    error_open: bool,
    phase: Phase,
    status: Option<(WaitStatus, i64)>,
    was_stopped: bool,
}

enum Phase {
    Running,
    /// Was asked to end; what is left is ended at this moment.
    Ending(Instant),
    Killing,
}

/// What can be read without waiting.
#[derive(Default)]
struct Ready {
    control: bool,
    output: bool,
    error: bool,
    end_signal: bool,
}

impl Watch {
    pub(super) fn new(
        child: Child,
        launch: &Launch,
        group: Option<Group>,
        signals: Signals,
        writer: OutputWriter,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&child.output, true)?;
        rustix::io::ioctl_fionbio(&child.error, true)?;
        Ok(Self {
            child,
            group,
            signals,
            writer,
            grace: Duration::from_millis(launch.grace_millis),
            control_open: true,
            request: Vec::new(),
            output_open: true,
            error_open: true,
            phase: Phase::Running,
            status: None,
            was_stopped: false,
        })
    }

    /// Returns when no descendant is left, and everything written is on disk.
    pub(super) fn until_all_has_ended(mut self) -> End {
        while self.reap() {
            self.press();
            let ready = self.sleep();
            if ready.control {
                self.hear();
            }
            if ready.end_signal {
                drain(&self.signals.end);
                self.ask_to_end(self.grace);
            }
            if ready.output {
                self.read_output();
            }
            if ready.error {
                self.read_error();
            }
        }
        while self.output_open && self.read_output() {}
        while self.error_open && self.read_error() {}
        self.writer.finish(timestamp());
        let over_limit = self.group.as_ref().is_some_and(Group::ran_out_of_memory);
        remove_group(&self.group);
        match self.status {
            Some((status, at)) => {
                let (exit_code, reason) = ended::describe(status, over_limit);
                End { exit_code, reason, at, was_stopped: self.was_stopped }
            }
            None => {
                let reason = Some("it was lost from sight".to_owned());
                End { exit_code: -1, reason, at: now(), was_stopped: self.was_stopped }
            }
        }
    }

    /// Takes in all that has ended; `false` when nothing is left. Orphans of the module come to us, so this is exact.
    fn reap(&mut self) -> bool {
        drain(&self.signals.child);
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.child.pid => {
                    self.status = Some((status, now()));
                    self.phase = match self.phase {
                        // The module has ended; what it left behind ends with it.
                        Phase::Running | Phase::Killing => Phase::Killing,
                        Phase::Ending(deadline) => Phase::Ending(deadline.min(Instant::now() + STRAGGLER_GRACE)),
                    };
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Ends what should have ended by now.
    fn press(&mut self) {
        if let Phase::Ending(deadline) = self.phase
            && deadline <= Instant::now()
        {
            self.phase = Phase::Killing;
        }
        if matches!(self.phase, Phase::Killing) {
            if let Some(group) = &self.group {
                group.kill();
            }
            let us = std::process::id();
            for process in procfs::descendants(us) {
                procfs::kill(process, || procfs::descends(process, us));
            }
        }
    }

    fn sleep(&self) -> Ready {
        let mut ready = Ready::default();
        let mut fds: Vec<(BorrowedFd<'_>, &mut bool)> = Vec::with_capacity(5);
        let control = io::stdin();
        let mut child_signal = false;
        fds.push((self.signals.child.as_fd(), &mut child_signal));
        fds.push((self.signals.end.as_fd(), &mut ready.end_signal));
        if self.control_open {
            fds.push((control.as_fd(), &mut ready.control));
        }
        if self.output_open {
            fds.push((self.child.output.as_fd(), &mut ready.output));
        }
        if self.error_open {
            fds.push((self.child.error.as_fd(), &mut ready.error));
        }
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|(fd, _)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        // When interrupted by a signal nothing is ready, and the loop looks at everything anyway.
        if poll(&mut polled, self.timeout().as_ref()).is_ok() {
            for (polled, (_, ready)) in polled.iter().zip(fds) {
                *ready = !polled.revents().is_empty();
            }
        }
        ready
    }

    fn timeout(&self) -> Option<Timespec> {
        let timeout = match self.phase {
            Phase::Running => return None,
            Phase::Ending(deadline) => deadline.saturating_duration_since(Instant::now()),
            Phase::Killing => KILL_AGAIN_AFTER,
        };
        Timespec::try_from(timeout).ok()
    }

    /// Reads requests of the runtime: `stop <milliseconds>` lines. The end of the pipe is the end of the runtime.
    fn hear(&mut self) {
        let mut bytes = [0; REQUEST_BYTES_MAX];
        match rustix::io::read(io::stdin(), &mut bytes) {
            Ok(0) => {
                self.control_open = false;
                self.ask_to_end(self.grace);
            }
            Ok(read) => self.request.extend_from_slice(&bytes[..read]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => {
                self.control_open = false;
                self.ask_to_end(self.grace);
            }
        }
        while let Some(end) = self.request.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.request.drain(..=end).collect();
            if let Some(timeout) = parse_stop(&line) {
                self.ask_to_end(timeout);
            }
        }
        if self.request.len() > REQUEST_BYTES_MAX {
            self.request.clear();
        }
    }

    /// Asks the module to end within `timeout`. A later request can only make it shorter.
    fn ask_to_end(&mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        match self.phase {
            Phase::Running => {
                // Not reaped yet, so the number is still its own.
                let _ = kill_process_group(self.child.pid, Signal::TERM);
                self.was_stopped = true;
                self.phase = Phase::Ending(deadline);
            }
            Phase::Ending(earlier) => self.phase = Phase::Ending(earlier.min(deadline)),
            Phase::Killing => {}
        }
    }

    fn read_output(&mut self) -> bool {
        let more = pass_on(&mut self.child.output, LogStream::Output, &mut self.writer);
        self.output_open &= more != More::Never;
        more == More::Maybe
    }

    fn read_error(&mut self) -> bool {
        let more = pass_on(&mut self.child.error, LogStream::Error, &mut self.writer);
        self.error_open &= more != More::Never;
        more == More::Maybe
    }
}

#[derive(PartialEq, Eq)]
enum More {
    Maybe,
    NotNow,
    Never,
}

fn pass_on(pipe: &mut impl Read, stream: LogStream, writer: &mut OutputWriter) -> More {
    let mut bytes = [0; READ_BYTES];
    match pipe.read(&mut bytes) {
        Ok(0) => More::Never,
        Ok(read) => {
            writer.append(timestamp(), stream, &bytes[..read]);
            More::Maybe
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => More::Maybe,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => More::NotNow,
        Err(_) => More::Never,
    }
}

fn drain(mut signals: &std::os::unix::net::UnixStream) {
    let mut bytes = [0; 64];
    while signals.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
}

fn parse_stop(line: &[u8]) -> Option<Duration> {
    let line = std::str::from_utf8(line).ok()?;
    let millis = line.trim_end().strip_prefix(STOP)?.strip_prefix(' ')?;
    millis.parse().ok().map(Duration::from_millis)
}

fn timestamp() -> Timestamp {
    Timestamp::from_unix_millis(now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        assert_eq!(parse_stop(b"stop 1500\n"), Some(Duration::from_millis(1500)));
        for line in [&b"stop\n"[..], b"stop -1\n", b"stop 1 2\n", b"halt 1\n", b"\xff\n"] {
            assert_eq!(parse_stop(line), None);
        }
    }
}
