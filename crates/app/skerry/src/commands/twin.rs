//! `skerry twin`: reads and writes the documents that stand for devices and modules.

use skerry_dialect::http::Route;
use skerry_dialect::rest::twin_update_body;
use skerry_model::{Json, TwinUpdate};
use skerry_net::http::Method;

use super::input;
use crate::arguments::Twin;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::Output;

/// When each property was changed, beside the properties.
const METADATA: &str = "$metadata";

pub(super) async fn run(command: Twin, hub: &Hub, output: &mut Output) -> Result<(), Failure> {
    match command {
        Twin::Show { client, metadata } => {
            let mut twin = hub.json(Call::new(Method::GET, &Route::Twin(client))).await?;
            if !metadata && !output.is_json() {
                without_metadata(&mut twin);
            }
            Ok(output.document(&twin)?)
        }
        Twin::Update { client, desired, tags, replace } => {
            let update = TwinUpdate {
                tags: tags.map(|text| input::object("--tags", &text)).transpose()?,
                desired: desired.map(|text| input::object("--desired", &text)).transpose()?,
            };
            let method = if replace { Method::PUT } else { Method::PATCH };
            let call = Call::new(method, &Route::Twin(client.clone())).if_any().json(&twin_update_body(&update));
            let twin = hub.json(call).await?;
            let version = &twin["properties"]["desired"]["$version"];
            Ok(output.line_or(&twin, format!("updated `{client}`; desired properties have version {version}"))?)
        }
    }
}

/// It is several times as long as what it tells about.
fn without_metadata(twin: &mut Json) {
    let sections = twin.get_mut("properties").and_then(Json::as_object_mut);
    for section in sections.into_iter().flat_map(|sections| sections.values_mut()) {
        if let Some(section) = section.as_object_mut() {
            section.remove(METADATA);
        }
    }
}
