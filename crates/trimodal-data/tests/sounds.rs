//! Sounds as libsndfile reads them: every kind of WAV header that real programs write, and FLAC, MP3 and Ogg files whose samples
//! `scripts/golden_media.py` wrote down.

mod common;

use common::{media, says};
use serde_json::Value;
use trimodal_data::{Limits, Result, sound};

/// The first `samples` of a file of these bytes, at its own rate.
fn load(bytes: &[u8], rate: u32, samples: usize) -> Result<Vec<f32>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    std::fs::write(&path, bytes).unwrap();
    sound::load(&path, rate, samples, &Limits::default())
}

// ── WAV ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A WAV to be.
#[derive(Clone)]
struct Wave {
    riff: &'static [u8],
    riff_size: Option<u32>,
    code: u16,
    channels: u16,
    bits: u16,
    align: u16,
    bytes_a_second: u32,
    /// What `fmt ` has beyond 16 bytes.
    more: Vec<u8>,
    /// Chunks between `fmt ` and `data`.
    between: Vec<u8>,
    data: Vec<u8>,
    data_size: Option<u32>,
    after: Vec<u8>,
}

fn wave(code: u16, bits: u16, data: &[u8]) -> Wave {
    let align = bits.div_ceil(8);
    let (more, between, after) = (vec![], vec![], vec![]);
    Wave {
        riff: b"RIFF",
        riff_size: None,
        code,
        channels: 1,
        bits,
        align,
        bytes_a_second: 16_000 * align as u32,
        more,
        between,
        data: data.to_vec(),
        data_size: None,
        after,
    }
}

fn chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
    let pad = if content.len() % 2 == 1 { &[0][..] } else { &[] };
    [name, &(content.len() as u32).to_le_bytes(), content, pad].concat()
}

impl Wave {
    /// Microsoft's extensible format with so many valid bits.
    fn extensible(mut self, valid: u16) -> Self {
        self.more = [&22u16.to_le_bytes()[..], &valid.to_le_bytes(), &4u32.to_le_bytes(), &self.code.to_le_bytes()].concat();
        self.more.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
        self.code = 0xfffe;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let format = [
            &self.code.to_le_bytes()[..],
            &self.channels.to_le_bytes(),
            &16_000u32.to_le_bytes(),
            &self.bytes_a_second.to_le_bytes(),
            &self.align.to_le_bytes(),
            &self.bits.to_le_bytes(),
            &self.more,
        ]
        .concat();
        let mut data = chunk(b"data", &self.data);
        if let Some(size) = self.data_size {
            data[4..8].copy_from_slice(&size.to_le_bytes());
        }
        let body = [b"WAVE", &chunk(b"fmt ", &format)[..], &self.between, &data, &self.after].concat();
        [self.riff, &self.riff_size.unwrap_or(body.len() as u32).to_le_bytes(), &body].concat()
    }

    /// Exactly these samples, and silence after them.
    #[track_caller]
    fn is(&self, expected: &[f32]) {
        let clip = load(&self.bytes(), 16_000, expected.len() + 2).unwrap();
        assert_eq!(clip, [expected, &[0.0, 0.0]].concat());
    }
}

const V16: [i16; 6] = [1, -2, 0x4000, -0x4000, 0x7fff, -0x8000];
const V24: [i32; 6] = [1, -2, 0x40_0000, -0x40_0000, 0x7f_ffff, -0x80_0000];

