//! The light on a picture: brightness, contrast, saturation, hue and grey, which together are one linear map of red, green and blue.

use super::Random;
use super::strengths::Strengths;

/// Red, green, blue to luma and two chroma (the YIQ space of NTSC; FCC 73.682): grey is where both chroma are 0.
const YIQ: [[f64; 3]; 3] = [[0.299, 0.587, 0.114], [0.595_716, -0.274_453, -0.321_263], [0.211_456, -0.522_591, 0.311_135]];

/// Its inverse.
fn rgb_of([y, i, q]: [f64; 3]) -> [f64; 3] {
    [y + 0.956_3 * i + 0.621_0 * q, y - 0.272_1 * i - 0.647_4 * q, y - 1.107_0 * i + 1.704_6 * q]
}

/// The light of one visit: what becomes of red, green and blue in 0 … 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Light {
    /// Which sum of red, green and blue each of them becomes: rows are what it becomes.
    pub matrix: [[f64; 3]; 3],
    /// What is added.
    pub offset: f64,
}

impl Light {
    /// As it is.
    pub const PLAIN: Light = Light { matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], offset: 0.0 };

    /// Draws the light of a visit.
    pub fn draw(strengths: &Strengths, random: &mut Random) -> Self {
        let brightness = random.within(strengths.brightness);
        let contrast = libm::exp(random.within(strengths.contrast));
        let saturation = libm::exp(random.within(strengths.saturation));
        let hue = random.within(strengths.hue);
        let grey = random.happens(strengths.grey);
        Light::new(brightness, contrast, if grey { 0.0 } else { saturation }, hue)
    }

    /// Chroma is turned by the hue and scaled by the saturation, luma stays; then contrast about the middle grey; then brightness.
    pub fn new(brightness: f64, contrast: f64, saturation: f64, hue: f64) -> Self {
        let mut matrix = Self::PLAIN.matrix;
        if (saturation, hue) != (1.0, 0.0) {
            let (sin, cos) = (saturation * libm::sin(hue), saturation * libm::cos(hue));
            for from in 0..3 {
                let (y, i, q) = (YIQ[0][from], YIQ[1][from], YIQ[2][from]);
                let column = rgb_of([y, cos * i - sin * q, sin * i + cos * q]);
                (0..3).for_each(|to| matrix[to][from] = column[to]);
            }
        }
        matrix.iter_mut().flatten().for_each(|weight| *weight *= contrast);
        Light { matrix, offset: 0.5 - 0.5 * contrast + brightness }
    }

    /// What a colour becomes; not cut off.
    #[cfg(test)]
    pub fn of(&self, rgb: [f64; 3]) -> [f64; 3] {
        self.matrix.map(|row| row.iter().zip(rgb).map(|(weight, value)| weight * value).sum::<f64>() + self.offset)
    }
}

/// Takes the colour from a picture: each pixel becomes its luma.
pub fn take_color(rgb: &mut [u8]) {
    for pixel in rgb.as_chunks_mut::<3>().0 {
        let luma = YIQ[0].iter().zip(&*pixel).map(|(weight, &value)| *weight as f32 * value as f32).sum::<f32>();
        pixel.fill((luma + 0.5) as u8);
    }
}

/// Scales the three colour channels (`color_jitter`).
pub fn scale_channels(pixels: &mut [u8], gain: [f32; 3]) {
    for pixel in pixels.chunks_exact_mut(3) {
        for (value, gain) in pixel.iter_mut().zip(gain) {
            *value = (*value as f32 * gain + 0.5) as u8; // the cast saturates
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: [f64; 3], b: [f64; 3]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3)
    }

    #[test]
    fn grey_stays_grey_at_any_hue_and_saturation() {
        for value in [0.0, 0.3, 1.0] {
            for (saturation, hue) in [(1.0, 1.0), (0.0, 0.0), (2.0, -3.0), (1.3, 0.18)] {
                let found = Light::new(0.0, 1.0, saturation, hue).of([value; 3]);
                assert!(near(found, [value; 3]), "{found:?}");
            }
        }
    }

    #[test]
    fn without_its_colour_a_picture_is_as_light_as_before() {
        let mut rgb = [0, 0, 0, 255, 255, 255, 7, 7, 7, 200, 100, 50];
        take_color(&mut rgb);
        assert_eq!(rgb, [0, 0, 0, 255, 255, 255, 7, 7, 7, 124, 124, 124]);
    }

    #[test]
    fn each_does_what_its_name_says() {
        let colour = [0.8, 0.4, 0.1];
        assert!(near(Light::new(0.0, 1.0, 1.0, 0.0).of(colour), colour));
        assert!(near(Light::new(0.1, 1.0, 1.0, 0.0).of(colour), [0.9, 0.5, 0.2]));
        assert!(near(Light::new(0.0, 2.0, 1.0, 0.0).of(colour), [1.1, 0.3, -0.3]));
        let luma = 0.299 * 0.8 + 0.587 * 0.4 + 0.114 * 0.1;
        assert!(near(Light::new(0.0, 1.0, 0.0, 0.0).of(colour), [luma; 3]));
        // All the way around is where it was; a third of it moves red towards another primary.
        assert!(near(Light::new(0.0, 1.0, 1.0, std::f64::consts::TAU).of(colour), colour));
        let turned = Light::new(0.0, 1.0, 1.0, 2.1).of([1.0, 0.0, 0.0]);
        assert!(turned[0] < 0.5 && turned[1].max(turned[2]) > turned[0], "{turned:?}");
        // Turning there and back.
        let back = Light::new(0.0, 1.0, 1.0, -0.7).of(Light::new(0.0, 1.0, 1.0, 0.7).of(colour));
        assert!(near(back, colour), "{back:?}");
    }
}
