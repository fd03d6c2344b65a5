//! The network that modules are in, and our address on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use serde_json::json;
use skerry_model::Json;
use skerry_module_runtime::{Network, RuntimeError};
use skerry_net::http::{Method, StatusCode};

use crate::engine::{EngineError, escape, filters};
use crate::labels;
use crate::runtime::ContainerRuntime;

/// Any port will do: nothing is sent.
const DISCARD_PORT: u16 = 9;

impl ContainerRuntime {
    pub(crate) async fn make_network(&self) -> Result<Network, RuntimeError> {
        let name = &self.config().network;
        let attempt = format!("cannot make network `{name}`");
        // One at a time: the engine makes two of one name when it is asked twice at the same time.
        let _turn = self.network_turn().lock().await;
        self.find_or_make_network(name).await.map(|answer| network(&answer)).map_err(|error| error.failed(&attempt))
    }

    async fn find_or_make_network(&self, name: &str) -> Result<Json, EngineError> {
        if let Some(network) = self.find_network(name).await? {
            return Ok(network);
        }
        let body = json!({
            "Name": name,
            "Driver": "bridge",
            "CheckDuplicate": true,
            "Labels": {labels::EDGE: self.config().edge},
        });
        match self.engine().post("/networks/create", &body).await {
            Ok(_) => {}
            // Another edge was quicker.
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => {}
            Err(error) => return Err(error),
        }
        let gone = || EngineError::Refused(StatusCode::NOT_FOUND, "it was made and is gone".to_owned());
        self.find_network(name).await?.ok_or_else(gone)
    }

    /// The network of that name. When two edges made one each at the same time, the older one counts, and who made the
    /// other one takes it back.
    async fn find_network(&self, name: &str) -> Result<Option<Json>, EngineError> {
        let target = format!("/networks?filters={}", filters(&[("name", &[name.to_owned()])]));
        let answer = self.engine().get(&target).await?;
        // The engine's filter takes names that only contain this one, too.
        let named = answer.as_array().into_iter().flatten().filter(|network| network["Name"] == name);
        let mut found: Vec<&Json> = named.collect();
        found.sort_by_key(|network| (network["Created"].to_string(), network["Id"].to_string()));
        for twice in found.iter().skip(1).filter(|network| network["Labels"][labels::EDGE] == self.config().edge) {
            let id = twice["Id"].as_str().unwrap_or_default();
            let removed = self.engine().wait_for(Method::DELETE, &format!("/networks/{}", escape(id))).await;
            tracing::warn!(network = name, id, ?removed, "removing a second network of the same name");
        }
        Ok(found.first().map(|network| (*network).clone()))
    }
}

/// The gateways in the answer to an inspection; some engines write them with the length of the network. A network that somebody
/// made with a subnet alone names none: there it is our own address in that subnet.
fn network(answer: &Json) -> Network {
    let configs = answer["IPAM"]["Config"].as_array().into_iter().flatten();
    let gateways = configs.filter_map(|config| match config["Gateway"].as_str() {
        Some(text) => text.split('/').next()?.parse::<IpAddr>().ok(),
        None => Subnet::parse(config["Subnet"].as_str()?)?.own_address(),
    });
    Network { gateways: gateways.collect() }
}

/// A range of addresses as the engine writes it: `10.9.0.0/24`.
#[derive(Debug, PartialEq, Eq)]
struct Subnet {
    first: IpAddr,
    length: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (first, length) = text.split_once('/')?;
        Some(Self { first: first.parse().ok()?, length: length.parse().ok()? })
    }

    /// The address of this machine in it: what the kernel would send from. Nothing is sent.
    fn own_address(&self) -> Option<IpAddr> {
        let (anywhere, inside): (IpAddr, IpAddr) = match self.first {
            IpAddr::V4(first) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::from_bits(first.to_bits() | 1).into()),
            IpAddr::V6(first) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(first.to_bits() | 1).into()),
        };
        let socket = UdpSocket::bind((anywhere, 0)).ok()?;
        socket.connect((inside, DISCARD_PORT)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        self.holds(own).then_some(own)
    }

    fn holds(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let host_bits = 32_u32.saturating_sub(self.length);
                (first.to_bits() ^ address.to_bits()).checked_shr(host_bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let host_bits = 128_u32.saturating_sub(self.length);
                (first.to_bits() ^ address.to_bits()).checked_shr(host_bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_of_both_address_families_are_found() {
        let answer = json!({"IPAM": {"Config": [
            {"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"},
            {"Subnet": "fd00::/64", "Gateway": "fd00::1/64"},
            {"Subnet": "203.0.113.0/24"},
        ]}});
        let expected = ["172.20.0.1", "fd00::1"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(network(&answer).gateways, expected);
        assert_eq!(network(&Json::Null), Network::default());
    }

    #[test]
    fn without_a_gateway_it_is_our_own_address_there() {
        let answer = json!({"IPAM": {"Config": [{"Subnet": "127.0.0.0/8"}]}});
        assert_eq!(network(&answer).gateways, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn a_subnet_holds_its_own_addresses_only() {
        for (subnet, address, holds) in [
            ("10.9.0.0/24", "10.9.0.255", true),
            ("10.9.0.0/24", "10.9.1.0", false),
            ("10.9.0.128/25", "10.9.0.127", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("10.9.0.0/24", "fd00::1", false),
            ("fd00::/64", "fd00::ffff:1", true),
            ("fd00::/64", "fd00:0:0:1::1", false),
        ] {
            assert_eq!(Subnet::parse(subnet).unwrap().holds(address.parse().unwrap()), holds, "{subnet} {address}");
        }
        assert_eq!(Subnet::parse("10.9.0.0"), None);
    }
}
