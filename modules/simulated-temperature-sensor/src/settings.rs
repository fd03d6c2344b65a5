//! What the sensor is told: environment at the start, twin while it runs, control messages.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sensor::Scales;

const COUNT_DEFAULT: i64 = 500;
const DELAY_DEFAULT: Duration = Duration::from_secs(5);
/// A longer pause than a day is a mistake.
const INTERVAL_SECONDS_MAX: u64 = 86_400;

/// From the module's environment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Start {
    /// How many messages are sent in all; nothing means without end.
    pub(crate) count: Option<u64>,
    pub(crate) delay: Duration,
    pub(crate) scales: Scales,
}

impl Start {
    /// Reads the variables that Azure's sensor reads; the message names the one that cannot be used.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Start, String> {
        let number = |name: &str, default: f64| match variable(name) {
            Some(text) => match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number),
                _ => Err(format!("{name}: `{text}` is no number")),
            },
            None => Ok(default),
        };
        let count = match variable("MessageCount") {
            Some(text) => {
                text.trim().parse::<i64>().map_err(|_| format!("MessageCount: `{text}` is no whole number"))?
            }
            None => COUNT_DEFAULT,
        };
        let delay = match variable("MessageDelay") {
            Some(text) => span(&text).ok_or_else(|| format!("MessageDelay: `{text}` is no time such as 00:00:05"))?,
            None => DELAY_DEFAULT,
        };
        let usual = Scales::default();
        let scales = Scales {
            temperature_min: number("machineTempMin", usual.temperature_min)?,
            temperature_max: number("machineTempMax", usual.temperature_max)?,
            pressure_min: number("machinePressureMin", usual.pressure_min)?,
            pressure_max: number("machinePressureMax", usual.pressure_max)?,
            ambient: number("ambientTemp", usual.ambient)?,
        };
        Ok(Start { count: u64::try_from(count).ok(), delay, scales })
    }
}

/// `hh:mm:ss` with a fraction or without, as .NET writes a time span; at most a day.
fn span(text: &str) -> Option<Duration> {
    let mut parts = text.trim().split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let hours: u64 = hours.parse().ok().filter(|hours| *hours < 24)?;
    let minutes: u64 = minutes.parse().ok().filter(|minutes| *minutes < 60)?;
    let seconds: f64 = seconds.parse().ok().filter(|seconds| (0.0..60.0).contains(seconds))?;
    Some(Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_secs_f64(seconds))
}

/// From the twin; changes while the sensor runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Switches {
    pub(crate) send: bool,
    pub(crate) interval: Duration,
}

impl Switches {
    pub(crate) fn new(delay: Duration) -> Switches {
        Switches { send: true, interval: delay }
    }

    /// Takes what a desired patch names; a member that cannot be used is complained about and changes nothing.
    pub(crate) fn change(&mut self, patch: &Value) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(value) = patch.get("SendData").filter(|value| !value.is_null()) {
            match value.as_bool() {
                Some(send) => self.send = send,
                None => complaints.push(format!("SendData: {value} is not true or false")),
            }
        }
        if let Some(value) = patch.get("SendInterval").filter(|value| !value.is_null()) {
            match value.as_u64().filter(|seconds| (1..=INTERVAL_SECONDS_MAX).contains(seconds)) {
                Some(seconds) => self.interval = Duration::from_secs(seconds),
                None => complaints.push(format!("SendInterval: {value} is no whole number of seconds up to a day")),
            }
        }
        complaints
    }

    pub(crate) fn to_reported(self) -> Value {
        json!({ "SendData": self.send, "SendInterval": self.interval.as_secs_f64() })
    }
}

/// Whether a control message asks for a reset: `{"command":"reset"}`, a number (0 resets, 1 does nothing), or a list of them.
pub(crate) fn asks_for_reset(body: &[u8]) -> Result<bool, String> {
    let body: Value = serde_json::from_slice(body).map_err(|cause| format!("a control message is no JSON: {cause}"))?;
    let one = |command: &Value| match command.get("command") {
        Some(Value::String(word)) if word.eq_ignore_ascii_case("reset") => Ok(true),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("noop") => Ok(false),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(true),
        Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(false),
        _ => Err(format!("a control message has no known command: {command}")),
    };
    match &body {
        Value::Array(commands) => commands.iter().try_fold(false, |reset, command| Ok(reset | one(command)?)),
        command => one(command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(variables: &[(&str, &str)]) -> Result<Start, String> {
        Start::from_environment(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_defaults_are_those_of_the_original() {
        let start = start(&[]).unwrap();
        assert_eq!(start, Start { count: Some(500), delay: Duration::from_secs(5), scales: Scales::default() });
    }

    #[test]
    fn the_environment_changes_them() {
        let start =
            start(&[("MessageCount", "-1"), ("MessageDelay", "00:01:00.25"), ("machineTempMax", "50")]).unwrap();
        assert_eq!((start.count, start.delay), (None, Duration::from_millis(60_250)));
        assert_eq!(start.scales.temperature_max, 50.0);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, text) in
            [("MessageCount", "many"), ("MessageDelay", "5"), ("MessageDelay", "0:0:61"), ("ambientTemp", "NaN")]
        {
            let refused = start(&[(name, text)]).unwrap_err();
            assert!(refused.starts_with(name), "{refused}");
        }
    }

    #[test]
    fn switches_take_what_is_named_and_say_what_is_in_force() {
        let mut switches = Switches::new(Duration::from_secs(5));
        assert!(switches.change(&json!({ "SendData": false, "$version": 2 })).is_empty());
        assert_eq!(switches.change(&json!({ "SendInterval": 0, "SendData": "yes" })).len(), 2);
        assert_eq!(switches.to_reported(), json!({ "SendData": false, "SendInterval": 5.0 }));
        switches.change(&json!({ "SendInterval": 9 }));
        assert_eq!(switches.interval, Duration::from_secs(9));
    }

    #[test]
    fn control_messages_are_understood_in_all_their_forms() {
        for reset in [
            r#"{"command":"reset"}"#,
            r#"{"command":"Reset"}"#,
            r#"{"command":0}"#,
            r#"[{"command":1},{"command":"reset"}]"#,
        ] {
            assert_eq!(asks_for_reset(reset.as_bytes()), Ok(true), "{reset}");
        }
        assert_eq!(asks_for_reset(br#"{"command":1}"#), Ok(false));
        assert_eq!(asks_for_reset(b"[]"), Ok(false));
        for bad in ["", "x", "{}", r#"{"command":"explode"}"#, r#"[{"command":"reset"},7]"#] {
            assert!(asks_for_reset(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
