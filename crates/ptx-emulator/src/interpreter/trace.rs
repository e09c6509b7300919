//! The instructions of one thread, with the values that went in and came out.

use super::kernel::Kernel;
use super::lanes::Registers;
use super::ops::File;
use crate::parse::{Entry, Module, Operand, line_of};
use std::fmt;

/// A trace stops here: nobody reads a longer one.
const MAX: usize = 1 << 20;

/// One instruction that the thread ran.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceLine {
    /// `kernels/x.cu:61`, if the PTX has line information.
    pub source: Option<String>,
    /// The line of the PTX, and its text.
    pub line: u32,
    /// The instruction.
    pub text: String,
    /// The registers that it names: name, bits before, bits after.
    pub values: Vec<(String, u64, u64)>,
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:5}  {}", self.line, self.text)?;
        for (i, (name, before, after)) in self.values.iter().enumerate() {
            write!(f, "{}{name} = ", if i == 0 { "    // " } else { ", " })?;
            let float = name.starts_with("%f") && !name.starts_with("%fd");
            for (i, bits) in [before, after].iter().enumerate() {
                match (i, before == after) {
                    (0, false) => continue,
                    (1, true) => continue,
                    _ => {}
                }
                match (float, name.starts_with("%rd")) {
                    (true, _) => write!(f, "{:?}", f32::from_bits(**bits as u32))?,
                    (_, true) => write!(f, "{bits:#x}")?,
                    _ => write!(f, "{bits}")?,
                }
            }
        }
        if let Some(source) = &self.source {
            write!(f, "    {source}")?;
        }
        Ok(())
    }
}

/// The registers of an instruction: the register, before, after.
type Values = Vec<(u32, u64, u64)>;

/// Records while the machine runs.
#[derive(Default)]
pub struct Tracer {
    /// By instruction.
    pub lines: Vec<(u32, Values)>,
    /// The last line waits for its results.
    open: bool,
}

impl Tracer {
    /// A step of the traced warp is about to run in the lanes of `mask`.
    #[inline(never)]
    pub fn step(&mut self, kernel: &Kernel, names: &[Vec<u32>], registers: &Registers, pc: u32, mask: u32, lane: usize) {
        self.close(kernel, registers, lane);
        let instruction = kernel.source[pc as usize];
        // An instruction of several steps is shown once.
        if mask >> lane & 1 == 0 || self.lines.len() >= MAX || (pc > 0 && kernel.source[pc as usize - 1] == instruction) {
            return;
        }
        let value = |&r: &u32| (r, registers.lane(kernel.registers[r as usize], lane), 0);
        self.lines.push((instruction, names[instruction as usize].iter().map(value).collect()));
        self.open = true;
    }

    /// Puts the results into the last line.
    fn close(&mut self, kernel: &Kernel, registers: &Registers, lane: usize) {
        if let (true, Some((_, values))) = (std::mem::take(&mut self.open), self.lines.last_mut()) {
            for (r, _, after) in values {
                *after = registers.lane(kernel.registers[*r as usize], lane);
            }
        }
    }

    /// What was recorded, in words.
    pub fn lines(self, module: &Module, entry: &Entry, kernel: &Kernel) -> Vec<TraceLine> {
        let text: Vec<&str> = module.text.lines().collect();
        let line = |(instruction, values): (u32, Values)| {
            let at = &entry.instructions[instruction as usize];
            let source = at.loc.map(|l| entry.locs[l as usize].at).map(|(file, line, _)| format!("{}:{line}", module.files.get(&file).map_or("?", |f| f)));
            let written = |r: u32| kernel.registers[r as usize].0 != File::Bit || entry.registers[r as usize].bits == 1;
            let values = values.into_iter().filter(|v| written(v.0)).map(|(r, a, b)| (entry.registers[r as usize].name.clone(), a, b)).collect();
            let text = text.get(at.line as usize - 1).map_or("", |t| t.trim());
            TraceLine { source, line: at.line, text: line_of(text, 1).into(), values }
        };
        self.lines.into_iter().map(line).collect()
    }
}

/// The registers that every instruction names.
pub fn names(entry: &Entry) -> Vec<Vec<u32>> {
    fn collect(operand: &Operand, into: &mut Vec<u32>) {
        match operand {
            Operand::Register(r) | Operand::Not(r) => into.push(*r),
            Operand::Address(base, _) => collect(base, into),
            Operand::Tensor(base, parts) => [&**base].into_iter().chain(parts).for_each(|p| collect(p, into)),
            Operand::Second(r) => into.push(*r),
            Operand::Vector(parts) => parts.iter().for_each(|p| collect(p, into)),
            Operand::Pair(a, b) => into.extend([Some(*a), *b].into_iter().flatten()),
            _ => {}
        }
    }
    let of = |i: &crate::parse::Instruction| {
        let mut list = Vec::new();
        i.operands.iter().for_each(|o| collect(o, &mut list));
        list.extend(i.guard.map(|g| g.1));
        list
    };
    entry.instructions.iter().map(of).collect()
}
