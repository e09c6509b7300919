//! The experiments in their short form, what they rest on, and self-descriptions.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use trimodal::data::meadow::{self, senses};
use trimodal::data::{Dataset, Limits, Tokenizer};
use trimodal::experiment::fusion::{Arm, SPLITS};
use trimodal::experiment::{Budget, fusion, transfer};
use trimodal::model::batch::{Batch, Packer, TokenRow};
use trimodal::model::generate::{Generator, OutputIds, Sampling, prompt_of};
use trimodal::model::score::Scorer;
use trimodal::model::{Config, Parameters};
use trimodal::train::Example;
use trimodal::train::examples::placeholders;
use trimodal::{DType, Device, Error};

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).output().unwrap()
}

fn tiny() -> Budget {
    Budget { steps: 6, rows: 400, samples: 40, test_samples: 4, preset: "meadow".into(), seed: 1, device: "cpu".into() }
}

/// The short form from the command line: a table, a plot, a result with all its parts; done again, no run is repeated.
#[test]
fn fusion_compares_four_arms_and_reuses_what_ended() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let arguments = ["experiment", "fusion", "--quick", "--steps", "6", "--device", "cpu", "--out", out];
    let first = program(&arguments);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let printed = String::from_utf8(first.stdout).unwrap();
    for arm in Arm::ALL {
        assert!(printed.contains(arm.name()), "{printed}");
    }
    let result = json(&folder.path().join("result.json"));
    let runs = result["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    let of = |arm: Arm| runs.iter().find(|run| run["arm"] == arm.key()).unwrap();
    let sum = |arm: Arm, what: &str| of(arm)["stages"].as_array().unwrap().iter().map(|stage| stage[what].as_u64().unwrap()).sum::<u64>();
    for arm in Arm::ALL {
        assert_eq!(sum(arm, "steps"), 6);
        for split in SPLITS {
            assert!(of(arm)["splits"][split]["attributes"].is_number() && of(arm)["splits"][split]["each"]["action"].is_number());
        }
    }
    // The control has the late arms' very batches; native has more pictures.
    for what in ["tokens", "samples", "pictures", "sounds"] {
        assert!(sum(Arm::Equal, what) == sum(Arm::Late, what) && sum(Arm::Frozen, what) == sum(Arm::Late, what), "{what}");
    }
    assert!(sum(Arm::Native, "pictures") > sum(Arm::Equal, "pictures"));
    let learning = |arm: Arm| of(arm)["stages"][1]["parameters"].as_u64().unwrap();
    assert!(learning(Arm::Frozen) < learning(Arm::Late) / 2);
    let svg = std::fs::read_to_string(folder.path().join("result.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.matches("<circle").count() == 16);
    assert_eq!(result["table"]["rows"].as_array().unwrap().len(), 5);

    // A record that is there is taken as it is: a changed one shows.
    let record = folder.path().join("runs/native-1.json");
    let mut changed = json(&record);
    changed["splits"]["iid"]["attributes"] = 0.987.into();
    std::fs::write(&record, changed.to_string()).unwrap();
    let again = program(&[&arguments[..], &["--json"]].concat());
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["runs"][0]["splits"]["iid"]["attributes"], 0.987);
    let other = program(&["experiment", "fusion", "--quick", "--steps", "8", "--device", "cpu", "--out", out]);
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("steps = 6, not 8"));
    let none = program(&["experiment", "fusion", "--quick", "--seeds", "0", "--out", out]);
    assert_eq!(none.status.code(), Some(2));
}

