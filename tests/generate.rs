//! Using a model: generation with its cache, sampling, and scoring, against the training step's forward pass.

mod common;

use common::{sequences, tiny, tiny_with_stem, with_histograms, with_stem};
use trimodal::check::test_devices;
use trimodal::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence, TokenRow};
use trimodal::model::generate::{Generator, OutputIds, Sampling, prompt_of};
use trimodal::model::score::Scorer;
use trimodal::model::{Config, Parameters};
use trimodal::train::{Schedule, Trainer};
use trimodal::{DType, Device, Error};

fn packer(config: &Config) -> Packer<'_> {
    Packer { config, budget: 200, placeholders: Placeholders { image: 1, audio: 2 } }
}

fn trainer(config: &Config, parameters: Parameters, batch: &Batch) -> Trainer {
    Trainer::new(config, parameters, Schedule::meadow(1), Capacity::of(batch)).unwrap()
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

/// The scorer's loss is the training step's, and its best word the largest logit.
#[test]
fn scores_are_those_of_the_training_step() {
    for (config, tied) in [(tiny(), true), (tiny(), false), (tiny_with_stem(), true)] {
        let config = Config { tie_word_embeddings: tied, ..config };
        let batch = packer(&config).pack(&sequences(&config)).unwrap();
        let check = |device: &Device, dtype: DType, allowed: f64| {
            let p = parameters(&config, device, dtype);
            let scored = Scorer::new(&config, &p, batch.rows() + 3, &OutputIds::default()).unwrap().run(&p, &batch).unwrap();
            let mut trainer = trainer(&config, p, &batch);
            let activations = trainer.forward(&batch).unwrap();
            let (loss, logits) = (activations.loss().read_f64().unwrap()[0], activations.logits().read_f64().unwrap());
            assert_eq!(scored.len(), batch.counted());
            let mean = scored.iter().map(|s| s.loss).sum::<f64>() / scored.len() as f64;
            assert!((mean - loss).abs() <= allowed * loss, "{device}: {mean} {loss}");
            for ((prediction, target), logits) in scored.iter().zip(&batch.logit_target).zip(logits.chunks(config.vocab_size)) {
                assert_eq!(prediction.truth as i32, *target);
                let gap = logits.iter().fold(f64::MIN, |most, l| most.max(*l)) - logits[prediction.best as usize];
                assert!(gap <= allowed * 10.0, "{device}: {gap}");
            }
        };
        check(&Device::Cpu, DType::F64, 1e-6);
        test_devices().iter().for_each(|device| check(device, DType::F32, 1e-5));
    }
}

/// Row by row with the cache, greedily, is the largest logit of the whole sequence at once.
#[test]
fn the_cache_changes_nothing() {
    for config in [tiny(), tiny_with_stem(), with_stem(tiny(), 2, "5, 5, 7/2, 6/2, whole"), with_histograms(tiny(), &[3, 2])] {
        cached(&config);
    }
}

fn cached(config: &Config) {
    let prompts: Vec<_> = sequences(config).iter().map(prompt_of).collect();
    for device in test_devices() {
        let p = parameters(config, &device, DType::F32);
        let mut generator = Generator::new(config, &p, prompts.len()).unwrap();
        // No token ends: 99 is none.
        let words = generator.run(&p, &packer(config), &prompts, &OutputIds::ending_with(99), 8, Sampling::default(), |_, _| ()).unwrap();
        for (prompt, words) in prompts.iter().zip(&words) {
            assert_eq!(words.len(), 8);
            let mut whole = prompt.clone();
            whole.rows.extend(words.iter().map(|&id| TokenRow::Token { id, truth: id, learned: true }));
            let batch = packer(config).pack([&whole]).unwrap();
            let scored = Scorer::new(config, &p, batch.rows(), &OutputIds::default()).unwrap().run(&p, &batch).unwrap();
            assert_eq!(scored.iter().map(|s| s.best).collect::<Vec<_>>(), *words, "{device}");
        }
    }
}

/// The same seed, the same words, whatever else is in the batch; another seed, others.
#[test]
fn a_seed_decides_what_is_said() {
    let config = tiny();
    let prompts: Vec<_> = sequences(&config).iter().map(prompt_of).collect();
    for device in test_devices() {
        let p = parameters(&config, &device, DType::F32);
        let mut generator = Generator::new(&config, &p, prompts.len()).unwrap();
        let mut say =
            |prompts: &[Sequence], sampling| generator.run(&p, &packer(&config), prompts, &OutputIds::ending_with(99), 10, sampling, |_, _| ()).unwrap();
        let warm = |seed| Sampling { temperature: 1.5, seed, ..Sampling::default() };
        let first = say(&prompts, warm(3));
        assert_eq!(first, say(&prompts, warm(3)), "{device}");
        assert_ne!(first, say(&prompts, warm(4)), "{device}");
        for (prompt, words) in prompts.iter().zip(&first) {
            assert_eq!(say(std::slice::from_ref(prompt), warm(3))[0], *words, "{device}");
        }
        // Greedy at temperature 0 whatever the seed, and where nothing but the best is left to choose from.
        let greedy = say(&prompts, Sampling::default());
        assert_eq!(greedy, say(&prompts, Sampling { seed: 9, ..Sampling::default() }));
        assert_eq!(greedy, say(&prompts, Sampling { top_k: 1, ..warm(9) }));
        assert_eq!(greedy, say(&prompts, Sampling { top_p: 0.0, ..warm(9) }));
        assert_eq!(greedy, say(&prompts, Sampling { temperature: 1e-30, seed: 9, ..Sampling::default() }));
        // More than there are is all of them.
        assert_eq!(first, say(&prompts, Sampling { top_k: 1000, ..warm(3) }));
        assert_ne!(first, say(&prompts, Sampling { top_p: 0.3, ..warm(3) }), "{device}");
    }
}

#[test]
fn limits_are_kept_and_named() {
    let config = tiny();
    let sequences = sequences(&config);
    let prompts: Vec<_> = sequences.iter().map(prompt_of).collect();
    let p = parameters(&config, &Device::Cpu, DType::F32);
    let mut generator = Generator::new(&config, &p, 4).unwrap();
    let mut say = |prompts: &[Sequence], most, sampling| generator.run(&p, &packer(&config), prompts, &OutputIds::ending_with(99), most, sampling, |_, _| ());
    assert_eq!(say(&prompts, 0, Sampling::default()).unwrap(), vec![Vec::<u32>::new(); 4]);
    // As long as the model allows.
    for (prompt, words) in prompts.iter().zip(say(&prompts, usize::MAX, Sampling::default()).unwrap()) {
        assert_eq!(prompt.rows.len() + words.len(), config.max_position_embeddings + 1);
    }
    assert!(say(&[], 4, Sampling::default()).unwrap().is_empty());
    let five = [prompts.clone(), vec![prompts[0].clone()]].concat();
    assert!(matches!(say(&five, 4, Sampling::default()), Err(Error::Usage(what)) if what.contains("5 prompts")));
    for temperature in [-0.5, f32::NAN, f32::INFINITY] {
        let refused = say(&prompts, 4, Sampling { temperature, ..Sampling::default() });
        assert!(matches!(refused, Err(Error::Usage(what)) if what.contains("temperature")), "{temperature}");
    }
    for top_p in [-0.1, 1.1, f32::NAN] {
        let refused = say(&prompts, 4, Sampling { top_p, ..Sampling::default() });
        assert!(matches!(refused, Err(Error::Usage(what)) if what.contains("top_p")), "{top_p}");
    }
    // Allocated for less than the model allows: as far as there is room, and a prompt beyond it is named.
    let longest = prompts.iter().map(|p| p.rows.len()).max().unwrap();
    let mut short = Generator::sized(&config, &p, 4, longest + 2).unwrap();
    assert!(short.fits(4, longest + 2) && !short.fits(5, longest) && !short.fits(4, longest + 3));
    let full = generator.run(&p, &packer(&config), &prompts, &OutputIds::ending_with(99), 3, Sampling::default(), |_, _| ()).unwrap();
    assert_eq!(short.run(&p, &packer(&config), &prompts, &OutputIds::ending_with(99), 3, Sampling::default(), |_, _| ()).unwrap(), full);
    let mut short = Generator::sized(&config, &p, 4, longest - 1).unwrap();
    let refused = short.run(&p, &packer(&config), &prompts, &OutputIds::ending_with(99), 3, Sampling::default(), |_, _| ());
    assert!(matches!(refused, Err(Error::Usage(what)) if what.contains("allocated for")));
    let batch = packer(&config).pack(&sequences).unwrap();
    let refused = Scorer::new(&config, &p, batch.rows() - 1, &OutputIds::default()).unwrap().run(&p, &batch);
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
}
