//! How a process ended, in one number and, where that says too little, a sentence.

use rustix::process::WaitStatus;

/// Added to the number of a signal to make an exit code, as shells and engines do.
const SIGNAL_BASE: i32 = 128;

/// The exit code, and the reason when it was not the module's own decision.
pub(crate) fn describe(status: WaitStatus, over_memory_limit: bool) -> (i32, Option<String>) {
    if over_memory_limit {
        let code = status.exit_status().unwrap_or_else(|| signal_code(status));
        return (code, Some("it, or a process of it, was ended because of its memory limit".to_owned()));
    }
    match status.exit_status() {
        Some(code) => (code, None),
        None => {
            let code = signal_code(status);
            (code, Some(format!("ended by signal {}", code - SIGNAL_BASE)))
        }
    }
}

fn signal_code(status: WaitStatus) -> i32 {
    SIGNAL_BASE + status.terminating_signal().unwrap_or_default()
}
