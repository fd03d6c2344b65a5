//! What clients listen to, kept for their next connection: some device SDKs never subscribe again.

use skerry_gateway::Kept;
use skerry_model::{Channel, ClientId, Json};
use skerry_state::{Change, Expect, Key, Kind, StateStore};

const LISTENING: Kind = Kind::new("listening");

/// What `client` listened to when it was last here; empty when nothing is known or the store fails, which is logged.
pub async fn recall(state: &dyn StateStore, client: &ClientId) -> Vec<Kept> {
    match state.get(&Key::new(LISTENING, client.to_string())).await {
        Ok(Some(record)) => {
            let words = record.value.as_array().map(Vec::as_slice).unwrap_or_default();
            words.iter().filter_map(Json::as_str).filter_map(from_word).collect()
        }
        Ok(None) => Vec::new(),
        Err(error) => {
            tracing::error!(%client, %error, "what a client listens to cannot be read; it has to subscribe again");
            Vec::new()
        }
    }
}

/// Keeps what `client` listens to; nothing forgets it. Where the store fails, that is logged.
pub async fn keep(state: &dyn StateStore, client: &ClientId, listening: &[Kept]) {
    let key = Key::new(LISTENING, client.to_string());
    let change = if listening.is_empty() {
        Change::delete(key, Expect::Any)
    } else {
        let words: Vec<String> = listening.iter().copied().map(to_word).collect();
        Change::put(key, Expect::Any, Json::from(words))
    };
    if let Err(error) = state.commit(vec![change]).await {
        tracing::error!(%client, %error, "what a client listens to cannot be kept; it has to subscribe again after a restart");
    }
}

/// The channel in a word, with a `?` behind it when nothing is acknowledged.
fn to_word(kept: Kept) -> String {
    let name = match kept.channel {
        Channel::Commands => "commands",
        Channel::Methods => "methods",
        Channel::Desired => "desired",
        Channel::Inputs => "inputs",
    };
    if kept.acknowledged { name.to_owned() } else { format!("{name}?") }
}

/// Reads what [`to_word`] wrote; a word of a later version means nothing.
fn from_word(word: &str) -> Option<Kept> {
    let (name, acknowledged) = word.strip_suffix('?').map_or((word, true), |name| (name, false));
    let channel = match name {
        "commands" => Channel::Commands,
        "methods" => Channel::Methods,
        "desired" => Channel::Desired,
        "inputs" => Channel::Inputs,
        _ => return None,
    };
    Some(Kept { channel, acknowledged })
}

#[cfg(test)]
mod tests {
    use skerry_state::MemoryState;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_read_back() {
        let state = MemoryState::default();
        let client = ClientId::parse("edge/m").unwrap();
        assert_eq!(recall(&state, &client).await, []);
        let listening = [
            Kept { channel: Channel::Commands, acknowledged: true },
            Kept { channel: Channel::Methods, acknowledged: false },
            Kept { channel: Channel::Desired, acknowledged: true },
            Kept { channel: Channel::Inputs, acknowledged: false },
        ];
        keep(&state, &client, &listening).await;
        assert_eq!(recall(&state, &client).await, listening);
        let key = Key::new(LISTENING, "edge/m");
        let stored = state.get(&key).await.unwrap().unwrap().value;
        assert_eq!(stored.to_string(), r#"["commands","methods?","desired","inputs?"]"#);

        let later = Change::put(key.clone(), Expect::Any, Json::from(vec!["something new", "methods"]));
        state.commit(vec![later]).await.unwrap();
        assert_eq!(recall(&state, &client).await, [Kept { channel: Channel::Methods, acknowledged: true }]);
        keep(&state, &client, &[]).await;
        assert!(state.get(&key).await.unwrap().is_none());
    }
}
