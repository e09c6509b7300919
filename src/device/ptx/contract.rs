//! What a kernel file's header promises: entries, buffers with their shapes, and the `Dims` that the shapes are made of.
//!
//! Whoever copies a kernel has nothing but its header, so a test holds every header to the compiled code. Because it is held
//! to it, launches can be checked against it too: a buffer's bytes against the shape that its line states.

use std::collections::HashMap;

/// The header of one `.cu` file.
#[derive(Debug, Default)]
pub struct Contract {
    /// The documented entries, in order.
    pub entries: Vec<Entry>,
    /// The fields of `struct Dims`, in order. All are 4 bytes.
    pub fields: Vec<Field>,
}

/// An entry as its header documents it.
#[derive(Debug)]
pub struct Entry {
    /// Its name: the PTX has it, or variants of it that go on with `_`.
    pub name: String,
    /// The line of the header, from 1.
    pub line: usize,
    /// What stands behind `block`.
    pub block: String,
    /// What stands behind `grid =`.
    pub grid: String,
    /// The buffers in order.
    pub buffers: Vec<Buffer>,
    /// Whether the last line of its list is `dims`.
    pub has_dims: bool,
}

/// `//   0  x  [rows, C]  f32|bf16  read (why)`
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// The sizes between the brackets.
    pub shape: Vec<String>,
    /// The possible dtypes.
    pub dtypes: Vec<String>,
    /// What happens to it: `read …`, `overwritten …`.
    pub access: String,
    /// The line of the header, from 1.
    pub line: usize,
}

/// A field of `Dims`.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What the shapes call it, from the comment behind it: `// C` or `// K = P·P·3`.
    pub alias: Option<String>,
}

impl Contract {
    /// Reads the comment that a file begins with, and its `struct Dims`.
    pub fn parse(source: &str) -> Contract {
        let mut contract = Contract::default();
        for (index, line) in source.lines().enumerate() {
            let Some(text) = line.strip_prefix("//") else { break };
            contract.header_line(text, index + 1);
        }
        let mut inside = false;
        for line in source.lines() {
            if line.starts_with("struct Dims") {
                inside = true;
            } else if inside && line.starts_with('}') {
                break;
            } else if inside {
                let (code, comment) = line.split_once("//").unwrap_or((line, ""));
                let alias = comment.trim().split([' ', ';', ',', ':']).next().filter(|a| !a.is_empty()).map(str::to_string);
                let declared = code.trim().trim_end_matches(';');
                // `unsigned rows` or `unsigned rows, columns`
                let names = declared.strip_prefix("unsigned int ").or_else(|| declared.split_once(' ').map(|(_, names)| names)).unwrap_or("");
                for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                    let (name, count) = match name.split_once('[') {
                        Some((name, count)) => (name, count.trim_end_matches(']').parse().unwrap_or(1)),
                        None => (name, 1),
                    };
                    for _ in 0..count {
                        contract.fields.push(Field { name: name.to_string(), alias: alias.clone() });
                    }
                }
            }
        }
        contract
    }

    fn header_line(&mut self, text: &str, line: usize) {
        let columns: Vec<&str> = text.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        match columns.as_slice() {
            // `// forward  block 256, …, grid = …`
            [name, about, ..] if about.starts_with("block ") && text.starts_with(&format!(" {name}")) => {
                let block = about["block ".len()..].split(',').next().unwrap_or_default().trim().to_string();
                let grid = text.split_once("grid = ").map(|(_, grid)| grid.trim().to_string()).unwrap_or_default();
                self.entries.push(Entry { name: name.to_string(), line, block, grid, buffers: Vec::new(), has_dims: false });
            }
            [number, name, rest @ ..] if text.starts_with("   ") => {
                let (Ok(number), Some(entry)) = (number.parse(), self.entries.last_mut()) else { return };
                let rest = rest.join(" ");
                if rest == "by value" || rest.starts_with("by value ") {
                    entry.has_dims = true;
                    return;
                }
                let (shape, rest) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                    Some((shape, rest)) => (shape.split(',').map(|s| s.trim().to_string()).collect(), rest.trim()),
                    None => (Vec::new(), rest.as_str()),
                };
                let (dtype, access) = rest.split_once(' ').unwrap_or((rest, ""));
                let dtypes = dtype.split('|').map(str::to_string).collect();
                entry.buffers.push(Buffer { number, name: name.to_string(), shape, dtypes, access: access.trim().to_string(), line });
            }
            // A long line about the entry goes on before its first buffer.
            _ => {
                if let Some(entry) = self.entries.last_mut().filter(|e| e.buffers.is_empty() && e.grid.is_empty()) {
                    entry.grid = text.split_once("grid = ").map(|(_, grid)| grid.trim().to_string()).unwrap_or_default();
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
            for name in [Some(field.name.as_str()), field.alias.as_deref()].into_iter().flatten() {
                values.entry(name).or_insert(value);
            }
        }
        values
    }
}

