//! One client that is in: turns packets into what the hub understands, and what the hub publishes into packets.

mod end;
mod mail;
mod said;
mod subscriptions;
mod telemetry;

use std::task::{Context, Poll};

use skerry_model::{ClientId, LockToken, Monotonic, Now};
use skerry_mqtt::WireLimits;
use skerry_mqtt::server::Connection;
use skerry_session::Session;
use tokio::io::{AsyncRead, AsyncWrite};

use self::telemetry::Held;
use super::io::{Incoming, Outgoing};
use crate::lane::Attached;
use crate::{Backend, Runtime};

pub(crate) use end::End;
pub(crate) use mail::ReplyTo;
pub(crate) use subscriptions::Subscriptions;

/// Bytes that wait for a client's socket before nothing more is put behind them and nothing more is read from the client.
const OUTGOING_BYTES_MAX: usize = 262_144;

/// What comes back when the client acknowledges something it was sent.
pub(crate) type Flight = Option<LockToken>;

/// A client that is in.
pub(crate) struct Client<B: Backend> {
    pub(crate) id: ClientId,
    mqtt: Connection<Flight>,
    session: Session,
    attached: Attached<B>,
    subscriptions: Subscriptions,
    /// What the client listens to is kept for its next connection.
    pub(crate) keep_session: bool,
    outgoing: Outgoing,
    incoming: Incoming,
    limits: WireLimits,
    message_bytes_max: usize,
    /// Messages of QoS 1 that were acknowledged so far, which is the number of the last one.
    acked: u64,
    held: Option<Held>,
    /// When a refused request was logged last, and how many were not since then.
    refused: (Option<Monotonic>, u64),
    /// Bytes were left not understood although they may hold whole packets.
    backlog: bool,
}

impl<B: Backend> Client<B> {
    pub(crate) fn new(
        id: ClientId,
        mqtt: Connection<Flight>,
        session: Session,
        attached: Attached<B>,
        incoming: Incoming,
        outgoing: Outgoing,
        limits: &skerry_model::Limits,
    ) -> Self {
        Self {
            id,
            mqtt,
            session,
            attached,
            subscriptions: Subscriptions::new(),
            keep_session: false,
            outgoing,
            incoming,
            limits: WireLimits::from(limits),
            message_bytes_max: limits.message_bytes_max,
            acked: 0,
            held: None,
            refused: (None, 0),
            // What came right behind CONNECT.
            backlog: true,
        }
    }

    /// One round: what the hub published, then what can be written, then what can be read; until nothing moves.
    pub(crate) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        runtime: &Runtime<B>,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        match self.poll_rounds(runtime, stream, cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn poll_rounds<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        runtime: &Runtime<B>,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        loop {
            self.attached.mailbox.borrow_mut().register(cx.waker());
            self.take_mail(runtime)?;
            let had_to_wait = self.outgoing.len() >= OUTGOING_BYTES_MAX;
            if let Poll::Ready(written) = self.outgoing.poll_write(stream, &runtime.buffers, cx) {
                written?;
            }
            if had_to_wait && self.outgoing.len() < OUTGOING_BYTES_MAX {
                continue;
            }
            if !self.may_read() {
                return Ok(());
            }
            let mut incoming = std::mem::take(&mut self.incoming);
            let outcome = if std::mem::take(&mut self.backlog) {
                Poll::Ready(incoming.again(|bytes| self.understand(runtime, bytes)).map(|()| None))
            } else {
                let limits = self.limits;
                incoming
                    .poll_read(stream, &runtime.buffers, &limits, cx, |bytes| self.understand(runtime, bytes))
                    .map_ok(Some)
            };
            self.incoming = incoming;
            match outcome {
                Poll::Ready(Ok(Some(0))) => return Err(End::Eof),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(end)) => return Err(end),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn may_read(&self) -> bool {
        self.held.is_none() && self.outgoing.len() < OUTGOING_BYTES_MAX && self.mqtt.may_receive()
    }

    /// Whether the connection has lasted too long.
    pub(crate) fn handle_timeout(&mut self, now: Now) -> Option<End> {
        let expired = self.mqtt.handle_timeout(now.monotonic).map(End::Expired);
        expired.or_else(|| self.session.handle_timeout(now).map(End::Session))
    }

    /// When to look at the clock again, at the latest.
    pub(crate) fn next_timeout(&self, now: Now) -> Monotonic {
        const NEVER: Monotonic = Monotonic::from_start(std::time::Duration::MAX);
        let deadlines = [self.mqtt.next_timeout(), self.session.next_timeout(now)];
        deadlines.into_iter().flatten().min().unwrap_or(NEVER)
    }
}
