//! Meadow's bytes, data folders, and files that are missing, cut off or lie: one clear sentence each, never a panic.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use trimodal::data::folder::{Fit, MediaSizes};
use trimodal::data::meadow::{self, HEADLINE, MeadowOptions};
use trimodal::data::{Dataset, Limits, Sample, Tokenizer, picture, sound};
use trimodal::{Error, Result};

const SIZES: MediaSizes = MediaSizes { picture: 48, fit: Fit::Crop, sample_rate: 16_000, samples: 8_000 };

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A folder with this `metadata.jsonl`.
fn folder(table: impl AsRef<[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("metadata.jsonl"), table).unwrap();
    dir
}

fn load(dir: &Path) -> Result<Vec<Sample>> {
    Dataset::open(dir, &Limits::default())?.load(&SIZES, |_| true, &mut go_on)
}

/// The error's sentence, which has to contain all of `words`.
#[track_caller]
fn says<T>(result: Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("expected an error about {words:?}") };
    let sentence = error.to_string();
    for word in words {
        assert!(sentence.contains(word), "expected {word:?} in: {sentence}");
    }
    assert!(!sentence.contains('\n') && sentence.len() < 1_000, "one sentence: {sentence}");
}

/// FNV-1a, 64 bit.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ *byte as u64).wrapping_mul(0x0100_0000_01b3))
}

fn small_png() -> Vec<u8> {
    meadow::png(&trimodal::data::Picture { width: 3, height: 3, rgb: (0..27).collect() }).unwrap()
}

/// A WAV file of one format chunk and one data chunk, with a length of the data that may lie.
fn wav(format: u16, channels: u16, rate: u32, bits: u16, data: &[u8], claimed: u32) -> Vec<u8> {
    let align = channels.wrapping_mul(bits / 8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(claimed.saturating_add(36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(align as u32).to_le_bytes());
    bytes.extend(align.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(claimed.to_le_bytes());
    bytes.extend(data);
    bytes
}

fn load_wav(bytes: &[u8]) -> Result<Vec<f32>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    fs::write(&path, bytes).unwrap();
    sound::load(&path, 16_000, 8_000, &Limits::default())
}

fn load_picture(bytes: &[u8]) -> Result<picture::Picture> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    fs::write(&path, bytes).unwrap();
    picture::load(&path, 48, &Limits::default())
}

// ── Meadow ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The promise is "the same bytes on every machine": these hashes were made on x86-64 Linux. They change only when the
/// drawing or the sounds change, or when the `png` crate compresses differently.
#[test]
fn meadow_has_the_same_bytes_everywhere() {
    let mut found = Vec::new();
    for (split, index) in [(0, 0), (0, 1), (0, 15_999), (1, 3), (4, 0)] {
        let attributes = meadow::plan(1, split, index).attributes;
        let png = meadow::png(&meadow::picture(&attributes, 1, split, index)).unwrap();
        let wav = meadow::wav(&meadow::sound(&attributes, 1, split, index)).unwrap();
        found.push(format!("{}: {:016x} {:016x}", attributes.caption(true, true), hash(&png), hash(&wav)));
    }
    assert_eq!(found, EXPECTED);
}

const EXPECTED: [&str; 5] = [
    "a fluffy black cat laying on its back in the rain chirping: 1082de01bef56658 c82bdcd6f675b783",
    "a striped brown bird sitting in the sun splashing: 74c091e86c002fc0 1db00dac360e1b34",
    "a striped brown bird sitting in the rain yawning: f9bccf24a12a19bd e003faf88db90f1d",
    "a fluffy black cat laying on its back at night chirping: 7a7ea73711e01c3c c24331de4abedbe9",
    "a fluffy orange cat laying on its back in the sun yawning: c9bd3039a6674010 29dd77ede890d5d4",
];

#[test]
fn meadow_is_an_ordinary_folder_and_comes_back_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let options = MeadowOptions { samples: 60, test_samples: 10, seed: 11, ..MeadowOptions::default() };
    let mut reported = Vec::new();
    let mut progress = |done: usize, total: usize| {
        reported.push((done, total));
        ControlFlow::Continue(())
    };
    meadow::write(dir.path(), &options, &mut progress).unwrap();
    assert_eq!(reported.last(), Some(&(100, 100)));
    let data = Dataset::open(dir.path(), &Limits::default()).unwrap();
    let splits: Vec<(String, usize)> = meadow::SPLITS.iter().zip([60, 10, 10, 10, 10]).map(|(name, count)| (name.to_string(), count)).collect();
    assert_eq!(data.splits(), splits);
    let samples = data.load(&SIZES, |_| true, &mut go_on).unwrap();
    for (i, sample) in samples.iter().enumerate() {
        let (split, index) = if i < 60 { (0, i) } else { (1 + (i - 60) / 10, (i - 60) % 10) };
        let plan = meadow::plan(11, split, index);
        assert_eq!(sample.split.as_deref(), Some(meadow::SPLITS[split]));
        assert_eq!(sample.text, plan.attributes.caption(plan.picture, plan.sound));
        assert_eq!(sample.picture, plan.picture.then(|| meadow::picture(&plan.attributes, 11, split, index)));
        let heard: Vec<f32> = meadow::sound(&plan.attributes, 11, split, index).iter().map(|v| *v as f32 / 32768.0).collect();
        assert_eq!(sample.sound, plan.sound.then_some(heard));
    }
    let headline = &samples[90];
    assert_eq!(headline.text, "a fluffy orange cat laying on its back in the sun yawning");
    let example = meadow::example(&HEADLINE, 11, 0);
    assert_eq!((&example.picture, &example.sound, &example.text), (&headline.picture, &headline.sound, &headline.text));
    // Held-out pairs never occur in training, nor does the headline.
    for sample in &samples[..60] {
        let [species, colour, _, pose, _, action] = meadow::words::parse(&sample.text);
        assert!(species.is_none() || species != colour, "{}", sample.text);
        assert!(pose.is_none() || pose != action, "{}", sample.text);
    }
    for sample in &samples[90..] {
        let [species, colour, _, pose, _, action] = meadow::words::parse(&sample.text);
        assert!(species.is_some() && species == colour && pose.is_some() && pose == action, "{}", sample.text);
    }
    // Only some rows, as the trainer asks for them.
    assert_eq!(data.load(&SIZES, |row| row.split.as_deref() == Some("iid"), &mut go_on).unwrap(), samples[60..70]);
}

