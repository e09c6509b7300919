//! What is known of each byte of a block's shared memory: whether it was written, who touched it since the last barrier,
//! whether a `cp.async` to it is in flight.
//!
//! Most accesses are reads, and most of them happen where nobody writes before the next barrier. So a read only goes into a
//! log, with the addresses as they are; the log is worked off when someone writes to lines that were read, and thrown
//! away at the barrier.

use super::super::buffer::ranges;
use super::super::group::Shape;
use super::super::happens_before::{Cell, HappensBefore};
use super::super::lanes::lanes;
use super::super::ops::Step;
use super::violation::Violation;

/// Bytes of a line, the grain of the quick tests.
const LINE: usize = 64;
/// The log is worked off when it is this long.
const LOG: usize = 4096;

struct Read {
    time: u32,
    pc: u32,
    warp: u32,
    mask: u32,
    size: u32,
    offsets: [u32; 32],
}

/// The shadow of shared memory.
pub struct SharedShadow {
    bytes: usize,
    /// A granule is `1 << granule` bytes: the smallest access of the kernel, at most 4.
    granule: u32,
    cells: Vec<Cell>,
    /// One bit per byte.
    written: Vec<u32>,
    /// Lines written since the last barrier, and lines in the log.
    wrote: Vec<u64>,
    read: Vec<u64>,
    log: Vec<Read>,
    /// One bit per 4 bytes: a `cp.async` is in flight to them.
    in_flight: Vec<u32>,
    /// How many are in flight, and to which lines, counted.
    in_flight_count: u32,
    in_flight_lines: Vec<u64>,
    in_flight_counts: Vec<u16>,
    /// Changes whenever the log is emptied.
    pub serial: u32,
}

/// The bytes from the first to the last that lanes touch.
#[inline(always)]
pub fn hull(offsets: &[u32; 32], size: u32) -> (usize, usize) {
    let (mut low, mut high) = (u32::MAX, 0);
    for i in 0..32 {
        low = low.min(offsets[i]);
        high = high.max(offsets[i]);
    }
    (low as usize, (high + size) as usize)
}

/// Whether any bit of the lines of `from..to` is set.
#[inline(always)]
fn any(lines: &[u64], (from, to): (usize, usize)) -> bool {
    let (from, last) = (from / LINE, (to - 1) / LINE);
    let (first_mask, last_mask) = (u64::MAX << (from % 64), u64::MAX >> (63 - last % 64));
    if from / 64 == last / 64 {
        return lines[from / 64] & first_mask & last_mask != 0;
    }
    lines[from / 64] & first_mask != 0 || lines[last / 64] & last_mask != 0 || lines[from / 64 + 1..last / 64].iter().any(|&l| l != 0)
}

#[inline(always)]
fn set(lines: &mut [u64], (from, to): (usize, usize)) {
    let (from, last) = (from / LINE, (to - 1) / LINE);
    let (first_mask, last_mask) = (u64::MAX << (from % 64), u64::MAX >> (63 - last % 64));
    if from / 64 == last / 64 {
        lines[from / 64] |= first_mask & last_mask;
        return;
    }
    lines[from / 64] |= first_mask;
    lines[last / 64] |= last_mask;
    lines[from / 64 + 1..last / 64].fill(u64::MAX);
}

impl SharedShadow {
    pub fn new(bytes: usize, granule: u32) -> SharedShadow {
        let lines = bytes.div_ceil(LINE * 64);
        SharedShadow {
            bytes,
            granule,
            cells: vec![[[0; 2]; 2]; bytes.div_ceil(1 << granule)],
            written: vec![0; bytes.div_ceil(32)],
            wrote: vec![0; lines],
            read: vec![0; lines],
            log: Vec::new(),
            in_flight: vec![0; bytes.div_ceil(4 * 32)],
            in_flight_count: 0,
            in_flight_lines: vec![0; lines],
            in_flight_counts: vec![0; lines * 64],
            serial: 0,
        }
    }

    /// A block starts: nothing is written, nothing in flight.
    pub fn start(&mut self) {
        self.written.fill(0);
        self.in_flight.fill(0);
        self.in_flight_count = 0;
        self.in_flight_lines.fill(0);
        self.in_flight_counts.fill(0);
        self.barrier();
    }

