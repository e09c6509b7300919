//! The headers of WAV files, read as libsndfile reads them; `symphonia` decodes what they hold.
//!
//! The walk is ours, as that of a tar archive is: `hound` and `symphonia` refuse the headers that real programs write (lengths of a
//! stream, a wrong block size, 20 bits, RF64), and one of them reads 24 bits in 32 as noise. So:
//!
//! - a sample has as many bytes as its bits need, and is as loud as its highest bits say, whatever `block_align`, the byte rate and
//!   the number of valid bits claim;
//! - a length of 0 or of 7ffff000 and more means what is there: it was written before the end was known;
//! - bytes that are not a whole frame at the end are left out;
//! - a chunk of odd length has a pad byte, unless its writer forgot it.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::well_known::*;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters, AudioDecoderOptions};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};

use super::mono::Mono;
use crate::watched::Watched;

/// Lengths from here on are those of a stream.
const STREAM: u64 = 0x7fff_f000;

/// Frames that are decoded at a time, about.
const FRAMES: u64 = 4096;

/// What a header says.
struct Header {
    format: Format,
    /// Bytes of samples.
    data: u64,
    /// Frames, where the last block of ADPCM holds more than are meant.
    meant: Option<u64>,
}

/// How samples are written.
#[derive(Clone, Copy)]
struct Format {
    codec: AudioCodecId,
    channels: u16,
    rate: u32,
    /// Bytes that are decoded together: a frame, or a block of ADPCM.
    block: u64,
    /// Frames of a block.
    frames: u64,
    /// Whether values are floats, which know no bounds.
    floats: bool,
    /// Whether 17 to 24 bits may be in four bytes: the block size says so.
    may_have_four: bool,
}

/// Decodes a WAV file of `length` bytes.
pub(super) fn decode(source: impl Read + Seek, length: u64, mono: &mut Mono) -> Result<(), String> {
    let at = Cell::new(0);
    let mut reader = Watched::new(BufReader::with_capacity(1 << 15, source), &at);
    let header = header(&mut reader, &at, length).map_err(|what| format!("not a readable WAV: {what} (read up to byte {} of {length})", at.get()))?;
    let format = header.format;
    mono.begin(format.rate, format.channels as usize, format.floats)?;
    let blocks = header.data / format.block;
    mono.expect((blocks * format.frames).min(header.meant.unwrap_or(u64::MAX)))?;
    let together = (FRAMES / format.frames).max(1);
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(format.codec).with_sample_rate(format.rate).with_channels(Channels::Discrete(format.channels));
    parameters.with_max_frames_per_packet(together * format.frames).with_frames_per_block(format.frames);
    let failed = |error: symphonia::core::errors::Error| format!("cannot decode it: {error}");
    let mut decoder = symphonia::default::get_codecs().make_audio_decoder(&parameters, &AudioDecoderOptions::default()).map_err(failed)?;
    let (mut left, mut bytes, mut done) = (blocks, Vec::new(), 0);
    while left > 0 && !mono.is_full() {
        let now = together.min(left);
        bytes.resize((now * format.block) as usize, 0);
        reader.read_exact(&mut bytes).map_err(|error| format!("cannot continue reading at byte {}: {error}", at.get()))?;
        let packet = PacketRef::new(0, Timestamp::new(done), Duration::new(now * format.frames), &bytes);
        mono.add(&decoder.decode_ref(&packet).map_err(failed)?)?;
        left -= now;
        done += (now * format.frames) as i64;
    }
    Ok(())
}

/// Numbers in the byte order of the file.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, bytes: &[u8]) -> u16 {
        let bytes = [bytes[0], bytes[1]];
        if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(self, bytes: &[u8]) -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// Reads up to the first sample. That the file is a WAV is known.
