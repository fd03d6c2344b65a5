//! The syntax tree all front ends parse into: what was written, with the place of every part, and no meaning yet.

use std::fmt;

/// Most levels a tree may have; a chain of operators counts one level for each.
pub const DEPTH_MAX: usize = 1_024;

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Bytes from the start of the text.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
}

impl Position {
    /// The place `offset` bytes into `text`; the end of the text when it is shorter.
    pub fn in_text(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            offset: before.len(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {} column {}", self.line, self.column)
    }
}

/// One part of a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// Where its operator, name or value is, in bytes from the start of the text.
    pub offset: usize,
    /// Levels below and including this one.
    pub depth: usize,
    /// What it is.
    pub node: Node,
}

/// What a part of a condition is.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A value that was written out.
    Literal(Literal),
    /// A name, in the spelling of the language; what it refers to is the front end's affair.
    Name(Name),
    /// An operator and its operand.
    Unary(UnaryOp, Box<Expr>),
    /// An operator between its operands.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// A function's name and arguments.
    Call(String, Vec<Expr>),
    /// Something the grammar lets pass only to say later what is wrong with it.
    Broken(String),
}

/// A value that was written out.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `undefined`.
    Undefined,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// A string, without quotes and escapes.
    Text(String),
}

/// A name as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `name`.
    Plain(String),
    /// `$name`; the text is without the dollar.
    Dollar(String),
    /// `{$name}`; the text is without dollar and braces.
    Braced(String),
}

/// An operator in front of its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`.
    Negate,
    /// `NOT`.
    Not,
}

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `*`, `/`, `%`, `+`, `-`.
    Arithmetic(Arithmetic),
    /// `||`.
    Concat,
    /// `<`, `<=`, `>`, `>=`, `=`, `!=`.
    Compare(Comparison),
    /// `AND`.
    And,
    /// `OR`.
    Or,
    /// `??`: the first operand that is defined.
    Coalesce,
}

/// Operators on numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `*`.
    Multiply,
    /// `/`.
    Divide,
    /// `%`.
    Modulo,
    /// `+`.
    Add,
    /// `-`.
    Subtract,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `=`.
    Equal,
    /// `!=` or `<>`.
    NotEqual,
}

impl Expr {
    /// A part without operands.
    pub fn leaf(offset: usize, node: Node) -> Self {
        Self { offset, depth: 1, node }
    }

    /// `op operand`.
    pub fn unary(offset: usize, op: UnaryOp, operand: Self) -> Self {
        Self { offset, depth: operand.depth + 1, node: Node::Unary(op, Box::new(operand)) }
    }

    /// `left op right`.
    pub fn binary(offset: usize, op: BinaryOp, left: Self, right: Self) -> Self {
        let depth = left.depth.max(right.depth) + 1;
        Self { offset, depth, node: Node::Binary(op, Box::new(left), Box::new(right)) }
    }

    /// `name(arguments)`.
    pub fn call(offset: usize, name: String, arguments: Vec<Self>) -> Self {
        let depth = arguments.iter().map(|argument| argument.depth).max().unwrap_or(0) + 1;
        Self { offset, depth, node: Node::Call(name, arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let text = "aä\nbc";
        assert_eq!(Position::in_text(text, 3), Position { offset: 3, line: 1, column: 3 });
        assert_eq!(Position::in_text(text, 5).to_string(), "line 2 column 2");
        assert_eq!(Position::in_text(text, 99), Position { offset: 6, line: 2, column: 3 });
    }
}
