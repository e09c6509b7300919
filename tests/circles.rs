//! No two files of a package under `crates/` import each other, directly or through others.
//!
//! A file imports another where one of its paths leads there: in `use`, or written out (`crate::a::b`, `super::x`, a child's or
//! an imported module's name). A path leads to the file of the last module that it names: `super::X` to the parent, even if
//! the parent has `X` from elsewhere. `mod x;` alone is no import, and code under `#[cfg(test)]` may look where it likes.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

struct Token {
    text: String,
    line: usize,
}

/// Identifiers and punctuation (`::` is one); comments, strings, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 128;
    let (mut list, mut i, mut line) = (Vec::new(), 0, 1);
    while i < bytes.len() {
        let start = i;
        match bytes[i] {
            b'/' if at(i + 1) == b'/' => i += text[i..].find('\n').unwrap_or(bytes.len() - i),
            b'/' if at(i + 1) == b'*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        (b'/', b'*') => (depth, i) = (depth + 1, i + 2),
                        (b'*', b'/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= bytes.len() {
                        break;
                    }
                }
            }
            b'"' => i = end_of_string(bytes, i),
            b'\'' => {
                let length = text[i + 1..].chars().next().map_or(1, char::len_utf8);
                i = if at(i + 1) == b'\\' {
                    i + 3 + text[i + 3..].find('\'').map_or(0, |n| n + 1)
                } else if at(i + 1 + length) == b'\'' {
                    i + 2 + length
                } else {
                    i + 1 + bytes[i + 1..].iter().take_while(|b| is_word(**b)).count()
                };
            }
            b if is_word(b) => {
                i += bytes[i..].iter().take_while(|b| is_word(**b)).count();
                let hashes = bytes[i..].iter().take_while(|b| **b == b'#').count();
                let word = &text[start..i];
                if matches!(word, "r" | "br" | "cr") && at(i + hashes) == b'"' {
                    let end = format!("\"{}", "#".repeat(hashes));
                    i += hashes + 1;
                    i += text[i..].find(&end).map_or(bytes.len() - i, |n| n + end.len());
                } else if !(matches!(word, "b" | "c") && matches!(at(i), b'"' | b'\'')) {
                    list.push(Token { text: word.into(), line });
                }
            }
            b => {
                i += if b == b':' && at(i + 1) == b':' { 2 } else { 1 };
                if !b.is_ascii_whitespace() {
                    list.push(Token { text: text[start..i].into(), line });
                }
            }
        }
        line += bytes[start..i.min(bytes.len())].iter().filter(|b| **b == b'\n').count();
    }
    list
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut i = start + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// A module; those that are written inside of a file have the file of their parent.
struct Module {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// Modules that `use` gave another name, or the same one here.
    imported: BTreeMap<String, usize>,
}

/// One path somewhere in a module. `name` is what `use` calls its end.
struct Found {
    module: usize,
    path: Vec<String>,
    name: Option<String>,
    line: usize,
}

#[derive(Default)]
struct Package {
    files: Vec<PathBuf>,
    modules: Vec<Module>,
    found: Vec<Found>,
}

impl Package {
    fn module(&mut self, file: usize, parent: Option<usize>, name: &str) -> usize {
        let module = self.modules.len();
        self.modules.push(Module { file, parent, children: BTreeMap::new(), imported: BTreeMap::new() });
        if let Some(parent) = parent {
            self.modules[parent].children.insert(name.into(), module);
        }
        module
    }

    /// Reads a file and the files of the modules that it declares.
    fn read(&mut self, file: PathBuf, parent: Option<usize>, name: &str) {
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let stem = file.file_stem().expect("a file").to_string_lossy().into_owned();
        let folder = file.parent().expect("in a folder");
        let folder = if ["lib", "main", "mod"].contains(&stem.as_str()) { folder.to_path_buf() } else { folder.join(stem) };
        self.files.push(file);
        let own = self.module(self.files.len() - 1, parent, name);
        let t = tokens(&text);
        let is = |i: usize, text: &str| t.get(i).is_some_and(|t| t.text == text);
        let is_name = |i: usize| t.get(i).is_some_and(|t| t.text.starts_with(|c: char| c.is_alphabetic() || c == '_'));
        // Modules that are open here, and the depth of braces inside of which they are.
        let mut scopes = vec![(own, 0)];
        let (mut i, mut depth) = (0, 0);
        while i < t.len() {
            let (module, inside) = scopes[scopes.len() - 1];
            if is(i, "#") && is(i + 1, "[") && is(i + 2, "cfg") {
                let end = close(&t, i + 1);
                let words: Vec<&str> = t[i..end].iter().map(|t| t.text.as_str()).collect();
                i = if words.contains(&"test") && !words.contains(&"not") { item_end(&t, end) } else { end };
            } else if is(i, "{") || is(i, "}") {
                depth = if is(i, "{") { depth + 1 } else { depth - 1 };
                if depth < inside {
                    scopes.pop();
                }
                i += 1;
            } else if is(i, "mod") && is(i + 2, ";") {
                let child = &t[i + 1].text;
                let inner: PathBuf = folder.clone();
                let places = [inner.join(format!("{child}.rs")), inner.join(child).join("mod.rs")];
                let place = places.into_iter().find(|p| p.exists()).unwrap_or_else(|| panic!("no file of module {child} under {}", folder.display()));
                self.read(place, Some(module), child);
                i += 3;
            } else if is(i, "mod") && is(i + 2, "{") {
                depth += 1;
                let inner = self.module(self.modules[module].file, Some(module), &t[i + 1].text);
                scopes.push((inner, depth));
                i += 3;
            } else if is(i, "use") {
                i = self.tree(&t, i + 1, module, &[]) + 1;
            } else if is_name(i) && is(i + 1, "::") {
                let line = t[i].line;
                let outside = i > 0 && (is(i - 1, "::") || is(i - 1, "."));
                let mut path = vec![t[i].text.clone()];
                i += 1;
                while is(i, "::") && is_name(i + 1) {
                    path.push(t[i + 1].text.clone());
                    i += 2;
                }
                if !outside {
                    self.found.push(Found { module, path, name: None, line });
                }
                i += is(i, "::") as usize;
            } else {
                i += 1;
            }
        }
    }

