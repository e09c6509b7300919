//! Answering from a list: captions score what teacher forcing gives them, and the program says so.

mod common;

use common::{sequences, tiny};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use trimodal::check::test_devices;
use trimodal::model::batch::{Capacity, Cut, Packer, Placeholders, Sequence, TokenRow};
use trimodal::model::choices::Chooser;
use trimodal::model::generate::{OutputIds, prompt_of};
use trimodal::model::score::Scorer;
use trimodal::model::{Config, Parameters};
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device, Error};

const END: u32 = 3;

fn packer(config: &Config) -> Packer<'_> {
    Packer { config, budget: 200, placeholders: Placeholders { image: 1, audio: 2 } }
}

/// Parameters far enough from zero that words differ in likelihood.
fn parameters(config: &Config, device: &Device, dtype: DType) -> Parameters {
    let mut parameters = Parameters::init(config, device, dtype, 7).unwrap();
    for tensor in parameters.each_mut() {
        let louder: Vec<f64> = tensor.read_f64().unwrap().iter().map(|x| if *x == 1.0 { 1.0 } else { 12.0 * x }).collect();
        tensor.write_f64(&louder).unwrap();
    }
    parameters
}

/// Answers that begin alike, that are the beginning of others, that share nothing.
fn answers() -> Vec<Vec<u32>> {
    [&[7, 8, 9][..], &[7, 8], &[12], &[7, 8, 10, 11, 12], &[7], &[20, 7, 8], &[12, 12, 12], &[4, 5, 6]].map(<[u32]>::to_vec).into()
}

/// The sum over an answer and its end, word by word: the whole sequence at once, without a cache.
fn forced(config: &Config, p: &Parameters, prompt: &Sequence, answer: &[u32]) -> f64 {
    let mut whole = prompt.clone();
    whole.rows.extend(answer.iter().chain([&END]).map(|&id| TokenRow::Token { id, truth: id, learned: true }));
    let batch = packer(config).pack([&whole]).unwrap();
    let scored = Scorer::new(config, p, batch.rows(), &OutputIds::default()).unwrap().run(p, &batch).unwrap();
    assert_eq!(scored.len(), answer.len() + 1);
    -scored.iter().map(|s| s.loss).sum::<f64>()
}

/// Whatever is batched with what: with a slot for each prompt, with several, with one at all; and after a cut.
#[test]
fn answers_score_what_teacher_forcing_gives_them() {
    for tied in [true, false] {
        let config = Config { tie_word_embeddings: tied, ..tiny() };
        let mut prompts: Vec<_> = sequences(&config).iter().map(prompt_of).collect();
        for rows in prompts.iter_mut().map(|prompt| &mut prompt.rows) {
            rows.extend([9, 10, 11].map(|id| TokenRow::Token { id, truth: id, learned: false }));
        }
        let at = prompts[0].rows.len() - 1;
        prompts[0].cut = Some(Cut { at, from: at - 2 });
        let check = |device: &Device, dtype: DType, allowed: f64| {
            let p = parameters(&config, device, dtype);
            let expected: Vec<Vec<f64>> = prompts.iter().map(|prompt| answers().iter().map(|answer| forced(&config, &p, prompt, answer)).collect()).collect();
            assert!(expected[0].iter().any(|score| (score - expected[0][0]).abs() > 1.0), "they differ: {:?}", expected[0]);
            let near = |found: &[Vec<f64>], expected: &[Vec<f64>], how: &str| {
                assert_eq!(found.len(), expected.len());
                for (f, e) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!((f - e).abs() <= allowed * e.abs(), "{device} {dtype}, {how}: {f} instead of {e}");
                }
            };
            for slots in [4, 9, 64] {
                let mut chooser = Chooser::new(&config, &p, slots, 64).unwrap();
                let mut told = Vec::new();
                let mut watch = |done| {
                    told.push(done);
                    ControlFlow::Continue(())
                };
                let found = chooser.run(&p, &packer(&config), &prompts, &answers(), END, &mut watch).unwrap();
                near(&found, &expected, "all prompts");
                assert!(told.is_sorted() && told.last() == Some(&(prompts.len() * answers().len())), "{told:?}");
                // The same buffers for fewer prompts and another list.
                let found = chooser.run(&p, &packer(&config), &prompts[1..2], &answers()[..3], END, &mut |_| ControlFlow::Continue(())).unwrap();
                near(&found, &[expected[1][..3].to_vec()], "one prompt");
            }
            let mut alone = Chooser::new(&config, &p, 1, 40).unwrap();
            for (prompt, expected) in prompts.iter().zip(&expected) {
                let found = alone.run(&p, &packer(&config), std::slice::from_ref(prompt), &answers(), END, &mut |_| ControlFlow::Continue(())).unwrap();
                near(&found, std::slice::from_ref(expected), "one slot");
            }
        };
        check(&Device::Cpu, DType::F64, 1e-9);
        test_devices().iter().for_each(|device| check(device, DType::F32, 1e-4));
    }
}

