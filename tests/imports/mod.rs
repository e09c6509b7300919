//! Who imports whom, read from Rust's text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The path of a module: `["ops", "attention"]`; the root's is empty.
pub type Module = Vec<String>;

/// One module's use of another one's name.
#[derive(Clone, Debug)]
pub struct Edge {
    pub from: Module,
    pub to: Module,
    /// `ops/attention/mod.rs:12`.
    pub place: String,
    /// As it is written.
    pub path: String,
    /// Whether it only hands the name on: `pub use`.
    pub handed_on: bool,
}

/// The modules of a crate.
pub struct Tree {
    modules: BTreeMap<Module, File>,
    /// The crate's name, as its binary calls it.
    name: String,
}

struct File {
    path: String,
    /// Paths with their lines, as they are written; those of `pub use` hand names on.
    paths: Vec<(usize, Vec<String>, bool)>,
}

impl Tree {
    /// All of a folder.
    pub fn read(root: &Path, name: &str) -> Tree {
        let (mut folders, mut files) = (vec![root.to_path_buf()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let inside = path.strip_prefix(root).expect("it was found there").to_string_lossy().replace('\\', "/");
                    files.push((inside, fs::read_to_string(&path).expect("readable")));
                }
            }
        }
        Tree::of(files, name)
    }

    /// Files by their paths in the folder.
    pub fn of(files: impl IntoIterator<Item = (String, String)>, name: &str) -> Tree {
        let module = |path: &str| -> Module {
            let mut parts: Module = path.trim_end_matches(".rs").split('/').map(str::to_string).collect();
            if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
                parts.pop();
            }
            parts
        };
        let modules = files.into_iter().map(|(path, text)| (module(&path), File { paths: paths(&code(&text)), path })).collect();
        Tree { modules, name: name.into() }
    }

    /// Every use of one module by another.
    pub fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (module, file) in &self.modules {
            for (line, path, handed_on) in &file.paths {
                if let Some(to) = self.absolute(module, path).map(|path| self.home(&path, 0)).filter(|to| to != module) {
                    edges.push(Edge { from: module.clone(), to, place: format!("{}:{line}", file.path), path: path.join("::"), handed_on: *handed_on });
                }
            }
        }
        edges
    }

    /// A path from the root, if it leads into this crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        match path[0].as_str() {
            "crate" => Some(path[1..].to_vec()),
            first if first == self.name => Some(path[1..].to_vec()),
            "self" => Some(module.iter().chain(&path[1..]).cloned().collect()),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let parent = module.len().checked_sub(up)?;
                Some(module[..parent].iter().chain(&path[up..]).cloned().collect())
            }
            // A child, without `self`.
            first => {
                let child: Module = module.iter().cloned().chain([first.to_string()]).collect();
                self.modules.contains_key(&child).then(|| module.iter().chain(path).cloned().collect())
            }
        }
    }

    /// The module that defines what a path names.
    fn home(&self, path: &[String], depth: usize) -> Module {
        let length = (0..=path.len()).rev().find(|&length| self.modules.contains_key(&path[..length])).unwrap_or(0);
        let (module, rest) = path.split_at(length);
        let Some(name) = rest.first().filter(|_| depth < 8) else { return module.to_vec() };
        let handed = |(_, path, public): &&(usize, Vec<String>, bool)| *public && path.last() == Some(name);
        let on = self.modules.get(module).and_then(|file| file.paths.iter().find(handed));
        match on.and_then(|(_, path, _)| self.absolute(&module.to_vec(), path)) {
            Some(next) if next != path => self.home(&next, depth + 1),
            _ => module.to_vec(),
        }
    }
}

/// The circles among the modules of each folder: a line for each import that is part of one.
pub fn circles(edges: &[Edge]) -> Vec<String> {
    // By the folder in which two modules, or the folders that they lie in, stand side by side.
    let mut folders: BTreeMap<Module, BTreeMap<(&str, &str), &Edge>> = BTreeMap::new();
    for edge in edges {
        let common = edge.from.iter().zip(&edge.to).take_while(|(a, b)| a == b).count();
        if let (Some(from), Some(to)) = (edge.from.get(common), edge.to.get(common)) {
            folders.entry(edge.from[..common].to_vec()).or_default().entry((from, to)).or_insert(edge);
        }
    }
    folders.iter().flat_map(|(folder, edges)| rings(&if folder.is_empty() { "the root".into() } else { folder.join("/") }, edges)).collect()
}

