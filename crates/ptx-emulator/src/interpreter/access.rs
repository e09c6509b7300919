//! Which buffers a kernel reads and which it writes: how pointers flow from parameters into addresses.
//!
//! Every register gets the set of parameters that its value may come from, whatever path was taken. What cannot be
//! followed counts as everything. So an answer of "not written" is certain, and "written" is not.

use super::kernel::{Access, Kernel, MODULE, PARAM, SHARED};
use super::ops::{Address as At, File, Memory, Op, Slot, Use, Way};
use super::tensor_map::is_map;
use crate::parse::{Entry, ParamKind};

/// An address in shared or local memory, or in the module's constants.
const WINDOW: u128 = 1 << 127;

/// The accesses of each parameter of an entry.
pub fn access(entry: &Entry, kernel: &Kernel) -> Vec<Access> {
    let bit = |i: usize| if i < 120 { 1u128 << i } else { 1 << 119 };
    let all = entry.params.iter().enumerate().filter(|(_, p)| p.kind == ParamKind::Pointer).fold(0, |set, (i, _)| set | bit(i));
    let mut sets = [vec![0u128; kernel.words.max(1)], vec![0u128; kernel.longs.max(1)]];
    for &((file, slot), value) in &kernel.constants {
        if file == File::Long && (SHARED >> 40..=MODULE >> 40).contains(&(value >> 40)) {
            sets[1][slot as usize] = WINDOW;
        }
    }
    // Addresses of tensor maps.
    for &((_, slot), value) in &kernel.addresses {
        for (i, p) in entry.params.iter().enumerate().filter(|(_, p)| is_map(p)) {
            if value == p.offset as u64 || value == PARAM + p.offset as u64 {
                sets[1][slot as usize] |= bit(i);
            }
        }
    }
    let constant = |slot: Slot| kernel.constants.iter().find(|c| c.0 == slot).map(|c| c.1);
    let mut steps = kernel.steps.clone();
    let mut memory = 0u128;
    loop {
        let before = (sets.clone(), memory);
        for step in &mut steps {
            let mut value = 0;
            match &step.op {
                Op::Load(at) if at.memory == Memory::Param => {
                    let offset = constant(at.base).map(|base| base as i128 + at.offset as i128);
                    value = match offset {
                        Some(offset) => {
                            let inside = |p: &crate::parse::Param| {
                                p.kind == ParamKind::Pointer && (p.offset as i128) < offset + at.bytes() as i128 && offset < (p.offset + p.size) as i128
                            };
                            entry.params.iter().enumerate().filter(|(_, p)| inside(p)).fold(0, |set, (i, _)| set | bit(i))
                        }
                        None => all,
                    };
                }
                Op::Load(_) | Op::Atomic(_) => value = memory,
                _ => {}
            }
            let through = !matches!(step.op, Op::Load(_) | Op::Atomic(_) | Op::LdMatrix(_));
            let store = matches!(step.op, Op::Store(_));
            let base = if let Op::Store(at) = &step.op { Some(at.base) } else { None };
            step.op.slots(&mut |how, file, slot| {
                if file == File::Bit {
                    return;
                }
                let set = &mut sets[file as usize][*slot as usize];
                match how {
                    Use::Read if store && base != Some((file, *slot)) => memory |= *set & !WINDOW,
                    Use::Read if through => value |= *set,
                    Use::Read => {}
                    Use::Write => *set |= value,
                }
            });
        }
        if (&before.0, before.1) == (&sets, memory) {
            break;
        }
    }
    let mut found = vec![Access::default(); entry.params.len()];
    let maps = entry.params.iter().enumerate().filter(|(_, p)| is_map(p)).fold(0, |set, (i, _)| set | bit(i));
    for bulk in kernel.steps.iter().filter_map(|step| if let Op::Bulk(b) = &step.op { Some(b) } else { None }).filter(|b| b.bytes.is_none()) {
        let set = sets[1][bulk.global.base.1 as usize] & maps;
        let set = if set == 0 { maps } else { set };
        for (_, access) in found.iter_mut().enumerate().filter(|(i, _)| set & bit(*i) != 0 && is_map(&entry.params[*i])) {
            access.reads |= bulk.way != Way::Store;
            access.writes |= bulk.way != Way::Load;
            // Elements are 2 or 4 bytes wide, rows multiples of 16.
            access.least = 2;
        }
    }
    let mut note = |at: &At, reads: bool, writes: bool| {
        if !matches!(at.memory, Memory::Global | Memory::Generic) {
            return;
        }
        let set = if at.base.0 == File::Bit { 0 } else { sets[at.base.0 as usize][at.base.1 as usize] } & !maps;
        let set = match set & !WINDOW {
            // Only an address in nothing but shared, local or constant memory touches no buffer.
            0 if set & WINDOW != 0 => return,
            0 => all,
            set => set,
        };
        for (i, access) in found.iter_mut().enumerate().filter(|(i, _)| set & bit(*i) != 0) {
            if entry.params[i].kind == ParamKind::Pointer {
                access.reads |= reads;
                access.writes |= writes;
                let bytes = (at.bytes() as u32).min(4);
                access.least = if access.least == 0 { bytes } else { access.least.min(bytes) };
            }
        }
    };
    for step in &kernel.steps {
        match &step.op {
            Op::Load(at) => note(at, true, false),
            Op::Store(at) => note(at, false, true),
            Op::Atomic(a) => note(&a.at, true, true),
            Op::CpAsync(c) => note(&c.from, true, false),
            Op::Bulk(b) if b.bytes.is_some() => note(&b.global, b.way != Way::Store, b.way != Way::Load),
            _ => {}
        }
    }
    found
}

/// The smallest access to shared memory in bytes, at most 4, as a power of two.
pub fn shared_granule(kernel: &Kernel) -> u32 {
    let touches = |at: &At| matches!(at.memory, Memory::Shared | Memory::Generic).then(|| at.bytes() as u32);
    let least = kernel.steps.iter().filter_map(|step| match &step.op {
        Op::Load(at) | Op::Store(at) => touches(at),
        Op::Atomic(a) => touches(&a.at),
        // Inside of asynchronous copies nothing is smaller than this.
        Op::Bulk(_) | Op::Wgmma(_) | Op::StMatrix(_) => Some(4),
        _ => None,
    });
    least.fold(4, u32::min).trailing_zeros()
}
