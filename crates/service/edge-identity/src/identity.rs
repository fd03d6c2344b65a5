//! The edge's identity as a whole: what the agent, the edge hub and the uplink get from here.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use skerry_dialect::connection_string::{Credential, split_port};
use skerry_model::{ClientId, DeviceId, ModuleName};
use skerry_pki::{SymmetricKey, files};

use crate::cache::Cache;
use crate::config::Provisioning;
use crate::hub::HubRegistry;
use crate::identities::Identities;
use crate::keys::EdgeKeys;
use crate::sockets::Sockets;
use crate::workload::Shared;
use crate::{EdgeAuthority, IdentityConfig, IdentityError, IdentityParts, ModuleIdentity, SocketAccess, TokenSigner};

/// Who this edge and its modules are.
#[derive(Debug)]
pub struct EdgeIdentity {
    shared: Arc<Shared>,
    sockets: Sockets,
    provisioning_changed: bool,
}

impl EdgeIdentity {
    /// Reads and makes what is on disk: keys, the authority, what is remembered of modules. The hub is not asked.
    ///
    /// # Errors
    /// When the connection string is not a device's with a shared key, or keys or certificates cannot be read or made.
    pub fn open(config: &IdentityConfig, parts: IdentityParts) -> Result<Self, IdentityError> {
        let ClientId::Device(device) = &config.connection.client else {
            return Err(IdentityError::Connection("it is a module's"));
        };
        let Credential::Key(key) = &config.connection.credential else {
            return Err(IdentityError::Connection("it has none"));
        };
        let (hub_host, _) = split_port(&config.connection.host);
        let provisioning = Arc::new(Provisioning { device: device.clone(), hub_host: hub_host.to_owned() });
        files::private_folder(&config.data_folder)?;
        let keys = Arc::new(EdgeKeys::open(&config.data_folder.join("keys"), parts.random.clone())?);
        let now = parts.clock.now().wall;
        let authority = Arc::new(EdgeAuthority::open(config, device, now, &parts.random)?);
        let hub = HubRegistry {
            http: parts.hub,
            provisioning: Arc::clone(&provisioning),
            key: SymmetricKey::from(key),
            clock: parts.clock,
        };
        let cache = Cache::at(&config.data_folder);
        let (identities, provisioning_changed) = Identities::open(hub, Arc::clone(&keys), cache)?;
        let shared = Arc::new(Shared {
            provisioning,
            identities: Arc::new(identities),
            keys,
            authority,
            caller_check: parts.caller_check,
            modules: parts.modules,
            clock: parts.clock,
        });
        let sockets = Sockets::new(config.workload_folder.clone(), Arc::clone(&shared));
        Ok(Self { shared, sockets, provisioning_changed })
    }

    /// The edge device.
    pub fn device(&self) -> &DeviceId {
        &self.shared.provisioning.device
    }

    /// The hub's name, without port: what tokens are for, and `IOTEDGE_IOTHUBHOSTNAME`.
    pub fn hub_host(&self) -> &str {
        &self.shared.provisioning.hub_host
    }

    /// What was remembered belonged to another device or hub: all modules are to be removed before anything else is done.
    pub fn provisioning_changed(&self) -> bool {
        self.provisioning_changed
    }

    /// Makes sure that `$edgeAgent` and `$edgeHub` have shared keys at the hub. What is known from before is used when the hub
    /// cannot be reached.
    ///
    /// # Errors
    /// When the hub refuses, is unknown with this device, or cannot be reached on the first start ever.
    pub async fn first_contact(&self) -> Result<(), IdentityError> {
        for module in [ModuleName::edge_agent(), ModuleName::edge_hub()] {
            self.ensure(&module).await?;
        }
        Ok(())
    }

    /// The identity of a module that is in the manifest, made at the hub when needed. When the hub cannot be reached, an identity
    /// that is known is good; finding that out takes up to 40 s, but only once in 30 s for all modules together.
    ///
    /// # Errors
    /// When the hub refuses, or it cannot be reached and the module is new.
    pub async fn ensure(&self, module: &ModuleName) -> Result<ModuleIdentity, IdentityError> {
        self.shared.identities.ensure(module).await
    }

    /// The identity of a module as remembered, without asking anybody.
    pub fn known(&self, module: &ModuleName) -> Option<ModuleIdentity> {
        self.shared.identities.known(module)
    }

    /// Deletes what the manifest dropped: identities at the hub that an edge looks after (`managedBy` `iotEdge`) and that are not
    /// `wanted`, and the sockets of modules that are known and not `wanted`. System modules stay. Tells which identities were
    /// deleted.
    ///
    /// # Errors
    /// When the hub cannot be reached or refuses; what was dropped here is then deleted there by a later call.
    pub async fn retain(&self, wanted: &BTreeSet<ModuleName>) -> Result<Vec<ModuleName>, IdentityError> {
        for module in self.shared.identities.names() {
            if !module.is_system() && !wanted.contains(&module) {
                self.sockets.close(&module);
            }
        }
        let deleted = self.shared.identities.retain(wanted).await?;
        for module in &deleted {
            self.sockets.close(module);
        }
        Ok(deleted)
    }

    /// Serves the workload API to `module` and tells the folder its socket is in, which is what a container gets mounted. Called
    /// again it does nothing, or changes the access. Needs a tokio runtime, which then runs it.
    ///
    /// # Errors
    /// When folder or socket cannot be made.
    pub fn open_socket(&self, module: &ModuleName, access: SocketAccess) -> Result<PathBuf, IdentityError> {
        self.sockets.open(module, access)
    }

    /// Ends the workload API of `module` and removes the folder of its socket.
    pub fn close_socket(&self, module: &ModuleName) {
        self.sockets.close(module);
    }

    /// Signs tokens of `module`, such as `$edgeAgent` for the agent's uplink, whose token source this is.
    pub fn tokens(&self, module: &ModuleName) -> TokenSigner {
        TokenSigner {
            module: module.clone(),
            provisioning: Arc::clone(&self.shared.provisioning),
            identities: Arc::clone(&self.shared.identities),
            keys: Arc::clone(&self.shared.keys),
            clock: self.shared.clock,
        }
    }

    /// The edge's certificate authority.
    pub fn authority(&self) -> &EdgeAuthority {
        &self.shared.authority
    }
}
