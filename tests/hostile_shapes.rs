//! Sizes from nowhere: whatever is claimed of a tensor, an operation, a model or a batch, the answer is an error, or it is right; never
//! a panic, a number that wrapped, or a launch beyond what is there. Overflow is checked: the tests are built with debug assertions.
//!
//! `TRIMODAL_HOSTILE_SHAPES` (4,000) is the number of cases of each property. All draw from sizes around every limit that there is:
//! powers of two at which an index, a byte count or a product no longer fits, and their neighbours.
#![cfg(debug_assertions)] // large allocations are refused by a ration, see below

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::sync::OnceLock;
use trimodal::device::alloc_limit::AllocLimit;
use trimodal::model::batch::Capacity;
use trimodal::model::config::{AudioConfig, Stem, StemConvolution, VisionConfig};
use trimodal::model::inputs::Inputs;
use trimodal::model::parameters::FlatLayout;
use trimodal::model::{Activations, Config, Parameters};
use trimodal::ops::case::Case;
use trimodal::ops::{OPS, adamw, conv1d, local_histogram, log_mel, matmul, patch_embed, rms_norm, rope};
use trimodal::train::{ActivationOptions, Trainer};
use trimodal::{DType, Device, Error, Result, Tensor};

/// Larger allocations are refused: what is checked here is checked before memory is asked for.
const LARGEST: u64 = 1 << 16;

fn run<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> std::result::Result<(), TestCaseError>) {
    let cases = std::env::var("TRIMODAL_HOSTILE_SHAPES").map_or(4000, |n| n.parse().expect("TRIMODAL_HOSTILE_SHAPES: a number"));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, seed).run(&strategy, test).unwrap_or_else(|e| panic!("{e}"));
}

/// A size: small, or near a limit.
fn size() -> impl Strategy<Value = usize> {
    let limits = [7usize, 8, 15, 16, 20, 24, 30, 31, 32, 33, 40, 47, 48, 53, 61, 62, 63];
    prop_oneof![
        4 => 0..9usize,
        2 => 0..200usize,
        3 => (0..limits.len(), -2i64..3).prop_map(move |(i, by)| (1usize << limits[i]).wrapping_add_signed(by as isize)),
        1 => (0..3usize).prop_map(|below| usize::MAX - below),
        1 => any::<usize>(),
    ]
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(size(), 0..5)
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(vec![DType::F32, DType::F64, DType::Bf16, DType::F16, DType::I32, DType::U8])
}

fn device() -> impl Strategy<Value = Device> {
    static EMULATOR: OnceLock<Device> = OnceLock::new();
    let emulator = EMULATOR.get_or_init(|| Device::open("emulator", None).unwrap()).clone();
    prop_oneof![3 => Just(Device::Cpu), 1 => Just(emulator)]
}

/// The product, if it is a number of elements that a tensor may have.
fn elements(shape: &[usize]) -> Option<usize> {
    let product = if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) };
    product.filter(|&elements| elements < 1 << 31)
}

/// An error of the kinds that a size may lead to.
fn refused<T>(result: Result<T>) -> std::result::Result<Option<T>, TestCaseError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Mismatch { .. } | Error::TooLarge { .. } | Error::OutOfMemory { .. } | Error::Device { .. } | Error::Usage(_)) => Ok(None),
        Err(other) => Err(TestCaseError::fail(format!("not an error about sizes: {other}"))),
    }
}