#[test]
fn meadow_writes_the_same_files_twice_and_spares_foreign_ones() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = MeadowOptions { samples: 12, test_samples: 2, seed: 5, ..MeadowOptions::default() };
    meadow::write(one.path(), &options, &mut go_on).unwrap();
    meadow::write(two.path(), &MeadowOptions { samples: 3, ..options.clone() }, &mut go_on).unwrap();
    meadow::write(two.path(), &options, &mut go_on).unwrap();
    for name in ["metadata.jsonl", "meadow.json", "images/iid-000001.png", "audio/iid-000001.wav"] {
        assert_eq!(fs::read(one.path().join(name)).unwrap(), fs::read(two.path().join(name)).unwrap(), "{name}");
    }
    let mine = folder("{\"text\": \"mine\"}\n");
    says(meadow::write(mine.path(), &options, &mut go_on), &["metadata.jsonl", "left alone"]);
    assert_eq!(fs::read_to_string(mine.path().join("metadata.jsonl")).unwrap(), "{\"text\": \"mine\"}\n");
    // Stopped half-way: not a data set.
    let stopped = tempfile::tempdir().unwrap();
    let many = MeadowOptions { samples: 20_000, ..options };
    assert!(matches!(meadow::write(stopped.path(), &many, &mut |_, _| ControlFlow::Break(())), Err(Error::Interrupted { .. })));
    assert!(!stopped.path().join("metadata.jsonl").exists());
}

