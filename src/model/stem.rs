//! What a convolutional stem looks like: written `32, 64/2, 64, 128/2, 128`.
//!
//! The first number is the width of an embedded patch; every further one is a 3 × 3 convolution with that many channels, `/2` for one
//! that halves the picture. `, whole` at the end: the picture becomes one row and no others. Few parameters that are used everywhere, instead of many for each place: what is learned of an ear on the
//! left holds on the right (Xiao et al. 2021, arXiv 2106.14881, put such a stem before the layers of a transformer).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The convolutions between a picture's patches and its rows of the token matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stem {
    /// Channels of an embedded patch.
    pub width: usize,
    /// The convolutions, in order.
    pub convolutions: Vec<StemConvolution>,
    /// Whether each place of what the last one leaves becomes a row, in front of the row of the picture as a whole.
    #[serde(default = "each_place")]
    pub places: bool,
}

fn each_place() -> bool {
    true
}

/// What a stem without rows for its places ends with.
const WHOLE: &str = "whole";

/// One 3 × 3 convolution of a stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StemConvolution {
    /// Channels that come out.
    pub channels: usize,
    /// 1, or 2: a picture of half the side comes out.
    pub stride: usize,
}

impl Stem {
    /// The most convolutions.
    pub const DEEPEST: usize = 64;

    /// Channels that go into convolution `layer`, counted from 0; with the number of convolutions: that leave the last.
    pub fn channels(&self, layer: usize) -> usize {
        layer.checked_sub(1).map_or(self.width, |before| self.convolutions[before].channels)
    }

    /// The side of the picture that goes into convolution `layer`, where `side` patches lie along one side; with the number of
    /// convolutions: that leaves the last.
    pub fn side(&self, side: usize, layer: usize) -> usize {
        self.convolutions[..layer].iter().fold(side, |side, convolution| side.div_ceil(convolution.stride))
    }

    /// Whether what goes into a convolution is added to what comes out: where both have the same shape.
    pub fn has_residual(&self, layer: usize) -> bool {
        self.convolutions[layer].stride == 1 && self.channels(layer) == self.convolutions[layer].channels
    }

    /// The first thing about it that makes no sense, in words.
    pub fn validate(&self) -> Result<(), String> {
        let layers = self.convolutions.len();
        if layers == 0 || layers > Self::DEEPEST {
            return Err(format!("expected 1 to {} convolutions behind the width of a patch, found {layers}", Self::DEEPEST));
        }
        if let Some(width) = (0..=layers).map(|layer| self.channels(layer)).find(|width| !(1..=4096).contains(width)) {
            return Err(format!("expected 1 to 4096 channels, found {width}"));
        }
        match self.convolutions.iter().find(|convolution| !matches!(convolution.stride, 1 | 2)) {
            Some(other) => Err(format!("expected stride 1 or 2, found {}", other.stride)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.width)?;
        for StemConvolution { channels, stride } in &self.convolutions {
            write!(f, ", {channels}")?;
            if *stride != 1 {
                write!(f, "/{stride}")?;
            }
        }
        if self.places { Ok(()) } else { write!(f, ", {WHOLE}") }
    }
}

impl FromStr for Stem {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |part: &str| {
            format!("expected channels such as \"32, 64/2, 64\" (/2: half the side comes out; `{WHOLE}` at the end: one row), found {part:?} in {text:?}")
        };
        let mut parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let places = parts.pop_if(|last| *last == WHOLE).is_none();
        let mut parts = parts.into_iter();
        let first = parts.next().unwrap_or_default();
        let width = first.parse().map_err(|_| bad(first))?;
        let convolution = |part: &str| {
            let (channels, stride) = part.split_once('/').unwrap_or((part, "1"));
            let number = |text: &str| text.trim().parse().map_err(|_| bad(part));
            Ok(StemConvolution { channels: number(channels)?, stride: number(stride)? })
        };
        let stem = Stem { width, convolutions: parts.map(convolution).collect::<Result<_, String>>()?, places };
        stem.validate()?;
        Ok(stem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read() {
        let text = "32, 32, 64/2, 64, 128/2";
        let stem: Stem = text.parse().unwrap();
        assert_eq!(stem.to_string(), text);
        assert_eq!("32,32 ,64/2,64/1,  128/2".parse::<Stem>().unwrap(), stem);
        let whole: Stem = format!("{text}, whole").parse().unwrap();
        assert_eq!((whole.places, whole.to_string()), (false, format!("{text}, whole")));
        assert_eq!(Stem { places: true, ..whole }, stem);
        assert_eq!((0..=4).map(|layer| stem.channels(layer)).collect::<Vec<_>>(), [32, 32, 64, 64, 128]);
        assert_eq!((0..=4).map(|layer| stem.side(25, layer)).collect::<Vec<_>>(), [25, 25, 13, 13, 7]);
        assert_eq!((0..4).map(|layer| stem.has_residual(layer)).collect::<Vec<_>>(), [true, false, true, false]);
    }

    #[test]
    fn nonsense_is_named() {
        for (text, what) in
            [("", "found \"\""), ("32", "1 to 64 convolutions"), ("32, 64/3", "stride 1 or 2, found 3"), ("32, 0", "found 0"), ("32, x", "found \"x\"")]
        {
            assert!(text.parse::<Stem>().unwrap_err().contains(what), "{text}");
        }
    }
}
