//! What a header's limits require of sizes, where a machine can check a call: `V ≥ 1, M · V < 2³¹`, `d a multiple of 8`.

use super::expression::Expression;
use super::text::pieces;
use std::fmt;

/// A comparison of two sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The one side.
    pub left: Expression,
    /// What holds between them.
    pub relation: Relation,
    /// The other side.
    pub right: Expression,
}

/// How two sizes compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `<`
    Less,
    /// `>`
    More,
    /// `≤`
    AtMost,
    /// `≥`
    AtLeast,
    /// `=`
    Equal,
    /// `a multiple of`
    Multiple,
}

use Relation::{AtLeast, AtMost, Equal, Less, More, Multiple};

const SIGNS: [(&str, Relation); 7] =
    [(" ≤ ", AtMost), (" ≥ ", AtLeast), (" < ", Less), (" > ", More), (" = ", Equal), (" a multiple of ", Multiple), (" multiples of ", Multiple)];

/// `2³¹`, below which 32-bit indices stay.
const INDEX_LIMIT: &str = "2147483648";

impl Check {
    /// The comparisons in a header's text. What it says in other words is for people.
    pub(super) fn all(text: &str) -> Vec<Check> {
        let text = text.split("Traffic:").next().unwrap_or_default().replace("2³¹", INDEX_LIMIT);
        let (mut found, mut open) = (Vec::new(), Vec::new());
        let sentences = text.split(". ").flat_map(|s| pieces(s, ';')).flat_map(|s| pieces(s, ','));
        for clause in sentences.flat_map(|s| s.split(" and ").collect::<Vec<_>>()) {
            let clause = without_remark(clause.trim().trim_end_matches('.'));
            let mut checks = Check::parse(clause);
            match (checks.first().cloned(), Expression::parse(clause)) {
                // `M · D, N · D, V · D < 2³¹`: the last comparison holds for all.
                (Some(said), _) => found.extend(open.drain(..).map(|left| Check { left, ..said.clone() })),
                (None, Ok(left)) => open.push(left),
                (None, Err(_)) => open.clear(),
            }
            // `h a power of two up to 32 and at least d/8`: about what was named before.
            let least = clause.strip_prefix("at least ").and_then(|right| Expression::parse(right).ok());
            if let (Some(right), Some(before)) = (least, found.last()) {
                checks.push(Check { left: before.subject().clone(), relation: AtLeast, right });
            }
            found.append(&mut checks);
        }
        found
    }

    /// What an entry's line also requires: `16 bytes per thread (d a multiple of 8)`.
    pub(super) fn of_entry(about: &str) -> Vec<Check> {
        let checks = Check::all(&about.replace(" (", ", ").replace(')', ""));
        checks.into_iter().filter(|check| check.relation == Multiple).collect()
    }

    /// `1 ≤ d ≤ 128`, `d even`, `t a power of two from 4 to 256`.
    fn parse(clause: &str) -> Vec<Check> {
        if let Some((left, range)) = clause.split_once(" a power of two ") {
            let bounds = range.strip_prefix("up to ").map(|most| ("1", most)).or_else(|| range.strip_prefix("from ")?.split_once(" to "));
            let read = |(least, most): (&str, &str)| Some((Expression::parse(left).ok()?, Expression::parse(least).ok()?, Expression::parse(most).ok()?));
            let Some((left, least, most)) = bounds.and_then(read) else { return Vec::new() };
            // The divisors of a power of two are the powers of two up to it.
            return vec![Check { left: left.clone(), relation: AtLeast, right: least }, Check { left: most, relation: Multiple, right: left }];
        }
        if let Some(left) = clause.strip_suffix(" even").and_then(|left| Expression::parse(left).ok()) {
            return vec![Check { left, relation: Multiple, right: Expression::Number(2) }];
        }
        let mut signs: Vec<(usize, &str, Relation)> =
            SIGNS.iter().flat_map(|(sign, relation)| clause.match_indices(sign).map(move |(at, s)| (at, s, *relation))).collect();
        signs.sort_by_key(|(at, ..)| *at);
        let starts = std::iter::once(0).chain(signs.iter().map(|(at, sign, _)| at + sign.len()));
        let ends = signs.iter().map(|(at, ..)| *at).chain([clause.len()]);
        let Some(sides) = starts.zip(ends).map(|(start, end)| Expression::parse(clause.get(start..end)?).ok()).collect::<Option<Vec<_>>>() else {
            return Vec::new();
        };
        signs
            .iter()
            .zip(sides.windows(2))
            .map(|((_, _, relation), pair)| Check { left: pair[0].clone(), relation: *relation, right: pair[1].clone() })
            .collect()
    }

