//! Every kernel file stands alone, so what several of them need is copied. The copies are marked, and here they are held equal:
//!
//! ```text
//! // ┌ the same in conv1d.cu, patch_embed.cu: tiles of a product
//! …
//! // └ the same up to here: tiles of a product
//! ```
//!
//! Files are named as they lie below `kernels/` (CUDA) and `shaders/` (WGSL). A name stands for one block, which stands once in each
//! of the files that its mark lists, to the byte, and nowhere else. What is copied and not marked is found too: no two files of a
//! language have [`RUN`] lines in a row in common outside of the marks.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

/// So many lines in a row that two files have in common, not counting blank ones and comments, are a copy. Fewer are how a kernel of this
/// crate begins or ends: a `Dims`, the head of an entry, a tile's first row and column.
const RUN: usize = 12;

const OPEN: &str = "// ┌ the same in ";
const CLOSE: &str = "// └ the same up to here: ";

/// A file's name, as marks say it, and its text.
type Source = (String, String);

/// A marked block, from its first mark to its last.
struct Block {
    file: usize,
    name: String,
    /// The files that the mark lists.
    listed: Vec<String>,
    /// Its first line, from 1.
    first: usize,
    lines: Vec<String>,
}

impl Block {
    fn place(&self, files: &[Source]) -> String {
        format!("{}, lines {} to {}", files[self.file].0, self.first, self.first + self.lines.len() - 1)
    }
}

/// A file's blocks, and its code outside of them: lines with their numbers, blank ones and comments left out; `None` where a block is.
fn read(file: usize, (name, text): &Source, wrong: &mut Vec<String>) -> (Vec<Block>, Vec<Option<(usize, String)>>) {
    let (mut blocks, mut rest) = (Vec::new(), Vec::new());
    let mut open: Option<Block> = None;
    // Not `lines()`: a `\r` at the end of a line is a byte that differs.
    for (at, line) in text.split('\n').enumerate() {
        let number = at + 1;
        let mark = line.trim_start();
        if let Some(block) = &mut open {
            block.lines.push(line.to_string());
        }
        if let Some((files, block)) = mark.strip_prefix(OPEN).and_then(|m| m.split_once(": ")) {
            match &open {
                Some(outer) => wrong.push(format!("{name}:{number}: `{block}` begins inside of `{}`, which begins in line {}", outer.name, outer.first)),
                None => {
                    let listed = files.split(", ").map(str::to_string).collect();
                    open = Some(Block { file, name: block.to_string(), listed, first: number, lines: vec![line.to_string()] });
                    rest.push(None);
                }
            }
        } else if let Some(block) = mark.strip_prefix(CLOSE) {
            match open.take() {
                Some(opened) if opened.name == block => blocks.push(opened),
                Some(opened) => wrong.push(format!("{name}:{number}: `{block}` ends here, but `{}` began in line {}", opened.name, opened.first)),
                None => wrong.push(format!("{name}:{number}: `{block}` ends here, and has not begun")),
            }
        } else if line.contains(['┌', '└']) {
            wrong.push(format!("{name}:{number}: expected `{OPEN}files: name` or `{CLOSE}name`, found `{mark}`"));
        } else if open.is_none() && !mark.is_empty() && !mark.starts_with("//") {
            rest.push(Some((number, line.trim().to_string())));
        }
    }
    if let Some(block) = open {
        wrong.push(format!("{name}:{}: `{}` begins here, and does not end", block.first, block.name));
    }
    (blocks, rest)
}

/// What is wrong with the copies of one block.
fn compare(files: &[Source], copies: &[Block], wrong: &mut Vec<String>) {
    let first = &copies[0];
    let name = &first.name;
    for pair in copies.windows(2).filter(|pair| pair[0].file == pair[1].file) {
        wrong.push(format!("`{name}` is there twice: {}, and from line {}", pair[0].place(files), pair[1].first));
    }
    if first.listed.len() < 2 {
        wrong.push(format!("{}:{}: `{name}` is in one file only: what would it be the same as?", files[first.file].0, first.first));
    }
    for copy in copies {
        let file = &files[copy.file].0;
        for listed in copy.listed.iter().filter(|listed| !copies.iter().any(|c| files[c.file].0 == **listed)) {
            wrong.push(format!("{file}:{}: `{name}` should be in {listed} too, and is not", copy.first));
        }
        for other in copies.iter().map(|c| &files[c.file].0).filter(|other| !copy.listed.contains(other)) {
            wrong.push(format!("{file}:{}: `{name}` is in {other} too, which this mark does not list", copy.first));
        }
    }
    for copy in &copies[1..] {
        let length = first.lines.len().max(copy.lines.len());
        let Some(at) = (0..length).find(|&i| first.lines.get(i) != copy.lines.get(i)) else { continue };
        let show = |block: &Block| block.lines.get(at).map_or("(it ends before)".to_string(), |line| format!("{}: {line:?}", block.first + at));
        wrong.push(format!(
            "`{name}` is not the same in {} and {}. The first line that differs:\n    {}\n    {}",
            first.place(files),
            copy.place(files),
            show(first),
            show(copy)
        ));
    }
}

