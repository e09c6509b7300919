//! What `wgmma` reads from shared memory, and `stmatrix`.

use super::super::finding::{Kind, Place};
use super::super::lanes::{FULL, Registers};
use super::super::ops::LdMatrix;
use super::super::shadow::{Accessor, AgentEpoch};
use super::super::wgmma::Matrix;
use super::Machine;

impl Machine<'_> {
    /// A `wgmma` of group `group` will read rows `from..to` of a matrix.
    pub fn wgmma_reads(&mut self, matrix: Matrix, from: u32, to: u32, group: u32) {
        if let Some(text) = matrix.misplaced() {
            self.note_text(Kind::Misaligned, 0, vec![(self.pc, text)]);
        }
        let accessor = Accessor { warp: self.global_warp(), thread: None };
        let Some(mut cluster) = self.cluster.take() else { return };
        let agent = self.order.vectors.as_ref().map_or(0, |v| v.wgmma(self.warp)) as u16;
        let epoch = AgentEpoch { time: group + 1, pc: self.pc, agent, thread: (1024 + self.warp) as u16 };
        let bytes = self.launch.shared_bytes as u32;
        let (mut beyond, mut found) = (None, None);
        let shadow = &mut cluster.shadows[self.rank];
        matrix.pieces(from, to, |at| {
            if at > bytes || bytes - at < 16 {
                beyond = Some(at);
            } else if let Some(wrong) = shadow.reads_later(&self.order, accessor, epoch, at) {
                found = found.take().or(Some((at, wrong)));
            }
        });
        self.cluster = Some(cluster);
        if let Some(at) = beyond {
            self.note(Kind::OutOfBounds, 0, Place::Shared, at as u64, at as i64, 16, false);
        }
        if let Some((at, wrong)) = found {
            self.note_at(0, at, 16, false, wrong);
        }
    }

    /// `stmatrix`: the inverse of `ldmatrix`.
    pub fn stmatrix(&mut self, registers: &Registers, store: &LdMatrix, mask: u32) {
        let addresses = self.addresses(registers, &store.at);
        // Lanes 0–7 name the rows of the first matrix, 8–15 those of the second, and so on.
        let rows = mask & (FULL >> (32 - 8 * store.count as u32));
        if rows == 0 {
            return;
        }
        let group = self.resolve(store.at.memory, &addresses, rows, 16, 16, true);
        if group.place != Place::Shared {
            let lane = rows.trailing_zeros() as usize;
            self.note(Kind::OutOfBounds, lane, group.place, addresses[lane], group.offsets[lane] as i64, 16, true);
            return;
        }
        if group.mask == 0 {
            return;
        }
        self.count(&group, 16);
        self.check_write(&group, 16);
        for matrix in 0..store.count as usize {
            let value = registers.words(store.slots[matrix]);
            for row in (0..8).filter(|row| group.mask >> (8 * matrix + row) & 1 == 1) {
                for word in 0..4 {
                    // Lane i holds row i / 4, columns 2 (i mod 4) and the next; of the transposed matrix with `.trans`.
                    let half = |column: usize| value[4 * column + row / 2] >> (16 * (row % 2)) & 0xFFFF;
                    let at = group.offsets[8 * matrix + row] as usize / 4 + word;
                    self.shared[at] = if store.transposed { half(2 * word) | half(2 * word + 1) << 16 } else { value[4 * row + word] };
                }
            }
        }
    }
}
