//! How the program fails: a sentence for a person, a code for a script.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use skerry_model::{ErrorCode, RequestError};
use skerry_net::http::HttpError;

/// What kind of failure, as the exit code says it (documented in `--help`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Unauthorised = 4,
    Unreachable = 5,
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    /// The reader of the output went away: nothing to report.
    silent: bool,
}

impl Failure {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), silent: false }
    }

    /// It did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// It was asked for in a way that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Nobody is logged in, or the hub does not let us.
    pub(crate) fn unauthorised(message: impl Into<String>) -> Self {
        Self::new(Kind::Unauthorised, message)
    }

    /// With an error and what caused it.
    pub(crate) fn because(mut self, cause: impl Error) -> Self {
        let mut cause: Option<&dyn Error> = Some(&cause);
        while let Some(error) = cause {
            let text = error.to_string();
            // Transparent errors would say the same twice.
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            cause = error.source();
        }
        self
    }

    /// Whether waiting might help: the other side was not reached.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    /// In one line, for a notice.
    pub(crate) fn in_a_line(&self) -> String {
        [&self.message].into_iter().chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// Writes the failure to standard error and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if self.silent {
            return ExitCode::SUCCESS;
        }
        // With standard error gone too there is nobody left to tell.
        let _ = io::Write::write_all(&mut io::stderr(), format!("error: {}\n", self.in_a_line()).as_bytes());
        ExitCode::from(self.kind as u8)
    }
}

impl From<io::Error> for Failure {
    /// A failure to write output.
    fn from(error: io::Error) -> Self {
        let silent = error.kind() == io::ErrorKind::BrokenPipe;
        Self { silent, ..Self::failed("cannot write the output").because(error) }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let kind = match error {
            HttpError::Connect(_) | HttpError::Tls { .. } | HttpError::TimedOut { .. } | HttpError::Lost(_) => {
                Kind::Unreachable
            }
            HttpError::Address { .. } => Kind::Usage,
            HttpError::Request(_) | HttpError::TooLarge { .. } => Kind::Failed,
        };
        Self::new(kind, "the request has no answer").because(error)
    }
}

impl From<RequestError> for Failure {
    /// What a hub or an edge answered.
    fn from(error: RequestError) -> Self {
        let kind = match error.code {
            ErrorCode::DeviceNotFound | ErrorCode::ModuleNotFound | ErrorCode::NotFound => Kind::NotFound,
            ErrorCode::Unauthorized | ErrorCode::Forbidden => Kind::Unauthorised,
            _ => Kind::Failed,
        };
        Self::new(kind, error.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_one_line_and_once() {
        let cause = io::Error::other("no such folder");
        let failure = Failure::failed("cannot read `x`").because(cause);
        assert_eq!(failure.in_a_line(), "cannot read `x`: no such folder");
    }

    #[test]
    fn answers_become_exit_codes() {
        let kind = |code| Failure::from(RequestError::new(code, "")).kind as u8;
        assert_eq!(kind(ErrorCode::DeviceNotFound), 3);
        assert_eq!(kind(ErrorCode::Unauthorized), 4);
        assert_eq!(kind(ErrorCode::DeviceNotOnline), 1);
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).silent);
    }
}
