//! One session for each client: the newest wins, and the registry can end it.

use std::time::Duration;

use skerry_gateway::{Actor, Backend as _, Claim, Closed, Lane as _, TokenSigner};
use skerry_model::{
    AuthChain, AuthenticationDraft, Channel, ClientId, ConnectionState, DeviceDraft, DeviceStatus, ErrorCode,
    MessageView, ModuleDraft, ModuleId, Precondition, PropertyBag, Refusal, Reply, Request, SharedKey,
};

use crate::support::{Client, World, device, edge_hub, id, own_actor, proof, world};

fn append(client: &Client) -> Result<(), Refusal> {
    let message = MessageView { properties: PropertyBag::default(), body: b"x" };
    client.lane.append(client.key, &[message]).map(drop)
}

#[tokio::test(start_paused = true)]
async fn the_newer_connection_takes_over() {
    let world = world().await;
    world.add_device("d").await;
    let mut older = world.attach("d").await;
    assert_eq!(append(&older), Ok(()));
    let mut newer = world.attach("d").await;
    assert_eq!(older.closed().await, Some(Closed::Superseded));
    assert_eq!(append(&older), Err(Refusal::Superseded));
    assert!(matches!(older.submit(Request::GetTwin).await, Reply::Failed(e) if e.code == ErrorCode::Superseded));
    assert_eq!(append(&newer), Ok(()));
    older.disconnect();
    assert_eq!((newer.closed().await, world.hub.attached_count()), (None, 1));
    newer.disconnect();
    assert_eq!(world.hub.attached_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn somebody_else_cannot_be_attached() {
    let world = world().await;
    let edge = world.add_edge("edge", None).await;
    world.add_device("d").await;
    world.add_leaf("leaf", &edge).await;
    let refusals = [
        (own_actor("edge"), "d", None),
        (edge_hub("edge"), "d", Some("d;edge")),
        (edge_hub("edge"), "leaf", None),
        (edge_hub("edge"), "d", Some("leaf;edge")),
    ];
    for (actor, client, chain) in refusals {
        assert!(world.try_attach(&actor, client, chain, 1).await.is_err(), "{client} {chain:?}");
    }
    assert!(world.try_attach(&edge_hub("edge"), "leaf", Some("leaf;edge"), 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_takes_away_ends_connections() {
    let world = world().await;
    let edge = world.add_edge("edge", None).await;
    world.add_leaf("leaf", &edge).await;
    world.add_module("edge/mod").await;
    world.add_device("bystander").await;
    let mut bystander = world.attach("bystander").await;
    let mut module = world.attach("edge/mod").await;
    let leaf = async || world.try_attach(&edge_hub("edge"), "leaf", Some("leaf;edge"), 1).await;

    let mut through_edge = leaf().await.unwrap();
    let disabled = DeviceDraft { status: DeviceStatus::Disabled, iot_edge: true, ..DeviceDraft::new(device("edge")) };
    world.hub.put_device(disabled.clone(), &Precondition::Any).await.unwrap();
    assert_eq!((module.closed().await, through_edge.closed().await), (Some(Closed::Disabled), Some(Closed::Disabled)));
    assert_eq!(leaf().await.err().unwrap().detail, "device edge is disabled");

    let enabled = DeviceDraft { status: DeviceStatus::Enabled, ..disabled };
    world.hub.put_device(enabled, &Precondition::Any).await.unwrap();
    let mut through_edge = leaf().await.unwrap();
    world.hub.put_device(DeviceDraft::new(device("leaf")), &Precondition::Any).await.unwrap();
    assert_eq!(through_edge.closed().await, Some(Closed::Revoked), "it does not stand below the edge any more");

    let mut module = world.attach("edge/mod").await;
    world.hub.delete_module(&ModuleId::parse("edge/mod").unwrap(), &Precondition::Absent).await.unwrap();
    assert_eq!(module.closed().await, Some(Closed::Deleted));
    let mut agent = world.attach("edge/$edgeAgent").await;
    world.hub.delete_device(&device("edge"), &Precondition::Absent).await.unwrap();
    assert_eq!(agent.closed().await, Some(Closed::Deleted));
    assert_eq!(bystander.closed().await, None);

    world.hub.stop().await;
    assert_eq!(bystander.closed().await, Some(Closed::Stopping));
}

/// Who shows a token for `claim`, signed with the primary key that `signer` has now.
async fn comes_in(world: &World, claim: Claim, signer: &str) -> Actor {
    let signed_by = match id(signer) {
        ClientId::Device(_) => TokenSigner::Device,
        ClientId::Module(_) => TokenSigner::Module,
    };
    world.hub.authenticate(proof(claim, signed_by, &world.key(signer).await)).await.unwrap()
}

fn with_key(byte: u8) -> AuthenticationDraft {
    let key = SharedKey::from_bytes(&[byte; 32]).unwrap();
    AuthenticationDraft::Sas { primary: Some(key.clone()), secondary: Some(key) }
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_ends_the_connections_that_were_made_with_it_and_no_others() {
    let world = world().await;
    let edge = world.add_edge("edge", None).await;
    world.add_leaf("leaf", &edge).await;
    world.add_module("edge/mod").await;
    let own = |client: &str| Claim::Client(id(client));
    let chain = AuthChain::parse("leaf;edge").unwrap();
    let speaks = comes_in(&world, Claim::OnBehalf { chain }, "edge").await;
    let agent = comes_in(&world, own("edge/$edgeAgent"), "edge").await;
    let module = comes_in(&world, own("edge/mod"), "edge/mod").await;
    let leaf = comes_in(&world, own("leaf"), "leaf").await;
    let mut agent_session = world.try_attach(&agent, "edge/$edgeAgent", None, 1).await.unwrap();
    let mut module_session = world.try_attach(&module, "edge/mod", None, 1).await.unwrap();
    let mut leaf_session = world.try_attach(&speaks, "leaf", Some("leaf;edge"), 1).await.unwrap();

    // Written anew with the same keys.
    let draft = DeviceDraft { iot_edge: true, ..DeviceDraft::new(device("edge")) };
    world.hub.put_device(draft.clone(), &Precondition::Any).await.unwrap();
    assert_eq!((agent_session.closed().await, leaf_session.closed().await), (None, None));

    // The device's key is also that of its modules without one, and of the hub that speaks for others.
    let draft = DeviceDraft { authentication: with_key(7), ..draft };
    world.hub.put_device(draft, &Precondition::Any).await.unwrap();
    assert_eq!(agent_session.closed().await, Some(Closed::Revoked));
    assert_eq!(leaf_session.closed().await, Some(Closed::Revoked));
    assert_eq!(module_session.closed().await, None, "it has a key of its own");
    let mut leaf_session = world.try_attach(&leaf, "leaf", None, 1).await.unwrap();

    let draft = ModuleDraft { authentication: with_key(8), ..ModuleDraft::new(ModuleId::parse("edge/mod").unwrap()) };
    world.hub.put_module(draft, &Precondition::Any).await.unwrap();
    assert_eq!((module_session.closed().await, leaf_session.closed().await), (Some(Closed::Revoked), None));
    let denied = world.try_attach(&module, "edge/mod", None, 1).await.err().unwrap();
    assert!(denied.detail.contains("was not signed with a key"), "who was authenticated before: {}", denied.detail);
    let renewed = comes_in(&world, own("edge/mod"), "edge/mod").await;
    assert!(world.try_attach(&renewed, "edge/mod", None, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_registry_says_who_is_connected_and_when_it_last_was() {
    let world = world().await;
    world.add_device("d").await;
    assert_eq!(world.hub.get_device(&device("d")).await.unwrap().activity.last, None);
    let mut client = world.attach("d").await;
    let activity = world.hub.get_device(&device("d")).await.unwrap().activity;
    assert_eq!((activity.state, activity.state_updated), (ConnectionState::Connected, Some(crate::support::START)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    append(&client).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    client.disconnect();
    let gone = world.hub.get_device(&device("d")).await.unwrap().activity;
    assert_eq!(gone.state, ConnectionState::Disconnected);
    assert_eq!(gone.last, Some(crate::support::START.plus(Duration::from_secs(10))));
    assert_eq!(gone.state_updated, Some(crate::support::START.plus(Duration::from_secs(20))));

    // It is written down within seconds, and known to the next hub on the same store.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let stream = std::sync::Arc::new(skerry_stream::MemoryStream::start(1));
    let next = crate::support::hub_on(&world.state, stream).await;
    assert_eq!(next.get_device(&device("d")).await.unwrap().activity, gone);
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_cannot_begin_to_listen() {
    let world = world().await;
    world.add_device("d").await;
    let mut client = world.attach("d").await;
    let key = client.key;
    client.disconnect();
    let reply = client.lane.submit(key, Request::Listen(Channel::Commands)).await;
    assert!(matches!(reply, Reply::Failed(e) if e.code == ErrorCode::Superseded));
}