#[test]
fn every_caption_word_is_one_token() {
    let captions: Vec<String> = (0..2_000).map(|i| meadow::plan(1, 0, i)).map(|plan| plan.attributes.caption(plan.picture, plan.sound)).collect();
    let tokenizer = Tokenizer::train(captions.iter().map(String::as_str), 1_024).unwrap();
    for caption in captions.iter().map(String::as_str).chain([HEADLINE.caption(true, true).as_str()]) {
        assert_eq!(tokenizer.encode(caption).unwrap().len(), caption.split(' ').count(), "{caption}");
    }
    assert!(tokenizer.vocabulary() < 450, "{}", tokenizer.vocabulary());
}

// ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn bad_tables_name_the_line() {
    let open = |table: &[u8]| Dataset::open(folder(table).path(), &Limits::default());
    says(open(b""), &["metadata.jsonl", "no rows"]);
    says(open(b"\n\n"), &["no rows"]);
    says(open(b"{\"text\": \"a\"}\n{\"text\": \n"), &["metadata.jsonl, line 2", "JSON"]);
    says(open(b"{\"text\": \"a\"}\n\n{}\n"), &["line 3", "neither"]);
    says(open(b"{\"text\": \"a\xff\"}\n"), &["line 1", "UTF-8", "byte 11"]);
    says(open(b"\0\0\0\0"), &["line 1"]);
    says(open(b"{\"file_name\": 7}\n"), &["line 1"]);
    says(open(b"{\"text\": \"a\", \"text\": \"b\"}\n"), &["line 1", "duplicate"]);
    for path in ["../secret.png", "/etc/passwd", "images/../../x.png", "..\\\\x.png", "C:\\\\x.png", "a\\u0000b.png", ""] {
        for key in ["file_name", "audio"] {
            says(open(format!("{{\"text\": \"a\"}}\n{{\"{key}\": \"{path}\", \"text\": \"b\"}}\n").as_bytes()), &["line 2", key]);
        }
    }
    says(Dataset::open(Path::new("/nonexistent/data"), &Limits::default()), &["/nonexistent/data", "no such folder"]);
    says(Dataset::open(tempfile::tempdir().unwrap().path(), &Limits::default()), &["nothing to read", "metadata.jsonl"]);
    assert!(open(b"\xef\xbb\xbf{\"text\": \"a\"}\r\n{\"text\": \"b\"}").is_ok_and(|data| data.rows().len() == 2));
    // Deep nesting must not overflow the stack.
    says(open("[".repeat(500_000).as_bytes()), &["line 1"]);
    says(open(format!("{{\"other\": {}", "[".repeat(500_000)).as_bytes()), &["line 1"]);
}

#[test]
fn long_lines_are_refused_before_they_are_read() {
    let limits = Limits { line_bytes: 64, ..Limits::default() };
    let row = |n: usize| format!("{{\"text\": \"{}\"}}\n", "x".repeat(n));
    assert!(Dataset::open(folder(row(51)).path(), &limits).is_ok());
    says(Dataset::open(folder(row(54)).path(), &limits), &["line 1", "line_bytes = 64"]);
    says(Dataset::open(folder(row(2) + &"x".repeat(1 << 20)).path(), &limits), &["line 2", "line_bytes = 64"]);
}

#[test]
fn every_truncation_of_a_table_is_read_or_refused() {
    let table = "{\"file_name\": \"a.png\", \"text\": \"ä cat\"}\n{\"audio\": \"a.wav\", \"text\": \"b\"}\n".as_bytes();
    for length in 0..table.len() {
        let data = Dataset::open(folder(&table[..length]).path(), &Limits::default());
        assert_eq!(data.map_or(0, |data| data.rows().len()), if length >= table.len() - 1 { 2 } else { usize::from((40..=41).contains(&length)) }, "{length}");
    }
}

#[test]
fn rows_without_a_caption_cannot_be_trained_on() {
    let dir = folder("{\"text\": \"a\"}\n{\"file_name\": \"a.png\"}\n");
    fs::write(dir.path().join("a.png"), small_png()).unwrap();
    says(load(dir.path()), &["line 2", "`text`"]);
    let data = Dataset::open(dir.path(), &Limits::default()).unwrap();
    assert!(data.sample(&data.rows()[1], &SIZES).unwrap().picture.is_some());
}