/// A model that was trained to tell captions from pictures and sounds alone adds what training's loss finds each answer's caption to be, and nothing
/// where there is neither.
#[test]
fn what_is_told_from_picture_and_sound_alone_counts_in_a_list() {
    for tied in [true, false] {
        let config = Config { tie_word_embeddings: tied, ..tiny() };
        let telling = Config { contrastive: true, ..config.clone() };
        let prompts: Vec<_> = sequences(&config).iter().map(prompt_of).collect();
        let check = |device: &Device, dtype: DType, allowed: f64| {
            let p = parameters(&config, device, dtype);
            let scores = |config: &Config| {
                let mut chooser = Chooser::new(config, &p, 9, 64).unwrap();
                chooser.run(&p, &packer(config), &prompts, &answers(), END, &mut |_| ControlFlow::Continue(())).unwrap()
            };
            let (without, with) = (scores(&config), scores(&telling));
            for (prompt, (without, with)) in prompts.iter().zip(without.iter().zip(&with)) {
                let added: Vec<f64> = with.iter().zip(without).map(|(with, without)| with - without).collect();
                if prompt.pixels.is_none() && prompt.mel.is_none() {
                    assert_eq!(added, vec![0.0; answers().len()]);
                    continue;
                }
                assert!((added.iter().map(|log_p| log_p.exp()).sum::<f64>() - 1.0).abs() < allowed);
                for (answer, added) in answers().iter().zip(added).step_by(3) {
                    let mut sample = prompt.clone();
                    sample.rows.extend(answer.iter().chain([&END]).map(|&id| TokenRow::Token { id, truth: id, learned: true }));
                    let batch = packer(&config).pack([&sample]).unwrap();
                    let options = ActivationOptions { contrastive: 1.0, captions: answers().len(), ..ActivationOptions::new(dtype) };
                    let mut parameters = Parameters::zeros(&config, device, dtype).unwrap();
                    parameters.each_mut().into_iter().zip(p.each()).for_each(|(to, from)| to.copy_from(from).unwrap());
                    let mut trainer = Trainer::with_options(options, &config, parameters, Schedule::meadow(1), Capacity::of(&batch)).unwrap();
                    trainer.tell_apart(&answers()).unwrap();
                    trainer.loss_and_gradients(&batch).unwrap();
                    let loss = trainer.activations().contrastive_loss().unwrap().read_f64().unwrap()[0] * batch.counted() as f64;
                    assert!((added + loss).abs() <= allowed * (1.0 + loss), "{device} {dtype}: {added}, by the loss {}", -loss);
                }
            }
        };
        check(&Device::Cpu, DType::F64, 1e-6); // the loss's weight is an f32
        test_devices().iter().for_each(|device| check(device, DType::F32, 1e-3));
    }
}