/// The runs of lines that two files have in common outside of their marks.
fn runs(files: &[Source], codes: &[Vec<Option<(usize, u32)>>], a: usize, b: usize, wrong: &mut Vec<String>) {
    let (left, right) = (&codes[a], &codes[b]);
    // before[j + 1]: how many lines up to left[i − 1] are those up to right[j].
    let mut before = vec![0usize; right.len() + 1];
    for i in 0..=left.len() {
        let mut now = vec![0usize; right.len() + 1];
        if let Some(Some((_, line))) = left.get(i) {
            for (j, other) in right.iter().enumerate() {
                if matches!(other, Some((_, other)) if other == line) {
                    now[j + 1] = before[j] + 1;
                }
            }
        }
        // A run that ended with left[i − 1].
        for j in (1..=right.len()).filter(|&j| before[j] >= RUN && now.get(j + 1).is_none_or(|&n| n == 0)) {
            let line = |code: &[Option<(usize, u32)>], at: usize| code[at].map_or(0, |(number, _)| number);
            let (from, to) = ((line(left, i - before[j]), line(left, i - 1)), (line(right, j - before[j]), line(right, j - 1)));
            let text = |file: usize, number: usize| files[file].1.lines().nth(number - 1).unwrap_or_default().trim().to_string();
            let next = |file: usize, code: &[Option<(usize, u32)>], at: usize| match code.get(at) {
                Some(Some((number, _))) => format!("{number}: {:?}", text(file, *number)),
                Some(None) => "a mark".into(),
                None => "the end of the file".into(),
            };
            wrong.push(format!(
                "{}, lines {} to {}, and {}, lines {} to {}, are the same ({} lines of code, from {:?} on) and not marked: put `{OPEN}files: name` above and `{CLOSE}name` below both. The first line that differs:\n    {}\n    {}",
                files[a].0,
                from.0,
                from.1,
                files[b].0,
                to.0,
                to.1,
                before[j],
                text(a, from.0),
                next(a, left, i),
                next(b, right, j),
            ));
        }
        before = now;
    }
}

/// Everything that is wrong with the files of one language.
fn check(files: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut blocks: BTreeMap<String, Vec<Block>> = BTreeMap::new();
    let mut codes = Vec::new();
    let mut numbers: HashMap<String, u32> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        let (of_file, rest) = read(index, file, &mut wrong);
        of_file.into_iter().for_each(|block| blocks.entry(block.name.clone()).or_default().push(block));
        // Lines as numbers: they are compared often.
        let mut number = |line: String| {
            let next = numbers.len() as u32;
            *numbers.entry(line).or_insert(next)
        };
        codes.push(rest.into_iter().map(|line| line.map(|(at, line)| (at, number(line)))).collect::<Vec<_>>());
    }
    blocks.values().for_each(|copies| compare(files, copies, &mut wrong));
    for a in 0..files.len() {
        for b in a + 1..files.len() {
            runs(files, &codes, a, b, &mut wrong);
        }
    }
    wrong
}

