//! Logs on standard error: lines for people or JSON for programs, with a level that can change while running.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::ConfigError;

/// How a program logs; the `[log]` table of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Lines for people or one JSON object per line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,skerry_gateway=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Human, level: "info".to_owned() }
    }
}

impl LogConfig {
    /// Says what is wrong with it without starting anything.
    ///
    /// # Errors
    /// When the level is not understood.
    pub fn check(&self) -> Result<(), ConfigError> {
        filter(&self.level).map(|_| ())
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Time, level, place, message, fields; coloured on a terminal.
    Human,
    /// One JSON object per line.
    Json,
}

/// Changes the level of the running program.
#[derive(Clone)]
pub struct LogControl(reload::Handle<Targets, Registry>);

impl LogControl {
    /// Takes a new level or new directives; the old ones stay when these are not understood.
    pub fn set_level(&self, level: &str) -> Result<(), ConfigError> {
        let filter = filter(level)?;
        self.0.reload(filter).map_err(|cause| ConfigError::Whole(format!("cannot change the log level: {cause}")))
    }
}

/// Starts logging for the whole process, panics included. Fails when the level is not understood or logging runs already.
pub fn start_logging(config: &LogConfig) -> Result<LogControl, ConfigError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match config.format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|cause| ConfigError::Whole(format!("cannot start logging: {cause}")))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(%place, thread = thread.name(), what = panic.payload_as_str(), "panicked");
    }));
    Ok(LogControl(handle))
}

// Not `EnvFilter`: it brings a regular-expression engine that no level needs.
fn filter(level: &str) -> Result<Targets, ConfigError> {
    // The parser takes any single word for a place; a misspelt level would quietly mean something else.
    let known =
        |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_ascii_lowercase().as_str());
    for directive in level.split(',').map(str::trim) {
        if !known(directive.rsplit('=').next().unwrap_or(directive)) {
            let what = format!("log.level: `{directive}` names no level (error, warn, info, debug, trace, off)");
            return Err(ConfigError::Whole(what));
        }
    }
    level.parse().map_err(|cause| ConfigError::Whole(format!("log.level: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_understood() {
        for level in ["info", "WARN", "info,skerry_gateway=debug", "off"] {
            assert!(filter(level).is_ok(), "{level}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused_by_name() {
        let refused = filter("info,skerry_gateway=debg").unwrap_err().to_string();
        assert!(refused.contains("`skerry_gateway=debg` names no level"), "{refused}");
        assert!(filter("").is_err());
        assert!(LogConfig { level: "chatty".to_owned(), ..LogConfig::default() }.check().is_err());
        assert!(LogConfig::default().check().is_ok());
    }
}
