//! What a model makes of the picture and the sound of a sample alone, before it reads a word or looks from one row at another: their rows, added up and
//! normalised as the last norm does. It is what the losses beside the captions' are told from (see [`super::told`]).

use super::batch::{Batch, Packer, Placeholders, Sequence};
use super::config::Config;
use super::generate::Generator;
use super::linear::{self, product};
use super::parameters::Parameters;
use super::seen::Seen;
use crate::error::Result;
use crate::ops::rms_norm;
use crate::tensor::Tensor;

/// Samples that [`impressions`] looks at together.
const AT_ONCE: usize = 64;

/// What the rows of picture and sound add up to, normalised, for each sample of a batch, as it was put into the token matrix `x`: `[S, D]`, and each
/// sample's place in it; `None` for a sample without.
fn normed(eps: f32, p: &Parameters, batch: &Batch, x: &Tensor) -> Result<(Tensor, Vec<Option<usize>>)> {
    let (seen, samples) = (Seen::in_batch(batch), batch.images + batch.clips);
    let (device, real, d) = (x.device(), x.dtype(), x.row_len());
    let make = |shape: &[usize]| Tensor::zeros(device, shape, real);
    let (mut pooled, mut normed, mut rstd) = (make(&[samples, d])?, make(&[samples, d])?, make(&[samples])?);
    if samples > 0 {
        let pool: Vec<f64> = seen.pool(samples, batch.rows()).into_iter().map(f64::from).collect();
        product(&Tensor::from_f64(device, [samples, batch.rows()], real, &pool)?, x, false, &mut pooled)?;
        rms_norm::forward(&pooled, None, &p.norm, eps, &mut normed, &mut rstd)?;
    }
    let (mut places, mut sample) = (vec![None; batch.samples], 0);
    for row in 0..batch.rows() {
        sample += (row > 0 && batch.position[row] == 0) as usize;
        places[sample] = places[sample].or(usize::try_from(seen.number[row]).ok());
    }
    Ok((normed, places))
}

/// The rows of a tensor that samples have.
fn each(rows: &Tensor, places: &[Option<usize>]) -> Result<Vec<Option<Vec<f64>>>> {
    let (values, width) = (rows.read_f64()?, rows.row_len());
    Ok(places.iter().map(|place| place.map(|place| values[place * width..][..width].to_vec())).collect())
}

/// Of each sample of a batch, as it was put into the token matrix `x`: the output layer's logits of all words, told from its picture and sound
/// alone; `None` for a sample without.
pub(super) fn words(eps: f32, p: &Parameters, batch: &Batch, x: &Tensor) -> Result<Vec<Option<Vec<f64>>>> {
    let (normed, places) = normed(eps, p, batch, x)?;
    let output = p.lm_head.as_ref().unwrap_or(&p.embed_tokens);
    let mut words = Tensor::zeros(x.device(), [normed.rows(), output.rows()], x.dtype())?;
    if normed.rows() > 0 {
        linear::forward(&normed, output, &mut words)?;
    }
    each(&words, &places)
}

/// What a model makes of the picture and the sound of each of some samples: `[D]`, of length 1; `None` for a sample with neither. What the model finds
/// alike lies near.
///
/// # Errors
/// [`Error::Usage`](crate::error::Error::Usage) for a sample that is too long for the model; [`Error::OutOfMemory`](crate::error::Error::OutOfMemory).
pub fn impressions(config: &Config, p: &Parameters, placeholders: Placeholders, sequences: &[Sequence]) -> Result<Vec<Option<Vec<f64>>>> {
    let mut found = Vec::with_capacity(sequences.len());
    let mut passes: Option<(usize, Generator)> = None;
    for sequences in sequences.chunks(AT_ONCE) {
        let rows = sequences.iter().map(|sequence| sequence.rows.len()).sum();
        let batch = Packer { config, budget: rows, placeholders }.pack(sequences)?;
        if passes.as_ref().is_none_or(|(fit, _)| *fit < rows) {
            drop(passes.take()); // room for the larger one
            passes = Some((rows, Generator::allocate(config, p, 1, rows, 1, 1)?));
        }
        let (_, passes) = passes.as_mut().expect("made above");
        passes.embed(p, &batch)?;
        let (normed, places) = normed(config.rms_norm_eps, p, &batch, &passes.x)?;
        found.extend(each(&normed, &places)?.into_iter().map(|row| {
            row.map(|row| {
                let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
                row.into_iter().map(|x| x / length).collect()
            })
        }));
    }
    Ok(found)
}
