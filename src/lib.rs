//! Hand-written GPU kernels that teach one small transformer to read, see and hear.
//!
//! The modules stand in layers, from the ground up, and none imports from a layer above its own (`tests/layers.rs`). In brackets: the
//! features that a module needs; all are on by default. Without any, the crate is the kernels with their contract, tensors and operations on
//! the CPU.
//!
//! The ground, which everything may use:
//! - [`dtype`]: the type of a tensor's elements, and its shape.
//! - [`error`]: one error type, grouped by who must act.
//! - [`files`]: files read within a limit; written whole or not at all, and tensors in safetensors (both `data`).
//! - [`roofline`]: the best that a device can do for so many operations and bytes.
//! - [`numbers`]: numbers as people read them.
//! - [`contract`]: what every kernel takes, from the headers of the files, and `kernels.json`.
//! - `observe`, `markup` (private): what operations tell whoever watches; pages, drawings and plots.
//!
//! What a kernel user takes:
//! - [`device`]: where tensors live and kernels run: the CPU, GPUs through Vulkan, Metal and DX12 (`wgpu`), NVIDIA's through their driver
//!   (`cuda`), and PTX on the CPU (`emulator`).
//! - [`emulator`]: the interpreter under that device, with its checks of every memory access (`emulator`).
//! - [`tensor`]: a shape, a dtype and a buffer on one device.
//! - [`ops`]: the operations, one file each beside its shader in `shaders/` and its kernel in `kernels/`: formula, contract, CPU code, launch, cases.
//!
//! The engine:
//! - [`data`]: data folders, pictures, sounds, the tokenizer, and the generated data set Meadow (`data`).
//! - [`trace`]: one training step, launch by launch.
//! - [`model`]: the operations in order: the forward and the backward pass, and generating with a key/value cache (`data`).
//! - [`train`]: a training step on one screen, the loop around it, evaluation, the model's folder (`data`).
//!
//! Judges and looks:
//! - [`check`]: every operation against the float64 oracle. Of its functions only those that train need a feature: whether training repeats
//!   to the bit, and the batches for it (`data`).
//! - [`bench`]: how long every kernel takes, beside the best that the device can do (`data`).
//! - [`golden`]: the same comparisons as files, for those who copied a kernel (`cli`).
//! - [`interpret`]: what happens inside a model: attention, gradients of what it was shown, the words nearest to its rows (`data`).
//! - [`describe`]: what a model says about pictures and sounds from files (`data`).
//!
//! What is written for people:
//! - [`learn`]: the guide, in chapters with exercises.
//! - [`report`]: tables, curves, contact sheets, and pages of one file (`cli`).
//! - [`vendor`]: a kernel copied into another engine, with its part of the manifest and golden vectors (`cli`).
//! - [`web`]: the page on which the kernels run in a browser, and its server (`cli`).
//! - [`experiment`]: two comparisons of many small runs, each with its control (`data`).
//!
//! On top of them is the program: `src/commands/`, one file for each subcommand (`cli`, `emulator`).
//!
//! To read, begin with `examples/one_file.rs` (all of training in one file), then [`train::step`], then [`ops::rms_norm`], then
//! `kernels/attention.cu` beside `shaders/attention.wgsl`, which are twins. To use the crate: training takes a dozen lines (`examples/train.rs`),
//! describing too (`examples/describe.rs`, [`describe`]), one operation as well (`examples/one_operation.rs`); none needs the program.

#![warn(missing_docs)]
// Without both kinds of GPU some arguments of launches go nowhere.
#![cfg_attr(not(all(feature = "wgpu", feature = "cuda")), allow(dead_code, unused_variables))]

// The ground: what everything above may use.
pub mod contract;
pub mod dtype;
pub mod files;
#[cfg_attr(not(feature = "cli"), allow(dead_code))] // pages and pictures of the program use all of it
mod markup;
pub mod numbers;
mod observe;
pub mod roofline;
pub use trimodal_base::error;

#[cfg(feature = "emulator")]
pub use ptx_emulator as emulator;

// What a kernel user takes.
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
