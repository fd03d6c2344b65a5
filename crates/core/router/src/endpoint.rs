//! Where messages can go.

use std::sync::Arc;

use skerry_model::{DeviceId, manifest::RoutePriority};
use skerry_query::edge_routes::Sink;

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// The hub above.
    Upstream,
    /// An input of a module of this device. Names are compared exactly; neither needs to exist.
    Input {
        /// The module's name.
        module: Arc<str>,
        /// The input's name.
        input: Arc<str>,
    },
}

impl Endpoint {
    /// The original's name for the endpoint: `iothub` or `device/module/input`. Used in metrics and queue names.
    pub fn id(&self, edge_device: &DeviceId) -> String {
        match self {
            Self::Upstream => "iothub".to_owned(),
            Self::Input { module, input } => format!("{edge_device}/{module}/{input}"),
        }
    }

    /// The original's name for the endpoint's queue of one priority.
    pub fn queue(&self, edge_device: &DeviceId, priority: RoutePriority) -> String {
        let id = self.id(edge_device);
        if priority == RoutePriority::DEFAULT { id } else { format!("{id}_Pri{}", priority.number()) }
    }
}

impl From<&Sink> for Endpoint {
    fn from(sink: &Sink) -> Self {
        match sink {
            Sink::Upstream => Self::Upstream,
            Sink::Input { module, input } => {
                Self::Input { module: module.as_str().into(), input: input.as_str().into() }
            }
        }
    }
}

/// An endpoint's place in [`Router::endpoints`](crate::Router::endpoints); means nothing to another version of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointIndex(pub(crate) u16);

impl EndpointIndex {
    /// The place as a number, from 0.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}