fn s16() -> Vec<u8> {
    V16.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn s24() -> Vec<u8> {
    V24.iter().flat_map(|v| v.to_le_bytes()[..3].to_vec()).collect()
}

/// 24 bits in the upper three of four bytes.
fn s24_in_32() -> Vec<u8> {
    V24.iter().flat_map(|v| (v << 8).to_le_bytes()).collect()
}

fn f16() -> [f32; 6] {
    V16.map(|v| v as f32 / 32768.0)
}

fn f24() -> [f32; 6] {
    V24.map(|v| v as f32 / 8_388_608.0)
}

/// What libsndfile 1.2.2 gives for each of these, value for value.
#[test]
fn as_many_bytes_as_the_bits_need_and_as_loud_as_the_highest_say() {
    wave(1, 32, &s24_in_32()).extensible(24).is(&f24());
    wave(1, 32, &s24_in_32()).extensible(20).is(&f24());
    wave(1, 32, &s24_in_32()).is(&f24());
    wave(1, 24, &s24()).extensible(20).is(&f24());
    wave(1, 24, &s24()).extensible(24).is(&f24());
    wave(1, 20, &s24()).is(&f24());
    wave(1, 20, &s24()).extensible(20).is(&f24());
    wave(1, 12, &s16()).is(&f16());
    wave(1, 12, &s16()).extensible(12).is(&f16());
    wave(1, 16, &s16()).extensible(12).is(&f16());
    wave(1, 16, &s16()).extensible(0).is(&f16());
    wave(1, 16, &s16()).extensible(32).is(&f16());
    let bytes = [0u8, 1, 127, 128, 129, 255];
    wave(1, 8, &bytes).is(&bytes.map(|v| (v as f32 - 128.0) / 128.0));
    wave(1, 4, &bytes).is(&bytes.map(|v| (v as f32 - 128.0) / 128.0));
    for more in [vec![0], vec![0, 0], vec![2, 0, 9, 9], vec![0; 24]] {
        Wave { more, ..wave(1, 16, &s16()) }.is(&f16());
    }
}

/// scipy and ffmpeg take the block size here, libsndfile reads noise.
#[test]
fn twenty_four_bits_in_blocks_of_four_bytes() {
    Wave { align: 4, bytes_a_second: 64_000, ..wave(1, 24, &s24_in_32()) }.is(&f24());
    // The same claim over three bytes a sample is wrong.
    Wave { align: 4, bytes_a_second: 64_000, ..wave(1, 24, &s24()) }.is(&f24());
}

#[test]
fn a_wrong_block_size_or_byte_rate_changes_nothing() {
    for (align, bytes_a_second) in [(4, 64_000), (1, 16_000), (0, 0), (2, 7), (2, 0), (6, u32::MAX)] {
        Wave { align, bytes_a_second, ..wave(1, 16, &s16()) }.is(&f16());
    }
    for align in [0, 1, 6] {
        Wave { align, ..wave(1, 24, &s24()) }.is(&f24());
    }
}

#[test]
fn the_lengths_of_a_stream_mean_what_is_there() {
    for size in [0, 0x7fff_f000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffda, 0xffff_fffe, u32::MAX] {
        for riff_size in [None, Some(0), Some(0x7fff_f024), Some(u32::MAX), Some(20)] {
            let between = chunk(b"LIST", b"INFOISFT\x0e\0\0\0Lavf60.16.100\0");
            Wave { data_size: Some(size), riff_size, between, ..wave(1, 16, &s16()) }.is(&f16());
        }
    }
    // A file that was closed without a sample has its other chunks.
    let empty = Wave { after: chunk(b"LIST", b"INFOabcd"), ..wave(1, 16, &[]) };
    says(load(&empty.bytes(), 16_000, 8), &["no samples"]);
    says(load(&wave(1, 16, &[]).bytes(), 16_000, 8), &["no samples"]);
    // A length of its own that is not there is no stream's.
    says(load(&Wave { data_size: Some(4_000), ..wave(1, 16, &s16()) }.bytes(), 16_000, 8), &["cut off", "4000 bytes"]);
}

#[test]
fn what_is_no_whole_frame_is_left_out() {
    wave(1, 16, &[&s16()[..], &[9]].concat()).is(&f16());
    let stereo = Wave { channels: 2, align: 4, ..wave(1, 16, &s16()[..10]) };
    stereo.is(&[(f16()[0] + f16()[1]) / 2.0, (f16()[2] + f16()[3]) / 2.0]);
}

#[test]
fn chunks_of_any_length_may_lie_between() {
    let without_pad = [b"abcd\x05\0\0\0".to_vec(), b"12345".to_vec()].concat();
    for between in [chunk(b"LIST", b"INFOx"), chunk(b"abcd", b"12345"), without_pad, vec![0; 8], chunk(b"JUNK", &[0; 28]), chunk(b"LIST", &vec![b'x'; 2 << 20])]
    {
        Wave { between, ..wave(1, 16, &s16()) }.is(&f16());
    }
    Wave { after: b"garbage".to_vec(), ..wave(1, 16, &s16()) }.is(&f16());
    Wave { after: chunk(b"id3 ", b"12345"), ..wave(1, 16, &s16()) }.is(&f16());
}

#[test]
fn more_than_four_gigabytes_could_be_there() {
    let sizes = |data: u64| chunk(b"ds64", &[&84u64.to_le_bytes()[..], &data.to_le_bytes(), &6u64.to_le_bytes(), &[0; 4]].concat());
    for (riff, data, size) in [(&b"RF64"[..], 12, Some(u32::MAX)), (b"RF64", 0, Some(u32::MAX)), (b"RF64", 12, None), (b"BW64", 12, Some(u32::MAX))] {
        Wave { riff, riff_size: Some(u32::MAX), between: sizes(data), data_size: size, ..wave(1, 16, &s16()) }.is(&f16());
    }
    let cut = Wave { riff: b"RF64", between: sizes(5_000), data_size: Some(u32::MAX), ..wave(1, 16, &s16()) };
    says(load(&cut.bytes(), 16_000, 8), &["cut off", "5000"]);
}

#[test]
fn big_endian_twins_are_read() {
    let big = |code: u16, bits: u16, data: &[u8]| {
        let align = bits / 8;
        let head = [
            &code.to_be_bytes()[..],
            &1u16.to_be_bytes(),
            &16_000u32.to_be_bytes(),
            &(16_000 * align as u32).to_be_bytes(),
            &align.to_be_bytes(),
            &bits.to_be_bytes(),
        ];
        [b"RIFX\0\0\0\x40WAVEfmt \0\0\0\x10", &head.concat()[..], b"data", &(data.len() as u32).to_be_bytes(), data].concat()
    };
    let data: Vec<u8> = V16.iter().flat_map(|v| v.to_be_bytes()).collect();
    assert_eq!(load(&big(1, 16, &data), 16_000, 6).unwrap(), f16());
    let data: Vec<u8> = f24().iter().flat_map(|v| (*v as f64).to_be_bytes()).collect();
    assert_eq!(load(&big(3, 64, &data), 16_000, 6).unwrap(), f24());
}

#[test]
fn floats_of_both_sizes_are_read_and_their_bounds_are_checked() {
    let values = [0.0f32, 0.5, -0.5, 1.5, -7.75, 1e-30];
    let f32s = |values: &[f32]| wave(3, 32, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let f64s = |values: &[f64]| wave(3, 64, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    f32s(&values).is(&values);
    f64s(&values.map(f64::from)).is(&values);
    f32s(&values).extensible(32).is(&values);
    f32s(&values).extensible(24).is(&values);
    for (bad, word) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (-30_000.0, "-30000"), (1e300, "inf"), (8.5, "8.5")] {
        says(load(&f64s(&[0.0, 0.25, bad]).bytes(), 16_000, 8), &["sample 2", "finite", word]);
        says(load(&f32s(&[0.0, 0.25, bad as f32]).bytes(), 16_000, 8), &["sample 2", "finite", word]);
    }
    says(load(&f32s(&[0.0, -30_000.0]).bytes(), 16_000, 8), &["32768 for 16 bits", "divide"]);
}

#[test]
fn formats_that_are_not_read_are_named() {
    says(load(&wave(3, 16, &s16()).bytes(), 16_000, 8), &["floats of 32 or 64 bits, found 16"]);
    says(load(&wave(1, 64, &[0; 64]).bytes(), 16_000, 8), &["integers of 1 to 32 bits, found 64"]);
    says(load(&wave(1, 0, &[0; 64]).bytes(), 16_000, 8), &["integers of 1 to 32 bits, found 0"]);
    says(load(&wave(0x31, 0, &[0; 65]).bytes(), 16_000, 8), &["0x0031", "ffmpeg"]);
    says(load(&Wave { channels: 0, ..wave(1, 16, &s16()) }.bytes(), 16_000, 8), &["no channels"]);
    let early = [&b"RIFF\x28\0\0\0WAVE"[..], &chunk(b"data", &s16()), &chunk(b"fmt ", &[0; 16])].concat();
    says(load(&early, 16_000, 8), &["the samples come before"]);
    let short = [&b"RIFF\x28\0\0\0WAVE"[..], &chunk(b"fmt ", &[1; 14]), &chunk(b"data", &s16())].concat();
    says(load(&short, 16_000, 8), &["at least 16 bytes, found 14"]);
}

// ── files that other programs wrote ──────────────────────────────────────────────────────────────────────────────────

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(media("golden.json")).unwrap()).unwrap()
}

