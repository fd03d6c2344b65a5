//! Talking to a script that runs one of Azure's SDKs: commands in, answers and events out, one JSON object per line.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::PATIENCE;
use crate::address::Loopback;
use crate::output::{Output, Silence, Stream};
use crate::places::python;
use crate::program::Program;

/// A running script. It reads `{"id", "call", ...}` and answers `{"id", "result"}` or `{"id", "error"}`; in between it
/// may say `{"event", ...}`.
#[derive(Debug)]
pub struct Conversation {
    voice: Voice,
    calls: u64,
    /// Lines before this one hold no event that is still to be taken.
    events_from: usize,
    /// The same for events of one kind.
    kinds_from: BTreeMap<String, usize>,
}

/// How the script is heard and spoken to.
#[derive(Debug)]
enum Voice {
    /// Over the standard streams of a program we started.
    Program(Program),
    /// Over a connection the script made, because somebody else started it.
    Socket { name: String, output: Output, stream: TcpStream },
}

/// Waits for a script that somebody else starts, such as a module of an edge.
#[derive(Debug)]
pub struct Invitation {
    listener: TcpListener,
    address: SocketAddr,
}

impl Invitation {
    /// An address for scripts on this machine.
    #[track_caller]
    pub fn new() -> Invitation {
        Invitation::on(Loopback::next().at(0))
    }

    /// An address that scripts elsewhere can reach, such as that of a container network's gateway.
    #[track_caller]
    pub fn on(address: SocketAddr) -> Invitation {
        let listener = TcpListener::bind(address).unwrap_or_else(|cause| panic!("cannot listen on {address}: {cause}"));
        let address = listener.local_addr().unwrap_or_else(|cause| panic!("{address}: {cause}"));
        Invitation { listener, address }
    }

    /// For the script's environment: `TALK_TO`.
    pub fn talk_to(&self) -> String {
        self.address.to_string()
    }

    /// Waits for the script. It may come several times: whoever starts it may start it again.
    #[track_caller]
    pub fn accept(&self, name: &str) -> Conversation {
        let listener = self.listener.try_clone().unwrap_or_else(|cause| panic!("{}: {cause}", self.address));
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || tell.send(listener.accept()));
        let accepted =
            told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{name} did not come within {PATIENCE:?}"));
        let (stream, _) = accepted.unwrap_or_else(|cause| panic!("{name} did not come: {cause}"));
        let output = Output::default();
        let hears = stream.try_clone().unwrap_or_else(|cause| panic!("{name}: {cause}"));
        output.follow(Stream::Out, hears);
        let voice = Voice::Socket { name: name.to_owned(), output, stream };
        Conversation::over(voice)
    }
}

impl Default for Invitation {
    fn default() -> Self {
        Invitation::new()
    }
}

impl Voice {
    #[track_caller]
    fn say(&mut self, line: &str) {
        match self {
            Voice::Program(program) => program.say(line),
            Voice::Socket { name, stream, .. } => {
                stream
                    .write_all(format!("{line}\n").as_bytes())
                    .unwrap_or_else(|cause| panic!("{name} does not listen: {cause}"));
            }
        }
    }

    #[track_caller]
    fn wait<T>(&self, from: usize, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> (T, usize) {
        match self {
            Voice::Program(program) => program.wait(from, what, |_, line| wanted(line)),
            Voice::Socket { name, output, .. } => match output.wait(from, PATIENCE, |_, line| wanted(line)) {
                Ok(found) => found,
                Err(Silence::Late) => panic!("{name} did not say {what} within {PATIENCE:?}"),
                Err(Silence::Ended) => panic!("{name} ended without {what}"),
            },
        }
    }

    fn lines_so_far(&self) -> usize {
        self.output().length()
    }

    fn lines_from(&self, from: usize) -> Vec<String> {
        self.output().lines_from(from)
    }

    fn output(&self) -> &Output {
        match self {
            Voice::Program(program) => program.output(),
            Voice::Socket { output, .. } => output,
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        // A program shows its own output.
        if let Voice::Socket { name, output, .. } = self
            && thread::panicking()
        {
            eprintln!("{}", output.report(name));
        }
    }
}

impl Conversation {
    /// Starts a Python script; `environment` is added to ours.
    #[track_caller]
    pub fn python(name: &str, script: &Path, environment: &[(&str, &str)]) -> Conversation {
        assert!(script.is_file(), "{} is not there", script.display());
        let mut command = Command::new(python());
        command.arg("-u").arg(script).envs(environment.iter().copied());
        Conversation::over(Voice::Program(Program::start(name, &mut command)))
    }

    fn over(voice: Voice) -> Conversation {
        Conversation { voice, calls: 0, events_from: 0, kinds_from: BTreeMap::new() }
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
        self.voice.say(&line.to_string());
        self.calls
    }

    /// Waits for the answer to an earlier call.
    #[track_caller]
    pub fn finish(&mut self, id: u64) -> Result<Value, String> {
        let (mut answer, _) = self.voice.wait(0, &format!("the answer to call {id}"), |line| {
            object(line).filter(|said| said.get("id").and_then(Value::as_u64) == Some(id))
        });
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["result"].take()),
        }
    }

