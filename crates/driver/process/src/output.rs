//! The output of a module on disk: lines with time and stream, in two files that take turns, so that the size is bounded.

mod reader;
mod writer;

pub(crate) use reader::OutputReader;
pub(crate) use writer::OutputWriter;

use bytes::Bytes;
use skerry_model::Timestamp;
use skerry_module_runtime::{LogLine, LogStream};
use std::path::{Path, PathBuf};

/// Longer lines are cut into pieces, in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
/// Length of a time such as `2024-05-01T10:00:00.123Z`.
const TIME_BYTES: usize = 24;

/// Where the older half of the output is.
fn older(path: &Path) -> PathBuf {
    path.with_extension("1.log")
}

/// Adds a line in the form in which it is kept: `time o text` or `time e text`.
fn write_line(into: &mut Vec<u8>, at: Timestamp, stream: LogStream, text: &[u8]) {
    into.extend_from_slice(at.to_string().as_bytes());
    into.extend_from_slice(match stream {
        LogStream::Output => b" o ",
        LogStream::Error => b" e ",
    });
    into.extend_from_slice(text);
    into.push(b'\n');
}

/// Reads what [`write_line`] wrote, without the line end; `None` for anything else, such as a line torn by a power cut.
fn read_line(line: &[u8]) -> Option<LogLine> {
    let (at, rest) = line.split_at_checked(TIME_BYTES)?;
    let at = Timestamp::parse(std::str::from_utf8(at).ok()?).ok()?;
    let (stream, text) = rest.split_at_checked(3)?;
    let stream = match stream {
        b" o " => LogStream::Output,
        b" e " => LogStream::Error,
        _ => return None,
    };
    Some(LogLine { stream, at: Some(at), text: Bytes::copy_from_slice(text) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn torn_lines_are_not_lines() {
        for line in
            ["", "2024-05-01T10:00:00.123Z", "2024-05-01T10:00:00.123Z x text", "some text of at least 24 bytes"]
        {
            assert_eq!(read_line(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_line_is_read_as_it_was_written(text: Vec<u8>, error: bool, millis in 0..253_402_300_799_999_i64) {
            let stream = if error { LogStream::Error } else { LogStream::Output };
            let at = Timestamp::from_unix_millis(millis);
            let mut written = Vec::new();
            write_line(&mut written, at, stream, &text);
            prop_assert_eq!(written.pop(), Some(b'\n'));
            prop_assert_eq!(read_line(&written), Some(LogLine { stream, at: Some(at), text: Bytes::from(text) }));
        }

        #[test]
        fn any_line_is_read_without_panic(line: Vec<u8>) {
            read_line(&line);
        }
    }
}
