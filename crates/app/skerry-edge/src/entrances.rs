//! Where clients come in: listeners, server certificate, log level and the limit of clients follow what is wanted of the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use skerry_daemon::Failure;
use skerry_edge_agent::HubProtocol;
use skerry_edge_hub::EdgeHub;
use skerry_gateway::{Entrance, Head, Open, Serving};
use skerry_model::Timestamp;
use skerry_net::{HandshakeLimits, ListenAddress, Listener, ServerTls, TlsAcceptor};
use skerry_workload::WorkloadClient;
use tokio::sync::watch;
use tracing::Level;

use crate::config::Settings;
use crate::surroundings::Surroundings;
use crate::view::View;
use crate::wishes::{HubWishes, word};

/// What modules and devices call the local hub besides its host name.
pub(crate) const HUB_NAME: &str = "edgeHub";
/// How long the server certificate is asked for; the authority gives less.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The certificate is asked for anew when this part of its life is left, in percent.
const RENEW_AT_PERCENT_LEFT: u32 = 20;
/// How long to wait after a certificate could not be had, or an address could not be listened on.
const RETRY: Duration = Duration::from_secs(10);
/// How long to wait when all is well.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// Places to listen on; each costs a listener and may cost a name in the certificate.
const PLACES_MAX: usize = 64;

/// The gateway's entrances.
pub(crate) struct Entrances {
    around: Arc<Surroundings>,
    workload: Arc<WorkloadClient>,
    serving: Serving,
    view: View,
    tls: Option<Certified>,
    open: BTreeMap<SocketAddr, (Place, Open)>,
    /// How much the hub was told to log.
    logs_at: Option<Level>,
    /// What was said of what does not work, so that it is logged once.
    said: BTreeSet<String>,
}

struct Certified {
    server: ServerTls,
    acceptor: TlsAcceptor,
    names: Vec<String>,
    renew_at: Timestamp,
}

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    protocol: HubProtocol,
    with_tls: bool,
}

impl Entrances {
    /// None yet.
    pub(crate) fn new(around: Arc<Surroundings>, workload: Arc<WorkloadClient>, serving: Serving, view: View) -> Self {
        let (open, said) = (BTreeMap::new(), BTreeSet::new());
        Self { around, workload, serving, view, tls: None, open, logs_at: None, said }
    }

    /// Keeps them what they should be until `stop`; clients are let in once `hub` has a configuration.
    pub(crate) async fn run(
        mut self,
        hub: EdgeHub,
        mut wishes: watch::Receiver<HubWishes>,
        mut stop: watch::Receiver<bool>,
    ) {
        tokio::select! {
            () = hub.configured() => {}
            () = stopped(&mut stop) => return self.close().await,
        }
        loop {
            let wanted = wishes.borrow_and_update().clone();
            let again = self.turn(&wanted).await;
            tokio::select! {
                // Without anybody to wish something else, what was wished last stands.
                Ok(()) = wishes.changed() => {}
                () = tokio::time::sleep(again) => {}
                () = stopped(&mut stop) => return self.close().await,
            }
        }
    }

    async fn close(mut self) {
        self.open.clear();
        let serving = self.serving;
        let _ = tokio::task::spawn_blocking(move || serving.stop()).await;
    }

    /// Makes everything what it should be; answers when to look again at the latest.
    async fn turn(&mut self, wishes: &HubWishes) -> Duration {
        if wishes.log_level != self.logs_at {
            self.logs_at = wishes.log_level;
            self.around.log_level.hub_logs_at(self.logs_at);
        }
        self.serving.door().limit_clients(wishes.clients_max);
        let (places, mut troubles) =
            if wishes.stopped { Default::default() } else { places(&self.around.settings, wishes) };
        self.close_others(&places).await;
        let mut bound = Vec::new();
        for (address, place) in places {
            if self.open.contains_key(&address) {
                continue;
            }
            match Listener::bind(&ListenAddress::Tcp(address)) {
                Ok(listener) => bound.push((address, place, listener)),
                Err(error) => troubles.push(format!("cannot listen on {address}: {}", error.cause)),
            }
        }
        if !wishes.stopped {
            let new = bound.iter().map(|(address, place, _)| (*address, *place));
            let all: BTreeMap<_, _> =
                self.open.iter().map(|(address, (place, _))| (*address, *place)).chain(new).collect();
            if let Err(error) = self.certify(&all).await {
                troubles.push(format!("there is no server certificate: {error}"));
                bound.clear();
            }
        }
        for (address, place, listener) in bound {
            self.open(address, place, listener);
        }
        let again = if troubles.is_empty() { self.well_until() } else { RETRY };
        self.say(troubles);
        again
    }

