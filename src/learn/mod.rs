//! The guide: `LEARN.md` in chapters, and exercises to them.
//!
//! An exercise is one of the crate's shaders with a piece cut out. It is made from the shader as it is now, so that it cannot become
//! outdated; a test checks that [`crate::check`] refuses every one of them and accepts it once the piece is back.
#![doc = include_str!("../../LEARN.md")]

mod chapters;
mod exercises;
mod tasks;

pub use chapters::{CHAPTERS, Chapter};
pub use exercises::{Exercise, MARK};
pub use tasks::EXERCISES;

/// The guide's text.
pub const TEXT: &str = include_str!("../../LEARN.md");
