//! Blocks: in parallel with each other, and inside each the warps one after the other from barrier to barrier.

use super::cluster::Group;
use super::finding::{Kind, Note, Other, Place};
use super::lanes::{Registers, lanes};
use super::machine::{Launch, Machine, Notes};
use super::order::thread_and_pc;
use super::stats::Step as Count;
use super::trace::Tracer;
use super::warp::{Fragment, State, Tensor, Warp};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The result of all blocks.
pub struct Outcome {
    pub notes: Notes,
    pub tracer: Tracer,
    pub counts: Vec<Count>,
}

/// Runs all blocks of a launch; returns what was noted, or a block and a place that never end.
pub fn all(launch: &Launch) -> Result<Outcome, (u32, u32)> {
    let clusters = launch.grid / launch.kernel.cluster;
    let workers = rayon::current_num_threads().min(clusters as usize).max(1);
    // A worker takes the next few clusters that nobody has taken; as a rule a cluster is a block.
    let (next, few) = (AtomicU32::new(0), (clusters / (workers as u32 * 16)).clamp(1, 64));
    let work = |_| {
        let blocks = (0..launch.kernel.cluster).map(|_| Worker::new(launch)).collect();
        let mut group = Group::new(launch, blocks);
        loop {
            let first = next.fetch_add(few, Relaxed);
            if first >= clusters {
                return Ok(group.machines());
            }
            for cluster in first..(first + few).min(clusters) {
                group.run(cluster * launch.kernel.cluster).inspect_err(|_| next.store(clusters, Relaxed))?;
            }
        }
    };
    let done: Vec<Result<Vec<Machine>, (u32, u32)>> = if workers == 1 { vec![work(0)] } else { (0..workers).into_par_iter().map(work).collect() };
    let mut notes = Notes::default();
    let machines: Vec<Machine> = done.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    for (i, a) in machines.iter().enumerate() {
        for b in &machines[i + 1..] {
            compare(launch, a, b, &mut notes);
        }
    }
    let mut tracer = Tracer::default();
    let mut counts = vec![Count::default(); if launch.counted { launch.kernel.steps.len() } else { 0 }];
    for machine in machines {
        tracer.lines.extend(machine.tracer.lines);
        counts.iter_mut().zip(&machine.counts).for_each(|(sum, count)| sum.add(count));
        notes.more += machine.notes.more;
        machine.notes.first.into_values().for_each(|note| notes.add(note));
    }
    Ok(Outcome { notes, tracer, counts })
}

/// Races between blocks of different workers.
fn compare(launch: &Launch, a: &Machine, b: &Machine, notes: &mut Notes) {
    for (i, pair) in a.records.iter().zip(&b.records).enumerate() {
        let (Some(ra), Some(rb)) = pair else { continue };
        let size = 1 << launch.buffers[i].as_ref().and_then(|b| b.granule).unwrap_or(0);
        ra.compare(rb, &launch.kernel.steps, |offset, (x, x_writes), (y, y_writes), own| {
            let side = |machine: &Machine, stamp, write| {
                let (thread, pc) = thread_and_pc(stamp);
                Other { block: machine.order.block_of(stamp), thread, pc, write }
            };
            let (mx, my) = if own { (a, b) } else { (b, a) };
            let (x, y) = (side(mx, x, x_writes), side(my, y, y_writes));
            let (late, early) = if x.block > y.block { (x, y) } else { (y, x) };
            let address = ((i as u64 + 1) << 40) + offset as u64;
            notes.add(Note {
                place: Place::Buffer(i as u16),
                address,
                offset: offset as i64,
                size,
                write: late.write,
                other: Some(early),
                ..Note::new(Kind::Race, late.pc, late.block, late.thread.min(1023))
            });
        });
    }
}

/// Runs blocks, or the blocks of one rank of clusters.
pub struct Worker<'a> {
    launch: &'a Launch<'a>,
    pub machine: Machine<'a>,
    pub warps: Vec<Warp>,
    pub threads: u32,
}

