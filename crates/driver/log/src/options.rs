//! Sizes and times of a log, by name.

use std::time::Duration;

use crate::disk::BLOCK;

/// Segments that are not there for messages: one for what must be written even when the log is full (settlements), and one
/// that live records are moved into.
pub(crate) const RESERVED_SEGMENTS: u64 = 2;
/// Fewer segments cannot be worked with.
const SEGMENTS_MIN: u64 = 4;

/// Sizes and times of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// All files together never take more than this, in bytes. Two segments of it are kept in reserve.
    pub bytes_max: u64,
    /// Size of a segment's file, in bytes; `None` takes a 64th of the budget, between 4 and 16 MiB and never more than an
    /// eighth of the budget.
    pub segment_bytes: Option<u64>,
    /// A group that is written at once, in bytes; also bounds the size of one record.
    pub group_bytes_max: usize,
    /// Groups that wait to be written; when all are full, senders are refused until one is written.
    pub groups_waiting_max: usize,
    /// Batches that a subscriber has not taken yet; with more it is told that it lags, and reads from the log.
    pub subscription_batches_max: usize,
    /// How long a record that nobody waits for (a settlement) may wait for company.
    pub lazy_write_after: Duration,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 30,
            segment_bytes: None,
            group_bytes_max: 1 << 20,
            groups_waiting_max: 4,
            subscription_batches_max: 64,
            lazy_write_after: Duration::from_millis(50),
        }
    }
}

/// Options that were checked, and what follows from them.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    pub(crate) segment_bytes: u64,
    pub(crate) segments_max: u64,
    pub(crate) group_bytes_max: usize,
    pub(crate) groups_waiting_max: usize,
    pub(crate) subscription_batches_max: usize,
    pub(crate) lazy_write_after: Duration,
}

impl Sizes {
    /// Checks that the budget holds enough segments, and a segment enough groups.
    pub(crate) fn of(options: &LogOptions) -> Result<Self, String> {
        const MIB: u64 = 1 << 20;
        let block = BLOCK as u64;
        let usual = (options.bytes_max / 64).clamp(4 * MIB, 16 * MIB).min(options.bytes_max / 8);
        let segment_bytes = options.segment_bytes.unwrap_or(usual) / block * block;
        let group_bytes_max = options.group_bytes_max.next_multiple_of(BLOCK);
        let segments_max = options.bytes_max.checked_div(segment_bytes).unwrap_or(0);
        if segments_max < SEGMENTS_MIN {
            return Err(format!(
                "a budget of {} bytes holds {segments_max} segments of {segment_bytes} bytes, at least {SEGMENTS_MIN} are needed",
                options.bytes_max
            ));
        }
        if segment_bytes < 3 * group_bytes_max as u64 {
            return Err(format!(
                "a segment of {segment_bytes} bytes is too small for groups of {group_bytes_max} bytes, it must hold three"
            ));
        }
        if u32::try_from(segment_bytes).is_err() {
            return Err(format!("a segment of {segment_bytes} bytes is too large, at most 4 GiB"));
        }
        Ok(Self {
            segment_bytes,
            segments_max,
            group_bytes_max,
            groups_waiting_max: options.groups_waiting_max.max(1),
            subscription_batches_max: options.subscription_batches_max.max(1),
            lazy_write_after: options.lazy_write_after,
        })
    }

    /// What a segment holds at least, when a group that does not fit any more leaves its end unused.
    pub(crate) fn usable_bytes(&self) -> u64 {
        self.segment_bytes - self.group_bytes_max as u64 - BLOCK as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_the_budget() {
        let sizes = Sizes::of(&LogOptions::default()).unwrap();
        assert_eq!((sizes.segment_bytes, sizes.segments_max), (16 << 20, 64));
        let small = Sizes::of(&LogOptions { bytes_max: 32 << 20, ..LogOptions::default() }).unwrap();
        assert_eq!((small.segment_bytes, small.segments_max), (4 << 20, 8));
        assert!(Sizes::of(&LogOptions { bytes_max: 4 << 20, ..LogOptions::default() }).is_err());
        assert!(Sizes::of(&LogOptions { segment_bytes: Some(1 << 29), ..LogOptions::default() }).is_err());
    }
}
