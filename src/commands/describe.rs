//! `trimodal describe`: says what is in a picture, a sound, or both.

use super::DeviceArguments;
use super::terminal::line;
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trimodal::data::{Limits, Tokenizer, picture, sound};
use trimodal::model::Config;
use trimodal::model::batch::{Packer, Row};
use trimodal::model::generate::{Generator, Sampling, prompt_of};
use trimodal::train::examples::{Ears, placeholders, sizes};
use trimodal::train::{Example, ModelFolder};
use trimodal::{DType, Device, Error, Result};

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
    /// Print JSON: the text and its tokens
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

impl Describe {
    pub fn run(self) -> Result<ExitCode> {
        // Not left to clap: it would ask for --image alone.
        if self.image.is_none() && self.audio.is_none() && self.prompt.is_none() {
            return Err(Error::Usage("nothing to describe: give --image FILE, --audio FILE or both".into()));
        }
        let device = self.device.open()?;
        let model = ModelFolder::open(&self.model, &device, DType::F32)?;
        let (config, tokenizer) = (&model.config, &model.tokenizer);
        let special = tokenizer.special();
        let example = example(config, tokenizer, &device, self.image.as_deref(), self.audio.as_deref(), "")?;
        let mut prompt = prompt_of(&example.sequence(config, &special, || false));
        let given = self.prompt.as_deref().unwrap_or_default();
        prompt.rows.extend(tokenizer.encode(given)?.into_iter().map(|id| Row::Token { id, truth: id, learned: false }));

        let mut generator = Generator::new(config, &model.parameters, 1)?;
        let packer = Packer { config, budget: 0, placeholders: placeholders(&special) };
        // Words appear as they are made: what is new in the decoded text since the last one.
        let (mut ids, mut shown) = (Vec::new(), String::new());
        if !self.json && !given.is_empty() {
            print(given);
        }
        let words = generator.run(&model.parameters, &packer, &[prompt], special.eos, usize::MAX, Sampling::default(), |_, id| {
            ids.push(id);
            if let (false, Ok(text)) = (self.json, tokenizer.decode(&ids)) {
                let start = if shown.is_empty() && !given.is_empty() { " " } else { "" };
                print(&format!("{start}{}", text.strip_prefix(shown.as_str()).unwrap_or_default()));
                shown = text;
            }
        })?;
        let text = [given.to_string(), tokenizer.decode(&words[0])?].join(" ").trim().to_string();
        if self.json {
            let tokens: Vec<_> = words[0].iter().map(|&id| tokenizer.decode(&[id])).collect::<Result<_>>()?;
            line(serde_json::json!({ "text": text, "prompt": given, "tokens": tokens, "token_ids": words[0], "device": device.to_string() }).to_string());
        } else {
            print("\n");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(text: &str) {
    // A closed pipe is no reason to complain.
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// A picture and a sound from files, as an example of a model's sizes.
pub(super) fn example(config: &Config, tokenizer: &Tokenizer, device: &Device, image: Option<&Path>, audio: Option<&Path>, text: &str) -> Result<Example> {
    let (sizes, limits) = (sizes(config), Limits::default());
    let pixels = match (image, &config.vision_config) {
        (None, _) => None,
        (Some(_), None) => return Err(Error::Usage("this model has no eyes (its config.json has no vision_config): leave --image out".into())),
        (Some(path), Some(_)) => Some(picture::load(path, sizes.picture, &limits)?.rgb),
    };
    let mel = match (audio, &config.audio_config) {
        (None, _) => None,
        (Some(_), None) => return Err(Error::Usage("this model has no ears (its config.json has no audio_config): leave --audio out".into())),
        (Some(path), Some(audio)) => {
            let waveform = sound::load(path, sizes.sample_rate, sizes.samples, &limits)?;
            Ears::new(audio, device, DType::F32)?.frames(&[&waveform])?.pop()
        }
    };
    Ok(Example { name: "example".into(), split: None, words: tokenizer.encode(text)?, text: text.into(), pixels, mel })
}
