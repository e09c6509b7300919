//! A picture as one visit sees it: moved by one affine map, laid on a background, in another light, with a rectangle erased.

use super::Random;
use super::color::Light;
use super::strengths::Strengths;
use std::cell::RefCell;

/// The shortest side of an erased rectangle, as a share of the longest.
const SHORTEST: f64 = 0.375;

/// How one visit sees a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Where pixels come from, if not from where they are.
    place: Option<Place>,
    /// What a transparent picture lies on, in 0 … 1; white for `None`.
    background: Option<[f64; 3]>,
    light: Light,
    erased: Option<Rectangle>,
}

/// From the middle of an output pixel to where it is read, both from the picture's middle, in shares of its side:
/// `x' = across · (x, y) + middle.0`, `y' = down · (x, y) + middle.1`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    across: [f64; 2],
    down: [f64; 2],
    middle: [f64; 2],
}

/// A part of a picture, in shares of its side, and the colour that covers it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rectangle {
    /// Width and height.
    size: [f64; 2],
    /// Where it lies in the room that it has, 0 … 1.
    at: [f64; 2],
    colour: [u8; 3],
}

impl Look {
    /// Draws how a visit sees a picture. `mirrors` says whether it may be mirrored.
    ///
    /// Always the same numbers are drawn, so that one strength changes nothing but what it is about.
    pub(crate) fn draw(strengths: &Strengths, mirrors: bool, random: &mut Random) -> Self {
        let s = strengths;
        let (scale, aspect, angle) = (libm::exp(random.within(s.scale)), libm::exp(random.within(s.aspect) / 2.0), random.within(s.rotation));
        let shift = [random.within(s.shift), random.within(s.shift)];
        // The part that is shown alone, and where in the picture it lies.
        let part = 1.0 - s.crop * random.share();
        let at = [random.within((1.0 - part) / 2.0), random.within((1.0 - part) / 2.0)];
        let mirror = random.happens(s.flip) && mirrors;
        // Backwards, from what is shown to where it is read: moved back, turned back, reduced, mirrored.
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        let (x, y) = (part / (scale * aspect) * if mirror { -1.0 } else { 1.0 }, part * aspect / scale);
        let (across, down) = ([x * cos, x * sin], [-y * sin, y * cos]);
        let back = |row: [f64; 2]| -(row[0] * shift[0] + row[1] * shift[1]);
        let place = s.moves().then_some(Place { across, down, middle: [at[0] + back(across), at[1] + back(down)] });
        let coloured = random.happens(s.background);
        let background = [(); 3].map(|()| random.share());
        let light = Light::draw(s, random);
        let erases = random.happens(s.erase);
        let mut side = || s.erase_size * (SHORTEST + (1.0 - SHORTEST) * random.share());
        let size = [side(), side()];
        let at = [random.share(), random.share()];
        let colour = [(); 3].map(|()| random.below(256) as u8);
        let erased = (erases && s.erase_size > 0.0).then_some(Rectangle { size, at, colour });
        Look { place, background: coloured.then_some(background), light, erased }
    }

    /// A square picture `[side, side, 3]` as it is seen. `alpha` says how opaque each of its pixels is, which `rgb` holds laid over white;
    /// what is beyond the edges of such a picture is the background, and other pictures are mirrored at their edges.
    pub fn of(&self, rgb: &[u8], alpha: Option<&[u8]>, side: usize) -> Vec<u8> {
        let mut seen = match (&self.place, self.background.filter(|_| alpha.is_some()), self.light == Light::PLAIN) {
            (None, None, true) => rgb.to_vec(),
            _ => SOURCE.with_borrow_mut(|source| {
                source.load(rgb, alpha, side);
                source.seen(self.place.unwrap_or(Place::SAME), &self.colours(), alpha.is_none())
            }),
        };
        if let Some(rectangle) = self.erased {
            rectangle.cover(&mut seen, side);
        }
        seen
    }

    /// What becomes of red, green, blue and transparency, all in 0 … 255: the column of each, and what is added.
    ///
    /// A picture over white is `c·a + (1 − a)`, over another background b it is `c·a + b·(1 − a)`: that over white, less `(1 − b)·(1 − a)`.
    fn colours(&self) -> [[f32; 4]; 5] {
        let Light { matrix, offset } = &self.light;
        let column = |of: [f64; 3]| {
            let [r, g, b] = of.map(|value| value as f32);
            [r, g, b, 0.0]
        };
        let less = self.background.map_or([0.0; 3], |background| background.map(|value| value - 1.0));
        let behind = matrix.map(|row| row.iter().zip(less).map(|(weight, less)| weight * less).sum::<f64>());
        let [red, green, blue] = [0, 1, 2].map(|c| column(matrix.map(|row| row[c])));
        [red, green, blue, column(behind), column([255.0 * offset; 3])]
    }
}

impl Place {
    /// Everything where it is.
    const SAME: Place = Place { across: [1.0, 0.0], down: [0.0, 1.0], middle: [0.0; 2] };
}

impl Rectangle {
    /// Covers a part of a picture, never all of it: at least one pixel, and at most all but one of each side.
    fn cover(&self, rgb: &mut [u8], side: usize) {
        if side < 2 {
            return;
        }
        let pixels = |share: f64| ((share * side as f64).round() as usize).clamp(1, side - 1);
        let (width, height) = (pixels(self.size[0]), pixels(self.size[1]));
        let place = |at: f64, length: usize| ((at * (side - length + 1) as f64) as usize).min(side - length);
        let (left, top) = (place(self.at[0], width), place(self.at[1], height));
        for row in rgb.chunks_exact_mut(3 * side).skip(top).take(height) {
            row[3 * left..3 * (left + width)].as_chunks_mut::<3>().0.fill(self.colour);
        }
    }
}

