//! Chapters 1 to 4: how pictures, sounds and words become one matrix.

use super::canvas::{BLUE, Canvas, GREY, RED};
use crate::data::meadow::{self, HEADLINE};
use crate::device::Device;
use crate::error::Result;
use crate::model::Config;
use crate::model::batch::{Packer, Placeholders};
use crate::ops::case::Draw;
use crate::tensor::DType;
use crate::train::examples::AudioFrontend;

/// The demo's model, whose sizes the pictures have.
fn config() -> Config {
    Config::meadow(450)
}

/// 1. The headline's picture, cut, and its patches as the rows of a matrix.
pub fn patches() -> Result<String> {
    let picture = meadow::picture(&HEADLINE, 1, 4, 0);
    let (side, patch) = (picture.width, 8);
    let across = side / patch;
    let mut canvas = Canvas::new(760, 380, "A picture of 48 by 48 pixels, cut into 36 patches, and the matrix whose rows they are");
    canvas.text(20.0, 26.0, "48 × 48 pixels, patches of 8 × 8");
    canvas.pixels((20.0, 40.0, 288.0, 288.0), &picture.rgb, side)?;
    for i in 0..=across {
        let at = 288.0 * i as f64 / across as f64;
        canvas.line([(20.0 + at, 40.0), (20.0 + at, 328.0)], "#fff", 1.0);
        canvas.line([(20.0, 40.0 + at), (308.0, 40.0 + at)], "#fff", 1.0);
    }
    // A row: the patch's pixels, line by line.
    let row = |p: usize| (0..patch * patch).map(move |i| (p / across * patch + i / patch) * side + p % across * patch + i % patch);
    let rows: Vec<u8> = (0..across * across).flat_map(row).flat_map(|at| picture.rgb[3 * at..3 * at + 3].to_vec()).collect();
    canvas.text(350.0, 26.0, "36 rows of 64 pixels, 192 numbers each");
    canvas.pixels((350.0, 40.0, 384.0, 288.0), &rows, patch * patch)?;
    canvas.frame((350.0, 40.0, 384.0, 288.0), GREY);
    for (p, colour) in [(14, RED), (21, BLUE)] {
        let (x, y) = (p % across, p / across);
        canvas.frame((20.0 + 48.0 * x as f64, 40.0 + 48.0 * y as f64, 48.0, 48.0), colour);
        canvas.frame((350.0, 40.0 + 8.0 * p as f64, 384.0, 8.0), colour);
        canvas.line([(20.0 + 48.0 * (x + 1) as f64, 64.0 + 48.0 * y as f64), (350.0, 44.0 + 8.0 * p as f64)], colour, 1.5);
    }
    canvas.text(20.0, 354.0, "Two patches are marked. The product with W maps each row to D numbers; the position tells where it lay.");
    Ok(canvas.finish())
}

/// 2. The headline's waveform over its spectrogram.
pub fn sound() -> Result<String> {
    let config = config();
    let audio = config.audio_config.as_ref().expect("the demo's model hears");
    let sample = meadow::example(&HEADLINE, 1, 0);
    let wave = sample.sound.expect("an example has a sound");
    let mel = AudioFrontend::new(audio, &Device::Cpu, DType::F32)?.frames(&[&wave])?.remove(0);
    let (bands, frames) = (audio.num_mel_bins, audio.frames());
    let mut canvas = Canvas::new(760, 400, "The waveform of a yawn, and its mel spectrogram");
    canvas.text(20.0, 26.0, &format!("{} samples: half a second at 16 kHz", wave.len()));
    let loudest = wave.iter().fold(1e-6f32, |m, v| m.max(v.abs())) as f64;
    let point = |(i, v): (usize, &f32)| (20.0 + 720.0 * i as f64 / wave.len() as f64, 90.0 - 50.0 * *v as f64 / loudest);
    canvas.line(wave.iter().enumerate().step_by(4).map(point), BLUE, 0.7);
    canvas.text(20.0, 168.0, &format!("{frames} frames of {bands} bands: low tones at the bottom, dark is loud"));
    let least = mel.iter().copied().fold(f32::INFINITY, f32::min);
    let upright: Vec<f64> =
        (0..bands).rev().flat_map(|band| (0..frames).map(move |f| (f, band))).map(|(f, b)| (mel[f * bands + b] - least).powi(2) as f64).collect();
    canvas.heat((20.0, 180.0, 720.0, 190.0), &upright, frames)?;
    // The window of the fifteenth frame: 400 of the samples.
    let (from, to) = ((15.0 * 160.0 - 200.0) / wave.len() as f64, (15.0 * 160.0 + 200.0) / wave.len() as f64);
    canvas.frame((20.0 + 720.0 * from, 36.0, 720.0 * (to - from), 108.0), RED);
    canvas.frame((20.0 + 720.0 * 15.0 / frames as f64, 180.0, 720.0 / frames as f64, 190.0), RED);
    canvas.text(20.0, 390.0, "Marked: 400 samples, and the frame that they make. The next frame's window begins 160 samples later.");
    Ok(canvas.finish())
}

