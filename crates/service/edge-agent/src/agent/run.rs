//! The agent's loop: the only place that waits, the owner of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skerry_deployment::reconcile::{History, Observed, Underway};
use skerry_model::json::JsonObject;
use skerry_model::manifest::SpecDigest;
use skerry_model::{Channel, Delivery, Manifest, ModuleName, Monotonic, Now, Reply, Request, Timestamp};
use skerry_module_runtime as runtime;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::look::Look;
use super::sync::{Reporting, TwinReading};
use super::{Command, ModuleError};
use crate::desired::Desired;
use crate::edge_hub::EdgeHubSettings;
use crate::perform::{Finished, Outcome, Shared};
use crate::ports::{IdentityFailure, UpstreamState};
use crate::report::DeploymentResult;
use crate::store::Store;

/// Deliveries that wait for the loop.
const DELIVERIES_WAITING_MAX: usize = 16;
/// How long what is under way may take to end when the agent is stopped.
const WORK_ENDS_MAX: Duration = Duration::from_secs(10);
/// How long modules may take to stop when the agent is stopped.
const MODULES_STOP_MAX: Duration = Duration::from_secs(30);
/// How long the hub is given to be told.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Everything the agent knows.
pub(super) struct Agent {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) started_at: Timestamp,
    pub(super) desired: Desired,
    /// The manifest in force.
    pub(super) manifest: Option<Arc<Manifest>>,
    /// The version of the desired properties that the manifest in force comes from.
    pub(super) manifest_version: u64,
    /// Desired properties were heard from the hub in this life.
    pub(super) heard_from_hub: bool,
    pub(super) history: History,
    pub(super) history_changed: bool,
    pub(super) result: DeploymentResult,
    /// What is wrong with refused desired properties, one sentence each; empty when they were taken.
    pub(super) refused: Vec<String>,
    /// What the runtimes said last.
    pub(super) seen: Vec<Seen>,
    /// The same in the planner's words.
    pub(super) observed: Observed,
    pub(super) works: BTreeMap<ModuleName, Work>,
    /// Rises when something is begun or ended, so that what was seen before is known to be old.
    pub(super) changes: u64,
    pub(super) problems: BTreeMap<ModuleName, String>,
    pub(super) waiting_for_hub: BTreeSet<ModuleName>,
    /// Modules whose workload socket was opened in this life.
    pub(super) sockets: BTreeSet<ModuleName>,
    pub(super) look: Look,
    pub(super) twin: TwinReading,
    pub(super) reporting: Reporting,
    /// Identities of modules that are gone are still to be deleted.
    pub(super) cleanup_wanted: bool,
    pub(super) cleanup_runs: bool,
    /// The last attempt failed; the next connection is the time for another.
    pub(super) cleanup_after_reconnect: bool,
    pub(super) connection: Option<u64>,
    pub(super) edge_hub: watch::Sender<EdgeHubSettings>,
    pub(super) tasks: JoinSet<Event>,
}

/// What one runtime said.
pub(super) struct Seen {
    pub(super) kind: &'static str,
    pub(super) modules: Result<Vec<runtime::ObservedModule>, String>,
}

/// Steps of one module that are being done.
pub(super) struct Work {
    pub(super) digest: Option<SpecDigest>,
    pub(super) preparing: Arc<AtomicBool>,
    pub(super) will_start: bool,
    pub(super) cancel: Option<oneshot::Sender<()>>,
    pub(super) waiting: Option<oneshot::Sender<Result<(), ModuleError>>>,
}

impl Work {
    pub(super) fn underway(&self, module: &ModuleName) -> Underway {
        Underway {
            module: module.clone(),
            digest: self.digest,
            is_preparing: self.preparing.load(Ordering::Relaxed),
            will_start: self.will_start,
        }
    }
}

/// What a task of the agent came to.
pub(super) enum Event {
    Looked {
        changes: u64,
        seen: Vec<Seen>,
    },
    Worked(Finished),
    /// A module that was here before us has an identity again.
    Adopted(ModuleName, Result<(), IdentityFailure>),
    TwinRead(Reply),
    ReportSent {
        document: JsonObject,
        reply: Reply,
    },
    Cleaned(Result<(), IdentityFailure>),
    Answered,
}

