//! Identities at the hub: first contact, creation, outages, changes by others, removal.

use std::collections::BTreeSet;
use std::time::Duration;

use skerry_dialect::connection_string::ClientConnection;
use skerry_dialect::sas;
use skerry_edge_identity::IdentityError;
use skerry_model::{ClientId, Timestamp};
use skerry_net::Clock;
use skerry_net::http::{ClientLimits, HttpAddress, HttpClient};
use skerry_pki::SymmetricKey;
use skerry_uplink::TokenSource;

use crate::hub::Hub;
use crate::{config, module, open};

fn clock() -> Clock {
    Clock::simulated(Timestamp::parse("2026-01-01T00:00:00Z").unwrap())
}

fn nobody(folder: &std::path::Path) -> HttpClient {
    HttpClient::new(HttpAddress::Unix(folder.join("nobody.sock")), ClientLimits::default())
}

#[tokio::test(start_paused = true)]
async fn first_contact_gives_the_system_modules_keys_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (hub, client) = Hub::start(folder.path(), clock);
    let edge = open(&config(folder.path()), client, clock).0.unwrap();
    assert_eq!((edge.hub_host(), edge.device().as_str()), ("Hub.example.net", "edge1"));
    assert!(!edge.provisioning_changed());
    edge.first_contact().await.unwrap();
    assert_eq!(hub.log(), ["GET $edgeAgent", "PUT $edgeAgent *", "GET $edgeHub", "PUT $edgeHub *"]);
    let agent = hub.module("$edgeAgent").unwrap();
    assert_eq!(agent["authentication"]["type"], "sas");
    assert_eq!((&agent["managedBy"], &agent["generationId"]), (&"iotEdge".into(), &"100".into()));

    let expiry = clock.now().wall.plus(Duration::from_secs(3_600));
    let signer = edge.tokens(&module("$edgeAgent"));
    let token = sas::parse(&signer.token(expiry).unwrap()).unwrap();
    let key =
        SymmetricKey::from_base64(agent["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap()).unwrap();
    assert!(key.verify(token.signed_text().as_bytes(), &token.signature));
    let client = ClientId::parse("edge1/$edgeAgent").unwrap();
    assert!(sas::resource_matches(&token, &["hub.example.net"], &client).is_some());
    assert_eq!(signer.client(), client);

    let for_uplink = TokenSource::token(&signer, "hub.example.net", &client).await.unwrap();
    assert_eq!(for_uplink.expires, expiry);
    let read = sas::parse(&for_uplink.text).unwrap();
    assert!(key.verify(read.signed_text().as_bytes(), &read.signature));
    let leaf = ClientId::parse("leaf").unwrap();
    let error = TokenSource::token(&signer, "hub.example.net", &leaf).await.unwrap_err();
    assert_eq!(error.to_string(), "no token for `leaf`: only tokens of `edge1/$edgeAgent` are signed here");

    tokio::time::advance(Duration::from_secs(61)).await;
    edge.first_contact().await.unwrap();
    assert_eq!(hub.log(), ["GET $edgeAgent", "GET $edgeHub"], "nothing to change");
}

#[tokio::test(start_paused = true)]
async fn a_new_module_is_made_and_then_given_derived_keys() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (hub, client) = Hub::start(folder.path(), clock);
    let edge = open(&config(folder.path()), client, clock).0.unwrap();
    assert!(matches!(edge.tokens(&module("m")).token(clock.now().wall), Err(IdentityError::UnknownModule(_))));
    let identity = edge.ensure(&module("m")).await.unwrap();
    assert_eq!((identity.id.to_string().as_str(), identity.generation.as_str()), ("edge1/m", "201"));
    assert_eq!(hub.log(), ["GET m", "PUT m", "PUT m *"]);
    assert_eq!(hub.module("m").unwrap()["managedBy"], "iotEdge");
    assert_ne!(hub.module("m").unwrap()["authentication"]["symmetricKey"]["primaryKey"], crate::KEY);
    edge.ensure(&module("m")).await.unwrap();
    assert_eq!(hub.log(), [""; 0], "checked a moment ago");
}

#[tokio::test(start_paused = true)]
async fn a_module_made_again_at_the_hub_gets_its_new_keys() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (hub, client) = Hub::start(folder.path(), clock);
    let edge = open(&config(folder.path()), client, clock).0.unwrap();
    let first = edge.ensure(&module("m")).await.unwrap();
    hub.put("m", "operator");
    hub.log();
    tokio::time::advance(Duration::from_secs(61)).await;
    let second = edge.ensure(&module("m")).await.unwrap();
    assert_ne!(first.generation, second.generation);
    assert_eq!(second.managed_by, "operator");
    assert_eq!(hub.log(), ["GET m", "PUT m *"]);
    assert_eq!(edge.known(&module("m")), Some(second));
}

