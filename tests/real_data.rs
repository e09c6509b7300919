//! `scripts/real-data` builds what the program reads, from packages of its test's own making; the card in `benches/real` says what its results say.
//! The real packages come over the network, so no test fetches them: the script has the digest of each, and of each set that it builds.
#![cfg(feature = "data")]

use std::path::Path;
use std::process::Command;
use trimodal::data::{Dataset, Fit, Limits, MediaSizes};

const SIZES: MediaSizes = MediaSizes { picture: 48, fit: Fit::Pad, sample_rate: 16_000, samples: 8_000 };

/// Runs a script; `false` where there is no Python, as on a machine that only builds. scripts/test installs it.
fn python(arguments: &[&str]) -> bool {
    match Command::new("python3").current_dir(env!("CARGO_MANIFEST_DIR")).env("PYTHONDONTWRITEBYTECODE", "1").args(arguments).output() {
        Ok(out) => {
            assert!(out.status.success(), "{arguments:?}: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            true
        }
        Err(error) => {
            eprintln!("WARNING: {arguments:?} was NOT TRIED: python3: {error}");
            false
        }
    }
}

#[test]
fn the_script_builds_sets_that_the_program_reads() {
    let folder = tempfile::tempdir().unwrap();
    let built = folder.path().join("sets");
    if !python(&["tests/real_data/self_test.py", built.to_str().unwrap()]) {
        return;
    }
    let emoji = (&["test_style", "train"][..], &["category"][..]);
    for (name, (splits, attributes)) in [
        ("emoji-without-facebook", emoji),
        ("emoji-without-google", emoji),
        ("emoji-without-twitter", emoji),
        ("stamps", (&["test_recording", "test_stamp", "train"], &["category", "language"])),
        ("speech", (&["test_word", "train"], &[])),
    ] {
        let set = Dataset::open(&built.join(name), &Limits::default()).unwrap();
        let mut found: Vec<String> = set.splits().into_iter().map(|(split, _)| split).collect();
        found.sort();
        assert_eq!(found, splits, "{name}");
        let declared = set.attributes(None).unwrap();
        assert_eq!(declared.list().iter().map(|attribute| attribute.name.as_str()).collect::<Vec<_>>(), attributes, "{name}");
        for row in set.rows() {
            let (text, sample) = (row.text.as_deref().unwrap(), set.sample(row, &SIZES).unwrap());
            // Each caption says what its row declares, also where only its words are looked at.
            assert!(declared.of(text).iter().all(Option::is_some), "{name}: {text}");
            assert_eq!((sample.picture.is_some(), sample.sound.is_some()), (name != "speech", !name.starts_with("emoji")), "{name}");
        }
    }
}

/// `python3 benches/real/card.py` was run after the last result.
#[test]
fn the_card_says_what_the_results_say() {
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/real/results").is_dir());
    python(&["benches/real/card.py", "--check"]);
}
