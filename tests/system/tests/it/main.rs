//! Our programs against each other: hub, edge, and the modules that come with it; with bad input, and killed.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bad_documents;
mod bad_door;
mod bad_messages;
mod edge_hub_settings;
mod flood;
mod killed;
mod peer;
mod roles;
mod sdk;
mod shipped_modules;
mod silence;
mod site;
mod starting;
mod status;
