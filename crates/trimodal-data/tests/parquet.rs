//! Parquet files that other programs wrote (scripts/parquet-fixtures.py): every row is a sample, a bad row, or said.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::says;
use trimodal_data::loader::{DataPosition, Loader, LoaderOptions, OnBadSample};
use trimodal_data::{Dataset, Fit, Limits, MediaSizes, OpenOptions, Result, Sample, TableRow};

const SIZES: MediaSizes = MediaSizes { picture: 4, fit: Fit::Crop, sample_rate: 16_000, samples: 8 };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parquet").join(name)
}

fn open(path: &Path, columns: &str) -> Result<Dataset> {
    Dataset::open_with(path, &OpenOptions { columns: columns.parse().unwrap(), ..OpenOptions::default() })
}

fn skipping(path: &Path, columns: &str) -> Dataset {
    Dataset::open_with(path, &OpenOptions { columns: columns.parse().unwrap(), skip_bad: true, ..OpenOptions::default() }).unwrap()
}

/// The grey of its picture, the value of its sound, its text.
fn told(sample: &Sample) -> (Option<u8>, Option<i32>, String) {
    let grey = sample.picture.as_ref().map(|picture| picture.rgb[0]);
    (grey, sample.sound.as_ref().map(|sound| (sound[0] * 32768.0) as i32), sample.text.clone())
}

fn all(data: &Dataset) -> Vec<(Option<u8>, Option<i32>, String)> {
    data.rows().iter().map(|row| told(&data.sample(row, &SIZES).unwrap())).collect()
}

