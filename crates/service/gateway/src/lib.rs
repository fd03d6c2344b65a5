//! The protocol heads and the connection loop; defines the contract every hub behind them fulfils.

#![forbid(unsafe_code)]

mod backend;
mod door;

pub use backend::{
    Actor, ActorId, Attachment, Backend, Claim, Closed, Credential, Lane, Proof, Published, SessionKey, Terms,
    TokenSigner,
};
pub use door::{Connected, Door, Inside, Refused};
