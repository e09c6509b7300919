//! Choosing the next word: one id per row of logits.
//!
//! Temperature 0 is greedy: the id of the largest logit, of equal ones the lowest. Otherwise
//! `p[v] ∝ exp((logits[v] − max) / temperature)` over the ids whose logit is at least the k-th largest (more than k where the
//! k-th is tied, as Hugging Face's `TopKLogitsWarper`), and the choice is the inverse of the cumulative distribution at a given
//! uniform number: the lowest id whose cumulative probability, in the order of ids, exceeds it. There is no backward pass.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::dims_bytes;
use super::{Sizes, activation, expect_len, on_real, rows_per_task, size, statistic, sum};
use crate::device::cpu::Real;
use crate::device::{Device, Launch, variant};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use rayon::prelude::*;

const OP: &str = "sample";

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    rows: u32,
    vocabulary: u32,
    top_k: u32,
    inverse_temperature: f32,
}

/// One id per row.
///
/// Shapes: `logits [R, V]`, `random [R]` in [0, 1) (not read when greedy), `id [R]` i32, overwritten. `temperature` 0: greedy.
/// `top_k` 0: all ids. dtype f32 (f64 on the CPU; the logits also bf16 where the device has it, `random` is then f32). The same numbers give the same ids on every run.
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit, or for a temperature that is negative or not finite.
pub fn forward(logits: &Tensor, temperature: f32, top_k: usize, random: &Tensor, id: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "logits", logits)?;
    let device = logits.device().clone();
    let vocabulary = logits.row_len();
    if vocabulary == 0 {
        return Err(Error::mismatch(OP, "logits", "rows of at least one logit", logits.shape()));
    }
    if !(0.0..f32::INFINITY).contains(&temperature) {
        return Err(Error::mismatch(OP, "temperature", "a number from 0", temperature));
    }
    expect_len(OP, "random", random, [logits.rows()], statistic(dtype), &device)?;
    expect_len(OP, "id", id, [logits.rows()], DType::I32, &device)?;
    let dims = Dims {
        rows: size(OP, "rows", logits.rows())?,
        vocabulary: size(OP, "vocabulary", vocabulary)?,
        top_k: if top_k < vocabulary { top_k as u32 } else { 0 },
        // Finite however small the temperature is: 0 · ∞ would be no number.
        inverse_temperature: if temperature == 0.0 { 0.0 } else { (1.0 / temperature).min(1e30) },
    };
    match &device {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, logits, random, id)),
        Device::Gpu(gpu) => gpu.launch(Launch {
            kernel: (OP, "forward"),
            constants: &[],
            variant: variant(dtype),
            buffers: &[Some(logits), Some(random), Some(id)],
            dims: dims_bytes(&dims),
            groups: logits.rows(),
        })?,
    }
    Ok(())
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn forward_cpu<T: Real>(dims: Dims, logits: &Tensor, random: &Tensor, id: &mut Tensor) {
    let vocabulary = dims.vocabulary as usize;
    let rows = rows_per_task(vocabulary);
    let given = logits.cpu::<T>().par_chunks(rows * vocabulary).zip(random.cpu::<T>().par_chunks(rows));
    id.cpu_mut::<i32>().par_chunks_mut(rows).zip(given).for_each(|(id, (logits, random))| {
        let mut order = Vec::new();
        for ((id, logits), &random) in id.iter_mut().zip(logits.chunks_exact(vocabulary)).zip(random) {
            *id = choose(dims, logits, random, &mut order) as i32;
        }
    });
}

