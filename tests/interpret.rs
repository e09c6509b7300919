//! Looking inside: weights against the oracle and the fused kernel, gradients against finite differences, the logit lens against the
//! model's own logits; and the page, in a browser.

#[allow(dead_code)] // the reports' test has use for all of it
mod chromium;
mod common;

use chromium::Chromium;
use common::{small, small_with_stem, tiny, tiny_with_stem};
use half::bf16;
use std::fs;
use std::path::{Path, PathBuf};
use trimodal::check::{drawn_sequence, test_devices};
use trimodal::data::Tokenizer;
use trimodal::data::meadow::{self, words};
use trimodal::describe::Describer;
use trimodal::interpret::ForwardPass;
use trimodal::interpret::explain::{Explanation, explain};
use trimodal::interpret::probe::{Asked, Axis, probe, single_token};
use trimodal::model::batch::{Capacity, Packer, Placeholders, Sequence, TokenRow};
use trimodal::model::generate::Sampling;
use trimodal::model::{Config, Parameters};
use trimodal::ops::attention;
use trimodal::ops::case::Draw;
use trimodal::report::page::Page;
use trimodal::train::{ModelFolder, Schedule, Trainer};
use trimodal::{DType, Device, Tensor};

const PLACEHOLDERS: Placeholders = Placeholders { image: 1, audio: 2 };

/// The CPU, wgpu, and the PTX on the emulator in both precisions.
fn devices() -> Vec<(Device, DType)> {
    let emulator = Device::open("emulator", None).unwrap();
    let all = test_devices().into_iter().map(|device| (device, DType::F32));
    all.chain([(emulator.clone(), DType::F32), (emulator, DType::Bf16)]).collect()
}

/// A picture of both kinds of attention: packed samples, a window, a row that sees nothing, one that sees everything.
fn intervals(rows: usize) -> Vec<i32> {
    (0..rows as i32)
        .flat_map(|row| match row {
            0..20 => [0, (row + 1).max(13)],
            20..30 => [(row - 6).max(20), row + 1],
            30 => [30, 30],
            31 => [-3, rows as i32 + 5],
            _ => [32, row + 1],
        })
        .collect()
}

/// On every device the weights are the oracle's, each row sums to 1 within 1e-4, and they are what the fused kernel multiplied the values
/// with.
#[test]
fn rows_of_weights_are_those_of_the_fused_kernel() {
    let (rows, heads, kv_heads) = (50, 4, 2);
    for head_dim in [16, 40, 7] {
        let mut draw = Draw::new(&format!("weights {head_dim}"));
        let mut normals = |heads: usize| -> Vec<f64> { (0..rows * heads * head_dim).map(|_| draw.normal()).collect() };
        let values = [normals(heads), normals(kv_heads), normals(kv_heads)];
        let (scale, visible) = (1.0 / (head_dim as f32).sqrt(), intervals(rows));
        let asked: Vec<i32> = (0..rows as i32).rev().collect();
        let run = |device: &Device, dtype: DType, rounded: DType| {
            let round = |x: f64| match rounded {
                DType::Bf16 => bf16::from_f64(x).to_f64(),
                _ => x as f32 as f64,
            };
            let tensor = |heads: usize, values: &[f64]| {
                Tensor::from_f64(device, [rows, heads, head_dim], dtype, &values.iter().copied().map(round).collect::<Vec<_>>()).unwrap()
            };
            let (q, k, v) = (tensor(heads, &values[0]), tensor(kv_heads, &values[1]), tensor(kv_heads, &values[2]));
            let visible = Tensor::from_slice(device, [rows, 2], &visible).unwrap();
            let wide = if dtype == DType::Bf16 { DType::F32 } else { dtype };
            let mut o = Tensor::zeros(device, q.shape(), dtype).unwrap();
            let mut lse = Tensor::zeros(device, [rows, heads], wide).unwrap();
            attention::forward(&q, &k, &v, &visible, scale, &mut o, &mut lse).unwrap();
            let row = Tensor::from_slice(device, [rows], &asked).unwrap();
            let mut p = Tensor::zeros(device, [rows, heads, rows], wide).unwrap();
            attention::probabilities(&q, &k, &lse, &visible, &row, scale, &mut p).unwrap();
            (p.read_f64().unwrap(), o.read_f64().unwrap(), v.read_f64().unwrap())
        };
        for (device, dtype) in devices() {
            let (expected, ..) = run(&Device::Cpu, DType::F64, dtype);
            let (found, o, v) = run(&device, dtype, dtype);
            // bf16 rounds the fused kernel's result, and P before the product; the weights it rounds nowhere.
            let result = if dtype == DType::Bf16 { 0.02 } else { 1e-4 };
            for (i, (p, e)) in found.chunks_exact(rows).zip(expected.chunks_exact(rows)).enumerate() {
                let (row, head) = (asked[i / heads] as usize, i % heads);
                let [start, end] = [0, 1].map(|edge| visible[2 * row + edge].clamp(0, rows as i32) as usize);
                let what = format!("{device} {dtype} d={head_dim}: row {row}, head {head}");
                for (key, (p, e)) in p.iter().zip(e).enumerate() {
                    assert!((p - e).abs() <= 1e-4 && ((start..end).contains(&key) || *p == 0.0), "{what}, key {key}: {p} instead of {e}");
                }
                let sum: f64 = p.iter().sum();
                assert!((sum - if start < end { 1.0 } else { 0.0 }).abs() <= 1e-4, "{what}: they sum to {sum}");
                for c in 0..head_dim {
                    let mixed: f64 = p.iter().enumerate().map(|(key, p)| p * v[(key * kv_heads + head / 2) * head_dim + c]).sum();
                    let fused = o[(row * heads + head) * head_dim + c];
                    assert!((mixed - fused).abs() <= result * fused.abs().max(1.0), "{what}: {mixed} instead of the kernel's {fused}");
                }
            }
        }
    }
}

