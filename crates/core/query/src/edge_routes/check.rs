//! What names mean in edge routes, and which types go together; everything that is wrong is found in one go.

use crate::body::BodyPath;
use crate::edge_routes::TypeError;
use crate::filter::{Filter, Op};
use crate::functions::Function;
use crate::tree::{Arithmetic, BinaryOp, Comparison, Expr, Literal, Name, Node, Position, UnaryOp};
use crate::value::holds;

pub(super) fn check(expr: &Expr, route: &str) -> Result<Filter, Vec<TypeError>> {
    let mut checker = Checker { route, errors: Vec::new() };
    let (op, kind) = checker.expr(expr);
    if !checker.errors.is_empty() {
        return Err(checker.errors);
    }
    Ok(Filter(match kind {
        Type::Bool | Type::Body => op,
        Type::Null => Op::Bool(false),
        Type::Text | Type::Number | Type::Undefined => Op::Undefined,
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Number,
    Bool,
    Null,
    Undefined,
    /// A value of the body, whose type is known only when there is a message.
    Body,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Null => "null",
            Self::Undefined => "undefined",
            Self::Body => "body value",
        }
    }

    /// Whether a value of the type `given` can stand where this type is wanted.
    fn takes(self, given: Self) -> bool {
        let mixes = |body: Self, other: Self| body == Self::Body && other != Self::Undefined;
        self == given || mixes(given, self) || mixes(self, given)
    }
}

type Checked = (Op, Type);

struct Checker<'a> {
    route: &'a str,
    errors: Vec<TypeError>,
}

