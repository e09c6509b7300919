//! What keeps a mutant from being refused at the first check: lengths and checksums that fit again.

use super::mutate::{self, Random};

// ── PNG ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// CRC-32 as PNG has it.
pub fn crc(bytes: &[u8]) -> u32 {
    static TABLE: std::sync::LazyLock<[u32; 256]> =
        std::sync::LazyLock::new(|| std::array::from_fn(|i| (0..8).fold(i as u32, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })));
    !bytes.iter().fold(!0u32, |crc, byte| TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

/// A chunk with its length and checksum.
pub fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
}

/// Bytes as a zlib stream without compression (RFC 1950, 1951).
pub fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        out.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        out.push(blocks.peek().is_none() as u8);
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + *byte as u32) % 65_521;
        (a, (b + a) % 65_521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

/// Half of the time every chunk's checksum fits again; else, sometimes, a picture made up from its header on.
pub fn png(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(4) {
        0 => {}
        1 => *bytes = made_up(random),
        _ => {
            if bytes.len() < 8 || random.one_in(2) {
                let n = bytes.len().min(8);
                bytes.splice(..n, PNG.iter().copied());
            }
            let mut at = 8;
            while let Some(head) = bytes.get(at..at + 8) {
                let left = bytes.len() - at - 8;
                let mut length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
                if length + 4 > left {
                    length = left.saturating_sub(4);
                    bytes[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
                }
                let sum = crc(&bytes[at + 4..at + 8 + length]).to_be_bytes();
                let end = (at + 12 + length).min(bytes.len());
                for (to, from) in bytes[at + 8 + length..end].iter_mut().zip(sum) {
                    *to = from;
                }
                at += 12 + length;
            }
            bytes.extend(chunk(b"IEND", &[]));
        }
    }
}

/// Any header, chunks that may be there, rows of any length.
fn made_up(random: &mut Random) -> Vec<u8> {
    let side = |random: &mut Random| if random.one_in(16) { random.next() as u32 } else { 1 + random.below(20) as u32 };
    let (width, height) = (side(random), side(random));
    let depth = if random.one_in(20) { random.next() as u8 } else { 1 << random.below(5) };
    let color = if random.one_in(20) { random.next() as u8 } else { *random.pick(&[0, 2, 3, 4, 6]) };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, random.below(2) as u8]].concat();
    let mut out = [PNG, &chunk(b"IHDR", &header)].concat();
    let data = |n: usize, random: &mut Random| (0..random.below(n)).map(|_| random.next() as u8).collect::<Vec<u8>>();
    for _ in 0..random.below(4) {
        let kind = *random.pick(&[
            b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"acTL", b"fcTL", b"fdAT", b"cICP", b"sBIT",
            b"bKGD",
        ]);
        let mut content = data(if kind == b"PLTE" { 768 } else { 40 }, random);
        if kind == b"PLTE" {
            content.truncate(content.len() / 3 * 3);
        }
        out.extend(chunk(kind, &content));
    }
    let row = 1 + (width as usize % 64) * (depth as usize % 32) * [1, 1, 3, 1, 2, 1, 4, 1][color as usize % 8] / 8;
    let mut rows: Vec<u8> = (0..row * (height as usize % 64) + random.below(40)).map(|_| random.next() as u8).collect();
    rows.iter_mut().step_by(row).for_each(|filter| *filter %= 6);
    let stream = stored(&rows);
    let cut = random.below(stream.len() + 1);
    if random.one_in(3) {
        out.extend(chunk(b"IDAT", &stream[..cut]));
        out.extend(chunk(b"IDAT", &stream[cut..]));
    } else {
        out.extend(chunk(b"IDAT", &stream));
    }
    out.extend(chunk(b"IEND", &[]));
    out
}

