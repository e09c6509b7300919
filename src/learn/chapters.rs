//! The chapters of `LEARN.md`.

/// The guide's text.
pub const TEXT: &str = include_str!("../../LEARN.md");

/// A chapter of the guide.
#[derive(PartialEq, Eq, Debug)]
pub struct Chapter {
    /// Its number: [`TEXT`] has a heading `## 5. …`.
    pub number: usize,
    /// The stem of the shader that it is about.
    pub stem: &'static str,
}

/// The chapters in the order of the guide.
pub static CHAPTERS: &[Chapter] = &[
    Chapter { number: 0, stem: "primer" },
    Chapter { number: 1, stem: "patch_embed" },
    Chapter { number: 2, stem: "log_mel" },
    Chapter { number: 3, stem: "conv1d" },
    Chapter { number: 4, stem: "embedding" },
    Chapter { number: 5, stem: "rms_norm" },
    Chapter { number: 6, stem: "matmul" },
    Chapter { number: 7, stem: "rope" },
    Chapter { number: 8, stem: "attention" },
    Chapter { number: 9, stem: "attention_backward" },
    Chapter { number: 10, stem: "swiglu" },
    Chapter { number: 11, stem: "cross_entropy" },
    Chapter { number: 12, stem: "adamw" },
    Chapter { number: 13, stem: "local_histogram" },
];

impl Chapter {
    /// The chapter of this number or shader: `5`, `rms_norm`.
    pub fn find(what: &str) -> Option<&'static Chapter> {
        CHAPTERS.iter().find(|chapter| what.parse() == Ok(chapter.number) || what == chapter.stem)
    }

    /// Its heading, without its number.
    pub fn title(&self) -> &'static str {
        self.text().lines().next().and_then(|line| line.split_once(". ")).map_or("", |(_, title)| title)
    }

    /// Its part of [`TEXT`], from its heading on.
    pub fn text(&self) -> &'static str {
        let begin = TEXT.find(&format!("\n## {}. ", self.number)).map_or(TEXT.len(), |at| at + 1);
        let end = TEXT[begin..].find("\n## ").map_or(TEXT.len(), |at| begin + at + 1);
        &TEXT[begin..end]
    }
}
