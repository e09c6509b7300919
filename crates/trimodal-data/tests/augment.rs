//! Augmentation: what stays as it is, what is never lost, and that nothing but seed, epoch and row decides.

use proptest::prelude::*;
use std::sync::Arc;
use trimodal_data::augment::sides::WORDS;
use trimodal_data::augment::{Augmentation, Level, Look, Overrides, Sides, Strengths};
use trimodal_data::loader::{DataPosition, Loader, LoaderOptions, Visit};
use trimodal_data::{Dataset, Fit, Limits, MediaSizes, meadow};

fn with(level: Level, given: Overrides, seed: u64) -> Augmentation {
    let strengths = Strengths::new(level, &given);
    strengths.check().unwrap();
    Augmentation { strengths, sides: Sides::new(WORDS), seed, ..Augmentation::default() }
}

fn visit(epoch: u64, row: u64) -> Visit {
    Visit { epoch, row }
}

/// Any bytes.
fn noise(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|i| ((i * 2_654_435_761 + seed * 40_503) >> 7) as u8).collect()
}

fn looks(augmentation: &Augmentation, n: u64) -> impl Iterator<Item = Look> {
    (0..n).map(|epoch| augmentation.look(visit(epoch, 7), true))
}

#[test]
fn at_zero_strength_the_bytes_are_the_same() {
    let (rgb, alpha) = (noise(31 * 31 * 3, 1), noise(31 * 31, 2));
    let off = with(Level::Off, Overrides::default(), 3);
    for look in looks(&off, 5) {
        assert_eq!(look.of(&rgb, None, 31), rgb);
        assert_eq!(look.of(&rgb, Some(&alpha), 31), rgb);
    }
    let clip: Vec<f32> = noise(800, 4).iter().map(|v| *v as f32 / 255.0 - 0.5).collect();
    let mut mel = clip.clone();
    let hearing = off.hearing(visit(0, 0));
    hearing.mask(&mut mel, 40);
    assert_eq!((hearing.of(&clip), mel), (clip.clone(), clip));
    // Resampled all the same, by a map that leaves everything where it is.
    let still = with(Level::Off, Overrides { shift: Some(1e-9), ..Overrides::default() }, 3);
    assert!(looks(&still, 5).all(|look| look.of(&rgb, None, 31) == rgb && look.of(&rgb, Some(&alpha), 31) == rgb));
}

#[test]
fn mirrored_twice_is_as_it_was() {
    let mirrors = with(Level::Off, Overrides { flip: Some(1.0), ..Overrides::default() }, 3);
    for side in [1, 2, 31, 48] {
        let rgb = noise(side * side * 3, side);
        let look = mirrors.look(visit(0, 0), true);
        let once = look.of(&rgb, None, side);
        for (row, mirrored) in rgb.chunks(3 * side).zip(once.chunks(3 * side)) {
            assert!(row.chunks(3).eq(mirrored.chunks(3).rev()));
        }
        assert_eq!(look.of(&once, None, side), rgb);
        assert_eq!(mirrors.look(visit(0, 0), false).of(&rgb, None, side), rgb);
    }
}

#[test]
fn a_caption_or_prompt_that_names_a_side_is_never_mirrored() {
    let light = with(Level::Light, Overrides::default(), 0);
    for (caption, prompt, may) in [
        ("an arrow to the left", "", false),
        ("a cat", "what is on the Right?", false),
        ("a bright cat", "", true),
        ("a cat", "what is it?", true),
        ("right-pointing triangle", "", false),
    ] {
        assert_eq!(light.mirrors(caption, prompt), may, "{caption} {prompt}");
    }
    let chosen = Augmentation { sides: Sides::new("port, starboard"), ..light.clone() };
    assert!(chosen.mirrors("the left one", "") && !chosen.mirrors("the Port side", ""));
    let none = Augmentation { strengths: Strengths { flip: 0.0, ..light.strengths }, ..light };
    assert!(!none.mirrors("a cat", ""));
}

