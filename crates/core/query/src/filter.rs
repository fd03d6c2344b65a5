//! A checked condition, and its evaluation against one message or document.

use std::borrow::Cow;

use skerry_model::Json;

use crate::body::BodyPath;
use crate::functions::Function;
use crate::tree::{Arithmetic, Comparison};
use crate::value::Value;

/// What a condition is about. Names are given as they were written; how they are compared is the implementation's affair.
pub trait Fields {
    /// The application property `name`.
    fn property(&self, name: &str) -> Option<Cow<'_, str>>;
    /// The system property `name`.
    fn system_property(&self, name: &str) -> Option<Cow<'_, str>>;
    /// The body, when it is known to be a JSON object. Called once for each path in a condition: parse once and keep it.
    fn body(&self) -> Option<&Json>;
}

/// A condition that was parsed and checked; true, false, or neither.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(pub(crate) Op);

impl Filter {
    /// Whether the condition is true; false and undefined are both "no".
    pub fn matches(&self, fields: &dyn Fields) -> bool {
        self.evaluate(fields) == Some(true)
    }

    /// What the condition comes to: true, false, or `None` for undefined.
    pub fn evaluate(&self, fields: &dyn Fields) -> Option<bool> {
        match self.0.evaluate(fields) {
            Value::Bool(truth) => Some(truth),
            Value::Undefined | Value::Null | Value::Missing | Value::Number(_) | Value::Text(_) => None,
        }
    }
}

/// One step of an evaluation. Types were checked before; what a step cannot use makes it undefined, never an error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Property(String),
    SystemProperty(String),
    /// The application property of that name, or the other value.
    PropertyOr(String, Box<Op>),
    Body(BodyPath),
    Negate(Box<Op>),
    Not(Box<Op>),
    Arithmetic(Arithmetic, Box<Op>, Box<Op>),
    Compare(Comparison, Box<Op>, Box<Op>),
    /// Three-valued: false wins over undefined.
    And(Box<Op>, Box<Op>),
    /// Three-valued: true wins over undefined.
    Or(Box<Op>, Box<Op>),
    /// Undefined unless both are true or false: what AND and OR are when a body value takes part.
    StrictAnd(Box<Op>, Box<Op>),
    StrictOr(Box<Op>, Box<Op>),
    Coalesce(Box<Op>, Box<Op>),
    Call(Function, Vec<Op>),
}

impl Op {
    pub(crate) fn evaluate<'a>(&'a self, fields: &'a dyn Fields) -> Value<'a> {
        match self {
            Self::Undefined => Value::Undefined,
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Number(number) => Value::number(*number),
            Self::Text(text) => Value::text(text.as_str()),
            Self::Property(name) => text_or_undefined(fields.property(name)),
            Self::SystemProperty(name) => text_or_undefined(fields.system_property(name)),
            Self::PropertyOr(name, other) => fields.property(name).map_or_else(|| other.evaluate(fields), Value::Text),
            Self::Body(path) => fields.body().map_or(Value::Undefined, |body| path.value_in(body)),
            Self::Negate(operand) => match operand.evaluate(fields) {
                Value::Number(number) => Value::number(-number),
                _ => Value::Undefined,
            },
            Self::Not(operand) => match operand.evaluate(fields) {
                Value::Bool(truth) => Value::Bool(!truth),
                _ => Value::Undefined,
            },
            Self::Arithmetic(op, left, right) => arithmetic(*op, &left.evaluate(fields), &right.evaluate(fields)),
            Self::Compare(comparison, left, right) => {
                left.evaluate(fields).compare(*comparison, &right.evaluate(fields))
            }
            Self::And(left, right) => logic(false, left, right, fields),
            Self::Or(left, right) => logic(true, left, right, fields),
            Self::StrictAnd(left, right) => strict(|a, b| a && b, left, right, fields),
            Self::StrictOr(left, right) => strict(|a, b| a || b, left, right, fields),
            Self::Coalesce(left, right) => match left.evaluate(fields) {
                Value::Undefined => right.evaluate(fields),
                defined => defined,
            },
            Self::Call(function, arguments) => function.call(arguments, fields),
        }
    }
}

fn text_or_undefined(text: Option<Cow<'_, str>>) -> Value<'_> {
    text.map_or(Value::Undefined, Value::Text)
}

fn arithmetic<'a>(op: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Value<'a> {
    let (Value::Number(left), Value::Number(right)) = (left, right) else { return Value::Undefined };
    Value::number(match op {
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Modulo => left % right,
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
    })
}

/// AND (`decisive` false) and OR (`decisive` true): the decisive value wins over everything, undefined over the rest.
fn logic<'a>(decisive: bool, left: &'a Op, right: &'a Op, fields: &'a dyn Fields) -> Value<'a> {
    let left = left.evaluate(fields);
    if left == Value::Bool(decisive) {
        return left;
    }
    match (left, right.evaluate(fields)) {
        (_, Value::Bool(truth)) if truth == decisive => Value::Bool(decisive),
        (Value::Bool(_), Value::Bool(_)) => Value::Bool(!decisive),
        _ => Value::Undefined,
    }
}

fn strict<'a>(decide: fn(bool, bool) -> bool, left: &'a Op, right: &'a Op, fields: &'a dyn Fields) -> Value<'a> {
    match (left.evaluate(fields), right.evaluate(fields)) {
        (Value::Bool(left), Value::Bool(right)) => Value::Bool(decide(left, right)),
        _ => Value::Undefined,
    }
}
