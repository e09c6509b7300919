//! The rows that one visit of a sample is trained on.

use super::examples::{Example, ToldBy};
use super::recipe::Recipe;
use crate::data::augment::color::{scale_channels, take_color};
use crate::data::loader::Visit;
use crate::data::order::stream;
use crate::data::tokenizer::Special;
use crate::model::Config;
use crate::model::batch::{Sequence, TokenRow};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// What the stream is for that says what a visit hides, beside those of [`crate::data::order`] and of augmentation; the epoch is added. Part
/// of every run's bits.
const MODALITY: u64 = 1 << 61;

/// The rows that a visit is trained on: with words hidden, a picture or a sound hidden, and colour channels scaled.
pub(super) fn sequence(example: &Example, visit: Visit, recipe: Recipe, config: &Config, special: &Special) -> Sequence {
    let part = hidden(example, visit, recipe).and_then(|hidden| example.without(hidden));
    let example = part.as_ref().unwrap_or(example);
    let mut rng = stream(recipe.seed, 2 + visit.epoch, visit.row);
    // How much is hidden differs from sample to sample: a little, or all.
    let share = if uniform(&mut rng) < recipe.word_dropout { uniform(&mut rng) } else { 0.0 };
    let mut sequence = example.sequence(config, special, || uniform(&mut rng) < share);
    if recipe.color_blind > 0.0 && example.colors.contains(&true) && uniform(&mut rng) < recipe.color_blind {
        take_colors(&mut sequence, &example.colors, special.hide);
    }
    if let Some(pixels) = sequence.pixels.as_mut().filter(|_| recipe.color_jitter > 0.0) {
        scale_channels(pixels, [0; 3].map(|_| 1.0 + recipe.color_jitter * (2.0 * uniform(&mut rng) - 1.0)));
    }
    sequence
}

/// What a visit of a sample with a picture and a sound hides of the two. Drawn from a stream of its own: whatever else varies between visits is
/// as it would be without.
fn hidden(example: &Example, visit: Visit, recipe: Recipe) -> Option<ToldBy> {
    if recipe.modality_dropout == 0.0 || example.pixels.is_none() || example.mel.is_none() {
        return None;
    }
    let mut rng = stream(recipe.seed, MODALITY + visit.epoch, visit.row);
    let (hides, picture) = (uniform(&mut rng) < recipe.modality_dropout, uniform(&mut rng) < 0.5);
    hides.then_some(if picture { ToldBy::Picture } else { ToldBy::Sound })
}

/// A picture without its colours, whose words for them are neither fed nor learned. `colors` says so of each word of the caption.
fn take_colors(sequence: &mut Sequence, colors: &[bool], hidden: u32) {
    let Some(pixels) = &mut sequence.pixels else { return };
    take_color(pixels);
    // The caption ends the rows, with one that predicts its end behind it.
    let from = sequence.rows.len() - 1 - colors.len();
    for (row, _) in sequence.rows[from..].iter_mut().zip(colors).filter(|(_, names)| **names) {
        if let TokenRow::Token { id, learned, .. } = row {
            (*id, *learned) = (hidden, false);
        }
    }
}

fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}