#[test]
fn every_kind_of_file_has_libsndfile_s_samples() {
    let golden = golden();
    // Lossy decoders may round differently.
    for (name, allowed) in [
        ("mono.flac", 0.0),
        ("stereo.flac", 1e-7),
        ("alaw.wav", 0.0),
        ("ulaw.wav", 0.0),
        ("ms.wav", 0.0),
        // `symphonia` multiplies where the standard's own decoder shifts, eight steps of 16 bits at most.
        ("ima.wav", 2.5e-4),
        ("rf64.wav", 0.0),
        ("double.wav", 1e-7),
        ("extensible.wav", 1e-7),
        ("mono.ogg", 1e-5),
        ("stereo.ogg", 1e-5),
        ("mono.mp3", 1e-5),
        ("stereo.mp3", 1e-5),
    ] {
        let file = &golden[name];
        let (rate, frames) = (file["rate"].as_u64().unwrap() as u32, file["frames"].as_u64().unwrap() as usize);
        let clip = sound::load(&media(name), rate, frames + 500, &Limits::default()).unwrap_or_else(|error| panic!("{error}"));
        let values = file["values"].as_array().unwrap();
        assert!(values.len() > 10);
        let worst = values.iter().zip(clip.iter().step_by(29)).map(|(value, found)| (value.as_f64().unwrap() - *found as f64).abs()).fold(0.0, f64::max);
        assert!(worst <= allowed, "{name}: off by {worst}");
        // The last block of ADPCM is filled up with what nobody wrote, and libsndfile's own header counts it.
        assert!(name == "ima.wav" || clip[frames..].iter().all(|v| *v == 0.0), "{name} has more than {frames} frames");
        assert!(clip[frames - 50..frames].iter().any(|v| *v != 0.0), "{name} has fewer than {frames} frames");
    }
}

