//! Makes at a hub what a benchmark needs: an edge device with its manifest, pairs of modules, devices below it, tokens for all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use skerry_dialect::connection_string::{ClientConnection, Credential, ServiceConnection, split_port};
use skerry_dialect::http::Route;
use skerry_dialect::identity::{device_draft_body, module_draft_body, read_device, read_module};
use skerry_dialect::mqtt::UserName;
use skerry_dialect::{error, sas};
use skerry_model::{
    Authentication, ClientId, DeviceDraft, DeviceId, DeviceRecord, ModuleDraft, ModuleName, SharedKey, Timestamp, json,
};
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient, Method, Request, header};
use skerry_net::{ClientTls, Clock};
use skerry_pki::{SymmetricKey, files};

use crate::credentials::{Credentials, Login, Pair};
use crate::failure::Failure;

const API_VERSION: &str = "2021-04-12";
/// Longer than any benchmark takes.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const DEPTH_MAX: usize = 64;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The data folder of a hub on this machine.
    #[arg(long)]
    hub_dir: PathBuf,
    /// The edge device to make.
    #[arg(long, default_value = "bench")]
    device: DeviceId,
    /// Pairs of modules `publisher0` and `receiver0` and so on.
    #[arg(long, default_value_t = 10)]
    pairs: u16,
    /// Devices `leaf0` and so on below the edge device.
    #[arg(long, default_value_t = 0)]
    leaves: u16,
    /// The edge device's manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Where the credentials go.
    #[arg(long)]
    out: PathBuf,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let hub = Hub::new(&options.hub_dir)?;
    let mut draft = DeviceDraft::new(options.device.clone());
    draft.iot_edge = true;
    let edge = hub.create_device(&draft).await?;
    let connection = ClientConnection {
        host: hub.host.clone(),
        client: ClientId::Device(options.device.clone()),
        gateway: None,
        credential: Credential::Key(key_of(&edge.authentication)?),
    };
    let mut made = Credentials { edge: connection.to_string(), pairs: Vec::new(), leaves: Vec::new() };
    for at in 0..options.pairs {
        let publisher = hub.create_module(&options.device, &format!("publisher{at}")).await?;
        let receiver = hub.create_module(&options.device, &format!("receiver{at}")).await?;
        made.pairs.push(Pair { publisher, receiver });
    }
    for at in 0..options.leaves {
        let id = DeviceId::parse(&format!("leaf{at}")).map_err(|error| Failure::because("a device", &error))?;
        let mut draft = DeviceDraft::new(id.clone());
        draft.parent = edge.own_scope();
        let leaf = hub.create_device(&draft).await?;
        made.leaves.push(hub.login(ClientId::Device(id), &key_of(&leaf.authentication)?)?);
    }
    hub.apply(&options.device, &options.manifest).await?;
    let text = serde_json::to_string_pretty(&made).map_err(|error| Failure::because("credentials", &error))?;
    files::write_private(&options.out, text.as_bytes()).map_err(|error| Failure::because("credentials", &error))
}

/// A hub whose data folder is at hand.
struct Hub {
    http: HttpClient,
    connection: ServiceConnection,
    /// Its name, as it stands in tokens.
    host: String,
    clock: Clock,
}

impl Hub {
    fn new(folder: &Path) -> Result<Self, Failure> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(Failure::io(format!("cannot read {}", path.display())))
        };
        let connection = ServiceConnection::parse(read("connection-string")?.trim())
            .map_err(|error| Failure::because("the hub's connection string", &error))?;
        let tls = ClientTls::new(&read("ca.pem")?).map_err(|error| Failure::because("the hub's authority", &error))?;
        let (host, port) = split_port(&connection.host);
        let host = host.to_owned();
        let address = HttpAddress::Tls { host: host.clone(), port: port.unwrap_or(443), tls };
        Ok(Self { http: HttpClient::new(address, ClientLimits::default()), connection, host, clock: Clock::system() })
    }

    async fn create_device(&self, draft: &DeviceDraft) -> Result<DeviceRecord, Failure> {
        let body = device_draft_body(draft).to_string();
        let answer = self.ask(Method::PUT, &Route::Device(draft.id.clone()), body).await?;
        let document = json::parse(&answer, DEPTH_MAX).map_err(|error| Failure::because("a device", &error))?;
        read_device(&document).map_err(|error| Failure::because("a device", &error))
    }

    async fn create_module(&self, device: &DeviceId, name: &str) -> Result<Login, Failure> {
        let name = ModuleName::parse(name).map_err(|error| Failure::because("a module", &error))?;
        let id = device.module(name);
        let body = module_draft_body(&ModuleDraft::new(id.clone())).to_string();
        let answer = self.ask(Method::PUT, &Route::Module(id.clone()), body).await?;
        let document = json::parse(&answer, DEPTH_MAX).map_err(|error| Failure::because("a module", &error))?;
        let record = read_module(&document).map_err(|error| Failure::because("a module", &error))?;
        self.login(ClientId::Module(id), &key_of(&record.authentication)?)
    }

    async fn apply(&self, device: &DeviceId, manifest: &Path) -> Result<(), Failure> {
        let what = format!("cannot read {}", manifest.display());
        let text = std::fs::read_to_string(manifest).map_err(Failure::io(what))?;
        self.ask(Method::POST, &Route::ApplyConfiguration(device.clone()), text).await.map(drop)
    }

    fn login(&self, client: ClientId, key: &SharedKey) -> Result<Login, Failure> {
        let password = signed(&sas::Unsigned::for_client(&self.host, &client, self.expiry()), key)?;
        let name = UserName {
            host: self.host.clone(),
            client: client.clone(),
            api_version: "2021-04-12".to_owned(),
            product: None,
            model_id: None,
            auth_chain: None,
        };
        Ok(Login { client_id: client.to_string(), user_name: Some(name.to_string()), password: Some(password) })
    }

    fn expiry(&self) -> Timestamp {
        self.clock.now().wall.plus(TOKEN_LIFETIME)
    }

    async fn ask(&self, method: Method, route: &Route, body: String) -> Result<Vec<u8>, Failure> {
        let Credential::Key(key) = &self.connection.credential else {
            return Err(Failure::Other("the hub's connection string has no key".to_owned()));
        };
        let unsigned = sas::Unsigned::for_policy(&self.host, &self.connection.policy, self.expiry());
        let path = route.path();
        let what = format!("{method} {path}");
        let request = Request::new(method, format!("{path}?api-version={API_VERSION}"))
            .json(body)
            .header(header::AUTHORIZATION, &signed(&unsigned, key)?);
        let answer = self.http.request(request).await.map_err(|error| Failure::because(&what, &error))?;
        if answer.status.is_success() {
            return Ok(answer.body.to_vec());
        }
        let refused = error::read(answer.status.as_u16(), &answer.body);
        Err(Failure::Other(format!("{what}: {} {}", answer.status.as_u16(), refused.detail)))
    }
}

fn key_of(authentication: &Authentication) -> Result<SharedKey, Failure> {
    let keys = authentication.keys().ok_or_else(|| Failure::Other("an identity without keys".to_owned()))?;
    Ok(keys.primary.clone())
}

fn signed(unsigned: &sas::Unsigned, key: &SharedKey) -> Result<String, Failure> {
    let key = SymmetricKey::from_bytes(key.as_bytes().to_vec()).map_err(|error| Failure::because("a key", &error))?;
    Ok(unsigned.finish(&key.sign(unsigned.signed_text().as_bytes())))
}
