//! What clients listen to, for hubs: the channels of one session, and what is kept for the next one.

#![forbid(unsafe_code)]

mod channels;
mod kept;

pub use channels::Listening;
pub use kept::{keep, recall};
