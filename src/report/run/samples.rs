//! Some samples to look at and listen to, with what the model said about them.

use super::super::page::{Card, Near, Page, picture_png, spectrogram_png};
use super::held_out::Judged;
use crate::data::folder::{MediaSizes, TableRow};
use crate::data::{Dataset, sound};
use crate::error::Result;
use crate::model::Config;
use crate::numbers::thousands;
use crate::train::Example;
use crate::train::examples::sizes;

/// Samples shown in all.
const SHOWN: usize = 32;
/// How many samples of each split the page shows with where each word looked.
const EXPLAINED: usize = 4;
/// Bytes of pictures and sounds in all: as text in the page they take a third more.
const BYTES: usize = 3_500_000;
/// Of a long sound only its beginning can be played, in seconds.
const SECONDS: usize = 5;

pub(super) fn add(page: &mut Page, config: &Config, dataset: &Dataset, judged: &[Judged]) -> Result<()> {
    page.text(
        "Pictures at the size at which the model sees them; sounds as they are, and as the frames of bands that it hears: time to the right, high tones \
         at the top. Nearest to a wrong one are the samples trained on whose picture and sound its eye and ear make the most alike of: if these are right, \
         it saw well and said it wrong.",
    );
    for split in judged {
        let right = right(&split.examples, &split.captions);
        let chosen = choose(&right, SHOWN / judged.len());
        let (mut cards, mut bytes) = (Vec::new(), 0);
        for &i in &chosen {
            let card = card(config, dataset, split, i)?;
            let overlays = card.heats.iter().flat_map(|heat| [&heat.picture, &heat.spectrogram]).chain(card.nearest.iter().map(|near| &near.picture));
            bytes += [&card.picture, &card.wav, &card.spectrogram].into_iter().chain(overlays).flatten().map(Vec::len).sum::<usize>();
            if bytes > BYTES / judged.len() && !cards.is_empty() {
                break;
            }
            cards.push((right[i], card));
        }
        let shown = |of: bool| cards.iter().filter(|(right, _)| *right == of).count();
        let total = |of: bool| right.iter().filter(|right| **right == of).count();
        let (wrong, good) = ((shown(false), thousands(total(false))), (shown(true), thousands(total(true))));
        page.heading(&split.name);
        page.text(&match (wrong.0, good.0) {
            (_, 0) => format!("All {} are wrong; the first {}.", wrong.1, wrong.0),
            (0, _) => format!("All {} are right; the first {}.", good.1, good.0),
            _ => format!("The first {} of {} wrong ones, then the first {} of {} right ones.", wrong.0, wrong.1, good.0, good.1),
        });
        cards.sort_by_key(|(right, _)| *right);
        let cards: Vec<Card> = cards.into_iter().map(|(_, card)| card).collect();
        page.gallery(&cards);
    }
    Ok(())
}

/// Whether each caption is right, word for word.
fn right(examples: &[Example], captions: &[String]) -> Vec<bool> {
    examples.iter().zip(captions).map(|(example, said)| example.text.split_whitespace().eq(said.split_whitespace())).collect()
}

/// The samples of a split of which the page shows where each word looked: the first ones of those that it shows.
pub fn telling(examples: &[Example], captions: &[String]) -> Vec<usize> {
    choose(&right(examples, captions), EXPLAINED)
}

/// The wrong samples of one of so many splits that the page may show.
pub fn wrong(examples: &[Example], captions: &[String], splits: usize) -> Vec<usize> {
    let right = right(examples, captions);
    choose(&right, SHOWN / splits.max(1)).into_iter().filter(|&i| !right[i]).collect()
}

/// The first wrong ones and the first right ones in turn, as many of each as there are.
fn choose(right: &[bool], most: usize) -> Vec<usize> {
    let of = |wanted: bool| (0..right.len()).filter(move |&i| right[i] == wanted);
    let (mut wrong, mut good) = (of(false), of(true));
    let mut chosen = Vec::new();
    while chosen.len() < most.max(2) {
        let before = chosen.len();
        chosen.extend(wrong.next());
        chosen.extend(good.next());
        if chosen.len() == before {
            break;
        }
    }
    chosen.truncate(most.max(2));
    chosen
}

fn card<'a>(config: &Config, dataset: &Dataset, split: &'a Judged, i: usize) -> Result<Card<'a>> {
    let (example, sizes) = (&split.examples[i], sizes(config));
    let sample = dataset.sample(split.rows[i], &sizes)?;
    let wav = sample.sound.map(|heard| {
        let heard: Vec<i16> = heard.iter().take(SECONDS * sizes.sample_rate as usize).map(|s| (s.clamp(-1.0, 1.0) * i16::MAX as f32) as i16).collect();
        sound::wav(&heard, sizes.sample_rate)
    });
    let mels = config.audio_config.as_ref().map_or(1, |audio| audio.num_mel_bins);
    Ok(Card {
        name: &example.name,
        picture: example.pixels.as_ref().map(|rgb| picture_png(rgb, sizes.picture, sizes.picture)).transpose()?,
        spectrogram: example.mel.as_ref().map(|mel| spectrogram_png(mel, mels)).transpose()?,
        wav: wav.transpose()?,
        asked: split.rows[i].prompt.as_deref().unwrap_or_default(),
        said: &split.captions[i],
        truth: Some(&example.text),
        heats: split.heats.get(&i).cloned().unwrap_or_default(),
        nearest: split.nearest.get(&i).into_iter().flatten().map(|row| near(dataset, row, &sizes)).collect::<Result<_>>()?,
    })
}

fn near(dataset: &Dataset, row: &TableRow, sizes: &MediaSizes) -> Result<Near> {
    let picture = dataset.sample(row, sizes)?.picture;
    let picture = picture.map(|picture| picture_png(&picture.rgb, sizes.picture, sizes.picture)).transpose()?;
    Ok(Near { text: row.text.clone().unwrap_or_default(), picture })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_and_wrong_are_both_shown() {
        assert_eq!(choose(&[true, true, false, true, false, false], 4), [2, 0, 4, 1]);
        assert_eq!(choose(&[true, true, true], 5), [0, 1, 2]);
        assert_eq!(choose(&[false, true, true], 3), [0, 1, 2]);
        assert_eq!(choose(&[], 3), Vec::<usize>::new());
        assert_eq!(choose(&[true, false, true], 0), [1, 0], "at least one of each");
    }
}
