//! Some samples as a run's first epochs showed them, where it augmented them.

use super::super::page::{Card, Page, picture_png, spectrogram_png};
use crate::data::augment::Level;
use crate::error::Result;
use crate::model::Config;
use crate::train::visits::{Preview, Shown};

/// Bytes of pictures in all: as text in the page they take a third more.
const BYTES: usize = 700_000;

/// Each sample as it is, then visit by visit.
pub(super) fn add(page: &mut Page, config: &Config, level: Level, previews: &[Preview]) -> Result<()> {
    page.text(&format!(
        "Augmentation (data.augment = \"{}\", and what [augment] sets) makes every visit of a sample another. Some samples as they are, \
         and as the first epochs showed them; what is evaluated is never augmented.",
        level.name()
    ));
    // What cards borrow: captions of visits.
    let epochs: Vec<String> = (0..previews.iter().map(|preview| preview.visits.len()).max().unwrap_or(0)).map(|epoch| format!("epoch {epoch}")).collect();
    let (mut cards, mut bytes) = (Vec::new(), 0);
    for preview in previews {
        let original = std::iter::once((preview.text.as_str(), &preview.original));
        for (said, shown) in original.chain(epochs.iter().map(String::as_str).zip(&preview.visits)) {
            let [picture, spectrogram] = drawn(config, shown)?;
            bytes += [&picture, &spectrogram].into_iter().flatten().map(Vec::len).sum::<usize>();
            cards.push(Card { name: &preview.name, said, picture, spectrogram, ..Card::default() });
        }
        if bytes > BYTES {
            break;
        }
    }
    page.gallery(&cards);
    Ok(())
}

/// PNGs of a picture and of a spectrogram.
fn drawn(config: &Config, shown: &Shown) -> Result<[Option<Vec<u8>>; 2]> {
    let side = config.vision_config.as_ref().map_or(1, |vision| vision.image_size);
    let mels = config.audio_config.as_ref().map_or(1, |audio| audio.num_mel_bins);
    let picture = shown.pixels.as_ref().map(|rgb| picture_png(rgb, side, side)).transpose()?;
    Ok([picture, shown.mel.as_ref().map(|mel| spectrogram_png(mel, mels)).transpose()?])
}
