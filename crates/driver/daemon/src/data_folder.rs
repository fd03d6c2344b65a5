//! A program's own folder: private to its user, held by one program at a time, files written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "lock";

/// A folder held by this process until dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    // The kernel lets go of the lock when this closes, also after SIGKILL.
    _lock: File,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Another living program holds it.
    #[error("the data folder {} is in use by process {holder}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// What that program wrote about itself, normally its process id.
        holder: String,
    },
    /// It belongs to somebody else.
    #[error("the data folder {} belongs to user {owner}, this program runs as user {runs_as}", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Our effective user id.
        runs_as: u32,
    },
    /// The operating system refused.
    #[error("cannot {attempt} {}", path.display())]
    Refused {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

impl DataFolder {
    /// Creates the folder with mode 0700 if need be (parents too), takes rights away from others, and locks it.
    pub fn open(path: &Path) -> Result<DataFolder, DataFolderError> {
        let refused = |attempt, path: &Path| {
            let path = path.to_owned();
            move |cause| DataFolderError::Refused { attempt, path, cause }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused("create the data folder", path))?;
        let found = fs::metadata(path).map_err(refused("look at the data folder", path))?;
        let runs_as = rustix::process::geteuid().as_raw();
        if found.uid() != runs_as {
            return Err(DataFolderError::Foreign { path: path.to_owned(), owner: found.uid(), runs_as });
        }
        if found.mode() & 0o077 != 0 {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, private).map_err(refused("make private the data folder", path))?;
        }
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(refused("open", &file))?;
        if let Err(cause) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if cause != rustix::io::Errno::WOULDBLOCK {
                return Err(refused("lock", &file)(cause.into()));
            }
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            return Err(DataFolderError::InUse { path: path.to_owned(), holder: holder.trim().to_owned() });
        }
        let write_holder = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_holder(&mut lock).map_err(refused("write", &file))?;
        Ok(DataFolder { path: path.to_owned(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A place inside the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// Writes a file with mode 0600 so that after a crash either the old or the new content is there, whole.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    // A left-over of a crash may have other rights.
    match fs::remove_file(&new) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // A new name survives power loss only once its directory entry is on disk too.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_folder_is_made_private_and_held_by_one_program() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a/b");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let held = DataFolder::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&held.join(LOCK)), 0o600);
        match DataFolder::open(&path) {
            Err(DataFolderError::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(held);
        assert!(DataFolder::open(&path).is_ok(), "let go when dropped");
    }

    #[test]
    fn new_parents_are_private_too() {
        let outer = tempfile::tempdir().unwrap();
        let _held = DataFolder::open(&outer.path().join("x/y")).unwrap();
        assert_eq!(mode(&outer.path().join("x")), 0o700);
    }

    #[test]
    fn a_private_file_replaces_the_old_one_whole() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("key");
        fs::write(&path, "old").unwrap();
        fs::write(outer.path().join("key.new"), "left by a crash").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