impl Checker<'_> {
    fn expr(&mut self, expr: &Expr) -> Checked {
        match &expr.node {
            Node::Literal(literal) => match literal {
                Literal::Undefined => (Op::Undefined, Type::Undefined),
                Literal::Null => (Op::Null, Type::Null),
                Literal::Bool(truth) => (Op::Bool(*truth), Type::Bool),
                Literal::Number(number) => (Op::Number(*number), Type::Number),
                Literal::Text(text) => (Op::Text(text.clone()), Type::Text),
            },
            Node::Name(name) => self.name(expr, name),
            Node::Unary(op, operand) => self.unary(expr, *op, operand),
            Node::Binary(op, left, right) => {
                let (left, right) = (self.expr(left), self.expr(right));
                self.binary(expr, *op, left, right)
            }
            Node::Call(name, arguments) => self.call(expr, name, arguments),
            Node::Broken(reason) => self.fail(expr, reason.clone()),
        }
    }

    fn fail(&mut self, expr: &Expr, reason: String) -> Checked {
        self.errors.push(TypeError { position: Position::in_text(self.route, expr.offset), reason });
        (Op::Undefined, Type::Undefined)
    }

    /// `$name` is the application property of that name, dollar included, before it is anything else.
    fn name(&mut self, expr: &Expr, name: &Name) -> Checked {
        let has_brackets = |name: &str| name.contains(['[', ']']);
        match name {
            Name::Plain(name) => (Op::Property(name.clone()), Type::Text),
            Name::Dollar(name) => match body_path(name) {
                Some(path) => {
                    let (op, kind) = self.body(expr, name, path);
                    if has_brackets(name) {
                        (op, kind)
                    } else {
                        (Op::PropertyOr(format!("${name}"), Box::new(op)), kind)
                    }
                }
                None if has_brackets(name) => (Op::Undefined, Type::Undefined),
                None => {
                    let system = Op::SystemProperty(name.clone());
                    (Op::PropertyOr(format!("${name}"), Box::new(system)), Type::Text)
                }
            },
            Name::Braced(name) => match body_path(name) {
                Some(path) => self.body(expr, name, path),
                None if has_brackets(name) => (Op::Undefined, Type::Undefined),
                None => (Op::SystemProperty(name.clone()), Type::Text),
            },
        }
    }

    fn body(&mut self, expr: &Expr, name: &str, path: &str) -> Checked {
        match BodyPath::parse(path) {
            Some(path) => (Op::Body(path), Type::Body),
            None => {
                let reason = format!(
                    "Invalid arguments to built-in function '${name}': `{path}` is not a path such as a.b[0].c"
                );
                self.fail(expr, reason)
            }
        }
    }

    fn unary(&mut self, expr: &Expr, op: UnaryOp, operand: &Expr) -> Checked {
        let (operand, kind) = self.expr(operand);
        let fails = |symbol: &str, expected: &str| {
            format!("Invalid operands to unary operator '{symbol}': have '{}', expected '{expected}'", kind.name())
        };
        match (op, kind) {
            (UnaryOp::Negate, Type::Number) => (Op::Negate(Box::new(operand)), Type::Number),
            (UnaryOp::Negate, _) => self.fail(expr, fails("-", "number")),
            (UnaryOp::Not, Type::Null) => (Op::Bool(true), Type::Bool),
            (UnaryOp::Not, Type::Bool | Type::Body) => (Op::Not(Box::new(operand)), Type::Bool),
            (UnaryOp::Not, Type::Text | Type::Number | Type::Undefined) => self.fail(expr, fails("not", "bool")),
        }
    }

    fn binary(&mut self, expr: &Expr, op: BinaryOp, left: Checked, right: Checked) -> Checked {
        let ((left, left_type), (right, right_type)) = (left, right);
        let has_body = left_type == Type::Body || right_type == Type::Body;
        let both = |wanted: Type| wanted.takes(left_type) && wanted.takes(right_type);
        match op {
            BinaryOp::Arithmetic(Arithmetic::Modulo) if has_body && both(Type::Number) => {
                self.fail(expr, "Operator '%' cannot be used with a body value".to_owned())
            }
            BinaryOp::Arithmetic(op) if both(Type::Number) => {
                let kind = if has_body { Type::Body } else { Type::Number };
                (Op::Arithmetic(op, Box::new(left), Box::new(right)), kind)
            }
            BinaryOp::Concat if both(Type::Text) => (Op::Call(Function::Concat, vec![left, right]), Type::Text),
            BinaryOp::Compare(comparison) if both(left_type) => {
                (compare(comparison, left_type, right_type, left, right), Type::Bool)
            }
            BinaryOp::Coalesce if both(left_type) => {
                (Op::Coalesce(Box::new(left), Box::new(right)), if has_body { Type::Body } else { left_type })
            }
            BinaryOp::And | BinaryOp::Or if is_logical(left_type, right_type) => {
                logic(op == BinaryOp::And, (left, left_type), (right, right_type))
                    .unwrap_or_else(|| self.fail(expr, operands(op, left_type, right_type)))
            }
            BinaryOp::Arithmetic(_)
            | BinaryOp::Concat
            | BinaryOp::Compare(_)
            | BinaryOp::Coalesce
            | BinaryOp::And
            | BinaryOp::Or => self.fail(expr, operands(op, left_type, right_type)),
        }
    }

    fn call(&mut self, expr: &Expr, name: &str, arguments: &[Expr]) -> Checked {
        let Some(function) = Function::named(name) else {
            return self.fail(expr, format!("Invalid built-in function '{name}'"));
        };
        let (arguments, types): (Vec<_>, Vec<_>) = arguments.iter().map(|argument| self.expr(argument)).unzip();
        match signature(function, &types) {
            Some(Outcome::Returns(kind)) => (Op::Call(function, arguments), kind),
            Some(Outcome::Always(truth)) => (Op::Bool(truth), Type::Bool),
            None => {
                let given = types.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
                self.fail(expr, format!("Invalid arguments to built-in function '{name}': {name}({given})"))
            }
        }
    }
}

