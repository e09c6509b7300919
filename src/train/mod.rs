//! Training: examples from a data folder, the step, the loop around it, and the folder that a model lives in.
//!
//! Read [`step`] first. [`trainer`] is what it works in, [`run`] the loop around it, [`settings`] what a run can be told.
//!
//! From a file to its gradient, a sample has these forms, one after the other:
//!
//! | form | where | what it is | made by |
//! |---|---|---|---|
//! | [`TableRow`](crate::data::TableRow) | `crates/trimodal-data/src/row.rs` | names of files and texts; nothing is read yet | [`Dataset::open`](crate::data::Dataset::open) |
//! | [`Sample`](crate::data::Sample) | `crates/trimodal-data/src/sample.rs` | pixels, waveform and words, decoded to the model's sizes | [`Dataset::sample`](crate::data::Dataset::sample), on a thread of the [`Loader`](crate::data::loader::Loader) |
//! | [`Example`] | `src/train/examples.rs` | pixels, mel frames and token ids: what stays in the cache | [`Preprocessor::example`](examples::Preprocessor::example), on the same thread |
//! | [`Sequence`](crate::model::Sequence) | `src/model/batch.rs` | one row for each token, patch and frame, words dropped out | [`Example::sequence`] |
//! | [`Batch`](crate::model::Batch) | `src/model/batch.rs` | sequences packed one after the other, with who sees whom | [`Batches::draw`](batches::Batches::draw) |
//! | [`Inputs`](crate::model::inputs::Inputs) | `src/model/inputs.rs` | the batch on the device | [`Trainer::step`], or [`Trainer::prefetch`] one step ahead |
//! | [`Activations`](crate::model::Activations) | `src/model/activations.rs` | the token matrix, what each layer keeps, the loss, the gradients of all of it | [`forward`](crate::model::forward), [`backward`](crate::model::backward) |
//!
//! Two of them travel in a wrapper: an example in a [`LoadedSample`](crate::data::loader::LoadedSample), which knows its place in the epoch,
//! and a batch whose inputs were uploaded ahead in a [`Prefetched`](prefetch::Prefetched).

mod accumulate;
mod alone;
pub mod batches;
pub mod checkpoint;
pub mod choices;
mod classes;
pub mod criterion;
pub mod digest;
pub mod dump;
pub mod evaluate;
pub mod examples;
pub mod fingerprint;
mod fit;
mod freeze;
mod graphs;
pub mod log;
pub mod model_folder;
mod names;
mod nonfinite;
pub mod prefetch;
pub mod preflight;
pub mod pretrained;
pub mod recipe;
mod record;
pub mod run;
pub mod schedule;
pub mod self_description;
mod sequence;
pub mod settings;
pub mod setup;
pub mod step;
pub mod stratified;
pub mod trainer;
pub mod visits;
pub mod walkthrough;

pub use choices::{Choices, Ranking};
pub use evaluate::{Ablation, Losses, Scores};
pub use examples::Example;
pub use model_folder::ModelFolder;
pub use recipe::Recipe;
pub use run::Run;
pub use schedule::Schedule;
pub use settings::Settings;
pub use step::StepReport;
pub use trainer::{ActivationOptions, Trainer};
