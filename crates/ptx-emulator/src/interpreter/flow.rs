//! What can follow what in a kernel, and two questions that are answered by following it: which registers may be read
//! before anything is put into them, and which registers can share a slot.

use super::kernel::{Kernel, Uses};
use super::ops::{File, Left, Op, Slot, Step, Use};
use std::collections::HashMap;

/// Steps that run one after the other, and the blocks that may come next.
struct Block {
    from: usize,
    to: usize,
    next: Vec<usize>,
}

fn blocks(steps: &[Step]) -> Vec<Block> {
    let mut starts = vec![0];
    for (i, step) in steps.iter().enumerate() {
        match &step.op {
            Op::Branch(target) => starts.extend([*target as usize, i + 1]),
            Op::BranchIndex(_, targets) => starts.extend(targets.iter().map(|&t| t as usize).chain([i + 1])),
            Op::Exit | Op::Trap => starts.push(i + 1),
            _ => {}
        }
    }
    starts.retain(|&s| s < steps.len());
    starts.sort_unstable();
    starts.dedup();
    let index: HashMap<usize, usize> = starts.iter().enumerate().map(|(i, &s)| (s, i)).collect();
    let ends = starts.iter().skip(1).copied().chain([steps.len()]);
    let next = |to: usize| {
        let last = &steps[to - 1];
        let mut next: Vec<usize> = match &last.op {
            Op::Branch(target) => vec![*target as usize],
            Op::BranchIndex(_, targets) => targets.iter().map(|&t| t as usize).collect(),
            _ => Vec::new(),
        };
        let stops = matches!(last.op, Op::Branch(_) | Op::BranchIndex(..) | Op::Exit | Op::Trap) && last.guard == (0, false);
        if !stops && to < steps.len() {
            next.push(to);
        }
        next.iter().filter_map(|s| index.get(s).copied()).collect()
    };
    starts.iter().zip(ends).map(|(&from, to)| Block { from, to, next: next(to) }).collect()
}

fn uses(step: &Step) -> Uses {
    let mut uses = Uses { sink: false, ..Uses::default() };
    step.op.clone().slots(&mut |how, file, slot| match how {
        Use::Read => uses.reads.push((file, *slot)),
        Use::Write => uses.writes.push((file, *slot)),
    });
    uses.sink = matches!(
        &step.op,
        Op::Load(_)
            | Op::Store(_)
            | Op::Atomic(_)
            | Op::CpAsync(_)
            | Op::LdMatrix(_)
            | Op::Mma(_)
            | Op::Shuffle(_)
            | Op::Vote(..)
            | Op::Redux(..)
            | Op::Barrier(..)
            | Op::WarpBarrier(_)
            | Op::BranchIndex(..)
            | Op::BarrierArrive(..)
            | Op::Mbarrier(_)
            | Op::Bulk(_)
            | Op::Wgmma(_)
            | Op::StMatrix(_)
            | Op::Elect(..)
    );
    // Predicates that a lane operation does not use.
    uses.reads.retain(|&s| s != (File::Bit, 0));
    uses
}

/// A set of slots.
struct Numbers {
    words: usize,
    longs: usize,
    all: usize,
}

impl Numbers {
    fn of(kernel: &Kernel) -> Numbers {
        Numbers { words: kernel.words, longs: kernel.longs, all: kernel.words + kernel.longs + kernel.bits }
    }

    fn number(&self, (file, slot): Slot) -> usize {
        slot as usize
            + match file {
                File::Word => 0,
                File::Long => self.words,
                File::Bit => self.words + self.longs,
            }
    }
}

type Set = Vec<u64>;

fn has(set: &Set, i: usize) -> bool {
    set[i / 64] >> (i % 64) & 1 == 1
}

fn put(set: &mut Set, i: usize) {
    set[i / 64] |= 1 << (i % 64);
}