/// `order` is room for a copy of the row.
fn choose<T: Real>(dims: Dims, logits: &[T], random: T, order: &mut Vec<T>) -> usize {
    let best = (1..logits.len()).fold(0, |best, v| if logits[v] > logits[best] { v } else { best });
    if dims.inverse_temperature == 0.0 {
        return best;
    }
    let mut threshold = T::min_value();
    if dims.top_k > 0 {
        order.clear();
        // A NaN, if there is one, ranks last: the order must be total.
        order.extend(logits.iter().map(|&x| if x.is_nan() { T::min_value() } else { x }));
        let (_, kth, _) = order.select_nth_unstable_by(dims.top_k as usize - 1, |a, b| b.partial_cmp(a).expect("no NaN is left"));
        threshold = *kth;
    }
    let weight = |x: T| if x >= threshold { ((x - logits[best]) * T::of(dims.inverse_temperature as f64)).fast_exp() } else { T::zero() };
    let goal = random * sum(logits.iter().map(|&x| weight(x)));
    let (mut before, mut last) = (T::zero(), best);
    for (v, &x) in logits.iter().enumerate() {
        let weight = weight(x);
        before += weight;
        if before > goal {
            return v;
        }
        if weight > T::zero() {
            last = v; // where rounding lets the walk end without a hit: the last id that had a chance
        }
    }
    last
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// `(rows R, vocabulary V)`
const SHAPES: &[(usize, usize)] = &[
    (0, 4), (1, 1), (3, 2), (5, 3), (4, 8), (7, 31), (3, 32), (9, 33), (2, 63), (5, 64), (3, 65), (33, 127), (2, 128), (3, 129), (4, 255), (3, 256), (5, 257),
    (8, 450), (2, 511), (2, 512), (3, 513), (2, 1021), (2, 2049), (1, 10_007), (1, 16_392), (1, 100_003),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(rows, vocabulary) in SHAPES {
        for (temperature, top_k) in [(0.0, 0), (1.0, 0), (0.7, 1), (1.3, 5), (0.5, vocabulary / 2), (1.0, vocabulary + 3)] {
            cases.push(case(rows, vocabulary, temperature, top_k, false));
        }
        // Logits that repeat: ties for the best and for the k-th.
        for (temperature, top_k) in [(0.0, 0), (1.0, 3)] {
            cases.push(case(rows, vocabulary, temperature, top_k, true));
        }
    }
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The case at a model's sizes: the words that 32 captions continue with.
pub fn sized(s: &Sizes) -> Vec<Case> {
    vec![case(32, s.vocabulary, 1.0, 20, false)]
}

fn case(rows: usize, vocabulary: usize, temperature: f32, top_k: usize, ties: bool) -> Case {
    let label = format!("R={rows} V={vocabulary} temperature={temperature} top_k={top_k}{}", if ties { " ties" } else { "" });
    let mut draw = Draw::new(&label);
    let logits = if ties { draw.integers("logits", [rows, vocabulary], 2) } else { draw.normals("logits", [rows, vocabulary], 3.0) };
    let logits = logits.mixed();
    let given = logits.clone();
    let random = Operand::lazy("random", [rows], Kind::Real, move || {
        let rounded = given.rounded(DType::Bf16);
        let rows_of_both = given.values.chunks_exact(vocabulary).zip(rounded.values.chunks_exact(vocabulary));
        rows_of_both.map(|(logits, rounded)| clear_choice(&mut draw, [logits, rounded], temperature, top_k)).collect()
    })
    .timed_as(move || vec![0.5; rows]);
    let inputs = vec![logits, random];
    let outputs = vec![Output::overwritten("id", [rows], Kind::I32)];
    Case::new("forward", label, inputs, outputs, Compare::Exact, move |i, o| forward(&i[0], temperature, top_k, &i[1], &mut o[0])).naive(move |i, o| {
        on_real!(i[0].dtype(), naive::<T>(i, o, temperature, top_k));
        Ok(())
    })
    .flops(10 * (rows * vocabulary) as u64)
}

/// Of a few uniform numbers the one that lies farthest inside its id's interval, both for the logits and for the same rounded to
/// bf16: no rounding of the cumulative sums reaches an end of either.
fn clear_choice(draw: &mut Draw, both: [&[f64]; 2], temperature: f32, top_k: usize) -> f64 {
    if temperature == 0.0 {
        return draw.uniform();
    }
    let ends = both.map(|logits| {
        let mut ends = naive_weights(logits, temperature, top_k);
        let total: f64 = ends.iter().sum();
        let mut end = 0.0;
        for weight in &mut ends {
            end += *weight / total;
            *weight = end;
        }
        ends
    });
    let depth = |ends: &[f64], u: f64| {
        let hit = ends.partition_point(|&end| end <= u);
        let start = if hit == 0 { f64::MIN } else { ends[hit - 1] }; // nothing lies below the first
        ends.get(hit).map_or(0.0, |end| (u - start).min(end - u))
    };
    let drawn = (0..32).map(|_| draw.uniform() as f32 as f64);
    drawn.map(|u| (depth(&ends[0], u).min(depth(&ends[1], u)), u)).fold((-1.0, 0.0), |best, found| if found.0 > best.0 { found } else { best }).1
}

/// Unnormalised probabilities by plain sorting.
fn naive_weights<T: Real>(logits: &[T], temperature: f32, top_k: usize) -> Vec<T> {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.partial_cmp(a).expect("cases have no NaN"));
    let threshold = sorted[if top_k == 0 { logits.len() } else { top_k.min(logits.len()) } - 1];
    let inverse = T::of((1.0 / temperature) as f64);
    logits.iter().map(|&x| if x >= threshold { ((x - sorted[0]) * inverse).exp() } else { T::zero() }).collect()
}

fn naive<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor], temperature: f32, top_k: usize) {
    let vocabulary = inputs[0].row_len();
    for (row, logits) in inputs[0].cpu::<T>().chunks_exact(vocabulary).enumerate() {
        let id = if temperature == 0.0 {
            (0..vocabulary).find(|&v| logits.iter().all(|&other| logits[v] >= other)).expect("a largest logit")
        } else {
            let weights = naive_weights(logits, temperature, top_k);
            let goal = inputs[1].cpu::<T>()[row] * sum(weights.iter().copied());
            let mut before = T::zero();
            weights.iter().position(|&w| { before += w; before > goal }).expect("cases stay inside an interval")
        };
        outputs[0].cpu_mut::<i32>()[row] = id as i32;
    }
}

