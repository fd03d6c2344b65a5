//! Reading the output of a module, also while it is written.

use std::collections::VecDeque;
use std::time::Duration;

use skerry_model::ModuleName;
use skerry_module_runtime::{LogLine, LogLines, LogRange, LogSender, Problem, RuntimeError};
use tokio::sync::watch;

use super::{ProcessRuntime, on_disk};
use crate::output::OutputReader;

/// How often a file is looked at for new lines while somebody follows it.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

impl ProcessRuntime {
    pub(super) fn read_logs(&self, module: &ModuleName, range: LogRange) -> Result<LogLines, RuntimeError> {
        let attempt = format!("cannot read the log of module `{module}`");
        let ended = self.live(&attempt, module)?.map(|live| live.ended);
        let (sender, lines) = LogLines::channel();
        let reading = Reading { ended, reader: Some(OutputReader::open(self.folder(module).output())), sender, range };
        tokio::spawn(async move {
            let sender = reading.sender.clone();
            if let Err(error) = reading.run().await {
                sender.send(Err(RuntimeError::new(Problem::Failed, attempt, error.to_string()))).await;
            }
        });
        Ok(lines)
    }
}

struct Reading {
    /// Turns true when the run that was going on at the start has ended; there need not be one.
    ended: Option<watch::Receiver<bool>>,
    /// Away while it reads.
    reader: Option<OutputReader>,
    sender: LogSender,
    range: LogRange,
}

impl Reading {
    async fn run(mut self) -> std::io::Result<()> {
        let mut last = VecDeque::new();
        let tail = self.range.tail.unwrap_or(usize::MAX);
        loop {
            // Asked before reading, so that nothing written before the end is missed.
            let runs = self.runs();
            let batch = self.next_batch().await?;
            let caught_up = batch.is_empty();
            for line in batch.into_iter().filter(|line| is_wanted(line, &self.range)) {
                last.push_back(line);
                if last.len() > tail {
                    last.pop_front();
                }
            }
            if (self.range.tail.is_none() || caught_up) && !self.send(&mut last).await {
                return Ok(());
            }
            if caught_up {
                break self.follow(runs).await;
            }
        }
    }

    async fn follow(mut self, mut runs: bool) -> std::io::Result<()> {
        while self.range.follow && runs {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN_AFTER) => {}
                () = self.sender.closed() => return Ok(()),
            }
            runs = self.runs();
            loop {
                let mut lines: VecDeque<LogLine> = self.next_batch().await?.into();
                if lines.is_empty() {
                    break;
                }
                lines.retain(|line| is_wanted(line, &self.range));
                if !self.send(&mut lines).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn runs(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| !*ended.borrow())
    }

    async fn next_batch(&mut self) -> std::io::Result<Vec<LogLine>> {
        let Some(mut reader) = self.reader.take() else { return Ok(Vec::new()) };
        let (reader, batch) = on_disk(move || {
            let batch = reader.next_batch();
            Ok((reader, batch))
        })
        .await?;
        self.reader = Some(reader);
        batch
    }

    async fn send(&self, lines: &mut VecDeque<LogLine>) -> bool {
        for line in lines.drain(..) {
            if !self.sender.send(Ok(line)).await {
                return false;
            }
        }
        true
    }
}

fn is_wanted(line: &LogLine, range: &LogRange) -> bool {
    range.since.is_none_or(|since| line.at >= Some(since)) && range.until.is_none_or(|until| line.at < Some(until))
}