/// Finds the registers that may be read where they may not have been written yet, and what may be computed from
/// them. Of these the interpreter keeps which lanes are defined, at the steps that use them; `kernel.uses` says where.
pub fn undefined(kernel: &mut Kernel) {
    let numbers = Numbers::of(kernel);
    let uses: Vec<Uses> = kernel.steps.iter().map(uses).collect();
    let blocks = blocks(&kernel.steps);
    let size = numbers.all.div_ceil(64);
    let mut given: Set = vec![0; size];
    kernel.constants.iter().for_each(|c| put(&mut given, numbers.number(c.0)));
    kernel.specials.iter().for_each(|s| put(&mut given, numbers.number((File::Word, s.0))));
    // Defined on every way to the start of a block; all, until some way is known.
    let mut start: Vec<Option<Set>> = vec![None; blocks.len()];
    start[0] = Some(given);
    let mut work = vec![0];
    while let Some(b) = work.pop() {
        let mut defined = start[b].clone().expect("only blocks with a known start are queued");
        for i in blocks[b].from..blocks[b].to {
            if kernel.steps[i].guard == (0, false) {
                uses[i].writes.iter().for_each(|&s| put(&mut defined, numbers.number(s)));
            }
        }
        for &next in &blocks[b].next {
            let changed = match &mut start[next] {
                Some(set) => set.iter_mut().zip(&defined).fold(false, |changed, (a, b)| {
                    let old = *a;
                    *a &= b;
                    changed | (old != *a)
                }),
                none => {
                    *none = Some(defined.clone());
                    true
                }
            };
            if changed {
                work.push(next);
            }
        }
    }
    let mut watched: Set = vec![0; size];
    for (block, start) in blocks.iter().zip(start) {
        let Some(mut defined) = start else { continue };
        for i in block.from..block.to {
            let guard = (File::Bit, kernel.steps[i].guard.0);
            for &slot in uses[i].reads.iter().chain([&guard]).filter(|&&s| !has(&defined, numbers.number(s))) {
                put(&mut watched, numbers.number(slot));
            }
            if kernel.steps[i].guard == (0, false) {
                uses[i].writes.iter().for_each(|&s| put(&mut defined, numbers.number(s)));
            }
        }
    }
    if watched.iter().all(|&w| w == 0) {
        return;
    }
    let is_watched = |watched: &Set, s: Slot| has(watched, numbers.number(s));
    // Where a sink uses something undefined that is a finding, and its result counts as defined.
    let mut before = Vec::new();
    while before != watched {
        before.clone_from(&watched);
        for uses in uses.iter().filter(|u| !u.sink) {
            if uses.reads.iter().any(|&s| is_watched(&watched, s)) {
                uses.writes.iter().for_each(|&s| put(&mut watched, numbers.number(s)));
            }
        }
    }
    kernel.watched = [File::Word, File::Long, File::Bit]
        .into_iter()
        .zip([kernel.words, kernel.longs, kernel.bits])
        .flat_map(|(file, n)| (0..n as u16).map(move |slot| (file, slot)))
        .filter(|&s| is_watched(&watched, s))
        .collect();
    let steps = uses.into_iter().zip(&kernel.steps).map(|(mut uses, step)| {
        uses.reads.retain(|&s| is_watched(&watched, s));
        uses.writes.retain(|&s| is_watched(&watched, s));
        let any = !uses.reads.is_empty() || !uses.writes.is_empty() || is_watched(&watched, (File::Bit, step.guard.0));
        any.then(|| Box::new(uses))
    });
    kernel.uses = Some(steps.collect());
}

