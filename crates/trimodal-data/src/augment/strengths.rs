//! How much is varied: every strength there is, with what `light` and `strong` mean, in one table.

use serde::{Deserialize, Serialize};

/// A named strength of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is varied.
    #[default]
    Off,
    /// A little: for most data.
    Light,
    /// About twice that: for few samples and long runs.
    Strong,
}

impl Level {
    /// As settings name it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Light => "light",
            Level::Strong => "strong",
        }
    }
}

/// What the table says of a strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// At [`Level::Light`].
    pub light: f64,
    /// At [`Level::Strong`].
    pub strong: f64,
    /// The largest that makes sense: beyond it, what is shown is not the sample any more.
    pub most: f64,
    /// What more than that would do.
    pub beyond: &'static str,
}

macro_rules! table {
    ($($name:ident, $light:literal, $strong:literal, $most:literal, $beyond:literal, $about:literal;)*) => {
        /// How much of each is varied; 0 for nothing.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct Strengths {
            $(#[doc = $about] pub $name: f64,)*
        }

        /// Strengths that are given one by one; `None` for what the level says.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Overrides {
            $(#[doc = $about] pub $name: Option<f64>,)*
        }

        /// Every strength.
        pub const TABLE: &[Row] = &[$(Row { name: stringify!($name), about: $about, light: $light, strong: $strong, most: $most, beyond: $beyond },)*];

        /// The names of the strengths, each with what it does.
        pub const KEYS: &[(&str, &str)] = &[$((stringify!($name), $about),)*];

        impl Strengths {
            /// What a level means, but for what is given one by one.
            pub fn new(level: Level, given: &Overrides) -> Self {
                let of = |light, strong| match level {
                    Level::Off => 0.0,
                    Level::Light => light,
                    Level::Strong => strong,
                };
                Strengths { $($name: given.$name.unwrap_or(of($light, $strong)),)* }
            }

            /// In the order of [`TABLE`].
            pub fn values(&self) -> Vec<f64> {
                vec![$(self.$name,)*]
            }
        }
    };
}

// Magnitudes are ±, drawn evenly; a factor is exp of that. They decide every run's bits: a change of the table is a change of all runs.
table! {
    // name, light, strong, the most, what more would do, what it is
    shift, 0.075, 0.15, 0.5, "the middle of the picture could leave the frame", "A picture is moved by up to this share of its side, across and down.";
    scale, 0.11, 0.22, 1.0, "almost nothing of the picture could be seen", "A picture is enlarged or reduced by a factor of up to exp(±this).";
    aspect, 0.06, 0.12, 0.7, "the picture could be twice as wide as it is", "A picture is made wider or narrower: width over height by a factor of up to exp(±this).";
    rotation, 0.11, 0.22, 3.15, "it could turn more than all the way around", "A picture is turned by up to this angle, in radians, to either side.";
    crop, 0.0, 0.0, 0.6, "a sixth of the picture or less could be left", "A part is shown alone, enlarged: up to this share of the side is left out, anywhere.";
    flip, 0.5, 0.5, 1.0, "it is a share", "Share of the visits at which a picture is mirrored, unless its caption or prompt names a side (data.side_words).";
    background, 0.5, 0.5, 1.0, "it is a share", "Share of the visits at which a transparent picture lies on a random colour instead of white.";
    brightness, 0.1, 0.2, 0.5, "the picture could become black or white", "A picture becomes lighter or darker by up to this share of the way from black to white.";
    contrast, 0.18, 0.36, 1.0, "little of the picture would stay between black and white", "Its contrast changes by a factor of up to exp(±this), about the middle grey.";
    saturation, 0.3, 0.6, 1.5, "most colours would be cut off", "Its colours become paler or richer by a factor of up to exp(±this).";
    hue, 0.18, 0.36, 3.15, "hues could turn more than all the way around", "Its hues are turned by up to this angle, in radians; grey stays grey.";
    grey, 0.0, 0.1, 1.0, "it is a share", "Share of the visits at which a picture is grey.";
    erase, 0.2, 0.4, 1.0, "it is a share", "Share of the visits at which a rectangle of a picture is covered with a random colour.";
    erase_size, 0.4, 0.5, 0.7, "more than half of the picture could be erased", "The longest side of that rectangle, as a share of the picture's; the shortest is three eighths of it.";
    sound_shift, 0.1, 0.2, 0.5, "most of the sound could leave the clip", "A sound begins earlier or later by up to this share of the clip; silence comes in, and what leaves the clip is lost.";
    gain, 6.0, 12.0, 40.0, "the sound could be lost in rounding", "A sound is louder or softer by up to this many decibels.";
    noise, 0.032, 0.064, 1.0, "there could be more noise than sound", "At half of the visits white noise is added, of up to this share of the sound's own level (its root mean square).";
    tempo, 0.1, 0.2, 0.7, "the sound could be twice as fast as it is", "A sound is slower or faster, and so lower or higher, by a factor of up to exp(±this).";
    time_mask, 0.1, 0.2, 0.5, "most of the sound could be masked", "One stretch of mel frames of up to this share of the clip is levelled to their mean (SpecAugment).";
    frequency_mask, 0.15, 0.3, 0.5, "most of the sound could be masked", "One stretch of mel bands of up to this share of all is levelled to the mean (SpecAugment).";
}

