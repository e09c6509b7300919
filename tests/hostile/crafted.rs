//! Lies that random wounds do not find: each file is small, or a hole, and claims what no machine has.

use std::path::Path;

use trimodal::data::Tokenizer;
use trimodal::model::Config;

use crate::formats::{Format, wav};
use crate::repair::{chunk, stored};

/// A file, what it is, and the words of which each must be in the error; none: it may as well be taken.
pub struct Lie {
    pub format: Format,
    pub what: &'static str,
    pub bytes: Vec<u8>,
    pub words: &'static [&'static str],
}

pub fn lies() -> Vec<Lie> {
    let mut all = Vec::new();
    let mut add = |format, what, bytes: Vec<u8>, words| all.push(Lie { format, what, bytes, words });

    // ── safetensors ──────────────────────────────────────────────────────────────────────────────────────────────────
    let header = |text: &str, data: &[u8]| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat();
    let one = |shape: &str, from: &str, to: &str| header(&format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}}}"), &[0; 8]);
    let dims = vec!["4294967296"; 64].join(",");
    add(Format::Safetensors, "a shape whose product overflows", one(&format!("[{dims}]"), "0", "8"), &["tensor w", "impossible"]);
    add(Format::Safetensors, "a shape of 2⁶⁴ − 1", one("[18446744073709551615]", "0", "8"), &["tensor w", "impossible"]);
    add(Format::Safetensors, "offsets that run backwards", one("[0]", "8", "0"), &["tensor w"]);
    add(Format::Safetensors, "offsets of 2⁶⁴ − 1", one("[2]", "18446744073709551607", "18446744073709551615"), &["tensor w"]);
    let twice = "{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}";
    add(Format::Safetensors, "a name that comes twice", header(twice, &[0; 8]), &["\"w\" comes twice"]);
    let mut large = (99u64 << 20).to_le_bytes().to_vec();
    large.resize(100 << 20, b' ');
    add(Format::Safetensors, "a header of 99 MB", large, &["byte 0", "limit"]);
    add(Format::Safetensors, "a header of 2⁶⁴ − 1 bytes", u64::MAX.to_le_bytes().to_vec(), &["byte 0", "limit"]);
    let many: Vec<String> = (0..18_000).map(|i| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}")).collect();
    add(Format::Safetensors, "18,000 tensors of nothing", header(&format!("{{{}}}", many.join(",")), &[]), &["tensor"]);
    let many: Vec<String> = (0..250_000).map(|i| format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}")).collect();
    add(Format::Safetensors, "250,000 tensors of nothing", header(&format!("{{{}}}", many.join(",")), &[]), &["tensor"]);
    add(Format::Safetensors, "brackets 500,000 deep", header(&"[".repeat(500_000), &[]), &["header"]);
    let mut model = Format::Safetensors.seeds().remove(0);
    let end = model.len();
    model[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    add(Format::Safetensors, "a weight that is not a number", model, &["tensor", "NaN"]);

    // ── Parquet ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    let seed = || Format::Parquet.seeds().remove(0);
    let parquet = |footer: &[u8], length: u32| [&b"PAR1"[..], footer, &length.to_le_bytes(), b"PAR1"].concat();
    // Groups with one member each (field 5), in a list of 15,000.
    let deep = [&[0x15, 2, 0x19, 0xfc, 0x98, 0x75][..], &[0x55, 2, 0].repeat(15_000), &[0]].concat();
    add(Format::Parquet, "columns 15,000 deep", parquet(&deep, deep.len() as u32), &["a.parquet", "tree of columns"]);
    let wide = [0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0x7f, 0x55, 2, 0, 0];
    add(Format::Parquet, "268 million columns", parquet(&wide, wide.len() as u32), &["a.parquet", "more columns"]);
    add(Format::Parquet, "a footer of 2 GiB", parquet(&deep, i32::MAX as u32), &["a.parquet", "footer_bytes"]);
    let mut larger = seed();
    // The size, decompressed, in the header of the first page: a number of two bytes.
    larger[7..9].copy_from_slice(&[0xfe, 0x7f]);
    add(Format::Parquet, "a page that becomes more than its compression can give", larger, &["a.parquet", "row 0", "cannot become 8191"]);
    let mut cut = seed();
    let pages = cut.len() - 8 - u32::from_le_bytes(cut[cut.len() - 8..cut.len() - 4].try_into().expect("four bytes")) as usize;
    cut.drain(4..pages);
    add(Format::Parquet, "a footer without its pages", cut, &["a.parquet", "row 0", "byte"]);

    // ── PNG ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    add(Format::Png, "4 × 4 pixels that expand to 529 MB", png(4, 4, 8, 2, &zeros(529_000_000)), &[]);
    add(Format::Png, "13,281 × 13,281 pixels", png(13_281, 13_281, 8, 2, &zeros(1 << 20)), &["8192"]);
    add(Format::Png, "2³² − 1 pixels to a side", png(u32::MAX, u32::MAX, 16, 6, &zeros(64)), &["8192"]);
    add(Format::Png, "no pixels", png(0, 7, 8, 2, &zeros(64)), &["empty"]);
    for (what, width, height, depth, color, bytes) in [
        ("the most grey pixels", 8192, 5461, 8, 0, 1),
        ("the most RGB pixels", 8192, 5461, 8, 2, 3),
        ("the most RGBA pixels", 8192, 4096, 8, 6, 4),
        ("the most RGBA pixels of 16 bits", 4096, 4096, 16, 6, 8),
        ("the most grey pixels with alpha", 8192, 5461, 8, 4, 2),
        ("the most pixels, upright", 5461, 8192, 8, 2, 3),
    ] {
        add(Format::Png, what, png(width, height, depth, color, &zeros((width as u64 * bytes + 1) * height as u64)), &[]);
    }
    let text = |kind: &[u8], expands: u64| {
        let content = [&b"a\0\0"[..], &zeros(expands)].concat();
        let mut bytes = png(1, 1, 8, 0, &stored(&[0, 0]));
        let extra = chunk(kind, &content);
        bytes.splice(33..33, extra);
        bytes
    };
    add(Format::Png, "a text chunk that expands to 529 MB", text(b"zTXt", 529_000_000), &[]);
    add(Format::Png, "a colour profile that expands to 529 MB", text(b"iCCP", 529_000_000), &[]);

    // ── JPEG ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    let names = ["progressive", "CMYK", "turned", "subsampled"];
    for (seed, name) in Format::Jpeg.seeds().into_iter().zip(names) {
        for (width, height, what, words) in [
            (u16::MAX, u16::MAX, "65,535 pixels to a side", &["limit picture_"][..]),
            (8192, 5461, "the most pixels", &[]),
            (8192, 1, "a line", &[]),
            (0, 0, "no pixels", &["a.jpg"]),
        ] {
            let what = format!("{name}: {what}").leak();
            add(Format::Jpeg, what, resized(&seed, width, height), words);
        }
    }

    // ── WAV ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    let claiming = |mut bytes: Vec<u8>, size: u32| {
        bytes[4..8].copy_from_slice(&size.saturating_add(36).to_le_bytes());
        bytes[40..44].copy_from_slice(&size.to_le_bytes());
        bytes
    };
    add(Format::Wav, "108 bytes that claim 4 GiB, as a stream does", claiming(wav(1, 1, 16_000, 16, &[0; 64]), u32::MAX - 1), &[]);
    add(Format::Wav, "108 bytes that claim 2 GiB", claiming(wav(1, 1, 16_000, 16, &[0; 64]), 0x7fff_ef00), &["claims"]);
    let mut chunked = wav(1, 1, 16_000, 16, &[0; 64]);
    chunked.splice(12..12, *b"LIST\xf0\xff\xff\xff");
    add(Format::Wav, "a chunk of 4 GiB", chunked, &["claims", "LIST"]);
    add(Format::Wav, "floats of 30,000", wav(3, 1, 16_000, 32, &[[0; 4], 30_000f32.to_le_bytes()].concat()), &["sample 1", "30000"]);
    add(Format::Wav, "0 samples per second", wav(1, 1, 0, 16, &[0; 64]), &["samples per second"]);
    add(Format::Wav, "2³² − 1 samples per second", wav(1, 1, u32::MAX, 8, &[0; 64]), &["samples per second"]);
    add(Format::Wav, "65,535 channels", wav(1, u16::MAX, 16_000, 8, &vec![0; 65_535]), &["a.wav"]);
    add(Format::Wav, "no channels", wav(1, 0, 16_000, 16, &[0; 64]), &["a.wav"]);
    add(Format::Wav, "no bits", wav(1, 1, 16_000, 0, &[0; 64]), &["a.wav"]);
    add(Format::Wav, "255 bits", wav(1, 1, 16_000, 255, &[0; 64]), &["a.wav"]);
    for (what, value) in [("not a number", f32::NAN), ("infinite", f32::INFINITY), ("minus infinite", f32::NEG_INFINITY)] {
        add(Format::Wav, what, wav(3, 1, 16_000, 32, &[[0; 4], value.to_le_bytes()].concat()), &["sample 1", "finite"]);
    }
    add(Format::Wav, "eleven minutes", wav(1, 1, 8_000, 8, &vec![0x80; 8_000 * 660]), &["sound_seconds = 600"]);

    // ── FLAC, MP3, Ogg ───────────────────────────────────────────────────────────────────────────────────────────────
    let mut flac = Format::Flac.seeds().remove(0);
    let top = flac[21] | 15;
    flac[21..26].copy_from_slice(&[top, 0xff, 0xff, 0xff, 0xff]);
    add(Format::Flac, "2³⁶ − 1 samples", flac, &["sound_seconds = 600"]);
    let seed = Format::Flac.seeds().remove(0);
    for (what, kind) in [("a comment", 4), ("a picture", 6), ("a table of places", 3), ("an application's data", 2)] {
        let block = [&[kind, 0xff, 0xff, 0xff][..], &[0xff; 64]].concat();
        let what = format!("{what} of 16 MiB that is not there").leak();
        add(Format::Flac, what, [&seed[..42], &block, &seed[42..]].concat(), &["a.flac"]);
    }
    let mp3 = Format::Mp3.seeds().remove(0);
    add(Format::Mp3, "a tag of 256 MiB", [&b"ID3\x04\0\0\x7f\x7f\x7f\x7f"[..], &mp3].concat(), &["a.mp3"]);
    add(Format::Mp3, "a thousand tags", [&b"ID3\x04\0\0\0\0\0\0"[..].repeat(1000)[..], &mp3].concat(), &[]);
    add(Format::Mp3, "16 MiB without a frame", [&mp3[..200], &vec![0xff; 16 << 20]].concat(), &["a.mp3"]);
    let mut ogg = Format::Ogg.seeds().remove(0);
    let comment = ogg.windows(7).position(|w| w == b"\x03vorbis").expect("a comment header") + 7;
    ogg[comment..comment + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let whole = |mut bytes: Vec<u8>| {
        // Random numbers decide whether checksums are mended: some seed does.
        (0..8).for_each(|seed| crate::repair::ogg(&mut bytes, &mut crate::mutate::Random::new(seed)));
        bytes
    };
    add(Format::Ogg, "a comment of 4 GiB", whole(ogg), &[]);
    let mut ogg = Format::Ogg.seeds().remove(0);
    let first = ogg.windows(7).position(|w| w == b"\x01vorbis").expect("a header") + 7;
    ogg[first + 5..first + 9].copy_from_slice(&u32::MAX.to_le_bytes());
    add(Format::Ogg, "2³² − 1 samples per second", whole(ogg), &["a.ogg"]);

    // ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────
    let line = |text: String| format!("{{\"text\": \"fine\"}}\n{text}\n").into_bytes();
    add(Format::Jsonl, "brackets 500,000 deep", line("[".repeat(500_000)), &["line 2"]);
    add(Format::Jsonl, "objects 200,000 deep", line("{\"a\":".repeat(200_000)), &["line 2"]);
    add(Format::Jsonl, "a line of 2 MiB", line(format!("{{\"text\": \"{}\"}}", "x".repeat(2 << 20))), &["line 2", "1048576"]);
    add(Format::Jsonl, "a file of one line of 64 MiB", vec![b'x'; 64 << 20], &["line 1", "1048576"]);
    add(Format::Jsonl, "a key that comes twice", line("{\"text\": \"a\", \"text\": \"b\"}".into()), &["line 2", "duplicate"]);
    for path in
        ["../a.png", "/etc/passwd", "a/../../a.png", "\\\\server\\a.png", "C:\\\\a.png", "a\\u0000.png", "", "..", "./../a", "/dev/zero", "a\\\\..\\\\..\\\\b"]
    {
        add(Format::Jsonl, "a path that leaves the folder", line(format!("{{\"file_name\": \"{path}\", \"text\": \"a\"}}")), &["line 2"]);
    }
    add(Format::Jsonl, "the folder itself", line("{\"file_name\": \".\", \"text\": \"a\"}".into()), &["regular file"]);

    // ── config.json, tokenizer.json ──────────────────────────────────────────────────────────────────────────────────
    let config = |key: &str, value: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&Config::meadow(300).to_json()).expect("JSON");
        json[key] = serde_json::from_str(value).expect("JSON");
        json.to_string().into_bytes()
    };
    add(Format::Config, "brackets 500,000 deep", "[".repeat(500_000).into(), &["line 1"]);
    add(Format::Config, "a width of 2⁶⁴ − 1", config("hidden_size", "18446744073709551615"), &["hidden_size"]);
    add(Format::Config, "a vocabulary of 2³²", config("vocab_size", "4294967296"), &["vocab_size"]);
    add(Format::Config, "no heads", config("num_key_value_heads", "0"), &["num_key_value_heads"]);
    add(Format::Config, "the most layers", config("num_hidden_layers", "1048576"), &[]);
    add(
        Format::Config,
        "an endless clip",
        config("audio_config", "{\"num_mel_bins\": 80, \"sample_rate\": 16000, \"clip_seconds\": 1e308, \"layers\": 3}"),
        &["clip_seconds"],
    );
    add(Format::Config, "no patches", config("vision_config", "{\"image_size\": 48, \"patch_size\": 0, \"bidirectional\": true}"), &["patch_size"]);
    add(Format::Config, "64 MiB of white space", vec![b' '; 64 << 20], &["at most 1048576 bytes"]);
    add(Format::Config, "not UTF-8", b"{\"hidden_size\": \"\xff\xfe\"}".to_vec(), &["line 1"]);

    let whole = Tokenizer::train(["a cat"], 265).and_then(|t| t.to_bytes()).expect("a tokenizer");
    let tokenizer = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
        change(&mut json);
        json.to_string().into_bytes()
    };
    add(Format::Tokenizer, "brackets 500,000 deep", "[".repeat(500_000).into(), &["tokenizer.json"]);
    add(Format::Tokenizer, "an id of 2³² − 1", tokenizer(&|json| json["model"]["vocab"]["a"] = u32::MAX.into()), &["4194304"]);
    add(
        Format::Tokenizer,
        "a merge of tokens that are not there",
        tokenizer(&|json| json["model"]["merges"] = serde_json::json!([["zz", "yy"]])),
        &["tokenizer.json"],
    );
    let normalizer = |kind: serde_json::Value| tokenizer(&|json| json["normalizer"] = kind.clone());
    add(
        Format::Tokenizer,
        "a precompiled normalizer",
        normalizer(serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        &["Precompiled"],
    );
    let split = |regex: &str| {
        tokenizer(&|json| json["pre_tokenizer"] = serde_json::json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}))
    };
    add(Format::Tokenizer, "a regex of a thousand million letters", split("(?:(?:a{1000}){1000}){1000}"), &["tokenizer.json"]);
    add(Format::Tokenizer, "a regex that backtracks for ever", split("(?=(a|a?)+$)(x+x+)+y"), &[]);
    add(Format::Tokenizer, "a regex that is not one", split("(?<x"), &["tokenizer.json"]);
    all
}

