//! mbarriers, bulk copies, and the barriers on which threads arrive without waiting.

use super::super::arith::bf16;
use super::super::cluster::{Mbarrier, Remote, Source, Transfer};
use super::super::finding::{Kind, Note, Other, Place};
use super::super::group::{Group, Shape};
use super::super::in_flight::BulkStore;
use super::super::kernel::{PARAM, SHARED};
use super::super::lanes::{Registers, lanes};
use super::super::launch::Launch;
use super::super::ops::{Address, Bulk, File, Mbarrier as Operation, Memory, Phase, Way};
use super::super::shadow::{Accessor, AgentEpoch, Violation};
use super::super::tensor_map::{MapType, Swizzle, TensorMap};
use super::Machine;
use std::sync::atomic::Ordering::Relaxed;

/// How a wait at an mbarrier ends.
pub struct Answer {
    /// Lanes whose phase is over.
    pub over: u32,
    /// Lanes that wait for the same phase of the same mbarrier, which is.
    pub waiting: u32,
    pub at: u32,
    pub value: u64,
}

/// One row of a box: where it starts in the box and in the buffer, and how much of it is inside of the tensor.
pub struct Row {
    pub first: u32,
    pub offset: usize,
    pub bytes: u32,
}

/// The rows of a box of `map` that are inside of the tensor, at least in part.
pub fn rows(map: &TensorMap, first: &[i32], mut f: impl FnMut(Row)) {
    let element = map.dtype.bytes() as i64;
    let row_bytes = map.box_sizes[0] as i64 * element;
    let (start, size) = (first[0] as i64, map.sizes[0] as i64);
    let (from, to) = ((-start).max(0), (size - start).min(map.box_sizes[0] as i64));
    if from >= to {
        return;
    }
    let count: u64 = map.box_sizes[1..].iter().map(|&n| n as u64).product();
    for row in 0..count {
        let (mut rest, mut offset, mut inside) = (row, map.address as i64 + (start + from) * element, true);
        for d in 1..map.sizes.len() {
            let at = first[d] as i64 + (rest % map.box_sizes[d] as u64) as i64;
            rest /= map.box_sizes[d] as u64;
            inside &= (0..map.sizes[d] as i64).contains(&at);
            offset += at * map.strides[d - 1] as i64;
        }
        if inside {
            f(Row { first: (row as i64 * row_bytes + from * element) as u32, offset: offset as usize, bytes: ((to - from) * element) as u32 });
        }
    }
}

impl Launch<'_> {
    /// The tensor map in a parameter.
    pub fn map(&self, argument: usize) -> &TensorMap {
        self.maps[argument].as_ref().expect("looked up when the copy was issued")
    }

    fn rows_of(&self, source: &Source, bytes: u32, mut f: impl FnMut(usize, Row)) {
        match source {
            Source::Box(argument, first) => rows(self.map(*argument), first, |row| f(*argument, row)),
            Source::Row(buffer, offset) => f(*buffer, Row { first: 0, offset: *offset, bytes }),
        }
    }

    fn swizzle(&self, source: &Source) -> Swizzle {
        match source {
            Source::Box(argument, _) => self.map(*argument).swizzle,
            Source::Row(..) => Swizzle::None,
        }
    }
}

