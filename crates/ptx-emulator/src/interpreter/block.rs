//! One block: its warps one after the other from barrier to barrier.

use super::finding::{Kind, Note, Other};
use super::lanes::{Registers, lanes};
use super::launch::Launch;
use super::machine::Machine;
use super::warp::{Scoreboard, State, Warp, WarpSplit};

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
            Warp { registers, splits: Vec::new(), exited: Vec::new(), budget: 0, expired: 0, scoreboard: Scoreboard::new(launch.kernel) }
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
            warp.splits.clear();
            warp.splits.push(WarpSplit { pc: 0, mask: u32::MAX >> (32 - threads), state: State::Ready });
            warp.exited.clear();
            warp.budget = self.launch.budget.min(i64::MAX as u64) as i64 / warps;
            warp.scoreboard.start();
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
                if self.warps[w].splits.iter().any(|f| f.state == State::Ready) {
                    self.machine.warp = w as u32;
                    self.machine.traced = self.traced(w);
                    self.warps[w].run(&mut self.machine)?;
                }
            }
            if self.warps.iter().all(|w| w.splits.is_empty()) {
                return Ok(());
            }
            self.release();
        }
    }

    /// Every thread that has not ended waits at a barrier: opens those that are complete, or notes that none ever is.
    fn release(&mut self) {
        let waiting = |number: Option<u32>| {
            let of = self.warps.iter().flat_map(|w| &w.splits);
            of.filter(|f| matches!(f.state, State::Block(n, _) if number.is_none_or(|x| x == n))).map(|f| f.mask.count_ones()).sum::<u32>()
        };
        let mut complete = Vec::new();
        for split in self.warps.iter().flat_map(|w| &w.splits) {
            let State::Block(number, count) = split.state else { continue };
            let needed = if count == 0 { self.threads } else { count };
            if !complete.contains(&number) && waiting(Some(number)) >= needed {
                complete.push(number);
            }
        }
        let all = complete.is_empty();
        if all {
            self.note_stuck();
        }
        for split in self.warps.iter_mut().flat_map(|w| &mut w.splits) {
            let State::Block(number, _) = split.state else { continue };
            if all || complete.contains(&number) {
                (split.pc, split.state) = (split.pc + 1, State::Ready);
            }
        }
        self.machine.block_barrier();
    }

    /// A barrier that some threads of the block never reach: names one that waits and one that does not come.
    pub fn note_stuck(&mut self) {
        let block = self.machine.block;
        let first = |w: usize, mask: u32| w as u32 * 32 + lanes(mask).next().unwrap_or(0) as u32;
        let mut waits = self.warps.iter().enumerate().flat_map(|(w, warp)| warp.splits.iter().map(move |f| (first(w, f.mask), f.pc, f.state)));
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
