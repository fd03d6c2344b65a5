//! For backends: method calls that wait for the answer of a client, and the rules a call has to keep.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skerry_model::{
    ClientId, ErrorCode, Limits, MethodAnswer, MethodCall, MethodCallId, MethodInvocation, RequestError, json,
};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// How long a target may take to answer (`twin-method-c2d-semantics` §3).
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

/// Checks a call before anybody is bothered with it.
///
/// # Errors
/// `ArgumentInvalid` or `TooLarge`, with what is wrong.
pub fn check_invocation(invocation: &MethodInvocation, limits: &Limits) -> Result<(), RequestError> {
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

/// Calls a client that listens for methods, or begins to within the call's connect timeout, and waits for its answer.
///
/// `send` looks at the client's session once: when it listens, the answer is expected ([`Calls::expect`]) and the call sent, both in
/// the same look, so that the session's end finds the call, or the call finds no session. `listeners` changes whenever somebody
/// begins to listen.
///
/// # Errors
/// `DeviceNotOnline` when the client does not come, what `send` refuses, and what [`UnderWay::answer`] says.
pub async fn invoke<'a>(
    invocation: MethodInvocation,
    id: MethodCallId,
    mut listeners: watch::Receiver<u64>,
    send: impl Fn(&ClientId, &MethodCall) -> Result<Option<UnderWay<'a>>, RequestError>,
) -> Result<MethodResult, RequestError> {
    let MethodInvocation { target, name, payload, response_timeout, connect_timeout } = invocation;
    let deadline = Instant::now() + connect_timeout;
    let call = MethodCall { id, name, payload };
    let under_way = loop {
        listeners.mark_unchanged();
        if let Some(under_way) = send(&target, &call)? {
            break under_way;
        }
        // Ends with the hub's own life at the latest.
        if !matches!(tokio::time::timeout_at(deadline, listeners.changed()).await, Ok(Ok(()))) {
            let text = format!("`{target}` is not connected, or does not listen for methods");
            return Err(RequestError::new(ErrorCode::DeviceNotOnline, text));
        }
    };
    under_way.answer(response_timeout).await
}

/// Calls that wait for an answer; bounded per client by [`Limits::methods_in_flight_max`].
#[derive(Default)]
pub struct Calls {
    waiting: Mutex<BTreeMap<(ClientId, MethodCallId), Call>>,
}

struct Call {
    /// The session it was sent to: only that one can answer.
    serial: u64,
    answer: oneshot::Sender<Result<MethodResult, RequestError>>,
}

/// A call under way; dropping it forgets the call.
pub struct UnderWay<'a> {
    calls: &'a Calls,
    key: (ClientId, MethodCallId),
    answered: oneshot::Receiver<Result<MethodResult, RequestError>>,
}

impl Calls {
    /// Expects an answer of the session `serial` of `target`. Do it before the call is sent, under whatever keeps the session
    /// from ending meanwhile.
    ///
    /// # Errors
    /// `Throttled` when too many calls wait for this client.
    pub fn expect(
        &self,
        target: &ClientId,
        serial: u64,
        id: MethodCallId,
        limits: &Limits,
    ) -> Result<UnderWay<'_>, RequestError> {
        let (answer, answered) = oneshot::channel();
        let key = (target.clone(), id);
        let mut waiting = self.lock();
        let all = (target.clone(), MethodCallId(0))..=(target.clone(), MethodCallId(u128::MAX));
        if waiting.range(all).count() >= limits.methods_in_flight_max {
            let text = format!("too many method calls wait for an answer of `{target}`");
            return Err(RequestError::new(ErrorCode::Throttled, text));
        }
        waiting.insert(key.clone(), Call { serial, answer });
        Ok(UnderWay { calls: self, key, answered })
    }

    /// Takes an answer of the session `serial` of `client`; one that nobody waits for is dropped.
    pub fn answer(&self, client: &ClientId, serial: u64, answer: MethodAnswer, limits: &Limits) {
        let key = (client.clone(), answer.id);
        let mut waiting = self.lock();
        if waiting.get(&key).is_none_or(|call| call.serial != serial) {
            tracing::debug!(%client, "an answer to a method came too late");
            return;
        }
        let Some(call) = waiting.remove(&key) else { return };
        drop(waiting);
        let result = match check_payload(&answer.payload, limits.method_payload_bytes_max) {
            Ok(()) => Ok(MethodResult { status: answer.status, payload: answer.payload }),
            Err(error) => {
                let text = format!("the answer of `{client}` cannot be used: {}", error.detail);
                Err(RequestError::new(ErrorCode::ArgumentInvalid, text))
            }
        };
        // Whoever waited may have gone.
        let _ = call.answer.send(result);
    }

    /// A session ended: its callers learn that no answer will come.
    pub fn abandon(&self, client: &ClientId, serial: u64) {
        self.lock().retain(|(target, _), call| target != client || call.serial != serial);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ClientId, MethodCallId), Call>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay<'_> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// `ConnectionClosed` when the target goes away, `Timeout` when it does not answer in time.
    pub async fn answer(mut self, timeout: Duration) -> Result<MethodResult, RequestError> {
        let target = self.key.0.clone();
        match tokio::time::timeout(timeout, &mut self.answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let text = format!("`{target}` went away before it answered");
                Err(RequestError::new(ErrorCode::ConnectionClosed, text))
            }
            Err(_) => {
                let text = format!("`{target}` did not answer within {} s", timeout.as_secs());
                Err(RequestError::new(ErrorCode::Timeout, text))
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientId {
        ClientId::parse("d").unwrap()
    }

    fn answer(id: u128) -> MethodAnswer {
        MethodAnswer { id: MethodCallId(id), status: 200, payload: b"1".as_slice().into() }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_session_that_was_asked_can_answer() {
        let (calls, limits) = (Calls::default(), Limits::default());
        let call = calls.expect(&client(), 7, MethodCallId(1), &limits).unwrap();
        calls.answer(&client(), 8, answer(1), &limits);
        calls.answer(&client(), 7, answer(2), &limits);
        calls.answer(&client(), 7, answer(1), &limits);
        assert_eq!(call.answer(Duration::from_secs(5)).await.map(|result| result.status), Ok(200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_goes_away_or_is_silent_is_told_apart() {
        let (calls, limits) = (Calls::default(), Limits::default());
        let call = calls.expect(&client(), 7, MethodCallId(1), &limits).unwrap();
        calls.abandon(&client(), 7);
        let error = call.answer(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ConnectionClosed);
        let call = calls.expect(&client(), 7, MethodCallId(1), &limits).unwrap();
        let error = call.answer(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!((error.code, calls.lock().len()), (ErrorCode::Timeout, 0));
    }

    #[tokio::test]
    async fn calls_that_wait_for_one_client_are_limited() {
        let limits = Limits { methods_in_flight_max: 1, ..Limits::default() };
        let calls = Calls::default();
        let first = calls.expect(&client(), 7, MethodCallId(1), &limits).ok();
        assert_eq!(
            calls.expect(&client(), 7, MethodCallId(2), &limits).err().map(|e| e.code),
            Some(ErrorCode::Throttled)
        );
        drop(first);
        assert!(calls.expect(&client(), 7, MethodCallId(2), &limits).is_ok());
    }
}
