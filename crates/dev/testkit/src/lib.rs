//! Starts real programs for tests, waits for what they say instead of sleeping, and shows all of it when a test fails.
//!
//! Everything here panics instead of returning errors: its only callers are tests, and a panic is their verdict.

#![forbid(unsafe_code)]

mod address;
mod conversation;
mod edge;
mod events;
mod hub;
mod output;
mod places;
mod program;
mod rest;
mod token;

pub use address::Loopback;
pub use conversation::{Conversation, Invitation};
pub use edge::{Edge, EdgeOptions};
pub use events::Events;
pub use hub::{Hub, HubOptions};
pub use places::{program, python, repository};
pub use program::Program;
pub use rest::{Answer, Rest};
pub use token::{ConnectionString, sas_token};

/// Asks again until the answer is something, for what becomes true later and announces itself to nobody.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// How long anything may take that takes no time when all is well; generous, because test machines are small and busy.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
