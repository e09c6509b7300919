//! JPEGs at a half, a quarter or an eighth of their size, straight from their coefficients (ITU T.81, baseline and extended sequential
//! Huffman coding of 8 bits): what `draft` is in Pillow.
//!
//! The mean of 2 × 2, 4 × 4 or 8 × 8 pixels is a sum over the block's coefficients like the pixel itself, and a shorter one: a large picture
//! that is scaled down anyway need not be decoded at full size first. The decoders in Rust that are kept up do not do that (`zune-jpeg`, which
//! `image` uses), or not fast enough to gain by it (`jpeg-decoder`: 1.3 to 1.6 times the time of Pillow). Whatever is unusual — progressive,
//! CMYK, several scans, damage of any kind — is left to the full decoder: [`reduced`] says `None`.

use std::sync::LazyLock;

/// A picture at a part of its size.
pub(crate) struct Reduced {
    /// Columns and rows, of the part.
    pub width: u32,
    pub height: u32,
    /// 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// `height · width · channels` bytes.
    pub pixels: Vec<u8>,
}

/// Decodes at 4, 2 or 1 pixel for each 8: as many as `wanted` says of a picture of so many columns and rows. `None`, of either, leaves the
/// picture to the full decoder.
pub(crate) fn reduced(bytes: &[u8], wanted: impl Fn(u32, u32) -> Option<usize>) -> Option<Reduced> {
    let frame = Frame::read(bytes)?;
    let size = wanted(frame.width as u32, frame.height as u32).filter(|size| matches!(size, 1 | 2 | 4))?;
    frame.decode(bytes, size)
}

/// How many of 8 pixels are left where a side of `from` pixels is scaled to `to`: as few as can be without falling below.
pub(crate) fn part(from: u32, to: u32) -> Option<usize> {
    [1, 2, 4].into_iter().find(|&size| (from as u64 * size as u64) / 8 >= to as u64)
}

/// Bits of a code that are looked up at once; longer codes are rare.
const LOOKUP: u32 = 10;

/// A Huffman code.
struct Code {
    /// For the next bits: symbol · 256 + length of the code, 0 for a longer one.
    short: Box<[u16; 1 << LOOKUP]>,
    /// Where a run of zeros and the number after it fit as well: number · 65,536 + run · 256 + length of both; else 0.
    whole: Box<[u32; 1 << LOOKUP]>,
    /// For each length the first code beyond it, at the left of 16 bits; and what to add to a code for its symbol's place.
    beyond: [u32; 18],
    place: [i32; 17],
    symbols: Vec<u8>,
}

impl Code {
    /// From the number of codes of each length and the symbols in order (annex C).
    fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let mut code =
            Code { short: Box::new([0; 1 << LOOKUP]), whole: Box::new([0; 1 << LOOKUP]), beyond: [0; 18], place: [0; 17], symbols: symbols.to_vec() };
        let (mut next, mut at) = (0u32, 0usize);
        for length in 1..=16u32 {
            code.place[length as usize] = at as i32 - next as i32;
            for _ in 0..counts[length as usize - 1] {
                let symbol = *symbols.get(at)?;
                if next >= 1 << length {
                    return None;
                }
                if length <= LOOKUP {
                    let first = (next << (LOOKUP - length)) as usize;
                    code.short[first..first + (1 << (LOOKUP - length))].fill((symbol as u16) << 8 | length as u16);
                }
                (next, at) = (next + 1, at + 1);
            }
            code.beyond[length as usize] = next << (16 - length);
            next <<= 1;
        }
        code.beyond[17] = u32::MAX;
        for (bits, (&short, whole)) in code.short.iter().zip(code.whole.iter_mut()).enumerate() {
            let (length, run, size) = (short as u32 & 0xff, short as u32 >> 12, short as u32 >> 8 & 15);
            if size > 0 && length + size <= LOOKUP {
                let number = extended((bits as u32 >> (LOOKUP - length - size)) as i32 & ((1 << size) - 1), size);
                *whole = (number as u32) << 16 | run << 8 | (length + size);
            }
        }
        Some(code)
    }
}