#[test]
fn missing_files_and_folders_in_their_place_are_named() {
    let dir = folder("{\"file_name\": \"images/a.png\", \"text\": \"a\"}\n");
    says(load(dir.path()), &["line 1", "images/a.png"]);
    fs::create_dir_all(dir.path().join("images/a.png")).unwrap();
    says(load(dir.path()), &["images/a.png", "regular file"]);
}

#[cfg(unix)]
#[test]
fn links_that_leave_and_pipes_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.png"), small_png()).unwrap();
    let dir = folder("{\"file_name\": \"a.png\", \"text\": \"a\"}\n");
    let link = dir.path().join("a.png");
    std::os::unix::fs::symlink(outside.path().join("secret.png"), &link).unwrap();
    says(load(dir.path()), &["line 1", "symbolic link"]);
    // A link that stays inside is fine; one through a folder that leaves is not.
    fs::remove_file(&link).unwrap();
    fs::write(dir.path().join("b.png"), small_png()).unwrap();
    std::os::unix::fs::symlink("b.png", &link).unwrap();
    assert_eq!(load(dir.path()).unwrap().len(), 1);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("images")).unwrap();
    fs::write(dir.path().join("metadata.jsonl"), "{\"file_name\": \"images/secret.png\", \"text\": \"a\"}\n").unwrap();
    says(load(dir.path()), &["symbolic link"]);
    // A link to itself, a pipe (which must not be waited for) and a device.
    fs::write(dir.path().join("metadata.jsonl"), "{\"file_name\": \"a.png\", \"text\": \"a\"}\n").unwrap();
    std::os::unix::fs::symlink("a.png", &link).unwrap();
    says(load(dir.path()), &["a.png"]);
    fs::remove_file(&link).unwrap();
    if std::process::Command::new("mkfifo").arg(&link).status().is_ok_and(|status| status.success()) {
        let start = Instant::now();
        says(load(dir.path()), &["a.png", "regular file"]);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    says(picture::load(Path::new("/dev/zero"), 48, &Limits::default()), &["/dev/zero", "regular file"]);
    says(sound::load(Path::new("/dev/zero"), 16_000, 8_000, &Limits::default()), &["regular file"]);
}

// ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_truncation_of_a_png_is_an_error() {
    let whole = small_png();
    assert_eq!(load_picture(&whole).unwrap().rgb.len(), 48 * 48 * 3);
    for length in 0..whole.len() {
        says(load_picture(&whole[..length]), &["a.png"]);
    }
}

#[test]
fn every_damaged_byte_of_a_png_is_an_error_or_harmless() {
    let whole = small_png();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            // Each chunk has a checksum; what it does not cover (lengths, the checksum of IEND) must not panic either.
            let _ = load_picture(&bytes);
        }
    }
}

#[test]
fn a_huge_picture_is_refused_by_its_header() {
    // 100,000 × 100,000: the header alone, with a right checksum, and an end.
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ *byte as u32, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }))
    };
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
    };
    let png = |width: u32, height: u32| {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
        [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &[0x78, 0x9c, 0x63, 0, 0, 0, 1, 0, 1]), &chunk(b"IEND", &[])].concat()
    };
    let start = Instant::now();
    says(load_picture(&png(100_000, 100_000)), &["a.png", "100000 × 100000", "8192"]);
    says(load_picture(&png(u32::MAX, u32::MAX)), &["8192"]);
    says(load_picture(&png(8_000, 8_000)), &["192000000 bytes"]);
    says(load_picture(&png(0, 4)), &["empty"]);
    says(load_picture(&png(4_000, 4_000)), &["a.png"]);
    assert!(start.elapsed() < Duration::from_secs(5));
    // The same lie in a JPEG: 65,535 × 65,535.
    let jpeg = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9";
    says(load_picture(jpeg), &["a.png"]);
}

