//! Choosing the next word: one id per row of logits.
//!
//! Temperature 0 is greedy: the id of the largest logit, of equal ones the lowest. Otherwise
//! `p[v] ∝ exp((logits[v] − max) / temperature)` over the ids whose logit is at least the k-th largest (more than k where the
//! k-th is tied, as Hugging Face's `TopKLogitsWarper`). Of these top-p keeps the nucleus (Holtzman et al. 2019, arXiv 1904.09751):
//! the smallest set of the most likely ids whose probabilities, after temperature and top-k, sum to at least `top_p`, as
//! `TopPLogitsWarper`; an id stays where those strictly more likely sum to less. So equals stay or go together, where Hugging Face
//! keeps those of the last equals that its sort happens to put first; and the most likely id always stays.
//!
//! The choice is the inverse of the cumulative distribution at a given uniform number: the lowest id whose cumulative probability,
//! in the order of ids, exceeds it. There is no backward pass.
//!
//! Nothing is sorted. On the CPU the threshold of the nucleus is a weighted quantile: halve the ids around their median and continue
//! in the half where the sum reaches `top_p`. The kernels search for its bits; their headers say why rounding cannot mislead them.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::{Call, Op, Pass, Sizes, activation, on_real, rows_per_task, size, statistic, sum, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Launch, View, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use rayon::prelude::*;

const OP: &str = "sample";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op { name: OP, files: &[OP], passes: &[Pass { name: "forward", kernel: (OP, "forward") }], cases, sized, gradients, fields: FIELDS };
/// Floating-point operations per logit.
const FLOPS: usize = 10;

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[
    DimsField::option("top_k", "the most probable ids that may be drawn; 0: all"),
    DimsField::option("inverse_temperature", "1 / temperature; 0: the most probable id, always"),
    DimsField::option("top_p", "0 to 1: the least share of probability that may be drawn from, the most probable ids first; 1: all"),
];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    rows: u32,
    vocabulary: u32,
    top_k: u32,
    inverse_temperature: f32,
    top_p: f32,
    padding: [u32; 3],
}

/// One id per row.
///
/// Shapes: `logits [R, V]`, `random [R]` in [0, 1) (not read when greedy), `id [R]` i32, overwritten. `temperature` 0: greedy.
/// `top_k` 0: all ids. `top_p` in [0, 1]; 1: all of these. dtype f32 (f64 on the CPU; the logits also bf16 where the device has it,
/// `random` is then f32). The same numbers give the same ids on every run.
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::sample;
///
/// let logits = Tensor::from_slice(&Device::Cpu, [2, 3], &[1f32, 5.0, 2.0, 7.0, 0.0, 7.0])?; // [R, V]
/// let random = Tensor::zeros(&Device::Cpu, [2], DType::F32)?;
/// let mut id = Tensor::zeros(&Device::Cpu, [2], DType::I32)?;
/// sample::forward(&logits, 0.0, 0, 1.0, &random, &mut id)?; // temperature 0: greedy
/// assert_eq!(id.read::<i32>()?, [1, 0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit, for a temperature that is negative or not finite, or for a
/// `top_p` outside [0, 1].
pub fn forward(logits: &Tensor, temperature: f32, top_k: usize, top_p: f32, random: &Tensor, id: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "logits", logits)?;
    let vocabulary = logits.row_len();
    if vocabulary == 0 {
        return Err(Error::mismatch(OP, "logits", "rows of at least one logit", logits.shape()));
    }
    if !(0.0..f32::INFINITY).contains(&temperature) {
        return Err(Error::mismatch(OP, "temperature", "a number from 0", temperature));
    }
    if !(0.0..=1.0).contains(&top_p) {
        return Err(Error::mismatch(OP, "top_p", "a number from 0 to 1", top_p));
    }
    let call = Call::new(OP, "forward", logits.device())
        .reads("logits", logits, logits.shape(), dtype)?
        .reads("random", random, [logits.rows()], statistic(dtype))?
        .writes("id", id, [logits.rows()], DType::I32)?;
    let dims = Dims {
        rows: size(OP, "rows", logits.rows())?,
        vocabulary: size(OP, "vocabulary", vocabulary)?,
        top_k: if top_k < vocabulary { top_k as u32 } else { 0 },
        // Finite however small the temperature is: 0 · ∞ would not be a number.
        inverse_temperature: if temperature == 0.0 { 0.0 } else { (1.0 / temperature).min(1e30) },
        top_p,
        padding: [0; 3],
    };
    let call = call.begin(|| Work::new(FLOPS * logits.len()));
    match call.device() {
        Device::Cpu => on_real!(dtype, forward_cpu::<T>(dims, logits, random, id)),
        Device::Gpu(gpu) => launch(gpu, dtype, dims, &views([logits, random, id]))?,
    }
    call.end([&*id]);
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
    let unnormalised = |x: T| ((x - logits[best]) * T::of(dims.inverse_temperature as f64)).fast_exp();
    if dims.top_p < 1.0 {
        order.clear();
        order.extend(logits.iter().copied().filter(|&x| x >= threshold));
        threshold = nucleus(order, |x| unnormalised(x).f64(), dims.top_p as f64);
    }
    let weight = |x: T| if x >= threshold { unnormalised(x) } else { T::zero() };
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