/// A sample with everything, its values away from the ends of their ranges and exact in f32, and the rows that make its words.
fn sample(config: &Config) -> (Sequence, Vec<(usize, u32)>) {
    let mut sequence = drawn_sequence(config, &mut Draw::new("inside"), true, true, 4);
    sequence.pixels.iter_mut().flatten().for_each(|x| *x = (*x).clamp(3, 252));
    sequence.mel.iter_mut().flatten().for_each(|x| *x = (*x * 1024.0).round() / 1024.0);
    let words = sequence.rows.iter().enumerate().filter_map(|(i, row)| match row {
        TokenRow::Token { truth, learned: true, .. } => Some((i - 1, *truth)),
        _ => None,
    });
    (sequence.clone(), words.collect())
}

/// Weights large enough that pictures and sounds matter.
fn parameters(config: &Config, device: &Device, dtype: DType) -> Parameters {
    enlarged(config, device, dtype, 6.0)
}

fn enlarged(config: &Config, device: &Device, dtype: DType, by: f64) -> Parameters {
    let mut parameters = Parameters::init(config, device, dtype, 7).unwrap();
    for tensor in parameters.each_mut() {
        if tensor.shape().dims().len() > 1 {
            let larger: Vec<f64> = tensor.read_f64().unwrap().iter().map(|x| by * x).collect();
            tensor.write_f64(&larger).unwrap();
        }
    }
    parameters
}

/// The gradient of a word's log-probability with respect to pixels and mel values, in f64, against central differences of the
/// log-probability itself.
#[test]
fn gradients_of_the_log_probability_are_its_slopes() {
    slopes(&tiny(), 3.0);
    slopes(&tiny_with_stem(), 1.0);
}

fn slopes(config: &Config, larger: f64) {
    // Smooth over a few steps of a pixel's value, the smallest that there are.
    let p = enlarged(config, &Device::Cpu, DType::F64, larger);
    let (sequence, words) = sample(config);
    let mut pass = ForwardPass::new(config, &p, PLACEHOLDERS, std::slice::from_ref(&sequence), &words).unwrap();
    let said = pass.log_probabilities().unwrap();
    for (word, &(row, id)) in words.iter().enumerate() {
        let gradient = pass.gradient(row, id).unwrap();
        assert!((gradient.log_probability - said[word]).abs() < 1e-12);
        let after = |change: &dyn Fn(&mut Sequence)| {
            let mut changed = sequence.clone();
            change(&mut changed);
            ForwardPass::new(config, &p, PLACEHOLDERS, &[changed], &[(row, id)]).unwrap().log_probabilities().unwrap()[0]
        };
        // Seven points: an error of the sixth order in the step.
        let slope = |at: &dyn Fn(f64) -> f64, step: f64| {
            let difference = |n: f64| at(n * step) - at(-n * step);
            (45.0 * difference(1.0) - 9.0 * difference(2.0) + difference(3.0)) / (60.0 * step)
        };
        let check = |what: &str, element: usize, found: f64, slope: f64, scale: f64| {
            assert!((found - slope).abs() <= 1e-5 * scale, "word {word}, {what} {element}: {found}, but the slope is {slope}");
        };
        let largest = |values: &[f64]| values.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(gradient.pixels.len() == 12 * 12 * 3 && largest(&gradient.pixels) > 1e-7, "{}", largest(&gradient.pixels));
        assert!(gradient.mel.len() == 10 * 5 && largest(&gradient.mel) > 1e-5, "{}", largest(&gradient.mel));
        for element in (0..gradient.pixels.len()).step_by(37) {
            let at = |by: f64| after(&|s| s.pixels.as_mut().unwrap()[element] = (s.pixels.as_ref().unwrap()[element] as f64 + by) as u8);
            check("pixel", element, gradient.pixels[element], slope(&at, 1.0), largest(&gradient.pixels));
        }
        for element in (0..gradient.mel.len()).step_by(7) {
            let at = |by: f64| after(&|s| s.mel.as_mut().unwrap()[element] += by as f32);
            check("mel value", element, gradient.mel[element], slope(&at, 1.0 / 1024.0), largest(&gradient.mel));
        }
    }
}

