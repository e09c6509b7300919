//! What is known of each byte of a block's shared memory in an asynchronous kernel: who wrote it, who read it since, whether
//! a bulk copy to it is in flight.
//!
//! Here no barrier orders everybody. An epoch names an agent and its time; whether it comes before an access is a question to
//! the vector clocks of [`super::super::vector_clock::VectorClocks`]. Agents are warps, and what works on their behalf: bulk copies, `wgmma`.

use super::super::buffer::ranges;
use super::super::happens_before::{Conflict, HappensBefore};
use super::super::lanes::lanes;
use super::super::ops::Step;
use super::violation::Violation;
use std::collections::HashMap;

/// A line is one swizzled row of a tile. What a bulk copy wrote whole has one cell until somebody else touches a part of it.
const LINE: usize = 128;
/// The agent of an epoch that stands for several: its time is the number of their set.
const SEVERAL: u16 = u16::MAX;

/// Who did something, and when; a time of 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentEpoch {
    pub time: u32,
    pub pc: u32,
    /// A slot of the vector clocks.
    pub agent: u16,
    /// The thread in its block, or 1024 and a warp: several of its threads.
    pub thread: u16,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Accessor {
    /// Its warp in the cluster.
    pub warp: usize,
    /// Its thread; none where a warp acts as one.
    pub thread: Option<u32>,
}

#[derive(Clone, Copy, Default)]
struct AgentCell {
    writer: AgentEpoch,
    reader: AgentEpoch,
}

/// The shadow of one block's shared memory.
pub struct AsyncShadow {
    granule: u32,
    lines: Vec<AgentCell>,
    /// Whether a line's cell is in `lines`, not in `fine`.
    whole: Vec<bool>,
    fine: Vec<AgentCell>,
    /// One bit per byte.
    written: Vec<u32>,
    /// By 16 bytes: bulk copies in flight to them.
    in_flight: Vec<u32>,
    in_flight_count: u32,
    sets: Vec<Vec<AgentEpoch>>,
    numbers: HashMap<Vec<AgentEpoch>, u32>,
    /// The last readers that were put together: before, added, together.
    last: [AgentEpoch; 3],
}

fn ordered(order: &HappensBefore, accessor: Accessor, epoch: AgentEpoch) -> bool {
    if epoch.time == 0 {
        return true;
    }
    if epoch.agent as usize == accessor.warp {
        return accessor.thread.is_none_or(|thread| order.before([epoch.time, epoch.thread as u32], thread));
    }
    order.vectors.as_ref().is_none_or(|v| v.knows(accessor.warp, epoch.agent as usize, epoch.time))
}

fn conflict(epoch: AgentEpoch, write: bool) -> Conflict {
    Conflict { epoch: [epoch.time, epoch.pc << 11 | epoch.thread as u32], write }
}

impl AsyncShadow {
    pub fn new(bytes: usize, granule: u32) -> AsyncShadow {
        let lines = bytes.div_ceil(LINE);
        AsyncShadow {
            granule,
            lines: vec![AgentCell::default(); lines],
            whole: vec![true; lines],
            fine: vec![AgentCell::default(); (lines * LINE) >> granule],
            written: vec![0; lines * LINE / 32],
            in_flight: vec![0; lines * LINE / 16],
            in_flight_count: 0,
            sets: Vec::new(),
            numbers: HashMap::new(),
            last: [AgentEpoch::default(); 3],
        }
    }

    /// A block starts.
    pub fn start(&mut self) {
        self.lines.fill(AgentCell::default());
        self.whole.fill(true);
        self.written.fill(0);
        self.in_flight.fill(0);
        self.in_flight_count = 0;
        self.sets.clear();
        self.numbers.clear();
        self.last = [AgentEpoch::default(); 3];
    }

    /// The cells of a part of a line, which gets cells of its own if it has none.
    fn range(&mut self, offset: u32, size: u32) -> std::ops::Range<usize> {
        let line = offset as usize / LINE;
        if self.whole[line] {
            self.whole[line] = false;
            let per = LINE >> self.granule;
            self.fine[line * per..(line + 1) * per].fill(self.lines[line]);
        }
        (offset >> self.granule) as usize..((offset + size) as usize).div_ceil(1 << self.granule)
    }

    fn bits(offset: u32, size: u32) -> (usize, u32) {
        // An access is aligned to its size, at most 32 bytes.
        (offset as usize / 32, (((1u64 << size) - 1) as u32) << (offset % 32))
    }

    fn is_written(&self, offset: u32, size: u32) -> bool {
        let (word, bits) = Self::bits(offset, size);
        self.written[word] & bits == bits
    }

