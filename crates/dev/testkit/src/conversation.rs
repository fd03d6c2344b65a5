//! Talking to a script that runs one of Azure's SDKs: commands in, answers and events out, one JSON object per line.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::places::python;
use crate::program::Program;

/// A running script. It reads `{"id", "call", ...}` and answers `{"id", "result"}` or `{"id", "error"}`; in between it
/// may say `{"event", ...}`.
#[derive(Debug)]
pub struct Conversation {
    program: Program,
    calls: u64,
    /// Lines before this one hold no event that is still to be taken.
    events_from: usize,
}

impl Conversation {
    /// Starts a Python script; `environment` is added to ours.
    #[track_caller]
    pub fn python(name: &str, script: &Path, environment: &[(&str, &str)]) -> Conversation {
        assert!(script.is_file(), "{} is not there", script.display());
        let mut command = Command::new(python());
        command.arg("-u").arg(script).envs(environment.iter().copied());
        let program = Program::start(name, &mut command);
        Conversation { program, calls: 0, events_from: 0 }
    }

    /// Calls and waits for the answer, which must be a result.
    #[track_caller]
    pub fn call(&mut self, name: &str, arguments: Value) -> Value {
        match self.try_call(name, arguments) {
            Ok(result) => result,
            Err(error) => panic!("`{name}` failed: {error}"),
        }
    }

    /// Calls and waits for the answer: the result, or the error as text `Type: message`.
    #[track_caller]
    pub fn try_call(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        let id = self.begin(name, arguments);
        self.finish(id)
    }

    /// Calls without waiting; [`Conversation::finish`] takes the answer.
    #[track_caller]
    pub fn begin(&mut self, name: &str, arguments: Value) -> u64 {
        self.calls += 1;
        let mut line = json!({ "id": self.calls, "call": name });
        if let (Value::Object(line), Value::Object(arguments)) = (&mut line, arguments) {
            line.extend(arguments);
        }
        self.program.say(&line.to_string());
        self.calls
    }

    /// Waits for the answer to an earlier call.
    #[track_caller]
    pub fn finish(&mut self, id: u64) -> Result<Value, String> {
        let (mut answer, _) = self.program.wait(0, &format!("the answer to call {id}"), |_, line| {
            object(line).filter(|said| said.get("id").and_then(Value::as_u64) == Some(id))
        });
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["result"].take()),
        }
    }

    /// The next event of this kind that was not taken yet. Events of other kinds before it are passed over for good.
    #[track_caller]
    pub fn event(&mut self, kind: &str) -> Value {
        self.event_where(kind, |_| true)
    }

    /// The next event of this kind that fits.
    #[track_caller]
    pub fn event_where(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let what = format!("an event `{kind}`");
        let (event, next) = self.program.wait(self.events_from, &what, |_, line| {
            object(line).filter(|said| said.get("event").and_then(Value::as_str) == Some(kind) && fits(said))
        });
        self.events_from = next;
        event
    }

    /// Forgets all events up to now.
    pub fn skip_events(&mut self) {
        self.events_from = self.program.lines_so_far();
    }

    /// The program that runs the script.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

fn object(line: &str) -> Option<Value> {
    line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script in shell, so that these tests need no Python: it echoes calls after an event.
    fn conversation() -> Conversation {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            r#"n=0; while read line; do n=$((n+1)); echo "noise"; echo "{\"event\":\"seen\",\"n\":$n}"
               case $line in *bad*) echo "{\"id\":$n,\"error\":\"Oops: $n\"}";; *) echo "{\"id\":$n,\"result\":{\"n\":$n}}";; esac; done"#,
        ]);
        Conversation { program: Program::start("echo", &mut command), calls: 0, events_from: 0 }
    }

    #[test]
    fn calls_are_answered_and_events_taken_once() {
        let mut script = conversation();
        assert_eq!(script.call("one", json!({ "x": 1 })), json!({ "n": 1 }));
        assert_eq!(script.try_call("bad", json!({})), Err("Oops: 2".to_owned()));
        assert_eq!(script.event("seen")["n"], 1);
        assert_eq!(script.event("seen")["n"], 2);
        let late = script.begin("three", json!({}));
        assert_eq!(script.event_where("seen", |event| event["n"] == 3)["n"], 3);
        assert_eq!(script.finish(late), Ok(json!({ "n": 3 })));
    }
}
