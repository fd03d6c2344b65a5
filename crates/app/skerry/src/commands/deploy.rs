//! `skerry deploy`: checks a manifest as the edge would, and hands it to a device.

use std::path::Path;

use serde_json::json;
use skerry_dialect::http::Route;
use skerry_dialect::manifest::{OperatorManifest, operator};
use skerry_net::http::Method;

use crate::arguments::Deploy;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::Output;

pub(super) async fn run(
    command: Deploy,
    hub: impl FnOnce() -> Result<Hub, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        Deploy::Check { manifest } => {
            let read = checked(&manifest)?;
            let document = json!({ "modules": names(&read) });
            Ok(output.line_or(&document, format!("{} is good: {}", manifest.display(), summary(&read)))?)
        }
        Deploy::Apply { device, manifest } => {
            let read = checked(&manifest)?;
            let call = Call::new(Method::POST, &Route::ApplyConfiguration(device.clone()))
                .json(&read.to_content().to_string());
            hub()?.send(call).await?;
            let document = json!({ "device": device.as_str(), "modules": names(&read) });
            Ok(output.line_or(&document, format!("handed to `{device}`: {}", summary(&read)))?)
        }
    }
}

/// The manifest in a file, with everything that is wrong with it said at once.
fn checked(path: &Path) -> Result<OperatorManifest, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| Failure::failed(format!("cannot read {}", path.display())).because(cause))?;
    // Errors of type inside a condition are left to the edge, as the original does.
    let route = |text: &str| skerry_query::edge_routes::parse(text).map(|_| ()).map_err(|error| error.to_string());
    operator(&text, &route).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|error| format!("  {error}")).collect();
        Failure::failed(format!("{} would be refused by the edge:\n{}", path.display(), lines.join("\n")))
    })
}

fn names(manifest: &OperatorManifest) -> Vec<&str> {
    manifest.agent.modules.keys().map(|name| name.as_str()).collect()
}

fn summary(manifest: &OperatorManifest) -> String {
    match names(manifest).as_slice() {
        [] => "no modules".to_owned(),
        [one] => format!("1 module ({one})"),
        many => format!("{} modules ({})", many.len(), many.join(", ")),
    }
}