    fn is_in_flight(&self, offset: u32, size: u32) -> bool {
        self.in_flight_count != 0 && self.in_flight[offset as usize / 16..(offset + size).div_ceil(16) as usize].iter().any(|&f| f != 0)
    }

    /// Who reads a cell after another reader was added.
    fn with(&mut self, order: &HappensBefore, accessor: Accessor, old: AgentEpoch, new: AgentEpoch) -> AgentEpoch {
        if self.last[0] == old && self.last[1] == new {
            return self.last[2];
        }
        let single = [old];
        let before: &[AgentEpoch] = if old.agent == SEVERAL { &self.sets[old.time as usize] } else { &single };
        let mut new = new;
        let mut together: Vec<AgentEpoch> = Vec::with_capacity(before.len() + 1);
        for &epoch in before {
            if epoch.agent == new.agent {
                // Of one agent the last is kept; of a warp, that it was more than one of its threads.
                if epoch.thread != new.thread && !ordered(order, accessor, epoch) {
                    (new.thread, new.time) = (1024 + new.thread.min(1023) / 32, new.time.max(epoch.time));
                }
            } else if !ordered(order, accessor, epoch) {
                together.push(epoch);
            }
        }
        let old_key = [old, new];
        let result = if together.is_empty() {
            new
        } else {
            together.push(new);
            together.sort_unstable();
            let number = match self.numbers.get(&together) {
                Some(&number) => number,
                None => {
                    let number = self.sets.len() as u32;
                    self.sets.push(together.clone());
                    self.numbers.insert(together, number);
                    number
                }
            };
            AgentEpoch { time: number, agent: SEVERAL, ..AgentEpoch::default() }
        };
        self.last = [old_key[0], old_key[1], result];
        result
    }

    /// What a write would race with.
    fn against(&self, order: &HappensBefore, accessor: Accessor, cell: &AgentCell) -> Option<Conflict> {
        if !ordered(order, accessor, cell.writer) {
            return Some(conflict(cell.writer, true));
        }
        if cell.reader.agent == SEVERAL {
            return self.sets[cell.reader.time as usize].iter().find(|s| !ordered(order, accessor, **s)).map(|s| conflict(*s, false));
        }
        (!ordered(order, accessor, cell.reader)).then(|| conflict(cell.reader, false))
    }

    /// Lanes of a warp read `size` bytes each.
    pub fn reads(
        &mut self,
        order: &HappensBefore,
        base: usize,
        warp: u32,
        pc: u32,
        offsets: &[u32; 32],
        mask: u32,
        size: u32,
        mut wrong: impl FnMut(usize, Violation),
    ) {
        for lane in lanes(mask) {
            let (offset, thread) = (offsets[lane], warp * 32 + lane as u32);
            if self.is_in_flight(offset, size) {
                wrong(lane, Violation::InFlight);
                continue;
            }
            if !self.is_written(offset, size) {
                wrong(lane, Violation::Unwritten);
            }
            let accessor = Accessor { warp: base + warp as usize, thread: Some(thread) };
            let epoch = AgentEpoch { time: order.time, pc, agent: accessor.warp as u16, thread: thread as u16 };
            let mut found = None;
            for i in self.range(offset, size) {
                let cell = self.fine[i];
                if !ordered(order, accessor, cell.writer) {
                    found = Some(conflict(cell.writer, true));
                }
                self.fine[i].reader = self.with(order, accessor, cell.reader, epoch);
            }
            if let Some(conflict) = found {
                wrong(lane, Violation::Race(conflict));
            }
        }
    }

    /// Lanes of a warp write `size` bytes each.
    pub fn writes(
        &mut self,
        order: &HappensBefore,
        base: usize,
        warp: u32,
        pc: u32,
        offsets: &[u32; 32],
        mask: u32,
        size: u32,
        mut wrong: impl FnMut(usize, Violation),
    ) {
        for lane in lanes(mask) {
            let (offset, thread) = (offsets[lane], warp * 32 + lane as u32);
            let accessor = Accessor { warp: base + warp as usize, thread: Some(thread) };
            let epoch = AgentEpoch { time: order.time, pc, agent: accessor.warp as u16, thread: thread as u16 };
            let mut found = None;
            for i in self.range(offset, size) {
                found = found.or(self.against(order, accessor, &self.fine[i]));
                self.fine[i] = AgentCell { writer: epoch, reader: AgentEpoch::default() };
            }
            if let Some(conflict) = found {
                wrong(lane, Violation::Race(conflict));
            } else if self.is_in_flight(offset, size) {
                wrong(lane, Violation::InFlight);
            }
            let (word, bits) = Self::bits(offset, size);
            self.written[word] |= bits;
        }
    }

