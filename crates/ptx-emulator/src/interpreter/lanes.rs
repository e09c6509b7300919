//! The registers of a warp, and how one operation runs over its 32 lanes.
//!
//! Everything here is inlined into the interpreter's loop, which is compiled for AVX2 and FMA as well: eight lanes are
//! one vector. Every chunk is read before it is written, so that a destination may be one of the sources.

use super::kernel::{Kernel, Special};
use super::ops::{File, Op, Slot};

/// All lanes.
pub const FULL: u32 = u32::MAX;

/// Lanes of one vector.
const CHUNK: usize = 8;

/// The registers of one warp.
pub struct Registers {
    words: Vec<[u32; 32]>,
    longs: Vec<[u64; 32]>,
    bits: Vec<u32>,
    /// By file and slot: lanes that something was put into. Empty where the decoder proved that it is not needed.
    defined: [Vec<u32>; 3],
}

/// A type that registers hold.
pub trait Value: Copy + Default {
    /// The lanes of a slot.
    ///
    /// # Safety
    /// `slot` is less than the number of slots of this file.
    unsafe fn lanes(registers: &mut Registers, slot: u16) -> *mut Self;
}

impl Value for u32 {
    #[inline(always)]
    unsafe fn lanes(registers: &mut Registers, slot: u16) -> *mut u32 {
        debug_assert!((slot as usize) < registers.words.len());
        // SAFETY: the caller's promise.
        unsafe { registers.words.as_mut_ptr().add(slot as usize).cast() }
    }
}

impl Value for u64 {
    #[inline(always)]
    unsafe fn lanes(registers: &mut Registers, slot: u16) -> *mut u64 {
        debug_assert!((slot as usize) < registers.longs.len());
        // SAFETY: the caller's promise.
        unsafe { registers.longs.as_mut_ptr().add(slot as usize).cast() }
    }
}

/// Reads one chunk.
///
/// # Safety
/// `at` points to at least `CHUNK` values.
#[inline(always)]
unsafe fn chunk<T: Copy>(at: *const T) -> [T; CHUNK] {
    // SAFETY: the caller's promise; an array has the alignment of its elements.
    unsafe { at.cast::<[T; CHUNK]>().read() }
}

macro_rules! map {
    ($name:ident, $($source:ident $type:ident $index:literal),+) => {
        /// d = f(sources) in the lanes of `mask`; `s` is the destination, then the sources.
        ///
        /// # Safety
        /// Every slot is less than the number of slots of its file.
        #[inline(always)]
        pub unsafe fn $name<D: Value, $($type: Value),+, const N: usize>(&mut self, s: &[u16; N], mask: u32, f: impl Fn($($type),+) -> D) {
            // SAFETY: the slots exist (the caller's promise), each is 32 values long and `at` runs over them in chunks.
            unsafe {
                let d = D::lanes(self, s[0]);
                $(let $source = $type::lanes(self, s[$index]).cast_const();)+
                for at in (0..32).step_by(CHUNK) {
                    $(let $source = chunk($source.add(at));)+
                    let mut r = [D::default(); CHUNK];
                    for i in 0..CHUNK {
                        r[i] = f($($source[i]),+);
                    }
                    if mask != FULL {
                        let old = chunk(d.add(at));
                        for i in 0..CHUNK {
                            if mask >> (at + i) & 1 == 0 {
                                r[i] = old[i];
                            }
                        }
                    }
                    d.add(at).cast::<[D; CHUNK]>().write(r);
                }
            }
        }
    };
}

impl Registers {
    /// Registers for `kernel`, with its constants in them.
    pub fn new(kernel: &Kernel) -> Registers {
        let mut registers = Registers {
            words: vec![[0; 32]; kernel.words.max(1)],
            longs: vec![[0; 32]; kernel.longs.max(1)],
            bits: vec![0; kernel.bits.max(1)],
            defined: Default::default(),
        };
        for &((file, slot), value) in &kernel.constants {
            match file {
                File::Word => registers.words[slot as usize] = [value as u32; 32],
                File::Long => registers.longs[slot as usize] = [value; 32],
                File::Bit => registers.bits[slot as usize] = if value != 0 { FULL } else { 0 },
            }
        }
        registers
    }