    /// The next event of this kind that was not taken yet.
    #[track_caller]
    pub fn event(&mut self, kind: &str) -> Value {
        self.event_where(kind, |_| true)
    }

    /// The next event of this kind that fits. Others of this kind before it are passed over for good, those of other kinds are
    /// not: between kinds there is no order.
    #[track_caller]
    pub fn event_where(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let what = format!("an event `{kind}`");
        let (event, next) = self.voice.wait(self.next_of(kind), &what, |line| event_of(kind, line).filter(&fits));
        self.kinds_from.insert(kind.to_owned(), next);
        event
    }

    /// The events of this kind up to now that were not taken or passed over; they stay.
    pub fn events_so_far(&self, kind: &str) -> Vec<Value> {
        let lines = self.voice.lines_from(self.next_of(kind));
        lines.iter().filter_map(|line| event_of(kind, line)).collect()
    }

    /// The first line that may hold the next event of this kind.
    fn next_of(&self, kind: &str) -> usize {
        self.kinds_from.get(kind).copied().unwrap_or(0).max(self.events_from)
    }

    /// Forgets all events up to now.
    pub fn skip_events(&mut self) {
        self.events_from = self.voice.lines_so_far();
    }
}

fn event_of(kind: &str, line: &str) -> Option<Value> {
    object(line).filter(|said| said.get("event").and_then(Value::as_str) == Some(kind))
}

fn object(line: &str) -> Option<Value> {
    line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// A script in shell, so that these tests need no Python: it echoes calls after an event.
    fn conversation() -> Conversation {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            r#"n=0; while read line; do n=$((n+1)); echo "noise"; echo "{\"event\":\"seen\",\"n\":$n}"
               case $line in *bad*) echo "{\"id\":$n,\"error\":\"Oops: $n\"}";; *) echo "{\"id\":$n,\"result\":{\"n\":$n}}";; esac; done"#,
        ]);
        Conversation::over(Voice::Program(Program::start("echo", &mut command)))
    }

    #[test]
    fn calls_are_answered_and_events_taken_once() {
        let mut script = conversation();
        assert_eq!(script.events_so_far("seen"), Vec::<Value>::new());
        assert_eq!(script.call("one", json!({ "x": 1 })), json!({ "n": 1 }));
        assert_eq!(script.try_call("bad", json!({})), Err("Oops: 2".to_owned()));
        assert_eq!(script.event("seen")["n"], 1);
        assert_eq!(script.event("seen")["n"], 2);
        let late = script.begin("three", json!({}));
        assert_eq!(script.event_where("seen", |event| event["n"] == 3)["n"], 3);
        assert_eq!(script.finish(late), Ok(json!({ "n": 3 })));
        script.call("four", json!({}));
        let fourth = json!({ "event": "seen", "n": 4 });
        assert_eq!(script.events_so_far("seen"), std::slice::from_ref(&fourth), "the one that is still to be taken");
        assert_eq!(script.event("seen"), fourth);
        script.call("five", json!({}));
        script.skip_events();
        assert_eq!(script.events_so_far("seen"), Vec::<Value>::new());
    }

    #[test]
    fn events_of_one_kind_leave_those_of_others() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"for kind in a b a b; do echo "{\"event\":\"$kind\"}"; done; read line"#]);
        let mut script = Conversation::over(Voice::Program(Program::start("kinds", &mut command)));
        for kind in ["b", "b", "a", "a"] {
            script.event(kind);
        }
    }

    #[test]
    fn a_script_that_somebody_else_started_comes_by_itself() {
        let invitation = Invitation::new();
        let address = invitation.talk_to();
        let other = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut call = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut call).unwrap();
            stream.write_all(b"{\"id\": 1, \"result\": 7}\n{\"event\": \"bye\"}\n").unwrap();
            call
        });
        let mut script = invitation.accept("module");
        assert_eq!(script.call("x", json!({})), 7);
        assert_eq!(script.event("bye"), json!({ "event": "bye" }));
        assert_eq!(other.join().unwrap(), "{\"id\":1,\"call\":\"x\"}\n");
    }
}
