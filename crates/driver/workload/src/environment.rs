//! What a module is told through its environment variables (`edge-module-environment` §1).

use skerry_model::{DeviceId, InvalidId, ModuleId, ModuleName};

/// Version that is asked for when `IOTEDGE_APIVERSION` is not set.
const API_VERSION_NOW: &str = "2022-08-03";

/// The variables of a module, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `IOTEDGE_WORKLOADURI`: `unix:///…` or `http://…`.
    pub workload_uri: String,
    /// `IOTEDGE_APIVERSION`.
    pub api_version: String,
    /// `IOTEDGE_DEVICEID` and `IOTEDGE_MODULEID`.
    pub module: ModuleId,
    /// `IOTEDGE_MODULEGENERATIONID`.
    pub generation: String,
    /// `IOTEDGE_IOTHUBHOSTNAME`: the hub that tokens are for.
    pub hub_host: String,
    /// `IOTEDGE_GATEWAYHOSTNAME`: the edge hub to connect to; for the edge hub itself its parent, when it has one.
    pub gateway_host: Option<String>,
    /// `IOTEDGE_PARENTHOSTNAME`: the parent edge, when there is one.
    pub parent_host: Option<String>,
    /// `EdgeDeviceHostName`: this edge's own name; only agent and edge hub have it.
    pub edge_host: Option<String>,
}

/// Why the variables do not make a module's environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Some are missing or empty: this process was not started by an edge.
    #[error("not the environment of an edge module: {} not set", .0.join(", "))]
    Missing(Vec<&'static str>),
    /// A name is not an id.
    #[error("{variable}: {error}")]
    Id {
        /// Which variable.
        variable: &'static str,
        /// What is wrong with it.
        error: InvalidId,
    },
    /// Another way to authenticate than this library knows.
    #[error("IOTEDGE_AUTHSCHEME is `{0}`; only sasToken is known")]
    AuthScheme(String),
}

impl Environment {
    /// Reads the variables through `variable`, such as `|name| std::env::var(name).ok()`. An empty value counts as none.
    ///
    /// # Errors
    /// When a variable that every edge sets is missing, or a value cannot be used.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let optional = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut missing = Vec::new();
        let mut required = |name: &'static str| {
            optional(name).unwrap_or_else(|| {
                missing.push(name);
                String::new()
            })
        };
        let workload_uri = required("IOTEDGE_WORKLOADURI");
        let device = required("IOTEDGE_DEVICEID");
        let module = required("IOTEDGE_MODULEID");
        let generation = required("IOTEDGE_MODULEGENERATIONID");
        let hub_host = required("IOTEDGE_IOTHUBHOSTNAME");
        if !missing.is_empty() {
            return Err(EnvironmentError::Missing(missing));
        }
        if let Some(scheme) = optional("IOTEDGE_AUTHSCHEME")
            && !scheme.eq_ignore_ascii_case("sasToken")
        {
            return Err(EnvironmentError::AuthScheme(scheme));
        }
        let wrong = |variable| move |error| EnvironmentError::Id { variable, error };
        Ok(Self {
            workload_uri,
            api_version: optional("IOTEDGE_APIVERSION").unwrap_or_else(|| API_VERSION_NOW.to_owned()),
            module: DeviceId::parse(&device)
                .map_err(wrong("IOTEDGE_DEVICEID"))?
                .module(ModuleName::parse(&module).map_err(wrong("IOTEDGE_MODULEID"))?),
            generation,
            hub_host,
            gateway_host: optional("IOTEDGE_GATEWAYHOSTNAME"),
            parent_host: optional("IOTEDGE_PARENTHOSTNAME"),
            edge_host: optional("EdgeDeviceHostName"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        let usual = [
            ("IOTEDGE_WORKLOADURI", "unix:///var/run/iotedge/workload.sock"),
            ("IOTEDGE_DEVICEID", "edge1"),
            ("IOTEDGE_MODULEID", "sensor"),
            ("IOTEDGE_MODULEGENERATIONID", "638"),
            ("IOTEDGE_IOTHUBHOSTNAME", "hub.example.net"),
            ("IOTEDGE_GATEWAYHOSTNAME", "edge1.local"),
            ("IOTEDGE_AUTHSCHEME", "SASTOKEN"),
        ];
        Environment::read(|name| {
            let set = changes.iter().chain(&usual).find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_edge_s_variables_are_understood() {
        let environment = read(&[]).unwrap();
        assert_eq!(environment.module.to_string(), "edge1/sensor");
        assert_eq!(environment.api_version, "2022-08-03");
        assert_eq!(environment.gateway_host.as_deref(), Some("edge1.local"));
        assert_eq!(environment.parent_host, None);
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let error = read(&[("IOTEDGE_DEVICEID", ""), ("IOTEDGE_WORKLOADURI", "")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not the environment of an edge module: IOTEDGE_WORKLOADURI, IOTEDGE_DEVICEID not set"
        );
    }

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(
            read(&[("IOTEDGE_MODULEID", "a/b")]).unwrap_err().to_string(),
            "IOTEDGE_MODULEID: an id cannot contain '/'"
        );
        assert_eq!(
            read(&[("IOTEDGE_AUTHSCHEME", "x509")]).unwrap_err(),
            EnvironmentError::AuthScheme("x509".to_owned())
        );
    }
}