impl Agent {
    pub(super) fn new(
        shared: Arc<Shared>,
        store: Store,
        history: History,
        kept: Option<(JsonObject, u64)>,
        edge_hub: watch::Sender<EdgeHubSettings>,
    ) -> Self {
        let mut agent = Self {
            started_at: shared.parts.clock.now().wall,
            desired: kept.map_or_else(Desired::default, |(document, version)| Desired::kept(document, version)),
            shared,
            store,
            manifest: None,
            manifest_version: 0,
            heard_from_hub: false,
            history,
            history_changed: false,
            result: DeploymentResult::none_yet(),
            refused: Vec::new(),
            seen: Vec::new(),
            observed: Observed::default(),
            works: BTreeMap::new(),
            changes: 0,
            problems: BTreeMap::new(),
            waiting_for_hub: BTreeSet::new(),
            sockets: BTreeSet::new(),
            look: Look::default(),
            twin: TwinReading::default(),
            reporting: Reporting::default(),
            cleanup_wanted: false,
            cleanup_runs: false,
            cleanup_after_reconnect: false,
            connection: None,
            edge_hub,
            tasks: JoinSet::new(),
        };
        agent.take_kept();
        agent
    }

    pub(super) fn now(&self) -> Now {
        self.shared.parts.clock.now()
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (_forwarders, runtimes_changed, mut deliveries) = self.listen();
        let mut upstream = self.shared.parts.upstream.state();
        let state = upstream.borrow_and_update().clone();
        self.upstream_changed(&state);
        let mut edge_hub = self.shared.parts.edge_hub.clone();
        let stopped = loop {
            self.begin_what_is_due();
            let next = self.next_moment();
            tokio::select! {
                Some(event) = self.tasks.join_next(), if !self.tasks.is_empty() => match event {
                    Ok(event) => self.handle(event).await,
                    Err(ended) => self.pass_on_panic(ended),
                },
                Some(delivery) = deliveries.recv() => self.delivered(delivery).await,
                () = runtimes_changed.notified() => self.look.is_wanted = true,
                Ok(()) = upstream.changed() => {
                    let state = upstream.borrow_and_update().clone();
                    self.upstream_changed(&state);
                }
                // What it says is read when it is reported.
                Ok(()) = edge_hub.changed() => self.reporting.is_wanted = true,
                command = commands.recv() => match command {
                    Some(Command::Stop(done)) => break Some(done),
                    Some(command) => self.asked(command),
                    None => break None,
                },
                () = self.shared.parts.clock.sleep_until(Some(next)) => {}
            }
            self.keep_history().await;
        };
        if let Some(done) = stopped {
            self.stop().await;
            // Nobody waiting is fine.
            let _ = done.send(());
        }
    }