/// The same numbers from every device, and a picture alone has no gradient of a sound.
#[test]
fn devices_agree_about_what_is_inside() {
    agree_inside(&small());
    agree_inside(&small_with_stem());
}

fn agree_inside(config: &Config) {
    let (sequence, words) = sample(config);
    let (row, id) = words[1];
    let look = |device: &Device, dtype: DType| {
        let p = parameters(config, device, dtype);
        let mut pass = ForwardPass::new(config, &p, PLACEHOLDERS, std::slice::from_ref(&sequence), &words).unwrap();
        let gradient = pass.gradient(row, id).unwrap();
        let again = pass.gradient(row, id).unwrap();
        assert_eq!(gradient, again, "{device}: what was computed before must not show");
        vec![pass.probabilities(1, &[row, 3]).unwrap(), gradient.pixels, gradient.mel, pass.lens(1, &[row]).unwrap(), pass.residual(0, &[2]).unwrap()]
    };
    let expected = look(&Device::Cpu, DType::F64);
    for (device, dtype) in devices().into_iter().filter(|d| d.1 == DType::F32) {
        for (i, (found, expected)) in look(&device, dtype).iter().zip(&expected).enumerate() {
            let scale = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            assert!(found.len() == expected.len() && !found.is_empty());
            let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-4 * scale, "{device}: number {i} is off by {worst}, of {scale}");
        }
    }
    let blind =
        Sequence { rows: sequence.rows.iter().copied().filter(|r| !matches!(r, TokenRow::Patch | TokenRow::Whole)).collect(), pixels: None, ..sequence };
    let p = parameters(config, &Device::Cpu, DType::F32);
    let mut pass = ForwardPass::new(config, &p, PLACEHOLDERS, std::slice::from_ref(&blind), &[]).unwrap();
    let gradient = pass.gradient(blind.rows.len() - 1, 3).unwrap();
    assert!(gradient.pixels.is_empty() && !gradient.mel.is_empty());
    assert!(pass.log_probabilities().unwrap().is_empty());
}

