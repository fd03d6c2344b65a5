//! From tokens to a route. The grammar lets some mistakes inside a condition pass (a missing parenthesis, a stray character):
//! they become [`Node::Broken`] and are reported by the check, because the original's answer differs between the two.

use super::lexer::{Kind, Token, tokens};
use super::{Condition, NESTING_MAX, ParseError, ParseReason, ParsedRoute, ROUTE_BYTES_MAX, Sink, Source};
use crate::tree::{Arithmetic, BinaryOp, Comparison, DEPTH_MAX, Expr, Literal, Name, Node, Position, UnaryOp};

pub(super) fn parse(text: &str) -> Result<ParsedRoute, ParseError> {
    let fail = |offset, reason| Err(ParseError { position: Position::in_text(text, offset), reason });
    if text.trim().is_empty() {
        return fail(0, ParseReason::Empty);
    }
    if text.len() > ROUTE_BYTES_MAX {
        return fail(ROUTE_BYTES_MAX, ParseReason::TooLong(text.len()));
    }
    Parser { text, tokens: tokens(text), at: 0, nesting: 0, open_parens: 0 }
        .route()
        .or_else(|(at, reason)| fail(at, reason))
}

type Failure = (usize, ParseReason);

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    nesting: usize,
    /// Parentheses around the current place that still wait for their other half.
    open_parens: usize,
}

/// How tight binary operators bind, loosest first; a stray character counts as the loosest of all.
const LOOSEST: u8 = 0;

const fn binary_operator(kind: Kind) -> Option<(u8, BinaryOp)> {
    Some(match kind {
        Kind::Coalesce => (1, BinaryOp::Coalesce),
        Kind::Or => (2, BinaryOp::Or),
        Kind::And => (3, BinaryOp::And),
        Kind::Equal => (4, BinaryOp::Compare(Comparison::Equal)),
        Kind::NotEqual => (4, BinaryOp::Compare(Comparison::NotEqual)),
        Kind::Less => (5, BinaryOp::Compare(Comparison::Less)),
        Kind::LessOrEqual => (5, BinaryOp::Compare(Comparison::LessOrEqual)),
        Kind::Greater => (5, BinaryOp::Compare(Comparison::Greater)),
        Kind::GreaterOrEqual => (5, BinaryOp::Compare(Comparison::GreaterOrEqual)),
        Kind::Plus => (6, BinaryOp::Arithmetic(Arithmetic::Add)),
        Kind::Minus => (6, BinaryOp::Arithmetic(Arithmetic::Subtract)),
        Kind::Concat => (6, BinaryOp::Concat),
        Kind::Star => (7, BinaryOp::Arithmetic(Arithmetic::Multiply)),
        Kind::Slash => (7, BinaryOp::Arithmetic(Arithmetic::Divide)),
        Kind::Percent => (7, BinaryOp::Arithmetic(Arithmetic::Modulo)),
        _ => return None,
    })
}

