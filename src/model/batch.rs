//! What the model is fed: samples, packed into one token matrix without padding.

use super::activation_options::ActivationOptions;
use super::config::{Config, VisionConfig};
use super::met::Met;
use crate::error::{Error, Result};

/// Where one row of the token matrix comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenRow {
    /// A token; `learned` if predicting it counts in the loss.
    Token {
        /// What is fed. May be a placeholder for the true word.
        id: u32,
        /// What the row before should predict.
        truth: u32,
        /// Whether that prediction counts.
        learned: bool,
    },
    /// The next patch of the sample's picture.
    Patch,
    /// The sample's picture as a whole, behind its patches: where the model has a stem, or counts what it sees.
    Whole,
    /// The next frame of the sample's sound.
    Frame,
}

/// The rows of one picture, in order.
pub fn picture_rows(vision: &VisionConfig) -> impl Iterator<Item = TokenRow> {
    std::iter::repeat_n(TokenRow::Patch, vision.patches()).chain(vision.has_whole_row().then_some(TokenRow::Whole))
}

/// The rows that are shown there: one for each place, or the one of all of them.
pub fn shown_row(vision: &VisionConfig) -> TokenRow {
    if vision.patches() == 0 { TokenRow::Whole } else { TokenRow::Patch }
}

/// One sample, ready for packing: `<bos> <boi> patches… <eoi> <boa> frames… <eoa> text… <eos>`.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// The sample's name in its data set, for messages.
    pub name: String,
    /// The rows in order. Patches are consecutive, and so are frames.
    pub rows: Vec<TokenRow>,
    /// The picture, if there are patches: `[image_size, image_size, 3]`.
    pub pixels: Option<Vec<u8>>,
    /// The mel frames, if there are frames: `[frames, mels]`.
    pub mel: Option<Vec<f32>>,
    /// Where later rows are cut off from earlier ones; `None` for nowhere.
    pub cut: Option<Cut>,
}

/// The rows of a sample from `at` on see nothing before row `from`: a question about words that must be answered from the words.
/// The rows between the two still see everything before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The first row that is cut off.
    pub at: usize,
    /// The first row that it sees; at most `at`.
    pub from: usize,
}

/// A packed batch on the host. `N` rows, `M` rows whose prediction counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `[N]`: the row's token; the placeholder id in embedded rows.
    pub token_id: Vec<i32>,
    /// `[N]`: as `token_id`, with −1 in embedded rows: the ids to look up in the embedding table.
    pub embed_id: Vec<i32>,
    /// `[N]`: restarts at 0 with every sample.
    pub position: Vec<i32>,
    /// `[N, 2]`: the rows that row i may look at.
    pub visible: Vec<[i32; 2]>,
    /// `[N, 2]`: the rows that may look at row i.
    pub visible_by: Vec<[i32; 2]>,
    /// `[N]`: the next token's id where it counts, else −1.
    pub target: Vec<i32>,
    /// `[M]`: the rows whose logits are computed: those with a target, or all of them.
    pub logit_row: Vec<i32>,
    /// `[M]`: their targets.
    pub logit_target: Vec<i32>,
    /// `[images, H, W, 3]`
    pub pixels: Vec<u8>,
    /// `[images · patches]`
    pub patch_row: Vec<i32>,
    /// `[images]`: the rows of pictures as a whole; empty in a model that has none.
    pub whole_row: Vec<i32>,
    /// `[clips, frames, mels]`
    pub mel: Vec<f32>,
    /// `[clips · rows]`
    pub frame_row: Vec<i32>,
    /// Pictures in the batch.
    pub images: usize,
    /// Sounds in the batch.
    pub clips: usize,
    /// Samples in the batch.
    pub samples: usize,
    /// `[samples]`: their names.
    pub names: Vec<String>,
}

/// Placeholder ids for embedded rows.
#[derive(Clone, Copy, Debug)]
pub struct Placeholders {
    /// `<image>`
    pub image: u32,
    /// `<audio>`
    pub audio: u32,
}

/// Packs sequences into batches of at most `budget` rows.
pub struct Packer<'a> {
    /// The model's config.
    pub config: &'a Config,
    /// Rows that a batch may have.
    pub budget: usize,
    /// Ids of embedded rows, for `token_id`.
    pub placeholders: Placeholders,
}

