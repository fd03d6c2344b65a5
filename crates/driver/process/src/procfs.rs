//! Who is whose child, as `/proc` tells.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// No chain of parents is longer; a longer one was read while it changed.
const GENERATIONS_MAX: usize = 4096;

/// Parent and session of a process; `None` when it does not exist.
fn parent_and_session(process: u32) -> Option<(u32, u32)> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    parse_stat(&stat)
}

/// `pid (name) state ppid pgrp session …`; the name may hold anything, also parentheses and invalid UTF-8.
fn parse_stat(stat: &[u8]) -> Option<(u32, u32)> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some((parent, session))
}

/// Whether `process` descends from `ancestor`; a process does not descend from itself.
pub(crate) fn descends(process: u32, ancestor: u32) -> bool {
    let mut current = process;
    for _ in 0..GENERATIONS_MAX {
        match parent_and_session(current) {
            Some((parent, _)) if parent == ancestor => return true,
            Some((parent, _)) if parent > 1 => current = parent,
            Some(_) | None => return false,
        }
    }
    false
}

/// All processes that descend from `ancestor`.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let parents: BTreeMap<u32, u32> =
        processes().filter_map(|process| Some((process, parent_and_session(process)?.0))).collect();
    let below = |process: &u32| {
        std::iter::successors(Some(*process), |process| parents.get(process).copied())
            .skip(1)
            .take(GENERATIONS_MAX)
            .any(|parent| parent == ancestor)
    };
    parents.keys().copied().filter(below).collect()
}

/// Ends what `still_meant` says is meant. The process is held by a descriptor between the question and the signal, so that
/// a number that went to somebody else meanwhile is not hit.
pub(crate) fn kill(process: u32, still_meant: impl Fn() -> bool) {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    if let Ok(held) = pidfd_open(pid, PidfdFlags::empty())
        && still_meant()
    {
        // It may have ended by itself; then nothing is left to do.
        let _ = pidfd_send_signal(held, Signal::KILL);
    }
}

/// Ends all processes of a session, as far as they did not leave it.
pub(crate) fn kill_session(session: u32) {
    let of_session = |process: u32| parent_and_session(process).is_some_and(|(_, its)| its == session);
    for process in processes().filter(|process| of_session(*process)) {
        kill(process, || of_session(process));
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        assert_eq!(parse_stat(b"12 (a b) c) S 34 56 78 0 -1"), Some((34, 78)));
        assert_eq!(parse_stat(b"12 (\xff) S 1 2 3"), Some((1, 3)));
        assert_eq!(parse_stat(b"12 (a) S"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn children_descend_and_we_do_not_from_ourselves() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let us = std::process::id();
        assert!(descends(child.id(), us) && !descends(us, us) && !descends(us, child.id()));
        assert!(descendants(us).contains(&child.id()));
        kill(child.id(), || true);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
    }

    proptest::proptest! {
        #[test]
        fn any_stat_is_read_without_panic(stat: Vec<u8>) {
            parse_stat(&stat);
        }
    }
}