impl Parser<'_> {
    fn route(mut self) -> Result<ParsedRoute, Failure> {
        if self.take(Kind::Select).is_some() {
            self.expect(Kind::Star, "`*` after SELECT")?;
        }
        self.expect(Kind::From, "FROM")?;
        let source = self.source()?;
        let condition = match self.take(Kind::Where) {
            Some(_) => Some(self.condition()?),
            None => None,
        };
        self.expect(Kind::Into, if condition.is_some() { "an operator or INTO" } else { "`/`, WHERE or INTO" })?;
        let sink = self.sink()?;
        // Any other text behind the sink is ignored, as in the original; a condition there would silently not count.
        match self.peek() {
            Token { kind: Kind::Where, from, .. } => Err((from, ParseReason::ConditionBehindSink)),
            _ => Ok(()),
        }?;
        Ok(ParsedRoute { source, condition, sink })
    }

    fn source(&mut self) -> Result<Source, Failure> {
        let mut text = String::new();
        self.expect(Kind::Slash, "`/` and a message path such as /messages/*")?;
        loop {
            let item = self
                .take(Kind::Star)
                .or_else(|| self.take(Kind::Name))
                .ok_or_else(|| self.unexpected("a name or `*` (numbers and key words cannot be names in a source)"))?;
            text.push('/');
            text.push_str(self.text_of(item));
            if self.take(Kind::Slash).is_none() {
                return Ok(Source::new(text));
            }
        }
    }

    fn sink(&mut self) -> Result<Sink, Failure> {
        if let Some(token) = self.take(Kind::DollarName) {
            let name = self.text_of(token);
            return if name.eq_ignore_ascii_case("$upstream") {
                Ok(Sink::Upstream)
            } else {
                Err((token.from, ParseReason::SystemEndpoint(name.to_owned())))
            };
        }
        let function = self.expect(Kind::Name, "$upstream or BrokeredEndpoint(\"/modules/…/inputs/…\")")?;
        self.expect(Kind::LeftParen, "`(`")?;
        let address = self.expect(Kind::Text, "the endpoint's address in quotes")?;
        self.expect(Kind::RightParen, "`)`")?;
        let name = self.text_of(function);
        if !name.eq_ignore_ascii_case("BrokeredEndpoint") {
            return Err((function.from, ParseReason::FunctionEndpoint(name.to_owned())));
        }
        // The original takes the quotes off an address and leaves escapes alone.
        let quoted = self.text_of(address);
        let trimmed = quoted[1..quoted.len() - 1].trim();
        let path = trimmed.strip_prefix('/').unwrap_or(trimmed);
        let path = path.strip_suffix('/').unwrap_or(path);
        match path.split('/').collect::<Vec<_>>()[..] {
            [_, module, _, input] => Ok(Sink::Input { module: module.to_owned(), input: input.to_owned() }),
            _ => Err((address.from, ParseReason::EndpointAddress(path.to_owned()))),
        }
    }

    fn condition(&mut self) -> Result<Condition, Failure> {
        let from = self.peek().from;
        let expr = self.binary(LOOSEST)?;
        let to = self.tokens[self.at - 1].to;
        Ok(Condition { route: self.text.to_owned(), from, to, expr })
    }

    /// An expression whose operators bind at least as tight as `loosest`.
    fn binary(&mut self, loosest: u8) -> Result<Expr, Failure> {
        let mut left = self.unary()?;
        loop {
            let token = self.peek();
            if token.kind == Kind::Unknown && loosest == LOOSEST {
                self.at += 1;
                self.binary(LOOSEST + 1)?;
                left = self.stray(token);
                continue;
            }
            let Some((tightness, op)) = binary_operator(token.kind).filter(|(tightness, _)| *tightness >= loosest)
            else {
                return Ok(left);
            };
            self.at += 1;
            let right = self.binary(tightness + 1)?;
            left = Expr::binary(token.from, op, left, right);
            if left.depth > DEPTH_MAX {
                return Err((token.from, ParseReason::TooDeep));
            }
        }
    }

    fn unary(&mut self) -> Result<Expr, Failure> {
        let token = self.peek();
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err((token.from, ParseReason::TooDeep));
        }
        let expr = match token.kind {
            Kind::Minus => self.prefixed(UnaryOp::Negate, token)?,
            Kind::Not => self.prefixed(UnaryOp::Not, token)?,
            Kind::LeftParen => self.nested()?,
            Kind::Unknown => {
                self.at += 1;
                if self.begins_expression() {
                    self.binary(LOOSEST)?;
                }
                self.stray(token)
            }
            _ => self.operand()?,
        };
        self.nesting -= 1;
        Ok(expr)
    }

    fn prefixed(&mut self, op: UnaryOp, token: Token) -> Result<Expr, Failure> {
        self.at += 1;
        Ok(Expr::unary(token.from, op, self.unary()?))
    }

    fn nested(&mut self) -> Result<Expr, Failure> {
        let open = self.peek();
        self.at += 1;
        self.open_parens += 1;
        let inner = self.binary(LOOSEST)?;
        self.open_parens -= 1;
        if self.take(Kind::RightParen).is_none() {
            return Ok(broken(open, "Syntax error: missing closing ')'"));
        }
        Ok(self.surplus_paren().unwrap_or(inner))
    }

    /// One `)` too many directly behind another is reported by the check.
    fn surplus_paren(&mut self) -> Option<Expr> {
        if self.open_parens > 0 {
            return None;
        }
        self.take(Kind::RightParen).map(|surplus| broken(surplus, "Syntax error: unmatched closing ')'"))
    }

    fn operand(&mut self) -> Result<Expr, Failure> {
        let token = self.peek();
        let text = self.text_of(token);
        let node = match token.kind {
            Kind::Name => {
                self.at += 1;
                return self.name_or_call(token);
            }
            Kind::DollarName => Node::Name(Name::Dollar(text[1..].to_owned())),
            Kind::LeftBrace => {
                self.at += 1;
                let name = self.expect(Kind::DollarName, "a system property such as $messageId")?;
                self.expect(Kind::RightBrace, "`}`")?;
                let name = self.text_of(name)[1..].to_owned();
                return Ok(Expr::leaf(token.from, Node::Name(Name::Braced(name))));
            }
            Kind::Text => Node::Literal(Literal::Text(unescape(&text[1..text.len() - 1]))),
            Kind::OpenText => Node::Broken("Syntax error: unterminated string".to_owned()),
            Kind::Integer | Kind::Real => Node::Literal(number(text)),
            Kind::Hex => Node::Literal(hex(&text[2..])),
            Kind::True => Node::Literal(Literal::Bool(true)),
            Kind::False => Node::Literal(Literal::Bool(false)),
            Kind::Null => Node::Literal(Literal::Null),
            Kind::Undefined => Node::Literal(Literal::Undefined),
            _ => return Err(self.unexpected("a condition, such as level = 'high'")),
        };
        self.at += 1;
        Ok(Expr::leaf(token.from, node))
    }

    fn name_or_call(&mut self, name: Token) -> Result<Expr, Failure> {
        let text = self.text_of(name).to_owned();
        if self.take(Kind::LeftParen).is_none() {
            return Ok(Expr::leaf(name.from, Node::Name(Name::Plain(text))));
        }
        let mut arguments = Vec::new();
        if self.take(Kind::RightParen).is_none() {
            self.open_parens += 1;
            loop {
                arguments.push(self.binary(LOOSEST)?);
                if self.take(Kind::Comma).is_none() {
                    break;
                }
            }
            self.open_parens -= 1;
            self.expect(Kind::RightParen, "`,` or `)`")?;
        }
        Ok(self.surplus_paren().unwrap_or_else(|| Expr::call(name.from, text, arguments)))
    }

    fn begins_expression(&self) -> bool {
        matches!(
            self.peek().kind,
            Kind::Name
                | Kind::DollarName
                | Kind::LeftBrace
                | Kind::LeftParen
                | Kind::Minus
                | Kind::Not
                | Kind::Unknown
                | Kind::Text
                | Kind::OpenText
                | Kind::Integer
                | Kind::Real
                | Kind::Hex
                | Kind::True
                | Kind::False
                | Kind::Null
                | Kind::Undefined
        )
    }

    fn stray(&self, token: Token) -> Expr {
        broken(token, &format!("Syntax error: invalid symbol '{}'", self.text_of(token)))
    }

    fn peek(&self) -> Token {
        // The last token is End and is never consumed.
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take(&mut self, kind: Kind) -> Option<Token> {
        let token = self.peek();
        (token.kind == kind).then(|| {
            self.at += 1;
            token
        })
    }

    fn expect(&mut self, kind: Kind, expected: &'static str) -> Result<Token, Failure> {
        self.take(kind).ok_or_else(|| self.unexpected(expected))
    }

    fn text_of(&self, token: Token) -> &str {
        &self.text[token.from..token.to]
    }

    fn unexpected(&self, expected: &'static str) -> Failure {
        const SHOWN_MAX: usize = 40;
        let token = self.peek();
        let found = match token.kind {
            Kind::End => "the end of the route".to_owned(),
            _ => format!("`{}`", self.text_of(token).chars().take(SHOWN_MAX).collect::<String>()),
        };
        (token.from, ParseReason::Expected { expected, found })
    }
}

