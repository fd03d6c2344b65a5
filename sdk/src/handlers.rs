//! What a module does when something comes: a task for each input, so that its messages stay in order, and one for each call.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use skerry_model::{Delivery, Json, LockToken, Outcome, Request};
use skerry_uplink::UplinkSession;
use tokio::sync::mpsc;

use crate::desired::DesiredState;
use crate::message::InputMessage;

/// Messages of one input that wait for their handler. The uplink stops reading the socket before that many are unsettled.
const INPUT_WAITING_MAX: usize = 1_024;
/// How long a message is left alone before it is asked for again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Levels of nesting in a payload.
const PAYLOAD_DEPTH_MAX: usize = 32;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has been dealt with: the edge forgets it.
    Done,
    /// It could not be dealt with now: the edge sends it again, and what came after it too.
    Again,
}

/// A call of one of this module's methods.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodCall {
    /// The method.
    pub name: String,
    /// What came with it; null when nothing did.
    pub payload: Json,
}

/// What a caller gets.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodAnswer {
    /// By custom as in HTTP: 200 when all is well.
    pub status: i64,
    /// The result.
    pub payload: Json,
}

impl MethodAnswer {
    /// All is well.
    pub fn ok(payload: Json) -> Self {
        MethodAnswer { status: 200, payload }
    }

    /// Something is wrong; `what` reaches the caller as `{"error": what}`.
    pub fn error(status: i64, what: &str) -> Self {
        MethodAnswer { status, payload: json!({ "error": what }) }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type OnInput = Box<dyn Fn(InputMessage) -> Boxed<Verdict> + Send + Sync>;
type OnMethod = Arc<dyn Fn(MethodCall) -> Boxed<MethodAnswer> + Send + Sync>;

/// The handlers of one module.
#[derive(Default)]
pub(crate) struct Handlers {
    inputs: Mutex<BTreeMap<String, mpsc::Sender<(LockToken, InputMessage)>>>,
    methods: Mutex<BTreeMap<String, OnMethod>>,
    pub(crate) desired: DesiredState,
}

impl Handlers {
    /// A later handler of the same input takes over; what waits for the earlier one is still given to that.
    pub(crate) fn set_input(&self, input: &str, session: Arc<UplinkSession>, handler: OnInput) {
        let (sender, receiver) = mpsc::channel(INPUT_WAITING_MAX);
        lock(&self.inputs).insert(input.to_owned(), sender);
        tokio::spawn(serve_input(session, receiver, handler));
    }

    pub(crate) fn set_method<F, R>(&self, name: &str, handler: F)
    where
        F: Fn(MethodCall) -> R + Send + Sync + 'static,
        R: Future<Output = MethodAnswer> + Send + 'static,
    {
        let handler: OnMethod = Arc::new(move |call| Box::pin(handler(call)));
        lock(&self.methods).insert(name.to_owned(), handler);
    }
}

/// Hands on what comes until the session is closed.
pub(crate) async fn dispatch(session: Arc<UplinkSession>, handlers: Arc<Handlers>) {
    while let Some(delivery) = session.next_delivery().await {
        match delivery {
            Delivery::Input { lock: token, message } => {
                let sender = lock(&handlers.inputs).get(&*message.input).cloned();
                match sender {
                    // Waits only when handlers are far behind; then nothing else should be read either.
                    Some(sender) => drop(sender.send((token, message.into())).await),
                    None => {
                        tracing::warn!(input = %message.input, "a message came to an input without a handler: dropped");
                        session.settle(token, Outcome::Rejected);
                    }
                }
            }
            Delivery::Method(call) => {
                let handler = lock(&handlers.methods).get(&call.name).cloned();
                let session = Arc::clone(&session);
                tokio::spawn(async move {
                    let answer = answer(handler, call.name, &call.payload).await;
                    let payload = Bytes::from(answer.payload.to_string());
                    let answer = skerry_model::MethodAnswer { id: call.id, status: answer.status, payload };
                    // Fails when the connection is another one by now: the caller has been told already.
                    session.submit(Request::AnswerMethod(answer)).await;
                });
            }
            Delivery::Desired { patch, version } => handlers.desired.patch(&patch, version),
            // Modules get no commands; a hub that sends one all the same gets rid of it.
            Delivery::Command { lock: token, .. } => session.settle(token, Outcome::Rejected),
        }
    }
}

async fn serve_input(
    session: Arc<UplinkSession>,
    mut waiting: mpsc::Receiver<(LockToken, InputMessage)>,
    handler: OnInput,
) {
    while let Some((token, message)) = waiting.recv().await {
        match handler(message).await {
            Verdict::Done => session.settle(token, Outcome::Accepted),
            Verdict::Again => {
                tokio::time::sleep(AGAIN_AFTER).await;
                // What waits behind it came on the same connection and comes again with it, in order.
                while waiting.try_recv().is_ok() {}
                session.settle(token, Outcome::Released);
            }
        }
    }
}

async fn answer(handler: Option<OnMethod>, name: String, payload: &[u8]) -> MethodAnswer {
    let Some(handler) = handler else {
        return MethodAnswer::error(501, &format!("this module has no method `{name}`"));
    };
    let payload = match payload {
        [] => Json::Null,
        text => match skerry_model::json::parse(text, PAYLOAD_DEPTH_MAX) {
            Ok(payload) => payload,
            Err(cause) => return MethodAnswer::error(400, &format!("the payload is no JSON: {cause}")),
        },
    };
    // On a task of its own, so that a handler that panics costs one answer and not the module.
    let answered = tokio::spawn(handler(MethodCall { name, payload })).await;
    answered.unwrap_or_else(|_| MethodAnswer::error(500, "the method panicked"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(payload: &[u8]) -> MethodAnswer {
        let handlers = Handlers::default();
        handlers.set_method("echo", async |call: MethodCall| {
            assert!(call.payload != json!("panic"), "as asked");
            MethodAnswer::ok(call.payload)
        });
        let handler = lock(&handlers.methods).get("echo").cloned();
        answer(handler, "echo".to_owned(), payload).await
    }

    #[tokio::test]
    async fn a_method_gets_its_payload_and_answers() {
        assert_eq!(check(b"{\"a\":1}").await, MethodAnswer::ok(json!({ "a": 1 })));
        assert_eq!(check(b"").await, MethodAnswer::ok(Json::Null));
    }

    #[tokio::test]
    async fn what_goes_wrong_with_a_call_is_its_answer() {
        assert_eq!(check(b"{").await.status, 400);
        assert_eq!(check(b"\"panic\"").await, MethodAnswer::error(500, "the method panicked"));
        let missing = answer(None, "gone".to_owned(), b"").await;
        assert_eq!(missing, MethodAnswer::error(501, "this module has no method `gone`"));
    }
}
