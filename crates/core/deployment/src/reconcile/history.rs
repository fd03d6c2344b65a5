//! What happened to modules before and cannot be seen by looking at them.

use std::collections::BTreeMap;

use skerry_model::{ModuleName, Timestamp};

use super::Policy;

/// What happened before; to be kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The figures it is judged by.
    pub policy: Policy,
    /// By module; nothing happened to one that is not here.
    pub modules: BTreeMap<ModuleName, ModuleHistory>,
}

/// What happened to one module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModuleHistory {
    /// Restarts by policy since it was last well.
    pub restarts: u32,
    /// When the last of them was.
    pub restarted_at: Option<Timestamp>,
    /// Steps that failed in a row.
    pub failures: u32,
    /// When the last of them failed.
    pub failed_at: Option<Timestamp>,
}

impl History {
    /// Nothing happened yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, modules: BTreeMap::new() }
    }

    /// What happened to `module`.
    pub fn of(&self, module: &ModuleName) -> ModuleHistory {
        self.modules.get(module).cloned().unwrap_or_default()
    }

    /// The module was started again by policy.
    pub fn restarted(&mut self, module: &ModuleName, at: Timestamp) {
        let history = self.modules.entry(module.clone()).or_default();
        history.restarts = history.restarts.saturating_add(1);
        history.restarted_at = Some(at);
    }

    /// A step of the module failed.
    pub fn failed(&mut self, module: &ModuleName, at: Timestamp) {
        let history = self.modules.entry(module.clone()).or_default();
        history.failures = history.failures.saturating_add(1);
        history.failed_at = Some(at);
    }

    /// All steps of the module were done.
    pub fn succeeded(&mut self, module: &ModuleName) {
        self.change(module, |history| {
            history.failures = 0;
            history.failed_at = None;
        });
    }

    /// The module is well: its restarts are forgotten.
    pub fn forgive(&mut self, module: &ModuleName) {
        self.change(module, |history| {
            history.restarts = 0;
            history.restarted_at = None;
        });
    }

    /// The module was made anew, or is gone.
    pub fn forget(&mut self, module: &ModuleName) {
        self.modules.remove(module);
    }

    /// A new deployment: what failed is tried again, and what was given up gets another chance.
    pub fn new_deployment(&mut self) {
        let restarts_max = self.policy.restarts_max.unwrap_or(u32::MAX);
        self.modules.retain(|_, history| {
            history.failures = 0;
            history.failed_at = None;
            history.restarts > 0 && history.restarts < restarts_max
        });
    }

    fn change(&mut self, module: &ModuleName, change: impl FnOnce(&mut ModuleHistory)) {
        if let Some(history) = self.modules.get_mut(module) {
            change(history);
            if *history == ModuleHistory::default() {
                self.modules.remove(module);
            }
        }
    }
}