impl Packer<'_> {
    /// Adds a sequence to the batch, or returns `false` where it no longer fits.
    ///
    /// # Errors
    /// [`Error::Usage`] for a sequence that does not fit the model: too long, a placeholder count that differs from the
    /// number of embedded rows, a token outside the vocabulary.
    pub fn add(&self, batch: &mut Batch, sequence: &Sequence) -> Result<bool> {
        let rows = &sequence.rows;
        let start = batch.token_id.len();
        let limit = self.config.max_position_embeddings.min(self.budget);
        if rows.len() > limit {
            return Err(Error::Usage(format!("a sample of {} rows is too long: the model takes {limit} (picture, sound and words together)", rows.len())));
        }
        if start + rows.len() > self.budget {
            return Ok(false);
        }
        let patches = rows.iter().filter(|r| matches!(r, TokenRow::Patch | TokenRow::Whole)).count();
        let frames = rows.iter().filter(|r| **r == TokenRow::Frame).count();
        let (patch_rows, pixel_count) = self.config.vision_config.as_ref().map_or((0, 0), |v| (v.rows(), v.image_size * v.image_size * 3));
        let (frame_rows, mel_count) = self.config.audio_config.as_ref().map_or((0, 0), |a| (a.rows(), a.frames() * a.num_mel_bins));
        let check = |what: &str, placeholders: usize, embedded: usize, given: Option<usize>, values: usize| {
            let expected = if given.is_some() { embedded } else { 0 };
            if placeholders != expected {
                return Err(Error::Usage(format!("{what}: expected {expected} placeholder rows, one for each embedded row, found {placeholders}")));
            }
            match given {
                Some(found) if found != values => Err(Error::Usage(format!("{what}: expected {values} values, found {found}"))),
                _ => Ok(()),
            }
        };
        check("picture", patches, patch_rows, sequence.pixels.as_ref().map(Vec::len), pixel_count)?;
        check("sound", frames, frame_rows, sequence.mel.as_ref().map(Vec::len), mel_count)?;
        if let Some(Cut { at, from }) = sequence.cut
            && (from > at || rows.iter().rposition(|r| !matches!(r, TokenRow::Token { .. })).is_some_and(|last| at <= last))
        {
            return Err(Error::Usage(format!("a cut at row {at} from row {from}: expected one after picture and sound, from a row before it")));
        }
        let vocabulary = self.config.vocab_size as u32;
        if let Some(TokenRow::Token { id, truth, .. }) =
            rows.iter().find(|r| matches!(r, TokenRow::Token { id, truth, .. } if *id >= vocabulary || *truth >= vocabulary))
        {
            return Err(Error::Usage(format!("token {}: the vocabulary has {vocabulary}", id.max(truth))));
        }

        let bidirectional = self.config.vision_config.as_ref().is_some_and(|v| v.bidirectional);
        let first_patch = rows.iter().position(|r| matches!(r, TokenRow::Patch | TokenRow::Whole)).unwrap_or(0);
        let end = start + rows.len();
        for (offset, row) in rows.iter().enumerate() {
            let here = start + offset;
            let (token, embedded) = match row {
                TokenRow::Token { id, .. } => (*id, *id as i32),
                TokenRow::Patch | TokenRow::Whole => (self.placeholders.image, -1),
                TokenRow::Frame => (self.placeholders.audio, -1),
            };
            batch.token_id.push(token as i32);
            batch.embed_id.push(embedded);
            batch.position.push(offset as i32);
            let in_picture = matches!(row, TokenRow::Patch | TokenRow::Whole) && bidirectional;
            let sees_to = if in_picture { start + first_patch + patches } else { here + 1 };
            let seen_from = if in_picture { start + first_patch } else { here };
            let sees_from = sequence.cut.filter(|cut| offset >= cut.at).map_or(start, |cut| start + cut.from);
            let seen_to = sequence.cut.filter(|cut| offset < cut.from).map_or(end, |cut| start + cut.at);
            batch.visible.push([sees_from as i32, sees_to as i32]);
            batch.visible_by.push([seen_from as i32, seen_to as i32]);
            match row {
                TokenRow::Patch => batch.patch_row.push(here as i32),
                TokenRow::Whole => batch.whole_row.push(here as i32),
                TokenRow::Frame => batch.frame_row.push(here as i32),
                TokenRow::Token { .. } => {}
            }
            let target = match rows.get(offset + 1) {
                Some(TokenRow::Token { truth, learned: true, .. }) => *truth as i32,
                _ => -1,
            };
            batch.target.push(target);
            if target >= 0 {
                batch.logit_row.push(here as i32);
                batch.logit_target.push(target);
            }
        }
        if let Some(pixels) = &sequence.pixels {
            batch.pixels.extend_from_slice(pixels);
            batch.images += 1;
        }
        if let Some(mel) = &sequence.mel {
            batch.mel.extend_from_slice(mel);
            batch.clips += 1;
        }
        batch.samples += 1;
        batch.names.push(sequence.name.clone());
        Ok(true)
    }

    /// The whole of these sequences as one batch.
    ///
    /// # Errors
    /// As [`Packer::add`]; [`Error::Usage`] where they do not fit.
    pub fn pack<'s>(&self, sequences: impl IntoIterator<Item = &'s Sequence>) -> Result<Batch> {
        let mut batch = Batch::default();
        for sequence in sequences {
            if !self.add(&mut batch, sequence)? {
                return Err(Error::Usage(format!("the samples need more than the {} rows of a batch", self.budget)));
            }
        }
        Ok(batch)
    }
}

