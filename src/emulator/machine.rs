//! The memory of a block while it runs: where an address leads, what is loaded, what is stored.

use super::buffer::{Buffer, ranges};
use super::decode::{Kernel, LOCAL, MODULE, PARAM, SHARED};
use super::finding::{Kind, Note, Other, Place};
use super::global::Record;
use super::lanes::{FULL, Registers, lanes};
use super::ops::{Access, Atomic, CpAsync, File, LdMatrix, Memory};
use super::order::{Order, thread_and_pc};
use super::shared::{Shared, Wrong};
use super::stats::Step as Count;
use super::trace::Tracer;
use std::collections::HashMap;
use std::sync::Mutex;

/// A buffer as an argument.
pub struct Bound<'a> {
    pub buffer: &'a Buffer,
    /// Bytes in use.
    pub bytes: usize,
    pub name: &'a str,
    /// The first argument that is the same buffer.
    pub same: u16,
    /// What a record of it needs: nothing if the kernel does not write it.
    pub granule: Option<u32>,
    /// The smallest access to it in bytes, and how much of it a record must hold, under all its names.
    pub least: u32,
    pub bytes_recorded: usize,
}

/// What all blocks of a launch share.
pub struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub grid: u32,
    /// By argument: buffer i lies at `(i + 1) << 40`.
    pub buffers: Vec<Option<Bound<'a>>>,
    /// The block of parameters.
    pub params: Vec<u32>,
    pub params_bytes: usize,
    /// Variables of the module.
    pub module: Vec<u32>,
    pub module_bytes: usize,
    pub budget: u64,
    pub trace: Option<super::Trace>,
    /// Whether instructions and traffic are counted.
    pub counted: bool,
    /// The registers that each instruction names, if a thread is traced.
    pub names: Vec<Vec<u32>>,
    /// 64-bit atomics take two words: one at a time.
    pub wide: Mutex<()>,
}

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

/// How the lanes' addresses lie to each other. The first two are most of what kernels do, and quick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All the same.
    Uniform,
    /// All 32 lanes, one after the other without gaps.
    Row,
    Any,
}

