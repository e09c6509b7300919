//! The kernels' contract, for people and machines: the headers of the files, and `kernels.json`, which is written from them.
//!
//! [`Header`] reads what a file's comment promises; tests compare it with the code. [`Catalog`] is `kernels.json`: the same for machines,
//! with sizes as expressions ([`evaluate`]) that JavaScript and Python work out alike.
//!
//! It knows no kernel: `trimodal` embeds the files and their `kernels.json`.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![warn(missing_docs)]

mod buffer;
#[cfg(feature = "json")]
pub mod catalog;
mod check;
mod condition;
mod expression;
mod header;
mod text;
pub mod wgsl;

pub use buffer::{Access, Alternative, Buffer, When};
#[cfg(feature = "json")]
pub use catalog::Catalog;
pub use check::{Check, Relation, elements_below, rows_of_16_bytes};
pub use condition::{Atom, Condition};
pub use expression::{Expression, Operator, evaluate};
pub use header::{Constant, Definition, Entry, Field, Header, Values};
pub use text::selects;
