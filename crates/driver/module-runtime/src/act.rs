//! What the test programs of the fake and of the conformance suite do.

use std::path::PathBuf;

/// What a test module does once it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Runs until it is asked to end, and ends with code 0.
    RunsUntilStopped,
    /// Writes `ready` to standard output, and takes no notice of being asked to end from then on.
    IgnoresStop,
    /// Ends at once with this code.
    Exits(u8),
    /// Writes these lines to standard output, `done` to standard error, and runs until it is asked to end.
    Prints(Vec<String>),
    /// Writes the value of this environment variable and ends.
    PrintsEnv(String),
    /// Writes what is in this file, as the module sees it, and ends.
    PrintsFile(PathBuf),
}