    /// The block meets.
    pub fn barrier(&mut self) {
        self.log.clear();
        self.serial += 1;
        self.wrote.fill(0);
        self.read.fill(0);
    }

    fn granules(&self, offset: u32, size: u32) -> std::ops::Range<usize> {
        (offset >> self.granule) as usize..((offset + size) as usize).div_ceil(1 << self.granule)
    }

    #[inline(always)]
    fn is_written(&self, offset: u32, size: u32) -> bool {
        // An access is aligned to its size, at most 32 bytes: it lies in one word of the bitmap.
        let bits = (((1u64 << size) - 1) as u32) << (offset % 32);
        self.written[offset as usize / 32] & bits == bits
    }

    fn is_in_flight(&self, offset: u32, size: u32) -> bool {
        (offset / 4..(offset + size).div_ceil(4)).any(|w| self.in_flight[w as usize / 32] >> (w % 32) & 1 == 1)
    }

    /// Lanes of `mask` read `size` bytes each; lanes that are not in it have the offset of one that is.
    #[inline(always)]
    pub fn reads(
        &mut self,
        order: &HappensBefore,
        warp: u32,
        pc: u32,
        offsets: &[u32; 32],
        shape: Shape,
        mask: u32,
        size: u32,
        wrong: impl FnMut(usize, Violation),
    ) {
        debug_assert!(offsets.iter().all(|&o| (o + size) as usize <= self.bytes));
        let hull = hull(offsets, size);
        if !self.is_quiet(hull) || !self.all_written(offsets, shape, size) {
            self.check_reads(order, warp, pc, offsets, mask, size, wrong);
        }
        self.log(order, warp, pc, offsets, mask, size, hull);
    }

    /// Whether nobody wrote there since the last barrier and nothing is in flight.
    #[inline(always)]
    pub fn is_quiet(&self, hull: (usize, usize)) -> bool {
        (self.in_flight_count == 0 || !any(&self.in_flight_lines, hull)) && !any(&self.wrote, hull)
    }

    /// Whether all bytes of an access were written.
    #[inline(always)]
    pub fn all_written(&self, offsets: &[u32; 32], shape: Shape, size: u32) -> bool {
        match shape {
            Shape::Uniform => self.is_written(offsets[0], size),
            Shape::Row => ranges(offsets[0] as usize, 32 * size as usize).all(|(word, bits)| self.written[word] & bits == bits),
            Shape::Any => {
                // Bits that are missing, all lanes together: no branch per lane.
                let bits = ((1u64 << size) - 1) as u32;
                let missing = offsets.iter().fold(0, |missing, &offset| {
                    debug_assert!((offset + size) as usize <= self.bytes);
                    // SAFETY: the bitmap has a bit for every byte of shared memory, and the caller checked that
                    // `offset + size` is not more than its size.
                    missing | !(unsafe { *self.written.get_unchecked(offset as usize / 32) } >> (offset % 32)) & bits
                });
                missing == 0
            }
        }
    }

    /// Notes a read for whoever writes there before the next barrier.
    #[inline(always)]
    pub fn log(&mut self, order: &HappensBefore, warp: u32, pc: u32, offsets: &[u32; 32], mask: u32, size: u32, hull: (usize, usize)) {
        if self.log.len() >= LOG {
            self.work_off(order);
        }
        set(&mut self.read, hull);
        self.log.push(Read { time: order.time, pc, warp, mask, size, offsets: *offsets });
    }

    #[inline(never)]
    fn check_reads(&mut self, order: &HappensBefore, warp: u32, pc: u32, offsets: &[u32; 32], mask: u32, size: u32, mut wrong: impl FnMut(usize, Violation)) {
        let hull = hull(offsets, size);
        let wrote = any(&self.wrote, hull);
        for lane in lanes(mask) {
            if self.in_flight_count != 0 && self.is_in_flight(offsets[lane], size) {
                wrong(lane, Violation::InFlight);
                continue;
            }
            if !self.is_written(offsets[lane], size) {
                wrong(lane, Violation::Unwritten);
            }
            if wrote {
                let who = pc << 11 | (warp * 32 + lane as u32);
                for i in self.granules(offsets[lane], size) {
                    if let Some(conflict) = order.read(&mut self.cells[i].clone(), who, false) {
                        wrong(lane, Violation::Race(conflict));
                        break;
                    }
                }
            }
        }
    }