/// What follows `body.` in `$body.path`.
fn body_path(name: &str) -> Option<&str> {
    const PREFIX: &str = "body.";
    let prefix = name.get(..PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then(|| &name[PREFIX.len()..])
}

fn compare(comparison: Comparison, left_type: Type, right_type: Type, left: Op, right: Op) -> Op {
    match (left_type, right_type) {
        (Type::Undefined, Type::Undefined) => Op::Undefined,
        (Type::Null, Type::Null) => Op::Bool(holds(comparison, std::cmp::Ordering::Equal)),
        _ => Op::Compare(comparison, Box::new(left), Box::new(right)),
    }
}

/// The types AND and OR take. On the right of a body value everything passes, and a body value on the right only then:
/// a slip of the original that conditions in the field may rely on.
const fn is_logical(left: Type, right: Type) -> bool {
    match left {
        Type::Body => true,
        Type::Null | Type::Bool | Type::Undefined => matches!(right, Type::Null | Type::Bool | Type::Undefined),
        Type::Text | Type::Number => false,
    }
}

/// `None` for `body AND null`, which the original cannot convert.
fn logic(is_and: bool, left: Checked, right: Checked) -> Option<Checked> {
    let ((left, left_type), (right, right_type)) = (left, right);
    Some(match (is_and, left_type, right_type) {
        (true, Type::Body, Type::Null) => return None,
        (true, _, Type::Null) | (true, Type::Null, _) => (Op::Null, Type::Null),
        (false, Type::Null, Type::Null) => (Op::Null, Type::Null),
        (false, Type::Null, _) => (right, Type::Bool),
        (true, Type::Body, _) => (Op::StrictAnd(Box::new(left), Box::new(right)), Type::Bool),
        (false, Type::Body, _) => (Op::StrictOr(Box::new(left), Box::new(right)), Type::Bool),
        (false, _, Type::Null) => (left, Type::Bool),
        (true, _, _) => (Op::And(Box::new(left), Box::new(right)), Type::Bool),
        (false, _, _) => (Op::Or(Box::new(left), Box::new(right)), Type::Bool),
    })
}

fn operands(op: BinaryOp, left: Type, right: Type) -> String {
    let (symbol, expected) = match op {
        BinaryOp::Arithmetic(Arithmetic::Multiply) => ("*", Type::Number),
        BinaryOp::Arithmetic(Arithmetic::Divide) => ("/", Type::Number),
        BinaryOp::Arithmetic(Arithmetic::Modulo) => ("%", Type::Number),
        BinaryOp::Arithmetic(Arithmetic::Add) => ("+", Type::Number),
        BinaryOp::Arithmetic(Arithmetic::Subtract) => ("-", Type::Number),
        BinaryOp::Concat => ("||", Type::Text),
        BinaryOp::Compare(Comparison::Less) => ("<", left),
        BinaryOp::Compare(Comparison::LessOrEqual) => ("<=", left),
        BinaryOp::Compare(Comparison::Greater) => (">", left),
        BinaryOp::Compare(Comparison::GreaterOrEqual) => (">=", left),
        BinaryOp::Compare(Comparison::Equal) => ("=", left),
        BinaryOp::Compare(Comparison::NotEqual) => ("!=", left),
        BinaryOp::And => ("AND", Type::Bool),
        BinaryOp::Or => ("OR", Type::Bool),
        BinaryOp::Coalesce => ("??", left),
    };
    let (left, right, expected) = (left.name(), right.name(), expected.name());
    format!(
        "Invalid operands to binary operator '{symbol}': have '{left}' and '{right}', expected '{expected}' and '{expected}'"
    )
}

enum Outcome {
    Returns(Type),
    Always(bool),
}

fn signature(function: Function, given: &[Type]) -> Option<Outcome> {
    use Outcome::{Always, Returns};
    let fits = |wanted: &[Type]| {
        wanted.len() == given.len() && wanted.iter().zip(given).all(|(wanted, given)| wanted.takes(*given))
    };
    let returns = |is_right: bool, kind: Type| is_right.then_some(Returns(kind));
    match function {
        Function::Abs
        | Function::Exp
        | Function::Square
        | Function::Ceiling
        | Function::Floor
        | Function::Sign
        | Function::Sqrt => returns(fits(&[Type::Number]), Type::Number),
        Function::Power => returns(fits(&[Type::Number, Type::Number]), Type::Number),
        Function::AsNumber => returns(fits(&[Type::Text]) || given == [Type::Number], Type::Number),
        Function::IsDefined => returns(given.len() == 1, Type::Bool),
        Function::IsNull => match given {
            [Type::Null] => Some(Always(true)),
            [Type::Body] => Some(Returns(Type::Bool)),
            [_] => Some(Always(false)),
            _ => None,
        },
        Function::IsBool => type_test(Type::Bool, given),
        Function::IsNumber => type_test(Type::Number, given),
        Function::IsString => type_test(Type::Text, given),
        Function::Concat => {
            let all_are_texts = given.iter().all(|kind| Type::Text.takes(*kind));
            returns(given.len() >= 2 && all_are_texts, Type::Text)
        }
        Function::Length => returns(fits(&[Type::Text]), Type::Number),
        Function::Lower | Function::Upper => returns(fits(&[Type::Text]), Type::Text),
        Function::Substring => {
            let is_right = fits(&[Type::Text, Type::Number]) || fits(&[Type::Text, Type::Number, Type::Number]);
            returns(is_right, Type::Text)
        }
        Function::IndexOf => returns(fits(&[Type::Text, Type::Text]), Type::Number),
        Function::StartsWith | Function::EndsWith | Function::Contains => {
            returns(fits(&[Type::Text, Type::Text]), Type::Bool)
        }
    }
}

fn type_test(wanted: Type, given: &[Type]) -> Option<Outcome> {
    match given {
        [kind] if *kind == wanted || *kind == Type::Body => Some(Outcome::Returns(Type::Bool)),
        [_] => Some(Outcome::Always(false)),
        _ => None,
    }
}
