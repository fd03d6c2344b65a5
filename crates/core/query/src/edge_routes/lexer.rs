//! From text to tokens: at each place the longest token wins, among equals the one listed first.
//!
//! Two consequences surprise people and are kept, because routes in the field are read this way: names may contain
//! `! - + * % | # & '` and more, so `5-3` and `a!='x'` begin with a name; and the `/*` of `FROM /*` opens a comment
//! when a `*/` follows anywhere.

/// What kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Select,
    From,
    Where,
    Into,
    Text,
    /// A text whose closing quote is missing.
    OpenText,
    Integer,
    Hex,
    Real,
    True,
    False,
    Null,
    Undefined,
    LeftParen,
    RightParen,
    Comma,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    And,
    Or,
    Not,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
    Less,
    Concat,
    Coalesce,
    LeftBrace,
    RightBrace,
    /// `$name`, brackets allowed.
    DollarName,
    Name,
    /// A name with brackets in it, which no rule of the grammar takes.
    Path,
    /// A character that begins no token.
    Unknown,
    End,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Bytes from the start of the text.
    pub(super) from: usize,
    pub(super) to: usize,
}

const KEY_WORDS: &[(&str, Kind)] = &[
    ("select", Kind::Select),
    ("from", Kind::From),
    ("where", Kind::Where),
    ("into", Kind::Into),
    ("and", Kind::And),
    ("or", Kind::Or),
    ("not", Kind::Not),
];

const FIXED: &[(&str, Kind)] = &[
    ("true", Kind::True),
    ("false", Kind::False),
    ("null", Kind::Null),
    ("undefined", Kind::Undefined),
    ("(", Kind::LeftParen),
    (")", Kind::RightParen),
    (",", Kind::Comma),
    ("+", Kind::Plus),
    ("-", Kind::Minus),
    ("*", Kind::Star),
    ("/", Kind::Slash),
    ("%", Kind::Percent),
    ("=", Kind::Equal),
    ("!=", Kind::NotEqual),
    ("<>", Kind::NotEqual),
    ("<=", Kind::LessOrEqual),
    (">=", Kind::GreaterOrEqual),
    (">", Kind::Greater),
    ("<", Kind::Less),
    ("||", Kind::Concat),
    ("??", Kind::Coalesce),
    ("{", Kind::LeftBrace),
    ("}", Kind::RightBrace),
];

/// All tokens of a text, white space and comments left out, [`Kind::End`] last.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut from = 0;
    while let Some(first) = text[from..].chars().next() {
        let rest = &text[from..];
        if is_space(first) {
            from += first.len_utf8();
            continue;
        }
        if let Some(length) = comment(rest) {
            from += length;
            continue;
        }
        let (kind, length) = longest(rest, first);
        tokens.push(Token { kind, from, to: from + length });
        from += length;
    }
    tokens.push(Token { kind: Kind::End, from, to: from });
    tokens
}

fn longest(rest: &str, first: char) -> (Kind, usize) {
    let mut best = (Kind::Unknown, 0);
    let mut consider = |kind: Kind, length: usize| {
        if length > best.1 {
            best = (kind, length);
        }
    };
    for (word, kind) in KEY_WORDS {
        if rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            consider(*kind, word.len());
        }
    }
    if let Some((kind, length)) = quoted(rest) {
        consider(kind, length);
    }
    let (integer, hex, real) = numbers(rest.as_bytes());
    consider(Kind::Integer, integer);
    consider(Kind::Hex, hex);
    consider(Kind::Real, real);
    for (word, kind) in FIXED {
        if rest.starts_with(word) {
            consider(*kind, word.len());
        }
    }
    let path = run(rest, |c| is_name_char(c) || c == '[' || c == ']');
    if first == '$' && path > 1 {
        consider(Kind::DollarName, path);
    }
    consider(Kind::Name, run(rest, is_name_char));
    consider(Kind::Path, path);
    consider(Kind::Unknown, first.len_utf8());
    best
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name_char(c: char) -> bool {
    !is_space(c) && !"()<>@,;:\\\"/[]?={}".contains(c)
}

fn run(text: &str, takes: impl Fn(char) -> bool) -> usize {
    text.find(|c| !takes(c)).unwrap_or(text.len())
}

fn comment(rest: &str) -> Option<usize> {
    rest.strip_prefix("/*")?.find("*/").map(|end| end + 4)
}

