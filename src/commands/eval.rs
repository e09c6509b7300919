//! `trimodal eval`: counts how many captions a model gets right.

use super::DeviceArguments;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::Result;

const EXAMPLES: &str = "\
Examples:
  trimodal eval my-model my-data
  trimodal eval my-model my-data --json result.json

Describes every sample that was not trained on (`split` other than \"train\"; all of them where there is no such \
column) and compares with its caption: exact, and word by word for Meadow's attributes.";

/// Count how many captions a model gets right, for every split of a data set
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[allow(dead_code)] // until it is here
pub struct Eval {
    /// A model folder, as `demo` and `train` write it
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// The folder with metadata.jsonl
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Also write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArguments,
}

impl Eval {
    pub fn run(self) -> Result<ExitCode> {
        super::not_yet("eval")
    }
}
