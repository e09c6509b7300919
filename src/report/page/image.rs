//! Pictures for a page: as they are, spectrograms, and weights laid over either.

use crate::error::{Error, Result};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// Ends and middle of the map from 0 … 1 to a colour, dark to light: evenly rising in lightness, told apart by people who do not see
/// red and green (the idea of viridis: Smith and van der Walt 2015).
const RAMP: [[f32; 3]; 5] = [[20.0, 11.0, 52.0], [87.0, 34.0, 120.0], [186.0, 66.0, 92.0], [245.0, 142.0, 54.0], [252.0, 240.0, 170.0]];

fn colour(value: f32) -> [f32; 3] {
    let at = value.clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
    let (low, share) = ((at as usize).min(RAMP.len() - 2), at.fract());
    let share = if at as usize == RAMP.len() - 1 { 1.0 } else { share };
    std::array::from_fn(|c| RAMP[low][c] + (RAMP[low + 1][c] - RAMP[low][c]) * share)
}

/// A PNG of `[height, width, 3]` pixels.
///
/// # Errors
/// [`Error::Mismatch`] where there are not as many.
pub fn picture_png(rgb: &[u8], width: usize, height: usize) -> Result<Vec<u8>> {
    if rgb.len() != width * height * 3 {
        return Err(Error::mismatch("picture_png", "rgb", width * height * 3, rgb.len()));
    }
    let mut png = Vec::new();
    let written = PngEncoder::new(&mut png).write_image(rgb, width as u32, height as u32, ExtendedColorType::Rgb8);
    written.map_err(|e| Error::Usage(format!("a picture of {width} × {height} cannot be written: {e}")))?;
    Ok(png)
}

/// A PNG of mel frames `[frames, mels]`: time from left to right, low bands at the bottom, loud is light. One pixel per value.
///
/// # Errors
/// [`Error::Mismatch`] where the values are not whole frames.
pub fn spectrogram_png(mel: &[f32], mels: usize) -> Result<Vec<u8>> {
    let (rgb, frames) = spectrogram(mel, mels)?;
    picture_png(&rgb, frames, mels)
}

pub(in crate::report) fn spectrogram(mel: &[f32], mels: usize) -> Result<(Vec<u8>, usize)> {
    if mels == 0 || mel.is_empty() || !mel.len().is_multiple_of(mels) {
        return Err(Error::mismatch("spectrogram_png", "mel", format!("whole frames of {mels} values"), mel.len()));
    }
    let frames = mel.len() / mels;
    let (low, high) = mel.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let span = (high - low).max(1e-6);
    let pixels = (0..mels).rev().flat_map(|band| (0..frames).map(move |frame| frame * mels + band));
    Ok((pixels.flat_map(|at| colour((mel[at] - low) / span).map(|c| c as u8)).collect(), frames))
}

/// `[height, width, 3]` pixels with a `[rows, columns]` grid of weights laid over: where a weight is small the picture fades to grey,
/// where it is the largest it keeps its colours under a frame of light. Weights are shown relative to the largest.
///
/// # Errors
/// [`Error::Mismatch`] where sizes disagree.
pub fn overlay(rgb: &[u8], width: usize, height: usize, weights: &[f32], columns: usize) -> Result<Vec<u8>> {
    if columns == 0 || weights.is_empty() || !weights.len().is_multiple_of(columns) {
        return Err(Error::mismatch("overlay", "weights", format!("whole rows of {columns}"), weights.len()));
    }
    if rgb.len() != width * height * 3 {
        return Err(Error::mismatch("overlay", "rgb", width * height * 3, rgb.len()));
    }
    let rows = weights.len() / columns;
    let most = weights.iter().fold(f32::MIN_POSITIVE, |m, &w| m.max(w));
    let mut shown = Vec::with_capacity(rgb.len());
    for y in 0..height {
        for x in 0..width {
            let weight = weights[(y * rows / height) * columns + x * columns / width] / most;
            let pixel = &rgb[3 * (y * width + x)..][..3];
            let grey = 0.299 * pixel[0] as f32 + 0.587 * pixel[1] as f32 + 0.114 * pixel[2] as f32;
            let heat = colour(weight);
            for c in 0..3 {
                let under = grey * 0.55 + pixel[c] as f32 * 0.45;
                shown.push((under * (1.0 - 0.6 * weight) * 0.75 + heat[c] * (0.15 + 0.6 * weight)).clamp(0.0, 255.0) as u8);
            }
        }
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spectrograms_stand_upright() {
        // Two frames of three bands: the loudest value is the highest band of the last frame.
        let (rgb, frames) = spectrogram(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 3).unwrap();
        assert_eq!(frames, 2);
        let light = rgb.chunks_exact(3).map(|p| p.iter().map(|&c| c as u32).sum::<u32>()).enumerate().max_by_key(|p| p.1).unwrap().0;
        assert_eq!(light, 1, "top right");
        let decoded = image::load_from_memory(&spectrogram_png(&[0.5; 6], 3).unwrap()).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (2, 3));
        assert!(spectrogram_png(&[0.0; 5], 3).is_err() && spectrogram_png(&[], 3).is_err());
    }

    #[test]
    fn the_ramp_rises_in_lightness() {
        let light = |v: f32| colour(v).iter().zip([0.299, 0.587, 0.114]).map(|(c, w)| c * w).sum::<f32>();
        let values: Vec<f32> = (0..=100).map(|i| light(i as f32 / 100.0)).collect();
        assert!(values.windows(2).all(|w| w[0] < w[1]), "{values:?}");
    }

    #[test]
    fn the_heaviest_cell_is_the_lightest() {
        let shown = overlay(&[100; 4 * 4 * 3], 4, 4, &[0.1, 0.1, 0.7, 0.1], 2).unwrap();
        let sum = |x: usize, y: usize| shown[3 * (y * 4 + x)..][..3].iter().map(|&c| c as u32).sum::<u32>();
        assert!(sum(0, 3) > sum(0, 0) && sum(0, 3) > sum(3, 3));
        assert!(overlay(&[0; 3], 1, 1, &[], 1).is_err() && overlay(&[0; 2], 1, 1, &[1.0], 1).is_err());
    }
}
