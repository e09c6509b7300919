//! WAV, FLAC, MP3 and Ogg Vorbis files to one clip of mono samples; clips to WAV files.

mod coded;
mod mono;
mod wave;

use std::io::{Cursor, Read, Seek};
use std::path::Path;

use hound::SampleFormat;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction};

use super::contained::contained;
use super::content::{self, SoundKind};
use super::limits::Limits;
use super::window::Window;
use mono::Mono;
pub use mono::SoundInfo;
use trimodal_base::read::regular;
use trimodal_base::{Error, Result};

/// Reads the first `samples` samples of a sound file at `sample_rate`, channels averaged, in −1 … 1; a shorter sound is
/// padded with silence at its end.
///
/// WAV (integers of up to 32 bits, floats of 32 and 64, A-law, µ-law, ADPCM; RF64 too), FLAC, MP3 and Ogg Vorbis, at any rate within
/// `limits`; other rates are resampled by a windowed sinc.
///
/// # Errors
/// A missing file; one that is none of these, is cut off, claims more than it has, is empty or beyond `limits`; or a sample that is not a
/// finite number, or so far beyond ±1 that it was meant differently.
pub fn load(path: &Path, sample_rate: u32, samples: usize, limits: &Limits) -> Result<Vec<f32>> {
    let bad = |what: String| Error::file(path, what);
    let (file, length) = regular(path, u64::MAX).map_err(bad)?;
    let source = Window::new(file, 0, length).map_err(|error| bad(format!("cannot read it: {error}")))?;
    read(source, sample_rate, samples, limits).map(|(clip, _)| clip).map_err(bad)
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

/// [`load`] out of an open file, or a part of one; the error is the sentence without the file's name.
pub(super) fn read(
    source: Window<impl Read + Seek + Send + Sync>,
    sample_rate: u32,
    samples: usize,
    limits: &Limits,
) -> std::result::Result<(Vec<f32>, SoundInfo), String> {
    if source.length() > limits.file_bytes {
        return Err(Limits::beyond("file_bytes", "a file of", source.length(), "bytes", limits.file_bytes));
    }
    contained(|| decode(source, sample_rate, samples, limits))
}

fn decode(
    mut source: Window<impl Read + Seek + Send + Sync>,
    sample_rate: u32,
    samples: usize,
    limits: &Limits,
) -> std::result::Result<(Vec<f32>, SoundInfo), String> {
    let length = source.length();
    let start = source.head(12).map_err(|error| format!("cannot read it: {error}"))?;
    let mut mono = Mono::new(sample_rate, samples, limits);
    match SoundKind::of(&start) {
        Some(SoundKind::Wave) => wave::decode(source, length, &mut mono)?,
        Some(kind) => coded::decode(kind, source, &mut mono)?,
        None => return Err(content::refusal(content::SOUND, &start, length)),
    }
    let (mono, info) = mono.finish()?;
    let mut clip = if info.rate == sample_rate { mono } else { resample(&mono, info.rate, sample_rate)? };
    clip.resize(samples, 0.0);
    Ok((clip, info))
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
        let source = Window::new(Cursor::new(&bytes[..]), 0, bytes.len() as u64).unwrap();
        let error = read(source, 16_000, 100, &Limits::default()).unwrap_err();
        assert!(error.contains("(read up to byte ") && error.ends_with(&format!(" of {})", bytes.len())), "{error}");
    }
}
