//! The real disk: a folder of files written with `O_DIRECT | O_DSYNC`, or with write and `fdatasync` where that is refused.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use crate::disk::{BLOCK, Disk, DiskFile};

/// A folder on a real disk; files are made with mode 0600, the folder with 0700.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    direct: bool,
}

impl Folder {
    /// Opens the folder, making it (and what is above it) where it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or is not a folder.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        // A new folder survives a power cut only once its own entry is on disk.
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            sync_folder(above)?;
        }
        Ok(Self { path, direct: true })
    }

    /// The same folder, written through the page cache with `fdatasync`: for tests of that way.
    #[must_use]
    pub fn without_direct_writes(mut self) -> Self {
        self.direct = false;
        self
    }

    fn handle(&self, name: &str, new: bool) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let plain = OpenOptions::new().read(true).write(true).create_new(new).mode(0o600).open(&path)?;
        let flags = OFlags::DIRECT | OFlags::DSYNC;
        // Not every file system has O_DIRECT (tmpfs of old kernels, some FUSE ones): then the slower way is taken.
        let direct = if self.direct {
            OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(&path).ok()
        } else {
            None
        };
        let usable = AtomicBool::new(direct.is_some());
        Ok(Arc::new(OpenFile { plain, direct, usable }))
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.path)?
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.handle(name, true)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.handle(name, false)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

struct OpenFile {
    plain: File,
    direct: Option<File>,
    /// Cleared at the first refusal of a direct write.
    usable: AtomicBool,
}

impl DiskFile for OpenFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.plain.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.plain.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let aligned = bytes.as_ptr().align_offset(BLOCK) == 0;
        if let Some(direct) = self.direct.as_ref().filter(|_| aligned && self.usable.load(Ordering::Relaxed)) {
            match direct.write_all_at(bytes, offset) {
                // Some file systems let a file be opened so and refuse the write (larger sectors, compression).
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.usable.store(false, Ordering::Relaxed)
                }
                done => return done,
            }
        }
        self.plain.write_all_at(bytes, offset)?;
        self.plain.sync_data()
    }
}