#[test]
fn the_background_of_a_transparent_picture_is_another_and_its_middle_is_not() {
    let side = 24;
    let inside = |i: usize| (8..16).contains(&(i % side)) && (8..16).contains(&(i / side));
    let rgb: Vec<u8> = (0..side * side).flat_map(|i| if inside(i) { [200, 30, 60] } else { [255; 3] }).collect();
    let alpha: Vec<u8> = (0..side * side).map(|i| if inside(i) { 255 } else { 0 }).collect();
    let always = with(Level::Off, Overrides { background: Some(1.0), ..Overrides::default() }, 1);
    let mut backgrounds = std::collections::BTreeSet::new();
    for look in looks(&always, 20) {
        let seen = look.of(&rgb, Some(&alpha), side);
        let behind = &seen[..3];
        backgrounds.insert(behind.to_vec());
        for (i, pixel) in seen.chunks(3).enumerate() {
            assert_eq!(pixel, if inside(i) { &[200, 30, 60][..] } else { behind });
        }
        assert_eq!(look.of(&rgb, None, side), rgb, "what is not transparent has no background");
    }
    assert!(backgrounds.len() > 15);
    // Half transparent is half the background; beyond the edges there is nothing else.
    let half = with(Level::Off, Overrides { background: Some(1.0), shift: Some(0.5), ..Overrides::default() }, 1);
    for look in looks(&half, 20) {
        let full = look.of(&rgb, Some(&vec![0; side * side]), side);
        let behind: [u8; 3] = look.of(&vec![255; side * side * 3], Some(&vec![0; side * side]), side)[..3].try_into().unwrap();
        let black = look.of(&vec![127; side * side * 3], Some(&vec![128; side * side]), side);
        assert!(full.len() == rgb.len() && black.chunks(3).all(|p| p.iter().zip(behind).all(|(v, b)| *v <= b / 2 + 2 || *v <= b)));
    }
}

#[test]
fn the_edges_of_an_opaque_picture_are_mirrored() {
    // A ramp: read beyond its edges it turns back, so no value is new and neighbours differ by little.
    let side = 32;
    let ramp: Vec<u8> = (0..side * side).flat_map(|i| [(i % side * 8) as u8; 3]).collect();
    let moves = with(Level::Off, Overrides { shift: Some(0.5), ..Overrides::default() }, 2);
    for look in looks(&moves, 50) {
        for row in look.of(&ramp, None, side).chunks(3 * side) {
            assert!(row.chunks(3).zip(row.chunks(3).skip(1)).all(|(a, b)| a[0].abs_diff(b[0]) <= 9), "{row:?}");
        }
    }
    let white = vec![255; side * side * 3];
    let strong = with(Level::Strong, Overrides { brightness: Some(0.0), contrast: Some(0.0), erase: Some(0.0), ..Overrides::default() }, 2);
    assert!(looks(&strong, 50).all(|look| look.of(&white, None, side).iter().all(|v| *v >= 254)));
}

#[test]
fn what_is_erased_is_a_rectangle_of_the_size_that_was_asked_for() {
    let side = 40;
    let black = vec![0; side * side * 3];
    let erases = with(Level::Off, Overrides { erase: Some(1.0), erase_size: Some(0.4), ..Overrides::default() }, 5);
    for look in looks(&erases, 100) {
        let seen = look.of(&black, None, side);
        let covered: Vec<usize> = (0..side * side).filter(|&i| seen[3 * i..3 * i + 3] != [0; 3]).collect();
        let span = |of: fn(usize) -> usize| covered.iter().map(|&i| of(i)).max().unwrap() - covered.iter().map(|&i| of(i)).min().unwrap() + 1;
        let (width, height) = (span(|i| i % 40), span(|i| i / 40));
        assert_eq!(covered.len(), width * height);
        assert!((6..=16).contains(&width) && (6..=16).contains(&height), "{width} × {height}");
    }
}

#[test]
fn an_erased_share_is_the_share_of_the_visits() {
    let (side, n) = (16, 2000);
    let black = vec![0; side * side * 3];
    let erases = with(Level::Off, Overrides { erase: Some(0.2), erase_size: Some(0.4), ..Overrides::default() }, 5);
    let erased = looks(&erases, n).filter(|look| look.of(&black, None, side) != black).count();
    assert!((0.16..0.24).contains(&(erased as f64 / n as f64)), "{erased}");
}