    /// The paths of one `use`, from after the word or a brace; where they end.
    fn tree(&mut self, t: &[Token], mut i: usize, module: usize, before: &[String]) -> usize {
        let mut path = before.to_vec();
        let line = t[i].line;
        loop {
            match t[i].text.as_str() {
                "::" if path.is_empty() => return t[i..].iter().position(|t| t.text == ";").map_or(t.len(), |n| i + n),
                "::" => i += 1,
                "{" => {
                    i += 1;
                    while t[i].text != "}" {
                        i = self.tree(t, i, module, &path);
                        i += (t[i].text == ",") as usize;
                    }
                    return i + 1;
                }
                "*" => {
                    self.found.push(Found { module, path, name: None, line });
                    return i + 1;
                }
                word => {
                    path.push(word.into());
                    i += 1;
                    if t[i].text == "::" {
                        continue;
                    }
                    if path.len() > 1 && word == "self" {
                        path.pop();
                    }
                    let mut name = path.last().cloned();
                    if t[i].text == "as" {
                        name = Some(t[i + 1].text.clone());
                        i += 2;
                    }
                    self.found.push(Found { module, path, name, line });
                    return i;
                }
            }
        }
    }

    /// The module in which a path ends, and whether it is what the path names.
    fn lead(&self, module: usize, path: &[String]) -> Option<(usize, bool)> {
        let here = &self.modules[module];
        let mut at = match path[0].as_str() {
            "crate" => 0,
            "self" => module,
            "super" => here.parent?,
            name => *here.children.get(name).or_else(|| here.imported.get(name))?,
        };
        for (i, name) in path.iter().enumerate().skip(1) {
            at = match (name.as_str(), self.modules[at].children.get(name)) {
                ("super", _) => self.modules[at].parent?,
                (_, Some(&child)) => child,
                _ => return Some((at, i == path.len())),
            };
        }
        Some((at, true))
    }

    /// By file: the files that it imports, and a line that does.
    fn imports(&mut self) -> Vec<BTreeMap<usize, usize>> {
        // A name may come from a name that comes from a name.
        for _ in 0..3 {
            for i in 0..self.found.len() {
                let f = &self.found[i];
                if let (Some(name), Some((to, true))) = (f.name.clone(), self.lead(f.module, &f.path)) {
                    self.modules[f.module].imported.insert(name, to);
                }
            }
        }
        let mut edges = vec![BTreeMap::new(); self.files.len()];
        for f in &self.found {
            if let Some((to, _)) = self.lead(f.module, &f.path) {
                let (from, to) = (self.modules[f.module].file, self.modules[to].file);
                if from != to {
                    edges[from].entry(to).or_insert(f.line);
                }
            }
        }
        edges
    }
}

/// After the bracket that closes the one at `i`.
fn close(t: &[Token], mut i: usize) -> usize {
    let mut depth = 0;
    while i < t.len() {
        match t[i].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i
}

/// After the item, statement or field that starts at `i`, its further attributes included.
fn item_end(t: &[Token], mut i: usize) -> usize {
    let (mut is_use, mut is_item) = (false, false);
    while i < t.len() {
        match t[i].text.as_str() {
            ";" => return i + 1,
            // After a field or a variant, not between the parameters of a type.
            "," if !is_item => return i + 1,
            "}" => return i,
            "{" if !is_use => return close(t, i),
            "(" | "[" | "{" => i = close(t, i),
            word => {
                is_use |= word == "use";
                is_item |= matches!(word, "fn" | "impl" | "struct" | "enum" | "trait" | "type" | "union" | "const" | "static");
                i += 1;
            }
        }
    }
    i
}

/// A shortest way from `from` back to itself.
fn circle(edges: &[BTreeMap<usize, usize>], from: usize) -> Option<Vec<usize>> {
    let mut before = vec![None; edges.len()];
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for &to in edges[at].keys() {
            if to == from {
                let mut way = vec![at];
                while let Some(previous) = before[way[way.len() - 1]] {
                    way.push(previous);
                }
                way.reverse();
                return Some(way);
            }
            if before[to].is_none() {
                before[to] = Some(at);
                queue.push_back(to);
            }
        }
    }
    None
}

