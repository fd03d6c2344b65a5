//! Connection strings: `Key=Value` pairs joined by `;` that say where a hub is, who connects, and with what credential.
//!
//! Source: `device-identity-and-auth` §5, `service-auth-and-registry` §2.2.

use std::fmt;

use skerry_model::{ClientId, DeviceId, InvalidId, InvalidKey, ModuleName, SharedKey};

/// Why a text is not a connection string. Never holds a value of it but names of fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConnectionString {
    /// A part is not of the form `Key=Value`.
    #[error("part {0} of the connection string is not of the form Key=Value")]
    Part(usize),
    /// A field occurs twice.
    #[error("`{0}` occurs twice in the connection string")]
    Twice(&'static str),
    /// A field is missing or empty.
    #[error("`{0}` is missing in the connection string")]
    Missing(&'static str),
    /// `DeviceId` or `ModuleId` is not an id.
    #[error("`{field}` in the connection string: {error}")]
    Id {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        error: InvalidId,
    },
    /// `SharedAccessKey` is not a key.
    #[error("`SharedAccessKey` in the connection string: {0}")]
    Key(#[from] InvalidKey),
    /// More than one of key, token and certificate, or none.
    #[error("the connection string needs exactly one of SharedAccessKey, SharedAccessSignature and x509=true")]
    Credential,
    /// It names a policy where a device is wanted, or the other way round.
    #[error("this is the connection string of a {is}, one of a {wanted} is wanted")]
    Kind {
        /// What it is.
        is: &'static str,
        /// What is wanted.
        wanted: &'static str,
    },
}

/// With what somebody proves themselves.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A shared key to sign tokens with.
    Key(SharedKey),
    /// A finished token.
    Token(String),
    /// A certificate that is given elsewhere.
    Certificate,
}

impl fmt::Debug for Credential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Key(_) => "Key(..)",
            Self::Token(_) => "Token(..)",
            Self::Certificate => "Certificate",
        })
    }
}

/// How a device or module connects. Its text form holds the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConnection {
    /// The hub's name, with a port where it is not the usual one.
    pub host: String,
    /// Who connects.
    pub client: ClientId,
    /// The gateway to connect to in the hub's place.
    pub gateway: Option<String>,
    /// What proves it.
    pub credential: Credential,
}

/// How an operator or a service connects. Its text form holds the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConnection {
    /// The hub's name, with a port where it is not the usual one.
    pub host: String,
    /// The policy's name.
    pub policy: String,
    /// What proves it: a key or a token.
    pub credential: Credential,
}

impl ClientConnection {
    /// Reads the connection string of a device or module.
    ///
    /// # Errors
    /// When it is malformed, incomplete, or that of a policy.
    pub fn parse(text: &str) -> Result<Self, BadConnectionString> {
        let fields = Fields::split(text)?;
        if fields.device.is_none() && fields.policy.is_some() {
            return Err(BadConnectionString::Kind { is: "hub policy", wanted: "device or module" });
        }
        let host = required(fields.host, "HostName")?;
        let device = required(fields.device, "DeviceId")?;
        let device = DeviceId::parse(device).map_err(|error| BadConnectionString::Id { field: "DeviceId", error })?;
        let module = fields
            .module
            .map(ModuleName::parse)
            .transpose()
            .map_err(|error| BadConnectionString::Id { field: "ModuleId", error })?;
        Ok(Self {
            host: host.to_owned(),
            client: ClientId::new(device, module),
            gateway: fields.gateway.map(str::to_owned),
            credential: fields.credential()?,
        })
    }

    /// Where to connect to: the gateway when there is one.
    pub fn target(&self) -> &str {
        self.gateway.as_deref().unwrap_or(&self.host)
    }
}

impl ServiceConnection {
    /// Reads the connection string of a hub policy.
    ///
    /// # Errors
    /// When it is malformed, incomplete, or that of a device.
    pub fn parse(text: &str) -> Result<Self, BadConnectionString> {
        let fields = Fields::split(text)?;
        if fields.device.is_some() {
            return Err(BadConnectionString::Kind { is: "device or module", wanted: "hub policy" });
        }
        Ok(Self {
            host: required(fields.host, "HostName")?.to_owned(),
            policy: required(fields.policy, "SharedAccessKeyName")?.to_owned(),
            credential: match fields.credential()? {
                Credential::Certificate => return Err(BadConnectionString::Credential),
                credential => credential,
            },
        })
    }
}

fn required<'a>(value: Option<&'a str>, name: &'static str) -> Result<&'a str, BadConnectionString> {
    value.ok_or(BadConnectionString::Missing(name))
}

/// Splits `host:port`; the port is `None` when the text has none.
pub fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        _ => (host, None),
    }
}

