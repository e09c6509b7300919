//! Whether the kernel may make an access: its bytes were written, and nobody else touches them. And what is counted of it.

use super::super::buffer::{Buffer, ranges};
use super::super::finding::{Kind, Note, Other, Place};
use super::super::group::{Group, Shape};
use super::super::happens_before::thread_and_pc;
use super::super::in_flight::AsyncCopy;
use super::super::lanes::lanes;
use super::super::shadow::Violation;
use super::Machine;

impl Machine<'_> {
    /// Puts what the shadow of shared memory found into notes.
    #[cold]
    pub(super) fn note_wrong(&mut self, group: &Group, size: u32, write: bool, list: Vec<(usize, Violation)>) {
        for (lane, wrong) in list {
            let offset = group.offsets[lane];
            let (kind, other) = match wrong {
                Violation::Unwritten => (Kind::Unwritten, None),
                Violation::Race(conflict) => {
                    let (thread, pc) = thread_and_pc(conflict.epoch);
                    // Only epochs of global memory are from other blocks.
                    let block = if matches!(group.place, Place::Buffer(_)) { self.order.block_of(conflict.epoch) } else { self.block };
                    (Kind::Race, Some(Other { block, thread, pc, write: conflict.write }))
                }
                Violation::Proxy(conflict) => {
                    let (thread, pc) = thread_and_pc(conflict.epoch);
                    (Kind::Proxy, Some(Other { block: self.block, thread, pc, write: true }))
                }
                Violation::InFlight if self.cluster.is_some() => (Kind::MissingWait, self.transfer_to(offset, size)),
                Violation::InFlight => {
                    let over = |f: &AsyncCopy| f.to < offset + size && offset < f.to + f.bytes as u32;
                    let all = self.copies.iter().enumerate().flat_map(|(w, f)| f.list.iter().map(move |f| (w, f)));
                    let of = all
                        .filter(|(_, f)| over(f))
                        .map(|(w, f)| Other { block: self.block, thread: w as u32 * 32 + f.lane as u32, pc: f.pc, write: true })
                        .next();
                    (Kind::MissingWait, of)
                }
            };
            let thread = self.warp * 32 + lane as u32;
            let note = Note::new(kind, self.pc, self.block, thread);
            self.notes.add(Note { place: group.place, address: offset as u64, offset: offset as i64, size, write, other, ..note });
        }
    }

    /// Counts an access.
    #[inline(always)]
    pub(super) fn count(&mut self, group: &Group, size: u32) {
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
    pub(super) fn check_read(&mut self, group: &Group, size: u32) {
        let mut list = Vec::new();
        match group.place {
            Place::Shared if self.cluster.is_some() => {
                let base = self.order.vectors.as_ref().map_or(0, |v| v.base);
                if let Some(cluster) = &mut self.cluster {
                    cluster.shadows[self.rank]
                        .reads(&self.order, base, self.warp, self.pc, &group.offsets, group.mask, size, |lane, wrong| list.push((lane, wrong)));
                }
            }
            Place::Shared => {
                self.shared_shadow.reads(&self.order, self.warp, self.pc, &group.offsets, group.shape, group.mask, size, |lane, wrong| list.push((lane, wrong)))
            }
            Place::Buffer(i) => {
                let bound = self.launch.buffers[i as usize].as_ref().expect("resolve found it");
                let known = bound.buffer.is_whole() || (group.shape == Shape::Row && bound.buffer.is_written(group.offsets[0] as usize, 32 * size as usize));
                if !known {
                    list.extend(
                        lanes(group.mask)
                            .filter(|&lane| !bound.buffer.is_written(group.offsets[lane] as usize, size as usize))
                            .map(|lane| (lane, Violation::Unwritten)),
                    );
                }
                if let Some(shadow) = &mut self.global_shadows[bound.same as usize] {
                    shadow.access(&self.order, self.warp, self.pc, &group.offsets, group.mask, size, false, |lane, conflict| {
                        list.push((lane, Violation::Race(conflict)))
                    });
                }
            }
            Place::Local => {
                for lane in lanes(group.mask) {
                    let at = (self.warp as usize * 32 + lane) * self.local_words * 4 + group.offsets[lane] as usize;
                    if ranges(at, size as usize).any(|(word, bits)| self.local_written[word] & bits != bits) {
                        list.push((lane, Violation::Unwritten));
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
    pub(super) fn check_write(&mut self, group: &Group, size: u32) {
        let mut list = Vec::new();
        match group.place {
            Place::Shared if self.cluster.is_some() => {
                let base = self.order.vectors.as_ref().map_or(0, |v| v.base);
                if let Some(cluster) = &mut self.cluster {
                    cluster.shadows[self.rank]
                        .writes(&self.order, base, self.warp, self.pc, &group.offsets, group.mask, size, |lane, wrong| list.push((lane, wrong)));
                }
            }
            Place::Shared => {
                self.shared_shadow.writes(&self.order, self.warp, self.pc, &group.offsets, group.mask, size, |lane, wrong| list.push((lane, wrong)))
            }
            Place::Buffer(i) => {
                let bound = self.launch.buffers[i as usize].as_ref().expect("resolve found it");
                mark(bound.buffer, group, size);
                if let Some(shadow) = &mut self.global_shadows[bound.same as usize] {
                    shadow.access(&self.order, self.warp, self.pc, &group.offsets, group.mask, size, true, |lane, conflict| {
                        list.push((lane, Violation::Race(conflict)))
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
    pub(super) fn check_atomic(&mut self, group: &Group, lane: usize, size: u32) {
        let (who, offset, steps) = (self.pc << 11 | (self.warp * 32 + lane as u32), group.offsets[lane], &self.launch.kernel.steps);
        let wrong = match group.place {
            Place::Shared => match &mut self.cluster {
                Some(cluster) => {
                    let base = self.order.vectors.as_ref().map_or(0, |v| v.base);
                    cluster.shadows[self.rank].atomic(&self.order, steps, base, who, offset, size)
                }
                None => self.shared_shadow.atomic(&self.order, steps, who, offset, size),
            },
            Place::Buffer(i) => {
                let bound = self.launch.buffers[i as usize].as_ref().expect("resolve found it");
                let unwritten = !bound.buffer.is_written(offset as usize, size as usize);
                let conflict = self.global_shadows[bound.same as usize].as_mut().and_then(|r| r.atomic(&self.order, steps, who, offset, size));
                if unwritten { Some(Violation::Unwritten) } else { conflict.map(Violation::Race) }
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.note_wrong(group, size, true, vec![(lane, wrong)]);
        }
    }
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
