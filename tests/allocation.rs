//! Running out of memory: whichever allocation of setting up a trainer and taking a step fails, the caller gets an error that says
//! so, nothing stays allocated, and a smaller batch then works.
#![cfg(debug_assertions)] // allocations are limited and counted only then

mod common;

use common::{small, small_with_stem};
use trimodal::check::{drawn_batch, test_devices};
use trimodal::device::alloc_limit::AllocLimit;
use trimodal::model::batch::{Batch, Capacity};
use trimodal::model::{Config, Parameters};
use trimodal::train::{ActivationOptions, Schedule, Trainer};
use trimodal::{DType, Device, Error, Result, Tensor};

/// From nothing to a step's loss.
fn set_up_and_step(config: &Config, device: &Device, options: ActivationOptions, batch: &Batch) -> Result<f32> {
    let parameters = Parameters::init(config, device, DType::F32, 7)?;
    let schedule = Schedule { warmup: 1, ..Schedule::meadow(2) };
    let mut trainer = Trainer::with_options(options, config, parameters, schedule, Capacity::of(batch))?;
    trainer.step_accumulated(&[batch.clone(), batch.clone()]).map(|report| report.loss)
}

fn every_allocation_may_fail(config: Config, device: &Device, options: ActivationOptions) {
    let (large, smaller) = (drawn_batch(&config, "large", 40), drawn_batch(&config, "smaller", 2));
    let limited = AllocLimit::new(usize::MAX, u64::MAX);
    let expected = set_up_and_step(&config, device, options, &large).unwrap();
    let allocations = limited.asked();
    assert_eq!(limited.live(), 0, "{device}: a trainer that is gone holds memory");
    drop(limited);
    assert!(allocations > 100, "{device}: {allocations} allocations are not all");
    for n in 0..allocations {
        let limited = AllocLimit::new(n, u64::MAX);
        match set_up_and_step(&config, device, options, &large) {
            Err(Error::OutOfMemory { device: named, .. }) => assert_eq!(named, device.to_string()),
            other => panic!("{device}: allocation {n} of {allocations} failed, and the step came to {other:?}"),
        }
        assert_eq!((limited.asked(), limited.live()), (n + 1, 0), "{device}: (allocations asked for, still live) where number {n} failed");
        drop(limited);
        if n % 50 == 0 {
            set_up_and_step(&config, device, options, &smaller).unwrap();
        }
    }
    // Where large tensors do not fit, smaller ones do: with the same limit, after the failure.
    let limited = AllocLimit::new(usize::MAX, largest_of(&config, device, options, &smaller));
    assert!(matches!(set_up_and_step(&config, device, options, &large), Err(Error::OutOfMemory { .. })), "{device}");
    set_up_and_step(&config, device, options, &smaller).unwrap();
    drop(limited);
    assert_eq!(set_up_and_step(&config, device, options, &large).unwrap(), expected, "{device}: another loss than before all the failures");
}

/// Bytes of the largest allocation that a step on this batch makes, by bisection.
fn largest_of(config: &Config, device: &Device, options: ActivationOptions, batch: &Batch) -> u64 {
    let (mut fails, mut works) = (0, 1 << 20);
    while works - fails > 1 {
        let middle = (works + fails) / 2;
        let _rationed = AllocLimit::new(usize::MAX, middle);
        let outcome = Parameters::init(config, device, DType::F32, 7)
            .and_then(|parameters| Trainer::with_options(options, config, parameters, Schedule::meadow(2), Capacity::of(batch)));
        if outcome.is_ok() { works = middle } else { fails = middle }
    }
    works
}

#[test]
fn whichever_allocation_fails_a_smaller_batch_then_works() {
    for device in test_devices() {
        every_allocation_may_fail(small(), &device, ActivationOptions::new(DType::F32));
    }
    // With a stem and the word-bag loss there are more tensors.
    every_allocation_may_fail(small_with_stem(), &Device::Cpu, ActivationOptions { recompute: true, word_bag: 0.5, ..ActivationOptions::new(DType::F32) });
}

#[test]
fn whichever_allocation_fails_a_smaller_batch_then_works_in_ptx() {
    let emulator = Device::open("emulator", None).unwrap();
    every_allocation_may_fail(small(), &emulator, ActivationOptions { recompute: true, ..ActivationOptions::new(DType::Bf16) });
}

/// What nobody can have is refused, not attempted.
#[test]
fn more_than_the_machine_has_is_an_error() {
    for device in test_devices().into_iter().chain([Device::open("emulator", None).unwrap()]) {
        for (shape, dtype) in [([1 << 31, 1], DType::U8), ([1 << 20, 1 << 20], DType::F32), ([usize::MAX, 2], DType::I32)] {
            match Tensor::zeros(&device, shape, dtype) {
                Err(Error::TooLarge { .. } | Error::OutOfMemory { .. }) => {}
                Err(other) => panic!("{device}: {other}"),
                Ok(_) => panic!("{device}: {shape:?} of {dtype} fits"),
            }
        }
    }
}
