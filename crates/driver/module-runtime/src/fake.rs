//! A runtime that runs nothing: modules live in memory and do what a test tells them. For tests of whoever uses the port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skerry_model::manifest::{Artifact, RegistryCredential};
use skerry_model::{ModuleName, ModuleSpec, Timestamp};

use crate::{
    Act, Binding, Changes, Events, LogLine, LogLines, LogRange, LogStream, ModuleRuntime, ModuleState, Network,
    ObservedModule, Problem, Running, RuntimeError, STOP_TIMEOUT,
};

/// Exit code of a module that had to be ended: 128 plus the number of SIGKILL.
const ENDED_BY_FORCE: i64 = 137;

/// A call that was made to a [`FakeRuntime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `prepare`, with what names the artifact and the user of the credential.
    Prepare(String, Option<String>),
    /// `create`.
    Create(ModuleName),
    /// `start`.
    Start(ModuleName),
    /// `stop`.
    Stop(ModuleName, Option<Duration>),
    /// `remove`.
    Remove(ModuleName),
}

/// Runs modules in memory. Clones are the same runtime.
#[derive(Debug, Clone)]
pub struct FakeRuntime {
    kind: &'static str,
    state: Arc<Mutex<State>>,
    changes: Changes,
}

#[derive(Debug, Default)]
struct State {
    now: Timestamp,
    modules: BTreeMap<ModuleName, Fake>,
    acts: BTreeMap<ModuleName, Act>,
    missing: Vec<String>,
    away: Option<String>,
    failures: Vec<(Call, RuntimeError)>,
    calls: Vec<Call>,
    last_process: u32,
}

#[derive(Debug)]
struct Fake {
    observed: ObservedModule,
    spec: ModuleSpec,
    binding: Binding,
    lines: Vec<LogLine>,
}

impl FakeRuntime {
    /// An empty runtime for artifacts of `kind` (`docker` or `process`). Its clock stands still at 1970 until
    /// [`set_now`](Self::set_now).
    pub fn new(kind: &'static str) -> Self {
        Self { kind, state: Arc::default(), changes: Changes::new() }
    }

