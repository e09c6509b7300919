//! Epochs in which every class is visited equally often, however many rows it has: class-balanced sampling (Kang et al. 2020,
//! <https://arxiv.org/abs/1910.09217>, equation 1 with q = 0).
//!
//! An epoch is as long as it would be otherwise: the rows of rare classes are repeated in it, those of frequent ones take turns. Nothing is
//! drawn with replacement. The visits of a class are counted from the run's start, and visits `m · r` to `m · (r + 1) − 1` of a class of `m`
//! rows are its *round* `r`: each of its rows once, in an order of that round's own. So after any number of epochs two classes differ by at
//! most one visit, and so do two rows of one class.
//!
//! A row's visits are told apart by their rounds, as they are by epochs where nothing is balanced.

use std::collections::BTreeMap;

use super::order::{EPOCH, shuffle, stream};

/// The stream of random numbers that orders a round, beside those of [`super::order`].
const ROUND: u64 = u64::MAX - 3;

/// The rows of a run by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The rows of each class, none of them empty.
    classes: Vec<Vec<usize>>,
    /// Rows without a class: each is visited once in an epoch.
    others: Vec<usize>,
}

impl Balance {
    /// From rows, each with its class or without one.
    pub fn new<C: Ord>(rows: impl IntoIterator<Item = (usize, Option<C>)>) -> Self {
        let (mut classes, mut others) = (BTreeMap::<C, Vec<usize>>::new(), Vec::new());
        for (row, class) in rows {
            match class {
                Some(class) => classes.entry(class).or_default().push(row),
                None => others.push(row),
            }
        }
        Balance { classes: classes.into_values().collect(), others }
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> usize {
        self.classed() + self.others.len()
    }

    /// The rows of each class.
    pub fn classes(&self) -> &[Vec<usize>] {
        &self.classes
    }

    /// The rows without a class.
    pub fn others(&self) -> &[usize] {
        &self.others
    }

    /// A number that is another one where rows belong to other classes (FNV-1a): the place in an epoch means something only in the same ones.
    pub fn digest(&self) -> u64 {
        let numbers = self.classes.iter().chain([&self.others]).flat_map(|rows| std::iter::once(rows.len()).chain(rows.iter().copied()));
        numbers.flat_map(|number| (number as u64).to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3))
    }

    fn classed(&self) -> usize {
        self.classes.iter().map(Vec::len).sum()
    }

    /// Visits of class `class` in the epochs before this one. Each epoch has `n / k` for each of the `k` classes, and the `n % k` that are left go
    /// round them.
    fn before(&self, class: usize, epoch: u128) -> u128 {
        let (n, k) = (self.classed() as u128, self.classes.len() as u128);
        epoch * (n / k) + (epoch * (n % k) + k - 1 - class as u128) / k
    }

    /// The rows of an epoch in the order in which they are visited, each with its round: by seed and epoch alone.
    pub(super) fn epoch(&self, seed: u64, epoch: u64) -> Vec<(usize, u64)> {
        let mut order: Vec<(usize, u64)> = self.others.iter().map(|&row| (row, epoch)).collect();
        for (class, rows) in self.classes.iter().enumerate() {
            let (m, end) = (rows.len() as u128, self.before(class, epoch as u128 + 1));
            let mut at = self.before(class, epoch.into());
            while at < end {
                let (round, from) = (at / m, at % m);
                let to = m.min(from + (end - at));
                let mut turn = rows.clone();
                shuffle(&mut turn, &mut stream(seed, ROUND, ((class as u64) << 32) ^ round as u64));
                order.extend(turn[from as usize..to as usize].iter().map(|&row| (row, round as u64)));
                at += to - from;
            }
        }
        shuffle(&mut order, &mut stream(seed, EPOCH, epoch));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// 40 rows of a, 9 of b, 1 of c, and 5 that are none of them.
    fn uneven() -> Balance {
        let class = |row: usize| [(40, Some("a")), (49, Some("b")), (50, Some("c")), (55, None)].iter().find(|(end, _)| row < *end).unwrap().1;
        Balance::new((0..55).map(|row| (row, class(row))))
    }

    #[test]
    fn classes_are_visited_equally_often_and_so_are_their_rows() {
        let balance = uneven();
        assert_eq!((balance.rows(), balance.classes().iter().map(Vec::len).collect::<Vec<_>>(), balance.others().len()), (55, vec![40, 9, 1], 5));
        let mut visits: HashMap<usize, usize> = HashMap::new();
        let mut seen = HashSet::new();
        for epoch in 0..30 {
            let order = balance.epoch(7, epoch);
            assert_eq!(order.len(), 55, "as long as ever");
            let of = |rows: &[usize]| order.iter().filter(|(row, _)| rows.contains(row)).count();
            assert!(balance.classes().iter().all(|rows| [16, 17].contains(&of(rows))), "50 visits for three classes");
            assert_eq!(of(balance.others()), 5);
            for (row, round) in order {
                *visits.entry(row).or_default() += 1;
                assert!(seen.insert((row, round)), "row {row} has one visit in round {round}");
            }
            let counts = |rows: &[usize]| rows.iter().map(|row| visits.get(row).copied().unwrap_or(0)).collect::<Vec<_>>();
            for rows in balance.classes() {
                let (least, most) = (*counts(rows).iter().min().unwrap(), *counts(rows).iter().max().unwrap());
                assert!(most - least <= 1, "epoch {epoch}: {least} to {most}");
            }
            let sums: Vec<usize> = balance.classes().iter().map(|rows| counts(rows).iter().sum()).collect();
            assert!(sums.iter().max().unwrap() - sums.iter().min().unwrap() <= 1, "epoch {epoch}: {sums:?}");
        }
        assert_eq!((visits[&49], visits[&54]), (500, 30));
    }

    #[test]
    fn seed_and_epoch_alone_decide() {
        let balance = uneven();
        assert_eq!(balance.epoch(7, 3), balance.epoch(7, 3));
        assert_ne!(balance.epoch(7, 3), balance.epoch(7, 4));
        assert_ne!(balance.epoch(7, 3), balance.epoch(8, 3));
        // One class, or as many as rows: every row once.
        for balance in [
            Balance::new((0..9).map(|row| (row, Some(0)))),
            Balance::new((0..9).map(|row| (row, Some(row)))),
            Balance::new((0..9).map(|row| (row, None::<u8>))),
        ] {
            let mut order = balance.epoch(1, 5);
            order.sort_unstable();
            assert_eq!(order, (0..9).map(|row| (row, 5)).collect::<Vec<_>>());
        }
        // A place that a damaged checkpoint claims.
        assert_eq!(balance.epoch(1, u64::MAX).len(), 55);
        let other = Balance::new((0..55).map(|row| (row, Some(row < 41))));
        assert!(balance.digest() == uneven().digest() && balance.digest() != other.digest());
    }
}
