//! Direct methods: a call to a client that is online, with its answer; nothing is stored.

use skerry_gateway::{MethodResult, UnderWay, check_invocation, invoke};
use skerry_model::{Channel, ClientId, Delivery, ErrorCode, MethodCall, MethodCallId, MethodInvocation, RequestError};

use crate::CloudHub;
use crate::chain::stands_below;
use crate::hub::Hub;

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
        check_invocation(&invocation, &self.config.limits)?;
        self.known(&invocation.target).await?;
        let listeners = self.sessions.method_listeners();
        invoke(invocation, MethodCallId(self.random.u128()), listeners, |target, call| self.send_call(target, call))
            .await
    }

    /// Expects an answer and sends the call, when the target listens for methods. All in one look at the session, so that its
    /// end finds the call, or the call finds no session.
    fn send_call(&self, target: &ClientId, call: &MethodCall) -> Result<Option<UnderWay<'_>>, RequestError> {
        let sent = self.sessions.with(target, |live| {
            if !live.listening.to(Channel::Methods) {
                return Ok(None);
            }
            let under_way = self.calls.expect(target, live.key.serial, call.id, &self.config.limits)?;
            live.deliver(Delivery::Method(call.clone()));
            Ok(Some(under_way))
        });
        sent.unwrap_or(Ok(None))
    }
}
