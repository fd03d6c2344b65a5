//! Which queues a sender's messages go into, worked out once per sender and output as far as no condition has a say.

use std::sync::Arc;

use skerry_log::Destination;
use skerry_model::{ClientId, DeviceId, MessageView, Timestamp, system};
use skerry_query::MessageFields;
use skerry_router::{Destinations, Origin, SourceMatch};
use smallvec::SmallVec;

use crate::settings::Routes;

/// Outputs of one sender whose routes are remembered; with more, the oldest is worked out again.
const OUTPUTS_MAX: usize = 32;

/// What is remembered for one sender.
#[derive(Default)]
pub(crate) struct SenderRoutes {
    routes: Option<Arc<Routes>>,
    version: u64,
    known: SmallVec<[(Option<String>, SourceMatch); 2]>,
}

/// Where one message goes.
pub(crate) type Queued = SmallVec<[Destination; 4]>;

impl SenderRoutes {
    /// Follows a change of the routes; `None` while there are none.
    pub(crate) fn follow(&mut self, version: u64, current: impl FnOnce() -> Option<Arc<Routes>>) -> Option<()> {
        if self.routes.is_none() || self.version != version {
            self.routes = current();
            self.version = version;
            self.known.clear();
        }
        self.routes.as_ref().map(|_| ())
    }

    /// The queues that `message` of `sender` goes into.
    pub(crate) fn queues(
        &mut self,
        edge: &DeviceId,
        sender: &ClientId,
        message: &MessageView<'_>,
        now: Timestamp,
    ) -> Queued {
        let Some(routes) = self.routes.clone() else { return Queued::new() };
        let at = self.source(&routes, edge, sender, message);
        let Some((_, source)) = self.known.get(at) else { return Queued::new() };
        match source.fixed() {
            Some(fixed) => queued(&routes, fixed, now),
            None => {
                let mut fields =
                    MessageFields::new(*message).with_system("connectionDeviceId", sender.device().as_str());
                // Of a device it is not defined, by which routes tell devices from modules.
                if let Some(module) = sender.module() {
                    fields = fields.with_system("connectionModuleId", module.as_str());
                }
                queued(&routes, &routes.router.destinations(source, &fields), now)
            }
        }
    }

    fn source(&mut self, routes: &Routes, edge: &DeviceId, sender: &ClientId, message: &MessageView<'_>) -> usize {
        // Only modules of this device have outputs; most bags that name none are seen not to without being decoded.
        let module = sender.module().filter(|_| sender.device() == edge);
        let named = module.is_some() && message.properties.as_str().contains(".on=");
        let output = if named { message.properties.get(system::OUTPUT_NAME) } else { None };
        if let Some(at) = self.known.iter().position(|(known, _)| known.as_deref() == output.as_deref()) {
            return at;
        }
        let origin = match module {
            None => Origin::Device,
            Some(module) => Origin::Module { module: module.as_str(), output: output.as_deref() },
        };
        if self.known.len() >= OUTPUTS_MAX {
            self.known.remove(0);
        }
        self.known.push((output.as_deref().map(str::to_owned), routes.router.sources(&origin)));
        self.known.len() - 1
    }
}

/// The queues behind the endpoints of `destinations`, with the moment at which a message taken now is worthless there.
pub(crate) fn queued(routes: &Routes, destinations: &Destinations, now: Timestamp) -> Queued {
    destinations
        .iter()
        .filter_map(|destination| {
            let queue = *routes.queues.get(destination.endpoint.get())?.get(&destination.priority)?;
            let time_to_live = destination.time_to_live.or(routes.store.time_to_live);
            Some(Destination { queue, expires: time_to_live.map(|time| now.plus(time)) })
        })
        .collect()
}
