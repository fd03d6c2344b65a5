//! A user's home with the program in it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::scripted::{KEY, Scripted, Step};

/// A user, and the hub that user works with.
pub(crate) struct World {
    pub(crate) hub: Scripted,
    pub(crate) home: TempDir,
}

/// What a run of the program left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// A user who was never here before.
    pub(crate) fn new(script: Vec<Step>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let hub = Scripted::https(script);
        let folder = home.path().join("hub");
        std::fs::create_dir(&folder).unwrap();
        let text = format!("HostName=127.0.0.1:{};SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}\n", hub.port);
        std::fs::write(folder.join("connection-string"), text).unwrap();
        std::fs::write(folder.join("ca.pem"), &hub.ca_pem).unwrap();
        Self { hub, home }
    }

    /// A user who is logged in.
    pub(crate) fn logged_in(script: Vec<Step>) -> Self {
        let world = Self::new(script);
        let login = world.run(&["login", "--hub-dir", "{home}/hub", "--untried"]);
        assert_eq!((login.code, login.err.as_str()), (0, ""));
        world
    }

    /// Runs the program; `{home}` in an argument is the user's folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, "")
    }

    /// The same with something on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        let home = self.home.path().to_str().unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_skerry"))
            .args(arguments.iter().map(|argument| argument.replace("{home}", home)))
            .env_clear()
            .env("SKERRY_CONFIG_DIR", self.home.path().join("config"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        program.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = program.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap().replace(home, "{home}");
            if self.hub.port == 0 { text } else { text.replace(&format!(":{}", self.hub.port), ":PORT") }
        };
        Outcome { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs the program, which is to succeed, and gives what it printed.
    pub(crate) fn out(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{}", outcome.out);
        outcome.out
    }

    /// Runs the program, which is to fail, and gives its code and what it said.
    pub(crate) fn failure(&self, arguments: &[&str]) -> (i32, String) {
        let outcome = self.run(arguments);
        assert_ne!(outcome.code, 0, "{}", outcome.out);
        (outcome.code, outcome.err)
    }

    /// Writes a file into the user's folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A path in the user's folder.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.home.path()).join(name)
    }
}
