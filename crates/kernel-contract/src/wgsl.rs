//! What a shader binds, read from its text: entry points, and for each the buffers of group 0 that it uses, itself or in a function that
//! it calls.
//!
//! This reads the WGSL that kernels are written in, in a few milliseconds and with nothing but `std`: a build script takes it. It is not
//! a compiler. Whether the text is valid WGSL at all, naga says, and a test holds what is read here to naga's reflection.

use crate::header::Header;
use std::collections::{BTreeMap, BTreeSet};

/// An entry point.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryPoint {
    /// The function's name.
    pub name: String,
    /// What it binds, by binding number from 0 on.
    pub bindings: Vec<Binding>,
}

/// A buffer that an entry point uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The variable's name.
    pub name: String,
    /// What the shader does with it.
    pub space: Space,
}

/// What a shader does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Space {
    /// `var<uniform>`.
    Uniform,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// The entry points of a shader, in the order of the file.
///
/// # Errors
/// `line 12: …` for what is not as kernels are written: another group than 0, bindings with a gap, braces that do not match.
pub fn entry_points(source: &str) -> Result<Vec<EntryPoint>, String> {
    let code = without_comments(source);
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let mut variables: BTreeMap<String, (u32, Space)> = BTreeMap::new();
    let mut functions: Vec<(String, bool, BTreeSet<String>)> = Vec::new();
    let mut at = 0;
    // From one declaration of the module to the next: each ends with `;` or a block in braces.
    while let Some(length) = code[at..].find([';', '{']) {
        let (start, end) = (at, at + length);
        let head = &code[start..end];
        at = end + 1;
        if code[end..].starts_with('{') {
            at = block(&code, end).ok_or_else(|| format!("line {}: expected a closing brace for this one, found none", line(end)))?;
        }
        let words = words(head);
        if let Some(name) = after(&words, "fn") {
            functions.push((name.to_string(), head.contains("@compute"), used(&code[start..at])));
        } else if let Some(binding) = attribute(head, "@binding") {
            let begins = line(start + head.len() - head.trim_start().len());
            let group = attribute(head, "@group");
            if group != Some(0) {
                return Err(format!("line {begins}: expected @group(0) beside @binding, found {group:?}: kernels use group 0 only"));
            }
            let declared = head.split_once("var<").and_then(|(_, rest)| rest.split_once('>'));
            let (space, rest) = declared.ok_or_else(|| format!("line {begins}: expected `var<…>` after @binding"))?;
            let name = self::words(rest).first().copied().unwrap_or_default().to_string();
            let space = match self::words(space)[..] {
                ["uniform"] => Space::Uniform,
                ["storage"] | ["storage", "read"] => Space::Read,
                ["storage", "read_write"] => Space::ReadWrite,
                _ => return Err(format!("line {begins}: expected var<uniform>, var<storage, read> or var<storage, read_write>, found var<{space}>")),
            };
            variables.insert(name, (binding, space));
        }
    }
    let find = |name: &str| functions.iter().find(|(found, ..)| found == name);
    let mut entries = Vec::new();
    for (name, ..) in functions.iter().filter(|(_, compute, _)| *compute) {
        let (mut seen, mut open) = (BTreeSet::new(), vec![name.as_str()]);
        while let Some((_, _, used)) = open.pop().and_then(find) {
            for word in used {
                if seen.insert(word.as_str()) && find(word).is_some() {
                    open.push(word);
                }
            }
        }
        let mut bindings: Vec<(u32, Binding)> = variables
            .iter()
            .filter(|(variable, _)| seen.contains(variable.as_str()))
            .map(|(variable, &(number, space))| (number, Binding { name: variable.clone(), space }))
            .collect();
        bindings.sort_by_key(|(number, _)| *number);
        if let Some((expected, (found, binding))) = bindings.iter().enumerate().find(|(expected, (found, _))| *expected as u32 != *found) {
            return Err(format!(
                "`{name}`: expected bindings that count up from 0 without a gap, found {found} (`{}`) in the place of {expected}",
                binding.name
            ));
        }
        entries.push(EntryPoint { name: name.clone(), bindings: bindings.into_iter().map(|(_, binding)| binding).collect() });
    }
    Ok(entries)
}

