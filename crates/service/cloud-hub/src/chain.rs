//! Who may speak for whom: each link of an auth chain must stand below the next one.

use skerry_model::{AuthChain, ClientId, Denied, DeviceId, DeviceRecord};

use crate::authenticate::{check_status, store_failed};
use crate::hub::Hub;

impl Hub {
    /// Checks that `chain` leads from its subject up to the edge device `edge`, everybody on it being known and enabled.
    pub(crate) async fn check_chain(&self, chain: &AuthChain, edge: &DeviceId) -> Result<(), Denied> {
        let (first, rest) = match chain.links() {
            [] => return Err(Denied::unauthorized("the auth chain is empty")),
            [first, rest @ ..] => (first, rest),
        };
        if chain.actor() != Some(&ClientId::Device(edge.clone())) {
            return Err(Denied::unauthorized(format!("the auth chain does not end in {edge}")));
        }
        let found = self.find_for_connection(first).await?;
        let mut below = found.device;
        check_status(&below)?;
        // A module stands below its own device, which may be the last link or is named as the next one.
        let rest = match (first, rest) {
            (ClientId::Module(_), [next, rest @ ..]) if *next == ClientId::Device(below.id.clone()) => rest,
            (ClientId::Module(module), _) => {
                return Err(Denied::unauthorized(format!("in the auth chain, {module} is not followed by its device")));
            }
            (ClientId::Device(_), rest) => rest,
        };
        for link in rest {
            let ClientId::Device(id) = link else {
                return Err(Denied::unauthorized("an auth chain has modules in its first place only"));
            };
            let device = self.device(id).await.map_err(store_failed)?;
            let device = device.ok_or_else(|| Denied::unauthorized(format!("device {id} is unknown")))?;
            check_status(&device)?;
            if !stands_below(&below, &device) {
                return Err(Denied::unauthorized(format!("{} does not stand below {id}", below.id)));
            }
            below = device;
        }
        if below.iot_edge { Ok(()) } else { Err(Denied::unauthorized(format!("{edge} is not an edge device"))) }
    }
}

/// Whether `child` names the scope that `parent` opens.
pub(crate) fn stands_below(child: &DeviceRecord, parent: &DeviceRecord) -> bool {
    parent.own_scope().is_some_and(|scope| child.parent.as_ref() == Some(&scope))
}