/// The circles of one package in words: for each file in one, the shortest, each once.
fn circles(source: &Path) -> Vec<String> {
    let mut package = Package::default();
    let root = ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().find(|p| p.exists());
    package.read(root.unwrap_or_else(|| panic!("no lib.rs in {}", source.display())), None, "");
    let edges = package.imports();
    let mut seen = Vec::new();
    let mut list = Vec::new();
    for file in 0..edges.len() {
        let Some(way) = circle(&edges, file) else { continue };
        let mut files = way.clone();
        files.sort_unstable();
        if seen.contains(&files) {
            continue;
        }
        seen.push(files);
        let name = |file: usize| package.files[file].strip_prefix(source).expect("in the package").display().to_string();
        let lines = (0..way.len()).map(|i| {
            let (from, to) = (way[i], way[(i + 1) % way.len()]);
            let line = edges[from][&to];
            let text = fs::read_to_string(&package.files[from]).expect("was read");
            format!("\n  {}:{line} imports {}: {}", package.files[from].display(), name(to), text.lines().nth(line - 1).unwrap_or("").trim())
        });
        list.push(format!("a circle of {}:{}", way.iter().map(|f| name(*f)).collect::<Vec<_>>().join(" → "), lines.collect::<String>()));
    }
    list
}

#[test]
fn no_two_files_of_a_package_import_each_other() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let mut packages: Vec<PathBuf> = fs::read_dir(&crates).expect("crates/").map(|e| e.expect("an entry").path().join("src")).filter(|p| p.exists()).collect();
    packages.sort();
    assert!(packages.len() >= 4, "expected the packages of {}, found {packages:?}", crates.display());
    let found: Vec<String> = packages.iter().flat_map(|p| circles(p)).collect();
    assert!(found.is_empty(), "{} circles: move what both sides need into a file of its own\n\n{}", found.len(), found.join("\n\n"));
}

/// A package that the test writes.
fn seeded(name: &str, files: &[(&str, &str)]) -> Vec<String> {
    let folder = std::env::temp_dir().join(format!("circles-{name}-{}", std::process::id()));
    for (file, text) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let found = circles(&folder);
    fs::remove_dir_all(folder).expect("was written");
    found
}

#[test]
fn a_seeded_circle_is_found() {
    let found = seeded(
        "three",
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n"),
            ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
            ("b.rs", "// crate::a\npub struct B;\nconst S: &str = \"crate::a::A\";\nfn f(x: &'static str) -> char { super::c::f(); '\\'' }\n"),
            ("c/mod.rs", "mod inner;\npub fn f() {}\n"),
            ("c/inner.rs", "use super::super::{a::{A as Other}, b};\n"),
        ],
    );
    assert_eq!(found, Vec::<String>::new());

    let found = seeded(
        "closed",
        &[
            ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n"),
            ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
            ("b.rs", "pub struct B;\nfn f() {\n    super::c::f();\n}\n"),
            ("c/mod.rs", "mod inner;\npub fn f() { inner::g() }\n"),
            ("c/inner.rs", "use super::super::{b, a::{A as Other}};\npub fn g() {}\n"),
        ],
    );
    assert_eq!(found.len(), 2, "{found:#?}");
    let text = found.join("\n");
    for expected in
        ["a.rs:1 imports b.rs: use crate::b::B;", "b.rs:3 imports c/mod.rs: super::c::f();", "c/mod.rs:2 imports c/inner.rs", "c/inner.rs:1 imports a.rs"]
    {
        assert!(text.contains(expected), "expected `{expected}`: {text}");
    }
}

#[test]
fn a_child_that_needs_what_its_parent_defines_is_a_circle_if_the_parent_uses_it() {
    let child = ("a/b.rs", "use super::X;\npub fn f() {}\n");
    assert!(seeded("unused", &[("lib.rs", "mod a;\n"), ("a.rs", "mod b;\npub struct X;\n"), child]).is_empty());
    let found = seeded("used", &[("lib.rs", "mod a;\n"), ("a.rs", "mod b;\npub struct X;\npub use b::f;\n"), child]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("a.rs:3 imports a/b.rs: pub use b::f;") && found[0].contains("a/b.rs:1 imports a.rs: use super::X;"), "{found:#?}");
    // Names that were imported lead on.
    let found = seeded(
        "alias",
        &[("lib.rs", "mod a;\nmod c;\n"), ("a.rs", "use crate::c as d;\nfn f() { d::e::g() }\n"), ("c.rs", "pub mod e;\n"), ("c/e.rs", "use crate::a;\n")],
    );
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn tests_may_look_upward() {
    let text = "pub fn f() {}\n#[cfg(test)]\nuse super::{X, Y};\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests {\n    use super::super::X;\n}\n#[cfg(test)]\nmod more;\n";
    assert!(seeded("tests", &[("lib.rs", "mod a;\n"), ("a.rs", "mod b;\npub struct X;\npub use b::f;\n"), ("a/b.rs", text)]).is_empty());
}
