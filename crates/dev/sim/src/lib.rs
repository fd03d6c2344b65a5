//! A simulated world for tests: disks that lose power, dice that repeat, a log that is read, and a reference model
//! of what must be true.
//!
//! Everything here is decided by a seed, so that a failure is shown again by its number.

#![forbid(unsafe_code)]

mod dice;
pub mod disk;
mod log;
mod truth;

pub use dice::Dice;
pub use log::Log;
pub use truth::Truth;