/// The number that `size` bits mean, the first of which is its sign (figure F.12).
#[inline(always)]
fn extended(bits: i32, size: u32) -> i32 {
    if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

/// The bits of a scan between two restarts.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest on, and how many there are.
    bits: u64,
    count: u32,
    /// Bits that were made up after the end.
    lent: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Bits { bytes, at, bits: 0, count: 0, lent: 0 }
    }

    /// At least 32 bits, made up where a marker or the end of the file is.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..self.at + 4) {
            let word = u32::from_be_bytes([next[0], next[1], next[2], next[3]]);
            // No byte is 0xff: none has its high bit and, with one added to the others, a carry into it.
            if word & 0x8080_8080 & ((word & 0x7f7f_7f7f) + 0x0101_0101) == 0 {
                self.bits |= (word as u64) << (32 - self.count);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        self.fill_slowly();
    }

    #[cold]
    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(&byte), _) if byte != 0xff => {
                    self.at += 1;
                    byte
                }
                _ => {
                    self.lent += 8;
                    0
                }
            };
            self.bits |= (byte as u64) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    fn pass(&mut self, bits: u32) {
        self.bits <<= bits;
        self.count -= bits;
    }

    /// The next symbol. At least 16 bits have to be there.
    #[inline(always)]
    fn symbol(&mut self, code: &Code) -> Option<u8> {
        let entry = code.short[(self.bits >> (64 - LOOKUP)) as usize];
        if entry != 0 {
            self.pass(entry as u32 & 0xff);
            return Some((entry >> 8) as u8);
        }
        self.long_symbol(code)
    }

    #[cold]
    fn long_symbol(&mut self, code: &Code) -> Option<u8> {
        let bits = (self.bits >> 48) as u32;
        let length = (LOOKUP + 1..=16).find(|&length| bits < code.beyond[length as usize])?;
        self.pass(length);
        code.symbols.get(((bits >> (16 - length)) as i32 + code.place[length as usize]) as usize).copied()
    }

    /// A number of `size` bits, 1 to 15.
    #[inline(always)]
    fn number(&mut self, size: u32) -> i32 {
        let bits = (self.bits >> (64 - size)) as i32;
        self.pass(size);
        extended(bits, size)
    }

    /// Whether bits were used that were made up.
    fn overdrawn(&self) -> bool {
        self.lent > self.count
    }

    /// Passes the restart marker of this number.
    fn restart(&mut self, number: usize) -> Option<()> {
        // What is left of the last byte is ones; whole bytes would be data that nobody asked for.
        if self.overdrawn() || self.count - self.lent.min(self.count) >= 8 {
            return None;
        }
        let marker = self.bytes.get(self.at..self.at + 2)?;
        if marker != [0xff, 0xd0 + (number % 8) as u8] {
            return None;
        }
        *self = Bits::new(self.bytes, self.at + 2);
        Some(())
    }
}

/// Where the coefficient that comes `i`-th in the file is in its block: the rows one after the other.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29,
    22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// For 1, 2, 4, 8 pixels: what frequency u (of 8) is at pixel x on average, at `[u][x]` (annex A.3.3).
