//! What a kernel file's header promises: entries, buffers with their shapes, the `Dims` and constants that the shapes are made of.
//!
//! Whoever copies a kernel has only its header, so tests compare every header with the compiled code. Because they do,
//! launches are checked against it (`device/ptx/`), a trace names operands by it, and `kernels.json` is written from it. The same
//! lines begin WGSL and CUDA files:
//!
//! ```text
//! // stem: the formula
//! //
//! // Names: M = C · F'; K = 3 · in. (what is neither a field of Dims nor the letter in the comment after one)
//! //
//! // entry    block 256, what a block does, grid = ceil(M · T / 256), T = 4 (f32) or 8 (bf16): what it computes
//! //   0  x     [M, K]  f32|bf16  read (only if flags & 1; BF16: bf16)
//! //   1  y     [M]     f32       overwritten (accumulated if flags & 4; from element K of the workspace)
//! //   2  dims  uniform
//! //
//! // Constants: TILE: 32, 64; ROW_THREADS = row_threads: 8..256 (those that may be overridden, and with what)
//! // Precision: f32 sums in a fixed order.
//! // Limits: M < 2³¹.
//! ```

use super::buffer::Buffer;
use super::check::{Check, Relation};
use super::expression::Expression;
use super::text::{pieces, selects};
use std::collections::HashMap;

/// The header of one file.
#[derive(Debug, Default)]
pub struct Header {
    /// What the file computes: its first paragraph, and the indented lines that go with it.
    pub formula: String,
    /// The paragraph that begins with `Backward`, likewise.
    pub backward: String,
    /// The text after `Precision:`.
    pub precision: String,
    /// The text after `Limits:`.
    pub limits: String,
    /// The part of it that can be checked.
    pub checks: Vec<Check>,
    /// The documented entries, in order.
    pub entries: Vec<Entry>,
    /// The fields of `struct Dims`, in order. All are 4 bytes.
    pub fields: Vec<Field>,
    /// `Names:`: what a letter in a shape stands for.
    pub names: Vec<Definition>,
    /// `Constants:`: the `const` lines that may be overridden.
    pub constants: Vec<Constant>,
    /// The text after them: which values go together.
    pub constants_rule: String,
    /// The `const NAME: u32 = …` lines of the file itself.
    pub consts: Vec<(String, Expression)>,
    /// What could not be read, each with its line.
    pub problems: Vec<String>,
}

/// An entry as its header documents it.
#[derive(Debug, Default)]
pub struct Entry {
    /// Its name: the PTX has it, or variants of it that continue with `_`.
    pub name: String,
    /// The line of the header, from 1.
    pub line: usize,
    /// The text after `block`: a number, `(TILE/4)²`, `512 or 384`.
    pub block: String,
    /// What a block does, between block and grid.
    pub about: String,
    /// What it requires of sizes: `d a multiple of 8`.
    pub checks: Vec<Check>,
    /// How many blocks.
    pub grid: Option<Expression>,
    /// What else it says about the grid.
    pub grid_note: String,
    /// Names that mean something in this entry alone.
    pub names: Vec<Definition>,
    /// What it computes, in one line.
    pub what: String,
    /// The buffers in order.
    pub buffers: Vec<Buffer>,
    /// The line of its list that is `dims`, `uniform` in WGSL and `by value` in CUDA: number and name.
    pub dims: Option<(usize, String)>,
}

/// A field of `Dims`.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// `u32` or `f32`.
    pub kind: &'static str,
    /// What the shapes call it, from the comment after it: `// C` or `// K = P·P·3`.
    pub alias: Option<String>,
    /// That comment.
    pub about: String,
}

/// `E = 4 (f32) or 8 (bf16)`: a name, and what it stands for in which variants.
#[derive(Debug)]
pub struct Definition {
    /// The name.
    pub name: String,
    /// What it stands for, each with the part of a variant's name that it holds for; without one it holds for all.
    pub values: Vec<(Option<String>, Expression)>,
}

/// A `const` line of WGSL that a launcher may override.
#[derive(Debug)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// The field of `Dims` that it must be equal to.
    pub equals: Option<String>,
    /// What it may be.
    pub values: Values,
    /// `(a multiple of 64 / THREADS_X)`: what it must also be a multiple of.
    pub multiple_of: Option<Expression>,
}

