//! The workload API: what a module may ask of its edge over its own socket (`edge-workload-and-management-api` §1–3).

mod answer;
mod ask;
mod call;

pub(crate) use answer::{ModuleApi, Shared};
pub use ask::{CallerCheck, ModuleListing};
