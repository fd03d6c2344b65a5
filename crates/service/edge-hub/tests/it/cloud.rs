//! The hub above as the tests script it: MQTT over memory, and the scope calls on a unix socket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use skerry_model::{Json, json::JsonObject, merge};
use skerry_mqtt::{ConnectReturn, PacketId, WireLimits, decode, server};
use skerry_net::http::{Body, Request, Response, ServerLimits, StatusCode, serve_http};
use skerry_net::{Clock, ConnectError};
use skerry_uplink::{Boxed, Dial, DialError, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const WIRE: WireLimits = WireLimits { packet_bytes_max: 1 << 20, connect_bytes_max: 1 << 16 };

/// A twin at the hub.
#[derive(Debug, Clone, Default)]
pub(crate) struct Twin {
    pub(crate) desired: JsonObject,
    pub(crate) desired_version: u64,
    pub(crate) reported: JsonObject,
    pub(crate) reported_version: u64,
}

/// A telemetry message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) sender: String,
    pub(crate) properties: String,
    pub(crate) payload: String,
}

/// All that the hub knows and what it is told to do.
pub(crate) struct Book {
    /// Nobody can be reached, over MQTT or HTTPS.
    pub(crate) away: bool,
    /// Client ids that are not let in.
    pub(crate) refused: BTreeSet<String>,
    /// Client ids whose messages are taken and not acknowledged.
    pub(crate) holds_acks: BTreeSet<String>,
    pub(crate) received: Vec<Received>,
    pub(crate) twins: BTreeMap<String, Twin>,
    /// Twins are not given.
    pub(crate) no_twins: bool,
    pub(crate) twin_reads: BTreeMap<String, usize>,
    /// What a reported patch is answered with, when not 204.
    pub(crate) patch_status: Option<u16>,
    pub(crate) patches: Vec<(String, Json)>,
    pub(crate) connects: BTreeMap<String, usize>,
    pub(crate) user_names: BTreeMap<String, String>,
    pub(crate) method_answers: Vec<(String, String, String)>,
    /// Commands that were acknowledged.
    pub(crate) commands_done: Vec<(String, u32)>,
    /// Commands that were delivered on a connection.
    pub(crate) commands_sent: Vec<(String, u32)>,
    commands: BTreeMap<String, BTreeMap<u32, String>>,
    connections: BTreeMap<String, Connected>,
    number: u64,
    /// Documents of the scope.
    pub(crate) devices: Vec<Json>,
    pub(crate) modules: Vec<Json>,
    /// Scope calls that were answered, by their last path segment.
    pub(crate) scope_calls: Vec<(String, Json)>,
}

struct Connected {
    number: u64,
    filters: BTreeSet<String>,
    orders: mpsc::UnboundedSender<Order>,
}

enum Order {
    Publish { topic: String, payload: String, command: Option<u32> },
    Ack,
    Drop,
}

#[derive(Clone)]
pub(crate) struct Cloud {
    book: Arc<Mutex<Book>>,
    clock: Clock,
}

