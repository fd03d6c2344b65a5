//! Taking over what is on disk, and ending what an earlier runtime may have left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skerry_model::ModuleName;
use skerry_module_runtime::Changes;

use super::{Module, ProcessRuntime, Shared, on_disk};
use crate::cgroup::Hierarchies;
use crate::config::ProcessConfig;
use crate::folder::{self, ModuleFolder};
use crate::procfs;
use crate::record::{self, Launch, Limits, Run};
use crate::users::Users;

/// How much longer than its grace a supervisor whose runtime has gone may take.
const SLACK: Duration = Duration::from_secs(5);
/// How often to look whether it has ended.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Longest wait for what was killed to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a process runtime cannot work.
#[derive(Debug)]
pub enum OpenError {
    /// Another runtime works on this folder.
    InUse(PathBuf),
    /// The folder cannot be used.
    Folder(PathBuf, io::Error),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InUse(folder) => write!(out, "another edge runs its modules from `{}`", folder.display()),
            Self::Folder(folder, _) => write!(out, "cannot run modules from `{}`", folder.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InUse(_) => None,
            Self::Folder(_, error) => Some(error),
        }
    }
}

impl ProcessRuntime {
    /// Opens the folder and waits until whatever an earlier runtime left running has ended, which is at most the grace it
    /// gave and some seconds. Control groups and users of their own are used when we are root.
    ///
    /// # Errors
    /// When the folder cannot be used, or is in use.
    pub async fn open(config: ProcessConfig) -> Result<Self, OpenError> {
        let path = config.folder.clone();
        on_disk(move || Ok(open(config))).await.unwrap_or_else(|error| Err(OpenError::Folder(path, error)))
    }
}

fn open(config: ProcessConfig) -> Result<ProcessRuntime, OpenError> {
    let path = config.folder.clone();
    let failed = |error| OpenError::Folder(path.clone(), error);
    let as_root = rustix::process::geteuid().is_root();
    let mode = if as_root { 0o711 } else { 0o700 };
    folder::make(&config.folder, mode).map_err(failed)?;
    let lock = take(&config.folder).map_err(failed)?.ok_or_else(|| OpenError::InUse(path.clone()))?;
    let modules_folder = config.folder.join("modules");
    folder::make(&modules_folder, mode).map_err(failed)?;
    let users = match &config.users {
        Some(range) if as_root => {
            Some(Mutex::new(Users::load(config.folder.join("users.json"), range.clone()).map_err(failed)?))
        }
        Some(_) | None => None,
    };
    let control_group = if as_root { usable_group(&config.control_group) } else { None };
    let modules = load(&modules_folder, config.grace).map_err(failed)?;
    if let Some(path) = &control_group {
        end_leftovers(path).map_err(failed)?;
    }
    Ok(ProcessRuntime(Arc::new(Shared {
        config,
        modules_folder,
        control_group,
        users,
        modules: Mutex::new(modules),
        changes: Changes::new(),
        _lock: lock,
    })))
}

fn take(folder: &Path) -> io::Result<Option<File>> {
    let lock = folder::lock_file(folder)?;
    Ok(folder::try_lock(&lock)?.then_some(lock))
}

/// The configured group, if groups can be made on this machine.
fn usable_group(path: &str) -> Option<String> {
    let made = Hierarchies::detect().and_then(|hierarchies| {
        let group = hierarchies.group(path);
        group.create(&Limits::default())?;
        if group.is_real() { Ok(()) } else { Err(io::Error::other("no hierarchy is mounted")) }
    });
    match made {
        Ok(()) => Some(path.to_owned()),
        Err(error) => {
            tracing::warn!(group = path, %error, "no control groups for process modules: limits hold for single processes");
            None
        }
    }
}

fn load(modules_folder: &Path, grace: Duration) -> io::Result<BTreeMap<ModuleName, Module>> {
    let mut modules = BTreeMap::new();
    for entry in fs::read_dir(modules_folder)? {
        let folder = ModuleFolder::new(entry?.path());
        let launch: Option<Launch> = record::read(&folder.launch()).unwrap_or_else(|error| {
            tracing::warn!(folder = %folder.path().display(), %error, "the record of a module cannot be read; removing it");
            None
        });
        let known = launch.and_then(|launch| Some((ModuleName::parse(&launch.name).ok()?, launch)));
        wait_for_supervisor(&folder, grace)?;
        let Some((name, launch)) = known else {
            fs::remove_dir_all(folder.path())?;
            continue;
        };
        let run = finished_run(&folder)?;
        modules.insert(name, Module::of(&launch, run));
    }
    Ok(modules)
}

/// Waits until the supervisor of an earlier runtime has done its work, and ends it if it does not.
fn wait_for_supervisor(folder: &ModuleFolder, grace: Duration) -> io::Result<()> {
    let lock = folder.lock_file()?;
    let mut deadline = Instant::now() + grace + SLACK;
    while !folder::try_lock(&lock)? {
        if deadline <= Instant::now() {
            // Whoever holds the lock wrote this number after taking it.
            let holder = fs::read_to_string(folder.path().join("lock"))?;
            if let Ok(supervisor) = holder.trim().parse() {
                procfs::kill(supervisor, || true);
            }
            deadline += KILL_TIMEOUT;
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
    Ok(())
}

/// The last run. One without an end was cut short together with its supervisor, by a power cut for example.
fn finished_run(folder: &ModuleFolder) -> io::Result<Option<Run>> {
    let run: Option<Run> = record::read(&folder.run()).unwrap_or_default();
    let Some(mut run) = run else { return Ok(None) };
    if run.finished_at.is_none() {
        super::start::note_lost(&mut run, "it ended together with its supervisor");
        record::write(&folder.run(), &run)?;
    }
    Ok(Some(run))
}

/// Ends what is in control groups of ours: processes whose supervisor was killed.
fn end_leftovers(path: &str) -> io::Result<()> {
    let hierarchies = Hierarchies::detect()?;
    for child in hierarchies.group(path).children() {
        let group = hierarchies.group(&format!("{path}/{child}"));
        let deadline = Instant::now() + KILL_TIMEOUT;
        while !group.remove() && Instant::now() < deadline {
            group.kill();
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
    }
    Ok(())
}