/// A tensor is made exactly where its elements can be counted and are granted, and holds as many as its shape says, also when it is
/// given other rows or another shape.
#[test]
fn tensors_are_what_they_say_or_refused() {
    run((device(), shape(), dtype(), size(), shape()), |(device, shape, dtype, rows, other)| {
        let _rationed = AllocLimit::new(usize::MAX, LARGEST);
        let expected = elements(&shape);
        let made = Tensor::zeros(&device, &shape[..], dtype);
        match (&made, expected) {
            (Err(Error::TooLarge { .. }), None) => return Ok(()),
            (Err(Error::Device { .. }), Some(_)) if dtype == DType::F64 && !matches!(device, Device::Cpu) => return Ok(()),
            (Err(Error::OutOfMemory { asked, .. }), Some(elements)) => {
                prop_assert!(*asked > LARGEST && *asked == (elements * dtype.size()) as u64);
                return Ok(());
            }
            (Ok(tensor), Some(elements)) => prop_assert_eq!((tensor.len(), tensor.capacity(), tensor.is_empty()), (elements, elements, elements == 0)),
            _ => prop_assert!(false, "{:?} of {dtype}: {made:?}", shape),
        }
        let mut tensor = made.expect("matched above");
        let capacity = tensor.capacity();
        prop_assert_eq!(tensor.bytes(), (capacity * dtype.size()) as u64);
        prop_assert_eq!(tensor.shape().checked_len(), Some(capacity));
        if refused(tensor.set_rows(rows))?.is_some() {
            prop_assert!(tensor.rows() == rows && tensor.shape().checked_len().is_some_and(|len| len <= capacity));
            prop_assert_eq!(tensor.read_f64().unwrap().len(), tensor.len());
        }
        let fits = elements(&other).is_some_and(|len| len <= capacity);
        prop_assert_eq!(refused(tensor.reshape(&other[..]))?.is_some(), fits);
        prop_assert!(tensor.len() <= capacity);
        prop_assert!(refused(tensor.write(&[0u8; 3]))?.is_none() || dtype == DType::U8 && tensor.len() == 3);
        prop_assert!(refused(Tensor::from_slice(&device, &other[..], &[1i32, 2, 3]))?.is_none_or(|t| t.len() == 3));
        prop_assert!(refused(Tensor::from_f64(&device, &other[..], dtype, &[1.0]))?.is_none_or(|t| t.len() == 1));
        prop_assert!(refused(Tensor::with_redzone(&device, &other[..], dtype, rows))?.is_none_or(|t| t.capacity() - t.len() == rows));
        Ok(())
    });
}

/// Every case of every operation that is small enough.
fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let small = |case: &Case| {
            let operands = case.inputs.iter().chain(case.outputs.iter().map(|o| &o.before));
            // Plain loops that stand for an operation in its tests check nothing.
            !case.large && !case.entry.contains("naive") && operands.map(|o| o.shape.len()).sum::<usize>() < 4096
        };
        OPS.iter().flat_map(|op| (op.cases)()).filter(small).collect()
    })
}

/// Every operation, forward and backward, with one or two of its operands replaced by tensors of another shape or dtype: an error, or
/// (where the sizes still fit) a result. The emulator would report an access outside of a tensor.
#[test]
fn operations_refuse_what_does_not_fit() {
    let replaced = prop::collection::vec((any::<prop::sample::Index>(), shape(), prop::option::weighted(0.2, dtype()), 0..3usize), 1..3);
    run((device(), 0..cases().len(), replaced), |(device, case, replaced)| {
        let case = &cases()[case];
        if case.only_mixed || case.skip.is_some_and(|skip| skip(&device).is_some()) {
            return Ok(());
        }
        let operands: Vec<_> = case.inputs.iter().chain(case.outputs.iter().map(|o| &o.before)).collect();
        let mut tensors = operands.iter().map(|o| o.tensor(&device, DType::F32)).collect::<Result<Vec<_>>>().unwrap();
        let _rationed = AllocLimit::new(usize::MAX, LARGEST);
        for (index, mut shape, dtype, keep) in replaced {
            let index = index.index(tensors.len());
            let own = operands[index].shape;
            // Often some sizes are right: then the later checks are reached.
            shape.iter_mut().zip(own.dims()).take(keep).for_each(|(size, own)| *size = *own);
            if let Some(mut tensor) = refused(Tensor::zeros(&device, &shape[..], dtype.unwrap_or(tensors[index].dtype())))? {
                if tensor.dtype() == DType::I32 {
                    // Rows and ids that differ, as contracts want them.
                    tensor.write(&(0..tensor.len() as i32).collect::<Vec<_>>()).unwrap();
                }
                tensors[index] = tensor;
            }
        }
        let mut outputs = tensors.split_off(case.inputs.len());
        refused((case.run)(&tensors, &mut outputs))?;
        Ok(())
    });
}

