//! What clients listen to, kept for their next connection: some device SDKs never subscribe again.

use skerry_gateway::Kept;
use skerry_model::{ClientId, Json};
use skerry_state::{Change, Expect, Key, Kind};

use crate::hub::Hub;

const LISTENING: Kind = Kind::new("listening");

impl Hub {
    /// What `client` listened to when it was last here.
    pub(crate) async fn recall_listening(&self, client: &ClientId) -> Vec<Kept> {
        match self.state.get(&Key::new(LISTENING, client.to_string())).await {
            Ok(Some(record)) => {
                let words = record.value.as_array().map(Vec::as_slice).unwrap_or_default();
                Kept::from_words(words.iter().filter_map(Json::as_str))
            }
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::error!(%client, %error, "what a client listens to cannot be read; it has to subscribe again");
                Vec::new()
            }
        }
    }

    /// Keeps what `client` listens to.
    pub(crate) async fn keep_listening(&self, client: &ClientId, listening: &[Kept]) {
        let key = Key::new(LISTENING, client.to_string());
        let change = if listening.is_empty() {
            Change::delete(key, Expect::Any)
        } else {
            Change::put(key, Expect::Any, Json::from(Kept::to_words(listening)))
        };
        if let Err(error) = self.state.commit(vec![change]).await {
            tracing::error!(%client, %error, "what a client listens to cannot be kept; it has to subscribe again after a restart");
        }
    }
}
