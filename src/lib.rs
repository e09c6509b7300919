//! Hand-written GPU kernels that teach one small transformer to read, see and hear.
//!
//! The modules:
//!
//! - [`tensor`]: a shape, a dtype and a buffer on one device.
//! - [`device`]: where tensors live and kernels run: the CPU, and GPUs through wgpu.
//! - [`ops`]: the operations, one file each beside its shader in `shaders/`: formula, contract, CPU code, launch, cases.
//! - [`model`]: the operations in order: the forward and the backward pass, and describing with a key/value cache.
//! - [`data`]: data folders, pictures, sounds, the tokenizer, and the generated data set Meadow.
//! - [`train`]: a training step on one screen, the loop around it, evaluation, the model's folder.
//! - [`experiment`]: two comparisons of many small runs, each with its control.
//! - [`describe`]: what a model says about pictures and sounds from files.
//! - [`inside`]: what happens inside a model: attention, gradients of what it was shown, the words nearest to its rows.
//! - [`check`]: every operation against the float64 oracle.
//! - `golden` (feature `cli`): the same comparisons as files, for those who copied a kernel.
//! - [`bench`]: how long every kernel takes, beside the best that the device can do.
//! - [`learn`]: the guide, in twelve chapters with exercises.
//! - [`manifest`]: what every kernel takes, from the headers of the files, and `kernels.json`.
//! - `vendor`: a kernel copied into another engine, with its part of the manifest and golden vectors.
//! - [`trace`]: one training step, launch by launch.
//!
//! Start with [`train::step`], then [`ops::rms_norm`]. Training takes a dozen lines (`examples/train.rs`), describing too
//! (`examples/describe.rs`, [`describe`]); neither needs the program: with `default-features = false` its command line, progress bars
//! and plots (the feature `cli`) are left out, and so are the GPUs, which the features `wgpu` and `cuda` add.

#![warn(missing_docs)]
// Without both kinds of GPU some arguments of launches go nowhere.
#![cfg_attr(not(all(feature = "wgpu", feature = "cuda")), allow(dead_code, unused_variables))]

// The ground: what everything above may use.
pub mod dtype;
pub mod files;
pub mod numbers;
mod observe;
pub mod roofline;
pub use trimodal_base::error;

#[cfg(feature = "emulator")]
pub use ptx_emulator as emulator;

// What a kernel user takes.
pub mod contract;
pub mod device;
pub mod ops;
pub mod tensor;

// The engine.
#[cfg(feature = "data")]
pub mod model;
pub mod trace;
#[cfg(feature = "data")]
pub mod train;
#[cfg(feature = "data")]
pub use trimodal_data as data;

// Judges and looks.
#[cfg(feature = "data")]
pub mod bench;
pub mod check;
#[cfg(feature = "data")]
pub mod describe;
#[cfg(feature = "cli")]
pub mod golden;
#[cfg(feature = "data")]
pub mod interpret;

// What is written for people.
#[cfg(feature = "data")]
pub mod experiment;
pub mod learn;
mod markup;
#[cfg(feature = "cli")]
pub mod report;
#[cfg(feature = "cli")]
pub mod vendor;
#[cfg(feature = "cli")]
pub mod web;

pub use device::Device;
pub use dtype::{DType, Shape};
pub use error::{Error, Result};
pub use tensor::Tensor;
