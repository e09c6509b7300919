//! Which rows the last layer computes whole: nobody reads more of the others than their keys and values.
//!
//! Most rows are patches and frames, and predict nothing. In every layer but the last they are read by the layer above; in the last one
//! only the rows with logits are. So there queries, the attention's result, the MLP and the final norm have `M` rows, keys and values `N`:
//! attention takes `M` queries against `N` keys, as it does while generating.

use super::batch::{Batch, Capacity, PaddedSize};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// The rows of the last layer, `M` of `N`, in the order of their logits; with every row ([`super::activation_options::ActivationOptions::every_row`])
/// `M` is `N`.
pub struct LastRows<T = Tensor> {
    /// `[M]`: their numbers in the token matrix.
    pub(crate) row: T,
    /// `[M]`: their positions in their samples.
    pub(crate) position: T,
    /// `[M, 2]`: the rows that each of them may look at. Those of the padding look at nothing.
    pub(crate) visible: T,
    /// `[N, 2]`: which of them, counted from 0, may look at each row.
    pub(crate) visible_by: T,
}

/// The most rows that the last layer computes.
pub(super) fn most(capacity: Capacity, every_row: bool) -> usize {
    if every_row { capacity.rows } else { capacity.logits.min(capacity.rows) }
}

impl<T> LastRows<T> {
    /// Builds the listing: `make(shape, dtype)` once per tensor.
    pub(super) fn build(capacity: Capacity, every_row: bool, make: &mut impl FnMut(&[usize], DType) -> Result<T>) -> Result<Self> {
        let (m, n) = (most(capacity, every_row), capacity.rows);
        Ok(LastRows {
            row: make(&[m], DType::I32)?,
            position: make(&[m], DType::I32)?,
            visible: make(&[m, 2], DType::I32)?,
            visible_by: make(&[n, 2], DType::I32)?,
        })
    }

    pub(super) fn each(&self) -> [&T; 4] {
        [&self.row, &self.position, &self.visible, &self.visible_by]
    }

    pub(super) fn each_mut(&mut self) -> [&mut T; 4] {
        [&mut self.row, &mut self.position, &mut self.visible, &mut self.visible_by]
    }
}

/// What goes into the tensors of [`LastRows`] for a batch.
#[derive(Debug, PartialEq)]
pub(super) struct LastRowsOf {
    pub row: Vec<i32>,
    pub position: Vec<i32>,
    pub visible: Vec<[i32; 2]>,
    pub visible_by: Vec<[i32; 2]>,
}

impl LastRowsOf {
    /// Of a batch and `row`, the rows of its last layer, of which the first `counted` are its own and the others pad it to `size`.
    pub fn new(batch: &Batch, size: PaddedSize, row: Vec<i32>, counted: usize) -> Self {
        let own = &row[..counted];
        let of = |row: i32| batch.position.get(row as usize).copied().unwrap_or(0);
        let position = row.iter().map(|&row| of(row)).collect();
        let mut visible: Vec<[i32; 2]> = own.iter().map(|&row| batch.visible[row as usize]).collect();
        visible.resize(row.len(), [0, 0]);
        // Rows in order that may look at a row are neighbours, as they are among all rows. Out of order they are somewhere among all of
        // them: the interval says who may look, `visible` who does.
        let sorted = own.is_sorted();
        let among = |seen: &[i32; 2]| match sorted {
            true => seen.map(|edge| own.partition_point(|&row| row < edge) as i32),
            false => [0, counted as i32],
        };
        let mut visible_by: Vec<[i32; 2]> = batch.visible_by.iter().map(among).collect();
        visible_by.resize(size.rows, [0, 0]);
        LastRowsOf { row, position, visible, visible_by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two samples of four and three causal rows, of which 1, 3 and 5 predict, padded with row 0 and with a row of the padding.
    fn batch() -> (Batch, PaddedSize) {
        let batch = Batch {
            token_id: vec![5; 7],
            position: vec![0, 1, 2, 3, 0, 1, 2],
            visible: vec![[0, 1], [0, 2], [0, 3], [0, 4], [4, 5], [4, 6], [4, 7]],
            visible_by: vec![[0, 4], [1, 4], [2, 4], [3, 4], [4, 7], [5, 7], [6, 7]],
            ..Batch::default()
        };
        (batch, PaddedSize { rows: 8, logits: 5 })
    }

    #[test]
    fn rows_that_predict_are_numbered_among_themselves() {
        let (batch, size) = batch();
        let found = LastRowsOf::new(&batch, size, vec![1, 3, 5, 0, 7], 3);
        let expected = LastRowsOf {
            row: vec![1, 3, 5, 0, 7],
            position: vec![1, 3, 1, 0, 0],
            visible: vec![[0, 2], [0, 4], [4, 6], [0, 0], [0, 0]],
            visible_by: vec![[0, 2], [0, 2], [1, 2], [1, 2], [2, 3], [2, 3], [3, 3], [0, 0]],
        };
        assert_eq!(found, expected);
    }

    /// The interval of a row holds every row that sees it, in whatever order they are asked for.
    #[test]
    fn whoever_sees_a_row_is_in_its_interval() {
        let (batch, size) = batch();
        for row in [vec![1, 3, 5], vec![5, 1, 3], vec![6], vec![], (0..7).collect()] {
            let of = LastRowsOf::new(&batch, size, row.clone(), row.len());
            for (i, seen) in of.visible.iter().enumerate() {
                for key in seen[0]..seen[1] {
                    let [start, end] = of.visible_by[key as usize];
                    assert!((start..end).contains(&(i as i32)), "{row:?}: {i} sees {key}");
                }
            }
        }
    }
}
