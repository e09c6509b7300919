//! Test samples: what was seen and heard, what was said, what is true.

use super::{data_uri, escape};
use std::fmt::Write as _;

/// One sample of a gallery.
#[derive(Default)]
pub struct Card<'a> {
    /// Its name in the data set.
    pub name: &'a str,
    /// A PNG of the picture.
    pub picture: Option<Vec<u8>>,
    /// A WAV of the sound.
    pub wav: Option<Vec<u8>>,
    /// A PNG of its spectrogram.
    pub spectrogram: Option<Vec<u8>>,
    /// The words that its text begins with; empty for none.
    pub asked: &'a str,
    /// What the model said.
    pub said: &'a str,
    /// What is true, where that is known.
    pub truth: Option<&'a str>,
    /// Where each word looked.
    pub heats: Vec<Heat>,
    /// Samples trained on that the model finds most like this one.
    pub nearest: Vec<Near>,
}

/// A sample that is like another.
#[derive(Clone, Debug, PartialEq)]
pub struct Near {
    /// Its caption.
    pub text: String,
    /// A PNG of its picture.
    pub picture: Option<Vec<u8>>,
}

/// Where one word looked: PNGs of the picture and the spectrogram with the attention laid over.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// The word.
    pub word: String,
    /// Over the picture.
    pub picture: Option<Vec<u8>>,
    /// Over the spectrogram.
    pub spectrogram: Option<Vec<u8>>,
}

impl Card<'_> {
    /// Under a heading of this level: the caption. The path of the sample is small beneath.
    pub(super) fn write(&self, html: &mut String, level: usize) {
        let caption = self.truth.unwrap_or(self.said);
        let about = escape(caption);
        *html += "<li>\n";
        // What has no words is called by its place.
        let heading = if caption.trim().is_empty() { self.name } else { caption };
        let _ = writeln!(html, "<div><h{level}>{}</h{level}>", escape(heading));
        if !self.name.is_empty() && heading != self.name {
            let _ = writeln!(html, "<p class=name>{}</p>", escape(self.name));
        }
        *html += "</div>\n<div>\n";
        if let Some(png) = &self.picture {
            let _ = writeln!(html, "<img alt=\"picture: {about}\" src=\"{}\">", data_uri("image/png", png));
        }
        if let Some(png) = &self.spectrogram {
            let _ = writeln!(html, "<img class=spectrum alt=\"spectrogram: {about}\" src=\"{}\">", data_uri("image/png", png));
        }
        if let Some(wav) = &self.wav {
            let _ = writeln!(html, "<audio controls preload=metadata aria-label=\"sound: {about}\" src=\"{}\"></audio>", data_uri("audio/wav", wav));
        }
        *html += "</div>\n<div>\n";
        if !self.asked.is_empty() {
            let _ = writeln!(html, "<p class=asked>asked: {}</p>", escape(self.asked));
        }
        match self.truth {
            Some(truth) if truth.split_whitespace().eq(self.said.split_whitespace()) => *html += "<p><strong class=good>✓ right,</strong> word for word</p>\n",
            Some(_) if self.said.trim().is_empty() => *html += "<p><strong class=bad>✗ wrong:</strong> it says nothing</p>\n",
            Some(truth) => {
                let _ = writeln!(html, "<p><strong class=bad>✗ it says:</strong> {}</p>", marked(self.said, truth));
            }
            None => {}
        }
        if !self.nearest.is_empty() {
            *html += "<details><summary>Nearest among what it was trained on</summary>\n<ul class=heats>\n";
            for near in &self.nearest {
                let text = escape(&near.text);
                *html += "<li>";
                if let Some(png) = &near.picture {
                    let _ = write!(html, "<img class=picture alt=\"trained on: {text}\" src=\"{}\">", data_uri("image/png", png));
                }
                let _ = writeln!(html, "{text}</li>");
            }
            *html += "</ul></details>\n";
        }
        if !self.heats.is_empty() {
            *html += "<details><summary>Where each word looked</summary>\n<ul class=heats>\n";
            for heat in &self.heats {
                *html += "<li>";
                for (png, of) in [(&heat.picture, "picture"), (&heat.spectrogram, "spectrogram")] {
                    if let Some(png) = png {
                        let word = escape(&heat.word);
                        let _ = write!(html, "<img class={of} alt=\"attention of “{word}” over the {of}\" src=\"{}\">", data_uri("image/png", png));
                    }
                }
                let _ = writeln!(html, "{}</li>", escape(&heat.word));
            }
            *html += "</ul></details>\n";
        }
        *html += "</div>\n</li>\n";
    }
}

/// What was said; its words that are not part of the longest common sequence with the truth are marked.
fn marked(said: &str, truth: &str) -> String {
    let (said, truth): (Vec<&str>, Vec<&str>) = (said.split_whitespace().collect(), truth.split_whitespace().collect());
    // Nobody reads the marks in a text that fills pages, and the table would fill the memory.
    if said.len() * truth.len() > 1 << 20 {
        return escape(&said.join(" "));
    }
    // common[i][j]: the length of that sequence of what was said from word i and of the truth from word j.
    let mut common = vec![vec![0; truth.len() + 1]; said.len() + 1];
    for i in (0..said.len()).rev() {
        for j in (0..truth.len()).rev() {
            common[i][j] = if said[i] == truth[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut words, mut j) = (Vec::new(), 0);
    for (i, word) in said.iter().enumerate() {
        while j < truth.len() && truth[j] != *word && common[i][j + 1] == common[i][j] {
            j += 1;
        }
        if truth.get(j) == Some(word) {
            words.push(escape(word));
            j += 1;
        } else {
            words.push(format!("<mark>{}</mark>", escape(word)));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_words_are_marked() {
        assert_eq!(marked("a grey <dog> runs", "a grey cat"), "a grey <mark>&lt;dog&gt;</mark> <mark>runs</mark>");
        assert_eq!(marked("a cat sitting at night", "a cat laying on its back at night"), "a cat <mark>sitting</mark> at night");
        assert_eq!(marked("night cat", "a cat at night"), "night <mark>cat</mark>");
        assert_eq!((marked("", "a"), marked("a", "")), (String::new(), "<mark>a</mark>".into()));
        let mut html = String::new();
        Card { said: "a  cat", truth: Some("a cat"), ..Card::default() }.write(&mut html, 3);
        assert!(html.contains("✓ right") && !html.contains("✗"), "spaces do not count: {html}");
    }

    #[test]
    fn the_caption_is_the_heading_and_the_path_is_beneath() {
        let written = |card: Card| {
            let mut html = String::new();
            card.write(&mut html, 4);
            html
        };
        let html = written(Card { name: "images/7.png", said: "a dog", truth: Some("a cat"), ..Card::default() });
        assert!(html.contains("<h4>a cat</h4>\n<p class=name>images/7.png</p>") && html.contains("it says:</strong> a <mark>dog</mark>"), "{html}");
        let html = written(Card { name: "images/7.png", said: "epoch 0", ..Card::default() });
        assert!(html.contains("<h4>epoch 0</h4>") && !html.contains("<strong"), "{html}");
        let html = written(Card { name: "images/7.png", truth: Some(""), said: "a dog", ..Card::default() });
        assert_eq!((html.matches("images/7.png").count(), html.contains("<h4>images/7.png</h4>")), (1, true), "{html}");
        assert!(written(Card { truth: Some("a cat"), ..Card::default() }).contains("it says nothing"));
    }
}
