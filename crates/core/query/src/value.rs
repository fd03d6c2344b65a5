//! Values while a condition is evaluated, and their order.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::tree::Comparison;

/// What a part of a condition comes to for one message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// Nothing can be said.
    Undefined,
    /// A null that was written, in the condition or in the body.
    Null,
    /// A null that stands for a body path that leads nowhere; differs from [`Value::Null`] for `is_null` alone.
    Missing,
    /// True or false.
    Bool(bool),
    /// A number; never NaN, which is [`Value::Undefined`].
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    pub(crate) fn number(number: f64) -> Self {
        if number.is_nan() { Self::Undefined } else { Self::Number(number) }
    }

    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// The rank of a value's type among others: bool, number, string, null.
    fn rank(&self) -> Option<u8> {
        match self {
            Self::Undefined => None,
            Self::Bool(_) => Some(1),
            Self::Number(_) => Some(2),
            Self::Text(_) => Some(3),
            Self::Null | Self::Missing => Some(4),
        }
    }

    /// The order of two values; values of different types are in the order of their types. `None` when one is undefined.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        let (left, right) = (self.rank()?, other.rank()?);
        Some(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.partial_cmp(b)?,
            (Self::Text(a), Self::Text(b)) => ordinal(a, b),
            _ => left.cmp(&right),
        })
    }

    /// The outcome of a comparison.
    pub(crate) fn compare(&self, comparison: Comparison, other: &Self) -> Self {
        self.order(other).map_or(Self::Undefined, |order| Self::Bool(holds(comparison, order)))
    }
}

/// Whether `comparison` is true of two values in this order.
pub(crate) const fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
    }
}

/// The order of the original platform: by UTF-16 code units, which puts characters beyond U+FFFF before U+E000.
fn ordinal(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_in_the_order_of_code_units() {
        assert_eq!(ordinal("\u{1F600}", "\u{E000}"), Ordering::Less);
        assert_eq!(ordinal("a", "B"), Ordering::Greater);
    }

    #[test]
    fn types_have_an_order() {
        let values =
            [Value::Bool(true), Value::Number(f64::INFINITY), Value::text("a"), Value::Null].map(|value| value.rank());
        assert!(values.is_sorted());
        assert_eq!(Value::Undefined.order(&Value::Undefined), None);
        assert_eq!(Value::Missing.order(&Value::Null), Some(Ordering::Equal));
    }
}
