//! A sound as one visit hears it: earlier or later, slower or faster, louder or softer, with noise; and masks over its mel frames.
//!
//! Speed is changed by resampling, pitch with it (Ko et al. 2015, "Audio augmentation for speech recognition"); masks are those of
//! SpecAugment (Park et al. 2019), one of each.

use super::Random;
use super::strengths::Strengths;
use std::ops::Range;
use std::sync::OnceLock;

/// How one visit hears a sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Hearing {
    /// By how much of the clip it begins later.
    shift: f64,
    /// How much faster it is.
    tempo: f64,
    /// What it is scaled by.
    gain: f64,
    /// The noise, as a share of the sound's root mean square.
    noise: f64,
    /// What the noise is drawn from.
    seed: u64,
    /// Length and place of the masks over time and bands: shares of all frames or bands, and of the room that they have.
    masks: [(f64, f64); 2],
}

impl Hearing {
    /// Draws how a visit hears a sound: always the same numbers, so that one strength changes nothing but what it is about.
    pub(crate) fn draw(strengths: &Strengths, random: &mut Random) -> Self {
        let s = strengths;
        let (shift, tempo) = (random.within(s.sound_shift), libm::exp(random.within(s.tempo)));
        let gain = libm::exp(random.within(s.gain) * std::f64::consts::LN_10 / 20.0);
        let noise = if random.happens(0.5) { s.noise * random.share() } else { 0.0 };
        let seed = (random.bits() as u64) << 32 | random.bits() as u64;
        let masks = [s.time_mask, s.frequency_mask].map(|most| (most * random.share(), random.share()));
        Hearing { shift, tempo, gain, noise, seed, masks }
    }

    /// The clip as it is heard, as long as before.
    pub fn of(&self, clip: &[f32]) -> Vec<f32> {
        let mut heard = if (self.shift, self.tempo) == (0.0, 1.0) { clip.to_vec() } else { resampled(clip, self.tempo, -self.shift * clip.len() as f64) };
        if self.gain != 1.0 {
            heard.iter_mut().for_each(|value| *value *= self.gain as f32);
        }
        let power = heard.iter().map(|value| (*value as f64).powi(2)).sum::<f64>() / heard.len().max(1) as f64;
        // Uniform noise within ±√3 has a root mean square of 1.
        let most = (self.noise * (3.0 * power).sqrt()) as f32;
        if most > 0.0 {
            let mut random = Random::noise(self.seed);
            heard.iter_mut().for_each(|value| *value += most * ((random.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0));
        }
        heard
    }

    /// Masks mel frames `[frames, bands]`: both masks are levelled to the mean of all values.
    pub fn mask(&self, mel: &mut [f32], bands: usize) {
        let frames = mel.len() / bands.max(1);
        let [time, bands_of] = [(self.masks[0], frames), (self.masks[1], bands)].map(|((length, at), all)| stretch(length, at, all));
        if time.is_empty() && bands_of.is_empty() {
            return;
        }
        let mean = (mel.iter().map(|value| *value as f64).sum::<f64>() / mel.len() as f64) as f32;
        for (i, frame) in mel.chunks_exact_mut(bands).enumerate() {
            let masked = if time.contains(&i) { 0..bands } else { bands_of.clone() };
            frame[masked].fill(mean);
        }
    }
}

/// A stretch of so much of `all`, somewhere in the room that it has; never all of it.
fn stretch(length: f64, at: f64, all: usize) -> Range<usize> {
    let length = ((length * all as f64).round() as usize).min(all.saturating_sub(1));
    let start = ((at * (all - length + 1) as f64) as usize).min(all - length);
    start..start + length
}

/// Samples on either side of a place that its value is made of.
const REACH: usize = 8;
/// Places between two samples that have weights of their own: the nearest is taken, at most 1/512 of a sample off.
const PHASES: usize = 256;

/// The weights of 2·[`REACH`] samples for each phase: a sinc under a Hann window.
fn weights() -> &'static [[f32; 2 * REACH]] {
    static WEIGHTS: OnceLock<Vec<[f32; 2 * REACH]>> = OnceLock::new();
    WEIGHTS.get_or_init(|| {
        let of = |phase: usize| {
            let mut weights = [0f64; 2 * REACH];
            for (i, weight) in weights.iter_mut().enumerate() {
                // How far sample i is from the place, which lies after sample REACH − 1.
                let distance = i as f64 - (REACH as f64 - 1.0) - phase as f64 / PHASES as f64;
                let x = std::f64::consts::PI * distance;
                let window = 0.5 + 0.5 * libm::cos(x / REACH as f64);
                *weight = if distance == 0.0 { 1.0 } else { libm::sin(x) / x * window };
            }
            // A whole number of samples away, the sinc is 0: rounding aside.
            if phase == 0 {
                weights = [0.0; 2 * REACH];
                weights[REACH - 1] = 1.0;
            }
            let sum: f64 = weights.iter().sum();
            weights.map(|weight| (weight / sum) as f32)
        };
        (0..PHASES).map(of).collect()
    })
}

/// Sample i is what the clip has at `i · tempo + start`; silence where it has nothing.
fn resampled(clip: &[f32], tempo: f64, start: f64) -> Vec<f32> {
    let weights = weights();
    // Silence at both ends, so that every place that has anything to read has all of its neighbours.
    let mut padded = vec![0f32; clip.len() + 4 * REACH];
    padded[2 * REACH..][..clip.len()].copy_from_slice(clip);
    let value = |i: usize| {
        let at = i as f64 * tempo + start;
        let step = (at * PHASES as f64).round() as i64;
        let (sample, phase) = (step.div_euclid(PHASES as i64), step.rem_euclid(PHASES as i64) as usize);
        let first = sample + 2 * REACH as i64 - (REACH as i64 - 1);
        if first < 0 || first as usize + 2 * REACH > padded.len() {
            return 0.0;
        }
        let mut sums = [0f32; 4];
        let (values, _) = padded[first as usize..][..2 * REACH].as_chunks::<4>();
        let (taps, _) = weights[phase].as_chunks::<4>();
        for (values, taps) in values.iter().zip(taps) {
            for c in 0..4 {
                sums[c] += values[c] * taps[c];
            }
        }
        sums[0] + sums[1] + (sums[2] + sums[3])
    };
    (0..clip.len()).map(value).collect()
}
