//! What a launch did, counted: instructions by class, traffic, bank conflicts, arithmetic.

use super::kernel::Kernel;
use super::lanes::lanes;
use super::ops::{Op, Way};
use crate::parse::Entry;
use std::fmt;

/// The class of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Integer and bit arithmetic, address arithmetic included.
    Integer,
    /// Floating-point arithmetic.
    Float,
    /// `ex2`, `lg2`, `rcp`, `rsqrt`, `sqrt`, `sin`, `cos`, `tanh`, `div`.
    Special,
    /// `mma` and `wgmma`.
    Tensor,
    /// Conversions.
    Convert,
    /// Moves, selections, comparisons and predicates.
    Move,
    /// Loads, stores and atomics of global memory.
    Global,
    /// Loads, stores and atomics of shared memory, `ldmatrix`.
    Shared,
    /// `cp.async` and its groups, bulk copies.
    Copy,
    /// Local memory.
    Local,
    /// Parameters and constants.
    Constant,
    /// `shfl`, `vote`, `redux`.
    Exchange,
    /// Barriers.
    Barrier,
    /// Branches and ends.
    Control,
}

/// Instructions of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How often a warp issued one.
    pub warps: u64,
    /// How many threads it ran for.
    pub threads: u64,
}

/// Traffic with global memory in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that threads asked for.
    pub bytes: u64,
    /// Sectors of 32 bytes that warps touched: the least that the hardware moves.
    pub sectors: u64,
}

impl Traffic {
    /// Asked bytes per moved byte. More than 1 where threads of a warp ask for the same.
    pub fn efficiency(&self) -> f64 {
        self.bytes as f64 / (32 * self.sectors).max(1) as f64
    }
}

/// Accesses to shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Banks {
    /// Accesses by warps; a warp that moves 8 or 16 bytes per thread needs 2 or 4 of them.
    pub accesses: u64,
    /// Passes over the 32 banks beyond one per access.
    pub conflicts: u64,
}

/// What a launch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// By class, in the order of [`Class`].
    pub classes: Vec<(Class, Count)>,
    /// Floating-point operations outside of `mma`; a fused multiply-add is two.
    pub flops: u64,
    /// Floating-point operations of `mma`: 2·m·n·k each.
    pub tensor_flops: u64,
    /// What was loaded.
    pub loads: Traffic,
    /// What was stored.
    pub stores: Traffic,
    /// Shared memory.
    pub banks: Banks,
}

impl Stats {
    /// All instructions of all threads.
    pub fn thread_instructions(&self) -> u64 {
        self.classes.iter().map(|c| c.1.threads).sum()
    }

    /// Floating-point operations per byte that global memory moves.
    pub fn flops_per_byte(&self) -> f64 {
        (self.flops + self.tensor_flops) as f64 / (32 * (self.loads.sectors + self.stores.sectors)).max(1) as f64
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let all = self.thread_instructions().max(1) as f64;
        writeln!(f, "{:<10} {:>14} {:>16} {:>7}", "class", "warps issued", "threads ran", "share")?;
        for (class, count) in &self.classes {
            writeln!(f, "{:<10} {:>14} {:>16} {:>6.1}%", format!("{class:?}").to_lowercase(), count.warps, count.threads, 100.0 * count.threads as f64 / all)?;
        }
        for (name, traffic) in [("loads", &self.loads), ("stores", &self.stores)] {
            writeln!(
                f,
                "global {name}: {} bytes asked for, {} sectors of 32 bytes moved: coalescing {:.0}%",
                traffic.bytes,
                traffic.sectors,
                100.0 * traffic.efficiency()
            )?;
        }
        let per = self.banks.conflicts as f64 / self.banks.accesses.max(1) as f64;
        writeln!(f, "shared memory: {} accesses, {} bank conflicts ({per:.2} per access)", self.banks.accesses, self.banks.conflicts)?;
        writeln!(
            f,
            "arithmetic: {} FLOPs, {} of them on tensor cores; {:.2} FLOPs per byte of global memory",
            self.flops + self.tensor_flops,
            self.tensor_flops,
            self.flops_per_byte()
        )
    }
}

/// What is counted for each step while the machine runs.
#[derive(Clone, Copy, Default)]
pub struct Step {
    pub warps: u64,
    pub threads: u64,
    pub sectors: u64,
    pub bytes: u64,
    pub accesses: u64,
    pub passes: u64,
}

impl Step {
    /// Adds what another worker counted.
    pub fn add(&mut self, other: &Step) {
        self.warps += other.warps;
        self.threads += other.threads;
        self.sectors += other.sectors;
        self.bytes += other.bytes;
        self.accesses += other.accesses;
        self.passes += other.passes;
    }

    /// One access of a warp to global memory.
    pub fn global(&mut self, offsets: &[u32; 32], mask: u32, size: u32) {
        let mut sectors = [0u32; 64];
        let mut n = 0;
        // An access is at most 32 bytes and aligned: one sector each.
        for lane in lanes(mask) {
            let sector = offsets[lane] / 32;
            if !sectors[..n].contains(&sector) {
                sectors[n] = sector;
                n += 1;
            }
        }
        self.sectors += n as u64;
        self.bytes += mask.count_ones() as u64 * size as u64;
    }