/// Legal values of a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// One of these.
    List(Vec<u32>),
    /// Any from the first to the last.
    Range(u32, u32),
}

impl Header {
    /// Reads the comment that a file begins with, its `struct Dims` and its `const` lines.
    pub fn parse(source: &str) -> Header {
        let mut header = Header::default();
        let lines: Vec<&str> = source.lines().map_while(|l| l.strip_prefix("//")).collect();
        header.list(&lines);
        header.paragraphs(&lines);
        header.dims(source);
        for line in source.lines() {
            let Some((name, value)) = line.strip_prefix("const ").and_then(|l| l.split_once(": u32 = ")) else { continue };
            if let Ok(value) = Expression::parse(value.split(';').next().unwrap_or_default()) {
                header.consts.push((name.to_string(), value));
            }
        }
        header
    }

    /// The entries with their buffers.
    fn list(&mut self, lines: &[&str]) {
        let is_buffer = |text: &str| text.starts_with("   ") && text.split_whitespace().next().is_some_and(|w| w.parse::<usize>().is_ok());
        let mut at = 0;
        while at < lines.len() {
            let (text, line) = (lines[at], at + 1);
            at += 1;
            if let Some((name, about)) = entry_line(text) {
                // A long line about the entry continues before its first buffer.
                let mut whole = about.to_string();
                while at < lines.len() && !is_buffer(lines[at]) && lines[at].starts_with("     ") {
                    whole = format!("{whole} {}", lines[at].trim());
                    at += 1;
                }
                let entry = self.entry_of(name, line, &whole);
                self.entries.push(entry);
            } else if is_buffer(text) {
                let columns: Vec<&str> = text.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
                let ([number, name, rest @ ..], Some(entry)) = (columns.as_slice(), self.entries.last_mut()) else { continue };
                let rest = rest.join(" ");
                if ["uniform", "by value"].iter().any(|kind| rest == *kind || rest.starts_with(&format!("{kind} "))) {
                    entry.dims = Some((number.parse().unwrap_or_default(), name.to_string()));
                    continue;
                }
                match Buffer::parse(number.parse().unwrap_or_default(), name, &rest, line) {
                    Ok(buffer) => entry.buffers.push(buffer),
                    Err(what) => self.problems.push(format!("line {line}: {what}")),
                }
            }
        }
    }

    /// `block 256, one row per block, grid = ceil(n / 256), E = 4 (f32) or 8 (bf16), one per gradient: what it computes`.
    fn entry_of(&mut self, name: &str, line: usize, text: &str) -> Entry {
        let (before, after) = text.split_once("grid = ").unwrap_or((text, ""));
        let before = before.trim().trim_end_matches(',').strip_prefix("block ").unwrap_or_default();
        let (block, about) = before.split_once(", ").unwrap_or((before, ""));
        let (grid, what) = after.split_once(": ").unwrap_or((after, ""));
        let mut entry = Entry {
            name: name.to_string(),
            line,
            block: block.trim().to_string(),
            about: about.to_string(),
            checks: Check::of_entry(about),
            grid: None,
            grid_note: String::new(),
            names: Vec::new(),
            what: what.to_string(),
            buffers: Vec::new(),
            dims: None,
        };
        for (index, piece) in pieces(grid, ',').into_iter().enumerate() {
            if index == 0 {
                match Expression::parse(piece) {
                    Ok(grid) => entry.grid = Some(grid),
                    Err(what) => self.problems.push(format!("line {line}: grid: {what}")),
                }
            } else if let Some(definition) = Definition::parse(piece) {
                entry.names.push(definition);
            } else {
                entry.grid_note = [entry.grid_note.as_str(), piece].join(if entry.grid_note.is_empty() { "" } else { ", " });
            }
        }
        entry
    }

