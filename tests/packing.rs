//! What a sample computes does not depend on its neighbours in a batch.
//!
//! **Bit for bit**, on every device and in every precision, it does not depend on what its neighbours are: with other pictures,
//! sounds and words around it, every row of its logits, of its losses and of the gradient of the token matrix has the same bits.
//! (Its rows also stand where they stood; only what the others hold is another.)
//!
//! **Up to rounding** it does not depend on where it stands or on how many neighbours there are: alone, packed, and packed in
//! another order it computes the same numbers, in f64 to 1e-12. These are not the same bits, because sums are grouped by rows of the
//! token matrix, not of the sample: attention takes its keys in tiles that begin at the first key that any row of a block sees, and
//! the CPU's products are blocked by the number of rows. In PTX the sample that comes first, whose blocks no earlier sample shares,
//! does have the bits that it has alone.
//!
//! The gradient of a parameter is a sum over all rows. That of the batch is the sum of what the samples give alone, in f64 to 1e-12:
//! floating-point addition is not associative, so that the bits of a sum over all rows at once are not those of a sum of sums.
//!
//! The gradient carries the loss's weight of 1 / (rows that count). The samples here count four rows each, and there are four, so
//! that alone each has exactly four times the gradient that it has in the batch: a power of two, which rounds nothing.

use trimodal::check::{drawn_sequence, test_devices};
use trimodal::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence};
use trimodal::model::config::{AudioConfig, VisionConfig};
use trimodal::model::{Config, Parameters};
use trimodal::ops::case::Draw;
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device};

const WORDS: usize = 4;

/// `stem`: whether pictures come through convolutions.
fn config(bidirectional: bool, stem: bool) -> Config {
    let (patch_size, stem) = if stem { (4, Some("6, 6, 8/2".parse().unwrap())) } else { (8, None) };
    Config {
        hidden_size: 16,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 64,
        vision_config: Some(VisionConfig { image_size: 24, patch_size, bidirectional, stem, histograms: Vec::new() }),
        audio_config: Some(AudioConfig { num_mel_bins: 8, sample_rate: 16_000, clip_seconds: 0.1, layers: 2 }),
        ..Config::meadow(40)
    }
}

/// A sample of each kind. Another label draws others of the same lengths.
fn sequences(config: &Config, label: &str) -> Vec<Sequence> {
    let mut draw = Draw::new(label);
    [(true, true), (true, false), (false, true), (false, false)].map(|(picture, sound)| drawn_sequence(config, &mut draw, picture, sound, WORDS)).into()
}

fn pack<'a>(config: &Config, sequences: impl IntoIterator<Item = &'a Sequence>) -> Batch {
    let mut batch = Packer { config, budget: 200, placeholders: Placeholders { image: 1, audio: 2 } }.pack(sequences).unwrap();
    batch.all_logits();
    batch
}

/// What one step computes of each row, and the gradient of every parameter.
struct Computed {
    logits: Vec<f64>,
    losses: Vec<f64>,
    embedded_gradient: Vec<f64>,
    gradients: Vec<(String, Vec<f64>)>,
}

fn compute(config: &Config, device: &Device, real: DType, activation: DType, batch: &Batch) -> Computed {
    let parameters = Parameters::init(config, device, real, 7).unwrap();
    let mut trainer = Trainer::with_options(ActivationOptions::new(activation), config, parameters, Schedule::meadow(1), Capacity::of(batch)).unwrap();
    let forward = trainer.forward(batch).unwrap();
    let (logits, losses) = (forward.logits().read_f64().unwrap(), forward.row_losses().read_f64().unwrap());
    trainer.loss_and_gradients(batch).unwrap();
    let gradients = trainer.gradients.named().into_iter().map(|(name, g)| (name, g.read_f64().unwrap())).collect();
    Computed { logits, losses, embedded_gradient: trainer.activations().embedded_gradient().read_f64().unwrap(), gradients }
}

