//! The rows that one visit of a sample is trained on.

use super::examples::Example;
use super::recipe::Recipe;
use crate::data::augment::color::{scale_channels, take_color};
use crate::data::loader::Visit;
use crate::data::order::stream;
use crate::data::tokenizer::Special;
use crate::model::Config;
use crate::model::batch::{Sequence, TokenRow};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// The rows that a visit is trained on: with words hidden and colour channels scaled.
pub(super) fn sequence(example: &Example, visit: Visit, recipe: Recipe, config: &Config, special: &Special) -> Sequence {
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