/// At the strongest, this much of a picture's area has to be left.
const LEFT: f64 = 0.1;

impl Strengths {
    /// Whether anything is varied at all.
    pub fn any(&self) -> bool {
        self.pictures() || self.frames() || self.masks()
    }

    /// Whether pictures are varied.
    pub fn pictures(&self) -> bool {
        let s = self;
        s.moves() || s.background > 0.0 || s.brightness > 0.0 || s.contrast > 0.0 || s.saturation > 0.0 || s.hue > 0.0 || s.grey > 0.0 || s.erases()
    }

    /// Whether pixels of pictures come from elsewhere.
    pub(crate) fn moves(&self) -> bool {
        [self.shift, self.scale, self.aspect, self.rotation, self.crop, self.flip].iter().any(|strength| *strength > 0.0)
    }

    /// Whether parts of pictures are covered.
    fn erases(&self) -> bool {
        self.erase > 0.0 && self.erase_size > 0.0
    }

    /// Whether waveforms are varied, so that their frames have to be computed at each visit.
    pub fn frames(&self) -> bool {
        [self.sound_shift, self.gain, self.noise, self.tempo].iter().any(|strength| *strength > 0.0)
    }

    /// Whether mel frames are masked.
    pub fn masks(&self) -> bool {
        self.time_mask > 0.0 || self.frequency_mask > 0.0
    }

    /// Checks that each is a number that makes sense, and that together they leave something of a picture.
    ///
    /// # Errors
    /// A sentence that names the strength, what was expected, what was found, and why.
    pub fn check(&self) -> Result<(), String> {
        for (row, value) in TABLE.iter().zip(self.values()) {
            if !(0.0..=row.most).contains(&value) {
                let why = if value > row.most { format!(" (with more, {})", row.beyond) } else { String::new() };
                return Err(format!("{}: expected 0 to {}{why}, found {value}", row.name, row.most));
            }
        }
        let rectangle = if self.erases() { self.erase_size } else { 0.0 };
        let left = (1.0 - self.shift).powi(2) * (1.0 - self.crop).powi(2) * libm::exp(-2.0 * self.scale) * (1.0 - rectangle * rectangle);
        if left < LEFT {
            return Err(format!(
                "shift {}, scale {}, crop {} and erase_size {rectangle} together could leave {:.1} % of a picture, and {:.0} % is the least: lower one of them",
                self.shift,
                self.scale,
                self.crop,
                100.0 * left,
                100.0 * LEFT
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_make_sense_and_strong_is_more() {
        for level in [Level::Off, Level::Light, Level::Strong] {
            Strengths::new(level, &Overrides::default()).check().unwrap();
        }
        assert!(TABLE.iter().all(|row| row.light <= row.strong && row.strong <= row.most));
        assert_eq!(Strengths::new(Level::Off, &Overrides::default()), Strengths::default());
        assert!(!Strengths::default().any());
        let one = Strengths::new(Level::Light, &Overrides { hue: Some(0.0), grey: Some(1.0), ..Overrides::default() });
        assert_eq!((one.hue, one.grey, one.shift), (0.0, 1.0, 0.075));
    }

    #[test]
    fn what_would_erase_the_picture_or_is_no_number_is_refused_with_a_sentence() {
        let check = |given: Overrides| Strengths::new(Level::Light, &given).check().unwrap_err();
        let all = check(Overrides { erase_size: Some(1.0), ..Overrides::default() });
        assert_eq!(all, "erase_size: expected 0 to 0.7 (with more, more than half of the picture could be erased), found 1");
        let together = check(Overrides { shift: Some(0.5), crop: Some(0.5), scale: Some(0.5), ..Overrides::default() });
        assert!(together.starts_with("shift 0.5, scale 0.5, crop 0.5 and erase_size 0.4 together could leave 1.9 % of a picture"), "{together}");
        for nonsense in [f64::NAN, -0.1, f64::INFINITY] {
            let what = check(Overrides { tempo: Some(nonsense), ..Overrides::default() });
            assert!(what.starts_with("tempo: expected 0 to 0.7") && what.ends_with(&format!("found {nonsense}")), "{what}");
        }
        // Nothing is erased at no visit, however large it would be.
        Strengths::new(Level::Off, &Overrides { erase_size: Some(0.7), ..Overrides::default() }).check().unwrap();
    }
}
