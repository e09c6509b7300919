//! Where each word comes from: buttons for the words, a choice of layer and head, and overlays that a script draws from numbers in
//! the page.

use super::table::{Cell, percent};
use super::{Page, data_uri, escape, picture_png, spectrogram_png};
use crate::error::Result;
use crate::interpret::explain::{Explanation, Word};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(super) const SCRIPT: &str = include_str!("explain.js");
pub(super) const STYLE: &str = include_str!("explain.css");

const WITHOUT_SCRIPT: &str = "A script in this file draws the overlays, and scripts are switched off here. The table below holds the means.";

impl Page {
    /// What the words of an answer looked at, and what their probabilities depend on.
    ///
    /// # Errors
    /// As [`picture_png`].
    pub fn explanation(&mut self, explanation: &Explanation) -> Result<()> {
        self.explains = true;
        let Explanation { picture, sound, layers, heads, words } = explanation;
        if words.is_empty() {
            self.text("The model ended the text without a word: there is nothing to show on the picture or the sound.");
        }
        let body = &mut self.body;
        let _ = writeln!(body, "<div{}>", if words.is_empty() { "" } else { " class=explain" });
        if !words.is_empty() {
            // Inside of a script element only `<` could end it.
            let _ = writeln!(body, "<script type=\"application/json\">{}</script>", data(explanation).to_string().replace('<', "\\u003c"));
            *body += "<div class=\"words live\" role=toolbar aria-label=\"words\" hidden>\n";
            for word in words {
                let _ = writeln!(body, "<button type=button aria-pressed=false>{} <small>{}</small></button>", escape(&shown(word)), percent(word.probability));
            }
            *body += "</div>\n<div class=\"choices live\" hidden>\n";
            for (name, count) in [("layer", *layers), ("head", *heads)] {
                let _ = write!(body, "<label>{name} <select class={name}><option value=-1>mean of all {count}</option>");
                (0..count).for_each(|i| *body += &format!("<option value={i}>{}</option>", i + 1));
                *body += "</select></label>\n";
            }
            *body += "<label>gradient <select class=kind><option value=size>how much</option>\
                      <option value=direction>in which direction</option></select></label>\n\
                      </div>\n<p class=\"status live\" role=status hidden></p>\n";
            let _ = writeln!(body, "<noscript><p>{WITHOUT_SCRIPT}</p></noscript>");
        }
        *body += "<div class=views>\n";
        let canvas = |class: &str| format!("<canvas class={class} role=img aria-label=\"\"></canvas>");
        if let Some(picture) = picture {
            let alt = format!("the picture as the model takes it, {0} × {0} pixels", picture.side);
            let png = data_uri("image/png", &picture_png(&picture.rgb, picture.side, picture.side)?);
            let attention = canvas("picture-attention");
            let seen = match (picture.has_stem, picture.grid) {
                (_, 1) => "the picture, which has one place".into(),
                (false, _) => format!("the picture’s {0} × {0} patches", picture.grid),
                (true, _) => format!("the {0} × {0} places that the convolutions leave of the picture", picture.grid),
            };
            let rest = match (picture.has_whole_row, picture.grid) {
                (_, 1) => " There is no other place of it to compare with.",
                (false, _) => "",
                (true, _) => " What the row of the picture as a whole got counts as on the picture and is not drawn.",
            };
            let _ = writeln!(
                body,
                "<figure><div class=\"over square\"><img alt=\"{alt}\" src=\"{png}\">{attention}</div>\
                 <figcaption>Attention over {seen}: the lightest got the most.{rest}</figcaption></figure>"
            );
            let counted = if picture.has_histograms { " The colours and edges that the model counts have no gradient and are not in it." } else { "" };
            let _ = writeln!(
                body,
                "<figure class=live hidden><div class=\"over square\">{}</div><figcaption>Gradient of the word’s log-probability with respect to the \
                 pixels; at most <span class=picture-most></span> nats for a step of 1 in 255. “In which direction”: grey is none, a colour \
                 is what would make the word likelier there.{counted}</figcaption></figure>",
                canvas("picture-gradient")
            );
        }
        if let Some(sound) = sound {
            let alt = format!("spectrogram of the sound as the model takes it: {:.2} s from left to right, {} mel bands from below", sound.seconds, sound.mels);
            let png = data_uri("image/png", &spectrogram_png(&sound.mel, sound.mels)?);
            let attention = canvas("sound-attention");
            let _ = writeln!(
                body,
                "<figure><div class=\"over sound\"><img alt=\"{alt}\" src=\"{png}\">{attention}</div>\
                 <figcaption>Attention over the sound’s {} rows: the lightest got the most.</figcaption></figure>",
                sound.rows
            );
            let _ = writeln!(
                body,
                "<figure class=live hidden><div class=\"over sound\">{}</div><figcaption>Gradient of the word’s log-probability with respect to the \
                 mel frames; at most <span class=sound-most></span> nats for a step of 1. “In which direction”: orange where louder would \
                 make the word likelier, blue where softer would.</figcaption></figure>",
                canvas("sound-gradient")
            );
        }
        *body += "</div>\n</div>\n";
        if !words.is_empty() {
            self.explained(explanation);
        }
        Ok(())
    }

