//! Which of two accesses to the same bytes came first, and whether anything ordered them.
//!
//! Time counts barriers. A barrier of the block orders everything before it with everything after it; `bar.warp.sync`
//! orders the lanes in its mask, and through them what they already knew of others (a clock per lane). `shfl`, votes,
//! `mma` and `ldmatrix` order nothing. Blocks of a launch are never ordered.
//!
//! In asynchronous kernels no barrier is for everybody: there each warp has a clock of what it knows of all others.

use super::lanes::lanes;
use super::ops::Step;
use super::vector_clock::VectorClocks;

/// Thread numbers below this are threads; then come 32 that mean "several threads of this warp".
const THREADS: u32 = 1024;
/// Threads of more than one warp.
const SEVERAL: u32 = 2047;

/// Who touched a granule of memory last: when, and `pc << 11 | thread`; an epoch c@t as in FastTrack (Flanagan and Freund, 2009).
/// A time of 0 is never.
pub type Epoch = [u32; 2];

/// A granule: its last writer and its readers.
pub type Cell = [Epoch; 2];

/// What an access conflicts with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conflict {
    pub epoch: Epoch,
    pub write: bool,
}

/// What a lane knows of the lanes of its warp: their times up to which it comes after them.
#[derive(Clone)]
struct Clock {
    /// Up to here every lane is ordered with every other.
    full: u32,
    /// `[lane][other]`, once some barrier was for a part of the warp only.
    part: Option<Box<[[u32; 32]; 32]>>,
}

/// The order of events in a worker, one block after the other.
pub struct HappensBefore {
    /// Barriers so far.
    pub time: u32,
    /// When the block last met.
    pub last_barrier: u32,
    /// When the block started.
    pub start: u32,
    /// When each block of this worker started.
    blocks: Vec<(u32, u32)>,
    clocks: Vec<Clock>,
    /// Of an asynchronous kernel, while one of its warps runs.
    pub vectors: Option<Box<VectorClocks>>,
}

impl HappensBefore {
    /// A warp of the block that runs hands over what it knows and did.
    pub fn release(&mut self, warp: u32, clock: &mut [u32]) {
        let Some(vectors) = &mut self.vectors else { return };
        let warp = vectors.base + warp as usize;
        self.time += 1;
        vectors.learn(warp, warp, self.time);
        vectors.release(warp, clock);
    }

    /// It takes over what others released.
    pub fn acquire(&mut self, warp: u32, clock: &[u32]) {
        let Some(vectors) = &mut self.vectors else { return };
        let warp = vectors.base + warp as usize;
        vectors.acquire(warp, clock);
    }

    /// All lanes of a warp have met others, and so each other.
    pub fn meet(&mut self, warp: u32) {
        self.time += 1;
        let clock = &mut self.clocks[warp as usize];
        (clock.full, clock.part) = (self.time, None);
    }

    /// `fence.proxy.async` of a warp.
    pub fn proxy(&mut self, warp: u32) {
        let Some(vectors) = &mut self.vectors else { return };
        let warp = vectors.base + warp as usize;
        self.time += 1;
        let slot = vectors.proxy(warp);
        vectors.learn(warp, slot, self.time);
    }

    pub fn new(warps: usize) -> HappensBefore {
        HappensBefore { time: 0, last_barrier: 0, start: 0, blocks: Vec::new(), clocks: vec![Clock { full: 0, part: None }; warps], vectors: None }
    }

    /// A block starts.
    pub fn block(&mut self, block: u32) {
        self.barrier();
        self.start = self.time;
        self.blocks.push((self.time, block));
    }

    /// The block meets.
    pub fn barrier(&mut self) {
        self.time += 1;
        self.last_barrier = self.time;
        self.clocks.iter_mut().for_each(|c| c.part = None);
    }

    /// Lanes of a warp meet.
    pub fn warp_barrier(&mut self, warp: u32, members: u32, live: u32) {
        self.time += 1;
        let clock = &mut self.clocks[warp as usize];
        if members & live == live {
            (clock.full, clock.part) = (self.time, None);
            return;
        }
        let part = clock.part.get_or_insert_with(|| Box::new([[0; 32]; 32]));
        let mut known = [0; 32];
        for lane in lanes(members) {
            known = std::array::from_fn(|i| known[i].max(part[lane][i]));
        }
        for lane in lanes(members) {
            known[lane] = self.time;
        }
        lanes(members).for_each(|lane| part[lane] = known);
    }

    /// The block in which an epoch was made.
    pub fn block_of(&self, epoch: Epoch) -> u32 {
        let after = self.blocks.partition_point(|&(start, _)| start <= epoch[0]);
        self.blocks[after.saturating_sub(1)].1
    }

