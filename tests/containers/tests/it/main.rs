//! A hub, an edge, and modules as containers of the real Docker Engine.
//!
//! `cargo xtask test` installs and starts the engine and makes the images. Without either, a test fails and says what is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is a test")]

mod adoption;
mod command_line;
mod docker;
mod lifecycle;
mod missing_engine;
mod private_registry;
mod python_modules;
mod registry;
mod shipped_modules;
mod site;
