//! Training.

pub mod files;
