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

pub mod bench;
pub mod check;
pub mod data;
pub mod describe;
pub mod device;
pub mod emulator;
pub mod error;
pub mod experiment;
#[cfg(feature = "cli")]
pub mod golden;
pub mod inside;
pub mod learn;
pub mod manifest;
mod markup;
pub mod model;
pub mod ops;
#[cfg(feature = "cli")]
pub mod report;
pub mod tensor;
pub mod trace;
pub mod train;
#[cfg(feature = "cli")]
pub mod vendor;
#[cfg(feature = "cli")]
pub mod web;

pub use device::Device;
pub use error::{Error, Result};
pub use tensor::{DType, Shape, Tensor};
