//! The hub's settings: what the file may say, and what it means.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_daemon::{Field, Kind, LogConfig};

/// The configuration file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    data_dir: PathBuf,
    name: String,
    also_known_as: Vec<String>,
    clock_skew_seconds: u32,
    runtimes: u32,
    listen: Listen,
    events: Events,
    /// How the hub logs.
    pub(crate) log: LogConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listen {
    mqtt: Vec<String>,
    https: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Events {
    partitions: u16,
    keep_hours: u32,
    bytes_max: u64,
}

/// Every setting, for the sample file and the environment's names.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "data_dir",
        Kind::Text,
        "\"skerry-hub-data\"",
        "Where the hub keeps everything: keys, registry, events. Made with mode 0700.",
    ),
    field(
        "name",
        Kind::Text,
        "\"localhost\"",
        "The hub's host name, which devices have in their connection strings and tokens name.",
    ),
    field(
        "also_known_as",
        Kind::List,
        "[]",
        "More names and addresses for the hub's server certificate. The name and the listening addresses are in it anyway.",
    ),
    field(
        "clock_skew_seconds",
        Kind::Number,
        "300",
        "How long after its expiry a token is still taken, in seconds, 0 to 3600.",
    ),
    field("runtimes", Kind::Number, "2", "Connection runtimes, each on a thread of its own, 1 to 64."),
    field("listen.mqtt", Kind::List, "[\"127.0.0.1:8883\"]", "Addresses to listen on for MQTT over TLS."),
    field(
        "listen.https",
        Kind::List,
        "[\"127.0.0.1:8443\"]",
        "Addresses to listen on for HTTPS: the service API and the device API. Device SDKs know port 443 only.",
    ),
    field(
        "events.partitions",
        Kind::Number,
        "4",
        "Partitions of the event stream, 1 to 32; a stream that was made with more keeps them.",
    ),
    field("events.keep_hours", Kind::Number, "24", "How long events are kept, in hours, 1 to 168."),
    field(
        "events.bytes_max",
        Kind::Number,
        "1073741824",
        "Disk space for events, in bytes, at least 67108864; the oldest make room.",
    ),
    field(
        "log.level",
        Kind::Text,
        "\"info\"",
        "What is logged: error, warn, info, debug, trace, or directives such as `info,skerry_gateway=debug`.",
    ),
    field("log.format", Kind::Text, "\"human\"", "The shape of a log line: human or json."),
];

const fn field(key: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Field {
    Field { key, kind, default, reloadable: false, about }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "skerry-hub-data".into(),
            name: "localhost".to_owned(),
            also_known_as: Vec::new(),
            clock_skew_seconds: 300,
            runtimes: 2,
            listen: Listen::default(),
            events: Events::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { mqtt: vec!["127.0.0.1:8883".to_owned()], https: vec!["127.0.0.1:8443".to_owned()] }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { partitions: 4, keep_hours: 24, bytes_max: 1 << 30 }
    }
}

/// What the settings mean, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) name: String,
    pub(crate) also_known_as: Vec<String>,
    pub(crate) clock_skew: Duration,
    pub(crate) runtimes: usize,
    pub(crate) mqtt: Vec<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) partitions: u16,
    pub(crate) keep: Duration,
    pub(crate) event_bytes_max: u64,
}

/// A setting whose value is not allowed.
#[derive(Debug, thiserror::Error)]
#[error("configuration: `{key}` {what}")]
pub(crate) struct Refused {
    key: &'static str,
    what: String,
}

impl Config {
    /// What the command line says wins.
    pub(crate) fn override_with(
        &mut self,
        data_dir: Option<PathBuf>,
        name: Option<String>,
        mqtt: Vec<String>,
        https: Vec<String>,
    ) {
        self.data_dir = data_dir.unwrap_or(std::mem::take(&mut self.data_dir));
        self.name = name.unwrap_or(std::mem::take(&mut self.name));
        if !mqtt.is_empty() {
            self.listen.mqtt = mqtt;
        }
        if !https.is_empty() {
            self.listen.https = https;
        }
    }

    /// Checks what the types cannot say.
    pub(crate) fn check(&self) -> Result<Settings, Refused> {
        let good_name = |name: &String| {
            !name.is_empty()
                && name.len() <= 253
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c))
        };
        if !good_name(&self.name) {
            return Err(Refused { key: "name", what: format!("is not a host name or address: {:?}", self.name) });
        }
        if let Some(name) = self.also_known_as.iter().find(|name| !good_name(name)) {
            return Err(Refused { key: "also_known_as", what: format!("holds no host name or address: {name:?}") });
        }
        let keep_hours = within("events.keep_hours", self.events.keep_hours.into(), 1, 168)?;
        Ok(Settings {
            data_dir: self.data_dir.clone(),
            name: self.name.clone(),
            also_known_as: self.also_known_as.clone(),
            clock_skew: Duration::from_secs(within("clock_skew_seconds", self.clock_skew_seconds.into(), 0, 3_600)?),
            runtimes: usize::try_from(within("runtimes", self.runtimes.into(), 1, 64)?).unwrap_or(1),
            mqtt: addresses("listen.mqtt", &self.listen.mqtt)?,
            https: addresses("listen.https", &self.listen.https)?,
            partitions: within("events.partitions", self.events.partitions.into(), 1, 32)
                .map(|_| self.events.partitions)?,
            keep: Duration::from_secs(keep_hours * 60 * 60),
            event_bytes_max: within("events.bytes_max", self.events.bytes_max, 64 << 20, u64::MAX)?,
        })
    }
}

fn within(key: &'static str, value: u64, min: u64, max: u64) -> Result<u64, Refused> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Refused { key, what: format!("is {value}, which is not between {min} and {max}") })
}

fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<SocketAddr>, Refused> {
    texts
        .iter()
        .map(|text| {
            let address: SocketAddr = text
                .parse()
                .map_err(|_| Refused { key, what: format!("holds no address such as 127.0.0.1:8883: {text:?}") })?;
            if address.ip().is_unspecified() {
                let what = format!("holds {text}: name the addresses to listen on, one by one");
                return Err(Refused { key, what });
            }
            Ok(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_what_the_program_prints() {
        let written = include_str!("../../../../docs/reference/skerry-hub.toml");
        assert_eq!(written, skerry_daemon::sample(FIELDS), "write it anew: skerry-hub sample-config");
    }

    #[test]
    fn the_table_and_the_settings_agree() {
        assert_eq!(skerry_daemon::disagreements::<Config>(FIELDS), Vec::<String>::new());
    }

    #[test]
    fn the_defaults_are_good_and_what_is_wrong_is_named() {
        assert!(Config::default().check().is_ok());
        let check = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(
            check(|c| c.name = "a b".to_owned()),
            "configuration: `name` is not a host name or address: \"a b\""
        );
        assert_eq!(check(|c| c.runtimes = 0), "configuration: `runtimes` is 0, which is not between 1 and 64");
        let unspecified = check(|c| c.listen.mqtt = vec!["0.0.0.0:8883".to_owned()]);
        assert_eq!(
            unspecified,
            "configuration: `listen.mqtt` holds 0.0.0.0:8883: name the addresses to listen on, one by one"
        );
        assert!(check(|c| c.listen.https = vec!["443".to_owned()]).contains("holds no address"));
    }
}
