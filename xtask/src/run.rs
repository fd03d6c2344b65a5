//! Running other programs: arguments, environment, and a failure that says which command it was.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a task ends with; the text names what was attempted and what went wrong.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// A command still to be run.
pub(crate) struct Run {
    command: Command,
    shown: String,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<Path>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        // Nothing that runs here may ask a person.
        command.stdin(Stdio::null());
        Run { command, shown: program.display().to_string() }
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<str>>(mut self, args: I) -> Self {
        for arg in args {
            self.command.arg(arg.as_ref());
            self.shown.push(' ');
            self.shown.push_str(arg.as_ref());
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs with our own output and fails on a non-zero status.
    pub(crate) fn go(mut self) -> Outcome {
        let status = self.command.status().map_err(|cause| format!("cannot start `{}`: {cause}", self.shown))?;
        if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", self.shown)) }
    }

    /// Runs and hands back standard output; standard error is part of the failure.
    pub(crate) fn text(mut self) -> Outcome<String> {
        self.command.stderr(Stdio::piped());
        let output = self.command.output().map_err(|cause| format!("cannot start `{}`: {cause}", self.shown))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{}` ended with {}: {}", self.shown, output.status, said.trim()))
    }

    /// Runs with its output in a file, the way a chatty installer is run; the file's end is part of the failure.
    pub(crate) fn into_file(mut self, log: &Path) -> Outcome {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|cause| format!("cannot create the folder {}: {cause}", folder.display()))?;
        }
        let file = std::fs::File::create(log).map_err(|cause| format!("cannot create {}: {cause}", log.display()))?;
        let copy = file.try_clone().map_err(|cause| format!("cannot open {} twice: {cause}", log.display()))?;
        self.command.stdout(file).stderr(copy);
        let shown = self.shown.clone();
        self.go().map_err(|failure| {
            let written = std::fs::read_to_string(log).unwrap_or_default();
            let tail: Vec<&str> = written.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            format!("{failure}\n  last lines of {} (`{shown}`):\n    {}", log.display(), tail.join("\n    "))
        })
    }
}
