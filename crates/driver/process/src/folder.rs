//! Where things of a module lie on disk, and who may enter there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FlockOperation, Gid, Uid, chown, flock};
use skerry_model::ModuleName;

use crate::record::private_file;

/// Module names may hold characters with a meaning in paths and shells.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Folder of one module.
#[derive(Debug, Clone)]
pub(crate) struct ModuleFolder(PathBuf);

impl ModuleFolder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder of `module` below `modules`.
    pub(crate) fn of(modules: &Path, module: &ModuleName) -> Self {
        Self(modules.join(file_name(module)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn launch(&self) -> PathBuf {
        self.0.join("launch.json")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run.json")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.0.join("output.log")
    }

    /// The module's own hosts file.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// The file whose lock says that a supervisor is alive.
    pub(crate) fn lock_file(&self) -> io::Result<File> {
        lock_file(&self.0)
    }
}

/// A module's name as one component of a path.
pub(crate) fn file_name(module: &ModuleName) -> String {
    utf8_percent_encode(module.as_str(), ESCAPED).to_string()
}

pub(crate) fn lock_file(folder: &Path) -> io::Result<File> {
    private_file(&folder.join("lock"), OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Takes the lock of the file, or tells that somebody else has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes a folder with this mode, whatever the umask is; an existing one gets the mode.
pub(crate) fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Gives a folder to the user and group `user`, or leaves it to us, and shuts everybody else out.
pub(crate) fn give(path: &Path, user: Option<u32>) -> io::Result<()> {
    if let Some(user) = user {
        chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// The folder on the way to `path` that `user` cannot pass, if there is one.
pub(crate) fn barrier(path: &Path, user: u32) -> io::Result<Option<PathBuf>> {
    for above in path.ancestors().skip(1) {
        let metadata = fs::metadata(above)?;
        let bit = if metadata.uid() == user { 0o100 } else { 0o001 };
        if metadata.mode() & bit == 0 {
            return Ok(Some(above.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_name_is_one_harmless_component() {
        let name = |text: &str| file_name(&ModuleName::parse(text).unwrap());
        assert_eq!(name("host-metrics_2"), "host-metrics_2");
        assert_eq!(name(".."), "%2E%2E");
        assert_eq!(name("$a:b*"), "%24a%3Ab%2A");
    }

    #[test]
    fn the_folder_that_is_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(barrier(&inner, 59_000).unwrap(), None);
        fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(barrier(&inner, 59_000).unwrap(), Some(root.path().join("a")));
    }
}
