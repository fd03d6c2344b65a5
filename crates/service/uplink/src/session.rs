//! One identity at the hub: what it asks, what it listens to, what it is sent, whichever connection is there.

use std::sync::Arc;

use skerry_dialect::mqtt::client::{self as dialect, TwinAnswer};
use skerry_model::{
    Channel, ClientId, Delivery, ErrorCode, Json, LockToken, MethodAnswer, Outcome, Reply, Request, RequestError,
};
use tokio::sync::{oneshot, watch};

use crate::ended::{Ended, State};
use crate::inbox;
use crate::link::{Link, NotAppended};
use crate::live::Live;
use crate::shared::{End, Inner, Shared};

/// One identity at the hub. Dropping it ends the connection.
pub struct UplinkSession {
    shared: Arc<Shared>,
}

/// The session was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session was closed")]
pub struct Closed;

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The hub would never take it.
    #[error(transparent)]
    Refused(RequestError),
    /// The session was closed before the hub had it.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl UplinkSession {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Who this is.
    pub fn client(&self) -> &ClientId {
        &self.shared.own
    }

    /// What the session is doing, to be watched.
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// The current connection, or the next one.
    ///
    /// # Errors
    /// When the session was closed.
    pub async fn link(&self) -> Result<Link, Closed> {
        let mut state = self.shared.state.subscribe();
        loop {
            if matches!(*state.borrow_and_update(), State::Closed) {
                return Err(Closed);
            }
            if let Some(live) = self.shared.lock().live.as_ref().filter(|live| live.is_ready()) {
                return Ok(Link::new(Arc::clone(&self.shared), live.number, live.progress.subscribe()));
            }
            // The sender lives as long as `self`.
            let _ = state.changed().await;
        }
    }

    /// Sends a message and waits until the hub has it, over as many connections as that takes: it arrives at least once. Messages
    /// sent one after the other arrive in that order; whoever wants many in flight and in order uses [`Self::link`].
    ///
    /// # Errors
    /// When the hub would never take the message, or the session was closed.
    pub async fn send(&self, properties: &str, body: &[u8]) -> Result<(), SendError> {
        loop {
            let link = self.link().await?;
            match link.append(properties, body) {
                Ok(ticket) => {
                    let before = skerry_model::Ticket(ticket.0 - 1);
                    match link.acked_beyond(before).await {
                        Ok(_) => return Ok(()),
                        Err(lost) if lost.acked >= ticket => return Ok(()),
                        Err(_) => {}
                    }
                }
                // A loss leads to the next link as well.
                Err(NotAppended::Full) => drop(link.room().await),
                Err(NotAppended::Ending) => drop(link.lost().await),
                Err(NotAppended::Refused(error)) => return Err(SendError::Refused(error)),
            }
        }
    }

    /// Asks the hub. A twin request needs a connection and waits for its answer; listening is remembered over connections, and
    /// an answer to a method goes only to the connection on which the call came. Methods of others are called over HTTPS, not here.
    pub async fn submit(&self, request: Request) -> Reply {
        let answered = tokio::time::timeout(self.shared.config.limits.request_timeout, self.dispatch(request)).await;
        match answered {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => Reply::Failed(error),
            Err(_) => Reply::Failed(RequestError::new(ErrorCode::Timeout, "the hub did not answer in time")),
        }
    }

    /// The next thing the hub sent; `None` once the session is closed. Several callers get one each.
    pub async fn next_delivery(&self) -> Option<Delivery> {
        loop {
            // Made ready before looking, so that nothing comes in between.
            let mut delivered = std::pin::pin!(self.shared.delivered.notified());
            delivered.as_mut().enable();
            let taken = self.shared.lock().inbox.take();
            if taken.is_some() {
                self.shared.taken.notify_one();
                return taken;
            }
            if matches!(*self.shared.state.borrow(), State::Closed) {
                return None;
            }
            delivered.await;
        }
    }

    /// Tells the hub what became of a delivery, if the connection it came on is still there; otherwise the hub sends it again.
    ///
    /// MQTT can only say that a delivery is done: that is what `Accepted` and `Rejected` say. For `Released` and `Modified` the
    /// connection is made anew, because the hub then offers again what was not done, and counts the attempt.
    pub fn settle(&self, lock: LockToken, outcome: Outcome) {
        let sequence = inbox::sequence_of(lock);
        let mut inner = self.shared.lock();
        let current = inner.live.as_mut().filter(|live| live.number == inbox::connection_of(lock) && sequence > 0);
        let Some(live) = current else { return };
        match outcome {
            Outcome::Accepted | Outcome::Rejected => live.ack(sequence),
            Outcome::Released | Outcome::Modified => live.finish(Ended::GivenBack),
        }
        drop(inner);
        self.shared.to_write.notify_one();
        self.shared.taken.notify_one();
    }

    /// Ends the session in good order: what is in flight is acknowledged first, for a while.
    pub async fn close(&self) {
        self.shared.end.send_replace(End::Drained);
        let mut state = self.shared.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| matches!(state, State::Closed)).await;
    }

    async fn dispatch(&self, request: Request) -> Result<Reply, RequestError> {
        match request {
            Request::GetTwin => {
                let answer = self.ask_twin(&[], dialect::get_twin_topic).await?;
                match answer {
                    TwinAnswer::Twin(twin) => Ok(Reply::Twin(twin)),
                    TwinAnswer::Failed(error) => Err(error),
                    TwinAnswer::Done { .. } => {
                        Err(RequestError::new(ErrorCode::Internal, "the hub answered without the twin"))
                    }
                }
            }
            Request::PatchReported { patch, if_version } => {
                let payload = Json::Object(patch).to_string();
                let topic = |rid: &str, topic: &mut String| dialect::patch_reported_topic(rid, if_version, topic);
                match self.ask_twin(payload.as_bytes(), topic).await? {
                    TwinAnswer::Done { version } => Ok(Reply::Reported { version }),
                    // A hub that answers 200 with a body has taken the patch all the same.
                    TwinAnswer::Twin(_) => Ok(Reply::Reported { version: None }),
                    TwinAnswer::Failed(error) => Err(error),
                }
            }
            Request::Listen(channel) => self.listen(channel).await,
            Request::Unlisten(channel) => self.unlisten(channel).await,
            Request::AnswerMethod(answer) => self.answer_method(&answer),
            Request::InvokeMethod(_) => {
                Err(RequestError::new(ErrorCode::NotImplemented, "methods of others are called over HTTPS, not MQTT"))
            }
        }
    }

    async fn ask_twin(
        &self,
        payload: &[u8],
        write_topic: impl FnOnce(&str, &mut String),
    ) -> Result<TwinAnswer, RequestError> {
        let prepared = {
            let mut inner = self.shared.lock();
            inner.twin_used = true;
            ready(&mut inner)?.prepare_twin().map_err(not_sent)?
        };
        if let Some(granted) = prepared {
            self.shared.to_write.notify_one();
            if !answered(granted).await? {
                return Err(RequestError::new(
                    ErrorCode::Forbidden,
                    "the hub refuses the subscription to twin answers",
                ));
            }
        }
        let answer = {
            let mut inner = self.shared.lock();
            inner.requests += 1;
            let rid = inner.requests;
            let live = ready(&mut inner)?;
            live.twin_prepared();
            let mut topic = String::new();
            write_topic(&rid.to_string(), &mut topic);
            live.request(rid, &topic, payload, &self.shared.config.limits)?
        };
        self.shared.to_write.notify_one();
        answered(answer).await
    }

    async fn listen(&self, channel: Channel) -> Result<Reply, RequestError> {
        let filter = dialect::filter(channel, &self.shared.own);
        let granted = {
            let mut inner = self.shared.lock();
            inner.listening.insert(channel);
            // Without a connection, the next one begins with this subscription.
            match inner.live.as_mut().map(|live| live.subscribe(&filter)) {
                None | Some(Err(skerry_mqtt::client::NotSent::NotOpen)) => return Ok(Reply::Done),
                Some(asked) => asked.map_err(not_sent)?,
            }
        };
        self.shared.to_write.notify_one();
        match granted.await {
            Ok(false) => {
                self.shared.lock().listening.remove(&channel);
                Err(RequestError::new(ErrorCode::Forbidden, format!("the hub refuses the subscription to `{filter}`")))
            }
            // Lost: the next connection begins with this subscription.
            Ok(true) | Err(_) => Ok(Reply::Done),
        }
    }

    async fn unlisten(&self, channel: Channel) -> Result<Reply, RequestError> {
        let filter = dialect::filter(channel, &self.shared.own);
        let done = {
            let mut inner = self.shared.lock();
            inner.listening.remove(&channel);
            match inner.live.as_mut().map(|live| live.unsubscribe(&filter)) {
                None | Some(Err(skerry_mqtt::client::NotSent::NotOpen)) => return Ok(Reply::Done),
                Some(asked) => asked.map_err(not_sent)?,
            }
        };
        self.shared.to_write.notify_one();
        // Lost: the next connection begins without this subscription.
        let _ = done.await;
        Ok(Reply::Done)
    }

    fn answer_method(&self, answer: &MethodAnswer) -> Result<Reply, RequestError> {
        ready(&mut self.shared.lock())?.answer_method(answer)?;
        self.shared.to_write.notify_one();
        Ok(Reply::Done)
    }
}

impl Drop for UplinkSession {
    fn drop(&mut self) {
        self.shared.end.send_if_modified(|end| {
            let first = *end == End::NotYet;
            if first {
                *end = End::AtOnce;
            }
            first
        });
    }
}

fn ready(inner: &mut Inner) -> Result<&mut Live, RequestError> {
    inner.live.as_mut().filter(|live| live.is_ready()).ok_or_else(not_connected)
}

pub(crate) fn not_connected() -> RequestError {
    RequestError::new(ErrorCode::Unavailable, "the hub is not connected")
}

fn not_sent(error: skerry_mqtt::client::NotSent) -> RequestError {
    use skerry_mqtt::client::NotSent;
    match error {
        NotSent::NotOpen => not_connected(),
        NotSent::WindowFull => RequestError::new(ErrorCode::Throttled, "too much waits for the hub's answer"),
        NotSent::Encode(error) => RequestError::new(ErrorCode::ArgumentInvalid, format!("the filter {error}")),
    }
}

async fn answered<T>(answer: oneshot::Receiver<T>) -> Result<T, RequestError> {
    answer
        .await
        .map_err(|_| RequestError::new(ErrorCode::Unavailable, "the connection was lost before the hub answered"))
}
