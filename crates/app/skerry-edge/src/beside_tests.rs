//! Agent and hub beside each other: over a real socket, and the environment through a real shell.

use std::process::Command;

use skerry_dialect::own::ConnectedLine;
use skerry_model::{ClientId, Timestamp};
use tempfile::TempDir;

use super::*;

fn agent(folder: &TempDir, clock: Clock) -> (watch::Sender<HubWishes>, Heard, HubSocket, HttpClient) {
    let (wishes, wished) = watch::channel(HubWishes::default());
    let heard = Heard::new(clock.now().monotonic);
    let socket = HubSocket::serve(folder.path(), None, wished, heard.clone(), clock).unwrap();
    let client = HttpClient::new(HttpAddress::Unix(folder.path().join(SOCKET)), ClientLimits::default());
    (wishes, heard, socket, client)
}

fn one_client() -> Connections {
    let line = ConnectedLine {
        client: ClientId::parse("dev-1").unwrap(),
        peer: "127.0.0.1".to_owned(),
        protocol: "mqtt".to_owned(),
        product: String::new(),
        since: Timestamp::from_unix_seconds(1),
    };
    Connections { connected: vec![line], ..Connections::default() }
}

#[tokio::test]
async fn a_hub_hears_wishes_and_tells_who_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let (wishes, heard, _socket, agent) = agent(&folder, clock);
    let now = || clock.now().monotonic;
    assert_eq!(heard.told(now()), None, "there is no hub");
    assert_eq!(ask(&agent, None, None, &[]).await, Ok((HubWishes::default(), false)), "it has to say who is connected");
    assert_eq!(ask(&agent, Some(&one_client()), None, &[]).await, Ok((HubWishes::default(), true)));
    assert_eq!(heard.told(now()), Some(Told { connections: one_client(), store: None, remarks: Vec::new() }));

    let wished = HubWishes { stopped: true, clients_max: Some(3), ..HubWishes::default() };
    wishes.send_replace(wished.clone());
    let store = Some(StoreState { messages: 3, bytes: 4_096, bytes_max: 8_192, full: true });
    let remarks = vec!["cannot listen there".to_owned()];
    assert_eq!(ask(&agent, None, store, &remarks).await, Ok((wished, true)));
    let told = Told { connections: one_client(), store, remarks: remarks.clone() };
    assert_eq!(heard.told(now()), Some(told), "connected as before");
    let news = heard.news();
    assert_eq!(*news.borrow(), EdgeHubNews { is_away: false, remarks });
    let later = now() + SILENCE_MAX + Duration::from_secs(1);
    assert_eq!(heard.told(later), None, "the hub is gone");
    heard.look(later);
    assert_eq!(*news.borrow(), EdgeHubNews { is_away: true, remarks: Vec::new() });
}

#[test]
fn a_hub_has_some_time_to_come() {
    let begin = Monotonic::default();
    let heard = Heard::new(begin);
    let is_away = |now| {
        heard.look(now);
        heard.news().borrow().is_away
    };
    assert!(!is_away(begin + SILENCE_MAX));
    assert!(is_away(begin + SILENCE_MAX + Duration::from_secs(1)));
    heard.take(Said::default(), begin + SILENCE_MAX * 2);
    assert!(!is_away(begin + SILENCE_MAX * 2), "it is there although it did not say who is connected");
}

#[tokio::test]
async fn an_agent_that_is_away_is_an_error_and_no_wish() {
    let folder = tempfile::tempdir().unwrap();
    let agent = HttpClient::new(HttpAddress::Unix(folder.path().join(SOCKET)), ClientLimits::default());
    assert!(ask(&agent, None, None, &[]).await.is_err());
}

#[test]
fn a_shell_reads_the_environment_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("ONE", "$edgeHub".to_owned()), ("TWO", "it's a \"device\" \\".to_owned())];
    let path = write_environment(folder.path(), &variables).unwrap();
    let shell = Command::new("/bin/sh").arg("-c").arg(". \"$0\"; printf '%s|%s' \"$ONE\" \"$TWO\"").arg(path).output();
    assert_eq!(String::from_utf8_lossy(&shell.unwrap().stdout), "$edgeHub|it's a \"device\" \\");
}
