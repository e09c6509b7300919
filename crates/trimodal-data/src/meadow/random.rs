//! Counter-based random numbers: sample i of split s draws from its own ChaCha8 stream, whatever thread draws it and
//! however many samples there are.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is for. Pictures and sounds have their own, so that a change in drawing leaves the captions alone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Words = 0,
    Picture = 1,
    Sound = 2,
}

/// One stream of random numbers.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of one purpose of one sample.
    pub fn new(seed: u64, purpose: Purpose, split: usize, index: usize) -> Self {
        // The key is spelled out: `seed_from_u64` has changed between versions of rand_core.
        let mut key = *b"meadow 1________________________";
        key[24..].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream((purpose as u64) << 60 | (split as u64) << 48 | index as u64);
        Random(rng)
    }

    /// The next 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number in 0 … n − 1.
    pub fn below(&mut self, n: usize) -> usize {
        trimodal_base::random::below(self.bits(), n)
    }

    /// A number in low … high, both included.
    pub fn within(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as usize) as i32
    }
}
