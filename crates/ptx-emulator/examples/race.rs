//! Runs the entry of a PTX file that takes two buffers of 1,024 bytes, in one block, and says what is wrong with it.
//!
//!     cargo run --release -p ptx-emulator --example race -- crates/ptx-emulator/examples/reversed.ptx

use ptx_emulator::{Argument, Buffer, Options, Program, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("expected the path of a PTX file")?;
    let program = Program::new(&file, &std::fs::read_to_string(&file)?)?;
    let entry = program.module().entries.first().ok_or("expected an entry in the file")?.name.clone();
    let (x, y) = (Buffer::new(1024), Buffer::new(1024));
    let arguments = [Argument::Buffer { buffer: &x, bytes: 1024, name: "x" }, Argument::Buffer { buffer: &y, bytes: 1024, name: "y" }];
    let report = run(&program, &entry, 1, &arguments, &Options::default())?;
    report.findings.iter().for_each(|finding| println!("{finding}"));
    println!("{} findings", report.findings.len() as u64 + report.more);
    Ok(())
}
