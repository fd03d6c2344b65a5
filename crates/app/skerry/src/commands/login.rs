//! `skerry login`: remembers a hub after having talked to it.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use skerry_dialect::connection_string::ServiceConnection;
use skerry_dialect::http::Route;
use skerry_net::http::Method;

use super::input;
use crate::arguments::Login;
use crate::failure::Failure;
use crate::hub::{Call, Hub};
use crate::output::Output;
use crate::profile::Profile;

/// What the hub leaves in its data folder for whoever may read it.
const CONNECTION_STRING_FILE: &str = "connection-string";
const CA_FILE: &str = "ca.pem";

pub(super) async fn run(login: Login, name: &str, timeout: Duration, output: &mut Output) -> Result<(), Failure> {
    let (text, ca_pem) = match (&login.connection_string, &login.hub_dir) {
        (_, Some(folder)) => (read(&folder.join(CONNECTION_STRING_FILE))?, Some(read(&folder.join(CA_FILE))?)),
        (Some(text), None) => {
            let text =
                if text == "-" { String::from_utf8_lossy(&input::bytes("-")?).into_owned() } else { text.clone() };
            (text, login.ca.as_deref().map(read).transpose()?)
        }
        (None, None) => return Err(Failure::usage("give --connection-string or --hub-dir")),
    };
    let connection = ServiceConnection::parse(&text).map_err(|error| Failure::usage(error.to_string()))?;
    let profile = Profile { connection, ca_pem };
    let hub = Hub::new(profile.clone(), timeout)?;
    if !login.untried {
        hub.json(Call::new(Method::GET, &Route::DeviceStatistics)).await?;
    }
    let path = profile.save(name)?;
    let document = json!({ "hub": hub.host(), "policy": profile.connection.policy, "file": path });
    let line = format!("logged in to `{}` as `{}`; saved in {}", hub.host(), profile.connection.policy, path.display());
    Ok(output.line_or(&document, line)?)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|cause| Failure::failed(format!("cannot read {}", path.display())).because(cause))
}
