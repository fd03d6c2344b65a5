//! Bodies of the service API beyond the registry: twins, commands, a manifest for one device, counts.
//!
//! Sources: `service-twins-and-query` §1, `service-messaging` §2.2 and §2.4, `service-deployments-and-jobs` §6,
//! `service-auth-and-registry` §4.2.

mod command;
mod content;
mod twin;

use serde_json::json;
use skerry_model::DeviceId;

pub use command::{CommandDraft, command, command_headers};
pub use content::{ConfigurationContent, configuration_content};
pub use twin::{TwinOf, TwinView, twin_body, twin_update, twin_update_body};

/// The body of `/statistics/devices`.
pub fn device_statistics(enabled: u64, disabled: u64) -> String {
    json!({
        "totalDeviceCount": enabled.saturating_add(disabled),
        "enabledDeviceCount": enabled,
        "disabledDeviceCount": disabled,
    })
    .to_string()
}

/// The body of `/statistics/service`.
pub fn service_statistics(connected: u64) -> String {
    json!({ "connectedDeviceCount": connected }).to_string()
}

/// The body that says how many waiting commands were thrown away.
pub fn purged(device: &DeviceId, count: u64) -> String {
    json!({ "deviceId": device.as_str(), "moduleId": null, "totalMessagesPurged": count }).to_string()
}

#[cfg(test)]
mod tests;
