//! Folders and shards as people have them, read as Hugging Face's `datasets` and `webdataset` read them, or refused by name.

mod common;

use std::fs;
use std::path::Path;

use common::says;
use tar::{Builder, Header};
use trimodal_data::{Dataset, Fit, Limits, MediaSizes, Picture, Result, Sample, meadow};

const SIZES: MediaSizes = MediaSizes { picture: 8, fit: Fit::Crop, sample_rate: 16_000, samples: 800 };

fn png(shade: u8) -> Vec<u8> {
    meadow::png(&Picture { width: 8, height: 8, rgb: vec![shade; 192] }).unwrap()
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn open(path: &Path) -> Result<Dataset> {
    Dataset::open(path, &Limits::default())
}

/// `text, split, shade of the picture` of every sample.
fn short(path: &Path) -> Vec<(String, Option<String>, Option<u8>)> {
    let data = open(path).unwrap_or_else(|error| panic!("{error}"));
    let samples: Vec<Sample> = data.rows().iter().map(|row| data.sample(row, &SIZES).unwrap_or_else(|error| panic!("{error}"))).collect();
    samples.into_iter().map(|s| (s.text, s.split, s.picture.map(|p| p.rgb[0]))).collect()
}

fn row(text: &str, split: Option<&str>, shade: Option<u8>) -> (String, Option<String>, Option<u8>) {
    (text.into(), split.map(str::to_string), shade)
}

// ── folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_table_is_found_however_deep_it_lies() {
    let table = b"{\"file_name\": \"a.png\", \"text\": \"one\"}\n{\"text\": \"two\"}\n";
    for (at, split) in [("data/train/", Some("train")), ("a/b/c/", None), ("x/my-testing/y/", Some("test")), ("", None), ("data/", None)] {
        let dir = folder(&[(&format!("{at}metadata.jsonl"), table), (&format!("{at}a.png"), &png(3)), (&format!("{at}b.png"), &png(4))]);
        assert_eq!(short(dir.path()), [row("one", split, Some(3)), row("two", split, None)], "{at}");
    }
    // All of them, as `load_dataset` does; hidden folders and those of macOS are none.
    let dir = folder(&[
        ("metadata.jsonl", b"{\"text\": \"root\"}\n"),
        ("data/val/metadata.csv", b"text\nvalidation\n"),
        ("data/val2/deeper/metadata.csv", b"text\nmore\n"),
        ("__MACOSX/metadata.csv", b"text\nnone\n"),
        (".git/metadata.csv", b"text\nnone\n"),
    ]);
    assert_eq!(short(dir.path()), [row("root", None, None), row("validation", Some("validation"), None), row("more", Some("validation"), None)]);
    // Where one folder is a split, those of other names are too.
    let dir = folder(&[("train/metadata.csv", b"text\na\n"), ("held_out_both/metadata.csv", b"text\nb\n")]);
    assert_eq!(short(dir.path()), [row("b", Some("held_out_both"), None), row("a", Some("train"), None)]);
    let dir = folder(&[("cats/metadata.csv", b"text\na\n"), ("dogs/metadata.csv", b"text\nb\n")]);
    assert_eq!(short(dir.path()), [row("a", None, None), row("b", None, None)]);
}

#[test]
fn no_caption_is_made_up_beside_a_table() {
    let picture = png(1);
    for name in [
        "metadata1000.jsonl",
        "Metadata.jsonl",
        "metadata.json",
        "metadata (1).jsonl",
        "metadata.jsonl.gz",
        "metadata.tsv",
        "captions.jsonl",
        "labels.csv",
        "annotations/instances_val2017.json",
        "cat/metadata.ndjson",
    ] {
        let dir = folder(&[("cat/1.png", &picture), (name, b"{}")]);
        says(open(dir.path()), &[name, "metadata.jsonl or metadata.csv", "names of folders"]);
        let dir = folder(&[(name, b"{\"text\": \"a\"}")]);
        says(open(dir.path()), &[name, "metadata.jsonl or metadata.csv"]);
    }
    // Captions of their own need no table, a `.json` may describe one picture, and these describe a data set.
    let dir = folder(&[("cat/1.png", &picture), ("cat/1.txt", b"mine"), ("stats.csv", b"x"), ("cat/1.json", b"{}")]);
    assert_eq!(short(dir.path()), [row("mine", None, Some(1))]);
    let dir = folder(&[("cat/1.png", &picture), ("cat/1.json", b"{}"), ("dataset_info.json", b"{}"), ("README.md", b"x")]);
    assert_eq!(short(dir.path()), [row("cat", None, Some(1))]);
}

