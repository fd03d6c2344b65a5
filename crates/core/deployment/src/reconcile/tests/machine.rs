//! A machine that does what plans say, sometimes fails, sometimes crashes, and must come to rest when it is left alone.

use std::time::Duration;

use proptest::prelude::*;
use skerry_model::manifest::{DesiredStatus, RestartPolicy, RuntimeStatus};
use skerry_model::{Manifest, ModuleName, ModuleSpec, Now, Timestamp};

use super::situation::{empty_manifest, wanted};
use crate::reconcile::{Action, History, Observed, ObservedModule, Step, plan};

/// Turns in which things go wrong, and turns after that in which the machine must come to rest.
const TROUBLED_TURNS: usize = 40;
const CALM_TURNS: usize = 60;

struct Machine {
    now: Timestamp,
    observed: Observed,
    history: History,
    /// Startup order of every start that was attempted, with whether it was a module's first.
    started: Vec<ModuleName>,
}

impl Machine {
    /// Does one module's steps; `failing` is the number of the step that fails.
    fn perform(&mut self, manifest: &Manifest, steps: &[Step], failing: Option<usize>) {
        for (at, step) in steps.iter().enumerate() {
            if failing == Some(at) && !matches!(step.action, Action::Wait { .. } | Action::Forgive) {
                self.history.failed(&step.module, self.now);
                if matches!(step.action, Action::Start { .. }) {
                    self.started.push(step.module.clone());
                }
                return;
            }
            self.act(manifest.modules.get(&step.module), step);
        }
        if steps.iter().any(|step| !matches!(step.action, Action::Wait { .. } | Action::Forgive)) {
            self.history.succeeded(&steps[0].module);
        }
    }

    fn act(&mut self, spec: Option<&ModuleSpec>, step: &Step) {
        let now = self.now;
        let position =
            self.observed.modules.iter().position(|module| module.name == step.module && module.kind == step.kind);
        match step.action {
            Action::Create => {
                let spec = spec.expect("only what is wanted is created");
                assert!(position.is_none(), "{} exists", step.module);
                self.history.forgive(&step.module);
                self.observed.modules.push(created(spec));
            }
            Action::Remove => {
                let old_kind = self.observed.modules.iter().position(|module| module.name == step.module);
                let at = position.or(old_kind).expect("only what exists is removed");
                assert!(self.observed.modules[at].status != RuntimeStatus::Running, "{} runs", step.module);
                self.observed.modules.remove(at);
            }
            Action::Stop => {
                let module = &mut self.observed.modules[position.expect("only what exists is stopped")];
                (module.status, module.finished_at) = (RuntimeStatus::Stopped, Some(now));
            }
            Action::Start { counts } => {
                let module = &mut self.observed.modules[position.expect("only what exists is started")];
                assert!(module.status != RuntimeStatus::Running, "{} runs", step.module);
                (module.status, module.started_at, module.is_new) = (RuntimeStatus::Running, Some(now), false);
                self.started.push(step.module.clone());
                if counts {
                    self.history.restarted(&step.module, now);
                }
            }
            Action::Forgive => self.history.forgive(&step.module),
            Action::Prepare | Action::Wait { .. } | Action::Abandon => {}
        }
    }

    fn turn(&mut self, manifest: &Manifest, failing: Option<usize>) {
        let now = Now { wall: self.now, ..Now::default() };
        let plan = plan(manifest, &self.observed, &self.history, now);
        assert_eq!(plan, super::super::plan(manifest, &self.observed, &self.history, now));
        self.started.clear();
        for steps in plan.steps.chunk_by(|left, right| left.module == right.module) {
            self.perform(manifest, steps, failing);
        }
        let orders: Vec<_> = self.started.iter().map(|name| manifest.modules[name].startup_order).collect();
        assert!(orders.is_sorted(), "started out of order: {:?}", self.started);
        let longest = Duration::from_secs(30);
        let next = plan.next_at().map_or(longest, |next| next.since(self.now)).clamp(Duration::from_millis(1), longest);
        self.now = self.now.plus(next);
    }

    fn crash(&mut self, which: usize, code: i64) {
        let running = self.observed.modules.iter_mut().filter(|module| module.status == RuntimeStatus::Running);
        if let Some(module) = running.into_iter().nth(which) {
            module.status = if code == 0 { RuntimeStatus::Stopped } else { RuntimeStatus::Failed };
            module.finished_at = Some(self.now);
        }
    }
}

fn created(spec: &ModuleSpec) -> ObservedModule {
    ObservedModule {
        name: spec.name.clone(),
        kind: spec.artifact.kind(),
        status: RuntimeStatus::Stopped,
        is_new: true,
        digest: Some(spec.digest()),
        has_old_identity: false,
        started_at: None,
        finished_at: None,
        was_stopped: false,
    }
}

fn any_module() -> impl Strategy<Value = ModuleSpec> {
    let words = (
        prop::sample::select(vec!["a", "b", "c", "d"]),
        prop::sample::select(vec!["1", "2"]),
        prop::sample::select(vec!["docker", "process"]),
        prop::sample::select(vec!["never", "on-failure", "on-unhealthy", "always"]),
        prop::sample::select(vec!["running", "stopped", "as-it-is"]),
        0..3_u32,
    );
    words.prop_map(|(name, version, kind, policy, status, order)| {
        let order = order.to_string();
        let mut words = vec![kind, policy, "order", &order];
        words.extend((status != "running").then_some(status));
        wanted(&format!("{name}@{version}"), &words)
    })
}

fn any_manifest() -> impl Strategy<Value = Manifest> {
    prop::collection::vec(any_module(), 0..5).prop_map(|modules| Manifest {
        modules: modules.into_iter().map(|spec| (spec.name.clone(), spec)).collect(),
        ..empty_manifest()
    })
}

proptest! {
    // Each case is a hundred turns.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_machine_comes_to_rest_and_is_what_is_wanted(
        manifests in prop::collection::vec(any_manifest(), 1..4),
        trouble in prop::collection::vec((prop::option::of(0..5_usize), 0..5_usize, 0..2_i64), TROUBLED_TURNS),
    ) {
        let mut machine = Machine {
            now: Timestamp::from_unix_seconds(1_000_000),
            observed: Observed::default(),
            history: History::default(),
            started: Vec::new(),
        };
        for (turn, (failing, crashing, code)) in trouble.into_iter().enumerate() {
            let manifest = &manifests[turn * manifests.len() / TROUBLED_TURNS];
            machine.turn(manifest, failing);
            machine.crash(crashing, code);
        }
        let manifest = manifests.last().unwrap();
        machine.history.new_deployment();
        for _ in 0..CALM_TURNS {
            machine.turn(manifest, None);
        }
        let now = Now { wall: machine.now, ..Now::default() };
        let rest = plan(manifest, &machine.observed, &machine.history, now);
        prop_assert!(rest.is_empty(), "{:?}", rest);
        prop_assert_eq!(machine.observed.modules.len(), manifest.modules.len());
        for module in &machine.observed.modules {
            let spec = &manifest.modules[&module.name];
            prop_assert_eq!(module.digest, Some(spec.digest()));
            let may_have_ended = spec.restart == RestartPolicy::Never;
            match spec.status {
                DesiredStatus::Running => prop_assert!(module.status == RuntimeStatus::Running || may_have_ended),
                DesiredStatus::Stopped => prop_assert!(module.status != RuntimeStatus::Running),
                DesiredStatus::AsItIs(_) => {}
            }
        }
    }
}
