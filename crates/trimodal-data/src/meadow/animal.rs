//! The animals: one plan per pose (torso, legs, where head and tail go), one head, leg and tail per species.
//!
//! A pose looks the same whatever the species, and a species has parts in colours of its own that do not depend on the
//! coat (yellow beak, red tongue, pink fins): so each attribute can be told without the others.

use super::raster::{Ink, Pen, Rgb, cos_sin, ink};
use super::words::Attributes;

const CAT: usize = 0;
const DOG: usize = 1;
const BIRD: usize = 2;
const FROG: usize = 3;
const FISH: usize = 4;
const OWL: usize = 5;

const BLACK: Rgb = [16, 14, 18];
const WHITE: Rgb = [250, 250, 246];
const YELLOW: Rgb = [252, 214, 20];
const PINK: Rgb = [250, 150, 170];
const RED: Rgb = [226, 24, 40];
const LIME: Rgb = [168, 232, 40];
const MAGENTA: Rgb = [236, 60, 170];
const CREAM: Rgb = [246, 232, 200];

/// The coat of one colour: base, wings and far legs, stripes, spots.
///
/// Stripes and spots differ in colour, not only in shape: stripes are darker than the coat and spots paler; where that cannot
/// be (black, white) the stripes have a hue of their own. A small network told the shapes alone apart in 3 of 4 pictures.
struct Palette {
    base: Rgb,
    shade: Rgb,
    stripe: Rgb,
    spot: Rgb,
}

#[rustfmt::skip]
const PALETTE: [Palette; 6] = [
    Palette { base: [244, 132, 24],  shade: [190, 92, 8],    stripe: [112, 44, 4],    spot: [255, 240, 196] },
    Palette { base: [34, 32, 36],    shade: [74, 72, 80],    stripe: [92, 172, 168], spot: [240, 240, 240] },
    Palette { base: [246, 246, 244], shade: [198, 200, 206], stripe: [214, 164, 92],   spot: [24, 24, 28] },
    Palette { base: [138, 140, 144], shade: [96, 98, 104],   stripe: [44, 46, 52],    spot: [244, 244, 244] },
    Palette { base: [128, 74, 36],   shade: [88, 46, 18],    stripe: [44, 20, 6],     spot: [244, 214, 172] },
    Palette { base: [42, 92, 226],   shade: [22, 56, 160],   stripe: [8, 20, 84],     spot: [196, 226, 255] },
];

/// Everything that drawing one animal needs to know.
struct Look {
    species: usize,
    fluffy: bool,
    base: Ink,
    shade: Ink,
    /// The shade as part of the coat: textured.
    wing: Ink,
}

/// Draws the animal around the frame's origin: about 36 × 32 pixels, its feet at y = 150 tenths.
///
/// Called with an outline first and without one then. `phase` (0 … 99) moves the pattern of the coat.
pub(super) fn draw(pen: &mut Pen, what: &Attributes, phase: i32) {
    let palette = &PALETTE[what.colour];
    let base = Ink { colour: palette.base, coat: true, only_coat: false };
    let look = Look { species: what.species, fluffy: what.texture == 0, base, shade: ink(palette.shade), wing: Ink { coat: true, ..ink(palette.shade) } };
    [on_its_back, sitting, standing, curled_up][what.pose](pen, &look, &mut |pen| {
        if pen.outline.is_none() {
            pattern(pen, what.texture, palette, phase);
        }
    });
}

/// The coat's pattern, on what has been painted as coat so far (torso and tail; head and legs come after it).
fn pattern(pen: &mut Pen, texture: usize, palette: &Palette, phase: i32) {
    let only = |colour| Ink { colour, coat: true, only_coat: true };
    match texture {
        // Fluffy: the tufts of `coat` say it; an even coat inside tells it from stripes and spots in any patch.
        0 => {}
        // Upright stripes, a little slanted.
        1 => {
            for x in (-300..320).step_by(60) {
                let x = x + phase * 6 / 10;
                pen.line((x + 20, -220), (x - 20, 220), 13, only(palette.stripe));
            }
        }
        // Round spots in a hexagonal grid.
        _ => {
            for (row, y) in (-200..220).step_by(54).enumerate() {
                for x in (-300..320).step_by(66) {
                    pen.disc((x + row as i32 % 2 * 33 + phase * 6 / 10, y + phase / 4), 19, only(palette.spot));
                }
            }
        }
    }
}