impl Cloud {
    pub(crate) fn new(clock: Clock) -> Self {
        let book = Book {
            away: false,
            refused: BTreeSet::new(),
            holds_acks: BTreeSet::new(),
            received: Vec::new(),
            twins: BTreeMap::new(),
            no_twins: false,
            twin_reads: BTreeMap::new(),
            patch_status: None,
            patches: Vec::new(),
            connects: BTreeMap::new(),
            user_names: BTreeMap::new(),
            method_answers: Vec::new(),
            commands_done: Vec::new(),
            commands_sent: Vec::new(),
            commands: BTreeMap::new(),
            connections: BTreeMap::new(),
            number: 0,
            devices: Vec::new(),
            modules: Vec::new(),
            scope_calls: Vec::new(),
        };
        Self { book: Arc::new(Mutex::new(book)), clock }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// The hub cannot be reached any more, and all connections are lost.
    pub(crate) fn leave(&self) {
        let mut book = self.book();
        book.away = true;
        for connected in std::mem::take(&mut book.connections).into_values() {
            let _ = connected.orders.send(Order::Drop);
        }
    }

    pub(crate) fn come_back(&self) {
        self.book().away = false;
    }

    /// The connection of one client is lost.
    pub(crate) fn drop_connection(&self, client: &str) {
        if let Some(connected) = self.book().connections.remove(client) {
            let _ = connected.orders.send(Order::Drop);
        }
    }

    pub(crate) fn is_connected(&self, client: &str) -> bool {
        self.book().connections.contains_key(client)
    }

    pub(crate) fn connects(&self, client: &str) -> usize {
        self.book().connects.get(client).copied().unwrap_or(0)
    }

    pub(crate) fn listens(&self, client: &str, filter: &str) -> bool {
        self.book().connections.get(client).is_some_and(|at| at.filters.iter().any(|known| known.starts_with(filter)))
    }

    /// Acknowledges all that was held back from `client`, and what comes from now on.
    pub(crate) fn acknowledge(&self, client: &str) {
        let mut book = self.book();
        book.holds_acks.remove(client);
        if let Some(connected) = book.connections.get(client) {
            let _ = connected.orders.send(Order::Ack);
        }
    }

    /// Payloads that arrived from `sender`.
    pub(crate) fn from(&self, sender: &str) -> Vec<String> {
        let book = self.book();
        book.received.iter().filter(|got| got.sender == sender).map(|got| got.payload.clone()).collect()
    }

    pub(crate) fn twin(&self, client: &str) -> Twin {
        self.book().twins.get(client).cloned().unwrap_or_default()
    }

    /// Merges into a twin's desired properties; a client that listens is told.
    pub(crate) fn desire(&self, client: &str, patch: Json) {
        let Json::Object(patch) = patch else { panic!("not an object") };
        let mut book = self.book();
        let twin = book.twins.entry(client.to_owned()).or_default();
        merge(&mut twin.desired, &patch);
        twin.desired_version += 1;
        let version = twin.desired_version;
        let mut told = patch;
        told.insert("$version".to_owned(), version.into());
        let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={version}");
        book.publish(client, "$iothub/twin/PATCH/properties/desired/", topic, Json::Object(told).to_string(), None);
    }

    /// Calls a method; whether the client listens for any.
    pub(crate) fn call(&self, client: &str, name: &str, rid: &str, payload: &str) -> bool {
        let topic = format!("$iothub/methods/POST/{name}/?$rid={rid}");
        self.book().publish(client, "$iothub/methods/POST/", topic, payload.to_owned(), None)
    }

    /// Queues a command for a device.
    pub(crate) fn command(&self, device: &str, number: u32, payload: &str) {
        let mut book = self.book();
        book.commands.entry(device.to_owned()).or_default().insert(number, payload.to_owned());
        book.offer_command(device, number, payload);
    }
}

impl Book {
    fn publish(&mut self, client: &str, filter: &str, topic: String, payload: String, command: Option<u32>) -> bool {
        let Some(connected) = self.connections.get(client) else { return false };
        let listens = connected.filters.iter().any(|known| known.starts_with(filter));
        listens && connected.orders.send(Order::Publish { topic, payload, command }).is_ok()
    }

    fn offer_command(&mut self, device: &str, number: u32, payload: &str) {
        let topic = format!("devices/{device}/messages/devicebound/%24.mid={number}");
        let filter = format!("devices/{device}/messages/devicebound/");
        if self.publish(device, &filter, topic, payload.to_owned(), Some(number)) {
            self.commands_sent.push((device.to_owned(), number));
        }
    }