    /// The text around the list.
    fn paragraphs(&mut self, lines: &[&str]) {
        const LABELS: [&str; 5] = ["Backward", "Names:", "Constants:", "Precision:", "Limits:"];
        let label = |text: &str| LABELS.into_iter().find(|l| text.strip_prefix(' ').is_some_and(|t| t.starts_with(l)));
        // `FLOPs: …` and the like end a paragraph too.
        let begins =
            |text: &str| label(text).is_some() || text.split_whitespace().next().is_some_and(|w| w.ends_with(':') && w.starts_with(char::is_uppercase));
        let mut at = 0;
        while at < lines.len() {
            let found = label(lines[at]);
            if found.is_none() && at > 0 {
                at += 1;
                continue;
            }
            let start = at;
            at += 1;
            while at < lines.len() && !lines[at].trim().is_empty() && !begins(lines[at]) && entry_line(lines[at]).is_none() {
                at += 1;
            }
            let mut text = lines[start..at].iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ");
            if found.is_none() || found == Some("Backward") {
                // Indented lines are formulas, and keep their breaks.
                text = lines[start..at]
                    .iter()
                    .fold(String::new(), |text, l| if l.starts_with("   ") { format!("{text}\n{}", l.trim()) } else { format!("{text} {}", l.trim()) });
                while at + 1 < lines.len() && lines[at].trim().is_empty() && lines[at + 1].starts_with("   ") {
                    let indented = lines[at + 1..].iter().take_while(|l| l.starts_with("   "));
                    at += 1 + indented.clone().map(|l| text += &format!("\n{}", l.trim())).count();
                }
            }
            let line = start + 1;
            match found {
                None => self.formula = text.split_once(": ").map_or(text.trim(), |(_, t)| t.trim()).to_string(),
                Some("Backward") => self.backward = text.trim()["Backward".len()..].trim_start_matches(['.', ',', ' ', ':']).to_string(),
                Some("Limits:") => {
                    self.limits = text["Limits:".len()..].trim().to_string();
                    self.limit_checks();
                }
                Some("Precision:") => self.precision = text["Precision:".len()..].trim().to_string(),
                Some(label) => {
                    let (list, rest) = sentence(&text[label.len()..]);
                    for item in list.split(';').map(str::trim) {
                        let read = if label == "Names:" {
                            Definition::parse(item).map(|d| self.names.push(d))
                        } else {
                            Constant::parse(item).map(|c| self.constants.push(c))
                        };
                        if read.is_none() {
                            self.problems.push(format!("line {line}: {label} `{item}` cannot be read"));
                        }
                    }
                    if label == "Constants:" {
                        self.constants_rule = rest.to_string();
                    }
                }
            }
        }
    }

    /// What the limits require; a sentence like `forward and backward: d a multiple of 8` of these entries alone.
    fn limit_checks(&mut self) {
        let limits = self.limits.clone();
        let mut of_all = Vec::new();
        for said in limits.split_inclusive(". ") {
            let Some((names, rest)) = said.split_once(": ") else {
                of_all.push(said);
                continue;
            };
            let names: Vec<&str> = names.split([',', ' ']).filter(|word| !["", "and"].contains(word)).collect();
            if names.iter().all(|name| self.entries.iter().any(|e| e.name == *name)) {
                let checks = Check::all(rest.trim());
                self.entries.iter_mut().filter(|e| names.contains(&e.name.as_str())).for_each(|e| e.checks.extend(checks.clone()));
            } else {
                of_all.push(said);
            }
        }
        self.checks = Check::all(&of_all.concat());
    }