/// The lens at the last level is the model's output; at level 0 a word's row is its embedding.
#[test]
fn the_lens_at_the_last_level_is_the_model() {
    for tied in [true, false] {
        let config = Config { tie_word_embeddings: tied, ..tiny() };
        let (sequence, _) = sample(&config);
        let mut batch = Packer { config: &config, budget: 100, placeholders: PLACEHOLDERS }.pack([&sequence]).unwrap();
        batch.all_logits();
        for (dtype, allowed) in [(DType::F32, 1e-5), (DType::F64, 1e-13)] {
            let p = parameters(&config, &Device::Cpu, dtype);
            let rows: Vec<usize> = (0..batch.rows()).collect();
            let pass = ForwardPass::new(&config, &p, PLACEHOLDERS, std::slice::from_ref(&sequence), &[]).unwrap();
            let found = pass.lens(config.num_hidden_layers, &rows).unwrap();
            let first = pass.lens(0, &rows).unwrap();
            let embedded = pass.residual(0, &[0]).unwrap();
            assert_eq!(embedded, p.embed_tokens.read_f64().unwrap()[3 * 12..4 * 12]);
            let mut trainer = Trainer::new(&config, parameters(&config, &Device::Cpu, dtype), Schedule::meadow(1), Capacity::of(&batch)).unwrap();
            let expected = trainer.forward(&batch).unwrap().logits().read_f64().unwrap();
            let scale = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let worst = |found: &[f64]| found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max);
            assert!(found.len() == expected.len() && worst(&found) <= allowed * scale, "{dtype}: off by {}, of {scale}", worst(&found));
            assert!(worst(&first) > 0.1 * scale, "the first level is another one");
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    let config = tiny();
    let p = parameters(&config, &Device::Cpu, DType::F32);
    let (sequence, _) = sample(&config);
    let new = |predicted: &[(usize, u32)]| ForwardPass::new(&config, &p, PLACEHOLDERS, std::slice::from_ref(&sequence), predicted).map(drop);
    assert!(new(&[(0, 99)]).unwrap_err().to_string().contains("expected one of 23 words"));
    assert!(new(&[(99, 0)]).unwrap_err().to_string().contains("word 0 after row 99"));
    let mut pass = ForwardPass::new(&config, &p, PLACEHOLDERS, std::slice::from_ref(&sequence), &[]).unwrap();
    assert_eq!(pass.probabilities(2, &[0]).unwrap_err().to_string(), "layer 2: the model has 2, counted from 0");
    assert!(pass.probabilities(0, &[99]).unwrap_err().to_string().starts_with("row 99: the batch has"));
    assert_eq!(pass.lens(3, &[0]).unwrap_err().to_string(), "level 3: the model has 3, counted from 0");
    assert!(pass.gradient(0, 23).unwrap_err().to_string().contains("the vocabulary has 23"));
}

// ── With files ───────────────────────────────────────────────────────────────────────────────────────────────────

/// A model of Meadow's sizes that has learned nothing, and the headline's picture and sound.
fn meadow_model(folder: &Path) -> (ModelFolder, PathBuf, PathBuf) {
    let tokenizer = Tokenizer::train(["a fluffy orange cat", "a dog and an owl purring"], 300).unwrap();
    let config = Config { num_hidden_layers: 2, ..Config::meadow(tokenizer.vocabulary()) };
    let parameters = parameters(&config, &Device::Cpu, DType::F32);
    let (image, audio) = (folder.join("cat.png"), folder.join("cat.wav"));
    fs::write(&image, meadow::png(&meadow::picture(&words::HEADLINE, 0, 4, 0)).unwrap()).unwrap();
    fs::write(&audio, meadow::wav(&meadow::sound(&words::HEADLINE, 0, 4, 0)).unwrap()).unwrap();
    (ModelFolder { path: folder.into(), config, parameters, tokenizer }, image, audio)
}

fn explained(model: &ModelFolder, image: Option<&Path>, audio: Option<&Path>, most: usize) -> (Vec<u32>, Explanation) {
    let mut describer = Describer::new(model, 1);
    let question = describer.question(image, audio, "a fluffy").unwrap();
    // No temperature: the model made the words that it finds the most likely.
    let answer = describer.answer(std::slice::from_ref(&question), Sampling::default(), most, |_, _| ()).unwrap().remove(0);
    let explanation = explain(model, &question, &answer).unwrap();
    (answer.ids, explanation)
}

/// One entry for each word, up to the longest answer that the model can give; shares that sum to 1; the probability of the word that
/// was most likely.
#[test]
fn every_word_of_an_answer_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let (model, image, audio) = meadow_model(folder.path());
    for (image, audio, most) in [(Some(&*image), Some(&*audio), 5), (Some(&*image), None, 256), (None, Some(&*audio), 1)] {
        let (ids, found) = explained(&model, image, audio, most);
        assert!(!ids.is_empty() && found.words.iter().map(|w| w.id).eq(ids.iter().copied()));
        assert_eq!((found.picture.is_some(), found.sound.is_some(), found.layers, found.heads), (image.is_some(), audio.is_some(), 2, 4));
        for word in &found.words {
            let (patches, frames) = (if image.is_some() { 36 } else { 0 }, if audio.is_some() { 13 } else { 0 });
            assert_eq!((word.picture.len(), word.sound.len(), word.on.each.len()), (2 * 4 * patches, 2 * 4 * frames, 8));
            assert_eq!((word.pixels.len(), word.mel.len()), (patches * 64 * 3, frames.min(1) * 50 * 40));
            assert!(word.on.each.iter().chain([&word.on.mean.map(|x| x as f32)]).all(|s| (s.iter().sum::<f32>() - 1.0).abs() < 1e-4), "{:?}", word.on);
            assert!(word.probability >= 1.0 / model.config.vocab_size as f64 && word.probability <= 1.0);
            assert!((word.picture_mean().iter().sum::<f32>() as f64 - word.on.mean[0]).abs() < 1e-4);
            assert!((word.sound_mean().iter().sum::<f32>() as f64 - word.on.mean[1]).abs() < 1e-4);
            assert!(image.is_none() || word.pixels.iter().any(|g| *g != 0.0));
            assert!(audio.is_none() || word.mel.iter().any(|g| *g != 0.0));
        }
        if most == 256 {
            assert_eq!(ids.len() + 2 + 39, model.config.max_position_embeddings + 1, "the last word has no row");
        }
    }
    let describer = Describer::new(&model, 1);
    let silent = describer.question(None, None, "a").unwrap();
    let answer = trimodal::describe::Answer { text: "a cat".into(), ids: vec![9], ended: true };
    assert!(explain(&model, &silent, &answer).unwrap_err().to_string().contains("nothing to explain"));
}

