//! The sounds, from a table of one sine and random numbers, in integers throughout: six actions that differ in pitch,
//! rhythm and noise.

use std::sync::LazyLock;

use super::random::Random;

/// Samples per second.
pub(super) const RATE: u32 = 16_000;
/// Samples of a clip: half a second.
pub(super) const SAMPLES: usize = 8_000;

/// One period of a sine in 4,096 steps of amplitude 2¹⁴ (by `libm`: the same on every machine).
static SINE: LazyLock<Vec<i32>> =
    LazyLock::new(|| (0..4096).map(|i| libm::round(libm::sin(i as f64 * std::f64::consts::PI / 2048.0) * 16384.0) as i32).collect());

fn sine(phase: u32) -> i32 {
    SINE[(phase >> 20) as usize]
}

/// The clip under construction: a sum of tones and noises of amplitude up to about 2¹⁴.
struct Clip {
    sum: Vec<i32>,
    /// All pitches are multiplied by this / 1024.
    pitch: i64,
}

/// Fades in over `attack` and out over `release` samples: 0 … 2¹⁰ at sample i of `length`.
fn envelope(i: usize, length: usize, attack: usize, release: usize) -> i32 {
    let rise = if i < attack { i * 1024 / attack } else { 1024 };
    let fall = if length - i < release { (length - i) * 1024 / release } else { 1024 };
    rise.min(fall) as i32
}

impl Clip {
    /// A gliding tone: `pitches` in Hz at equal distances in time, `overtones` the amplitudes (of 256) of 1, 2, 3 … times
    /// the pitch, `shape` its envelope (0 … 2¹⁰) at each sample.
    fn tone(&mut self, start: usize, length: usize, pitches: &[i64], overtones: &[i32], shape: impl Fn(usize) -> i32) {
        let (mut phase, legs) = (0u32, pitches.len() - 1);
        for i in 0..length.min(SAMPLES.saturating_sub(start)) {
            let (leg, part) = (i * legs / length, (i * legs % length) as i64);
            let hertz1024 = (pitches[leg] * 1024 + (pitches[leg + 1] - pitches[leg]) * 1024 * part / length as i64) * self.pitch / 1024;
            phase = phase.wrapping_add(((hertz1024 << 22) / RATE as i64) as u32);
            let mut value = 0;
            for (n, amplitude) in overtones.iter().enumerate() {
                value += sine(phase.wrapping_mul(n as u32 + 1)) * amplitude / 256;
            }
            self.sum[start + i] += value * shape(i) / 1024;
        }
    }

    /// White noise through a band: a first-order low pass (twice) minus a slower one; both in Hz.
    fn noise(&mut self, start: usize, length: usize, (low, high): (i32, i32), gain: i32, random: &mut Random, shape: impl Fn(usize) -> i32) {
        // One-pole coefficient 2πf/(2πf + rate) in units of 2⁻¹⁶.
        let pole = |hertz: i32| (hertz as i64 * 411_775 / (hertz as i64 * 6283 / 1000 + RATE as i64)) as i32;
        let (fast, slow) = (pole(high), pole(low));
        let (mut a, mut b, mut c) = (0i32, 0i32, 0i32);
        let step = |state: &mut i32, input: i32, pole: i32| *state += (((input - *state) as i64 * pole as i64) >> 16) as i32;
        for i in 0..length.min(SAMPLES.saturating_sub(start)) {
            let white = (random.bits() >> 16) as i32 - 32768;
            step(&mut a, white, fast);
            let input = a;
            step(&mut b, input, fast);
            let input = b;
            step(&mut c, input, slow);
            self.sum[start + i] += ((b - c) as i64 * gain as i64 / 256 * shape(i) as i64 / 1024) as i32;
        }
    }
}

/// One clip of one action (an index into [`super::words::ACTION`]).
pub(super) fn render(action: usize, random: &mut Random) -> Vec<i16> {
    let mut clip = Clip { sum: vec![0; SAMPLES], pitch: random.within(922, 1126) as i64 };
    let onset = random.within(0, 900) as usize;
    match action {
        // Yawning: one long open vowel that slides down.
        0 => {
            let length = 6_600;
            clip.tone(onset, length, &[340, 460, 380, 260, 190], &[150, 120, 70, 40, 20], |i| envelope(i, length, 1_200, 2_800));
            clip.noise(onset, length, (300, 1_500), 60, random, |i| envelope(i, length, 2_000, 2_500));
        }
        // Purring: a low rattle, 25 beats a second, all the way through.
        1 => {
            let rattle = random.within(600, 680) as usize;
            let beat = move |i: usize| if i % rattle < rattle / 2 { 1024 } else { 90 };
            clip.tone(0, SAMPLES, &[92, 92], &[160, 130, 100, 60, 30], beat);
            clip.noise(0, SAMPLES, (60, 420), 500, random, beat);
        }
        // Calling: two rising and falling cries.
        2 => {
            for start in [0, 3_400] {
                clip.tone(onset + start, 2_600, &[620, 900, 940, 700], &[180, 90, 60], |i| envelope(i, 2_600, 300, 600));
            }
        }
        // Chirping: three quick high sweeps.
        3 => {
            for start in [0, 2_000, 4_000] {
                clip.tone(onset + start, 1_100, &[2_300, 3_100, 3_700], &[220, 20], |i| envelope(i, 1_100, 120, 300));
            }
        }
        // Splashing: a burst of white noise that dies away, then drops.
        4 => {
            clip.noise(onset, 5_500, (900, 7_000), 300, random, |i| if i < 40 { 1024 } else { (1024 * 700 * 700 / ((i + 660) * (i + 660))) as i32 });
            for start in [3_000, 4_300, 5_600] {
                let start = onset + start + random.below(300);
                clip.tone(start, 500, &[1_000, 1_500, 2_200], &[110], |i| envelope(i, 500, 40, 400));
            }
        }
        // Sleeping: breath in, breath out, soft.
        _ => {
            clip.noise(onset / 2, 3_400, (500, 1_300), 420, random, |i| envelope(i, 3_400, 1_700, 1_700));
            clip.noise(onset / 2 + 3_700, 3_600, (250, 700), 420, random, |i| envelope(i, 3_600, 1_200, 2_400));
        }
    }
    // To a common peak, then at the loudness of this sample; the noise floor lies 26 to 40 dB below it.
    let peak = clip.sum.iter().map(|v| v.abs()).max().unwrap_or(0).max(1) as i64;
    let loud = random.within(7_000, 26_000) as i64;
    let floor = loud * random.within(256, 1_280) as i64 / 25_600;
    clip.sum
        .iter()
        .map(|value| {
            let noise = (random.bits() >> 16) as i64 - 32_768;
            (*value as i64 * loud / peak + noise * floor / 32_768).clamp(-32_767, 32_767) as i16
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::*;

    #[test]
    fn sounds_are_loud_enough_and_never_clip() {
        for action in 0..6 {
            for index in 0..20 {
                let clip = render(action, &mut Random::new(1, Purpose::Sound, 0, index));
                assert_eq!(clip.len(), SAMPLES);
                let peak = clip.iter().map(|v| v.unsigned_abs()).max().unwrap();
                assert!((6_000..32_767).contains(&peak), "action {action}: peak {peak}");
            }
        }
    }
}
