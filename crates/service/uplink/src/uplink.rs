//! The hub, who reaches it and who signs for it: what all sessions share.

use std::sync::Arc;

use skerry_model::{AuthChain, ClientId, ModuleName};
use skerry_net::Clock;
use tokio::sync::Semaphore;

use crate::config::UplinkConfig;
use crate::connection::{self, Identity};
use crate::dial::Dial;
use crate::session::UplinkSession;
use crate::shared::Shared;
use crate::token::TokenSource;

/// What an uplink works with.
#[derive(Clone)]
pub struct Parts {
    /// Makes byte streams to the hub.
    pub dial: Arc<dyn Dial>,
    /// Makes tokens.
    pub tokens: Arc<dyn TokenSource>,
    /// What time it is.
    pub clock: Clock,
    /// Spreads the attempts of a fleet; random in production, fixed in tests.
    pub seed: u64,
}

/// A hub that identities can be brought alive at.
pub struct Uplink {
    config: Arc<UplinkConfig>,
    parts: Parts,
    dials: Arc<Semaphore>,
}

impl Uplink {
    /// Connects nothing yet.
    pub fn new(config: UplinkConfig, parts: Parts) -> Self {
        let dials = Arc::new(Semaphore::new(config.limits.dials_at_once.max(1)));
        Self { config: Arc::new(config), parts, dials }
    }

    /// Brings `client` alive: connects, at once and again for ever, on a task of the current runtime. With a `chain` the edge hub at
    /// its end speaks for the client, and the token is that of its `$edgeHub` module; otherwise the token is the client's own.
    pub fn open(&self, client: ClientId, chain: Option<AuthChain>) -> UplinkSession {
        let signer = match chain.as_ref().and_then(AuthChain::actor) {
            Some(actor) => ClientId::Module(actor.device().module(ModuleName::edge_hub())),
            None => client.clone(),
        };
        // Sessions of one uplink must not knock in step either.
        let seed = client
            .to_string()
            .bytes()
            .fold(self.parts.seed, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let shared = Arc::new(Shared::new(client, Arc::clone(&self.config), self.parts.clock));
        let identity = Identity { chain, signer };
        let task = connection::run(Arc::clone(&shared), self.parts.clone(), Arc::clone(&self.dials), identity, seed);
        tokio::spawn(task);
        UplinkSession::new(shared)
    }
}
