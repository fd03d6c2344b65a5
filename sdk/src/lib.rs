//! Edge modules in Rust: send and receive messages, answer methods, follow the twin, stop in good order.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use skerry_sdk::{Failure, Message, Module, Verdict};
//!
//! fn main() -> ExitCode {
//!     skerry_sdk::run(async |module: Module| -> Result<(), Failure> {
//!         let out = module.clone();
//!         module
//!             .on_input("in", move |message| {
//!                 let out = out.clone();
//!                 async move {
//!                     let forwarded = out.send("out", Message::new(message.body)).await;
//!                     if forwarded.is_ok() { Verdict::Done } else { Verdict::Again }
//!                 }
//!             })
//!             .await?;
//!         std::future::pending().await
//!     })
//! }
//! ```
//!
//! Connections come and go below: what is called here waits for the edge and goes on when it is back. A message is sent when
//! [`Module::send`] returns; from then on the edge has it on its disk.

#![forbid(unsafe_code)]

mod connect;
mod desired;
mod error;
mod handlers;
mod message;
mod module;
mod program;

pub use desired::Desired;
pub use error::{AskError, SendError, StartError};
pub use handlers::{MethodAnswer, MethodCall, Verdict};
pub use message::{InputMessage, Message};
pub use module::{Module, Twin};
pub use program::{Failure, run};
pub use skerry_model::{ClientId, Json, Timestamp};
