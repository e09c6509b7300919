//! A batch on the device.

use super::activation_options::ActivationOptions;
use super::batch::{Batch, Capacity, PaddedSize};
use super::config::Config;
use super::last_rows::{LastRows, LastRowsOf};
use super::told::ToldInputs;
use super::upload::{write, write_real};
use crate::error::Result;
use crate::ops::embedding;
use crate::tensor::{DType, Tensor};

/// Rows that get logits together.
pub struct Chunk<T = Tensor> {
    /// `[C]`: the rows, as they are counted among those of the last layer.
    pub(crate) row: T,
    /// `[C]`: their targets.
    pub(crate) target: T,
}

/// A batch's inputs on the device, allocated once.
pub struct Inputs<T = Tensor> {
    pub(crate) embed_id: T,
    pub(crate) position: T,
    pub(crate) visible: T,
    pub(crate) visible_by: T,
    pub(crate) sorted_row: T,
    pub(crate) sorted_start: T,
    /// The rows that the last layer computes whole.
    pub(crate) last: LastRows<T>,
    /// Whether these are all rows.
    every_row: bool,
    /// The rows with logits, in order.
    pub(crate) chunks: Vec<Chunk<T>>,
    pub(crate) pixels: T,
    pub(crate) patch_row: T,
    /// Where the model has a row for the picture as a whole.
    pub(crate) whole_row: Option<T>,
    pub(crate) mel: T,
    pub(crate) frame_row: T,
    /// 0, 1, 2, …: for moving rows.
    pub(crate) iota: T,
    /// `[1]`: 1 / the rows that count, for the mean.
    pub(crate) weight: T,
    /// Where training has losses beside the captions'.
    pub(crate) told: Option<ToldInputs<T>>,
}

impl<T> Inputs<T> {
    /// Builds the listing: `make(shape, dtype)` once per tensor.
    pub fn build(config: &Config, capacity: Capacity, options: ActivationOptions, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let Capacity { rows, chunk, images, clips, .. } = capacity;
        let ActivationOptions { activation: real, every_row, .. } = options;
        let (side, patches, embedded) = config.vision_config.as_ref().map_or((0, 0, 0), |v| (v.image_size, v.patches(), v.patch_grid().pow(2)));
        let (frames, mels, frame_rows) = config.audio_config.as_ref().map_or((0, 0, 0), |a| (a.frames(), a.num_mel_bins, a.rows()));
        Ok(Inputs {
            embed_id: make(&[rows], DType::I32)?,
            position: make(&[rows], DType::I32)?,
            visible: make(&[rows, 2], DType::I32)?,
            visible_by: make(&[rows, 2], DType::I32)?,
            sorted_row: make(&[rows], DType::I32)?,
            sorted_start: make(&[config.vocab_size + 1], DType::I32)?,
            last: LastRows::build(capacity, every_row, make)?,
            every_row,
            chunks: capacity.chunks().map(|rows| Ok(Chunk { row: make(&[rows], DType::I32)?, target: make(&[rows], DType::I32)? })).collect::<Result<_>>()?,
            pixels: make(&[images, side, side, 3], DType::U8)?,
            patch_row: make(&[images.saturating_mul(patches)], DType::I32)?,
            whole_row: if config.has_whole_row() { Some(make(&[images], DType::I32)?) } else { None },
            mel: make(&[clips, frames, mels], real)?,
            frame_row: make(&[clips.saturating_mul(frame_rows)], DType::I32)?,
            iota: make(&[rows.max(chunk).max(clips.saturating_mul(frame_rows)).max(images.saturating_mul(embedded))], DType::I32)?,
            weight: make(&[1], crate::ops::statistic(real))?,
            told: ToldInputs::build(capacity, options, make)?,
        })
    }
}

impl Inputs {
    /// Writes what is the same for every batch: once, after the tensors were made.
    pub(crate) fn number_rows(&mut self) -> Result<()> {
        let iota: Vec<i32> = (0..self.iota.len() as i32).collect();
        self.iota.write(&iota)
    }

