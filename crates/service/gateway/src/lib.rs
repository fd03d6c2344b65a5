//! The protocol heads and the connection loop; defines the contract every hub behind them fulfils.

#![forbid(unsafe_code)]

mod auth;
mod backend;
mod calls;
mod config;
mod door;
mod gateway;
mod http;
mod lane;
mod lines;
mod mailbox;
mod mqtt;
mod runtime;
mod slots;
#[cfg(test)]
mod tests;

pub use auth::{proof, signed_with};
pub use backend::{
    Actor, ActorId, Attachment, Backend, Claim, Closed, Credential, Kept, Lane, Proof, Published, SessionKey, Terms,
    TokenSigner,
};
pub use calls::{Calls, MethodResult, UnderWay, check_invocation, invoke};
pub use config::GatewayConfig;
pub use door::{Admitted, Connected, Door, Inside, Refused};
pub use gateway::{Entrance, Gateway, Head, Open, Peer, Serving};
pub use http::{Answer, HttpRefusal, HttpRoutes};
pub use mailbox::LaneMailbox;
pub use slots::Slots;

use runtime::Runtime;
