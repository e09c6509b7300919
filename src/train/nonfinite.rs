//! Where a number stopped being finite: takes the step once more and looks at every tensor in the order in which the step computes them.

use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::model::batch::{Batch, PaddedSize};
use crate::model::eye::StemActivations;
use crate::model::histograms::HistogramActivations;
use crate::model::told::ToldActivations;
use crate::model::{Activations, Config, Parameters, forward};
use crate::ops::rope;
use crate::tensor::Tensor;

impl Trainer {
    /// The error of a step that changed nothing. It names the first tensor that is not finite, and the samples of the batch where
    /// that happened; `end` is where it was noticed. Parameters are as before the step, so that its batches can be taken again, one by one.
    pub(super) fn not_finite(&mut self, batches: &[Batch], end: &str) -> Error {
        let counted = batches.iter().map(Batch::counted).sum();
        let step = self.step + 1;
        let error = |what: String, samples: Vec<String>| Error::NonFinite { step, what, samples };
        let all = || batches.iter().flat_map(|batch| batch.names.iter().cloned()).collect();
        for batch in batches {
            match self.first_not_finite(batch, counted) {
                Ok(None) => {}
                Ok(Some(what)) => return error(what, batch.names.clone()),
                Err(e) => return error(format!("{end} (where it began cannot be found: {e})"), all()),
            }
        }
        error(end.into(), all())
    }

    fn first_not_finite(&mut self, batch: &Batch, counted: usize) -> Result<Option<String>> {
        if let Some(found) = in_parameters(&self.parameters)? {
            return Ok(Some(found));
        }
        self.activations.inputs.load(&self.config, batch, PaddedSize::of(batch), counted, false)?;
        let weights = self.rounded.as_ref().unwrap_or(&self.parameters);
        if let Some(found) = in_forward(&self.config, weights, &self.table, &mut self.activations, batch)? {
            return Ok(Some(found));
        }
        self.zero_sums()?;
        self.forward_and_backward()?;
        let any = self.activations.inputs.told.as_ref().is_some_and(|told| told.pool.rows() > 0);
        for (name, tensor) in self.activations.told.iter().filter(|_| any).flat_map(ToldActivations::named) {
            if tensor.first_not_finite()?.is_some() {
                return Ok(Some(format!("{name} (a loss beside the captions': word_bag, contrastive)")));
            }
        }
        in_gradients(&self.gradients)
    }
}

/// The first tensor of the loaded batch's forward pass that is not finite, with the sample where it can be told, in words.
fn in_forward(config: &Config, p: &Parameters, table: &rope::Table, a: &mut Activations, batch: &Batch) -> Result<Option<String>> {
    if a.inputs.mel.first_not_finite()?.is_some() {
        return Ok(Some("a sound's mel frames (the input)".into()));
    }
    forward::hidden_states(config, p, table, a)?;
    // The last layer has rows of its own: which are they?
    let asking = a.inputs.last.row.read::<i32>()?;
    let look = |name: &str, tensor: &Tensor, all: bool| {
        let found = tensor.first_not_finite()?.map(|element| element / tensor.row_len());
        Ok(found.map(|row| in_row(name, if all { row } else { asking[row] as usize }, batch)))
    };
    for (i, convolution) in a.convolutions.iter().enumerate() {
        for (tensor, what) in [(&convolution.z, "before its GELU"), (&convolution.y, "after its GELU")] {
            if tensor.first_not_finite()?.is_some() {
                return Ok(Some(format!("convolution {} of the sound stem, {what}", i + 1)));
            }
        }
    }
    let counted = a.histograms.iter().flat_map(HistogramActivations::named).map(|(name, tensor)| (name.to_string(), tensor));
    for (name, tensor) in a.stem.iter().flat_map(StemActivations::named).chain(counted) {
        if let Some(element) = tensor.first_not_finite()? {
            // As much of it belongs to each picture.
            let picture = element / (tensor.len() / batch.images.max(1));
            return Ok(Some(match batch.whole_row.get(picture).and_then(|&row| batch.name_of(row as usize)) {
                Some(sample) => format!("{name} (first in picture {picture}, of the sample {sample})"),
                None => format!("{name} (first in picture {picture})"),
            }));
        }
    }
    let layers = a.streams.len() - 1;
    for i in 0..=layers {
        let stream = &a.streams[i];
        let place = if i < layers { format!("before layer {i}") } else { "after the last layer".into() };
        let whole = if i == 0 { "the token matrix".into() } else { format!("the residual stream {place}") };
        for (name, tensor) in [(whole, &stream.x), (format!("1/rms {place}"), &stream.rstd), (format!("the norm {place}"), &stream.normed)] {
            if let Some(found) = look(&name, tensor, i < layers)? {
                return Ok(Some(found));
            }
        }
        if let Some(w) = p.layers.get(i) {
            forward::layer(config, w, table, a, i)?; // once more, in case its results were not kept
            let layer = &a.layers[a.slot(i)];
            for (name, tensor) in layer.named() {
                let all = !a.is_last(i) || layer.by_key().iter().any(|by_key| std::ptr::eq(*by_key, tensor));
                if let Some(found) = look(&format!("{name} of layer {i}"), tensor, all)? {
                    return Ok(Some(found));
                }
            }
        }
    }
    a.loss.fill_zero()?;
    for chunk in 0..a.inputs.chunks.len() {
        if !forward::loss(p, a, chunk)? {
            break;
        }
        let rows = a.inputs.chunks[chunk].row.read::<i32>()?;
        for (name, tensor) in [("the logits", &a.logits), ("the log-sum-exp of the logits", &a.logit_lse), ("the loss", &a.row_loss)] {
            if let Some(element) = tensor.first_not_finite()? {
                return Ok(Some(in_row(name, asking[rows[element / tensor.row_len()] as usize] as usize, batch)));
            }
        }
    }
    Ok(a.loss.first_not_finite()?.map(|_| "the loss".into()))
}

/// The first gradient that is not finite, in the order in which the backward pass finishes them: from the loss down.
fn in_gradients(g: &Parameters) -> Result<Option<String>> {
    let order = |name: &str| {
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()).and_then(|i| i.parse::<usize>().ok());
        match (name, layer) {
            ("lm_head.weight", _) => (0, 0),
            ("model.norm.weight", _) => (1, 0),
            (_, Some(i)) => (2, usize::MAX - i),
            _ => (3, 0), // what made the token matrix: it gets its gradients last
        }
    };
    // Within a layer, and among the rest, from the last to the first.
    let mut named: Vec<_> = g.named().into_iter().rev().collect();
    named.sort_by_key(|(name, _)| order(name));
    for (name, gradient) in named {
        if gradient.first_not_finite()?.is_some() {
            return Ok(Some(format!("the gradient of {name}")));
        }
    }
    Ok(None)
}

/// The first parameter that is not finite.
fn in_parameters(p: &Parameters) -> Result<Option<String>> {
    for (name, parameter) in p.named() {
        if parameter.first_not_finite()?.is_some() {
            return Ok(Some(format!("the parameter {name}")));
        }
    }
    Ok(None)
}

fn in_row(name: &str, row: usize, batch: &Batch) -> String {
    match batch.name_of(row) {
        Some(sample) => format!("{name} (first in row {row}, of the sample {sample})"),
        None => format!("{name} (first in row {row})"),
    }
}