    /// Forgets which registers are defined, if that is kept.
    pub fn start(&mut self, kernel: &Kernel) {
        if kernel.uses.is_none() {
            return;
        }
        self.defined = [vec![FULL; kernel.words], vec![FULL; kernel.longs], vec![FULL; kernel.bits]];
        for &(file, slot) in &kernel.watched {
            self.defined[file as usize][slot as usize] = 0;
        }
    }

    /// Lanes of `mask` in which a step uses something undefined that matters; and its results become as defined as its
    /// sources.
    #[inline(never)]
    pub fn define(&mut self, kernel: &Kernel, pc: u32, active: u32, mask: u32) -> u32 {
        let Some(uses) = kernel.uses.as_ref().and_then(|u| u[pc as usize].as_ref()) else { return 0 };
        let step = &kernel.steps[pc as usize];
        let guard = active & !self.defined[File::Bit as usize][step.guard.0 as usize];
        let mut undefined = 0;
        match &step.op {
            // What is chosen counts.
            Op::Select32(s) | Op::Select64(s) => {
                let file = if matches!(step.op, Op::Select32(_)) { File::Word } else { File::Long } as usize;
                let p = self.bits[s[3] as usize];
                undefined |= !self.defined[File::Bit as usize][s[3] as usize];
                undefined |= (p & !self.defined[file][s[1] as usize]) | (!p & !self.defined[file][s[2] as usize]);
            }
            // Accumulators that take no part in the sum.
            Op::Wgmma(w) if self.bits[w.scale as usize] & 1 == 0 => {
                let reads = uses.reads.iter().filter(|r| r.0 != File::Word || !w.d.contains(&r.1));
                reads.for_each(|&(file, slot)| undefined |= !self.defined[file as usize][slot as usize]);
            }
            _ => uses.reads.iter().for_each(|&(file, slot)| undefined |= !self.defined[file as usize][slot as usize]),
        }
        undefined &= mask;
        let matters = if uses.sink { undefined } else { 0 };
        for &(file, slot) in &uses.writes {
            let d = &mut self.defined[file as usize][slot as usize];
            *d = (*d & !mask) | (mask & !(undefined & !matters));
        }
        guard | matters
    }

    /// Fills the special registers that change from block to block.
    pub fn block(&mut self, kernel: &Kernel, block: u32) {
        for &(slot, special) in &kernel.specials {
            let value = match special {
                Special::BlockX => block,
                Special::ClusterRank => block % kernel.cluster,
                Special::Cluster => block / kernel.cluster,
                _ => continue,
            };
            self.words[slot as usize] = [value; 32];
        }
    }

    /// Fills the special registers for warp `warp`.
    pub fn specials(&mut self, kernel: &Kernel, warp: u32, grid: u32, dynamic: u32) {
        let [x, y, z] = kernel.block;
        for &(slot, special) in &kernel.specials {
            self.words[slot as usize] = std::array::from_fn(|lane| {
                let (lane, thread) = (lane as u32, warp * 32 + lane as u32);
                match special {
                    Special::ThreadX => thread % x,
                    Special::ThreadY => thread / x % y,
                    Special::ThreadZ => thread / x / y,
                    Special::BlockX | Special::ClusterRank | Special::Cluster => 0,
                    Special::ClusterSize => kernel.cluster,
                    Special::Clusters => grid / kernel.cluster,
                    Special::DynamicShared => dynamic,
                    Special::SizeX => x,
                    Special::SizeY => y,
                    Special::SizeZ => z,
                    Special::GridX => grid,
                    Special::Lane => lane,
                    Special::Warp => warp,
                    Special::Warps => (x * y * z).div_ceil(32),
                    Special::MaskEq => 1 << lane,
                    Special::MaskLt => (1 << lane) - 1,
                    Special::MaskLe => u32::MAX >> (31 - lane),
                    Special::MaskGt => !(u32::MAX >> (31 - lane)),
                    Special::MaskGe => !((1 << lane) - 1),
                }
            });
        }
    }

