//! Connections that are lost, refused, renewed or dead, and when the next one is made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skerry_model::{Channel, ClientId, Reply, Request, Ticket, Timestamp};
use skerry_mqtt::ConnectReturn;
use skerry_net::Clock;
use skerry_uplink::{
    Boxed, Ended, GivenToken, Limits, NotAppended, SignedTokens, State, Token, TokenError, TokenSource,
};

use crate::world::{Said, World, state, tokens};

/// Waits between attempts, without jitter.
const WAITS: [f64; 9] = [1.0, 3.0, 7.0, 15.0, 31.0, 60.0, 60.0, 60.0, 60.0];

async fn attempts(seed: u64, count: usize) -> Vec<f64> {
    let clock = Clock::simulated(Timestamp::from_unix_seconds(1_700_000_000));
    let mut world = World::with(Limits::default(), clock, Arc::new(tokens(clock)), seed);
    world.reachable.store(false, Ordering::Relaxed);
    let _session = world.open();
    let mut at = Vec::new();
    for _ in 0..count {
        at.push(world.attempt_in_vain().await);
    }
    at
}

#[tokio::test(start_paused = true)]
async fn attempts_begin_at_once_and_back_off_with_jitter() {
    let at = attempts(7, 10).await;
    assert!(at[0] < 0.01, "{at:?}");
    for (pair, wait) in at.windows(2).zip(WAITS) {
        let waited = pair[1] - pair[0];
        assert!(wait * 0.8 <= waited + 0.01 && waited <= wait * 1.2 + 0.01, "{waited} for {wait}: {at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_seed_decides_the_schedule() {
    let (first, again, other) = (attempts(7, 6).await, attempts(7, 6).await, attempts(8, 6).await);
    let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.01);
    assert!(same(&first, &again), "{first:?} {again:?}");
    assert!(!same(&first, &other), "{first:?} {other:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_comes_back_by_itself_and_says_what_it_does() {
    let mut world = World::new(Limits::default());
    world.reachable.store(false, Ordering::Relaxed);
    let session = world.open();
    world.attempt_in_vain().await;
    let waiting = state(&session, |state| matches!(state, State::Disconnected { .. })).await;
    let State::Disconnected { reason, .. } = waiting else { panic!("{waiting:?}") };
    assert!(matches!(*reason, Ended::Dial(_)));
    world.reachable.store(true, Ordering::Relaxed);
    let hub = world.connected().await;
    state(&session, |state| matches!(state, State::Connected { number: 1 })).await;
    drop(hub);
    let _hub = world.connected().await;
    state(&session, |state| matches!(state, State::Connected { number: 2 })).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_held_is_made_again_at_once_one_that_did_not_is_not() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let hub = world.connected().await;
    state(&session, |state| matches!(state, State::Connected { .. })).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    drop(hub);
    let lost_at = world.seconds();
    // From here on the hub lets us in and throws us out, as for two clients with one identity.
    let mut waits = Vec::new();
    let mut before = lost_at;
    for number in 2..7 {
        let hub = world.connected().await;
        waits.push(world.seconds() - before);
        before = world.seconds();
        state(&session, move |state| matches!(state, State::Connected { number: n } if *n == number)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(hub);
    }
    assert!(waits[0] < 0.01, "{waits:?}");
    for (waited, wait) in waits[1..].iter().zip(WAITS) {
        assert!(wait * 0.79 <= *waited && *waited <= wait * 1.22, "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_identity_does_not_spin_and_comes_in_when_it_may() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut refused = 0;
    while world.seconds() < 3_600.0 {
        world.knocking().await.refuse(ConnectReturn::NotAuthorized).await;
        refused += 1;
        let state = state(&session, |state| matches!(state, State::Refused { .. })).await;
        assert!(matches!(state, State::Refused { code: ConnectReturn::NotAuthorized, .. }));
    }
    assert!((10..25).contains(&refused), "{refused} attempts in an hour");
    let begin = world.seconds();
    let _hub = world.connected().await;
    assert!(world.seconds() - begin <= 361.0);
    state(&session, |state| matches!(state, State::Connected { number }  if *number == refused + 1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_not_available_is_not_a_refusal() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    for _ in 0..10 {
        let begin = world.seconds();
        world.knocking().await.refuse(ConnectReturn::ServerUnavailable).await;
        assert!(world.seconds() - begin <= 73.0);
        let state = state(&session, |state| !matches!(state, State::Connecting)).await;
        let State::Disconnected { reason, .. } = state else { panic!("{state:?}") };
        assert!(matches!(*reason, Ended::Refused(ConnectReturn::ServerUnavailable)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_is_renewed_in_time_and_in_good_order() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    let first = hub.password.clone();
    let link = session.link().await.unwrap();
    assert!(hub.silent_for(Duration::from_secs(2_879)).await);
    link.append("", b"last").unwrap();
    assert_eq!(hub.payloads(1).await, ["last"]);
    // What is in flight is acknowledged before the connection ends, so nothing is sent twice.
    assert!(hub.silent_for(Duration::from_secs(3)).await);
    assert_eq!(link.append("", b"later"), Err(NotAppended::Ending));
    hub.ack_through(1).await;
    assert_eq!(hub.next().await, Said::Disconnect);
    let lost = link.lost().await;
    assert_eq!(lost.acked, Ticket(1));
    assert!(matches!(*lost.reason, Ended::Renewal));

    let begin = world.seconds();
    let hub = world.connected().await;
    assert!(world.seconds() - begin < 0.01, "at once");
    assert_ne!(hub.password, first);
    state(&session, |state| matches!(state, State::Connected { number: 2 })).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_of_130_seconds_is_renewed_before_it_ends_again_and_again() {
    let clock = Clock::simulated(Timestamp::from_unix_seconds(1_700_000_000));
    let short = SignedTokens::new(clock, Duration::from_secs(130), |_, _| Box::pin(std::future::ready(Ok(vec![1]))));
    let mut world = World::with(Limits::default(), clock, Arc::new(short), 7);
    let session = world.open();
    let mut before = 0.0;
    for round in 0..5 {
        let mut hub = world.connected().await;
        let waited = world.seconds() - before;
        assert!(round == 0 || (60.0..70.0).contains(&waited), "{waited}");
        before = world.seconds();
        assert_eq!(hub.next().await, Said::Disconnect);
    }
    drop(session);
}

#[tokio::test(start_paused = true)]
async fn a_given_token_is_used_to_its_end() {
    let clock = Clock::simulated(Timestamp::from_unix_seconds(1_700_000_000));
    let given = GivenToken::new("SharedAccessSignature sr=h&sig=eA%3D%3D&se=1700000600").unwrap();
    let mut world = World::with(Limits::default(), clock, Arc::new(given), 7);
    let session = world.open();
    let mut hub = world.connected().await;
    assert!(hub.silent_for(Duration::from_secs(599)).await);
    drop(hub);
    world.knocking().await.refuse(ConnectReturn::NotAuthorized).await;
    state(&session, |state| matches!(state, State::Refused { .. })).await;
}

/// Fails as often as told, then never again.
struct Unwilling {
    clock: Clock,
    left: std::sync::atomic::AtomicU32,
}

impl TokenSource for Unwilling {
    fn token<'a>(&'a self, _: &'a str, identity: &'a ClientId) -> Boxed<'a, Result<Token, TokenError>> {
        let fails = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let expires = self.clock.now().wall.plus(Duration::from_secs(1_000));
        let error = TokenError { identity: identity.clone(), reason: "no signature yet".to_owned() };
        Box::pin(std::future::ready(if fails { Err(error) } else { Ok(Token { text: "t".to_owned(), expires }) }))
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_dialled_and_renewal_is_tried_again() {
    let clock = Clock::simulated(Timestamp::from_unix_seconds(1_700_000_000));
    let tokens = Arc::new(Unwilling { clock, left: 2.into() });
    let mut world = World::with(Limits::default(), clock, Arc::<Unwilling>::clone(&tokens), 7);
    let session = world.open();
    let reason = state(&session, |state| matches!(state, State::Disconnected { .. })).await;
    let State::Disconnected { reason, .. } = reason else { panic!("{reason:?}") };
    assert_eq!(reason.to_string(), "no token for `edge/mod`: no signature yet");
    let mut hub = world.connected().await;
    let begin = world.seconds();
    assert!((3.0..6.0).contains(&begin), "{begin}");
    tokens.left.store(3, Ordering::Relaxed);
    assert_eq!(hub.next().await, Said::Disconnect);
    assert!((829.0..831.0).contains(&(world.seconds() - begin)), "800 s and three times 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_dead_hub_is_noticed() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let hub = world.connected().await;
    let link = session.link().await.unwrap();
    let lost = link.lost().await;
    assert!(matches!(*lost.reason, Ended::Silent(_)), "{lost}");
    assert!((89.0..91.0).contains(&world.seconds()), "60 s to the ping, 30 s for its answer");
    drop(hub);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_never_answers_connect_is_left() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let hub = world.knocking().await;
    let reason = state(&session, |state| matches!(state, State::Disconnected { .. })).await;
    let State::Disconnected { reason, .. } = reason else { panic!("{reason:?}") };
    assert!(matches!(*reason, Ended::Silent(_)));
    assert!((29.0..31.0).contains(&world.seconds()));
    drop(hub);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_does_not_answer_subscriptions_is_left() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    assert_eq!(session.submit(Request::Listen(Channel::Desired)).await, Reply::Done);
    let mut hub = world.knocking().await;
    hub.grants = false;
    hub.accept().await;
    assert!(matches!(hub.next().await, Said::Subscribe(_)));
    assert_eq!(hub.next().await, Said::End);
    let State::Disconnected { reason, .. } = session.state().borrow().clone() else { panic!("disconnected") };
    assert!(matches!(*reason, Ended::NotSubscribed(_)), "{reason}");
    assert!(world.seconds() < 61.0);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_pings_but_acknowledges_nothing_is_left() {
    let mut world = World::new(Limits::default());
    let session = world.open();
    let mut hub = world.connected().await;
    let link = session.link().await.unwrap();
    link.append("", b"x").unwrap();
    hub.payloads(1).await;
    assert_eq!(hub.next().await, Said::End);
    let lost = link.lost().await;
    assert!(matches!(*lost.reason, Ended::NotAcked(_)), "{lost}");
    assert!((119.0..181.0).contains(&world.seconds()), "{}", world.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_does_not_keep_to_the_protocol_is_left() {
    for (bytes, wanted) in [
        (b"\x00".as_slice(), "the hub sent what is not MQTT: packet type 0 is reserved"),
        (b"\x40\x02\x00\x09", "the hub sent PUBACK for 9, under which nothing is in flight"),
        (b"\xc0\x00", "the hub sent PINGREQ from a server"),
    ] {
        let mut world = World::new(Limits::default());
        let session = world.open();
        let mut hub = world.connected().await;
        let link = session.link().await.unwrap();
        hub.write(bytes).await;
        assert_eq!(link.lost().await.reason.to_string(), wanted);
    }
}
