//! Why a task of the load generator did not come to its end.

/// What was attempted, and what went wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file, a socket or a program.
    #[error("{what}: {cause}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// Anything else, in a sentence.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    /// With the causes of `error`, one behind the other.
    pub(crate) fn because(what: impl std::fmt::Display, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{what}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        Self::Other(text)
    }
}