fn header(reader: &mut (impl BufRead + Seek), at: &Cell<u64>, length: u64) -> Result<Header, String> {
    let mut riff = [0; 12];
    reader.read_exact(&mut riff).map_err(|error| error.to_string())?;
    let order = Order { big: riff.starts_with(b"RIFX") };
    let (mut format, mut large, mut meant) = (None, None, None);
    loop {
        if length.saturating_sub(at.get()) < 8 {
            return Err("there is no `data` chunk, which holds the samples".into());
        }
        let mut head = [0; 8];
        reader.read_exact(&mut head).map_err(|error| error.to_string())?;
        let (name, size) = (&head[..4], order.u32(&head[4..]) as u64);
        let there = length - at.get();
        if name == b"data" {
            let Some(mut format): Option<Format> = format else {
                return Err("the samples come before the `fmt ` chunk, which says how they are written".into());
            };
            let size = match large {
                Some(large) if size == u32::MAX as u64 => large,
                _ => size,
            };
            let data = match size {
                0 if ends_in_chunks(peek::<8>(reader)?, order, there) => 0,
                0 => there,
                size if size <= there => size,
                size if size >= STREAM => there,
                size => return Err(format!("the WAV is cut off: it claims {size} bytes of samples, the file has {length} in all")),
            };
            if format.may_have_four && lowest_of_four_are_zero(reader, data, order)? {
                format.codec = if order.big { CODEC_ID_PCM_S32BE } else { CODEC_ID_PCM_S32LE };
                format.block = 4 * format.channels as u64;
            }
            let meant = meant.filter(|_| format.frames > 1);
            return Ok(Header { format, data, meant });
        }
        if size > there {
            return Err(format!("the WAV is cut off: its chunk {:?} claims {size} bytes, the file has {length} in all", String::from_utf8_lossy(name)));
        }
        // However long a chunk is, no more of it is read than is needed.
        let mut content = [0; 40];
        let content = &mut content[..if matches!(name, b"fmt " | b"ds64" | b"fact") { size.min(40) as usize } else { 0 }];
        reader.read_exact(content).map_err(|error| error.to_string())?;
        match name {
            b"fmt " => format = Some(self::format(content, order)?),
            // RF64: the sizes that 32 bits cannot hold; the second is that of `data`.
            b"ds64" if content.len() >= 16 => {
                let halves = [order.u32(&content[8..]), order.u32(&content[12..])].map(u64::from);
                let size = if order.big { halves[0] << 32 | halves[1] } else { halves[1] << 32 | halves[0] };
                large = Some(size);
            }
            b"fact" if content.len() >= 4 => meant = Some(order.u32(content) as u64),
            _ => {}
        }
        reader.seek(SeekFrom::Current((size - content.len() as u64) as i64)).map_err(|error| error.to_string())?;
        // The pad byte is zero; where there is none, this is the next chunk's name.
        if size % 2 == 1 && reader.fill_buf().map_err(|error| error.to_string())?.first() == Some(&0) {
            reader.consume(1);
        }
    }
}

/// The next bytes, zeros after the end of the file, without going on.
fn peek<const N: usize>(reader: &mut (impl BufRead + Seek)) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let mut read = 0;
    while read < N {
        match reader.read(&mut bytes[read..]).map_err(|error| error.to_string())? {
            0 => break,
            more => read += more,
        }
    }
    reader.seek(SeekFrom::Current(-(read as i64))).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Whether a `data` chunk of no bytes is meant so: another chunk follows, or nothing. Otherwise its length was never filled in.
fn ends_in_chunks(next: [u8; 8], order: Order, there: u64) -> bool {
    let named = next[..4].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b' ');
    there == 0 || (named && there >= 8 && order.u32(&next[4..]) as u64 <= there - 8)
}

/// Whether, taken in fours, the lowest byte of all samples at the beginning is zero: no sound of three bytes a sample is like that.
fn lowest_of_four_are_zero(reader: &mut (impl BufRead + Seek), data: u64, order: Order) -> Result<bool, String> {
    let bytes = peek::<4096>(reader)?;
    let bytes = &bytes[..data.min(4096) as usize / 4 * 4];
    Ok(!bytes.is_empty() && bytes.chunks_exact(4).all(|four| four[if order.big { 3 } else { 0 }] == 0))
}