impl Buffer {
    /// Elements that its shape comes to; `None` for `[*]`, which the launcher checks.
    ///
    /// # Errors
    /// The part of the shape that cannot be worked out: the header is then wrong.
    pub fn elements(&self, values: &HashMap<&str, u64>) -> Result<Option<u64>, String> {
        if self.shape.iter().any(|s| s == "*") {
            return Ok(None);
        }
        self.shape.iter().try_fold(1u64, |product, size| Ok(product.saturating_mul(sum(size, values)?))).map(Some)
    }

    /// Whether the kernel writes to it.
    pub fn is_written(&self) -> Option<bool> {
        match self.access.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default() {
            "read" => Some(false),
            "overwritten" | "accumulated" | "updated" | "in" | "scratch" => Some(true),
            _ => None,
        }
    }
}

/// `V + 1`, `C · F`, `2 · G`, `d/2`: sums of products (and quotients) of names and numbers.
fn sum(text: &str, values: &HashMap<&str, u64>) -> Result<u64, String> {
    text.split('+').try_fold(0u64, |total, term| Ok(total.saturating_add(product(term, values)?)))
}

fn product(text: &str, values: &HashMap<&str, u64>) -> Result<u64, String> {
    let factor = |text: &str| {
        let name = text.trim();
        name.parse().ok().or_else(|| values.get(name).copied()).ok_or_else(|| name.to_string())
    };
    text.split('·').try_fold(1u64, |product, part| {
        let mut quotient = part.split('/');
        let mut value = factor(quotient.next().unwrap_or_default())?;
        for divisor in quotient {
            value /= factor(divisor)?.max(1);
        }
        Ok(product.saturating_mul(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
// twice: y = 2 · x.
//
// forward        block 256, four elements per thread, grid = ceil(n / 1024)
//   0  x         [rows, C]    f32|bf16  read
//   1  start     [V + 1]      i32  read (why)
//   2  y         [2 · C, d/2] f32|bf16  overwritten
//   3  dims      by value
// forward_naive  block 64, one element per thread,
//                grid = ceil(n / 64)
//   0  x         [*]          f32  read
//   1  dims      by value
//
// Limits: none.
#include <cuda_bf16.h>
struct Dims {
    unsigned rows;
    unsigned columns;      // C
    unsigned vocabulary;   // V: words
    unsigned half, d;
};
";

    #[test]
    fn a_header_is_read() {
        let contract = Contract::parse(SOURCE);
        let names: Vec<_> = contract.entries.iter().map(|e| (e.name.as_str(), e.block.as_str(), e.grid.as_str(), e.buffers.len(), e.has_dims)).collect();
        assert_eq!(names, [("forward", "256", "ceil(n / 1024)", 3, true), ("forward_naive", "64", "ceil(n / 64)", 1, true)]);
        assert_eq!(contract.entry("forward_naive_bf16").unwrap().name, "forward_naive");
        assert_eq!(contract.entry("forward_bf16").unwrap().name, "forward");
        assert!(contract.entry("forwards").is_none());
        let values: Vec<u8> = [3u32, 5, 7, 2, 4].iter().flat_map(|v| v.to_le_bytes()).collect();
        let values = contract.values(&values);
        let elements: Vec<_> = contract.entries[0].buffers.iter().map(|b| b.elements(&values)).collect();
        assert_eq!(elements, [Ok(Some(15)), Ok(Some(8)), Ok(Some(20))]);
        assert_eq!(contract.entries[1].buffers[0].elements(&values), Ok(None));
        assert_eq!(contract.entries[0].buffers[0].dtypes, ["f32", "bf16"]);
        assert_eq!(contract.entries[0].buffers[2].is_written(), Some(true));
    }

    #[test]
    fn an_unknown_name_is_named() {
        let buffer = Buffer { number: 0, name: "x".into(), shape: vec!["Q".into()], dtypes: vec![], access: String::new(), line: 1 };
        assert_eq!(buffer.elements(&HashMap::new()), Err("Q".into()));
    }
}
