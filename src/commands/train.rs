//! `trimodal train`: trains a model on a folder of pictures, sounds and captions.

use super::DeviceArguments;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::Result;

const EXAMPLES: &str = "\
Examples:
  trimodal train my-data --out my-model
  trimodal train my-data --out my-model --steps 10000 --device wgpu
  trimodal train my-data --out my-model --config my-config.json

DATA is a folder with a metadata.jsonl, one line per sample, paths inside the folder:
  {\"file_name\": \"images/0.png\", \"audio\": \"audio/0.wav\", \"text\": \"a cat purring\"}
`file_name` is a picture (PNG or JPEG), `audio` a sound (WAV); a sample may have either or both. With a `split` column, \
only the lines that say \"train\" are trained on.

RUN becomes a model folder: config.json, model.safetensors, tokenizer.json, and the state of the training. ctrl-C stops \
after the current step and saves; the same command goes on from there.";

/// Train a model on a folder of pictures, sounds and captions
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[allow(dead_code)] // until it is here
pub struct Train {
    /// The folder with metadata.jsonl
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The folder of the model: made, or gone on with
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// A built-in configuration's name, or a config.json
    #[arg(long, value_name = "NAME|FILE", default_value = "demo")]
    config: String,
    #[command(flatten)]
    device: DeviceArguments,
    /// Training steps in all
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// What decides the initial parameters and the order of training
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl Train {
    pub fn run(self) -> Result<ExitCode> {
        super::not_yet("train")
    }
}