#[test]
fn other_files_are_not_pictures() {
    says(load_picture(b""), &["PNG, JPEG, WebP", "0 bytes"]);
    says(load_picture(b"GIF89a"), &["PNG, JPEG, WebP", "a GIF"]);
    says(load_picture(&wav(1, 1, 16_000, 16, &[0; 8], 8)), &["PNG, JPEG, WebP", "52 49 46 46"]);
    says(load_picture(b"\xff\xd8\xff\xd9"), &["JPEG"]);
    says(picture::load(Path::new("/nonexistent/a.png"), 48, &Limits::default()), &["/nonexistent/a.png", "no such file"]);
}

// ── sounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn all_formats_read_the_same() {
    let frames = [0.0f32, 0.5, -0.5, 0.25];
    let expect = |clip: Vec<f32>| {
        assert_eq!(clip.len(), 8_000);
        for (found, expected) in clip.iter().zip(frames.iter().chain(std::iter::repeat(&0.0))) {
            assert!((found - expected).abs() < 1e-2, "{found}, expected {expected}");
        }
    };
    for channels in [1u16, 2, 3, 8] {
        for bits in [8u16, 16, 24, 32] {
            let mut data = Vec::new();
            for frame in frames {
                let value = (frame as f64 * (1u64 << (bits - 1)) as f64) as i32;
                for _ in 0..channels {
                    match bits {
                        8 => data.push((value + 128) as u8),
                        _ => data.extend(&value.to_le_bytes()[..bits as usize / 8]),
                    }
                }
            }
            expect(load_wav(&wav(1, channels, 16_000, bits, &data, data.len() as u32)).unwrap());
        }
        let data: Vec<u8> = frames.iter().flat_map(|frame| frame.to_le_bytes().repeat(channels as usize)).collect();
        expect(load_wav(&wav(3, channels, 16_000, 32, &data, data.len() as u32)).unwrap());
    }
    // Channels are averaged.
    let data: Vec<u8> = [16_384i16, -16_384, 16_384, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(load_wav(&wav(1, 2, 16_000, 16, &data, 8)).unwrap()[..3], [0.0, 0.25, 0.0]);
}

#[test]
fn other_rates_are_resampled_padded_and_cropped() {
    for rate in [8_000u32, 22_050, 44_100, 48_000, 192_000] {
        for seconds in [0.2, 3.0] {
            let frames = (rate as f64 * seconds) as usize;
            let data: Vec<u8> =
                (0..frames).flat_map(|i| (((std::f64::consts::TAU * 440.0 * i as f64 / rate as f64).sin() * 16_384.0) as i16).to_le_bytes()).collect();
            let clip = load_wav(&wav(1, 1, rate, 16, &data, data.len() as u32)).unwrap();
            assert_eq!(clip.len(), 8_000);
            let power = |part: &[f32]| part.iter().map(|v| v * v).sum::<f32>() / part.len() as f32;
            assert!((power(&clip[400..2_800]) - 0.125).abs() < 0.01, "{rate} Hz: {}", power(&clip[400..2_800]));
            let end = power(&clip[4_000..]);
            assert!(if seconds < 0.5 { end < 1e-6 } else { (end - 0.125).abs() < 0.01 }, "{rate} Hz, {seconds} s: {end}");
        }
    }
}

#[test]
fn every_truncation_of_a_wav_is_an_error() {
    let whole = wav(1, 1, 16_000, 16, &[1; 64], 64);
    assert!(load_wav(&whole).is_ok());
    for length in 0..whole.len() {
        says(load_wav(&whole[..length]), &["a.wav"]);
    }
}

