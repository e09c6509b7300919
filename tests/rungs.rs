//! Where a kernel file holds a ladder, its header lists the rungs, and the file has them in that order, the naive one first:
//!
//! ```text
//! // The ladder, in the order of this file:
//! //   rung 1: naive  one thread per element of C.
//! //   rung 2: tile   …
//! …
//! // ── rung 1: naive: one thread per element of C ──────
//! ```
//!
//! An entry stands with the rung that it is named after. CUDA and WGSL give a rung the same name and the same number.

use std::fs;
use std::path::PathBuf;

/// What a file says of its rungs, with lines from 1.
#[derive(Default)]
struct Ladder {
    /// The table of contents: number, name and what it is.
    listed: Vec<(u32, String, String)>,
    /// The banners: line, number and name. Whatever other banner ends a rung has no name.
    banners: Vec<(usize, u32, String)>,
    /// The entries: line and name.
    entries: Vec<(usize, String)>,
    /// The first entry that the header documents.
    first: String,
}

impl Ladder {
    fn read(text: &str) -> Ladder {
        let mut ladder = Ladder::default();
        for line in text.lines().map_while(|line| line.strip_prefix("//")) {
            if let Some((number, rest)) = line.strip_prefix("   rung ").and_then(|l| l.split_once(": ")) {
                let (name, what) = rest.split_once("  ").unwrap_or((rest, ""));
                ladder.listed.push((number.parse().unwrap_or(0), name.to_string(), what.trim().to_string()));
            } else if ladder.first.is_empty() && line.contains("  block ") {
                ladder.first = line.split_whitespace().next().unwrap_or_default().to_string();
            }
        }
        let mut head = false;
        for (at, line) in text.lines().enumerate() {
            if let Some(banner) = line.strip_prefix("// ── ") {
                let rung = banner.strip_prefix("rung ").and_then(|b| {
                    let (number, rest) = b.split_once(": ")?;
                    Some((number.parse().ok()?, rest.split_once(": ")?.0.to_string()))
                });
                let (number, name) = rung.unwrap_or_default();
                ladder.banners.push((at + 1, number, name));
            }
            // The name may stand on the line after `__global__` or `@compute`.
            head |= line.contains("__global__") || line.contains("@compute");
            let call = |at: usize| line[..at].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            let attribute = |name: &str| name.is_empty() || name.starts_with("__") || name == "workgroup_size";
            let name = line.match_indices('(').map(|(at, _)| call(at)).find(|name| !attribute(name));
            if let Some(name) = name.filter(|_| head) {
                ladder.entries.push((at + 1, name.to_string()));
                head = false;
            }
        }
        ladder
    }

    /// Everything that is wrong with one file.
    fn check(&self, file: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let rungs: Vec<_> = self.banners.iter().filter(|(_, number, _)| *number > 0).collect();
        for pair in self.listed.windows(2).filter(|pair| pair[0].0 >= pair[1].0) {
            wrong.push(format!("{file}: its header lists rung {} before rung {}", pair[0].0, pair[1].0));
        }
        for pair in rungs.windows(2).filter(|pair| pair[0].1 >= pair[1].1) {
            wrong.push(format!("{file}:{}: rung {} stands after rung {}", pair[1].0, pair[1].1, pair[0].1));
        }
        for (line, number, name) in &rungs {
            if !self.listed.iter().any(|(n, of, _)| n == number && of == name) {
                wrong.push(format!("{file}:{line}: the header lists no `rung {number}: {name}`"));
            }
        }
        for (number, name, what) in &self.listed {
            let same = what.starts_with("the same code");
            if !same && !rungs.iter().any(|(_, n, of)| n == number && of == name) {
                wrong.push(format!("{file}: no banner `// ── rung {number}: {name}: …`, which the header lists"));
            }
        }
        let naive = |name: &str| format!("_{name}_").contains("_naive_");
        for (line, entry) in &self.entries {
            let section = self.banners.iter().rfind(|(at, _, _)| at < line).map_or("", |(_, _, name)| name);
            let own = rungs.iter().rfind(|(_, _, name)| format!("_{entry}_").contains(&format!("_{name}_"))).map(|(_, _, name)| name.as_str());
            if own.is_none() && naive(entry) {
                wrong.push(format!("{file}:{line}: `{entry}` is of no rung: expected a banner `// ── rung 1: naive: …` above it"));
            }
            if let Some(own) = own.filter(|own| *own != section && !entry.ends_with("_finish")) {
                let found = if section.is_empty() { "no rung".into() } else { format!("the rung `{section}`") };
                wrong.push(format!("{file}:{line}: `{entry}` is of the rung `{own}`, but stands in {found}"));
            }
        }
        if self.entries.iter().any(|(_, entry)| naive(entry)) {
            for (what, first) in [("its header documents", &self.first), ("it defines", self.entries.first().map_or(&self.first, |(_, entry)| entry))] {
                if !naive(first) {
                    wrong.push(format!("{file}: the first entry that {what} is `{first}`: expected a naive one"));
                }
            }
        }
        wrong
    }
}