impl Batch {
    /// `N`.
    pub fn rows(&self) -> usize {
        self.token_id.len()
    }

    /// Its samples by what they have.
    pub fn met(&self) -> Met {
        let starts = || self.position.iter().map(|&position| (position == 0) as usize);
        let mut has = vec![(false, false); starts().sum()];
        let mut begun = 0;
        let count = |starts: usize| {
            begun += starts;
            begun
        };
        let sample: Vec<usize> = starts().map(count).collect();
        self.patch_row.iter().chain(&self.whole_row).for_each(|&row| has[sample[row as usize] - 1].0 = true);
        self.frame_row.iter().for_each(|&row| has[sample[row as usize] - 1].1 = true);
        let of = |kind: (bool, bool)| Some(has.iter().filter(|has| **has == kind).count() as u64);
        Met { words: of((false, false)), picture: of((true, false)), sound: of((false, true)), both: of((true, true)) }
    }

    /// Rows that count in the loss.
    pub fn counted(&self) -> usize {
        self.target.iter().filter(|t| **t >= 0).count()
    }

    /// Whether a row sees all that comes before it in its sample: it is not cut off.
    pub(super) fn sees_all(&self, row: usize) -> bool {
        self.visible[row][0] == row as i32 - self.position[row]
    }

    /// The name of the sample that a row belongs to; `None` for a row of the padding, and where the sample has no name.
    pub fn name_of(&self, row: usize) -> Option<&str> {
        let position = self.position.get(..=row)?;
        let sample = position.iter().filter(|p| **p == 0).count().checked_sub(1)?;
        self.names.get(sample).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Computes logits for every row instead of those with a target.
    pub fn all_logits(&mut self) {
        self.logit_row = (0..self.rows() as i32).collect();
        self.logit_target = self.target.clone();
    }
}

/// The largest batch that a step can take: what is allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Rows of the token matrix.
    pub rows: usize,
    /// Rows with logits.
    pub logits: usize,
    /// Rows whose logits exist at a time: the loss and its gradients are computed chunk by chunk.
    pub chunk: usize,
    /// Pictures.
    pub images: usize,
    /// Sounds.
    pub clips: usize,
    /// Samples with a picture or a sound; 0 where nothing is told from these alone. See [`super::told`].
    pub told: usize,
}

/// Logits that a training step holds at a time: 2²⁷ elements, half a gigabyte in f32. Each chunk reads and writes the gradient of
/// the whole output layer once, so that fewer and larger ones are better; a batch whose logits are fewer is one chunk.
const LOGITS: usize = 1 << 27;

/// Rows of a chunk: all of them where their logits are at most [`LOGITS`], else as many whole tiles of 128 rows as fit, one at
/// least.
fn chunk(rows: usize, vocabulary: usize) -> usize {
    if rows.saturating_mul(vocabulary) <= LOGITS { rows } else { (LOGITS / vocabulary / 128 * 128).max(128).min(rows) }
}

impl Capacity {
    /// For batches of up to `budget` rows: as many pictures and sounds as fit with their delimiters.
    pub fn for_budget(config: &Config, budget: usize) -> Self {
        Capacity {
            rows: budget,
            logits: budget,
            chunk: chunk(budget, config.vocab_size),
            images: config.vision_config.as_ref().map_or(0, |v| budget / (v.rows() + 3)),
            clips: config.audio_config.as_ref().map_or(0, |a| budget / (a.rows() + 3)),
            told: 0,
        }
    }

    /// With room for the losses beside the captions' that these options have, or without.
    pub fn telling(self, options: ActivationOptions) -> Self {
        let wanted = options.word_bag > 0.0 || options.contrastive > 0.0;
        Capacity { told: if wanted { self.images.saturating_add(self.clips) } else { 0 }, ..self }
    }

