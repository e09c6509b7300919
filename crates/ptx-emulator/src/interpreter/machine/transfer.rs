//! Loads, stores and atomics: between the registers of a warp and the memory that its addresses lead to.

use super::super::arith::signed;
use super::super::finding::{Kind, Place};
use super::super::group::{Group, Shape, within};
use super::super::lanes::{FULL, Registers, lanes};
use super::super::ops::{Address, Atomic, File, Memory};
use super::super::shadow::hull;
use super::{Known, Machine};

impl Machine<'_> {
    #[inline(always)]
    pub fn load(&mut self, registers: &mut Registers, access: &Address, mask: u32) {
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
    pub(super) fn load_known(&mut self, registers: &mut Registers, access: &Address, number: usize) -> bool {
        let at = self.warp as usize * self.launch.kernel.shared_loads + number;
        let (base, size) = (registers.words(access.base.1), access.bytes() as u32);
        let (mut offsets, mut differs) = ([0; 32], 0);
        for i in 0..32 {
            offsets[i] = base[i].wrapping_add(access.offset as u32);
            differs |= offsets[i] ^ self.known[at].offsets[i];
        }
        if differs != 0 || self.known[at].hull.1 == 0 {
            let Some(group) = within(&offsets, FULL, size, size, Place::Shared, self.launch.shared_bytes as u64) else { return false };
            self.known[at] = Known { offsets, shape: group.shape, hull: hull(&offsets, size), written: 0, logged: (0, 0) };
        }
        let known = &mut self.known[at];
        if known.written != self.order.start {
            if !self.shared_shadow.all_written(&known.offsets, known.shape, size) {
                return false;
            }
            known.written = self.order.start;
        }
        let now = (self.order.time, self.shared_shadow.serial);
        if self.shared_shadow.is_quiet(known.hull) {
            if known.logged != now {
                self.shared_shadow.log(&self.order, self.warp, self.pc, &known.offsets, FULL, size, known.hull);
                known.logged = (self.order.time, self.shared_shadow.serial);
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
    pub(super) fn shared_words(&self, registers: &Registers, access: &Address, mask: u32) -> Option<Group> {
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
        within(&offsets, mask, size, size, Place::Shared, self.launch.shared_bytes as u64)
    }

    #[inline(always)]
    pub(super) fn gather_shared(&self, registers: &mut Registers, access: &Address, group: &Group) {
        let words = &self.shared;
        debug_assert!(group.offsets.iter().all(|&o| (o as usize + access.bytes()).div_ceil(4) <= words.len()));
        // SAFETY: `within` checked every offset, plus the bytes of the access, against the size of shared memory.
        gather(registers, access, group, |word| unsafe { *words.get_unchecked(word) });
    }

    #[inline(always)]
    pub fn store(&mut self, registers: &Registers, access: &Address, mask: u32) {
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
}

/// Loads: the words of every lane to the registers of the access.
#[inline(always)]
fn gather(registers: &mut Registers, access: &Address, group: &Group, get: impl Fn(usize) -> u32) {
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
                            let v = signed(v, sign as u32 & !1) as u64;
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
fn scatter(registers: &Registers, access: &Address, group: &Group, mut set: impl FnMut(usize, u32, u32)) {
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
