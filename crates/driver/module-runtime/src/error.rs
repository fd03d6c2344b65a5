//! What can go wrong with running modules: one shape for all runtimes, with a kind to decide by and a sentence to show.

use std::borrow::Cow;

use skerry_model::ModuleName;

/// What kind of failure, for those who decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// What runs the modules cannot be reached. It may come back by itself.
    Unavailable,
    /// This runtime has no module of that name.
    NoSuchModule,
    /// Something of that name exists already.
    NameTaken,
    /// The image or program does not exist.
    ArtifactNotFound,
    /// The registry does not know us, or does not let us have the image.
    CredentialRefused,
    /// The spec asks for something that cannot be done.
    SpecRefused,
    /// Anything else; the same again may work.
    Failed,
}

/// A failed call to a runtime: what was attempted on what, and why it failed. Holds no credential and no environment value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{attempt}: {reason}")]
pub struct RuntimeError {
    /// What kind of failure.
    pub problem: Problem,
    /// Such as ``cannot start module `a` ``.
    pub attempt: Cow<'static, str>,
    /// A sentence for a person.
    pub reason: Cow<'static, str>,
}

impl RuntimeError {
    /// A failure of the kind `problem` of `attempt`, because of `reason`.
    pub fn new(problem: Problem, attempt: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { problem, attempt: attempt.into(), reason: reason.into() }
    }

    /// `attempt` was made on a module that does not exist.
    pub fn no_such_module(attempt: impl Into<Cow<'static, str>>, module: &ModuleName) -> Self {
        Self::new(Problem::NoSuchModule, attempt, format!("there is no module `{module}` here"))
    }
}
