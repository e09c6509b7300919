//! Every kind of file that the program reads: small whole ones to start from, how a mutant of it is made, who reads it, and what
//! the reader's complaint has to name.

use std::cell::RefCell;
use std::path::Path;

use trimodal::data::folder::MediaSizes;
use trimodal::data::{Dataset, Fit, Limits, OpenOptions, Picture, Tokenizer, meadow, picture, sound};
use trimodal::files::safetensors::save_safetensors;
use trimodal::model::{Config, Parameters};
use trimodal::train::checkpoint::{Best, TrainerState, read_state};
use trimodal::train::model_folder::read_parameters;
use trimodal::train::settings::Settings;
use trimodal::{DType, Device, Result};

use crate::mutate::{self, Random};
use crate::repair;

/// A small file of crates/trimodal-data/tests/media.
macro_rules! media {
    ($name:literal) => {
        include_bytes!(concat!("../../crates/trimodal-data/tests/media/", $name))
    };
}

/// A kind of file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Safetensors,
    Png,
    Jpeg,
    Webp,
    Wav,
    Flac,
    Mp3,
    Ogg,
    Jsonl,
    Config,
    Tokenizer,
    State,
    Settings,
    Csv,
    Tar,
    Parquet,
}

impl Format {
    pub const ALL: [Format; 16] = [
        Format::Safetensors,
        Format::Png,
        Format::Jpeg,
        Format::Webp,
        Format::Wav,
        Format::Flac,
        Format::Mp3,
        Format::Ogg,
        Format::Jsonl,
        Format::Csv,
        Format::Tar,
        Format::Parquet,
        Format::Config,
        Format::Settings,
        Format::Tokenizer,
        Format::State,
    ];

