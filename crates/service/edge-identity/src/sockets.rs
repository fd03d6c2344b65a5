//! One workload socket per module, each in a folder of its own that is what a container gets mounted: a mounted socket *file*
//! would be dead after a restart of the edge, a folder is not.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skerry_dialect::management::failure_body;
use skerry_model::ModuleName;
use skerry_net::http::{Response, ServerLimits, serve_http};
use skerry_net::{ListenAddress, Listener, Peer, Socket};
use tokio::task::{AbortHandle, JoinSet};

use crate::IdentityError;
use crate::workload::{ModuleApi, Shared};

/// Name of the socket in its folder; what containers find at `/var/run/iotedge/workload.sock`.
const SOCKET_NAME: &str = "workload.sock";
/// Connections to one socket, idle ones included; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// Longest folder name that is the module's own; longer ones are cut, since a socket's whole path has at most 107 bytes.
const FOLDER_NAME_BYTES_MAX: usize = 40;

/// Who may open a module's socket, before anybody's credentials are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketAccess {
    /// Every user (folder 0755, socket 0666): a container's processes may have any user id.
    Everybody,
    /// The user of this process (0700, 0600).
    Owner,
    /// One other user (0711, 0600, the socket given to that user); this process must be root. The folder stays ours, so that
    /// nothing in it is ever something that the other user put there.
    User {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// The folder of a module's socket below the workload folder. System modules are without their `$`; a name that does not serve
/// as a folder, or looks like a system module's, is told apart by a digest.
pub fn workload_folder_name(module: &ModuleName) -> String {
    let name = module.as_str();
    if let Some(system) = name.strip_prefix('$')
        && matches!(system, "edgeAgent" | "edgeHub")
    {
        return system.to_owned();
    }
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_plain && name.len() <= FOLDER_NAME_BYTES_MAX && !matches!(name, "edgeAgent" | "edgeHub") {
        return name.to_owned();
    }
    let stored = skerry_pki::stored_file_name(name, "");
    let (letters, digest) = stored.trim_end_matches('.').rsplit_once('-').unwrap_or_default();
    let mut folder: String = letters.chars().take(FOLDER_NAME_BYTES_MAX - 17).collect();
    let _ = write!(folder, "-{}", digest.get(..16).unwrap_or(digest));
    folder
}

/// The sockets that are served. Dropping it ends all of them.
#[derive(Debug)]
pub(crate) struct Sockets {
    folder: PathBuf,
    shared: Arc<Shared>,
    served: Mutex<BTreeMap<ModuleName, Served>>,
}

#[derive(Debug)]
struct Served {
    access: SocketAccess,
    task: AbortHandle,
}

impl Sockets {
    pub(crate) fn new(folder: PathBuf, shared: Arc<Shared>) -> Self {
        Self { folder, shared, served: Mutex::default() }
    }

    /// Serves `module`'s socket, unless it is served with the same access already. Tells its folder.
    pub(crate) fn open(&self, module: &ModuleName, access: SocketAccess) -> Result<PathBuf, IdentityError> {
        let folder = self.folder.join(workload_folder_name(module));
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = served.get(module) {
            if existing.access == access && folder.join(SOCKET_NAME).exists() {
                return Ok(folder);
            }
            existing.task.abort();
        }
        let failed = |cause| IdentityError::Folder { module: module.clone(), cause };
        make_folder(&self.folder, 0o711).and_then(|()| make_module_folder(&folder, access)).map_err(failed)?;
        let path = folder.join(SOCKET_NAME);
        let mode = if access == SocketAccess::Everybody { 0o666 } else { 0o600 };
        let listener = Listener::bind(&ListenAddress::Unix { path: path.clone(), mode })
            .map_err(|cause| IdentityError::Socket { module: module.clone(), cause })?;
        if let SocketAccess::User { uid, gid } = access {
            chown(&path, Some(uid), Some(gid)).map_err(failed)?;
        }
        let api = Arc::new(ModuleApi::new(module.clone(), Arc::clone(&self.shared)));
        let task = tokio::spawn(serve(listener, api)).abort_handle();
        served.insert(module.clone(), Served { access, task });
        Ok(folder)
    }

    /// Ends `module`'s socket and removes its folder.
    pub(crate) fn close(&self, module: &ModuleName) {
        if let Some(served) = self.served.lock().unwrap_or_else(PoisonError::into_inner).remove(module) {
            served.task.abort();
        }
        let folder = self.folder.join(workload_folder_name(module));
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%module, %error, "the folder of a workload socket cannot be removed");
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for served in self.served.lock().unwrap_or_else(PoisonError::into_inner).values() {
            served.task.abort();
        }
    }
}

/// The folder above must let other users pass, since the folder below may be theirs.
fn make_folder(path: &Path, mode: u32) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn make_module_folder(path: &Path, access: SocketAccess) -> std::io::Result<()> {
    let mode = match access {
        SocketAccess::Everybody => 0o755,
        SocketAccess::Owner => 0o700,
        SocketAccess::User { .. } => 0o711,
    };
    if !path.is_dir() {
        fs::DirBuilder::new().mode(0o700).create(path)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

async fn serve(listener: Listener, api: Arc<ModuleApi>) {
    let limits = Arc::new(ServerLimits {
        head_max: Duration::from_secs(60),
        body_max: Duration::from_secs(5),
        body_bytes_max: 1024 * 1024,
        refusal: |status, reason| Response::json(status, failure_body(reason)),
        ..ServerLimits::default()
    });
    // In a set, so that the connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (socket, peer) = listener.accept() => {
                if connections.len() < CONNECTIONS_MAX {
                    connections.spawn(connection(socket, peer, Arc::clone(&api), Arc::clone(&limits)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(socket: Socket, peer: Peer, api: Arc<ModuleApi>, limits: Arc<ServerLimits>) {
    let Peer::Unix(peer) = peer else { return };
    let Ok(stream) = socket.attach() else { return };
    let handler = |request| {
        let api = Arc::clone(&api);
        async move { api.answer(peer, &request).await.into() }
    };
    if let Err(error) = serve_http(stream, handler, &limits).await {
        tracing::debug!(%error, "a connection to a workload socket ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folder(name: &str) -> String {
        workload_folder_name(&ModuleName::parse(name).unwrap())
    }

    #[test]
    fn folders_are_readable_where_they_can_be() {
        assert_eq!(folder("$edgeHub"), "edgeHub");
        assert_eq!(folder("temp-sensor_1"), "temp-sensor_1");
        assert!(folder("edgeHub").starts_with("edgeHub-"));
        for name in ["..", ".", "a:b", "$x", &"m".repeat(128)] {
            let folder = folder(name);
            assert!(folder.len() <= FOLDER_NAME_BYTES_MAX && !folder.contains(['.', ':', '$']), "{folder}");
        }
    }

    proptest! {
        #[test]
        fn no_two_modules_share_a_folder(one in "[a-zA-Z0-9$._-]{1,60}", other in "[a-zA-Z0-9$._-]{1,60}") {
            let (one, other) = (ModuleName::parse(&one).unwrap(), ModuleName::parse(&other).unwrap());
            prop_assert_eq!(one == other, workload_folder_name(&one) == workload_folder_name(&other));
            prop_assert!(!workload_folder_name(&one).starts_with('.'));
        }
    }
}
