//! How to train, in six lines: what an experiment, a benchmark and a run have in common.

use super::schedule::Schedule;
use super::trainer::{ActivationOptions, Trainer};
use crate::device::Device;
use crate::error::Result;
use crate::model::batch::Capacity;
use crate::model::{Config, Parameters};
use crate::tensor::DType;
use serde::{Deserialize, Serialize};

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Rows of a batch.
    pub rows: usize,
    /// Learning rate, warm-up, decay, clipping.
    pub schedule: Schedule,
    /// Share of the samples whose caption is hidden from the model's input in part (a share of its words drawn evenly from
    /// none to all); what it has to predict stays.
    ///
    /// A model that reads the true words before it predicts the next one learns the captions' habits ("after *orange* never
    /// *cat*") instead of looking. For words that it cannot read, it has to look.
    #[serde(alias = "hide")]
    pub word_dropout: f32,
    /// How much the light on a picture varies from visit to visit: each colour channel is scaled by 1 ± this. What a thing is
    /// must not depend on its exact shade.
    #[serde(alias = "light")]
    pub color_jitter: f32,
    /// Share of the visits at which a picture is shown without its colours, and the words for them are neither fed nor learned. What else
    /// a thing is must then be told from its shape: where certain colours go with certain things, a model that leans on colour is wrong
    /// about a thing in a new one. Nothing is taught about a colour that was not there.
    #[serde(default)]
    pub color_blind: f32,
    /// Share of the visits, of samples that have both a picture and a sound, at which one of the two is hidden: what to say to one alone is
    /// then learned although no sample has one alone. The words of the caption that only the hidden one could tell are left out, as far as
    /// examples say which they are ([`super::examples::ToldBy`]).
    #[serde(default)]
    pub modality_dropout: f32,
    /// What decides the order of the samples and the hidden words.
    pub seed: u64,
    /// What the kernels read and write.
    #[serde(default)]
    pub precision: Precision,
}

/// What activations and the weights that the kernels read are. Parameters, gradients and moments are f32 in either case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit float.
    #[default]
    F32,
    /// Mixed precision, on devices that run PTX: half the memory and traffic, products on tensor cores.
    Bf16,
}

impl Precision {
    /// The dtype of activations.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }
}

impl Recipe {
    /// The demo's.
    pub fn meadow(steps: usize, seed: u64) -> Self {
        let (schedule, precision) = (Schedule::meadow(steps), Precision::F32);
        Recipe { rows: 1920, schedule, word_dropout: 1.0, color_jitter: 0.25, color_blind: 0.0, modality_dropout: 0.0, seed, precision }
    }
}

/// A trainer for a recipe, with fresh parameters on a device.
///
/// # Errors
/// [`crate::Error::OutOfMemory`] where the device has no room for it.
pub fn trainer(config: &Config, recipe: &Recipe, device: &Device) -> Result<Trainer> {
    let capacity = Capacity::for_budget(config, recipe.rows);
    device.expect_memory(Trainer::bytes(config, capacity, ActivationOptions::new(recipe.precision.dtype())), "a training step")?;
    let parameters = Parameters::init(config, device, DType::F32, recipe.seed)?;
    Trainer::with_options(ActivationOptions::new(recipe.precision.dtype()), config, parameters, recipe.schedule, capacity)
}
