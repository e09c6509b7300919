//! What a decoder gives, averaged over its channels, up to what a clip needs.

use symphonia::core::audio::GenericAudioBufferRef;

use crate::limits::Limits;

/// What a sound file held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoundInfo {
    /// Samples per second.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// Its length.
    pub seconds: f64,
}

/// Floats may overshoot ±1 a little; 10³⁰ would overflow the spectrum's powers, and 30,000 means that somebody wrote integers as floats.
const MOST: f32 = 8.0;

pub(super) struct Mono<'a> {
    sample_rate: u32,
    samples: usize,
    limits: &'a Limits,
    info: SoundInfo,
    /// Whether values beyond ±1 are the writer's, not the decoder's.
    floats: bool,
    wanted: usize,
    frames: Vec<f32>,
    interleaved: Vec<f32>,
}

impl<'a> Mono<'a> {
    /// For a clip of `samples` samples at `sample_rate`.
    pub fn new(sample_rate: u32, samples: usize, limits: &'a Limits) -> Self {
        let info = SoundInfo { rate: 0, channels: 0, seconds: 0.0 };
        Mono { sample_rate, samples, limits, info, floats: false, wanted: 0, frames: Vec::new(), interleaved: Vec::new() }
    }

    /// What the header says, before anything is decoded.
    pub fn begin(&mut self, rate: u32, channels: usize, floats: bool) -> Result<(), String> {
        let limits = self.limits;
        if channels == 0 {
            return Err("the sound has no channels".into());
        }
        if channels > limits.sound_channels as usize {
            return Err(Limits::beyond("sound_channels", "a sound of", channels, "channels", limits.sound_channels));
        }
        let (lowest, highest) = limits.sound_rate;
        if rate > highest {
            return Err(Limits::beyond("sound_rate", "a sound of", rate, "samples per second", highest));
        }
        if rate < lowest.max(1) {
            return Err(format!("found a sound of {rate} samples per second: less than the limit sound_rate = {lowest}"));
        }
        (self.info.rate, self.info.channels, self.floats) = (rate, channels as u16, floats);
        // What the clip needs, and a little more so that the resampler's filter does not see an edge that is not there.
        self.wanted = (self.samples as u64 * rate as u64 / self.sample_rate.max(1) as u64) as usize + 1 + 4096;
        Ok(())
    }

    /// The sound has so many frames in all, as far as is known.
    pub fn expect(&mut self, frames: u64) -> Result<(), String> {
        if frames == 0 {
            return Err("the sound has no samples".into());
        }
        self.info.seconds = frames as f64 / self.info.rate as f64;
        if self.info.seconds > self.limits.sound_seconds as f64 {
            return Err(Limits::beyond("sound_seconds", "a sound of", format!("{:.1}", self.info.seconds), "seconds", self.limits.sound_seconds));
        }
        self.wanted = self.wanted.min(usize::try_from(frames).unwrap_or(usize::MAX));
        Ok(())
    }

    /// Whether the clip needs no more.
    pub fn is_full(&self) -> bool {
        self.frames.len() >= self.wanted
    }

    /// The longest sound that is taken.
    pub fn most_seconds(&self) -> u32 {
        self.limits.sound_seconds
    }

    /// Frames that a decoder gave.
    pub fn add(&mut self, decoded: &GenericAudioBufferRef) -> Result<(), String> {
        let channels = decoded.spec().channels().count();
        if channels == 0 {
            return Ok(());
        }
        let mut interleaved = std::mem::take(&mut self.interleaved);
        decoded.copy_to_vec_interleaved(&mut interleaved);
        for frame in interleaved.chunks_exact(channels).take(self.wanted - self.frames.len()) {
            let mut sum = 0.0;
            for value in frame {
                sum += self.checked(*value)? / channels as f32;
            }
            self.frames.push(sum);
        }
        self.interleaved = interleaved;
        Ok(())
    }

    /// Frames that cannot be decoded.
    pub fn silence(&mut self, frames: u64) {
        let frames = usize::try_from(frames).unwrap_or(usize::MAX).min(self.wanted - self.frames.len());
        self.frames.resize(self.frames.len() + frames, 0.0);
    }

    fn checked(&self, value: f32) -> Result<f32, String> {
        match value {
            value if value.abs() <= MOST => Ok(value),
            value if value.is_finite() && !self.floats => Ok(value.clamp(-MOST, MOST)),
            value if value.is_nan() || !self.floats => Err(format!("sample {}: expected a finite number, found {value}", self.frames.len())),
            value => Err(format!(
                "sample {}: found {value}, and floats are expected to be finite and in −1 … 1 (up to ±{MOST} is taken for overshoot): divide them by the \
                 largest value of the integers that they were made of (32768 for 16 bits), or write integers",
                self.frames.len()
            )),
        }
    }

    /// What there is, and of what sound.
    pub fn finish(self) -> Result<(Vec<f32>, SoundInfo), String> {
        if self.frames.is_empty() { Err("the sound has no samples".into()) } else { Ok((self.frames, self.info)) }
    }
}
