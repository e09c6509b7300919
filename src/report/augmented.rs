//! What augmentation makes of samples, to look at: a row of the sheet for each, as it is and then visit by visit.

use super::contact_sheet::{Cell, MAX_COLUMNS, contact_sheet};
use super::page::spectrogram;
use crate::error::Result;
use crate::train::visits::{Preview, Shown};
use std::path::Path;

/// Visits on the sheet beside a sample as it is.
pub const VISITS: u64 = MAX_COLUMNS as u64 - 1;

/// The longest side of a spectrogram on the sheet.
const LONGEST: usize = 1024;

/// Writes a PNG: of each sample a row with its picture, and one with the mel frames of its sound, of those that it has.
///
/// # Errors
/// As [`contact_sheet`].
pub fn augmented_sheet(path: &Path, previews: &[Preview], side: usize, mels: usize) -> Result<()> {
    let mut cells: Vec<(Vec<u8>, usize, String)> = Vec::new();
    for preview in previews {
        let shown: Vec<&Shown> = std::iter::once(&preview.original).chain(&preview.visits).collect();
        let caption = |i: usize, what: &str| match i.checked_sub(1) {
            None => preview.text.clone(),
            Some(epoch) => format!("{what}epoch {epoch}"),
        };
        if preview.original.pixels.is_some() {
            cells.extend(shown.iter().enumerate().map(|(i, shown)| (shown.pixels.clone().unwrap_or_default(), side, caption(i, ""))));
        }
        if preview.original.mel.is_some() {
            for (i, shown) in shown.iter().enumerate() {
                let (rgb, size) = square(shown.mel.as_deref().unwrap_or_default(), mels)?;
                cells.push((rgb, size, caption(i, "sound, ")));
            }
        }
    }
    let cells: Vec<Cell> = cells.iter().map(|(rgb, size, caption)| Cell { rgb, size: *size, caption, expected: None }).collect();
    contact_sheet(path, &cells)
}

/// A spectrogram on a square: the nearest of its values for each pixel.
fn square(mel: &[f32], mels: usize) -> Result<(Vec<u8>, usize)> {
    let (rgb, frames) = spectrogram(mel, mels)?;
    let side = frames.max(mels).min(LONGEST);
    let pixel = |i: usize| (i / side * mels / side) * frames + i % side * frames / side;
    Ok(((0..side * side).flat_map(|i| rgb[3 * pixel(i)..][..3].iter().copied()).collect(), side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_picture_and_sound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let shown = |pixels: bool, mel: bool| Shown { pixels: pixels.then(|| vec![9; 48]), mel: mel.then(|| (0..40).map(|i| i as f32).collect()) };
        let preview = |pixels, mel| Preview {
            name: "0.png".into(),
            text: "a cat".into(),
            original: shown(pixels, mel),
            visits: (0..VISITS).map(|_| shown(pixels, mel)).collect(),
        };
        let mut heights = Vec::new();
        for previews in [vec![preview(true, false)], vec![preview(true, true)], vec![preview(true, true), preview(false, true)]] {
            augmented_sheet(&path, &previews, 4, 8).unwrap();
            heights.push(image::open(&path).unwrap().height());
        }
        assert!(heights[1] > 2 * heights[0] - 40 && heights[2] > 3 * heights[0] - 60, "{heights:?}");
        // Five frames of eight bands on eight by eight pixels.
        let (rgb, side) = square(&(0..40).map(|i| i as f32).collect::<Vec<_>>(), 8).unwrap();
        assert_eq!((rgb.len(), side), (8 * 8 * 3, 8));
    }
}
