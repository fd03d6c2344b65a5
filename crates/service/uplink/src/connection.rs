//! A session's task: connects, serves the connection, waits, and connects again.

use std::sync::Arc;
use std::time::Duration;

use skerry_dialect::mqtt::UserName;
use skerry_model::{AuthChain, ClientId};
use skerry_mqtt::{Connect, WireLimits, client, decode, head};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::dial::Wire;
use crate::ended::{Ended, State, chain};
use crate::live::{self, Change, Live};
use crate::session::{End, Inner, Shared};
use crate::token::Token;
use crate::uplink::Parts;

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

/// Who connects besides the client itself.
pub(crate) struct Identity {
    pub(crate) chain: Option<AuthChain>,
    /// Whose key signs the token.
    pub(crate) signer: ClientId,
}

/// What all steps need.
struct Task {
    shared: Arc<Shared>,
    parts: Parts,
    dials: Arc<Semaphore>,
    identity: Identity,
}

/// Keeps the session connected until it is closed.
pub(crate) async fn run(shared: Arc<Shared>, parts: Parts, dials: Arc<Semaphore>, identity: Identity, seed: u64) {
    let limits = shared.config.limits.clone();
    let mut task = Task { shared, parts, dials, identity };
    let mut backoff = Backoff::new(limits.backoff_base, seed);
    let mut wait = backoff.next_wait(limits.backoff_max);
    let mut renewed = None;
    let mut told = String::new();
    while task.pause(wait).await {
        task.shared.state.send_replace(State::Connecting);
        let (ended, open_for) = task.connect_once(&mut renewed).await;
        if open_for > Duration::ZERO {
            told.clear();
        }
        if open_for >= limits.stable_after || matches!(*ended, Ended::Renewal) {
            backoff.reset();
        }
        let refused = ended.refused_for_ever();
        wait = backoff.next_wait(if refused.is_some() { limits.backoff_refused_max } else { limits.backoff_max });
        log(&task.shared.own, &ended, wait, &mut told);
        if matches!(*ended, Ended::Closed) {
            break;
        }
        let retry_at = task.shared.now().monotonic + wait;
        task.shared.state.send_replace(match refused {
            Some(code) => State::Refused { code, retry_at },
            None => State::Disconnected { reason: ended, retry_at },
        });
    }
    task.shared.state.send_replace(State::Closed);
    task.shared.delivered.notify_waiters();
}

/// One line when something begins to be wrong, or becomes wrong in another way; the repetitions are for those who look closely.
fn log(client: &ClientId, ended: &Ended, wait: Duration, told: &mut String) {
    let reason = chain(ended);
    if ended.intended() || *told == reason {
        tracing::debug!(%client, %reason, ?wait, "not connected to the hub");
    } else {
        tracing::warn!(%client, %reason, ?wait, "not connected to the hub");
        *told = reason;
    }
}

impl Task {
    /// Waits; `false` when the session is to end.
    async fn pause(&self, wait: Duration) -> bool {
        let mut end = self.shared.end.subscribe();
        tokio::select! {
            biased;
            _ = end.wait_for(|end| *end != End::NotYet) => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Connects and serves the connection to its end. Answers why it ended, and how long it could be used.
    async fn connect_once(&mut self, renewed: &mut Option<Token>) -> (Arc<Ended>, Duration) {
        let mut end = self.shared.end.subscribe();
        let opened = tokio::select! {
            biased;
            _ = end.wait_for(|end| *end != End::NotYet) => Err(Ended::Closed),
            opened = self.open(renewed.take()) => opened,
        };
        let (wire, token) = match opened {
            Ok(opened) => opened,
            Err(ended) => return (Arc::new(ended), Duration::ZERO),
        };
        let ended = self.serve(wire, &token, renewed).await;
        self.shared.lose(ended)
    }

    async fn open(&self, renewed: Option<Token>) -> Result<(Box<dyn Wire>, Token), Ended> {
        let limits = &self.shared.config.limits;
        let token = match renewed {
            Some(token) => token,
            None => self.token().await?,
        };
        // The semaphore is never closed.
        let _turn = self.dials.acquire().await;
        match timeout(limits.dial_timeout, self.parts.dial.dial()).await {
            Ok(wire) => Ok((wire?, token)),
            Err(_) => Err(Ended::DialTimeout(limits.dial_timeout)),
        }
    }

    async fn token(&self) -> Result<Token, Ended> {
        let limit = self.shared.config.limits.token_timeout;
        let signed = self.parts.tokens.token(&self.shared.config.hub_host, &self.identity.signer);
        Ok(timeout(limit, signed).await.map_err(|_| Ended::TokenTimeout(limit))??)
    }

    async fn serve(&self, wire: Box<dyn Wire>, token: &Token, renewed: &mut Option<Token>) -> Ended {
        if let Err(error) = self.introduce(token) {
            return Ended::Connect(error);
        }
        let (reader, writer) = tokio::io::split(wire);
        tokio::select! {
            ended = self.read(reader) => ended,
            ended = self.write(writer) => ended,
            ended = self.keep_time() => ended,
            ended = self.renew(token, renewed) => ended,
            ended = self.end() => ended,
        }
    }

    /// Writes CONNECT.
    fn introduce(&self, token: &Token) -> Result<(), skerry_mqtt::encode::EncodeError> {
        let Shared { own, config, .. } = &*self.shared;
        let mut user_name = UserName::own(&config.hub_host, own.clone(), &config.product);
        user_name.auth_chain = self.identity.chain.clone();
        let (client_id, user_name) = (own.to_string(), user_name.to_string());
        let connect = Connect {
            client_id: &client_id,
            // Every connection subscribes to what it wants, so that nothing an earlier one wanted is delivered.
            clean_session: true,
            keep_alive: u16::try_from(config.limits.keep_alive.as_secs()).unwrap_or(u16::MAX),
            will: None,
            user_name: Some(&user_name),
            password: Some(token.text.as_bytes()),
        };
        let mut out = Vec::new();
        let now = self.shared.now().monotonic;
        let connection = client::Connection::open(now, Live::mqtt(&config.limits), &connect, &mut out)?;
        let mut inner = self.shared.lock();
        inner.connections += 1;
        inner.live = Some(Live::new(inner.connections, connection, out, now));
        Ok(())
    }

    async fn read(&self, mut reader: ReadHalf<Box<dyn Wire>>) -> Ended {
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
                skerry_mqtt::Packet::ConnAck(_) => live::filters(listening.iter().copied(), *twin_used, own),
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

    async fn write(&self, mut writer: WriteHalf<Box<dyn Wire>>) -> Ended {
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

    async fn keep_time(&self) -> Ended {
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
    async fn renew(&self, token: &Token, renewed: &mut Option<Token>) -> Ended {
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
                    tracing::warn!(client = %self.shared.own, reason = %chain(&error), "the token is not renewed yet");
                }
            }
            tokio::time::sleep(RENEW_AGAIN).await;
        }
    }

    /// Ends the connection when the session is to end.
    async fn end(&self) -> Ended {
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
