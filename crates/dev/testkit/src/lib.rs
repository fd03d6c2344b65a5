//! Starts real programs for tests, waits for what they say instead of sleeping, and shows all of it when a test fails.
//!
//! Everything here panics instead of returning errors: its only callers are tests, and a panic is their verdict.

#![forbid(unsafe_code)]

mod address;
mod conversation;
mod events;
mod hub;
mod output;
mod places;
mod program;
mod rest;
mod token;

pub use address::Loopback;
pub use conversation::Conversation;
pub use events::Events;
pub use hub::{Hub, HubOptions};
pub use places::{program, python, repository};
pub use program::Program;
pub use rest::{Answer, Rest};
pub use token::{ConnectionString, sas_token};

/// How long anything may take that takes no time when all is well; generous, because test machines are small and busy.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
