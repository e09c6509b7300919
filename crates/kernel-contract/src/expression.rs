//! Sizes as text: what a header writes as `ceil(M · ROW_THREADS / 256)` and `kernels.json` as `ceil_div(rows * ROW_THREADS, 256)`.
//!
//! One parser reads both; it writes the second, which JavaScript, Python (with `//` for `/`) and C evaluate as it is,
//! once they have a function `ceil_div`. Values are whole and not negative.

use std::collections::BTreeSet;
use std::fmt;

/// A whole number worked out from names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `256`
    Number(u64),
    /// A field of `Dims`, a constant, or a letter that a header defines: `rows`, `TILE`, `F'`.
    Name(String),
    /// Two expressions and what to do with them.
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// `power_of_two(a)`: the least power of two that is not below it; 1 of 0.
    PowerOfTwo(Box<Expression>),
}

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `a + b`
    Add,
    /// `a - b`
    Subtract,
    /// `a * b`
    Multiply,
    /// `a / b`, rounded down
    Divide,
    /// `ceil_div(a, b)`: `a / b`, rounded up
    CeilDiv,
    /// `min(a, b)`
    Min,
    /// `max(a, b)`
    Max,
}

use Expression::{Binary, Name, Number, PowerOfTwo};

impl Expression {
    /// Reads an expression in either way of writing.
    ///
    /// # Errors
    /// What was expected where.
    pub fn parse(text: &str) -> Result<Expression, String> {
        let mut parser = Parser { text, rest: text };
        let expression = parser.bits()?;
        parser.skip();
        if parser.rest.is_empty() { Ok(expression) } else { Err(parser.expected("an operator")) }
    }

    /// Its value, where `value` knows every name. It stays below 2⁶⁴, and at or above 0.
    ///
    /// # Errors
    /// The name that is not known, or `division by zero`.
    pub fn evaluate(&self, value: &impl Fn(&str) -> Option<u64>) -> Result<u64, String> {
        Ok(match self {
            Number(number) => *number,
            Name(name) => value(name).ok_or_else(|| name.clone())?,
            PowerOfTwo(a) => a.evaluate(value)?.checked_next_power_of_two().unwrap_or(u64::MAX),
            Binary(operator, a, b) => {
                let (a, b) = (a.evaluate(value)?, b.evaluate(value)?);
                match operator {
                    Operator::Add => a.saturating_add(b),
                    Operator::Subtract => a.saturating_sub(b),
                    Operator::Multiply => a.saturating_mul(b),
                    Operator::Divide | Operator::CeilDiv if b == 0 => return Err("division by zero".into()),
                    Operator::Divide => a / b,
                    Operator::CeilDiv => a.div_ceil(b),
                    Operator::Min => a.min(b),
                    Operator::Max => a.max(b),
                }
            }
        })
    }

    /// The same with other expressions instead of names.
    pub fn replaced(&self, with: &impl Fn(&str) -> Option<Expression>) -> Expression {
        match self {
            Number(number) => Number(*number),
            Name(name) => with(name).unwrap_or_else(|| Name(name.clone())),
            Binary(operator, a, b) => Binary(*operator, Box::new(a.replaced(with)), Box::new(b.replaced(with))),
            PowerOfTwo(a) => PowerOfTwo(Box::new(a.replaced(with))),
        }
    }

    /// The names in it.
    pub fn names(&self) -> BTreeSet<&str> {
        match self {
            Number(_) => BTreeSet::new(),
            Name(name) => BTreeSet::from([name.as_str()]),
            Binary(_, a, b) => a.names().into_iter().chain(b.names()).collect(),
            PowerOfTwo(a) => a.names(),
        }
    }

    fn binary(operator: Operator, a: Expression, b: Expression) -> Expression {
        Binary(operator, Box::new(a), Box::new(b))
    }

    fn precedence(&self) -> u8 {
        match self {
            Binary(Operator::Add | Operator::Subtract, ..) => 1,
            Binary(Operator::Multiply | Operator::Divide, ..) => 2,
            _ => 3,
        }
    }
}