    /// Sets the clock that start and end times come from.
    pub fn set_now(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// What the module `module` does from its next start on; without this it runs until it is stopped.
    pub fn set_act(&self, module: &ModuleName, act: Act) {
        self.state().acts.insert(module.clone(), act);
    }

    /// Takes the image or program of that name away: preparing and creating fail until [`provide`](Self::provide).
    pub fn take_away(&self, artifact: &str) {
        self.state().missing.push(artifact.to_owned());
    }

    /// Gives an artifact back.
    pub fn provide(&self, artifact: &str) {
        self.state().missing.retain(|missing| missing != artifact);
    }

    /// Makes the runtime unreachable for `Some(reason)`, reachable for `None`.
    pub fn set_away(&self, reason: Option<&str>) {
        self.state().away = reason.map(str::to_owned);
        self.changes.announce();
    }

    /// Lets the next call that equals `call` fail with `error`.
    pub fn fail_once(&self, call: Call, error: RuntimeError) {
        self.state().failures.push((call, error));
    }

    /// Ends a running module as if by itself, with `exit_code`.
    pub fn end(&self, module: &ModuleName, exit_code: i64) {
        let mut state = self.state();
        let now = state.now;
        if let Some(fake) = state.modules.get_mut(module) {
            fake.end(now, exit_code);
        }
        drop(state);
        self.changes.announce();
    }

    /// Puts a module into `state`, for what cannot be reached by calls (dead, held, unknown).
    pub fn set_state(&self, module: &ModuleName, state: ModuleState) {
        if let Some(fake) = self.state().modules.get_mut(module) {
            fake.observed.state = state;
        }
        self.changes.announce();
    }

    /// All calls that change something, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// What the module was bound to when it was created.
    pub fn binding(&self, module: &ModuleName) -> Option<Binding> {
        self.state().modules.get(module).map(|fake| fake.binding.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call, and lets it fail if a test wants that.
    fn begin(&self, attempt: &str, call: Call) -> Result<MutexGuard<'_, State>, RuntimeError> {
        let mut state = self.state();
        state.calls.push(call.clone());
        state.reachable(attempt)?;
        if let Some(at) = state.failures.iter().position(|(failing, _)| *failing == call) {
            return Err(state.failures.remove(at).1);
        }
        Ok(state)
    }

    fn create_now(&self, spec: &ModuleSpec, binding: &Binding) -> Result<(), RuntimeError> {
        let attempt = format!("cannot create module `{}`", spec.name);
        let mut state = self.begin(&attempt, Call::Create(spec.name.clone()))?;
        self.check_artifact(&state, &attempt, &spec.artifact)?;
        if state.modules.contains_key(&spec.name) {
            return Err(RuntimeError::new(Problem::NameTaken, attempt, "it exists"));
        }
        let observed = ObservedModule {
            spec_digest: Some(spec.digest()),
            generation: Some(binding.generation.clone()),
            ..ObservedModule::created(spec.name.clone())
        };
        let fake = Fake { observed, spec: spec.clone(), binding: binding.clone(), lines: Vec::new() };
        state.modules.insert(spec.name.clone(), fake);
        Ok(())
    }

    fn check_artifact(&self, state: &State, attempt: &str, artifact: &Artifact) -> Result<(), RuntimeError> {
        if artifact.kind() != self.kind {
            let reason = format!("type `{}` is not run here", artifact.kind());
            return Err(RuntimeError::new(Problem::SpecRefused, attempt.to_owned(), reason));
        }
        let name = artifact_name(artifact);
        if state.missing.contains(&name) {
            return Err(RuntimeError::new(Problem::ArtifactNotFound, attempt.to_owned(), format!("no `{name}`")));
        }
        Ok(())
    }

    fn start_now(&self, module: &ModuleName) -> Result<(), RuntimeError> {
        let attempt = format!("cannot start module `{module}`");
        let mut guard = self.begin(&attempt, Call::Start(module.clone()))?;
        let state = &mut *guard;
        let fake = state.modules.get_mut(module).ok_or_else(|| RuntimeError::no_such_module(attempt, module))?;
        if fake.observed.state == ModuleState::Running {
            return Ok(());
        }
        state.last_process += 1;
        fake.observed.state = ModuleState::Running;
        fake.observed.exit_code = None;
        fake.observed.was_stopped = false;
        fake.observed.started_at = Some(state.now);
        // Beyond the largest number Linux gives to a process, so that it is nobody's.
        fake.observed.process_id = Some(0x0100_0000 + state.last_process);
        fake.act(state.now, state.acts.get(module).unwrap_or(&Act::RunsUntilStopped));
        drop(guard);
        self.changes.announce();
        Ok(())
    }

    async fn stop_in(&self, module: &ModuleName, timeout: Option<Duration>) -> Result<(), RuntimeError> {
        let attempt = format!("cannot stop module `{module}`");
        let call = Call::Stop(module.clone(), timeout);
        let ignores = {
            let mut state = self.begin(&attempt, call)?;
            let fake = state.modules.get_mut(module).ok_or_else(|| RuntimeError::no_such_module(attempt, module))?;
            if fake.observed.state != ModuleState::Running {
                return Ok(());
            }
            fake.observed.was_stopped = true;
            state.acts.get(module) == Some(&Act::IgnoresStop)
        };
        if ignores {
            tokio::time::sleep(timeout.unwrap_or(STOP_TIMEOUT)).await;
        }
        self.end(module, if ignores { ENDED_BY_FORCE } else { 0 });
        Ok(())
    }
}

impl State {
    fn reachable(&self, attempt: &str) -> Result<(), RuntimeError> {
        match &self.away {
            Some(reason) => Err(RuntimeError::new(Problem::Unavailable, attempt.to_owned(), reason.clone())),
            None => Ok(()),
        }
    }
}

impl Fake {
    fn act(&mut self, now: Timestamp, act: &Act) {
        match act {
            Act::RunsUntilStopped => {}
            Act::IgnoresStop => self.print(now, LogStream::Output, "ready".to_owned()),
            Act::Exits(code) => self.end(now, i64::from(*code)),
            Act::Prints(lines) => {
                for line in lines {
                    self.print(now, LogStream::Output, line.clone());
                }
                self.print(now, LogStream::Error, "done".to_owned());
            }
            Act::PrintsEnv(name) => {
                let bound = self.binding.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
                let value = bound.or_else(|| self.spec.env.get(name)).cloned().unwrap_or_default();
                self.print(now, LogStream::Output, value);
                self.end(now, 0);
            }
            Act::PrintsFile(path) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                for line in text.lines() {
                    self.print(now, LogStream::Output, line.to_owned());
                }
                self.end(now, 0);
            }
        }
    }

    fn print(&mut self, now: Timestamp, stream: LogStream, text: String) {
        self.lines.push(LogLine { stream, at: Some(now), text: Bytes::from(text) });
    }

    fn end(&mut self, now: Timestamp, exit_code: i64) {
        if self.observed.state == ModuleState::Running {
            self.observed.state = ModuleState::Exited;
            self.observed.exit_code = Some(exit_code);
            self.observed.finished_at = Some(now);
            self.observed.process_id = None;
        }
    }

    fn lines_in(&self, range: &LogRange) -> Vec<LogLine> {
        let wanted = self.lines.iter().filter(|line| {
            range.since.is_none_or(|since| line.at >= Some(since))
                && range.until.is_none_or(|until| line.at < Some(until))
        });
        let wanted: Vec<LogLine> = wanted.cloned().collect();
        let skipped = range.tail.map_or(0, |tail| wanted.len().saturating_sub(tail));
        wanted.into_iter().skip(skipped).collect()
    }
}

fn artifact_name(artifact: &Artifact) -> String {
    match artifact {
        Artifact::Image(image) => image.image.clone(),
        Artifact::Process(process) => process.command.clone(),
    }
}

impl ModuleRuntime for FakeRuntime {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn observe(&self) -> Running<'_, Vec<ObservedModule>> {
        Box::pin(async {
            let state = self.state();
            state.reachable("cannot list modules")?;
            Ok(state.modules.values().map(|fake| fake.observed.clone()).collect())
        })
    }

