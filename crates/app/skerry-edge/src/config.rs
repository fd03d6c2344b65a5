//! The edge's settings: what the file may say, and what it means.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_daemon::{Field, Kind, LogConfig};
use skerry_dialect::connection_string::ClientConnection;

use crate::Role;

/// The configuration file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    data_dir: PathBuf,
    modules_dir: String,
    hostname: String,
    clock_skew_seconds: u32,
    provisioning: Provisioning,
    upstream: Upstream,
    hub: LocalHub,
    store: Store,
    agent: Agent,
    container: Container,
    process: Process,
    /// How the edge logs.
    pub(crate) log: LogConfig,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Provisioning {
    connection_string: String,
    connection_string_file: String,
}

impl std::fmt::Debug for Provisioning {
    /// Without the connection string, which holds the device's key.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Provisioning")
            .field("connection_string_file", &self.connection_string_file)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Upstream {
    trust: String,
    mqtt_port: u16,
    https_port: u16,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LocalHub {
    mqtt: Vec<String>,
    https: Vec<String>,
    plaintext_mqtt: Vec<String>,
    also_known_as: Vec<String>,
    connections_max: u32,
    runtimes: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Store {
    bytes_max: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Agent {
    socket: String,
    socket_mode: u32,
    hub_uid: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Container {
    engine: String,
    network: String,
    name_prefix: String,
    elevated: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Process {
    first_uid: u32,
    last_uid: u32,
    control_group: String,
    output_bytes_max: u64,
}

/// Every setting, for the sample file and the environment's names.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "data_dir",
        Kind::Text,
        "\"skerry-edge-data\"",
        "Where the edge keeps everything: keys, queues, the last good manifest. Made with mode 0700.",
    ),
    field(
        "modules_dir",
        Kind::Text,
        "\"\"",
        "Folder of process modules and of workload sockets; modules run as other users, who must be able to pass. Empty: beside the data folder, with `-modules` behind its name.",
    ),
    field(
        "hostname",
        Kind::Text,
        "\"\"",
        "The edge's own name, which modules and leaf devices connect to. Empty: the first address of `hub.mqtt`.",
    ),
    field(
        "clock_skew_seconds",
        Kind::Number,
        "300",
        "How long after its expiry a client's token is still taken, in seconds, 0 to 3600.",
    ),
    field(
        "provisioning.connection_string",
        Kind::Text,
        "\"\"",
        "The device's connection string, made by the hub. It holds a key: better put it into a file of its own.",
    ),
    field(
        "provisioning.connection_string_file",
        Kind::Text,
        "\"\"",
        "A file (mode 0600) with the device's connection string.",
    ),
    field(
        "upstream.trust",
        Kind::Text,
        "\"\"",
        "PEM file with the certificates that the hub's certificate must lead to.",
    ),
    field("upstream.mqtt_port", Kind::Number, "8883", "The hub's port for MQTT over TLS."),
    field("upstream.https_port", Kind::Number, "443", "The hub's port for HTTPS."),
    field(
        "hub.mqtt",
        Kind::List,
        "[\"127.0.0.2:8883\"]",
        "Addresses to listen on for MQTT over TLS. The gateway address of the module network is added by itself.",
    ),
    field(
        "hub.https",
        Kind::List,
        "[\"127.0.0.2:443\"]",
        "Addresses to listen on for HTTPS: method invocation by modules. Device SDKs know port 443 only.",
    ),
    field(
        "hub.plaintext_mqtt",
        Kind::List,
        "[]",
        "Addresses to listen on for MQTT without TLS; within 127.0.0.0/8 only, for measuring.",
    ),
    field("hub.also_known_as", Kind::List, "[]", "More names and addresses for the edge's server certificate."),
    field("hub.connections_max", Kind::Number, "12000", "Connections at the same time, 1 to 100000."),
    field("hub.runtimes", Kind::Number, "2", "Connection runtimes, each on a thread of its own, 1 to 64."),
    field(
        "store.bytes_max",
        Kind::Number,
        "1073741824",
        "Disk space for queued messages, in bytes, at least 67108864. When it is used up, senders are held back.",
    ),
    field(
        "agent.socket",
        Kind::Text,
        "\"\"",
        "Unix socket of the agent for `skerry edge`. Empty: `management.sock` in the data folder.",
    ),
    field(
        "agent.socket_mode",
        Kind::Number,
        "384",
        "Permission bits of that socket as a decimal number; 384 is 0600, 432 is 0660.",
    ),
    field(
        "agent.hub_uid",
        Kind::Number,
        "0",
        "User id of the hub where agent and hub are processes of their own (`--role agent`, `--role hub`). 0: the agent's own.",
    ),
    field(
        "container.engine",
        Kind::Text,
        "\"/var/run/docker.sock\"",
        "Socket of the container engine. Empty: no containers.",
    ),
    field("container.network", Kind::Text, "\"azure-iot-edge\"", "The network of the modules; made when missing."),
    field(
        "container.name_prefix",
        Kind::Text,
        "\"\"",
        "Comes before the module's name in its container's name, so that two edges can share an engine.",
    ),
    field("container.elevated", Kind::Flag, "true", "Whether create options may ask for privileges."),
    field("process.first_uid", Kind::Number, "59000", "First user id for process modules; used as root only."),
    field("process.last_uid", Kind::Number, "59999", "Last user id for process modules."),
    field(
        "process.control_group",
        Kind::Text,
        "\"skerry\"",
        "Control group of process modules; two edges on a machine need two.",
    ),
    field(
        "process.output_bytes_max",
        Kind::Number,
        "8388608",
        "Most bytes of output that are kept of each process module, at least 65536.",
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
            data_dir: "skerry-edge-data".into(),
            modules_dir: String::new(),
            hostname: String::new(),
            clock_skew_seconds: 300,
            provisioning: Provisioning::default(),
            upstream: Upstream::default(),
            hub: LocalHub::default(),
            store: Store::default(),
            agent: Agent::default(),
            container: Container::default(),
            process: Process::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self { trust: String::new(), mqtt_port: 8883, https_port: 443 }
    }
}

impl Default for LocalHub {
    fn default() -> Self {
        Self {
            mqtt: vec!["127.0.0.2:8883".to_owned()],
            https: vec!["127.0.0.2:443".to_owned()],
            plaintext_mqtt: Vec::new(),
            also_known_as: Vec::new(),
            connections_max: 12_000,
            runtimes: 2,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { bytes_max: 1 << 30 }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self { socket: String::new(), socket_mode: 0o600, hub_uid: 0 }
    }
}

impl Default for Container {
    fn default() -> Self {
        Self {
            engine: "/var/run/docker.sock".to_owned(),
            network: "azure-iot-edge".to_owned(),
            name_prefix: String::new(),
            elevated: true,
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self { first_uid: 59_000, last_uid: 59_999, control_group: "skerry".to_owned(), output_bytes_max: 8 << 20 }
    }
}

/// What the settings mean, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) modules_dir: PathBuf,
    pub(crate) hostname: String,
    pub(crate) also_known_as: Vec<String>,
    pub(crate) clock_skew: Duration,
    /// Of the device; a hub beside an agent needs none.
    pub(crate) connection: Option<ClientConnection>,
    pub(crate) trust_pem: String,
    pub(crate) upstream_mqtt_port: u16,
    pub(crate) upstream_https_port: u16,
    pub(crate) mqtt: Vec<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) plaintext_mqtt: Vec<SocketAddr>,
    pub(crate) connections_max: usize,
    pub(crate) runtimes: usize,
    pub(crate) store_bytes_max: u64,
    pub(crate) agent_socket: PathBuf,
    pub(crate) agent_socket_mode: u32,
    /// The user of a hub beside the agent, where it is another one than the agent's.
    pub(crate) hub_uid: Option<u32>,
    pub(crate) engine: Option<PathBuf>,
    pub(crate) network: String,
    pub(crate) name_prefix: String,
    pub(crate) elevated: bool,
    pub(crate) users: RangeInclusive<u32>,
    pub(crate) control_group: String,
    pub(crate) output_bytes_max: u64,
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
    pub(crate) fn override_with(&mut self, data_dir: Option<PathBuf>) {
        if let Some(data_dir) = data_dir {
            self.data_dir = data_dir;
        }
    }

    /// Checks what the types cannot say, and reads the files that settings name, as far as `role` needs them.
    pub(crate) fn check(&self, role: Role) -> Result<Settings, Refused> {
        let connection = if role == Role::Hub { None } else { Some(self.connection()?) };
        let mqtt = addresses("hub.mqtt", &self.hub.mqtt)?;
        let hostname = match (self.hostname.as_str(), mqtt.first()) {
            ("", Some(address)) => address.ip().to_string(),
            ("", None) => return Err(refused("hostname", "is needed when `hub.mqtt` is empty")),
            (name, _) => name.to_owned(),
        };
        let plaintext_mqtt = addresses("hub.plaintext_mqtt", &self.hub.plaintext_mqtt)?;
        if let Some(address) = plaintext_mqtt.iter().find(|address| !address.ip().is_loopback()) {
            return Err(refused("hub.plaintext_mqtt", format!("holds {address}, which is not within 127.0.0.0/8")));
        }
        let https = addresses("hub.https", &self.hub.https)?;
        let twice = |address: &&SocketAddr| mqtt.contains(address) || https.contains(address);
        if let Some(address) = https.iter().find(|address| mqtt.contains(address)) {
            return Err(refused("hub.https", format!("holds {address}, which `hub.mqtt` has too")));
        }
        if let Some(address) = plaintext_mqtt.iter().find(twice) {
            return Err(refused("hub.plaintext_mqtt", format!("holds {address}, where TLS is spoken")));
        }
        let trust_pem = match self.upstream.trust.as_str() {
            "" => return Err(refused("upstream.trust", "is missing: it names the PEM file of the hub's authority")),
            file => read("upstream.trust", Path::new(file))?,
        };
        let users = self.process.first_uid..=self.process.last_uid;
        if users.is_empty() || *users.start() == 0 {
            return Err(refused("process.first_uid", "and `process.last_uid` are no range of ordinary users"));
        }
        let socket = match self.agent.socket.as_str() {
            "" => self.data_dir.join("management.sock"),
            path => PathBuf::from(path),
        };
        let limited = |key, value: u64, min, max| within(key, value, min, max);
        Ok(Settings {
            modules_dir: self.modules_folder(),
            data_dir: self.data_dir.clone(),
            hostname,
            also_known_as: self.hub.also_known_as.clone(),
            clock_skew: Duration::from_secs(limited("clock_skew_seconds", self.clock_skew_seconds.into(), 0, 3_600)?),
            connection,
            trust_pem,
            upstream_mqtt_port: self.upstream.mqtt_port,
            upstream_https_port: self.upstream.https_port,
            mqtt,
            https,
            plaintext_mqtt,
            connections_max: number("hub.connections_max", self.hub.connections_max.into(), 1, 100_000)?,
            runtimes: number("hub.runtimes", self.hub.runtimes.into(), 1, 64)?,
            store_bytes_max: limited("store.bytes_max", self.store.bytes_max, 64 << 20, u64::MAX)?,
            agent_socket: socket,
            agent_socket_mode: self.agent.socket_mode & 0o777,
            hub_uid: Some(self.agent.hub_uid).filter(|uid| *uid != 0),
            engine: (!self.container.engine.is_empty()).then(|| PathBuf::from(&self.container.engine)),
            network: self.container.network.clone(),
            name_prefix: self.container.name_prefix.clone(),
            elevated: self.container.elevated,
            users,
            control_group: self.process.control_group.clone(),
            output_bytes_max: limited("process.output_bytes_max", self.process.output_bytes_max, 65_536, u64::MAX)?,
        })
    }

    fn modules_folder(&self) -> PathBuf {
        if !self.modules_dir.is_empty() {
            return PathBuf::from(&self.modules_dir);
        }
        let mut name = self.data_dir.as_os_str().to_owned();
        name.push("-modules");
        // Modules have working folders of their own, so a relative path would mean something else to them.
        std::path::absolute(PathBuf::from(&name)).unwrap_or_else(|_| PathBuf::from(name))
    }

    fn connection(&self) -> Result<ClientConnection, Refused> {
        let given = &self.provisioning;
        let (key, text) = match (given.connection_string.as_str(), given.connection_string_file.as_str()) {
            ("", "") => {
                return Err(refused(
                    "provisioning.connection_string_file",
                    "is missing: the edge does not know who it is",
                ));
            }
            ("", file) => {
                let key = "provisioning.connection_string_file";
                (key, read(key, Path::new(file))?)
            }
            (text, "") => ("provisioning.connection_string", text.to_owned()),
            _ => return Err(refused("provisioning.connection_string", "and `connection_string_file` are both given")),
        };
        ClientConnection::parse(text.trim()).map_err(|error| refused(key, format!("is not a device's: {error}")))
    }
}

fn refused(key: &'static str, what: impl Into<String>) -> Refused {
    Refused { key, what: what.into() }
}

fn read(key: &'static str, path: &Path) -> Result<String, Refused> {
    std::fs::read_to_string(path)
        .map_err(|cause| refused(key, format!("names {}, which cannot be read: {cause}", path.display())))
}

fn within(key: &'static str, value: u64, min: u64, max: u64) -> Result<u64, Refused> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(refused(key, format!("is {value}, which is not between {min} and {max}")))
}

fn number(key: &'static str, value: u64, min: u64, max: u64) -> Result<usize, Refused> {
    within(key, value, min, max).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<SocketAddr>, Refused> {
    let address = |text: &String| {
        let address: SocketAddr =
            text.parse().map_err(|_| refused(key, format!("holds no address such as 127.0.0.2:8883: {text:?}")))?;
        if address.ip().is_unspecified() {
            return Err(refused(key, format!("holds {text}: name the addresses to listen on, one by one")));
        }
        Ok(address)
    };
    texts.iter().map(address).collect()
}

/// Settings of a hub with nothing set, for tests.
#[cfg(test)]
pub(crate) fn usual_settings() -> Settings {
    let mut config = Config::default();
    config.upstream.trust = "/dev/null".to_owned();
    config.check(Role::Hub).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_what_the_program_prints() {
        let written = include_str!("../../../../docs/reference/skerry-edge.toml");
        assert_eq!(written, skerry_daemon::sample(FIELDS), "write it anew: skerry-edge sample-config");
    }

    #[test]
    fn the_table_and_the_settings_agree() {
        assert_eq!(skerry_daemon::disagreements::<Config>(FIELDS), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("skerry-edge-config-{}.pem", std::process::id()));
        std::fs::write(&file, "a root").unwrap();
        let check = |change: fn(&mut Config)| {
            let mut config = Config::default();
            config.upstream.trust = file.display().to_string();
            config.provisioning.connection_string =
                "HostName=h;DeviceId=d;SharedAccessKey=AAAAAAAAAAAAAAAAAAAAAA==".to_owned();
            change(&mut config);
            config.check(Role::All).map(|settings| settings.hostname).map_err(|refused| refused.to_string())
        };
        assert_eq!(check(|_| ()), Ok("127.0.0.2".to_owned()));
        assert_eq!(check(|c| c.hostname = "edge1".to_owned()), Ok("edge1".to_owned()));
        let error = |change| check(change).unwrap_err();
        assert!(error(|c| c.provisioning.connection_string = String::new()).contains("does not know who it is"));
        assert!(error(|c| c.provisioning.connection_string = "x".to_owned()).contains("is not a device's"));
        assert!(error(|c| c.upstream.trust = String::new()).contains("`upstream.trust` is missing"));
        assert!(error(|c| c.hub.plaintext_mqtt = vec!["10.0.0.1:1883".to_owned()]).contains("not within 127.0.0.0/8"));
        assert!(error(|c| c.hub.mqtt = vec!["0.0.0.0:8883".to_owned()]).contains("one by one"));
        assert!(error(|c| c.hub.https = vec!["127.0.0.2:8883".to_owned()]).contains("which `hub.mqtt` has too"));
        assert!(error(|c| c.hub.plaintext_mqtt = vec!["127.0.0.2:443".to_owned()]).contains("where TLS is spoken"));
        assert!(error(|c| c.process.first_uid = 0).contains("no range of ordinary users"));
        assert!(usual_settings().connection.is_none(), "a hub beside an agent is told by it who it is");
        let shown = format!(
            "{:?}",
            Config {
                provisioning: Provisioning { connection_string: "secret".into(), ..Provisioning::default() },
                ..Config::default()
            }
        );
        assert!(!shown.contains("secret"));
        std::fs::remove_file(&file).unwrap();
    }
}
