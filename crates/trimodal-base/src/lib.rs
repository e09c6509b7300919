//! What the packages of `trimodal` share: one error type, reading a file of the user's within a limit, foreign text on a terminal,
//! numbers from random bits.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![warn(missing_docs)]

pub mod error;
pub mod random;
pub mod read;
pub mod shown;
pub mod warn;

pub use error::{Error, Result};
