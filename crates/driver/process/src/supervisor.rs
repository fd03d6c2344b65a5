//! The supervisor: a process between the runtime and one run of a module. No async runtime, one loop that sleeps in `poll`.

mod launch;
mod names;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, set_child_subreaper};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::cgroup::{Group, Hierarchies};
use crate::folder::ModuleFolder;
use crate::output::OutputWriter;
use crate::record::{self, Launch, Run};
use launch::LaunchError;

/// Second argument of the process that becomes the module.
const LAUNCH: &str = "launch";
/// First word of what a supervisor tells about a start that worked.
pub(crate) const STARTED: &str = "started";
/// First word when the spec is to blame for a start that did not.
pub(crate) const REFUSED: &str = "refused";
/// First word when something else is.
pub(crate) const FAILED: &str = "failed";
/// What the runtime writes, before a number of milliseconds, to have the module ended.
pub(crate) const STOP: &str = "stop";

/// The whole life of a supervisor. A program that uses a [`ProcessRuntime`](crate::ProcessRuntime) must call this, before it
/// does anything else and with nothing started, when its first arguments are those of `ProcessConfig::supervisor`;
/// `args` are the arguments that follow them.
pub fn supervisor_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let Some(folder) = args.next().map(PathBuf::from) else {
        eprintln!("this is for the edge program itself, not for people");
        return ExitCode::from(2);
    };
    let folder = ModuleFolder::new(folder);
    if args.next().is_some_and(|word| word == LAUNCH) {
        return launch::become_module(&folder);
    }
    match supervise(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let word = if error.refused { REFUSED } else { FAILED };
            tell(&format!("{word} {}", error.reason));
            ExitCode::FAILURE
        }
    }
}

/// A line to the runtime. When it has gone, the control pipe says so.
fn tell(line: &str) {
    let _ = writeln!(io::stdout(), "{}", line.replace('\n', " "));
}

fn supervise(folder: &ModuleFolder) -> Result<(), LaunchError> {
    let _lock = take_lock(folder)?;
    let launch: Launch = record::read(&folder.launch())?.ok_or_else(|| LaunchError::failed("no launch.json"))?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let group = make_group(&launch)?;
    let signals = Signals::listen()?;
    let child = launch::spawn().inspect_err(|_| remove_group(&group))?;
    let mut run = Run { started_at: now(), process: child.process, ..Run::default() };
    record::write(&folder.run(), &run)?;
    tell(STARTED);
    let writer = OutputWriter::open(folder.output(), launch.output_bytes_max);
    let watch = watch::Watch::new(child, &launch, group, signals, writer)?;
    let end = watch.until_all_has_ended();
    (run.exit_code, run.reason, run.finished_at) = (Some(end.exit_code), end.reason, Some(end.at));
    run.was_stopped = end.was_stopped;
    record::write(&folder.run(), &run)?;
    Ok(())
}

/// The lock is held until this process is gone; a supervisor of a run before may still be ending it.
fn take_lock(folder: &ModuleFolder) -> Result<File, LaunchError> {
    let mut file = folder.lock_file()?;
    flock(&file, FlockOperation::LockExclusive)?;
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

fn make_group(launch: &Launch) -> Result<Option<Group>, LaunchError> {
    let Some(path) = &launch.control_group else { return Ok(None) };
    let group = Some(Hierarchies::detect()?.group(path));
    // What a run whose supervisor was killed may have left.
    remove_group(&group);
    if let Some(group) = &group {
        group.create(&launch.limits)?;
    }
    Ok(group)
}

/// The kernel takes a moment to let go of a group whose last process has ended.
fn remove_group(group: &Option<Group>) {
    let Some(group) = group else { return };
    for _ in 0..50 {
        if group.remove() {
            return;
        }
        group.kill();
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The module's first process, and the ends of what it writes to.
struct Child {
    process: u32,
    pid: Pid,
    output: std::process::ChildStdout,
    error: std::process::ChildStderr,
}

/// Signals as something to poll.
struct Signals {
    child: UnixStream,
    end: UnixStream,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (child, child_writer) = UnixStream::pair()?;
        let (end, end_writer) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGCHLD, child_writer)?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, end_writer.try_clone()?)?;
        }
        child.set_nonblocking(true)?;
        end.set_nonblocking(true)?;
        Ok(Self { child, end })
    }
}

/// The same program once more, with one argument more than we were started with.
fn this_program(argument: &str) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).arg(argument).env_clear();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
