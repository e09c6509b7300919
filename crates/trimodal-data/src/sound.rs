//! WAV files to one clip of mono samples.

use std::cell::Cell;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use hound::{SampleFormat, WavReader};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction};

use super::contained::contained;
use super::limits::Limits;
use super::watched::Watched;
use trimodal_base::read::regular;
use trimodal_base::{Error, Result};

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

/// Reads the first `samples` samples of a WAV file at `sample_rate`, channels averaged, in −1 … 1; a shorter sound is
/// padded with silence at its end.
///
/// Integers of 8 to 32 bits and 32-bit floats at any rate within `limits`; other rates are resampled by a windowed sinc.
///
/// # Errors
/// A missing file; one that is not a WAV, is cut off, claims more than it has, is empty or beyond `limits`; or a sample that is not a
/// finite number.
pub fn load(path: &Path, sample_rate: u32, samples: usize, limits: &Limits) -> Result<Vec<f32>> {
    let bad = |what: String| Error::file(path, what);
    let (file, length) = regular(path, u64::MAX).map_err(bad)?;
    read(file, length, sample_rate, samples, limits).map(|(clip, _)| clip).map_err(bad)
}

/// A WAV file of one channel of 16-bit samples.
///
/// # Errors
/// None in practice: a clip is far below 4 GiB, and writing to memory does not fail.
pub fn wav(sound: &[i16], sample_rate: u32) -> Result<Vec<u8>> {
    let failed = |error: hound::Error| Error::Usage(format!("cannot encode a WAV: {error}"));
    let spec = hound::WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut bytes = Cursor::new(Vec::with_capacity(44 + 2 * sound.len()));
    let mut writer = hound::WavWriter::new(&mut bytes, spec).map_err(failed)?;
    let mut samples = writer.get_i16_writer(sound.len() as u32);
    for sample in sound {
        samples.write_sample(*sample);
    }
    samples.flush().map_err(failed)?;
    writer.finalize().map_err(failed)?;
    Ok(bytes.into_inner())
}

/// [`load`] out of an open file of `length` bytes; the error is the sentence without the file's name.
pub(super) fn read(file: impl Read, length: u64, sample_rate: u32, samples: usize, limits: &Limits) -> std::result::Result<(Vec<f32>, SoundInfo), String> {
    if length > limits.file_bytes {
        return Err(Limits::beyond("file_bytes", "a file of", length, "bytes", limits.file_bytes));
    }
    contained(|| decode(file, length, sample_rate, samples, limits))
}