    fn dims(&mut self, source: &str) {
        let body = source.lines().skip_while(|l| !l.starts_with("struct Dims")).skip(1).take_while(|l| !l.starts_with('}'));
        for line in body {
            let (code, comment) = line.split_once("//").unwrap_or((line, ""));
            let about = comment.trim().to_string();
            let alias = alias(&about).map(str::to_string);
            let code = code.trim().trim_end_matches([';', ',']);
            // WGSL's `rows: u32`, CUDA's `unsigned rows, columns` and `unsigned padding[2]`.
            let (kind, names) = match code.split_once(": ") {
                Some((name, kind)) => (kind, name),
                None => code.strip_prefix("unsigned int ").map(|n| ("u32", n)).or_else(|| code.split_once(' ')).unwrap_or_default(),
            };
            let kind = if kind.starts_with('f') { "f32" } else { "u32" };
            for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                let (name, count) = match name.split_once('[') {
                    Some((name, count)) => (name, count.trim_end_matches(']').parse().unwrap_or(1)),
                    None => (name, 1),
                };
                for _ in 0..count {
                    self.fields.push(Field { name: name.to_string(), kind, alias: alias.clone(), about: about.clone() });
                }
            }
        }
    }

    /// The documented entry of a compiled one: the longest whose name it is, or begins with before a `_`.
    pub fn entry(&self, compiled: &str) -> Option<&Entry> {
        let matches = |e: &&Entry| compiled.strip_prefix(e.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        self.entries.iter().filter(matches).max_by_key(|e| e.name.len())
    }

    /// The values that the names in shapes stand for, from the bytes of a `Dims`.
    pub fn values(&self, dims: &[u8]) -> HashMap<&str, u64> {
        let mut values = HashMap::new();
        for (field, bytes) in self.fields.iter().zip(dims.chunks_exact(4)) {
            let value = u32::from_le_bytes(bytes.try_into().expect("four bytes")) as u64;
            values.insert(field.name.as_str(), value);
            // A field's own name counts before another's letter.
            if let Some(alias) = field.alias.as_deref().filter(|a| self.fields.iter().all(|f| f.name != *a)) {
                values.insert(alias, value);
            }
        }
        for Definition { name, values: alternatives } in &self.names {
            if let Some(value) = alternatives.first().and_then(|(_, e)| e.evaluate(&|name| values.get(name).copied()).ok()) {
                values.entry(name).or_insert(value);
            }
        }
        values
    }

    /// An expression of an entry in fields of `Dims`, constants and `multiprocessors` alone, for the variant that a suffix names.
    ///
    /// # Errors
    /// The name that is none of these.
    pub fn resolved(&self, expression: &Expression, entry: &Entry, suffix: &str) -> Result<Expression, String> {
        let definition = |name: &str| {
            let found = entry.names.iter().chain(&self.names).find(|d| d.name == name)?;
            found.values.iter().find(|(selector, _)| selector.as_deref().is_none_or(|s| selects(s, suffix))).map(|(_, e)| e.clone())
        };
        let known = |name: &str| self.fields.iter().any(|f| f.name == name) || self.consts.iter().any(|c| c.0 == name) || name == "multiprocessors";
        let field = |name: &str| {
            let own = self.fields.iter().any(|f| f.name == name);
            self.fields.iter().find(|f| !own && f.alias.as_deref() == Some(name)).map(|f| Expression::Name(f.name.clone()))
        };
        let mut expression = expression.clone();
        // A definition may use others; none of them is deeper than this.
        for _ in 0..4 {
            expression = expression.replaced(&|name| definition(name).or_else(|| field(name)));
        }
        let unknown = expression.names().into_iter().find(|name| !known(name)).map(str::to_string);
        unknown.map_or(Ok(expression), Err)
    }
}

/// ` forward  block 256, …` as name and the rest.
fn entry_line(text: &str) -> Option<(&str, &str)> {
    let (name, about) = text.strip_prefix(' ')?.split_once("  ")?;
    (is_name(name) && about.trim_start().starts_with("block ")).then_some((name, about.trim_start()))
}

/// Whether a word can be a name: `rows`, `F'`.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_') && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '\'')
}

/// `C`, `V: words`, `R, of weights`, `K = P·P·3`; not the first word of a sentence.
fn alias(about: &str) -> Option<&str> {
    let (word, rest) = about.split_at(about.find([' ', ';', ',', ':']).unwrap_or(about.len()));
    (is_name(word) && (rest.is_empty() || rest.starts_with([';', ',', ':']) || rest.starts_with(" = "))).then_some(word)
}

/// Up to the full stop, and what follows it.
fn sentence(text: &str) -> (&str, &str) {
    let (list, rest) = text.split_once(". ").unwrap_or((text, ""));
    (list.trim().trim_end_matches('.'), rest.trim())
}

impl Check {
    /// The same in fields of `Dims` and constants; `None` where it has other names, or requires more of a float than its sign.
    pub fn resolved(&self, header: &Header, entry: &Entry, suffix: &str) -> Option<Check> {
        let side = |side: &Expression| header.resolved(side, entry, suffix).ok();
        let check = Check { left: side(&self.left)?, relation: self.relation, right: side(&self.right)? };
        let whole = |name: &str| header.fields.iter().all(|f| f.name != name || f.kind == "u32");
        let all_whole = check.left.names().union(&check.right.names()).all(|name| whole(name));
        let sign = check.relation == Relation::AtLeast && check.right == Expression::Number(0);
        // Whole numbers have none, and of a float nothing else is asked.
        (all_whole != sign && (all_whole || matches!(check.left, Expression::Name(_)))).then_some(check)
    }
}

