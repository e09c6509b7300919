//! One buffer's line of a header: `0  x  [rows, C]  f32|bf16  read (only if has_residual)`.

use super::expression::Expression;
use super::text::{pieces, selects};
use std::collections::HashMap;

/// A buffer as a header documents it.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// The sizes between the brackets.
    pub shape: Vec<Expression>,
    /// The possible dtypes.
    pub dtypes: Vec<String>,
    /// What happens to it, in the header's words: `read …`, `overwritten …`.
    pub words: String,
    /// The same as one of four; `None` where the words do not say it.
    pub access: Option<Access>,
    /// `accumulated if …`: the condition under which an overwritten buffer is added to.
    pub accumulate_if: Option<String>,
    /// `only if …`: the condition without which it is not there.
    pub only_if: Option<String>,
    /// `from element …`: where it begins in what is bound.
    pub from: Option<Expression>,
    /// Other shapes or dtypes, and when they hold.
    pub alternatives: Vec<Alternative>,
    /// `read through TMA, box 64 × 1 × 64, 128-byte swizzle`: the box, in `rows × heads × elements` as the header has it.
    pub tensor_map: Option<String>,
    /// Whether elements stay untouched.
    pub partial: bool,
    /// What else the line says.
    pub note: String,
    /// The line of the header, from 1.
    pub line: usize,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// What was there before does not matter.
    Overwrite,
    /// The result is added to what was there before.
    Accumulate,
    /// It is read and written in place.
    Update,
}

/// `LAYOUT 2: [K, M]`, `is_u8: u8`, `_nn, _tn: [K, N]`: another shape or dtype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// When.
    pub when: When,
    /// The shape then.
    pub shape: Option<Vec<Expression>>,
    /// The dtype then.
    pub dtype: Option<String>,
}

/// When an alternative holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// A constant or a field of `Dims` has one of these values.
    Is(String, Vec<u32>),
    /// The entry's variant is one of these.
    Variant(Vec<String>),
}

impl Buffer {
    /// Reads what follows number and name.
    pub(super) fn parse(number: usize, name: &str, text: &str, line: usize) -> Result<Buffer, String> {
        let (shape, rest) = match text.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((shape, rest)) => (sizes(shape)?, rest.trim()),
            None => return Err(format!("`{name}`: expected a shape like `[rows, C]` in the third column, found `{text}`")),
        };
        let (dtype, words) = rest.split_once(' ').unwrap_or((rest, ""));
        let words = words.trim();
        let mut buffer = Buffer {
            number,
            name: name.to_string(),
            shape,
            dtypes: dtype.split('|').map(str::to_string).collect(),
            words: words.to_string(),
            access: Access::parse(words),
            accumulate_if: None,
            only_if: None,
            from: None,
            alternatives: Vec::new(),
            tensor_map: words.split_once("through TMA").and_then(|(_, rest)| rest.split_once("box ")).map(|(_, text)| text.trim().to_string()),
            partial: words.contains("in part") || words.contains("only the rows"),
            note: String::new(),
            line,
        };
        buffer.details(words)?;
        Ok(buffer)
    }

    /// The text in brackets and after a colon.
    fn details(&mut self, words: &str) -> Result<(), String> {
        let mut notes = Vec::new();
        let (before, inside, after) = match words.split_once('(') {
            // A colon before the brackets begins a note of its own.
            Some((before, _)) if before.contains(':') => (words, "", ""),
            Some((before, rest)) => {
                let end = rest.char_indices().scan(1, |depth, (at, c)| {
                    *depth += (c == '(') as i32 - (c == ')') as i32;
                    Some((at, *depth))
                });
                let end = end.into_iter().find(|(_, depth)| *depth == 0).map_or(rest.len(), |(at, _)| at);
                (before, &rest[..end], rest.get(end + 1..).unwrap_or_default())
            }
            None => (words, "", ""),
        };
        if let Some((_, note)) = before.split_once(": ") {
            notes.push(note.trim().to_string());
        }
        for piece in pieces(inside, ';').into_iter().filter(|p| !p.is_empty()) {
            if let Some(condition) = piece.strip_prefix("only if ") {
                let (condition, rest) =
                    condition.split_once(", ").or_else(|| condition.split_once(": ")).map_or((condition, None), |(c, rest)| (c, Some(rest)));
                self.only_if = Some(condition.to_string());
                notes.extend(rest.map(str::to_string));
            } else if let Some(condition) = piece.strip_prefix("accumulated if ").or_else(|| piece.strip_prefix("added to if ")) {
                self.accumulate_if = Some(condition.to_string());
            } else if let Some(place) = piece.strip_prefix("from element ") {
                let (element, _) = place.split_once(" of ").unwrap_or((place, ""));
                self.from = Some(Expression::parse(element)?);
                notes.push(piece.to_string());
            } else if let Some(alternative) = Alternative::parse(piece)? {
                self.alternatives.push(alternative);
            } else {
                notes.push(piece.to_string());
            }
        }
        let after = after.trim_start_matches([':', ',', ' ']);
        if !after.is_empty() && !after.starts_with("box ") {
            notes.push(after.to_string());
        }
        self.note = notes.join("; ");
        Ok(())
    }

    /// The number of elements of its shape.
    ///
    /// # Errors
    /// The name that cannot be worked out: the header is then wrong.
    pub fn elements(&self, values: &HashMap<&str, u64>) -> Result<u64, String> {
        let value = |name: &str| values.get(name).copied();
        self.shape.iter().try_fold(1u64, |product, size| Ok(product.saturating_mul(size.evaluate(&value)?)))
    }

    /// Elements that the bound buffer must have: its own, and those that come before it.
    ///
    /// # Errors
    /// As [`Buffer::elements`].
    pub fn extent(&self, values: &HashMap<&str, u64>) -> Result<u64, String> {
        let before = self.from.as_ref().map_or(Ok(0), |from| from.evaluate(&|name| values.get(name).copied()))?;
        Ok(self.elements(values)?.saturating_add(before))
    }

    /// Its dtype in the variant of an entry that a suffix names, and its shape.
    pub fn in_variant(&self, suffix: &str) -> (&str, &[Expression]) {
        let mut shape = self.shape.as_slice();
        // Of several the first is the plain one; `_bf16` means the other, unless the line asks for a longer suffix.
        let mut bf16 = suffix.contains("_bf16");
        for alternative in &self.alternatives {
            let When::Variant(words) = &alternative.when else { continue };
            let holds = words.iter().any(|word| selects(word, suffix));
            if alternative.dtype.as_deref() == Some("bf16") {
                bf16 = holds;
            }
            if let (true, Some(other)) = (holds, &alternative.shape) {
                shape = other;
            }
        }
        let dtype = self.dtypes.iter().find(|d| bf16 && *d == "bf16").or(self.dtypes.first());
        (dtype.map_or("", String::as_str), shape)
    }
}

