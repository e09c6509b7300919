//! Which rows of a batch are what its samples show: those of their pictures and sounds.

use super::batch::Batch;

/// Which rows of a batch belong to samples with a picture or a sound. These are numbered in their order.
pub(super) struct Seen {
    /// Of each row: its sample, from the first row of the picture or sound on, else −1.
    pub(super) number: Vec<i32>,
    /// Whether the row is told from.
    pooled: Vec<bool>,
}

impl Seen {
    pub(super) fn in_batch(batch: &Batch) -> Self {
        // What the row of a whole picture says, its places need not say.
        let of_pictures = if batch.whole_row.is_empty() { &batch.patch_row } else { &batch.whole_row };
        let mut pooled = vec![false; batch.rows()];
        of_pictures.iter().chain(&batch.frame_row).for_each(|&row| pooled[row as usize] = true);
        let mut number = vec![-1; batch.rows()];
        let mut sample = -1;
        let mut seen = false;
        for row in 0..batch.rows() {
            seen &= batch.position[row] != 0;
            if batch.embed_id[row] < 0 {
                sample += !seen as i32;
                seen = true;
            }
            number[row] = if seen { sample } else { -1 };
        }
        Seen { number, pooled }
    }

    /// `[S, rows]`, of at least as many rows as the batch has: 1 where a row is part of a sample's picture or sound, else 0.
    pub(super) fn pool(&self, samples: usize, rows: usize) -> Vec<f32> {
        let mut pool = vec![0.0; samples * rows];
        for (row, &sample) in self.number.iter().enumerate().filter(|(row, _)| self.pooled[*row]) {
            pool[sample as usize * rows + row] = 1.0;
        }
        pool
    }

    /// The words that rows of the batch predict and that can be told from what their sample shows: the place in `logit_row`, the sample, the word.
    pub(super) fn words(&self, batch: &Batch) -> impl Iterator<Item = (usize, i32, i32)> {
        batch.logit_row.iter().zip(&batch.logit_target).enumerate().filter_map(|(i, (&row, &word))| {
            let sample = self.number[row as usize];
            // The last row of a sample predicts its end, which is no word; a question's words say nothing about what is seen.
            let ends = batch.position.get(row as usize + 2).is_none_or(|&position| position == 0);
            (!ends && word >= 0 && sample >= 0 && batch.sees_all(row as usize)).then_some((i, sample, word))
        })
    }
}
