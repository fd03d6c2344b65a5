//! The program as a user runs it, against a scripted hub and a scripted edge.

#![allow(clippy::unwrap_used, reason = "it is a test")]

mod device;
mod edge;
mod login;
mod messages;
mod scripted;
mod stream;
mod world;