/// With a stem attention is shown on the places that its convolutions leave; the row of the picture as a whole has no place, and counts as
/// seen.
#[test]
fn an_answer_is_explained_on_the_grid_of_the_stem() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, image, audio) = meadow_model(folder.path());
    let config = common::with_stem(plain.config, 4, "8, 8, 12/2, 12/2");
    let model = ModelFolder { parameters: parameters(&config, &Device::Cpu, DType::F32), config, ..plain };
    let (_, found) = explained(&model, Some(&image), Some(&audio), 3);
    assert_eq!(found.picture.as_ref().unwrap().grid, 3);
    for word in &found.words {
        assert_eq!((word.picture.len(), word.sound.len(), word.pixels.len()), (2 * 4 * 9, 2 * 4 * 13, 48 * 48 * 3));
        assert!(word.on.each.iter().all(|s| (s.iter().sum::<f32>() - 1.0).abs() < 1e-4));
        assert!(word.on.mean[0] > word.picture_mean().iter().sum::<f32>() as f64 + 1e-4, "the row of the whole picture is looked at, too");
    }
    let picture = probe(&model, &Asked { picture: Some(&image), nearest: 3, ..Asked::default() }).unwrap().picture.unwrap();
    assert_eq!((picture.rows.len(), picture.columns), (9 + 1, 3));
    assert_eq!(picture.places[8..], ["3,3", "whole"]);
}

/// What is found about a thing does not depend on what else is asked; the axis has its words at its ends.
#[test]
fn a_probe_looks_at_each_thing_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (model, image, audio) = meadow_model(folder.path());
    let axis: Axis = "cat,dog:owl".parse().unwrap();
    let all = Asked { picture: Some(&image), sound: Some(&audio), word: Some("cat"), axis: Some(&axis), nearest: 3 };
    let found = probe(&model, &all).unwrap();
    assert_eq!(found.levels, 3);
    let picture = found.picture.as_ref().unwrap();
    assert_eq!((picture.rows.len(), picture.columns, picture.places[7].as_str()), (36, 6, "2,2"));
    assert!(picture.rows.iter().chain(&found.sound.as_ref().unwrap().rows).all(|row| row.len() == 3 && row.iter().all(|near| near.len() == 3)));
    assert!(picture.rows.iter().flatten().all(|near| near.windows(2).all(|w| w[0].probability >= w[1].probability && w[0].id != w[1].id)));
    assert_eq!(found.sound.as_ref().unwrap().places[12], "0.48 s");
    // Tied embeddings: what a word's row is nearest to before the first layer is the word.
    let cat = single_token(&model.tokenizer, "cat").unwrap();
    assert_eq!(found.word.as_ref().unwrap().rows[0][0][0].id, cat);
    let pairs: Vec<_> = found.cosines.iter().map(|c| (c.of, c.and)).collect();
    assert_eq!(pairs, [("picture", "sound"), ("picture", "word"), ("sound", "word")]);
    assert!(found.cosines.iter().flat_map(|c| c.cosine.iter().chain(&c.centred)).all(|c| c.abs() <= 1.0 + 1e-9));
    let positions = &found.axis.as_ref().unwrap().positions;
    assert_eq!(positions.iter().map(|p| p.of.as_str()).collect::<Vec<_>>(), ["picture", "sound", "cat", "cat", "dog", "owl"]);
    for level in 0..3 {
        let at = |i: usize| positions[i].at[level];
        assert!((at(3) + at(4) - 2.0).abs() < 1e-9 && (at(5) + 1.0).abs() < 1e-9 && (at(2) - at(3)).abs() < 1e-9);
    }
    // In its own words: what describe says, and shares of a probability.
    let said = &found.axis.as_ref().unwrap().said;
    assert_eq!(said.iter().map(|s| s.of).collect::<Vec<_>>(), ["picture", "sound"]);
    for said in said {
        assert!(said.positive > 0.0 && said.negative > 0.0 && said.positive + said.negative < 1.0, "{said:?}");
    }
    let alone = probe(&model, &Asked { sound: None, word: None, axis: None, ..all }).unwrap();
    assert_eq!((alone.picture, alone.cosines.len(), alone.axis), (found.picture, 0, None));
    let error = |asked: Asked| probe(&model, &asked).unwrap_err().to_string();
    assert!(error(Asked { nearest: 1, ..Asked::default() }).contains("nothing to probe"));
    assert!(error(Asked { word: Some("cats"), ..Asked::default() }).contains("\"cats\" is not a single token of this model, but "));
    assert!(error(Asked { word: Some(" "), ..Asked::default() }).contains("expected a word"));
}

