//! How agent and edge hub fare, which are programs of ours and no modules that a runtime could be asked about.

use skerry_model::ModuleSpec;
use skerry_model::manifest::{DesiredStatus, RuntimeStatus};

use crate::edge_hub::{EdgeHubNews, edge_hub_settings};

/// Status of a system module, and what there is to be said about it.
pub(crate) struct Condition {
    pub(crate) status: RuntimeStatus,
    /// One phrase each.
    pub(crate) remarks: Vec<String>,
}

impl Condition {
    /// A sentence as the original reports it, which always has the status in it.
    pub(crate) fn sentence(&self) -> String {
        let words: Vec<_> =
            std::iter::once(self.status.as_str()).chain(self.remarks.iter().map(String::as_str)).collect();
        words.join("; ")
    }
}

/// That of the agent, which runs, or nobody would ask.
pub(crate) fn agent_condition(spec: Option<&ModuleSpec>) -> Condition {
    let names: Vec<_> = spec.into_iter().flat_map(|spec| spec.env.keys()).map(String::as_str).collect();
    let ignored = (!names.is_empty()).then(|| format!("ignored environment: {}", names.join(", ")));
    Condition { status: RuntimeStatus::Running, remarks: ignored.into_iter().collect() }
}

/// That of the edge hub.
pub(crate) fn hub_condition(spec: Option<&ModuleSpec>, news: &EdgeHubNews) -> Condition {
    let status = match spec.map(|spec| spec.status) {
        Some(DesiredStatus::Stopped) => RuntimeStatus::Stopped,
        _ if news.is_away => RuntimeStatus::Failed,
        _ => RuntimeStatus::Running,
    };
    let mut remarks = Vec::new();
    if news.is_away {
        remarks.push("the hub beside this agent does not answer".to_owned());
    }
    remarks.extend(spec.map(edge_hub_settings).unwrap_or_default().remarks);
    remarks.extend(news.remarks.iter().cloned());
    Condition { status, remarks }
}
