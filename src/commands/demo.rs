//! `trimodal demo`: draws a data set, trains on it, and shows what was learned.

use super::DeviceArguments;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::Result;

const EXAMPLES: &str = "\
Examples:
  trimodal demo                            minutes on two cores, no GPU needed
  trimodal demo --out first --seed 7       another data set, another model
  trimodal demo --quick                    the same in seconds, to see that it runs: it learns little
  trimodal demo --device wgpu              the same kernels in WGSL, on the GPU

Writes into DIR:
  data/              the data set: pictures, sounds, captions
  model/             config.json, model.safetensors, tokenizer.json
  loss.svg           the curve of the loss
  contact_sheet.png  test pictures with what the model said about them
  result.json        all figures
Then try:
  trimodal describe DIR/model --image DIR/data/images/0.png";

/// Draw a data set, train a model on it, and see what it says about pictures and sounds it has never met
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[allow(dead_code)] // until it is here
pub struct Demo {
    /// The folder for everything that the demo makes
    #[arg(long, value_name = "DIR", default_value = "trimodal-demo")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArguments,
    /// What decides the data, the initial parameters and the order of training
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// A short form, in seconds: fewer samples and steps
    #[arg(long)]
    quick: bool,
}

impl Demo {
    pub fn run(self) -> Result<ExitCode> {
        super::not_yet("demo")
    }
}
