//! Which lanes act together in a `.sync` instruction, and `shfl`.

use super::super::lanes::{Registers, lanes};
use super::super::ops::{Shuffle, ShuffleMode};

/// The sets of lanes that name the same members. As a rule it is one; tiles of a warp name themselves.
#[inline(always)]
pub fn groups(words: &[u32; 32], mask: u32, mut f: impl FnMut(u32, u32)) {
    let mut rest = mask;
    while rest != 0 {
        let members = words[rest.trailing_zeros() as usize];
        let group = lanes(rest).filter(|&i| words[i] == members).fold(0, |g, i| g | 1 << i);
        f(members, group);
        rest &= !group;
    }
}

/// `shfl.sync`, as the pseudocode of the PTX ISA has it.
#[inline(always)]
pub fn shuffle(registers: &mut Registers, s: &Shuffle, mask: u32) {
    let (a, b, c) = (*registers.words(s.a), *registers.words(s.b), *registers.words(s.c));
    let (mut value, mut inside) = ([0; 32], 0u32);
    for lane in 0..32u32 {
        let i = lane as usize;
        let (b, clamp, segment) = (b[i] & 31, c[i] & 31, c[i] >> 8 & 31);
        let most = (lane & segment) | (clamp & !segment);
        let least = lane & segment;
        let (from, ok) = match s.mode {
            ShuffleMode::Up => (lane.wrapping_sub(b), lane.wrapping_sub(b) as i32 >= most as i32),
            ShuffleMode::Down => (lane + b, lane + b <= most),
            ShuffleMode::Bfly => (lane ^ b, (lane ^ b) <= most),
            ShuffleMode::Idx => (least | (b & !segment), (least | (b & !segment)) <= most),
        };
        value[i] = a[if ok { from as usize & 31 } else { i }];
        inside |= (ok as u32) << i;
    }
    registers.set_words(s.d, mask, &value);
    if let Some(p) = s.p {
        registers.set_bits(p, mask, inside);
    }
}
