//! Reading the log of a container.

use std::collections::VecDeque;

use skerry_model::{Json, ModuleName, Timestamp};
use skerry_module_runtime::{LogLine, LogLines, LogRange, LogSender, Problem, RuntimeError};
use skerry_net::http::{BodyReader, Method, Request};

use crate::log_stream::{Form, LogDecoder};
use crate::runtime::ContainerRuntime;

impl ContainerRuntime {
    pub(crate) async fn read_logs(&self, module: &ModuleName, range: LogRange) -> Result<LogLines, RuntimeError> {
        let attempt = format!("cannot read the log of module `{module}`");
        let id = self.id_of(&attempt, module).await?;
        let engine = self.engine();
        let inspected = engine.get(&format!("/containers/{id}/json")).await;
        let inspected = inspected.map_err(|error| error.failed(&attempt))?;
        let form = if inspected["Config"]["Tty"] == Json::Bool(true) { Form::Terminal } else { Form::Frames };
        let body = engine.open(Request::new(Method::GET, target(&id, &range))).await;
        let body = body.map_err(|error| error.failed(&attempt))?;
        let (sender, lines) = LogLines::channel();
        let reading = Reading { decoder: LogDecoder::new(form), last: VecDeque::new(), sender, range };
        tokio::spawn(reading.run(body, attempt));
        Ok(lines)
    }
}

fn target(id: &str, range: &LogRange) -> String {
    let mut target = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1");
    if range.follow {
        target.push_str("&follow=1");
    }
    if let Some(tail) = range.tail.filter(|_| engine_can_tail(range)) {
        target.push_str(&format!("&tail={tail}"));
    }
    for (name, moment) in [("since", range.since), ("until", range.until)] {
        if let Some(moment) = moment {
            target.push_str(&format!("&{name}={}", seconds(moment)));
        }
    }
    target
}

/// The engine counts the last lines before it looks at times.
fn engine_can_tail(range: &LogRange) -> bool {
    range.since.is_none() && range.until.is_none()
}

/// Seconds with a fraction.
fn seconds(moment: Timestamp) -> String {
    format!("{}.{:03}000000", moment.unix_seconds(), moment.unix_millis().rem_euclid(1000))
}

struct Reading {
    decoder: LogDecoder,
    /// Lines that may turn out to be the last ones, where we have to count ourselves.
    last: VecDeque<LogLine>,
    sender: LogSender,
    range: LogRange,
}

impl Reading {
    async fn run(mut self, mut body: BodyReader, attempt: String) {
        let failed = |reason: String| Err(RuntimeError::new(Problem::Failed, attempt.clone(), reason));
        loop {
            let piece = tokio::select! {
                piece = body.piece() => piece,
                () = self.sender.closed() => return,
            };
            match piece {
                Ok(Some(piece)) => self.decoder.push(&piece),
                Ok(None) => break,
                Err(error) => {
                    self.sender.send(failed(error.to_string())).await;
                    return;
                }
            }
            loop {
                match self.decoder.next_line() {
                    Ok(Some(line)) => {
                        if !self.pass_on(line).await {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {
                        self.sender.send(failed("the engine sent a line without end".to_owned())).await;
                        return;
                    }
                }
            }
        }
        if let Some(line) = std::mem::replace(&mut self.decoder, LogDecoder::new(Form::Frames)).finish() {
            self.pass_on(line).await;
        }
        for line in self.last.drain(..) {
            if !self.sender.send(Ok(line)).await {
                return;
            }
        }
    }

    /// `false` when nobody reads any more.
    async fn pass_on(&mut self, line: LogLine) -> bool {
        let Range { wanted, ended } = within(&self.range, line.at);
        if !wanted {
            return !ended;
        }
        match self.range.tail {
            Some(tail) if !engine_can_tail(&self.range) && !self.range.follow => {
                self.last.push_back(line);
                if tail < self.last.len() {
                    self.last.pop_front();
                }
                true
            }
            Some(_) | None => self.sender.send(Ok(line)).await,
        }
    }
}

struct Range {
    wanted: bool,
    ended: bool,
}

/// The engine's bounds are finer than ours, and its second one counts.
fn within(range: &LogRange, at: Option<Timestamp>) -> Range {
    let before = range.since.is_some_and(|since| at < Some(since));
    let after = range.until.is_some_and(|until| at >= Some(until));
    Range { wanted: !before && !after, ended: after && range.tail.is_none() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_asked_for_as_far_as_the_engine_understands_it() {
        let moment = Timestamp::from_unix_millis(1_700_000_000_042);
        let of = |range: &LogRange| target("x", range).split_once("timestamps=1").unwrap().1.to_owned();
        assert_eq!(of(&LogRange::default()), "");
        let tail = LogRange { tail: Some(5), follow: true, ..LogRange::default() };
        assert_eq!(of(&tail), "&follow=1&tail=5");
        let since = LogRange { tail: Some(5), since: Some(moment), until: Some(moment), follow: false };
        assert_eq!(of(&since), "&since=1700000000.042000000&until=1700000000.042000000");
    }
}
