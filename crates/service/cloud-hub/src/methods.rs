//! Direct methods: a call to a client that is online, with its answer; nothing is stored.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skerry_model::{
    Channel, ClientId, Delivery, ErrorCode, MethodAnswer, MethodCall, MethodCallId, MethodInvocation, RequestError,
    json,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::CloudHub;
use crate::chain::stands_below;
use crate::hub::Hub;

/// How long a target may take to answer.
const RESPONSE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);
/// How long to wait for a target to come online, at most.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// How deep a payload may nest.
const PAYLOAD_DEPTH_MAX: usize = 100;

/// What the target of a method answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodResult {
    /// Chosen by the target.
    pub status: i64,
    /// JSON text; empty counts as `null`.
    pub payload: Bytes,
}

/// Calls that wait for an answer.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: Mutex<BTreeMap<(ClientId, MethodCallId), Call>>,
}

struct Call {
    /// The session it was sent to: only that one can answer.
    serial: u64,
    answer: oneshot::Sender<Result<MethodResult, RequestError>>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ClientId, MethodCallId), Call>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self, client: &ClientId) -> usize {
        let all = (client.clone(), MethodCallId(0))..=(client.clone(), MethodCallId(u128::MAX));
        self.lock().range(all).count()
    }

    /// A session ended: its callers learn that no answer will come.
    pub(crate) fn abandon(&self, client: &ClientId, serial: u64) {
        self.lock().retain(|(target, _), call| target != client || call.serial != serial);
    }
}

/// Forgets a call when whoever waits for it goes away.
struct Forget<'a> {
    calls: &'a Calls,
    key: (ClientId, MethodCallId),
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.key);
    }
}

impl CloudHub {
    /// Calls a method of a client and waits for its answer.
    ///
    /// # Errors
    /// `DeviceNotFound`, `ModuleNotFound`, `DeviceNotOnline` when the target does not listen within the connect timeout,
    /// `ConnectionClosed` when it goes away, `Timeout` when it does not answer, `Throttled` when too many calls wait for it,
    /// `ArgumentInvalid`, `TooLarge`.
    pub async fn invoke_method(&self, invocation: MethodInvocation) -> Result<MethodResult, RequestError> {
        self.0.invoke_method(invocation).await
    }

    /// Calls a method as a module may: on its own device, that device's modules, and what stands directly below it.
    ///
    /// # Errors
    /// `DeviceNotFound` or `ModuleNotFound` also for targets out of the caller's reach, else as [`CloudHub::invoke_method`].
    pub async fn invoke_method_as(
        &self,
        caller: &ClientId,
        invocation: MethodInvocation,
    ) -> Result<MethodResult, RequestError> {
        self.0.invoke_as(caller, invocation).await
    }
}

impl Hub {
    pub(crate) async fn invoke_as(
        &self,
        caller: &ClientId,
        invocation: MethodInvocation,
    ) -> Result<MethodResult, RequestError> {
        let target = invocation.target.device();
        if caller.module().is_none() {
            return Err(RequestError::new(ErrorCode::Forbidden, "devices cannot call methods; modules can"));
        }
        if target != caller.device() {
            let below = self.known_device(target).await?;
            let own = self.known_device(caller.device()).await?;
            if !stands_below(&below, &own) {
                let text = format!("`{}` is not a device or module of `{}`", invocation.target, caller.device());
                return Err(RequestError::new(ErrorCode::DeviceNotFound, text));
            }
        }
        self.invoke_method(invocation).await
    }

