//! One connection runtime: the sessions that live on it, and the task that hands them what the hub publishes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};

use skerry_model::{AuthChain, ClientId, Delivery, Denied, MessageView, Refusal, Reply, Request, Settled, Ticket};
use tokio::sync::Notify;

use crate::mqtt::ReplyTo;
use crate::{Actor, Attachment, Backend, Closed, Kept, Lane, SessionKey, Terms};

/// What waits for one session until its connection comes round to it.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// The newest watermark.
    pub(crate) committed: Option<Ticket>,
    /// In order; bounded by the window the session was attached with.
    pub(crate) deliveries: VecDeque<Delivery>,
    /// Answers to requests; bounded by what the session may have under way.
    pub(crate) replies: VecDeque<(ReplyTo, Reply)>,
    /// The hub ends the session.
    pub(crate) closed: Option<Closed>,
    /// A batch that was refused for want of room can be offered again.
    pub(crate) room: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Is polled by the connection that owns the mailbox: it is woken at the next post.
    pub(crate) fn register(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    fn put(&mut self, post: Post) {
        match post {
            Post::Commit(ticket) => self.committed = Some(ticket),
            Post::Delivery(delivery) => self.deliveries.push_back(delivery),
            Post::Closed(closed) => self.closed = Some(closed),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct Slot {
    serial: u64,
    mailbox: Rc<RefCell<Mailbox>>,
}

/// The backend's lane with the mailboxes of the sessions on it.
pub(crate) struct LocalLane<B: Backend> {
    lane: B::Lane,
    slots: RefCell<Vec<Option<Slot>>>,
    published: Arc<Published>,
    blocked: Cell<bool>,
    /// Sessions that are being attached right now, and what was published for sessions without a mailbox meanwhile.
    attaching: Cell<u32>,
    early: RefCell<Vec<(SessionKey, Post)>>,
}

/// One thing that was published for one session.
enum Post {
    Commit(Ticket),
    Delivery(Delivery),
    Closed(Closed),
}

struct Published(Notify);

impl Wake for Published {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl<B: Backend> LocalLane<B> {
    pub(crate) fn new(backend: &B) -> Rc<Self> {
        let published = Arc::new(Published(Notify::new()));
        let lane = backend.lane(Waker::from(published.clone()));
        Rc::new(Self {
            lane,
            slots: RefCell::default(),
            published,
            blocked: Cell::new(false),
            attaching: Cell::new(0),
            early: RefCell::default(),
        })
    }

    /// Hands out what the hub publishes, for as long as the runtime lives.
    pub(crate) async fn dispatch(&self) {
        loop {
            while let Some(published) = self.lane.published() {
                self.hand_out(published);
            }
            self.published.0.notified().await;
        }
    }

    fn hand_out(&self, published: crate::Published) {
        for (key, ticket) in published.commits {
            self.post(key, Post::Commit(ticket));
        }
        for (key, delivery) in published.deliveries {
            self.post(key, Post::Delivery(delivery));
        }
        for (key, closed) in published.closed {
            self.post(key, Post::Closed(closed));
        }
        if published.room && self.blocked.replace(false) {
            for slot in self.slots.borrow().iter().flatten() {
                let mut mailbox = slot.mailbox.borrow_mut();
                mailbox.room = true;
                mailbox.wake();
            }
        }
    }

    fn post(&self, key: SessionKey, post: Post) {
        let slots = self.slots.borrow();
        match slots.get(key.slot as usize) {
            Some(Some(slot)) if slot.serial == key.serial => {
                let mut mailbox = slot.mailbox.borrow_mut();
                mailbox.put(post);
                mailbox.wake();
            }
            // The hub may publish for a session before the one who attaches it has heard of it. What was published for a
            // session that has just ended is settled by its detaching.
            _ if self.attaching.get() > 0 => self.early.borrow_mut().push((key, post)),
            _ => {}
        }
    }

    /// Attaches a session and gives it its mailbox.
    pub(crate) async fn attach(
        self: &Rc<Self>,
        actor: &Actor,
        subject: ClientId,
        chain: Option<AuthChain>,
        terms: Terms,
    ) -> Result<Attached<B>, Denied> {
        let _attaching = Attaching::begin(self);
        let attachment = self.lane.attach(actor, subject, chain, terms).await?;
        let key = attachment.key();
        let mut mailbox = Mailbox::default();
        for (_, post) in self.early.borrow_mut().extract_if(.., |(early, _)| *early == key) {
            mailbox.put(post);
        }
        let mailbox = Rc::new(RefCell::new(mailbox));
        let mut slots = self.slots.borrow_mut();
        let at = key.slot as usize;
        if slots.len() <= at {
            slots.resize_with(at + 1, || None);
        }
        slots[at] = Some(Slot { serial: key.serial, mailbox: mailbox.clone() });
        drop(slots);
        Ok(Attached { lane: self.clone(), attachment, mailbox })
    }

    pub(crate) fn append(&self, from: SessionKey, batch: &[MessageView<'_>]) -> Result<Option<Ticket>, Refusal> {
        let taken = self.lane.append(from, batch);
        if taken == Err(Refusal::Full) {
            self.blocked.set(true);
        }
        taken
    }

    pub(crate) fn settle(&self, by: SessionKey, settled: &[Settled]) {
        self.lane.settle(by, settled);
    }
}

/// What a client listens to, on its way to be kept.
pub(crate) struct ToKeep<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) client: ClientId,
    pub(crate) listening: Vec<Kept>,
}

/// A session on this lane; dropping it detaches.
pub(crate) struct Attached<B: Backend> {
    pub(crate) lane: Rc<LocalLane<B>>,
    attachment: Attachment,
    pub(crate) mailbox: Rc<RefCell<Mailbox>>,
}

impl<B: Backend> Attached<B> {
    pub(crate) fn key(&self) -> SessionKey {
        self.attachment.key()
    }

    /// Asks the hub on a task of its own, one request after the other; one reply comes by mailbox: the first failure, else
    /// the last answer.
    pub(crate) fn submit(&self, requests: Vec<Request>, to: ReplyTo) {
        self.submit_and_keep(requests, None, to);
    }

    /// The same, and before it answers, what the client listens to is kept for its next connection.
    pub(crate) fn submit_and_keep(&self, requests: Vec<Request>, kept: Option<ToKeep<B>>, to: ReplyTo) {
        let (lane, key, mailbox) = (self.lane.clone(), self.key(), self.mailbox.clone());
        tokio::task::spawn_local(async move {
            if let Some(ToKeep { backend, client, listening }) = kept {
                backend.keep(&client, listening).await;
            }
            let mut reply = Reply::Done;
            for request in requests {
                reply = lane.lane.submit(key, request).await;
                if matches!(reply, Reply::Failed(_)) {
                    break;
                }
            }
            let mut mailbox = mailbox.borrow_mut();
            mailbox.replies.push_back((to, reply));
            mailbox.wake();
        });
    }
}

impl<B: Backend> Drop for Attached<B> {
    fn drop(&mut self) {
        let key = self.key();
        let mut slots = self.lane.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(key.slot as usize)
            && slot.as_ref().is_some_and(|slot| slot.serial == key.serial)
        {
            *slot = None;
        }
    }
}

/// Counts an attaching under way, also when it is given up half-way.
struct Attaching<'a, B: Backend>(&'a LocalLane<B>);

impl<'a, B: Backend> Attaching<'a, B> {
    fn begin(lane: &'a LocalLane<B>) -> Self {
        lane.attaching.set(lane.attaching.get() + 1);
        Self(lane)
    }
}

impl<B: Backend> Drop for Attaching<'_, B> {
    fn drop(&mut self) {
        let left = self.0.attaching.get() - 1;
        self.0.attaching.set(left);
        if left == 0 {
            self.0.early.borrow_mut().clear();
        }
    }
}
