//! The client face of the platform: speaks to any hub, ours or Azure's, for one identity or for many.
//!
//! An [`Uplink`] knows the hub and who signs tokens. [`Uplink::open`] brings one identity alive as an [`UplinkSession`]: an MQTT
//! connection of its own that is made again for ever when it is lost. What is tied to one connection is a [`Link`]: messages are
//! appended to it and get tickets; when the connection is lost, the link says up to which ticket the hub has taken everything,
//! and everything behind that is forgotten here. The durable queue of the caller is the only queue: it rewinds and goes on with the
//! next link. [`UplinkSession::send`] does that for callers that have no queue.

#![forbid(unsafe_code)]

mod backoff;
mod config;
mod connection;
mod dial;
mod ended;
mod inbox;
mod link;
mod live;
mod refusal;
mod session;
mod shared;
mod token;
mod uplink;
mod watermark;

pub use config::{Limits, UplinkConfig};
pub use dial::{Dial, DialError, TlsDial, Wire};
pub use ended::{Ended, State};
pub use link::{Link, Lost, NotAppended};
pub use refusal::is_final;
pub use session::{Closed, SendError, UplinkSession};
pub use token::{GivenToken, SignedTokens, Token, TokenError, TokenSource};
pub use uplink::{Parts, Uplink};

/// A future that a port answers with.
pub type Boxed<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
