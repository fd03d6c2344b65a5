//! The reading end, in the runtime: lines from the older file to the newest, and on through the files taking turns.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skerry_module_runtime::LogLine;

use super::{LINE_BYTES_MAX, older, read_line};

/// How much is read at a time, in bytes; more than the longest line.
const BATCH_BYTES: usize = 4 * LINE_BYTES_MAX;

/// Reads the output of one module.
#[derive(Debug)]
pub(crate) struct OutputReader {
    path: PathBuf,
    file: Option<(File, u64)>,
    unread: Vec<u8>,
}

impl OutputReader {
    /// Reads from the oldest line that is there; nothing need be there yet.
    pub(crate) fn open(path: PathBuf) -> Self {
        Self { path, file: None, unread: Vec::new() }
    }

    /// The next lines; none when all that was written has been read. Blocks on the disk.
    pub(crate) fn next_batch(&mut self) -> io::Result<Vec<LogLine>> {
        loop {
            if self.file.is_none() {
                self.file = open(&older(&self.path))?;
                if self.file.is_none() && !self.advance()? {
                    return Ok(Vec::new());
                }
            }
            // Asked before reading: if it has been renamed by now, nothing more is written to it after this read.
            let last_read_of_file = self.has_successor()?;
            let lines = self.read_some()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            if !last_read_of_file || !self.advance()? {
                return Ok(Vec::new());
            }
        }
    }

    /// Whether the file being read is no longer the one that is written to.
    fn has_successor(&self) -> io::Result<bool> {
        let current = self.file.as_ref().map(|(_, inode)| *inode);
        Ok(inode(&self.path)?.is_some_and(|newest| Some(newest) != current))
    }

    /// Goes to the file after the current one: the newest, unless the files have taken turns more than once meanwhile.
    fn advance(&mut self) -> io::Result<bool> {
        let current = self.file.as_ref().map(|(_, inode)| *inode);
        let older = older(&self.path);
        let path = match inode(&older)? {
            Some(inode) if current.is_some() && Some(inode) != current => &older,
            Some(_) | None => &self.path,
        };
        let next = open(path)?;
        self.unread.clear();
        let moved = next.is_some();
        if moved {
            self.file = next;
        }
        Ok(moved)
    }

    /// Lines until there is at least one or the file has no more.
    fn read_some(&mut self) -> io::Result<Vec<LogLine>> {
        let Some((file, _)) = &mut self.file else { return Ok(Vec::new()) };
        loop {
            let before = self.unread.len();
            self.unread.resize(before + BATCH_BYTES, 0);
            let read = file.read(&mut self.unread[before..]);
            self.unread.truncate(before + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                return Ok(Vec::new());
            }
            let Some(end) = self.unread.iter().rposition(|byte| *byte == b'\n') else { continue };
            let lines: Vec<LogLine> = self.unread[..end].split(|byte| *byte == b'\n').filter_map(read_line).collect();
            self.unread.drain(..=end);
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
    }
}

fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path) {
        Ok(file) => {
            let inode = file.metadata()?.ino();
            Ok(Some((file, inode)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputWriter;
    use skerry_model::Timestamp;
    use skerry_module_runtime::LogStream;

    #[test]
    fn a_reader_follows_the_files_through_their_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let mut reader = OutputReader::open(path.clone());
        assert_eq!(reader.next_batch().unwrap(), []);
        let mut writer = OutputWriter::open(path, 0);
        for number in 0..5_000 {
            let text = format!("line {number}");
            writer.append(Timestamp::default(), LogStream::Error, format!("{text}\n").as_bytes());
            let lines = reader.next_batch().unwrap();
            assert_eq!(lines.len(), 1, "after {text}");
            assert_eq!(lines[0].text, text);
        }
    }
}
