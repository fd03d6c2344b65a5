//! The receiving module of a load: counts what comes to its inputs and settles it.

use std::sync::Arc;

use skerry_model::{Channel, Delivery, Outcome, Reply, Request};
use skerry_uplink::UplinkSession;

use crate::board::Board;
use crate::sender::Numbered;

/// Receives until the session is closed.
pub(crate) async fn run(session: Arc<UplinkSession>, run: u32, board: Board) {
    if let Reply::Failed(error) = session.submit(Request::Listen(Channel::Inputs)).await {
        board.fail(format!("the edge does not let the sink listen to its inputs: {error}"));
        return;
    }
    while let Some(delivery) = session.next_delivery().await {
        if let Delivery::Input { lock, message } = delivery {
            let sender = message.source.module().map(ToString::to_string);
            // What an earlier run left is none of this one's.
            let numbered = Numbered::read(&message.body).filter(|numbered| numbered.run == run);
            if let (Some(sender), Some(numbered)) = (sender, numbered) {
                board.received(&sender, numbered.number);
            }
            session.settle(lock, Outcome::Accepted);
        }
    }
}
