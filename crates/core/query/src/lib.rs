//! Conditions over messages: what the languages share (tree, evaluator, functions) and a front end for each.
//!
//! A front end parses its language into a [`tree::Expr`] and checks it by its own rules into a [`Filter`];
//! the evaluator of filters has no language. Edge routes are the first front end.

#![forbid(unsafe_code)]

mod body;
pub mod edge_routes;
mod filter;
mod functions;
mod message;
pub mod tree;
mod value;

pub use filter::{Fields, Filter};
pub use message::MessageFields;