    /// Its name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
            Format::Wav => "wav",
            Format::Flac => "flac",
            Format::Mp3 => "mp3",
            Format::Ogg => "ogg",
            Format::Jsonl => "jsonl",
            Format::Config => "config",
            Format::Tokenizer => "tokenizer",
            Format::State => "state",
            Format::Settings => "settings",
            Format::Csv => "csv",
            Format::Tar => "tar",
            Format::Parquet => "parquet",
        }
    }

    /// What the file is called, below the folder that its reader is given.
    pub fn file(self) -> &'static str {
        match self {
            Format::Safetensors => "model.safetensors",
            Format::Png => "a.png",
            Format::Jpeg => "a.jpg",
            Format::Webp => "a.webp",
            Format::Wav => "a.wav",
            Format::Flac => "a.flac",
            Format::Mp3 => "a.mp3",
            Format::Ogg => "a.ogg",
            Format::Jsonl => "metadata.jsonl",
            Format::Config => "config.json",
            Format::Tokenizer => "tokenizer.json",
            Format::State => "trainer_state.json",
            Format::Settings => "run.toml",
            Format::Csv => "metadata.csv",
            Format::Tar => "shard-000000.tar",
            Format::Parquet => "a.parquet",
        }
    }

    /// Small whole files.
    pub fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Format::Safetensors => vec![model()],
            Format::Png => {
                let rgb = meadow::png(&Picture { width: 3, height: 3, rgb: (0..27).collect() }).expect("a picture");
                // Made with Pillow 12: palette with transparency, 1 and 16 bits of grey, alpha with text and EXIF chunks.
                let others: [&[u8]; 4] = [
                    include_bytes!("seeds/palette.png"),
                    include_bytes!("seeds/one-bit.png"),
                    include_bytes!("seeds/grey16.png"),
                    include_bytes!("seeds/rgba-text.png"),
                ];
                std::iter::once(rgb).chain(others.map(<[u8]>::to_vec)).collect()
            }
            // Made with Pillow 12: progressive; CMYK; grey with an orientation tag; subsampled with restart markers. With Pillow 13: what is
            // decoded at an eighth, a quarter, a half of its size, in all ways of subsampling.
            Format::Jpeg => [
                &include_bytes!("seeds/progressive.jpg")[..],
                include_bytes!("seeds/cmyk.jpg"),
                include_bytes!("seeds/grey-turned.jpg"),
                include_bytes!("seeds/subsampled.jpg"),
                include_bytes!("seeds/eighth.jpg"),
                include_bytes!("seeds/quarter.jpg"),
                include_bytes!("seeds/half.jpg"),
                include_bytes!("seeds/half-grey.jpg"),
            ]
            .map(<[u8]>::to_vec)
            .into(),
            // `scripts/golden_media.py` made these with Pillow and libsndfile.
            Format::Webp => {
                [&media!("lossless.webp")[..], media!("turned.webp"), media!("lossy.webp"), media!("alpha.webp"), media!("animated.webp")].map(<[u8]>::to_vec).into()
            }
            Format::Flac => [&media!("mono.flac")[..], media!("stereo.flac")].map(<[u8]>::to_vec).into(),
            Format::Mp3 => [&media!("mono.mp3")[..], media!("stereo.mp3")].map(<[u8]>::to_vec).into(),
            Format::Ogg => [&media!("mono.ogg")[..], media!("stereo.ogg")].map(<[u8]>::to_vec).into(),
            Format::Wav => vec![
                media!("ima.wav").to_vec(),
                media!("ms.wav").to_vec(),
                media!("alaw.wav")[..300].iter().copied().chain([0; 358]).collect(),
                wav(3, 1, 16_000, 64, &[0x3f; 64]),
                wav(1, 1, 16_000, 16, &[1; 64]),
                wav(1, 2, 16_000, 8, &[3; 30]),
                wav(1, 1, 16_000, 24, &[5; 33]),
                wav(3, 1, 16_000, 32, &[0x3d; 64]),
                wav(1, 2, 22_050, 16, &[7; 64]),
            ],
            Format::Jsonl => vec![
                "{\"file_name\": \"a.png\", \"text\": \"ä cat\", \"split\": \"train\"}\n{\"audio\": \"a.wav\", \"text\": \"b\", \"other\": [1, 2.5, null]}\n{\"text\": \"words\"}\n".into(),
            ],
            Format::Config => vec![
                Config::meadow(300).to_json().into_bytes(),
                tiny().to_json().into_bytes(),
                // As transformers 5 writes one.
                br#"{"model_type": "qwen3", "vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": null, "head_dim": 8, "max_position_embeddings": 64, "dtype": "bfloat16", "torch_dtype": "float32",
                "layer_types": ["full_attention", "full_attention"], "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
                "rope_scaling": null, "sliding_window": null, "use_sliding_window": false, "eos_token_id": [2, 7], "bos_token_id": 1}"#
                    .to_vec(),
            ],
            Format::Tokenizer => {
                let small = Tokenizer::train(["a cat"], 265).and_then(|t| t.to_bytes()).expect("a tokenizer");
                // Without most of the 256 bytes and without white space it is as good, and read twenty times as fast.
                let mut json: serde_json::Value = serde_json::from_slice(&small).expect("JSON");
                let kept = |token: &str| token.starts_with('<') || "actĠ".contains(token);
                json["model"]["vocab"].as_object_mut().expect("a vocabulary").retain(|token, _| kept(token));
                vec![json.to_string().into_bytes()]
            }
            Format::Settings => vec![
                Settings::preset("meadow").expect("a preset").to_toml().into_bytes(),
                b"[model]\npreset = \"small\"\n[training]\nsteps = 7\nlearning_rate = 1e-3\n".to_vec(),
            ],
            Format::Csv => vec!["file_name,audio,text,split\na.png,,\"ä \"\"cat\"\", black\",train\n,a.wav,\"two\nlines\",\n,,words,test\n".into()],
            Format::Tar => {
                let (png, wav) = (&Format::Png.seeds()[0], &Format::Wav.seeds()[0]);
                let long = format!("{}/b.txt", "long".repeat(40));
                vec![archive(&[("000000.png", png), ("000000.txt", b"a cat"), ("000001.wav", wav), ("000001.json", b"{\"text\": \"b\"}"), (&long, b"words")])]
            }
            // Made by scripts/parquet-fixtures.py: structures, lists, nulls, every compression and encoding that is read.
            Format::Parquet => [
                &include_bytes!("../parquet/hub/data/test-00000-of-00001.parquet")[..],
                include_bytes!("../parquet/lists.parquet"),
                include_bytes!("../parquet/nulls.parquet"),
                include_bytes!("../parquet/delta.parquet"),
                include_bytes!("../parquet/gzip.parquet"),
                include_bytes!("../parquet/polars.parquet"),
            ]
            .map(<[u8]>::to_vec)
            .into(),
            Format::State => vec![serde_json::to_vec_pretty(&TrainerState { best: Some(Best { step: 3, loss: 0.5, share: Some(0.125) }), loss: Some(0.25), ..TrainerState::default() }).expect("JSON")],
        }
    }

    /// What a mutant may hold that random bytes would not hit upon.
    fn words(self) -> &'static [&'static str] {
        match self {
            Format::Safetensors => &[
                "F64",
                "BF16",
                "F8_E4M3",
                "\"__metadata__\":{\"a\":\"b\"},",
                "18446744073709551615",
                "[4294967296,4294967296]",
                "data_offsets",
                "shape",
                "{",
                "}",
                "[",
                "]",
                ",",
                "model.norm.weight",
                "null",
                "-1",
            ],
            Format::Png => {
                &["IHDR", "PLTE", "tRNS", "IDAT", "IEND", "iCCP", "zTXt", "iTXt", "eXIf", "acTL", "fcTL", "fdAT", "gAMA", "cHRM", "sRGB", "cICP", "mDCV"]
            }
            Format::Jpeg => &[
                "Exif\0\0MM\0*\0\0\0\x08",
                "Exif\0\0II*\0\x08\0\0\0",
                "JFIF\0",
                "ICC_PROFILE\0\x01\x02",
                "Adobe\0d\0\0\0\0\x02",
                "MPF\0",
                "http://ns.adobe.com/xap/1.0/\0",
            ],
            Format::Webp => &["RIFF", "WEBP", "VP8 ", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF", "EXIF", "ICCP", "XMP ", "II*\0\x08\0\0\0"],
            Format::Flac => &["fLaC", "ID3\x04\0\0\0\0\0\x0a", "\0\0\0\x22", "\u{4}\0\0\u{8}", "\u{6}\0\u{1}\0"],
            Format::Mp3 => &["ID3\x04\0\0\0\0\0\x0a", "ID3\x03\0\x10\x7f\x7f\x7f\x7f", "Xing\0\0\0\x0f", "Info\0\0\0\x01", "VBRI", "LAME3.100", "TAG"],
            Format::Ogg => &["OggS", "\u{1}vorbis", "\u{3}vorbis", "\u{5}vorbis", "BCV", "OpusHead", "\x7fFLAC\x01\0", "fishead\0", "metadata_block_picture="],
            Format::Wav => &[
                "RIFF",
                "WAVE",
                "fmt ",
                "data",
                "LIST",
                "fact",
                "\u{1}\0\u{1}\0",
                "\u{3}\0\u{1}\0",
                "\u{11}\0\u{1}\0",
                "\u{2}\0\u{2}\0",
                "RF64",
                "RIFX",
                "ds64",
            ],
            Format::Jsonl => &[
                "{",
                "}",
                "[",
                "]",
                "\"",
                "\\u0000",
                "\\ud800",
                "\u{feff}",
                "\n",
                "\r\n",
                "\0",
                "null",
                "\"file_name\"",
                "\"audio\"",
                "\"text\"",
                "../a.png",
                "/etc/passwd",
                "a.png/../../x",
                "/dev/zero",
                "C:\\a",
                "a.wav",
                "-0",
                "1e400",
            ],
            Format::Settings => &[
                "[",
                "]",
                "[[",
                "]]",
                "=",
                "\"",
                "'''",
                "\"\"\"",
                "#",
                "{",
                "}",
                ",",
                "\n",
                "[model]",
                "[training]",
                "[data]",
                "preset",
                "steps",
                "inf",
                "nan",
                "-1",
                "1e308",
                "true",
                "0x7fffffffffffffff",
                "9223372036854775808",
                "1979-05-27",
                "\\u0000",
                "a.b.c",
                "\u{feff}",
            ],
            Format::Csv => &[
                ",",
                "\"",
                "\"\"",
                "\n",
                "\r\n",
                "\r",
                ";",
                "\t",
                "\0",
                "\u{feff}",
                "file_name",
                "image",
                "audio",
                "text",
                "prompt",
                "../a.png",
                "/etc/passwd",
                "a.png",
                "a.wav",
                "text,text",
            ],
            Format::Tar => &[
                "ustar\0",
                "00",
                "ustar  \0",
                "././@LongLink",
                "30 path=../../a.png\n",
                "999999999999 path=a\n",
                "20 size=99999999999\n",
                "77777777777\0",
                "-0000000001\0",
                "5",
                "L",
                "x",
                "g",
                "2",
                "K",
                "/etc/passwd",
                "../x.png",
                "000000.json",
                "000001.txt",
                ".png",
                "{\"text\": 1}",
                "PaxHeaders",
            ],
            Format::Parquet => &[
                "PAR1",
                "PARE",
                "image",
                "images",
                "bytes",
                "path",
                "text",
                "list",
                "element",
                "\x15\x00",
                "\x15\x04",
                "\x15\x06",
                "\x2c",
                "\x4c",
                "\x5c",
                "\x19\x1c",
                "\x15\u{fffd}\x0f",
                "huggingface",
                "names",
            ],
            Format::State => {
                &["{", "}", "[", "]", "\"", ",", ":", "null", "-1", "1e308", "NaN", "\"step\"", "\"position\"", "\"best\"", "4294967296", "\\ud800"]
            }
            Format::Config => &[
                "{",
                "}",
                "[",
                "]",
                "\"",
                ",",
                ":",
                "null",
                "true",
                "-1",
                "1e308",
                "NaN",
                "0.0",
                "4294967296",
                "\"head_dim\"",
                "\"vision_config\"",
                "\"audio_config\"",
                "\"layers\"",
                "\"clip_seconds\"",
                "silu",
                "gelu",
                "\n",
                "\\ud800",
                "qwen3",
            ],
            Format::Tokenizer => &[
                "{",
                "}",
                "[",
                "]",
                "\"",
                ",",
                "null",
                "Precompiled",
                "Helper",
                "BPE",
                "WordPiece",
                "Unigram",
                "WordLevel",
                "ByteLevel",
                "Sequence",
                "Split",
                "Replace",
                "Metaspace",
                "Strip",
                "Truncate",
                "NFKC",
                "TemplateProcessing",
                "(a+)+$",
                "(?<x",
                "\\p{L}{1000}{1000}",
                "<bos>",
                "<hide>",
                "a",
                "c",
                "type",
                "model",
                "vocab",
                "merges",
                "normalizer",
                "pre_tokenizer",
                "decoder",
                "post_processor",
                "added_tokens",
                "dropout",
                "unk_token",
                "ignore_merges",
                "4294967295",
                "-1",
            ],
        }
    }

    /// The mutant of this number, from these seeds of [`Format::seeds`].
    pub fn mutant(self, seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
        let mut random = Random::new(number.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ self as u64);
        let original = random.pick(seeds).clone();
        let other = random.pick(seeds);
        let mut bytes = original.clone();
        mutate::bytes(&mut bytes, other, self.words(), &mut random);
        match self {
            Format::Safetensors => repair::safetensors(&mut bytes, &original, self.words(), &mut random),
            Format::Png => repair::png(&mut bytes, &mut random),
            Format::Jpeg => repair::jpeg(&mut bytes, &mut random),
            Format::Webp => repair::webp(&mut bytes, &mut random),
            Format::Wav => repair::wav(&mut bytes, &mut random),
            Format::Flac => repair::flac(&mut bytes, &mut random),
            Format::Ogg => repair::ogg(&mut bytes, &mut random),
            Format::Mp3 => {}
            Format::Jsonl => repair::json_lines(&mut bytes, &original, self.words(), &mut random),
            Format::Config | Format::Tokenizer | Format::State => repair::json(&mut bytes, &original, self.words(), &mut random),
            Format::Settings | Format::Csv => {}
            Format::Tar => repair::tar(&mut bytes, &mut random),
            Format::Parquet => repair::parquet(&mut bytes, &original, &mut random),
        }
        bytes
    }

    /// Puts beside the file what its reader looks for there.
    pub fn furnish(self, folder: &Path) {
        if self == Format::Parquet {
            std::fs::write(folder.join("beside.png"), &Format::Png.seeds()[0]).expect("a file");
        }
        if matches!(self, Format::Jsonl | Format::Csv) {
            std::fs::write(folder.join("a.png"), &Format::Png.seeds()[0]).expect("a file");
            std::fs::write(folder.join("a.wav"), &Format::Wav.seeds()[0]).expect("a file");
        }
    }

    /// Reads the file as the program does, up to what the program makes of it first.
    pub fn read(self, path: &Path) -> Result<()> {
        let limits = Limits::default();
        match self {
            Format::Safetensors => {
                thread_local! {
                    static PARAMETERS: RefCell<Parameters> = RefCell::new(Parameters::zeros(&tiny(), &Device::Cpu, DType::F32).expect("a tiny model"));
                }
                PARAMETERS.with_borrow_mut(|parameters| read_parameters(path, parameters))
            }
            Format::Png | Format::Jpeg | Format::Webp => {
                let picture = picture::load(path, 8, &limits)?;
                assert_eq!((picture.width, picture.height, picture.rgb.len()), (8, 8, 192));
                Ok(())
            }
            Format::Wav | Format::Flac | Format::Mp3 | Format::Ogg => {
                let clip = sound::load(path, 16_000, 400, &limits)?;
                assert!(clip.len() == 400 && clip.iter().all(|v| v.is_finite() && v.abs() <= 16.0));
                Ok(())
            }
            Format::Jsonl | Format::Csv | Format::Tar => {
                let data = Dataset::open(if self == Format::Tar { path } else { path.parent().expect("a folder") }, &limits)?;
                let sizes = MediaSizes { picture: 8, fit: Fit::Crop, sample_rate: 16_000, samples: 400 };
                data.rows().iter().take(4).try_for_each(|row| data.sample(row, &sizes).map(drop))
            }
            Format::Parquet => {
                let columns = "image=images,text=label".parse().expect("columns");
                let sizes = MediaSizes { picture: 8, fit: Fit::Crop, sample_rate: 16_000, samples: 400 };
                // With the lists, where it has them; else with the columns of the usual names.
                let lists = Dataset::open_with(path, &OpenOptions { limits: limits.clone(), columns, skip_bad: false });
                let data = lists.or_else(|_| Dataset::open(path, &limits))?;
                data.rows().iter().take(3).try_for_each(|row| data.sample(row, &sizes).map(drop))
            }
            Format::Config => {
                let config = Config::load(path)?;
                // Everything that is derived from a valid config.
                let _ = config.vision_config.as_ref().map(|vision| vision.patches());
                let _ = config.audio_config.as_ref().map(|audio| audio.rows());
                let mut elements = 0u128;
                Parameters::build(&config, &mut |shape| {
                    elements += shape.iter().map(|n| *n as u128).product::<u128>();
                    Ok(())
                })
                .map(drop)
            }
            Format::Tokenizer => {
                let tokenizer = Tokenizer::load(path)?;
                // Words without tokens are refused by name of the word: what counts is that nothing panics.
                if let Ok(ids) = tokenizer.encode("a cat, 3 cats") {
                    let _ = tokenizer.decode(&ids);
                }
                let _ = tokenizer.decode(&[0, 1, 9, tokenizer.vocabulary() as u32 - 1]);
                Ok(())
            }
            Format::Settings => {
                let settings = Settings::read(path)?;
                assert!(!settings.to_toml().is_empty());
                Ok(())
            }
            Format::State => read_state(path.parent().expect("a folder")).map(drop),
        }
    }
}