// ── JPEG ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Segments change places, come twice, get lost; start and end markers come back.
pub fn jpeg(bytes: &mut Vec<u8>, random: &mut Random) {
    if random.one_in(4) {
        return;
    }
    // Segments as they lie, the entropy-coded data with their scan's header.
    let mut starts: Vec<usize> =
        bytes.windows(2).enumerate().filter(|(_, w)| w[0] == 0xff && w[1] >= 0xc0 && !(0xd0..=0xd7).contains(&w[1])).map(|(i, _)| i).collect();
    starts.push(bytes.len());
    let mut segments: Vec<Vec<u8>> = starts.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).filter(|s| s.len() > 1 && !matches!(s[1], 0xd8 | 0xd9)).collect();
    if segments.is_empty() {
        return;
    }
    for _ in 0..random.below(3) {
        let (a, b) = (random.below(segments.len()), random.below(segments.len()));
        match random.below(4) {
            0 => segments.swap(a, b),
            1 => segments.insert(a, segments[b].clone()),
            2 if segments.len() > 1 => drop(segments.remove(a)),
            // Frame kinds are one byte apart: baseline, extended, progressive, lossless, arithmetic.
            _ => segments[a][1] = 0xc0 + random.below(32) as u8,
        }
    }
    for segment in &mut segments {
        // A length that fits, unless the segment is a scan, whose data follow.
        if segment.len() >= 4 && segment[1] != 0xda && random.one_in(2) {
            let length = (segment.len() - 2) as u16;
            segment[2..4].copy_from_slice(&length.to_be_bytes());
        }
    }
    *bytes = [&b"\xff\xd8"[..], &segments.concat(), b"\xff\xd9"].concat();
}

// ── WAV ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Sizes of the file and of the chunk that holds the samples fit again.
pub fn wav(bytes: &mut [u8], random: &mut Random) {
    if random.one_in(3) || bytes.len() < 44 {
        return;
    }
    bytes[..4].copy_from_slice(b"RIFF");
    let size = bytes.len() as u32 - 8;
    bytes[4..8].copy_from_slice(&size.to_le_bytes());
    bytes[8..16].copy_from_slice(b"WAVEfmt ");
    if let Some(data) = bytes.windows(4).position(|w| w == b"data").filter(|at| at + 8 <= bytes.len()) {
        let size = (bytes.len() - data - 8) as u32;
        bytes[data + 4..data + 8].copy_from_slice(&size.to_le_bytes());
    }
    if random.one_in(2) {
        // The format's own sums: bytes per frame and per second.
        let field = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let (channels, bits) = (field(22), field(34));
        let align = channels.wrapping_mul(bits / 8);
        let rate = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        bytes[28..32].copy_from_slice(&rate.wrapping_mul(align as u32).to_le_bytes());
        bytes[32..34].copy_from_slice(&align.to_le_bytes());
    }
}

// ── WebP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Sizes of the file and of its chunks fit again.
pub fn webp(bytes: &mut [u8], random: &mut Random) {
    if random.one_in(4) || bytes.len() < 20 {
        return;
    }
    let size = (bytes.len() as u32 - 8).to_le_bytes();
    bytes[4..8].copy_from_slice(&size);
    bytes[..4].copy_from_slice(b"RIFF");
    bytes[8..12].copy_from_slice(b"WEBP");
    let mut at = 12;
    while at + 8 <= bytes.len() {
        let left = bytes.len() - at - 8;
        let mut size = u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]) as usize;
        if size > left {
            size = left;
            bytes[at + 4..at + 8].copy_from_slice(&(size as u32).to_le_bytes());
        }
        at += 8 + size + size % 2;
    }
}

// ── FLAC, Ogg ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A checksum of so many bits, the highest first, without inversions.
fn checksum(bytes: &[u8], bits: u32, polynomial: u32) -> u32 {
    let (top, mask) = (1u32 << (bits - 1), u32::MAX >> (32 - bits));
    bytes
        .iter()
        .fold(0u32, |sum, byte| (0..8).fold(sum ^ (*byte as u32) << (bits - 8), |sum, _| if sum & top != 0 { sum << 1 ^ polynomial } else { sum << 1 }) & mask)
}