    /// Uploads a batch, padded to this size. `counted`: rows that count in the loss, of this batch and of those whose gradients are
    /// added to its own. `ahead`: while the device computes something else, which must not use these inputs.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where it has more rows, pictures or sounds than were allocated.
    pub fn load(&mut self, config: &Config, batch: &Batch, size: PaddedSize, counted: usize, ahead: bool) -> Result<()> {
        let put = |tensor: &mut Tensor, rows: usize, data: &[i32]| {
            tensor.set_rows(rows)?;
            write(tensor, data, ahead)
        };
        let (n, rows) = (batch.rows(), size.rows);
        let padded = |data: &[i32]| [data, &vec![0; rows - n]].concat();
        let alone: Vec<[i32; 2]> = (n as i32..rows as i32).map(|row| [row, row + 1]).collect();
        let intervals = |data: &[[i32; 2]]| [data, &alone].concat();
        put(&mut self.embed_id, rows, &padded(&batch.embed_id))?;
        put(&mut self.position, rows, &padded(&batch.position))?;
        put(&mut self.visible, rows, intervals(&batch.visible).as_flattened())?;
        put(&mut self.visible_by, rows, intervals(&batch.visible_by).as_flattened())?;
        // Unused rows have no gradient: they come after the last start.
        let numbers: Vec<i32> = (0..n as i32).collect();
        let (sorted_row, sorted_start) = embedding::plan(&batch.embed_id, &numbers, config.vocab_size);
        put(&mut self.sorted_row, rows, &padded(&sorted_row))?;
        write(&mut self.sorted_start, &sorted_start, ahead)?;
        let (logit_row, logit_target) = size.logits(batch);
        let (last_row, own) = if self.every_row { ((0..rows as i32).collect(), n) } else { (logit_row.clone(), batch.logit_row.len()) };
        let of_last = LastRowsOf::new(batch, size, last_row, own);
        let m = of_last.row.len();
        put(&mut self.last.row, m, &of_last.row)?;
        put(&mut self.last.position, m, &of_last.position)?;
        put(&mut self.last.visible, m, of_last.visible.as_flattened())?;
        put(&mut self.last.visible_by, rows, of_last.visible_by.as_flattened())?;
        let logit_row = if self.every_row { logit_row } else { (0..m as i32).collect() };
        let (last, mut start) = (self.chunks.len() - 1, 0);
        for (i, chunk) in self.chunks.iter_mut().enumerate() {
            let left = logit_row.len() - start;
            let count = if i == last { left } else { left.min(chunk.row.capacity()) };
            put(&mut chunk.row, count, &logit_row[start..start + count])?;
            put(&mut chunk.target, count, &logit_target[start..start + count])?;
            start += count;
        }
        self.pixels.set_rows(batch.images)?;
        write(&mut self.pixels, &batch.pixels, ahead)?;
        put(&mut self.patch_row, batch.patch_row.len(), &batch.patch_row)?;
        self.whole_row.as_mut().map_or(Ok(()), |rows| put(rows, batch.whole_row.len(), &batch.whole_row))?;
        self.mel.set_rows(batch.clips)?;
        write_real(&mut self.mel, &batch.mel, ahead)?;
        put(&mut self.frame_row, batch.frame_row.len(), &batch.frame_row)?;
        self.told.as_mut().map_or(Ok(()), |told| told.load(batch, size, counted, ahead))?;
        write_real(&mut self.weight, &[1.0 / counted.max(1) as f32], ahead)
    }

    /// Takes over a batch that was loaded into other inputs of the same capacity.
    pub(crate) fn take(&mut self, from: &Inputs) -> Result<()> {
        for (to, from) in self.each_mut().into_iter().zip(from.each()) {
            to.reshape(from.shape())?;
            if !from.is_empty() {
                to.copy_from(from)?;
            }
        }
        Ok(())
    }

    /// What changes from batch to batch.
    fn each(&self) -> Vec<&Tensor> {
        let chunks = self.chunks.iter().flat_map(|c| [&c.row, &c.target]);
        let rows = [&self.embed_id, &self.position, &self.visible, &self.visible_by, &self.sorted_row, &self.sorted_start];
        let others = [&self.pixels, &self.patch_row, &self.mel, &self.frame_row, &self.weight];
        let optional = self.whole_row.iter().chain(self.told.iter().flat_map(ToldInputs::named).map(|(_, tensor)| tensor));
        rows.into_iter().chain(self.last.each()).chain(others).chain(chunks).chain(optional).collect()
    }

    /// Every tensor with what it is in a trace.
    pub(crate) fn each_named(&self) -> Vec<(&'static str, &Tensor)> {
        let chunks = self.chunks.iter().flat_map(|c| [("the rows with logits, of the last layer's", &c.row), ("the targets", &c.target)]);
        let last = ["the last layer's rows", "their positions", "what they see", "which of them see a row"].into_iter().zip(self.last.each());
        let rows = [
            ("the words' ids", &self.embed_id),
            ("the positions", &self.position),
            ("visible", &self.visible),
            ("visible_by", &self.visible_by),
            ("the rows sorted by word", &self.sorted_row),
            ("where each word's rows start", &self.sorted_start),
            ("the pixels", &self.pixels),
            ("the patches' rows", &self.patch_row),
            ("the mel frames", &self.mel),
            ("the frames' rows", &self.frame_row),
            ("0, 1, 2, …", &self.iota),
            ("1 / the rows that count", &self.weight),
        ];
        let whole = self.whole_row.iter().map(|rows| ("the rows of pictures as a whole", rows));
        rows.into_iter().chain(last).chain(chunks).chain(whole).chain(self.told.iter().flat_map(ToldInputs::named)).collect()
    }

    /// As [`Inputs::each`], in the same order.
    fn each_mut(&mut self) -> Vec<&mut Tensor> {
        let chunks = self.chunks.iter_mut().flat_map(|c| [&mut c.row, &mut c.target]);
        let rows = [&mut self.embed_id, &mut self.position, &mut self.visible, &mut self.visible_by, &mut self.sorted_row, &mut self.sorted_start];
        let others = [&mut self.pixels, &mut self.patch_row, &mut self.mel, &mut self.frame_row, &mut self.weight];
        let optional = self.whole_row.iter_mut().chain(self.told.iter_mut().flat_map(ToldInputs::each_mut));
        rows.into_iter().chain(self.last.each_mut()).chain(others).chain(chunks).chain(optional).collect()
    }
}