/// There is no backward pass.
pub fn gradients() -> Vec<GradientCase> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op, test_devices};
    use proptest::prelude::any;

    fn one(device: &Device, logits: &[f32], temperature: f32, top_k: usize, random: f32) -> i32 {
        let logits = Tensor::from_slice(device, [1, logits.len()], logits).unwrap();
        let random = Tensor::from_slice(device, [1], &[random]).unwrap();
        let mut id = Tensor::zeros(device, [1], DType::I32).unwrap();
        forward(&logits, temperature, top_k, &random, &mut id).unwrap();
        id.read::<i32>().unwrap()[0]
    }

    #[test]
    fn known_choices() {
        let log = |p: f32| p.ln();
        let logits = [log(0.1), log(0.4), log(0.2), log(0.3)];
        for device in test_devices() {
            let one = |temperature, top_k, random| one(&device, &logits, temperature, top_k, random);
            assert_eq!(one(0.0, 0, 0.99), 1);
            assert_eq!([0.05, 0.15, 0.45, 0.55, 0.65, 0.75, 0.999].map(|u| one(1.0, 0, u)), [0, 1, 1, 2, 2, 3, 3]);
            // The two best: 4/7 and 3/7.
            assert_eq!([0.0, 0.5, 0.6, 0.999].map(|u| one(1.0, 2, u)), [1, 1, 3, 3]);
            assert_eq!([0.0, 0.5, 0.999].map(|u| one(5.0, 1, u)), [1, 1, 1]);
            // A temperature so small that it is greedy again.
            assert_eq!([0.0, 0.5, 0.999].map(|u| one(1e-40, 0, u)), [1, 1, 1]);
        }
    }

    #[test]
    fn ties_go_to_the_lowest_id_and_stay_in_top_k() {
        for device in test_devices() {
            assert_eq!(one(&device, &[-1.0, 2.0, 0.0, 2.0], 0.0, 0, 0.0), 1);
            assert_eq!(one(&device, &[-0.0, 0.0], 0.0, 0, 0.0), 0);
            // The first and second best are equal: top-1 keeps both.
            assert_eq!([0.2, 0.8].map(|u| one(&device, &[-1.0, 2.0, 0.0, 2.0], 1.0, 1, u)), [1, 3]);
            assert_eq!([0.2, 0.8].map(|u| one(&device, &[-0.0, 0.0, -1.0], 1.0, 1, u)), [0, 1]);
        }
    }

    #[test]
    fn a_negative_temperature_is_refused() {
        let logits = Tensor::zeros(&Device::Cpu, [1, 2], DType::F32).unwrap();
        let random = Tensor::zeros(&Device::Cpu, [1], DType::F32).unwrap();
        let mut id = Tensor::zeros(&Device::Cpu, [1], DType::I32).unwrap();
        for temperature in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(forward(&logits, temperature, 0, &random, &mut id).unwrap_err().to_string().starts_with("sample: temperature: expected a number from 0"));
        }
    }

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        assert_drawn(8, (0usize..12, 1usize..900, 0.1f32..3.0, 0usize..60, any::<bool>()), |(rows, vocabulary, temperature, top_k, ties)| {
        vec![case(rows, vocabulary, temperature, top_k, ties), case(rows, vocabulary, 0.0, 0, ties)]
        });
    }
}