    /// The answer to a twin request on `topic`.
    fn twin_answer(&mut self, client: &str, topic: &str, payload: &[u8]) -> Option<(String, String)> {
        let rid = topic.split("$rid=").nth(1)?.split('&').next()?.to_owned();
        if topic.starts_with("$iothub/twin/GET/") {
            *self.twin_reads.entry(client.to_owned()).or_default() += 1;
            if self.no_twins {
                return None;
            }
            let twin = self.twins.entry(client.to_owned()).or_default();
            twin.desired_version = twin.desired_version.max(1);
            let mut desired = twin.desired.clone();
            desired.insert("$version".to_owned(), twin.desired_version.into());
            let mut reported = twin.reported.clone();
            reported.insert("$version".to_owned(), twin.reported_version.max(1).into());
            let body = json!({ "desired": desired, "reported": reported }).to_string();
            return Some((format!("$iothub/twin/res/200/?$rid={rid}"), body));
        }
        let patch: Json = serde_json::from_slice(payload).unwrap();
        self.patches.push((client.to_owned(), patch.clone()));
        if let Some(status) = self.patch_status {
            return Some((format!("$iothub/twin/res/{status}/?$rid={rid}"), String::new()));
        }
        let twin = self.twins.entry(client.to_owned()).or_default();
        let Json::Object(patch) = patch else { panic!("not an object") };
        merge(&mut twin.reported, &patch);
        twin.reported_version += 1;
        Some((format!("$iothub/twin/res/204/?$rid={rid}&$version={}", twin.reported_version), String::new()))
    }
}

/// Dials the scripted hub, for as long as the edge that it belongs to runs.
pub(crate) struct MemoryDial {
    pub(crate) cloud: Cloud,
    pub(crate) alive: Arc<std::sync::atomic::AtomicBool>,
}

impl Dial for MemoryDial {
    fn dial(&self) -> Boxed<'_, Result<Box<dyn Wire>, DialError>> {
        Box::pin(async move {
            if !self.alive.load(std::sync::atomic::Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.cloud.book().away {
                let cause = std::io::ErrorKind::ConnectionRefused.into();
                return Err(ConnectError { target: "hub:8883".to_owned(), cause }.into());
            }
            let (near, far) = tokio::io::duplex(1 << 16);
            tokio::spawn(serve(self.cloud.clone(), far));
            Ok(Box::new(near) as Box<dyn Wire>)
        })
    }
}

/// The hub's end of one connection.
struct Serving {
    cloud: Cloud,
    connection: server::Connection<u32>,
    orders: mpsc::UnboundedSender<Order>,
    out: Vec<u8>,
    client: String,
    number: u64,
    newest: u64,
    over: bool,
}

async fn serve(cloud: Cloud, mut stream: tokio::io::DuplexStream) {
    let config = server::Config {
        connect_timeout: Duration::from_secs(60),
        keep_alive_max: Duration::from_secs(1_177),
        window_max: 1_000,
        unacked_max: 10_000,
    };
    let connection = server::Connection::new(cloud.clock.now().monotonic, config, PacketId::MIN);
    let (orders, mut given) = mpsc::unbounded_channel();
    let client = String::new();
    let mut serving = Serving { cloud, connection, orders, out: Vec::new(), client, number: 0, newest: 0, over: false };
    let mut buffer = Vec::new();
    while !serving.over {
        tokio::select! {
            order = given.recv() => serving.obey(order.unwrap_or(Order::Drop)),
            read = stream.read_buf(&mut buffer) => {
                if read.unwrap_or(0) == 0 {
                    break;
                }
                let mut input = buffer.as_slice();
                while let Some(packet) = decode(&mut input, &WIRE).unwrap() {
                    serving.hear(packet);
                }
                let left = input.len();
                buffer.drain(..buffer.len() - left);
            }
        }
        let out = std::mem::take(&mut serving.out);
        if stream.write_all(&out).await.is_err() {
            break;
        }
    }
    serving.end();
}

impl Serving {
    fn obey(&mut self, order: Order) {
        let out = &mut self.out;
        match order {
            Order::Drop => self.over = true,
            Order::Ack => self.connection.ack_through(self.newest, out),
            Order::Publish { topic, payload, command: None } => {
                self.connection.publish_at_most_once(&[&topic], payload.as_bytes(), out).unwrap();
            }
            Order::Publish { topic, payload, command: Some(key) } => {
                self.connection.publish_at_least_once(key, false, &[&topic], payload.as_bytes(), out).unwrap();
            }
        }
    }