/// The rows of a sample that starts at this row: logits, losses, and the gradient of the token matrix, multiplied.
fn rows(config: &Config, of: &Computed, start: usize, count: usize, weight: f64) -> [(&'static str, Vec<f64>); 3] {
    let part = |values: &[f64], width: usize| values[start * width..(start + count) * width].to_vec();
    let gradient = part(&of.embedded_gradient, config.hidden_size).into_iter().map(|g| g * weight).collect();
    [("the logits", part(&of.logits, config.vocab_size)), ("the losses", part(&of.losses, 1)), ("the gradient of the token matrix", gradient)]
}

fn bits(rows: &[(&'static str, Vec<f64>)]) -> Vec<u64> {
    rows.iter().flat_map(|(_, values)| values.iter().map(|x| x.to_bits())).collect()
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt() / norm
}

fn check(config: &Config, device: &Device, real: DType, activation: DType) {
    let compute = |batch: &Batch| compute(config, device, real, activation, batch);
    let (all, others) = (sequences(config, "these"), sequences(config, "others"));
    let orders = [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]];
    let packed = orders.map(|order| compute(&pack(config, order.iter().map(|&i| &all[i]))));
    let start = |order: &[usize; 4], sample| order.iter().take_while(|&&other| other != sample).map(|&other| all[other].rows.len()).sum::<usize>();
    let mut sums: Vec<Vec<f64>> = packed[0].gradients.iter().map(|(_, g)| vec![0.0; g.len()]).collect();
    let allowed = match activation {
        DType::F64 => 1e-12,
        DType::F32 => 1e-5,
        _ => 0.03, // each number on its way is rounded to 8 bits
    };
    for (sample, sequence) in all.iter().enumerate() {
        let count = sequence.rows.len();
        let among_others = compute(&pack(config, (0..4).map(|i| if i == sample { sequence } else { &others[i] })));
        let first = start(&orders[0], sample);
        let [found, expected] = [&among_others, &packed[0]].map(|of| bits(&rows(config, of, first, count, 1.0)));
        let differing = found.iter().zip(&expected).filter(|(f, e)| f != e).count();
        assert!(differing == 0, "{device} {activation}: sample {sample} among others: {differing} of {} numbers have other bits", found.len());

        let batch = pack(config, [sequence]);
        assert_eq!(batch.counted(), WORDS);
        let alone = compute(&batch);
        let expected = rows(config, &alone, 0, count, 1.0);
        for (order, packed) in orders.iter().zip(&packed) {
            let start = start(order, sample);
            let found = rows(config, packed, start, count, all.len() as f64);
            for ((what, f), (_, e)) in found.iter().zip(&expected) {
                let error = relative(f, e);
                assert!(error <= allowed, "{device} {activation}: {what} of sample {sample} in the order {order:?} is off by {error:.1e}");
            }
            if start == 0 && device.to_string().starts_with("emulator") {
                assert!(bits(&found) == bits(&expected), "{device} {activation}: sample {sample}, the first in the order {order:?}, has other bits than alone");
            }
        }
        for (sum, (_, part)) in sums.iter_mut().zip(&alone.gradients) {
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p / all.len() as f64);
        }
    }
    for (order, packed) in orders.iter().zip(&packed) {
        for (sum, (name, packed)) in sums.iter().zip(&packed.gradients) {
            let error = relative(sum, packed);
            assert!(error <= allowed, "{device} {activation}: the gradient of {name} in the order {order:?} is off by {error:.1e}");
        }
    }
}

#[test]
fn neighbours_change_nothing() {
    for (bidirectional, stem) in [(true, false), (false, false), (true, true)] {
        let config = config(bidirectional, stem);
        check(&config, &Device::Cpu, DType::F64, DType::F64);
        for device in test_devices() {
            check(&config, &device, DType::F32, DType::F32);
        }
    }
}

#[test]
fn neighbours_change_nothing_in_ptx() {
    let emulator = Device::open("emulator", None).unwrap();
    for (stem, activation) in [(false, DType::F32), (false, DType::Bf16), (true, DType::F32), (true, DType::Bf16)] {
        check(&config(true, stem), &emulator, DType::F32, activation);
    }
}
