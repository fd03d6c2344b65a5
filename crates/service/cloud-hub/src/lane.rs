//! The gateway's contract: who is let in, and one connection runtime's view of the hub.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use skerry_gateway::{
    Actor, ActorId, Attachment, Backend, Kept, Lane, LaneMailbox, Proof, Published, SessionKey, Slots, Terms,
};
use skerry_listening::Listening;
use skerry_model::{
    AuthChain, Channel, ClientId, Denied, ErrorCode, MessageView, Refusal, Reply, Request, RequestError, Settled,
    Stamp, Ticket,
};
use skerry_stream::PartitionId;

use crate::CloudHub;
use crate::authenticate::{Found, check_status};
use crate::hub::Hub;
use crate::sessions::{Live, SessionShared};
use crate::telemetry::{Waiter, too_large};

/// The longest model id that is kept, in bytes.
const MODEL_ID_BYTES_MAX: usize = 256;

impl Backend for CloudHub {
    type Lane = CloudLane;

    fn lane(&self, wake: Waker) -> CloudLane {
        CloudLane { hub: Arc::clone(&self.0), mailbox: Arc::new(LaneMailbox::new(wake)), slots: Rc::default() }
    }

    async fn authenticate(&self, proof: Proof) -> Result<Actor, Denied> {
        self.0.check_proof(proof).await
    }

    async fn recall(&self, client: &ClientId) -> Vec<Kept> {
        skerry_listening::recall(&*self.0.state, client).await
    }

    async fn keep(&self, client: &ClientId, listening: Vec<Kept>) {
        skerry_listening::keep(&*self.0.state, client, &listening).await;
    }
}

/// One connection runtime's view of the cloud hub.
pub struct CloudLane {
    hub: Arc<Hub>,
    mailbox: Arc<LaneMailbox>,
    slots: Rc<RefCell<Slots<Session>>>,
}

/// What the data path needs of a session, without asking anybody.
struct Session {
    client: ClientId,
    partition: PartitionId,
    stamp: Stamp,
    tickets: u64,
    shared: Arc<SessionShared>,
}

impl CloudLane {
    /// Looks at a session that has not ended.
    fn with<R>(&self, key: SessionKey, look: impl FnOnce(&mut Session) -> R) -> Option<R> {
        self.slots.borrow_mut().get_mut(key).filter(|session| !session.shared.is_over()).map(look)
    }
}

impl Hub {
    /// Whether `actor` may speak as `subject`, along `chain` where it is an edge hub; and who the subject is.
    pub(crate) async fn may_act(
        &self,
        actor: &Actor,
        subject: &ClientId,
        chain: Option<&AuthChain>,
    ) -> Result<Found, Denied> {
        match (&actor.id, chain) {
            (ActorId::Client(client), _) if client == subject => {}
            (ActorId::Policy(name), _) if self.policy(name).is_some_and(|policy| policy.rights.device_connect) => {}
            (ActorId::EdgeHub(edge), Some(chain)) if chain.subject() == Some(subject) => {
                self.check_chain(chain, edge).await?;
            }
            (ActorId::Client(_) | ActorId::Policy(_) | ActorId::EdgeHub(_), _) => {
                return Err(Denied::unauthorized(format!("{:?} may not act for {subject}", actor.id)));
            }
        }
        let found = self.find_for_connection(subject).await?;
        check_status(&found.device)?;
        Ok(found)
    }
}

impl Lane for CloudLane {
    async fn attach(
        &self,
        actor: &Actor,
        subject: ClientId,
        chain: Option<AuthChain>,
        terms: Terms,
    ) -> Result<Attachment, Denied> {
        let hub = &self.hub;
        let changes = hub.sessions.registry_changes();
        hub.check_again(&actor.id, actor.credential.as_deref()).await?;
        let found = hub.may_act(actor, &subject, chain.as_ref()).await?;
        let mut stamp = hub.stamp(actor, &subject, &found);
        stamp.model_id = self.model_id(&subject, terms.model_id).await?;

        let shared = Arc::new(SessionShared::new(hub.now()));
        let serial = hub.sessions.new_serial();
        let key = self.slots.borrow_mut().insert(
            serial,
            Session {
                client: subject.clone(),
                partition: PartitionId::of(subject.device(), hub.stream.partitions()),
                stamp,
                tickets: 0,
                shared: Arc::clone(&shared),
            },
        );
        let live = Live {
            key,
            lane: Arc::clone(&self.mailbox),
            shared,
            actor: actor.id.clone(),
            credential: actor.credential.clone(),
            chain: chain.clone(),
            window: usize::try_from(terms.window.max(1)).unwrap_or(usize::MAX),
            listening: Listening::default(),
            locked: std::collections::BTreeMap::new(),
        };
        hub.take_over(&subject, live);
        let detach = {
            let (hub, slots, subject) = (Arc::clone(hub), Rc::clone(&self.slots), subject.clone());
            move || {
                slots.borrow_mut().remove(key);
                hub.detach(&subject, serial);
            }
        };
        let attachment = Attachment::new(key, detach);
        // Somebody may have been disabled or deleted, or have got other keys, after the look above and before the session could be
        // found and closed.
        if hub.sessions.registry_changes() != changes {
            hub.check_again(&actor.id, actor.credential.as_deref()).await?;
            hub.may_act(actor, &subject, chain.as_ref()).await?;
        }
        Ok(attachment)
    }

