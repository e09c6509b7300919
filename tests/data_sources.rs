//! Every kind of data set, what is refused in each, and the loader's order over them.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{Builder, EntryType, Header};
use trimodal::data::loader::{DataPosition, Loader, LoaderOptions, OnBadSample};
use trimodal::data::{Dataset, Fit, Limits, MediaSizes, Picture, Sample, meadow};
use trimodal::{Error, Result};

const SIZES: MediaSizes = MediaSizes { picture: 8, fit: Fit::Crop, sample_rate: 16_000, samples: 800 };

fn png(shade: u8) -> Vec<u8> {
    meadow::png(&Picture { width: 8, height: 8, rgb: vec![shade; 192] }).unwrap()
}

fn wav(value: i16) -> Vec<u8> {
    meadow::wav(&[value; 800]).unwrap()
}

/// A folder with these files.
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
        if name.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
        }
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A header that no honest writer makes: the name as it is.
fn raw_member(name: &[u8], kind: EntryType, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    header.set_size(bytes.len() as u64);
    header.set_entry_type(kind);
    header.set_cksum();
    let mut all = header.as_bytes().to_vec();
    all.extend(bytes);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn ended(mut members: Vec<u8>) -> Vec<u8> {
    members.extend([0; 1024]);
    members
}

fn open(path: &Path) -> Result<Dataset> {
    Dataset::open(path, &Limits::default())
}

fn samples(path: &Path) -> Vec<Sample> {
    let data = open(path).unwrap();
    data.rows().iter().map(|row| data.sample(row, &SIZES).unwrap()).collect()
}

/// `text, split, shade of the picture, first value of the sound` of every sample.
type Short = (String, Option<String>, Option<u8>, Option<i32>);

fn short(samples: &[Sample]) -> Vec<Short> {
    let value = |sound: &Vec<f32>| (sound[0] * 32768.0).round() as i32;
    samples.iter().map(|s| (s.text.clone(), s.split.clone(), s.picture.as_ref().map(|p| p.rgb[0]), s.sound.as_ref().map(value))).collect()
}

fn row(text: &str, split: Option<&str>, shade: Option<u8>, sound: Option<i32>) -> Short {
    (text.into(), split.map(str::to_string), shade, sound)
}

/// The error's sentence, which has to contain all of `words`.
#[track_caller]
fn says<T>(result: Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("expected an error about {words:?}") };
    let sentence = error.to_string();
    for word in words {
        assert!(sentence.contains(word), "expected {word:?} in: {sentence}");
    }
}

// ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_table_has_any_subset_of_picture_sound_and_text() {
    let files: [(&str, &[u8]); 4] = [("a.png", &png(10)), ("b.dat", &wav(5)), ("sub/c.wav", &png(20)), ("d.wav", &wav(7))];
    let expected = [
        row("one", Some("train"), Some(10), None),
        row("two", None, None, Some(5)),
        row("three, \"quoted\"", Some("test"), Some(20), Some(7)),
        row("words only", None, None, None),
    ];
    let jsonl = r#"{"file_name": "a.png", "text": "one", "split": "train", "other": [1]}
{"file_name": "b.dat", "text": "two", "prompt": "what is it?"}

{"image": "sub/c.wav", "audio": "d.wav", "text": "three, \"quoted\"", "split": "test"}
{"text": "words only", "audio": null}
"#;
    let csv = "text,file_name,image,audio,prompt,split,other\r\none,a.png,,,,train,x\r\ntwo,b.dat,,,what is it?,,\r\n\
               \"three, \"\"quoted\"\"\",,sub/c.wav,d.wav,,test,\r\nwords only,,,,,,\r\n";
    for (name, table, lines) in [("metadata.jsonl", jsonl.to_string(), [1, 2, 4, 5]), ("metadata.csv", format!("\u{feff}{csv}"), [2, 3, 4, 5])] {
        let dir = folder(&files);
        fs::write(dir.path().join(name), table).unwrap();
        let found = samples(dir.path());
        assert_eq!(short(&found), expected, "{name}");
        assert_eq!(found[1].prompt.as_deref(), Some("what is it?"));
        assert_eq!(found.iter().map(|s| s.origin.clone()).collect::<Vec<_>>(), lines.map(|line| format!("{name}, line {line}")));
        assert_eq!(open(dir.path()).unwrap().kind(), "table");
    }
}