/// The registers of `wgmma` instructions, accumulators and A: they are used while other instructions run.
fn tensor(steps: &[Step]) -> Vec<u16> {
    let mut slots = Vec::new();
    for step in steps {
        if let Op::Wgmma(w) = &step.op {
            slots.extend(&w.d);
            if let Left::Registers(a) = &w.a {
                slots.extend(a);
            }
        }
    }
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Finds where other instructions touch the registers of `wgmma`s.
pub fn touches(kernel: &mut Kernel) {
    kernel.wgmma_slots = tensor(&kernel.steps);
    if kernel.wgmma_slots.is_empty() {
        return;
    }
    let constants: std::collections::HashSet<Slot> = kernel.constants.iter().map(|c| c.0).collect();
    let touched = |step: &Step| {
        let mut list = Vec::new();
        let counts = !matches!(step.op, Op::Mov32([_, s]) if constants.contains(&(File::Word, s)));
        if !matches!(step.op, Op::Wgmma(_)) {
            step.op.clone().slots(&mut |how, file, slot| {
                if file == File::Word && kernel.wgmma_slots.binary_search(slot).is_ok() {
                    list.push((how, *slot, counts));
                }
            });
        }
        list.into_boxed_slice()
    };
    kernel.touches = kernel.steps.iter().map(touched).collect();
}

/// Gives registers whose values are never needed at the same time the same slot, so that a warp's registers fit into the
/// processor's cache: compilers name a new register for every value.
pub fn share_slots(kernel: &mut Kernel) {
    let numbers = Numbers::of(kernel);
    let uses: Vec<Uses> = kernel.steps.iter().map(uses).collect();
    let blocks = blocks(&kernel.steps);
    let size = numbers.all.div_ceil(64);
    // Live at the end of each block, backwards until nothing changes.
    let mut live_in: Vec<Set> = vec![vec![0; size]; blocks.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for b in (0..blocks.len()).rev() {
            let mut live = live_out(&blocks[b], &live_in, size);
            for i in (blocks[b].from..blocks[b].to).rev() {
                step_back(kernel, &uses[i], i, &numbers, &mut live);
            }
            if live != live_in[b] {
                (live_in[b], changed) = (live, true);
            }
        }
    }
    // One range of steps per register, from the first to the last at which it is live or named.
    let mut range = vec![(usize::MAX, 0); numbers.all];
    let mut widen = |n: usize, at: usize| range[n] = (range[n].0.min(at), range[n].1.max(at));
    for (block, live_at_start) in blocks.iter().zip(&live_in) {
        let mut live = live_out(block, &live_in, size);
        for (at, set) in [(block.to - 1, &live), (block.from, live_at_start)] {
            (0..numbers.all).filter(|&n| has(set, n)).for_each(|n| widen(n, at));
        }
        for i in (block.from..block.to).rev() {
            let guard = (File::Bit, kernel.steps[i].guard.0);
            uses[i].reads.iter().chain(&uses[i].writes).chain([&guard]).for_each(|&s| widen(numbers.number(s), i));
            step_back(kernel, &uses[i], i, &numbers, &mut live);
        }
    }
    // The constant true comes first and stays slot 0: guards rely on it.
    let fixed: Vec<Slot> = [(File::Bit, 0)]
        .into_iter()
        .chain(kernel.constants.iter().map(|c| c.0))
        .chain(kernel.specials.iter().map(|s| (File::Word, s.0)))
        .chain(kernel.watched.iter().copied())
        .chain(tensor(&kernel.steps).into_iter().map(|s| (File::Word, s)))
        .collect();
    let mut map: HashMap<Slot, u16> = HashMap::new();
    let mut counts = [0u16; 3];
    for &(file, slot) in &fixed {
        map.entry((file, slot)).or_insert_with(|| {
            counts[file as usize] += 1;
            counts[file as usize] - 1
        });
    }
    for (file, first, count) in [(File::Word, 0, kernel.words), (File::Long, kernel.words, kernel.longs), (File::Bit, kernel.words + kernel.longs, kernel.bits)]
    {
        let mut order: Vec<u16> = (0..count as u16).filter(|&s| !map.contains_key(&(file, s)) && range[first + s as usize].0 != usize::MAX).collect();
        order.sort_by_key(|&s| range[first + s as usize].0);
        let mut busy: Vec<(usize, u16)> = Vec::new();
        let mut free: Vec<u16> = Vec::new();
        for slot in order {
            let (start, end) = range[first + slot as usize];
            busy.retain(|&(until, slot)| {
                if until < start {
                    free.push(slot);
                }
                until >= start
            });
            let new = free.pop().unwrap_or_else(|| {
                counts[file as usize] += 1;
                counts[file as usize] - 1
            });
            busy.push((end, new));
            map.insert((file, slot), new);
        }
    }
    for step in &mut kernel.steps {
        step.guard.0 = map[&(File::Bit, step.guard.0)];
        step.op.slots(&mut |_, file, slot| *slot = map.get(&(file, *slot)).copied().unwrap_or(0));
    }
    for uses in kernel.uses.iter_mut().flatten().flatten() {
        uses.reads.iter_mut().chain(&mut uses.writes).for_each(|s| s.1 = map[s]);
    }
    kernel.watched.iter_mut().for_each(|s| s.1 = map[s]);
    kernel.constants.iter_mut().chain(&mut kernel.addresses).for_each(|c| c.0.1 = map[&c.0]);
    kernel.specials.iter_mut().for_each(|s| s.0 = map[&(File::Word, s.0)]);
    kernel.registers.iter_mut().for_each(|r| r.1 = map.get(r).copied().unwrap_or(0));
    (kernel.words, kernel.longs, kernel.bits) = (counts[0] as usize, counts[1] as usize, counts[2] as usize);
}

fn live_out(block: &Block, live_in: &[Set], size: usize) -> Set {
    let mut live = vec![0; size];
    for &next in &block.next {
        live.iter_mut().zip(&live_in[next]).for_each(|(a, b)| *a |= b);
    }
    live
}

/// Liveness before a step from liveness after it. A guarded write leaves lanes as they were: it ends nothing.
fn step_back(kernel: &Kernel, uses: &Uses, i: usize, numbers: &Numbers, live: &mut Set) {
    if kernel.steps[i].guard == (0, false) {
        for &slot in &uses.writes {
            let n = numbers.number(slot);
            live[n / 64] &= !(1 << (n % 64));
        }
    }
    for &slot in &uses.reads {
        put(live, numbers.number(slot));
    }
    put(live, numbers.number((File::Bit, kernel.steps[i].guard.0)));
}
