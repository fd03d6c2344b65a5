//! Starting a module, and seeing it end.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use skerry_model::{ModuleName, Timestamp};
use skerry_module_runtime::{Problem, RuntimeError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use super::{Live, ProcessRuntime, on_disk};
use crate::cgroup::Hierarchies;
use crate::folder::ModuleFolder;
use crate::procfs;
use crate::record::{self, Launch, Run};
use crate::supervisor::{REFUSED, STARTED};

/// How long a supervisor may take to start a program, beside the end of an earlier run.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Exit code of a module whose supervisor was killed: it is killed with it.
const KILLED: i32 = 137;

impl ProcessRuntime {
    pub(super) async fn start_module(&self, module: &ModuleName) -> Result<(), RuntimeError> {
        let attempt = format!("cannot start module `{module}`");
        if self.live(&attempt, module)?.is_some() {
            return Ok(());
        }
        let folder = self.folder(module);
        let failed = |error: io::Error| RuntimeError::new(Problem::Failed, attempt.clone(), error.to_string());
        let (control_end, control) = io::pipe().map_err(failed)?;
        let mut child = self.supervisor(&folder, Stdio::from(control_end)).map_err(failed)?;
        let supervisor = child.id().ok_or_else(|| failed(io::Error::other("the supervisor has no process number")))?;
        let _starting = Starting::note(self, module, supervisor);
        let verdict = first_line(child.stdout.take());
        let patience = START_TIMEOUT + self.0.config.grace;
        let verdict =
            tokio::time::timeout(patience, verdict).await.map_err(io::Error::from).flatten().map_err(failed)?;
        if verdict != STARTED {
            return Err(refusal(attempt, &verdict));
        }
        let run = folder.run();
        let run: Option<Run> = on_disk(move || record::read(&run)).await.map_err(failed)?;
        let (ended_sender, ended) = watch::channel(false);
        let live = Live { control: Arc::new(control), supervisor, ended };
        if let Some(module) = self.modules().get_mut(module) {
            (module.run, module.live) = (run, Some(live));
        }
        // Does not keep the runtime alive: when that is dropped, the modules end.
        let runtime = Arc::downgrade(&self.0);
        let module = module.clone();
        tokio::spawn(async move {
            let run = until_ended(&folder, child).await;
            if let Some(shared) = runtime.upgrade() {
                let runtime = ProcessRuntime(shared);
                if let Some(module) = runtime.modules().get_mut(&module) {
                    (module.run, module.live) = (run, None);
                }
                runtime.0.changes.announce();
            }
            ended_sender.send_replace(true);
        });
        self.0.changes.announce();
        Ok(())
    }

    fn supervisor(&self, folder: &ModuleFolder, control: Stdio) -> io::Result<Child> {
        let mut words = self.0.config.supervisor.iter();
        let program = words.next().ok_or_else(|| io::Error::other("no supervisor is configured"))?;
        let mut command = Command::new(program);
        command.args(words).arg(folder.path()).env_clear().current_dir("/");
        // A group of its own, so that an interrupt typed at a terminal reaches only us and modules are ended in order.
        command.process_group(0).stdin(control).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn()
    }
}

/// Remembers the supervisor of a start that is under way, until it is no more.
struct Starting<'a> {
    runtime: &'a ProcessRuntime,
    module: &'a ModuleName,
}

impl<'a> Starting<'a> {
    fn note(runtime: &'a ProcessRuntime, module: &'a ModuleName, supervisor: u32) -> Self {
        let starting = Self { runtime, module };
        starting.set(Some(supervisor));
        starting
    }

    fn set(&self, supervisor: Option<u32>) {
        if let Some(module) = self.runtime.modules().get_mut(self.module) {
            module.starting = supervisor;
        }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        // The number is another process's some day.
        self.set(None);
    }
}

async fn first_line(output: Option<ChildStdout>) -> io::Result<String> {
    let output = output.ok_or_else(|| io::Error::other("the supervisor has no output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

fn refusal(attempt: String, verdict: &str) -> RuntimeError {
    match verdict.split_once(' ') {
        Some((REFUSED, reason)) => RuntimeError::new(Problem::SpecRefused, attempt, reason.to_owned()),
        Some((_, reason)) => RuntimeError::new(Problem::Failed, attempt, reason.to_owned()),
        None => RuntimeError::new(Problem::Failed, attempt, "the supervisor ended before it started the program"),
    }
}

/// The run as it was when the supervisor has ended.
async fn until_ended(folder: &ModuleFolder, mut supervisor: Child) -> Option<Run> {
    if let Err(error) = supervisor.wait().await {
        tracing::error!(folder = %folder.path().display(), %error, "lost sight of a supervisor");
    }
    let folder = folder.clone();
    on_disk(move || finish(&folder)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the end of a module could not be read");
        None
    })
}

/// Reads the run, and cleans up behind a supervisor that could not.
fn finish(folder: &ModuleFolder) -> io::Result<Option<Run>> {
    let Some(mut run) = record::read::<Run>(&folder.run())? else { return Ok(None) };
    if run.finished_at.is_none() {
        // The first process was ended by the kernel together with the supervisor.
        procfs::kill_session(run.process);
        if let Some(path) = record::read::<Launch>(&folder.launch())?.and_then(|launch| launch.control_group) {
            Hierarchies::detect()?.group(&path).kill();
        }
        run.exit_code = Some(KILLED);
        note_lost(&mut run, "its supervisor was killed");
        record::write(&folder.run(), &run)?;
    }
    Ok(Some(run))
}

/// Notes an end that nobody saw.
pub(super) fn note_lost(run: &mut Run, reason: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::default().plus(now).unix_millis();
    run.finished_at = Some(now.max(run.started_at));
    run.reason = Some(reason.to_owned());
}