#[test]
fn every_word_of_datasets_is_a_split() {
    let dir = folder(&[
        ("training/0/0.png", &png(1)),
        ("training/1/0.png", &png(2)),
        ("testing/0/0.png", &png(3)),
        ("evaluation/0/0.png", &png(4)),
        ("dev_set/0/0.png", &png(5)),
        ("trainers/0.png", &png(6)),
    ]);
    let expected = [
        row("0", Some("validation"), Some(5)),
        row("0", Some("test"), Some(4)),
        row("0", Some("test"), Some(3)),
        row("trainers", None, Some(6)),
        row("0", Some("train"), Some(1)),
        row("1", Some("train"), Some(2)),
    ];
    let mut found = short(dir.path());
    found.sort_by_key(|(_, _, shade)| *shade);
    let mut expected = expected.to_vec();
    expected.sort_by_key(|(_, _, shade)| *shade);
    assert_eq!(found, expected);
    // Captions come from below the split, so that there is none here.
    let dir = folder(&[("images/train/1.png", &png(1)), ("images/val/2.png", &png(2))]);
    assert_eq!(short(dir.path()), [row("", Some("train"), Some(1)), row("", Some("validation"), Some(2))]);
    assert!(open(dir.path()).unwrap().rows().iter().all(|row| row.text.is_none()));
}

#[test]
fn shards_are_found_at_any_depth_and_their_names_may_be_splits() {
    let shard = |text: &str| tar_of(&[("0.txt", text.as_bytes())]);
    let dir = folder(&[("data/cc-train-00000.tar", &shard("a")), ("data/cc-val-00000.tar", &shard("b")), ("data/deep/er/x.tar", &shard("c"))]);
    assert_eq!(short(dir.path()), [row("a", Some("train"), None), row("b", Some("validation"), None), row("c", Some("er"), None)]);
    let dir = folder(&[("a/0.tar", &shard("a")), ("b/0.tar", &shard("b"))]);
    assert_eq!(short(dir.path()), [row("a", None, None), row("b", None, None)]);
}

// ── shards ───────────────────────────────────────────────────────────────────────────────────────────────────────────

fn shard(members: &[(&str, &[u8])]) -> tempfile::TempDir {
    folder(&[("s.tar", &tar_of(members))])
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    let dir = shard(&[("0.txt", "\u{feff}a cat\r\n".as_bytes()), ("1.json", "\u{feff}{\"text\": \"a dog\", \"score\": NaN}".as_bytes())]);
    assert_eq!(short(dir.path()), [row("a cat", None, None), row("a dog", None, None)]);
}

