//! The writing end, in the supervisor: cuts what comes out of the pipes into lines and keeps the files below their size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use skerry_model::Timestamp;
use skerry_module_runtime::LogStream;

use super::{LINE_BYTES_MAX, older, write_line};
use crate::record::private_file;

/// The smallest size of one of the two files, in bytes: room for some of the longest lines.
const FILE_BYTES_MIN: u64 = 2 * LINE_BYTES_MAX as u64;

/// Writes the output of one module.
#[derive(Debug)]
pub(crate) struct OutputWriter {
    path: PathBuf,
    file: Option<File>,
    file_bytes: u64,
    file_bytes_max: u64,
    unfinished: [Vec<u8>; 2],
    lines: Vec<u8>,
    lost: u64,
}

impl OutputWriter {
    /// Goes on in `path`, and keeps at most `bytes_max` in it and its older half.
    pub(crate) fn open(path: PathBuf, bytes_max: u64) -> Self {
        let mut writer = Self {
            path,
            file: None,
            file_bytes: 0,
            file_bytes_max: (bytes_max / 2).max(FILE_BYTES_MIN),
            unfinished: [Vec::new(), Vec::new()],
            lines: Vec::new(),
            lost: 0,
        };
        // If this fails it is tried again with every line.
        let _ = writer.reopen();
        writer
    }

    /// Takes what the module wrote to `stream`. Never fails: what cannot be written is counted, and the count is written
    /// as soon as there is room, because a module must not suffer from a full disk.
    pub(crate) fn append(&mut self, at: Timestamp, stream: LogStream, mut text: &[u8]) {
        let unfinished = &mut self.unfinished[stream as usize];
        while let Some(first) = text.first() {
            if *first == b'\n' {
                write_line(&mut self.lines, at, stream, unfinished);
                unfinished.clear();
                text = &text[1..];
            } else if unfinished.len() == LINE_BYTES_MAX {
                write_line(&mut self.lines, at, stream, unfinished);
                unfinished.clear();
            } else {
                let room = text.len().min(LINE_BYTES_MAX - unfinished.len());
                let end = text[..room].iter().position(|byte| *byte == b'\n').unwrap_or(room);
                unfinished.extend_from_slice(&text[..end]);
                text = &text[end..];
            }
        }
        self.flush(at);
    }

    /// Writes a line that the module left without an end.
    pub(crate) fn finish(&mut self, at: Timestamp) {
        for stream in [LogStream::Output, LogStream::Error] {
            let unfinished = std::mem::take(&mut self.unfinished[stream as usize]);
            if !unfinished.is_empty() {
                write_line(&mut self.lines, at, stream, &unfinished);
            }
        }
        self.flush(at);
    }

    fn flush(&mut self, at: Timestamp) {
        if self.lines.is_empty() {
            return;
        }
        if self.lost > 0 {
            let text = format!("({} bytes of output could not be written)", self.lost);
            write_line(&mut self.lines, at, LogStream::Error, text.as_bytes());
        }
        match self.write_lines() {
            Ok(()) => self.lost = 0,
            Err(_) => self.lost += self.lines.len() as u64,
        }
        self.lines.clear();
    }

    fn write_lines(&mut self) -> io::Result<()> {
        let bytes = self.lines.len() as u64;
        if self.file_bytes > 0 && self.file_bytes_max < self.file_bytes + bytes {
            fs::rename(&self.path, older(&self.path))?;
            self.file = None;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        if let Some(file) = &mut self.file {
            let written = file.write_all(&self.lines);
            self.file_bytes = file.metadata()?.len();
            written?;
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut file = private_file(&self.path, OpenOptions::new().append(true).create(true))?;
        self.file_bytes = file.metadata()?.len();
        if self.file_bytes > 0 && !ends_with_line_end(&self.path, self.file_bytes)? {
            // A line that was torn when the machine lost power must not swallow the first line of now.
            file.write_all(b"\n")?;
            self.file_bytes += 1;
        }
        self.file = Some(file);
        Ok(())
    }
}

fn ends_with_line_end(path: &std::path::Path, bytes: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, bytes - 1)?;
    Ok(last == [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputReader;
    use proptest::prelude::*;

    fn read_all(path: &std::path::Path) -> Vec<(LogStream, Vec<u8>)> {
        let mut reader = OutputReader::open(path.to_owned());
        let mut all = Vec::new();
        loop {
            let batch = reader.next_batch().unwrap();
            if batch.is_empty() {
                return all;
            }
            all.extend(batch.into_iter().map(|line| (line.stream, line.text.to_vec())));
        }
    }

    #[test]
    fn the_two_files_stay_below_their_size_and_the_newest_lines_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let mut writer = OutputWriter::open(path.clone(), 128 * 1024);
        for number in 0..20_000 {
            writer.append(Timestamp::default(), LogStream::Output, format!("line {number}\n").as_bytes());
        }
        let size = |path: &std::path::Path| fs::metadata(path).unwrap().len();
        assert!(size(&path) <= 64 * 1024 && size(&older(&path)) <= 64 * 1024);
        let lines = read_all(&path);
        assert_eq!(lines.last().unwrap().1, b"line 19999");
        assert!(lines.len() > 1000);
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        fs::write(&path, "1970-01-01T00:00:00.000Z o whole\n1970-01-01T00:0").unwrap();
        OutputWriter::open(path.clone(), 0).append(Timestamp::default(), LogStream::Output, b"new\n");
        let texts: Vec<_> = read_all(&path).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, [b"whole".to_vec(), b"new".to_vec()]);
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/output.log");
        let mut writer = OutputWriter::open(path.clone(), 0);
        writer.append(Timestamp::default(), LogStream::Output, b"lost\n");
        fs::create_dir(path.parent().unwrap()).unwrap();
        writer.append(Timestamp::default(), LogStream::Output, b"kept\n");
        let texts: Vec<_> = read_all(&path).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, [b"kept".to_vec(), b"(32 bytes of output could not be written)".to_vec()]);
    }

    proptest! {
        // Each case writes files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn lines_are_the_same_however_they_are_cut_into_reads(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..2_000),
            repeat in prop_oneof![Just(1_usize), 20..40_usize],
            read in 1..9_000_usize,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("output.log");
            let text = text.repeat(repeat);
            let mut writer = OutputWriter::open(path.clone(), 64 << 20);
            for piece in text.chunks(read) {
                writer.append(Timestamp::default(), LogStream::Output, piece);
            }
            writer.finish(Timestamp::default());
            let mut expected: Vec<Vec<u8>> = Vec::new();
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                if line.is_empty() {
                    expected.push(Vec::new());
                }
                expected.extend(line.chunks(LINE_BYTES_MAX).map(<[u8]>::to_vec));
            }
            let written: Vec<_> = read_all(&path).into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(written, expected);
        }
    }
}
