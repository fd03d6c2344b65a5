//! From what a module is told to a session: whom to connect to, whom to trust, who signs.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use ring::hmac;
use skerry_dialect::connection_string::{ClientConnection, Credential};
use skerry_model::ClientId;
use skerry_net::{ClientTls, Clock};
use skerry_uplink::{Parts, SignedTokens, TlsDial, TokenSource, Uplink, UplinkConfig, UplinkSession};
use skerry_workload::{Environment, WorkloadClient};

use crate::error::StartError;

/// Where an edge hub and a hub speak MQTT over TLS, when nothing else is said.
const MQTT_PORT: u16 = 8883;
/// Says another port; our edge sets it for its modules when its hub listens elsewhere.
const MQTT_PORT_VARIABLE: &str = "SKERRY_MQTT_PORT";
/// What the module says of itself, for diagnostics at the hub.
const PRODUCT: &str = concat!("skerry-sdk/", env!("CARGO_PKG_VERSION"));

/// A session of the module that this process's environment describes.
pub(crate) async fn from_environment(
    clock: Clock,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<UplinkSession, StartError> {
    let environment = Environment::read(&variable)?;
    let gateway = environment.gateway_host.clone().ok_or(StartError::NoGateway)?;
    let port = port(MQTT_PORT_VARIABLE, variable(MQTT_PORT_VARIABLE))?;
    let workload = Arc::new(WorkloadClient::from_environment(&environment)?);
    let roots = workload.trust_bundle().await?.ok_or(StartError::NoTrust)?;
    let tokens = SignedTokens::new(clock, LIFE, move |_, text| {
        let workload = Arc::clone(&workload);
        Box::pin(async move { workload.sign(text.as_bytes()).await.map_err(|failure| with_causes(&failure)) })
    });
    let target = Target { hub_host: environment.hub_host, gateway, port };
    open(clock, target, &roots, Arc::new(tokens), ClientId::Module(environment.module))
}

/// A session for a device or module with its own key.
pub(crate) fn from_connection_string(clock: Clock, text: &str, roots: &str) -> Result<UplinkSession, StartError> {
    let connection = ClientConnection::parse(text)?;
    let Credential::Key(key) = &connection.credential else { return Err(StartError::NoKey) };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tokens = SignedTokens::new(clock, LIFE, move |_, text| {
        let signature = hmac::sign(&key, text.as_bytes()).as_ref().to_vec();
        Box::pin(std::future::ready(Ok(signature)))
    });
    let (gateway, port) = skerry_dialect::connection_string::split_port(connection.target());
    let (hub_host, _) = skerry_dialect::connection_string::split_port(&connection.host);
    let target = Target { hub_host: hub_host.to_owned(), gateway: gateway.to_owned(), port: port.unwrap_or(MQTT_PORT) };
    open(clock, target, roots, Arc::new(tokens), connection.client)
}

const LIFE: std::time::Duration = std::time::Duration::from_secs(3_600);

struct Target {
    /// What tokens and user names say.
    hub_host: String,
    /// Who is dialled, and what its certificate must say.
    gateway: String,
    port: u16,
}

fn open(
    clock: Clock,
    target: Target,
    roots: &str,
    tokens: Arc<dyn TokenSource>,
    client: ClientId,
) -> Result<UplinkSession, StartError> {
    let config = UplinkConfig::new(target.hub_host, PRODUCT);
    let tls = ClientTls::new(roots)?;
    let time_max = config.limits.dial_timeout;
    let dial = TlsDial { host: target.gateway, port: target.port, tls, connect_to: None, time_max };
    // Spreads the attempts of many modules; needs no more than to differ between processes.
    let seed = RandomState::new().build_hasher().finish();
    let uplink = Uplink::new(config, Parts { dial: Arc::new(dial), tokens, clock, seed });
    Ok(uplink.open(client, None))
}

fn port(variable: &'static str, text: Option<String>) -> Result<u16, StartError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(MQTT_PORT) };
    text.parse().ok().filter(|port| *port != 0).ok_or(StartError::Port { variable, text })
}

fn with_causes(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_or_the_usual_one() {
        assert_eq!(port("P", None).ok(), Some(8883));
        assert_eq!(port("P", Some(String::new())).ok(), Some(8883));
        assert_eq!(port("P", Some("18883".to_owned())).ok(), Some(18883));
        for text in ["0", "x", "70000"] {
            let refused = port("P", Some(text.to_owned())).unwrap_err();
            assert_eq!(refused.to_string(), format!("P: `{text}` is no port"));
        }
    }

    #[tokio::test]
    async fn a_process_that_no_edge_started_is_told_what_is_missing() {
        let refused = from_environment(Clock::system(), |_| None).await.err().map(|refused| refused.to_string());
        assert!(refused.as_deref().is_some_and(|refused| refused.contains("IOTEDGE_WORKLOADURI")), "{refused:?}");
    }

    #[tokio::test]
    async fn a_connection_string_needs_a_key_and_roots() {
        let refuse =
            |text: &str| from_connection_string(Clock::system(), text, "").err().map(|refused| refused.to_string());
        let with_key = refuse("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
        assert!(with_key.contains("certificates to trust"), "{with_key}");
        assert_eq!(
            refuse("HostName=h;DeviceId=d;x509=true").as_deref(),
            Some("a connection string needs a shared key here")
        );
    }
}