static WAVES: LazyLock<[[[f32; 8]; 8]; 4]> = LazyLock::new(|| {
    let wave = |u: usize, x: usize| {
        let scale = if u == 0 { 0.125f64.sqrt() } else { 0.5 };
        scale * libm::cos((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0)
    };
    [1usize, 2, 4, 8].map(|size| {
        let of = 8 / size;
        std::array::from_fn(|u| std::array::from_fn(|x| if x < size { ((0..of).map(|i| wave(u, x * of + i)).sum::<f64>() / of as f64) as f32 } else { 0.0 }))
    })
});

struct Component {
    id: u8,
    /// Blocks of an MCU, across and down.
    h: usize,
    v: usize,
    table: usize,
}

/// What the headers say, up to the first scan.
struct Frame {
    width: usize,
    height: usize,
    components: Vec<Component>,
    /// By number: the steps of each frequency, rows one after the other.
    steps: [Option<[f32; 64]>; 4],
    dc: [Option<Code>; 4],
    ac: [Option<Code>; 4],
    restart: usize,
    /// Of each component its DC and AC codes, and where the scan's data begins.
    codes: Vec<(usize, usize)>,
    data: usize,
}

impl Frame {
    /// Reads the headers; `None` for what this decoder does not do.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut frame = Frame {
            width: 0,
            height: 0,
            components: Vec::new(),
            steps: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart: 0,
            codes: Vec::new(),
            data: 0,
        };
        let mut at = 2;
        loop {
            let (&first, &marker) = (bytes.get(at)?, bytes.get(at + 1)?);
            if first != 0xff {
                return None;
            }
            if marker == 0xff {
                at += 1; // fill bytes
                continue;
            }
            let length = u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]) as usize;
            let segment = bytes.get(at + 4..at + 2 + length.max(2))?;
            at += 2 + length.max(2);
            match marker {
                0xdb => frame.quantisation(segment)?,
                0xc4 => frame.huffman(segment)?,
                0xc0 | 0xc1 => frame.start(segment)?,
                0xdd => frame.restart = u16::from_be_bytes([*segment.first()?, *segment.get(1)?]) as usize,
                // Adobe's segment says whether three components are red, green, blue.
                0xee if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) && segment.get(11).is_some() => return None,
                0xda => {
                    frame.scan(segment)?;
                    frame.data = at;
                    return Some(frame);
                }
                // Comments and applications' segments.
                0xe0..=0xef | 0xfe => {}
                _ => return None,
            }
        }
    }

    fn quantisation(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let wide = head >> 4;
            let bytes = 64 * (1 + wide as usize);
            if wide > 1 || rest.len() < bytes {
                return None;
            }
            let mut steps = [0.0; 64];
            for i in 0..64 {
                let step = if wide == 1 { u16::from_be_bytes([rest[2 * i], rest[2 * i + 1]]) } else { rest[i] as u16 };
                steps[ZIGZAG[i] as usize] = step as f32;
            }
            *self.steps.get_mut(head as usize & 15)? = Some(steps);
            segment = &rest[bytes..];
        }
        Some(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let counts = rest.get(..16)?;
            let symbols = counts.iter().map(|&count| count as usize).sum::<usize>();
            let code = Code::new(counts, rest.get(16..16 + symbols)?)?;
            let codes = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *codes.get_mut(head as usize & 15)? = Some(code);
            segment = &rest[16 + symbols..];
        }
        Some(())
    }

    fn start(&mut self, segment: &[u8]) -> Option<()> {
        let head = segment.get(..6)?;
        if head[0] != 8 || !self.components.is_empty() {
            return None;
        }
        (self.height, self.width) = (u16::from_be_bytes([head[1], head[2]]) as usize, u16::from_be_bytes([head[3], head[4]]) as usize);
        let count = head[5] as usize;
        if self.width == 0 || self.height == 0 || !matches!(count, 1 | 3) {
            return None;
        }
        for i in 0..count {
            let part = segment.get(6 + 3 * i..9 + 3 * i)?;
            let (h, v) = ((part[1] >> 4) as usize, (part[1] & 15) as usize);
            self.components.push(Component { id: part[0], h, v, table: part[2] as usize });
        }
        // A component alone has one block in an MCU, whatever it says of itself.
        if let [alone] = &mut self.components[..] {
            (alone.h, alone.v) = (1, 1);
        }
        // Luminance as fine as any, chrominance as fine or half as fine in each direction.
        let (h, v) = (self.components[0].h, self.components[0].v);
        let usual = matches!(h, 1 | 2)
            && matches!(v, 1 | 2)
            && self.components[1..].iter().all(|c| (c.h == 1 || c.h == h) && (c.v == 1 || c.v == v) && c.h > 0 && c.v > 0);
        let rgb = self.components.iter().map(|c| c.id).eq(*b"RGB");
        (usual && !rgb).then_some(())
    }

    fn scan(&mut self, segment: &[u8]) -> Option<()> {
        let count = *segment.first()? as usize;
        if self.components.is_empty() || count != self.components.len() || segment.len() < 4 + 2 * count {
            return None;
        }
        for (i, component) in self.components.iter().enumerate() {
            if segment[1 + 2 * i] != component.id {
                return None;
            }
            let tables = segment[2 + 2 * i] as usize;
            self.codes.push((tables >> 4, tables & 15));
        }
        Some(())
    }

    /// Decodes the scan, `size` pixels for each 8.
    fn decode(&self, bytes: &[u8], size: usize) -> Option<Reduced> {
        let (most_h, most_v) = (self.components[0].h, self.components[0].v);
        let (across, down) = (self.width.div_ceil(8 * most_h), self.height.div_ceil(8 * most_v));
        let mut planes: Vec<Plane> = Vec::new();
        for (component, &(dc, ac)) in self.components.iter().zip(&self.codes) {
            // Coarser components are decoded larger, so that all have as many pixels.
            let size = (size * most_h / component.h, size * most_v / component.v);
            let (steps, dc, ac) = (self.steps.get(component.table)?.as_ref()?, self.dc.get(dc)?.as_ref()?, self.ac.get(ac)?.as_ref()?);
            let (width, height) = (across * component.h * size.0, down * component.v * size.1);
            planes.push(Plane { component, size, steps, dc, ac, width, before: 0, pixels: vec![0; width * height] });
        }
        let mut bits = Bits::new(bytes, self.data);
        for mcu in 0..across * down {
            if self.restart > 0 && mcu > 0 && mcu % self.restart == 0 {
                bits.restart(mcu / self.restart - 1)?;
                planes.iter_mut().for_each(|plane| plane.before = 0);
            }
            let (row, column) = (mcu / across, mcu % across);
            for plane in &mut planes {
                let (h, v) = (plane.component.h, plane.component.v);
                for y in 0..v {
                    for x in 0..h {
                        plane.block(&mut bits, column * h + x, row * v + y)?;
                    }
                }
            }
            if bits.overdrawn() {
                return None;
            }
        }
        // After the last restart interval the scan is over: what follows the data is a marker, and the last one.
        if bits.count - bits.lent.min(bits.count) >= 8 || bytes.get(bits.at..bits.at + 2)? != [0xff, 0xd9] {
            return None;
        }
        Some(self.colours(&planes, size))
    }

    /// Puts the components together: red, green, blue from luminance and chrominance (JFIF), in fixed point of 16 bits.
    fn colours(&self, planes: &[Plane], size: usize) -> Reduced {
        let (width, height) = ((self.width * size).div_ceil(8), (self.height * size).div_ceil(8));
        let channels = planes.len();
        let mut pixels = vec![0u8; width * height * channels];
        for (y, out) in pixels.chunks_exact_mut(width * channels).enumerate() {
            let [luminance, blue, red] = planes else {
                out.iter_mut().zip(planes[0].row(y, width)).for_each(|(out, value)| *out = value);
                continue;
            };
            for (((out, y), cb), cr) in out.chunks_exact_mut(3).zip(luminance.row(y, width)).zip(blue.row(y, width)).zip(red.row(y, width)) {
                let (y, cb, cr) = ((y as i32) << 16 | 1 << 15, cb as i32 - 128, cr as i32 - 128);
                out[0] = ((y + 91_881 * cr) >> 16).clamp(0, 255) as u8;
                out[1] = ((y - 22_554 * cb - 46_802 * cr) >> 16).clamp(0, 255) as u8;
                out[2] = ((y + 116_130 * cb) >> 16).clamp(0, 255) as u8;
            }
        }
        Reduced { width: width as u32, height: height as u32, channels, pixels }
    }
}