/// An ellipse of coat; a fluffy one has tufts all around.
fn coat(pen: &mut Pen, look: &Look, centre: (i32, i32), rx: i32, ry: i32) {
    pen.ellipse(centre, rx, ry, 0, look.base);
    if !look.fluffy {
        return;
    }
    let tufts = ((rx + ry) * 22 / 7 / 34).max(8);
    for i in 0..tufts {
        let edge = |degrees: i32, more: i32| {
            let (cos, sin) = cos_sin(degrees);
            (centre.0 + (rx + more) * cos / 16384, centre.1 + (ry + more) * sin / 16384)
        };
        let (at, half) = (360 * i / tufts, 150 / tufts);
        let tip = edge(at + half / 2, 28 + i * 7 % 3 * 4);
        pen.polygon(&[edge(at - half, -6), edge(at + half, -6), tip], look.base);
    }
}

/// A limb of coat between two points.
fn limb(pen: &mut Pen, look: &Look, from: (i32, i32), to: (i32, i32), radius: i32, near: bool) {
    pen.line(from, to, radius, if near { Ink { coat: false, ..look.base } } else { look.shade });
}

/// A leg from the torso to the foot, as the species has them.
fn leg(pen: &mut Pen, look: &Look, from: (i32, i32), to: (i32, i32), near: bool) {
    match look.species {
        CAT => limb(pen, look, from, to, 16, near),
        DOG => limb(pen, look, from, to, 22, near),
        FROG => {
            limb(pen, look, from, to, 17, near);
            pen.ellipse((to.0 - 10, to.1), 28, 13, 0, ink(LIME));
        }
        BIRD => {
            pen.line(from, to, 9, ink(YELLOW));
            pen.line((to.0 - 26, to.1), (to.0 + 16, to.1), 8, ink(YELLOW));
        }
        OWL => {
            pen.line(from, to, 15, ink(YELLOW));
            pen.ellipse((to.0 - 6, to.1 - 4), 28, 14, 0, ink(YELLOW));
        }
        _ => {
            let y = to.1 - (to.1 - from.1).signum() * 6;
            pen.polygon(&[(from.0 - 24, from.1), (from.0 + 24, from.1), (to.0 + 36, y), (to.0 - 20, y)], ink(MAGENTA));
        }
    }
}

/// The legs of a pose: all four, or those of the two-legged (the second and the third).
fn legs(pen: &mut Pen, look: &Look, pairs: [((i32, i32), (i32, i32)); 4], near: bool) {
    let four = matches!(look.species, CAT | DOG | FROG);
    for (i, (from, to)) in pairs.into_iter().enumerate() {
        // The first of each pair is the far one.
        if (four || i == 1 || i == 2) && near == (if four { i % 2 == 1 } else { true }) {
            leg(pen, look, from, to, near);
        }
    }
}

/// The tail from its root at (x, y), pointing right; raised, or flat on the ground.
fn tail(pen: &mut Pen, look: &Look, (x, y): (i32, i32), raised: bool) {
    let at = |points: &[(i32, i32)]| points.iter().map(|p| (x + p.0, y + p.1)).collect::<Vec<_>>();
    match look.species {
        CAT if raised => pen.path(&at(&[(-20, 10), (28, -4), (50, -40), (44, -84), (62, -112)]), if look.fluffy { 22 } else { 14 }, look.base),
        CAT => pen.path(&at(&[(-30, 0), (26, 14), (56, 6), (66, -24)]), if look.fluffy { 22 } else { 14 }, look.base),
        DOG if raised => pen.line((x - 10, y), (x + 34, y - 52), if look.fluffy { 24 } else { 17 }, look.base),
        DOG => pen.line((x - 10, y), (x + 46, y - 16), if look.fluffy { 24 } else { 17 }, look.base),
        BIRD if raised => pen.polygon(&at(&[(-40, -20), (70, -66), (84, -30), (74, 6), (-40, 24)]), look.shade),
        BIRD => pen.polygon(&at(&[(-40, -20), (60, -28), (70, 0), (60, 24), (-40, 20)]), look.shade),
        FISH if raised => pen.polygon(&at(&[(-30, -6), (66, -84), (46, -10), (70, 58), (-30, 16)]), ink(MAGENTA)),
        FISH => pen.polygon(&at(&[(-30, -14), (58, -70), (42, -6), (60, 36), (-30, 12)]), ink(MAGENTA)),
        OWL => pen.polygon(&at(&[(-50, -24), (34, -2), (36, 26), (-40, 30)]), look.shade),
        _ => {}
    }
}

