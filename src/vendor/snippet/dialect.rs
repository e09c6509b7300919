//! The manifest's expressions, comparisons and conditions in four languages.

use crate::contract::catalog::{Buffer, File};
use crate::contract::{Atom, Check, Condition, Expression, Operator, Relation};

/// A language, as far as expressions go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Rust,
    JavaScript,
    Python,
    Cpp,
}

use Dialect::{Cpp, JavaScript, Python, Rust};

impl Dialect {
    /// An expression of the manifest.
    pub(super) fn code(self, text: &str) -> String {
        Expression::parse(text).map_or_else(|_| text.to_string(), |e| self.written(&e))
    }

    pub(super) fn written(self, expression: &Expression) -> String {
        let Expression::Binary(operator, a, b) = expression else { return expression.to_string() };
        let (plain_a, plain_b, a, b) = (self.written(a), self.written(b), self.bracketed(a), self.bracketed(b));
        match (operator, self) {
            (Operator::Add, _) => format!("{a} + {b}"),
            (Operator::Subtract, _) => format!("{a} - {b}"),
            (Operator::Multiply, _) => format!("{a} * {b}"),
            (Operator::Divide, JavaScript) => format!("Math.floor({a} / {b})"),
            (Operator::Divide, Python) => format!("{a} // {b}"),
            (Operator::Divide, _) => format!("{a} / {b}"),
            (Operator::CeilDiv, Rust) => format!("u64::div_ceil({plain_a}, {plain_b})"),
            (Operator::CeilDiv, JavaScript) => format!("Math.ceil({a} / {b})"),
            (Operator::CeilDiv, Python) => format!("-(-{a} // {b})"),
            (Operator::CeilDiv, Cpp) => format!("({a} + {b} - 1) / {b}"),
            (Operator::Min | Operator::Max, _) => {
                let name = if *operator == Operator::Min { "min" } else { "max" };
                let prefix = match self {
                    Rust => "u64::",
                    JavaScript => "Math.",
                    Python => "",
                    Cpp => "std::",
                };
                let kind = if self == Cpp { "<std::uint64_t>" } else { "" };
                format!("{prefix}{name}{kind}({plain_a}, {plain_b})")
            }
        }
    }

    fn bracketed(self, expression: &Expression) -> String {
        let written = self.written(expression);
        if matches!(expression, Expression::Binary(..)) { format!("({written})") } else { written }
    }

    /// A comparison of the manifest. One of a float is of its sign.
    pub(super) fn comparison(self, file: &File, text: &str) -> String {
        let Ok(Check { left, relation, right }) = Check::read(text) else { return text.to_string() };
        let float = matches!(&left, Expression::Name(name) if file.dims.fields.iter().any(|f| f.name == *name && f.kind == "f32"));
        let (a, b) = if float { (format!("dims.{left}"), self.zero().to_string()) } else { (self.written(&left), self.written(&right)) };
        let sign = match relation {
            Relation::Multiple => return format!("{} % {} {} 0", self.bracketed(&left), self.bracketed(&right), self.equal()),
            Relation::Less => "<",
            Relation::More => ">",
            Relation::AtMost => "<=",
            Relation::AtLeast => ">=",
            Relation::Equal => self.equal(),
        };
        format!("{a} {sign} {b}")
    }

    /// Whether an operand must be there, as far as the `Dims` say it.
    pub(super) fn is_there(self, file: &File, buffer: &Buffer) -> String {
        let [yes, no] = if self == Python { ["True", "False"] } else { ["true", "false"] };
        let Some(condition) = buffer.only_if.as_deref().and_then(|text| Condition::parse(text).ok()) else { return yes.into() };
        let differs = if self == JavaScript { "!==" } else { "!=" };
        let [and, or] = if self == Python { [" and ", " or "] } else { [" && ", " || "] };
        let condition = condition.known(|name| file.dims.fields.iter().any(|f| f.name == name));
        condition.written(and, or, &|atom| match atom {
            Atom::Set(name) => format!("{name} {differs} 0"),
            Atom::Bits(name, bits) => format!("({name} & {bits}) {differs} 0"),
            Atom::Positive(name) => format!("dims.{name} > {}", self.zero()),
            Atom::Never => no.into(),
        })
    }

    /// Bytes of an element, which a constant or a field may decide.
    pub(super) fn element(self, buffer: &Buffer) -> String {
        let bytes = |dtype: &str| match dtype {
            "u8" => 1,
            "bf16" => 2,
            _ => 4,
        };
        let plain = bytes(&buffer.dtype);
        let other = buffer.alternatives.iter().find_map(|a| Some((&a.name, a.values.first()?, bytes(a.dtype.as_deref()?))));
        match (other, self) {
            (None, _) => plain.to_string(),
            (Some((name, value, bytes)), Rust) => format!("if {name} == {value} {{ {bytes} }} else {{ {plain} }}"),
            (Some((name, value, bytes)), Python) => format!("{bytes} if {name} == {value} else {plain}"),
            (Some((name, value, bytes)), _) => format!("{name} {} {value} ? {bytes} : {plain}", self.equal()),
        }
    }

    fn equal(self) -> &'static str {
        if self == JavaScript { "===" } else { "==" }
    }

    fn zero(self) -> &'static str {
        if self == Rust { "0.0" } else { "0" }
    }
}
