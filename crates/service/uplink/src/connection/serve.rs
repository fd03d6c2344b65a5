//! Serving one connection: reading, writing, keeping time, renewing the token, and leaving in good order.

use std::time::Duration;

use skerry_mqtt::{Packet, WireLimits, decode, head};
use skerry_net::with_causes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::Task;
use crate::dial::Wire;
use crate::ended::{Ended, State};
use crate::live::{self, Change, Live};
use crate::shared::{End, Inner, Shared};
use crate::token::Token;

/// Bytes that are read at once, and kept by a connection that is idle.
const READ_BYTES: usize = 4_096;
/// Bytes for writing that are kept by a connection that is idle.
const WRITE_BYTES_KEPT: usize = 16_384;
/// What a topic may add to a message.
const TOPIC_BYTES_MAX: usize = 65_536;
/// How long the last packets may take to be written.
const LAST_WRITE_MAX: Duration = Duration::from_secs(2);
/// From one attempt in vain to renew a token to the next.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

impl Task {
    pub(super) async fn read(&self, mut reader: ReadHalf<Box<dyn Wire>>) -> Ended {
        let limits = &self.shared.config.limits;
        let mut buffer = Vec::with_capacity(READ_BYTES);
        loop {
            match self.take_packets(&mut buffer) {
                Err(ended) => return ended,
                Ok(Taken::Stalled) => {
                    if timeout(limits.stall_max, self.shared.taken.notified()).await.is_err() {
                        return Ended::NotDrained(limits.stall_max);
                    }
                    continue;
                }
                Ok(Taken::All { wanted }) => {
                    if buffer.is_empty() {
                        buffer.shrink_to(READ_BYTES);
                    }
                    buffer.reserve(wanted.saturating_sub(buffer.len()).max(READ_BYTES));
                }
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return Ended::ByHub,
                Ok(_) => {}
                Err(error) => return Ended::Broken(error),
            }
        }
    }

    /// Hands in all complete packets, under one lock.
    fn take_packets(&self, buffer: &mut Vec<u8>) -> Result<Taken, Ended> {
        let Shared { own, config, .. } = &*self.shared;
        let limits = &config.limits;
        let packet_bytes_max = limits.message_bytes_max.saturating_add(TOPIC_BYTES_MAX);
        let wire_limits = WireLimits { packet_bytes_max, connect_bytes_max: packet_bytes_max };
        let now = self.shared.now();
        let (mut input, mut delivered, mut ready) = (buffer.as_slice(), false, None);
        let mut inner = self.shared.lock();
        let Inner { listening, twin_used, live, inbox, .. } = &mut *inner;
        let Some(live) = live else { return Err(Ended::Closed) };
        if live.finishing.is_some() {
            // DISCONNECT is on its way out: what still comes in is for nobody.
            buffer.clear();
            return Ok(Taken::All { wanted: 0 });
        }
        let outcome = loop {
            let full = inbox.len() >= limits.deliveries_max || inbox.bytes() >= limits.delivery_bytes_max;
            if full || !live.may_receive() {
                break Ok(Taken::Stalled);
            }
            let wanted = match head(input, &wire_limits) {
                Ok(head) => head.map_or(0, |head| head.packet_bytes),
                Err(error) => break Err(error.into()),
            };
            let packet = match decode(&mut input, &wire_limits) {
                Ok(Some(packet)) => packet,
                Ok(None) => break Ok(Taken::All { wanted }),
                Err(error) => break Err(error.into()),
            };
            let filters = match packet {
                Packet::ConnAck(_) => live::filters(listening.iter().copied(), *twin_used, own),
                _ => Vec::new(),
            };
            match live.handle_packet(now, packet, own, &filters, inbox, limits) {
                Ok(Change::None) => {}
                Ok(Change::Delivered) => delivered = true,
                Ok(Change::Ready) => ready = Some(live.number),
                Err(ended) => break Err(ended),
            }
        };
        live.show_progress();
        let to_write = !live.out.is_empty();
        let taken = buffer.len() - input.len();
        drop(inner);
        buffer.drain(..taken);
        if to_write {
            self.shared.to_write.notify_one();
        }
        if delivered {
            self.shared.delivered.notify_waiters();
        }
        if let Some(number) = ready {
            tracing::info!(client = %own, hub = %config.hub_host, "connected to the hub");
            self.shared.state.send_replace(State::Connected { number });
        }
        outcome
    }

