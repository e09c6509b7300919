//! Meadow: generated pictures, sounds and captions of animals, written as an ordinary data folder.
//!
//! - pictures: `images/*.png`, 48 × 48 RGB; sounds: `audio/*.wav`, half a second, 16 kHz, mono, 16 bit;
//! - `metadata.jsonl`: `{"file_name", "audio", "text", "split"}` as [`super::folder`] reads it;
//! - `meadow.json`: the seed and the sizes it was made with, and the attributes that its captions are made of.
//!
//! The split `train` leaves out 6 of 36 species–colour pairs and 4 of 24 pose–action pairs (see [`words::Attributes`]); about
//! 15 % of its samples have only a picture, 15 % only a sound. Four test splits, whose samples all have both: `iid` (pairs as
//! in training), `held_out_colour` and `held_out_action` (one of the two pairs was never trained), `held_out_both` (neither
//! was; its first sample is the headline sentence).
//!
//! One in [`senses::EVERY`] samples of `train` is a self-description instead, in words alone: "what can you sense?", "words,
//! pictures and sounds"; made from what the samples around it really have ([`senses`]).
//!
//! The same seed gives the same bytes on every machine: the raster and the sounds are made of integers, sines come from
//! `libm`, and sample i of a split draws its own stream of ChaCha8 random numbers.

mod animal;
mod random;
mod raster;
mod scene;
pub mod senses;
mod voice;
pub mod words;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

pub use senses::Senses;
pub use words::{ATTRIBUTE, Attributes, HEADLINE};

use self::random::{Purpose, Random};
use super::folder::METADATA;
use super::parallel::parallel;
use super::picture::Picture;
use super::sample::Sample;
use trimodal_base::read::contents;
use trimodal_base::{Error, Result};

/// Width and height of Meadow's pictures.
pub const PICTURE: usize = raster::SIDE;
/// Samples per second of Meadow's sounds.
pub const SAMPLE_RATE: u32 = voice::RATE;
/// Samples of each of Meadow's sounds.
pub const SAMPLES: usize = voice::SAMPLES;

/// The splits, `train` first. Their places in this list are part of the random streams: append only.
pub const SPLITS: [&str; 5] = ["train", "iid", "held_out_colour", "held_out_action", "held_out_both"];

/// The file that says that a folder was written by [`write`].
pub(super) const MARKER: &str = "meadow.json";

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeadowOptions {
    /// Samples of the split `train`.
    pub samples: usize,
    /// Samples of each of the four test splits.
    pub test_samples: usize,
    /// The seed.
    pub seed: u64,
    /// Whether there are pictures. Without, every sample has a sound.
    pub pictures: bool,
    /// Whether there are sounds. Without, every sample has a picture.
    pub sounds: bool,
}

impl Default for MeadowOptions {
    fn default() -> Self {
        MeadowOptions { samples: 16_000, test_samples: 400, seed: 1, pictures: true, sounds: true }
    }
}

impl super::Dataset {
    /// Whether its folder was written by [`write`].
    pub fn is_meadow(&self) -> bool {
        let marker = self.dir().join(MARKER);
        let made: serde_json::Value = match (self.kind(), contents(&marker, 1 << 20)) {
            ("table", Ok(marker)) => serde_json::from_slice(&marker).unwrap_or_default(),
            _ => return false,
        };
        made["generator"] == "trimodal meadow"
    }
}

/// One generated sample: what it shows, and which of picture and sound it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is seen and heard.
    pub attributes: Attributes,
    /// Whether there is a picture.
    pub picture: bool,
    /// Whether there is a sound.
    pub sound: bool,
}

impl MeadowOptions {
    /// [`plan`] with what these options leave of it.
    fn plan(&self, split: usize, index: usize) -> Plan {
        let plan = plan(self.seed, split, index);
        Plan { picture: self.pictures && (plan.picture || !self.sounds), sound: self.sounds && (plan.sound || !self.pictures), ..plan }
    }

    /// What the split `train` teaches to perceive: what some of its samples have.
    pub fn senses(&self) -> Senses {
        let drawn = || (0..self.samples).filter(|&i| senses::question(i).is_none()).map(|i| self.plan(0, i));
        Senses { pictures: drawn().any(|plan| plan.picture), sounds: drawn().any(|plan| plan.sound) }
    }
}

