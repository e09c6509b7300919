//! `trimodal config`: prints the settings of a training run, every key explained.

use super::terminal::document;
use clap::Args;
use std::process::ExitCode;
use trimodal::Result;
use trimodal::train::Settings;

const EXAMPLES: &str = "\
Examples:
  trimodal config                    the defaults
  trimodal config small > my.toml    to edit, and then: trimodal train my-data --out my-model --config my.toml
  trimodal config my-model/config.toml";

/// Print the settings of a training run as TOML, every key explained
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Config {
    /// A preset (meadow, meadow-wide, real, small, large) or a file
    #[arg(value_name = "NAME|FILE", default_value = "meadow")]
    name: String,
}

impl Config {
    pub fn run(self) -> Result<ExitCode> {
        document(&Settings::named(&self.name)?.to_toml());
        Ok(ExitCode::SUCCESS)
    }
}