/// What operations say they need as a workspace never wraps: it is the true number, or more than can be allocated.
#[test]
fn workspaces_do_not_wrap() {
    let layout = prop::sample::select(vec![matmul::Layout::Nt, matmul::Layout::Nn, matmul::Layout::Tn]);
    run((layout, [size(), size(), size(), size(), size()]), |(layout, [a, b, c, d, e])| {
        prop_assert!(rms_norm::workspace(a, b) >= b);
        prop_assert!(conv1d::workspace(a, b, c, d, e) >= d);
        prop_assert!(log_mel::workspace(a, b) >= a);
        prop_assert!(local_histogram::workspace(a, &[b, c]) >= a.saturating_mul(local_histogram::cells(&[b])));
        let patches = (b / d.max(1)).saturating_mul(c / d.max(1));
        prop_assert!(patch_embed::workspace(a, b, c, d, e) >= patches.saturating_mul(e));
        prop_assert!(adamw::workspace(&[a, b, c, d, e]) >= a / 4096);
        prop_assert!(matmul::split_workspace(a, b, c) >= a.saturating_mul(b));
        prop_assert!(matmul::workspace(layout, a, b, c) <= matmul::split_workspace(a, b, c));
        prop_assert!(conv1d::frames_out(a, b) <= a && log_mel::frames(a) <= a);
        let _rationed = AllocLimit::new(usize::MAX, LARGEST);
        prop_assert!(refused(rope::Table::new(&Device::Cpu, DType::F32, a, b, 1e4))?.is_none_or(|t| t.positions() == a));
        Ok(())
    });
}

fn config() -> impl Strategy<Value = Config> {
    // Many layers take a while to list: they are drawn seldom.
    let layers = prop_oneof![30 => 0..70usize, 1 => (0..2usize).prop_map(|more| (1 << 16) + more), 1 => size().prop_map(|n| n.max(1 << 21))];
    let convolution = (1..300usize, 1..3usize).prop_map(|(channels, stride)| StemConvolution { channels, stride });
    let convolutions = prop::collection::vec(convolution, 1..9);
    let stem = (1..300usize, convolutions, any::<bool>()).prop_map(|(width, convolutions, places)| Stem { width, convolutions, places });
    let stem = prop::option::of(stem);
    let cells = prop_oneof![19 => prop::sample::select(vec![1usize, 2, 3, 4, 6, 8, 12, 24]), 1 => size()];
    let histograms = prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec(cells, 1..6)];
    let vision = (size(), size(), any::<bool>(), stem, histograms);
    let vision = prop::option::of(vision.prop_map(|(image_size, patch_size, bidirectional, stem, histograms)| VisionConfig {
        image_size,
        patch_size,
        bidirectional,
        stem,
        histograms,
    }));
    let seconds = prop_oneof![0.0..700f64, any::<f64>()];
    let audio = prop::option::of(
        (1..200usize, prop_oneof![9 => Just(16_000usize), 1 => size()], seconds, 0..12usize)
            .prop_map(|(num_mel_bins, sample_rate, clip_seconds, layers)| AudioConfig { num_mel_bins, sample_rate, clip_seconds, layers }),
    );
    let heads =
        (prop_oneof![3 => 1..65usize, 1 => size()], prop_oneof![3 => 1..5usize, 1 => size()], prop_oneof![3 => (1..65usize).prop_map(|d| 2 * d), 1 => size()]);
    let limited = || prop_oneof![6 => 1..5000usize, 2 => (0..3usize).prop_map(|below| (1 << 20) - below), 1 => size()];
    ((limited(), limited(), limited(), limited()), layers, heads, (vision, audio), any::<bool>()).prop_map(
        |(
            (hidden_size, intermediate_size, vocab_size, max_position_embeddings),
            num_hidden_layers,
            (heads, kv, head_dim),
            (vision_config, audio_config),
            tied,
        )| {
            // Pictures that patches and grids divide, now and then.
            let vision_config = vision_config.map(|v| {
                let cells = if v.histograms.is_empty() { 1 } else { 24 };
                VisionConfig { image_size: v.image_size.saturating_mul(v.patch_size % 9).saturating_mul(cells), ..v }
            });
            Config {
                hidden_size,
                intermediate_size,
                num_hidden_layers,
                num_attention_heads: heads.saturating_mul(kv),
                num_key_value_heads: kv,
                head_dim,
                max_position_embeddings,
                tie_word_embeddings: tied,
                vision_config,
                audio_config,
                ..Config::meadow(vocab_size)
            }
        },
    )
}

