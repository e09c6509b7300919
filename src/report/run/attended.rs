//! Where each word of a caption looked: the attention of the row that it was made from, over the picture and the spectrogram.

use super::super::page::{Heat, overlay, picture_png, spectrogram};
use crate::data::Tokenizer;
use crate::error::Result;
use crate::interpret::ForwardPass;
use crate::model::batch::{TokenRow, shown_row};
use crate::model::{Config, Parameters};
use crate::train::Example;
use crate::train::examples::placeholders;

/// The most pixels of an overlay's longer side: there is one overlay for every word.
const SIDE: usize = 64;
/// Words that get overlays, from the first on: a model that has learned little says many, and a page has room for other samples too.
const WORDS: usize = 16;

/// Of each of the first words that a model said about an example, the mean over layers and heads of what its row took in, laid over what was seen and heard.
///
/// # Errors
/// [`crate::Error::OutOfMemory`] where the device has no room for a forward pass of which everything is kept.
pub fn attended(config: &Config, parameters: &Parameters, tokenizer: &Tokenizer, example: &Example, said: &str) -> Result<Vec<Heat>> {
    let (mut ids, special) = (tokenizer.encode(said)?, tokenizer.special());
    ids.truncate(WORDS);
    let mut sample = example.before_caption(config, &special);
    if ids.is_empty() || example.pixels.is_none() && example.mel.is_none() {
        return Ok(Vec::new());
    }
    // A word is made from the row before it.
    let rows: Vec<usize> = (0..ids.len()).map(|i| sample.rows.len() - 1 + i).collect();
    sample.rows.extend(ids[..ids.len() - 1].iter().map(|&id| TokenRow::Token { id, truth: id, learned: false }));
    let kinds = sample.rows.clone();
    let pass = ForwardPass::new(config, parameters, placeholders(&special), &[sample], &[])?;
    let mut mean = vec![vec![0.0f32; kinds.len()]; ids.len()];
    for layer in 0..config.num_hidden_layers {
        let weights = pass.probabilities(layer, &rows)?;
        for (mean, heads) in mean.iter_mut().zip(weights.chunks_exact(weights.len() / rows.len())) {
            heads.chunks_exact(kinds.len()).for_each(|head| mean.iter_mut().zip(head).for_each(|(mean, &weight)| *mean += weight as f32));
        }
    }
    let picture = example.pixels.as_ref().zip(config.vision_config.as_ref()).map(|(rgb, v)| (small(rgb, v.image_size, v.image_size), v.shown_grid()));
    let shown = config.vision_config.as_ref().map_or(TokenRow::Patch, shown_row);
    let sound = example.mel.as_ref().zip(config.audio_config.as_ref());
    let sound = sound.map(|(mel, a)| spectrogram(mel, a.num_mel_bins).map(|(rgb, frames)| (small(&rgb, frames, a.num_mel_bins), a.rows()))).transpose()?;
    ids.iter()
        .zip(&mean)
        .map(|(&id, mean)| {
            let over = |shown: &Option<(Small, usize)>, kind: TokenRow| {
                let weights: Vec<f32> = mean.iter().zip(&kinds).filter(|(_, of)| **of == kind).map(|(weight, _)| *weight).collect();
                shown
                    .as_ref()
                    .map(|((rgb, width, height), columns)| picture_png(&overlay(rgb, *width, *height, &weights, *columns)?, *width, *height))
                    .transpose()
            };
            Ok(Heat { word: tokenizer.decode(&[id])?.trim().to_string(), picture: over(&picture, shown)?, spectrogram: over(&sound, TokenRow::Frame)? })
        })
        .collect()
}

/// Pixels, width, height.
type Small = (Vec<u8>, usize, usize);

/// Every k-th pixel, so that no side is longer than [`SIDE`].
fn small(rgb: &[u8], width: usize, height: usize) -> Small {
    let every = width.max(height).div_ceil(SIDE).max(1);
    let pixels = (0..height).step_by(every).flat_map(|y| (0..width).step_by(every).map(move |x| 3 * (y * width + x)));
    (pixels.flat_map(|at| rgb[at..at + 3].iter().copied()).collect(), width.div_ceil(every), height.div_ceil(every))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device};

    #[test]
    fn every_word_has_its_overlays() {
        let tokenizer = Tokenizer::train(["a grey cat purring"], 300).unwrap();
        let config = Config { num_hidden_layers: 2, ..Config::meadow(tokenizer.vocabulary()) };
        let parameters = Parameters::init(&config, &Device::Cpu, DType::F32, 1).unwrap();
        let audio = config.audio_config.as_ref().unwrap();
        let example = Example { pixels: Some(vec![90; 48 * 48 * 3]), mel: Some(vec![0.5; audio.frames() * audio.num_mel_bins]), ..Example::default() };
        let heats = attended(&config, &parameters, &tokenizer, &example, "a grey cat").unwrap();
        assert_eq!(heats.iter().map(|heat| heat.word.as_str()).collect::<Vec<_>>(), ["a", "grey", "cat"]);
        assert!(heats.iter().all(|heat| heat.picture.is_some() && heat.spectrogram.is_some()));
        let deaf = Example { mel: None, ..example };
        assert!(attended(&config, &parameters, &tokenizer, &deaf, "cat").unwrap()[0].spectrogram.is_none());
        assert!(attended(&config, &parameters, &tokenizer, &Example::default(), "cat").unwrap().is_empty());
        assert_eq!(small(&[7; 3 * 130 * 2], 130, 2), (vec![7; 3 * 44], 44, 1));
    }
}
