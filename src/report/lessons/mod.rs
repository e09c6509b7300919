//! The pictures of `LEARN.md`, one for each chapter, drawn from what the operations themselves compute.

mod canvas;
mod inputs;
mod layers;
mod learning;
mod threads;

use crate::error::Result;

/// Every picture with its file's name, in the order of the chapters.
///
/// # Errors
/// None but those of the operations, with sizes that fit.
pub fn all() -> Result<Vec<(String, String)>> {
    let pictures = [
        ("threads", threads::threads as fn() -> Result<String>),
        ("patches", inputs::patches),
        ("sound", inputs::sound),
        ("convolutions", inputs::convolutions),
        ("packing", inputs::packing),
        ("norm", layers::norm),
        ("product", layers::product),
        ("rotation", layers::rotation),
        ("attention", layers::attention),
        ("attention-backward", layers::attention_backward),
        ("gate", layers::gate),
        ("loss", learning::loss),
        ("step", learning::step),
        ("abroad", learning::abroad),
    ];
    pictures.into_iter().enumerate().map(|(i, (name, draw))| Ok((format!("{i:02}-{name}.svg"), draw()?))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_picture_of_each_chapter_is_drawn() {
        let all = super::all().unwrap();
        assert_eq!(all.len(), crate::learn::CHAPTERS.len());
        for (name, svg) in all {
            assert!(svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf") && svg.len() < 60_000, "{name}: {} bytes", svg.len());
        }
    }
}
