//! The work of a training step, counted from the model: with it tokens per second are compared with a GPU's peak.

use super::batch::Batch;
use super::config::{Config, Stem};
use crate::ops::local_histogram;

/// Floating-point operations of a training step on this batch that are part of a product: linear layers, attention, convolutions
/// and patches, forward and twice that backward. (Attention's backward pass is counted with its recomputation: 10 for the 4 of
/// forward.) That is 6 · parameters · rows for what every row passes through, the same for the output layer and the rows with
/// logits alone, and attention over the pairs of rows that see each other. In the last layer only the rows with logits pass through
/// more than keys and values, and look at others. Padding, and activations that are computed again, are
/// not counted: they make no progress.
pub fn flops(config: &Config, batch: &Batch) -> u64 {
    let (n, width) = (batch.rows() as u64, config.hidden_size as u64);
    let (inner, key) = ((config.num_attention_heads * config.head_dim) as u64, (config.num_key_value_heads * config.head_dim) as u64);
    let layer = |asking: u64, pairs: u64| 6 * width * (n * 2 * key + asking * (2 * inner + 3 * config.intermediate_size as u64)) + 14 * pairs * inner;
    let seen = |v: &[i32; 2]| (v[1] - v[0]).max(0) as u64;
    let all = layer(n, batch.visible.iter().map(seen).sum());
    let last = layer(batch.logit_row.len() as u64, batch.logit_row.iter().map(|&row| seen(&batch.visible[row as usize])).sum());
    let output = 6 * batch.logit_row.len() as u64 * width * config.vocab_size as u64;
    // Nothing comes before the pixels and the first convolution: their gradients are not computed.
    let patches = config.vision_config.as_ref().map_or(0, |v| {
        let patches = 4 * (batch.images * v.image_size * v.image_size * 3 * v.patch_width(config.hidden_size)) as u64;
        let pixels = |stem: &Stem, layer| batch.images * stem.side(v.patch_grid(), layer).pow(2);
        let counted = 4 * (batch.images * local_histogram::cells(&v.histograms) * local_histogram::BINS) as u64 * width;
        patches
            + counted
            + v.stem.as_ref().map_or(0, |stem| {
                let depth = stem.convolutions.len();
                let convolution = |layer| 9 * pixels(stem, layer + 1) * stem.channels(layer) * stem.channels(layer + 1);
                6 * ((0..depth).map(convolution).sum::<usize>() + (1 + stem.places as usize) * pixels(stem, depth) * stem.channels(depth) * config.hidden_size)
                    as u64
            })
    });
    let stem = config.audio_config.as_ref().map_or(0, |audio| {
        let convolution = |layer: usize| {
            let width_in = if layer == 0 { audio.num_mel_bins as u64 } else { width };
            let product = 2 * 3 * (batch.clips * audio.frames_after(layer)) as u64 * width_in * width;
            product * if layer == 0 { 2 } else { 3 }
        };
        (0..audio.layers).map(convolution).sum()
    });
    (config.num_hidden_layers as u64 - 1) * all + last + output + patches + stem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::drawn_batch;
    use crate::model::Parameters;

    /// Six for each weight of a matrix and row, and attention.
    #[test]
    fn words_alone_are_six_per_parameter_and_row() {
        let config = Config { num_key_value_heads: 2, vision_config: None, audio_config: None, ..Config::meadow(50) };
        let batch = drawn_batch(&config, "words", 5);
        let mut weights = 0;
        let _ = Parameters::build(&config, &mut |shape| {
            weights += if shape.len() == 2 { shape.iter().product() } else { 0 };
            Ok(())
        });
        let table = config.vocab_size * config.hidden_size;
        // In the last layer, rows that predict nothing pass through keys and values alone.
        let inner = config.num_attention_heads * config.head_dim;
        let idle = (batch.rows() - batch.counted()) * config.hidden_size * (2 * inner + 3 * config.intermediate_size);
        let pairs = |rows: &mut dyn Iterator<Item = usize>| rows.map(|row| (batch.visible[row][1] - batch.visible[row][0]) as usize).sum::<usize>();
        let last = pairs(&mut batch.logit_row.iter().map(|&row| row as usize));
        let attention = 14 * inner * (pairs(&mut (0..batch.rows())) * (config.num_hidden_layers - 1) + last);
        let expected = 6 * ((weights - table) * batch.rows() - idle + table * batch.counted()) + attention;
        assert_eq!(flops(&config, &batch), expected as u64);
    }
}
