//! The port to a disk: the few operations a log needs, and what each of them promises.
//!
//! There is no plain write: whatever a log writes must survive a power cut once the call returns, or it is of no use to it.

use std::io;
use std::sync::Arc;

/// Offsets and lengths of writes are multiples of this, in bytes.
pub const BLOCK: usize = 4096;

/// A folder of files on a disk that may lose power at any time.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files in the folder, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a new, empty file. Its name survives a power cut only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// When a file of that name exists, or the disk refuses.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// When there is none, or the disk refuses.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing what has it; survives a power cut only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// When there is no such file, or the disk refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name; open handles stay readable. Survives a power cut only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// When there is no such file, or the disk refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all creations, renames and removals so far survive a power cut.
    ///
    /// # Errors
    /// When the disk refuses; then it is unknown which of them survive.
    fn sync_directory(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// The file's length in bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads at `offset` until `buffer` is full or the file ends; says how many bytes were read.
    ///
    /// # Errors
    /// When the disk refuses.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `bytes` at `offset`, extending the file if need be. When it returns `Ok`, the bytes and the file's length survive
    /// a power cut; until then any part of them may have reached the disk, in any order. Both `offset` and the length are
    /// multiples of [`BLOCK`]; memory aligned to [`BLOCK`] is written fastest.
    ///
    /// # Errors
    /// When the disk refuses; then what the range holds is unknown until it is read back after a restart.
    fn write_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}