#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    device: Option<&'a str>,
    module: Option<&'a str>,
    gateway: Option<&'a str>,
    policy: Option<&'a str>,
    key: Option<&'a str>,
    token: Option<&'a str>,
    x509: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// The values of keys and tokens contain `=`, so only the first one divides. Names are taken in any case; unknown ones are
    /// ignored, since every SDK has some of its own.
    fn split(text: &'a str) -> Result<Self, BadConnectionString> {
        let mut fields = Self::default();
        for (at, part) in text.trim().split(';').enumerate().filter(|(_, part)| !part.trim().is_empty()) {
            let (name, value) = part.split_once('=').ok_or(BadConnectionString::Part(at + 1))?;
            let Some((name, place)) = fields.place(name.trim()) else { continue };
            if place.is_some() {
                return Err(BadConnectionString::Twice(name));
            }
            *place = Some(value.trim()).filter(|value| !value.is_empty());
        }
        Ok(fields)
    }

    fn place(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'a str>)> {
        let places = [
            ("HostName", &mut self.host),
            ("DeviceId", &mut self.device),
            ("ModuleId", &mut self.module),
            ("GatewayHostName", &mut self.gateway),
            ("SharedAccessKeyName", &mut self.policy),
            ("SharedAccessKey", &mut self.key),
            ("SharedAccessSignature", &mut self.token),
        ];
        if name.eq_ignore_ascii_case("x509") || name.eq_ignore_ascii_case("X509Cert") {
            return Some(("x509", &mut self.x509));
        }
        places.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn credential(&self) -> Result<Credential, BadConnectionString> {
        let certificate = self.x509.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match (self.key, self.token, certificate) {
            (Some(key), None, false) => Ok(Credential::Key(SharedKey::from_base64(key)?)),
            (None, Some(token), false) => Ok(Credential::Token(token.to_owned())),
            (None, None, true) => Ok(Credential::Certificate),
            _ => Err(BadConnectionString::Credential),
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(out, "SharedAccessKey={}", key.to_base64()),
            Self::Token(token) => write!(out, "SharedAccessSignature={token}"),
            Self::Certificate => out.write_str("x509=true"),
        }
    }
}

impl fmt::Display for ClientConnection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "HostName={};DeviceId={}", self.host, self.client.device())?;
        if let Some(module) = self.client.module() {
            write!(out, ";ModuleId={module}")?;
        }
        write!(out, ";{}", self.credential)?;
        match &self.gateway {
            None => Ok(()),
            Some(gateway) => write!(out, ";GatewayHostName={gateway}"),
        }
    }
}

impl fmt::Display for ServiceConnection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "HostName={};SharedAccessKeyName={};{}", self.host, self.policy, self.credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn every_kind_is_read_and_written() {
        for text in [
            format!("HostName=hub.local;DeviceId=d;SharedAccessKey={KEY}"),
            format!("HostName=hub.local:8443;DeviceId=d;ModuleId=m;SharedAccessKey={KEY};GatewayHostName=edge.local"),
            "HostName=h;DeviceId=d;x509=true".to_owned(),
            "HostName=h;DeviceId=d;SharedAccessSignature=SharedAccessSignature sr=h&sig=A%3D&se=1".to_owned(),
        ] {
            assert_eq!(ClientConnection::parse(&text).unwrap().to_string(), text);
        }
        let service = format!("HostName=hub.local;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}");
        assert_eq!(ServiceConnection::parse(&service).unwrap().to_string(), service);
    }

    #[test]
    fn case_order_spaces_and_unknown_fields_do_not_matter() {
        let text = format!(" sharedaccesskey={KEY}; deviceid=d;HOSTNAME=h;;ProtocolFoo=1;X509Cert=false\n");
        assert_eq!(ClientConnection::parse(&text).unwrap().client.to_string(), "d");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is() {
        let check = |text: &str| ClientConnection::parse(text).unwrap_err().to_string();
        assert_eq!(check("HostName=h;DeviceId=d"), BadConnectionString::Credential.to_string());
        assert_eq!(check("HostName=h;DeviceId=d;DeviceId=e"), "`DeviceId` occurs twice in the connection string");
        assert_eq!(check("HostName=;DeviceId=d;x509=true"), "`HostName` is missing in the connection string");
        assert_eq!(check("HostName=h;secret"), "part 2 of the connection string is not of the form Key=Value");
        assert_eq!(
            check("HostName=h;DeviceId=a b;x509=true"),
            "`DeviceId` in the connection string: an id cannot contain ' '"
        );
        assert_eq!(
            check(&format!("HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY}")),
            "this is the connection string of a hub policy, one of a device or module is wanted"
        );
        let connection = ClientConnection::parse(&format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}")).unwrap();
        assert!(!format!("{connection:?}").contains(KEY));
    }

    #[test]
    fn ports_are_split_off() {
        assert_eq!(split_port("hub"), ("hub", None));
        assert_eq!(split_port("hub:8443"), ("hub", Some(8443)));
        assert_eq!(split_port("[::1]:443"), ("[::1]", Some(443)));
        assert_eq!(split_port("::1"), ("::1", None));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,200}", parts in "((HostName|DeviceId|ModuleId|SharedAccessKey|x509)=[ -~]{0,20};){0,6}") {
            for text in [text, parts] {
                let _ = ServiceConnection::parse(&text);
                if let Ok(connection) = ClientConnection::parse(&text) {
                    prop_assert_eq!(ClientConnection::parse(&connection.to_string()), Ok(connection));
                }
            }
        }
    }
}
