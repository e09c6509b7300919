//! What the packages of `trimodal` share: one error type, and reading a file of the user's within a limit.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![warn(missing_docs)]

pub mod error;
pub mod read;

pub use error::{Error, Result};