/// Four legs under a level body.
fn standing(pen: &mut Pen, look: &Look, pattern: &mut dyn FnMut(&mut Pen)) {
    let plan = [((-60, 20), (-72, 142)), ((-36, 20), (-30, 146)), ((72, 20), (66, 142)), ((96, 20), (108, 146))];
    legs(pen, look, plan, false);
    tail(pen, look, (125, -30), true);
    coat(pen, look, (20, -8), 116, 62);
    if matches!(look.species, BIRD | OWL) {
        pen.ellipse((60, -20), 64, 28, 12, look.wing);
    }
    pattern(pen);
    legs(pen, look, plan, true);
    match look.species {
        FISH => {
            pen.polygon(&[(-30, -62), (40, -128), (84, -54)], ink(MAGENTA));
            pen.ellipse((30, 6), 30, 16, 30, ink(MAGENTA));
        }
        FROG => limb(pen, look, (80, 20), (120, 56), 36, true),
        _ => {}
    }
    head(pen, look, (-112, -72), 1);
}

/// An upright body on its haunches, two legs in front.
fn sitting(pen: &mut Pen, look: &Look, pattern: &mut dyn FnMut(&mut Pen)) {
    tail(pen, look, (96, 128), false);
    coat(pen, look, (24, 44), 76, 106);
    coat(pen, look, (52, 96), 68, 54);
    if matches!(look.species, BIRD | OWL) {
        pen.ellipse((80, 36), 26, 76, -14, look.wing);
    }
    pattern(pen);
    match look.species {
        BIRD | OWL => {
            leg(pen, look, (-20, 130), (-30, 148), true);
            leg(pen, look, (36, 130), (30, 148), true);
        }
        FISH => {
            pen.polygon(&[(78, -46), (146, 10), (94, 66)], ink(MAGENTA));
            pen.ellipse((10, 60), 18, 34, 20, ink(MAGENTA));
            leg(pen, look, (-16, 112), (-40, 150), true);
        }
        _ => {
            leg(pen, look, (-8, 40), (-2, 144), false);
            leg(pen, look, (-32, 40), (-42, 146), true);
            leg(pen, look, (60, 138), (24, 146), true);
        }
    }
    head(pen, look, (-18, -84), 1);
}

/// On its back: legs in the air, a pale belly, the head upside down on the ground.
fn on_its_back(pen: &mut Pen, look: &Look, pattern: &mut dyn FnMut(&mut Pen)) {
    let plan = [((-52, 40), (-88, -62)), ((-24, 36), (-38, -82)), ((70, 36), (78, -82)), ((96, 40), (126, -62))];
    legs(pen, look, plan, false);
    tail(pen, look, (130, 112), false);
    if matches!(look.species, BIRD | OWL) {
        pen.ellipse((-64, 128), 74, 22, -8, look.shade);
        pen.ellipse((112, 128), 74, 22, 8, look.shade);
    }
    coat(pen, look, (22, 92), 116, 66);
    pattern(pen);
    legs(pen, look, plan, true);
    pen.ellipse((22, 44), 58, 14, 0, ink(CREAM));
    if look.species == FISH {
        pen.ellipse((-34, 96), 26, 13, -20, ink(MAGENTA));
    }
    head(pen, look, (-122, 92), -1);
}

/// A ball: the head on the tail, a spiral where the flank meets the legs.
fn curled_up(pen: &mut Pen, look: &Look, pattern: &mut dyn FnMut(&mut Pen)) {
    let centre = (12, 42);
    coat(pen, look, centre, 112, 108);
    if look.species == FISH {
        pen.polygon(&[(20, -60), (90, -88), (100, 0)], ink(MAGENTA));
    }
    if matches!(look.species, BIRD | OWL) {
        pen.ellipse((66, 14), 30, 62, -20, look.wing);
    }
    pattern(pen);
    if pen.outline.is_none() {
        pen.arc(centre, 66, (-150, 84), 7, look.shade);
    }
    // The tail comes around the bottom to the chin.
    let end = (-16, 136);
    match look.species {
        CAT | DOG => {
            pen.arc(centre, 92, (10, 110), 24, ink(BLACK));
            pen.arc(centre, 92, (10, 110), 17, Ink { coat: false, ..look.base });
        }
        BIRD | OWL => pen.polygon(&[(90, 90), (110, 120), (10, 154), (0, 126)], look.shade),
        FISH => pen.polygon(&[(90, 100), (100, 120), (40, 140), (20, 168), (10, 96), (44, 116)], ink(MAGENTA)),
        _ => pen.ellipse((end.0 + 50, end.1), 40, 13, 0, ink(LIME)),
    }
    head(pen, look, (-52, 84), 1);
}