/// Stopped in the third run, an experiment keeps two and continues with the third; the same seed gives the same numbers.
#[test]
fn an_experiment_that_is_stopped_goes_on_and_repeats() {
    let (stopped, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut ended = 0;
    let outcome = fusion::run(&tiny(), 1, stopped.path(), &Device::Cpu, &mut |progress| {
        ended += usize::from(progress.finished.is_some());
        if ended == 2 && progress.finished.is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(outcome, Err(Error::Interrupted { .. })));
    assert_eq!(std::fs::read_dir(stopped.path().join("runs")).unwrap().count(), 2);
    let mut steps = Vec::new();
    let resumed = fusion::run(&tiny(), 1, stopped.path(), &Device::Cpu, &mut |progress| {
        steps.push(progress.steps);
        ControlFlow::Continue(())
    });
    assert_eq!(steps.last(), Some(&(12, 12)), "two runs of six steps were left");
    let through = fusion::run(&tiny(), 1, whole.path(), &Device::Cpu, &mut |_| ControlFlow::Continue(()));
    assert_eq!(resumed.unwrap(), through.unwrap());
}

/// The short form: three variants, each with its flip.
#[test]
fn transfer_has_its_flip_control() {
    let folder = tempfile::tempdir().unwrap();
    let result = transfer::run(&tiny(), 1, folder.path(), &Device::Cpu, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(result.runs.len(), 6);
    let (_, rows) = result.rows();
    assert_eq!((rows.len(), result.findings().len(), result.seeds()), (7, 6, 1));
    for run in &result.runs {
        for answers in run.answers.values() {
            assert_eq!(answers.said.len(), 4);
            assert!((0.0..=1.0).contains(&answers.held_out) && (0.0..=1.0).contains(&answers.learned));
            // Two of four tests are of either answer: who always says the same has one half.
            if ["yyyy", "nnnn"].contains(&answers.said.as_str()) {
                assert_eq!(answers.held_out, 0.5);
            }
        }
    }
    assert!(result.svg().starts_with("<svg"));
    // A model that answers the same in both runs makes no use of facts, whatever it says.
    let mut same = result;
    for run in &mut same.runs {
        for answers in run.answers.values_mut() {
            answers.said = "ynyn".into();
            answers.held_out = if run.flipped { 0.25 } else { 0.75 };
        }
    }
    for variant in transfer::Variant::ALL {
        for kind in transfer::FactKind::ALL {
            assert_eq!((same.use_of_facts(variant, kind).mean, same.turned(variant, kind).mean), (0.5, 0.0));
        }
    }
}

/// Behind a cut, rows see the words from `from` on and nothing before; what may look and what may be looked at agree; training's pass and
/// the generator's give the same answer.
#[test]
fn a_question_that_is_cut_off_does_not_see_the_picture() {
    let tokenizer = Tokenizer::train(["a black cat sitting is it a pet? yes no"], 1024).unwrap();
    let special = tokenizer.special();
    // One layer: what the caption's rows hand on was not touched by the picture yet.
    let config = Config { num_hidden_layers: 1, ..Config::meadow(tokenizer.vocabulary()) };
    let parameters = Parameters::init(&config, &Device::Cpu, DType::F64, 3).unwrap();
    let packer = Packer { config: &config, budget: 256, placeholders: placeholders(&special) };
    let side = config.vision_config.as_ref().unwrap().image_size;
    let ids = |text: &str| tokenizer.encode(text).unwrap();
    let asked = |shade: u8, cut: bool| {
        let (prompt, question) = if cut { (ids("a black cat"), ids("is it a pet?")) } else { (ids("a black cat is it a pet?"), Vec::new()) };
        let pixels = (0..side * side * 3).map(|i| (i as u8).wrapping_mul(shade)).collect();
        Example { prompt, question, words: ids("yes"), pixels: Some(pixels), ..Example::default() }.sequence(&config, &special, || false)
    };
    let mut scorer = Scorer::new(&config, &parameters, 256, &OutputIds::default()).unwrap();
    let mut losses = |shade: u8, cut: bool| -> Vec<f64> {
        let batch = packer.pack([&asked(7, true), &asked(shade, cut)]).unwrap();
        scorer.run(&parameters, &batch).unwrap().iter().skip(2).map(|p| p.loss).collect()
    };
    assert_eq!(losses(3, true), losses(90, true));
    assert_ne!(losses(3, false), losses(90, false));

    let batch: Batch = packer.pack([&asked(7, true), &asked(7, false), &asked(9, true)]).unwrap();
    for (i, [from, to]) in batch.visible.iter().enumerate() {
        for (j, [first, last]) in batch.visible_by.iter().enumerate() {
            assert_eq!((*from..*to).contains(&(j as i32)), (*first..*last).contains(&(i as i32)), "row {i}, key {j}");
        }
    }

    let sequence = asked(7, true);
    let mut generator = Generator::new(&config, &parameters, 2).unwrap();
    let prompts = [prompt_of(&sequence), prompt_of(&asked(9, false))];
    let said = generator.run(&parameters, &packer, &prompts, &OutputIds::ending_with(special.eos), 6, Sampling::default(), |_, _| ()).unwrap();
    let mut rows = prompts[0].rows.clone();
    for &id in &said[0] {
        rows.push(TokenRow::Token { id, truth: id, learned: true });
        let batch = packer.pack([&trimodal::model::batch::Sequence { rows: rows.clone(), ..sequence.clone() }]).unwrap();
        assert_eq!(scorer.run(&parameters, &batch).unwrap().last().unwrap().best, id);
    }
    assert!(!said[0].is_empty());
    let mut wrong = sequence;
    wrong.cut = Some(trimodal::model::batch::Cut { at: 5, from: 2 });
    assert!(packer.pack([&wrong]).unwrap_err().to_string().contains("after picture and sound"));
}

/// Self-descriptions are made from what is really written, take nothing else's place in the random streams, and a set without sounds never
/// says that one could hear.
#[test]
fn self_descriptions_claim_what_the_data_has() {
    let samples = 3 * senses::EVERY + 50;
    let said = |pictures: bool, sounds: bool| {
        let folder = tempfile::tempdir().unwrap();
        let options = meadow::MeadowOptions { samples, test_samples: 2, seed: 4, pictures, sounds };
        meadow::write(folder.path(), &options, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let table = std::fs::read_to_string(folder.path().join("metadata.jsonl")).unwrap();
        let data = Dataset::open(folder.path(), &Limits::default()).unwrap();
        let taught = trimodal::train::self_description::taught(&data, |row| row.split.as_deref() == Some("train")).unwrap();
        assert_eq!(taught, Some(meadow::Senses { pictures, sounds }));
        assert_eq!(trimodal::train::self_description::taught(&data, |row| row.split.as_deref() == Some("iid")).unwrap(), None);
        (table, data.rows().to_vec())
    };
    let (whole, rows) = said(true, true);
    let described: Vec<_> = rows.iter().filter(|row| row.prompt.is_some()).map(|row| (row.prompt.as_deref().unwrap(), row.text.as_deref().unwrap())).collect();
    assert_eq!(described, [("what can you sense?", "words, pictures and sounds"), ("can you see?", "yes"), ("can you hear?", "yes")]);
    assert_eq!(rows.iter().filter(|row| row.split.as_deref() == Some("train")).count(), samples);
    for (i, row) in rows.iter().take(samples).enumerate().filter(|(i, _)| senses::question(*i).is_none()) {
        let plan = meadow::plan(4, 0, i);
        assert_eq!(row.text.as_deref(), Some(plan.attributes.caption(plan.picture, plan.sound).as_str()));
    }
    assert!(rows.iter().skip(samples).all(|row| row.prompt.is_none()));

    let (deaf, rows) = said(true, false);
    assert!(!deaf.contains("sounds") && !deaf.contains("audio") && whole.contains("sounds"));
    assert!(rows.iter().any(|row| row.prompt.as_deref() == Some("can you hear?") && row.text.as_deref() == Some("no")));
    assert!(rows.iter().any(|row| row.text.as_deref() == Some("words and pictures")));
    assert!(rows.iter().all(|row| row.prompt.is_some() || row.file.is_some()));
    let (blind, rows) = said(false, true);
    assert!(!blind.contains("pictures") && !blind.contains("images/"));
    assert!(rows.iter().filter(|row| row.prompt.is_none()).all(|row| row.text.as_deref().unwrap().starts_with("something ")));
    let neither = meadow::MeadowOptions { pictures: false, sounds: false, ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    assert!(meadow::write(folder.path(), &neither, &mut |_, _| ControlFlow::Continue(())).unwrap_err().to_string().contains("nothing to describe"));
}

/// A model without ears, trained on pictures only, learns to say that it cannot hear; `eval` asks it.
#[test]
fn eval_asks_a_model_without_ears_whether_it_can_hear() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, model, scores) = (path("data"), path("model"), path("scores.json"));
    assert!(program(&["meadow", &data, "--samples", &(3 * senses::EVERY).to_string(), "--test-samples", "2", "--without", "sounds"]).status.success());
    // A table of self-descriptions and a few pictures: what is learned here is learned in seconds.
    let table = folder.path().join("data/metadata.jsonl");
    let text = std::fs::read_to_string(&table).unwrap();
    let few: Vec<&str> = text.lines().enumerate().filter(|(i, line)| line.contains("prompt") || i % 100 == 0).map(|(_, line)| line).collect();
    std::fs::write(&table, few.join("\n") + "\n").unwrap();
    let trained = program(&["train", &data, "--out", &model, "--steps", "150", "--device", "cpu", "--set", "sounds=false", "--set", "rows=200"]);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let printed = program(&["eval", &model, &data, "--device", "cpu", "--json", &scores]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    let described = &json(Path::new(&scores))["self_description"];
    assert_eq!(described["perceives"], serde_json::json!({ "pictures": true, "sounds": false }));
    assert_eq!((described["honest"].as_bool(), described["right"].as_f64()), (Some(true), Some(1.0)), "{described}");
    assert!(printed.contains("asked \"what can you sense?\" it says \"words and pictures\": that is true"), "{printed}");
}