    fn hear(&mut self, packet: skerry_mqtt::Packet<'_>) {
        let now = self.cloud.clock.now().monotonic;
        let event = self.connection.handle_packet(now, packet, &mut self.out).unwrap();
        let mut book = self.cloud.book.lock().unwrap();
        match event {
            None => {}
            Some(server::Event::Connect(connect)) => {
                self.client = connect.client_id.to_owned();
                if book.refused.contains(&self.client) {
                    self.connection.refuse(ConnectReturn::NotAuthorized, &mut self.out);
                    self.over = true;
                    return;
                }
                book.number += 1;
                self.number = book.number;
                *book.connects.entry(self.client.clone()).or_default() += 1;
                book.user_names.insert(self.client.clone(), connect.user_name.unwrap().to_owned());
                let connected =
                    Connected { number: self.number, filters: BTreeSet::new(), orders: self.orders.clone() };
                if let Some(older) = book.connections.insert(self.client.clone(), connected) {
                    let _ = older.orders.send(Order::Drop);
                }
                self.connection.accept(now, false, &mut self.out);
            }
            Some(server::Event::Publish { publish, sequence }) => {
                self.newest = sequence.unwrap_or(self.newest);
                let payload = String::from_utf8_lossy(publish.payload).into_owned();
                if publish.topic.starts_with("$iothub/twin/") {
                    if let Some((topic, body)) = book.twin_answer(&self.client, publish.topic, publish.payload) {
                        self.connection.publish_at_most_once(&[&topic], body.as_bytes(), &mut self.out).unwrap();
                    }
                } else if let Some(rest) = publish.topic.strip_prefix("$iothub/methods/res/") {
                    book.method_answers.push((self.client.clone(), rest.to_owned(), payload));
                } else {
                    let (_, properties) = publish.topic.split_once("/messages/events/").unwrap();
                    let (sender, properties) = (self.client.clone(), properties.to_owned());
                    book.received.push(Received { sender, properties, payload });
                }
                if !book.holds_acks.contains(&self.client) {
                    self.connection.ack_through(self.newest, &mut self.out);
                }
            }
            Some(server::Event::Subscribe(subscribe)) => {
                self.connection.grant(&subscribe, &mut self.out).unwrap();
                let filters: Vec<_> = subscribe.filters().map(|(filter, _)| filter.to_owned()).collect();
                let commands = filters.iter().any(|filter| filter.contains("/devicebound/"));
                if let Some(connected) = book.connections.get_mut(&self.client) {
                    connected.filters.extend(filters);
                }
                if commands {
                    let waiting = book.commands.get(&self.client).cloned().unwrap_or_default();
                    for (number, payload) in waiting {
                        book.offer_command(&self.client, number, &payload);
                    }
                }
            }
            Some(server::Event::Unsubscribe(unsubscribe)) => {
                self.connection.unsuback(unsubscribe.id, &mut self.out);
                if let Some(connected) = book.connections.get_mut(&self.client) {
                    connected.filters.retain(|known| !unsubscribe.filters().any(|filter| filter == known));
                }
            }
            Some(server::Event::Acked(key)) => {
                if let Some(waiting) = book.commands.get_mut(&self.client) {
                    waiting.remove(&key);
                }
                book.commands_done.push((self.client.clone(), key));
            }
            Some(server::Event::Disconnect) => self.over = true,
            Some(other) => panic!("{other:?}"),
        }
    }

    fn end(&self) {
        let mut book = self.cloud.book();
        if book.connections.get(&self.client).is_some_and(|connected| connected.number == self.number) {
            book.connections.remove(&self.client);
        }
    }
}

/// Answers scope calls on a socket at `path` for as long as the runtime lives.
pub(crate) fn serve_scope(cloud: &Cloud, path: &Path) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let cloud = cloud.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let cloud = cloud.clone();
            tokio::spawn(async move {
                let handler = |request: Request| {
                    let response = answer_scope(&cloud, &request);
                    async move { Response::<Body>::from(response) }
                };
                let _ = serve_http(stream, handler, &ServerLimits::default()).await;
            });
        }
    });
}

fn answer_scope(cloud: &Cloud, request: &Request) -> Response {
    let mut book = cloud.book();
    if book.away {
        return Response::json(StatusCode::SERVICE_UNAVAILABLE, "{}");
    }
    let call = request.path().rsplit('/').next().unwrap().to_owned();
    let body: Json = serde_json::from_slice(&request.body).unwrap();
    book.scope_calls.push((call.clone(), body.clone()));
    let wanted = |device: &Json| call.starts_with("devicesAnd") || device["deviceId"] == body["targetDeviceId"];
    let devices: Vec<_> = book.devices.iter().filter(|device| wanted(device)).collect();
    let modules: Vec<_> = book
        .modules
        .iter()
        .filter(|module| {
            wanted(module) && (call.starts_with("devicesAnd") || module["moduleId"] == body["targetModuleId"])
        })
        .collect();
    if devices.is_empty() && modules.is_empty() {
        return Response::json(StatusCode::NOT_FOUND, "{\"Message\":\"none\"}");
    }
    let answer = json!({ "devices": devices, "modules": modules, "continuationLink": null });
    Response::json(StatusCode::OK, answer.to_string())
}
