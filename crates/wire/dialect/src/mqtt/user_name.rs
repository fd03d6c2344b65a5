//! The user name of a CONNECT packet, `{hub}/{client}/?api-version=…&…`, read and written.
//!
//! Source: `device-identity-and-auth` §6.1.

use skerry_model::{AuthChain, ClientId, DeviceId, InvalidChain, InvalidId, ModuleName};

use crate::percent;

/// The API version that our own clients say they speak: the oldest one that knows all parameters they send.
const API_VERSION: &str = "2020-09-30";

/// Who connects, to which hub, on whose behalf, and what they say of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserName {
    /// The hub's name as the client knows it, also when it connects to a gateway.
    pub host: String,
    /// The identity that comes alive.
    pub client: ClientId,
    /// Never checked, but required.
    pub api_version: String,
    /// What the client says of itself; for diagnostics only.
    pub product: Option<String>,
    /// The plug-and-play model the client announces.
    pub model_id: Option<String>,
    /// From the identity to the edge device whose hub speaks for it.
    pub auth_chain: Option<AuthChain>,
}

/// Why a CONNECT packet's names are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUserName {
    /// Not `{hub}/{device}[/{module}]/?…`.
    #[error("the user name is not of the form hub/device/?api-version=… or hub/device/module/?api-version=…")]
    Shape,
    /// A part is not an id.
    #[error("the user name holds a wrong id: {0}")]
    Id(#[from] InvalidId),
    /// No API version.
    #[error("the user name holds no api-version")]
    ApiVersion,
    /// The auth chain is not one.
    #[error("the user name holds a wrong auth-chain: {0}")]
    AuthChain(#[from] InvalidChain),
    /// The client id is empty.
    #[error("the client id is empty")]
    ClientIdEmpty,
    /// The client id is not the identity of the user name.
    #[error("the client id is not the identity of the user name, `{0}`")]
    ClientIdMismatch(ClientId),
}

impl BadUserName {
    /// The return code of the CONNACK that refuses such a CONNECT.
    pub const fn connack(&self) -> u8 {
        match self {
            Self::ClientIdEmpty => 2,
            Self::Shape | Self::Id(_) | Self::ApiVersion | Self::AuthChain(_) => 4,
            Self::ClientIdMismatch(_) => 5,
        }
    }
}

impl UserName {
    /// Reads the user name. Parameters come in any order; unknown ones are ignored.
    ///
    /// # Errors
    /// When its form is wrong, a part is not an id, or the API version is missing.
    pub fn parse(text: &str) -> Result<Self, BadUserName> {
        let (host, rest) = text.split_once('/').filter(|(host, _)| !host.is_empty()).ok_or(BadUserName::Shape)?;
        let (identity, parameters) = split_identity(rest).ok_or(BadUserName::Shape)?;
        let (device, module) = match identity.split_once('/') {
            None => (identity, None),
            Some((device, module)) => (device, Some(ModuleName::parse(module)?)),
        };
        let mut name = Self {
            host: host.to_owned(),
            client: ClientId::new(DeviceId::parse(device)?, module),
            api_version: String::new(),
            product: None,
            model_id: None,
            auth_chain: None,
        };
        name.take(parameters)?;
        if name.api_version.is_empty() { Err(BadUserName::ApiVersion) } else { Ok(name) }
    }

    /// Reads the user name and checks that the client id is the same identity, byte for byte.
    ///
    /// # Errors
    /// Like [`UserName::parse`], and when the client id is empty or differs.
    pub fn of_connect(user_name: &str, client_id: &str) -> Result<Self, BadUserName> {
        if client_id.is_empty() {
            return Err(BadUserName::ClientIdEmpty);
        }
        let name = Self::parse(user_name)?;
        let same = match (&name.client, client_id.split_once('/')) {
            (ClientId::Device(device), None) => device.as_str() == client_id,
            (ClientId::Module(own), Some((device, module))) => {
                own.device.as_str() == device && own.name.as_str() == module
            }
            (ClientId::Device(_), Some(_)) | (ClientId::Module(_), None) => false,
        };
        if same { Ok(name) } else { Err(BadUserName::ClientIdMismatch(name.client)) }
    }

    fn take(&mut self, parameters: &str) -> Result<(), BadUserName> {
        // The oldest form has a slash where the others have an ampersand; its value has one too, raw.
        let (parameters, legacy) = match parameters.split_once("/DeviceClientType=") {
            Some((parameters, product)) if !parameters.contains('&') => (parameters, Some(product)),
            _ => (parameters, None),
        };
        if let Some(product) = legacy {
            self.product = Some(percent::decode(product).into_owned());
        }
        for (key, value) in parameters.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = || percent::decode(value).into_owned();
            match () {
                () if key.eq_ignore_ascii_case("api-version") => self.api_version = value(),
                () if key.eq_ignore_ascii_case("DeviceClientType") => self.product = Some(value()),
                () if key.eq_ignore_ascii_case("model-id") => {
                    self.model_id = Some(value()).filter(|id| !id.is_empty());
                }
                () if key.eq_ignore_ascii_case("auth-chain") => self.auth_chain = Some(AuthChain::parse(&value())?),
                () => {}
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for UserName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}/?api-version={}", self.host, self.client, percent::encode(&self.api_version))?;
        if let Some(product) = &self.product {
            write!(out, "&DeviceClientType={}", percent::encode(product))?;
        }
        if let Some(chain) = &self.auth_chain {
            write!(out, "&auth-chain={}", percent::encode(&chain.to_string()))?;
        }
        match &self.model_id {
            None => Ok(()),
            Some(model) => write!(out, "&model-id={}", percent::encode(model)),
        }
    }
}

impl UserName {
    /// What our own clients say: `product` names program and version.
    pub fn own(host: &str, client: ClientId, product: &str) -> Self {
        Self {
            host: host.to_owned(),
            client,
            api_version: API_VERSION.to_owned(),
            product: Some(product.to_owned()),
            model_id: None,
            auth_chain: None,
        }
    }
}

/// Divides `device[/module]/parameters`. Ids may contain a question mark, so the parameters begin where a whole segment does; when
/// two segments could be theirs, the later one is.
fn split_identity(rest: &str) -> Option<(&str, &str)> {
    let first = rest.find('/')?;
    let second = rest[first + 1..].find('/').map(|at| first + 1 + at);
    let at = second
        .filter(|at| begins_parameters(&rest[at + 1..]))
        .or_else(|| begins_parameters(&rest[first + 1..]).then_some(first))?;
    let parameters = &rest[at + 1..];
    Some((&rest[..at], parameters.strip_prefix('?').unwrap_or(parameters)))
}

fn begins_parameters(text: &str) -> bool {
    const LEGACY: &str = "api-version=";
    text.starts_with('?') || text.get(..LEGACY.len()).is_some_and(|start| start.eq_ignore_ascii_case(LEGACY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn the_user_names_of_every_sdk_are_read() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/mqtt-connect.json")).unwrap();
        let mut read = 0;
        for vector in vectors["captured"].as_array().unwrap() {
            let (connect, expected) = (&vector["connect"], &vector["parsedUsername"]);
            let parsed =
                UserName::of_connect(connect["username"].as_str().unwrap(), connect["clientId"].as_str().unwrap());
            let Some(identity) = expected["identity"].as_str() else {
                // Device provisioning speaks to another kind of server.
                assert_ne!(parsed.map(|name| name.host).ok().as_deref(), Some("contoso-hub.azure-devices.net"));
                continue;
            };
            let name = parsed.unwrap_or_else(|error| panic!("{error}: {connect}"));
            assert_eq!(name.host, expected["hubHost"].as_str().unwrap());
            assert_eq!(name.client.to_string(), identity);
            assert_eq!(name.api_version, expected["query"]["api-version"].as_str().unwrap());
            assert_eq!(name.product.as_deref(), expected["query"]["DeviceClientType"].as_str());
            assert_eq!(name.model_id.as_deref(), expected["query"]["model-id"].as_str());
            read += 1;
        }
        assert!(read >= 15, "only {read} user names in the vectors");
    }

    #[test]
    fn older_forms_are_read() {
        let check = |text: &str| {
            let name = UserName::parse(text).unwrap();
            (name.client.to_string(), name.api_version, name.product)
        };
        let wanted = |client: &str, product: Option<&str>| {
            (client.to_owned(), "2016-11-14".to_owned(), product.map(str::to_owned))
        };
        assert_eq!(check("hub/d/api-version=2016-11-14"), wanted("d", None));
        assert_eq!(check("hub/d/m/api-version=2016-11-14"), wanted("d/m", None));
        assert_eq!(check("hub/d/m/api-version=2016-11-14/DeviceClientType=p/1.0"), wanted("d/m", Some("p/1.0")));
        assert_eq!(check("hub/d/?DeviceClientType=a/b&api-version=2016-11-14"), wanted("d", Some("a/b")));
        assert_eq!(check("hub/?d/?m/?api-version=2016-11-14"), wanted("?d/?m", None));
    }

    #[test]
    fn an_auth_chain_is_read() {
        let name = UserName::parse("h/edge2/mod1/?api-version=1&auth-chain=edge2%2Fmod1%3Bedge2%3bedge1").unwrap();
        assert_eq!(name.auth_chain.unwrap().to_string(), "edge2/mod1;edge2;edge1");
    }

    #[test]
    fn what_is_wrong_gets_its_return_code() {
        let check = |user_name: &str, client_id: &str| {
            let error = UserName::of_connect(user_name, client_id).unwrap_err();
            (error.connack(), error.to_string())
        };
        assert_eq!(check("h/d/?api-version=1", "").0, 2);
        assert_eq!(
            check("h/d/?api-version=1", "D"),
            (5, "the client id is not the identity of the user name, `d`".to_owned())
        );
        assert_eq!(check("h/d/?api-version=1", "d/m").0, 5);
        assert_eq!(check("h/d/m/?api-version=1", "d").0, 5);
        assert_eq!(check("h/d/?api-version=", "d"), (4, "the user name holds no api-version".to_owned()));
        assert_eq!(check("h/d", "d").0, 4);
        assert_eq!(check("", "d").0, 4);
        assert_eq!(check("h//?api-version=1", "d").0, 4);
        assert_eq!(check("h/d/m/n/?api-version=1", "d").0, 4);
        assert_eq!(check("h/d/?api-version=1&auth-chain=a;;b", "d").0, 4);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,100}", shaped in "h/[ -~]{0,20}/[ -~]{0,20}/?[?]api-version=[ -~]{0,40}") {
            let _ = UserName::parse(&text);
            let _ = UserName::of_connect(&shaped, "d");
        }

        #[test]
        fn what_is_written_is_read(
            client in "[A-Za-z0-9.+%_#*?!(),:=@$'-]{1,20}(/[A-Za-z0-9.+%_#*!(),:=@$'-]{1,20})?",
            product in ".{0,30}",
            model in proptest::option::of(".{1,30}"),
        ) {
            let client = ClientId::parse(&client).unwrap();
            let mut name = UserName::own("hub.local", client.clone(), &product);
            name.model_id = model;
            name.auth_chain = Some(AuthChain::direct(client.clone(), DeviceId::parse("edge").unwrap()));
            prop_assert_eq!(UserName::of_connect(&name.to_string(), &client.to_string()), Ok(name));
        }
    }
}
