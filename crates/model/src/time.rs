//! Time as a value: nothing in the inner layers reads a clock, they are told what time it is.

use std::fmt;
use std::time::Duration;

use ::time::format_description::well_known::Rfc3339;
use ::time::{OffsetDateTime, PrimitiveDateTime};

/// A moment on a clock that never goes back, counted from an arbitrary start (process start, or the start of a simulation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The moment `since_start` after the clock's start.
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time passed since the clock's start.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// A moment on the wall clock, UTC, in milliseconds since 1970. May jump when the machine's clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// The last millisecond of the year 9999, the largest moment RFC 3339 can write.
const UNIX_MILLIS_MAX: i64 = 253_402_300_799_999;
/// The first millisecond of the year 0.
const UNIX_MILLIS_MIN: i64 = -62_167_219_200_000;

impl Timestamp {
    /// The moment `millis` after 1970-01-01T00:00:00Z, clamped to the years 0 to 9999.
    pub const fn from_unix_millis(millis: i64) -> Self {
        if millis > UNIX_MILLIS_MAX {
            Self(UNIX_MILLIS_MAX)
        } else if millis < UNIX_MILLIS_MIN {
            Self(UNIX_MILLIS_MIN)
        } else {
            Self(millis)
        }
    }

    /// The moment `seconds` after 1970-01-01T00:00:00Z, clamped to the years 0 to 9999.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self::from_unix_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment plus `span`, clamped to the year 9999.
    pub fn plus(self, span: Duration) -> Self {
        Self::from_unix_millis(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment minus `span`, clamped to the year 0.
    pub fn minus(self, span: Duration) -> Self {
        Self::from_unix_millis(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Reads RFC 3339 (`2024-05-01T10:00:00.123Z`), and the same without zone, which is taken as UTC.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        const WITHOUT_ZONE: &[::time::format_description::BorrowedFormatItem<'_>] = ::time::macros::format_description!(
            version = 2,
            "[year]-[month]-[day]T[hour]:[minute]:[second][optional [.[subsecond]]]"
        );
        let moment = OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| PrimitiveDateTime::parse(text, WITHOUT_ZONE).map(PrimitiveDateTime::assume_utc))
            .map_err(|_| InvalidTimestamp)?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        Ok(Self::from_unix_millis(i64::try_from(millis).map_err(|_| InvalidTimestamp)?))
    }

    /// `2024-05-01T10:00:00.1230000Z`: the seven-digit form that the C# device SDK insists on
    /// (`yyyy-MM-ddTHH:mm:ss.fffffffZ`) and every other SDK reads.
    pub fn to_round_trip(self) -> String {
        let (date, millis) = self.parts();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}0000Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second(),
            millis
        )
    }

    fn parts(self) -> (OffsetDateTime, i64) {
        let seconds = self.unix_seconds();
        // The clamp in the constructors keeps every value inside the range that `time` can hold.
        let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        (date, self.0.rem_euclid(1000))
    }
}

impl fmt::Display for Timestamp {
    /// `2024-05-01T10:00:00.123Z`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, millis) = self.parts();
        write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second(),
            millis
        )
    }
}

/// The text is not an RFC 3339 date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date and time such as 2024-05-01T10:00:00Z")]
pub struct InvalidTimestamp;

/// What time it is, on both clocks; handed to everything that decides with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For durations and deadlines.
    pub monotonic: Monotonic,
    /// For what people and other machines read.
    pub wall: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_what_it_writes() {
        for text in ["2024-05-01T10:00:00.123Z", "0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"] {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Timestamp::from_unix_millis(1).to_round_trip(), "1970-01-01T00:00:00.0010000Z");
    }

    #[test]
    fn offsets_and_missing_zones_are_understood() {
        let utc = Timestamp::parse("2024-05-01T10:00:00Z");
        assert_eq!(Timestamp::parse("2024-05-01T12:00:00+02:00"), utc);
        assert_eq!(Timestamp::parse("2024-05-01T10:00:00"), utc);
        assert_eq!(Timestamp::parse("2024-05-01T10:00:00.0000000"), utc);
        assert_eq!(Timestamp::parse("yesterday"), Err(InvalidTimestamp));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::from_unix_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_unix_seconds(5).since(Timestamp::from_unix_seconds(9)), Duration::ZERO);
        assert_eq!(Monotonic::default().since(Monotonic::from_start(Duration::from_secs(1))), Duration::ZERO);
    }
}