    /// Closes what is no longer wanted, or wanted for something else, and waits until the addresses are free.
    async fn close_others(&mut self, places: &BTreeMap<SocketAddr, Place>) {
        let closing: Vec<_> =
            self.open.extract_if(.., |address, (place, _)| places.get(address) != Some(place)).collect();
        for (address, (place, open)) in closing {
            open.close().await;
            tracing::info!(%address, head = word(place.protocol), "no longer listening");
        }
    }

    fn open(&mut self, address: SocketAddr, place: Place, listener: Listener) {
        let Some(tls) = &self.tls else { return };
        let entrance = Entrance {
            listener,
            tls: place.with_tls.then(|| tls.acceptor.clone()),
            head: match place.protocol {
                HubProtocol::Mqtt => Head::Mqtt,
                HubProtocol::Https => Head::Http,
            },
        };
        tracing::info!(%address, head = word(place.protocol), "listening");
        self.open.insert(address, (place, self.serving.open(entrance)));
    }

    /// When everything works, it does until the certificate has to be renewed.
    fn well_until(&self) -> Duration {
        let now = self.around.clock.now().wall;
        self.tls.as_ref().map_or(LOOK_EVERY, |tls| tls.renew_at.since(now).min(LOOK_EVERY))
    }

    /// Tells what does not work: whoever looks, and in the log once.
    fn say(&mut self, troubles: Vec<String>) {
        for trouble in troubles.iter().filter(|trouble| !self.said.contains(*trouble)) {
            tracing::warn!("{trouble}");
        }
        self.said = troubles.iter().cloned().collect();
        self.view.remark(troubles);
    }

    /// Has a certificate for all names and addresses, and a new one in time.
    async fn certify(&mut self, places: &BTreeMap<SocketAddr, Place>) -> Result<(), Failure> {
        let settings = &self.around.settings;
        let mut names = vec![settings.hostname.clone(), HUB_NAME.to_owned()];
        names.extend(settings.also_known_as.iter().cloned());
        let with_tls = places.iter().filter(|(_, place)| place.with_tls).map(|(address, _)| address.ip());
        names.extend(with_tls.collect::<BTreeSet<_>>().iter().map(IpAddr::to_string));
        let now = self.around.clock.now().wall;
        if self.tls.as_ref().is_some_and(|tls| tls.names == names && now < tls.renew_at) {
            return Ok(());
        }
        let others = names.get(1..).unwrap_or_default();
        let issued =
            self.workload.server_certificate(&settings.hostname, others, now.plus(CERTIFICATE_LIFETIME)).await?;
        let left = issued.expiration.since(now) * RENEW_AT_PERCENT_LEFT / 100;
        let renew_at = issued.expiration.minus(left);
        match &mut self.tls {
            Some(tls) => {
                tls.server.replace_certificate(&issued.chain_pem, &issued.key_pem)?;
                (tls.names, tls.renew_at) = (names, renew_at);
            }
            none => {
                let server = ServerTls::new(&issued.chain_pem, &issued.key_pem)?;
                let acceptor = TlsAcceptor::new(server.clone(), HandshakeLimits::default());
                *none = Some(Certified { server, acceptor, names, renew_at });
            }
        }
        Ok(())
    }
}

