//! Training from the same start gives the same bits, every time: a check of the whole machine.

use super::failure::Failure;
use crate::device::Device;
use crate::error::Result;
use crate::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence, TokenRow, picture_rows};
use crate::model::{Config, Parameters};
use crate::ops::case::Draw;
use crate::tensor::{DType, Tensor};
use crate::train::recipe::Precision;
use crate::train::{ActivationOptions, Schedule, Trainer};

/// Tokens before the words of a drawn sample's vocabulary: those for a beginning, a patch, a frame.
const RESERVED: usize = 4;

/// A sample of random pixels, frames and words, where the config has eyes and ears for them.
pub fn drawn_sequence(config: &Config, draw: &mut Draw, picture: bool, sound: bool, words: usize) -> Sequence {
    let mut rows = vec![TokenRow::Token { id: 3, truth: 3, learned: false }];
    let mut sequence = Sequence::default();
    if let (true, Some(vision)) = (picture, &config.vision_config) {
        rows.extend(picture_rows(vision));
        sequence.pixels = Some((0..vision.image_size * vision.image_size * 3).map(|_| draw.below(256) as u8).collect());
    }
    if let (true, Some(audio)) = (sound, &config.audio_config) {
        rows.extend(std::iter::repeat_n(TokenRow::Frame, audio.rows()));
        sequence.mel = Some((0..audio.frames() * audio.num_mel_bins).map(|_| draw.normal() as f32).collect());
    }
    for _ in 0..words {
        let id = (RESERVED + draw.below(config.vocab_size - RESERVED)) as u32;
        rows.push(TokenRow::Token { id, truth: id, learned: true });
    }
    sequence.rows = rows;
    sequence
}

/// One sample of each kind (picture and sound, one of them, neither), packed.
///
/// # Panics
/// Where the config's samples do not fit the model.
pub fn drawn_batch(config: &Config, label: &str, words: usize) -> Batch {
    let mut draw = Draw::new(label);
    let sequences =
        [(true, true), (true, false), (false, true), (false, false)].map(|(picture, sound)| drawn_sequence(config, &mut draw, picture, sound, words));
    let budget = sequences.iter().map(|s| s.rows.len()).sum();
    Packer { config, budget, placeholders: Placeholders { image: 1, audio: 2 } }.pack(&sequences).expect("a drawn sample fits")
}

/// Trains the demo's model for `steps` steps on random batches, `times` times over, and compares every parameter and both
/// moments bit by bit with the first run. `progress` is told each finished run.
///
/// # Errors
/// As [`Trainer::step`].
pub fn repeat_training(
    device: &Device,
    precision: Precision,
    steps: usize,
    times: usize,
    mut progress: impl FnMut(usize),
) -> Result<std::result::Result<(), Failure>> {
    let config = Config::meadow(450);
    let batches: Vec<Batch> = (0..4).map(|i| drawn_batch(&config, &format!("batch {i}"), 11)).collect();
    let rows = batches.iter().map(Batch::rows).max().unwrap_or(0);
    let run = || -> Result<Vec<u64>> {
        let parameters = Parameters::init(&config, device, DType::F32, 7)?;
        let schedule = Schedule { warmup: 1, ..Schedule::meadow(steps) };
        let mut trainer = Trainer::with_options(ActivationOptions::new(precision.dtype()), &config, parameters, schedule, Capacity::for_budget(&config, rows))?;
        for step in 0..steps {
            trainer.step(&batches[step % batches.len()])?;
        }
        let all = [&trainer.parameters, &trainer.moments[0], &trainer.moments[1]];
        let tensors: Vec<&Tensor> = all.into_iter().flat_map(|p| p.each()).collect();
        let values = tensors.into_iter().map(Tensor::read_f64).collect::<Result<Vec<_>>>()?;
        Ok(values.into_iter().flatten().map(f64::to_bits).collect())
    };
    let first = run()?;
    progress(1);
    for time in 2..=times {
        let differing = run()?.iter().zip(&first).filter(|(a, b)| a != b).count();
        if differing > 0 {
            return Ok(Err(format!("run {time} ends with other bits than the first in {differing} of {} numbers", first.len()).into()));
        }
        progress(time);
    }
    Ok(Ok(()))
}
