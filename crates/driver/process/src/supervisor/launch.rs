//! From the supervisor to the module: a process that puts on everything a module has, and then becomes it.
//!
//! It is a program start of its own instead of code between `fork` and `exec`, where hardly anything is allowed.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::FdFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::{Child, LAUNCH, names, this_program};
use crate::cgroup::{Group, Hierarchies};
use crate::folder::ModuleFolder;
use crate::record::{self, Launch};

/// Why a module could not be started.
pub(super) struct LaunchError {
    /// Whether the spec is to blame.
    pub(super) refused: bool,
    pub(super) reason: String,
}

impl LaunchError {
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self { refused: false, reason: reason.into() }
    }

    fn refused(reason: impl Into<String>) -> Self {
        Self { refused: true, reason: reason.into() }
    }
}

impl From<io::Error> for LaunchError {
    fn from(error: io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<rustix::io::Errno> for LaunchError {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Starts the module and returns when its program runs, or why it does not.
pub(super) fn spawn() -> Result<Child, LaunchError> {
    let (mut verdict, verdict_writer) = io::pipe()?;
    let mut child = this_program(LAUNCH).stdin(Stdio::from(verdict_writer)).spawn()?;
    let mut text = String::new();
    verdict.read_to_string(&mut text)?;
    if let Some((word, reason)) = text.split_once(' ') {
        child.wait()?;
        return Err(LaunchError { refused: word == super::REFUSED, reason: reason.to_owned() });
    }
    let process = child.id();
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    match (pid, child.stdout.take(), child.stderr.take()) {
        (Some(pid), Some(output), Some(error)) => Ok(Child { process, pid, output, error }),
        _ => Err(LaunchError::failed("the started process has no number or no output")),
    }
}

/// Puts on what the module has and becomes it. Standard input is a pipe to the supervisor that closes by itself when that
/// worked.
pub(super) fn become_module(folder: &ModuleFolder) -> ExitCode {
    let verdict = match rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) {
        Ok(verdict) => verdict,
        Err(_) => return ExitCode::FAILURE,
    };
    let Err(error) = put_on_and_become(folder);
    let word = if error.refused { super::REFUSED } else { super::FAILED };
    let _ = fs::File::from(verdict).write_all(format!("{word} {}", error.reason).as_bytes());
    ExitCode::FAILURE
}

fn put_on_and_become(folder: &ModuleFolder) -> Result<std::convert::Infallible, LaunchError> {
    let launch: Launch = record::read(&folder.launch())?.ok_or_else(|| LaunchError::failed("no launch.json"))?;
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    close_on_exec()?;
    rustix::process::setsid()?;
    if let Some(path) = &launch.control_group {
        join(&Hierarchies::detect()?.group(path))?;
    }
    if launch.user.is_some()
        && let Err(error) = names::provide(folder, &launch.host_names)
    {
        // The module may live without; its log is where somebody looks who wonders.
        eprintln!("names of the platform do not resolve in this module: {error}");
    }
    limit(&launch)?;
    enter(&launch.working_directory)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if let Some(user) = launch.user {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    // Comes after the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut command = Command::new(&launch.command);
    command.args(&launch.args).env_clear().envs(launch.env.iter().map(|(name, value)| (name, value)));
    let error = command.exec();
    Err(LaunchError::refused(format!("cannot run `{}`: {error}", launch.command)))
}

fn join(group: &Group) -> io::Result<()> {
    group.doors().try_for_each(|door| fs::write(door, "0"))
}

fn enter(folder: &Path) -> Result<(), LaunchError> {
    std::env::set_current_dir(folder).map_err(|error| {
        LaunchError::refused(format!("cannot enter working directory `{}`: {error}", folder.display()))
    })
}

/// Limits of single processes. Those of the group stand in for the group's where there is no control group: for memory each
/// process has the whole limit, and the number of processes is limited only for a user of the module's own, because the
/// kernel counts by user.
fn limit(launch: &Launch) -> Result<(), LaunchError> {
    let limits = &launch.limits;
    set(Resource::Nofile, limits.open_files, "openFiles")?;
    if launch.control_group.is_none() {
        set(Resource::Data, limits.memory_bytes, "memoryBytes")?;
        if launch.user.is_some() {
            set(Resource::Nproc, limits.processes, "processes")?;
        }
    }
    Ok(())
}

fn set(resource: Resource, limit: Option<u64>, name: &str) -> Result<(), LaunchError> {
    if limit.is_none() {
        return Ok(());
    }
    rustix::process::setrlimit(resource, Rlimit { current: limit, maximum: limit })
        .map_err(|error| LaunchError::refused(format!("cannot set limit `{name}`: {}", io::Error::from(error))))
}

/// What whoever started the edge left open must not reach a module.
fn close_on_exec() -> io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        set_close_on_exec(number);
    }
    Ok(())
}

#[allow(unsafe_code, reason = "there is no owned handle for a descriptor that was inherited")]
fn set_close_on_exec(number: RawFd) {
    // SAFETY: the number is used for one system call, which fails without effect if it is not open (the folder that was
    // listed is closed by now), and which changes only a flag that all our own descriptors have already.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
}
