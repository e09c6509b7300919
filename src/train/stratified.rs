//! Which rows stand for many: drawn by a seed, from every source in proportion. The first rows of a table say nothing about a sorted one.

use crate::data::order::{below, stream};
use rand_chacha::rand_core::Rng;

/// The stream of random numbers, beside those of [`crate::data::order`] and of batches.
const PURPOSE: u64 = u64::MAX - 2;

/// `most` of these rows in their own order, or all of them where there are not more: the same for the same rows and seed. `source(row)` says
/// where a row comes from; each source gives its share, give or take one row, and every row is equally likely.
///
/// Systematic sampling: the rows are shuffled, put together by source, and every n/most-th is taken from a random start.
pub fn stratified<S: Ord>(rows: &[usize], source: impl Fn(usize) -> S, most: usize, seed: u64) -> Vec<usize> {
    if rows.len() <= most {
        return rows.to_vec();
    }
    let mut rng = stream(seed, PURPOSE, rows.len() as u64);
    let mut places: Vec<usize> = (0..rows.len()).collect();
    for i in (1..places.len()).rev() {
        places.swap(i, below(&mut rng, i + 1));
    }
    places.sort_by_cached_key(|&place| source(rows[place])); // stable: shuffled within a source
    let (n, start) = (rows.len() as u128, rng.next_u32() as u128);
    let mut chosen: Vec<usize> = (0..most as u128).map(|i| places[(((i << 32) + start) * n / ((most as u128) << 32)) as usize]).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|place| rows[place]).collect()
}

/// The places of `count` things of `of`, or of all where there are fewer, as far from each other as they can be; the first is 0.
pub fn evenly_spaced(count: usize, of: usize) -> impl Iterator<Item = usize> {
    let count = count.min(of);
    (0..count).map(move |i| i * of / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_gives_its_share_and_a_sorted_table_is_not_cut_off() {
        let rows: Vec<usize> = (100..1100).collect();
        // Of four sources, sorted as tables are: half, a quarter, a fifth, a twentieth.
        let source = |row: usize| [500, 750, 950, 1000].iter().position(|end| row - 100 < *end);
        for seed in 0..20 {
            let chosen = stratified(&rows, source, 100, seed);
            assert_eq!(chosen, stratified(&rows, source, 100, seed));
            assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen.len() == 100, "each once, in order");
            let counts: Vec<i32> = (0..4).map(|of| chosen.iter().filter(|row| source(**row) == Some(of)).count() as i32).collect();
            assert!(counts.iter().zip([50, 25, 20, 5]).all(|(found, share)| (found - share).abs() <= 1), "{counts:?}");
        }
        assert_ne!(stratified(&rows, source, 100, 0), stratified(&rows, source, 100, 1));
        assert_eq!(stratified(&rows[..7], source, 7, 0), rows[..7]);
        assert!(stratified(&rows, source, 0, 0).is_empty());
        // More sources than samples: still spread over all of them.
        let chosen = stratified(&rows, |row| row, 10, 3);
        assert!(chosen.windows(2).all(|pair| pair[1] - pair[0] == 100), "{chosen:?}");
    }

    #[test]
    fn every_row_is_equally_likely() {
        let rows: Vec<usize> = (0..40).collect();
        let mut drawn = [0; 40];
        for seed in 0..4000 {
            stratified(&rows, |row| row % 3, 10, seed).into_iter().for_each(|row| drawn[row] += 1);
        }
        // A thousand each; the deviation is √(4000 · ¼ · ¾) = 27.
        assert!(drawn.iter().all(|n| (880..1120).contains(n)), "{drawn:?}");
    }
}
