//! The network that modules are in, and our address on it.

use std::net::IpAddr;

use serde_json::json;
use skerry_model::Json;
use skerry_module_runtime::{Network, RuntimeError};
use skerry_net::http::{Method, StatusCode};

use crate::engine::{EngineError, escape, filters};
use crate::labels;
use crate::runtime::ContainerRuntime;

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

/// The gateways in the answer to an inspection; some engines write them with the length of the network.
fn network(answer: &Json) -> Network {
    let configs = answer["IPAM"]["Config"].as_array().into_iter().flatten();
    let gateways = configs.filter_map(|config| {
        let text = config["Gateway"].as_str()?;
        text.split('/').next()?.parse::<IpAddr>().ok()
    });
    Network { gateways: gateways.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_of_both_address_families_are_found() {
        let answer = json!({"IPAM": {"Config": [
            {"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"},
            {"Subnet": "fd00::/64", "Gateway": "fd00::1/64"},
            {"Subnet": "10.0.0.0/8"},
        ]}});
        let expected = ["172.20.0.1", "fd00::1"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(network(&answer).gateways, expected);
        assert_eq!(network(&Json::Null), Network::default());
    }
}
