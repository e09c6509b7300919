//! The memory of a block while it runs: where an address leads, what is loaded, what is stored.

use super::cluster::Cluster;
use super::finding::{Kind, Note, Place};
use super::group::{Group, Shape, within};
use super::happens_before::HappensBefore;
use super::in_flight::{AsyncCopies, BulkStores};
use super::kernel::{LOCAL, MODULE, PARAM, SHARED};
use super::lanes::{Registers, lanes};
use super::launch::Launch;
use super::ops::{Address, File, Memory};
use super::shadow::{GlobalShadow, SharedShadow};
use super::stats::Step as Count;
use super::trace::Tracer;
use std::collections::HashMap;

mod bulk;
mod checks;
mod copies;
mod transfer;
mod wgmma;

/// Notes, each kind once per instruction, the rest counted.
#[derive(Default)]
pub struct Notes {
    pub first: HashMap<(Kind, u32), Note>,
    pub more: u64,
}

impl Notes {
    /// Keeps the note if its kind is new at its instruction, or if its block comes before the one that was kept.
    pub fn add(&mut self, note: Note) {
        match self.first.entry((note.kind, note.pc)) {
            std::collections::hash_map::Entry::Occupied(mut kept) => {
                self.more += 1;
                if (note.block, note.thread) < (kept.get().block, kept.get().thread) {
                    kept.insert(note);
                }
            }
            std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(note)),
        }
    }
}

/// What is known of the last full-warp load from shared memory at some instruction: in loops over tiles the addresses are
/// the same again and again.
#[derive(Clone)]
struct Known {
    offsets: [u32; 32],
    shape: Shape,
    /// From the first to the last byte; empty if nothing is known.
    hull: (usize, usize),
    /// The block (by its start) in which all the bytes were found written.
    written: u32,
    /// When it went into the log of reads, and into which.
    logged: (u32, u32),
}

/// One block's memory and its progress.
pub struct Machine<'a> {
    pub launch: &'a Launch<'a>,
    pub block: u32,
    /// Its place in the cluster, and what it shares with the others, while it runs.
    pub rank: usize,
    pub cluster: Option<Box<Cluster>>,
    /// Bulk stores, by warp.
    stores: Vec<BulkStores>,
    pub warp: u32,
    pub pc: u32,
    pub shared: Vec<u32>,
    local: Vec<u32>,
    /// Words of local memory per thread.
    local_words: usize,
    copies: Vec<AsyncCopies>,
    /// One bit per byte of local memory: it was written.
    local_written: Vec<u32>,
    shared_shadow: SharedShadow,
    /// By warp and number of the load.
    known: Vec<Known>,
    /// By argument, for buffers that the kernel writes.
    pub global_shadows: Vec<Option<GlobalShadow>>,
    pub order: HappensBefore,
    pub notes: Notes,
    /// A warp-wide instruction whose lanes never come runs without them.
    pub forced: bool,
    pub tracer: Tracer,
    /// By step, if the launch is counted; else empty.
    pub counts: Vec<Count>,
    /// The lane to trace, while its warp runs.
    pub traced: Option<usize>,
}

