//! What all connections of one runtime share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skerry_net::Clock;

use crate::lane::LocalLane;
use crate::mqtt::Buffers;
use crate::{Backend, Door, GatewayConfig, HttpRoutes};

/// What all runtimes share.
pub(crate) struct Shared<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) config: GatewayConfig,
    pub(crate) clock: Clock,
    pub(crate) door: Arc<Door>,
    pub(crate) routes: Option<Arc<dyn HttpRoutes>>,
    /// Counts connections and failures, from a random start.
    pub(crate) numbers: AtomicU64,
}

/// One connection runtime.
pub(crate) struct Runtime<B: Backend> {
    shared: Arc<Shared<B>>,
    pub(crate) lane: Rc<LocalLane<B>>,
    pub(crate) buffers: Buffers,
    /// A topic under construction; kept so that none is allocated per message.
    pub(crate) topic: RefCell<String>,
}

impl<B: Backend> Runtime<B> {
    pub(crate) fn new(shared: Arc<Shared<B>>) -> Rc<Self> {
        let lane = LocalLane::new(&*shared.backend);
        Rc::new(Self { shared, lane, buffers: Buffers::new(), topic: RefCell::default() })
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Names one failure, so that what a client was told can be found in the log.
    pub(crate) fn tracking_id(&self) -> String {
        format!("{:016x}", self.next_number())
    }
}

impl<B: Backend> std::ops::Deref for Runtime<B> {
    type Target = Shared<B>;

    fn deref(&self) -> &Shared<B> {
        &self.shared
    }
}