impl Machine<'_> {
    /// A finding in words, with other places that it names.
    #[cold]
    pub fn note_text(&mut self, kind: Kind, lane: usize, places: Vec<(u32, String)>) {
        let thread = self.warp * 32 + lane as u32;
        self.notes.add(Note { list: places, ..Note::new(kind, self.pc, self.block, thread) });
    }

    #[cold]
    fn say(&mut self, kind: Kind, lane: usize, text: String) {
        self.note_text(kind, lane, vec![(self.pc, text)]);
    }

    /// Where a lane's address in shared memory leads: the block in the cluster, and the offset there.
    fn shared_place(&mut self, registers: &Registers, at: &Address, lane: usize, size: u32, align: u32) -> Option<(usize, u32)> {
        let address = match at.base.0 {
            File::Long => registers.longs(at.base.1)[lane].wrapping_add(at.offset as u64),
            _ => registers.words(at.base.1)[lane].wrapping_add(at.offset as u32) as u64,
        };
        let address = if at.memory == Memory::Generic { address.wrapping_sub(SHARED) } else { address };
        let (rank, offset) = ((address >> 24) as usize, (address & 0xFF_FFFF) as u32);
        let rank = if rank == 0 { self.rank } else { rank - 1 };
        let bytes = self.launch.shared_bytes as u32;
        if address >> 32 != 0 || rank >= self.launch.kernel.cluster as usize || offset.checked_add(size).is_none_or(|end| end > bytes) {
            self.note(Kind::OutOfBounds, lane, Place::Shared, address, (address & 0xFF_FFFF) as i64, size, true);
            return None;
        }
        if offset % align != 0 {
            let text = format!("expected an address in shared memory that is a multiple of {align}, found offset {offset}");
            self.say(Kind::Misaligned, lane, text);
            return None;
        }
        Some((rank, offset))
    }

    /// Everything but waiting.
    pub fn mbarrier(&mut self, registers: &mut Registers, op: &Operation, mask: u32) {
        for lane in lanes(mask) {
            let Some((rank, offset)) = self.shared_place(registers, &op.at, lane, 8, 8) else { continue };
            let value = op.value.map_or(1, |v| registers.lane(v, lane));
            let state = self.phase(op, lane, rank, offset, value);
            if let Some(to) = op.to {
                registers.set_lane(to, lane, state);
            }
        }
    }

    /// One operation on one mbarrier; the phase in which it was.
    fn phase(&mut self, op: &Operation, lane: usize, rank: usize, offset: u32, value: u64) -> u64 {
        let mut cluster = self.cluster.take().expect("an mbarrier is the mark of an asynchronous kernel");
        let me = self.global_warp();
        let mut said = None;
        cluster.events += 1;
        let mut phase = 0;
        match op.what {
            Phase::Init => {
                let vectors = self.order.vectors.as_ref().expect("asynchronous kernels have clocks");
                let slot = cluster.mbarriers.get(&(rank, offset)).map_or(cluster.mbarriers.len(), |b| b.slot);
                if value == 0 || value >= 1 << 20 {
                    said = Some((Kind::Mbarrier, format!("an mbarrier is initialised for {value} arrivals: expected 1 to 1048575")));
                }
                let barrier = Mbarrier::new((value as u32).max(1), slot, (me, self.order.time), vectors.nothing());
                cluster.mbarriers.insert((rank, offset), barrier);
            }
            Phase::Inval => drop(cluster.mbarriers.remove(&(rank, offset))),
            _ => match cluster.mbarriers.get_mut(&(rank, offset)) {
                None => said = Some((Kind::Mbarrier, format!("no mbarrier was initialised at {}", self.name_of(rank, offset)))),
                Some(barrier) => {
                    phase = barrier.phase;
                    if !self.knows_init(barrier) {
                        said = Some((
                            Kind::Mbarrier,
                            format!("the mbarrier at {} is used with nothing between its initialisation and this", self.name_of(rank, offset)),
                        ));
                    }
                    if matches!(op.what, Phase::Expect | Phase::ArriveExpect) {
                        barrier.bytes += value as u32 as i64;
                    }
                    let arrivals = match op.what {
                        Phase::Arrive => value as u32,
                        Phase::ArriveExpect => 1,
                        _ => 0,
                    };
                    if arrivals > barrier.pending {
                        said = Some((
                            Kind::Mbarrier,
                            format!("{arrivals} arrivals at the mbarrier at {}, whose phase waits for {} more", self.name_of(rank, offset), barrier.pending),
                        ));
                    }
                    barrier.pending = barrier.pending.saturating_sub(arrivals);
                    if arrivals > 0 && !op.relaxed {
                        self.order.release(self.warp, barrier.current());
                    }
                    if !barrier.settle() {
                        said = Some((
                            Kind::Mbarrier,
                            format!("{} bytes more than expected have come to the mbarrier at {}", -barrier.bytes, self.name_of(rank, offset)),
                        ));
                    }
                    if rank != self.rank {
                        let thread = self.warp * 32 + lane as u32;
                        cluster.remote.retain(|r| r.target != rank || r.warp != me);
                        cluster.remote.push(Remote { target: rank, warp: me, time: self.order.time - 1, pc: self.pc, rank: self.rank, thread });
                    }
                }
            },
        }
        self.cluster = Some(cluster);
        if let Some((kind, text)) = said {
            self.say(kind, lane, text);
        }
        phase
    }

    fn knows_init(&self, barrier: &Mbarrier) -> bool {
        let (warp, time) = barrier.init;
        let me = self.global_warp();
        warp == me || self.order.vectors.as_ref().is_none_or(|v| v.knows(me, warp, time))
    }

    /// The warp that runs, in its cluster.
    pub fn global_warp(&self) -> usize {
        self.order.vectors.as_ref().map_or(0, |v| v.base) + self.warp as usize
    }

    /// A place in shared memory in words.
    pub fn name_of(&self, rank: usize, offset: u32) -> String {
        let variables = &self.launch.kernel.shared_variables;
        let within = variables.iter().find(|(_, start, end)| (*start..*end).contains(&(offset as usize)));
        let of = if rank == self.rank { String::new() } else { format!(" of the block of rank {rank}") };
        match within {
            Some((name, start, _)) => format!("{name} + {}{of}", offset as usize - start),
            None => format!("offset {offset} of shared memory{of}"),
        }
    }

    /// Waits, or answers if there is an answer. `expired` are lanes whose time limit is over.
    pub fn mbarrier_wait(&mut self, registers: &mut Registers, op: &Operation, mask: u32, expired: u32) -> Answer {
        let mut answer = Answer { over: 0, waiting: 0, at: 0, value: 0 };
        let parity = op.what == Phase::WaitParity;
        for lane in lanes(mask) {
            let Some((_, offset)) = self.shared_place(registers, &op.at, lane, 8, 8) else {
                answer.over |= 1 << lane;
                continue;
            };
            let value = op.value.map_or(0, |v| registers.lane(v, lane));
            let cluster = self.cluster.take().expect("an mbarrier is the mark of an asynchronous kernel");
            let (mut over, mut said) = (true, None);
            match cluster.mbarriers.get(&(self.rank, offset)) {
                None => said = Some(format!("no mbarrier was initialised at {}", self.name_of(self.rank, offset))),
                Some(barrier) => {
                    if !self.knows_init(barrier) {
                        said = Some(format!("the mbarrier at {} is used with nothing between its initialisation and this", self.name_of(self.rank, offset)));
                    }
                    over = barrier.is_over(parity, value);
                    if over && !op.relaxed {
                        self.order.acquire(self.warp, barrier.done());
                    }
                }
            }
            self.cluster = Some(cluster);
            if let Some(text) = said {
                self.say(Kind::Mbarrier, lane, text);
            }
            if over {
                answer.over |= 1 << lane;
            } else if expired >> lane & 1 == 0 && (answer.waiting == 0 || (answer.at, answer.value) == (offset, value)) {
                (answer.at, answer.value) = (offset, value);
                answer.waiting |= 1 << lane;
            }
        }
        if let Some((_, to)) = op.to {
            registers.set_bits(to, mask & !answer.waiting, answer.over);
        }
        answer
    }

    /// `bar.arrive`.
    pub fn named_arrive(&mut self, number: u32, count: u32, mask: u32) {
        let mut cluster = self.cluster.take().expect("`bar.arrive` is the mark of an asynchronous kernel");
        cluster.events += 1;
        let barrier = &mut cluster.named[self.rank][number as usize % 16];
        barrier.arrived += mask.count_ones();
        barrier.count = count;
        self.order.release(self.warp, &mut barrier.clock);
        self.cluster = Some(cluster);
    }

    /// `barrier.cluster.arrive`.
    pub fn cluster_arrive(&mut self, mask: u32) {
        let me = self.global_warp();
        let mut cluster = self.cluster.take().expect("a cluster barrier is the mark of an asynchronous kernel");
        cluster.events += 1;
        cluster.barrier.arrived += mask.count_ones();
        cluster.arrived_at[me] = cluster.barrier.generation;
        self.order.release(self.warp, &mut cluster.barrier.clock);
        self.cluster = Some(cluster);
    }

    /// Whether the barrier at which the warp arrived is over.
    pub fn cluster_met(&mut self) -> bool {
        let me = self.global_warp();
        let Some(cluster) = &self.cluster else { return true };
        let over = cluster.barrier.generation > cluster.arrived_at[me];
        if over {
            let clock = cluster.barrier.over.clone();
            self.order.acquire(self.warp, &clock);
        }
        over
    }

    /// Issues bulk copies, a lane at a time.
    pub fn bulk(&mut self, registers: &Registers, op: &Bulk, mask: u32) {
        for lane in lanes(mask) {
            self.bulk_lane(registers, op, lane);
        }
    }

    fn bulk_lane(&mut self, registers: &Registers, op: &Bulk, lane: usize) {
        let thread = self.warp * 32 + lane as u32;
        let address = registers.longs(op.global.base.1)[lane].wrapping_add(op.global.offset as u64);
        let (remote, bytes) = match op.bytes {
            None => {
                let entry = &self.launch.kernel.parameters;
                let argument = entry.iter().position(|&p| PARAM + p as u64 == address).filter(|&i| self.launch.maps[i].is_some());
                let Some(argument) = argument else {
                    return self.say(
                        Kind::OutOfBounds,
                        lane,
                        format!("no tensor map is at address {address:#x}: expected the address of a parameter that is one"),
                    );
                };
                let map = self.launch.map(argument);
                if map.sizes.len() != op.coordinates.len() {
                    let text = format!("a copy in {} dimensions through a tensor map of {}", op.coordinates.len(), map.sizes.len());
                    return self.say(Kind::OutOfBounds, lane, text);
                }
                let row = map.box_sizes[0] as usize * map.dtype.bytes();
                if map.swizzle != Swizzle::None && row != map.swizzle.span() {
                    let text = format!("rows of {row} bytes in a box that is swizzled by {}: the emulator needs them to be as long", map.swizzle.span());
                    return self.say(Kind::Misaligned, lane, text);
                }
                let first = op.coordinates.iter().map(|&c| registers.words(c)[lane] as i32).collect();
                (Source::Box(argument, first), map.box_bytes() as u32)
            }
            Some(slot) => {
                let bytes = registers.words(slot)[lane];
                if bytes == 0 || !bytes.is_multiple_of(16) {
                    return self.say(Kind::Misaligned, lane, format!("a bulk copy of {bytes} bytes: expected a multiple of 16"));
                }
                let write = op.way != Way::Load;
                let group = self.resolve(Memory::Global, &[address; 32], 1 << lane, bytes, 16, write);
                let Place::Buffer(buffer) = group.place else {
                    if group.mask != 0 {
                        self.note(Kind::OutOfBounds, lane, group.place, address, 0, bytes, write);
                    }
                    return;
                };
                if group.mask == 0 {
                    return;
                }
                (Source::Row(buffer as usize, group.offsets[lane] as usize), bytes)
            }
        };
        // A box is written in whole atoms of its swizzle: their place decides what goes where.
        let align = if op.bytes.is_some() { 16 } else { 128 };
        let Some((rank, offset)) = self.shared_place(registers, &op.shared, lane, bytes, align) else { return };
        if rank != self.rank {
            return self.say(Kind::OutOfBounds, lane, "a bulk copy into another block's shared memory: only a multicast is supported".into());
        }
        let accessor = Accessor { warp: self.global_warp(), thread: Some(thread) };
        self.bulk_global(lane, &remote, bytes, op.way);
        if let Some(at) = &op.barrier {
            let Some((_, barrier)) = self.shared_place(registers, at, lane, 8, 8) else { return };
            let all = (1u32 << self.launch.kernel.cluster) - 1;
            let ranks = op.multicast.map_or(1 << self.rank, |m| registers.words(m)[lane] & 0xFFFF);
            if ranks & !all != 0 || ranks == 0 {
                return self.say(Kind::OutOfBounds, lane, format!("a multicast to the blocks {ranks:#b} of a cluster of {}", self.launch.kernel.cluster));
            }
            let mut cluster = self.cluster.take().expect("a bulk copy is the mark of an asynchronous kernel");
            let mut found = Vec::new();
            for rank in lanes(ranks) {
                if let Some(wrong) = cluster.shadows[rank].launches(&self.order, accessor, offset, bytes) {
                    found.push(wrong);
                }
            }
            cluster.events += 1;
            cluster.transfers.push_back(Transfer { source: remote, ranks, to: offset, bytes, barrier, pc: self.pc, rank: self.rank, thread });
            self.cluster = Some(cluster);
            found.into_iter().for_each(|(at, wrong)| self.note_at(lane, at, 16, true, wrong));
            return;
        }
        let mut cluster = self.cluster.take().expect("a bulk copy is the mark of an asynchronous kernel");
        let stores = &mut self.stores[self.warp as usize];
        let group = stores.committed[lane];
        let agent = self.order.vectors.as_ref().map_or(0, |v| v.stores(accessor.warp)) as u16;
        let epoch = AgentEpoch { time: group + 1, pc: self.pc, agent, thread: thread as u16 };
        // What is outside of the tensor is read all the same.
        let found = (offset..offset + bytes).step_by(16).find_map(|at| cluster.shadows[rank].reads_later(&self.order, accessor, epoch, at).map(|w| (at, w)));
        stores.list.push(BulkStore { lane: lane as u8, group, to: remote, from: offset, bytes, add: op.way == Way::Reduce, pc: self.pc });
        cluster.events += 1;
        self.cluster = Some(cluster);
        if let Some((at, wrong)) = found {
            self.note_at(lane, at, 16, false, wrong);
        }
    }

    /// What is wrong with one lane's access to shared memory.
    pub fn note_at(&mut self, lane: usize, offset: u32, size: u32, write: bool, wrong: Violation) {
        let group = Group { place: Place::Shared, shape: Shape::Uniform, offsets: [offset; 32], mask: 1 << lane, taken: 1 << lane };
        self.note_wrong(&group, size, write, vec![(lane, wrong)]);
    }

    /// Who else touches what a bulk copy reads or writes in global memory, and whether it was written.
    fn bulk_global(&mut self, lane: usize, remote: &Source, bytes: u32, way: Way) {
        let who = self.pc << 11 | (self.warp * 32 + lane as u32);
        let (launch, steps) = (self.launch, &self.launch.kernel.steps);
        let mut found = None;
        launch.rows_of(remote, bytes, |argument, row| {
            let bound = launch.buffers[argument].as_ref().expect("a copy goes through a buffer");
            if way != Way::Store && !bound.buffer.is_written(row.offset, row.bytes as usize) {
                found = found.take().or(Some((argument, row.offset, row.bytes, Violation::Unwritten)));
            }
            if let Some(shadow) = &mut self.global_shadows[bound.same as usize]
                && let Some(conflict) = shadow.bulk(&self.order, steps, who, row.offset as u32, row.bytes, way != Way::Load, way == Way::Reduce)
            {
                found = found.take().or(Some((argument, row.offset, row.bytes, Violation::Race(conflict))));
            }
        });
        if let Some((argument, offset, size, wrong)) = found {
            let place = Place::Buffer(argument as u16);
            let group = Group { place, shape: Shape::Uniform, offsets: [offset as u32; 32], mask: 1 << lane, taken: 1 << lane };
            self.note_wrong(&group, size, way != Way::Load, vec![(lane, wrong)]);
        }
    }

    /// Puts the data of a load into this block's shared memory.
    pub fn land(&mut self, transfer: &Transfer) {
        let (launch, swizzle) = (self.launch, self.launch.swizzle(&transfer.source));
        let start = transfer.to as usize / 4;
        self.shared[start..start + transfer.bytes as usize / 4].fill(0);
        let mut data = Vec::new();
        launch.rows_of(&transfer.source, transfer.bytes, |argument, row| {
            data.resize(row.bytes as usize, 0);
            launch.buffers[argument].as_ref().expect("a copy goes through a buffer").buffer.read(row.offset, &mut data);
            for (i, part) in data.chunks(2).enumerate() {
                let at = swizzle.apply(transfer.to + row.first + 2 * i as u32) as usize;
                let value = part[0] as u32 | (*part.get(1).unwrap_or(&0) as u32) << 8;
                let shift = 8 * (at % 4);
                self.shared[at / 4] = (self.shared[at / 4] & !(0xFFFF << shift)) | value << shift;
            }
        });
    }

    /// Ends the group of bulk stores of each lane.
    pub fn bulk_commit(&mut self, mask: u32) {
        let stores = &mut self.stores[self.warp as usize];
        lanes(mask).for_each(|lane| stores.committed[lane] += 1);
    }

    /// Carries out bulk stores until at most `most` groups of each lane are left.
    pub fn bulk_wait(&mut self, mask: u32, most: u32) {
        let mut stores = std::mem::take(&mut self.stores[self.warp as usize]);
        let committed = stores.committed;
        stores.list.retain(|store| {
            let lane = store.lane as usize;
            let done = mask >> lane & 1 == 1 && store.group as u64 + (most as u64) < committed[lane] as u64;
            if done {
                self.send(store);
            }
            !done
        });
        self.stores[self.warp as usize] = stores;
        let me = self.global_warp();
        if let Some(vectors) = &mut self.order.vectors {
            let slot = vectors.stores(me);
            let done = lanes(mask).map(|lane| committed[lane].saturating_sub(most)).max().unwrap_or(0);
            vectors.learn(me, slot, done + 1);
        }
    }

    /// Lanes end: their stores should have left shared memory.
    pub fn bulk_exit(&mut self, mask: u32) {
        if self.stores.get(self.warp as usize).is_none_or(|s| s.list.is_empty()) {
            return;
        }
        let stores = std::mem::take(&mut self.stores[self.warp as usize].list);
        let (left, rest): (Vec<_>, Vec<_>) = stores.into_iter().partition(|s| mask >> s.lane & 1 == 1);
        self.stores[self.warp as usize].list = rest;
        for store in left {
            let text = format!("thread {} ends while its bulk store is in flight, issued", self.warp * 32 + store.lane as u32);
            self.note_text(Kind::MissingWait, store.lane as usize, vec![(store.pc, text)]);
            self.send(&store);
        }
    }

    /// A bulk store reads shared memory and writes global memory.
    fn send(&mut self, store: &BulkStore) {
        let (launch, swizzle, shared) = (self.launch, self.launch.swizzle(&store.to), &self.shared);
        let dtype = match &store.to {
            Source::Box(argument, _) => launch.map(*argument).dtype,
            Source::Row(..) => MapType::F32,
        };
        launch.rows_of(&store.to, store.bytes, |argument, row| {
            let buffer = launch.buffers[argument].as_ref().expect("a copy goes through a buffer").buffer;
            let element = dtype.bytes() as u32;
            for at in (0..row.bytes).step_by(element as usize) {
                let (from, to) = (swizzle.apply(store.from + row.first + at) as usize, row.offset + at as usize);
                let value = shared[from / 4] >> (8 * (from % 4));
                let shift = 8 * (to % 4);
                let mask = if element == 4 { u32::MAX } else { 0xFFFF << shift };
                if !store.add {
                    buffer.store_bytes(to / 4, value << shift, mask);
                    continue;
                }
                let sum = |old: u32| match dtype {
                    MapType::F32 => (f32::from_bits(old) + f32::from_bits(value)).to_bits(),
                    MapType::Bf16 => {
                        let f = |bits: u32| f32::from_bits(bits << 16);
                        (old & !mask) | bf16((f(old >> shift & 0xFFFF) + f(value & 0xFFFF)).to_bits()) << shift
                    }
                };
                // The closure always gives a value: this cannot fail.
                let _ = buffer.words()[to / 4].fetch_update(Relaxed, Relaxed, |old| Some(sum(old)));
            }
            buffer.mark(row.offset, row.bytes as usize);
        });
    }

    /// The copy in flight to these bytes.
    pub(super) fn transfer_to(&self, offset: u32, size: u32) -> Option<Other> {
        let cluster = self.cluster.as_ref()?;
        let over = |t: &&Transfer| t.ranks >> self.rank & 1 == 1 && t.to < offset + size && offset < t.to + t.bytes;
        let found = cluster.transfers.iter().find(over)?;
        Some(Other { block: self.block, thread: found.thread, pc: found.pc, write: true })
    }
}