/// The kernel files of a folder, by their stems.
fn files(folder: &str, suffix: &str) -> Vec<(String, String, Ladder)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&root).unwrap_or_else(|e| panic!("{folder}: {e}")) {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == suffix) {
            let stem = path.file_stem().expect("a name").to_string_lossy().to_string();
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            files.push((format!("{folder}/{stem}.{suffix}"), stem, Ladder::read(&text)));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

#[test]
fn rungs_stand_in_the_order_of_the_ladder() {
    let (cuda, hopper, wgsl) = (files("kernels", "cu"), files("kernels/hopper", "cu"), files("shaders", "wgsl"));
    let mut wrong = Vec::new();
    for (file, _, ladder) in cuda.iter().chain(&hopper).chain(&wgsl) {
        assert!(!ladder.entries.is_empty(), "{file}: no entries were found");
        wrong.extend(ladder.check(file));
    }
    for (file, stem, shader) in &wgsl {
        let Some((twin, _, kernel)) = cuda.iter().find(|(_, other, _)| other == stem) else { continue };
        for (number, name, _) in &shader.listed {
            if !kernel.listed.iter().any(|(n, of, _)| n == number && of == name) {
                wrong.push(format!("{file}: rung {number} is `{name}`, and not in {twin}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let ladders = cuda.iter().chain(&hopper).chain(&wgsl).filter(|(_, _, ladder)| !ladder.listed.is_empty()).count();
    assert!(ladders >= 20, "{ladders} files with a ladder");
}

/// The test itself: what must be noticed is.
#[test]
fn seeded_disorder_is_noticed() {
    let right = "\
// twice: y = 2 · x.
//
// The ladder, in the order of this file:
//   rung 1: naive  one by one.
//   rung 2: tile   in tiles.
//   rung 3: small  the same code with smaller ones.
//
// forward_naive  block 64, grid = n: y
// forward_tile   block 64, grid = n: y

// ── rung 1: naive: one by one ──
extern \"C\" __global__ void __launch_bounds__(64) forward_naive(const float* x) {
}
// ── rung 2: tile: in tiles ──
extern \"C\" __global__ void __launch_bounds__(64)
forward_tile(const float* x) {
}
// ── Beside the ladder ──
extern \"C\" __global__ void __launch_bounds__(64) tile_finish(
    const float* x) {
}
";
    let ladder = Ladder::read(right);
    assert_eq!(ladder.check("twice"), Vec::<String>::new());
    assert_eq!(ladder.entries.iter().map(|(_, e)| e.as_str()).collect::<Vec<_>>(), ["forward_naive", "forward_tile", "tile_finish"]);
    for (from, to, expected) in [
        ("// ── rung 1: naive: one by one ──\n", "", "twice: no banner `// ── rung 1: naive: …`, which the header lists"),
        ("// ── rung 1: naive: one by one ──\n", "", "`forward_naive` is of no rung"),
        ("//   rung 2: tile   in tiles.\n", "", "the header lists no `rung 2: tile`"),
        ("// ── rung 1: naive: one", "// ── rung 3: naive: one", "rung 2 stands after rung 3"),
        ("//   rung 2: tile ", "//   rung 0: tile ", "its header lists rung 1 before rung 0"),
        ("64) forward_naive(", "64) forward_tile(", "`forward_tile` is of the rung `tile`, but stands in the rung `naive`"),
        (
            "// ── Beside the ladder ──\n",
            "// ── Beside the ladder ──\n__global__ void other_tile(int x) {\n}\n",
            "`other_tile` is of the rung `tile`, but stands in no rung",
        ),
        ("// forward_naive  block 64, grid = n: y\n", "", "the first entry that its header documents is `forward_tile`: expected a naive one"),
        ("// ── rung 1: naive", "__global__ void other(int x) {\n}\n// ── rung 1: naive", "the first entry that it defines is `other`"),
    ] {
        assert!(right.contains(from), "{from}");
        let wrong = Ladder::read(&right.replacen(from, to, 1)).check("twice").join("\n");
        assert!(wrong.contains(expected), "{from} → {to}: expected `{expected}`, found:\n{wrong}");
    }
}
