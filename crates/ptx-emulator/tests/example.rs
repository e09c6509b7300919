//! The example: what it prints of `examples/reversed.ptx` names the race and its lines, and nothing once the barrier is there.

use ptx_emulator::{Argument, Buffer, Kind, Options, Program, run};

const TEXT: &str = include_str!("../examples/reversed.ptx");

/// The findings of one block that reverses 256 words, and what came out.
fn findings(text: &str) -> (Vec<(Kind, u32, String)>, Vec<u8>) {
    let program = Program::new("reversed.ptx", text).unwrap_or_else(|e| panic!("{e}"));
    let (x, y) = (Buffer::new(1024), Buffer::new(1024));
    x.write(0, &(0..256u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let argument = |buffer, name| Argument::Buffer { buffer, bytes: 1024, name };
    let report = run(&program, "reversed", 1, &[argument(&x, "x"), argument(&y, "y")], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut out = vec![0; 1024];
    y.read(0, &mut out);
    (report.findings.iter().map(|f| (f.kind, f.line, f.to_string())).collect(), out)
}

#[test]
fn the_race_is_reported_with_both_of_its_lines() {
    let line = |of: &str| 1 + TEXT.lines().position(|l| l.contains(of)).expect("in the file") as u32;
    let (found, _) = findings(TEXT);
    let race = found.iter().find(|f| f.0 == Kind::Race && f.1 == line("ld.shared.u32 %r2")).unwrap_or_else(|| panic!("expected a race, found {found:?}"));
    assert!(race.2.contains(&format!("wrote at line {}, with no barrier between them", line("st.shared.u32"))), "{}", race.2);
}

#[test]
fn with_the_barrier_nothing_is_wrong() {
    let (found, out) = findings(&TEXT.replace("// bar.sync 0;", "bar.sync 0;"));
    assert_eq!(found, []);
    assert_eq!(out, (0..256u32).rev().flat_map(u32::to_le_bytes).collect::<Vec<_>>());
}

#[test]
fn the_readme_shows_what_the_example_prints() {
    let readme = include_str!("../README.md");
    for (_, _, words) in findings(TEXT).0 {
        assert!(readme.contains(&words), "README.md lacks `{words}`");
    }
}