#[tokio::test(start_paused = true)]
async fn a_reboot_without_a_hub_knows_everything() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (hub, client) = Hub::start(folder.path(), clock);
    let edge = open(&config(folder.path()), client, clock).0.unwrap();
    edge.first_contact().await.unwrap();
    let identity = edge.ensure(&module("m")).await.unwrap();
    let token = edge.tokens(&module("m")).token(Timestamp::from_unix_seconds(9)).unwrap();
    drop(edge);
    drop(hub);

    let edge = open(&config(folder.path()), nobody(folder.path()), clock).0.unwrap();
    edge.first_contact().await.unwrap();
    assert_eq!(edge.ensure(&module("m")).await.unwrap(), identity);
    assert_eq!(edge.tokens(&module("m")).token(Timestamp::from_unix_seconds(9)).unwrap(), token);
    let error = edge.ensure(&module("new")).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert_eq!(error.to_string(), "cannot read the identity of module `new`: the hub does not answer");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_asked_about_once_for_all_modules() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (hub, client) = Hub::start(folder.path(), clock);
    let edge = open(&config(folder.path()), client, clock).0.unwrap();
    for name in ["a", "b", "c"] {
        edge.ensure(&module(name)).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    hub.log();
    hub.fail(Some(503));
    for name in ["a", "b", "c"] {
        edge.ensure(&module(name)).await.unwrap();
    }
    assert_eq!(hub.log(), ["GET a"]);
    assert!(edge.ensure(&module("d")).await.unwrap_err().is_passing());
    hub.fail(None);
    tokio::time::advance(Duration::from_secs(31)).await;
    edge.ensure(&module("b")).await.unwrap();
    assert_eq!(hub.log(), ["GET d", "GET b"]);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_not_outages() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (hub, client) = Hub::start(folder.path(), clock);
    let edge = open(&config(folder.path()), client, clock).0.unwrap();
    hub.fail(Some(401));
    let error = edge.ensure(&module("m")).await.unwrap_err();
    assert!(!error.is_passing());
    assert!(error.to_string().starts_with("cannot read the identity of module `m`: the hub refuses:"), "{error}");
    hub.fail(None);
    hub.forget("$edgeHub");
    let error = edge.first_contact().await.unwrap_err();
    assert_eq!(error.to_string(), "device `edge1` is not an edge device at the hub: it has no $edgeHub");
}

#[tokio::test(start_paused = true)]
async fn what_the_manifest_drops_is_deleted_when_an_edge_looks_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (hub, client) = Hub::start(folder.path(), clock);
    let edge = open(&config(folder.path()), client, clock).0.unwrap();
    edge.first_contact().await.unwrap();
    for name in ["keep", "drop"] {
        edge.ensure(&module(name)).await.unwrap();
    }
    hub.put("orphan", "IOTEDGE");
    hub.put("operators", "");
    hub.log();
    let wanted = BTreeSet::from([module("keep")]);
    hub.fail(Some(503));
    assert!(edge.retain(&wanted).await.unwrap_err().is_passing());
    assert!(edge.known(&module("drop")).is_some());
    hub.fail(None);
    assert_eq!(edge.retain(&wanted).await.unwrap(), [module("drop"), module("orphan")]);
    assert_eq!(hub.log(), ["GET modules", "GET modules", "DELETE drop *", "DELETE orphan *"]);
    assert_eq!(edge.known(&module("drop")), None);
    assert!(edge.known(&module("$edgeHub")).is_some() && edge.known(&module("keep")).is_some());
    assert!(hub.module("operators").is_some());
    assert_eq!(edge.retain(&wanted).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn another_device_or_hub_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let (_hub, client) = Hub::start(folder.path(), clock);
    open(&config(folder.path()), client, clock).0.unwrap().first_contact().await.unwrap();
    let mut other = config(folder.path());
    other.connection.host = "other.example.net".to_owned();
    let edge = open(&other, nobody(folder.path()), clock).0.unwrap();
    assert!(edge.provisioning_changed());
    assert_eq!(edge.known(&module("$edgeHub")), None);
}

#[tokio::test(start_paused = true)]
async fn only_a_devices_key_provisions_an_edge() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        format!("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey={}", crate::KEY),
        "HostName=h;DeviceId=d;x509=true".to_owned(),
    ] {
        let mut wrong = config(folder.path());
        wrong.connection = ClientConnection::parse(&text).unwrap();
        let error = open(&wrong, nobody(folder.path()), clock()).0.unwrap_err();
        assert!(matches!(error, IdentityError::Connection(_)), "{error}");
    }
}
