//! `trimodal describe`: says what is in a picture, a sound, or both.

use super::DeviceArguments;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  trimodal describe my-model --image cat.jpg
  trimodal describe my-model --image cat.jpg --audio purr.wav
  trimodal describe my-model --audio purr.wav --prompt \"a fluffy\"
  trimodal describe my-model --image cat.jpg --json

Pictures (PNG, JPEG) are scaled and cropped to the model's size, sounds (WAV of any rate) resampled, mixed to one channel \
and cut to the model's length. The model knows only the words that it was trained on.";

/// Say what is in a picture, a sound, or both
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[allow(dead_code)] // until it is here
pub struct Describe {
    /// A model folder, as `demo` and `train` write it
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// A picture: PNG or JPEG
    #[arg(long, value_name = "F")]
    image: Option<PathBuf>,
    /// A sound: WAV
    #[arg(long, value_name = "F")]
    audio: Option<PathBuf>,
    /// The words to begin with
    #[arg(long, value_name = "T")]
    prompt: Option<String>,
    /// Print JSON: the text, its tokens and their probabilities
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

impl Describe {
    pub fn run(self) -> Result<ExitCode> {
        if self.image.is_none() && self.audio.is_none() && self.prompt.is_none() {
            return Err(Error::Usage("nothing to describe: give --image FILE, --audio FILE or both".into()));
        }
        super::not_yet("describe")
    }
}