    /// Puts the readers of the log into the cells.
    #[inline(never)]
    fn work_off(&mut self, order: &HappensBefore) {
        for read in std::mem::take(&mut self.log).iter() {
            for lane in lanes(read.mask) {
                let who = read.pc << 11 | (read.warp * 32 + lane as u32);
                for i in self.granules(read.offsets[lane], read.size) {
                    order.add_reader(&mut self.cells[i], who, read.time, false);
                }
            }
        }
        self.read.fill(0);
        self.serial += 1;
    }

    /// Lanes of `mask` write `size` bytes each.
    #[inline(always)]
    pub fn writes(&mut self, order: &HappensBefore, warp: u32, pc: u32, offsets: &[u32; 32], mask: u32, size: u32, mut wrong: impl FnMut(usize, Violation)) {
        debug_assert!(offsets.iter().all(|&o| (o + size) as usize <= self.bytes));
        let hull = hull(offsets, size);
        if any(&self.read, hull) {
            self.work_off(order);
        }
        set(&mut self.wrote, hull);
        for lane in lanes(mask) {
            let who = pc << 11 | (warp * 32 + lane as u32);
            for i in self.granules(offsets[lane], size) {
                if let Some(conflict) = order.write(&mut self.cells[i], who, false) {
                    wrong(lane, Violation::Race(conflict));
                }
            }
            if self.in_flight_count != 0 && self.is_in_flight(offsets[lane], size) {
                wrong(lane, Violation::InFlight);
            }
            self.written[offsets[lane] as usize / 32] |= (((1u64 << size) - 1) as u32) << (offsets[lane] % 32);
        }
    }

    /// One lane's atomic.
    pub fn atomic(&mut self, order: &HappensBefore, steps: &[Step], who: u32, offset: u32, size: u32) -> Option<Violation> {
        let hull = (offset as usize, (offset + size) as usize);
        if any(&self.read, hull) {
            self.work_off(order);
        }
        set(&mut self.wrote, hull);
        let mut conflict = None;
        for i in self.granules(offset, size) {
            conflict = conflict.or(order.atomic(&mut self.cells[i], who, false, steps));
        }
        if self.in_flight_count != 0 && self.is_in_flight(offset, size) {
            return Some(Violation::InFlight);
        }
        if !self.is_written(offset, size) {
            return Some(Violation::Unwritten);
        }
        conflict.map(Violation::Race)
    }

    /// A `cp.async` of one lane starts: it may write at once, so it races with what is not ordered before it.
    pub fn launches(&mut self, order: &HappensBefore, thread: u32, offset: u32, size: u32) -> Option<Violation> {
        if any(&self.read, (offset as usize, (offset + size) as usize)) {
            self.work_off(order);
        }
        let conflict = self.granules(offset, size).find_map(|i| order.check_write(&self.cells[i], thread, false));
        let in_flight = self.is_in_flight(offset, size);
        for w in offset / 4..(offset + size) / 4 {
            self.in_flight[w as usize / 32] |= 1 << (w % 32);
        }
        self.in_flight_count += 1;
        // A copy is aligned to its size: it lies in one line.
        let line = offset as usize / LINE;
        self.in_flight_counts[line] += 1;
        self.in_flight_lines[line / 64] |= 1 << (line % 64);
        if in_flight { Some(Violation::InFlight) } else { conflict.map(Violation::Race) }
    }

    /// It has landed: written by that thread, now.
    pub fn lands(&mut self, order: &HappensBefore, who: u32, offset: u32, size: u32) {
        for w in offset / 4..(offset + size) / 4 {
            self.in_flight[w as usize / 32] &= !(1 << (w % 32));
        }
        self.in_flight_count -= 1;
        let line = offset as usize / LINE;
        self.in_flight_counts[line] -= 1;
        if self.in_flight_counts[line] == 0 {
            self.in_flight_lines[line / 64] &= !(1 << (line % 64));
        }
        for i in self.granules(offset, size) {
            self.cells[i][0] = [order.time, who];
        }
        set(&mut self.wrote, (offset as usize, (offset + size) as usize));
        for (word, mask) in ranges(offset as usize, size as usize) {
            self.written[word] |= mask;
        }
    }
}
