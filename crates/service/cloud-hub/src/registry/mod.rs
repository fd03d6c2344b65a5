//! Devices and modules: made, changed, listed and deleted; each change is one commit with everything that belongs to it.

mod devices;
mod modules;

use skerry_model::{
    Authentication, AuthenticationDraft, ClientId, DeviceId, ErrorCode, ModuleId, ModuleRecord, Precondition,
    RequestError,
};
use skerry_state::{Change, Expect, Filter, Key};

use crate::CloudHub;
use crate::hub::Hub;
use crate::policy::generated_keys;
use crate::records::{self, StoredTwin};

pub use devices::Statistics;

/// Records of one device read at a time.
const PAGE: u32 = 1_000;
/// Who looks after the modules of a deployment.
pub(crate) const MANAGED_BY_EDGE: &str = "iotEdge";

impl CloudHub {
    /// How many clients are attached.
    pub fn attached_count(&self) -> usize {
        self.0.sessions.count()
    }
}

impl Hub {
    /// Refuses what is not registered.
    pub(crate) async fn known(&self, client: &ClientId) -> Result<(), RequestError> {
        match client {
            ClientId::Device(device) => self.known_device(device).await.map(drop),
            ClientId::Module(module) => self.known_module(module).await.map(drop),
        }
    }

    fn drafted_authentication(&self, draft: &AuthenticationDraft, stored: Option<&Authentication>) -> Authentication {
        match draft {
            AuthenticationDraft::None => Authentication::None,
            AuthenticationDraft::CertificateAuthority => Authentication::CertificateAuthority,
            AuthenticationDraft::SelfSigned { primary, secondary } => {
                Authentication::SelfSigned { primary: primary.clone(), secondary: secondary.clone() }
            }
            AuthenticationDraft::Sas { primary, secondary } => {
                let mut keys = match stored.and_then(Authentication::keys) {
                    Some(keys) => keys.clone(),
                    None => generated_keys(&self.random),
                };
                if let Some(primary) = primary {
                    keys.primary = primary.clone();
                }
                if let Some(secondary) = secondary {
                    keys.secondary = secondary.clone();
                }
                Authentication::Sas(keys)
            }
        }
    }
}

/// The changes that make a module with this twin.
pub(crate) fn new_module(module: &ModuleRecord, twin: &StoredTwin) -> Vec<Change> {
    let mut changes = vec![Change::put(module_key(&module.id), Expect::Absent, records::write_module(module))];
    changes.extend(new_twin(&module.id.clone().into(), twin));
    changes
}

fn new_twin(client: &ClientId, twin: &StoredTwin) -> [Change; 2] {
    let name = client.to_string();
    let document = records::write_twin(twin);
    [
        // Whatever is left of an identity of the same name is not the new one's.
        Change::put(Key::new(records::TWIN, name.clone()), Expect::Any, document),
        Change::delete(Key::new(records::ACTIVITY, name), Expect::Any),
    ]
}

/// Refuses when `when` asks for another etag than the stored one.
pub(crate) fn check_etag(stored: &str, when: &Precondition) -> Result<(), RequestError> {
    match when {
        Precondition::Etag(asked) if asked != stored => {
            let text = format!("the etag is `{stored}`, not `{asked}`: it was changed meanwhile");
            Err(RequestError::new(ErrorCode::PreconditionFailed, text))
        }
        Precondition::Absent | Precondition::Any | Precondition::Etag(_) => Ok(()),
    }
}

/// Everything whose id begins with the device's id and a slash, which ids cannot contain.
pub(crate) fn of_device(device: &DeviceId) -> Filter {
    Filter::id_prefix(format!("{device}/"))
}

fn module_key(id: &ModuleId) -> Key {
    Key::new(records::MODULE, id.to_string())
}
