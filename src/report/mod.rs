//! What a person looks at after a run: tables, curves, contact sheets, pages.

mod answer;
mod augmented;
mod bench_page;
pub mod compare;
mod contact_sheet;
mod curve;
mod font;
pub mod lessons;
pub mod page;
mod probe;
mod roofline;
pub mod run;
mod step;
mod table;
mod trace;
pub mod wrong;

pub use answer::Answer;
pub use augmented::{VISITS, augmented_sheet};
pub use bench_page::bench_page;
pub use contact_sheet::{Cell, contact_sheet};
pub use curve::loss_svg;
pub use probe::{in_its_own_words, probe_svg, some_levels};
pub use roofline::roofline_svg;
pub use step::{convolutions, counts, digit, digits, places, ranges, step_page, touches};
pub use table::{Ranked, fitted_table, shortened, table, whole_words, wrapped};
pub use trace::{trace_shapes, trace_table};
