//! Lines out of the engine's log stream, which has two forms: frames of both streams, or the plain text of a terminal.

use bytes::{Buf, Bytes, BytesMut};
use skerry_model::Timestamp;
use skerry_module_runtime::{LogLine, LogStream};

/// Stream number, three zeros, length as big-endian number.
const HEADER_BYTES: usize = 8;
/// Longest frame or line that is taken, in bytes. Engines cut at 16 KiB.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Number of standard error in a frame's header.
const ERROR_STREAM: u8 = 2;

/// Which form the stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One frame for each line, or for each piece of a very long line.
    Frames,
    /// The container has a terminal: lines as they were shown there, all of one stream.
    Terminal,
}

/// A frame or line is longer than any engine sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Takes the stream piece by piece and gives lines; every line begins with its time.
#[derive(Debug)]
pub(crate) struct LogDecoder {
    form: Form,
    unread: BytesMut,
}

impl LogDecoder {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, unread: BytesMut::new() }
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    /// The next whole line of what was pushed.
    pub(crate) fn next_line(&mut self) -> Result<Option<LogLine>, TooLong> {
        let next = match self.form {
            Form::Frames => self.next_frame(),
            Form::Terminal => self.next_terminal_line(),
        };
        if next.is_none() && LINE_BYTES_MAX < self.unread.len() {
            return Err(TooLong);
        }
        Ok(next.map(|(stream, line)| parse_line(stream, line)))
    }

    /// What is left at the end of the stream: a terminal's last line may have no end.
    pub(crate) fn finish(self) -> Option<LogLine> {
        let is_line = self.form == Form::Terminal && !self.unread.is_empty();
        is_line.then(|| parse_line(LogStream::Output, self.unread.freeze()))
    }

    fn next_frame(&mut self) -> Option<(LogStream, Bytes)> {
        let (header, rest) = self.unread.split_first_chunk::<HEADER_BYTES>()?;
        let [stream, _, _, _, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        if rest.len() < length {
            return None;
        }
        self.unread.advance(HEADER_BYTES);
        let frame = self.unread.split_to(length).freeze();
        let stream = if stream == ERROR_STREAM { LogStream::Error } else { LogStream::Output };
        Some((stream, frame))
    }

    fn next_terminal_line(&mut self) -> Option<(LogStream, Bytes)> {
        let end = self.unread.iter().position(|byte| *byte == b'\n')?;
        Some((LogStream::Output, self.unread.split_to(end + 1).freeze()))
    }
}

/// `2024-05-01T10:00:00.123456789Z text`; a line without a time keeps its whole text.
fn parse_line(stream: LogStream, mut line: Bytes) -> LogLine {
    for end in *b"\n\r" {
        if line.last() == Some(&end) {
            line.truncate(line.len() - 1);
        }
    }
    let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let at = std::str::from_utf8(&line[..space]).ok().and_then(|time| Timestamp::parse(time).ok());
    if at.is_some() {
        line.advance((space + 1).min(line.len()));
    }
    LogLine { stream, at, text: line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], text].concat()
    }

    fn lines(form: Form, pieces: &[&[u8]]) -> Vec<LogLine> {
        let mut decoder = LogDecoder::new(form);
        let mut lines = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(line) = decoder.next_line().unwrap() {
                lines.push(line);
            }
        }
        lines.extend(decoder.finish());
        lines
    }

    fn line(stream: LogStream, at: &str, text: &'static str) -> LogLine {
        LogLine { stream, at: Timestamp::parse(at).ok(), text: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn frames_tell_the_stream_and_lines_the_time() {
        let stream = [
            frame(1, b"2024-05-01T10:00:00.123456789Z <4> text\n"),
            frame(2, b"2024-05-01T10:00:01Z \n"),
            frame(1, b"no time\n"),
        ];
        let expected = [
            line(LogStream::Output, "2024-05-01T10:00:00.123Z", "<4> text"),
            line(LogStream::Error, "2024-05-01T10:00:01Z", ""),
            line(LogStream::Output, "", "no time"),
        ];
        assert_eq!(lines(Form::Frames, &[&stream.concat()]), expected);
    }

    #[test]
    fn a_terminal_has_one_stream_and_other_line_ends() {
        let text = b"2024-05-01T10:00:00Z a\r\n2024-05-01T10:00:01Z b";
        let expected = [
            line(LogStream::Output, "2024-05-01T10:00:00Z", "a"),
            line(LogStream::Output, "2024-05-01T10:00:01Z", "b"),
        ];
        assert_eq!(lines(Form::Terminal, &[text]), expected);
    }

    #[test]
    fn what_is_too_long_to_be_a_log_is_refused() {
        for form in [Form::Frames, Form::Terminal] {
            let mut decoder = LogDecoder::new(form);
            decoder.push(&[b'x'; LINE_BYTES_MAX + 1]);
            assert_eq!(decoder.next_line(), Err(TooLong));
        }
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_stream_is_cut(
            texts in proptest::collection::vec("[ -~]{0,40}", 0..20),
            cut in 1..64_usize,
        ) {
            let stream: Vec<u8> =
                texts.iter().flat_map(|text| frame(1, format!("2024-05-01T10:00:00Z {text}\n").as_bytes())).collect();
            let pieces: Vec<&[u8]> = stream.chunks(cut).collect();
            let read: Vec<String> = lines(Form::Frames, &pieces)
                .into_iter()
                .map(|line| String::from_utf8(line.text.to_vec()).unwrap())
                .collect();
            prop_assert_eq!(read, texts);
        }

        #[test]
        fn any_stream_is_read_without_panic(stream: Vec<u8>, terminal: bool) {
            let form = if terminal { Form::Terminal } else { Form::Frames };
            let mut decoder = LogDecoder::new(form);
            decoder.push(&stream);
            while let Ok(Some(_)) = decoder.next_line() {}
            decoder.finish();
        }
    }
}
