//! What a model says about a picture, a sound, or both, in a dozen lines.
//!
//!     cargo run --release --no-default-features --features data,wgpu,cuda --example describe -- my-model cat.jpg purr.wav
//!
//! With `data` alone it runs on the CPU.

use std::path::Path;
use trimodal::describe::Describer;
use trimodal::files::shown::shown;
use trimodal::model::generate::Sampling;
use trimodal::train::ModelFolder;
use trimodal::{DType, Device, Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, files @ ..] = arguments.as_slice() else { return Err(Error::Usage("expected: describe MODEL PICTURE SOUND".into())) };
    let (sounds, pictures): (Vec<&Path>, Vec<&Path>) = files.iter().map(Path::new).partition(|file| file.extension().is_some_and(|e| e == "wav"));

    let model = ModelFolder::open(Path::new(model), &Device::open("auto", None)?, DType::F32)?;
    let mut describer = Describer::new(&model, 1);
    let question = describer.question(pictures.first().copied(), sounds.first().copied(), "")?;
    let answers = describer.answer(&[question], Sampling::default(), 256, |_, words| print!("{}", shown(words)))?;
    match answers.first() {
        Some(answer) if !answer.is_nothing() => println!(),
        _ => eprintln!("no words: it ended at once"),
    }
    Ok(())
}