fn decode(file: impl Read, length: u64, sample_rate: u32, samples: usize, limits: &Limits) -> std::result::Result<(Vec<f32>, SoundInfo), String> {
    let at = Cell::new(0);
    let reader = Watched::new(BufReader::with_capacity(1 << 15, file), &at);
    let mut reader = WavReader::new(reader).map_err(|error| format!("not a readable WAV: {error} (read up to byte {} of {length})", at.get()))?;
    let spec = reader.spec();
    if spec.channels == 0 {
        return Err("the sound has no channels".into());
    }
    if spec.channels > limits.sound_channels {
        return Err(Limits::beyond("sound_channels", "a sound of", spec.channels, "channels", limits.sound_channels));
    }
    // hound lets more through where a file's container for a sample is wider; it reads none of them.
    if !(1..=32).contains(&spec.bits_per_sample) {
        return Err(format!("expected samples of at most 32 bits, found {}", spec.bits_per_sample));
    }
    let (lowest, highest) = limits.sound_rate;
    if spec.sample_rate > highest {
        return Err(Limits::beyond("sound_rate", "a sound of", spec.sample_rate, "samples per second", highest));
    }
    if spec.sample_rate < lowest.max(1) {
        return Err(format!("found a sound of {} samples per second: less than the limit sound_rate = {lowest}", spec.sample_rate));
    }
    // hound hands out one error after the other for samples that are claimed and not there: 2³¹ of them at worst.
    let claimed = reader.len() as u64 * (spec.bits_per_sample as u64).div_ceil(8);
    if claimed > length {
        return Err(format!("the WAV is cut off: it claims {claimed} bytes of samples, the file has {length} in all"));
    }
    let measure = SoundInfo { rate: spec.sample_rate, channels: spec.channels, seconds: reader.duration() as f64 / spec.sample_rate as f64 };
    if measure.seconds > limits.sound_seconds as f64 {
        return Err(Limits::beyond("sound_seconds", "a sound of", format!("{:.1}", measure.seconds), "seconds", limits.sound_seconds));
    }
    if reader.duration() == 0 {
        return Err("the sound has no samples".into());
    }
    // What the clip needs, and a little more so that the resampler's filter does not see an edge that is not there.
    let wanted = samples as u64 * spec.sample_rate as u64 / sample_rate.max(1) as u64 + 1 + 4096;
    let frames = wanted.min(reader.duration() as u64) as usize;
    let channels = spec.channels as usize;
    let at_frame = |i: usize, what: String| format!("sample {i}: {what}");
    let mut mono = vec![0f32; frames];
    match spec.sample_format {
        SampleFormat::Int => {
            let scale = 1.0 / (1u64 << (spec.bits_per_sample - 1)) as f32 / channels as f32;
            for (i, sample) in reader.samples::<i32>().take(frames * channels).enumerate() {
                mono[i / channels] += sample.map_err(|error| at_frame(i / channels, error.to_string()))? as f32 * scale;
            }
        }
        SampleFormat::Float => {
            for (i, sample) in reader.samples::<f32>().take(frames * channels).enumerate() {
                let sample = sample.map_err(|error| at_frame(i / channels, error.to_string()))?;
                if !sample.is_finite() {
                    return Err(at_frame(i / channels, format!("expected a finite number, found {sample}")));
                }
                // Float files may overshoot ±1 a little; 10³⁰ would overflow the spectrum's powers.
                mono[i / channels] += sample.clamp(-8.0, 8.0) / channels as f32;
            }
        }
    }
    let mut clip = if spec.sample_rate == sample_rate { mono } else { resample(&mono, spec.sample_rate, sample_rate)? };
    clip.resize(samples, 0.0);
    Ok((clip, measure))
}

/// Band-limited change of rate. The filter spans 128 input samples, 64 dB down at the lower rate's half.
fn resample(mono: &[f32], from: u32, to: u32) -> std::result::Result<Vec<f32>, String> {
    let parameters = SincInterpolationParameters::new(128, WindowFunction::BlackmanHarris2);
    let mut resampler =
        Async::<f32>::new_sinc(to as f64 / from as f64, 1.0, &parameters, 1024, 1, FixedAsync::Input).map_err(|error| format!("cannot resample: {error}"))?;
    let input = InterleavedSlice::new(mono, 1, mono.len()).map_err(|error| format!("cannot resample: {error}"))?;
    let output = resampler.process_all(&input, mono.len(), None).map_err(|error| format!("cannot resample: {error}"))?;
    Ok(output.take_data())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resampling_keeps_a_tone() {
        for from in [8_000u32, 11_025, 22_050, 44_100, 48_000, 192_000] {
            let mono: Vec<f32> = (0..from).map(|i| (std::f32::consts::TAU * 440.0 * i as f32 / from as f32).sin()).collect();
            let out = resample(&mono, from, 16_000).unwrap();
            assert!(out.len().abs_diff(16_000) <= 1, "{from}: {}", out.len());
            // The same tone, up to a delay of one sample: rubato rounds its filter's delay to whole samples.
            let tone = |shift: f64| (0..out.len()).map(move |i| (std::f64::consts::TAU * 440.0 * (i as f64 + shift) / 16_000.0).sin());
            let worst = |shift: f64| out.iter().zip(tone(shift)).take(15_000).skip(1_000).map(|(a, b)| (*a as f64 - b).abs()).fold(0.0, f64::max);
            let best = (-24..=24).map(|i| worst(i as f64 / 16.0)).fold(f64::MAX, f64::min);
            assert!(best < 0.02, "{from} Hz: off by {best}");
        }
    }

    #[test]
    fn a_damaged_wav_says_where() {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        (0..100).for_each(|i| writer.write_sample(i).unwrap());
        writer.finalize().unwrap();
        let mut bytes = bytes.into_inner();
        bytes[20] = 0x77; // the format's code
        let error = read(&bytes[..], bytes.len() as u64, 16_000, 100, &Limits::default()).unwrap_err();
        assert!(error.contains("(read up to byte ") && error.ends_with(&format!(" of {})", bytes.len())), "{error}");
    }
}