impl Definition {
    /// `E = 4 (f32) or 8 (bf16)`.
    fn parse(text: &str) -> Option<Definition> {
        let (name, values) = text.split_once(" = ")?;
        let one = |text: &str| {
            let selector =
                text.strip_suffix(')').and_then(|t| t.rsplit_once(" (")).filter(|(_, word)| is_name(word.trim_start_matches('_')) || word.starts_with('_'));
            let (value, selector) = selector.map_or((text, None), |(value, word)| (value, Some(word.to_string())));
            Some((selector, Expression::parse(value).ok()?))
        };
        let values: Vec<_> = values.split(" or ").map(one).collect::<Option<_>>()?;
        is_name(name.trim()).then(|| Definition { name: name.trim().to_string(), values })
    }
}

impl Constant {
    /// `ROW_THREADS = row_threads: 8, 16, 32`, `HEAD_DIM: 1..128`, or `OWN: 8, 16 (a multiple of 64 / THREADS_X)`.
    fn parse(text: &str) -> Option<Constant> {
        let (name, values) = text.split_once(": ")?;
        let (name, equals) = name.split_once(" = ").map_or((name, None), |(name, field)| (name, Some(field.trim().to_string())));
        let (values, multiple_of) = match values.split_once(" (a multiple of ") {
            Some((values, of)) => (values, Some(Expression::parse(of.strip_suffix(')')?).ok()?)),
            None => (values, None),
        };
        let values = match values.split_once("..") {
            Some((first, last)) => Values::Range(first.trim().parse().ok()?, last.trim().parse().ok()?),
            None => Values::List(values.split(',').map(|v| v.trim().parse().ok()).collect::<Option<_>>()?),
        };
        Some(Constant { name: name.trim().to_string(), equals, values, multiple_of })
    }
}

