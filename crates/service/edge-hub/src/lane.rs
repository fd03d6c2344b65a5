//! The gateway's contract: who is let in, and one connection runtime's view of the edge hub.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use skerry_gateway::{
    Actor, ActorId, Attachment, Backend, Closed, Kept, Lane, LaneMailbox, Proof, Published, SessionKey, Slots, Terms,
};
use skerry_listening::Listening;
use skerry_log::{NewMessage, Subscription};
use skerry_model::{
    AuthChain, Channel, ClientId, Denied, ErrorCode, MessageView, Refusal, Reply, Request, RequestError, Settled,
    Ticket,
};
use smallvec::SmallVec;

use crate::EdgeHub;
use crate::hub::Hub;
use crate::inputs::Inputs;
use crate::routing::{Queued, SenderRoutes};
use crate::sessions::Live;

impl Backend for EdgeHub {
    type Lane = EdgeLane;

    fn lane(&self, wake: Waker) -> EdgeLane {
        let mailbox = Arc::new(LaneMailbox::new(wake.clone()));
        let subscription = self.0.queues.subscribe(wake.clone());
        let inner =
            Inner { slots: Slots::default(), waiting: VecDeque::new(), inputs: Inputs::new(wake), failed: false };
        EdgeLane { hub: self.0.clone(), mailbox, subscription, inner: Rc::new(RefCell::new(inner)) }
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

/// One connection runtime's view of the edge hub.
pub struct EdgeLane {
    hub: Arc<Hub>,
    mailbox: Arc<LaneMailbox>,
    subscription: Subscription,
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    slots: Slots<Session>,
    /// Batches that were handed to the log and are not durable yet, in the order of their tickets.
    waiting: VecDeque<(Ticket, SessionKey)>,
    inputs: Inputs,
    failed: bool,
}

/// What the data path knows of a session.
struct Session {
    client: ClientId,
    /// The client as the log has it.
    source: String,
    routes: SenderRoutes,
    window: usize,
    /// A newer session of the client took over.
    over: Arc<AtomicBool>,
}

impl Session {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Lane for EdgeLane {
    async fn attach(
        &self,
        actor: &Actor,
        subject: ClientId,
        _: Option<AuthChain>,
        terms: Terms,
    ) -> Result<Attachment, Denied> {
        let hub = &self.hub;
        if actor.id != ActorId::Client(subject.clone()) {
            return Err(Denied::unauthorized(format!("{:?} may not act for {subject} here", actor.id)));
        }
        let serial = hub.sessions.new_serial();
        let over = Arc::new(AtomicBool::new(false));
        let session = Session {
            source: subject.to_string(),
            client: subject.clone(),
            routes: SenderRoutes::default(),
            window: usize::try_from(terms.window.max(1)).unwrap_or(usize::MAX),
            over: over.clone(),
        };
        let key = self.inner.borrow_mut().slots.insert(serial, session);
        let live = Live {
            key,
            lane: self.mailbox.clone(),
            listening: Listening::default(),
            since: hub.clock.now().wall,
            credential: actor.credential.clone(),
            over,
        };
        if let Some(older) = hub.sessions.take_over(&subject, live) {
            hub.calls.abandon(&subject, older);
            hub.left(&subject);
        }
        hub.reach_up(&subject);
        let detach = {
            let (hub, inner, subject) = (hub.clone(), self.inner.clone(), subject.clone());
            move || {
                let mut inner = inner.borrow_mut();
                inner.slots.remove(key);
                inner.inputs.remove(&hub, key);
                drop(inner);
                hub.calls.abandon(&subject, serial);
                if hub.sessions.detach(&subject, serial, hub.clock.now().wall) {
                    hub.left(&subject);
                }
            }
        };
        let attachment = Attachment::new(key, detach);
        // Its keys may have changed after it was authenticated and before the session could be found and closed.
        match hub.unfit(&subject, actor.credential.as_deref()) {
            Some(why) => Err(Denied::unauthorized(format!("{subject}: {}", why.as_str()))),
            None => Ok(attachment),
        }
    }

    fn append(&self, from: SessionKey, batch: &[MessageView<'_>]) -> Result<Option<Ticket>, Refusal> {
        let mut inner = self.inner.borrow_mut();
        let Inner { slots, waiting, .. } = &mut *inner;
        let session = slots.get_mut(from).filter(|session| !session.is_over()).ok_or(Refusal::Superseded)?;
        let settings = &self.hub.settings;
        let version = *settings.version.borrow();
        if session.routes.follow(version, || settings.routes()).is_none() {
            // Nobody is let in before there are routes; not to acknowledge is the safe answer all the same.
            return Err(Refusal::Full);
        }
        let now = self.hub.clock.now().wall;
        let queues: SmallVec<[Queued; 64]> = batch
            .iter()
            .map(|message| session.routes.queues(&self.hub.config.device, &session.client, message, now))
            .collect();
        let messages: SmallVec<[NewMessage<'_>; 64]> = batch
            .iter()
            .zip(&queues)
            .map(|(message, destinations)| NewMessage {
                source: &session.source,
                stamp: &[],
                properties: message.properties.as_str(),
                body: message.body,
                enqueued: now,
                destinations,
            })
            .collect();
        let routed = queues.iter().filter(|queues| !queues.is_empty()).count();
        self.hub.count_unrouted(batch.len() - routed);
        if routed == 0 {
            return Ok(None);
        }
        let ticket = self.hub.queues.append(&messages)?;
        waiting.push_back((ticket, from));
        Ok(Some(ticket))
    }

    fn settle(&self, by: SessionKey, settled: &[Settled]) {
        let mut inner = self.inner.borrow_mut();
        let client = match inner.slots.get_mut(by) {
            Some(session) => session.client.clone(),
            None => return,
        };
        let above = inner.inputs.settle(&self.hub, by, settled);
        if !above.is_empty() {
            self.hub.upstream.settle(&client, &above);
        }
    }

    async fn submit(&self, from: SessionKey, request: Request) -> Reply {
        let found = {
            let mut inner = self.inner.borrow_mut();
            let session = inner.slots.get_mut(from).filter(|session| !session.is_over());
            session.map(|session| (session.client.clone(), session.window, session.over.clone()))
        };
        let Some((client, window, over)) = found else { return superseded() };
        let answer = match request {
            Request::GetTwin => self.hub.get_twin(&client).await,
            Request::PatchReported { if_version: Some(_), .. } => Err(RequestError::new(
                ErrorCode::NotImplemented,
                "an edge hub does not know versions of reported properties",
            )),
            Request::PatchReported { patch, if_version: None } => self.hub.patch_reported(&client, patch).await,
            Request::Listen(channel) => self.listen(&client, from, window, over, channel, true),
            Request::Unlisten(channel) => self.listen(&client, from, window, over, channel, false),
            Request::InvokeMethod(invocation) => self
                .hub
                .invoke_as(&client, invocation)
                .await
                .map(|result| Reply::MethodResult { status: result.status, payload: result.payload }),
            Request::AnswerMethod(answer) => {
                self.hub.calls.answer(&client, from.serial, answer, &self.hub.config.limits);
                Ok(Reply::Done)
            }
        };
        answer.unwrap_or_else(Reply::Failed)
    }

    fn published(&self) -> Option<Published> {
        let mut published = self.mailbox.take().unwrap_or_default();
        let arrivals = self.subscription.take();
        let mut inner = self.inner.borrow_mut();
        let durable = self.hub.queues.durable();
        while let Some((ticket, session)) = inner.waiting.pop_front_if(|(ticket, _)| *ticket <= durable) {
            published.commit(session, ticket);
        }
        if arrivals.failed && !std::mem::replace(&mut inner.failed, true) {
            let senders: Vec<_> = inner.slots.iter_mut().map(|(key, _)| key).collect();
            published.closed.extend(senders.into_iter().map(|key| (key, Closed::StoreFailed)));
        }
        published.room |= arrivals.room;
        inner.inputs.arrived(&self.hub, arrivals, &mut published);
        (!published.is_empty()).then_some(published)
    }
}

impl EdgeLane {
    fn listen(
        &self,
        client: &ClientId,
        from: SessionKey,
        window: usize,
        over: Arc<AtomicBool>,
        channel: Channel,
        on: bool,
    ) -> Result<Reply, RequestError> {
        if !self.hub.sessions.listen(client, from.serial, channel, on) {
            return Ok(superseded());
        }
        match (channel, client) {
            (Channel::Inputs, ClientId::Module(module)) if module.device == self.hub.config.device => {
                let mut inner = self.inner.borrow_mut();
                if on {
                    inner.inputs.add(&self.hub, from, module, window, over);
                } else {
                    inner.inputs.remove(&self.hub, from);
                }
            }
            (Channel::Inputs, _) => {}
            (Channel::Commands | Channel::Methods | Channel::Desired, _) => self.hub.upstream.listening_changed(client),
        }
        Ok(Reply::Done)
    }
}

fn superseded() -> Reply {
    Reply::Failed(RequestError::new(ErrorCode::Superseded, "a newer connection of the same identity took over"))
}
