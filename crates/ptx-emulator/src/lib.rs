//! PTX on the CPU: kernels run and checked on machines without a GPU.
//!
//! - [`parse`]: text → entries and instructions, by name. It needs nothing but `std`, and no feature.
//! - With the feature `interpreter` (a default): [`Program`] decodes opcodes and registers into dense operations, [`run`] launches an
//!   entry, and what it saw is a [`Report`]: findings ([`Kind`] lists them), counts, and the trace of a thread.
//!
//! What it runs, what it finds and what it does not know is in the README. `examples/race.rs` runs somebody's PTX file in ten lines.

#![cfg_attr(all(doctest, feature = "interpreter"), doc = include_str!("../README.md"))]
#![warn(missing_docs)]

mod lex;
pub mod parse;

#[cfg(feature = "interpreter")]
mod interpreter;
#[cfg(feature = "interpreter")]
pub use interpreter::*;

pub use parse::Error as ParseError;
