//! The example: what it prints of `examples/reversed.ptx` names the race and both of its lines, and is what the README shows.

use ptx_emulator::{Argument, Buffer, Options, Program, run};

#[allow(dead_code)]
#[path = "../examples/race.rs"]
mod race;

const TEXT: &str = include_str!("../examples/reversed.ptx");

fn printed() -> String {
    race::findings(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/reversed.ptx")).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_race_is_reported_with_both_of_its_lines() {
    let line = |of: &str| 1 + TEXT.lines().position(|l| l.contains(of)).expect("in the file");
    let (store, load) = (line("st.shared.u32"), line("ld.shared.u32 %r2"));
    let printed = printed();
    let race = printed.lines().find(|l| l.contains("race in shared memory") && l.contains(&format!("; reversed.ptx:{load}, block 0")));
    let race = race.unwrap_or_else(|| panic!("expected a race at line {load}, found {printed}"));
    assert!(race.contains(&format!("wrote at line {store}, with no barrier between them")), "{race}");
}

#[test]
fn the_readme_shows_what_it_prints() {
    let printed = printed();
    assert!(include_str!("../README.md").contains(&printed), "README.md lacks\n{printed}");
}

#[test]
fn with_the_barrier_nothing_is_wrong() {
    let program = Program::new("reversed.ptx", &TEXT.replace("// bar.sync 0;", "bar.sync 0;")).unwrap_or_else(|e| panic!("{e}"));
    let (x, y) = (Buffer::new(1024), Buffer::new(1024));
    x.write(0, &(0..256u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let argument = |buffer, name| Argument::Buffer { buffer, bytes: 1024, name };
    let report = run(&program, "reversed", 1, &[argument(&x, "x"), argument(&y, "y")], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut out = vec![0; 1024];
    y.read(0, &mut out);
    assert_eq!(report.findings, []);
    assert_eq!(out, (0..256u32).rev().flat_map(u32::to_le_bytes).collect::<Vec<_>>());
}