/// What sample `index` of a split (an index into [`SPLITS`]) is about.
pub fn plan(seed: u64, split: usize, index: usize) -> Plan {
    if SPLITS[split] == "held_out_both" && index == 0 {
        return Plan { attributes: HEADLINE, picture: true, sound: true };
    }
    let mut random = Random::new(seed, Purpose::Words, split, index);
    let (new_colour, new_action) = [(false, false), (false, false), (true, false), (false, true), (true, true)][split];
    // By rejection: the pairs of a split stay equally likely. A try succeeds with probability 1/36 at the least.
    let attributes = loop {
        let attributes = Attributes {
            species: random.below(words::SPECIES.len()),
            colour: random.below(words::COLOUR.len()),
            texture: random.below(words::TEXTURE.len()),
            pose: random.below(words::POSE.len()),
            place: random.below(words::PLACE.len()),
            action: random.below(words::ACTION.len()),
        };
        if attributes.held_out_colour() == new_colour && attributes.held_out_action() == new_action {
            break attributes;
        }
    };
    let (picture, sound) = match random.below(100) {
        _ if split != 0 => (true, true),
        0..15 => (true, false),
        15..30 => (false, true),
        _ => (true, true),
    };
    Plan { attributes, picture, sound }
}

/// The picture of a sample.
pub fn picture(attributes: &Attributes, seed: u64, split: usize, index: usize) -> Picture {
    let rgb = scene::render(attributes, &mut Random::new(seed, Purpose::Picture, split, index));
    Picture { width: PICTURE, height: PICTURE, rgb }
}

/// The sound of a sample: [`SAMPLES`] samples at [`SAMPLE_RATE`].
pub fn sound(attributes: &Attributes, seed: u64, split: usize, index: usize) -> Vec<i16> {
    voice::render(attributes.action, &mut Random::new(seed, Purpose::Sound, split, index))
}

/// A sample as the loaders would read it from its files; split and index choose position, size, pitch and noise.
pub fn sample(plan: &Plan, seed: u64, split: usize, index: usize) -> Sample {
    let Plan { attributes, picture: seen, sound: heard } = plan;
    Sample {
        name: format!("{}-{index:06}", SPLITS[split]),
        origin: format!("Meadow, {} {index}", SPLITS[split]),
        picture: seen.then(|| picture(attributes, seed, split, index)),
        alpha: None,
        sound: heard.then(|| sound(attributes, seed, split, index).iter().map(|v| *v as f32 / 32768.0).collect()),
        text: attributes.caption(*seen, *heard),
        prompt: None,
        split: Some(SPLITS[split].to_string()),
    }
}

/// A [`sample`] of these attributes with picture and sound. `example(&HEADLINE, seed, 0)` is the first sample of `held_out_both`.
pub fn example(attributes: &Attributes, seed: u64, index: usize) -> Sample {
    sample(&Plan { attributes: *attributes, picture: true, sound: true }, seed, SPLITS.len() - 1, index)
}

