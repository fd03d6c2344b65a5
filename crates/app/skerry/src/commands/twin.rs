//! `skerry twin`: reads and writes the documents that stand for devices and modules.

use skerry_dialect::http::Route;
use skerry_dialect::rest::twin_update_body;
use skerry_model::TwinUpdate;
use skerry_net::http::Method;

use super::input;
use crate::arguments::Twin;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::Output;

pub(super) async fn run(command: Twin, hub: &Hub, output: &mut Output) -> Result<(), Failure> {
    match command {
        Twin::Show { client } => {
            let twin = hub.json(Call::new(Method::GET, &Route::Twin(client))).await?;
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
