//! How modules are, as a runtime sees them.

use skerry_model::manifest::{RuntimeStatus, SpecDigest};
use skerry_model::{ModuleName, Timestamp};

/// Where a module is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModuleState {
    /// Made, never started.
    Created,
    /// Has running processes.
    Running,
    /// Exists but is held by what runs it: paused, or between two starts that are not ours.
    Held,
    /// Ran and ended.
    Exited,
    /// Broken: can only be removed.
    Dead,
    /// Cannot be told.
    Unknown,
}

/// One module as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedModule {
    /// Its name in the manifest.
    pub name: ModuleName,
    /// Where it is in its life.
    pub state: ModuleState,
    /// How its last run ended: the exit code, or 128 plus the signal. `None` while it runs and before it ran.
    pub exit_code: Option<i64>,
    /// More about the end of its last run, where the runtime knows more: a signal, the memory limit, a start that failed.
    pub exit_reason: Option<String>,
    /// When its last run began.
    pub started_at: Option<Timestamp>,
    /// When its last run ended; kept while it runs again, where the runtime remembers.
    pub finished_at: Option<Timestamp>,
    /// It ended because somebody wanted it to: its runtime was told to stop it, or ended itself. `false` where the runtime does
    /// not know.
    pub was_stopped: bool,
    /// Digest of the spec it was made from; `None` when it cannot be read, which makes it unlike every wanted spec.
    pub spec_digest: Option<SpecDigest>,
    /// Generation of the identity it was made for.
    pub generation: Option<String>,
    /// What exactly it runs, such as `sha256:…` of an image.
    pub artifact_digest: Option<String>,
    /// Its first process on this machine, while it runs.
    pub process_id: Option<u32>,
}

impl ObservedModule {
    /// A module that was made and never started.
    pub fn created(name: ModuleName) -> Self {
        Self {
            name,
            state: ModuleState::Created,
            exit_code: None,
            exit_reason: None,
            started_at: None,
            finished_at: None,
            was_stopped: false,
            spec_digest: None,
            generation: None,
            artifact_digest: None,
            process_id: None,
        }
    }

    /// The word of the reported properties (`edge-agent` §2); back-off is for the agent to add.
    pub fn status(&self) -> RuntimeStatus {
        match (self.state, self.exit_code) {
            (ModuleState::Created | ModuleState::Held, _) | (ModuleState::Exited, Some(0)) => RuntimeStatus::Stopped,
            (ModuleState::Running, _) => RuntimeStatus::Running,
            (ModuleState::Exited, _) => RuntimeStatus::Failed,
            (ModuleState::Dead, _) => RuntimeStatus::Dead,
            (ModuleState::Unknown, _) => RuntimeStatus::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_reported_in_the_platforms_words() {
        let status = |state, exit_code| {
            let module = ObservedModule::created(ModuleName::parse("m").unwrap());
            ObservedModule { state, exit_code, ..module }.status()
        };
        assert_eq!(status(ModuleState::Created, None), RuntimeStatus::Stopped);
        assert_eq!(status(ModuleState::Held, Some(1)), RuntimeStatus::Stopped);
        assert_eq!(status(ModuleState::Running, None), RuntimeStatus::Running);
        assert_eq!(status(ModuleState::Exited, Some(0)), RuntimeStatus::Stopped);
        assert_eq!(status(ModuleState::Exited, Some(137)), RuntimeStatus::Failed);
        assert_eq!(status(ModuleState::Exited, None), RuntimeStatus::Failed);
        assert_eq!(status(ModuleState::Dead, Some(0)), RuntimeStatus::Dead);
        assert_eq!(status(ModuleState::Unknown, None), RuntimeStatus::Unknown);
    }
}
