//! From what is wanted and what is there to steps.

use std::time::Duration;

use skerry_model::manifest::{DesiredStatus, RestartPolicy, RuntimeStatus, StartupOrder};
use skerry_model::{Manifest, ModuleName, ModuleSpec, Now, Timestamp};

use super::{Action, History, Observed, ObservedModule, Plan, Policy, Step, Underway};

/// What is to be done so that the machine runs the modules of `manifest`. System modules are not looked at: they are ours.
///
/// Removals come first, then modules by startup order, then by name. A module whose steps are under way gets none, unless they
/// have become pointless.
pub fn plan(manifest: &Manifest, observed: &Observed, history: &History, now: Now) -> Plan {
    let planner = Planner { manifest, observed, history, now: now.wall };
    let mut steps = planner.removals();
    let mut wanted: Vec<&ModuleSpec> = manifest.modules.values().collect();
    wanted.sort_by_key(|spec| spec.startup_order);
    let mut gate = Gate::default();
    for spec in wanted {
        let turn = planner.module(spec);
        gate.pass(spec.startup_order, turn, &mut steps);
    }
    Plan { steps }
}

/// How a module is to be reported: its status, or that it waits for its next start, or that it was given up.
pub fn effective_status(spec: &ModuleSpec, module: &ObservedModule, history: &History) -> RuntimeStatus {
    match spec.status {
        DesiredStatus::Running if !module.is_new => {
            history.policy.effective(spec.restart, module.status, history.of(&spec.name).restarts)
        }
        DesiredStatus::Running | DesiredStatus::Stopped | DesiredStatus::AsItIs(_) => module.status,
    }
}

struct Planner<'a> {
    manifest: &'a Manifest,
    observed: &'a Observed,
    history: &'a History,
    now: Timestamp,
}

/// What is due for one module, and what that means for modules that start after it.
#[derive(Default)]
struct Turn {
    steps: Vec<Step>,
    /// Its start was not attempted yet but will be soon: nobody behind it starts before.
    holds_starts: bool,
    /// The same, but it may take long: only those that never ran wait.
    holds_first_starts: bool,
    /// It never ran.
    is_first_start: bool,
}

/// Lets starts pass in startup order: "start was attempted" opens the way, not "is ready".
#[derive(Default)]
struct Gate {
    /// The order whose modules pass at present.
    order: Option<StartupOrder>,
    /// What modules of lower orders hold back.
    held: Held,
    /// The same with the modules of this order.
    held_after: Held,
}

#[derive(Default, Clone, Copy)]
struct Held {
    starts: bool,
    first_starts: bool,
}

impl Gate {
    fn pass(&mut self, order: StartupOrder, turn: Turn, steps: &mut Vec<Step>) {
        if self.order != Some(order) {
            self.order = Some(order);
            self.held = self.held_after;
        }
        let is_held = self.held.starts || self.held.first_starts && turn.is_first_start;
        let passes = |step: &Step| !is_held || !matches!(step.action, Action::Start { .. });
        steps.extend(turn.steps.into_iter().filter(passes));
        self.held_after.starts |= turn.holds_starts;
        self.held_after.first_starts |= turn.holds_first_starts;
    }
}

