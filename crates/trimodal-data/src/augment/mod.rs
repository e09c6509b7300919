//! Augmentation: each visit of a sample shows it a little differently, so that a model learns what stays the same.
//!
//! - [`strengths`]: how much of what, in one table; `off`, `light` and `strong`.
//! - [`picture`]: where a picture's pixels come from, what is behind it, and what is erased; [`color`]: the light on it.
//! - [`sound`]: a clip earlier or later, louder or softer, slower or faster, with noise; masks over its mel frames.
//! - [`named`]: words of captions that a grey picture cannot show.
//! - [`sides`]: captions that name a side, whose pictures are not mirrored.
//!
//! What a visit is like depends on the seed, the epoch and the row alone: not on the thread that draws it, nor on what was drawn before.

pub mod color;
pub mod named;
pub mod picture;
pub mod sides;
pub mod sound;
pub mod strengths;

pub use named::Named;
pub use picture::Look;
pub use sides::Sides;
pub use sound::Hearing;
pub use strengths::{Level, Overrides, Strengths};

use super::loader::Visit;
use super::order::stream;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// What the streams of augmentation are for, beside those of [`super::order`]; the epoch is added. Part of every run's bits.
const PICTURE: u64 = 1 << 62;
const SOUND: u64 = 1 << 63;

/// What is varied, and how much of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// How much of each; checked ([`Strengths::check`]).
    pub strengths: Strengths,
    /// Words after which a picture is not mirrored.
    pub sides: Sides,
    /// Words for colours: what a grey picture cannot show.
    pub colors: Named,
    /// Words that only a picture can tell, and those that only a sound can: what a visit without it does not teach.
    pub seen: Named,
    /// See `seen`.
    pub heard: Named,
    /// The run's seed.
    pub seed: u64,
}

impl Augmentation {
    /// Whether the picture of a row with this caption and prompt may be mirrored.
    pub fn mirrors(&self, caption: &str, prompt: &str) -> bool {
        self.strengths.flip > 0.0 && !self.sides.named_in(caption) && !self.sides.named_in(prompt)
    }

    /// How a visit sees a picture, which may be mirrored or not.
    pub fn look(&self, visit: Visit, mirrors: bool) -> Look {
        // Pictures and sounds have numbers of their own, so that a change of one leaves the other alone.
        Look::draw(&self.strengths, mirrors, &mut Random(stream(self.seed, PICTURE + visit.epoch, visit.row)))
    }

    /// How a visit hears a sound.
    pub fn hearing(&self, visit: Visit) -> Hearing {
        Hearing::draw(&self.strengths, &mut Random(stream(self.seed, SOUND + visit.epoch, visit.row)))
    }
}

/// Uniform numbers out of a stream of its own.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// What noise is made of.
    pub fn noise(seed: u64) -> Self {
        Random(stream(seed, SOUND - 1, 0))
    }

    /// In 0 … 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.0.next_u32() >> 8) as f64 / (1 << 24) as f64
    }

    /// In −most … most.
    pub fn within(&mut self, most: f64) -> f64 {
        most * (2.0 * self.share() - 1.0)
    }

    /// True for this share of the visits.
    pub fn happens(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        trimodal_base::random::below(self.0.next_u32(), n)
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }
}
