//! One client's life: what it may have under way, what it is owed, and when its time is over. Knows no protocol.

#![forbid(unsafe_code)]

mod acks;

use std::time::Duration;

use skerry_model::{ErrorCode, Limits, Monotonic, Now, RequestError, Ticket, Timestamp};

pub use acks::Acks;

/// Requests of one session that wait for their reply, at most.
const REQUESTS_IN_FLIGHT_MAX: u32 = 64;
/// How long the store may be full before a sender is put out, so that it can try another day with what it kept.
const STORE_FULL_PATIENCE: Duration = Duration::from_secs(60);
/// The wall clock may jump; the token's end is looked at again at least this often.
const EXPIRY_RECHECK: Duration = Duration::from_secs(60);

/// Why a session has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum End {
    /// The token's time is over, clock skew included.
    #[error("its token expired")]
    TokenExpired,
    /// Deliveries are in flight and nothing was settled for the ack time-out.
    #[error("it settled nothing for too long")]
    Unsettled,
    /// The store had no room for its messages for a minute.
    #[error("the store was full for too long")]
    StoreFull,
}

/// One client's state between its connection and the hub.
#[derive(Debug)]
pub struct Session {
    acks: Acks,
    expires: Option<Timestamp>,
    clock_skew: Duration,
    window: u32,
    ack_timeout: Duration,
    in_flight: u32,
    settled_at: Monotonic,
    requests: u32,
    blocked_since: Option<Monotonic>,
}

impl Session {
    /// A session that starts now. `expires` is the end of the client's token, without skew.
    pub fn new(now: Now, limits: &Limits, expires: Option<Timestamp>) -> Self {
        Self {
            acks: Acks::default(),
            expires,
            clock_skew: limits.clock_skew,
            window: limits.window_messages,
            ack_timeout: limits.ack_timeout,
            in_flight: 0,
            settled_at: now.monotonic,
            requests: 0,
            blocked_since: None,
        }
    }

    /// The hub took `messages` messages and will say when `ticket` is durable; `None`: there is nothing to wait for.
    /// Answers how many messages can be acknowledged to the sender at once.
    pub fn handle_appended(&mut self, ticket: Option<Ticket>, messages: u32) -> u32 {
        self.blocked_since = None;
        self.acks.appended(ticket, messages)
    }

    /// Everything up to `ticket` is durable. Answers how many more messages can be acknowledged, in the order they came.
    pub fn handle_committed(&mut self, ticket: Ticket) -> u32 {
        self.acks.committed(ticket)
    }

    /// The store refused a batch for want of room; the sender is to be kept waiting.
    pub fn handle_store_full(&mut self, now: Now) {
        self.blocked_since.get_or_insert(now.monotonic);
    }