impl<'a> Worker<'a> {
    pub fn new(launch: &'a Launch<'a>) -> Self {
        let threads = launch.kernel.block.iter().product::<u32>();
        let warps = (0..threads.div_ceil(32)).map(|w| {
            let mut registers = Registers::new(launch.kernel);
            registers.specials(launch.kernel, w, launch.grid, launch.dynamic);
            Warp { registers, fragments: Vec::new(), exited: Vec::new(), budget: 0, expired: 0, tensor: Tensor::new(launch.kernel) }
        });
        let warps = warps.collect();
        Worker { launch, machine: Machine::new(launch), warps, threads }
    }

    /// Resets everything to what it is before a block starts.
    pub fn start(&mut self, block: u32) {
        let kernel = self.launch.kernel;
        self.machine.start(block);
        let warps = self.warps.len() as i64;
        for (w, warp) in self.warps.iter_mut().enumerate() {
            let threads = (self.threads - 32 * w as u32).min(32);
            warp.registers.start(kernel);
            warp.registers.block(kernel, block);
            warp.fragments.clear();
            warp.fragments.push(Fragment { pc: 0, mask: u32::MAX >> (32 - threads), state: State::Ready });
            warp.exited.clear();
            warp.budget = self.launch.budget.min(i64::MAX as u64) as i64 / warps;
            warp.tensor.start();
        }
    }

    /// Which lane of a warp is traced.
    pub fn traced(&self, w: usize) -> Option<usize> {
        let traced = self.launch.trace.filter(|t| t.block == self.machine.block && t.thread as usize / 32 == w);
        traced.map(|t| t.thread as usize % 32)
    }

    /// Runs one block to its end.
    pub fn block(&mut self, block: u32) -> Result<(), u32> {
        self.start(block);
        loop {
            for w in 0..self.warps.len() {
                if self.warps[w].fragments.iter().any(|f| f.state == State::Ready) {
                    self.machine.warp = w as u32;
                    self.machine.traced = self.traced(w);
                    self.warps[w].run(&mut self.machine)?;
                }
            }
            if self.warps.iter().all(|w| w.fragments.is_empty()) {
                return Ok(());
            }
            self.release();
        }
    }

    /// Every thread that has not ended waits at a barrier: opens those that are complete, or notes that none ever is.
    fn release(&mut self) {
        let waiting = |number: Option<u32>| {
            let of = self.warps.iter().flat_map(|w| &w.fragments);
            of.filter(|f| matches!(f.state, State::Block(n, _) if number.is_none_or(|x| x == n))).map(|f| f.mask.count_ones()).sum::<u32>()
        };
        let mut complete = Vec::new();
        for fragment in self.warps.iter().flat_map(|w| &w.fragments) {
            let State::Block(number, count) = fragment.state else { continue };
            let needed = if count == 0 { self.threads } else { count };
            if !complete.contains(&number) && waiting(Some(number)) >= needed {
                complete.push(number);
            }
        }
        let all = complete.is_empty();
        if all {
            self.note_stuck();
        }
        for fragment in self.warps.iter_mut().flat_map(|w| &mut w.fragments) {
            let State::Block(number, _) = fragment.state else { continue };
            if all || complete.contains(&number) {
                (fragment.pc, fragment.state) = (fragment.pc + 1, State::Ready);
            }
        }
        self.machine.block_barrier();
    }

    /// A barrier that some threads of the block never reach: names one that waits and one that does not come.
    pub fn note_stuck(&mut self) {
        let block = self.machine.block;
        let first = |w: usize, mask: u32| w as u32 * 32 + lanes(mask).next().unwrap_or(0) as u32;
        let mut waits = self.warps.iter().enumerate().flat_map(|(w, warp)| warp.fragments.iter().map(move |f| (first(w, f.mask), f.pc, f.state)));
        let Some((thread, pc, state)) = waits.next() else { return };
        let elsewhere = waits.find(|x| x.2 != state).map(|(thread, pc, _)| Other { block, thread, pc, write: true });
        let mut ended = self
            .warps
            .iter()
            .enumerate()
            .flat_map(|(w, warp)| warp.exited.iter().map(move |&(pc, mask)| Other { block, thread: first(w, mask), pc, write: false }));
        let other = elsewhere.or_else(|| ended.next());
        self.machine.notes.add(Note { other, ..Note::new(Kind::Barrier, pc, block, thread) });
    }
}
