//! Where a kernel is defined: found in the sources that the program carries.

use crate::device::Language;
use crate::device::ptx::Compiled;
use crate::device::shader::Shader;
use crate::ops::OPS;
use std::panic::Location;

/// `kernels/rms_norm.cu:235` or `shaders/rms_norm.wgsl:73` for an entry.
pub(super) fn of_entry(language: Language, hopper: bool, stem: &str, entry: &str) -> String {
    let (file, text) = match language {
        Language::Ptx if hopper => (format!("kernels/hopper/{stem}.cu"), Compiled::hopper(stem).map(|c| c.source)),
        Language::Ptx => (format!("kernels/{stem}.cu"), Compiled::portable(stem).map(|c| c.source)),
        Language::Wgsl => (format!("shaders/{stem}.wgsl"), wgsl(stem)),
    };
    match text.and_then(|text| line(text, entry)) {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

/// Where the GPU's kernels of an operation's pass are defined, for people who look at the CPU's: in CUDA and in WGSL, the entry that
/// [`Pass::kernel`](crate::ops::Pass::kernel) names.
pub fn twins(op: &str, pass: &str) -> Vec<String> {
    let pass = OPS.iter().filter(|o| o.name == op).flat_map(|o| o.passes).find(|p| p.name == pass);
    let Some((stem, entry)) = pass.map(|pass| pass.kernel) else { return Vec::new() };
    let cuda = Compiled::portable(stem).map(|c| (format!("kernels/{stem}.cu"), c.source));
    let shader = wgsl(stem).map(|source| (format!("shaders/{stem}.wgsl"), source));
    [cuda, shader].into_iter().flatten().filter_map(|(file, source)| first(source, entry).map(|line| format!("{file}:{line}"))).collect()
}

/// The line of the first entry whose name begins like this.
fn first(text: &str, start: &str) -> Option<usize> {
    heads(text)
        .find(|(_, code)| {
            code.match_indices(start).any(|(at, _)| {
                let (before, behind) = (code[..at].trim_end(), code[at..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
                behind.starts_with('(') && (before.is_empty() || before.ends_with(')') || before.ends_with("fn") || before.ends_with("void"))
            })
        })
        .map(|(number, _)| number)
}

/// The lines, from 1, on which an entry may be named: `fn …` of WGSL, and from `__global__` on to the end of that head.
fn heads(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut open = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let code = line.split("//").next().unwrap_or("");
        let head = open || code.contains("__global__");
        open = head && !code.contains([';', '{', '}']);
        (head || code.contains("fn ")).then_some((number + 1, code))
    })
}

/// The file and line of an operation's dispatch; the CPU's code is below it.
pub(super) fn on_cpu(place: &Location) -> String {
    format!("{}:{}", place.file().replace('\\', "/"), place.line())
}

pub(super) fn wgsl(stem: &str) -> Option<&'static str> {
    Shader::find(stem).map(|s| s.source)
}

/// The line, from 1, on which an entry's definition names it: `fn forward(`, or `forward_bf16(` after `__global__` on the same line or
/// one of those below.
fn line(text: &str, entry: &str) -> Option<usize> {
    let call = format!("{entry}(");
    let named = |code: &str| code.match_indices(&call).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
    heads(text).find(|(_, code)| named(code)).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever can be launched is found.
    #[test]
    fn every_entry_has_a_line() {
        for compiled in crate::device::ptx::COMPILED {
            let hopper = Compiled::portable(compiled.stem).is_none_or(|c| c.file != compiled.file);
            for signature in crate::device::ptx::module(compiled).signatures() {
                let place = of_entry(Language::Ptx, hopper, compiled.stem, &signature.name);
                let (_, number) = place.rsplit_once(':').unwrap_or_else(|| panic!("{place}: {} is not found", signature.name));
                let line = compiled.source.lines().nth(number.parse::<usize>().unwrap() - 1).unwrap();
                assert!(line.contains(&format!("{}(", signature.name)), "{place}: {line}");
            }
        }
        for shader in crate::device::shader::SHADERS {
            for entry in shader.entries {
                let place = of_entry(Language::Wgsl, false, shader.stem, entry.name);
                assert!(place.contains(':'), "{place}: {} is not found", entry.name);
            }
        }
    }

    #[test]
    fn every_pass_of_an_operation_has_kernels() {
        for (op, pass) in OPS.iter().flat_map(|op| op.passes.iter().map(|pass| (op.name, pass.name))) {
            let found = twins(op, pass);
            assert_eq!(found.len(), 2, "{op} {pass}: {found:?}");
        }
    }

    #[test]
    fn a_call_or_a_comment_is_no_definition() {
        let text = "// forward( is below\nx = forward(1);\nextern \"C\" __global__ void __launch_bounds__(64)\n    forward(float* x) {}\n";
        assert_eq!(line(text, "forward"), Some(4));
        assert_eq!(line("extern \"C\" __global__ void forward_bf16(int x) {", "forward"), None);
        assert_eq!(line("fn a() {\n forward();\n}\nfn forward() {", "forward"), Some(4));
    }
}
