//! `trimodal probe`: where a picture, a sound and a word lie in a model.

use super::DeviceArguments;
use super::terminal::{self, line};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::files::shown::shown;
use trimodal::files::write_file_atomic;
use trimodal::interpret::probe::{Asked, Axis, Seen, probe};
use trimodal::train::ModelFolder;
use trimodal::{DType, Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal probe my-model --image cat.png
  trimodal probe my-model --image cat.png --audio purr.wav --word cat
  trimodal probe my-model --image cat.png --word cat --axis cat,dog:owl,frog --svg probe.svg
  trimodal probe my-model --audio purr.wav --json

Picture, sound and word are run alone, each in a sample of its own. What stands for one of them at a level is the mean of its rows \
of the residual stream there: the picture's patches (with a stem its places and its row as a whole), the sound's frames, the word's \
one row. Level 0 is what enters the first layer (the embeddings), level 1 what leaves it, and so on. Near the last level a row turns into what comes next; for a patch or a frame, \
which training never asks about, that is left to chance: look at the levels before it.

Nearest words are found row by row with the logit lens: the final norm and the output layer, put on the residual stream as it is at \
that level. The number after a word is the probability that it would get.

Cosines are between the vectors of picture, sound and word; the centred ones are taken after subtracting the mean of all words of the \
vocabulary, which the vectors of one level have in common.

An axis runs between two words or two sets of words: the first set lies at +1 on average, the second at −1, and everything else \
where its vector falls between or beyond them. `--axis cat,dog:owl,frog` asks whether the picture of a cat is as far on the side of \
the pets as the words are. Patches need not share the directions of words, and then their place on it says little; so the model \
also describes the picture. Where a word of the axis was most likely, the probabilities of both sets are compared.

Pictures are scaled and cropped to the model's size and sounds cut to its length, as by `describe`. A word must be one token of the \
model: one that it was trained on.";

/// Show where a picture, a sound and a word lie: nearest words layer by layer, cosines, an axis
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Probe {
    /// A run or a model folder, as `train` and `demo` write them
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// A picture: PNG, JPEG or WebP
    #[arg(long, value_name = "F")]
    image: Option<PathBuf>,
    /// A sound: WAV, FLAC, MP3 or Ogg Vorbis
    #[arg(long, value_name = "F")]
    audio: Option<PathBuf>,
    /// A word that is one token of the model
    #[arg(long, value_name = "W")]
    word: Option<String>,
    /// Two words or two sets of words to lie between: cat,dog:owl,frog
    #[arg(long, value_name = "A,B:C,D")]
    axis: Option<String>,
    /// Nearest words of each row and level in the JSON; the table has one
    #[arg(long, value_name = "N", default_value_t = 5)]
    nearest: usize,
    /// Draw all of it
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Levels that a table has room for.
const MAX_LEVELS: usize = 8;

impl Probe {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.svg.is_some()
    }

    pub fn run(self) -> Result<ExitCode> {
        if self.image.is_none() && self.audio.is_none() && self.word.is_none() {
            return Err(Error::Usage("nothing to probe: expected --image FILE, --audio FILE, --word WORD, or several of them".into()));
        }
        if self.nearest == 0 {
            return Err(Error::Usage("--nearest: expected at least 1".into()));
        }
        let axis = self.axis.as_deref().map(|text| text.parse::<Axis>().map_err(|what| Error::Usage(format!("--axis {text:?}: {what}")))).transpose()?;
        let device = self.device.open()?;
        let model = ModelFolder::open(&self.model, &device, DType::F32)?;
        let (picture, sound, word) = (self.image.as_deref(), self.audio.as_deref(), self.word.as_deref());
        let found = probe(&model, &Asked { picture, sound, word, axis: axis.as_ref(), nearest: self.nearest })?;
        if self.json {
            terminal::document(&(serde_json::to_string_pretty(&found).expect("numbers and strings serialise") + "\n"));
        } else {
            self.tables(&found);
        }
        if let Some(path) = &self.svg {
            let svg = report::probe_svg(&found);
            write_file_atomic(path, svg)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn tables(&self, found: &trimodal::interpret::probe::Probe) {
        let levels = report::some_levels(found.levels, MAX_LEVELS);
        let names: Vec<String> = levels.iter().map(|&level| format!("level {level}")).collect();
        let header = |first: &'static str| std::iter::once(first).chain(names.iter().map(String::as_str)).collect::<Vec<_>>();
        for (what, place, seen) in [("picture", "place", &found.picture), ("sound", "time", &found.sound), ("word", "", &found.word)] {
            if let Some(seen) = seen {
                line(format!("The nearest word of each row of the {what} ({}), by the logit lens:\n", shown(&seen.name)));
                line(report::table(&header(place), &nearest(seen, &levels)));
            }
        }
        let numbers =
            |name: String, values: &[f64]| std::iter::once(name).chain(levels.iter().map(|&level| format!("{:.2}", values[level]))).collect::<Vec<_>>();
        if !found.cosines.is_empty() {
            line("Cosines between their vectors (centred: less the mean of the vocabulary's words):\n");
            let rows: Vec<_> =
                found.cosines.iter().flat_map(|c| [numbers(format!("{} and {}", c.of, c.and), &c.cosine), numbers("  centred".into(), &c.centred)]).collect();
            line(report::table(&header(""), &rows));
        }
        if let Some(positions) = &found.axis {
            let (positive, negative) = (positions.axis.positive.join(", "), positions.axis.negative.join(", "));
            line(format!("On the axis from {negative} (−1) to {positive} (+1):\n"));
            let rows: Vec<_> = positions.positions.iter().map(|p| numbers(p.of.clone(), &p.at)).collect();
            line(report::table(&header(""), &rows));
            for said in &positions.said {
                line(format!("{}\n", report::in_its_own_words(said, &positions.axis)));
            }
        }
        line(format!("Vectors: {}.", found.vectors));
    }
}

/// A line for each row, the nearest word at each level with its probability.
fn nearest(seen: &Seen, levels: &[usize]) -> Vec<Vec<String>> {
    let cell = |near: &trimodal::interpret::probe::Near| format!("{} {:.0} %", near.word, 100.0 * near.probability);
    let row = |(place, row): (&String, &Vec<Vec<_>>)| std::iter::once(place.clone()).chain(levels.iter().map(|&level| cell(&row[level][0]))).collect();
    seen.places.iter().zip(&seen.rows).map(row).collect()
}