    fn events(&self) -> Events {
        self.changes.listen()
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact, credential: Option<&'a RegistryCredential>) -> Running<'a, ()> {
        Box::pin(async move {
            let name = artifact_name(artifact);
            let attempt = format!("cannot prepare `{name}`");
            let call = Call::Prepare(name, credential.map(|credential| credential.username.clone()));
            let state = self.begin(&attempt, call)?;
            self.check_artifact(&state, &attempt, artifact)
        })
    }

    fn create<'a>(&'a self, spec: &'a ModuleSpec, binding: &'a Binding) -> Running<'a, ()> {
        Box::pin(async move { self.create_now(spec, binding) })
    }

    fn start<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()> {
        Box::pin(async move { self.start_now(module) })
    }

    fn stop<'a>(&'a self, module: &'a ModuleName, timeout: Option<Duration>) -> Running<'a, ()> {
        Box::pin(self.stop_in(module, timeout))
    }

    fn remove<'a>(&'a self, module: &'a ModuleName) -> Running<'a, ()> {
        Box::pin(async move {
            let attempt = format!("cannot remove module `{module}`");
            self.begin(&attempt, Call::Remove(module.clone()))?.modules.remove(module);
            self.changes.announce();
            Ok(())
        })
    }

    fn logs<'a>(&'a self, module: &'a ModuleName, range: LogRange) -> Running<'a, LogLines> {
        Box::pin(async move {
            let attempt = format!("cannot read the log of module `{module}`");
            let (lines_before, mut events) = {
                let state = self.state();
                let fake = state.modules.get(module).ok_or_else(|| RuntimeError::no_such_module(attempt, module))?;
                (fake.lines_in(&range), self.events())
            };
            let (sender, lines) = LogLines::channel();
            let (fake, module) = (self.clone(), module.clone());
            tokio::spawn(async move {
                for line in lines_before {
                    if !sender.send(Ok(line)).await {
                        return;
                    }
                }
                // The fake's modules write only when they start, so following is waiting for the end.
                while range.follow && fake.state().modules.get(&module).is_some_and(Fake::runs) {
                    tokio::select! {
                        () = events.changed() => {}
                        () = sender.closed() => return,
                    }
                }
            });
            Ok(lines)
        })
    }

    fn ensure_network(&self) -> Running<'_, Network> {
        Box::pin(async {
            self.state().reachable("cannot make the network of the modules")?;
            Ok(Network::default())
        })
    }

    fn outlives_us(&self) -> bool {
        false
    }

    fn is_member<'a>(&'a self, module: &'a ModuleName, process_id: u32) -> Running<'a, bool> {
        Box::pin(async move {
            let state = self.state();
            state.reachable("cannot check a caller")?;
            Ok(state.modules.get(module).is_some_and(|fake| fake.observed.process_id == Some(process_id)))
        })
    }

    fn seen_by_module(&self, on_host: &Path) -> PathBuf {
        on_host.to_owned()
    }
}

impl Fake {
    fn runs(&self) -> bool {
        self.observed.state == ModuleState::Running
    }
}
