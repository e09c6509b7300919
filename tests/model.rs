//! The whole model: finite differences through every parameter, packing, overfitting, and one device against another.

mod common;

use common::{captions, sequences, tiny, tiny_with_stem, with_histograms, with_stem};
use trimodal::check::{drawn_sequence, test_devices};
use trimodal::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence, TokenRow};
use trimodal::model::impression::impressions;
use trimodal::model::{Config, Parameters};
use trimodal::ops::case::Draw;
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device, Error};

fn pack(config: &Config, sequences: &[Sequence]) -> Batch {
    Packer { config, budget: 200, placeholders: Placeholders { image: 1, audio: 2 } }.pack(sequences).unwrap()
}

fn trainer(config: &Config, device: &Device, dtype: DType, batch: &Batch, steps: usize) -> Trainer {
    telling(NONE, config, device, dtype, batch, steps)
}

/// What the losses beside the captions' weigh: words, captions.
type Losses = [f32; 2];
const NONE: Losses = [0.0, 0.0];

/// A trainer with these losses, which tells the captions of [`sequences`] apart.
fn telling([word_bag, contrastive]: Losses, config: &Config, device: &Device, dtype: DType, batch: &Batch, steps: usize) -> Trainer {
    let parameters = Parameters::init(config, device, dtype, 7).unwrap();
    let captions = captions(&pack(config, &sequences(config)));
    let options = ActivationOptions { word_bag, contrastive, captions: captions.len(), ..ActivationOptions::new(dtype) };
    let schedule = Schedule { warmup: 1, ..Schedule::meadow(steps) };
    let mut trainer = Trainer::with_options(options, config, parameters, schedule, Capacity::of(batch)).unwrap();
    trainer.tell_apart(&captions).unwrap();
    trainer
}

/// What a step goes down: the captions' loss, and the others as they weigh.
fn total_loss(trainer: &mut Trainer, batch: &Batch) -> f64 {
    trainer.loss_and_gradients(batch).unwrap();
    let activations = trainer.activations();
    [Some(activations.loss()), activations.word_bag_loss(), activations.contrastive_loss()].into_iter().flatten().map(|loss| loss.read_f64().unwrap()[0]).sum()
}

fn gradients(trainer: &Trainer) -> Vec<(String, Vec<f64>)> {
    trainer.gradients.named().into_iter().map(|(name, g)| (name, g.read_f64().unwrap())).collect()
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt() / norm
}

/// Every parameter tensor has a finite, non-zero gradient that central differences confirm, tied and untied, with an eye of convolutions,
/// with words that are told from picture and sound alone.
#[test]
fn finite_differences_through_the_whole_model() {
    for (config, tied, losses) in [
        (tiny(), true, NONE),
        (tiny(), false, NONE),
        (tiny(), true, [0.7, 0.0]),
        (tiny(), true, [0.0, 3.0]),
        (tiny_with_stem(), true, NONE),
        (tiny_with_stem(), true, [1.5, 0.0]),
        (tiny_with_stem(), false, [0.7, 0.0]),
        (tiny_with_stem(), false, [0.0, 4.0]),
        (with_stem(tiny(), 2, "5, 5, 7/2, 6/2, whole"), true, [0.7, 2.0]),
        (with_histograms(tiny(), &[3, 2]), true, NONE),
        (with_histograms(with_stem(tiny(), 2, "5, 6/2"), &[1, 4, 2]), false, [0.7, 5.0]),
    ] {
        let config = Config { tie_word_embeddings: tied, ..config };
        config.validate().unwrap();
        let batch = pack(&config, &sequences(&config));
        let mut trainer = telling(losses, &config, &Device::Cpu, DType::F64, &batch, 1);
        trainer.loss_and_gradients(&batch).unwrap();
        let analytic = gradients(&trainer);
        let mut draw = Draw::new("elements");
        for (index, (name, gradient)) in analytic.iter().enumerate() {
            assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
            assert!(gradient.iter().any(|&g| g != 0.0), "{name} has no gradient");
            let scale = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            for _ in 0..8 {
                let element = draw.below(gradient.len());
                let mut loss = |shift: f64| {
                    trainer.parameters.each_mut()[index].cpu_mut::<f64>()[element] += shift;
                    let loss = total_loss(&mut trainer, &batch);
                    trainer.parameters.each_mut()[index].cpu_mut::<f64>()[element] -= shift;
                    loss
                };
                let h = 1e-5; // small against the embeddings, which start at 0.02
                let numeric = (8.0 * (loss(h) - loss(-h)) - (loss(2.0 * h) - loss(-2.0 * h))) / (12.0 * h);
                let error = (numeric - gradient[element]).abs();
                assert!(error <= 1e-6 * scale + 1e-10, "{name}[{element}]: {} by central differences, {} by backward", numeric, gradient[element]);
            }
        }
    }
}