    /// Starts to hear deliveries and changes of the runtimes; it ends when the first value is dropped.
    fn listen(&mut self) -> (JoinSet<()>, Arc<Notify>, mpsc::Receiver<Delivery>) {
        let mut forwarders = JoinSet::new();
        let changed = Arc::new(Notify::new());
        for part in &self.shared.parts.runtimes {
            let (mut events, changed) = (part.runtime.events(), Arc::clone(&changed));
            forwarders.spawn(async move {
                loop {
                    events.changed().await;
                    changed.notify_one();
                }
            });
        }
        let (sender, deliveries) = mpsc::channel(DELIVERIES_WAITING_MAX);
        let upstream = Arc::clone(&self.shared.parts.upstream);
        forwarders.spawn(async move {
            for channel in [Channel::Desired, Channel::Methods] {
                if let Reply::Failed(error) = upstream.submit(Request::Listen(channel)).await {
                    tracing::warn!(?channel, %error, "the hub does not let us listen");
                }
            }
            while let Some(delivery) = upstream.next_delivery().await {
                if sender.send(delivery).await.is_err() {
                    break;
                }
            }
        });
        (forwarders, changed, deliveries)
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Looked { changes, seen } => self.looked(changes, seen),
            Event::Worked(finished) => self.worked(finished),
            Event::Adopted(module, outcome) => self.adopted(&module, outcome),
            Event::TwinRead(reply) => self.twin_read(reply).await,
            Event::ReportSent { document, reply } => self.report_sent(document, reply),
            Event::Cleaned(outcome) => self.cleaned(outcome),
            Event::Answered => {}
        }
    }

    fn worked(&mut self, finished: Finished) {
        let Finished { module, outcome, created, restarted } = finished;
        let Some(work) = self.works.remove(&module) else { return };
        self.changes += 1;
        self.look.is_wanted = true;
        let now = self.now().wall;
        if created {
            self.history.forgive(&module);
            self.sockets.insert(module.clone());
            self.history_changed = true;
        }
        if restarted {
            self.history.restarted(&module, now);
            self.history_changed = true;
        }
        let answer = match outcome {
            Outcome::Done => {
                self.problems.remove(&module);
                self.waiting_for_hub.remove(&module);
                if self.history.of(&module).failures > 0 {
                    self.history.succeeded(&module);
                    self.history_changed = true;
                }
                Ok(())
            }
            Outcome::GivenUp => Err(ModuleError::Busy(module.clone())),
            Outcome::Failed(failure) => {
                tracing::warn!(%module, error = %failure, "module is not as it should be");
                if failure.waits_for_hub() {
                    self.waiting_for_hub.insert(module.clone());
                }
                self.history.failed(&module, now);
                self.history_changed = true;
                let text = failure.to_string();
                self.problems.insert(module.clone(), text.clone());
                Err(ModuleError::Failed(text))
            }
        };
        if let Some(waiting) = work.waiting {
            // Whoever asked may have gone.
            let _ = waiting.send(answer);
        }
    }

    fn upstream_changed(&mut self, state: &UpstreamState) {
        if self.connection == state.connection {
            return;
        }
        self.connection = state.connection;
        match state.connection {
            Some(number) => {
                tracing::info!(number, "connected to the hub");
                self.twin.want_now();
                self.reporting.retry_now();
                for module in std::mem::take(&mut self.waiting_for_hub) {
                    self.history.succeeded(&module);
                    self.history_changed = true;
                }
                self.cleanup_wanted |= std::mem::take(&mut self.cleanup_after_reconnect);
                self.look.is_wanted = true;
            }
            None => tracing::info!(problem = state.problem.as_deref().unwrap_or("none told"), "the hub is away"),
        }
    }

    fn asked(&mut self, command: Command) {
        // Whoever asked may have gone; the answer is then nobody's.
        match command {
            Command::List(answer) => drop(answer.send(self.list())),
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Restart(module, answer) => self.restart(module, answer),
            Command::Stop(_) => {}
        }
    }

    pub(super) fn next_moment(&self) -> Monotonic {
        let moments = [Some(self.look.next), self.look.plan_at, self.twin_moment(), self.report_moment()];
        moments.into_iter().flatten().min().unwrap_or(self.look.next)
    }

    async fn keep_history(&mut self) {
        if std::mem::take(&mut self.history_changed)
            && let Err(error) = self.store.save_history(&self.history).await
        {
            tracing::error!(%error, "restarts are not remembered");
        }
    }

    /// A panic in a task is a bug here: the task of the agent ends with it and its supervisor starts a new one.
    fn pass_on_panic(&self, ended: tokio::task::JoinError) {
        if ended.is_panic() {
            std::panic::resume_unwind(ended.into_panic());
        }
    }

    async fn stop(&mut self) {
        for work in self.works.values_mut().filter(|work| work.preparing.load(Ordering::Relaxed)) {
            work.cancel.take().map(|cancel| cancel.send(()));
        }
        let ends = async {
            while !self.works.is_empty() {
                match self.tasks.join_next().await {
                    Some(Ok(Event::Worked(finished))) => self.worked(finished),
                    Some(_) => {}
                    None => break,
                }
            }
        };
        // What is not done by then ends with us; what is there is seen at the next start.
        let _ = tokio::time::timeout(WORK_ENDS_MAX, ends).await;
        self.keep_history().await;
        if tokio::time::timeout(MODULES_STOP_MAX, self.stop_modules()).await.is_err() {
            tracing::warn!("some modules did not stop in time");
        }
        if self.connection.is_some() {
            let farewell = Request::PatchReported { patch: super::sync::farewell(), if_version: None };
            // The hub keeps the last word it had otherwise.
            let _ = tokio::time::timeout(FAREWELL_MAX, self.shared.parts.upstream.submit(farewell)).await;
        }
    }

    /// Stops, side by side, the modules that would not outlive us.
    async fn stop_modules(&self) {
        let mut stopping = JoinSet::new();
        for part in self.shared.parts.runtimes.iter().filter(|part| !part.runtime.outlives_us()) {
            let Ok(modules) = part.runtime.observe().await else { continue };
            for module in modules {
                let runtime = Arc::clone(&part.runtime);
                stopping.spawn(async move {
                    if let Err(error) = runtime.stop(&module.name, None).await {
                        tracing::warn!(module = %module.name, %error, "module was not stopped");
                    }
                });
            }
        }
        while stopping.join_next().await.is_some() {}
    }
}
