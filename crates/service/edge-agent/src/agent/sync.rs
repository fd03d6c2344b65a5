//! Talking with the hub: the twin, what is reported, methods.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skerry_model::json::JsonObject;
use skerry_model::{Delivery, Json, MethodAnswer, MethodCall, Monotonic, Reply, Request, difference};
use skerry_uplink::is_final;
use tokio::sync::oneshot;

use super::ModuleError;
use super::run::{Agent, Event};
use crate::methods::{self, Asked};
use crate::report::{Reported, document};

/// Reading the twin is tried again after 2 s, then later and later, at last every 60 s.
const TWIN_RETRY_MIN: Duration = Duration::from_secs(2);
const TWIN_RETRY_MAX: Duration = Duration::from_secs(60);
/// Changes are gathered this long before they are reported, and reports are at least this far apart.
const GATHER: Duration = Duration::from_millis(500);
/// A report that failed is sent again after this.
const REPORT_RETRY: Duration = Duration::from_secs(10);

/// When the twin is read.
#[derive(Debug, Default)]
pub(super) struct TwinReading {
    is_wanted: bool,
    runs: bool,
    not_before: Monotonic,
    retry: Duration,
    read_at: Option<Monotonic>,
}

impl TwinReading {
    pub(super) fn want_now(&mut self) {
        self.is_wanted = true;
        self.retry = TWIN_RETRY_MIN;
        self.not_before = Monotonic::default();
    }
}

/// What was reported and what is to be.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    /// Something may be different.
    pub(super) is_wanted: bool,
    runs: bool,
    not_before: Monotonic,
    /// What the hub has; `None` until the twin was read.
    known: Option<JsonObject>,
    /// A document the hub would never take.
    refused: Option<JsonObject>,
}

impl Reporting {
    pub(super) fn retry_now(&mut self) {
        self.not_before = Monotonic::default();
    }
}

/// The last words of an agent that stops.
pub(super) fn farewell() -> JsonObject {
    let words = json!({ "lastDesiredStatus": { "code": 406, "description": "Agent is not running" } });
    words.as_object().cloned().unwrap_or_default()
}

impl Agent {
    pub(super) fn twin_moment(&self) -> Option<Monotonic> {
        if self.connection.is_none() || self.twin.runs {
            return None;
        }
        let regular = self.twin.read_at.map(|at| at + self.shared.config.twin_every);
        if self.twin.is_wanted { Some(self.twin.not_before) } else { regular }
    }

    pub(super) fn report_moment(&self) -> Option<Monotonic> {
        let is_possible = self.connection.is_some() && !self.reporting.runs && self.reporting.known.is_some();
        (is_possible && self.reporting.is_wanted).then_some(self.reporting.not_before)
    }

    pub(super) fn begin_sync(&mut self, now: Monotonic) {
        let upstream = Arc::clone(&self.shared.parts.upstream);
        if self.twin_moment().is_some_and(|at| at <= now) {
            (self.twin.is_wanted, self.twin.runs) = (false, true);
            let upstream = Arc::clone(&upstream);
            self.tasks.spawn(async move { Event::TwinRead(upstream.submit(Request::GetTwin).await) });
        }
        if self.report_moment().is_some_and(|at| at <= now) {
            self.reporting.is_wanted = false;
            let document = self.document();
            let patch = self.reporting.known.as_ref().map(|known| difference(known, &document)).unwrap_or_default();
            if patch.is_empty() || self.reporting.refused.as_ref() == Some(&document) {
                return;
            }
            self.reporting.runs = true;
            self.tasks.spawn(async move {
                let reply = upstream.submit(Request::PatchReported { patch, if_version: None }).await;
                Event::ReportSent { document, reply }
            });
        }
    }

    fn document(&self) -> JsonObject {
        let missing = self.manifest.as_ref().map(|manifest| self.missing_kinds(manifest)).unwrap_or_default();
        let modules = self.manifest.as_ref().map(|manifest| self.views(manifest, &missing)).unwrap_or_default();
        document(&Reported {
            config: &self.shared.config,
            edge_hub: &self.shared.parts.edge_hub.borrow(),
            started_at: self.started_at,
            manifest: self.manifest.as_deref(),
            modules: &modules,
            result: &self.result,
        })
    }

    pub(super) async fn twin_read(&mut self, reply: Reply) {
        self.twin.runs = false;
        let now = self.now().monotonic;
        let Reply::Twin(twin) = reply else {
            if let Reply::Failed(error) = &reply {
                tracing::debug!(%error, "the twin was not read");
            }
            self.twin.is_wanted = true;
            self.twin.not_before = now + self.twin.retry;
            self.twin.retry = (self.twin.retry * 2).clamp(TWIN_RETRY_MIN, TWIN_RETRY_MAX);
            return;
        };
        self.twin.read_at = Some(now);
        self.twin.retry = TWIN_RETRY_MIN;
        self.heard_from_hub = true;
        let mut reported = twin.get("reported").and_then(Json::as_object).cloned().unwrap_or_default();
        reported.retain(|key, _| !key.starts_with('$'));
        self.reporting.known = Some(reported);
        self.reporting.is_wanted = true;
        self.desired.take_whole(twin.get("desired").unwrap_or(&Json::Null));
        self.evaluate().await;
    }

    pub(super) fn report_sent(&mut self, document: JsonObject, reply: Reply) {
        self.reporting.runs = false;
        let now = self.now().monotonic;
        match reply {
            Reply::Failed(error) => {
                self.reporting.is_wanted = true;
                self.reporting.not_before = now + REPORT_RETRY;
                if is_final(error.code) {
                    tracing::error!(%error, "the hub does not take what is reported");
                    self.reporting.refused = Some(document);
                } else {
                    // It may have been taken all the same: ask what the hub has.
                    self.reporting.known = None;
                    self.twin.is_wanted = true;
                    self.twin.not_before = now + TWIN_RETRY_MIN;
                }
            }
            Reply::Twin(_) | Reply::Reported { .. } | Reply::Done | Reply::MethodResult { .. } => {
                self.reporting.known = Some(document);
                self.reporting.refused = None;
                self.reporting.not_before = now + GATHER;
            }
        }
    }

    pub(super) async fn delivered(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Desired { patch, version } => {
                if self.desired.take_patch(&patch, version) {
                    self.evaluate().await;
                } else {
                    self.twin.want_now();
                }
            }
            Delivery::Method(call) => self.called(call),
            // Nobody listens to these here.
            Delivery::Command { .. } | Delivery::Input { .. } => {}
        }
    }

    fn called(&mut self, call: MethodCall) {
        let upstream = Arc::clone(&self.shared.parts.upstream);
        let outcome = match methods::read(&call.name, &call.payload) {
            Ok(Asked::Ping) => Ok(methods::done()),
            Err(answer) => Ok(answer),
            Ok(Asked::Restart(module)) => {
                let (answer, answered) = oneshot::channel();
                self.restart(module, answer);
                Err(answered)
            }
        };
        self.tasks.spawn(async move {
            let (status, payload) = match outcome {
                Ok(answer) => answer,
                Err(answered) => match answered.await.unwrap_or(Err(ModuleError::Ended)) {
                    Ok(()) => methods::done(),
                    Err(error) => methods::failure(500, &error.to_string()),
                },
            };
            let answer = MethodAnswer { id: call.id, status, payload: payload.into() };
            if let Reply::Failed(error) = upstream.submit(Request::AnswerMethod(answer)).await {
                tracing::debug!(method = call.name, %error, "a method's answer was not sent");
            }
            Event::Answered
        });
    }
}