/// The mean over counted rows: gradients of the parts, weighted by their counts, are the gradient of the whole.
#[test]
fn gradients_of_the_parts_add_up() {
    add_up(&tiny(), NONE);
    add_up(&tiny(), [0.7, 0.0]);
    add_up(&tiny(), [0.0, 3.0]);
    add_up(&tiny_with_stem(), [0.7, 0.0]);
    add_up(&with_stem(tiny(), 2, "5, 5, 7/2, 6/2, whole"), [0.7, 2.0]);
    add_up(&with_histograms(tiny(), &[3, 2]), [0.7, 0.0]);
}

fn add_up(config: &Config, losses: Losses) {
    let all = sequences(config);
    let packed = pack(config, &all);
    let mut together = telling(losses, config, &Device::Cpu, DType::F64, &packed, 1);
    together.loss_and_gradients(&packed).unwrap();
    let expected = gradients(&together);
    let mut sums: Vec<Vec<f64>> = expected.iter().map(|(_, g)| vec![0.0; g.len()]).collect();
    for sequence in &all {
        let batch = pack(config, std::slice::from_ref(sequence));
        let mut alone = telling(losses, config, &Device::Cpu, DType::F64, &batch, 1);
        alone.loss_and_gradients(&batch).unwrap();
        let share = batch.counted() as f64 / packed.counted() as f64;
        for (sum, (_, part)) in sums.iter_mut().zip(gradients(&alone)) {
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += share * p);
        }
    }
    for (sum, (name, expected)) in sums.iter().zip(&expected) {
        // The mean's weight 1/counted is an f32, as the kernel takes it.
        assert!(relative(sum, expected) < 1e-6, "{name}: {}", relative(sum, expected));
    }
}

/// A batch without a picture, or without anything to tell words from, after one with pictures: its loss and gradients are those that it
/// has in a trainer that saw no other, and the eye's are zero, on every device.
#[test]
fn a_batch_without_pictures_teaches_the_eye_nothing() {
    let config = tiny_with_stem();
    let all = sequences(&config);
    let large = pack(&config, &all);
    let batches = [&all[2..], &all[3..]].map(|part| pack(&config, part));
    assert!(batches.iter().all(|batch| batch.images == 0 && batch.whole_row.is_empty()) && batches[0].clips == 1 && batches[1].clips == 0);
    for device in test_devices().into_iter().chain([Device::open("emulator", None).unwrap()]) {
        for batch in &batches {
            let (mut used, mut new) = [&large, batch].map(|batch| telling([0.7, 2.0], &config, &device, DType::F32, batch, 1)).into();
            total_loss(&mut used, &large);
            let (found, expected) = (total_loss(&mut used, batch), total_loss(&mut new, batch));
            assert!(found == expected && found > 0.0, "{device}: {found} and {expected}");
            for ((name, found), (_, expected)) in gradients(&used).iter().zip(&gradients(&new)) {
                assert!(found == expected, "{device}: the gradient of {name} is another one after a batch with pictures");
                assert!(!name.starts_with("vision_") || found.iter().all(|g| *g == 0.0), "{device}: {name}");
            }
        }
    }
}

