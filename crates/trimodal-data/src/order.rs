//! In which order the samples of an epoch are visited: by seed and epoch alone, so that a run that is continued visits what
//! the uninterrupted run would have.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a random stream is for; the numbers are part of every run's order: append only.
pub(super) const EPOCH: u64 = 1;
const SHARDS: u64 = u64::MAX;
const BUFFER: u64 = u64::MAX - 1;

/// A generator of its own for each purpose and index: the same numbers whatever was drawn before.
pub fn stream(seed: u64, purpose: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, value) in key.chunks_exact_mut(8).zip([seed, purpose, index, 0x7472_696d_6f64_616c]) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A number below `n`, which is at most 2³².
pub fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    trimodal_base::random::below(rng.next_u32(), n)
}

/// Fisher–Yates.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

/// The rows of one epoch in the order in which they are visited.
///
/// `shards` holds the rows of each shard in the order of the file; a table is one entry. A table is shuffled whole. Shards are
/// visited in a shuffled order, each from its start, through a buffer of `buffer` rows out of which the next one is drawn: what
/// is read stays near together on the disk. The buffer holds row numbers, never contents.
pub(super) fn epoch(shards: &[Vec<usize>], seed: u64, epoch: u64, buffer: usize) -> Vec<usize> {
    if let [rows] = shards
        && buffer == usize::MAX
    {
        let mut order = rows.clone();
        shuffle(&mut order, &mut stream(seed, EPOCH, epoch));
        return order;
    }
    let mut visited: Vec<&Vec<usize>> = shards.iter().collect();
    shuffle(&mut visited, &mut stream(seed, SHARDS, epoch));
    let mut rng = stream(seed, BUFFER, epoch);
    let mut order = Vec::with_capacity(shards.iter().map(Vec::len).sum());
    let mut held: Vec<usize> = Vec::new();
    for &row in visited.into_iter().flatten() {
        held.push(row);
        if held.len() >= buffer.max(1) {
            order.push(held.swap_remove(below(&mut rng, held.len())));
        }
    }
    while !held.is_empty() {
        order.push(held.swap_remove(below(&mut rng, held.len())));
    }
    order
}

/// What the rows of a window may hold together, in bytes: half of what stays decoded, so that the next window can begin beside it.
const WINDOW_BYTES: u64 = 128 << 20;

/// As [`epoch`] for blocks of rows that are decoded together, of `bytes` each: blocks are visited in a shuffled order, as many at a time
/// as may be decoded at once, and the rows of these are shuffled whole. So each block is decoded once, and its rows are used soon after.
pub(super) fn windows(blocks: &[Vec<usize>], bytes: &[u64], seed: u64, epoch: u64) -> Vec<usize> {
    let mut visited: Vec<usize> = (0..blocks.len()).collect();
    shuffle(&mut visited, &mut stream(seed, SHARDS, epoch));
    let mut rng = stream(seed, BUFFER, epoch);
    let mut order = Vec::with_capacity(blocks.iter().map(Vec::len).sum());
    let (mut from, mut held) = (0, 0u64);
    for (i, &block) in visited.iter().enumerate() {
        order.extend(&blocks[block]);
        held = held.saturating_add(bytes[block]);
        let next = visited.get(i + 1).map(|&next| bytes[next]);
        if next.is_none_or(|next| held.saturating_add(next) > WINDOW_BYTES) {
            shuffle(&mut order[from..], &mut rng);
            (from, held) = (order.len(), 0);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_what_may_be_decoded_at_once() {
        let blocks: Vec<Vec<usize>> = (0..40).map(|b| (b * 10..b * 10 + 10).collect()).collect();
        let order = windows(&blocks, &[WINDOW_BYTES / 4; 40], 3, 0);
        assert_eq!(sorted(order.clone()), (0..400).collect::<Vec<_>>());
        for window in order.chunks(40) {
            let visited: Vec<usize> = window.iter().map(|row| row / 10).collect();
            let mut of = sorted(visited.clone());
            assert_ne!(visited, of, "shuffled across its blocks");
            of.dedup();
            assert_eq!(of.len(), 4);
        }
        assert_ne!(order, windows(&blocks, &[WINDOW_BYTES / 4; 40], 3, 1));
        assert_ne!(order, windows(&blocks, &[WINDOW_BYTES / 4; 40], 4, 0));
        // A block that is larger than a window is one of its own.
        let large = windows(&blocks, &[WINDOW_BYTES * 2; 40], 3, 0);
        assert!(large.chunks(10).all(|rows| rows.iter().all(|row| row / 10 == rows[0] / 10)));
    }

    fn sorted(mut rows: Vec<usize>) -> Vec<usize> {
        rows.sort_unstable();
        rows
    }

    #[test]
    fn every_row_once_in_another_order_each_epoch() {
        for buffer in [0, 1, 7, 100, usize::MAX] {
            for shards in [vec![(0..50).collect::<Vec<usize>>()], (0..5).map(|s| (s * 10..s * 10 + 10).collect()).collect()] {
                let order = epoch(&shards, 3, 0, buffer);
                assert_eq!(sorted(order.clone()), (0..50).collect::<Vec<_>>());
                assert_eq!(order, epoch(&shards, 3, 0, buffer));
                // One shard through a buffer of one row is read from its start, and no seed changes that.
                if shards.len() > 1 || buffer > 1 {
                    assert_ne!(order, epoch(&shards, 3, 1, buffer));
                    assert_ne!(order, epoch(&shards, 4, 0, buffer));
                }
            }
        }
    }

    #[test]
    fn a_small_buffer_stays_near() {
        let shards: Vec<Vec<usize>> = (0..10).map(|s| (s * 100..s * 100 + 100).collect()).collect();
        let order = epoch(&shards, 1, 0, 20);
        // Ten neighbours come from at most two shards, save for a row that waits in the buffer for long.
        let spread = order.windows(10).map(|w| sorted(w.iter().map(|row| row / 100).collect()).windows(2).filter(|p| p[0] != p[1]).count() + 1);
        assert!(spread.filter(|shards| *shards > 3).count() < 30);
    }
}