/// The files of a folder and of a folder in it, by their names below the first.
fn sources(folder: &str, inner: &[&str], suffixes: &[&str]) -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    for inner in inner {
        for entry in fs::read_dir(root.join(inner)).unwrap_or_else(|e| panic!("{folder}/{inner}: {e}")) {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| suffixes.iter().any(|suffix| e == *suffix)) {
                let name = path.strip_prefix(&root).expect("below it").to_string_lossy().replace('\\', "/");
                files.push((name, fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "no files in {folder}");
    files
}

#[test]
fn what_cuda_files_have_in_common_is_marked_and_the_same() {
    let wrong = check(&sources("kernels", &["", "hopper"], &["cu", "cuh"]));
    assert!(wrong.is_empty(), "kernels/:\n{}", wrong.join("\n"));
}

#[test]
fn what_shaders_have_in_common_is_marked_and_the_same() {
    let wrong = check(&sources("shaders", &[""], &["wgsl"]));
    assert!(wrong.is_empty(), "shaders/:\n{}", wrong.join("\n"));
}

/// The test itself: what must be noticed is.
#[test]
fn seeded_differences_are_noticed() {
    let text = |own: &str| {
        format!("{own}\n\n// ┌ the same in a.cu, b.cu: a sum\nint sum(int x, int y) {{\n    return x + y;\n}}\n// └ the same up to here: a sum\n\nint last;\n")
    };
    let long: String = (0..RUN).map(|i| format!("int line_{i};\n\n// why\n")).collect();
    let with = |change: &dyn Fn(&str) -> String| check(&[("a.cu".into(), text("int a;")), ("b.cu".into(), change(&text("int b;")))]).join("\n");
    assert_eq!(with(&str::to_string), "");
    for (from, to, expected) in [
        (
            "x + y",
            "y + x",
            "`a sum` is not the same in a.cu, lines 3 to 7 and b.cu, lines 3 to 7. The first line that differs:\n    5: \"    return x + y;\"\n    5: \"    return y + x;\"",
        ),
        ("x + y;", "x + y; ", "5: \"    return x + y; \""),
        ("}\n", "}\n\n", "7: \"\""),
        ("int sum", "// of two\nint sum", "4: \"// of two\""),
        ("a.cu, b.cu: a sum", "b.cu, a.cu: a sum", "3: \"// ┌ the same in b.cu, a.cu: a sum\""),
        ("a.cu, b.cu: a sum", "b.cu: a sum", "b.cu:3: `a sum` is in a.cu too, which this mark does not list"),
        ("a.cu, b.cu: a sum", "a.cu, b.cu, c.cu: a sum", "b.cu:3: `a sum` should be in c.cu too, and is not"),
        (": a sum", ": another", "a.cu:3: `a sum` should be in b.cu too, and is not"),
        ("// └ the same up to here: a sum\n", "", "b.cu:3: `a sum` begins here, and does not end"),
        ("// ┌ the same in a.cu, b.cu: a sum\n", "", "b.cu:6: `a sum` ends here, and has not begun"),
        ("here: a sum", "here: a product", "b.cu:7: `a product` ends here, but `a sum` began in line 3"),
        ("    return", "// ┌ the same in a.cu, b.cu: a part\n    return", "b.cu:5: `a part` begins inside of `a sum`, which begins in line 3"),
        ("// └ the same up to", "// └ up to", "b.cu:7: expected `// ┌ the same in files: name` or"),
    ] {
        let wrong = with(&|text| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        assert!(wrong.contains(expected), "{from} → {to}: expected `{expected}`, found:\n{wrong}");
    }
    // Alone, twice, and in a file that no mark lists.
    let one = check(&[("a.cu".into(), text("int a;").replace("a.cu, b.cu", "a.cu"))]).join("\n");
    assert!(one.contains("a.cu:3: `a sum` is in one file only"), "{one}");
    let twice = with(&|block| block.to_string() + block);
    assert!(twice.contains("`a sum` is there twice: b.cu, lines 3 to 7, and from line 12"), "{twice}");
    let third = check(&[("a.cu", "int a;"), ("b.cu", "int b;"), ("c.cu", "int c;")].map(|(name, own)| (name.to_string(), text(own)))).join("\n");
    assert!(third.contains("c.cu:3: `a sum` is in a.cu too") || third.contains("a.cu:3: `a sum` is in c.cu too, which this mark does not list"), "{third}");
    // A copy that nobody has marked, and one line fewer, which is none.
    let copied = |a: &str, b: &str| check(&[("a.cu".into(), format!("int a;\n{a}int c;\n")), ("b.cu".into(), format!("int b;\n\n{b}int d;\n"))]).join("\n");
    let found = copied(&long, &long.replace("// why\n", "").replace("int", "  int"));
    assert!(
        found.contains(&format!(
            "a.cu, lines 2 to {}, and b.cu, lines 3 to {}, are the same ({RUN} lines of code, from \"int line_0;\" on) and not marked",
            3 * RUN - 1,
            2 * RUN + 1
        )),
        "{found}"
    );
    assert!(found.contains(&format!("{}: \"int c;\"\n    {}: \"int d;\"", 3 * RUN + 2, 2 * RUN + 3)), "{found}");
    assert_eq!(copied(&long, &long.replace("int line_5;", "int another;")), "");
    // At the end of both files, and cut in two by a mark.
    let end = check(&[("a.cu".into(), format!("int a;\n{long}")), ("b.cu".into(), format!("int b;\n{long}"))]).join("\n");
    assert!(end.contains("the end of the file\n    the end of the file"), "{end}");
    let marked = long.replace("int line_5;", "// ┌ the same in a.cu, b.cu: five\nint line_5;\n// └ the same up to here: five");
    assert_eq!(copied(&marked, &marked), "");
}