#[test]
fn rows_declare_attributes() {
    let declared = |name: &str| -> Vec<Vec<(String, String)>> {
        let data = open(&fixture(name), "").unwrap();
        assert!(data.notes().is_empty(), "{:?}", data.notes());
        data.rows().iter().map(|row| row.attributes.clone().into_iter().collect()).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> { pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect() };
    let expected = [pairs(&[("animal", "cat"), ("colour", "red"), ("legs", "4")]), pairs(&[("animal", "dog"), ("legs", "3")])];
    assert_eq!(declared("attributes.parquet"), expected);
    assert_eq!(declared("attributes_json.parquet"), [pairs(&[("animal", "cat"), ("legs", "4")]), pairs(&[])]);
}

#[test]
fn a_repository_of_the_hub_is_read_with_its_splits() {
    let data = open(&fixture("hub"), "").unwrap();
    assert_eq!((data.kind(), data.splits()), ("parquet", vec![("test".into(), 2), ("train".into(), 5)]));
    let mut found = all(&data);
    found.sort_by_key(|(_, _, text)| text.clone());
    let expected: Vec<_> = (0..7u8).map(|i| (Some(i), (i != 2).then_some(i as i32), format!("caption {i}"))).collect();
    assert_eq!(found, expected);
    assert_eq!(data.notes(), ["columns that are not read: label, width (--columns says which is what)"]);
    // The names of classes, where the text is a number; the sound left out.
    let classes = open(&fixture("hub"), "text=label,audio=").unwrap();
    assert!(all(&classes).iter().all(|(grey, sound, text)| sound.is_none() && *text == ["cat", "dog"][grey.unwrap() as usize % 2]));
    // One file, and several by a pattern: the name says the split all the same.
    let one = open(&fixture("hub/data/train-00001-of-00002.parquet"), "").unwrap();
    assert_eq!((one.splits(), one.rows()[1].name.as_str()), (vec![("train".into(), 2)], "train-00001-of-00002.parquet#1"));
    assert_eq!(open(&fixture("hub/data/train-{00000..00001}-of-00002.parquet"), "").unwrap().rows().len(), 5);
    assert_eq!(data.origin(&data.rows()[0]), "data/test-00000-of-00001.parquet, row 0");
}

#[test]
fn every_compression_and_encoding_is_read() {
    for name in ["zstd", "gzip", "delta"] {
        let data = open(&fixture(&format!("{name}.parquet")), "").unwrap();
        let expected: Vec<_> = (0..40u8).map(|i| (Some(i % 5), None, format!("the same beginning, then {i}"))).collect();
        assert_eq!(all(&data), expected, "{name}");
        assert_eq!(data.splits(), [("train".to_string(), 30), ("test".to_string(), 10)], "{name}");
    }
    let polars = open(&fixture("polars.parquet"), "").unwrap();
    assert_eq!(all(&polars), (0..5u8).map(|i| (Some(i), None, format!("polar {i}"))).collect::<Vec<_>>());
    let bare = open(&fixture("bare.parquet"), "image=img,text=label").unwrap();
    assert_eq!(all(&bare), [(Some(0), None, "2".into()), (Some(1), None, "0".into()), (Some(2), None, "1".into())]);
    assert_eq!(all(&open(&fixture("bare.parquet"), "image=img,text=nested.text").unwrap())[2], (Some(2), None, "n2".into()));
    says(open(&fixture("brotli.parquet"), "image=img,text=label"), &["brotli.parquet", "is compressed with brotli, which", "zstd"]);
}

#[test]
fn lists_become_samples_and_nothing_is_lost_without_a_word() {
    let path = fixture("lists.parquet");
    let texts = skipping(&path, "text=captions");
    // A null among the captions and a row without any are nothing to learn from.
    assert_eq!((texts.rows().len(), texts.bad().count), (3 + 2 + 1 + 3 + 1, 2));
    assert!(texts.bad().first[0].contains("row 4") && texts.bad().first[1].contains("row 5"), "{:?}", texts.bad());
    assert!(texts.notes()[0].contains("6 of 6 rows have lists") && texts.notes()[0].contains("12 in all"), "{:?}", texts.notes());
    assert!(texts.notes()[1].contains("1 lists are empty or null"), "{:?}", texts.notes());
    // Pictures with a label: one sample each, a row without pictures stays and is counted.
    let labels = open(&path, "image=images,text=label").unwrap();
    let found: Vec<_> = all(&labels).into_iter().map(|(grey, _, text)| (grey, text)).collect();
    let expected = [(Some(0), "cat"), (Some(1), "dog"), (Some(2), "dog"), (None, "cat"), (Some(3), "dog"), (Some(4), "dog"), (Some(5), "cat"), (None, "dog")];
    assert_eq!(found, expected.map(|(grey, text)| (grey, text.to_string())));
    // Pictures with captions: as many of one as of the other, or one.
    says(open(&path, "image=images,text=captions"), &["lists.parquet, row 3", "2 in `images` and 3 in `captions`"]);
    let both = skipping(&path, "image=images,text=captions");
    let found: Vec<_> = all(&both).into_iter().map(|(grey, _, text)| (grey, text)).collect();
    let expected = [(Some(0), "a"), (Some(0), "b"), (Some(0), "c"), (Some(1), "d"), (Some(2), "e"), (None, "f"), (Some(5), "j"), (Some(5), "")];
    assert_eq!(found, expected.map(|(grey, text)| (grey, text.to_string())));
    // Row 3 does not agree, row 5 has nothing at all.
    assert_eq!(both.bad().count, 2);
    assert!(both.bad().first[1].contains("row 5") && both.bad().first[1].contains("neither"), "{:?}", both.bad());
    assert_eq!(both.rows()[1].name, "lists.parquet#0.1");
}

#[test]
fn nulls_and_paths_are_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    let path = dir.path().join("data/nulls.parquet");
    fs::copy(fixture("nulls.parquet"), &path).unwrap();
    let png = |grey: u8| trimodal_data::meadow::png(&trimodal_data::Picture { width: 4, height: 4, rgb: vec![grey; 48] }).unwrap();
    fs::write(dir.path().join("data/beside.png"), png(77)).unwrap();
    fs::write(dir.path().join("secret.png"), png(66)).unwrap();
    for opened in [dir.path().join("data"), path.clone()] {
        // The last row has neither picture nor text, which only reading it shows.
        let data = open(&opened, "").unwrap();
        let sample = |i: usize| data.sample(&data.rows()[i], &SIZES);
        assert_eq!([0, 1, 2, 4].map(|i| told(&sample(i).unwrap()).0), [Some(0), Some(77), None, None]);
        says(sample(3), &["nulls.parquet, row 3", "../secret.png", "leaves the data folder"]);
    }
    // From the folder above the path goes down through `data`, and still may not leave.
    let above = open(dir.path(), "").unwrap();
    assert_eq!(told(&above.sample(&above.rows()[1], &SIZES).unwrap()).0, Some(77));
    says(above.sample(&above.rows()[3], &SIZES), &["leaves the data folder"]);
}