/// Where the lanes of an access lead.
struct Group {
    place: Place,
    shape: Shape,
    /// Byte offsets; lanes that are not in `mask` have the offset of one that is.
    offsets: [u32; 32],
    /// Lanes whose access is allowed.
    mask: u32,
    /// Lanes that this group answers for, allowed or not.
    taken: u32,
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

/// A `cp.async` on its way.
#[derive(Clone, Copy)]
struct Flight {
    lane: u8,
    bytes: u8,
    group: u32,
    to: u32,
    pc: u32,
    data: [u32; 4],
}

/// The `cp.async`s of a warp.
#[derive(Default, Clone)]
pub struct Flights {
    list: Vec<Flight>,
    /// Groups that each lane has committed.
    committed: [u32; 32],
}

/// One block's memory and where it stands.
pub struct Machine<'a> {
    pub launch: &'a Launch<'a>,
    pub block: u32,
    pub warp: u32,
    pub pc: u32,
    shared: Vec<u32>,
    local: Vec<u32>,
    /// Words of local memory per thread.
    local_words: usize,
    flights: Vec<Flights>,
    /// One bit per byte of local memory: it was written.
    local_written: Vec<u32>,
    shadow: Shared,
    /// By warp and number of the load.
    known: Vec<Known>,
    /// By argument, for buffers that the kernel writes.
    pub records: Vec<Option<Record>>,
    pub order: Order,
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
            warp: 0,
            pc: 0,
            shared: vec![0; kernel.shared_bytes.div_ceil(4)],
            local: vec![0; local_words * threads.next_multiple_of(32)],
            local_words,
            flights: vec![Flights::default(); threads.div_ceil(32)],
            local_written: vec![0; (local_words * threads.next_multiple_of(32)).div_ceil(8)],
            known: vec![Known { offsets: [0; 32], shape: Shape::Any, hull: (0, 0), written: 0, logged: (0, 0) }; threads.div_ceil(32) * kernel.shared_loads],
            shadow: Shared::new(kernel.shared_bytes, kernel.shared_granule),
            records: launch.buffers.iter().map(|b| b.as_ref().and_then(|b| b.granule.map(|g| Record::new(b.bytes_recorded.next_multiple_of(4), g)))).collect(),
            order: Order::new(threads.div_ceil(32)),
            notes: Notes::default(),
            forced: false,
            tracer: Tracer::default(),
            counts: vec![Count::default(); if launch.counted { kernel.steps.len() } else { 0 }],
            traced: None,
        }
    }

    /// Makes everything as it is before a block starts.
    pub fn start(&mut self, block: u32) {
        self.block = block;
        self.order.block(block);
        self.shadow.start();
        self.local_written.fill(0);
        self.flights.iter_mut().for_each(|f| {
            f.list.clear();
            f.committed = [0; 32];
        });
    }

    /// A barrier orders everything in the block.
    pub fn block_barrier(&mut self) {
        self.order.barrier();
        self.shadow.barrier();
    }

    /// `bar.warp.sync` orders what its members did.
    pub fn warp_barrier(&mut self, members: u32, live: u32) {
        self.order.warp_barrier(self.warp, members, live);
    }

    #[cold]
    pub fn note(&mut self, kind: Kind, lane: usize, place: Place, address: u64, offset: i64, size: u32, write: bool) {
        let thread = self.warp * 32 + lane as u32;
        self.notes.add(Note { kind, pc: self.pc, block: self.block, thread, place, address, offset, size, write, lanes: 0, other: None });
    }

    #[inline(always)]
    fn addresses(&self, registers: &Registers, access: &Access) -> [u64; 32] {
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
            (Memory::Generic, SHARED) => (SHARED, Place::Shared, kernel.shared_bytes as u64),
            (Memory::Generic, LOCAL) => (LOCAL, Place::Local, kernel.local_bytes as u64),
            (Memory::Generic, PARAM) => (PARAM, Place::Param, self.launch.params_bytes as u64),
            (_, MODULE) => (MODULE, Place::Module, self.launch.module_bytes as u64),
            (_, start) => match self.launch.buffers.get((start >> 40).wrapping_sub(1) as usize) {
                Some(Some(bound)) => (start, Place::Buffer((start >> 40) as u16 - 1), bound.bytes as u64),
                _ => (start, Place::None, 0),
            },
        };
        match memory {
            Memory::Shared => (0, Place::Shared, kernel.shared_bytes as u64),
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

    /// Puts what the shadow of shared memory found into notes.
    #[cold]
    fn note_wrong(&mut self, group: &Group, size: u32, write: bool, list: Vec<(usize, Wrong)>) {
        for (lane, wrong) in list {
            let offset = group.offsets[lane];
            let (kind, other) = match wrong {
                Wrong::Unwritten => (Kind::Unwritten, None),
                Wrong::Race(conflict) => {
                    let (thread, pc) = thread_and_pc(conflict.stamp);
                    // Only stamps of global memory are from other blocks.
                    let block = if matches!(group.place, Place::Buffer(_)) { self.order.block_of(conflict.stamp) } else { self.block };
                    (Kind::Race, Some(Other { block, thread, pc, write: conflict.write }))
                }
                Wrong::Flying => {
                    let over = |f: &Flight| f.to < offset + size && offset < f.to + f.bytes as u32;
                    let all = self.flights.iter().enumerate().flat_map(|(w, f)| f.list.iter().map(move |f| (w, f)));
                    let of = all
                        .filter(|(_, f)| over(f))
                        .map(|(w, f)| Other { block: self.block, thread: w as u32 * 32 + f.lane as u32, pc: f.pc, write: true })
                        .next();
                    (Kind::MissingWait, of)
                }
            };
            let thread = self.warp * 32 + lane as u32;
            self.notes.add(Note {
                kind,
                pc: self.pc,
                block: self.block,
                thread,
                place: group.place,
                address: offset as u64,
                offset: offset as i64,
                size,
                write,
                lanes: 0,
                other,
            });
        }
    }

    /// Counts an access.
    #[inline(always)]
    fn count(&mut self, group: &Group, size: u32) {
        if let Some(count) = self.counts.get_mut(self.pc as usize) {
            match group.place {
                Place::Buffer(_) => count.global(&group.offsets, group.mask, size),
                Place::Shared => count.shared(&group.offsets, group.mask, size),
                _ => {}
            }
        }
    }

    /// Whether the bytes that are about to be read were written, and by whom.
    #[inline(always)]
    fn check_read(&mut self, group: &Group, size: u32) {
        let mut list = Vec::new();
        match group.place {
            Place::Shared => {
                self.shadow.reads(&self.order, self.warp, self.pc, &group.offsets, group.shape, group.mask, size, |lane, wrong| list.push((lane, wrong)))
            }
            Place::Buffer(i) => {
                let bound = self.launch.buffers[i as usize].as_ref().expect("resolve found it");
                if !bound.buffer.is_whole() {
                    if group.shape != Shape::Row || !bound.buffer.is_written(group.offsets[0] as usize, 32 * size as usize) {
                        list.extend(
                            lanes(group.mask)
                                .filter(|&lane| !bound.buffer.is_written(group.offsets[lane] as usize, size as usize))
                                .map(|lane| (lane, Wrong::Unwritten)),
                        );
                    }
                }
                if let Some(record) = &mut self.records[bound.same as usize] {
                    record.access(&self.order, self.warp, self.pc, &group.offsets, group.mask, size, false, |lane, conflict| {
                        list.push((lane, Wrong::Race(conflict)))
                    });
                }
            }
            Place::Local => {
                for lane in lanes(group.mask) {
                    let at = (self.warp as usize * 32 + lane) * self.local_words * 4 + group.offsets[lane] as usize;
                    if ranges(at, size as usize).any(|(word, bits)| self.local_written[word] & bits != bits) {
                        list.push((lane, Wrong::Unwritten));
                    }
                }
            }
            _ => {}
        }
        if !list.is_empty() {
            self.note_wrong(group, size, false, list);
        }
    }

    /// Whether someone else touched the bytes that are about to be written; and marks them as written.
    #[inline(always)]
    fn check_write(&mut self, group: &Group, size: u32) {
        let mut list = Vec::new();
        match group.place {
            Place::Shared => self.shadow.writes(&self.order, self.warp, self.pc, &group.offsets, group.mask, size, |lane, wrong| list.push((lane, wrong))),
            Place::Buffer(i) => {
                let bound = self.launch.buffers[i as usize].as_ref().expect("resolve found it");
                mark(bound.buffer, group, size);
                if let Some(record) = &mut self.records[bound.same as usize] {
                    record.access(&self.order, self.warp, self.pc, &group.offsets, group.mask, size, true, |lane, conflict| {
                        list.push((lane, Wrong::Race(conflict)))
                    });
                }
            }
            Place::Local => {
                for lane in lanes(group.mask) {
                    let at = (self.warp as usize * 32 + lane) * self.local_words * 4 + group.offsets[lane] as usize;
                    ranges(at, size as usize).for_each(|(word, bits)| self.local_written[word] |= bits);
                }
            }
            _ => {}
        }
        if !list.is_empty() {
            self.note_wrong(group, size, true, list);
        }
    }

    /// The same for one lane of an atomic, which reads and writes.
    fn check_atomic(&mut self, group: &Group, lane: usize, size: u32) {
        let (who, offset, steps) = (self.pc << 11 | (self.warp * 32 + lane as u32), group.offsets[lane], &self.launch.kernel.steps);
        let wrong = match group.place {
            Place::Shared => self.shadow.atomic(&self.order, steps, who, offset, size),
            Place::Buffer(i) => {
                let bound = self.launch.buffers[i as usize].as_ref().expect("resolve found it");
                let unwritten = !bound.buffer.is_written(offset as usize, size as usize);
                let conflict = self.records[bound.same as usize].as_mut().and_then(|r| r.atomic(&self.order, steps, who, offset, size));
                if unwritten { Some(Wrong::Unwritten) } else { conflict.map(Wrong::Race) }
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.note_wrong(group, size, true, vec![(lane, wrong)]);
        }
    }

    #[inline(always)]
    pub fn load(&mut self, registers: &mut Registers, access: &Access, mask: u32) {
        if let Some(at) = access.fixed.map(|at| at as usize)
            && at % access.bytes() == 0
            && at + access.bytes() <= self.launch.params_bytes
        {
            let group = Group { place: Place::Param, shape: Shape::Uniform, offsets: [at as u32; 32], mask, taken: mask };
            return gather(registers, access, &group, |word| self.launch.params[word]);
        }
        if let Some(number) = access.number
            && mask == FULL
            && !self.launch.counted
            && self.load_known(registers, access, number as usize)
        {
            return;
        }
        if let Some(group) = self.shared_words(registers, access, mask) {
            self.count(&group, access.bytes() as u32);
            self.check_read(&group, access.bytes() as u32);
            return self.gather_shared(registers, access, &group);
        }
        let addresses = self.addresses(registers, access);
        let bytes = access.bytes() as u32;
        let mut rest = mask;
        while rest != 0 {
            let mut group = self.resolve(access.memory, &addresses, rest, bytes, bytes, false);
            rest &= !group.taken;
            if group.mask != group.taken {
                for slot in &access.slots[..access.count as usize] {
                    lanes(group.taken & !group.mask).for_each(|lane| registers.set_lane(*slot, lane, 0));
                }
            }
            if group.mask == 0 {
                continue;
            }
            self.count(&group, bytes);
            self.check_read(&group, bytes);
            self.localise(&mut group);
            match group.place {
                Place::Buffer(i) => {
                    let words = self.launch.buffers[i as usize].as_ref().expect("resolve found it").buffer.words();
                    debug_assert!(group.offsets.iter().all(|&o| (o as usize + bytes as usize).div_ceil(4) <= words.len()));
                    // SAFETY: resolve checked every offset, plus the bytes of the access, against the bytes in use, which
                    // `run` checked against the buffer's size.
                    gather(registers, access, &group, |word| unsafe { words.get_unchecked(word) }.load(std::sync::atomic::Ordering::Relaxed));
                }
                Place::Shared => self.gather_shared(registers, access, &group),
                Place::Local => gather(registers, access, &group, |word| self.local[word]),
                Place::Param => gather(registers, access, &group, |word| self.launch.params[word]),
                Place::Module => gather(registers, access, &group, |word| self.launch.module[word]),
                Place::None => unreachable!("nothing is in bounds of no memory"),
            }
        }
    }

    /// A load of a full warp from shared memory by 32-bit addresses. What was found out about its addresses the last time
    /// still holds if they are the same: bounds, alignment, and that the bytes were written. False if something is wrong.
    #[inline(always)]
    fn load_known(&mut self, registers: &mut Registers, access: &Access, number: usize) -> bool {
        let at = self.warp as usize * self.launch.kernel.shared_loads + number;
        let (base, size) = (registers.words(access.base.1), access.bytes() as u32);
        let (mut offsets, mut differs) = ([0; 32], 0);
        for i in 0..32 {
            offsets[i] = base[i].wrapping_add(access.offset as u32);
            differs |= offsets[i] ^ self.known[at].offsets[i];
        }
        if differs != 0 || self.known[at].hull.1 == 0 {
            let Some(group) = within(&offsets, FULL, size, size, Place::Shared, self.launch.kernel.shared_bytes as u64) else { return false };
            self.known[at] = Known { offsets, shape: group.shape, hull: super::shared::hull(&offsets, size), written: 0, logged: (0, 0) };
        }
        let known = &mut self.known[at];
        if known.written != self.order.start {
            if !self.shadow.all_written(&known.offsets, known.shape, size) {
                return false;
            }
            known.written = self.order.start;
        }
        let now = (self.order.time, self.shadow.serial);
        if self.shadow.is_quiet(known.hull) {
            if known.logged != now {
                self.shadow.log(&self.order, self.warp, self.pc, &known.offsets, FULL, size, known.hull);
                known.logged = (self.order.time, self.shadow.serial);
            }
            let group = Group { place: Place::Shared, shape: known.shape, offsets: known.offsets, mask: FULL, taken: FULL };
            self.gather_shared(registers, access, &group);
            return true;
        }
        false
    }

    /// The lanes of a 32-bit address in shared memory, if nothing is wrong with them: no 64-bit arithmetic for the most
    /// frequent access of all.
    #[inline(always)]
    fn shared_words(&self, registers: &Registers, access: &Access, mask: u32) -> Option<Group> {
        if access.memory != Memory::Shared || access.base.0 != File::Word {
            return None;
        }
        let base = registers.words(access.base.1);
        let first = base[mask.trailing_zeros() as usize];
        let mut offsets = [0; 32];
        for i in 0..32 {
            offsets[i] = if mask >> i & 1 == 1 { base[i] } else { first }.wrapping_add(access.offset as u32);
        }
        let size = access.bytes() as u32;
        within(&offsets, mask, size, size, Place::Shared, self.launch.kernel.shared_bytes as u64)
    }

    #[inline(always)]
    fn gather_shared(&self, registers: &mut Registers, access: &Access, group: &Group) {
        let words = &self.shared;
        debug_assert!(group.offsets.iter().all(|&o| (o as usize + access.bytes()).div_ceil(4) <= words.len()));
        // SAFETY: `within` checked every offset, plus the bytes of the access, against the size of shared memory.
        gather(registers, access, group, |word| unsafe { *words.get_unchecked(word) });
    }

    #[inline(always)]
    pub fn store(&mut self, registers: &Registers, access: &Access, mask: u32) {
        if let Some(group) = self.shared_words(registers, access, mask) {
            self.count(&group, access.bytes() as u32);
            self.check_write(&group, access.bytes() as u32);
            let words = &mut self.shared;
            return scatter(registers, access, &group, |word, value, mask| words[word] = (words[word] & !mask) | (value & mask));
        }
        let addresses = self.addresses(registers, access);
        let bytes = access.bytes() as u32;
        let mut rest = mask;
        while rest != 0 {
            let mut group = self.resolve(access.memory, &addresses, rest, bytes, bytes, true);
            rest &= !group.taken;
            if group.mask == 0 {
                continue;
            }
            self.count(&group, bytes);
            self.check_write(&group, bytes);
            self.localise(&mut group);
            match group.place {
                Place::Buffer(i) => {
                    let buffer = self.launch.buffers[i as usize].as_ref().expect("resolve found it").buffer;
                    scatter(registers, access, &group, |word, value, mask| buffer.store_bytes(word, value, mask));
                }
                Place::Shared => {
                    let words = &mut self.shared;
                    scatter(registers, access, &group, |word, value, mask| words[word] = (words[word] & !mask) | (value & mask));
                }
                Place::Local => {
                    let words = &mut self.local;
                    scatter(registers, access, &group, |word, value, mask| words[word] = (words[word] & !mask) | (value & mask));
                }
                _ => {
                    let lane = group.mask.trailing_zeros() as usize;
                    self.note(Kind::ReadOnly, lane, group.place, addresses[lane], group.offsets[lane] as i64, bytes, true);
                }
            }
        }
    }

    pub fn atomic(&mut self, registers: &mut Registers, atomic: &Atomic, mask: u32) {
        let addresses = self.addresses(registers, &atomic.at);
        let bytes = atomic.at.bytes() as u32;
        let mut rest = mask;
        while rest != 0 {
            let group = self.resolve(atomic.at.memory, &addresses, rest, bytes, bytes, true);
            rest &= !group.taken;
            self.count(&group, bytes);
            for lane in lanes(group.mask) {
                self.check_atomic(&group, lane, bytes);
                let (a, b) = (registers.lane(atomic.a, lane), registers.lane(atomic.b, lane));
                let word = group.offsets[lane] as usize / 4;
                let old = match group.place {
                    Place::Buffer(i) => {
                        let buffer = self.launch.buffers[i as usize].as_ref().expect("resolve found it").buffer;
                        let words = buffer.words();
                        let relaxed = std::sync::atomic::Ordering::Relaxed;
                        if bytes == 4 {
                            words[word].fetch_update(relaxed, relaxed, |old| Some((atomic.update)(old as u64, a, b) as u32)).unwrap_or(0) as u64
                        } else {
                            let _one_at_a_time = self.launch.wide.lock().unwrap_or_else(|e| e.into_inner());
                            let old = words[word].load(relaxed) as u64 | (words[word + 1].load(relaxed) as u64) << 32;
                            let new = (atomic.update)(old, a, b);
                            words[word].store(new as u32, relaxed);
                            words[word + 1].store((new >> 32) as u32, relaxed);
                            old
                        }
                    }
                    Place::Shared => {
                        let old = self.shared[word] as u64 | if bytes == 8 { (self.shared[word + 1] as u64) << 32 } else { 0 };
                        let new = (atomic.update)(old, a, b);
                        self.shared[word] = new as u32;
                        if bytes == 8 {
                            self.shared[word + 1] = (new >> 32) as u32;
                        }
                        old
                    }
                    place => {
                        self.note(Kind::ReadOnly, lane, place, addresses[lane], group.offsets[lane] as i64, bytes, true);
                        0
                    }
                };
                if let Some(d) = atomic.old {
                    registers.set_lane(d, lane, old);
                }
            }
        }
    }

    pub fn cp_async(&mut self, registers: &Registers, copy: &CpAsync, mask: u32) {
        let bytes = copy.bytes as u32;
        let (to, from) = (self.addresses(registers, &copy.to), self.addresses(registers, &copy.from));
        let to = self.resolve(Memory::Shared, &to, mask, bytes, bytes, true);
        let (mut sources, mut copied) = ([0; 32], 0u32);
        if to.mask != 0 {
            self.count(&to, bytes);
        }
        for lane in lanes(to.mask) {
            let ignored = copy.ignore.is_some_and(|p| registers.bits(p) >> lane & 1 == 1);
            let n = if ignored { 0 } else { copy.source_bytes.map_or(bytes, |s| registers.words(s)[lane].min(bytes)) };
            let mut data = [0u32; 4];
            if n > 0 {
                let group = self.resolve(Memory::Global, &from, 1 << lane, n, bytes, false);
                if group.mask != 0 {
                    self.check_read(&group, n);
                    (sources[lane], copied) = (group.offsets[lane], copied | 1 << lane);
                    let at = group.offsets[lane] as usize / 4;
                    for (i, word) in data[..n.div_ceil(4) as usize].iter_mut().enumerate() {
                        let whole = match group.place {
                            Place::Buffer(b) => self.launch.buffers[b as usize].as_ref().expect("resolve found it").buffer.load(at + i),
                            _ => self.launch.module[at + i],
                        };
                        let keep = n - 4 * i as u32;
                        *word = if keep >= 4 { whole } else { whole & ((1 << (8 * keep)) - 1) };
                    }
                }
            }
            let thread = self.warp * 32 + lane as u32;
            if let Some(wrong) = self.shadow.launches(&self.order, thread, to.offsets[lane], bytes) {
                self.note_wrong(&to, bytes, true, vec![(lane, wrong)]);
            }
            let pc = self.pc;
            let flights = &mut self.flights[self.warp as usize];
            flights.list.push(Flight { pc, lane: lane as u8, bytes: copy.bytes, group: flights.committed[lane], to: to.offsets[lane], data });
        }
        if let Some(count) = self.counts.get_mut(self.pc as usize) {
            count.global(&sources, copied, bytes);
        }
    }

    /// Ends the group of copies of each lane.
    pub fn cp_commit(&mut self, mask: u32) {
        let flights = &mut self.flights[self.warp as usize];
        lanes(mask).for_each(|lane| flights.committed[lane] += 1);
    }

    /// Lands copies until at most `most` groups are in flight; everything if `None`.
    pub fn cp_wait(&mut self, mask: u32, most: Option<u32>) {
        let mut flights = std::mem::take(&mut self.flights[self.warp as usize]);
        let committed = flights.committed;
        flights.list.retain(|flight| {
            let lane = flight.lane as usize;
            let lands = mask >> lane & 1 == 1 && most.is_none_or(|most| flight.group as u64 + (most as u64) < committed[lane] as u64);
            if lands {
                let words = flight.bytes as usize / 4;
                let at = flight.to as usize / 4;
                self.shared[at..at + words].copy_from_slice(&flight.data[..words]);
                self.shadow.lands(&self.order, flight.pc << 11 | (self.warp * 32 + flight.lane as u32), flight.to, flight.bytes as u32);
            }
            !lands
        });
        self.flights[self.warp as usize] = flights;
    }

    pub fn ldmatrix(&mut self, registers: &mut Registers, load: &LdMatrix, mask: u32) {
        let addresses = self.addresses(registers, &load.at);
        // Lanes 0–7 name the rows of the first matrix, 8–15 those of the second, and so on.
        let rows = mask & (FULL >> (32 - 8 * load.count as u32));
        if rows == 0 {
            return;
        }
        let group = self.resolve(load.at.memory, &addresses, rows, 16, 16, false);
        if group.place != Place::Shared {
            let lane = rows.trailing_zeros() as usize;
            self.note(Kind::OutOfBounds, lane, group.place, addresses[lane], group.offsets[lane] as i64, 16, false);
            return;
        }
        if group.mask != 0 {
            self.count(&group, 16);
            self.check_read(&group, 16);
        }
        let word = |row: usize, word: usize| if group.mask >> row & 1 == 1 { self.shared[group.offsets[row] as usize / 4 + word] } else { 0 };
        for matrix in 0..load.count as usize {
            let value = std::array::from_fn(|lane| {
                // Lane i holds row i / 4, columns 2 (i mod 4) and the next; of the transposed matrix with `.trans`.
                let (row, column) = (lane / 4, lane % 4);
                if !load.transposed {
                    return word(8 * matrix + row, column);
                }
                let half = |r: usize| word(8 * matrix + r, row / 2) >> (16 * (row % 2)) & 0xFFFF;
                half(2 * column) | half(2 * column + 1) << 16
            });
            registers.set_words(load.slots[matrix], mask, &value);
        }
    }
}

/// The group of lanes whose offsets are all in bounds and aligned.
#[inline(always)]
fn within(offsets: &[u32; 32], mask: u32, size: u32, align: u32, place: Place, limit: u64) -> Option<Group> {
    let (mut bits, mut least, mut most, mut gaps) = (0u32, u32::MAX, 0u32, 0u32);
    for i in 0..32 {
        bits |= offsets[i];
        least = least.min(offsets[i]);
        most = most.max(offsets[i]);
        gaps |= offsets[i].wrapping_sub(offsets[0]) ^ i as u32 * size;
    }
    if bits & (align - 1) != 0 || most as u64 + size as u64 > limit {
        return None;
    }
    let shape = match (least == most, gaps == 0 && mask == FULL) {
        (true, _) => Shape::Uniform,
        (_, true) => Shape::Row,
        _ => Shape::Any,
    };
    Some(Group { place, shape, offsets: *offsets, mask, taken: mask })
}

/// Marks the bytes of a store as written, a warp's neighbouring lanes together.
#[inline(always)]
fn mark(buffer: &Buffer, group: &Group, bytes: u32) {
    if buffer.is_whole() {
        return;
    }
    if group.shape == Shape::Row {
        return buffer.mark(group.offsets[0] as usize, 32 * bytes as usize);
    }
    let (mut start, mut end) = (0, 0);
    for lane in lanes(group.mask) {
        let offset = group.offsets[lane];
        if offset != end {
            buffer.mark(start as usize, (end - start) as usize);
            start = offset;
        }
        end = offset + bytes;
    }
    buffer.mark(start as usize, (end - start) as usize);
}

/// Loads: the words of every lane to the registers of the access.
#[inline(always)]
fn gather(registers: &mut Registers, access: &Access, group: &Group, get: impl Fn(usize) -> u32) {
    let offsets = &group.offsets;
    for (element, &(file, slot)) in access.slots[..access.count as usize].iter().enumerate() {
        match (access.width, file) {
            (4, File::Word) if group.shape == Shape::Uniform => registers.set_words(slot, group.mask, &[get(offsets[0] as usize / 4 + element); 32]),
            (4, File::Word) if group.shape == Shape::Row && access.count == 1 => {
                let start = offsets[0] as usize / 4;
                registers.set_words(slot, FULL, &std::array::from_fn(|i| get(start + i)));
            }
            (4, File::Word) => {
                let mut value = [0; 32];
                for i in 0..32 {
                    value[i] = get(offsets[i] as usize / 4 + element);
                }
                registers.set_words(slot, group.mask, &value);
            }
            (8, _) => {
                let mut value = [0; 32];
                for i in 0..32 {
                    let at = offsets[i] as usize / 4 + 2 * element;
                    value[i] = get(at) as u64 | (get(at + 1) as u64) << 32;
                }
                registers.set_longs(slot, group.mask, &value);
            }
            (width, _) => {
                let mut value = [0; 32];
                for i in 0..32 {
                    let at = offsets[i] as usize + element * width as usize;
                    let v = (get(at / 4) >> (8 * (at % 4))) as u64;
                    let v = if width == 4 { v } else { v & ((1 << (8 * width)) - 1) };
                    value[i] = match access.sign {
                        0 => v,
                        // The last bit of `sign` says that the register is 16 bits wide.
                        sign => {
                            let v = super::arith::signed(v, sign as u32 & !1) as u64;
                            if sign & 1 == 1 { v & 0xFFFF } else { v }
                        }
                    };
                }
                if file == File::Long {
                    registers.set_longs(slot, group.mask, &value);
                } else {
                    registers.set_words(slot, group.mask, &value.map(|v| v as u32));
                }
            }
        }
    }
}

/// Stores: the registers of the access to the words of every lane, lanes in order.
#[inline(always)]
fn scatter(registers: &Registers, access: &Access, group: &Group, mut set: impl FnMut(usize, u32, u32)) {
    let slots = &access.slots[..access.count as usize];
    if access.width == 4 && access.slots[0].0 == File::Word {
        for (element, &(_, slot)) in slots.iter().enumerate() {
            let value = registers.words(slot);
            lanes(group.mask).for_each(|lane| set(group.offsets[lane] as usize / 4 + element, value[lane], u32::MAX));
        }
        return;
    }
    if access.width == 8 {
        for (element, &(_, slot)) in slots.iter().enumerate() {
            let value = registers.longs(slot);
            for lane in lanes(group.mask) {
                let at = group.offsets[lane] as usize / 4 + 2 * element;
                set(at, value[lane] as u32, u32::MAX);
                set(at + 1, (value[lane] >> 32) as u32, u32::MAX);
            }
        }
        return;
    }
    // Parts of words: neighbours are put together, so that a warp's bf16 row goes out in whole words.
    let part = ((1u64 << (8 * access.width)) - 1) as u32;
    let (mut word, mut value, mut mask) = (usize::MAX, 0, 0);
    for lane in lanes(group.mask) {
        for (element, &slot) in slots.iter().enumerate() {
            let at = group.offsets[lane] as usize + element * access.width as usize;
            if at / 4 != word {
                if mask != 0 {
                    set(word, value, mask);
                }
                (word, value, mask) = (at / 4, 0, 0);
            }
            let shift = 8 * (at % 4);
            value = (value & !(part << shift)) | (registers.lane(slot, lane) as u32 & part) << shift;
            mask |= part << shift;
        }
    }
    if mask != 0 {
        set(word, value, mask);
    }
}
