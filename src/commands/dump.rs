//! `trimodal dump`: everything about one training step, for comparing with other implementations.

use super::terminal::line;
use super::{ColumnArguments, DeviceArguments};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::files::shown::shown_path;
use trimodal::train::{ModelFolder, dump::dump};
use trimodal::{DType, Result};

const EXAMPLES: &str = "\
Examples:
  trimodal dump my-model my-data --samples 4 --out step.safetensors
  trimodal dump my-model my-data --out oracle.safetensors --device cpu --dtype f64

The file holds what the step read (input.token_id, input.position, input.visible, input.target, input.pixels, \
input.patch_row, with a stem or histograms input.whole_row, input.waveform, input.mel, input.frame_row), what it computed (embedded, logits, loss) and every \
gradient (grad.<parameter>). Load it with Python's safetensors and compare with a model of your own.";

/// Write everything about one training step to a file, to compare with other implementations
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Dump {
    /// A model folder, as `demo` and `train` write it
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// The folder with metadata.jsonl
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// How many samples to put into the batch: the first ones of the data set
    #[arg(long, value_name = "K", default_value_t = 4)]
    samples: usize,
    /// The safetensors file to write
    #[arg(long, value_name = "F")]
    out: PathBuf,
    #[command(flatten)]
    columns: ColumnArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// The precision to compute in: f32, f64 (the CPU device only), or bf16 (mixed precision; cuda and emulator only)
    #[arg(long, value_name = "DTYPE", value_enum, default_value_t = DumpPrecision::F32)]
    dtype: DumpPrecision,
}

/// What a step computes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DumpPrecision {
    /// 32-bit float.
    F32,
    /// 64-bit float: the oracle.
    F64,
    /// bf16 activations and weights beside f32 parameters.
    Bf16,
}

impl Dump {
    pub fn run(self) -> Result<ExitCode> {
        let device = self.device.open()?;
        let activation = match self.dtype {
            DumpPrecision::F32 => DType::F32,
            DumpPrecision::F64 => DType::F64,
            DumpPrecision::Bf16 => DType::Bf16,
        };
        let parameters = if activation == DType::F64 { DType::F64 } else { DType::F32 };
        let model = ModelFolder::open(&self.model, &device, parameters)?;
        let dataset = self.columns.open(&self.data)?;
        dump(model, activation, &dataset, self.samples, &self.out)?;
        line(format!("wrote one step over {} samples to {}", self.samples, shown_path(&self.out)));
        Ok(ExitCode::SUCCESS)
    }
}
