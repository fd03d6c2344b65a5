//! Tokens: who signs them, how long they live, and when the next one is due.

use std::fmt;
use std::time::Duration;

use skerry_dialect::sas;
use skerry_model::{ClientId, Timestamp};
use skerry_net::Clock;

use crate::Boxed;

/// A token is renewed this long before its end at the latest, so that a clock that is a little wrong does no harm.
const BEFORE_END: Duration = Duration::from_secs(120);

/// A shared access signature ready to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// As it is transmitted.
    pub text: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl fmt::Debug for Token {
    /// Without the signature.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Token {
    /// When to renew a token that was made at `now`: at 80 % of its life, or 120 s before its end when that is earlier, but not
    /// before half of its life has passed.
    pub(crate) fn renew_at(&self, now: Timestamp) -> Timestamp {
        let life = self.expires.since(now);
        let early = life.saturating_sub(BEFORE_END).max(life / 2);
        now.plus((life * 4 / 5).min(early))
    }
}

/// Why there is no token. Never holds a part of a key or token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no token for `{identity}`: {reason}")]
pub struct TokenError {
    /// Whose key was to sign.
    pub identity: ClientId,
    /// What went wrong.
    pub reason: String,
}

/// Makes tokens: from a key, through the workload API, or from what a user gave.
pub trait TokenSource: Send + Sync + 'static {
    /// A token of `identity`'s key for the hub `host`. Called before each connection, and again when the token must be renewed.
    fn token<'a>(&'a self, host: &'a str, identity: &'a ClientId) -> Boxed<'a, Result<Token, TokenError>>;
}

/// Tokens around HMAC-SHA256 signatures that somebody else makes.
pub struct SignedTokens<S> {
    clock: Clock,
    life: Duration,
    sign: S,
}

impl<S> SignedTokens<S>
where
    S: for<'a> Fn(&'a ClientId, String) -> Boxed<'a, Result<Vec<u8>, String>> + Send + Sync + 'static,
{
    /// Life of a token when nothing else is wanted: that of the device SDKs.
    pub const LIFE: Duration = Duration::from_secs(3_600);

    /// `sign` answers HMAC-SHA256 of the text with the identity's key, or why it cannot.
    pub fn new(clock: Clock, life: Duration, sign: S) -> Self {
        Self { clock, life, sign }
    }
}

impl<S> TokenSource for SignedTokens<S>
where
    S: for<'a> Fn(&'a ClientId, String) -> Boxed<'a, Result<Vec<u8>, String>> + Send + Sync + 'static,
{
    fn token<'a>(&'a self, host: &'a str, identity: &'a ClientId) -> Boxed<'a, Result<Token, TokenError>> {
        Box::pin(async move {
            let expires = self.clock.now().wall.plus(self.life);
            let unsigned = sas::Unsigned::for_client(host, identity, expires);
            let signature = (self.sign)(identity, unsigned.signed_text())
                .await
                .map_err(|reason| TokenError { identity: identity.clone(), reason })?;
            // The token holds whole seconds.
            let expires = Timestamp::from_unix_seconds(expires.unix_seconds());
            Ok(Token { text: unsigned.finish(&signature), expires })
        })
    }
}

/// The token a user gave; nobody can renew it.
pub struct GivenToken(Token);

impl GivenToken {
    /// Takes a token as text.
    ///
    /// # Errors
    /// When the text is not a token.
    pub fn new(text: impl Into<String>) -> Result<Self, sas::BadToken> {
        let text = text.into();
        let expires = sas::parse(&text)?.expiry;
        Ok(Self(Token { text, expires }))
    }
}

impl TokenSource for GivenToken {
    fn token<'a>(&'a self, _: &'a str, _: &'a ClientId) -> Boxed<'a, Result<Token, TokenError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_leaves_time_whatever_the_life() {
        for (life, renewed) in [(3_600, 2_880), (600, 480), (300, 180), (200, 100), (130, 65), (10, 5), (0, 0)] {
            let token = Token { text: String::new(), expires: Timestamp::from_unix_seconds(1_000 + life) };
            let at = token.renew_at(Timestamp::from_unix_seconds(1_000));
            assert_eq!(at, Timestamp::from_unix_seconds(1_000 + renewed), "{life}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signed_token_is_read_back() {
        let clock = Clock::simulated(Timestamp::from_unix_millis(1_000_500));
        let tokens = SignedTokens::new(clock, Duration::from_secs(60), |identity, text| {
            let answer = match identity.to_string().as_str() {
                "edge/m" => Ok(text.into_bytes()),
                other => Err(format!("no key of {other}")),
            };
            Box::pin(std::future::ready(answer))
        });
        let token = tokens.token("hub", &ClientId::parse("edge/m").unwrap()).await.unwrap();
        assert_eq!(token.expires, Timestamp::from_unix_seconds(1_060));
        let read = sas::parse(&token.text).unwrap();
        assert_eq!((read.expiry, read.signed_text().into_bytes()), (token.expires, read.signature.clone()));
        assert!(!format!("{token:?}").contains("sig"));
        let refused = tokens.token("hub", &ClientId::parse("leaf").unwrap()).await.unwrap_err();
        assert_eq!(refused.to_string(), "no token for `leaf`: no key of leaf");
        let given = GivenToken::new(token.text.clone()).unwrap();
        assert_eq!(given.token("any", &refused.identity).await, Ok(token));
        assert!(GivenToken::new("nonsense").is_err());
    }
}
