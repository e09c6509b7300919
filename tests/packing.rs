//! What a sample computes does not depend on its neighbours in a batch.
//!
//! Bit for bit, alone, packed, and packed in another order: every row of the logits, of the losses, and of the gradient of the token
//! matrix. The gradient carries the loss's weight of 1 / (rows that count): the samples here count four rows each, and there are
//! four, so that a sample alone has exactly four times the gradient that it has in the batch, and multiplying by a power of two
//! rounds nothing.
//!
//! The gradient of a parameter is a sum over rows, and floating-point addition is not associative: over all rows at once it is not
//! to the bit the sum of what each sample gives. (Matmul even splits long sums over rows by their number.) In f64 they agree to
//! 1e-12, which is rounding; a row that leaked into a neighbour's sample would show in the first digits. The bits that do not
//! depend on neighbours are those of everything that the sum is over.

use trimodal::check::{drawn_sequence, test_devices};
use trimodal::model::batch::{Batch, Capacity, Packer, Placeholders, Sequence};
use trimodal::model::config::{AudioConfig, VisionConfig};
use trimodal::model::{Config, Parameters};
use trimodal::ops::case::Draw;
use trimodal::train::{Options, Schedule, Trainer};
use trimodal::{DType, Device};

const WORDS: usize = 4;

fn config(bidirectional: bool) -> Config {
    Config {
        hidden_size: 16,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 64,
        vision_config: Some(VisionConfig { image_size: 24, patch_size: 8, bidirectional }),
        audio_config: Some(AudioConfig { num_mel_bins: 8, sample_rate: 16_000, clip_seconds: 0.1, layers: 2 }),
        ..Config::meadow(40)
    }
}

fn sequences(config: &Config) -> Vec<Sequence> {
    let mut draw = Draw::new("neighbours");
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
    let mut trainer = Trainer::with_options(Options::new(activation), config, parameters, Schedule::meadow(1), Capacity::of(batch)).unwrap();
    let forward = trainer.forward(batch).unwrap();
    let (logits, losses) = (forward.logits().read_f64().unwrap(), forward.row_losses().read_f64().unwrap());
    trainer.loss_and_gradients(batch).unwrap();
    let gradients = trainer.gradients.named().into_iter().map(|(name, g)| (name, g.read_f64().unwrap())).collect();
    Computed { logits, losses, embedded_gradient: trainer.activations().embedded_gradient().read_f64().unwrap(), gradients }
}

/// The rows of a sample that starts at this row, as bits, with the gradient multiplied.
fn rows(config: &Config, of: &Computed, start: usize, count: usize, weight: f64) -> Vec<u64> {
    let part = |values: &[f64], width: usize| values[start * width..(start + count) * width].to_vec();
    let gradient = part(&of.embedded_gradient, config.hidden_size).into_iter().map(|g| g * weight);
    part(&of.logits, config.vocab_size).into_iter().chain(part(&of.losses, 1)).chain(gradient).map(f64::to_bits).collect()
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt() / norm
}

fn check(config: &Config, device: &Device, real: DType, activation: DType) {
    let all = sequences(config);
    let orders = [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]];
    let packed = orders.map(|order| compute(config, device, real, activation, &pack(config, order.iter().map(|&i| &all[i]))));
    let mut sums: Vec<Vec<f64>> = packed[0].gradients.iter().map(|(_, g)| vec![0.0; g.len()]).collect();
    for (sample, sequence) in all.iter().enumerate() {
        let batch = pack(config, [sequence]);
        assert_eq!(batch.counted(), WORDS);
        let alone = compute(config, device, real, activation, &batch);
        let expected = rows(config, &alone, 0, sequence.rows.len(), 1.0);
        for (order, packed) in orders.iter().zip(&packed) {
            let start = order.iter().take_while(|&&other| other != sample).map(|&other| all[other].rows.len()).sum();
            let found = rows(config, packed, start, sequence.rows.len(), all.len() as f64);
            let differing = found.iter().zip(&expected).filter(|(f, e)| f != e).count();
            assert!(differing == 0, "{device} {activation}: sample {sample} in the order {order:?}: {differing} of {} numbers have other bits", found.len());
        }
        for (sum, (_, part)) in sums.iter_mut().zip(&alone.gradients) {
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p / all.len() as f64);
        }
    }
    let allowed = if real == DType::F64 { 1e-12 } else { 1e-5 };
    for (order, packed) in orders.iter().zip(&packed) {
        for (sum, (name, packed)) in sums.iter().zip(&packed.gradients) {
            let error = relative(sum, packed);
            assert!(error <= allowed, "{device} {activation}: {name} in the order {order:?} is off by {error:.1e}");
        }
    }
}

#[test]
fn a_sample_computes_the_same_bits_alone_and_packed() {
    for bidirectional in [true, false] {
        let config = config(bidirectional);
        check(&config, &Device::Cpu, DType::F64, DType::F64);
        for device in test_devices() {
            check(&config, &device, DType::F32, DType::F32);
        }
    }
}

#[test]
fn a_sample_computes_the_same_bits_alone_and_packed_in_ptx() {
    let (config, emulator) = (config(true), Device::open("emulator", None).unwrap());
    for activation in [DType::F32, DType::Bf16] {
        check(&config, &emulator, DType::F32, activation);
    }
}
