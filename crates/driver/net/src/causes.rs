//! Errors with what they were caused by, for log lines and people.

use std::error::Error;

/// What `error` says, and behind it everything it was caused by.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::ConnectError;

    #[test]
    fn causes_follow_what_they_caused() {
        let cause = io::Error::other(io::Error::other("no route"));
        let error = ConnectError { target: "hub:8883".to_owned(), cause };
        assert_eq!(with_causes(&error), "cannot connect to `hub:8883`: no route");
        let error = ConnectError { target: "hub:8883".to_owned(), cause: io::ErrorKind::TimedOut.into() };
        assert_eq!(with_causes(&error), "cannot connect to `hub:8883`: timed out");
    }
}