/// What is seen of a sample is a direction, the same alone and among others, the same for the same picture and sound whatever is said of them;
/// nothing of a sample without either.
#[test]
fn what_is_seen_of_a_sample_is_its_own() {
    for config in [tiny(), tiny_with_stem(), with_histograms(tiny(), &[3, 2])] {
        let parameters = Parameters::init(&config, &Device::Cpu, DType::F64, 7).unwrap();
        let look = |sequences: &[Sequence]| impressions(&config, &parameters, Placeholders { image: 1, audio: 2 }, sequences).unwrap();
        let mut all = sequences(&config);
        let together = look(&all);
        assert_eq!(together.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
        for row in together.iter().flatten() {
            assert!(row.len() == config.hidden_size && (row.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let near = |a: &Option<Vec<f64>>, b: &Option<Vec<f64>>| a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-12);
        for (sequence, expected) in all.iter().zip(&together) {
            assert!(near(&look(std::slice::from_ref(sequence))[0], expected));
        }
        let (first, second) = (together[0].clone(), together[1].clone());
        assert!(!near(&first, &second));
        let shorter = all[0].rows.len() - 2;
        all[0].rows.truncate(shorter);
        assert!(near(&look(&all[..1])[0], &first));
        // More than are looked at together, the later ones of more rows.
        let mixed: Vec<Sequence> = (0..130).map(|i| all[if i < 64 { 3 } else { 0 }].clone()).collect();
        assert!(look(&mixed).iter().enumerate().all(|(i, row)| if i < 64 { row.is_none() } else { near(row, &first) }));
        let many: Vec<Sequence> = (0..150).map(|i| all[i % 2].clone()).collect();
        assert!(look(&many).iter().enumerate().all(|(i, row)| near(row, if i % 2 == 0 { &first } else { &second })));
    }
}

/// Eight samples by heart, on every device.
#[test]
fn eight_samples_can_be_learned_by_heart() {
    let config = Config { hidden_size: 32, intermediate_size: 64, head_dim: 8, ..tiny() };
    let mut draw = Draw::new("by heart");
    let all: Vec<_> = (0..8).map(|i| drawn_sequence(&config, &mut draw, i % 4 != 3, i % 3 != 2, 5)).collect();
    let batch = pack(&config, &all);
    for device in test_devices() {
        let mut trainer = trainer(&config, &device, DType::F32, &batch, 250);
        let mut loss = f32::NAN;
        for _ in 0..250 {
            loss = trainer.step(&batch).unwrap().loss;
            if loss < 0.01 {
                break;
            }
        }
        assert!(loss < 0.01, "{device}: loss {loss} after {} steps", trainer.step);
    }
}

/// Fifty steps on each device: losses stay together, and the first step's gradients are the same.
#[test]
fn devices_agree_over_fifty_steps() {
    agree(&tiny(), NONE);
    agree(&tiny_with_stem(), [0.7, 0.0]);
    agree(&with_stem(tiny(), 2, "5, 5, 7/2, 6/2, whole"), NONE);
    agree(&with_histograms(tiny(), &[3, 2]), [0.7, 3.0]);
    agree(&with_histograms(tiny_with_stem(), &[4, 1]), [0.0, 2.0]);
}

fn agree(config: &Config, losses: Losses) {
    let batch = pack(config, &sequences(config));
    let run = |device: &Device| {
        let mut trainer = telling(losses, config, device, DType::F32, &batch, 50);
        trainer.loss_and_gradients(&batch).unwrap();
        let first = gradients(&trainer);
        let losses: Vec<f64> = (0..50).map(|_| trainer.step(&batch).unwrap().loss as f64).collect();
        (first, losses)
    };
    let (expected, expected_losses) = run(&Device::Cpu);
    for device in test_devices().iter().skip(1) {
        let (found, losses) = run(device);
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            assert!(relative(found, expected) < 1e-5, "{device}: gradient of {name}: {}", relative(found, expected));
        }
        for (step, (found, expected)) in losses.iter().zip(&expected_losses).enumerate() {
            assert!((found - expected).abs() <= 1e-3 * expected.abs() + 1e-5, "{device}: loss of step {step}: {found} and {expected}");
        }
    }
}

/// The output layer's loss and its gradients chunk by chunk are those of all rows at once, on every device, for chunks that do not
/// divide the rows, with rows that do not count, and with room for more rows than there are.
#[test]
fn the_loss_in_chunks_is_the_loss_at_once() {
    for tied in [true, false] {
        let config = Config { tie_word_embeddings: tied, ..tiny() };
        let mut batch = pack(&config, &sequences(&config));
        batch.all_logits();
        let (rows, whole) = (batch.rows(), Capacity::of(&batch));
        let run = |device: &Device, dtype: DType, capacity: Capacity| {
            let parameters = Parameters::init(&config, device, dtype, 7).unwrap();
            let mut trainer = Trainer::new(&config, parameters, Schedule::meadow(1), capacity).unwrap();
            trainer.loss_and_gradients(&batch).unwrap();
            let loss = trainer.forward(&batch).unwrap().loss().read_f64().unwrap()[0];
            (loss, gradients(&trainer))
        };
        let expected = run(&Device::Cpu, DType::F64, whole);
        let compare = |device: &Device, dtype: DType, capacity: Capacity, allowed: f64| {
            let found = run(device, dtype, capacity);
            assert!((found.0 - expected.0).abs() <= allowed * expected.0, "{device} {capacity:?}: {} instead of {}", found.0, expected.0);
            for ((name, f), (_, e)) in found.1.iter().zip(&expected.1) {
                let error = relative(f, e);
                assert!(error <= allowed, "{device} {capacity:?}: {name} is off by {error:.1e}");
            }
        };
        for chunk in [1, 7, 32, rows - 1] {
            compare(&Device::Cpu, DType::F64, Capacity { chunk, ..whole }, 1e-12);
        }
        compare(&Device::Cpu, DType::F64, Capacity { chunk: 32, logits: rows + 70, ..whole }, 1e-12);
        for device in test_devices() {
            for capacity in [whole, Capacity { chunk: 29, ..whole }, Capacity { chunk: 32, logits: rows + 70, ..whole }] {
                compare(&device, DType::F32, capacity, 1e-4);
            }
        }
    }
}

/// The last layer computes the rows with logits alone. That is what it computes of them where it computes every row: the loss and every
/// gradient, whichever rows have logits, in whatever order, and where none has.
#[test]
fn rows_that_nobody_reads_are_not_missed() {
    let config = tiny();
    let plain = pack(&config, &sequences(&config));
    let mut all = plain.clone();
    all.all_logits();
    let mut turned = plain.clone();
    turned.logit_row.reverse();
    turned.logit_target.reverse();
    let nothing = Batch { target: vec![-1; plain.rows()], logit_row: Vec::new(), logit_target: Vec::new(), ..plain.clone() };
    let emulator = Device::open("emulator", None).unwrap();
    for (batch, what) in [(&plain, "as it is"), (&all, "all rows"), (&turned, "turned round"), (&nothing, "nothing counts")] {
        let run = |device: &Device, dtype: DType, every_row: bool, recompute: bool| {
            let options = ActivationOptions { every_row, recompute, ..ActivationOptions::new(dtype) };
            let parameters = Parameters::init(&config, device, dtype, 7).unwrap();
            let mut trainer = Trainer::with_options(options, &config, parameters, Schedule::meadow(1), Capacity::of(batch)).unwrap();
            let loss = trainer.loss_and_gradients(batch).unwrap() as f64;
            (loss, gradients(&trainer))
        };
        let expected = run(&Device::Cpu, DType::F64, true, false);
        assert_eq!(expected.0 == 0.0, batch.logit_row.is_empty());
        let devices = test_devices().into_iter().chain([emulator.clone()]).map(|device| (device, DType::F32, 1e-4f64));
        for (device, dtype, allowed) in devices.chain([(Device::Cpu, DType::F64, 1e-12)]) {
            for recompute in [false, true] {
                let found = run(&device, dtype, false, recompute);
                assert!((found.0 - expected.0).abs() <= allowed.max(1e-7) * expected.0, "{device}, {what}: {} instead of {}", found.0, expected.0);
                for ((name, f), (_, e)) in found.1.iter().zip(&expected.1) {
                    let error = if batch.logit_row.is_empty() { f.iter().fold(0.0, |sum, x| sum + x.abs()) } else { relative(f, e) };
                    assert!(error <= allowed, "{device} {dtype}, {what}: {name} is off by {error:.1e}");
                }
            }
        }
    }
}

/// A placeholder too many, a picture of another size, a token beyond the vocabulary, a sample too long: errors, no panic.
#[test]
fn what_does_not_fit_is_refused() {
    let config = tiny();
    let good = sequences(&config).remove(0);
    let refused = |change: fn(&mut Sequence), part: &str| {
        let mut sequence = good.clone();
        change(&mut sequence);
        let error = Packer { config: &config, budget: 200, placeholders: Placeholders { image: 1, audio: 2 } }
            .add(&mut Batch::default(), &sequence)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(|s| s.rows.push(TokenRow::Patch), "expected 9 placeholder rows, one for each embedded row, found 10");
    refused(|s| s.pixels.as_mut().unwrap().truncate(5), "picture: expected 432 values, found 5");
    refused(|s| s.mel = None, "sound: expected 0 placeholder rows");
    refused(|s| s.rows.push(TokenRow::Token { id: 99, truth: 0, learned: true }), "token 99: the vocabulary has 23");
    refused(|s| s.rows.extend(vec![s.rows[0]; 100]), "too long");

    // With a stem a picture has a row more than it has places.
    let config = tiny_with_stem();
    let good = sequences(&config).remove(0);
    let without = Sequence { rows: good.rows.iter().copied().filter(|row| *row != TokenRow::Whole).collect(), ..good.clone() };
    assert_eq!((good.rows.len(), without.rows.len()), (1 + 5 + 3 + 4, 1 + 4 + 3 + 4));
    let error = Packer { config: &config, budget: 200, placeholders: Placeholders { image: 1, audio: 2 } }.pack([&without]).unwrap_err().to_string();
    assert!(error.contains("picture: expected 5 placeholder rows, one for each embedded row, found 4"), "{error}");
}

/// In the eye it is named with the convolution and the sample whose picture it is.
#[test]
fn a_bad_number_in_the_eye_is_traced_to_where_it_began() {
    let config = tiny_with_stem();
    let mut all = sequences(&config);
    all.iter_mut().enumerate().for_each(|(i, s)| s.name = format!("sample-{i}"));
    let batch = pack(&config, &all);
    for device in test_devices() {
        let mut trainer = telling([0.7, 2.0], &config, &device, DType::F32, &batch, 5);
        trainer.step(&batch).unwrap();
        let spoiled = |trainer: &mut Trainer, parameter: &str, value: f64| {
            let index = trainer.parameters.named().iter().position(|(name, _)| name == parameter).unwrap();
            let good = trainer.parameters.each()[index].read_f64().unwrap();
            trainer.parameters.each_mut()[index].write_f64(&vec![value; good.len()]).unwrap();
            let message = trainer.step(&batch).unwrap_err().to_string();
            trainer.parameters.each_mut()[index].write_f64(&good).unwrap();
            message
        };
        let message = spoiled(&mut trainer, "vision_stem.conv3.weight", 3e38);
        assert!(message.contains("convolution 3 of the eye (first in picture 0, of the sample sample-0)"), "{device}: {message}");
        let message = spoiled(&mut trainer, "vision_stem.places.weight", f64::NAN);
        assert!(message.contains("the parameter vision_stem.places.weight is not finite"), "{device}: {message}");
        trainer.step(&batch).unwrap();
    }
}

/// A number that goes bad is named with the step, the first tensor that it shows in, in the order of the computation, and the
/// samples; the parameters are as before the step, and a good batch then works.
#[test]
fn a_bad_number_is_traced_to_where_it_began() {
    let config = tiny();
    let mut all = sequences(&config);
    all.iter_mut().enumerate().for_each(|(i, s)| s.name = format!("sample-{i}"));
    let good = pack(&config, &all);
    assert_eq!(good.names, ["sample-0", "sample-1", "sample-2", "sample-3"]);
    all[2].mel.as_mut().unwrap()[3] = f32::NAN;
    let deaf = pack(&config, &all);
    for device in test_devices() {
        let mut trainer = trainer(&config, &device, DType::F32, &good, 5);
        let bits = |trainer: &Trainer| trainer.parameters.each().iter().flat_map(|p| p.read::<f32>().unwrap()).map(f32::to_bits).collect::<Vec<_>>();
        trainer.step(&good).unwrap();
        let before = bits(&trainer);
        let said = |trainer: &mut Trainer, batch: &Batch| match trainer.step(batch) {
            Err(error @ Error::NonFinite { step: 2, .. }) => error.to_string(),
            Err(other) => panic!("{device}: {other}"),
            Ok(report) => panic!("{device}: {report:?}"),
        };
        let message = said(&mut trainer, &deaf);
        assert!(message.starts_with("step 2: a sound's mel frames (the input) is not finite, in the batch of sample-0, sample-1, sample-2"), "{message}");
        assert!(bits(&trainer) == before, "{device}: a bad step changed a parameter");

        // Finite parameters that overflow on their way: layer 1's gate, of every sample; the first of its rows is sample 0's first that
        // predicts something.
        let first = good.logit_row[0];
        let index = trainer.parameters.named().iter().position(|(name, _)| name == "model.layers.1.mlp.gate_proj.weight").unwrap();
        let gate = trainer.parameters.each()[index].read_f64().unwrap();
        trainer.parameters.each_mut()[index].write_f64(&vec![3e38; gate.len()]).unwrap();
        let message = said(&mut trainer, &good);
        assert!(message.contains(&format!("the gate of layer 1 (first in row {first}, of the sample sample-0)")), "{device}: {message}");
        trainer.parameters.each_mut()[index].write_f64(&vec![f64::NAN; gate.len()]).unwrap();
        let message = said(&mut trainer, &good);
        assert!(message.contains("the parameter model.layers.1.mlp.gate_proj.weight"), "{device}: {message}");
        trainer.parameters.each_mut()[index].write_f64(&gate).unwrap();
        assert!(bits(&trainer) == before && trainer.step == 1, "{device}");
        trainer.step(&good).unwrap();
    }
}
