//! Reading telemetry from any place, and waiting for more.

use std::time::Duration;

use serde_json::{Value as Json, json};
use skerry_gateway::Lane as _;
use skerry_model::{MessageView, PropertyBag};

use crate::support::{PEER, START, World, world};

/// Bodies of the events of one answer, and where to go on.
async fn read(world: &World, query: &str) -> (Vec<String>, String) {
    let answer = world.ask_exactly("GET", &format!("/skerry/events?{query}")).policy("service").send().await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let mut lines: Vec<Json> =
        String::from_utf8(answer.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cursor = lines.pop().unwrap()["cursor"].as_str().unwrap().to_owned();
    let bodies = lines.iter().map(|line| line["body"].as_str().unwrap().to_owned()).collect();
    (bodies, cursor)
}

async fn send(world: &World, device: &str, bodies: &[&str]) {
    let (lane, attachment) = world.attach(device).await;
    for body in bodies {
        let message = MessageView { properties: PropertyBag::default(), body: body.as_bytes() };
        lane.append(attachment.key(), &[message]).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_read_from_where_the_reader_asks() {
    let world = world().await;
    for device in ["a", "b"] {
        world.device(device, json!({})).await;
    }
    send(&world, "a", &["a0", "a1"]).await;
    send(&world, "b", &["b0"]).await;
    send(&world, "a", &["a2"]).await;
    let (all, end) = read(&world, "from=oldest").await;
    assert_eq!(all, ["a0", "a1", "b0", "a2"], "in the order of their taking");
    assert_eq!(read(&world, "from=oldest&device=b").await.0, ["b0"]);
    assert_eq!(read(&world, "from=now").await.0, Vec::<String>::new());
    assert_eq!(read(&world, &format!("from={end}")).await.0, Vec::<String>::new());
    let third = START.plus(Duration::from_secs(2));
    assert_eq!(read(&world, &format!("from={third}")).await.0, ["b0", "a2"]);

    let mut seen = Vec::new();
    let mut from = "oldest".to_owned();
    loop {
        let (bodies, cursor) = read(&world, &format!("from={from}&count=1")).await;
        if bodies.is_empty() {
            break;
        }
        assert_eq!(bodies.len(), 1);
        seen.extend(bodies);
        from = cursor;
    }
    assert_eq!(seen, all, "a cursor neither repeats nor leaves out");
    for bad in ["from=yesterday", "partition=4", "partition=x", "device=a%20b"] {
        let target = format!("/skerry/events?{bad}");
        assert_eq!(world.ask_exactly("GET", &target).policy("service").status().await, 400, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_what_it_wants() {
    let world = world().await;
    for device in ["a", "b"] {
        world.device(device, json!({})).await;
    }
    let began = tokio::time::Instant::now();
    let ((bodies, cursor), ()) = tokio::join!(read(&world, "from=now&device=b&wait=60"), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        send(&world, "a", &["not this"]).await;
        send(&world, "b", &["this"]).await;
    });
    assert_eq!(bodies, ["this"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    assert_eq!(read(&world, &format!("from={cursor}&device=b&wait=3")).await.0, Vec::<String>::new());
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_is_connected_is_told() {
    let world = world().await;
    let _inside = world.door.enter(skerry_gateway::Connected {
        client: skerry_model::ClientId::parse("edge/m").unwrap(),
        peer: PEER.parse().unwrap(),
        protocol: "mqtt",
        product: "sdk".to_owned(),
        since: START,
    });
    let list = world.ask_exactly("GET", "/skerry/connections").policy("service").send().await.json();
    assert_eq!(
        list["connected"],
        json!([{"client": "edge/m", "peer": PEER, "protocol": "mqtt", "product": "sdk", "since": START.to_string()}])
    );
}
