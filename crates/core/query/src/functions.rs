//! Built-in functions of conditions. A wrong argument makes the result undefined; nothing fails.

use std::borrow::Cow;

use crate::filter::{Fields, Op};
use crate::value::Value;

macro_rules! functions {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// A built-in function.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Function { $($variant),* }

        impl Function {
            /// The function of that name, in any case.
            pub(crate) fn named(name: &str) -> Option<Self> {
                [$(($name, Self::$variant)),*]
                    .into_iter()
                    .find_map(|(known, function)| known.eq_ignore_ascii_case(name).then_some(function))
            }
        }
    };
}
functions! {
    Abs = "abs", Exp = "exp", Power = "power", Square = "square", Ceiling = "ceiling", Floor = "floor", Sign = "sign",
    Sqrt = "sqrt", AsNumber = "as_number", IsBool = "is_bool", IsDefined = "is_defined", IsNull = "is_null",
    IsNumber = "is_number", IsString = "is_string", Concat = "concat", Length = "length", Lower = "lower",
    Upper = "upper", Substring = "substring", IndexOf = "index_of", StartsWith = "starts_with", EndsWith = "ends_with",
    Contains = "contains",
}

impl Function {
    pub(crate) fn call<'a>(self, arguments: &'a [Op], fields: &'a dyn Fields) -> Value<'a> {
        let argument = |at: usize| arguments.get(at).map_or(Value::Undefined, |op| op.evaluate(fields));
        match self {
            Self::Concat => concat(arguments, fields),
            Self::Power => match (argument(0), argument(1)) {
                (Value::Number(base), Value::Number(exponent)) => Value::number(base.powf(exponent)),
                _ => Value::Undefined,
            },
            Self::Substring => substring(&argument(0), &argument(1), arguments.get(2).map(|_| argument(2))),
            Self::IndexOf | Self::StartsWith | Self::EndsWith | Self::Contains => {
                self.search(&argument(0), &argument(1))
            }
            Self::AsNumber | Self::IsBool | Self::IsDefined | Self::IsNull | Self::IsNumber | Self::IsString => {
                self.inspect(argument(0))
            }
            Self::Length | Self::Lower | Self::Upper => self.on_text(argument(0)),
            Self::Abs | Self::Exp | Self::Square | Self::Ceiling | Self::Floor | Self::Sign | Self::Sqrt => {
                self.on_number(&argument(0))
            }
        }
    }

    fn on_number<'a>(self, argument: &Value<'_>) -> Value<'a> {
        let &Value::Number(number) = argument else { return Value::Undefined };
        Value::number(match self {
            Self::Abs => number.abs(),
            Self::Exp => number.exp(),
            Self::Square => number * number,
            Self::Ceiling => number.ceil(),
            Self::Floor => number.floor(),
            Self::Sign if number == 0.0 => 0.0,
            Self::Sign => number.signum(),
            Self::Sqrt => number.sqrt(),
            _ => return Value::Undefined,
        })
    }

    fn on_text(self, argument: Value<'_>) -> Value<'_> {
        let Value::Text(text) = argument else { return Value::Undefined };
        match self {
            Self::Length => Value::number(count(text.encode_utf16())),
            Self::Lower => Value::text(text.chars().map(|c| single(c, c.to_lowercase())).collect::<String>()),
            Self::Upper => Value::text(text.chars().map(|c| single(c, c.to_uppercase())).collect::<String>()),
            _ => Value::Undefined,
        }
    }

    fn search<'a>(self, text: &Value<'_>, fragment: &Value<'_>) -> Value<'a> {
        let (Value::Text(text), Value::Text(fragment)) = (text, fragment) else { return Value::Undefined };
        match self {
            Self::IndexOf => Value::number(text.find(&**fragment).map_or(-1.0, |at| count(text[..at].encode_utf16()))),
            Self::StartsWith => Value::Bool(text.starts_with(&**fragment)),
            Self::EndsWith => Value::Bool(text.ends_with(&**fragment)),
            Self::Contains => Value::Bool(text.contains(&**fragment)),
            _ => Value::Undefined,
        }
    }

    fn inspect(self, argument: Value<'_>) -> Value<'_> {
        match (self, argument) {
            (Self::AsNumber, Value::Text(text)) => as_number(&text).map_or(Value::Undefined, Value::number),
            (Self::AsNumber, Value::Number(number)) => Value::number(number),
            (Self::IsDefined, value) => Value::Bool(value != Value::Undefined),
            (Self::IsBool | Self::IsNull, Value::Undefined) => Value::Undefined,
            (Self::IsBool, value) => Value::Bool(matches!(value, Value::Bool(_))),
            // As in the original: of a body value this says "the path leads somewhere". What is no body value is
            // decided when the condition is checked.
            (Self::IsNull, value) => Value::Bool(value != Value::Missing),
            (Self::IsNumber, Value::Number(number)) => Value::Bool(number.is_finite()),
            (Self::IsNumber, _) => Value::Bool(false),
            (Self::IsString, value) => Value::Bool(matches!(value, Value::Text(_))),
            _ => Value::Undefined,
        }
    }
}

fn concat<'a>(arguments: &'a [Op], fields: &'a dyn Fields) -> Value<'a> {
    let mut joined = String::new();
    for argument in arguments {
        let Value::Text(text) = argument.evaluate(fields) else { return Value::Undefined };
        joined.push_str(&text);
    }
    Value::text(joined)
}

/// Start and length are in UTF-16 code units, fractions cut off; what reaches outside the text is undefined.
fn substring<'a>(text: &Value<'_>, start: &Value<'_>, length: Option<Value<'_>>) -> Value<'a> {
    let (Value::Text(text), Value::Number(start)) = (text, start) else { return Value::Undefined };
    let units: Vec<u16> = text.encode_utf16().collect();
    let available = count(units.iter());
    let taken = match length {
        None if (0.0..=available).contains(start) => available - start.trunc(),
        Some(Value::Number(length))
            if (0.0..available).contains(start) && (0.0..=available - start).contains(&length) =>
        {
            length
        }
        _ => return Value::Undefined,
    };
    let units = units.iter().skip(whole(*start)).take(whole(taken)).copied();
    Value::text(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
}

