//! The training step of the demo's model, whole: forward, loss, backward, AdamW, on batches of Meadow.
//!
//!     cargo bench --bench step                 the CPU device, and wgpu where there is an adapter
//!     cargo bench --bench step -- on_cpu
//!
//! `item/s` are rows of the token matrix per second. One iteration is one step, its loss and gradient norm read back.

use divan::Bencher;
use divan::counter::ItemsCount;
use std::ops::ControlFlow;
use trimodal::data::{Dataset, Limits, Tokenizer, meadow};
use trimodal::model::Config;
use trimodal::train::fit::{Batches, start};
use trimodal::train::{Recipe, examples};
use trimodal::{Device, Result};

/// Far more steps than are measured, so that the learning rate stays what it is in training.
const STEPS: usize = 100_000;

fn main() {
    divan::main();
}

#[divan::bench(max_time = 10, sample_size = 1)]
fn on_cpu(bencher: Bencher) {
    measure(bencher, &Device::Cpu).expect("a step runs");
}

#[divan::bench(max_time = 10, sample_size = 1)]
fn on_wgpu(bencher: Bencher) {
    match Device::open("wgpu", None) {
        Ok(device) => measure(bencher, &device).expect("a step runs"),
        Err(e) => eprintln!("WARNING: not measured: {e}"),
    }
}

fn measure(bencher: Bencher, device: &Device) -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    meadow::write(folder.path(), &meadow::Options { samples: 512, test_samples: 1, seed: 1 }, &mut |_, _| ControlFlow::Continue(()))?;
    let dataset = Dataset::open(folder.path(), &Limits::default())?;
    let tokenizer = Tokenizer::train(dataset.rows().iter().filter_map(|row| row.text.as_deref()), 4096)?;
    let config = Config::meadow(tokenizer.vocabulary());
    let examples = examples::load(&dataset, &config, &tokenizer, device, |_| true, &mut |_, _| ControlFlow::Continue(()))?;
    let recipe = Recipe::meadow(STEPS, 1);
    let mut trainer = start(&config, &recipe, device)?;
    let mut batches = Batches::new(&examples, &config, tokenizer.special(), recipe)?;
    let batch = batches.draw()?;
    trainer.step(&batch)?; // compiles pipelines, touches memory
    let rows = batch.rows();
    bencher.counter(ItemsCount::new(rows)).bench_local(|| trainer.step(&batch).expect("a step runs"));
    Ok(())
}