#[test]
fn what_is_missing_or_chosen_wrongly_is_named_with_what_is_there() {
    let hub = fixture("hub");
    says(open(&hub, "text=captoin"), &["`captoin` as text", "no such column", "--columns text=", "image (bytes, path)", "label (int64)"]);
    says(open(&fixture("bare.parquet"), ""), &["no column is named image, audio or text", "--columns", "img (bytes)", "label (int32)"]);
    says(open(&hub, "text=image"), &["`image` as text", "2 parts"]);
    says(open(&hub, "image=label"), &["`label` as image", "neither `bytes` nor `path`"]);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture("hub/data/train-00000-of-00002.parquet"), dir.path().join("train-00000-of-00002.parquet")).unwrap();
    says(open(dir.path(), ""), &["train-00001-of-00002.parquet", "no such file"]);
    assert_eq!(skipping(dir.path(), "").bad().count, 1);
    fs::write(dir.path().join("metadata.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    says(open(dir.path(), "text=a"), &["columns are chosen", "no Parquet"]);
}

/// A file of two row groups of 15 rows and one of 10, with damage in a page of the second.
#[test]
fn a_damaged_row_group_is_counted_whole_and_the_others_are_read() {
    let whole = fs::read(fixture("zstd.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let intact = {
        fs::write(&path, &whole).unwrap();
        all(&open(&path, "").unwrap())
    };
    // Wherever one byte is changed before the footer: the rows that are read, those that are bad and those whose picture cannot be read
    // are all of them, and what is read is what it was (an 8-bit change of a word or a pixel aside: pages have no checksum).
    let footer = whole.len() - 8 - u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize;
    let mut groups_lost = 0;
    for at in (4..footer).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        let Ok(data) = Dataset::open_skipping(&path, &Limits::default()) else { continue };
        assert_eq!(data.rows().len() as u64 + data.bad().count, intact.len() as u64, "byte {at}: {:?}", data.bad());
        groups_lost += (data.bad().count >= 10) as usize;
        data.rows().iter().for_each(|row| drop(data.sample(row, &SIZES)));
    }
    assert!(groups_lost > 5, "{groups_lost}");
}

#[test]
fn every_truncation_is_refused_by_name() {
    for name in ["hub/data/test-00000-of-00001.parquet", "lists.parquet", "polars.parquet"] {
        let whole = fs::read(fixture(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.parquet");
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            says(open(&path, "image=,text=").map(drop), &["cut.parquet"]);
        }
    }
}

fn start(data: Arc<Dataset>, from: DataPosition, workers: usize) -> Loader<(u8, String)> {
    let options = LoaderOptions { seed: 5, workers, queue: 4, shuffle_buffer: 5, cache_bytes: 0, on_bad_sample: OnBadSample::Stop };
    let rows = (0..data.rows().len()).collect();
    let make = |sample: Sample| Ok((sample.picture.map_or(0, |picture| picture.rgb[0]), sample.text));
    Loader::start(data, rows, SIZES, options, from, make, |_| 64).unwrap()
}

#[test]
fn an_epoch_decodes_each_block_once_and_resumes_anywhere() {
    let data = Arc::new(open(&fixture("zstd.parquet"), "").unwrap());
    let blocks: std::collections::BTreeSet<_> = data.rows().iter().map(TableRow::shard).collect();
    assert_eq!(blocks.len(), 3);
    let mut loader = start(data.clone(), DataPosition::default(), 4);
    let whole: Vec<_> = (0..80).map(|_| loader.next().unwrap()).map(|loaded| (loaded.item.1.clone(), loaded.after)).collect();
    assert_eq!(data.blocks_decoded(), 3, "rows of a block are decoded together, and stay");
    for epoch in whole.chunks(40) {
        let mut texts: Vec<_> = epoch.iter().map(|(text, _)| text.clone()).collect();
        let visited = texts.clone();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 40);
        assert_ne!(texts, visited);
    }
    assert_ne!(whole[0].0, whole[40].0);
    for i in [0, 7, 38, 39, 52] {
        let mut again = start(data.clone(), whole[i].1, 1);
        let texts: Vec<_> = (i + 1..80).map(|_| again.next().unwrap().item.1.clone()).collect();
        assert_eq!(texts, whole[i + 1..].iter().map(|(text, _)| text.clone()).collect::<Vec<_>>(), "{i}");
    }
}