/// A model of 140 numbers.
pub fn tiny() -> Config {
    Config {
        hidden_size: 4,
        intermediate_size: 4,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        num_key_value_heads: 1,
        head_dim: 2,
        vision_config: None,
        audio_config: None,
        ..Config::meadow(3)
    }
}

fn model() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let parameters = Parameters::init(&tiny(), &Device::Cpu, DType::F32, 1).expect("a tiny model");
    let stored: Vec<_> = parameters
        .named()
        .into_iter()
        .map(|(name, tensor)| {
            let values = tensor.read::<f32>().expect("numbers");
            (name, tensor.shape().dims().to_vec(), DType::F32, bytemuck::cast_slice(&values).to_vec())
        })
        .collect();
    save_safetensors(&path, &[("step", "1".into())], &stored).expect("a file");
    std::fs::read(&path).expect("a file")
}

/// A WAV file of one format chunk and one data chunk.
pub fn wav(format: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let align = channels.wrapping_mul(bits / 8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((data.len() as u32 + 36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(align as u32).to_le_bytes());
    bytes.extend(align.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// A tar archive (GNU's ustar) of small files; a path beyond 100 bytes goes into a member of its own.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut member = |path: &str, kind: u8, contents: &[u8]| {
        let mut header = [0u8; 512];
        let name = &path.as_bytes()[..path.len().min(100)];
        header[..name.len()].copy_from_slice(name);
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..124].copy_from_slice(b"0000000\x000000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar  \0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| *byte as u32).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(contents);
        out.resize(out.len().next_multiple_of(512), 0);
    };
    for (path, contents) in files {
        if path.len() > 100 {
            member("././@LongLink", b'L', format!("{path}\0").as_bytes());
        }
        member(path, b'0', contents);
    }
    out.resize(out.len() + 1024, 0);
    out
}