/// The longest stretch of a sound that is louder than its noise.
fn spectrum_peak(clip: &[f32]) -> f64 {
    // Crossings of zero: the frequency of a tone.
    let crossings = clip.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
    crossings as f64 / clip.len() as f64
}

#[test]
fn a_tone_is_shifted_scaled_and_sped_up_exactly() {
    let n = 8000;
    let tone = |cycles: f64, at: f64| (std::f64::consts::TAU * cycles * at).sin() * 0.4;
    let clip: Vec<f32> = (0..n).map(|i| tone(0.05, i as f64) as f32).collect();
    let sped = with(Level::Off, Overrides { tempo: Some(0.2), ..Overrides::default() }, 1);
    let mut tempos = Vec::new();
    for epoch in 0..20 {
        let heard = sped.hearing(visit(epoch, 0)).of(&clip);
        assert_eq!(heard.len(), n);
        let tempo = spectrum_peak(&heard[..4000]) / 0.05;
        assert!((0.8..1.25).contains(&tempo), "{tempo}");
        // The same tone at that speed, to the filter's precision: the tempo is found by the best fit near it, as 200 crossings tell it to one.
        let worst = |tempo: f64| (100..4000).step_by(7).map(|i| (heard[i] as f64 - tone(0.05, i as f64 * tempo)).abs()).fold(0.0, f64::max);
        let best = (-6000..=6000).map(|i| worst(tempo + i as f64 * 1e-6)).fold(f64::MAX, f64::min);
        assert!(best < 0.004, "epoch {epoch}: {best}");
        tempos.push(tempo);
    }
    assert!(tempos.iter().any(|t| *t > 1.05) && tempos.iter().any(|t| *t < 0.95), "{tempos:?}");
    let shifts = with(Level::Off, Overrides { sound_shift: Some(0.1), ..Overrides::default() }, 1);
    for epoch in 0..20 {
        let heard = shifts.hearing(visit(epoch, 0)).of(&clip);
        let silent = |part: &[f32]| part.iter().take_while(|v| **v == 0.0).count();
        let (before, after) = (silent(&heard), silent(&heard.iter().rev().copied().collect::<Vec<_>>()));
        assert!(before.max(after) <= n / 10 && before.min(after) < 25, "{before} {after}");
    }
}

#[test]
fn noise_is_as_loud_as_asked_for_and_gain_is_decibels() {
    let clip: Vec<f32> = (0..8000).map(|i| (i as f32 * 0.3).sin() * 0.4).collect();
    let rms = |clip: &[f32]| (clip.iter().map(|v| (*v as f64).powi(2)).sum::<f64>() / clip.len() as f64).sqrt();
    let noisy = with(Level::Off, Overrides { noise: Some(0.1), ..Overrides::default() }, 1);
    let levels: Vec<f64> = (0..400)
        .map(|epoch| {
            let heard = noisy.hearing(visit(epoch, 0)).of(&clip);
            rms(&heard.iter().zip(&clip).map(|(a, b)| a - b).collect::<Vec<_>>()) / rms(&clip)
        })
        .collect();
    let silent = levels.iter().filter(|level| **level == 0.0).count();
    assert!((150..250).contains(&silent) && levels.iter().all(|level| *level < 0.103) && levels.iter().any(|level| *level > 0.09), "{silent}");
    let louder = with(Level::Off, Overrides { gain: Some(6.0), ..Overrides::default() }, 1);
    let gains: Vec<f64> = (0..400).map(|epoch| 20.0 * (rms(&louder.hearing(visit(epoch, 0)).of(&clip)) / rms(&clip)).log10()).collect();
    assert!(gains.iter().all(|gain| gain.abs() < 6.01) && gains.iter().any(|gain| *gain > 5.5) && gains.iter().any(|gain| *gain < -5.5));
    // Silence stays silent: noise is a share of the sound's level.
    assert!((0..20).all(|epoch| noisy.hearing(visit(epoch, 0)).of(&[0.0; 100]) == [0.0; 100]));
}