    /// A delivery that has to be settled was sent to the client.
    pub fn handle_delivered(&mut self, now: Now) {
        if self.in_flight == 0 {
            self.settled_at = now.monotonic;
        }
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// The client settled `count` deliveries.
    pub fn handle_settled(&mut self, now: Now, count: u32) {
        self.in_flight = self.in_flight.saturating_sub(count);
        self.settled_at = now.monotonic;
    }

    /// Whether another delivery may be sent before one is settled.
    pub fn has_window(&self) -> bool {
        self.in_flight < self.window
    }

    /// The client asks something; to be paired with [`Session::end_request`].
    ///
    /// # Errors
    /// `Throttled` when it has 64 requests under way already.
    pub fn begin_request(&mut self) -> Result<(), RequestError> {
        if self.requests >= REQUESTS_IN_FLIGHT_MAX {
            return Err(RequestError::new(
                ErrorCode::Throttled,
                "64 requests of this client wait for their answers; wait for one before the next",
            ));
        }
        self.requests += 1;
        Ok(())
    }

    /// A request was answered.
    pub fn end_request(&mut self) {
        self.requests = self.requests.saturating_sub(1);
    }

    /// When to look again, at the latest.
    pub fn next_timeout(&self, now: Now) -> Option<Monotonic> {
        let expiry = self.expires.map(|expires| {
            let left = expires.plus(self.clock_skew).since(now.wall);
            now.monotonic + left.min(EXPIRY_RECHECK)
        });
        let unsettled = (self.in_flight > 0).then(|| self.settled_at + self.ack_timeout);
        let full = self.blocked_since.map(|since| since + STORE_FULL_PATIENCE);
        [expiry, unsettled, full].into_iter().flatten().min()
    }

    /// Whether the session has to end now.
    pub fn handle_timeout(&self, now: Now) -> Option<End> {
        if self.expires.is_some_and(|expires| expires.plus(self.clock_skew) <= now.wall) {
            return Some(End::TokenExpired);
        }
        if self.in_flight > 0 && self.settled_at + self.ack_timeout <= now.monotonic {
            return Some(End::Unsettled);
        }
        if self.blocked_since.is_some_and(|since| since + STORE_FULL_PATIENCE <= now.monotonic) {
            return Some(End::StoreFull);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            monotonic: Monotonic::from_start(Duration::from_secs(seconds)),
            wall: Timestamp::from_unix_seconds(1_000_000 + i64::try_from(seconds).unwrap()),
        }
    }

    fn session(expires_at: Option<u64>) -> Session {
        Session::new(at(0), &Limits::default(), expires_at.map(|seconds| at(seconds).wall))
    }

    #[test]
    fn a_token_ends_the_session_after_the_skew_and_not_before() {
        let session = session(Some(100));
        assert_eq!(session.handle_timeout(at(399)), None);
        assert_eq!(session.next_timeout(at(399)), Some(at(400).monotonic));
        assert_eq!(session.handle_timeout(at(400)), Some(End::TokenExpired));
    }

    #[test]
    fn a_clock_that_jumps_is_noticed_within_a_minute() {
        let session = session(Some(100_000));
        assert_eq!(session.next_timeout(at(0)), Some(at(60).monotonic));
        let jumped = Now { monotonic: at(60).monotonic, wall: at(100_300).wall };
        assert_eq!(session.handle_timeout(jumped), Some(End::TokenExpired));
    }

    #[test]
    fn a_silent_receiver_is_put_out_only_while_something_is_in_flight() {
        let mut session = session(None);
        assert_eq!(session.next_timeout(at(1)), None);
        session.handle_delivered(at(50));
        session.handle_delivered(at(60));
        assert_eq!(session.next_timeout(at(60)), Some(at(80).monotonic));
        session.handle_settled(at(79), 1);
        assert_eq!(session.handle_timeout(at(108)), None);
        assert_eq!(session.handle_timeout(at(109)), Some(End::Unsettled));
        session.handle_settled(at(109), 1);
        assert_eq!(session.handle_timeout(at(500)), None);
    }

    #[test]
    fn the_window_bounds_what_is_in_flight() {
        let mut session = Session::new(at(0), &Limits { window_messages: 2, ..Limits::default() }, None);
        session.handle_delivered(at(0));
        assert!(session.has_window());
        session.handle_delivered(at(0));
        assert!(!session.has_window());
        session.handle_settled(at(0), 1);
        assert!(session.has_window());
    }

    #[test]
    fn a_full_store_is_borne_for_a_minute() {
        let mut session = session(None);
        session.handle_store_full(at(10));
        session.handle_store_full(at(40));
        assert_eq!(session.handle_timeout(at(69)), None);
        assert_eq!(session.handle_timeout(at(70)), Some(End::StoreFull));
        session.handle_appended(None, 1);
        assert_eq!(session.handle_timeout(at(70)), None);
    }

    #[test]
    fn requests_under_way_are_limited() {
        let mut session = session(None);
        for _ in 0..REQUESTS_IN_FLIGHT_MAX {
            assert_eq!(session.begin_request(), Ok(()));
        }
        assert_eq!(session.begin_request().map_err(|e| e.code), Err(ErrorCode::Throttled));
        session.end_request();
        assert_eq!(session.begin_request(), Ok(()));
    }
}
