//! FLAC, MP3 and Ogg Vorbis, decoded by `symphonia`.

use std::io::{Read, Result as IoResult, Seek, SeekFrom};

use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_OPUS, CODEC_ID_SPEEX};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::default::formats::{FlacReader, MpaReader, OggReader};

use super::mono::Mono;
use crate::content::SoundKind;
use crate::window::Window;

/// Tags that a file may begin with, at most: nobody writes several.
const MOST_TAGS: usize = 16;

/// Frames by which an MP3 may be shorter than its header says: editors cut them without counting again.
const MOST_MISSING: u64 = 2304;

/// Decodes a file that is no WAV.
pub(super) fn decode<R: Read + Seek + Send + Sync>(kind: SoundKind, mut source: Window<R>, mono: &mut Mono) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot read it: {error}");
    // A tag is skipped, not read: what is in it, pictures of megabytes among them, nobody needs.
    let start = tags(&mut source).min(source.length());
    let length = source.length() - start;
    let mut source = Window::new(source, start, length).map_err(cannot)?;
    let kind = match kind {
        SoundKind::Id3 if source.head(4).map_err(cannot)? == b"fLaC" => SoundKind::Flac,
        SoundKind::Id3 => SoundKind::Mp3,
        other => other,
    };
    let name = match kind {
        SoundKind::Flac => "FLAC",
        SoundKind::Ogg => "Ogg",
        _ => "MP3",
    };
    let unreadable = |error: Error| format!("not a readable {name} of {length} bytes: {}", said(&error));
    // The number of frames of an MP3 without a header would be guessed from its first ones; counting is right.
    let stream = MediaSourceStream::new(Box::new(Media { source, seekable: kind == SoundKind::Ogg }), Default::default());
    let options = FormatOptions::default();
    let mut reader: Box<dyn FormatReader + '_> = match kind {
        SoundKind::Flac => Box::new(FlacReader::try_new(stream, options).map_err(unreadable)?),
        SoundKind::Ogg => Box::new(OggReader::try_new(stream, options).map_err(unreadable)?),
        _ => Box::new(MpaReader::try_new(stream, options).map_err(unreadable)?),
    };
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| format!("the {name} file holds no sound that is read (Ogg: Vorbis or FLAC)"))?;
    let (id, declared) = (track.id, track.num_frames.filter(|frames| *frames > 0));
    let parameters =
        track.codec_params.as_ref().and_then(|parameters| parameters.audio()).ok_or_else(|| format!("the {name} file does not say how it is coded"))?;
    if parameters.codec == CODEC_ID_OPUS || parameters.codec == CODEC_ID_SPEEX {
        let codec = if parameters.codec == CODEC_ID_OPUS { "Opus" } else { "Speex" };
        return Err(format!("the Ogg file holds {codec}, which is not read: save it as FLAC (`ffmpeg -i in.ogg out.flac`)"));
    }
    let mut decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &AudioDecoderOptions::default()).map_err(unreadable)?;
    let rate = parameters.sample_rate.ok_or_else(|| format!("the {name} file does not say its samples per second"))?;
    mono.begin(rate, parameters.channels.as_ref().map_or(0, |channels| channels.count()), false)?;
    if let Some(frames) = declared {
        mono.expect(frames)?;
    }
    let (mut frames, mut lost, mut ended) = (0u64, 0u64, false);
    while !mono.is_full() {
        let packet = match next(&mut *reader) {
            Ok(Some(packet)) if packet.track_id == id => packet,
            Ok(Some(_)) => continue,
            Ok(None) => {
                ended = true;
                break;
            }
            Err(error) => return Err(format!("the {name} is damaged or cut off after sample {frames}: {}", said(&error))),
        };
        match decoder.decode(&packet) {
            Ok(decoded) if decoded.spec().rate() != rate => {
                return Err(format!("the {name} changes from {rate} to {} samples per second at sample {frames}", decoded.spec().rate()));
            }
            Ok(decoded) => {
                frames += decoded.frames() as u64;
                mono.add(&decoded)?;
            }
            // An MP3 that was cut out of a longer one begins with frames that lack their beginning: every player leaves them silent.
            Err(Error::DecodeError(_)) if kind == SoundKind::Mp3 => {
                lost += packet.dur.get();
                mono.silence(packet.dur.get());
            }
            Err(error) => return Err(format!("the {name} is damaged after sample {frames}: {}", said(&error))),
        }
    }
    if frames == 0 && lost > 0 {
        return Err(format!("not a readable {name}: none of its frames can be decoded"));
    }
    let all = frames + lost;
    let missing = if kind == SoundKind::Mp3 { MOST_MISSING } else { 0 };
    if let Some(declared) = declared.filter(|declared| ended && all + missing < *declared) {
        return Err(format!("the {name} is cut off: it claims {declared} samples, {all} are there"));
    }
    if declared.is_none() {
        mono.expect(if ended { all } else { all + rest(&mut *reader, id, rate, mono) })?;
    }
    Ok(())
}

/// The next packet; another piece in the same file is its end.
fn next(reader: &mut dyn FormatReader) -> Result<Option<symphonia::core::packet::Packet>, Error> {
    match reader.next_packet() {
        Err(Error::ResetRequired) => Ok(None),
        other => other,
    }
}

/// Frames that are still there: they are counted, not decoded.
fn rest(reader: &mut dyn FormatReader, id: u32, rate: u32, mono: &Mono) -> u64 {
    let most = mono.most_seconds() as u64 * rate as u64 + rate as u64;
    let mut frames = 0;
    while frames <= most
        && let Ok(Some(packet)) = next(reader)
    {
        if packet.track_id == id {
            frames += packet.dur.get();
        }
    }
    frames
}

/// Where the sound begins: after ID3v2 tags (id3.org/id3v2.4.0-structure: a size of four times seven bits, without the header of ten bytes
/// and a footer of as many).
fn tags(source: &mut (impl Read + Seek)) -> u64 {
    let mut start = 0;
    for _ in 0..MOST_TAGS {
        let mut head = [0; 10];
        if source.seek(SeekFrom::Start(start)).is_err() || source.read_exact(&mut head).is_err() || !head.starts_with(b"ID3") {
            return start;
        }
        let size = head[6..].iter().fold(0u64, |size, byte| size << 7 | (byte & 0x7f) as u64);
        start += 10 + size + if head[5] & 0x10 != 0 { 10 } else { 0 };
    }
    start
}

/// A decoder's sentence.
fn said(error: &Error) -> String {
    match error {
        Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "the file ends before the sound does".into(),
        other => other.to_string(),
    }
}

/// A file as `symphonia` takes it.
struct Media<R> {
    source: R,
    seekable: bool,
}

impl<R: Read> Read for Media<R> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        self.source.read(buffer)
    }
}

impl<R: Seek> Seek for Media<R> {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        self.source.seek(to)
    }
}

impl<R: Read + Seek + Send + Sync> MediaSource for Media<Window<R>> {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.source.length())
    }
}