impl Access {
    fn parse(words: &str) -> Option<Access> {
        match words.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default() {
            "read" => Some(Access::Read),
            "overwritten" | "written" | "scratch" => Some(Access::Overwrite),
            "accumulated" => Some(Access::Accumulate),
            "updated" | "in" => Some(Access::Update),
            _ => None,
        }
    }

    /// Whether the kernel writes there.
    pub fn writes(self) -> bool {
        self != Access::Read
    }

    /// As `kernels.json` says it.
    pub fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Overwrite => "overwrite",
            Access::Accumulate => "accumulate",
            Access::Update => "update",
        }
    }
}

impl Alternative {
    /// `LAYOUT 1, 2: [K, N]`, `BF16: bf16`, `_nn, _tn: [K, N]`; `None` for other words.
    fn parse(text: &str) -> Result<Option<Alternative>, String> {
        let Some((when, what)) = text.split_once(": ") else { return Ok(None) };
        let words: Vec<&str> = when.split([' ', ',']).filter(|w| !w.is_empty()).collect();
        let numbers: Option<Vec<u32>> = words.iter().skip(1).map(|w| w.parse().ok()).collect();
        let when = match (words.as_slice(), numbers) {
            ([first, ..], _) if first.starts_with('_') => When::Variant(words.iter().map(|w| w.to_string()).collect()),
            ([name], _) => When::Is(name.to_string(), vec![1]),
            ([name, ..], Some(numbers)) => When::Is(name.to_string(), numbers),
            _ => return Ok(None),
        };
        if let Some(shape) = what.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
            return Ok(Some(Alternative { when, shape: Some(sizes(shape)?), dtype: None }));
        }
        let dtype = ["f32", "bf16", "i32", "u32", "u8"].contains(&what).then(|| what.to_string());
        Ok(dtype.map(|dtype| Alternative { when, shape: None, dtype: Some(dtype) }))
    }
}

fn sizes(shape: &str) -> Result<Vec<Expression>, String> {
    pieces(shape, ',').into_iter().map(Expression::parse).collect()
}
