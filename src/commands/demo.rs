//! `trimodal demo`: draws a data set, trains on it, and shows what was learned.

use super::eval::{Learned, described, scores_table};
use super::progress::{self, advance, progress};
use super::report as page;
use super::signals;
use super::terminal::{Paint, line, painted, warning};
use super::{DeviceArguments, PrecisionArguments};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use trimodal::data::meadow::{self, words};
use trimodal::data::{Dataset, Limits};
use trimodal::files::lock::FolderLock;
use trimodal::files::shown::{quoted, shown_path};
use trimodal::files::write_file_atomic;
use trimodal::numbers::duration;
use trimodal::report::run::{Judged, REPORT};
use trimodal::train::evaluate::{Ablation, Scores, chance};
use trimodal::train::recipe::Precision;
use trimodal::train::run::Ended;
use trimodal::train::settings::PrecisionChoice;
use trimodal::train::settings::path::to_text;
use trimodal::train::setup::EvaluationSplit;
use trimodal::train::{Run, Settings, checkpoint};
use trimodal::{Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal demo                            minutes on two cores, no GPU needed
  trimodal demo --out first --seed 7       another data set, another model
  trimodal demo --quick                    the same in seconds, to see that it runs: it learns little
  trimodal demo --device wgpu              the same kernels in WGSL, on the GPU

Writes into DIR: a page for a browser that shows everything (report.html), the data set (data/), the run (model/: checkpoints with config.json, \
model.safetensors, tokenizer.json), the curve of the loss (loss.svg), test pictures with what the model said about them \
(contact_sheet.png), all numbers (result.json). Then try:
  trimodal describe DIR/model --image DIR/headline.png --audio DIR/headline.wav";

/// Draw a data set, train a model on it, and see what it says about pictures and sounds that it was not trained on
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// The folder for everything that the demo makes
    #[arg(long, value_name = "DIR", default_value = "trimodal-demo")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
    /// The seed of the data, the initial parameters and the order of training
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// A short version that takes seconds: fewer samples and steps
    #[arg(long)]
    quick: bool,
}

/// Sizes of the demo: training samples, samples of each test split, steps.
struct Scale {
    samples: usize,
    test: usize,
    steps: usize,
}

const FULL: Scale = Scale { samples: 16_000, test: 500, steps: 5_000 };
const QUICK: Scale = Scale { samples: 1_000, test: 40, steps: 150 };

const SPLITS: [&str; 4] = ["iid", "held_out_colour", "held_out_action", "held_out_both"];

impl Demo {
    pub fn run(self) -> Result<ExitCode> {
        let begin = Instant::now();
        let device = self.device.open()?;
        let scale = if self.quick { QUICK } else { FULL };
        std::fs::create_dir_all(&self.out).map_err(Error::io(&self.out, "create"))?;
        let _alone = FolderLock::take(&self.out)?;
        let model = self.out.join("model");
        // Somebody may be continuing the run of an earlier demo.
        let earlier = checkpoint::is_run(&model).then(|| FolderLock::take(&model)).transpose()?;
        let data = self.out.join("data");
        let bar = progress("drawing");
        let options = meadow::MeadowOptions { samples: scale.samples, test_samples: scale.test, seed: self.seed, ..Default::default() };
        let written = meadow::write(&data, &options, &mut |done, total| advance(&bar, done, total));
        bar.finish_and_clear();
        written?;
        let dataset = Dataset::open(&data, &Limits::default())?;
        line(format!(
            "drew {} samples of pictures, sounds and captions into {} ({})",
            dataset.rows().len(),
            shown_path(&data),
            duration(begin.elapsed().as_secs_f64())
        ));

        // The demo may be run again into the same folder; only what the last run made there is removed.
        if let Some(_alone) = earlier {
            std::fs::remove_dir_all(&model).map_err(Error::io(&model, "replace"))?;
        }
        let mut run = Run::start(self.settings(&data, scale.steps)?, &model)?;
        let trained = progress::train(&mut run)?;
        if trained.ended == Ended::Stopped {
            return Ok(signals::code());
        }
        let (trainer, tokenizer, config) = (&run.trainer, &run.tokenizer, &run.trainer.config);
        // The curve belongs to the model; the demo shows it beside its other results.
        let curve = self.out.join("loss.svg");
        if let Err(e) = std::fs::copy(model.join("loss.svg"), &curve) {
            warning(format!("{}: cannot write: {e}", shown_path(&curve)));
        }

        let attributes = dataset.attributes(None)?;
        let learned = Learned { config, parameters: &trainer.parameters, tokenizer, device: &device, attributes: &attributes };
        let compared = page::trained_on(&learned, &run.settings, &dataset)?;
        let mut judged: Vec<Judged> = Vec::new();
        for split in SPLITS {
            let rows = dataset.rows().iter().filter(|row| row.split.as_deref() == Some(split)).collect();
            let ablations: &[Ablation] = if judged.is_empty() { &Ablation::ALL } else { &[] };
            judged.push(page::judge(
                &learned,
                &dataset,
                EvaluationSplit { name: split.into(), rows, trained_on: false },
                SPLITS.len(),
                u32::MAX,
                ablations,
                &compared,
            )?);
        }
        let splits: BTreeMap<&str, &Scores> = judged.iter().map(|j| (j.name.as_str(), &j.scores)).collect();
        let shuffled = [("shuffled_pictures", Ablation::ShuffledPictures), ("shuffled_sounds", Ablation::ShuffledSounds)];
        let ablations: BTreeMap<&str, &Scores> = shuffled
            .into_iter()
            .filter_map(|(name, wanted)| judged[0].ablations.iter().find(|(ablation, ..)| *ablation == wanted).map(|(.., scores)| (name, scores)))
            .collect();
        let size = config.vision_config.as_ref().map_or(0, |v| v.image_size);
        let cells: Vec<_> = judged.iter().flat_map(|judged| pictured(judged, size, 12)).collect();
        if let Err(e) = report::contact_sheet(&self.out.join("contact_sheet.png"), &cells) {
            warning(e);
        }

        let rows: Vec<(&str, &Scores)> =
            SPLITS.iter().map(|split| (*split, splits[split])).chain(ablations.iter().map(|(name, scores)| (*name, *scores))).collect();
        line("");
        line(scores_table(&rows, &attributes));
        let total_seconds = begin.elapsed().as_secs_f64();
        let result = serde_json::json!({
            "device": device.to_string(), "seed": self.seed, "parameters": trainer.parameters.count(), "steps": trainer.step,
            "train_seconds": trained.seconds, "total_seconds": total_seconds, "tokens_per_second": trained.tokens_per_second,
            "splits": splits, "ablations": ablations, "chance": chance(&attributes),
        });
        let path = self.out.join("result.json");
        let text = serde_json::to_string_pretty(&result).expect("numbers and strings serialise") + "\n";
        write_file_atomic(&path, text)?;

        self.headline(&learned)?;
        let page_begin = Instant::now();
        line("");
        page::write_of(&mut run, &dataset, &attributes, Ok(judged), self.command(), &self.out.join(REPORT), page_begin);
        line(format!(
            "{} in all. In {}: report.html, contact_sheet.png, loss.svg, result.json, model/, data/",
            duration(begin.elapsed().as_secs_f64()),
            shown_path(&self.out)
        ));
        Ok(ExitCode::SUCCESS)
    }

