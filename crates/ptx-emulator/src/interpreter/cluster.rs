//! What the blocks of a cluster share while they run: mbarriers, copies on their way, and who has arrived where.

use super::launch::Launch;
use super::shadow::AsyncShadow;
use super::vector_clock::{VectorClocks, join};
use std::collections::{HashMap, VecDeque};

/// An mbarrier.
pub struct Mbarrier {
    /// Arrivals of a phase, and those that are missing in this one.
    pub count: u32,
    pub pending: u32,
    /// Bytes that are expected and have not come.
    pub bytes: i64,
    /// Phases that are over.
    pub phase: u64,
    /// What those know who arrived: in this phase, in all before.
    current: Vec<u32>,
    done: Vec<u32>,
    /// Its slot in the clocks.
    pub slot: usize,
    /// The warp that initialised it, and when.
    pub init: (usize, u32),
}

impl Mbarrier {
    pub fn new(count: u32, slot: usize, init: (usize, u32), nothing: Vec<u32>) -> Mbarrier {
        Mbarrier { count, pending: count, bytes: 0, phase: 0, current: nothing.clone(), done: nothing, slot, init }
    }

    /// What the current phase hands over.
    pub fn current(&mut self) -> &mut Vec<u32> {
        &mut self.current
    }

    /// What the phases that are over hand over.
    pub fn done(&self) -> &[u32] {
        &self.done
    }

    /// Ends the phase if nothing is missing. False if more bytes have come than can ever be expected.
    pub fn settle(&mut self) -> bool {
        if self.pending == 0 && self.bytes == 0 {
            join(&mut self.done, &self.current);
            self.current.fill(0);
            (self.pending, self.phase) = (self.count, self.phase + 1);
        }
        self.pending > 0 || self.bytes > 0
    }

    /// Whether the phase that a wait names is over.
    pub fn is_over(&self, parity: bool, value: u64) -> bool {
        if parity { self.phase % 2 != value & 1 } else { self.phase > value }
    }
}

/// Where a bulk load reads.
#[derive(Clone)]
pub enum Source {
    /// The tensor map in that parameter, and the first element of the box.
    Box(usize, Vec<i32>),
    /// A buffer and an offset.
    Row(usize, usize),
}

/// A bulk load on its way.
#[derive(Clone)]
pub struct Transfer {
    pub source: Source,
    /// The blocks of the cluster that get it.
    pub ranks: u32,
    pub to: u32,
    pub bytes: u32,
    pub barrier: u32,
    pub pc: u32,
    /// Who issued it: rank, thread.
    pub rank: usize,
    pub thread: u32,
}

/// An arrival at another block's mbarrier.
pub struct Remote {
    pub target: usize,
    /// The warp in the cluster, when, and where.
    pub warp: usize,
    pub time: u32,
    pub pc: u32,
    pub rank: usize,
    pub thread: u32,
}

/// A barrier of a block or of the cluster on which threads may arrive without waiting.
#[derive(Clone, Default)]
pub struct SplitBarrier {
    pub arrived: u32,
    /// The threads that it is for, as the last arrival said.
    pub count: u32,
    pub clock: Vec<u32>,
    pub over: Vec<u32>,
    pub generation: u32,
}

/// The state of a cluster.
pub struct Cluster {
    /// The current time: the blocks take it over from each other.
    pub time: u32,
    /// By rank and place in shared memory.
    pub mbarriers: HashMap<(usize, u32), Mbarrier>,
    pub transfers: VecDeque<Transfer>,
    pub remote: Vec<Remote>,
    /// By rank.
    pub shadows: Vec<AsyncShadow>,
    /// By rank and number.
    pub named: Vec<[SplitBarrier; 16]>,
    pub barrier: SplitBarrier,
    /// By warp of the cluster: the barrier at which it arrived last.
    pub arrived_at: Vec<u32>,
    /// By rank: whether all its threads have ended, and what they knew then.
    pub ended: Vec<Option<Vec<u32>>>,
    /// Counts what can make a wait end.
    pub events: u64,
}

impl Cluster {
    pub fn new(launch: &Launch, warps: usize) -> Cluster {
        let n = launch.kernel.cluster as usize;
        Cluster {
            time: 0,
            mbarriers: HashMap::new(),
            transfers: VecDeque::new(),
            remote: Vec::new(),
            shadows: (0..n).map(|_| AsyncShadow::new(launch.shared_bytes, launch.kernel.shared_granule)).collect(),
            named: vec![Default::default(); n],
            barrier: SplitBarrier::default(),
            arrived_at: vec![0; warps],
            ended: vec![None; n],
            events: 0,
        }
    }

    /// Blocks start.
    pub fn start(&mut self, vectors: &VectorClocks) {
        self.mbarriers.clear();
        self.transfers.clear();
        self.remote.clear();
        self.shadows.iter_mut().for_each(AsyncShadow::start);
        let fresh = SplitBarrier { clock: vectors.nothing(), over: vectors.nothing(), ..SplitBarrier::default() };
        self.named.iter_mut().flatten().for_each(|m| *m = fresh.clone());
        self.barrier = fresh;
        self.arrived_at.fill(0);
        self.ended.fill(None);
    }
}

impl SplitBarrier {
    /// Everybody has come.
    pub fn end(&mut self) {
        self.over.copy_from_slice(&self.clock);
        self.clock.fill(0);
        (self.arrived, self.generation) = (0, self.generation + 1);
    }
}