impl Planner<'_> {
    /// What is there and is not wanted, or is there twice.
    fn removals(&self) -> Vec<Step> {
        let is_unwanted = |module: &&ObservedModule| {
            self.manifest.modules.get(&module.name).is_none_or(|spec| {
                spec.artifact.kind() != module.kind && self.of_kind(&spec.name, spec.artifact.kind()).is_some()
            })
        };
        let mut steps = Vec::new();
        for module in self.observed.modules.iter().filter(is_unwanted) {
            let is_wanted_otherwise = self.manifest.modules.contains_key(&module.name);
            match self.underway(&module.name) {
                Some(underway) if underway.is_preparing && !is_wanted_otherwise => {
                    steps.push(self.step(&module.name, module.kind, Action::Abandon));
                }
                Some(_) => continue,
                None => {}
            }
            if self.is_unreachable(module.kind) {
                continue;
            }
            match self.failure_wait(&module.name) {
                Some(Hold::Until(until)) => steps.push(self.step(&module.name, module.kind, Action::Wait { until })),
                Some(Hold::ForGood) => {}
                None => self.push_removal(module, &mut steps),
            }
        }
        for underway in &self.observed.underway {
            let is_unwanted = !self.manifest.modules.contains_key(&underway.module);
            let is_seen = self.observed.modules.iter().any(|module| module.name == underway.module);
            if is_unwanted && underway.is_preparing && !is_seen {
                steps.push(self.step(&underway.module, "", Action::Abandon));
            }
        }
        steps
    }

    fn push_removal(&self, module: &ObservedModule, steps: &mut Vec<Step>) {
        if matches!(module.status, RuntimeStatus::Running | RuntimeStatus::Unhealthy) {
            steps.push(self.step(&module.name, module.kind, Action::Stop));
        }
        steps.push(self.step(&module.name, module.kind, Action::Remove));
    }

    fn module(&self, spec: &ModuleSpec) -> Turn {
        let kind = spec.artifact.kind();
        let present = self.of_kind(&spec.name, kind).or_else(|| self.of_name(&spec.name));
        let fits = present.is_some_and(|module| self.fits(spec, module));
        let mut turn = Turn { is_first_start: !fits || present.is_some_and(|module| module.is_new), ..Turn::default() };
        if let Some(underway) = self.underway(&spec.name) {
            if underway.is_preparing && underway.digest != Some(spec.digest()) {
                turn.steps.push(self.step(&spec.name, kind, Action::Abandon));
            } else if underway.will_start {
                turn.holds_starts = !underway.is_preparing;
                turn.holds_first_starts = true;
            }
            return turn;
        }
        if self.is_unreachable(kind) {
            return turn;
        }
        match (present, fits) {
            (Some(module), true) => self.keep(spec, module, &mut turn),
            (present, _) => self.make(spec, present, &mut turn),
        }
        turn
    }

    /// The module is made from the wanted spec; is it in the wanted state?
    fn keep(&self, spec: &ModuleSpec, module: &ObservedModule, turn: &mut Turn) {
        let is_up = matches!(module.status, RuntimeStatus::Running | RuntimeStatus::Unhealthy);
        let due = match spec.status {
            DesiredStatus::Running => self.start_due(spec, module),
            DesiredStatus::Stopped if is_up => Due::Now(vec![Action::Stop]),
            DesiredStatus::Stopped | DesiredStatus::AsItIs(_) => Due::Never,
        };
        let is_start = spec.status == DesiredStatus::Running;
        match (due, self.failure_wait(&spec.name)) {
            (Due::Never, _) => self.forgive(spec, module, turn),
            (_, Some(Hold::ForGood)) => {}
            (_, Some(Hold::Until(until))) | (Due::At(until), None) => {
                turn.steps.push(self.step(&spec.name, module.kind, Action::Wait { until }));
            }
            (Due::Now(actions), None) => {
                turn.steps.extend(actions.into_iter().map(|action| self.step(&spec.name, module.kind, action)));
                turn.holds_starts = is_start;
                turn.holds_first_starts = is_start;
            }
        }
    }

    /// When a module that should run is to be started.
    fn start_due(&self, spec: &ModuleSpec, module: &ObservedModule) -> Due {
        let policy = &self.history.policy;
        let ended_before_boot = self.observed.booted_at.is_some_and(|booted| {
            let last_sign = module.started_at.max(module.finished_at);
            last_sign.is_some_and(|last_sign| last_sign < booted)
        });
        let has_ended = matches!(module.status, RuntimeStatus::Stopped | RuntimeStatus::Failed);
        if has_ended && (module.is_new || module.was_stopped || ended_before_boot) {
            return Due::Now(vec![Action::Start { counts: false }]);
        }
        let restarts = self.history.of(&spec.name).restarts;
        match policy.effective(spec.restart, module.status, restarts) {
            RuntimeStatus::Backoff if module.status == RuntimeStatus::Unknown => Due::Never,
            RuntimeStatus::Backoff => {
                let actions = match module.status {
                    RuntimeStatus::Unhealthy => vec![Action::Stop, Action::Start { counts: true }],
                    _ => vec![Action::Start { counts: true }],
                };
                match module.finished_at.and_then(|ended| self.wait(ended, policy.restart_wait(restarts))) {
                    Some(until) => Due::At(until),
                    None => Due::Now(actions),
                }
            }
            // The original starts what ended well again at once, without counting, unless it is told never to restart.
            RuntimeStatus::Stopped if spec.restart != RestartPolicy::Never => {
                match module.started_at.and_then(|started| self.wait(started, policy.rest)) {
                    Some(until) => Due::At(until),
                    None => Due::Now(vec![Action::Start { counts: false }]),
                }
            }
            RuntimeStatus::Stopped
            | RuntimeStatus::Running
            | RuntimeStatus::Failed
            | RuntimeStatus::Unhealthy
            | RuntimeStatus::Unknown
            | RuntimeStatus::Dead => Due::Never,
        }
    }

    /// A module that runs long enough is well; one that is on its way there is looked at again.
    fn forgive(&self, spec: &ModuleSpec, module: &ObservedModule, turn: &mut Turn) {
        let has_restarts = self.history.of(&spec.name).restarts > 0;
        let (RuntimeStatus::Running, Some(started), true) = (module.status, module.started_at, has_restarts) else {
            return;
        };
        let action = match self.wait(started, self.history.policy.well_after) {
            Some(until) => Action::Wait { until },
            None => Action::Forgive,
        };
        turn.steps.push(self.step(&spec.name, module.kind, action));
    }

    /// The module is not there, or not what it should be.
    fn make(&self, spec: &ModuleSpec, present: Option<&ObservedModule>, turn: &mut Turn) {
        let kind = spec.artifact.kind();
        match self.failure_wait(&spec.name) {
            Some(Hold::Until(until)) => {
                turn.steps.push(self.step(&spec.name, kind, Action::Wait { until }));
                return;
            }
            Some(Hold::ForGood) => return,
            None => {}
        }
        if present.is_some_and(|module| self.is_unreachable(module.kind)) {
            return;
        }
        turn.steps.push(self.step(&spec.name, kind, Action::Prepare));
        if let Some(module) = present {
            self.push_removal(module, &mut turn.steps);
        }
        turn.steps.push(self.step(&spec.name, kind, Action::Create));
        if spec.status == DesiredStatus::Running {
            turn.steps.push(self.step(&spec.name, kind, Action::Start { counts: false }));
            turn.holds_first_starts = true;
        }
    }

    fn fits(&self, spec: &ModuleSpec, module: &ObservedModule) -> bool {
        module.kind == spec.artifact.kind()
            && module.digest == Some(spec.digest())
            && !module.has_old_identity
            && module.status != RuntimeStatus::Dead
    }

    /// Whether and how long failed steps keep the module from being touched.
    fn failure_wait(&self, module: &ModuleName) -> Option<Hold> {
        let (history, policy) = (self.history.of(module), &self.history.policy);
        if history.failures == 0 {
            return None;
        }
        if policy.failures_max.is_some_and(|most| history.failures >= most) {
            return Some(Hold::ForGood);
        }
        let until = self.wait(history.failed_at?, policy.failure_wait(history.failures))?;
        Some(Hold::Until(until))
    }

    /// The end of a wait that began at `since`; `None` when it is over.
    fn wait(&self, since: Timestamp, wait: Duration) -> Option<Timestamp> {
        // We look much sooner than the original does, so that "no time has passed" is no sign of a moved clock.
        let elapsed = match self.now.unix_millis() - since.unix_millis() {
            0 => 1,
            elapsed => elapsed,
        };
        // Over means more than the wait, so the first moment that counts is one millisecond later.
        (!Policy::is_over(wait, elapsed)).then(|| since.plus(wait.saturating_add(Duration::from_millis(1))))
    }

    fn step(&self, module: &ModuleName, kind: &'static str, action: Action) -> Step {
        Step { module: module.clone(), kind, action }
    }

    fn of_kind(&self, name: &ModuleName, kind: &str) -> Option<&ObservedModule> {
        self.observed.modules.iter().find(|module| &module.name == name && module.kind == kind)
    }

    fn of_name(&self, name: &ModuleName) -> Option<&ObservedModule> {
        self.observed.modules.iter().find(|module| &module.name == name)
    }

    fn underway(&self, name: &ModuleName) -> Option<&Underway> {
        self.observed.underway.iter().find(|underway| &underway.module == name)
    }

    fn is_unreachable(&self, kind: &str) -> bool {
        self.observed.unreachable.contains(&kind)
    }
}

/// When something is due.
enum Due {
    Never,
    At(Timestamp),
    Now(Vec<Action>),
}

/// How long a module is not touched.
enum Hold {
    Until(Timestamp),
    ForGood,
}