/// The page in a browser: words by mouse and by keyboard, layers and heads, overlays that change, nothing fetched.
#[test]
fn the_page_of_an_explanation_works() {
    let folder = tempfile::tempdir().unwrap();
    let (model, image, audio) = meadow_model(folder.path());
    let mut page = Page::new("Where each word comes from", "Choose a word.");
    for (image, audio) in [(Some(&*image), Some(&*audio)), (None, Some(&*audio))] {
        page.section("cat.png");
        page.explanation(&explained(&model, image, audio, 5).1).unwrap();
    }
    let html = page.html();
    assert!(!html.contains("://"), "nothing from elsewhere");
    let Some(mut browser) = Chromium::start(&[]) else { return };
    let file = folder.path().join("why.html");
    page.write(&file).unwrap();
    let shots = std::env::var_os("TRIMODAL_SCREENSHOTS").map_or(folder.path().to_path_buf(), Into::into);
    for (width, mobile) in [(390, true), (1280, false)] {
        browser.resize(width, 844, mobile);
        browser.open(&format!("file://{}", file.display()));
        assert_eq!(browser.evaluate("document.documentElement.scrollWidth"), width, "the page itself must not scroll sideways");
        let unnamed = "[...document.querySelectorAll('img, canvas, [role=toolbar], [role=region]')].filter(e => !(e.alt || e.ariaLabel)).length";
        assert_eq!(browser.evaluate(unnamed), 0);
        assert_eq!(browser.evaluate("[...document.querySelectorAll('select')].filter(s => !s.labels.length).length"), 0);
        let status = "document.querySelector('.status').textContent";
        let overlay = "document.querySelector('.picture-attention').toDataURL() + document.querySelector('.sound-gradient').toDataURL()";
        let (first, before) = (browser.evaluate(status), browser.evaluate(overlay));
        let text = first.as_str().unwrap();
        assert!(text.contains("mean of all layers, mean of all heads") && text.contains("% on the picture") && text.contains("On the sound most at"), "{text}");
        // By mouse the third word, by keyboard the fourth; the focus goes with it.
        browser.evaluate("document.querySelectorAll('.words button')[2].click()");
        assert_ne!(browser.evaluate(overlay), before);
        browser.evaluate("document.querySelectorAll('.words button')[2].focus()");
        browser.evaluate("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }))");
        let pressed = "[...document.querySelectorAll('.words')[0].querySelectorAll('button')].map(b => +(b.ariaPressed === 'true')).join('')";
        assert_eq!(browser.evaluate(pressed), "00010");
        assert_eq!(browser.evaluate("document.activeElement.ariaPressed"), "true");
        let before = browser.evaluate(overlay);
        for (choice, value) in [("layer", "1"), ("head", "2"), ("kind", "direction")] {
            let change = format!("(() => {{ const s = document.querySelector('.{choice}'); s.value = '{value}'; s.dispatchEvent(new Event('change')); }})()");
            browser.evaluate(&change);
        }
        assert!(browser.evaluate(status).as_str().unwrap().contains("layer 2, head 3"));
        assert_ne!(browser.evaluate(overlay), before);
        assert_eq!(browser.evaluate("document.querySelectorAll('.status')[1].textContent.includes('picture')"), false);
        browser.screenshot(&shots.join(format!("explain-{width}.png")));
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
