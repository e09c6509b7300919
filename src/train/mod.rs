//! Training: examples from a data folder, the step, the loop around it, and the folder that a model lives in.

pub mod checkpoint;
pub mod dump;
pub mod evaluate;
pub mod examples;
pub mod fit;
pub mod folder;
pub mod from;
mod graphs;
pub mod honesty;
pub mod log;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod setup;
pub mod step;
pub mod walk;

pub use evaluate::{Ablation, Losses, Scores};
pub use examples::Example;
pub use fit::Recipe;
pub use folder::ModelFolder;
pub use run::Run;
pub use schedule::Schedule;
pub use settings::Settings;
pub use step::{ActivationOptions, Trainer};
