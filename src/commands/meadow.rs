//! `trimodal meadow`: writes the generated data set.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::Result;

const EXAMPLES: &str = "\
Examples:
  trimodal meadow data --samples 100               a few, to look at
  trimodal meadow data --samples 20000 --seed 7    enough to train on
  trimodal train data --out model

Writes DIR/images/*.png, DIR/audio/*.wav (16 kHz) and DIR/metadata.jsonl, one line per sample:
  {\"file_name\": \"images/0.png\", \"audio\": \"audio/0.wav\",
   \"text\": \"a fluffy orange cat ...\", \"split\": \"train\"}
Nothing is downloaded, and the same seed gives the same bytes on every machine. A folder of your own with the same \
four columns (`file_name` or `audio` or both, `text`, and `split` if you like) trains the same way.";

/// Draw a data set of animals: pictures, sounds and captions, as ordinary files
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[allow(dead_code)] // until the generator is here
pub struct Meadow {
    /// The folder to write; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How many samples, over all splits
    #[arg(long, value_name = "N", default_value_t = 1000)]
    samples: usize,
    /// What decides every picture and sound
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl Meadow {
    pub fn run(self) -> Result<ExitCode> {
        super::not_yet("meadow")
    }
}