/// As `kernels.json` has it.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let bracketed = |f: &mut fmt::Formatter, e: &Expression, least: u8| if e.precedence() < least { write!(f, "({e})") } else { write!(f, "{e}") };
        match self {
            Number(number) => write!(f, "{number}"),
            Name(name) => write!(f, "{name}"),
            PowerOfTwo(a) => write!(f, "power_of_two({a})"),
            Binary(Operator::CeilDiv, a, b) => write!(f, "ceil_div({a}, {b})"),
            Binary(Operator::Min, a, b) => write!(f, "min({a}, {b})"),
            Binary(Operator::Max, a, b) => write!(f, "max({a}, {b})"),
            Binary(operator, a, b) => {
                let (sign, least) = match operator {
                    Operator::Add => ("+", 1),
                    Operator::Subtract => ("-", 1),
                    Operator::Multiply => ("*", 2),
                    _ => ("/", 2),
                };
                bracketed(f, a, least)?;
                write!(f, " {sign} ")?;
                // The right one is worked out first: a - (b - c), a * (b / c).
                bracketed(f, b, least + 1)
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, signs: &[char]) -> bool {
        self.skip();
        let found = self.rest.chars().next().is_some_and(|c| signs.contains(&c));
        if found {
            self.rest = &self.rest[self.rest.chars().next().map_or(0, char::len_utf8)..];
        }
        found
    }

    fn expected(&self, what: &str) -> String {
        let found = if self.rest.is_empty() { "the end".to_string() } else { format!("`{}`", self.rest) };
        format!("expected {what} in `{}`, found {found}", self.text)
    }

    /// `a | 1`, the next odd number, is the only such operator that shaders compute sizes with.
    fn bits(&mut self) -> Result<Expression, String> {
        let value = self.sum()?;
        if !self.take(&['|']) {
            return Ok(value);
        }
        if self.sum()? != Number(1) {
            return Err(format!("only `| 1` is known in `{}`", self.text));
        }
        let half = Expression::binary(Operator::Divide, value, Number(2));
        Ok(Expression::binary(Operator::Add, Expression::binary(Operator::Multiply, half, Number(2)), Number(1)))
    }

    fn sum(&mut self) -> Result<Expression, String> {
        let mut value = self.product()?;
        loop {
            let operator = if self.take(&['+']) {
                Operator::Add
            } else if self.take(&['-', '−']) {
                Operator::Subtract
            } else {
                return Ok(value);
            };
            value = Expression::binary(operator, value, self.product()?);
        }
    }

    fn product(&mut self) -> Result<Expression, String> {
        let mut value = self.factor()?;
        loop {
            let operator = if self.take(&['·', '*', '×']) {
                Operator::Multiply
            } else if self.take(&['/']) {
                Operator::Divide
            } else {
                return Ok(value);
            };
            value = Expression::binary(operator, value, self.factor()?);
        }
    }

    fn factor(&mut self) -> Result<Expression, String> {
        let value = self.atom()?;
        Ok(if self.take(&['²']) { Expression::binary(Operator::Multiply, value.clone(), value) } else { value })
    }

    fn atom(&mut self) -> Result<Expression, String> {
        if self.take(&['(']) {
            let value = self.bits()?;
            return if self.take(&[')']) { Ok(value) } else { Err(self.expected("`)`")) };
        }
        self.skip();
        let length = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'').unwrap_or(self.rest.len());
        // A raised 2 counts as alphanumeric.
        let length = self.rest[..length].find('²').unwrap_or(length);
        let (word, rest) = self.rest.split_at(length);
        if word.is_empty() {
            return Err(self.expected("a name or a number"));
        }
        self.rest = rest;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = word.strip_suffix('u').unwrap_or(word);
            return digits.parse().map(Number).map_err(|_| format!("`{word}` in `{}` is not a number", self.text));
        }
        if word == "power_of_two" && self.take(&['(']) {
            let value = self.bits()?;
            return if self.take(&[')']) { Ok(PowerOfTwo(Box::new(value))) } else { Err(self.expected("`)`")) };
        }
        let function = match word {
            "ceil" => None,
            "ceil_div" => Some(Operator::CeilDiv),
            "min" => Some(Operator::Min),
            "max" => Some(Operator::Max),
            _ => return Ok(Name(word.to_string())),
        };
        if !self.take(&['(']) {
            return Err(self.expected(&format!("`(` after `{word}`")));
        }
        let first = self.bits()?;
        let value = match (function, first) {
            (None, Binary(Operator::Divide, a, b)) => Binary(Operator::CeilDiv, a, b),
            (None, _) => return Err(format!("`ceil` of `{}` has no quotient", self.text)),
            (Some(operator), a) => {
                if !self.take(&[',']) {
                    return Err(self.expected("`,`"));
                }
                Expression::binary(operator, a, self.bits()?)
            }
        };
        if self.take(&[')']) { Ok(value) } else { Err(self.expected("`)`")) }
    }
}

