//! Files that must be whole or absent after a power loss, and private ones that only their owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::PkiError;

/// Largest key or certificate file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Writes a file only its owner can read (mode 0600), whole or not at all, and waits until it is on disk.
///
/// # Errors
/// When the file system refuses; an older file of that name is then still there.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write(path, bytes, 0o600)
}

/// Writes a file everybody can read (mode 0644), whole or not at all, and waits until it is on disk.
///
/// # Errors
/// When the file system refuses; an older file of that name is then still there.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let folder = folder_of(path);
    // One writer per file is assumed, so the name needs no randomness; a leftover of a crash is replaced.
    let mut name = path.file_name().map(std::ffi::OsStr::to_owned).unwrap_or_default();
    name.push(".new");
    let unfinished = folder.join(name);
    let written = write_new(&unfinished, bytes, mode).and_then(|()| fs::rename(&unfinished, path)).and_then(|()| {
        // A new name survives power loss only once its folder's entry is on disk too.
        File::open(folder)?.sync_all()
    });
    written.map_err(|cause| {
        let _ = fs::remove_file(&unfinished);
        PkiError::file("write", path, cause)
    })
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken bits from `mode`.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a private file; `None` when it does not exist. At most 1 MiB.
///
/// # Errors
/// When the file system refuses, or the file is larger.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, PkiError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PkiError::file("open", path, error)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|cause| PkiError::file("read", path, cause))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(PkiError::file("read", path, std::io::Error::other("larger than 1 MiB")));
    }
    Ok(Some(bytes))
}

/// Reads a text file, such as a PEM file; `None` when it does not exist. At most 1 MiB.
///
/// # Errors
/// When the file system refuses, or the file is larger or not UTF-8.
pub fn read_text(path: &Path) -> Result<Option<Zeroizing<String>>, PkiError> {
    let Some(bytes) = read_private(path)? else { return Ok(None) };
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
        Err(error) => Err(PkiError::file("read", path, std::io::Error::other(error))),
    }
}

/// Removes a file; nothing happens when it is not there.
///
/// # Errors
/// When the file system refuses.
pub fn remove(path: &Path) -> Result<(), PkiError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(PkiError::file("remove", path, error)),
        Ok(()) => File::open(folder_of(path))
            .and_then(|folder| folder.sync_all())
            .map_err(|cause| PkiError::file("write", folder_of(path), cause)),
    }
}

/// Makes a folder, and those above it, that only their owner can enter (mode 0700); one that exists is left as it is.
///
/// # Errors
/// When the file system refuses.
pub fn private_folder(path: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|cause| PkiError::file("create", path, cause))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_files_are_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        private_folder(&inner).unwrap();
        assert_eq!((mode(&inner), mode(&folder.path().join("a"))), (0o700, 0o700));
        let path = inner.join("key");
        assert_eq!(read_private(&path).unwrap(), None);
        write_private(&path, b"one").unwrap();
        fs::write(inner.join("key.new"), b"left over").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap().as_slice(), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
        write_public(&path, b"three").unwrap();
        assert_eq!(mode(&path), 0o644);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read_text(&path).unwrap(), None);
    }

    #[test]
    fn a_failed_write_names_the_file_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_private(&folder.path().join("missing/key"), b"x").unwrap_err();
        assert!(error.to_string().ends_with("missing/key`"), "{error}");
        let large = folder.path().join("large");
        fs::write(&large, vec![0; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read_private(&large).is_err());
    }
}