    /// The preset's settings with this command line's.
    fn settings(&self, data: &Path, steps: usize) -> Result<Settings> {
        let mut settings = Settings::preset("meadow")?;
        let training = &mut settings.training;
        (training.steps, training.seed, training.device) = (steps, self.seed, self.device.device.clone());
        training.adapter = self.device.adapter.clone().unwrap_or_default();
        training.precision = PrecisionChoice::from(self.precision.get());
        settings.data.path = to_text(data);
        Ok(settings)
    }

    /// The command that makes it again.
    fn command(&self) -> String {
        let DeviceArguments { device, adapter } = &self.device;
        let adapter = adapter.as_ref().map(|name| format!(" --adapter {}", quoted(Path::new(name)))).unwrap_or_default();
        let precision = if self.precision.get() == Precision::F32 { "" } else { " --precision bf16" };
        let quick = if self.quick { " --quick" } else { "" };
        format!("trimodal demo --out {} --seed {}{quick} --device {device}{adapter}{precision}", quoted(&self.out), self.seed)
    }

    /// The sentence that was never trained.
    fn headline(&self, learned: &Learned) -> Result<()> {
        let (picture, sound) = (self.out.join("headline.png"), self.out.join("headline.wav"));
        for (path, bytes) in [
            (&picture, meadow::png(&meadow::picture(&words::HEADLINE, self.seed, SPLITS.len(), 0))?),
            (&sound, meadow::wav(&meadow::sound(&words::HEADLINE, self.seed, SPLITS.len(), 0))?),
        ] {
            write_file_atomic(path, &bytes)?;
        }
        let truth = words::HEADLINE.caption(true, true);
        let Learned { config, parameters, tokenizer, device, .. } = *learned;
        let example = super::describe::example(config, tokenizer, device, Some(&picture), Some(&sound), &truth)?;
        let said = described(config, parameters, tokenizer, std::slice::from_ref(&example), "headline")?.remove(0);
        let paint = Paint::stdout();
        let [at, and] = [&picture, &sound].map(shown_path);
        line(format!("{at} and {and}: a picture and a sound of something that no training caption described"));
        line(format!("  it is:    {truth}"));
        painted(format!("  it says:  {}", if said == truth { paint.good(&said) } else { paint.bad(super::words_or_nothing(&said)) }));
        let (right, wrong): (Vec<_>, Vec<_>) = words::ATTRIBUTE
            .iter()
            .zip(words::parse(&truth).into_iter().zip(words::parse(&said)))
            .map(|((name, _), (truth, said))| (*name, truth == said))
            .partition(|(_, right)| *right);
        let names = |list: Vec<(&str, bool)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        if wrong.is_empty() {
            line("  every attribute is right");
        } else {
            line(format!("  right: {}; wrong: {}", names(right), names(wrong)));
        }
        Ok(())
    }
}

/// The first pictures of a split, with what the model said.
fn pictured<'a>(judged: &'a Judged, size: usize, most: usize) -> impl Iterator<Item = report::Cell<'a>> {
    let cells = judged
        .examples
        .iter()
        .zip(&judged.captions)
        .filter_map(move |(e, said)| Some(report::Cell { rgb: e.pixels.as_ref()?, size, caption: said, expected: Some(&e.text) }));
    cells.take(most)
}
