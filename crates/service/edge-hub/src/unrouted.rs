//! Messages that no route takes: acknowledged, dropped and counted; and reported properties as messages to the routes.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use skerry_log::NewMessage;
use skerry_model::json::JsonObject;
use skerry_model::{ClientId, Json, MessageView, PropertyBag, PropertyBagBuilder, system};
use skerry_query::MessageFields;
use skerry_router::Origin;

use crate::hub::Hub;
use crate::routing::queued;

/// How many messages had no route since the start.
#[derive(Default)]
pub(crate) struct Unrouted(AtomicU64);

impl Hub {
    /// Counts messages that were acknowledged and dropped because no route takes them.
    pub(crate) fn count_unrouted(&self, messages: usize) {
        if messages > 0 {
            self.unrouted.0.fetch_add(messages as u64, Ordering::Relaxed);
        }
    }

    /// Offers what a client reported to the routes `FROM /twinChangeNotifications` (`edge-hub-routing-and-store` §6).
    pub(crate) fn notify_twin_change(&self, client: &ClientId, patch: &JsonObject) {
        let Some(routes) = self.settings.routes() else { return };
        let sources = routes.router.sources(&Origin::TwinChange);
        let mut bag = PropertyBagBuilder::new();
        bag.push(system::CONTENT_TYPE, "application/json").push(system::CONTENT_ENCODING, "utf-8");
        bag.push(system::SCHEMA, "twinChangeNotification").push(system::CONNECTION_DEVICE_ID, client.device().as_str());
        if let Some(module) = client.module() {
            bag.push(system::CONNECTION_MODULE_ID, module.as_str());
        }
        let properties = bag.finish();
        let body = json!({ "properties": { "reported": Json::Object(patch.clone()) } }).to_string();
        let message = MessageView { properties: PropertyBag::new(&properties), body: body.as_bytes() };
        let mut fields = MessageFields::new(message)
            .with_system("connectionDeviceId", client.device().as_str())
            .with_system("messageType", "twinChangeNotification");
        if let Some(module) = client.module() {
            fields = fields.with_system("connectionModuleId", module.as_str());
        }
        let now = self.clock.now().wall;
        let destinations = queued(&routes, &routes.router.destinations(&sources, &fields), now);
        if destinations.is_empty() {
            return;
        }
        let message = NewMessage {
            source: &self.config.own_module().to_string(),
            stamp: &[],
            properties: &properties,
            body: body.as_bytes(),
            enqueued: now,
            destinations: &destinations,
        };
        // The twin itself is kept whatever becomes of the notification.
        if let Err(refusal) = self.queues.append(&[message]) {
            tracing::warn!(%client, %refusal, "a twin change notification is dropped");
        }
    }
}
