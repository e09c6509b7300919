//! What a person looks at after a run: tables, curves, contact sheets.

mod table;

pub use table::table;