#[test]
fn tags_before_the_sound_are_skipped_however_large() {
    for name in ["mono.mp3", "mono.flac"] {
        let whole = std::fs::read(media(name)).unwrap();
        let plain = load(&whole, 16_000, 1200).unwrap();
        let size = 2usize << 20;
        let seven = |shift: usize| (size >> shift & 0x7f) as u8;
        let tag = [&b"ID3\x04\0\0"[..], &[seven(21), seven(14), seven(7), seven(0)], &vec![b'x'; size]].concat();
        assert_eq!(load(&[tag.clone(), whole.clone()].concat(), 16_000, 1200).unwrap(), plain, "{name}");
        assert_eq!(load(&[tag.clone(), tag, whole].concat(), 16_000, 1200).unwrap(), plain, "{name}");
    }
}

/// In FLAC, a picture of 2 MB between the header and the first frame.
#[test]
fn pictures_in_a_flac_are_skipped() {
    let whole = std::fs::read(media("mono.flac")).unwrap();
    let content = [&3u32.to_be_bytes()[..], &0u32.to_be_bytes(), &0u32.to_be_bytes(), &[0; 16], &(2u32 << 20).to_be_bytes(), &vec![7; 2 << 20]].concat();
    let block = [&[6u8][..], &(content.len() as u32).to_be_bytes()[1..], &content].concat();
    // After STREAMINFO, which is 4 + 4 + 34 bytes.
    let with = [&whole[..42], &block, &whole[42..]].concat();
    assert_eq!(load(&with, 16_000, 1200).unwrap(), load(&whole, 16_000, 1200).unwrap());
}

#[test]
fn a_file_that_ends_early_is_cut_off() {
    for name in ["mono.flac", "stereo.flac", "mono.ogg", "stereo.ogg", "ima.wav", "alaw.wav", "double.wav"] {
        let whole = std::fs::read(media(name)).unwrap();
        for length in (0..whole.len()).filter(|length| length % 17 == 0 || *length < 64 || length + 32 > whole.len()) {
            says(load(&whole[..length], 16_000, 8_000), &["a.wav"]);
        }
    }
    // An MP3 has no end; one that lacks much of what its header says is cut off.
    let whole = std::fs::read(media("mono.mp3")).unwrap();
    (0..whole.len()).step_by(11).for_each(|length| drop(load(&whole[..length], 16_000, 8_000)));
}

#[test]
fn what_is_no_sound_that_is_read_is_named() {
    says(sound::load(&media("opus.ogg"), 16_000, 800, &Limits::default()), &["opus.ogg", "holds Opus", "ffmpeg"]);
    says(load(b"\0\0\0\x18ftypM4A \0\0\0\0", 16_000, 8), &["M4A", "ffmpeg -i in.m4a out.flac"]);
    says(load(b"FORM\0\0\0\0AIFFCOMM", 16_000, 8), &["AIFF"]);
    says(load(b"a cat", 16_000, 8), &["a sound (WAV, FLAC, MP3, Ogg Vorbis)", "5 bytes", "61 20 63 61"]);
    says(load(b"", 16_000, 8), &["0 bytes"]);
}

#[test]
fn limits_hold_for_every_kind() {
    for name in ["mono.flac", "mono.ogg", "mono.mp3", "alaw.wav"] {
        let with = |limits: Limits| sound::load(&media(name), 16_000, 800, &limits);
        says(with(Limits { sound_seconds: 0, ..Limits::default() }), &[name, "sound_seconds = 0"]);
        says(with(Limits { sound_rate: (8_000, 12_000), ..Limits::default() }), &[name, "sound_rate = 12000"]);
        says(with(Limits { sound_channels: 0, ..Limits::default() }), &[name, "sound_channels = 0"]);
        says(with(Limits { file_bytes: 100, ..Limits::default() }), &[name, "file_bytes = 100"]);
    }
}