/// A PNG of one header and one data chunk.
fn png(width: u32, height: u32, depth: u8, color: u8, stream: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", stream), &chunk(b"IEND", &[])].concat()
}

/// A zlib stream (RFC 1950, 1951) of `n` zeros: one zero, then copies of 258 bytes at distance 1, 13 bits each.
fn zeros(n: u64) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (vec![0x78, 0x9c], 0u64, 0);
    // Huffman codes go in from their highest bit on, everything else from its lowest.
    let mut put = |value: u64, width: u32| {
        bits |= value << count;
        count += width;
        while count >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    put(0b011, 3); // the last block, fixed codes
    let zero = 0b0011_0000u64.reverse_bits() >> 56;
    put(zero, 8);
    let left = n.saturating_sub(1);
    let copy = 0b1100_0101u64.reverse_bits() >> 56; // length 258, no extra bits; distance code 0 is five zeros
    for _ in 0..left / 258 {
        put(copy, 13);
    }
    for _ in 0..left % 258 {
        put(zero, 8);
    }
    put(0, 7); // end of the block
    put(0, 7);
    // Adler-32 of zeros: a stays 1, b counts.
    out.extend(((n % 65_521) as u32 * 65_536 + 1).to_be_bytes());
    out
}

/// The same JPEG with other sizes in its frame header.
fn resized(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    let frame = bytes.windows(2).position(|w| w[0] == 0xff && (0xc0..=0xc2).contains(&w[1])).expect("a frame header");
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// A model's folder whose config claims more than its weights hold.
pub fn boastful_model(folder: &Path) {
    let tokenizer = Tokenizer::train(["a cat"], 265).and_then(|t| t.to_bytes()).expect("a tokenizer");
    let config = Config { hidden_size: 1 << 20, intermediate_size: 1 << 20, num_hidden_layers: 1 << 20, ..Config::meadow(1 << 20) };
    std::fs::write(folder.join("config.json"), config.to_json()).expect("a file");
    std::fs::write(folder.join("tokenizer.json"), tokenizer).expect("a file");
    std::fs::write(folder.join("model.safetensors"), &Format::Safetensors.seeds()[0]).expect("a file");
}
