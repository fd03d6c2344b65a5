//! A module as its author sees it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use skerry_model::json::JsonObject;
use skerry_model::{Channel, ClientId, ErrorCode, Json, Reply, Request, Timestamp};
use skerry_net::Clock;
use skerry_uplink::{State, UplinkSession};
use tokio::sync::{OnceCell, watch};
use tokio::task::AbortHandle;

use crate::connect;
use crate::desired::Desired;
use crate::error::{AskError, SendError, StartError};
use crate::handlers::{Handlers, MethodAnswer, MethodCall, Verdict, dispatch};
use crate::message::{InputMessage, Message};

/// Between two attempts when the hub is there and cannot answer now.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A module (or a device) at its hub. Clones are the same module; when the last one is dropped, the connection ends.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    session: Arc<UplinkSession>,
    handlers: Arc<Handlers>,
    clock: Clock,
    dispatcher: AbortHandle,
    keeper: OnceCell<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.dispatcher.abort();
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

/// Both sections of the twin as the hub has them, each with its `$version`.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    /// What the operator wants.
    pub desired: Json,
    /// What the module said.
    pub reported: Json,
}

impl Module {
    /// The module that an edge started this process as. Connects in the background.
    ///
    /// # Errors
    /// When the environment is not that of a module, or the workload API does not answer.
    pub async fn from_environment() -> Result<Module, StartError> {
        let clock = Clock::system();
        let session = connect::from_environment(clock, |name| std::env::var(name).ok()).await?;
        Ok(Module::on(session, clock))
    }

    /// A device or module with its own key, for trying things without an edge. `roots_pem`: whom to trust.
    ///
    /// # Errors
    /// When the connection string or the certificates cannot be used.
    pub fn from_connection_string(text: &str, roots_pem: &str) -> Result<Module, StartError> {
        let clock = Clock::system();
        Ok(Module::on(connect::from_connection_string(clock, text, roots_pem)?, clock))
    }

    fn on(session: UplinkSession, clock: Clock) -> Module {
        let session = Arc::new(session);
        let handlers = Arc::new(Handlers::default());
        let dispatcher = tokio::spawn(dispatch(Arc::clone(&session), Arc::clone(&handlers))).abort_handle();
        Module(Arc::new(Inner { session, handlers, clock, dispatcher, keeper: OnceCell::new() }))
    }

    /// Who this is.
    pub fn id(&self) -> &ClientId {
        self.0.session.client()
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now().wall
    }

    /// Sends a message from an output (empty: from none) and waits until the edge has it, however long that takes: it arrives
    /// at least once. Messages sent one after the other arrive in that order.
    ///
    /// # Errors
    /// When the edge would never take the message, or the module was closed.
    pub async fn send(&self, output: &str, message: Message) -> Result<(), SendError> {
        let (properties, body) = message.into_parts(output, self.now());
        self.0.session.send(&properties, &body).await.map_err(|failure| match failure {
            skerry_uplink::SendError::Refused(error) => SendError::Refused(error),
            skerry_uplink::SendError::Closed(_) => SendError::Closed,
        })
    }

    /// Handles what routes bring to an input, one message after the other.
    ///
    /// # Errors
    /// When the hub refuses to deliver, or the module was closed.
    pub async fn on_input<F, R>(&self, input: &str, handler: F) -> Result<(), AskError>
    where
        F: Fn(InputMessage) -> R + Send + Sync + 'static,
        R: Future<Output = Verdict> + Send + 'static,
    {
        let session = Arc::clone(&self.0.session);
        self.0.handlers.set_input(input, session, Box::new(move |message| Box::pin(handler(message))));
        self.listen(Channel::Inputs).await
    }

    /// Answers calls of a method; several may run at the same time. Without a handler a call is answered with 501.
    ///
    /// # Errors
    /// When the hub refuses to deliver, or the module was closed.
    pub async fn on_method<F, R>(&self, name: &str, handler: F) -> Result<(), AskError>
    where
        F: Fn(MethodCall) -> R + Send + Sync + 'static,
        R: Future<Output = MethodAnswer> + Send + 'static,
    {
        self.0.handlers.set_method(name, handler);
        self.listen(Channel::Methods).await
    }

