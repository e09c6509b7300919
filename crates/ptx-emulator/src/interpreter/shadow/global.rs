//! Who touched which bytes of the buffers that a kernel writes.
//!
//! Every worker keeps its own shadow, so that nothing in it is shared while blocks run; the shadows of different
//! workers, whose blocks nothing orders, are compared at the end.

use super::super::happens_before::{Cell, Conflict, Epoch, HappensBefore, thread_and_pc};
use super::super::lanes::lanes;
use super::super::ops::Step;

/// Cells of a page: only pages that were touched are compared.
const PAGE: usize = 1024;

/// The shadow of one buffer.
pub struct GlobalShadow {
    granule: u32,
    cells: Vec<Cell>,
    pages: Vec<u64>,
}

impl GlobalShadow {
    pub fn new(bytes: usize, granule: u32) -> GlobalShadow {
        let cells = bytes.div_ceil(1 << granule);
        // Zeros come from the operating system page by page, as they are touched.
        GlobalShadow { granule, cells: vec![[[0; 2]; 2]; cells], pages: vec![0; cells.div_ceil(PAGE * 64)] }
    }

    #[inline(always)]
    fn granules(&self, offset: u32, size: u32) -> std::ops::Range<usize> {
        (offset >> self.granule) as usize..((offset as usize + size as usize) >> self.granule)
    }

    #[inline(always)]
    fn touch(&mut self, cell: usize) {
        self.pages[cell / PAGE / 64] |= 1 << (cell / PAGE % 64);
    }

    /// Lanes of `mask` read or write `size` bytes each.
    #[inline(always)]
    pub fn access(
        &mut self,
        order: &HappensBefore,
        warp: u32,
        pc: u32,
        offsets: &[u32; 32],
        mask: u32,
        size: u32,
        write: bool,
        mut wrong: impl FnMut(usize, Conflict),
    ) {
        let pages = |offset: u32| (offset >> self.granule) as usize / PAGE;
        let one_page = offsets.iter().all(|&o| pages(o) == pages(offsets[0]));
        self.touch((offsets[0] >> self.granule) as usize);
        for lane in lanes(mask) {
            let who = pc << 11 | (warp * 32 + lane as u32);
            let range = self.granules(offsets[lane], size);
            if !one_page {
                self.touch(range.start);
            }
            for cell in &mut self.cells[range] {
                let conflict = if write { order.write(cell, who, true) } else { order.read(cell, who, true) };
                if let Some(conflict) = conflict {
                    wrong(lane, conflict);
                }
            }
        }
    }

    /// One lane's atomic.
    pub fn atomic(&mut self, order: &HappensBefore, steps: &[Step], who: u32, offset: u32, size: u32) -> Option<Conflict> {
        let range = self.granules(offset, size);
        self.touch(range.start);
        let mut conflict = None;
        for cell in &mut self.cells[range] {
            conflict = conflict.or(order.atomic(cell, who, true, steps));
        }
        conflict
    }

    /// One thread reads or writes a range, by a bulk copy.
    pub fn bulk(&mut self, order: &HappensBefore, steps: &[Step], who: u32, offset: u32, size: u32, write: bool, atomic: bool) -> Option<Conflict> {
        let mut conflict = None;
        for cell in self.granules(offset, size) {
            self.touch(cell);
            let cell = &mut self.cells[cell];
            let found = match (write, atomic) {
                (_, true) => order.atomic(cell, who, true, steps),
                (true, _) => order.write(cell, who, true),
                (false, _) => order.read(cell, who, true),
            };
            conflict = conflict.or(found);
        }
        conflict
    }

    /// Calls `found` with the offset and the two sides of every race between this worker's blocks and another's, and
    /// whether the first side is this worker's.
    pub fn compare(&self, other: &GlobalShadow, steps: &[Step], mut found: impl FnMut(u32, (Epoch, bool), (Epoch, bool), bool)) {
        let is_atomic = |s: Epoch| steps[thread_and_pc(s).1 as usize].op.is_atomic();
        for (word, (&a, &b)) in self.pages.iter().zip(&other.pages).enumerate() {
            for page in (0..64).filter(|i| a & b >> i & 1 == 1 && a >> i & 1 == 1) {
                let start = (word * 64 + page) * PAGE;
                let end = (start + PAGE).min(self.cells.len());
                for i in start..end {
                    let (a, b) = (self.cells[i], other.cells[i]);
                    let offset = (i << self.granule) as u32;
                    if a[0][0] != 0 && b[0][0] != 0 && !(is_atomic(a[0]) && is_atomic(b[0])) {
                        found(offset, (a[0], true), (b[0], true), true);
                    } else if a[0][0] != 0 && b[1][0] != 0 {
                        found(offset, (a[0], true), (b[1], false), true);
                    } else if a[1][0] != 0 && b[0][0] != 0 {
                        found(offset, (b[0], true), (a[1], false), false);
                    }
                }
            }
        }
    }
}