#[test]
fn names_with_more_dots_keep_their_pictures() {
    let (one, two) = (png(1), png(2));
    let names = |dir: &tempfile::TempDir| open(dir.path()).unwrap().rows().iter().map(|row| row.name.clone()).collect::<Vec<_>>();
    // The only picture of the sample.
    let dir = shard(&[("0.left.png", &one), ("0.txt", b"a"), ("1.left.png", &two), ("1.left.txt", b"b")]);
    assert_eq!(short(dir.path()), [row("a", None, Some(1)), row("b", None, Some(2))]);
    // Keys with dots.
    let dir = shard(&[("22.05.png", &one), ("22.05.txt", b"a"), ("22.06.png", &two), ("22.06.json", b"{\"text\": \"b\"}")]);
    assert_eq!(short(dir.path()), [row("a", None, Some(1)), row("b", None, Some(2))]);
    assert_eq!(names(&dir), ["22.05", "22.06"]);
    // Members with one dot decide: a mask, or a second caption, is none of ours.
    let dir = shard(&[("0.png", &one), ("0.mask.png", &two), ("0.txt", b"a"), ("0.license.txt", b"\xff"), ("0.meta.json", b"[]"), ("0.thumb.gif", b"x")]);
    assert_eq!(short(dir.path()), [row("a", None, Some(1))]);
    // Two pictures of one sample, and nothing that says which.
    says(open(shard(&[("0.left.png", &one), ("0.right.png", &two), ("0.txt", b"a")]).path()), &["0.left.png", "0.right.png", "first dot", "one picture"]);
    says(open(shard(&[("0.left.png", &one), ("0.right.png", &two)]).path()), &["0.left.png", "0.right.png"]);
    says(open(shard(&[("0.png", &one), ("0.jpg", &two)]).path()), &["0.jpg", "second picture"]);
    says(open(shard(&[("0.txt", b"\xff")]).path()), &["0.txt", "UTF-8"]);
    says(open(shard(&[("0.gif", b"GIF89a")]).path()), &["0.gif", "a GIF", "magick"]);
}

#[test]
fn litter_is_no_sample() {
    let dir = shard(&[("0.png", &png(1)), ("0.txt", b"a"), ("Thumbs.db", b"x"), ("a/desktop.ini", b"x"), ("README.md", b"x"), ("__MACOSX/._0.png", b"x")]);
    assert_eq!(short(dir.path()), [row("a", None, Some(1))]);
    let dir = folder(&[("cat/0.png", &png(1)), ("cat/Thumbs.db", b"x"), ("__MACOSX/cat/0.png", b"x"), ("cat/.DS_Store", b"x")]);
    assert_eq!(short(dir.path()), [row("cat", None, Some(1))]);
}

#[test]
fn archives_one_after_the_other_are_read_to_the_end() {
    let (one, two) = (tar_of(&[("0.txt", b"a")]), tar_of(&[("1.png", &png(2)), ("1.txt", b"b")]));
    for padding in [0, 512, 10_240, 100_000 / 512 * 512] {
        let dir = folder(&[("s.tar", &[&one[..], &vec![0; padding], &two, &vec![0; 8_192]].concat())]);
        assert_eq!(short(dir.path()), [row("a", None, None), row("b", None, Some(2))], "{padding}");
        let data = open(dir.path()).unwrap();
        assert_eq!(data.origin(&data.rows()[1]), format!("s.tar, byte {}", one.len() + padding));
    }
    let dir = folder(&[("s.tar", &[&one[..], &[0; 512], &[7; 512]].concat())]);
    says(open(dir.path()), &["s.tar", "end mark", "follows"]);
}

// ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_python_calls_json_is_read() {
    let table = b"{\"text\": \"a\", \"score\": NaN, \"box\": [Infinity, -Infinity]}\n{\"text\": \"NaN is a word\", \"image\": NaN}\n";
    let dir = folder(&[("metadata.jsonl", table)]);
    assert_eq!(short(dir.path()), [row("a", None, None), row("NaN is a word", None, None)]);
    says(open(folder(&[("metadata.jsonl", b"{\"text\": NaN}")]).path()), &["line 1", "neither"]);
}

#[test]
fn names_that_look_the_same_are_told_apart() {
    let (composed, decomposed) = ("caf\u{e9}.png", "cafe\u{301}.png");
    for (written, there) in [(composed, decomposed), (decomposed, composed)] {
        let table = format!("{{\"file_name\": \"{written}\", \"text\": \"a\"}}\n");
        let dir = folder(&[("metadata.jsonl", table.as_bytes()), (there, &png(1))]);
        let data = open(dir.path()).unwrap();
        says(data.sample(&data.rows()[0], &SIZES), &["line 1", r"e\u{301}", r"\u{e9}", "other characters"]);
    }
}