    /// The means in numbers.
    fn explained(&mut self, explanation: &Explanation) {
        let mut header = vec!["word", "probability"];
        let parts = [explanation.picture.is_some(), explanation.sound.is_some(), true];
        header.extend(["on the picture", "on the sound", "on words and marks"].into_iter().zip(parts).filter(|p| p.1).map(|p| p.0));
        let row = |word: &Word| {
            let share = |share: f64| Cell::Share { share, mark: None };
            let shares = word.on.mean.iter().zip(parts).filter(|p| p.1).map(|p| share(*p.0));
            [shown(word).into(), percent(word.probability).into()].into_iter().chain(shares).collect()
        };
        let rows: Vec<Vec<Cell>> = explanation.words.iter().map(row).collect();
        self.table("Where each word’s attention went: the mean over all layers and heads", &header, &rows);
    }
}

/// A word as people see it.
fn shown(word: &Word) -> String {
    if word.text.trim().is_empty() { format!("#{}", word.id) } else { word.text.clone() }
}

/// What the script reads.
fn data(explanation: &Explanation) -> Value {
    let Explanation { picture, sound, layers, heads, words } = explanation;
    let each = layers * heads;
    let rounded = |value: f32| (value as f64 * 1e4).round() / 1e4;
    let word = |word: &Word| {
        let on: Vec<f64> = word.on.each.iter().flatten().map(|&share| rounded(share)).collect();
        let mut data = json!({ "text": shown(word), "p": word.probability, "on": on });
        for (key, values, runs, most) in
            [("picture", &word.picture, each, 255.0), ("sound", &word.sound, each, 255.0), ("pixels", &word.pixels, 1, 127.0), ("mel", &word.mel, 1, 127.0)]
        {
            if !values.is_empty() {
                data[key] = packed(values, runs, most);
            }
        }
        data
    };
    json!({
        "layers": layers,
        "heads": heads,
        "picture": picture.as_ref().map(|p| json!({ "side": p.side, "grid": p.grid })),
        "sound": sound.as_ref().map(|s| json!({ "frames": s.mel.len() / s.mels, "mels": s.mels, "rows": s.rows, "stride": s.stride, "seconds": s.seconds })),
        "words": words.iter().map(word).collect::<Vec<_>>(),
    })
}

/// Numbers as bytes (of two's complement), each of `runs` runs relative to its own largest magnitude, which stands for `range`.
fn packed(values: &[f32], runs: usize, range: f32) -> Value {
    let mut bytes = Vec::with_capacity(values.len());
    let mut most = Vec::with_capacity(runs);
    for run in values.chunks_exact(values.len() / runs) {
        let largest = run.iter().fold(0f32, |m, x| m.max(x.abs()));
        most.push(largest);
        let unit = if largest > 0.0 { range / largest } else { 0.0 };
        bytes.extend(run.iter().map(|x| (x * unit).round() as i32 as u8));
    }
    json!({ "most": most, "values": BASE64_STANDARD.encode(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpret::explain::{Picture, Shares};

    #[test]
    fn numbers_survive_as_bytes() {
        let packed = packed(&[0.5, 0.25, 0.0, 0.0, -1.0, 2.0], 3, 127.0);
        assert_eq!(packed["most"], json!([0.5, 0.0, 2.0]));
        let bytes = BASE64_STANDARD.decode(packed["values"].as_str().unwrap()).unwrap();
        assert_eq!(bytes.iter().map(|&b| b as i8).collect::<Vec<_>>(), [127, 64, 0, 0, -64, 127]);
    }

    #[test]
    fn what_a_model_says_stays_text() {
        let word = Word {
            text: "</script><img src=x>".into(),
            id: 3,
            probability: 0.5,
            picture: vec![0.25; 4],
            sound: Vec::new(),
            on: Shares { mean: [1.0, 0.0, 0.0], each: vec![[1.0, 0.0, 0.0]] },
            pixels: vec![0.0; 12],
            mel: Vec::new(),
        };
        let picture = Picture { side: 2, grid: 2, has_stem: false, has_whole_row: false, has_histograms: false, rgb: vec![7; 12] };
        let counting = Picture { has_histograms: true, ..picture.clone() };
        let explanation = Explanation { picture: Some(picture), sound: None, layers: 1, heads: 1, words: vec![word] };
        let mut page = Page::new("t", "l");
        page.section("s");
        page.explanation(&explanation).unwrap();
        let html = page.html();
        assert_eq!(html.matches("</script>").count(), 2, "the data and the script");
        assert!(!html.contains("<img src=x") && html.contains("\\u003c/script>") && html.contains("script-src 'sha256-"), "{html}");
        let says_so = |html: &str| html.contains("have no gradient and are not in it");
        let mut counted = Page::new("t", "l");
        counted.section("s");
        counted.explanation(&Explanation { picture: Some(counting), ..explanation.clone() }).unwrap();
        assert!(says_so(&counted.html()) && !says_so(&html));
        let mut silent = Page::new("t", "l");
        silent.section("s");
        silent.explanation(&Explanation { words: Vec::new(), ..explanation }).unwrap();
        assert!(silent.html().contains("without a word"));
    }
}