    /// Reads the twin, waiting for the hub.
    ///
    /// # Errors
    /// When the hub refuses, or the module was closed.
    pub async fn twin(&self) -> Result<Twin, AskError> {
        match ask(&self.0.session, || Request::GetTwin).await? {
            Reply::Twin(mut twin) => Ok(Twin { desired: twin["desired"].take(), reported: twin["reported"].take() }),
            _ => Err(AskError::Answer("get the twin")),
        }
    }

    /// Changes the reported properties: members of `patch` replace, nulls delete, objects are merged. Waits for the hub.
    ///
    /// # Errors
    /// When the patch breaks a rule of twins, or the module was closed.
    pub async fn report(&self, patch: Json) -> Result<(), AskError> {
        let Json::Object(patch) = patch else { return Err(AskError::Answer("report something that is no object")) };
        match ask(&self.0.session, || Request::PatchReported { patch: patch.clone(), if_version: None }).await? {
            Reply::Reported { .. } => Ok(()),
            _ => Err(AskError::Answer("report")),
        }
    }

    /// Follows the desired properties: read now, kept current from here on, also over lost connections.
    ///
    /// # Errors
    /// When the hub refuses, or the module was closed.
    pub async fn desired(&self) -> Result<Desired, AskError> {
        let inner = &self.0;
        inner
            .keeper
            .get_or_try_init(async || {
                self.listen(Channel::Desired).await?;
                // Before reading, so that a connection made meanwhile is noticed.
                let mut state = inner.session.state();
                let seen = connection_number(&state.borrow_and_update());
                read_desired(&inner.session, &inner.handlers).await?;
                let keeper = keep_desired(Arc::clone(&inner.session), Arc::clone(&inner.handlers), state, seen);
                Ok::<_, AskError>(tokio::spawn(keeper).abort_handle())
            })
            .await?;
        Ok(inner.handlers.desired.follow())
    }

    /// Ends the connection in good order: messages on their way are acknowledged first, for a while.
    pub async fn close(&self) {
        self.0.session.close().await;
    }

    async fn listen(&self, channel: Channel) -> Result<(), AskError> {
        match self.0.session.submit(Request::Listen(channel)).await {
            Reply::Failed(error) => Err(AskError::Refused(error)),
            _ => Ok(()),
        }
    }
}

/// Asks until somebody answers; only for questions that do no harm twice.
async fn ask(session: &UplinkSession, request: impl Fn() -> Request) -> Result<Reply, AskError> {
    loop {
        session.link().await.map_err(|_| AskError::Closed)?;
        match session.submit(request()).await {
            Reply::Failed(error) if later(error.code) => {
                tracing::debug!(%error, "the hub cannot answer now: asking again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Reply::Failed(error) => return Err(AskError::Refused(error)),
            reply => return Ok(reply),
        }
    }
}

fn later(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Throttled | ErrorCode::Internal)
}

async fn read_desired(session: &UplinkSession, handlers: &Handlers) -> Result<(), AskError> {
    let before = handlers.desired.version();
    let Reply::Twin(mut twin) = ask(session, || Request::GetTwin).await? else {
        return Err(AskError::Answer("get the twin"));
    };
    let section: JsonObject = match twin["desired"].take() {
        Json::Object(section) => section,
        _ => return Err(AskError::Answer("get the twin")),
    };
    handlers.desired.set(section, before);
    Ok(())
}

/// Reads the section again on each new connection, because nothing is kept for who was away, and after each gap.
async fn keep_desired(
    session: Arc<UplinkSession>,
    handlers: Arc<Handlers>,
    mut state: watch::Receiver<State>,
    mut seen: Option<u64>,
) {
    loop {
        tokio::select! {
            changed = state.changed() => {
                let number = connection_number(&state.borrow_and_update());
                if changed.is_err() {
                    return;
                }
                if number.is_none() || number == seen {
                    continue;
                }
                seen = number;
            }
            () = handlers.desired.gap.notified() => {}
        }
        match read_desired(&session, &handlers).await {
            Ok(()) => {}
            Err(AskError::Closed) => return,
            Err(failure) => tracing::warn!(%failure, "cannot read the desired properties again"),
        }
    }
}

fn connection_number(state: &State) -> Option<u64> {
    match state {
        State::Connected { number } => Some(*number),
        State::Connecting | State::Disconnected { .. } | State::Refused { .. } | State::Closed => None,
    }
}