    pub(super) async fn write(&self, mut writer: WriteHalf<Box<dyn Wire>>) -> Ended {
        let mut chunk = Vec::new();
        loop {
            let finishing = {
                let mut inner = self.shared.lock();
                let Some(live) = &mut inner.live else { return Ended::Closed };
                live.take_out(&mut chunk);
                live.finishing.is_some()
            };
            if chunk.is_empty() && finishing {
                // The hub closes when it has read DISCONNECT; whether it sees our end of the stream first does not matter.
                let _ = writer.shutdown().await;
                return Ended::Closed;
            }
            if chunk.is_empty() {
                self.shared.to_write.notified().await;
                continue;
            }
            let written = async {
                writer.write_all(&chunk).await?;
                writer.flush().await
            };
            if let Err(error) = written.await {
                return Ended::Broken(error);
            }
            chunk.clear();
            chunk.shrink_to(WRITE_BYTES_KEPT);
        }
    }

    pub(super) async fn keep_time(&self) -> Ended {
        loop {
            let at = match &self.shared.lock().live {
                Some(live) => live.next_timeout(),
                None => return Ended::Closed,
            };
            self.shared.clock.sleep_until(at).await;
            let now = self.shared.now().monotonic;
            if let Some(live) = &mut self.shared.lock().live
                && let Err(ended) = live.handle_timeout(now, &self.shared.config.limits)
            {
                return ended;
            }
            self.shared.to_write.notify_one();
        }
    }

    /// Gets the next token in time, and ends the connection in good order so that the next one shows it.
    pub(super) async fn renew(&self, token: &Token, renewed: &mut Option<Token>) -> Ended {
        let now = self.shared.now();
        let at = now.monotonic + token.renew_at(now.wall).since(now.wall);
        self.shared.clock.sleep_until(Some(at)).await;
        loop {
            match self.token().await {
                Ok(next) if next.expires > token.expires => {
                    *renewed = Some(next);
                    return self.leave(Ended::Renewal).await;
                }
                // A token that nobody can renew is used to its end.
                Ok(_) => tracing::debug!(client = %self.shared.own, "there is no token that lives longer"),
                Err(error) => {
                    tracing::warn!(client = %self.shared.own, reason = %with_causes(&error), "the token is not renewed yet");
                }
            }
            tokio::time::sleep(RENEW_AGAIN).await;
        }
    }

    /// Ends the connection when the session is to end.
    pub(super) async fn end(&self) -> Ended {
        let mut end = self.shared.end.subscribe();
        let how = end.wait_for(|end| *end != End::NotYet).await.map_or(End::AtOnce, |end| *end);
        match how {
            End::Drained => self.leave(Ended::Closed).await,
            End::NotYet | End::AtOnce => self.finish(Ended::Closed).await,
        }
    }

    async fn leave(&self, why: Ended) -> Ended {
        // The answer does not matter: what is not drained by then is lost, and its senders are told.
        let _ = timeout(self.shared.config.limits.drain_max, self.drained()).await;
        self.finish(why).await
    }

    async fn drained(&self) {
        let Some(mut progress) = self.shared.lock().live.as_mut().map(|live| {
            live.stop_taking();
            live.progress.subscribe()
        }) else {
            return;
        };
        while !self.shared.lock().live.as_ref().is_none_or(Live::is_drained) {
            // The sender is only dropped with the connection, which ends this future too.
            let _ = progress.changed().await;
        }
    }

    async fn finish(&self, why: Ended) -> Ended {
        match &mut self.shared.lock().live {
            Some(live) => live.finish(why),
            None => return why,
        }
        self.shared.to_write.notify_one();
        // The writer ends the connection; this is for a peer that does not read.
        tokio::time::sleep(LAST_WRITE_MAX).await;
        Ended::Closed
    }
}

/// What became of the bytes that were read.
enum Taken {
    /// All complete packets are taken; the next one needs this many bytes, 0 when that is not known.
    All { wanted: usize },
    /// Packets are left because deliveries wait.
    Stalled,
}
