//! The house stands in layers: nothing imports from a layer above its own, and nothing imports in a circle: within a folder of `src/`, and
//! among the files of each package in `crates/`.
//!
//! Read from the text: every `use` and every path that begins with `crate`, `super`, `self` or `trimodal`. A name that a module hands on
//! (`pub use`) belongs to where it is defined. Unit tests may look upward: what is above judges what is below.

mod imports;

use imports::{Edge, Tree, circles, file_circles};
use std::path::Path;

/// From the ground up. What stands on one line may import each other, but not in a circle.
const LAYERS: &[&[&str]] = &[
    &["dtype", "error", "files", "roofline", "observe", "contract", "markup", "numbers"],
    &["device"],
    &["tensor"],
    &["ops"],
    &["trace", "model"],
    &["train"],
    &["check", "bench", "golden", "interpret", "describe"],
    &["learn", "report", "vendor", "web", "experiment"],
    &["commands", "main"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Every import that goes upward, and every module without a layer.
fn upward(edges: &[Edge]) -> Vec<String> {
    let mut wrong = Vec::new();
    for edge in edges {
        let [Some(from), Some(to)] = [&edge.from, &edge.to].map(|module| module.first()) else { continue };
        match (layer(from), layer(to)) {
            (None, _) => wrong.push(format!("{}: `{from}` has no layer: add it to LAYERS", edge.place)),
            (_, None) => wrong.push(format!("{}: `{to}` has no layer: add it to LAYERS", edge.place)),
            (Some(below), Some(above)) if below < above => {
                wrong.push(format!("{}: `{from}` imports `{to}`, which is in a layer above it: {}", edge.place, edge.path))
            }
            _ => {}
        }
    }
    wrong
}

#[test]
fn nothing_imports_upward() {
    let edges = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "trimodal").edges();
    assert!(edges.len() > 500, "only {} imports were found: has the way they are written changed?", edges.len());
    let wrong = upward(&edges);
    assert!(wrong.is_empty(), "{} imports go upward:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_folder_has_a_circle() {
    let mut wrong = circles(&Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "trimodal").edges());
    for package in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")).expect("crates/ can be listed") {
        let folder = package.expect("an entry").path();
        let name = folder.file_name().expect("a name").to_string_lossy().replace('-', "_");
        wrong.extend(file_circles(&name, &Tree::read(&folder.join("src"), &name).edges()));
    }
    assert!(wrong.is_empty(), "{} circles:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The test itself: an import that goes upward is seen however it is written, and so is a circle.
#[test]
fn seeded_imports_are_seen() {
    let tree = |files: &[(&str, &str)]| Tree::of(files.iter().map(|(path, text)| (path.to_string(), text.to_string())), "trimodal");
    for text in [
        "use crate::train::Trainer;",
        "use crate::{\n    device::Device,\n    train::{self, Trainer},\n};",
        "fn f() { crate::train::step() }",
        "use super::super::train;",
    ] {
        let tree = tree(&[("lib.rs", "mod ops; mod train;"), ("ops/mod.rs", "mod a;"), ("ops/a.rs", text), ("train/mod.rs", "")]);
        let wrong = upward(&tree.edges());
        let seen = |line: &String| line.starts_with("ops/a.rs:") && line.contains("`ops` imports `train`");
        assert!(!wrong.is_empty() && wrong.iter().all(seen), "{text}: {wrong:?}");
    }
    for text in [
        "// use crate::train;",
        "const X: &str = \"crate::train\";",
        "#[cfg(test)]\nmod tests {\n    use crate::train::Trainer;\n}",
        "use crate::tensor::Tensor;",
    ] {
        let tree = tree(&[("lib.rs", ""), ("ops/a.rs", text), ("ops/mod.rs", ""), ("train/mod.rs", ""), ("tensor.rs", "")]);
        assert_eq!(upward(&tree.edges()), Vec::<String>::new(), "{text}");
    }
    // Among files, a child and its parent may be one too.
    let edges = tree(&[("lib.rs", ""), ("a/mod.rs", "use b::B;\npub use b::C;\npub struct A;"), ("a/b.rs", "use super::A;")]).edges();
    assert_eq!([circles(&edges).len(), file_circles("a", &edges).len()], [0, 1]);
    let edges = tree(&[("lib.rs", ""), ("a/mod.rs", "mod b;\npub use b::C;\npub struct A;"), ("a/b.rs", "use super::A;")]).edges();
    assert_eq!(file_circles("a", &edges), Vec::<String>::new());
    // `b` hands on what `c` defines.
    let tree = tree(&[
        ("lib.rs", ""),
        ("ops/mod.rs", "pub use c::C;"),
        ("ops/a.rs", "use super::C;\nuse super::b::B;"),
        ("ops/b.rs", "pub struct B;"),
        ("ops/c.rs", "use super::a;\npub struct C;"),
    ]);
    let found = circles(&tree.edges());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("ops/a.rs:1: super::C") && found[0].contains("ops/c.rs:1: super::a") && !found[0].contains("ops/b.rs"), "{}", found[0]);
}
