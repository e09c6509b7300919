//! Runs the first entry of a PTX file, one block of it, and says what is wrong with it.
//!
//!     cargo run --release -p ptx-emulator --example race -- crates/ptx-emulator/examples/reversed.ptx

use ptx_emulator::parse::ParamKind::{Bytes, Pointer};
use ptx_emulator::{Argument, Buffer, Options, Program, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", findings(&std::env::args().nth(1).ok_or("expected the path of a PTX file")?)?);
    Ok(())
}

/// What is wrong, a line each. Every pointer gets 64 KiB of zeros of its own, every number is zero.
pub fn findings(file: &str) -> Result<String, Box<dyn std::error::Error>> {
    let program = Program::new(file, &std::fs::read_to_string(file)?)?;
    let entry = program.module().entries.first().ok_or("expected an entry in the file")?;
    let buffers: Vec<Buffer> = entry.params.iter().map(|_| Buffer::new(1 << 16)).collect();
    let arguments = entry.params.iter().zip(&buffers).map(|(param, buffer)| match param.kind {
        Pointer => Argument::Buffer { buffer, bytes: 1 << 16, name: &param.name },
        Bytes => Argument::Bytes(&[0; 1 << 15][..param.size]),
    });
    let report = run(&program, &entry.name, 1, &arguments.collect::<Vec<_>>(), &Options::default())?;
    let lines: String = report.findings.iter().map(|finding| format!("{finding}\n")).collect();
    Ok(format!("{lines}{} findings in {}\n", report.findings.len() as u64 + report.more, entry.name))
}