/// A text in quotes. A backslash that begins no escape ends it, unclosed.
fn quoted(rest: &str) -> Option<(Kind, usize)> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut at = 1;
    while let Some(c) = rest[at..].chars().next() {
        if c == quote {
            return Some((Kind::Text, at + 1));
        }
        at += if c == '\\' {
            match escape(&rest[at..]) {
                Some(length) => length,
                None => break,
            }
        } else {
            c.len_utf8()
        };
    }
    Some((Kind::OpenText, at))
}

fn escape(rest: &str) -> Option<usize> {
    match rest.as_bytes() {
        [b'\\', b'"' | b'\'' | b'\\', ..] => Some(2),
        [b'\\', b'u', digits @ ..] if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

/// How long the number at the start is, read as integer, as hexadecimal and as real; 0 when it is none.
fn numbers(bytes: &[u8]) -> (usize, usize, usize) {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(sign);
    let integer = if whole > 0 { sign + whole } else { 0 };

    let hex = match bytes {
        [b'0', b'x' | b'X', rest @ ..] => rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count(),
        _ => 0,
    };
    let hex = if hex > 0 { hex + 2 } else { 0 };

    // An exponent needs no digits before it, so the name `e2` is a real number, as in the original.
    let exponent = |from: usize| match bytes.get(from) {
        Some(b'e' | b'E') => {
            let sign = usize::from(matches!(bytes.get(from + 1), Some(b'+' | b'-')));
            let length = digits((from + 1 + sign).min(bytes.len()));
            if length > 0 { 1 + sign + length } else { 0 }
        }
        _ => 0,
    };
    let point = sign + whole;
    let fraction = if bytes.get(point) == Some(&b'.') { digits(point + 1) } else { 0 };
    let real = if fraction > 0 {
        let end = point + 1 + fraction;
        end + exponent(end)
    } else {
        match exponent(point) {
            0 => 0,
            length => point + length,
        }
    };
    (integer, hex, real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let all = tokens(text);
        all[..all.len() - 1].iter().map(|token| (token.kind, &text[token.from..token.to])).collect()
    }

    #[test]
    fn the_longest_token_wins() {
        assert_eq!(kinds("5-3"), [(Kind::Name, "5-3")]);
        assert_eq!(kinds("5 - 3"), [(Kind::Integer, "5"), (Kind::Minus, "-"), (Kind::Integer, "3")]);
        assert_eq!(kinds("a!='x'"), [(Kind::Name, "a!"), (Kind::Equal, "="), (Kind::Text, "'x'")]);
        assert_eq!(kinds("a != 'x'"), [(Kind::Name, "a"), (Kind::NotEqual, "!="), (Kind::Text, "'x'")]);
        assert_eq!(kinds("'x'b"), [(Kind::Name, "'x'b")]);
        assert_eq!(kinds("android"), [(Kind::Name, "android")]);
        assert_eq!(kinds("TRUE true"), [(Kind::Name, "TRUE"), (Kind::True, "true")]);
        assert_eq!(kinds("a[0]"), [(Kind::Path, "a[0]")]);
        assert_eq!(kinds("$b.c[0] $"), [(Kind::DollarName, "$b.c[0]"), (Kind::Name, "$")]);
        assert_eq!(kinds("-$b"), [(Kind::Name, "-$b")]);
    }

    #[test]
    fn numbers_are_told_from_names() {
        for (text, kind) in [
            ("-5", Kind::Integer),
            ("0x1F", Kind::Hex),
            ("-0x1F", Kind::Name),
            (".5", Kind::Real),
            ("5.", Kind::Name),
            ("1e2", Kind::Real),
            ("1e+2", Kind::Real),
            ("e2", Kind::Real),
            ("e", Kind::Name),
            ("1.5.2", Kind::Name),
            ("12a", Kind::Name),
        ] {
            assert_eq!(kinds(text), [(kind, text)]);
        }
    }

    #[test]
    fn comments_texts_and_strays() {
        assert_eq!(kinds("a/* b */c/*"), [(Kind::Name, "a"), (Kind::Name, "c"), (Kind::Slash, "/"), (Kind::Star, "*")]);
        assert_eq!(kinds(r"'a\'b\u00e4'"), [(Kind::Text, r"'a\'b\u00e4'")]);
        assert_eq!(kinds(r"'a\x"), [(Kind::OpenText, "'a"), (Kind::Unknown, r"\"), (Kind::Name, "x")]);
        assert_eq!(kinds("a;ä?"), [(Kind::Name, "a"), (Kind::Unknown, ";"), (Kind::Name, "ä"), (Kind::Unknown, "?")]);
    }
}
