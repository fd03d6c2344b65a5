//! A session's task: connects, serves the connection, waits, and connects again.

mod serve;

use std::sync::Arc;
use std::time::Duration;

use skerry_dialect::mqtt::UserName;
use skerry_model::{AuthChain, ClientId};
use skerry_mqtt::{Connect, client};
use skerry_net::with_causes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::dial::Wire;
use crate::ended::{Ended, State};
use crate::live::Live;
use crate::shared::{End, Shared};
use crate::token::Token;
use crate::uplink::Parts;

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
    let reason = with_causes(ended);
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
}
