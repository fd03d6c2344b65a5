//! What is to be done so that a machine runs what its manifest says.
//!
//! [`plan()`] looks at the whole truth each time: what is wanted, what is there, what is under way, what happened before. A plan
//! needs no memory of the plan before it, so it may be thrown away, repeated, or made again after every change. The steps of one
//! module are done one after the other; modules go side by side. One failed step ends the steps of its module for this plan.

mod backoff;
mod history;
mod plan;
#[cfg(test)]
mod tests;

pub use backoff::Policy;
pub use history::{History, ModuleHistory};
pub use plan::{effective_status, plan};

use skerry_model::manifest::{RuntimeStatus, SpecDigest};
use skerry_model::{ModuleName, Timestamp};

/// What a machine is like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Every module that one of our runtimes made.
    pub modules: Vec<ObservedModule>,
    /// Steps that are being done.
    pub underway: Vec<Underway>,
    /// Kinds of modules whose runtime cannot be asked now: nothing is done with modules of these kinds.
    pub unreachable: Vec<&'static str>,
    /// When the machine started, where that is known: what ended before that did not fail.
    pub booted_at: Option<Timestamp>,
}

/// One module as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedModule {
    /// Its name.
    pub name: ModuleName,
    /// What kind of artifact it runs ([`skerry_model::manifest::Artifact::kind`]).
    pub kind: &'static str,
    /// How it is; never `backoff`, which is for [`effective_status`] to say.
    pub status: RuntimeStatus,
    /// It was made and never started.
    pub is_new: bool,
    /// What it was made from; `None` equals nothing that is wanted.
    pub digest: Option<SpecDigest>,
    /// It was made for an identity that is not the module's any more.
    pub has_old_identity: bool,
    /// When its last run began.
    pub started_at: Option<Timestamp>,
    /// When its last run ended.
    pub finished_at: Option<Timestamp>,
    /// Its last run ended because somebody wanted it to, or because what ran it has ended.
    pub was_stopped: bool,
}

/// The steps of a module that are being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underway {
    /// Whose.
    pub module: ModuleName,
    /// What the module is to be when they are done; `None` when it is to be gone.
    pub digest: Option<SpecDigest>,
    /// Whether they are still at [`Action::Prepare`], which can be left without a trace.
    pub is_preparing: bool,
    /// Whether they end with the module started.
    pub will_start: bool,
}

/// What is to be done now, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The steps; all of one module stand together.
    pub steps: Vec<Step>,
}

impl Plan {
    /// When to plan again at the latest, if nothing happens before.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.steps.iter().filter_map(Step::wait).min()
    }

    /// Whether nothing is left to be done, now or later.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// One thing to be done with one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which module.
    pub module: ModuleName,
    /// Whose runtime does it.
    pub kind: &'static str,
    /// What.
    pub action: Action,
}

impl Step {
    /// Until when, if this is a [`Action::Wait`].
    pub fn wait(&self) -> Option<Timestamp> {
        match self.action {
            Action::Wait { until } => Some(until),
            Action::Abandon
            | Action::Prepare
            | Action::Stop
            | Action::Remove
            | Action::Create
            | Action::Start { .. }
            | Action::Forgive => None,
        }
    }
}

/// What can be done with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Give up what is under way: it prepares something that is not wanted any more.
    Abandon,
    /// Make the artifact ready; what runs goes on.
    Prepare,
    /// End it and keep it.
    Stop,
    /// Take it away.
    Remove,
    /// Make it from the wanted spec, not running.
    Create,
    /// Start it.
    Start {
        /// This is a restart by policy and counts ([`History::restarted`]).
        counts: bool,
    },
    /// Nothing before this moment.
    Wait {
        /// When to look again.
        until: Timestamp,
    },
    /// It has been well for long enough: its restarts count no more ([`History::forgive`]).
    Forgive,
}
