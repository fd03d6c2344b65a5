//! How long a durable append takes on the disk under a folder: into a file of zeros, past the page cache, one at a time.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rustix::fs::OFlags;
use serde::Serialize;

use crate::failure::Failure;
use crate::histogram::Histogram;

const BLOCK: usize = 4096;
/// One block, and what a window of 64 messages of 256 bytes needs: 18 KB.
const SIZES: [usize; 2] = [BLOCK, 5 * BLOCK];
const FILE_BYTES: usize = 8 << 20;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A folder on the disk.
    #[arg(long)]
    folder: PathBuf,
    /// Writes of each size.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    writes: u32,
}

/// Medians, and the slowest of a hundred, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Whether the page cache was passed by; where that is refused the writes are durable all the same.
    direct: bool,
    median_4k: f64,
    p99_4k: f64,
    median_18k: f64,
    p99_18k: f64,
}

pub(crate) fn run(options: &Options) -> Result<Outcome, Failure> {
    let path = options.folder.join(format!("disk-{}.tmp", std::process::id()));
    let measured = measure(&path, options.writes);
    let removed = std::fs::remove_file(&path).map_err(Failure::io(format!("cannot remove {}", path.display())));
    let outcome = measured?;
    removed.map(|()| outcome)
}

fn measure(path: &Path, writes: u32) -> Result<Outcome, Failure> {
    let what = || format!("cannot write {}", path.display());
    zeroed(path).map_err(Failure::io(what()))?;
    let (file, direct) = open(path).map_err(Failure::io(what()))?;
    let mut figures = [0.0; 4];
    for (size, pair) in SIZES.into_iter().zip(figures.chunks_exact_mut(2)) {
        let times = times(&file, size, writes).map_err(Failure::io(what()))?;
        let micros = |share| times.quantile(share).unwrap_or(0) as f64 / 1_000.0;
        pair.copy_from_slice(&[micros(0.5), micros(0.99)]);
    }
    let [median_4k, p99_4k, median_18k, p99_18k] = figures;
    Ok(Outcome { direct, median_4k, p99_4k, median_18k, p99_18k })
}

/// Real zeros: blocks that were only reserved cost a second write of the file system's own.
fn zeroed(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()
}

fn open(path: &Path) -> std::io::Result<(File, bool)> {
    let with = |flags: OFlags| OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path);
    match with(OFlags::DIRECT | OFlags::DSYNC) {
        Ok(file) => Ok((file, true)),
        Err(_) => Ok((with(OFlags::DSYNC)?, false)),
    }
}

/// Nanoseconds of each write.
fn times(file: &File, size: usize, writes: u32) -> std::io::Result<Histogram> {
    let mut room = vec![0xa5_u8; size + BLOCK];
    // Writes past the page cache want memory that begins at a block.
    let begin = room.as_ptr().align_offset(BLOCK).min(BLOCK);
    let buffer = &mut room[begin..begin + size];
    let mut times = Histogram::new();
    let mut at = 0;
    for number in 0..writes {
        buffer[..4].copy_from_slice(&number.to_le_bytes());
        let begun = Instant::now();
        file.write_all_at(buffer, at as u64)?;
        times.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        at = if at + 2 * size <= FILE_BYTES { at + size } else { 0 };
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = run(&Options { folder: folder.path().to_owned(), writes: 3 }).unwrap();
        assert!(0.0 < outcome.median_4k && outcome.median_4k <= outcome.p99_4k);
        assert!(0.0 < outcome.median_18k);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = run(&Options { folder: folder.path().join("none"), writes: 1 }).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