/// 3. Which frames a row of the token matrix comes from.
pub fn convolutions() -> Result<String> {
    let config = config();
    let audio = config.audio_config.as_ref().expect("the demo's model hears");
    let lengths: Vec<usize> = std::iter::once(audio.frames()).chain((0..audio.layers).map(|layer| audio.frames_after(layer))).collect();
    let mut canvas = Canvas::new(760, 330, "Three convolutions: which frames of sound one row of the token matrix comes from");
    let y = |layer: usize| 60.0 + 70.0 * layer as f64;
    let x = |layer: usize, i: f64| 130.0 + 600.0 * (i + 0.5) / lengths[layer] as f64;
    let row = lengths[audio.layers] / 2;
    // From the marked row back to what it was made of.
    let mut seen = vec![Vec::new(); audio.layers + 1];
    seen[audio.layers] = vec![row];
    for layer in (0..audio.layers).rev() {
        for t in seen[layer + 1].clone() {
            for tap in 0..3 {
                let Some(from) = (t * audio.stride(layer) + tap).checked_sub(1).filter(|from| *from < lengths[layer]) else { continue };
                canvas.line([(x(layer + 1, t as f64), y(layer + 1) - 6.0), (x(layer, from as f64), y(layer) + 6.0)], BLUE, 1.0);
                seen[layer].push(from);
            }
        }
        seen[layer].sort_unstable();
        seen[layer].dedup();
    }
    for (layer, &length) in lengths.iter().enumerate() {
        let name = if layer == 0 { format!("{length} mel frames") } else { format!("conv {layer}: {length}") };
        canvas.text(14.0, y(layer) + 4.0, &name);
        for i in 0..length {
            let colour = if seen[layer].contains(&i) { BLUE } else { "#ccc" };
            canvas.fill((x(layer, i as f64) - 3.0, y(layer) - 6.0, 6.0, 12.0), colour);
        }
    }
    let ms = seen[0].len() * 10;
    canvas.text(14.0, 318.0, &format!("One row hears {} frames, {ms} ms. Backward asks the other way round: which rows used this frame?", seen[0].len()));
    Ok(canvas.finish())
}

/// 4. `visible` of a packed batch.
pub fn packing() -> Result<String> {
    let config = config();
    let mut draw = Draw::new("lesson 4");
    let kinds = [(true, true, "picture, sound, words"), (false, true, "sound, words"), (false, false, "words")];
    let sequences: Vec<_> = kinds.iter().map(|(picture, sound, _)| crate::check::drawn_sequence(&config, &mut draw, *picture, *sound, 9)).collect();
    let batch = Packer { config: &config, budget: 200, placeholders: Placeholders { image: 1, audio: 2 } }.pack(&sequences)?;
    let n = batch.rows();
    let mut canvas = Canvas::new(760, 440, "Which rows each row of a packed batch may look at");
    canvas.text(20.0, 26.0, &format!("A batch of {n} rows: each looks at the blue ones on its line"));
    let scale = 380.0 / n as f64;
    let seen: Vec<f64> =
        batch.visible.iter().flat_map(|[start, end]| (0..n as i32).map(move |k| if (*start..*end).contains(&k) { 0.5 } else { 0.0 })).collect();
    canvas.heat((20.0, 40.0, 380.0, 380.0), &seen, n)?;
    let mut start = 0;
    for ((_, _, what), sequence) in kinds.iter().zip(&sequences) {
        let (at, length) = (40.0 + scale * start as f64, scale * sequence.rows.len() as f64);
        canvas.line([(408.0, at + 1.0), (416.0, at + 1.0), (416.0, at + length - 1.0), (408.0, at + length - 1.0)], RED, 1.5);
        canvas.text(426.0, at + length / 2.0 + 4.0, &format!("{} rows: {what}", sequence.rows.len()));
        start += sequence.rows.len();
    }
    canvas.text(426.0, 60.0, "The square: every patch sees the whole picture.");
    canvas.text(426.0, 80.0, "The steps: a word sees what was before it.");
    Ok(canvas.finish())
}