    /// One access of a warp to shared memory: 32 banks of 4 bytes; 8 bytes go by half warps, 16 by quarters. Threads that
    /// read the same word share it.
    pub fn shared(&mut self, offsets: &[u32; 32], mask: u32, size: u32) {
        let lanes_at_once = if size <= 4 { 32 } else { 128 / size.min(128) };
        for start in (0..32).step_by(lanes_at_once as usize) {
            let part = mask & ((u64::MAX >> (64 - lanes_at_once)) as u32) << start;
            if part == 0 {
                continue;
            }
            let mut words: Vec<u32> = lanes(part).flat_map(|lane| offsets[lane] / 4..(offsets[lane] + size).div_ceil(4)).collect();
            words.sort_unstable();
            words.dedup();
            let mut banks = [0u64; 32];
            words.iter().for_each(|w| banks[*w as usize % 32] += 1);
            self.accesses += 1;
            self.passes += banks.into_iter().max().unwrap_or(1);
        }
    }
}

/// Adds up what was counted.
pub fn stats(entry: &Entry, kernel: &Kernel, counts: &[Step]) -> Stats {
    let mut stats = Stats::default();
    for (i, (count, step)) in counts.iter().zip(&kernel.steps).enumerate() {
        let instruction = &entry.instructions[kernel.source[i] as usize];
        // Steps after the first of an instruction are ours, not the program's.
        if i > 0 && kernel.source[i - 1] == kernel.source[i] {
            continue;
        }
        let class = class(&instruction.opcode);
        let place = match stats.classes.binary_search_by_key(&class, |c| c.0) {
            Ok(at) => at,
            Err(at) => {
                stats.classes.insert(at, (class, Count::default()));
                at
            }
        };
        stats.classes[place].1.warps += count.warps;
        stats.classes[place].1.threads += count.threads;
        match &step.op {
            // Each of the four warps of a group does its quarter.
            Op::Wgmma(w) => stats.tensor_flops += count.warps * 2 * 16 * w.n as u64 * 16,
            Op::Mma(m) => stats.tensor_flops += count.warps * 2 * 16 * 8 * m.k as u64,
            _ => stats.flops += count.threads * flops(&instruction.opcode),
        }
        let traffic =
            if matches!(&step.op, Op::Store(_)) || matches!(&step.op, Op::Bulk(b) if b.way != Way::Load) { &mut stats.stores } else { &mut stats.loads };
        traffic.bytes += count.bytes;
        traffic.sectors += count.sectors;
        stats.banks.accesses += count.accesses;
        stats.banks.conflicts += count.passes - count.accesses;
    }
    stats.classes.retain(|c| c.1.warps > 0);
    stats
}

fn class(opcode: &str) -> Class {
    let has = |part: &str| opcode.split('.').any(|p| p == part || (part == "shared" && p == "shared::cta"));
    let is_float = ["f32", "f64", "f16", "bf16", "f16x2", "bf16x2"].into_iter().any(has);
    match opcode.split('.').next().unwrap_or("") {
        "mma" | "wgmma" => Class::Tensor,
        "ldmatrix" | "stmatrix" => Class::Shared,
        "cp" => Class::Copy,
        "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" => {
            if has("shared") {
                Class::Shared
            } else if has("local") {
                Class::Local
            } else if has("param") || has("const") {
                Class::Constant
            } else {
                Class::Global
            }
        }
        "shfl" | "vote" | "redux" | "activemask" | "elect" => Class::Exchange,
        "bar" | "barrier" | "mbarrier" | "membar" | "fence" => Class::Barrier,
        "bra" | "brx" | "ret" | "exit" | "trap" | "nanosleep" | "setmaxnreg" | "griddepcontrol" => Class::Control,
        "cvt" | "cvta" => Class::Convert,
        "mov" | "selp" | "slct" | "setp" | "set" | "testp" | "isspacep" => Class::Move,
        _ if has("pred") => Class::Move,
        "ex2" | "lg2" | "rcp" | "rsqrt" | "sqrt" | "sin" | "cos" | "tanh" => Class::Special,
        "div" if is_float => Class::Special,
        _ if is_float => Class::Float,
        _ => Class::Integer,
    }
}

/// Floating-point operations per thread.
fn flops(opcode: &str) -> u64 {
    let kind = opcode.rsplit('.').next().unwrap_or("");
    let elements = match kind {
        "f32" | "f64" | "f16" | "bf16" => 1,
        "f16x2" | "bf16x2" => 2,
        _ => return 0,
    };
    match opcode.split('.').next().unwrap_or("") {
        "fma" | "mad" => 2 * elements,
        "add" | "sub" | "mul" | "div" | "sqrt" | "rcp" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => elements,
        _ => 0,
    }
}
