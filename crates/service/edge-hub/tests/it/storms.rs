//! Everything that can happen, in random order: connections lost here and above, outages, take-overs, new routes and power cuts; at the
//! end, what was acknowledged has arrived everywhere, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use skerry_model::{Channel, Ticket};
use skerry_sim::Dice;

use crate::world::{Client, OWN, World};

const SENDERS: [&str; 3] = ["edge/a", "leaf", "leaf2"];
const STEPS: u32 = 60;
const SEEDS: u64 = 8;

fn routes() -> Value {
    json!({
        "up": "FROM /messages/* INTO $upstream",
        "toB": "FROM /messages/* INTO BrokeredEndpoint(\"/modules/b/inputs/in\")",
    })
}

/// What the senders know.
#[derive(Default)]
struct Sent {
    next: u32,
    /// Tickets of the current connection that were not acknowledged when last looked at, with the last number they cover.
    waiting: Vec<(Ticket, u32)>,
    /// All numbers that were acknowledged.
    acked: Vec<u32>,
    /// Numbers below this were dealt with.
    looked: u32,
}

struct Storm {
    senders: BTreeMap<&'static str, (Client, Sent)>,
    receiver: Option<Client>,
    received: Vec<String>,
}

impl Storm {
    async fn connect(world: &World, sent: BTreeMap<&'static str, Sent>, received: Vec<String>) -> Self {
        let mut senders = BTreeMap::new();
        for (sender, mut sent) in sent {
            sent.waiting.clear();
            sent.looked = sent.next;
            senders.insert(sender, (world.attach(sender).await, sent));
        }
        let receiver = Some(world.listener("edge/b", Channel::Inputs).await);
        Self { senders, receiver, received }
    }

    fn look(&mut self) {
        for (client, sent) in self.senders.values_mut() {
            let acked = client.acked();
            let looked = &mut sent.looked;
            let numbers = &mut sent.acked;
            sent.waiting.retain(|(ticket, last)| {
                if *ticket <= acked {
                    numbers.extend(*looked..=*last);
                    *looked = last + 1;
                }
                acked < *ticket
            });
        }
    }

    fn send(&mut self, sender: &'static str, count: u32) {
        let (client, sent) = self.senders.get_mut(sender).unwrap();
        let bodies: Vec<String> = (sent.next..sent.next + count).map(|number| format!("{sender} {number}")).collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        if let Ok(Some(ticket)) = client.append("", &bodies) {
            sent.next += count;
            sent.waiting.push((ticket, sent.next - 1));
        }
    }

    fn receive(&mut self) {
        if let Some(receiver) = &self.receiver {
            self.received.extend(receiver.process());
        }
    }
}

/// That every acknowledged message arrived, and each sender's in order, not counting repetitions.
fn check(what: &str, sender: &str, acked: &[u32], arrived: impl Iterator<Item = u32>) {
    let mut first = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for number in arrived {
        if seen.insert(number) {
            first.push(number);
        }
    }
    let missing: Vec<_> = acked.iter().filter(|number| !seen.contains(number)).collect();
    assert!(missing.is_empty(), "{what}: of {sender} are missing {missing:?}");
    assert!(first.is_sorted(), "{what}: {sender} out of order {first:?}");
}

/// Answers how many messages were acknowledged.
async fn weather(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let mut world = World::with_routes(routes()).await;
    let sent = SENDERS.map(|sender| (sender, Sent::default())).into();
    let mut storm = Storm::connect(&world, sent, Vec::new()).await;
    for step in 0..STEPS {
        let sender = SENDERS[dice.index(SENDERS.len())];
        match dice.below(20) {
            0..=7 => storm.send(sender, 1 + dice.index(30) as u32),
            8 => storm.receive(),
            9 => world.cloud.drop_connection(sender),
            10 => {
                world.cloud.book().holds_acks.insert(sender.to_owned());
            }
            11 => SENDERS.iter().for_each(|sender| world.cloud.acknowledge(sender)),
            12 => world.cloud.leave(),
            13 | 14 => world.cloud.come_back(),
            15 => {
                let mut book = world.cloud.book();
                if !book.refused.remove(sender) {
                    book.refused.insert(sender.to_owned());
                }
                drop(book);
                world.cloud.drop_connection(sender);
            }
            16 => {
                // The older session ends after the newer one began, or before.
                let older = storm.receiver.take();
                let newer = if dice.chance(50) { older } else { None };
                storm.receiver = Some(world.listener("edge/b", Channel::Inputs).await);
                drop(newer);
            }
            17 => {
                let route =
                    format!("FROM /messages/* WHERE x = '{step}' INTO BrokeredEndpoint(\"/modules/c/inputs/i\")");
                world.cloud.desire(OWN, json!({ "routes": { "other": route } }));
            }
            18 => world.pass(Duration::from_secs(dice.below(40))).await,
            _ if dice.chance(40) => {
                storm.look();
                let Storm { senders, receiver, received } = storm;
                let sent = senders.into_iter().map(|(sender, (_, sent))| (sender, sent)).collect();
                drop(receiver);
                world = world.power_cut().await;
                world.run(world.hub.configured()).await;
                storm = Storm::connect(&world, sent, received).await;
            }
            _ => world.pass(Duration::from_millis(dice.below(50))).await,
        }
        if dice.chance(70) {
            world.settle().await;
        }
        storm.look();
    }
    world.cloud.come_back();
    {
        let mut book = world.cloud.book();
        book.refused.clear();
        book.holds_acks.clear();
    }
    SENDERS.iter().for_each(|sender| world.cloud.acknowledge(sender));
    world.settle().await;
    storm.look();
    let waiting = |world: &World| world.queues.queues().iter().map(|queue| queue.waiting.messages).sum::<u64>();
    for _ in 0..80 {
        world.pass(Duration::from_secs(10)).await;
        storm.receive();
        world.settle().await;
        if waiting(&world) == 0 {
            break;
        }
    }
    let mut acked = 0;
    for (sender, (_, sent)) in &storm.senders {
        acked += sent.acked.len();
        let number = |payload: &String| payload.strip_prefix(sender)?.trim().parse::<u32>().ok();
        check(
            &format!("seed {seed}, upstream"),
            sender,
            &sent.acked,
            world.cloud.from(sender).iter().filter_map(number),
        );
        check(&format!("seed {seed}, input"), sender, &sent.acked, storm.received.iter().filter_map(number));
    }
    // A queue's waiting messages are an estimate after a restart, from above: nothing waits when it says so.
    assert_eq!(waiting(&world), 0, "seed {seed}: {:?}", world.queues.queues());
    acked
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_arrives_in_order_whatever_happens() {
    let seeds = std::env::var("SKERRY_STORMS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let mut acked = 0;
    for seed in 0..seeds {
        acked += weather(seed).await;
    }
    assert!(acked > 100 * seeds as usize, "{acked} messages say little");
}
