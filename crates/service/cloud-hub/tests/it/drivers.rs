//! The hub on the drivers it ships with: what it answered is there after it was started again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use skerry_cloud_hub::{CommandDraft, INDEXED_MEMBERS};
use skerry_gateway::Lane as _;
use skerry_model::{Channel, Delivery, Message, MessageView, PropertyBag, Reply, Request};
use skerry_state::{SqliteOptions, SqliteState};
use skerry_stream::{LocalStream, LocalStreamOptions, PartitionId, Position};

use crate::support::{World, device, hub_on, id, object};

async fn start(folder: &Path) -> World<SqliteState> {
    let options = SqliteOptions { indexed_members: INDEXED_MEMBERS.to_vec() };
    let state = Arc::new(SqliteState::open(&folder.join("state.db"), &options).unwrap());
    let options = LocalStreamOptions { bytes_max: 32 << 20, keep_for: None, ..LocalStreamOptions::default() };
    let stream = Arc::new(LocalStream::open(&folder.join("events"), &options).unwrap());
    let hub = hub_on(&state, stream).await;
    World { hub, state }
}

#[tokio::test]
async fn what_was_answered_outlives_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path()).await;
    let before = world.add_device("d").await;
    let policies = world.hub.policies().to_vec();
    let mut client = world.attach("d").await;
    let patch = object(json!({"r": 1}));
    let reported = client.submit(Request::PatchReported { patch, if_version: None }).await;
    assert_eq!(reported, Reply::Reported { version: Some(2) });
    let message = Message { properties: String::new(), body: Bytes::from_static(b"\x00\xff") };
    world.hub.send_command(&device("d"), CommandDraft { message, ..CommandDraft::default() }).await.unwrap();
    let message = MessageView { properties: PropertyBag::new("a=1"), body: b"telemetry" };
    let ticket = client.lane.append(client.key, &[message]).unwrap().unwrap();
    let key = client.key;
    while client.settle_down().await.commits.last() != Some(&(key, ticket)) {}
    client.disconnect();
    world.hub.stop().await;
    drop((client, world));

    let world = start(folder.path()).await;
    assert_eq!(world.hub.policies(), policies);
    let after = world.hub.get_device(&device("d")).await.unwrap();
    assert_eq!((&after.etag, &after.authentication), (&before.etag, &before.authentication));
    assert_eq!(world.hub.twin(&id("d")).await.unwrap().twin.reported.version, 2);
    let partition = PartitionId::of(&device("d"), 4);
    let span = world.hub.stream().read(partition, Position::Start, 1 << 20).await.unwrap();
    let [event] = &span.events[..] else { panic!("one event") };
    assert_eq!((&event.stamp.source, &event.body[..]), (&id("d"), &b"telemetry"[..]));
    let mut client = world.attach("d").await;
    client.listen(Channel::Commands).await;
    match client.delivery().await {
        Delivery::Command { command, .. } => assert_eq!(&command.message.body[..], b"\x00\xff"),
        other => panic!("{other:?}"),
    }
}
