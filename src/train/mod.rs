//! Training: examples from a data folder, the step, the loop around it, and the folder that a model lives in.

pub mod checkpoint;
pub mod dump;
pub mod evaluate;
pub mod examples;
pub mod files;
pub mod fit;
pub mod folder;
mod graphs;
pub mod schedule;
pub mod step;

pub use evaluate::{Ablation, Scores};
pub use examples::Example;
pub use fit::Recipe;
pub use folder::ModelFolder;
pub use schedule::Schedule;
pub use step::Trainer;
