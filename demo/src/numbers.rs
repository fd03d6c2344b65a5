//! Which numbers of a sender were seen, how often, and in which order.

use serde_json::{Value, json};

/// Numbers from 1 on, as they arrive. The memory is a byte for each number up to the largest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    seen: Vec<bool>,
    distinct: u64,
    repeated: u64,
    disordered: u64,
}

impl Numbers {
    /// Counts `number` as seen.
    pub(crate) fn take(&mut self, number: u64) {
        let Some(index) = number.checked_sub(1).and_then(|index| usize::try_from(index).ok()) else { return };
        let is_last = self.seen.len() <= index;
        if is_last {
            self.seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.seen[index], true) {
            self.repeated += 1;
        } else {
            self.distinct += 1;
            self.disordered += u64::from(!is_last);
        }
    }

    /// Counts all of `first` to `last` as seen.
    pub(crate) fn take_range(&mut self, first: u64, last: u64) {
        (first..=last).for_each(|number| self.take(number));
    }

    /// Different numbers.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Numbers that had been seen before.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Numbers that were seen for the first time after a larger one.
    pub(crate) fn disordered(&self) -> u64 {
        self.disordered
    }

    /// Numbers of `self` that `other` does not have.
    pub(crate) fn missing_in(&self, other: &Self) -> Vec<u64> {
        let other = other.seen.iter().copied().chain(std::iter::repeat(false));
        let missing = self.seen.iter().copied().zip(other).enumerate().filter(|(_, (own, other))| *own && !*other);
        missing.map(|(index, _)| index as u64 + 1).collect()
    }

    /// For the outcome of a run.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "received": self.distinct, "duplicates": self.repeated, "disordered": self.disordered })
    }
}

/// Numbers in few words, such as `3-7, 9`.
pub(crate) fn spans(numbers: &[u64], spans_max: usize) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => spans.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let mut texts: Vec<String> = spans.iter().take(spans_max).map(text).collect();
    if spans_max < spans.len() {
        texts.push("…".to_owned());
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[u64]) -> Numbers {
        let mut seen = Numbers::default();
        numbers.iter().for_each(|number| seen.take(*number));
        seen
    }

    #[test]
    fn repetitions_are_no_disorder_but_gaps_filled_late_are() {
        let again = seen(&[1, 2, 3, 2, 3, 4]);
        assert_eq!((again.distinct(), again.repeated(), again.disordered()), (4, 2, 0));
        let late = seen(&[1, 3, 2, 4]);
        assert_eq!((late.distinct(), late.repeated(), late.disordered()), (4, 0, 1));
    }

    #[test]
    fn what_is_missing_is_named() {
        let own = seen(&[1, 2, 3, 5, 6, 9]);
        assert_eq!(own.missing_in(&seen(&[1, 3])), [2, 5, 6, 9]);
        assert!(own.missing_in(&seen(&[1, 2, 3, 4, 5, 6, 9, 10])).is_empty());
        assert_eq!(spans(&[2, 5, 6, 9], 8), "2, 5-6, 9");
        assert_eq!(spans(&[2, 5, 6, 9], 2), "2, 5-6, …");
    }
}
