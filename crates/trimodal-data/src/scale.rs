//! Scaling a part of a picture with a triangle filter: `image`'s `resize` to the last bit, without a copy of the part, and a row at a time
//! instead of the whole picture in four floats for each pixel.

/// A stretch of columns or rows: where it begins and how long it is, in pixels, of which a part of one may be at either end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    pub start: f64,
    pub length: f64,
}

impl Stretch {
    /// Whole pixels.
    pub fn whole(start: u32, length: u32) -> Self {
        Stretch { start: start as f64, length: length as f64 }
    }
}

/// What an output pixel is made of: its first input pixel, and the weight of each from there on.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// The taps of `to` pixels over a stretch of `of` that are there. The arithmetic is that of `image::imageops::resize`.
fn taps(stretch: Stretch, of: usize, to: usize) -> Vec<Taps> {
    let (start, offset) = (stretch.start as usize, stretch.start.fract() as f32);
    let available = ((stretch.start.fract() + stretch.length).ceil() as usize).min(of - start);
    let ratio = stretch.length as f32 / to as f32;
    let scale = if ratio < 1.0 { 1.0 } else { ratio };
    let of_one = |out: usize| {
        let centre = (out as f32 + 0.5) * ratio + offset;
        let left = ((centre - scale).floor() as i64).clamp(0, available as i64 - 1) as usize;
        let right = ((centre + scale).ceil() as i64).clamp(left as i64 + 1, available as i64) as usize;
        let centre = centre - 0.5;
        let weight = |i: usize| (1.0 - ((i as f32 - centre) / scale).abs()).max(0.0);
        let mut weights: Vec<f32> = (left..right).map(weight).collect();
        let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
        weights.iter_mut().for_each(|weight| *weight /= sum);
        // Pixels at the ends that are looked at and weigh nothing: one in four.
        let nothing = weights.iter().take_while(|weight| **weight == 0.0).count().min(weights.len() - 1);
        weights.drain(..nothing);
        while weights.len() > 1 && weights.last() == Some(&0.0) {
            weights.pop();
        }
        Taps { first: start + left + nothing, weights }
    };
    (0..to).map(of_one).collect()
}

/// Scales a part of an RGB picture of `width` columns to `to.0` columns and `to.1` rows.
pub(super) fn scale(rgb: &[u8], width: usize, across: Stretch, down: Stretch, to: (usize, usize)) -> Vec<u8> {
    let height = rgb.len() / 3 / width;
    let columns = taps(across, width, to.0);
    // Only the columns that are asked for; one value more, so that four can be read at the last pixel.
    let (left, right) =
        (columns.iter().map(|taps| taps.first).min().unwrap_or(0), columns.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0));
    let mut line = vec![0f32; 3 * (right - left) + 1];
    let mut sums = vec![0f32; 3 * to.0];
    let mut scaled = Vec::with_capacity(to.0 * to.1 * 3);
    for rows in taps(down, height, to.1) {
        line.fill(0.0);
        // Two rows at a time, in the same order of sums as one after the other.
        let row = |i: usize| &rgb[((rows.first + i) * width + left) * 3..][..3 * (right - left)];
        let (pairs, rest) = rows.weights.as_chunks::<2>();
        for (i, weights) in pairs.iter().enumerate() {
            for ((value, &a), &b) in line.iter_mut().zip(row(2 * i)).zip(row(2 * i + 1)) {
                *value = *value + a as f32 * weights[0] + b as f32 * weights[1];
            }
        }
        for &weight in rest {
            for (value, &pixel) in line.iter_mut().zip(row(2 * pairs.len())) {
                *value += pixel as f32 * weight;
            }
        }
        for (taps, out) in columns.iter().zip(sums.chunks_exact_mut(3)) {
            let mut sum = [0f32; 4];
            let from = &line[3 * (taps.first - left)..];
            for (i, &weight) in taps.weights.iter().enumerate() {
                let pixel: &[f32; 4] = from[3 * i..3 * i + 4].try_into().expect("four values");
                for c in 0..4 {
                    sum[c] += pixel[c] * weight;
                }
            }
            out.copy_from_slice(&sum[..3]);
        }
        scaled.extend(sums.iter().map(|&sum| nearest(sum)));
    }
    scaled
}

/// The nearest whole number, halves up: what `round` gives for what is not negative.
fn nearest(value: f32) -> u8 {
    let value = value.clamp(0.0, 255.0);
    let whole = value as i32;
    (whole + (value - whole as f32 >= 0.5) as i32) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{RgbImage, imageops};

    #[test]
    fn it_is_what_image_makes_of_a_copy_of_the_part() {
        let picture = RgbImage::from_fn(61, 47, |x, y| image::Rgb([(x * 37 + y * 11) as u8, (x * x + y) as u8, ((x ^ y) * 5) as u8]));
        for (x, y, w, h) in [(0, 0, 61, 47), (7, 0, 47, 47), (3, 5, 20, 31), (60, 46, 1, 1), (0, 10, 61, 1)] {
            for to in [(8, 8), (48, 48), (20, 31), (1, 1), (61, 9), (100, 90)] {
                if to == (w, h) {
                    continue; // a copy, which nobody asks for here
                }
                let expected = imageops::resize(&imageops::crop_imm(&picture, x, y, w, h).to_image(), to.0, to.1, imageops::FilterType::Triangle);
                let found = scale(picture.as_raw(), 61, Stretch::whole(x, w), Stretch::whole(y, h), (to.0 as usize, to.1 as usize));
                assert!(found == expected.into_raw(), "{w} × {h} at {x}, {y} to {to:?}");
            }
        }
    }

    #[test]
    fn a_part_of_a_pixel_counts_as_much_as_there_is_of_it() {
        // A ramp: shifted by half a pixel, its values are half a step higher.
        let ramp: Vec<u8> = (0..32).flat_map(|x| [x as u8 * 4; 3]).collect();
        let stretch = |start| Stretch { start, length: 16.0 };
        let at = |start: f64| scale(&ramp, 32, stretch(start), Stretch::whole(0, 1), (8, 1))[12] as i32;
        assert_eq!((at(4.5) - at(4.0), at(5.0) - at(4.0)), (2, 4));
    }
}