#[test]
fn captions_that_cannot_be_told_apart_are_refused() {
    let config = tiny();
    let batch = packer(&config).pack(&sequences(&config)).unwrap();
    let parameters = Parameters::init(&config, &Device::Cpu, DType::F32, 7).unwrap();
    let options = ActivationOptions { contrastive: 1.0, captions: 2, ..ActivationOptions::new(DType::F32) };
    let mut trainer = Trainer::with_options(options, &config, parameters, Schedule::meadow(1), Capacity::of(&batch)).unwrap();
    let mut refused = |captions: &[&[u32]], part: &str| {
        let captions: Vec<Vec<u32>> = captions.iter().map(|words| words.to_vec()).collect();
        let error = trainer.tell_apart(&captions).unwrap_err();
        assert!(matches!(&error, Error::Usage(what) if what.contains(part)), "{error}");
    };
    refused(&[&[7]], "1 captions to tell apart: allocated for 2");
    refused(&[&[7], &[]], "caption 1: expected words");
    refused(&[&[7, 8], &[7, 8]], "none of the captions twice");
    refused(&[&[7], &[99]], "caption 1: token 99: the vocabulary has 23");
    trainer.tell_apart(&[vec![7], vec![8]]).unwrap();
}

#[test]
fn lists_that_make_no_sense_are_refused() {
    let config = tiny();
    let p = parameters(&config, &Device::Cpu, DType::F32);
    let prompt = prompt_of(&sequences(&config)[0]);
    let mut chooser = Chooser::new(&config, &p, 2, prompt.rows.len() + 4).unwrap();
    assert!(chooser.fits(2, prompt.rows.len() + 4) && !chooser.fits(3, 1) && !chooser.fits(1, prompt.rows.len() + 5));
    let mut refused = |prompts: &[Sequence], answers: &[Vec<u32>], part: &str| {
        let error = chooser.run(&p, &packer(&config), prompts, answers, END, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(&error, Error::Usage(what) if what.contains(part)), "{error}");
    };
    let one = [prompt.clone()];
    refused(&one, &[vec![7], vec![8], vec![7]], "answers 0 and 2 are the same");
    refused(&one, &[vec![7], vec![]], "answer 1 has no words");
    refused(&one, &[vec![7; 5]], "answer 0 has 5 tokens");
    refused(&one, &[vec![99]], "token 99: the vocabulary has 23");
    refused(&[prompt.clone(), prompt.clone(), prompt.clone()], &[vec![7]], "3 prompts at once");
    refused(&[Sequence::default()], &[vec![7]], "prompt 0 is empty");
    let stopped = chooser.run(&p, &packer(&config), &one, &answers()[..2], END, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Interrupted { .. })));
    assert_eq!(chooser.run(&p, &packer(&config), &one, &[], END, &mut |_| ControlFlow::Continue(())).unwrap(), [Vec::<f64>::new()]);
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).env("NODEVICE_SELECT", "1").output().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let output = program(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn bad(code: i32, arguments: &[&str], part: &str) {
    let output = program(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(code) && message.contains(part), "{arguments:?}: {message}");
}

#[test]
fn the_program_answers_from_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, run, list) = (path("data"), path("run"), path("list.txt"));
    good(&["meadow", &data, "--samples", "60", "--test-samples", "6", "--seed", "5"]);
    good(&["train", &data, "--out", &run, "--steps", "20", "--device", "cpu", "--no-report", "--set", "held_out=0"]);
    let table = std::fs::read_to_string(Path::new(&data).join("metadata.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = table.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let picture = rows.iter().find_map(|row| row["file_name"].as_str().filter(|name| name.ends_with("png"))).unwrap();
    let picture = Path::new(&data).join(picture).display().to_string();
    std::fs::write(&list, "a cat\na dog\na cat and a dog\nan owl\n").unwrap();
    let json = |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&good(&[arguments, &["--json"]].concat())).unwrap() };
    let describe = ["describe", &run, "--device", "cpu", "--image", &picture];
    let answer = json(&[&describe[..], &["--choices", &list]].concat());
    let choices = answer["choices"].as_array().unwrap();
    assert!(choices.len() == 4 && answer["finish"] == "list" && answer["text"] == choices[0]["text"], "{answer}");
    let of = |key: &str| choices.iter().map(|choice| choice[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert!(of("probability").is_sorted_by(|a, b| a >= b) && (of("probability").iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(of("log_probability").is_sorted_by(|a, b| a >= b) && of("log_probability")[0] < 0.0);

    let text = good(&[&describe[..], &["--choices", &list, "--top", "2"]].concat());
    assert!(text.lines().count() == 2 && text.contains(choices[0]["text"].as_str().unwrap()) && text.contains('%'), "{text}");
    let two = good(&[&describe[..], &["--image", &picture, "--choices", &list, "--top", "1"]].concat());
    assert!(two.lines().count() == 4 && two.starts_with(&format!("{picture}:\n")), "{two}");
    // After words, an answer is what follows them.
    let after = json(&[&describe[..], &["--prompt", "a", "--choices", &list]].concat());
    assert_eq!(after["text"], format!("a {}", after["choices"][0]["text"].as_str().unwrap()));
    let page = path("why.html");
    good(&[&describe[..], &["--choices", &list, "--explain", &page]].concat());
    assert!(std::fs::read_to_string(&page).unwrap().contains(choices[0]["text"].as_str().unwrap()));

    let out = path("scores.json");
    let eval = ["eval", &run, &data, "--device", "cpu", "--json", &out];
    let scores = || -> serde_json::Value { serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap() };
    let said = good(&[&eval[..], &["--choices", &list]].concat());
    assert!(said.contains(&format!("answered from a list of 4 captions ({list}); the captions of ")), "{said}");
    assert_eq!((&scores()["choices"]["captions"], &scores()["choices"]["source"]), (&4.into(), &list.as_str().into()));
    // From the captions that it was trained on: every sample of that split has its own among them.
    let said = good(&[&eval[..], &["--choices", "train", "--split", "train"]].concat());
    let trained = |row: &&serde_json::Value| row["split"] == "train";
    let captions: std::collections::BTreeSet<&str> = rows.iter().filter(trained).map(|row| row["text"].as_str().unwrap()).collect();
    // The run has them in a file, because it told them apart.
    let listed = std::fs::read_to_string(Path::new(&run).join("captions.txt")).unwrap();
    assert_eq!(listed.lines().collect::<std::collections::BTreeSet<_>>(), captions);
    assert_eq!(listed.lines().count(), captions.len());
    good(&[&describe[..], &["--choices", &format!("{run}/captions.txt"), "--top", "1"]].concat());
    let line = format!("answered from a list of {} captions (the rows trained on); every sample's caption is among them", captions.len());
    assert!(said.contains(&line), "{said}");
    assert_eq!(scores()["choices"]["absent"], serde_json::json!({ "train": 0 }));
    assert!(scores()["splits"]["train"]["exact"].is_number());
    good(&[&eval[..], &["--split", "train"]].concat());
    assert!(scores()["choices"].is_null());

    // What makes no sense.
    std::fs::write(&list, "a cat\na dog\na  cat\n").unwrap();
    bad(1, &[&describe[..], &["--choices", &list]].concat(), "line 3: this caption is also in line 1: \"a cat\"");
    bad(1, &[&eval[..], &["--choices", &list]].concat(), "line 3: this caption is also in line 1: \"a cat\"");
    std::fs::write(&list, "\n").unwrap();
    bad(1, &[&describe[..], &["--choices", &list]].concat(), "there is no caption to choose from");
    std::fs::write(&list, format!("a cat\n{}\n", "dog ".repeat(200))).unwrap();
    bad(2, &[&describe[..], &["--choices", &list]].concat(), "the model takes 128");
    bad(1, &[&describe[..], &["--choices", "nowhere.txt"]].concat(), "nowhere.txt");
    bad(2, &[&describe[..], &["--choices", &list, "--temperature", "1"]].concat(), "--temperature");
    bad(2, &[&describe[..], &["--top", "3"]].concat(), "--choices");
}
