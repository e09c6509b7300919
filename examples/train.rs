//! Training on a folder of pictures, sounds and words, in a dozen lines.
//!
//!     cargo run --release --no-default-features --features data,wgpu,cuda --example train -- my-data my-model 2000
//!
//! With `data` alone it runs on the CPU. The folder is a run like the program's: `trimodal train --resume my-model` continues it.

use std::ops::ControlFlow;
use std::path::Path;
use trimodal::numbers::digits;
use trimodal::train::run::Event;
use trimodal::train::{Run, Settings};
use trimodal::{Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, run, steps] = arguments.as_slice() else { return Err(Error::Usage("expected: train DATA RUN STEPS".into())) };

    let mut settings = Settings::preset("meadow")?;
    settings.set("data.path", data)?;
    settings.set("training.steps", steps)?;
    Run::start(settings, Path::new(run))?.train(&mut |run, event| {
        if let Event::Step(step) = event {
            println!("step {}: loss {}", run.trainer.step, digits(step.report.loss.into(), 4));
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}