/// Writes the data set into `dir`, which is made if it is missing.
///
/// `metadata.jsonl` comes last and whole: a folder without it is not a data set, so a crash never leaves half of one. A folder
/// that an earlier call wrote is written again. `progress(done, total)` is called about ten times a second and may stop the
/// work.
///
/// # Errors
/// [`Error::Usage`] for neither pictures nor sounds; a folder with a `metadata.jsonl` of someone else's, a disk that is full or
/// read-only, and [`Error::Interrupted`].
pub fn write(dir: &Path, options: &MeadowOptions, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<()> {
    if !options.pictures && !options.sounds {
        return Err(Error::Usage("a data set without pictures and without sounds has nothing to describe: leave out at most one of them".into()));
    }
    let table = dir.join(METADATA);
    let marker = dir.join(MARKER);
    if table.exists() && !marker.exists() {
        return Err(Error::file(&table, "this data set was not written by `trimodal meadow` and is left alone; choose another folder"));
    }
    for folder in ["images", "audio"] {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    }
    if table.exists() {
        std::fs::remove_file(&table).map_err(Error::io(&table, "remove"))?;
    }
    let made = serde_json::json!({
        "generator": "trimodal meadow", "version": 2, "seed": options.seed, "samples": options.samples, "test_samples": options.test_samples,
        "pictures": options.pictures, "sounds": options.sounds, "attributes": ATTRIBUTE.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
    });
    std::fs::write(&marker, format!("{made}\n")).map_err(Error::io(&marker, "write"))?;

    let total = options.samples + 4 * options.test_samples;
    let place = |i: usize| match i.checked_sub(options.samples) {
        None => (0, i),
        Some(test) => (1 + test / options.test_samples, test % options.test_samples),
    };
    let perceived = options.senses();
    let lines = parallel(
        total,
        |i| {
            let (split, index) = place(i);
            let mut line = serde_json::Map::new();
            if let Some(question) = senses::question(index).filter(|_| split == 0) {
                line.insert("prompt".into(), senses::QUESTIONS[question].into());
                line.insert("text".into(), perceived.answer(question).into());
                line.insert("split".into(), SPLITS[split].into());
                return Ok(serde_json::Value::Object(line).to_string());
            }
            let Plan { attributes, picture: seen, sound: heard } = options.plan(split, index);
            if seen {
                let name = format!("images/{}-{index:06}.png", SPLITS[split]);
                let path = dir.join(&name);
                std::fs::write(&path, png(&picture(&attributes, options.seed, split, index))?).map_err(Error::io(&path, "write"))?;
                line.insert("file_name".into(), name.into());
            }
            if heard {
                let name = format!("audio/{}-{index:06}.wav", SPLITS[split]);
                let path = dir.join(&name);
                std::fs::write(&path, wav(&sound(&attributes, options.seed, split, index))?).map_err(Error::io(&path, "write"))?;
                line.insert("audio".into(), name.into());
            }
            line.insert("text".into(), attributes.caption(seen, heard).into());
            line.insert("split".into(), SPLITS[split].into());
            Ok(serde_json::Value::Object(line).to_string())
        },
        progress,
    )?;
    let mut text = lines.join("\n");
    text.push('\n');
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(Error::io(dir, "write into"))?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(Error::io(&table, "write"))?;
    readable(file.as_file());
    file.persist(&table).map_err(|error| Error::io(&table, "write")(error.error))?;
    Ok(())
}

/// Temporary files are private; a data set is not.
fn readable(file: &std::fs::File) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Where this fails (a file system without permissions) the table is readable by its owner, which suffices.
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o644));
    }
    let _ = file;
}

/// A PNG file of a picture.
///
/// # Errors
/// None in practice: the sizes fit, and writing to memory does not fail.
pub fn png(picture: &Picture) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(8192);
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub)
        .write_image(&picture.rgb, picture.width as u32, picture.height as u32, ExtendedColorType::Rgb8)
        .map_err(|error| Error::Usage(format!("cannot encode a PNG: {error}")))?;
    Ok(bytes)
}

/// A 16 kHz mono 16-bit WAV file of a sound.
///
/// # Errors
/// None in practice: a clip is far below 4 GiB.
pub fn wav(sound: &[i16]) -> Result<Vec<u8>> {
    super::sound::wav(sound, SAMPLE_RATE)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn splits_hold_out_what_they_say() {
        let mut both = HashSet::new();
        for (split, name) in SPLITS.iter().enumerate() {
            let (mut pictures, mut sounds) = (0, 0);
            for index in 0..4000 {
                let Plan { attributes: a, picture, sound } = plan(7, split, index);
                let expected = match *name {
                    "train" | "iid" => (false, false),
                    "held_out_colour" => (true, false),
                    "held_out_action" => (false, true),
                    _ => (true, true),
                };
                assert_eq!((a.held_out_colour(), a.held_out_action()), expected, "{name} {index}: {a:?}");
                pictures += picture as usize;
                sounds += sound as usize;
                assert!(picture || sound);
                if split == 4 {
                    both.insert(a);
                }
            }
            let all = if split == 0 { 3300..3500 } else { 4000..4001 };
            assert!(all.contains(&pictures) && all.contains(&sounds), "{name}: {pictures} pictures, {sounds} sounds");
        }
        // 6 colour–species pairs, 4 pose–action pairs, 3 textures, 3 places.
        assert_eq!(both.len(), 216);
        assert_eq!(plan(1, 4, 0).attributes, HEADLINE);
    }

    #[test]
    fn training_pairs_are_complete_but_for_the_held_out() {
        let (mut colour, mut action) = (HashSet::new(), HashSet::new());
        for index in 0..4000 {
            let a = plan(3, 0, index).attributes;
            colour.insert((a.species, a.colour));
            action.insert((a.pose, a.action));
        }
        assert_eq!((colour.len(), action.len()), (30, 20));
    }
}