    /// Exactly what one batch needs, with all its logits at once.
    pub fn of(batch: &Batch) -> Self {
        let logits = batch.logit_row.len();
        Capacity { rows: batch.rows(), logits, chunk: logits, images: batch.images, clips: batch.clips, told: 0 }
    }

    /// Rows with logits of each chunk; one without rows where there are none.
    pub(super) fn chunks(&self) -> impl Iterator<Item = usize> {
        let (logits, chunk) = (self.logits, self.chunk.max(1));
        (0..logits.div_ceil(chunk).max(1)).map(move |i| chunk.min(logits - i * chunk))
    }
}

/// What a batch is padded to with rows that do not count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PaddedSize {
    /// Rows of the token matrix. Unused ones see only themselves.
    pub rows: usize,
    /// Rows with logits, as many as there are rows at most. Unused ones have the target −1.
    pub logits: usize,
}

impl PaddedSize {
    /// The batch's own: no padding.
    pub fn of(batch: &Batch) -> Self {
        PaddedSize { rows: batch.rows(), logits: batch.logit_row.len() }
    }

    /// One of a few sizes, so that the batches of a run have few shapes: rows in steps of an eighth of the capacity, rows with
    /// logits in steps of 128.
    pub fn of_few(batch: &Batch, capacity: Capacity) -> Self {
        let rows = batch.rows().next_multiple_of(capacity.rows.div_ceil(8).max(1)).min(capacity.rows.max(batch.rows()));
        let (own, most) = (batch.logit_row.len(), capacity.logits.min(rows));
        PaddedSize { rows, logits: own.next_multiple_of(128).min(most.max(own)) }
    }

    /// The rows with logits and their targets: the batch's, then rows that have none.
    pub(super) fn logits(self, batch: &Batch) -> (Vec<i32>, Vec<i32>) {
        let (mut row, mut target) = (batch.logit_row.clone(), batch.logit_target.clone());
        let mut free = vec![true; self.rows];
        row.iter().for_each(|&r| free[r as usize] = false);
        let more = self.logits - row.len();
        row.extend((0..self.rows).filter(|&r| free[r]).take(more).map(|r| r as i32));
        target.resize(row.len(), -1);
        (row, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_what_fits() {
        assert_eq!(chunk(1920, 450), 1920);
        assert_eq!(chunk(16_384, 50_304), 2560);
        assert_eq!(chunk(65_536, 151_936), 768);
        assert_eq!(chunk(1000, usize::MAX), 128);
        assert_eq!(chunk(5, usize::MAX), 5);
        let capacity = |logits, chunk| Capacity { rows: 0, logits, chunk, images: 0, clips: 0, told: 0 }.chunks().collect::<Vec<_>>();
        assert_eq!(capacity(10, 4), [4, 4, 2]);
        assert_eq!(capacity(8, 8), [8]);
        assert_eq!(capacity(0, 0), [0]);
    }

    #[test]
    fn samples_are_counted_by_what_they_have() {
        // A picture and a sound; a picture as a whole; words; a sound.
        let batch =
            Batch { position: vec![0, 1, 2, 3, 0, 1, 0, 1, 0, 1], patch_row: vec![1], whole_row: vec![5], frame_row: vec![2, 3, 9], ..Batch::default() };
        assert_eq!(batch.met(), Met { words: Some(1), picture: Some(1), sound: Some(1), both: Some(1) });
        assert_eq!(Batch::default().met(), Met::NOTHING);
    }

    #[test]
    fn padding_takes_rows_that_do_not_count() {
        let batch = Batch { token_id: vec![5; 6], logit_row: vec![0, 2, 5], logit_target: vec![7, 8, 9], ..Batch::default() };
        let (row, target) = PaddedSize { rows: 8, logits: 7 }.logits(&batch);
        assert_eq!(row, [0, 2, 5, 1, 3, 4, 6]);
        assert_eq!(target, [7, 8, 9, -1, -1, -1, -1]);
        let capacity = Capacity { rows: 1920, logits: 1920, chunk: 1920, images: 0, clips: 0, told: 0 };
        assert_eq!(PaddedSize::of_few(&batch, capacity), PaddedSize { rows: 240, logits: 128 });
        assert_eq!(PaddedSize::of_few(&batch, Capacity { rows: 7, logits: 5, ..capacity }), PaddedSize { rows: 6, logits: 5 });
    }
}