/// The head at a point, upside down if `up` is −1.
fn head(pen: &mut Pen, look: &Look, (x, y): (i32, i32), up: i32) {
    let frame = pen.frame;
    pen.frame = frame.at(x, y, up);
    let base = Ink { coat: false, ..look.base };
    let round = &Look { base, ..*look };
    let eye = |pen: &mut Pen, x: i32, y: i32, colour: Rgb, radius: i32, pupil: i32| {
        pen.disc((x, y), radius, ink(colour));
        pen.disc((x, y), pupil, ink(BLACK));
    };
    match look.species {
        CAT => {
            for side in [-1, 1] {
                pen.polygon(&[(side * 72, 0), (side * 70, -118), (side * 8, -52)], base);
                pen.polygon(&[(side * 58, -34), (side * 60, -92), (side * 26, -54)], ink(PINK));
            }
            coat(pen, round, (0, 0), 74, 62);
            for side in [-1, 1] {
                pen.ellipse((side * 32, -8), 17, 19, 0, ink(LIME));
                pen.ellipse((side * 32, -8), 7, 18, 0, ink(BLACK));
            }
            pen.ellipse((0, 28), 26, 18, 0, ink(WHITE));
            pen.polygon(&[(-14, 14), (14, 14), (0, 32)], ink(PINK));
            if pen.outline.is_none() {
                for side in [-1, 1] {
                    for dy in [-14, 8] {
                        pen.line((side * 26, 26), (side * 104, 22 + dy), 4, ink(WHITE));
                    }
                }
            }
        }
        DOG => {
            coat(pen, round, (0, 0), 64, 66);
            for side in [-1, 1] {
                pen.ellipse((side * 70, 14), 25, 66, side * -12, look.shade);
                eye(pen, side * 26, -22, WHITE, 15, 11);
            }
            pen.ellipse((0, 34), 44, 36, 0, ink(CREAM));
            pen.line((0, 60), (0, 88), 15, ink(RED));
            pen.ellipse((0, 16), 25, 18, 0, ink(BLACK));
        }
        BIRD => {
            // Seen from the side, with a crest.
            pen.polygon(&[(0, -40), (56, -104), (48, -20)], look.shade);
            coat(pen, round, (10, 0), 56, 54);
            pen.polygon(&[(-34, -34), (-128, 6), (-34, 34)], ink(YELLOW));
            eye(pen, -2, -14, WHITE, 19, 12);
        }
        FROG => {
            coat(pen, round, (0, 10), 98, 54);
            pen.ellipse((0, 34), 80, 28, 0, ink(LIME));
            if pen.outline.is_none() {
                pen.path(&[(-76, 16), (-40, 26), (0, 28), (40, 26), (76, 16)], 6, ink(BLACK));
            }
            for side in [-1, 1] {
                pen.disc((side * 54, -48), 40, base);
                pen.disc((side * 54, -50), 30, ink(YELLOW));
                pen.ellipse((side * 54, -50), 20, 10, 0, ink(BLACK));
            }
        }
        FISH => {
            coat(pen, round, (0, 0), 78, 60);
            pen.ellipse((-74, 18), 16, 22, 0, ink(MAGENTA));
            if pen.outline.is_none() {
                pen.arc((4, 0), 50, (-60, 60), 7, look.shade);
            }
            eye(pen, -28, -12, WHITE, 27, 15);
        }
        _ => {
            // A round head: tufts would make an owl of every cat in a colour that no cat in training had.
            coat(pen, round, (0, 0), 86, 78);
            for side in [-1, 1] {
                pen.disc((side * 40, -4), 42, ink(CREAM));
                eye(pen, side * 38, -6, YELLOW, 29, 15);
            }
            pen.polygon(&[(-16, 14), (16, 14), (0, 52)], ink([240, 120, 20]));
        }
    }
    pen.frame = frame;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coats_are_far_apart() {
        for (i, a) in PALETTE.iter().enumerate() {
            for b in &PALETTE[..i] {
                let distance: i32 = a.base.iter().zip(b.base).map(|(a, b)| (*a as i32 - b as i32).pow(2)).sum();
                assert!(distance > 90 * 90, "{:?} and {:?}", a.base, b.base);
            }
        }
    }
}
