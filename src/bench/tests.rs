//! Runs of the benchmark on small parts of its list.

use super::*;

fn options() -> BenchOptions {
    BenchOptions { op: None, shape: None, dtype: None, sets: vec!["demo".into()], quick: true, compare: false }
}

fn quiet(_: BenchProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_run_measures_what_it_was_asked_for() {
    let options = BenchOptions { op: Some("rms_norm".into()), shape: Some("rows=1920 C=64".into()), ..options() };
    let card = run(&Device::Cpu, &options, &mut quiet).unwrap();
    assert_eq!((card.schema.as_str(), card.interrupted, card.left_out.len()), (SCHEMA, false, 0));
    let entries: Vec<&str> = card.rows.iter().map(|r| r.entry.as_str()).collect();
    assert_eq!(entries, ["forward", "backward", "forward:naive", "backward:naive", "forward", "backward", "forward:naive", "backward:naive"]);
    for row in &card.rows {
        let Seconds { median, min, max, .. } = row.seconds;
        assert!(0.0 < min && min <= median && median <= max, "{row:?}");
        assert!(row.samples >= FEW && row.calls >= 1 && row.percent.is_some_and(|p| p > 0.0), "{row:?}");
        // The buffers exceed three times the cache.
        assert!(row.buffers as u64 * row.bytes.unwrap() * 2 > 3 * card.device.cache_bytes.unwrap_or(0), "{row:?}");
    }
    // Rated by the higher ceilings of before and after, between which the machine was watched.
    let (before, after) = (card.ceilings_before.unwrap(), card.ceilings_after.unwrap());
    let larger = before.copy_bytes_per_second.unwrap().max(after.copy_bytes_per_second.unwrap());
    assert_eq!(card.ceilings.copy_bytes_per_second, Some(larger));
    assert!(card.drift.is_some_and(f64::is_finite) && card.conditions.is_some());
    everything_above_is_explained(&card);
    // x, the weight; y and rstd.
    assert_eq!(card.rows[0].bytes, Some(4 * (1920 * 64 + 64 + 1920 * 64 + 1920)));
}

fn everything_above_is_explained(card: &Card) {
    for row in &card.rows {
        assert_eq!(row.percent.is_some_and(|percent| percent > 100.0), row.above.is_some(), "{row:?}");
        assert_eq!(row.unsure, row.seconds.standard_error > UNSURE, "{row:?}");
    }
}

/// What a first look looks at: of every operation and pass one row, the largest, and the step.
#[test]
fn a_first_look_is_short_and_has_the_step() {
    let mut items = plan(&Device::Cpu, &options(), &[Sizes::DEMO]).unwrap().0;
    let all = plan(&Device::Cpu, &BenchOptions { quick: false, ..options() }, &[Sizes::DEMO]).unwrap().0;
    let mut keys: Vec<(String, String)> = items.iter().map(|item| (item.op().to_string(), pass(&item.entry).to_string())).collect();
    assert!(items.len() < 30 && items.len() * 3 < all.len() && items.iter().all(|item| !item.entry.ends_with(":naive")), "{} of {}", items.len(), all.len());
    assert!(
        keys.iter().any(|(op, _)| op == STEP)
            && OPS.iter().filter(|op| !(op.sized)(&Sizes::DEMO).is_empty()).all(|op| keys.iter().any(|(name, _)| name == op.name)),
        "{keys:?}"
    );
    keys.dedup();
    assert_eq!(keys.len(), items.len());
    items.retain(|item| item.op() == "matmul");
    let Work::Case { case, .. } = &items[0].work else { unreachable!("a matmul is a case") };
    let largest = all.iter().filter_map(|item| if let Work::Case { op: "matmul", case, .. } = &item.work { Some(case.flops) } else { None }).max();
    assert_eq!(Some(case.flops), largest);
}

#[test]
fn the_training_step_is_a_row() {
    let card = run(&Device::Cpu, &BenchOptions { op: Some(STEP.into()), ..options() }, &mut quiet).unwrap();
    let [row] = &card.rows[..] else { panic!("{:?}", card.left_out) };
    assert!(row.tokens_per_second.is_some_and(|t| t > 0.0) && row.bytes.is_none() && row.bound.as_deref() == Some("compute"));
}

#[test]
fn an_interrupted_run_has_what_there_is() {
    let mut rows = 0;
    let options = BenchOptions { op: Some("swiglu".into()), ..options() };
    let card = run(&Device::Cpu, &options, &mut |p| {
        rows = p.total;
        if p.done == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert!(card.interrupted && card.rows.len() == 1 && rows > 1);
}

/// The ceiling is given, not measured: what a fast machine has the time for, a slow one has not.
#[test]
fn what_has_no_time_is_left_out_with_a_reason() {
    let options = BenchOptions { op: Some("matmul".into()), shape: Some("Nt M=8192".into()), sets: vec!["large".into()], ..options() };
    let (items, _) = plan(&Device::Cpu, &options, &chosen_sets(&options, true).unwrap()).unwrap();
    assert_eq!(
        items.iter().map(Item::name).collect::<Vec<_>>(),
        ["matmul forward Nt M=8192 N=8192 K=8192 f32", "matmul forward:naive Nt M=8192 N=8192 K=8192 f32"]
    );
    let timer = Timer::of(&Device::Cpu);
    let bench = |flops_per_second| Bench {
        device: &Device::Cpu,
        timer: &timer,
        ceilings: Ceilings { f32_flops_per_second: Some(flops_per_second), ..Ceilings::default() },
        cache: 1 << 20,
        memory: u64::MAX,
        budget: 10.0,
        samples: FEW,
    };
    let reason = |flops_per_second: f64, item: &Item| {
        let Work::Case { case, dtype, plain, .. } = &item.work else { unreachable!("a matmul is a case") };
        bench(flops_per_second).too_much(case, *dtype, *plain)
    };
    // 2 · 8192³ operations, five times: 55 s at 10¹¹ a second, and 40 s are too many.
    assert_eq!(reason(1e11, &items[0]).unwrap(), "5 samples would take 55 s or more: beyond the time of this run");
    assert_eq!(reason(2e11, &items[0]), None);
    assert!(reason(2e11, &items[1]).unwrap().contains("beyond the time"), "plain loops are no faster on a fast machine");
}

#[test]
fn a_filter_that_matches_nothing_says_what_there_is() {
    let say = |options: BenchOptions| run(&Device::Cpu, &options, &mut quiet).unwrap_err().to_string();
    assert!(say(BenchOptions { op: Some("matmull".into()), ..options() }).contains("expected one of embedding, patch_embed"));
    assert!(say(BenchOptions { sets: vec!["huge".into()], ..options() }).contains("expected one of demo, small, large"));
    assert!(say(BenchOptions { op: Some("swiglu".into()), shape: Some("N=7".into()), ..options() }).contains("there are \"N=1920 F=176\""));
    assert!(say(BenchOptions { op: Some("primer".into()), ..options() }).contains("primer has no sizes of a model"));
    assert!(say(BenchOptions { dtype: Some(DType::Bf16), ..options() }).contains("no bf16 kernels"));
    let emulator = Device::open("emulator", None).unwrap();
    assert!(run(&emulator, &options(), &mut quiet).unwrap_err().to_string().contains("counts instructions"));
}

/// Lists of cases are made before anything is drawn: even the largest set costs nothing.
#[test]
fn the_largest_set_is_listed_at_once() {
    let start = Instant::now();
    let mut entries = 0;
    for op in OPS {
        for case in (op.sized)(&Sizes::LARGE) {
            // Gathering rows is not arithmetic.
            assert!((case.flops > 0 || op.name == "embedding") && case.bytes(DType::Bf16) > 0, "{} {}", op.name, case.label);
            entries += 1;
        }
    }
    assert!(entries > 100 && start.elapsed().as_secs() < 30, "{entries} cases in {:?}", start.elapsed());
}