#[test]
fn subfolders_with_tables_or_shards_are_splits() {
    let line = |name: &str, text: &str| format!("{{\"file_name\": \"{name}\", \"text\": \"{text}\"}}\n").into_bytes();
    let dir = folder(&[
        ("train/metadata.jsonl", &line("x.png", "one")),
        ("train/x.png", &png(1)),
        ("test/metadata.csv", b"file_name,text\nx.png,two\n"),
        ("test/x.png", &png(2)),
    ]);
    let expected = [row("two", Some("test"), Some(2), None), row("one", Some("train"), Some(1), None)];
    assert_eq!(short(&samples(dir.path())), expected);
    let dir = folder(&[("test/a.tar", &tar_of(&[("0.png", &png(2)), ("0.txt", b"two")])), ("train/a.tar", &tar_of(&[("0.png", &png(1)), ("0.txt", b"one")]))]);
    assert_eq!(short(&samples(dir.path())), expected);
}

#[test]
fn folders_name_what_is_in_them_and_texts_are_samples() {
    let dir = folder(&[
        ("cat/1.png", &png(1)),
        ("cat/1.wav", &wav(3)),
        ("cat/2.PNG", &png(2)),
        ("cat/2.txt", b"a cat that has its own words\n"),
        ("dog/bark.wav", &wav(9)),
        ("poem.txt", "\u{feff}Tyger tyger\n".as_bytes()),
        ("README.md", b"not a sample"),
        (".hidden.png", b"not a sample"),
    ]);
    let expected = [
        row("Tyger tyger", None, None, None),
        row("cat", None, Some(1), Some(3)),
        row("a cat that has its own words", None, Some(2), None),
        row("dog", None, None, Some(9)),
    ];
    assert_eq!(short(&samples(dir.path())), expected);
    assert_eq!(open(dir.path()).unwrap().kind(), "folders");
    let dir = folder(&[("train/cat/1.png", &png(1)), ("test/dog/1.png", &png(2)), ("test/words.txt", b"hello")]);
    let expected = [row("hello", Some("test"), None, None), row("dog", Some("test"), Some(2), None), row("cat", Some("train"), Some(1), None)];
    assert_eq!(short(&samples(dir.path())), expected);
    says(open(folder(&[("a/1.gif", b"x")]).path()), &["a/1.gif", "a GIF"]);
    says(open(folder(&[("a/1.png", b"x"), ("a/1.jpg", b"x")]).path()), &["a/1.png", "second picture"]);
    says(open(folder(&[("1.txt", b" \n")]).path()), &["1.txt", "empty"]);
    says(open(folder(&[("1.txt", b"\xff")]).path()), &["1.txt", "UTF-8"]);
}

