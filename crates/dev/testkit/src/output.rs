//! What a program says, line by line, and waiting for a line.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines kept for the report of a failure; older ones are dropped and counted.
const LINES_MAX: usize = 50_000;

/// Which of a program's two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Everything said so far. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output(Arc<(Mutex<Said>, Condvar)>);

#[derive(Debug, Default)]
struct Said {
    lines: VecDeque<(Stream, String)>,
    /// Lines dropped from the front.
    dropped: usize,
    open: usize,
}

/// Why waiting for a line ended without one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The time was up.
    Late,
    /// Both streams ended: the program is gone.
    Ended,
}

impl Output {
    /// Reads a stream to its end on a thread of its own.
    pub(crate) fn follow(&self, stream: Stream, source: impl Read + Send + 'static) -> JoinHandle<()> {
        self.said().open += 1;
        let output = self.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|length| 0 < length) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut said = output.said();
                if said.lines.len() == LINES_MAX {
                    said.lines.pop_front();
                    said.dropped += 1;
                }
                said.lines.push_back((stream, text));
                output.0.1.notify_all();
            }
            output.said().open -= 1;
            output.0.1.notify_all();
        })
    }

    /// The first line from number `from` on that `wanted` makes something of, and the number after it.
    pub(crate) fn wait<T>(
        &self,
        from: usize,
        patience: Duration,
        mut wanted: impl FnMut(Stream, &str) -> Option<T>,
    ) -> Result<(T, usize), Silence> {
        let deadline = Instant::now() + patience;
        let mut next = from;
        let mut said = self.said();
        loop {
            while let Some((stream, line)) = said.lines.get(next.saturating_sub(said.dropped)) {
                next = next.max(said.dropped) + 1;
                if let Some(found) = wanted(*stream, line) {
                    return Ok((found, next));
                }
            }
            if said.open == 0 {
                return Err(Silence::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Silence::Late);
            }
            said = self.0.1.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All lines so far that hold `text`.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let said = self.said();
        said.lines.iter().map(|(_, line)| line).filter(|line| line.contains(text)).cloned().collect()
    }

    /// The lines so far from number `from` on.
    pub(crate) fn lines_from(&self, from: usize) -> Vec<String> {
        let said = self.said();
        said.lines.iter().skip(from.saturating_sub(said.dropped)).map(|(_, line)| line.clone()).collect()
    }

    /// How many lines there were so far.
    pub(crate) fn length(&self) -> usize {
        let said = self.said();
        said.dropped + said.lines.len()
    }

    /// All of it, for a person.
    pub(crate) fn report(&self, name: &str) -> String {
        let said = self.said();
        let mut text = format!("---- what {name} said");
        if 0 < said.dropped {
            let _ = write!(text, " (without the first {} lines)", said.dropped);
        }
        for (stream, line) in &said.lines {
            let mark = if *stream == Stream::Out { "|" } else { ":" };
            let _ = write!(text, "\n{mark} {line}");
        }
        text + "\n----"
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_waited_for_and_the_end_noticed() {
        let output = Output::default();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let follower = output.follow(Stream::Out, reader);
        std::io::Write::write_all(&mut writer, b"one\ntwo\n").unwrap();
        let two = |_, line: &str| (line == "two").then(|| line.to_owned());
        assert_eq!(output.wait(0, Duration::from_secs(60), two), Ok(("two".to_owned(), 2)));
        assert_eq!(output.wait(2, Duration::ZERO, two), Err(Silence::Late));
        drop(writer);
        follower.join().unwrap();
        assert_eq!(output.wait(2, Duration::from_secs(60), two), Err(Silence::Ended));
        assert_eq!(output.report("it"), "---- what it said\n| one\n| two\n----");
    }
}