#[test]
fn masks_are_of_the_size_that_was_asked_for_and_leave_the_rest() {
    let (frames, bands) = (50, 40);
    let mel: Vec<f32> = noise(frames * bands, 3).iter().map(|v| *v as f32 / 255.0).collect();
    let mean = (mel.iter().map(|v| *v as f64).sum::<f64>() / mel.len() as f64) as f32;
    let masks = with(Level::Off, Overrides { time_mask: Some(0.2), frequency_mask: Some(0.5), ..Overrides::default() }, 1);
    let mut most = [0, 0];
    for epoch in 0..200 {
        let mut masked = mel.clone();
        masks.hearing(visit(epoch, 0)).mask(&mut masked, bands);
        assert!(masked.iter().zip(&mel).all(|(a, b)| a == b || *a == mean));
        let rows = (0..frames).filter(|&f| masked[f * bands..(f + 1) * bands].iter().all(|v| *v == mean)).count();
        let columns = (0..bands).filter(|&b| (0..frames).all(|f| masked[f * bands + b] == mean)).count();
        assert!(rows <= frames / 5 && columns <= bands / 2);
        most = [most[0].max(rows), most[1].max(columns)];
    }
    assert!(most[0] >= 9 && most[1] >= 18, "{most:?}");
}

fn any_strengths() -> impl Strategy<Value = Augmentation> {
    let table = trimodal_data::augment::strengths::TABLE;
    let values: Vec<_> = table.iter().map(|row| prop_oneof![Just(0.0), 0.0..=row.most, Just(row.most)]).collect();
    (values, any::<u64>()).prop_filter_map("leaves too little", |(values, seed)| {
        let json: serde_json::Map<_, _> =
            trimodal_data::augment::strengths::TABLE.iter().zip(values).map(|(row, v)| (row.name.to_string(), v.into())).collect();
        let given: Overrides = serde_json::from_value(json.into()).unwrap();
        let strengths = Strengths::new(Level::Off, &given);
        strengths.check().is_ok().then(|| Augmentation { strengths, sides: Sides::default(), seed, ..Augmentation::default() })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn sizes_stay_bits_are_decided_and_nothing_is_wholly_erased(
        augmentation in any_strengths(), epoch in any::<u32>(), row in any::<u32>(), side in 1usize..50, opaque: bool, mirrors: bool,
    ) {
        let (rgb, alpha) = (noise(side * side * 3, row as usize), noise(side * side, epoch as usize));
        let alpha = (!opaque).then_some(&alpha[..]);
        let at = visit(epoch as u64, row as u64);
        let seen = augmentation.look(at, mirrors).of(&rgb, alpha, side);
        prop_assert_eq!(seen.len(), rgb.len());
        prop_assert_eq!(&seen, &augmentation.look(at, mirrors).of(&rgb, alpha, side));
        // Another erasure's colour shows what was erased: what differs then is at most half.
        let erased = Augmentation { strengths: Strengths { erase: 1.0, ..augmentation.strengths }, ..augmentation.clone() };
        let whole = Augmentation { strengths: Strengths { erase: 0.0, ..augmentation.strengths }, ..augmentation.clone() };
        let (erased, whole) = (erased.look(at, mirrors).of(&rgb, alpha, side), whole.look(at, mirrors).of(&rgb, alpha, side));
        let covered = erased.chunks(3).zip(whole.chunks(3)).filter(|(a, b)| a != b).count();
        prop_assert!(side < 4 && (covered < side * side || side == 1) || covered * 100 <= side * side * 60, "{} of {}", covered, side * side);
    }

    #[test]
    fn sounds_are_numbers_of_the_same_length(augmentation in any_strengths(), epoch in any::<u32>(), n in 0usize..3000, bands in 1usize..50) {
        let clip: Vec<f32> = noise(n, epoch as usize).iter().map(|v| *v as f32 / 127.5 - 1.0).collect();
        let hearing = augmentation.hearing(visit(epoch as u64, 1));
        let heard = hearing.of(&clip);
        prop_assert_eq!(heard.len(), n);
        prop_assert!(heard.iter().all(|v| v.is_finite() && v.abs() < 1e4));
        prop_assert_eq!(&heard, &augmentation.hearing(visit(epoch as u64, 1)).of(&clip));
        let mut mel: Vec<f32> = clip.iter().copied().take(n / bands * bands).collect();
        hearing.mask(&mut mel, bands);
        prop_assert!(mel.iter().all(|v| v.is_finite()));
    }
}

const SIZES: MediaSizes = MediaSizes { picture: 24, fit: Fit::Crop, sample_rate: 16_000, samples: 800 };

/// Every visit is drawn anew on a worker, whatever is kept, and the same with any number of workers and from any place.
#[test]
fn visits_are_the_same_with_any_number_of_workers_any_cache_and_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let options = meadow::MeadowOptions { samples: 12, test_samples: 1, seed: 1, pictures: true, sounds: false };
    meadow::write(folder.path(), &options, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
    let dataset = Arc::new(Dataset::open(folder.path(), &Limits::default()).unwrap());
    let start = |workers: usize, cache_bytes: u64, from: DataPosition| {
        let augmentation = with(Level::Strong, Overrides::default(), 9);
        let options = LoaderOptions { seed: 9, workers, queue: 7, cache_bytes, ..LoaderOptions::default() };
        let show = move |kept: &Arc<Vec<u8>>, visit| Ok(Arc::new(augmentation.look(visit, true).of(kept, None, 24)));
        let rows = (0..12).collect();
        Loader::visits(dataset.clone(), rows, SIZES, true, options, from, |s| Ok(s.picture.unwrap().rgb), |kept| kept.len() as u64, show, true).unwrap()
    };
    let take = |mut loader: Loader<Vec<u8>, Vec<u8>>, n: usize| {
        (0..n).map(|_| loader.next().unwrap()).map(|l| (l.epoch, l.index, l.item.to_vec(), l.after)).collect::<Vec<_>>()
    };
    let expected = take(start(1, 0, DataPosition::default()), 40);
    for (workers, cache) in [(1, 1 << 30), (8, 0), (8, 1 << 30), (3, 24 * 24 * 3 * 5)] {
        assert!(take(start(workers, cache, DataPosition::default()), 40) == expected, "{workers} workers, {cache} bytes");
    }
    for i in [0, 7, 11, 12, 30] {
        assert!(take(start(8, 1 << 30, expected[i].3), 39 - i) == expected[i + 1..], "from {i}");
    }
    let of_row: Vec<&Vec<u8>> = expected.iter().filter(|seen| seen.1 == 5).map(|seen| &seen.2).collect();
    assert!(of_row.len() >= 3 && of_row.windows(2).all(|pair| pair[0] != pair[1]), "each visit differs");
}

/// Nanoseconds that this thread has computed: others' programs do not lengthen them.
#[cfg(target_os = "linux")]
fn computed() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// A measurement, to be read: `cargo test --release -p trimodal-data --test augment what_it_costs -- --ignored --nocapture`
#[cfg(target_os = "linux")]
#[test]
#[ignore = "a measurement"]
fn what_it_costs() {
    let quickest = |n: u64, work: &dyn Fn(u64)| {
        let times = (0..5).map(|_| {
            let begin = computed();
            (0..n).for_each(work);
            (computed() - begin) / n as f64 / 1e3
        });
        times.fold(f64::MAX, f64::min)
    };
    for side in [48, 64, 96, 224] {
        let (rgb, alpha) = (noise(side * side * 3, 1), noise(side * side, 2));
        for (name, level, alpha) in
            [("light, opaque", Level::Light, None), ("strong, opaque", Level::Strong, None), ("light, transparent", Level::Light, Some(&alpha[..]))]
        {
            let augmentation = with(level, Overrides::default(), 1);
            let of = |epoch| assert_eq!(augmentation.look(visit(epoch, 0), true).of(&rgb, alpha, side).len(), rgb.len());
            println!("{side} × {side}, {name}: {:.1} µs a picture", quickest(5_000_000 / (side * side) as u64, &of));
        }
    }
    let clip: Vec<f32> = noise(8000, 1).iter().map(|v| *v as f32 / 255.0).collect();
    let augmentation = with(Level::Light, Overrides::default(), 1);
    println!("8,000 samples, light: {:.1} µs a clip", quickest(1000, &|epoch| assert_eq!(augmentation.hearing(visit(epoch, 0)).of(&clip).len(), 8000)));
}
