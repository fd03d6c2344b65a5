//! `skerry module`: the modules a hub knows of a device.

use skerry_dialect::http::Route;
use skerry_net::http::Method;

use crate::arguments::Module;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::{Output, Table, moment, text};

pub(super) async fn run(command: Module, hub: &Hub, output: &mut Output) -> Result<(), Failure> {
    let Module::List { device } = command;
    let modules = hub.json(Call::new(Method::GET, &Route::Modules(device))).await?;
    let mut table = Table::new(["MODULE", "STATE", "LAST ACTIVE", "MANAGED BY", "AUTHENTICATION"]);
    for module in modules.as_array().into_iter().flatten() {
        table.push([
            text(module, "moduleId"),
            text(module, "connectionState"),
            moment(&text(module, "lastActivityTime")),
            match text(module, "managedBy") {
                nobody if nobody.is_empty() => "-".to_owned(),
                somebody => somebody,
            },
            text(&module["authentication"], "type"),
        ]);
    }
    Ok(output.table_or(&modules, &table)?)
}
