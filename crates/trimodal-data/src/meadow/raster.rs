//! Drawing with integers only: ellipses, polygons and thick lines on a canvas of 4 × 4 subpixels per pixel.
//!
//! Shapes are given in tenths of a pixel in the animal's own frame (x to the right, y down, the animal looks to the
//! left) and go through a [`Pen`], which moves, scales and mirrors them. Canvas units are 1/64 pixel.

use std::sync::LazyLock;

/// Pixels of a side.
pub(super) const SIDE: usize = 48;
/// Subpixels of a pixel's side: 16 samples per pixel smooth the edges.
const SUB: usize = 4;
/// Subpixels of the canvas' side.
const WIDE: usize = SIDE * SUB;
/// Canvas units of a subpixel.
const UNIT: i32 = 64 / SUB as i32;

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// `sin(d°)` in units of 2⁻¹⁴, for d = 0 … 359 (by `libm`, whose sine is the same everywhere; the system's is not).
static SINE: LazyLock<Vec<i32>> =
    LazyLock::new(|| (0..360).map(|d| libm::round(libm::sin(d as f64 * std::f64::consts::PI / 180.0) * 16384.0) as i32).collect());

/// `(cos, sin)` of an angle in degrees, in units of 2⁻¹⁴.
pub(super) fn cos_sin(degrees: i32) -> (i32, i32) {
    (SINE[(degrees + 90).rem_euclid(360) as usize], SINE[degrees.rem_euclid(360) as usize])
}

/// The subpixels: colour, and whether they belong to the coat (which is then textured).
pub(super) struct Canvas {
    pixels: Vec<Rgb>,
    coat: Vec<bool>,
}

impl Canvas {
    pub fn new(background: Rgb) -> Self {
        Canvas { pixels: vec![background; WIDE * WIDE], coat: vec![false; WIDE * WIDE] }
    }

    /// Rows `top..bottom` (pixels) in one colour.
    pub fn band(&mut self, top: i32, bottom: i32, colour: Rgb) {
        let clamp = |y: i32| y.clamp(0, SIDE as i32) as usize * SUB * WIDE;
        self.pixels[clamp(top)..clamp(bottom)].fill(colour);
    }

    /// Paints every subpixel whose centre, in canvas units, is inside; only the box is looked at.
    fn paint(&mut self, left: i32, top: i32, right: i32, bottom: i32, ink: Ink, inside: impl Fn(i32, i32) -> bool) {
        let low = |v: i32| (v.div_euclid(UNIT)).clamp(0, WIDE as i32) as usize;
        let high = |v: i32| (v.div_euclid(UNIT) + 1).clamp(0, WIDE as i32) as usize;
        for row in low(top)..high(bottom) {
            let y = row as i32 * UNIT + UNIT / 2;
            for column in low(left)..high(right) {
                if inside(column as i32 * UNIT + UNIT / 2, y) {
                    let i = row * WIDE + column;
                    if !ink.only_coat || self.coat[i] {
                        self.pixels[i] = ink.colour;
                        self.coat[i] = ink.coat;
                    }
                }
            }
        }
    }

    /// The picture: 16 subpixels averaged per pixel, then `shift` added to each channel.
    pub fn finish(&self, mut shift: impl FnMut() -> i32) -> Vec<u8> {
        let mut rgb = Vec::with_capacity(SIDE * SIDE * 3);
        for y in 0..SIDE {
            for x in 0..SIDE {
                let mut sum = [0u32; 3];
                for row in 0..SUB {
                    let start = (y * SUB + row) * WIDE + x * SUB;
                    for pixel in &self.pixels[start..start + SUB] {
                        for (sum, channel) in sum.iter_mut().zip(pixel) {
                            *sum += *channel as u32;
                        }
                    }
                }
                let shift = shift();
                rgb.extend(sum.map(|sum| ((sum + 8) as i32 / 16 + shift).clamp(0, 255) as u8));
            }
        }
        rgb
    }
}

/// What a shape is painted with.
#[derive(Clone, Copy)]
pub(super) struct Ink {
    pub colour: Rgb,
    /// The shape becomes part of the coat.
    pub coat: bool,
    /// Only subpixels of the coat take the colour.
    pub only_coat: bool,
}

/// A plain colour.
pub(super) fn ink(colour: Rgb) -> Ink {
    Ink { colour, coat: false, only_coat: false }
}

/// Where and how large: from the animal's tenths of a pixel to the canvas.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    /// The animal's origin in canvas units.
    pub x: i32,
    pub y: i32,
    /// 256 = life size.
    pub scale: i32,
    /// 1, or −1 to look to the right.
    pub flip: i32,
    /// 1, or −1 for upside down.
    pub up: i32,
}

impl Frame {
    /// The whole canvas in tenths of a pixel from its left upper corner.
    pub const CANVAS: Frame = Frame { x: 0, y: 0, scale: 256, flip: 1, up: 1 };

    fn length(&self, tenths: i32) -> i32 {
        tenths * self.scale / 40
    }

    fn point(&self, (x, y): (i32, i32)) -> (i32, i32) {
        (self.x + self.flip * self.length(x), self.y + self.up * self.length(y))
    }

    /// A frame around another point, upside down if `up` is −1.
    pub fn at(&self, x: i32, y: i32, up: i32) -> Frame {
        let (x, y) = self.point((x, y));
        Frame { x, y, up: self.up * up, ..*self }
    }
}

/// A canvas, a frame and a margin by which every shape grows (for the outline, which is drawn first).
pub(super) struct Pen<'a> {
    pub canvas: &'a mut Canvas,
    pub frame: Frame,
    pub grow: i32,
    /// While an outline is drawn, every shape has this colour.
    pub outline: Option<Rgb>,
}