#[test]
fn shards_are_samples_of_adjacent_members() {
    let long = format!("{}/000002", "deep/".repeat(40).trim_end_matches('/'));
    let one = tar_of(&[
        ("000000.png", &png(1)),
        ("000000.json", br#"{"text": "from json", "prompt": "what?", "split": "train", "image": {"width": 3}}"#),
        ("000001.WAV", &wav(4)),
        ("000001.txt", b"loud\n"),
        ("000001.cls", b"7"),
        ("README", b"no sample"),
        (&format!("{}/", "folder".repeat(20)), b""),
        (&format!("{long}.jpg"), &png(2)),
        (&format!("{long}.txt"), b"a long name"),
    ]);
    let two = tar_of(&[("a.txt", b"words")]);
    let dir = folder(&[("shard-000000.tar", &one), ("shard-000001.tar", &two)]);
    let expected = [
        row("from json", Some("train"), Some(1), None),
        row("loud", None, None, Some(4)),
        row("a long name", None, Some(2), None),
        row("words", None, None, None),
    ];
    for path in [dir.path().to_path_buf(), dir.path().join("shard-{000000..000001}.tar")] {
        let found = samples(&path);
        assert_eq!(short(&found), expected);
        assert_eq!((found[0].name.as_str(), found[0].prompt.as_deref()), ("000000", Some("what?")));
        assert_eq!(found[2].name, long);
        assert_eq!(found[3].origin, "shard-000001.tar, byte 0");
        assert!(found[1].origin.starts_with("shard-000000.tar, byte "), "{}", found[1].origin);
    }
    assert_eq!(samples(&dir.path().join("shard-000001.tar")).len(), 1);
    says(open(&dir.path().join("shard-{000000..000002}.tar")), &["shard-000002.tar", "no such file"]);
}

#[test]
fn pax_names_are_read() {
    let mut builder = Builder::new(Vec::new());
    let name = format!("{}.txt", "ä".repeat(90));
    builder.append_pax_extensions([("path", name.as_bytes()), ("mtime", b"1.5".as_slice())]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(5);
    header.set_path("short.txt").unwrap();
    header.set_cksum();
    builder.append(&header, b"hello".as_slice()).unwrap();
    let dir = folder(&[("a.tar", &builder.into_inner().unwrap())]);
    assert_eq!(samples(dir.path())[0].name, "ä".repeat(90));
}

#[test]
fn orientation_of_a_jpeg_is_obeyed() {
    // Red on top, blue below; the tag says that the top lies at the right.
    let rgb: Vec<u8> = (0..16 * 16).flat_map(|i| if i < 128 { [255, 0, 0] } else { [0, 0, 255] }).collect();
    let mut jpeg = Vec::new();
    image::ImageEncoder::write_image(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 100), &rgb, 16, 16, image::ExtendedColorType::Rgb8).unwrap();
    let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend((tiff.len() as u16 + 2).to_be_bytes());
    turned.extend(tiff);
    turned.extend(&jpeg[2..]);
    let dir = folder(&[("x/plain.jpg", &jpeg), ("x/turned.jpg", &turned)]);
    let found = samples(dir.path());
    let red = |sample: &Sample, x: usize, y: usize| sample.picture.as_ref().unwrap().rgb[(y * 8 + x) * 3] > 128;
    assert!(red(&found[0], 1, 1) && red(&found[0], 6, 1) && !red(&found[0], 1, 6));
    assert!(!red(&found[1], 1, 1) && red(&found[1], 6, 1) && red(&found[1], 6, 6));
}

// ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn rows_that_make_no_sense_are_named() {
    let decode = |table: &str| {
        let dir = folder(&[("metadata.jsonl", table.as_bytes()), ("a.png", &png(1)), ("b.wav", &wav(1)), ("c.txt", b"no picture")]);
        let data = open(dir.path())?;
        data.sample(&data.rows()[0], &SIZES)
    };
    assert!(decode(r#"{"file_name": "a.png", "audio": "b.wav"}"#).is_ok());
    says(decode(r#"{"file_name": "a.png", "image": "a.png"}"#), &["metadata.jsonl, line 1", "two pictures"]);
    says(decode(r#"{"file_name": "b.wav", "audio": "b.wav"}"#), &["line 1", "two sounds"]);
    says(decode(r#"{"image": "b.wav"}"#), &["line 1", "b.wav", "found a sound"]);
    says(decode(r#"{"audio": "a.png"}"#), &["line 1", "a.png", "found a picture"]);
    says(decode(r#"{"file_name": "c.txt"}"#), &["line 1", "c.txt", "a picture (PNG, JPEG, WebP) or a sound (WAV"]);
    says(decode(r#"{"prompt": "a question"}"#), &["line 1", "neither"]);
    says(decode(r#"{"file_name": "a.png", "audio_file_name": "b.wav"}"#), &["line 1", "audio_file_name", "`audio`"]);
    says(decode("{\"text\": 1}\n{\"text\": \"a\"}\n[]\n"), &["2 bad samples", "line 1", "line 3"]);
    let csv = |table: &str| open(folder(&[("metadata.csv", table.as_bytes())]).path());
    says(csv("name,caption\na,b\n"), &["metadata.csv, line 1", "`text`"]);
    says(csv("text,text\na,b\n"), &["line 1", "twice"]);
    says(csv("text,image_file_name\na,b\n"), &["line 1", "image_file_name"]);
    says(csv("text,split\na,b\nc\nd,e,f\n"), &["2 bad samples", "line 3", "line 4", "2 columns"]);
    says(csv("text,split\na,\"b\n"), &["metadata.csv", "within quotes"]);
    says(csv("text,split\n"), &["no rows"]);
    says(csv("file_name,text\n,\n"), &["line 2", "neither"]);
    let both = folder(&[("metadata.csv", b"text\na\n"), ("metadata.jsonl", b"{\"text\": \"a\"}\n")]);
    says(open(both.path()), &["both"]);
    says(open(folder(&[("0.parquet", b"PAR1")]).path()), &["Parquet"]);
}

#[test]
fn a_record_without_end_is_not_read_into_memory() {
    let limits = Limits { line_bytes: 1000, ..Limits::default() };
    let table = format!("text,split\nfine,\nlong,\"{}", "x".repeat(1 << 20));
    let bad = Dataset::open_skipping(folder(&[("metadata.csv", table.as_bytes())]).path(), &limits).unwrap();
    assert_eq!((bad.rows().len(), bad.bad().count), (1, 1));
    assert!(bad.bad().first[0].contains("line_bytes = 1000"), "{:?}", bad.bad());
    let table = format!("text\nfine\n{}\nfine too\n", "x".repeat(1500));
    let bad = Dataset::open_skipping(folder(&[("metadata.csv", table.as_bytes())]).path(), &limits).unwrap();
    assert_eq!((bad.rows().len(), bad.bad().count), (2, 1));
    let table = format!("{{\"text\": \"fine\"}}\n{}\n{{\"text\": \"fine too\"}}\n", "x".repeat(1 << 20));
    let bad = Dataset::open_skipping(folder(&[("metadata.jsonl", table.as_bytes())]).path(), &limits).unwrap();
    assert_eq!((bad.rows().len(), bad.bad().count), (2, 1));
    assert!(bad.bad().first[0].contains("line 2") && bad.bad().first[0].contains("1048577 bytes"), "{:?}", bad.bad());
}

/// Paths that try to leave the folder, in every way that some system understands.
fn hostile_paths() -> Vec<String> {
    let mut paths: Vec<String> =
        ["", "/", "//", "..", "../", "./..", "a/..", "\\", "\\\\host\\share\\x", "C:x", "C:\\x", "c:/x", "//host/share/x", "\0", "a\0.png"]
            .map(str::to_string)
            .to_vec();
    for secret in ["secret.png", "../secret.png", "x/../../secret.png"] {
        for start in ["../", "./../", "a/../../", "images/../../", "..\\", ".\\..\\", "a\\..\\..\\", "/", "//", "/proc/self/root/", "\\", "D:/"] {
            paths.push(format!("{start}{secret}"));
        }
    }
    for depth in 1..8 {
        paths.push(format!("{}etc/passwd", "../".repeat(depth)));
        paths.push(format!("a/{}etc/passwd", "b/../../".repeat(depth)));
    }
    for device in ["/dev/zero", "/dev/stdin", "/dev/fd/0", "/proc/self/mem", "/proc/self/environ"] {
        paths.push(device.to_string());
        paths.push(format!("..{device}"));
        paths.push(format!("images/../../..{device}"));
    }
    paths
}

#[test]
fn no_path_leaves_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret.png"), png(66)).unwrap();
    let dir = outer.path().join("data");
    fs::create_dir_all(dir.join("images/a/b")).unwrap();
    let mut tried = 0;
    for path in hostile_paths() {
        for key in ["file_name", "image", "audio"] {
            let table = serde_json::json!({ key: path, "text": "a" }).to_string();
            fs::write(dir.join("metadata.jsonl"), table).unwrap();
            says(open(&dir), &["metadata.jsonl, line 1", key]);
            tried += 1;
        }
        let name = format!("{path}.png");
        // "...png" is a fine name; a tar's name ends at a NUL.
        if !path.is_empty() && !path.ends_with("..") && !path.contains('\0') {
            let shard = folder(&[(
                "a.tar",
                &ended([raw_member(name.as_bytes(), EntryType::Regular, &png(66)), raw_member(b"b.txt", EntryType::Regular, b"b")].concat()),
            )]);
            says(open(shard.path()), &["a.tar, byte 0", "leaves the data folder"]);
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

#[cfg(unix)]
#[test]
fn links_pipes_and_folders_are_refused_wherever_they_lie() {
    use std::os::unix::fs::symlink;
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret.png"), png(66)).unwrap();
    fs::write(outer.path().join("metadata.jsonl"), "{\"text\": \"secret\"}\n").unwrap();
    fs::write(outer.path().join("a.tar"), tar_of(&[("0.txt", b"secret")])).unwrap();
    let secret = |name: &str| outer.path().join(name);
    let empty = || folder(&[("x", b"")]);
    // A table, a shard, a picture and a text that lie elsewhere.
    for name in ["metadata.jsonl", "a.tar"] {
        let dir = empty();
        symlink(secret(name), dir.path().join(name)).unwrap();
        says(open(dir.path()), &[name, "leaves the data folder"]);
    }
    let dir = empty();
    fs::create_dir(dir.path().join("cat")).unwrap();
    symlink(secret("secret.png"), dir.path().join("cat/1.png")).unwrap();
    let data = open(dir.path()).unwrap();
    says(data.sample(&data.rows()[0], &SIZES), &["cat/1.png", "leaves the data folder"]);
    symlink(secret("metadata.jsonl"), dir.path().join("cat/2.txt")).unwrap();
    says(open(dir.path()), &["cat/2.txt", "leaves the data folder"]);
    // Folders that lie elsewhere: as a class, and as a split.
    let dir = empty();
    symlink(outer.path(), dir.path().join("cat")).unwrap();
    says(open(dir.path()), &["cat", "not followed"]);
    // A chain of links, and one that goes out and comes back in.
    let dir = folder(&[("metadata.jsonl", b"{\"file_name\": \"one\"}\n"), ("in.png", &png(1))]);
    symlink("two", dir.path().join("one")).unwrap();
    symlink("three", dir.path().join("two")).unwrap();
    symlink(secret("secret.png"), dir.path().join("three")).unwrap();
    let data = open(dir.path()).unwrap();
    says(data.sample(&data.rows()[0], &SIZES), &["line 1", "leaves the data folder"]);
    fs::remove_file(dir.path().join("three")).unwrap();
    symlink(dir.path().join("in.png"), dir.path().join("three")).unwrap();
    assert!(data.sample(&data.rows()[0], &SIZES).is_ok());
    // Exchanged after the table was read.
    fs::remove_file(dir.path().join("three")).unwrap();
    symlink("/dev/zero", dir.path().join("three")).unwrap();
    says(data.sample(&data.rows()[0], &SIZES), &["leaves the data folder"]);
    fs::remove_file(dir.path().join("three")).unwrap();
    fs::create_dir(dir.path().join("three")).unwrap();
    says(data.sample(&data.rows()[0], &SIZES), &["regular file"]);
    let dir = empty();
    if std::process::Command::new("mkfifo").arg(dir.path().join("metadata.csv")).status().is_ok_and(|status| status.success()) {
        says(open(dir.path()), &["metadata.csv", "regular file"]);
    }
}

#[test]
fn members_that_are_no_files_are_refused_and_the_rest_is_read() {
    let kinds = [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "pipe"),
        (EntryType::GNUSparse, "sparse"),
        (EntryType::new(b'Z'), "unknown kind"),
    ];
    for (kind, word) in kinds {
        let shard = ended([raw_member(b"a.png", kind, b""), raw_member(b"b.txt", EntryType::Regular, b"words")].concat());
        let dir = folder(&[("s.tar", &shard)]);
        says(open(dir.path()), &["s.tar, byte 0", "a.png", word]);
        let data = Dataset::open_skipping(dir.path(), &Limits::default()).unwrap();
        assert_eq!((data.rows().len(), data.bad().count), (1, 1), "{word}");
    }
    let refused = |members: Vec<Vec<u8>>, words: &[&str]| says(open(folder(&[("s.tar", &ended(members.concat()))]).path()), words);
    refused(vec![raw_member(b"a.png", EntryType::Regular, b"x"), raw_member(b"a.jpg", EntryType::Regular, b"x")], &["byte 0", "second picture"]);
    refused(vec![raw_member(b"a.gif", EntryType::Regular, b"x"), raw_member(b"a.txt", EntryType::Regular, b"x")], &["a.gif", "a GIF"]);
    refused(vec![raw_member(b"a.json", EntryType::Regular, b"[]")], &["a.json", "JSON object"]);
    refused(vec![raw_member(b"a.json", EntryType::Regular, b"{}")], &["byte 0", "no picture"]);
    refused(vec![raw_member(b"a.txt", EntryType::Regular, b"\xff")], &["a.txt", "UTF-8"]);
    refused(vec![raw_member(b"a\xff.txt", EntryType::Regular, b"x")], &["byte 0", "UTF-8"]);
    let limits = Limits { header_bytes: 600, line_bytes: 600, ..Limits::default() };
    for (shard, word) in [(tar_of(&[(&"n/".repeat(400), b"x")]), "header_bytes = 600"), (tar_of(&[("a.txt", &[b'x'; 700])]), "line_bytes = 600")] {
        says(Dataset::open(folder(&[("s.tar", &shard)]).path(), &limits), &["s.tar, byte 0", word]);
    }
}

/// A shard of two samples.
fn whole_shard() -> Vec<u8> {
    tar_of(&[("0.png", &png(1)), ("0.txt", b"zero"), ("1.json", br#"{"text": "one"}"#)])
}

#[test]
fn every_truncation_of_a_shard_is_an_error_with_its_name() {
    let whole = whole_shard();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512) + 1024;
    let dir = folder(&[]);
    let path = dir.path().join("s.tar");
    fs::write(&path, &whole).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..whole.len()).rev() {
        file.set_len(length as u64).unwrap();
        let opened = open(dir.path());
        if length < end {
            says(opened, &["s.tar"]);
        } else {
            assert_eq!(opened.unwrap().rows().len(), 2, "{length}");
        }
    }
}

#[test]
fn every_damaged_byte_of_a_shard_is_an_error_or_harmless() {
    let whole = whole_shard();
    let dir = folder(&[]);
    let path = dir.path().join("s.tar");
    fs::write(&path, &whole).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for at in 0..whole.len() {
        put(at, whole[at] ^ 1 << (at % 8));
        if let Ok(data) = Dataset::open_skipping(dir.path(), &Limits::default()) {
            data.rows().iter().for_each(|row| drop(data.sample(row, &SIZES)));
        }
        put(at, whole[at]);
    }
}

#[test]
fn every_truncation_of_a_csv_is_read_or_refused() {
    let table = "file_name,text\na.png,\"ä, \"\"b\"\"\"\n,c\n".as_bytes();
    for length in 0..table.len() {
        match open(folder(&[("metadata.csv", &table[..length])]).path()) {
            Ok(data) => assert!(data.rows().len() <= 2),
            Err(error) => assert!(error.to_string().contains("metadata.csv"), "{length}: {error}"),
        }
    }
}

#[test]
fn a_cut_off_file_of_each_kind_is_named_with_its_row() {
    let (png, wav) = (png(3), wav(3)[..44 + 32].to_vec());
    for (name, whole) in [("a.png", &png), ("a.wav", &wav)] {
        for length in 0..whole.len() {
            let dir = folder(&[("metadata.jsonl", format!("{{\"file_name\": \"{name}\", \"text\": \"a\"}}\n").as_bytes()), (name, &whole[..length])]);
            let data = open(dir.path()).unwrap();
            says(data.sample(&data.rows()[0], &SIZES), &["metadata.jsonl, line 1", name]);
        }
    }
}

#[test]
fn limits_come_from_a_run_s_config_and_are_named() {
    let limits: Limits = serde_json::from_str(r#"{"picture_side": 7, "sound_channels": 1, "sound_rate": [16000, 16000]}"#).unwrap();
    assert_eq!(limits, Limits { picture_side: 7, sound_channels: 1, sound_rate: (16_000, 16_000), ..Limits::default() });
    assert!(serde_json::from_str::<Limits>(r#"{"picture_sides": 7}"#).is_err());
    let dir = folder(&[("cat/1.png", &png(1))]);
    let data = Dataset::open(dir.path(), &limits).unwrap();
    says(data.sample(&data.rows()[0], &SIZES), &["cat/1.png", "8 × 8", "picture_side = 7"]);
    for (limits, word) in [
        (Limits { sound_seconds: 0, ..Limits::default() }, "sound_seconds = 0"),
        (Limits { sound_rate: (8_000, 12_000), ..Limits::default() }, "sound_rate = 12000"),
        (Limits { sound_rate: (22_050, 48_000), ..Limits::default() }, "sound_rate = 22050"),
        (Limits { file_bytes: 100, ..Limits::default() }, "file_bytes = 100"),
        (Limits { sound_channels: 0, ..Limits::default() }, "sound_channels = 0"),
    ] {
        let dir = folder(&[("cat/1.wav", &wav(1))]);
        let data = Dataset::open(dir.path(), &limits).unwrap();
        says(data.sample(&data.rows()[0], &SIZES), &["cat/1.wav", word]);
    }
    let limits = Limits { picture_bytes: 50, ..Limits::default() };
    let data = Dataset::open(dir.path(), &limits).unwrap();
    says(data.sample(&data.rows()[0], &SIZES), &["picture_bytes = 50"]);
}

// ── the loader ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// A table of 23 rows, and three shards with the same samples.
fn sets() -> Vec<(tempfile::TempDir, PathBuf)> {
    let pngs: Vec<Vec<u8>> = (0..23).map(png).collect();
    let table: String = (0..23).map(|i| format!("{{\"file_name\": \"{i}.png\", \"text\": \"{i}\"}}\n")).collect();
    let folder_of = folder(&[("metadata.jsonl", table.as_bytes())]);
    pngs.iter().enumerate().for_each(|(i, png)| fs::write(folder_of.path().join(format!("{i}.png")), png).unwrap());
    let shards = folder(&[]);
    for (shard, rows) in [0..9, 9..10, 10..23].into_iter().enumerate() {
        let texts: Vec<(usize, String)> = rows.map(|i| (i, i.to_string())).collect();
        let names: Vec<[String; 2]> = texts.iter().map(|(i, _)| [format!("{i:03}.png"), format!("{i:03}.txt")]).collect();
        let members: Vec<(&str, &[u8])> =
            texts.iter().zip(&names).flat_map(|((i, text), [png, txt])| [(png.as_str(), &pngs[*i][..]), (txt.as_str(), text.as_bytes())]).collect();
        fs::write(shards.path().join(format!("shard-{shard:06}.tar")), tar_of(&members)).unwrap();
    }
    [folder_of, shards]
        .map(|dir| {
            let path = dir.path().to_path_buf();
            (dir, path)
        })
        .into()
}

fn start(path: &Path, options: LoaderOptions, from: DataPosition) -> Result<Loader<Sample>> {
    let data = Arc::new(Dataset::open_skipping(path, &Limits::default())?);
    let rows = (0..data.rows().len()).collect();
    Loader::start(data, rows, SIZES, options, from, Ok, |sample| sample.picture.as_ref().map_or(0, |p| p.rgb.len() as u64))
}

fn take(loader: &mut Loader<Sample>, n: usize) -> Vec<(String, DataPosition, bool)> {
    (0..n).map(|_| loader.next().map(|visit| (visit.item.text.clone(), visit.after, visit.last_of_epoch)).unwrap()).collect()
}

#[test]
fn one_worker_or_eight_and_every_resumption_give_the_same_samples() {
    let options = LoaderOptions { seed: 9, workers: 1, queue: 4, shuffle_buffer: 5, cache_bytes: 0, on_bad_sample: OnBadSample::Stop };
    let mut orders = Vec::new();
    for (_dir, path) in sets() {
        let whole = take(&mut start(&path, options, DataPosition::default()).unwrap(), 60);
        for (workers, cache_bytes) in [(8, 0), (3, 192 * 10), (8, 1 << 20)] {
            let options = LoaderOptions { workers, queue: 16, cache_bytes, ..options };
            assert_eq!(take(&mut start(&path, options, DataPosition::default()).unwrap(), 60), whole);
        }
        for i in 0..46 {
            let again = take(&mut start(&path, LoaderOptions { workers: 2, ..options }, whole[i].1).unwrap(), 59 - i);
            assert_eq!(again, whole[i + 1..], "{i}");
        }
        let mut epoch: Vec<usize> = whole[..23].iter().map(|(text, ..)| text.parse().unwrap()).collect();
        orders.push(epoch.clone());
        epoch.sort_unstable();
        assert_eq!(epoch, (0..23).collect::<Vec<_>>());
    }
    assert_ne!(orders[0], orders[1]);
}

#[test]
fn bad_samples_stop_with_a_list_or_are_skipped_and_counted() {
    let options = LoaderOptions { seed: 2, workers: 2, queue: 4, shuffle_buffer: 5, cache_bytes: 0, on_bad_sample: OnBadSample::Stop };
    let (_dir, path) = sets().remove(0);
    fs::write(path.join("4.png"), &png(4)[..20]).unwrap();
    fs::remove_file(path.join("7.png")).unwrap();
    let mut stops = start(&path, options, DataPosition::default()).unwrap();
    let error = (0..23).find_map(|_| stops.next().err()).unwrap();
    says::<()>(Err(error), &["2 bad samples", "metadata.jsonl, line 5", "4.png", "cut off", "line 8", "7.png"]);
    let skip = LoaderOptions { on_bad_sample: OnBadSample::Skip, ..options };
    let mut skips = start(&path, skip, DataPosition::default()).unwrap();
    let seen = take(&mut skips, 42);
    assert_eq!((skips.bad().count, seen[20].2, seen[41].2), (2, true, true));
    assert!(seen.iter().all(|(text, ..)| text != "4" && text != "7"));
    // A line that is not a row: the data set leaves it out, and the loader counts it.
    fs::write(path.join("metadata.jsonl"), "{\"text\": \"fine\"}\n{\"text\": 3}\n").unwrap();
    assert!(matches!(start(&path, options, DataPosition::default()), Err(Error::BadSamples { count: 1, .. })));
    assert_eq!(start(&path, skip, DataPosition::default()).unwrap().bad().count, 1);
    assert!(matches!(Dataset::open(&path, &Limits::default()), Err(Error::BadSamples { count: 1, .. })));
}