/// Whatever a config says that passes `validate`, and however large a batch is asked for: the memory that is announced is the sum of
/// the listed tensors, or `u64::MAX` where that does not hold it or a tensor would be too large to number; and nothing panics.
#[test]
fn configs_and_capacities_do_not_wrap() {
    let (valid, counting) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    run((config(), size(), any::<[bool; 3]>(), [size(), size(), size(), size(), size()]), |(config, budget, [recompute, given, bag], sizes)| {
        if config.validate().is_err() {
            return Ok(());
        }
        valid.set(valid.get() + 1);
        counting.set(counting.get() + config.vision_config.as_ref().is_some_and(|v| !v.histograms.is_empty()) as usize);
        let told = bag as u8 as f32;
        let new = ActivationOptions { word_bag: told, contrastive: told, captions: sizes[1], ..ActivationOptions::new(DType::F32) };
        let options = ActivationOptions { recompute, ..new };
        let [rows, logits, chunk, images, clips] = sizes;
        let capacity = match given {
            true => Capacity { rows, logits, chunk: chunk.max(logits / 4096), images, clips, told: 0 },
            false => Capacity::for_budget(&config, budget),
        };
        let capacity = capacity.telling(new);
        if !given {
            prop_assert!(capacity.rows == budget && capacity.chunk <= budget && capacity.images <= budget && capacity.clips <= budget);
        }
        let layout = FlatLayout::new(&config);
        prop_assert!(layout.decayed <= layout.elements);
        let announced = Trainer::bytes(&config, capacity, options);
        let kept = Trainer::bytes(&config, capacity, new);
        prop_assert!(announced <= kept);
        if [rows, logits, chunk, images, clips, budget].into_iter().all(|size| size < 1 << 31) {
            let mut listed = 0u128;
            let mut count = |shape: &[usize], dtype: DType| {
                listed += shape.iter().map(|&size| size as u128).product::<u128>() * dtype.size() as u128;
                Ok(())
            };
            Activations::build(&config, capacity, options, &mut count).unwrap();
            Inputs::build(&config, capacity, options, &mut count).unwrap();
            Parameters::build(&config, &mut |shape| (0..4).try_for_each(|_| count(shape, DType::F32))).unwrap();
            listed += 4 * (config.max_position_embeddings * config.head_dim + 1 + adamw::COEFFICIENTS) as u128;
            prop_assert_eq!(announced as u128, listed.min(u64::MAX as u128));
        } else if capacity.rows >= 1 << 31 {
            prop_assert_eq!(announced, u64::MAX);
        }
        let _rationed = AllocLimit::new(1 << 12, LARGEST);
        refused(Parameters::init(&config, &Device::Cpu, DType::F32, 1).map(drop))?;
        Ok(())
    });
    assert!(valid.get() >= 100 && counting.get() >= 10, "{} valid configs, {} with histograms, are not enough", valid.get(), counting.get());
}