impl Pen<'_> {
    fn ink(&self, ink: Ink) -> Ink {
        self.outline.map_or(ink, self::ink)
    }

    /// An ellipse with its axes turned by `degrees`.
    pub fn ellipse(&mut self, centre: (i32, i32), rx: i32, ry: i32, degrees: i32, ink: Ink) {
        let ink = self.ink(ink);
        let (cx, cy) = self.frame.point(centre);
        let (rx, ry) = ((self.frame.length(rx) + self.grow).max(1) as i64, (self.frame.length(ry) + self.grow).max(1) as i64);
        let (cos, sin) = cos_sin(degrees * self.frame.flip * self.frame.up);
        let (cos, sin) = (cos as i64, sin as i64);
        let reach = rx.max(ry) as i32;
        // (u/rx)² + (v/ry)² ≤ 1 without a division; u and v carry the factor 2¹⁴.
        let limit = (rx * ry) << 14;
        let limit = limit as i128 * limit as i128;
        if degrees == 0 {
            let limit = (rx * ry) * (rx * ry);
            let inside = |x: i32, y: i32| {
                let (u, v) = ((x - cx) as i64 * ry, (y - cy) as i64 * rx);
                u * u + v * v <= limit
            };
            self.canvas.paint(cx - rx as i32, cy - ry as i32, cx + rx as i32, cy + ry as i32, ink, inside);
        } else {
            let inside = |x: i32, y: i32| {
                let (x, y) = ((x - cx) as i64, (y - cy) as i64);
                let (u, v) = ((x * cos + y * sin) * ry, (y * cos - x * sin) * rx);
                u as i128 * u as i128 + v as i128 * v as i128 <= limit
            };
            self.canvas.paint(cx - reach, cy - reach, cx + reach, cy + reach, ink, inside);
        }
    }

    /// A disc.
    pub fn disc(&mut self, centre: (i32, i32), radius: i32, ink: Ink) {
        self.ellipse(centre, radius, radius, 0, ink);
    }

    /// A filled polygon (even–odd).
    pub fn polygon(&mut self, points: &[(i32, i32)], ink: Ink) {
        let painted = self.ink(ink);
        let corner: Vec<(i32, i32)> = points.iter().map(|p| self.frame.point(*p)).collect();
        let (left, right) = (corner.iter().map(|p| p.0).min().unwrap_or(0), corner.iter().map(|p| p.0).max().unwrap_or(0));
        let (top, bottom) = (corner.iter().map(|p| p.1).min().unwrap_or(0), corner.iter().map(|p| p.1).max().unwrap_or(0));
        let inside = |x: i32, y: i32| {
            let mut odd = false;
            for i in 0..corner.len() {
                let ((x0, y0), (x1, y1)) = (corner[i], corner[(i + 1) % corner.len()]);
                if (y0 > y) != (y1 > y) {
                    // x < x0 + (y − y0)(x1 − x0)/(y1 − y0), multiplied by y1 − y0, whose sign turns the comparison.
                    let (a, b) = ((x - x0) as i64 * (y1 - y0) as i64, (y - y0) as i64 * (x1 - x0) as i64);
                    odd ^= if y1 > y0 { a < b } else { a > b };
                }
            }
            odd
        };
        self.canvas.paint(left, top, right, bottom, painted, inside);
        if self.grow > 0 {
            for i in 0..points.len() {
                self.line(points[i], points[(i + 1) % points.len()], 0, ink);
            }
        }
    }

    /// A line with round ends, `radius` thick on each side.
    pub fn line(&mut self, from: (i32, i32), to: (i32, i32), radius: i32, ink: Ink) {
        let ink = self.ink(ink);
        let ((x0, y0), (x1, y1)) = (self.frame.point(from), self.frame.point(to));
        let radius = (self.frame.length(radius) + self.grow).max(1);
        let (dx, dy) = ((x1 - x0) as i64, (y1 - y0) as i64);
        let square = (dx * dx + dy * dy).max(1);
        let r2 = radius as i64 * radius as i64;
        let inside = |x: i32, y: i32| {
            let (px, py) = ((x - x0) as i64, (y - y0) as i64);
            let along = px * dx + py * dy;
            if along <= 0 {
                return px * px + py * py <= r2;
            }
            if along >= square {
                let (qx, qy) = ((x - x1) as i64, (y - y1) as i64);
                return qx * qx + qy * qy <= r2;
            }
            let across = px * dy - py * dx;
            across * across <= r2 * square
        };
        self.canvas.paint(x0.min(x1) - radius, y0.min(y1) - radius, x0.max(x1) + radius, y0.max(y1) + radius, ink, inside);
    }

    /// A thick line through several points.
    pub fn path(&mut self, points: &[(i32, i32)], radius: i32, ink: Ink) {
        for pair in points.windows(2) {
            self.line(pair[0], pair[1], radius, ink);
        }
    }

    /// An arc of a circle as a thick line.
    pub fn arc(&mut self, (cx, cy): (i32, i32), radius: i32, degrees: (i32, i32), thickness: i32, ink: Ink) {
        let steps = ((degrees.1 - degrees.0).abs() / 15).max(2);
        let points: Vec<(i32, i32)> = (0..=steps)
            .map(|i| {
                let (cos, sin) = cos_sin(degrees.0 + (degrees.1 - degrees.0) * i / steps);
                (cx + radius * cos / 16384, cy + radius * sin / 16384)
            })
            .collect();
        self.path(&points, thickness, ink);
    }
}