    map!(map1, a A 1);
    map!(map2, a A 1, b B 2);
    map!(map3, a A 1, b B 2, c C 3);

    /// A predicate: the lanes of `mask` become those of `value`.
    #[inline(always)]
    pub fn set_bits(&mut self, slot: u16, mask: u32, value: u32) {
        let old = &mut self.bits[slot as usize];
        *old = (*old & !mask) | (value & mask);
    }

    /// A predicate.
    #[inline(always)]
    pub fn bits(&self, slot: u16) -> u32 {
        debug_assert!((slot as usize) < self.bits.len());
        // SAFETY: slots come from the decoder, which counted them; `new` made that many.
        unsafe { *self.bits.get_unchecked(slot as usize) }
    }

    /// A 32-bit register.
    #[inline(always)]
    pub fn words(&self, slot: u16) -> &[u32; 32] {
        &self.words[slot as usize]
    }

    /// A 64-bit register.
    #[inline(always)]
    pub fn longs(&self, slot: u16) -> &[u64; 32] {
        &self.longs[slot as usize]
    }

    /// A 32-bit register in the lanes of `mask`.
    #[inline(always)]
    pub fn set_words(&mut self, slot: u16, mask: u32, value: &[u32; 32]) {
        let d = &mut self.words[slot as usize];
        if mask == FULL {
            *d = *value;
        } else {
            for i in 0..32 {
                d[i] = if mask >> i & 1 == 1 { value[i] } else { d[i] };
            }
        }
    }

    /// A 64-bit register in the lanes of `mask`.
    #[inline(always)]
    pub fn set_longs(&mut self, slot: u16, mask: u32, value: &[u64; 32]) {
        let d = &mut self.longs[slot as usize];
        for i in 0..32 {
            d[i] = if mask >> i & 1 == 1 { value[i] } else { d[i] };
        }
    }

    /// One lane of any register as 64 bits.
    #[inline(always)]
    pub fn lane(&self, (file, slot): Slot, lane: usize) -> u64 {
        match file {
            File::Word => self.words[slot as usize][lane] as u64,
            File::Long => self.longs[slot as usize][lane],
            File::Bit => (self.bits[slot as usize] >> lane & 1) as u64,
        }
    }

    /// Sets one lane of any register.
    #[inline(always)]
    pub fn set_lane(&mut self, (file, slot): Slot, lane: usize, value: u64) {
        match file {
            File::Word => self.words[slot as usize][lane] = value as u32,
            File::Long => self.longs[slot as usize][lane] = value,
            File::Bit => self.set_bits(slot, 1 << lane, if value != 0 { FULL } else { 0 }),
        }
    }

    /// A comparison of two registers, one bit per lane.
    ///
    /// # Safety
    /// Every slot is less than the number of slots of its file.
    #[inline(always)]
    pub unsafe fn compare<T: Value>(&mut self, s: &[u16; 3], mask: u32, f: impl Fn(T, T) -> bool) {
        let mut result = 0u32;
        // SAFETY: as in `map!`.
        unsafe {
            let (a, b) = (T::lanes(self, s[1]).cast_const(), T::lanes(self, s[2]).cast_const());
            for at in (0..32).step_by(CHUNK) {
                let (a, b) = (chunk(a.add(at)), chunk(b.add(at)));
                let mut r = [0u32; CHUNK];
                for i in 0..CHUNK {
                    r[i] = (f(a[i], b[i]) as u32) << i;
                }
                result |= r.iter().fold(0, |x, y| x | y) << at;
            }
        }
        self.set_bits(s[0], mask, result);
    }
}

/// The lanes of a mask, lowest first.
#[inline(always)]
pub fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(lane)
    })
}