/// Threads of a workgroup of a shader that is compiled with these constants: what its `@workgroup_size` says, worked out. `None` where
/// there is no such entry, or its size is not a number and not a constant.
pub fn workgroup_size(source: &str, entry: &str, constants: &[(&str, u32)]) -> Option<u64> {
    fn constant(header: &Header, constants: &[(&str, u32)], name: &str) -> Option<u64> {
        let overridden = constants.iter().find(|c| c.0 == name).map(|c| c.1 as u64);
        overridden.or_else(|| header.consts.iter().find(|c| c.0 == name)?.1.evaluate(&|name| constant(header, constants, name)).ok())
    }
    let (before, _) = source.split_once(&format!("fn {entry}("))?;
    let (size, _) = before.rsplit_once("@workgroup_size(")?.1.split_once(')')?;
    size.parse().ok().or_else(|| constant(&Header::parse(source), constants, size))
}

/// The text with its comments blanked out: lines stay where they are.
fn without_comments(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Where the block ends that begins at this brace: after its closing one.
fn block(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + at + 1);
        }
    }
    None
}

/// The identifiers of a piece of text.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

/// The names that a function uses and does not declare itself: a local variable or a parameter hides what the module calls the same.
fn used(function: &str) -> BTreeSet<String> {
    let parameters = function.split_once('(').and_then(|(_, rest)| rest.split_once('{')).map_or("", |(parameters, _)| parameters);
    let declared = parameters.split(':').filter_map(|before| words(before).last().copied());
    let listed = words(function);
    let local = listed.windows(2).filter(|pair| matches!(pair[0], "let" | "var" | "const")).map(|pair| pair[1]);
    let hidden: BTreeSet<&str> = declared.chain(local).collect();
    // `dims.rows` uses `dims`, and no variable that is called `rows`.
    let mut from = 0;
    let mut names = BTreeSet::new();
    for word in listed {
        let at = from + function[from..].find(word).expect("it was split from there");
        from = at + word.len();
        if !function[..at].ends_with('.') && !hidden.contains(word) {
            names.insert(word.to_string());
        }
    }
    names
}

/// The word after another one.
fn after<'a>(words: &[&'a str], word: &str) -> Option<&'a str> {
    words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied()
}

/// The number of `@binding(3)`.
fn attribute(head: &str, name: &str) -> Option<u32> {
    head.split_once(&format!("{name}("))?.1.split_once(')')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHADER: &str = "// fn comment(\nstruct Dims { n: u32 }\n@group(0) @binding(0) var<storage, read> x: array<f32>;\n\
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;\n@group(0) @binding(2) var<uniform> dims: Dims;\n\
        @group(0) @binding(0) var<storage> b_dy: array<f32>;\nconst BLOCK: u32 = 64u;\nvar<workgroup> tile: array<f32, 4>;\n\
        fn load(i: u32) -> f32 { return x[i]; }\n@compute @workgroup_size(BLOCK)\nfn forward() { if dims.n > 0u { y[0] = load(0u); } }\n\
        @compute @workgroup_size(32)\nfn backward() { _ = b_dy[0]; }\n";

    #[test]
    fn what_a_called_function_uses_counts() {
        let entries = entry_points(SHADER).unwrap();
        let names = |i: usize| entries[i].bindings.iter().map(|b| (b.name.as_str(), b.space)).collect::<Vec<_>>();
        assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["forward", "backward"]);
        assert_eq!(names(0), [("x", Space::Read), ("y", Space::ReadWrite), ("dims", Space::Uniform)]);
        assert_eq!(names(1), [("b_dy", Space::Read)]);
        assert_eq!([workgroup_size(SHADER, "forward", &[]), workgroup_size(SHADER, "forward", &[("BLOCK", 8)])], [Some(64), Some(8)]);
        assert_eq!([workgroup_size(SHADER, "backward", &[]), workgroup_size(SHADER, "other", &[])], [Some(32), None]);
    }

    #[test]
    fn fields_and_local_variables_are_not_buffers() {
        let entries = |body: &str| entry_points(&SHADER.replace("_ = b_dy[0];", body)).unwrap()[1].bindings.len();
        assert_eq!([entries("_ = b_dy[0];"), entries("let b_dy = 1;"), entries("_ = tile.b_dy;")], [1, 0, 0]);
    }

    #[test]
    fn what_kernels_do_not_do_is_refused_with_its_line() {
        let error = |from: &str, to: &str| entry_points(&SHADER.replace(from, to)).unwrap_err();
        assert_eq!(
            error("@group(0) @binding(1)", "@group(1) @binding(1)"),
            "line 4: expected @group(0) beside @binding, found Some(1): kernels use group 0 only"
        );
        assert!(
            error("@binding(1)", "@binding(4)").contains("`forward`: expected bindings that count up from 0 without a gap, found 2 (`dims`) in the place of 1")
        );
        assert!(error("uniform>", "push_constant>").contains("line 5: expected var<uniform>"));
        assert!(error("b_dy[0]; }", "b_dy[0];").contains("closing brace"));
    }
}