fn broken(token: Token, reason: &str) -> Expr {
    Expr::leaf(token.from, Node::Broken(reason.to_owned()))
}

/// Decimal numbers; one without digits before and behind its point (`e2`) is undefined, as in the original.
fn number(text: &str) -> Literal {
    match text.strip_prefix('-').unwrap_or(text).as_bytes() {
        [b'e' | b'E', ..] => Literal::Undefined,
        _ => text.parse().map_or(Literal::Undefined, Literal::Number),
    }
}

/// Hexadecimal numbers are 64-bit two's complement; longer ones are undefined.
fn hex(digits: &str) -> Literal {
    #[expect(clippy::cast_precision_loss, reason = "numbers are doubles here")]
    u64::from_str_radix(digits, 16).map_or(Literal::Undefined, |bits| Literal::Number(bits.cast_signed() as f64))
}

/// First all `\uXXXX`, then quotes and backslashes: two passes, as in the original.
fn unescape(text: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let code = rest.strip_prefix("\\u").or_else(|| rest.strip_prefix("\\U")).and_then(|digits| digits.get(..4));
        let code = code.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if let Some(unit) = code.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
            units.push(unit);
            rest = &rest[6..];
        } else {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            rest = &rest[c.len_utf8()..];
        }
    }
    let decoded = String::from_utf16_lossy(&units);
    let mut plain = String::with_capacity(decoded.len());
    let mut characters = decoded.chars().peekable();
    while let Some(c) = characters.next() {
        let escaped = characters.next_if(|next| c == '\\' && matches!(next, '"' | '\'' | '\\'));
        plain.push(escaped.unwrap_or(c));
    }
    plain
}
