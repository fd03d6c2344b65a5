//! What arrives at a hub, read in order from the beginning.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::Value;

use crate::PATIENCE;
use crate::rest::Rest;

/// How long the hub holds a question open when it has nothing, seconds.
const WAIT_S: u64 = 5;

/// Reads a hub's events; each is handed out once.
#[derive(Debug)]
pub struct Events {
    rest: Rest,
    cursor: String,
    waiting: VecDeque<Value>,
}

impl Events {
    pub(crate) fn new(rest: Rest) -> Events {
        Events { rest, cursor: "oldest".to_owned(), waiting: VecDeque::new() }
    }

    /// The next event, waiting for it.
    #[track_caller]
    pub fn next_event(&mut self) -> Value {
        self.next_where("any event", |_| true)
    }

    /// The next event that fits; those before it are passed over for good.
    #[track_caller]
    pub fn next_where(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.waiting.pop_front() {
                if fits(&event) {
                    return event;
                }
            }
            assert!(Instant::now() < deadline, "the hub got no {what} within {PATIENCE:?}");
            self.read(WAIT_S);
        }
    }

    /// Everything the hub has now that was not handed out yet.
    #[track_caller]
    pub fn all_now(&mut self) -> Vec<Value> {
        loop {
            let before = self.waiting.len();
            self.read(0);
            if self.waiting.len() == before {
                return self.waiting.drain(..).collect();
            }
        }
    }

    #[track_caller]
    fn read(&mut self, wait: u64) {
        let path = format!("/skerry/events?from={}&wait={wait}&count=1000", self.cursor);
        let answer = self.rest.ask("GET", &path, &[], None);
        assert_eq!(answer.status, 200, "{}", answer.text);
        for line in answer.text.lines() {
            let document: Value = serde_json::from_str(line)
                .unwrap_or_else(|cause| panic!("a line of events is no JSON: {cause}: {line}"));
            match document.get("cursor").and_then(Value::as_str) {
                // An empty stream has no place to go on from yet.
                Some("") => {}
                Some(cursor) => cursor.clone_into(&mut self.cursor),
                None => self.waiting.push_back(document),
            }
        }
    }
}
