//! Routes of the edge hub: `FROM source WHERE condition INTO sink`, read exactly as the original reads them
//! (`edge-hub-routing-and-store` §1 and §2), with places and reasons in the errors.

mod check;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use crate::filter::Filter;
use crate::tree::{Expr, Position};

/// Longest route, in bytes; four times what a twin can hold as one string.
pub const ROUTE_BYTES_MAX: usize = 16_384;
/// Most parentheses, NOTs and minus signs inside each other.
pub const NESTING_MAX: usize = 100;

/// Reads a route. What is wrong only with the types of a condition is not found here but by [`Condition::check`].
///
/// # Errors
/// With the place and the reason, when the text is no route or its sink does not exist.
pub fn parse(text: &str) -> Result<ParsedRoute, ParseError> {
    parser::parse(text)
}

/// A route that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedRoute {
    /// Where messages must come from.
    pub source: Source,
    /// What must be true of them; `None` is "always".
    pub condition: Option<Condition>,
    /// Where they go.
    pub sink: Sink,
}

/// The source of a route, a prefix of message paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    text: String,
    prefix: String,
}

impl Source {
    fn new(text: String) -> Self {
        let prefix = format!("{}/", text.trim_end_matches('*').trim_end_matches('/'));
        Self { text, prefix }
    }

    /// As it was written, without white space and comments.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the path of a message, with a slash behind it, must begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether messages with this path (`/messages/modules/m/outputs/o`) are taken; case does not matter.
    pub fn takes(&self, path: &str) -> bool {
        let mut wanted = self.prefix.chars().flat_map(char::to_uppercase);
        let mut given = path.chars().chain(['/']).flat_map(char::to_uppercase);
        wanted.all(|c| given.next() == Some(c))
    }
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// `$upstream`: the hub above.
    Upstream,
    /// `BrokeredEndpoint("/modules/…/inputs/…")`: an input of a module of this device. The names are as written: routes to
    /// modules that do not exist are legal.
    Input {
        /// The module's name.
        module: String,
        /// The input's name.
        input: String,
    },
}

/// The condition of a route: grammatical, its types not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    route: String,
    from: usize,
    to: usize,
    expr: Expr,
}

impl Condition {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.route[self.from..self.to]
    }

    /// The syntax tree; its offsets count from the start of the route.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Checks names, functions and types, and makes the condition ready for evaluation.
    ///
    /// # Errors
    /// With everything that is wrong, in the order the original would find it; not empty.
    pub fn check(&self) -> Result<Filter, Vec<TypeError>> {
        check::check(&self.expr, &self.route)
    }
}

/// Why a text is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({position})")]
pub struct ParseError {
    /// Where in the route.
    pub position: Position,
    /// What is wrong there.
    pub reason: ParseReason,
}

/// What is wrong with a text that should be a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReason {
    /// Nothing but white space.
    #[error("a route must not be empty")]
    Empty,
    /// More than [`ROUTE_BYTES_MAX`] bytes.
    #[error("a route has at most {ROUTE_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// More than [`NESTING_MAX`] levels of nesting, or a chain of more than a thousand operators.
    #[error("the condition is nested too deep")]
    TooDeep,
    /// Not what the grammar wants here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A `$name` other than `$upstream` as sink.
    #[error("System endpoint type '{0}' not supported.")]
    SystemEndpoint(String),
    /// A function other than `BrokeredEndpoint` as sink.
    #[error("Function endpoint type '{0}' not supported.")]
    FunctionEndpoint(String),
    /// The address in `BrokeredEndpoint(…)` has not four parts.
    #[error(
        "Parameter string {0} could not be parsed. Expect input in this format - /modules/{{mid}}/inputs/{{input}}"
    )]
    EndpointAddress(String),
    /// `INTO sink WHERE …`.
    #[error("a condition must stand before INTO, behind the sink it would not count")]
    ConditionBehindSink,
}

/// Something in a condition that cannot be evaluated, such as a number compared with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({position})")]
pub struct TypeError {
    /// Where in the route.
    pub position: Position,
    /// What is wrong there, in the original's words.
    pub reason: String,
}