/// What comes after the two bytes of the format's code in an extensible format (Microsoft's `ksmedia.h`; the second is for ambisonics).
const SUBFORMATS: [[u8; 14]; 2] =
    [[0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71], [0, 0, 0x21, 0x07, 0xd3, 0x11, 0x86, 0x44, 0xc8, 0xc1, 0xca, 0, 0, 0]];

/// Reads a `fmt ` chunk.
fn format(chunk: &[u8], order: Order) -> Result<Format, String> {
    if chunk.len() < 16 {
        return Err(format!("expected a `fmt ` chunk of at least 16 bytes, found {}", chunk.len()));
    }
    let [mut code, channels, align, bits] = [0, 2, 12, 14].map(|at| order.u16(&chunk[at..]));
    let rate = order.u32(&chunk[4..]);
    if code == 0xfffe {
        let Some(subformat) = chunk.get(24..40) else { return Err(format!("expected an extensible format of 40 bytes, found {}", chunk.len())) };
        if !SUBFORMATS.iter().any(|known| subformat[2..] == known[..]) {
            return Err(format!("a format of a kind that is not read: {subformat:02x?}"));
        }
        code = order.u16(subformat);
    }
    if channels == 0 {
        return Err("the sound has no channels".into());
    }
    let many = channels as u64;
    let pcm = |little, big, bytes: u64| Format {
        codec: if order.big { big } else { little },
        channels,
        rate,
        block: bytes * many,
        frames: 1,
        floats: false,
        may_have_four: false,
    };
    // ADPCM: a header for each channel, then 4 bits a sample.
    let adpcm = |codec, header: u64, first: u64| match (align as u64).checked_sub(header * many) {
        Some(rest) if channels <= 2 && bits == 4 => {
            Ok(Format { codec, channels, rate, block: align as u64, frames: rest * 2 / many + first, floats: false, may_have_four: false })
        }
        _ => Err(format!(
            "expected ADPCM of 4 bits, one or two channels and blocks of at least {} bytes, found {bits} bits, {channels} channels, blocks of {align}",
            header * many
        )),
    };
    match (code, bits) {
        (1, 1..=8) => Ok(pcm(CODEC_ID_PCM_U8, CODEC_ID_PCM_U8, 1)),
        (1, 9..=16) => Ok(pcm(CODEC_ID_PCM_S16LE, CODEC_ID_PCM_S16BE, 2)),
        (1, 17..=24) => Ok(Format { may_have_four: align as u64 == 4 * many, ..pcm(CODEC_ID_PCM_S24LE, CODEC_ID_PCM_S24BE, 3) }),
        (1, 25..=32) => Ok(pcm(CODEC_ID_PCM_S32LE, CODEC_ID_PCM_S32BE, 4)),
        (3, 32) => Ok(Format { floats: true, ..pcm(CODEC_ID_PCM_F32LE, CODEC_ID_PCM_F32BE, 4) }),
        (3, 64) => Ok(Format { floats: true, ..pcm(CODEC_ID_PCM_F64LE, CODEC_ID_PCM_F64BE, 8) }),
        (6, _) => Ok(pcm(CODEC_ID_PCM_ALAW, CODEC_ID_PCM_ALAW, 1)),
        (7, _) => Ok(pcm(CODEC_ID_PCM_MULAW, CODEC_ID_PCM_MULAW, 1)),
        (2, _) => adpcm(CODEC_ID_ADPCM_MS, 7, 2),
        (0x11, _) => adpcm(CODEC_ID_ADPCM_IMA_WAV, 4, 1),
        (1, _) => Err(format!("expected integers of 1 to 32 bits, found {bits}")),
        (3, _) => Err(format!("expected floats of 32 or 64 bits, found {bits}")),
        _ => Err(format!("its samples are coded in a way that is not read ({code:#06x}): `ffmpeg -i in.wav -c:a pcm_s16le out.wav` makes a WAV that is")),
    }
}
