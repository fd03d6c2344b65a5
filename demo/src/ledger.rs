//! The ledger: which messages were acknowledged, on the disk before anybody counts them.
//!
//! A line says `sender first last`: all these numbers of the sender were acknowledged. A line without its end was being written
//! when its writer died, and says nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::Failure;
use crate::board::Board;
use crate::numbers::Numbers;

/// Acknowledgements that wait to be written; beyond that their senders wait.
const WAITING_MAX: usize = 1_024;

/// Numbers of one sender that were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) sender: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Where acknowledgements are put; the ledger is complete when all of these are dropped and its thread has ended.
pub(crate) type LedgerSender = mpsc::Sender<Acknowledged>;

/// The ledger of one run.
pub(crate) fn path(folder: &Path, run: u32) -> PathBuf {
    folder.join(format!("run-{run}.ledger"))
}

/// Starts a ledger on a thread of its own. What it holds is counted on the board only when it is on the disk.
pub(crate) fn start(folder: &Path, run: u32, board: Board) -> Result<(LedgerSender, JoinHandle<()>), Failure> {
    fs::create_dir_all(folder).map_err(|cause| format!("cannot create {}: {cause}", folder.display()))?;
    let path = path(folder, run);
    let file = File::options().create_new(true).append(true).open(&path);
    let file = file.map_err(|cause| format!("cannot create {}: {cause}", path.display()))?;
    // A new file survives a power loss only once its directory entry is on disk too.
    File::open(folder)?.sync_all()?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || write(file, receiver, &board))?;
    Ok((sender, thread))
}

fn write(mut file: File, mut arriving: mpsc::Receiver<Acknowledged>, board: &Board) {
    let mut lines = Vec::new();
    while arriving.blocking_recv_many(&mut lines, WAITING_MAX) > 0 {
        let text: String = lines.iter().map(line).collect();
        if let Err(cause) = file.write_all(text.as_bytes()).and_then(|()| file.sync_data()) {
            // Nothing may be counted any more, and the run is void.
            board.fail(format!("the ledger cannot be written: {cause}"));
            return;
        }
        for acknowledged in lines.drain(..) {
            board.acknowledged(&acknowledged);
        }
    }
}

fn line(acknowledged: &Acknowledged) -> String {
    format!("{} {} {}\n", acknowledged.sender, acknowledged.first, acknowledged.last)
}

/// All ledgers of a folder: what each sender had acknowledged, by run.
pub(crate) fn read_all(folder: &Path) -> Result<BTreeMap<u32, BTreeMap<String, Numbers>>, Failure> {
    let mut runs = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|cause| format!("cannot read {}: {cause}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let run = name.strip_prefix("run-").and_then(|rest| rest.strip_suffix(".ledger"));
        if let Some(run) = run.and_then(|run| run.parse().ok()) {
            let text = fs::read_to_string(&path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))?;
            runs.insert(run, parse(&text).ok_or_else(|| format!("{} is damaged", path.display()))?);
        }
    }
    Ok(runs)
}

fn parse(text: &str) -> Option<BTreeMap<String, Numbers>> {
    let mut senders: BTreeMap<String, Numbers> = BTreeMap::new();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let mut words = line.split(' ');
        let (sender, first, last) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        senders.entry(sender.to_owned()).or_default().take_range(first, last);
    }
    Some(senders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::default();
        let (sender, thread) = start(folder.path(), 7, board.clone()).unwrap();
        for (first, last) in [(1, 3), (4, 4)] {
            sender.blocking_send(Acknowledged { sender: "load-1".to_owned(), first, last }).unwrap();
        }
        drop(sender);
        thread.join().unwrap();
        let read = read_all(folder.path()).unwrap();
        assert_eq!(read[&7]["load-1"].distinct(), 4);
        assert_eq!(board.progress().acknowledged, 4);
        assert!(start(folder.path(), 7, board).is_err(), "a ledger is never continued");
    }

    #[test]
    fn a_torn_line_says_nothing_and_a_wrong_one_is_noticed() {
        let read = parse("a 1 2\na 3 45").unwrap();
        assert_eq!(read["a"].distinct(), 2);
        assert_eq!(parse("a 1\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_ledger_or_none(text in "([ab] [0-9]{1,3} [0-9]{1,3}\n|.{0,9})*") {
            let _ = parse(&text);
        }
    }
}
