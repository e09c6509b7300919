//! The model: a Qwen3 decoder over one token matrix whose rows come from words, pictures and sounds.
//!
//! [`config`] says what it is, [`parameters`] what it learns, [`batch`] what it is fed, [`activations`] what a step needs
//! in memory; [`forward`], [`backward`], [`generate`], [`score`] and [`choices`] call the operations of [`crate::ops`] in order and compute
//! nothing themselves.

pub mod activation_options;
pub mod activations;
pub mod backward;
pub mod batch;
pub mod choices;
pub mod config;
pub mod contrast;
pub mod eye;
mod flops;
pub mod forward;
pub mod generate;
pub mod histograms;
pub mod impression;
pub mod inputs;
mod last_rows;
pub(crate) mod linear;
pub mod met;
pub mod parameters;
pub mod score;
mod seen;
mod senses;
pub mod stem;
pub mod stored_config;
pub mod told;
mod upload;
pub mod word_bag;

pub use activations::Activations;
pub use batch::{Batch, Packer, Sequence, TokenRow};
pub use config::Config;
pub use flops::flops;
pub use met::Met;
pub use parameters::Parameters;