/// The circles among the files of a package, a parent and its children among them: who declares a child (`mod`), or hands on what is in
/// it (`pub use`), does not import it.
pub fn file_circles(name: &str, edges: &[Edge]) -> Vec<String> {
    let names: BTreeSet<String> = edges.iter().flat_map(|edge| [edge.from.join("::"), edge.to.join("::")]).collect();
    let own = |module: &Module| names.get(&module.join("::")).expect("collected above").as_str();
    let mut files: BTreeMap<(&str, &str), &Edge> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| !edge.handed_on) {
        files.entry((own(&edge.from), own(&edge.to))).or_insert(edge);
    }
    rings(name, &files)
}

/// The circles of a graph: a line for each import that is part of one.
fn rings(place: &str, edges: &BTreeMap<(&str, &str), &Edge>) -> Vec<String> {
    let names: BTreeSet<&str> = edges.keys().flat_map(|(from, to)| [*from, *to]).collect();
    let reached = |start: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(at) = open.pop() {
            open.extend(edges.keys().filter(|(from, to)| *from == at && seen.insert(*to)).map(|(_, to)| *to));
        }
        seen
    };
    let reaches: BTreeMap<&str, BTreeSet<&str>> = names.iter().map(|name| (*name, reached(name))).collect();
    let (mut found, mut told) = (Vec::new(), BTreeSet::new());
    for name in names.iter().copied().filter(|name| reaches[name].contains(name)) {
        let members: BTreeSet<&str> = reaches[name].iter().copied().filter(|other| reaches[other].contains(name)).collect();
        if told.insert(members.clone()) {
            let lines = edges.iter().filter(|((from, to), _)| members.contains(from) && members.contains(to));
            let lines: Vec<String> = lines.map(|((from, to), edge)| format!("  {from} -> {to}: {}: {}", edge.place, edge.path)).collect();
            found.push(format!("in {place}: {}\n{}", members.into_iter().collect::<Vec<_>>().join(", "), lines.join("\n")));
        }
    }
    found
}

/// The text without comments, strings and unit tests; lines stay where they are.
fn code(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests") {
        Some(at) => &text[..at],
        None => text,
    };
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let blank = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |at| at + 5)
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| match c {
                '\\' if !escaped => {
                    escaped = true;
                    false
                }
                '"' if !escaped => true,
                _ => {
                    escaped = false;
                    false
                }
            });
            end.map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") || rest.starts_with("'/'") {
            3
        } else {
            0
        };
        if blank > 0 {
            code.extend(rest[..blank].chars().filter(|c| *c == '\n'));
            code.push(' ');
            rest = &rest[blank..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

/// Every path, with its line and whether `pub use` hands it on.
fn paths(code: &str) -> Vec<(usize, Vec<String>, bool)> {
    let mut tokens: Vec<(usize, &str)> = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if word > 0 {
            word
        } else if rest.starts_with("::") {
            2
        } else {
            c.len_utf8()
        };
        line += (c == '\n') as usize;
        if !c.is_whitespace() {
            tokens.push((line, &rest[..length]));
        }
        rest = &rest[length..];
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (_, token) = tokens[at];
        if token == "use" {
            let public = at > 0 && matches!(tokens[at - 1].1, "pub" | ")");
            at = tree(&tokens, at + 1, &[], public, &mut found);
        } else if matches!(token, "crate" | "super" | "self" | "trimodal")
            && tokens.get(at + 1).is_some_and(|t| t.1 == "::")
            && (at == 0 || tokens[at - 1].1 != "::")
        {
            let (start, mut path) = (tokens[at].0, vec![token.to_string()]);
            while tokens.get(at + 1).is_some_and(|t| t.1 == "::")
                && tokens.get(at + 2).is_some_and(|t| t.1.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            {
                path.push(tokens[at + 2].1.to_string());
                at += 2;
            }
            found.push((start, path, false));
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// The paths of a `use` tree that begins at `at`; where it ends.
fn tree(tokens: &[(usize, &str)], mut at: usize, before: &[String], public: bool, found: &mut Vec<(usize, Vec<String>, bool)>) -> usize {
    let mut path = before.to_vec();
    let start = tokens.get(at).map_or(0, |t| t.0);
    while let Some(&(_, token)) = tokens.get(at) {
        match token {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.1 != "}") {
                    at = tree(tokens, at, &path, public, found);
                    at += tokens.get(at).is_some_and(|t| t.1 == ",") as usize;
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => at += 2,
            "*" => at += 1,
            "self" if !path.is_empty() => at += 1,
            word => {
                path.push(word.to_string());
                at += 1;
            }
        }
    }
    if !path.is_empty() {
        found.push((start, path, public));
    }
    at
}