    /// What it is about: `t` in `256 % t == 0`.
    fn subject(&self) -> &Expression {
        if matches!(self.left, Expression::Number(_)) { &self.right } else { &self.left }
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn holds(&self, value: &impl Fn(&str) -> Option<u64>) -> Result<bool, String> {
        let (left, right) = (self.left.evaluate(value)?, self.right.evaluate(value)?);
        Ok(match self.relation {
            Less => left < right,
            More => left > right,
            AtMost => left <= right,
            AtLeast => left >= right,
            Equal => left == right,
            Multiple => left.is_multiple_of(right),
        })
    }

    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// What was expected where.
    pub fn read(text: &str) -> Result<Check, String> {
        let signs = [(" <= ", AtMost), (" >= ", AtLeast), (" == ", Equal), (" < ", Less), (" > ", More)];
        let found = signs.into_iter().find_map(|(sign, relation)| Some((text.split_once(sign)?, relation)));
        let ((left, right), relation) = found.ok_or_else(|| format!("expected a comparison, found `{text}`"))?;
        if let Some((left, of)) = left.split_once(" % ") {
            return Ok(Check { left: Expression::parse(left)?, relation: Multiple, right: Expression::parse(of)? });
        }
        Ok(Check { left: Expression::parse(left)?, relation, right: Expression::parse(right)? })
    }
}

/// As `kernels.json` has it, and as C, JavaScript and Python read it: `columns % 8 == 0`.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let bracketed = |e: &Expression| if matches!(e, Expression::Binary(..)) { format!("({e})") } else { e.to_string() };
        let sign = match self.relation {
            Multiple => return write!(f, "{} % {} == 0", bracketed(&self.left), bracketed(&self.right)),
            Less => "<",
            More => ">",
            AtMost => "<=",
            AtLeast => ">=",
            Equal => "==",
        };
        write!(f, "{} {sign} {}", self.left, self.right)
    }
}

/// `every tensor < 2³¹ elements`: the number that every buffer's elements stay below.
pub fn elements_below(limits: &str) -> Option<u64> {
    let every = limits.split(['.', ';', ',']).any(|clause| clause.contains("every ") && clause.contains("< 2³¹"));
    every.then_some(1 << 31)
}

/// `rows of a multiple of 16 bytes`: what the tensor maps of Hopper require of every matrix.
pub fn rows_of_16_bytes(limits: &str) -> bool {
    limits.contains("rows of a multiple of 16 bytes")
}

/// Without ` (…)` that is not part of an expression.
fn without_remark(clause: &str) -> &str {
    match clause.split_once(" (") {
        Some((before, inside))
            if Expression::parse(inside.split(')').next().unwrap_or_default()).is_err() || !inside.contains(')') || Expression::parse(before).is_ok() =>
        {
            before
        }
        // `1 ≤ d ≤ 128 (HEAD_DIM)`: a remark after a whole comparison.
        Some((before, inside)) if inside.ends_with(')') && !Check::parse(before).is_empty() => before,
        _ => clause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let of = |text: &str| Check::all(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("V ≥ 1, R · V < 2³¹, no NaN. Traffic: 4 · R · V < 5"), ["V >= 1", "R * V < 2147483648"]);
        assert_eq!(
            of("D ≥ 1; M · D, N · D, V · D < 2³¹; the rows are distinct."),
            ["D >= 1", "M * D < 2147483648", "N * D < 2147483648", "V * D < 2147483648"]
        );
        assert_eq!(of("1 ≤ d ≤ 128 (HEAD_DIM), H a multiple of Hkv"), ["1 <= d", "d <= 128", "H % Hkv == 0"]);
        assert_eq!(of("Nq · H and Nk · Hkv < 2³¹ (offsets, of elements, are 64-bit). d even"), ["Nq * H < 2147483648", "Nk * Hkv < 2147483648", "d % 2 == 0"]);
        assert_eq!(of("C · (F + 3) < 2³¹, F' = (F − 1)/stride + 1"), ["C * (F + 3) < 2147483648", "F' == (F - 1) / stride + 1"]);
        assert_eq!(of("forward and backward: d a multiple of 8, so d ≤ 256, 16 of them"), [""; 0]);
        assert_eq!(of("H and W multiples of P"), ["H % P == 0", "W % P == 0"]);
        assert_eq!(of("C ≥ 1, t a power of two from 4 to 256."), ["C >= 1", "t >= 4", "256 % t == 0"]);
        assert_eq!(of("t a power of two up to 32 and at least d/2 / E, so d ≤ 64 · E"), ["t >= 1", "32 % t == 0", "t >= d / 2 / E"]);
        assert_eq!(of("at least 3, t a power of two or so"), [""; 0]);
        assert_eq!((elements_below("M ≥ 1, every matrix < 2³¹ elements"), elements_below("every row, n < 2³¹")), (Some(1 << 31), None));
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["d % 2 == 0", "(a + b) % 4 == 0", "a * b < 2147483648", "a >= 1", "a == ceil_div(b, 2)"] {
            assert_eq!(Check::read(text).unwrap().to_string(), text);
        }
        assert!(Check::read("a b").is_err());
        let holds = |text: &str| Check::read(text).unwrap().holds(&|name| (name == "a").then_some(6));
        assert_eq!(
            (holds("a % 4 == 0"), holds("a % 3 == 0"), holds("a <= 6"), holds("a > 6"), holds("b == 1")),
            (Ok(false), Ok(true), Ok(true), Ok(false), Err("b".into()))
        );
    }
}