impl Values {
    /// Whether a value is one of them.
    pub fn contain(&self, value: u32) -> bool {
        match self {
            Values::List(values) => values.contains(&value),
            Values::Range(first, last) => (*first..=*last).contains(&value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::{Access, When};
    use super::*;

    const SOURCE: &str = "\
// twice: y = 2 · x,
//
//   for all of it
//
// Backward.  dx = 2 · dy.
// Names: M = C · d/2; Q = M + 1. M is the rest.
//
// forward        block 256, E elements per thread, grid = ceil(n / (256 · E)), E = 4 (f32) or 8 (bf16), one per tensor: y
//   0  x         [rows, C]    f32|bf16  read (only if has_x, else 1; _nn: [C, rows])
//   1  start     [V + 1]      i32  read (why)
//   2  y         [2 · C, d/2] f32|bf16  overwritten (accumulated if flags & 4; from element rows of the workspace; _bf16_bf16: bf16)
//   3  dims      by value
// forward_naive  block 64, one element per thread,
//                grid = ceil(M / TILE): y, too
//   0  x         [Q]          f32  in place: x becomes y
//   1  map       [rows, C]    bf16  read through TMA (_nn: [C, rows]), box 64 × 64, 128-byte swizzle
//   2  dims      uniform (n)
//
// Constants: TILE: 32, 64 (a multiple of HEAD); HEAD = half: 1..128. HEAD even.
// Precision: f32,
// everywhere.
// Limits: none.
// FLOPs: no limit.
#include <cuda_bf16.h>
const TILE: u32 = 32u;
struct Dims {
    unsigned rows, n;
    unsigned columns;      // C
    float vocabulary;   // V: words
    unsigned half, d;      // columns of a sentence, no letter
};
";

    #[test]
    fn a_header_is_read() {
        let header = Header::parse(SOURCE);
        assert_eq!(header.problems, Vec::<String>::new());
        assert_eq!((header.formula.as_str(), header.backward.as_str()), ("y = 2 · x,\nfor all of it", "dx = 2 · dy."));
        assert_eq!((header.precision.as_str(), header.limits.as_str(), header.constants_rule.as_str()), ("f32, everywhere.", "none.", "HEAD even."));
        let entries: Vec<_> = header.entries.iter().map(|e| (e.name.as_str(), e.block.as_str(), e.what.as_str(), e.buffers.len(), e.dims.is_some())).collect();
        assert_eq!(entries, [("forward", "256", "y", 3, true), ("forward_naive", "64", "y, too", 2, true)]);
        assert_eq!((header.entries[0].about.as_str(), header.entries[0].grid_note.as_str()), ("E elements per thread", "one per tensor"));
        assert_eq!(header.entry("forward_naive_bf16").unwrap().name, "forward_naive");
        assert_eq!(header.entry("forward_bf16").unwrap().name, "forward");
        assert!(header.entry("forwards").is_none());
        assert_eq!(header.constants[1].equals.as_deref(), Some("half"));
        assert_eq!(header.constants[0].multiple_of, Some(Expression::Name("HEAD".into())));
        assert_eq!((&header.constants[0].values, &header.constants[1].values), (&Values::List(vec![32, 64]), &Values::Range(1, 128)));
        assert_eq!(header.fields.iter().map(|f| f.kind).collect::<Vec<_>>(), ["u32", "u32", "u32", "f32", "u32", "u32"]);
    }

    #[test]
    fn grids_are_resolved() {
        let header = Header::parse(SOURCE);
        let grid = |entry: usize, suffix| header.resolved(header.entries[entry].grid.as_ref().unwrap(), &header.entries[entry], suffix).map(|e| e.to_string());
        assert_eq!(grid(0, "").unwrap(), "ceil_div(n, 256 * 4)");
        assert_eq!(grid(0, "_nn_bf16").unwrap(), "ceil_div(n, 256 * 8)");
        assert_eq!(grid(1, "").unwrap(), "ceil_div(columns * d / 2, TILE)");
        let unknown = Expression::parse("Z + n").unwrap();
        assert_eq!(header.resolved(&unknown, &header.entries[0], ""), Err("Z".into()));
    }

    #[test]
    fn buffers_have_sizes_and_dtypes() {
        let header = Header::parse(SOURCE);
        let dims: Vec<u8> = [3u32, 9, 5, 7, 2, 4].iter().flat_map(|v| v.to_le_bytes()).collect();
        let values = header.values(&dims);
        let [x, start, y] = &header.entries[0].buffers[..] else { panic!() };
        assert_eq!([x, start, y].map(|b| b.elements(&values).unwrap()), [15, 8, 20]);
        assert_eq!(y.extent(&values), Ok(23));
        assert_eq!(header.entries[1].buffers[0].elements(&values), Ok(11));
        assert_eq!(x.only_if.as_deref(), Some("has_x"));
        assert_eq!((x.note.as_str(), start.note.as_str(), y.note.as_str()), ("else 1", "why", "from element rows of the workspace"));
        assert_eq!((y.access, y.accumulate_if.as_deref()), (Some(Access::Overwrite), Some("flags & 4")));
        assert_eq!(header.entries[1].buffers[0].access, Some(Access::Update));
        assert_eq!(x.alternatives[0].when, When::Variant(vec!["_nn".into()]));
        let shape = |b: &Buffer, suffix| b.in_variant(suffix).1.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        assert_eq!((x.in_variant("").0, x.in_variant("_bf16").0, y.in_variant("_nn_bf16").0, y.in_variant("_bf16_bf16").0), ("f32", "bf16", "f32", "bf16"));
        assert_eq!((shape(x, "_nt").as_str(), shape(x, "_nn_bf16").as_str()), ("rows,C", "C,rows"));
        assert_eq!(header.entries[1].buffers[1].tensor_map.as_deref(), Some("64 × 64, 128-byte swizzle"));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let wrong = SOURCE.replace("[V + 1]", "[256 V]").replace("Q = M + 1", "Q is M").replace("n / (256 · E)", "n").replace("TILE: 32, 64", "TILE = any");
        let problems = Header::parse(&wrong).problems.join("\n");
        for expected in ["line 10: expected an operator in `256 V`", "line 8: grid: `ceil` of", "line 6: Names: `Q is M`", "line 19: Constants: `TILE = any"] {
            assert!(problems.contains(expected), "{expected}: {problems}");
        }
    }
}
