//! The meadow around the animal: sun, rain or night.

use super::animal;
use super::random::Random;
use super::raster::{Canvas, Frame, Pen, Rgb, cos_sin, ink};
use super::words::Attributes;

/// The outline's colour in the sun, in the rain, at night (moonlight).
const OUTLINE: [Rgb; 3] = [[60, 40, 20], [30, 40, 44], [206, 200, 240]];

/// Draws one picture: `48 · 48 · 3` bytes.
pub(super) fn render(what: &Attributes, random: &mut Random) -> Vec<u8> {
    let flip = if random.below(2) == 0 { 1 } else { -1 };
    let scale = random.within(216, 268);
    // In canvas units: 64 per pixel.
    let (x, y) = (24 * 64 + random.within(-150, 150), 26 * 64 + random.within(-100, 130));
    let horizon = y / 64 + random.within(5, 9);
    let mut canvas = background(what.place, horizon, -flip, random);
    let mut pen = Pen { canvas: &mut canvas, frame: Frame { x, y, scale, flip, up: 1 }, grow: 0, outline: None };
    let phase = random.within(0, 99);
    (pen.grow, pen.outline) = (40, Some(OUTLINE[what.place]));
    animal::draw(&mut pen, what, phase);
    (pen.grow, pen.outline) = (0, None);
    animal::draw(&mut pen, what, phase);
    let (light, noise) = (random.within(-6, 6), random.within(2, 6));
    canvas.finish(|| light + random.within(-noise, noise))
}

/// Sky, ground and weather; the sun and the moon stand on the side that the animal's back is turned to.
fn background(place: usize, horizon: i32, side: i32, random: &mut Random) -> Canvas {
    let (sky, ground): (Rgb, Rgb) = [([255, 238, 160], [122, 202, 84]), ([150, 176, 178], [72, 118, 84]), ([58, 40, 112], [20, 52, 60])][place];
    let mut canvas = Canvas::new(sky);
    canvas.band(horizon, 48, ground);
    let mut pen = Pen { canvas: &mut canvas, frame: Frame::CANVAS, grow: 0, outline: None };
    let corner = 240 - side * random.within(150, 180);
    let height = random.within(50, 75);
    match place {
        0 => {
            let turn = random.within(0, 29);
            for ray in 0..12 {
                let (cos, sin) = cos_sin(ray * 30 + turn);
                let at = |r: i32| (corner + r * cos / 16384, height + r * sin / 16384);
                pen.line(at(80), at(125), 9, ink([255, 178, 0]));
            }
            pen.disc((corner, height), 66, ink([255, 178, 0]));
        }
        1 => {
            pen.canvas.band(0, 5, [92, 104, 116]);
            for i in 0..5 {
                pen.ellipse((i * 120 + random.within(-20, 20), 50), 80, 34, 0, ink([92, 104, 116]));
            }
            for row in 0..6 {
                for column in 0..8 {
                    let (x, y) = (column * 62 + random.within(-14, 14), 60 + row * 72 + column % 2 * 36 + random.within(-12, 12));
                    pen.line((x + 14, y), (x - 10, y + 46), 6, ink([222, 240, 252]));
                }
            }
        }
        _ => {
            pen.disc((corner, height), 62, ink([252, 246, 206]));
            pen.disc((corner + side * 30, height - 12), 52, ink(sky));
            for i in 0..12 {
                let (x, y) = (i * 40 + random.within(0, 40), random.within(10, 10 * horizon - 20));
                pen.disc((x, y), random.within(7, 11), ink([252, 250, 230]));
            }
        }
    }
    canvas
}