/// The checksums of the last frame fit again, as if it reached to the end of the file (RFC 9639, section 9: these files have one).
pub fn flac(bytes: &mut [u8], random: &mut Random) {
    if random.one_in(4) || bytes.len() < 50 {
        return;
    }
    let Some(frame) = (42..bytes.len() - 8).rev().find(|at| bytes[*at] == 0xff && bytes[at + 1] & 0xfe == 0xf8) else { return };
    // The number of the frame, as UTF-8 has numbers; then a block size of one byte or two, and a rate.
    let number = match bytes[frame + 4].leading_ones() {
        0 => 1,
        ones => ones as usize,
    };
    let size = [0, 0, 0, 0, 0, 0, 1, 2].get((bytes[frame + 2] >> 4) as usize).copied().unwrap_or(0);
    let rate = match bytes[frame + 2] & 15 {
        12 => 1,
        13 | 14 => 2,
        _ => 0,
    };
    let header = frame + 4 + number + size + rate;
    let end = bytes.len() - 2;
    if header < end {
        bytes[header] = checksum(&bytes[frame..header], 8, 0x07) as u8;
        let sum = checksum(&bytes[frame..end], 16, 0x8005) as u16;
        bytes[end..].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Each page's checksum fits again (RFC 3533, section 6).
pub fn ogg(bytes: &mut [u8], random: &mut Random) {
    if random.one_in(4) {
        return;
    }
    let mut at = 0;
    while let Some(start) = bytes.get(at..).and_then(|rest| rest.windows(4).position(|w| w == b"OggS")) {
        at += start;
        let Some(count) = bytes.get(at + 26).map(|count| *count as usize) else { return };
        let Some(segments) = bytes.get(at + 27..at + 27 + count) else { return };
        let end = (at + 27 + count + segments.iter().map(|n| *n as usize).sum::<usize>()).min(bytes.len());
        bytes[at + 22..at + 26].fill(0);
        let sum = checksum(&bytes[at..end], 32, 0x04c1_1db7);
        bytes[at + 22..at + 26].copy_from_slice(&sum.to_le_bytes());
        at = end.max(at + 4);
    }
}

// ── safetensors ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// The header stays JSON while its values change, and its length fits again.
pub fn safetensors(bytes: &mut Vec<u8>, original: &[u8], words: &[&str], random: &mut Random) {
    let header_end = |bytes: &[u8]| bytes.get(..8).map(|n| 8usize.saturating_add(u64::from_le_bytes(n.try_into().unwrap()) as usize).min(bytes.len()));
    match random.below(4) {
        0 => {}
        1 => {
            // Whatever was hurt: the header is what lies before the data of the original's length.
            let data = original.len() - header_end(original).unwrap_or(8);
            let header = bytes.len().saturating_sub(8 + data);
            let n = bytes.len().min(8);
            bytes.splice(..n, (header as u64).to_le_bytes());
        }
        _ => {
            let end = header_end(original).unwrap_or(0);
            if let Ok(mut header) = serde_json::from_slice(&original[8.min(end)..end]) {
                mutate::json(&mut header, words, random);
                let header = header.to_string();
                *bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &original[end..]].concat();
            }
        }
    }
}

// ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Half of the time the text is JSON whose values have changed.
pub fn json(bytes: &mut Vec<u8>, original: &[u8], words: &[&str], random: &mut Random) {
    if random.one_in(2)
        && let Ok(mut value) = serde_json::from_slice(original)
    {
        mutate::json(&mut value, words, random);
        *bytes = value.to_string().into_bytes();
    }
}

/// As [`json`], a line at a time.
pub fn json_lines(bytes: &mut Vec<u8>, original: &[u8], words: &[&str], random: &mut Random) {
    if random.one_in(2) {
        let mut lines: Vec<Vec<u8>> = original.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let hurt = random.below(lines.len());
        let line = lines[hurt].clone();
        json(&mut lines[hurt], &line, words, random);
        *bytes = lines.join(&b'\n');
    }
}

// ── tar ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Each header's checksum fits again (POSIX.1-1988 ustar: the sum of all bytes, those of the sum itself taken as spaces).
pub fn tar(bytes: &mut Vec<u8>, random: &mut Random) {
    if random.one_in(4) {
        return;
    }
    if random.one_in(2) {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    let mut at = 0;
    while at + 512 <= bytes.len() {
        if bytes[at..at + 512].iter().all(|b| *b == 0) {
            break;
        }
        let header = &mut bytes[at..at + 512];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| *b as u32).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().and_then(|text| usize::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()).unwrap_or(0);
        at = (at + 512).saturating_add(size.min(1 << 30).next_multiple_of(512));
    }
}

// ── Parquet ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Most of the time the file ends as it should: with the length of a footer, and the footer of the original in a third of these, so that
/// what was changed is the pages.
pub fn parquet(bytes: &mut Vec<u8>, original: &[u8], random: &mut Random) {
    if random.one_in(5) || bytes.len() < 12 || original.len() < 12 {
        return;
    }
    let tail = &original[original.len() - 8..];
    let footer = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize;
    let whole = original.len() - 8 - footer;
    bytes[..4].copy_from_slice(b"PAR1");
    if random.one_in(3) {
        bytes.truncate(whole);
        bytes.resize(whole, 0);
        bytes.extend(&original[whole..]);
    } else {
        // Pages as they were, a footer with wounds: of the length that it has now.
        if random.one_in(2) {
            let at = bytes.len().min(whole);
            bytes[..at].copy_from_slice(&original[..at]);
        }
        if bytes.len() >= whole + 8 {
            let end = bytes.len() - 8;
            bytes[end..end + 4].copy_from_slice(&((end - whole) as u32).to_le_bytes());
            bytes[end + 4..].copy_from_slice(b"PAR1");
        }
    }
}