    /// Whether an epoch of this block comes before what `thread` does now.
    #[inline(always)]
    pub fn before(&self, epoch: Epoch, thread: u32) -> bool {
        epoch[0] < self.last_barrier || epoch[1] & 2047 == thread || self.before_in_warp(epoch, thread)
    }

    #[inline(never)]
    fn before_in_warp(&self, [time, who]: Epoch, thread: u32) -> bool {
        let (who, lane) = (who & 2047, thread as usize % 32);
        let warp = if who < THREADS { who / 32 } else { who - THREADS };
        if let Some(vectors) = self.vectors.as_ref().filter(|_| who == SEVERAL || warp != thread / 32) {
            // Of several we do not know which.
            return who == SEVERAL || vectors.knows(vectors.base + thread as usize / 32, vectors.base + warp as usize, time);
        }
        if who == SEVERAL || warp != thread / 32 {
            return false;
        }
        let clock = &self.clocks[warp as usize];
        // Of several we do not know which: any barrier of this lane since then counts, so that a correct kernel is never blamed.
        let other = if who < THREADS { who as usize % 32 } else { lane };
        clock.full > time || clock.part.as_ref().is_some_and(|p| p[lane][other] > time)
    }

    /// A thread reads a granule.
    #[inline(always)]
    pub fn read(&self, cell: &mut Cell, who: u32, global: bool) -> Option<Conflict> {
        let conflict = self.against(cell[0], who & 2047, global).then_some(Conflict { epoch: cell[0], write: true });
        self.add_reader(cell, who, self.time, global);
        conflict
    }

    /// Notes a reader, at a time that may have passed.
    #[inline(always)]
    pub fn add_reader(&self, cell: &mut Cell, who: u32, time: u32, global: bool) {
        let old = cell[1];
        if old[0] < self.last_barrier {
            // A reader of another block stays: whoever writes races with it, whatever this block reads.
            if !global || old[0] == 0 || old[0] >= self.start {
                cell[1] = [time, who];
            }
            return;
        }
        cell[1] = [time.max(old[0]), who & !2047 | both(old[1] & 2047, who & 2047)];
    }

    /// A thread writes a granule.
    #[inline(always)]
    pub fn write(&self, cell: &mut Cell, who: u32, global: bool) -> Option<Conflict> {
        let conflict = self.check_write(cell, who & 2047, global);
        cell[0] = [self.time, who];
        conflict
    }

    /// What a write by `thread` would race with.
    #[inline(always)]
    pub fn check_write(&self, cell: &Cell, thread: u32, global: bool) -> Option<Conflict> {
        if self.against(cell[0], thread, global) {
            return Some(Conflict { epoch: cell[0], write: true });
        }
        self.against(cell[1], thread, global).then_some(Conflict { epoch: cell[1], write: false })
    }

    /// An atomic: races with everything but other atomics.
    pub fn atomic(&self, cell: &mut Cell, who: u32, global: bool, steps: &[Step]) -> Option<Conflict> {
        let is_atomic = |epoch: Epoch| epoch[0] != 0 && steps[(epoch[1] >> 11) as usize].op.is_atomic();
        let mut conflict = self.check_write(cell, who & 2047, global);
        if conflict.is_some_and(|c| c.write && is_atomic(c.epoch)) {
            conflict = self.against(cell[1], who & 2047, global).then_some(Conflict { epoch: cell[1], write: false });
        }
        let old = cell[0];
        let thread = if old[0] >= self.last_barrier && is_atomic(old) { both(old[1] & 2047, who & 2047) } else { who & 2047 };
        cell[0] = [self.time, who & !2047 | thread];
        conflict
    }

    #[inline(always)]
    fn against(&self, epoch: Epoch, thread: u32, global: bool) -> bool {
        if global && epoch[0] < self.start { epoch[0] != 0 } else { !self.before(epoch, thread) }
    }
}

/// One thread, several of a warp, or several.
#[inline(always)]
fn both(a: u32, b: u32) -> u32 {
    let warp = |t: u32| if t < THREADS { t / 32 } else { t - THREADS };
    if a == b {
        a
    } else if a != SEVERAL && b != SEVERAL && warp(a) == warp(b) {
        THREADS + warp(a)
    } else {
        SEVERAL
    }
}

/// The thread of an epoch, `u32::MAX` for several, and its pc.
pub fn thread_and_pc(epoch: Epoch) -> (u32, u32) {
    let who = epoch[1] & 2047;
    (if who < THREADS { who } else { u32::MAX }, epoch[1] >> 11)
}