fn count(units: impl Iterator) -> f64 {
    // Texts are far shorter than 2^52 units, so the conversion is exact.
    u32::try_from(units.count()).map_or(f64::INFINITY, f64::from)
}

/// A number known to be between 0 and a text's length, fraction cut off.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
const fn whole(number: f64) -> usize {
    number as usize
}

/// Case changes of the original never change the number of characters: what would (`ß` to `SS`) stays.
fn single(before: char, mut after: impl ExactSizeIterator<Item = char>) -> char {
    if after.len() == 1 { after.next().unwrap_or(before) } else { before }
}

/// Numbers as the original reads them: white space around, sign before or behind, parentheses for negative,
/// thousands separators, fraction, exponent.
fn as_number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => (true, inner.trim()),
        None => match (text.strip_prefix(['-', '+']), text.strip_suffix(['-', '+'])) {
            (Some(rest), _) => (text.starts_with('-'), rest),
            (None, Some(rest)) => (text.ends_with('-'), rest.trim_end()),
            (None, None) => (false, text),
        },
    };
    let magnitude = if text.eq_ignore_ascii_case("infinity") { f64::INFINITY } else { unsigned(text)? };
    Some(if negative { -magnitude } else { magnitude })
}

fn unsigned(text: &str) -> Option<f64> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let integer: Cow<'_, str> = if integer.starts_with(',') {
        return None;
    } else if integer.contains(',') {
        integer.replace(',', "").into()
    } else {
        integer.into()
    };
    let exponent_is_fine = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && is_digits(digits)
    });
    if integer.is_empty() && fraction.is_empty() || !is_digits(&integer) || !is_digits(fraction) || !exponent_is_fine {
        return None;
    }
    format!("{integer}.{fraction}e{}", exponent.unwrap_or("0")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_original_reads_them() {
        for (text, number) in [
            ("25", 25.0),
            (" 25.5 ", 25.5),
            ("-.5", -0.5),
            ("5-", -5.0),
            ("(7)", -7.0),
            ("1,234.5", 1234.5),
            ("1e2", 100.0),
            ("1.E-1", 0.1),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(as_number(text), Some(number), "{text}");
        }
        for text in ["", "high", ".", "1e", "0x1F", "--5", "1.2.3", "1.2,3", ",1", "+", "inf", "NaN"] {
            assert_eq!(as_number(text), None, "{text}");
        }
    }

    #[test]
    fn substrings_are_cut_in_code_units() {
        let cut = |text: &str, start: f64, length: Option<f64>| match substring(
            &Value::text(text),
            &Value::Number(start),
            length.map(Value::Number),
        ) {
            Value::Text(text) => Some(text.into_owned()),
            _ => None,
        };
        assert_eq!(cut("high", 1.0, None).as_deref(), Some("igh"));
        assert_eq!(cut("high", 4.0, None).as_deref(), Some(""));
        assert_eq!(cut("high", 5.0, None), None);
        assert_eq!(cut("high", 1.9, Some(2.1)).as_deref(), Some("ig"));
        assert_eq!(cut("high", 4.0, Some(0.0)), None);
        assert_eq!(cut("high", 2.0, Some(3.0)), None);
        assert_eq!(cut("high", -1.0, None), None);
        assert_eq!(cut("a\u{1F600}b", 3.0, None).as_deref(), Some("b"));
    }

    #[test]
    fn case_changes_keep_the_number_of_characters() {
        let upper = Function::Upper.on_text(Value::text("straße ä"));
        assert_eq!(upper, Value::text("STRAßE Ä"));
    }
}