    fn append(&self, from: SessionKey, batch: &[MessageView<'_>]) -> Result<Option<Ticket>, Refusal> {
        let mut slots = self.slots.borrow_mut();
        let session = slots.get_mut(from).filter(|session| !session.shared.is_over()).ok_or(Refusal::Superseded)?;
        if batch.is_empty() {
            return Ok(None);
        }
        if let Some((index, error)) = too_large(batch, &self.hub.config.limits) {
            return Err(Refusal::Message { index, error });
        }
        let now = self.hub.now();
        session.stamp.enqueued = now;
        let ticket = Ticket(session.tickets + 1);
        self.hub.append(session.partition, &session.stamp, batch, Some(&self.mailbox), || Waiter::Session {
            lane: Arc::clone(&self.mailbox),
            key: from,
            ticket,
        })?;
        session.tickets += 1;
        session.shared.touch(now);
        Ok(Some(ticket))
    }

    fn settle(&self, by: SessionKey, settled: &[Settled]) {
        let client = self.with(by, |session| session.client.clone());
        if let Some(client) = client {
            self.hub.settle_commands(&client, by.serial, settled);
        }
    }

    async fn submit(&self, from: SessionKey, request: Request) -> Reply {
        let client = self.with(from, |session| session.client.clone());
        let Some(client) = client else { return superseded() };
        let hub = &self.hub;
        match request {
            Request::GetTwin => match hub.stored_twin(&client).await {
                Ok((stored, _)) => Reply::Twin(stored.twin.device_view()),
                Err(error) => Reply::Failed(error),
            },
            Request::PatchReported { patch, if_version } => {
                match hub.patch_reported(&client, &patch, if_version).await {
                    Ok(version) => Reply::Reported { version: Some(version) },
                    Err(error) => Reply::Failed(error),
                }
            }
            Request::Listen(channel) => self.listen(&client, from.serial, channel),
            Request::Unlisten(channel) => {
                hub.sessions.listen(&client, from.serial, channel, false);
                Reply::Done
            }
            Request::InvokeMethod(invocation) => match hub.invoke_as(&client, invocation).await {
                Ok(result) => Reply::MethodResult { status: result.status, payload: result.payload },
                Err(error) => Reply::Failed(error),
            },
            Request::AnswerMethod(answer) => {
                hub.calls.answer(&client, from.serial, answer, &hub.config.limits);
                Reply::Done
            }
        }
    }

    fn published(&self) -> Option<Published> {
        self.mailbox.take()
    }
}

impl CloudLane {
    fn listen(&self, client: &ClientId, serial: u64, channel: Channel) -> Reply {
        if !self.hub.sessions.listen(client, serial, channel, true) {
            return superseded();
        }
        if channel == Channel::Commands {
            self.hub.offer_commands(client.device());
        }
        Reply::Done
    }

    /// The model that messages are stamped with: the announced one, which is kept with the twin, or the one announced before.
    async fn model_id(&self, subject: &ClientId, announced: Option<Arc<str>>) -> Result<Option<Arc<str>>, Denied> {
        if announced.as_ref().is_some_and(|model| model.len() > MODEL_ID_BYTES_MAX) {
            let text = format!("{subject} announced a model id of more than {MODEL_ID_BYTES_MAX} bytes");
            return Err(Denied { code: ErrorCode::BadRequest, detail: text.into() });
        }
        let kept = self.hub.announce_model(subject, announced.as_deref()).await;
        kept.map(|model| model.map(Arc::from)).map_err(|error| Denied { code: error.code, detail: error.detail })
    }
}

fn superseded() -> Reply {
    Reply::Failed(RequestError::new(ErrorCode::Superseded, "the session has ended"))
}