impl<'a> Machine<'a> {
    pub fn new(launch: &'a Launch<'a>) -> Machine<'a> {
        let kernel = launch.kernel;
        let threads = kernel.block.iter().product::<u32>() as usize;
        let local_words = kernel.local_bytes.div_ceil(4);
        Machine {
            launch,
            block: 0,
            rank: 0,
            cluster: None,
            stores: vec![BulkStores::default(); if kernel.asynchronous { threads.div_ceil(32) } else { 0 }],
            warp: 0,
            pc: 0,
            shared: vec![0; launch.shared_bytes.div_ceil(4)],
            local: vec![0; local_words * threads.next_multiple_of(32)],
            local_words,
            copies: vec![AsyncCopies::default(); threads.div_ceil(32)],
            local_written: vec![0; (local_words * threads.next_multiple_of(32)).div_ceil(8)],
            known: vec![Known { offsets: [0; 32], shape: Shape::Any, hull: (0, 0), written: 0, logged: (0, 0) }; threads.div_ceil(32) * kernel.shared_loads],
            // Asynchronous kernels have other shadows, in what a cluster shares.
            shared_shadow: SharedShadow::new(if kernel.asynchronous { 0 } else { launch.shared_bytes }, kernel.shared_granule),
            global_shadows: launch
                .buffers
                .iter()
                .map(|b| b.as_ref().and_then(|b| b.granule.map(|g| GlobalShadow::new(b.shadow_bytes.next_multiple_of(4), g))))
                .collect(),
            order: HappensBefore::new(threads.div_ceil(32)),
            notes: Notes::default(),
            forced: false,
            tracer: Tracer::default(),
            counts: vec![Count::default(); if launch.counted { kernel.steps.len() } else { 0 }],
            traced: None,
        }
    }

    /// Resets everything to what it is before a block starts.
    pub fn start(&mut self, block: u32) {
        self.block = block;
        self.order.block(block);
        self.shared_shadow.start();
        self.local_written.fill(0);
        self.copies.iter_mut().for_each(|f| {
            f.list.clear();
            f.committed = [0; 32];
        });
        self.stores.fill(BulkStores::default());
    }

    /// A barrier orders everything in the block.
    pub fn block_barrier(&mut self) {
        self.order.barrier();
        self.shared_shadow.barrier();
    }

    /// `bar.warp.sync` orders what its members did.
    pub fn warp_barrier(&mut self, members: u32, live: u32) {
        self.order.warp_barrier(self.warp, members, live);
    }

    #[cold]
    pub fn note(&mut self, kind: Kind, lane: usize, place: Place, address: u64, offset: i64, size: u32, write: bool) {
        let thread = self.warp * 32 + lane as u32;
        self.notes.add(Note { place, address, offset, size, write, ..Note::new(kind, self.pc, self.block, thread) });
    }

    #[inline(always)]
    fn addresses(&self, registers: &Registers, access: &Address) -> [u64; 32] {
        let mut addresses = [0; 32];
        match access.base {
            (File::Long, slot) => {
                let base = registers.longs(slot);
                for i in 0..32 {
                    addresses[i] = base[i].wrapping_add(access.offset as u64);
                }
            }
            (_, slot) => {
                let base = registers.words(slot);
                for i in 0..32 {
                    addresses[i] = base[i].wrapping_add(access.offset as u32) as u64;
                }
            }
        }
        addresses
    }

    /// Where a space starts in the addresses that name it, what it is, and its size.
    #[inline(always)]
    fn window(&self, memory: Memory, address: u64) -> (u64, Place, u64) {
        let kernel = self.launch.kernel;
        let generic = |memory| match (memory, address >> 40 << 40) {
            (Memory::Generic, SHARED) => (SHARED, Place::Shared, self.launch.shared_bytes as u64),
            (Memory::Generic, LOCAL) => (LOCAL, Place::Local, kernel.local_bytes as u64),
            (Memory::Generic, PARAM) => (PARAM, Place::Param, self.launch.params_bytes as u64),
            (_, MODULE) => (MODULE, Place::Module, self.launch.module_bytes as u64),
            (_, start) => match self.launch.buffers.get((start >> 40).wrapping_sub(1) as usize) {
                Some(Some(bound)) => (start, Place::Buffer((start >> 40) as u16 - 1), bound.bytes as u64),
                _ => (start, Place::None, 0),
            },
        };
        match memory {
            Memory::Shared => (0, Place::Shared, self.launch.shared_bytes as u64),
            Memory::Local => (0, Place::Local, kernel.local_bytes as u64),
            Memory::Param => (0, Place::Param, self.launch.params_bytes as u64),
            Memory::Const => (MODULE, Place::Module, self.launch.module_bytes as u64),
            memory => generic(memory),
        }
    }

    /// The lanes of `mask` that lead to the same memory as its first lane.
    #[inline(always)]
    fn resolve(&mut self, memory: Memory, addresses: &[u64; 32], mask: u32, size: u32, align: u32, write: bool) -> Group {
        let first = addresses[mask.trailing_zeros() as usize];
        let (start, place, limit) = self.window(memory, first);
        let (mut offsets, mut above) = ([0u32; 32], 0u64);
        for i in 0..32 {
            let address = if mask >> i & 1 == 1 { addresses[i] } else { first };
            let offset = address.wrapping_sub(start);
            above |= offset >> 32;
            offsets[i] = offset as u32;
        }
        if above == 0
            && let Some(group) = within(&offsets, mask, size, align, place, limit)
        {
            return group;
        }
        self.resolve_slowly(memory, addresses, mask, size, align, write, start, place, limit)
    }

    /// The same lane by lane, noting what is wrong.
    #[cold]
    #[inline(never)]
    fn resolve_slowly(
        &mut self,
        memory: Memory,
        addresses: &[u64; 32],
        mask: u32,
        size: u32,
        align: u32,
        write: bool,
        start: u64,
        place: Place,
        limit: u64,
    ) -> Group {
        let mut group = Group { place, shape: Shape::Any, offsets: [0; 32], mask: 0, taken: 0 };
        for lane in lanes(mask) {
            let address = addresses[lane];
            if matches!(memory, Memory::Global | Memory::Generic) && address >> 40 << 40 != start {
                continue;
            }
            group.taken |= 1 << lane;
            let offset = address.wrapping_sub(start);
            if offset.checked_add(size as u64).is_none_or(|end| end > limit) {
                let (mut place, mut offset) = (place, offset as i64);
                // Just below a buffer is a negative index into it, not a large one into its neighbour.
                let next = (start >> 40) as usize;
                if matches!(memory, Memory::Global | Memory::Generic) && offset >= 1 << 39 && matches!(self.launch.buffers.get(next), Some(Some(_))) {
                    (place, offset) = (Place::Buffer(next as u16), offset - (1 << 40));
                }
                self.note(Kind::OutOfBounds, lane, place, address, offset, size, write);
            } else if offset & (align as u64 - 1) != 0 {
                self.note(Kind::Misaligned, lane, place, address, offset as i64, size, write);
            } else {
                group.mask |= 1 << lane;
                group.offsets[lane] = offset as u32;
            }
        }
        if group.mask != 0 {
            let any = group.offsets[group.mask.trailing_zeros() as usize];
            (0..32).filter(|i| group.mask >> i & 1 == 0).for_each(|i| group.offsets[i] = any);
        }
        group
    }

    /// Local memory is an array per thread: moves the offsets to each lane's own.
    #[inline(always)]
    fn localise(&self, group: &mut Group) {
        if group.place == Place::Local {
            for i in 0..32 {
                group.offsets[i] += ((self.warp as usize * 32 + i) * self.local_words * 4) as u32;
            }
            group.shape = Shape::Any;
        }
    }
}
