//! The kernels' contract: what [`kernel_contract`] reads from the headers of the files, and `kernels.json` as this crate has it.

pub use kernel_contract::*;

use std::sync::OnceLock;

/// The text of `kernels.json`.
pub static TEXT: &str = include_str!("../kernels.json");

/// `kernels.json`, read once.
pub fn shipped() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| serde_json::from_str(TEXT).expect("tests/manifest.rs has written it"))
}
