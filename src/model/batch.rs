//! What the model is fed: samples, packed into one token matrix without padding.

use super::config::Config;
use crate::error::{Error, Result};
use crate::ops::embedding;
use crate::tensor::{DType, Tensor};

/// Where one row of the token matrix comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
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
    /// The next frame of the sample's sound.
    Frame,
}

/// One sample, ready for packing: `<bos> <boi> patches… <eoi> <boa> frames… <eoa> text… <eos>`.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// The rows in order. Patches are consecutive, and so are frames.
    pub rows: Vec<Row>,
    /// The picture, if there are patches: `[image_size, image_size, 3]`.
    pub pixels: Option<Vec<u8>>,
    /// The mel frames, if there are frames: `[frames, mels]`.
    pub mel: Option<Vec<f32>>,
}

/// A packed batch on the host. `N` rows, `M` rows whose prediction counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `[N]`: the row's token; the placeholder id in embedded rows.
    pub token_id: Vec<i32>,
    /// `[N]`: as `token_id`, with −1 in embedded rows: what the embedding table is asked for.
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
        let patches = rows.iter().filter(|r| **r == Row::Patch).count();
        let frames = rows.iter().filter(|r| **r == Row::Frame).count();
        let (patch_rows, pixel_count) = self.config.vision_config.as_ref().map_or((0, 0), |v| (v.patches(), v.image_size * v.image_size * 3));
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
        let vocabulary = self.config.vocab_size as u32;
        if let Some(Row::Token { id, truth, .. }) = rows.iter().find(|r| matches!(r, Row::Token { id, truth, .. } if *id >= vocabulary || *truth >= vocabulary))
        {
            return Err(Error::Usage(format!("token {}: the vocabulary has {vocabulary}", id.max(truth))));
        }

        let bidirectional = self.config.vision_config.as_ref().is_some_and(|v| v.bidirectional);
        let first_patch = rows.iter().position(|r| *r == Row::Patch).unwrap_or(0);
        let end = start + rows.len();
        for (offset, row) in rows.iter().enumerate() {
            let here = start + offset;
            let (token, embedded) = match row {
                Row::Token { id, .. } => (*id, *id as i32),
                Row::Patch => (self.placeholders.image, -1),
                Row::Frame => (self.placeholders.audio, -1),
            };
            batch.token_id.push(token as i32);
            batch.embed_id.push(embedded);
            batch.position.push(offset as i32);
            let in_picture = *row == Row::Patch && bidirectional;
            let sees_to = if in_picture { start + first_patch + patches } else { here + 1 };
            let seen_from = if in_picture { start + first_patch } else { here };
            batch.visible.push([start as i32, sees_to as i32]);
            batch.visible_by.push([seen_from as i32, end as i32]);
            match row {
                Row::Patch => batch.patch_row.push(here as i32),
                Row::Frame => batch.frame_row.push(here as i32),
                Row::Token { .. } => {}
            }
            let target = match rows.get(offset + 1) {
                Some(Row::Token { truth, learned: true, .. }) => *truth as i32,
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

    /// Rows that count in the loss.
    pub fn counted(&self) -> usize {
        self.target.iter().filter(|t| **t >= 0).count()
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
    /// Pictures.
    pub images: usize,
    /// Sounds.
    pub clips: usize,
}

impl Capacity {
    /// For batches of up to `budget` rows: as many pictures and sounds as fit with their delimiters.
    pub fn for_budget(config: &Config, budget: usize) -> Self {
        Capacity {
            rows: budget,
            logits: budget,
            images: config.vision_config.as_ref().map_or(0, |v| budget / (v.patches() + 3)),
            clips: config.audio_config.as_ref().map_or(0, |a| budget / (a.rows() + 3)),
        }
    }

    /// Exactly what one batch needs.
    pub fn of(batch: &Batch) -> Self {
        Capacity { rows: batch.rows(), logits: batch.logit_row.len(), images: batch.images, clips: batch.clips }
    }
}

/// A batch's inputs on the device, allocated once.
pub struct Inputs<T = Tensor> {
    pub(crate) embed_id: T,
    pub(crate) position: T,
    pub(crate) visible: T,
    pub(crate) visible_by: T,
    pub(crate) sorted_row: T,
    pub(crate) sorted_start: T,
    pub(crate) logit_row: T,
    pub(crate) logit_target: T,
    pub(crate) pixels: T,
    pub(crate) patch_row: T,
    pub(crate) mel: T,
    pub(crate) frame_row: T,
    /// 0, 1, 2, …: for moving rows.
    pub(crate) iota: T,
    /// Rows that count, for the mean.
    pub(crate) counted: usize,
}

impl<T> Inputs<T> {
    /// Builds the listing: `make(shape, dtype)` once per tensor.
    pub fn build(config: &Config, capacity: Capacity, real: DType, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let Capacity { rows, logits, images, clips } = capacity;
        let (side, patches) = config.vision_config.as_ref().map_or((0, 0), |v| (v.image_size, v.patches()));
        let (frames, mels, frame_rows) = config.audio_config.as_ref().map_or((0, 0, 0), |a| (a.frames(), a.num_mel_bins, a.rows()));
        Ok(Inputs {
            embed_id: make(&[rows], DType::I32)?,
            position: make(&[rows], DType::I32)?,
            visible: make(&[rows, 2], DType::I32)?,
            visible_by: make(&[rows, 2], DType::I32)?,
            sorted_row: make(&[rows], DType::I32)?,
            sorted_start: make(&[config.vocab_size + 1], DType::I32)?,
            logit_row: make(&[logits], DType::I32)?,
            logit_target: make(&[logits], DType::I32)?,
            pixels: make(&[images, side, side, 3], DType::U8)?,
            patch_row: make(&[images * patches], DType::I32)?,
            mel: make(&[clips, frames, mels], real)?,
            frame_row: make(&[clips * frame_rows], DType::I32)?,
            iota: make(&[rows.max(logits).max(clips * frame_rows)], DType::I32)?,
            counted: 0,
        })
    }
}

impl Inputs {
    /// Writes what is the same for every batch: once, after the tensors were made.
    pub(crate) fn number_rows(&mut self) -> Result<()> {
        let iota: Vec<i32> = (0..self.iota.len() as i32).collect();
        self.iota.write(&iota)
    }

    /// Uploads a batch. `ahead`: beside whatever the device is doing, which must not use these inputs.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where it has more rows, pictures or sounds than were allocated.
    pub fn load(&mut self, config: &Config, batch: &Batch, ahead: bool) -> Result<()> {
        fn write<T: crate::tensor::Element>(tensor: &mut Tensor, data: &[T], ahead: bool) -> Result<()> {
            if ahead { tensor.write_ahead(data) } else { tensor.write(data) }
        }
        let put = |tensor: &mut Tensor, rows: usize, data: &[i32]| {
            tensor.set_rows(rows)?;
            write(tensor, data, ahead)
        };
        let n = batch.rows();
        put(&mut self.embed_id, n, &batch.embed_id)?;
        put(&mut self.position, n, &batch.position)?;
        put(&mut self.visible, n, batch.visible.as_flattened())?;
        put(&mut self.visible_by, n, batch.visible_by.as_flattened())?;
        let rows: Vec<i32> = (0..n as i32).collect();
        let (sorted_row, sorted_start) = embedding::plan(&batch.embed_id, &rows, config.vocab_size);
        put(&mut self.sorted_row, n, &sorted_row)?;
        write(&mut self.sorted_start, &sorted_start, ahead)?;
        put(&mut self.logit_row, batch.logit_row.len(), &batch.logit_row)?;
        put(&mut self.logit_target, batch.logit_target.len(), &batch.logit_target)?;
        self.pixels.set_rows(batch.images)?;
        write(&mut self.pixels, &batch.pixels, ahead)?;
        put(&mut self.patch_row, batch.patch_row.len(), &batch.patch_row)?;
        self.mel.set_rows(batch.clips)?;
        match self.mel.dtype() {
            DType::F64 => write(&mut self.mel, &batch.mel.iter().map(|&x| x as f64).collect::<Vec<_>>(), ahead)?,
            DType::Bf16 => write(&mut self.mel, &batch.mel.iter().map(|&x| half::bf16::from_f32(x)).collect::<Vec<_>>(), ahead)?,
            _ => write(&mut self.mel, &batch.mel, ahead)?,
        }
        put(&mut self.frame_row, batch.frame_row.len(), &batch.frame_row)?;
        self.counted = batch.counted();
        Ok(())
    }
}