    /// One lane's atomic.
    pub fn atomic(&mut self, order: &HappensBefore, steps: &[Step], base: usize, who: u32, offset: u32, size: u32) -> Option<Violation> {
        let thread = who & 2047;
        let accessor = Accessor { warp: base + thread as usize / 32, thread: Some(thread) };
        let epoch = AgentEpoch { time: order.time, pc: who >> 11, agent: accessor.warp as u16, thread: thread as u16 };
        let mut found = None;
        for i in self.range(offset, size) {
            let cell = self.fine[i];
            let conflict = self.against(order, accessor, &cell);
            let is_atomic = cell.writer.time != 0 && steps[cell.writer.pc as usize].op.is_atomic();
            found = found.or(conflict.filter(|c| !(c.write && is_atomic)));
            self.fine[i] = AgentCell { writer: epoch, reader: AgentEpoch::default() };
        }
        if self.is_in_flight(offset, size) {
            return Some(Violation::InFlight);
        }
        if !self.is_written(offset, size) {
            return Some(Violation::Unwritten);
        }
        found.map(Violation::Race)
    }

    /// A bulk copy or a `wgmma` that the accessor issues reads 16 bytes, at a time that the accessor does not see.
    pub fn reads_later(&mut self, order: &HappensBefore, accessor: Accessor, epoch: AgentEpoch, offset: u32) -> Option<Violation> {
        if self.is_in_flight(offset, 16) {
            return Some(Violation::InFlight);
        }
        if !self.is_written(offset, 16) {
            return Some(Violation::Unwritten);
        }
        let line = offset as usize / LINE;
        if self.whole[line] {
            let cell = self.lines[line];
            self.lines[line].reader = self.with(order, accessor, cell.reader, epoch);
            return self.visible(order, accessor, cell.writer);
        }
        let mut found = None;
        for i in self.range(offset, 16) {
            let cell = self.fine[i];
            self.fine[i].reader = self.with(order, accessor, cell.reader, epoch);
            found = found.or_else(|| self.visible(order, accessor, cell.writer));
        }
        found
    }

    /// Whether what was written can be seen by an asynchronous read that the accessor issues.
    fn visible(&self, order: &HappensBefore, accessor: Accessor, writer: AgentEpoch) -> Option<Violation> {
        if !ordered(order, accessor, writer) {
            return Some(Violation::Race(conflict(writer, true)));
        }
        let vectors = order.vectors.as_ref()?;
        let fenced =
            writer.time == 0 || vectors.is_async(writer.agent as usize) || vectors.knows(accessor.warp, vectors.proxy(writer.agent as usize), writer.time);
        (!fenced).then(|| Violation::Proxy(conflict(writer, true)))
    }

    /// A bulk copy to these bytes starts: from now on it may write.
    pub fn launches(&mut self, order: &HappensBefore, accessor: Accessor, offset: u32, bytes: u32) -> Option<(u32, Violation)> {
        let mut found = None;
        for at in (offset..offset + bytes).step_by(16) {
            let line = at as usize / LINE;
            let conflict = if self.whole[line] {
                self.against(order, accessor, &self.lines[line])
            } else {
                self.range(at, 16).find_map(|i| self.against(order, accessor, &self.fine[i]))
            };
            let wrong = conflict.map(Violation::Race).or_else(|| self.is_in_flight(at, 16).then_some(Violation::InFlight));
            found = found.or(wrong.map(|w| (at, w)));
            self.in_flight[at as usize / 16] += 1;
            self.in_flight_count += 1;
        }
        found
    }

    /// It has landed.
    pub fn lands(&mut self, epoch: AgentEpoch, offset: u32, bytes: u32) {
        let cell = AgentCell { writer: epoch, reader: AgentEpoch::default() };
        let mut at = offset;
        while at < offset + bytes {
            let whole = (at as usize).is_multiple_of(LINE) && offset + bytes - at >= LINE as u32;
            let size = if whole { LINE as u32 } else { 16 };
            if whole {
                (self.whole[at as usize / LINE], self.lines[at as usize / LINE]) = (true, cell);
            } else {
                let range = self.range(at, size);
                self.fine[range].fill(cell);
            }
            self.in_flight[at as usize / 16..(at + size) as usize / 16].iter_mut().for_each(|f| *f -= 1);
            self.in_flight_count -= size / 16;
            ranges(at as usize, size as usize).for_each(|(word, bits)| self.written[word] |= bits);
            at += size;
        }
    }
}