    pub(crate) async fn invoke_method(&self, invocation: MethodInvocation) -> Result<MethodResult, RequestError> {
        self.check_invocation(&invocation)?;
        let MethodInvocation { target, name, payload, response_timeout, connect_timeout } = invocation;
        self.known(&target).await?;
        let deadline = Instant::now() + connect_timeout;
        let mut listeners = self.sessions.method_listeners();
        let call = MethodCall { id: MethodCallId(self.random.u128()), name, payload };
        let key = (target.clone(), call.id);
        let (answered, _forget) = loop {
            listeners.mark_unchanged();
            if self.calls.in_flight(&target) >= self.config.limits.methods_in_flight_max {
                let text = format!("too many method calls wait for an answer of `{target}`");
                return Err(RequestError::new(ErrorCode::Throttled, text));
            }
            if let Some(answered) = self.send_call(&target, &call) {
                break (answered, Forget { calls: &self.calls, key });
            }
            // Ends with the hub's own life at the latest.
            if !matches!(tokio::time::timeout_at(deadline, listeners.changed()).await, Ok(Ok(()))) {
                let text = format!("`{target}` is not connected, or does not listen for methods");
                return Err(RequestError::new(ErrorCode::DeviceNotOnline, text));
            }
        };
        match tokio::time::timeout(response_timeout, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let text = format!("`{target}` went away before it answered");
                Err(RequestError::new(ErrorCode::ConnectionClosed, text))
            }
            Err(_) => {
                let text = format!("`{target}` did not answer within {} s", response_timeout.as_secs());
                Err(RequestError::new(ErrorCode::Timeout, text))
            }
        }
    }

    fn check_invocation(&self, invocation: &MethodInvocation) -> Result<(), RequestError> {
        let limits = &self.config.limits;
        let invalid = |text: String| Err(RequestError::new(ErrorCode::ArgumentInvalid, text));
        let name_chars = invocation.name.chars().count();
        if name_chars == 0 || name_chars > limits.method_name_chars_max {
            return invalid(format!("a method's name has 1 to {} characters", limits.method_name_chars_max));
        }
        if !RESPONSE_TIMEOUTS.contains(&invocation.response_timeout) {
            return invalid("the response timeout must lie between 5 and 300 seconds".to_owned());
        }
        if invocation.connect_timeout > CONNECT_TIMEOUT_MAX {
            return invalid("the connect timeout must lie between 0 and 300 seconds".to_owned());
        }
        check_payload(&invocation.payload, limits.method_payload_bytes_max)
    }

    /// Registers the call and sends it, when the target listens for methods.
    fn send_call(
        &self,
        target: &ClientId,
        call: &MethodCall,
    ) -> Option<oneshot::Receiver<Result<MethodResult, RequestError>>> {
        let (answer, answered) = oneshot::channel();
        // All in one look at the session, so that its end finds the call, or the call finds no session.
        let sent = self.sessions.with(target, |live| {
            let listens = live.listening.to(Channel::Methods);
            if listens {
                let serial = live.key.serial;
                self.calls.lock().insert((target.clone(), call.id), Call { serial, answer });
                live.deliver(Delivery::Method(call.clone()));
            }
            listens
        });
        (sent == Some(true)).then_some(answered)
    }

    /// Takes an answer; one that nobody waits for is dropped.
    pub(crate) fn answer_method(&self, client: &ClientId, serial: u64, answer: MethodAnswer) {
        let key = (client.clone(), answer.id);
        let call = {
            let mut waiting = self.calls.lock();
            if waiting.get(&key).is_none_or(|call| call.serial != serial) {
                tracing::debug!(%client, "an answer to a method came too late");
                return;
            }
            waiting.remove(&key)
        };
        if let Some(call) = call {
            let checked = check_payload(&answer.payload, self.config.limits.method_payload_bytes_max);
            let result = match checked {
                Ok(()) => Ok(MethodResult { status: answer.status, payload: answer.payload }),
                Err(error) => {
                    let text = format!("the answer of `{client}` cannot be used: {}", error.detail);
                    Err(RequestError::new(ErrorCode::ArgumentInvalid, text))
                }
            };
            // Whoever waited may have gone.
            let _ = call.answer.send(result);
        }
    }
}

fn check_payload(payload: &[u8], bytes_max: usize) -> Result<(), RequestError> {
    if payload.len() > bytes_max {
        let text = format!("a payload has at most {bytes_max} bytes, this one has {}", payload.len());
        return Err(RequestError::new(ErrorCode::TooLarge, text));
    }
    if payload.is_empty() {
        return Ok(());
    }
    match json::parse(payload, PAYLOAD_DEPTH_MAX) {
        Ok(_) => Ok(()),
        Err(error) => Err(RequestError::new(ErrorCode::ArgumentInvalid, format!("the payload: {error}"))),
    }
}
