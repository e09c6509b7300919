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
    /// What the model said.
    pub said: &'a str,
    /// What is true, where that is known.
    pub truth: Option<&'a str>,
    /// Where each word looked.
    pub heats: Vec<Heat<'a>>,
}

/// Where one word looked: PNGs of the picture and the spectrogram with the attention laid over.
pub struct Heat<'a> {
    /// The word.
    pub word: &'a str,
    /// Over the picture.
    pub picture: Option<Vec<u8>>,
    /// Over the spectrogram.
    pub spectrogram: Option<Vec<u8>>,
}

impl Card<'_> {
    pub(super) fn write(&self, html: &mut String) {
        let about = self.truth.unwrap_or(self.said);
        *html += "<li>\n";
        if let Some(png) = &self.picture {
            let _ = writeln!(html, "<img alt=\"picture: {}\" src=\"{}\">", escape(about), data_uri("image/png", png));
        }
        if let Some(png) = &self.spectrogram {
            let alt = format!("spectrogram of the sound: {about}");
            let _ = writeln!(html, "<img class=spectrum alt=\"{}\" src=\"{}\">", escape(&alt), data_uri("image/png", png));
        }
        if let Some(wav) = &self.wav {
            let _ = writeln!(html, "<audio controls preload=none aria-label=\"sound: {}\" src=\"{}\"></audio>", escape(about), data_uri("audio/wav", wav));
        }
        match self.truth {
            Some(truth) if truth == self.said => {
                let _ = writeln!(html, "<p class=good><strong>✓ right:</strong> {}</p>", escape(self.said));
            }
            Some(truth) => {
                let _ = writeln!(html, "<p class=bad><strong>✗ said:</strong> {}</p>\n<p><strong>true:</strong> {}</p>", escape(self.said), escape(truth));
            }
            None => {
                let _ = writeln!(html, "<p>{}</p>", escape(self.said));
            }
        }
        if !self.heats.is_empty() {
            *html += "<details><summary>where each word looked</summary>\n<ul class=heats>\n";
            for heat in &self.heats {
                *html += "<li>";
                for (png, of) in [(&heat.picture, "picture"), (&heat.spectrogram, "spectrogram")] {
                    if let Some(png) = png {
                        let _ = write!(html, "<img alt=\"attention of “{}” over the {of}\" src=\"{}\">", escape(heat.word), data_uri("image/png", png));
                    }
                }
                let _ = writeln!(html, "{}</li>", escape(heat.word));
            }
            *html += "</ul></details>\n";
        }
        let _ = writeln!(html, "<p class=name>{}</p>\n</li>", escape(self.name));
    }
}
