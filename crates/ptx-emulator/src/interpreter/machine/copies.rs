//! `cp.async`, from its start to its landing, and `ldmatrix`.

use super::super::finding::{Kind, Place};
use super::super::in_flight::AsyncCopy;
use super::super::lanes::{FULL, Registers, lanes};
use super::super::ops::{CpAsync, LdMatrix, Memory};
use super::Machine;

impl Machine<'_> {
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
            if let Some(wrong) = self.shared_shadow.launches(&self.order, thread, to.offsets[lane], bytes) {
                self.note_wrong(&to, bytes, true, vec![(lane, wrong)]);
            }
            let pc = self.pc;
            let copies = &mut self.copies[self.warp as usize];
            copies.list.push(AsyncCopy { pc, lane: lane as u8, bytes: copy.bytes, group: copies.committed[lane], to: to.offsets[lane], data });
        }
        if let Some(count) = self.counts.get_mut(self.pc as usize) {
            count.global(&sources, copied, bytes);
        }
    }

    /// Ends the group of copies of each lane.
    pub fn cp_commit(&mut self, mask: u32) {
        let copies = &mut self.copies[self.warp as usize];
        lanes(mask).for_each(|lane| copies.committed[lane] += 1);
    }

    /// Lands copies until at most `most` groups are in flight; everything if `None`.
    pub fn cp_wait(&mut self, mask: u32, most: Option<u32>) {
        let mut copies = std::mem::take(&mut self.copies[self.warp as usize]);
        let committed = copies.committed;
        copies.list.retain(|copy| {
            let lane = copy.lane as usize;
            let lands = mask >> lane & 1 == 1 && most.is_none_or(|most| copy.group as u64 + (most as u64) < committed[lane] as u64);
            if lands {
                let words = copy.bytes as usize / 4;
                let at = copy.to as usize / 4;
                self.shared[at..at + words].copy_from_slice(&copy.data[..words]);
                self.shared_shadow.lands(&self.order, copy.pc << 11 | (self.warp * 32 + copy.lane as u32), copy.to, copy.bytes as u32);
            }
            !lands
        });
        self.copies[self.warp as usize] = copies;
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