/// The value of an expression of `kernels.json`.
///
/// # Errors
/// What is wrong with it, or the name that `value` does not know.
pub fn evaluate(expression: &str, value: &impl Fn(&str) -> Option<u64>) -> Result<u64, String> {
    Expression::parse(expression)?.evaluate(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_are_read() {
        for (header, common) in [
            ("ceil(n / 1024)", "ceil_div(n, 1024)"),
            ("ceil(N · H · d/2 / 256)", "ceil_div(N * H * d / 2, 256)"),
            ("splits · ceil(M / TILE) · ceil(N / TILE)", "splits * ceil_div(M, TILE) * ceil_div(N, TILE)"),
            ("(TILE / 4)²", "TILE / 4 * (TILE / 4)"),
            ("ceil((F + 2) / stride)", "ceil_div(F + 2, stride)"),
            ("(F − 1)/stride + 1", "(F - 1) / stride + 1"),
            ("2 · min(tiles, max(multiprocessors / 2, 1))", "2 * min(tiles, max(multiprocessors / 2, 1))"),
            ("a − (b − c)", "a - (b - c)"),
            ("a · (b / c)", "a * (b / c)"),
            ("D4 | 1u", "D4 / 2 * 2 + 1"),
            ("C · F'", "C * F'"),
            ("min(power_of_two(ceil(C / 8)), 256)", "min(power_of_two(ceil_div(C, 8)), 256)"),
        ] {
            let read = Expression::parse(header).unwrap();
            assert_eq!(read.to_string(), common);
            assert_eq!(Expression::parse(common).unwrap(), read, "{common}");
        }
    }

    #[test]
    fn values() {
        let value = |name: &str| match name {
            "n" => Some(1025),
            "zero" => Some(0),
            _ => None,
        };
        let of = |text: &str| Expression::parse(text).unwrap().evaluate(&value);
        assert_eq!(of("ceil(n / 1024)"), Ok(2));
        assert_eq!(of("n / 2 * 2"), Ok(1024));
        assert_eq!([of("power_of_two(n)"), of("power_of_two(n - 1)"), of("power_of_two(zero)")], [Ok(2048), Ok(1024), Ok(1)]);
        assert_eq!(of("n - 2000"), Ok(0));
        assert_eq!(of("ceil(n / 1024) + min(n, 3) · max(2, zero)"), Ok(8));
        assert_eq!(of("n · Q"), Err("Q".into()));
        assert_eq!(of("n / zero"), Err("division by zero".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "expected a name or a number in ``, found the end"),
            ("256 E", "expected an operator in `256 E`, found `E`"),
            ("ceil(n)", "`ceil` of `ceil(n)` has no quotient"),
            ("(n", "expected `)` in `(n`, found the end"),
            ("min(n)", "expected `,` in `min(n)`, found `)`"),
            ("2x", "`2x` in `2x` is not a number"),
            ("n | 2", "only `| 1` is known in `n | 2`"),
        ] {
            assert_eq!(Expression::parse(text), Err(expected.into()));
        }
    }
}
