//! From a folder of pictures, sounds and captions, or from shards, to samples in memory.
//!
//! - [`folder`]: the data set: which rows there are, and one row decoded. Beneath it: a row (`row`), tables (`table`), folders
//!   without one (`walk`), shards (`shards` and `members` over `tar`), `parquet` files and which of their `columns` are what, `safe`, which opens files of the folder and no others, and `parallel`.
//! - `limits`, `sizes`, `sample`, `bad`: what a data set may ask of this machine, what samples are brought to, what they are, and
//!   those that cannot be read.
//! - [`loader`]: samples in the order of a seed ([`order`], and [`balance`] where classes are to be visited equally often), decoded ahead on several
//!   threads.
//! - [`picture`]: PNG, JPEG and WebP files to square RGB pixels, by way of `jpeg`, large JPEGs at a part of their size, and `scale`.
//! - [`sound`]: WAV, FLAC, MP3 and Ogg Vorbis files to a clip of samples in −1 … 1.
//! - [`augment`]: each visit of a sample a little different.
//! - [`tokenizer`]: captions to numbers and back.
//! - [`contained`]: panics in other people's decoders become errors.
//! - [`inspect`]: what is in a data set, before anyone trains on it; `measure` looks at the files of a row without decoding them.
//! - [`attributes`]: what captions say, attribute by attribute, where a data set declares some.
//! - [`meadow`]: the generated data set that the demo trains on, written as an ordinary folder.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![warn(missing_docs)]

pub mod attributes;
pub mod augment;
mod bad;
pub mod balance;
mod columns;
pub mod contained;
mod content;
mod find;
pub mod folder;
pub mod inspect;
mod jpeg;
mod json;
mod limits;
pub mod loader;
pub mod meadow;
mod measure;
mod members;
mod opened;
pub mod order;
mod parallel;
mod parquet;
pub mod picture;
mod row;
mod safe;
mod sample;
mod scale;
mod shards;
mod sizes;
pub mod sound;
pub mod split;
mod table;
mod tar;
pub mod tokenizer;
mod walk;
mod watched;
mod window;

pub use trimodal_base::{Error, Result};

pub use attributes::Attributes;
pub use columns::{ColumnChoice, Part};
pub use content::Content;
pub use folder::{Dataset, OpenOptions};
pub use limits::Limits;
pub use measure::FileStamp;
pub use picture::Picture;
pub use row::TableRow;
pub use sample::Sample;
pub use sizes::{Fit, MediaSizes};
pub use tokenizer::Tokenizer;
