//! What a person looks at after a run: tables, curves, contact sheets, pages.

mod contact_sheet;
mod curve;
pub mod page;
mod roofline;
pub mod run;
mod table;
mod trace;
mod walk;

pub use contact_sheet::{Cell, contact_sheet};
pub use curve::loss_svg;
pub use roofline::roofline_svg;
pub use table::table;
pub use trace::{trace_shapes, trace_table};
pub use walk::{digit, digits, places, ranges, touches, walk_page};