/// One component while it is decoded.
struct Plane<'a> {
    component: &'a Component,
    /// Pixels that a block has across and down.
    size: (usize, usize),
    steps: &'a [f32; 64],
    dc: &'a Code,
    ac: &'a Code,
    width: usize,
    /// The DC coefficient of the block before.
    before: i32,
    pixels: Vec<u8>,
}

impl Plane<'_> {
    /// The first pixels of a row.
    fn row(&self, y: usize, width: usize) -> impl Iterator<Item = u8> {
        self.pixels[y * self.width..][..width].iter().copied()
    }

    #[inline(always)]
    fn block(&mut self, bits: &mut Bits, column: usize, row: usize) -> Option<()> {
        match self.size {
            (1, 1) => self.block_of::<1, 1>(bits, column, row),
            (1, 2) => self.block_of::<1, 2>(bits, column, row),
            (2, 1) => self.block_of::<2, 1>(bits, column, row),
            (2, 2) => self.block_of::<2, 2>(bits, column, row),
            (2, 4) => self.block_of::<2, 4>(bits, column, row),
            (4, 2) => self.block_of::<4, 2>(bits, column, row),
            (4, 4) => self.block_of::<4, 4>(bits, column, row),
            (4, 8) => self.block_of::<4, 8>(bits, column, row),
            (8, 4) => self.block_of::<8, 4>(bits, column, row),
            (8, 8) => self.block_of::<8, 8>(bits, column, row),
            _ => None,
        }
    }

    /// Reads a block's coefficients and draws its picture of `W` × `H` pixels.
    fn block_of<const W: usize, const H: usize>(&mut self, bits: &mut Bits, column: usize, row: usize) -> Option<()> {
        bits.fill();
        let size = bits.symbol(self.dc)? as u32;
        if size > 0 {
            if size > 11 {
                return None;
            }
            self.before = self.before.wrapping_add(bits.number(size));
        }
        // Row by row of frequencies down the block: what they are across it. Most are nothing.
        let (waves, down) = (&WAVES[W.ilog2() as usize], &WAVES[H.ilog2() as usize]);
        let mean = self.before as f32 * self.steps[0];
        let mut across = [[0f32; W]; 8];
        across[0] = [mean * waves[0][0]; W];
        let (mut at, mut rows) = (1usize, 1u8);
        while at < 64 {
            bits.fill();
            let whole = self.ac.whole[(bits.bits >> (64 - LOOKUP)) as usize];
            let number = if whole != 0 {
                bits.pass(whole & 0xff);
                at += (whole >> 8 & 0xff) as usize;
                (whole as i32) >> 16
            } else {
                let symbol = bits.symbol(self.ac)?;
                let (run, size) = ((symbol >> 4) as usize, symbol as u32 & 15);
                if size == 0 {
                    if run == 15 {
                        at += 16;
                        continue;
                    }
                    if run != 0 {
                        return None;
                    }
                    break;
                }
                at += run;
                bits.number(size)
            };
            if at > 63 {
                return None;
            }
            if (W, H) != (1, 1) {
                let place = ZIGZAG[at] as usize & 63;
                let value = number as f32 * self.steps[place];
                let (u, v) = (place / 8, place % 8);
                for x in 0..W {
                    across[u][x] += value * waves[v][x];
                }
                rows |= 1 << u;
            }
            at += 1;
        }
        let start = row * H * self.width + column * W;
        if (W, H) == (1, 1) {
            self.pixels[start] = (mean / 8.0 + 128.5).clamp(0.0, 255.0) as u8;
            return Some(());
        }
        let mut picture = [[128.5f32; W]; H];
        while rows != 0 {
            let u = rows.trailing_zeros() as usize;
            rows &= rows - 1;
            for y in 0..H {
                for x in 0..W {
                    picture[y][x] += across[u][x] * down[u][y];
                }
            }
        }
        for (y, line) in picture.iter().enumerate() {
            let out = &mut self.pixels[start + y * self.width..][..W];
            for x in 0..W {
                out[x] = line[x].clamp(0.0, 255.0) as u8;
            }
        }
        Some(())
    }
}