#[test]
fn every_damaged_byte_of_a_wav_is_an_error_or_harmless() {
    let whole = wav(1, 2, 22_050, 16, &[1; 64], 64);
    let start = Instant::now();
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            if let Ok(clip) = load_wav(&bytes) {
                assert!(clip.len() == 8_000 && clip.iter().all(|v| v.is_finite()));
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn lying_headers_of_sounds_are_refused() {
    let start = Instant::now();
    // Longer than 2 GiB is what a stream's writer claims; less is a lie.
    assert!(load_wav(&wav(1, 1, 16_000, 16, &[0; 64], u32::MAX)).is_ok());
    says(load_wav(&wav(1, 1, 16_000, 16, &[0; 64], 0x7fff_efff)), &["a.wav", "2147479551 bytes"]);
    says(load_wav(&wav(1, 1, 16_000, 16, &[0; 64], 4_000)), &["4000 bytes"]);
    says(load_wav(&wav(1, 1, 0, 16, &[0; 64], 64)), &["a.wav", "samples per second", "0"]);
    says(load_wav(&wav(1, 1, 7_999, 16, &[0; 64], 64)), &["7999"]);
    says(load_wav(&wav(1, 1, 192_001, 16, &[0; 64], 64)), &["192001"]);
    says(load_wav(&wav(1, 1, u32::MAX, 8, &[0; 64], 64)), &["4294967295"]);
    says(load_wav(&wav(1, 1, u32::MAX, 16, &[0; 64], 64)), &["a.wav"]);
    says(load_wav(&wav(1, 9, 16_000, 16, &[0; 180], 180)), &["9", "channels"]);
    says(load_wav(&wav(1, 0, 16_000, 16, &[0; 64], 64)), &["a.wav"]);
    says(load_wav(&wav(1, 1, 16_000, 0, &[0; 64], 64)), &["a.wav"]);
    says(load_wav(&wav(1, 1, 16_000, 64, &[0; 64], 64)), &["a.wav"]);
    says(load_wav(&wav(0x55, 1, 16_000, 8, &[0; 64], 64)), &["a.wav", "0x0055"]);
    says(load_wav(&wav(1, 1, 16_000, 16, &[], 0)), &["no samples"]);
    says(load_wav(&wav(1, 1, 8_000, 8, &vec![0; 8_000 * 601], 8_000 * 601)), &["sound_seconds = 600", "601"]);
    says(load_wav(b"RIFF"), &["a.wav"]);
    says(load_wav(&small_png()), &["a.wav", "WAV"]);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn values_that_are_not_numbers_are_refused_with_their_place() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let data: Vec<u8> = [0.0f32, 0.1, 0.2, bad].iter().flat_map(|v| v.to_le_bytes()).collect();
        says(load_wav(&wav(3, 1, 16_000, 32, &data, 16)), &["a.wav: sample 3", "finite"]);
        says(load_wav(&wav(3, 2, 16_000, 32, &data, 16)), &["a.wav: sample 1", "finite"]);
    }
}

#[test]
fn one_bad_file_among_many_stops_the_loading() {
    let dir = tempfile::tempdir().unwrap();
    meadow::write(dir.path(), &MeadowOptions { samples: 0, test_samples: 50, seed: 1, ..MeadowOptions::default() }, &mut go_on).unwrap();
    let path = dir.path().join("images/iid-000030.png");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    says(load(dir.path()), &["iid-000030.png", "cut off"]);
}

// ── tokenizers ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn bad_tokenizers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    says(Tokenizer::load(&path), &["tokenizer.json", "no such file"]);
    let whole = Tokenizer::train(["a cat"], 512).unwrap().to_bytes().unwrap();
    fs::write(&path, &whole).unwrap();
    assert_eq!(Tokenizer::load(&path).unwrap().decode(&Tokenizer::load(&path).unwrap().encode("a cat").unwrap()).unwrap(), "a cat");
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        says(Tokenizer::load(&path), &["tokenizer.json"]);
    }
    for text in ["{}", "[]", "null", "{\"version\": \"1.0\"}", "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": [[\"a\", \"b\"]]}}"] {
        fs::write(&path, text).unwrap();
        says(Tokenizer::load(&path), &["tokenizer.json"]);
    }
    let foreign = String::from_utf8(whole).unwrap().replace("<hide>", "<mask>");
    fs::write(&path, foreign).unwrap();
    says(Tokenizer::load(&path), &["tokenizer.json", "<hide>"]);
}