/// Waits until the program is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without a sender nobody is left to serve either.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Where to listen and for what; and what is wanted in vain.
fn places(settings: &Settings, wishes: &HubWishes) -> (BTreeMap<SocketAddr, Place>, Vec<String>) {
    let mut places = BTreeMap::new();
    let mut in_vain = Vec::new();
    let mut take = |address, protocol, with_tls| {
        let place = Place { protocol, with_tls };
        match places.get(&address) {
            Some(taken) if *taken == place => {}
            Some(_) => in_vain.push(format!("{address} is wanted for {}, and serves something else", word(protocol))),
            None if places.len() >= PLACES_MAX => {
                in_vain.push(format!("{address} is one more than the {PLACES_MAX} places there may be"));
            }
            None => drop(places.insert(address, place)),
        }
    };
    settings.mqtt.iter().for_each(|address| take(*address, HubProtocol::Mqtt, true));
    settings.https.iter().for_each(|address| take(*address, HubProtocol::Https, true));
    settings.plaintext_mqtt.iter().for_each(|address| take(*address, HubProtocol::Mqtt, false));
    // Modules on a network of their own reach us there, at the ports everybody uses.
    for ip in &wishes.addresses {
        let ports = [(settings.mqtt.first(), HubProtocol::Mqtt), (settings.https.first(), HubProtocol::Https)];
        for (port, protocol) in ports.into_iter().filter_map(|(address, protocol)| Some((address?.port(), protocol))) {
            take(SocketAddr::new(*ip, port), protocol, true);
        }
    }
    // A binding without an address means every one the original's host has. Ours are named one by one.
    let configured = settings.mqtt.iter().chain(&settings.https).map(SocketAddr::ip);
    let everywhere: BTreeSet<_> = configured.chain(wishes.addresses.iter().copied()).collect();
    for binding in &wishes.bindings {
        let ips = binding.ip.map_or_else(|| everywhere.clone(), |ip| BTreeSet::from([ip]));
        ips.into_iter().for_each(|ip| take(SocketAddr::new(ip, binding.port), binding.protocol, true));
    }
    (places, in_vain)
}

#[cfg(test)]
mod tests {
    use skerry_edge_agent::HubBinding;

    use super::*;
    use crate::config::usual_settings;

    fn listening(settings: &Settings, wishes: &HubWishes) -> Vec<String> {
        let shown = |(address, place): (&SocketAddr, &Place)| {
            format!("{address} {}{}", word(place.protocol), if place.with_tls { "" } else { " plain" })
        };
        let (places, in_vain) = places(settings, wishes);
        places.iter().map(shown).chain(in_vain).collect()
    }

    fn binding(protocol: HubProtocol, ip: Option<&str>, port: u16) -> HubBinding {
        HubBinding { protocol, ip: ip.map(|ip| ip.parse().unwrap()), port }
    }

    #[test]
    fn modules_networks_and_bindings_come_after_what_is_configured() {
        let mut settings = usual_settings();
        settings.plaintext_mqtt = vec!["127.0.0.3:1883".parse().unwrap()];
        let configured = ["127.0.0.2:443 https", "127.0.0.2:8883 mqtt", "127.0.0.3:1883 mqtt plain"];
        assert_eq!(listening(&settings, &HubWishes::default()), configured);
        let wishes = HubWishes {
            addresses: vec!["172.18.0.1".parse().unwrap()],
            bindings: vec![
                binding(HubProtocol::Mqtt, None, 8_883),
                binding(HubProtocol::Mqtt, None, 18_883),
                binding(HubProtocol::Https, Some("192.0.2.1"), 443),
                binding(HubProtocol::Https, Some("127.0.0.2"), 8_883),
            ],
            ..HubWishes::default()
        };
        let all = [
            "127.0.0.2:443 https",
            "127.0.0.2:8883 mqtt",
            "127.0.0.2:18883 mqtt",
            "127.0.0.3:1883 mqtt plain",
            "172.18.0.1:443 https",
            "172.18.0.1:8883 mqtt",
            "172.18.0.1:18883 mqtt",
            "192.0.2.1:443 https",
            "127.0.0.2:8883 is wanted for https, and serves something else",
        ];
        assert_eq!(listening(&settings, &wishes), all);
    }

    #[test]
    fn there_are_no_more_places_than_there_may_be() {
        let ports = 10_000..;
        let bindings = ports.take(PLACES_MAX).map(|port| binding(HubProtocol::Mqtt, None, port)).collect();
        let listening = listening(&usual_settings(), &HubWishes { bindings, ..HubWishes::default() });
        let too_many = listening.iter().filter(|line| line.ends_with("one more than the 64 places there may be"));
        assert_eq!((listening.len(), too_many.count()), (PLACES_MAX + 2, 2));
    }
}