/// The least of the fewest largest logits whose weights reach `top_p` of the sum of all. Reorders them.
fn nucleus<T: Real>(mut logits: &mut [T], weight: impl Fn(T) -> f64, top_p: f64) -> T {
    let mass = |logits: &[T]| logits.iter().map(|&x| weight(x)).sum::<f64>();
    let mut wanted = top_p * mass(logits); // of the logits that are left, the largest ones' share
    while logits.len() > 1 {
        let half = logits.len() / 2;
        logits.select_nth_unstable_by(half, |a, b| b.partial_cmp(a).expect("a NaN is not above a threshold"));
        let (larger, smaller) = logits.split_at_mut(half);
        let reached = mass(larger);
        if reached >= wanted {
            logits = larger;
        } else {
            wanted -= reached;
            logits = smaller;
        }
    }
    logits[0]
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch(gpu: &Gpu, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let groups = dims.rows as usize;
    gpu.launch(Launch { kernel: (OP, "forward"), constants: &[], buffers, variant: variant(dtype), dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// `(rows R, vocabulary V)`
#[rustfmt::skip]
const SHAPES: &[(usize, usize)] = &[
    (0, 4), (1, 1), (3, 2), (5, 3), (4, 8), (7, 31), (3, 32), (9, 33), (2, 63), (5, 64), (3, 65), (33, 127), (2, 128), (3, 129), (4, 255), (3, 256), (5, 257),
    (8, 450), (2, 511), (2, 512), (3, 513), (2, 1021), (2, 2049), (1, 10_007), (1, 16_392), (1, 100_003),
];

/// How one id is chosen: temperature, top-k, top-p.
type How = (f32, usize, f32);

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(rows, vocabulary) in SHAPES {
        for how in [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.7, 1, 1.0), (1.3, 5, 1.0), (0.5, vocabulary / 2, 1.0), (1.0, vocabulary + 3, 1.0)] {
            cases.push(case(rows, vocabulary, how, false));
        }
        for how in [(0.0, 0, 0.5), (1.0, 0, 0.9), (1.3, 5, 0.7), (0.5, vocabulary / 2, 0.99), (1.0, 0, 1e-30)] {
            cases.push(case(rows, vocabulary, how, false));
        }
        // Logits that repeat: ties for the best, for the k-th, and for the last of the nucleus.
        for how in [(0.0, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.6), (1.5, 3, 0.3), (1.0, 0, 0.0)] {
            cases.push(case(rows, vocabulary, how, true));
        }
    }
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The cases at a model's sizes: the words that 32 captions continue with.
pub fn sized(s: &Sizes) -> Vec<Case> {
    [(1.0, 20, 1.0), (1.0, 0, 0.9)].map(|how| case(32, s.vocabulary, how, false)).into()
}

fn case(rows: usize, vocabulary: usize, how: How, ties: bool) -> Case {
    let (temperature, top_k, top_p) = how;
    let nucleus = if top_p < 1.0 { format!(" top_p={top_p}") } else { String::new() };
    let label = format!("R={rows} V={vocabulary} temperature={temperature} top_k={top_k}{nucleus}{}", if ties { " ties" } else { "" });
    let mut draw = Draw::new(&label);
    let logits = if ties { draw.integers("logits", [rows, vocabulary], 2) } else { draw.normals("logits", [rows, vocabulary], 3.0) };
    let logits = logits.mixed();
    let given = logits.clone();
    let random = Operand::lazy("random", [rows], Kind::Real, move || {
        let rounded = given.rounded(DType::Bf16);
        let rows_of_both = given.values.chunks_exact(vocabulary).zip(rounded.values.chunks_exact(vocabulary));
        rows_of_both.map(|(logits, rounded)| clear_choice(&mut draw, [logits, rounded], how)).collect()
    })
    .timed_as(move || vec![0.5; rows]);
    let inputs = vec![logits, random];
    let outputs = vec![Output::overwritten("id", [rows], Kind::I32)];
    Case::new("forward", label, inputs, outputs, Compare::Exact, move |i, o| forward(&i[0], temperature, top_k, top_p, &i[1], &mut o[0]))
        .naive(move |i, o| {
            on_real!(i[0].dtype(), naive::<T>(i, o, how));
            Ok(())
        })
        .flops((FLOPS * rows * vocabulary) as u64)
}

/// Of a few uniform numbers the one that is farthest inside the interval of one and the same id, both for the logits and for the
/// same rounded to bf16, and for a top_p that is off by more than any sum of weights: no rounding of a sum reaches an end of an
/// interval, or chooses otherwise because an id at the edge of the nucleus is in or out.
fn clear_choice(draw: &mut Draw, both: [&[f64]; 2], (temperature, top_k, top_p): How) -> f64 {
    if temperature == 0.0 {
        return draw.uniform();
    }
    let off = if top_p < 1.0 { 1e-4 } else { 0.0 };
    let ends = both.map(|logits| {
        [1.0 - off, 1.0 + off].map(|factor| {
            let mut ends = naive_weights(logits, (temperature, top_k, (top_p * factor).min(1.0)));
            let total: f64 = ends.iter().sum();
            let mut end = 0.0;
            for weight in &mut ends {
                end += *weight / total;
                *weight = end;
            }
            ends
        })
    });
    // The id that u hits, and how deep.
    let hit = |ends: &[f64], u: f64| {
        let id = ends.partition_point(|&end| end <= u);
        let start = if id == 0 { f64::MIN } else { ends[id - 1] }; // nothing lies below the first
        (id, ends.get(id).map_or(0.0, |end| (u - start).min(end - u)))
    };
    let depth = |[fewer, more]: &[Vec<f64>; 2], u: f64| {
        let ((id, depth), (other, other_depth)) = (hit(fewer, u), hit(more, u));
        if id == other { depth.min(other_depth) } else { -1.0 }
    };
    let drawn = (0..32).map(|_| draw.uniform() as f32 as f64);
    drawn.map(|u| (depth(&ends[0], u).min(depth(&ends[1], u)), u)).fold((-2.0, 0.0), |best, found| if found.0 > best.0 { found } else { best }).1
}

/// Unnormalised probabilities by plain sorting.
fn naive_weights<T: Real>(logits: &[T], (temperature, top_k, top_p): How) -> Vec<T> {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.partial_cmp(a).expect("cases have no NaN"));
    let inverse = T::of((1.0 / temperature) as f64);
    let weight = |x: T| ((x - sorted[0]) * inverse).exp();
    let mut threshold = sorted[if top_k == 0 { logits.len() } else { top_k.min(logits.len()) } - 1];
    if top_p < 1.0 {
        let goal = T::of(top_p as f64) * sum(sorted.iter().filter(|&&x| x >= threshold).map(|&x| weight(x)));
        let mut reached = T::zero();
        let last = sorted.iter().find(|&&x| {
            reached += weight(x);
            reached >= goal
        });
        threshold = *last.unwrap_or(&threshold); // only rounding can leave the goal unreached
    }
    logits.iter().map(|&x| if x >= threshold { weight(x) } else { T::zero() }).collect()
}

fn naive<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor], how: How) {
    let vocabulary = inputs[0].row_len();
    for (row, logits) in inputs[0].cpu::<T>().chunks_exact(vocabulary).enumerate() {
        let id = if how.0 == 0.0 {
            (0..vocabulary).find(|&v| logits.iter().all(|&other| logits[v] >= other)).expect("a largest logit")
        } else {
            let weights = naive_weights(logits, how);
            let goal = inputs[1].cpu::<T>()[row] * sum(weights.iter().copied());
            let mut before = T::zero();
            weights
                .iter()
                .position(|&w| {
                    before += w;
                    before > goal
                })
                .expect("cases stay inside an interval")
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
    use proptest::prelude::{Just, any};
    use proptest::prop_oneof;

    fn one(device: &Device, logits: &[f32], (temperature, top_k, top_p): How, random: f32) -> i32 {
        let logits = Tensor::from_slice(device, [1, logits.len()], logits).unwrap();
        let random = Tensor::from_slice(device, [1], &[random]).unwrap();
        let mut id = Tensor::zeros(device, [1], DType::I32).unwrap();
        forward(&logits, temperature, top_k, top_p, &random, &mut id).unwrap();
        id.read::<i32>().unwrap()[0]
    }

    #[test]
    fn known_choices() {
        let log = |p: f32| p.ln();
        let logits = [log(0.1), log(0.4), log(0.2), log(0.3)];
        for device in test_devices() {
            let one = |temperature, top_k, random| one(&device, &logits, (temperature, top_k, 1.0), random);
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
    fn known_nuclei() {
        let logits = [0.1f32, 0.4, 0.2, 0.3].map(f32::ln);
        for device in test_devices() {
            let one = |how, random| one(&device, &logits, how, random);
            // One id reaches 0.39, two 0.69, three 0.89; the rest of the probability goes to those that stay.
            assert_eq!([0.0, 0.5, 0.999].map(|u| one((1.0, 0, 0.39), u)), [1, 1, 1]);
            assert_eq!([0.0, 0.56, 0.58, 0.999].map(|u| one((1.0, 0, 0.69), u)), [1, 1, 3, 3]);
            assert_eq!([0.0, 0.43, 0.45, 0.65, 0.68, 0.999].map(|u| one((1.0, 0, 0.89), u)), [1, 1, 2, 2, 3, 3]);
            assert_eq!([0.05, 0.15, 0.999].map(|u| one((1.0, 0, 0.91), u)), [0, 1, 3]);
            // After top-k: of the two best the first has 4/7.
            assert_eq!([0.0, 0.999].map(|u| one((1.0, 2, 0.57), u)), [1, 1]);
            assert_eq!([0.0, 0.999].map(|u| one((1.0, 2, 0.58), u)), [1, 3]);
            // After the temperature: squared, the best has 16/30.
            assert_eq!([0.0, 0.999].map(|u| one((0.5, 0, 0.53), u)), [1, 1]);
            assert_eq!([0.0, 0.999].map(|u| one((0.5, 0, 0.54), u)), [1, 3]);
            // At least one.
            assert_eq!([0.0, 1e-45, 1e-38, 1e-6].map(|p| one((1.0, 0, p), 0.999)), [1, 1, 1, 1]);
        }
    }

    #[test]
    fn ties_go_to_the_lowest_id_and_stay_in_top_k_and_in_the_nucleus() {
        for device in test_devices() {
            let one = |logits: &[f32], how, random| one(&device, logits, how, random);
            assert_eq!(one(&[-1.0, 2.0, 0.0, 2.0], (0.0, 0, 1.0), 0.0), 1);
            assert_eq!(one(&[-0.0, 0.0], (0.0, 0, 1.0), 0.0), 0);
            // The first and second best are equal: top-1 keeps both, and so does any nucleus.
            for how in [(1.0, 1, 1.0), (1.0, 0, 0.1), (1.0, 0, 0.0)] {
                assert_eq!([0.2, 0.8].map(|u| one(&[-1.0, 2.0, 0.0, 2.0], how, u)), [1, 3]);
                assert_eq!([0.2, 0.8].map(|u| one(&[-0.0, 0.0, -1.0], how, u)), [0, 1]);
            }
        }
    }

    #[test]
    fn a_temperature_or_a_top_p_out_of_range_is_refused() {
        let logits = Tensor::zeros(&Device::Cpu, [1, 2], DType::F32).unwrap();
        let random = Tensor::zeros(&Device::Cpu, [1], DType::F32).unwrap();
        let mut id = Tensor::zeros(&Device::Cpu, [1], DType::I32).unwrap();
        let mut refused = |temperature, top_p| forward(&logits, temperature, 0, top_p, &random, &mut id).unwrap_err().to_string();
        for temperature in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(refused(temperature, 1.0).starts_with("sample: temperature: expected a number from 0"));
        }
        for top_p in [-0.1, 1.1, f32::NAN] {
            assert!(refused(1.0, top_p).starts_with("sample: top_p: expected a number from 0 to 1"));
        }
    }

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        let nuclei = prop_oneof![Just(1.0f32), 0.0f32..1.0];
        assert_drawn(8, (0usize..12, 1usize..900, 0.1f32..3.0, 0usize..60, nuclei, any::<bool>()), |(rows, vocabulary, temperature, top_k, top_p, ties)| {
            vec![case(rows, vocabulary, (temperature, top_k, top_p), ties), case(rows, vocabulary, (0.0, 0, top_p), ties)]
        });
    }
}
