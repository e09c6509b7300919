//! `trimodal meadow`: writes the generated data set.

use super::progress::{advance, progress};
use super::signals::stop_flag;
use super::terminal::line;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::data::meadow::{self, MeadowOptions, SPLITS};
use trimodal::files::shown::shown_path;
use trimodal::numbers::thousands;
use trimodal::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  trimodal meadow data --samples 100               a few, to look at
  trimodal meadow data --samples 20000 --seed 7    enough to train on
  trimodal meadow deaf --without sounds            pictures and words only
  trimodal train data --out model

Writes DIR/images/*.png, DIR/audio/*.wav (16 kHz) and DIR/metadata.jsonl, one line per sample:
  {\"file_name\": \"images/train-000000.png\", \"audio\": \"audio/train-000000.wav\",
   \"text\": \"a fluffy orange cat ...\", \"split\": \"train\"}
Some samples have only a picture or only a sound, and one in 200 of `train` is a self-description in words alone, which says what the others have: \
{\"prompt\": \"what can you sense?\", \"text\": \"words, pictures and sounds\"}. Beside `train` there are four test splits: iid, held_out_colour, \
held_out_action and held_out_both, whose combinations of colour and species, or of pose and action, are never in `train`.

Nothing is downloaded, and the same seed gives the same bytes on every machine. A folder of your own with the same \
four columns (`file_name` or `audio` or both, `text`, and `split` if you like) trains the same way.";

/// Draw a data set of animals: pictures, sounds and captions, as ordinary files
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Meadow {
    /// The folder to write; created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Samples of the split `train`
    #[arg(long, value_name = "N", default_value_t = MeadowOptions::default().samples)]
    samples: usize,
    /// Samples of each of the four test splits [default: a fortieth of N, but 16 to 400]
    #[arg(long, value_name = "N")]
    test_samples: Option<usize>,
    /// The seed of every picture and sound
    #[arg(long, value_name = "S", default_value_t = MeadowOptions::default().seed)]
    seed: u64,
    /// Leave out all pictures, or all sounds
    #[arg(long, value_name = "WHAT", value_parser = ["pictures", "sounds"])]
    without: Option<String>,
}

/// More files in one folder than this help nobody, and names have six digits.
const MAX_SAMPLES: usize = 1_000_000;

impl Meadow {
    pub fn run(self) -> Result<ExitCode> {
        let test_samples = self.test_samples.unwrap_or((self.samples / 40).clamp(16, 400));
        if self.samples.max(test_samples) > MAX_SAMPLES {
            return Err(Error::Usage(format!("at most {} samples of a split, found {}", thousands(MAX_SAMPLES), thousands(self.samples.max(test_samples)))));
        }
        stop_flag(); // from here on ctrl-C ends it after the sample at hand
        let bar = progress("drawing");
        let options = MeadowOptions {
            samples: self.samples,
            test_samples,
            seed: self.seed,
            pictures: self.without.as_deref() != Some("pictures"),
            sounds: self.without.as_deref() != Some("sounds"),
        };
        let written = meadow::write(&self.folder, &options, &mut |done, total| advance(&bar, done, total));
        bar.finish_and_clear();
        written?;
        let tests = SPLITS[1..].join(", ");
        line(format!("{}: {} samples to train on, {} each of {tests}", shown_path(&self.folder), thousands(self.samples), thousands(test_samples)));
        Ok(ExitCode::SUCCESS)
    }
}
