//! When an operand is there, or is added to: `has_row`, `flags & 4`, `max_norm > 0 or has_loss`.

use std::collections::BTreeSet;
use std::fmt;

/// One of several, each of which is all of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(Vec<Vec<Atom>>);

/// What one word of a condition asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    /// `has_row`: it is not 0.
    Set(String),
    /// `flags & 4`: it has one of these bits.
    Bits(String, u32),
    /// `max_norm > 0`: this float is; the host need not know one that is in a buffer.
    Positive(String),
    /// `0`: never.
    Never,
}

impl Condition {
    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Condition, String> {
        let is_name = |word: &str| word.starts_with(char::is_alphabetic) && word.chars().all(|c| c.is_alphanumeric() || c == '_');
        let atom = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let atom = match words.as_slice() {
                ["0"] => Some(Atom::Never),
                [name] if is_name(name) => Some(Atom::Set((*name).into())),
                [name, "&", bits] if is_name(name) => bits.parse().ok().filter(|bits| *bits > 0).map(|bits| Atom::Bits((*name).into(), bits)),
                [name, ">", "0"] if is_name(name) => Some(Atom::Positive((*name).into())),
                _ => None,
            };
            atom.ok_or_else(|| format!("expected `name`, `name & 4` or `name > 0`, joined by `and` and `or`, found `{text}`"))
        };
        text.split(" or ").map(|all| all.split(" and ").map(atom).collect()).collect::<Result<_, _>>().map(Condition)
    }

    /// The same without `and word` (which holds, or does not): a header says `flags & 4 and bf16` for all variants of an entry.
    #[must_use]
    pub fn settled(self, word: &str, holds: bool) -> Condition {
        let settled = |all: Vec<Atom>| {
            let asks = all.iter().any(|atom| matches!(atom, Atom::Set(name) if name == word));
            if asks && !holds { vec![Atom::Never] } else { all.into_iter().filter(|a| !matches!(a, Atom::Set(name) if name == word)).collect() }
        };
        Condition(self.0.into_iter().map(settled).collect())
    }

    /// The part of it that is known where only these names are: what else could make it hold is left out.
    #[must_use]
    pub fn known(self, is_known: impl Fn(&str) -> bool) -> Condition {
        let mut any = self.0;
        any.retain(|all| all.iter().all(|atom| atom.name().is_none_or(&is_known)));
        if any.is_empty() {
            any.push(vec![Atom::Never]);
        }
        Condition(any)
    }

    /// The names in it.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.iter().flatten().filter_map(Atom::name).collect()
    }

    /// Whether it holds; `value` has the four bytes of a field.
    ///
    /// # Errors
    /// The name that `value` does not know.
    pub fn holds(&self, value: &impl Fn(&str) -> Option<u32>) -> Result<bool, String> {
        let atom = |atom: &Atom| -> Result<bool, String> {
            let Some(name) = atom.name() else { return Ok(false) };
            let bytes = value(name).ok_or_else(|| name.to_string())?;
            Ok(match atom {
                Atom::Bits(_, bits) => bytes & bits != 0,
                Atom::Positive(_) => f32::from_bits(bytes) > 0.0,
                Atom::Set(_) | Atom::Never => bytes != 0,
            })
        };
        // Each is looked at: a name that is not known is an error wherever it is.
        let all = |atoms: &Vec<Atom>| atoms.iter().try_fold(true, |so_far, a| Ok::<_, String>(atom(a)? && so_far));
        self.0.iter().try_fold(false, |so_far, atoms| Ok(all(atoms)? || so_far))
    }

    /// In another language: each word of it as `atom` writes it.
    pub fn written(&self, and: &str, or: &str, atom: &impl Fn(&Atom) -> String) -> String {
        let all = |atoms: &Vec<Atom>| atoms.iter().map(atom).collect::<Vec<_>>().join(and);
        self.0.iter().map(all).collect::<Vec<_>>().join(or)
    }
}

impl Atom {
    /// The field that it asks about.
    pub fn name(&self) -> Option<&str> {
        match self {
            Atom::Set(name) | Atom::Bits(name, _) | Atom::Positive(name) => Some(name),
            Atom::Never => None,
        }
    }
}

/// As `kernels.json` has it, and as Python evaluates it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let atom = |atom: &Atom| match atom {
            Atom::Set(name) => name.clone(),
            Atom::Bits(name, bits) => format!("{name} & {bits}"),
            Atom::Positive(name) => format!("{name} > 0"),
            Atom::Never => "0".into(),
        };
        f.write_str(&self.written(" and ", " or ", &atom))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_hold() {
        let value = |name: &str| match name {
            "flags" => Some(6),
            "has_loss" => Some(0),
            "max_norm" => Some(1f32.to_bits()),
            "least" => Some((-1f32).to_bits()),
            _ => None,
        };
        for (text, holds) in [
            ("flags & 4", Ok(true)),
            ("flags & 1", Ok(false)),
            ("has_loss", Ok(false)),
            ("max_norm > 0 or has_loss", Ok(true)),
            ("least > 0", Ok(false)),
            ("flags & 4 and has_loss", Ok(false)),
            ("0", Ok(false)),
            ("has_row", Err("has_row".to_string())),
        ] {
            let condition = Condition::parse(text).unwrap();
            assert_eq!((condition.to_string().as_str(), condition.holds(&value)), (text, holds));
        }
        assert!(["flags & x", "flags &", "a > 1", "a b", "", "flags & 0"].iter().all(|text| Condition::parse(text).is_err()));
    }

    #[test]
    fn a_variant_settles_its_word() {
        let condition = Condition::parse("flags & 4 and bf16").unwrap();
        assert_eq!([true, false].map(|holds| condition.clone().settled("bf16", holds).to_string()), ["flags & 4", "0"]);
        assert_eq!(condition.settled("bf16", false).names().len(), 0);
        let known = |text: &str| Condition::parse(text).unwrap().known(|name| name != "max_norm").to_string();
        assert_eq!([known("max_norm > 0 or has_loss"), known("max_norm > 0")], ["has_loss", "0"]);
    }
}
