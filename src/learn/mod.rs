//! The guide: `LEARN.md` in chapters, and exercises to them.
//!
//! An exercise is one of the crate's shaders with a piece cut out. It is made from the shader as it is now, so that it cannot become
//! outdated; a test checks that [`crate::check`] refuses every one of them and accepts it once the piece is back.
#![doc = include_str!("../../LEARN.md")]

mod chapters;
mod exercises;
mod tasks;
mod which;

pub use chapters::{CHAPTERS, Chapter, TEXT};
pub use exercises::{Exercise, MARK};
pub use tasks::EXERCISES;
