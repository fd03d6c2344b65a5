//! What this process uses: memory, processor time, threads, open files. Linux only; elsewhere an error.

use std::fs;
use std::io;
use std::time::Duration;

/// The unit of times in `/proc`, fixed at 100 for programs on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// A reading of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, bytes (`VmRSS`).
    pub resident: u64,
    /// The most that was resident, bytes (`VmHWM`).
    pub resident_peak: u64,
    /// Processor time of all threads since the start, in steps of 10 ms.
    pub processor: Duration,
    /// Threads now.
    pub threads: u32,
    /// Open file descriptors now.
    pub open_files: u32,
}

impl Usage {
    /// Reads it now.
    pub fn read() -> io::Result<Usage> {
        let bad = |file: &str| io::Error::new(io::ErrorKind::InvalidData, format!("cannot understand {file}"));
        let status = fs::read_to_string("/proc/self/status")?;
        let stat = fs::read_to_string("/proc/self/stat")?;
        let open_files = fs::read_dir("/proc/self/fd")?.count();
        let member = |name: &str| number(&status, name).ok_or_else(|| bad("/proc/self/status"));
        Ok(Usage {
            resident: member("VmRSS:")? * 1024,
            resident_peak: member("VmHWM:")? * 1024,
            processor: processor(&stat).ok_or_else(|| bad("/proc/self/stat"))?,
            threads: member("Threads:")?.try_into().unwrap_or(u32::MAX),
            // One of them is the reading itself.
            open_files: open_files.saturating_sub(1).try_into().unwrap_or(u32::MAX),
        })
    }
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of proc(5)'s `stat`, counted behind the name, which may hold spaces and brackets.
fn processor(stat: &str) -> Option<Duration> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood() {
        let status = "Name:\tskerry\nVmHWM:\t    9000 kB\nVmRSS:\t    6200 kB\nThreads:\t5\n";
        assert_eq!(number(status, "VmRSS:"), Some(6200));
        assert_eq!(number(status, "Threads:"), Some(5));
        let stat = "1 (a (b) c) S 0 1 1 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 5 0 100";
        assert_eq!(processor(stat), Some(Duration::from_secs(4)));
        assert_eq!(processor("nonsense"), None);
    }

    #[test]
    fn this_process_has_some_of_everything() {
        let usage = Usage::read().unwrap();
        assert!(0 < usage.resident && usage.resident <= usage.resident_peak);
        assert!(0 < usage.threads && 0 < usage.open_files);
    }
}
