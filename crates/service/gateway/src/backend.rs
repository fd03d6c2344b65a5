//! The contract at the centre: what a gateway needs from the hub behind it. The cloud hub and the edge hub fulfil it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::Waker;

use skerry_model::{
    AuthChain, AuthMethod, Channel, ClientId, Delivery, Denied, DeviceId, MessageView, Refusal, Reply, Request,
    SasToken, Settled, Ticket, Timestamp,
};

/// A hub as its protocol heads see it.
pub trait Backend: Send + Sync + 'static {
    /// One connection runtime's view of it.
    type Lane: Lane + 'static;

    /// A new view for one connection runtime. `wake` is called at least once after something was published for any session
    /// of the lane; it may be called from any thread.
    fn lane(&self, wake: Waker) -> Self::Lane;

    /// Who is at the other end. The gateway has already checked that the token's resource names what is claimed (and this
    /// hub) and that it has not expired; the backend finds the key and checks the signature, the identity's status, and on
    /// whose behalf the actor may speak at all.
    fn authenticate(&self, proof: Proof) -> impl Future<Output = Result<Actor, Denied>> + Send;

    /// What `client` listened to when it was last here, if it asked to have that kept; empty when nothing is known. Some device
    /// SDKs never subscribe again, so this outlives a restart of the hub.
    fn recall(&self, client: &ClientId) -> impl Future<Output = Vec<Kept>> + Send;

    /// Keeps what `client` listens to for its next connection; nothing forgets it. Answers when it is durable, or cannot be kept.
    fn keep(&self, client: &ClientId, listening: Vec<Kept>) -> impl Future<Output = ()> + Send;
}

/// A kind of delivery that a client listens to also when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Which kind.
    pub channel: Channel,
    /// Whether the client acknowledges what it is sent.
    pub acknowledged: bool,
}

/// One connection runtime's view of the backend. Lives on that runtime and need not be `Send`.
pub trait Lane {
    /// `subject` comes alive here. The actor is the subject, or may act for it along `chain`. The newest attachment fences
    /// every older one of the same subject, wherever that was: a fenced one is refused everything with `Superseded`, and
    /// its lane publishes [`Closed`] for it.
    fn attach(
        &self,
        actor: &Actor,
        subject: ClientId,
        chain: Option<AuthChain>,
        terms: Terms,
    ) -> impl Future<Output = Result<Attachment, Denied>>;

    /// Takes a batch of messages of one sender, all or nothing, and never waits. The ticket completes when everything the
    /// messages were promised to is durable. `Ok(None)`: nothing to wait for.
    ///
    /// # Errors
    /// `Refusal::Full`: offer the same batch again after [`Published::room`]. Everything else is final for the batch.
    fn append(&self, from: SessionKey, batch: &[MessageView<'_>]) -> Result<Option<Ticket>, Refusal>;

    /// Takes what became of deliveries, and never waits. Unknown lock tokens are ignored.
    fn settle(&self, by: SessionKey, settled: &[Settled]);

    /// Answers a request; control path, may take long (a method call). A fenced or detached session gets
    /// `Reply::Failed` with `Superseded`.
    fn submit(&self, from: SessionKey, request: Request) -> impl Future<Output = Reply>;

    /// What was published for this lane's sessions since the last call; `None` when nothing was.
    fn published(&self) -> Option<Published>;
}

/// Commits and deliveries of one lane. Acks go out before deliveries.
#[derive(Debug, Default)]
pub struct Published {
    /// Everything this session appended up to and including the ticket is durable.
    pub commits: Vec<(SessionKey, Ticket)>,
    /// To be sent, in this order per session.
    pub deliveries: Vec<(SessionKey, Delivery)>,
    /// Sessions that ended from the hub's side: their connections are to be closed.
    pub closed: Vec<(SessionKey, Closed)>,
    /// There is room again for batches that were refused with `Refusal::Full`.
    pub room: bool,
}

/// Why the hub ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closed {
    /// A newer connection of the same identity took over.
    Superseded,
    /// The identity was disabled.
    Disabled,
    /// The identity was deleted.
    Deleted,
    /// The keys or rights the session was authenticated with are not valid any more.
    Revoked,
    /// The client left everything in flight unsettled for too long.
    Unsettled,
    /// The store can take no more from it, and that for too long.
    StoreFull,
    /// The store failed.
    StoreFailed,
    /// The hub is stopping.
    Stopping,
}

impl Closed {
    /// For log lines and the connection list.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "a newer connection of the same identity took over",
            Self::Disabled => "the identity was disabled",
            Self::Deleted => "the identity was deleted",
            Self::Revoked => "its credentials are not valid any more",
            Self::Unsettled => "it settled nothing for too long",
            Self::StoreFull => "the store was full for too long",
            Self::StoreFailed => "the store failed",
            Self::Stopping => "the hub is stopping",
        }
    }
}

/// Names one attachment within its lane: `slot` is small and reused, `serial` never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// Index into the lane's table of sessions.
    pub slot: u32,
    /// Tells one user of the slot from the next; unique within the hub's life.
    pub serial: u64,
}

/// A session's hold on the backend; dropping it detaches.
pub struct Attachment {
    key: SessionKey,
    detach: Option<Box<dyn FnOnce()>>,
}

impl Attachment {
    /// `detach` is called once, when the attachment is dropped.
    pub fn new(key: SessionKey, detach: impl FnOnce() + 'static) -> Self {
        Self { key, detach: Some(Box::new(detach)) }
    }

    /// Names the session in calls to the lane and in what the lane publishes.
    pub fn key(&self) -> SessionKey {
        self.key
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Attachment").field(&self.key).finish()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(detach) = self.detach.take() {
            detach();
        }
    }
}

/// How a session wants to be served.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Deliveries in flight, unsettled, at most; at least 1.
    pub window: u32,
    /// The plug-and-play model the client announced.
    pub model_id: Option<Arc<str>>,
}

/// What somebody offers to be let in.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Who they say they are.
    pub claim: Claim,
    /// What they show for it.
    pub credential: Credential,
}

/// Who somebody says they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A device or module itself.
    Client(ClientId),
    /// The edge hub at the end of `chain` speaks for the subject at its beginning. The token is that of the edge hub's
    /// `$edgeHub` module.
    OnBehalf {
        /// Subject first, the acting edge device last.
        chain: AuthChain,
    },
    /// An operator or service that uses a policy of the hub.
    Policy,
}

/// What is shown for a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token whose resource names the claim.
    Token {
        /// As transmitted.
        token: SasToken,
        /// What the resource names: whose key must have signed.
        signed_by: TokenSigner,
    },
    /// The peer's certificate chain from the TLS handshake, leaf first, DER. Possession of the key is proven, nothing else.
    Certificate(Vec<Vec<u8>>),
    /// Neither.
    Missing,
}

/// Whose key must have signed a token, read from its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSigner {
    /// The hub policy of this name.
    Policy(String),
    /// The device of the claim (or of the acting edge device).
    Device,
    /// The module of the claim (or `$edgeHub` of the acting edge device).
    Module,
}

/// Somebody who was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub id: ActorId,
    /// How.
    pub method: AuthMethod,
    /// When the credential ends, without clock skew; the connection ends with it.
    pub expires: Option<Timestamp>,
    /// What was shown, for a backend that judges it again when keys change.
    pub credential: Option<Arc<Credential>>,
}

/// Who was authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ActorId {
    /// A device or module.
    Client(ClientId),
    /// The hub of an edge device, which may speak for what is below it.
    EdgeHub(DeviceId),
    /// A policy of the hub.
    Policy(String),
}