thread_local! {
    /// Pictures are unpacked here before they are read: nothing is allocated at a visit but what it gives.
    static SOURCE: RefCell<Source> = const { RefCell::new(Source { side: 0, pixels: Vec::new() }) };
}

/// A picture's pixels: red, green, blue, and transparency, in 0 … 255. Around it is one pixel more.
struct Source {
    /// Of the picture.
    side: usize,
    /// `[side + 2, side + 2]`
    pixels: Vec<[f32; 4]>,
}

impl Source {
    fn load(&mut self, rgb: &[u8], alpha: Option<&[u8]>, side: usize) {
        self.side = side;
        self.pixels.clear();
        let around = side + 2;
        // Around a transparent picture nothing is but the background: white, and wholly transparent.
        self.pixels.resize(around * around, [255.0; 4]);
        let (pixels, _) = rgb.as_chunks::<3>();
        for (y, row) in pixels.chunks_exact(side).enumerate() {
            let line = &mut self.pixels[(y + 1) * around + 1..][..side];
            match alpha {
                None => line.iter_mut().zip(row).for_each(|(to, [r, g, b])| *to = [*r as f32, *g as f32, *b as f32, 0.0]),
                Some(alpha) => line
                    .iter_mut()
                    .zip(row)
                    .zip(&alpha[y * side..])
                    .for_each(|((to, [r, g, b]), alpha)| *to = [*r as f32, *g as f32, *b as f32, (255 - alpha) as f32]),
            }
        }
        if alpha.is_none() {
            // The edge's own pixels once more: what the mirror shows next to it.
            for y in 1..=side {
                self.pixels[y * around] = self.pixels[y * around + 1];
                self.pixels[(y + 1) * around - 1] = self.pixels[(y + 1) * around - 2];
            }
            self.pixels.copy_within(around..2 * around, 0);
            self.pixels.copy_within(side * around..(side + 1) * around, (side + 1) * around);
        }
    }

    /// What is seen of it, resampled bilinearly; `mirrored` at its edges, else with the background around it.
    fn seen(&self, place: Place, colours: &[[f32; 4]; 5], mirrored: bool) -> Vec<u8> {
        let side = self.side;
        let (n, half) = (side as f32, side as f32 / 2.0);
        let [across, down] = [place.across, place.down].map(|row| row.map(|value| value as f32));
        let middle = place.middle.map(|share| share as f32 * n);
        let mut seen = vec![0; 3 * side * side];
        let [of_red, of_green, of_blue, of_transparency, offset] = *colours;
        for (y, line) in seen.as_chunks_mut::<3>().0.chunks_exact_mut(side).enumerate() {
            let v = y as f32 + 0.5 - half;
            // Of the first pixel of a row, in pixels of the source from the middle of its first.
            let start = [across[1] * v + middle[0] + half - 0.5, down[1] * v + middle[1] + half - 0.5];
            for (x, pixel) in line.iter_mut().enumerate() {
                let u = x as f32 + 0.5 - half;
                let at = [start[0] + across[0] * u, start[1] + down[0] * u];
                let inside = at.iter().all(|at| *at >= -0.5 && *at <= n - 0.5);
                let at = match (inside, mirrored) {
                    (true, _) => at,
                    (false, true) => at.map(|at| mirror(at, n)),
                    (false, false) => at.map(|at| at.clamp(-1.0, n)),
                };
                let [r, g, b, transparency] = self.read(at);
                let mut sum = [0f32; 4];
                for c in 0..4 {
                    sum[c] = offset[c] + r * of_red[c] + g * of_green[c] + b * of_blue[c] + transparency * of_transparency[c];
                }
                let [r, g, b, _] = sum.map(rounded);
                *pixel = [r, g, b];
            }
        }
        seen
    }

    /// Between its four neighbours; `at` is −1 … side, in both.
    #[inline(always)]
    fn read(&self, at: [f32; 2]) -> [f32; 4] {
        let around = self.side + 2;
        let (x, y) = (at[0] + 1.0, at[1] + 1.0);
        // The last pixel has no neighbour: it is read from the one before it, at its end.
        let (column, row) = ((x as u32 as usize).min(around - 2), (y as u32 as usize).min(around - 2));
        let (x, y) = (x - column as f32, y - row as f32);
        let pixels = &self.pixels[row * around + column..][..around + 2];
        let (upper, lower) = ([pixels[0], pixels[1]], [pixels[around], pixels[around + 1]]);
        let mut sum = [0f32; 4];
        for c in 0..4 {
            let (above, below) = (upper[0][c] + (upper[1][c] - upper[0][c]) * x, lower[0][c] + (lower[1][c] - lower[0][c]) * x);
            sum[c] = above + (below - above) * y;
        }
        sum
    }
}

/// The nearest byte. Added to 2²³, a number below it has its integer part, rounded to even, in the last bits: a quarter faster than a cast.
#[inline(always)]
fn rounded(value: f32) -> u8 {
    (value.clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8
}

/// A place beyond an edge, mirrored at it: −½ and `n − ½` are the edges, each as often as needed.
#[inline(always)]
fn mirror(at: f32, n: f32) -> f32 {
    let turn = (at + 0.5).rem_euclid(2.0 * n);
    if turn > n { 2.0 * n - turn - 0.5 } else { turn - 0.5 }
}
