//! A program that runs beside a task: its output in a file, its use of the machine read from /proc, ended on drop.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::Outcome;

const STEP: Duration = Duration::from_millis(20);
const STOP_MAX: Duration = Duration::from_secs(30);
/// The unit of times in `/proc`, fixed at 100 on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running program.
pub(crate) struct Background {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts `command` with its output in `{name}.log` of `folder`. Its standard input stays open until it is stopped.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Outcome<Background> {
        let log = folder.join(format!("{name}.log"));
        let failed = |cause| format!("cannot write {}: {cause}", log.display());
        let file = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let copy = file.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::piped()).stdout(file).stderr(copy).spawn();
        let child = child.map_err(|cause| format!("cannot start {name}: {cause}"))?;
        Ok(Background { name: name.to_owned(), child, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `there` says so; a program that ends before, or takes longer than `limit`, is a failure with its last words.
    pub(crate) fn wait_until(&mut self, what: &str, limit: Duration, there: impl Fn() -> bool) -> Outcome {
        let started = Instant::now();
        while !there() {
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || limit < started.elapsed() {
                let how =
                    ended.map_or_else(|| format!("took longer than {limit:?}"), |status| format!("ended: {status}"));
                return Err(format!("{}: {what}: {how}\n{}", self.name, self.last_words()));
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// Waits until it has said `text`.
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) -> Outcome {
        let log = self.log.clone();
        self.wait_until(&format!("saying {text:?}"), limit, || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains(text))
        })
    }

    /// Waits until somebody listens at `address`.
    pub(crate) fn wait_for_listener(&mut self, address: SocketAddr, limit: Duration) -> Outcome {
        self.wait_until(&format!("listening at {address}"), limit, || TcpStream::connect(address).is_ok())
    }

    fn last_words(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let from = lines.len().saturating_sub(15);
        format!("  last lines of {}:\n    {}", self.log.display(), lines[from..].join("\n    "))
    }

    /// Ends it in good order and waits for that.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let asked = Command::new("kill").arg(self.id().to_string()).status().is_ok_and(|status| status.success());
        let started = Instant::now();
        while asked && started.elapsed() < STOP_MAX {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(STEP);
        }
        // Nothing more can be done where even this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

/// Resident memory of a process in bytes (`VmRSS`).
pub(crate) fn resident_bytes(id: u32) -> Outcome<u64> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).map_err(|cause| format!("cannot read {path}: {cause}"))?;
    number_of(&status, "VmRSS:").map(|kibi| kibi * 1024).ok_or_else(|| format!("{path} has no VmRSS"))
}

/// Processor time of the living threads of a process, in seconds: to the nanosecond where the kernel counts that way.
pub(crate) fn threads_seconds(id: u32) -> Outcome<f64> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let counted = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        counted.split_whitespace().next()?.parse::<f64>().ok()
    });
    match nanos.sum::<f64>() {
        // No such figures in this kernel.
        0.0 => processor_seconds(id),
        nanos => Ok(nanos / 1e9),
    }
}

/// Processor time of all threads of a process since its start, in seconds; counted in steps of 10 ms.
pub(crate) fn processor_seconds(id: u32) -> Outcome<f64> {
    let path = format!("/proc/{id}/stat");
    let stat = fs::read_to_string(&path).map_err(|cause| format!("cannot read {path}: {cause}"))?;
    processor(&stat).ok_or_else(|| format!("{path} is not understood"))
}

/// What of that is memory of the process alone, in bytes: the rest is its program, whose pages others may share.
pub(crate) fn anonymous_bytes(id: u32) -> Outcome<u64> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).map_err(|cause| format!("cannot read {path}: {cause}"))?;
    number_of(&status, "RssAnon:").map(|kibi| kibi * 1024).ok_or_else(|| format!("{path} has no RssAnon"))
}

/// The process and those below it that run the same program.
pub(crate) fn family(id: u32) -> Vec<u32> {
    let program = |id: u32| fs::read_link(format!("/proc/{id}/exe")).ok();
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids: Vec<u32> = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let below =
        ids.into_iter().filter(|other| *other != id && has_ancestor(*other, id) && program(*other) == program(id));
    std::iter::once(id).chain(below).collect()
}

fn has_ancestor(mut id: u32, ancestor: u32) -> bool {
    let parent = |id: u32| number_of(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, "PPid:");
    while let Some(next) = parent(id).and_then(|next| u32::try_from(next).ok()).filter(|next| *next != 0) {
        if next == ancestor {
            return true;
        }
        id = next;
    }
    false
}

fn number_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of proc(5)'s `stat`, counted behind the name, which may hold spaces and brackets.
fn processor(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// How busy the machine is with other things: what is said beside every figure.
pub(crate) fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The value in the middle; `None` of none.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn processor_time_is_found_behind_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 200";
        assert_eq!(processor(stat), Some(3.0));
        assert_eq!(processor("7 (a"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = std::process::id();
        assert!(0 < resident_bytes(own).unwrap() && 0.0 <= processor_seconds(own).unwrap());
        let (begun, before) = (Instant::now(), threads_seconds(own).unwrap());
        while begun.elapsed() < Duration::from_millis(30) {}
        assert!(before < threads_seconds(own).unwrap());
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        assert!(has_ancestor(child.id(), own));
        assert_eq!(family(own), [own], "another program is no part of the family");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_program_that_ends_early_is_a_failure_with_its_last_words() {
        let folder = std::env::temp_dir().join(format!("xtask-background-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo hello; exit 3"]);
        let mut program = Background::start("shell", command, &folder).unwrap();
        let failure = program.wait_until("waiting", Duration::from_secs(20), || false).unwrap_err();
        assert!(failure.contains("exit status: 3") && failure.contains("hello"), "{failure}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
