//! Attention on the CPU: dense register tiles over groups of rows that see each other.
//!
//! Packed samples make the score matrix block-diagonal. [`groups`] finds the blocks from the intervals alone; each small
//! block is one task that computes every product of the pass once, and a block too large for that is split into tiles of
//! rows (for `o` and `dq`) and of keys (for `dk` and `dv`). Which task computes what, and in which order it adds, depends
//! on the shapes and the intervals only: the bits are the same for any number of threads.

#![allow(clippy::needless_range_loop)] // as in tile.rs

use super::tile::*;
use crate::device::cpu::{LANES, Real};
use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use rayon::prelude::*;
use std::ops::Range;

/// Keys that are packed at a time, and the largest group whose score matrix is held whole (256 · 256 f32 = 256 KiB).
const KEY_TILE: usize = 256;
/// Rows of a large group that one task of forward or of dq takes; keys, of dk and dv.
const BLOCK: usize = 64;
/// Rows of small groups that share a task.
const TASK_ROWS: usize = 48;

/// What every task reads.
#[derive(Clone, Copy)]
pub(super) struct AttentionInputs<'a, T> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
    pub visible: &'a [i32],
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub scale: T,
}

impl<T> AttentionInputs<'_, T> {
    /// The interval of a row, inside the keys that there are; empty ones as `0..0`.
    #[inline(always)]
    pub fn interval(&self, row: usize) -> Range<usize> {
        interval(self.visible, row, self.keys)
    }
}

#[inline(always)]
fn interval(visible: &[i32], row: usize, keys: usize) -> Range<usize> {
    let start = visible[2 * row].max(0) as usize;
    let end = (visible[2 * row + 1].max(0) as usize).min(keys);
    if start < end { start..end } else { 0..0 }
}

/// What only backward reads.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a, T> {
    pub o: &'a [T],
    pub lse: &'a [T],
    pub d_o: &'a [T],
}

// ── Groups ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Consecutive rows and the keys that they see. Groups are in order, and no row sees a key of another group.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    rows: Range<usize>,
    keys: Range<usize>,
}

/// The groups of `rows` rows. Rows with an empty interval may lie between groups or inside one.
fn groups(visible: &[i32], rows: usize, keys: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in 0..rows {
        let interval = interval(visible, row, keys);
        if interval.is_empty() {
            continue;
        }
        let mut new = Group { rows: row..row + 1, keys: interval };
        while let Some(last) = groups.last() {
            let merged = Group { rows: last.rows.start..new.rows.end, keys: last.keys.start.min(new.keys.start)..last.keys.end.max(new.keys.end) };
            let apart = last.keys.end <= new.keys.start;
            // Groups that together fill no more than one register tile cost less as one.
            if apart && (merged.rows.len() > LANES || merged.keys.len() > LANES) {
                break;
            }
            new = merged;
            groups.pop();
        }
        groups.push(new);
    }
    groups
}

/// Groups that one task takes: at least [`TASK_ROWS`] rows, but a large group alone.
fn bundles(groups: &[Group]) -> Vec<&[Group]> {
    let mut bundles = Vec::new();
    let (mut from, mut rows) = (0, 0);
    for (i, group) in groups.iter().enumerate() {
        if !group.fits() && from < i {
            bundles.push(&groups[from..i]);
            (from, rows) = (i, 0);
        }
        rows += group.rows.len();
        if rows >= TASK_ROWS || !group.fits() || i + 1 == groups.len() {
            bundles.push(&groups[from..=i]);
            (from, rows) = (i + 1, 0);
        }
    }
    bundles
}

impl Group {
    /// Whether the score matrix of one head is small enough to be held whole.
    fn fits(&self) -> bool {
        self.rows.len() <= KEY_TILE && self.keys.len() <= KEY_TILE
    }
}

/// The first `count` elements of a slice that is handed out piece by piece.
fn take<'a, T>(rest: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (first, others) = std::mem::take(rest).split_at_mut(count);
    *rest = others;
    first
}

// ── Forward ──────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn forward<T: Real>(call: AttentionInputs<T>, o: &mut [T], lse: &mut [T], empty: T) {
    let groups = groups(call.visible, call.queries, call.keys);
    let bundles = bundles(&groups);
    let width = call.heads * call.head_dim;
    if bundles.is_empty() {
        o.fill(T::zero());
        lse.fill(empty);
        return;
    }
    let (mut o, mut lse) = (o, lse);
    let mut from = 0;
    let mut tasks = Vec::with_capacity(bundles.len());
    for (i, bundle) in bundles.iter().enumerate() {
        let end = if i + 1 == bundles.len() { call.queries } else { bundle[bundle.len() - 1].rows.end };
        tasks.push((*bundle, from, take(&mut o, (end - from) * width), take(&mut lse, (end - from) * call.heads)));
        from = end;
    }
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (bundle, first, o, lse)| {
        let mut done = first;
        let (mut o, mut lse) = (o, lse);
        for group in bundle {
            let gap = group.rows.start - done;
            take(&mut o, gap * width).fill(T::zero());
            take(&mut lse, gap * call.heads).fill(empty);
            let (o, lse) = (take(&mut o, group.rows.len() * width), take(&mut lse, group.rows.len() * call.heads));
            if group.fits() {
                forward_rows(&call, group.rows.clone(), scratch, o, lse, empty);
            } else {
                let blocks = o.par_chunks_mut(BLOCK * width).zip(lse.par_chunks_mut(BLOCK * call.heads)).enumerate();
                blocks.for_each_init(Scratch::default, |scratch, (i, (o, lse))| {
                    let start = group.rows.start + i * BLOCK;
                    let end = (start + BLOCK).min(group.rows.end);
                    forward_rows(&call, start..end, scratch, o, lse, empty);
                });
            }
            done = group.rows.end;
        }
        o.fill(T::zero());
        lse.fill(empty);
    });
}

/// Working memory of one task; what the last use left in it means nothing.
struct Scratch<T> {
    /// Kᵀ and Vᵀ of a tile of keys: [d, keys].
    k_by_d: Vec<T>,
    v_by_d: Vec<T>,
    /// The same keys as they are stored: [keys, d].
    k: Vec<T>,
    v: Vec<T>,
    /// Rows of one head: [rows, d].
    q: Vec<T>,
    d_o: Vec<T>,
    /// Scores, then probabilities: [rows, keys], and their gradients.
    p: Vec<T>,
    ds: Vec<T>,
    /// Outputs under construction, [heads of a KV head, rows, d]; dk and dv, [keys, d].
    o: Vec<T>,
    dk: Vec<T>,
    dv: Vec<T>,
    /// Running maximum and sum per row and head of a KV head; delta per row.
    maximum: Vec<T>,
    sum: Vec<T>,
    delta: Vec<T>,
    /// Keys that each register tile of rows looks at, in whole vectors.
    spans: Vec<(usize, usize)>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        let [k_by_d, v_by_d, k, v, q, d_o, p, ds, o, dk, dv, maximum, sum, delta] = [(); 14].map(|_| Vec::new());
        Scratch { k_by_d, v_by_d, k, v, q, d_o, p, ds, o, dk, dv, maximum, sum, delta, spans: Vec::new() }
    }
}

/// `buffer` with at least `len` elements, as a slice of just those.
#[inline(always)]
fn room<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::zero());
    }
    &mut buffer[..len]
}

/// All heads of some rows: online softmax over tiles of keys.
#[multiversion(targets = "simd")]
fn forward_rows<T: Real>(call: &AttentionInputs<T>, rows: Range<usize>, scratch: &mut Scratch<T>, o: &mut [T], lse: &mut [T], empty: T) {
    let fused = target_cfg_f!(target_feature = "fma");
    let (heads, hd) = (call.heads, call.head_dim);
    let hp = hd.next_multiple_of(LANES);
    let per = heads / call.kv_heads;
    let count = rows.len().next_multiple_of(ROWS);
    let keys = union(call, rows.clone());
    let Scratch { k_by_d, v, q, p, o: acc, maximum, sum, spans, .. } = scratch;
    let acc = room(acc, per * count * hp);
    let (maximum, sum) = (room(maximum, per * count), room(sum, per * count));
    for kv in 0..call.kv_heads {
        acc.fill(T::zero());
        maximum.fill(empty);
        sum.fill(T::zero());
        for tile in (keys.start..keys.end).step_by(KEY_TILE) {
            let tile = tile..(tile + KEY_TILE).min(keys.end);
            let np = tile.len().next_multiple_of(LANES);
            set_spans(call, rows.clone(), tile.clone(), spans);
            if spans.iter().all(|s| s.0 == s.1) {
                continue;
            }
            let (k_by_d, v) = (room(k_by_d, hp * np), room(v, np * hp));
            pack_transposed(call.k, tile.clone(), call.kv_heads, kv, hd, hp, np, k_by_d);
            pack(call.v, tile.clone(), call.kv_heads, kv, hd, hp, np, v);
            let (q, p) = (room(q, count * hp), room(p, ROWS * np));
            for g in 0..per {
                pack(call.q, rows.clone(), heads, kv * per + g, hd, hp, count, q);
                for (t, &(low, high)) in spans.iter().enumerate() {
                    for column in (low..high).step_by(LANES) {
                        let mut s = [[T::zero(); LANES]; ROWS];
                        product(fused, &q[t * ROWS * hp..], hp, &k_by_d[column..], np, hp, &mut s);
                        store(&s, &mut p[column..], np);
                    }
                    let mut rescale = [T::zero(); ROWS];
                    for i in 0..ROWS {
                        let row = rows.start + t * ROWS + i;
                        let p = &mut p[i * np + low..i * np + high];
                        let seen = if row < rows.end { within(call.interval(row), &tile) } else { 0..0 };
                        if seen.is_empty() {
                            p.fill(T::zero());
                            rescale[i] = T::one();
                            continue;
                        }
                        let (from, count_seen) = ((seen.start - low) as u32, seen.len() as u32);
                        let at = g * count + t * ROWS + i;
                        let new = larger(maximum[at], scale_and_mask(p, from, count_seen, call.scale, empty));
                        // The first tile has nothing to rescale.
                        rescale[i] = if sum[at] == T::zero() { T::zero() } else { (maximum[at] - new).fast_exp() };
                        sum[at] = sum[at] * rescale[i] + exponentials(p, from, count_seen, new);
                        maximum[at] = new;
                    }
                    if low == high {
                        continue;
                    }
                    for column in (0..hp).step_by(LANES) {
                        let out = &mut acc[(g * count + t * ROWS) * hp + column..];
                        let mut tile = load(out, hp);
                        for i in 0..ROWS {
                            for l in 0..LANES {
                                tile[i][l] *= rescale[i];
                            }
                        }
                        product(fused, &p[low..], np, &v[low * hp + column..], hp, high - low, &mut tile);
                        store(&tile, out, hp);
                    }
                }
            }
        }
        for g in 0..per {
            for i in 0..rows.len() {
                let (m, l) = (maximum[g * count + i], sum[g * count + i]);
                let at = i * heads + kv * per + g;
                let seen = l != T::zero(); // the largest score counts 1; a NaN must show
                let inverse = if seen { T::one() / l } else { T::zero() };
                lse[at] = if seen { m + l.ln() } else { empty };
                for (o, &x) in o[at * hd..(at + 1) * hd].iter_mut().zip(&acc[(g * count + i) * hp..]) {
                    *o = x * inverse;
                }
            }
        }
    }
}

// ── Backward ─────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn backward<T: Real>(call: AttentionInputs<T>, saved: Saved<T>, dq: &mut [T], dk: &mut [T], dv: &mut [T]) {
    let groups = groups(call.visible, call.queries, call.keys);
    let bundles = bundles(&groups);
    let (width, kv_width) = (call.heads * call.head_dim, call.kv_heads * call.head_dim);
    if bundles.is_empty() {
        [dq, dk, dv].into_iter().for_each(|d| d.fill(T::zero()));
        return;
    }
    let (mut dq, mut dk, mut dv) = (dq, dk, dv);
    let (mut row, mut key) = (0, 0);
    let mut tasks = Vec::with_capacity(bundles.len());
    for (i, bundle) in bundles.iter().enumerate() {
        let last = &bundle[bundle.len() - 1];
        let (row_end, key_end) = if i + 1 == bundles.len() { (call.queries, call.keys) } else { (last.rows.end, last.keys.end) };
        let outputs = (take(&mut dq, (row_end - row) * width), take(&mut dk, (key_end - key) * kv_width), take(&mut dv, (key_end - key) * kv_width));
        tasks.push((*bundle, row, key, outputs));
        (row, key) = (row_end, key_end);
    }
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (bundle, row, key, (mut dq, mut dk, mut dv))| {
        let (mut row, mut key) = (row, key);
        for group in bundle {
            take(&mut dq, (group.rows.start - row) * width).fill(T::zero());
            take(&mut dk, (group.keys.start - key) * kv_width).fill(T::zero());
            take(&mut dv, (group.keys.start - key) * kv_width).fill(T::zero());
            let dq = take(&mut dq, group.rows.len() * width);
            let (dk, dv) = (take(&mut dk, group.keys.len() * kv_width), take(&mut dv, group.keys.len() * kv_width));
            if group.fits() {
                backward_tile(&call, &saved, group.rows.clone(), group.keys.clone(), scratch, Some(dq), Some((dk, dv)), false);
            } else {
                backward_large(&call, &saved, group, dq, dk, dv);
            }
            (row, key) = (group.rows.end, group.keys.end);
        }
        [dq, dk, dv].into_iter().for_each(|d| d.fill(T::zero()));
    });
}

/// A group too large for one task: dq by blocks of rows, then dk and dv by blocks of keys, each recomputing the scores.
fn backward_large<T: Real>(call: &AttentionInputs<T>, saved: &Saved<T>, group: &Group, dq: &mut [T], dk: &mut [T], dv: &mut [T]) {
    let (width, kv_width) = (call.heads * call.head_dim, call.kv_heads * call.head_dim);
    dq.par_chunks_mut(BLOCK * width).enumerate().for_each_init(Scratch::default, |scratch, (i, dq)| {
        let start = group.rows.start + i * BLOCK;
        let rows = start..(start + BLOCK).min(group.rows.end);
        let keys = union(call, rows.clone());
        dq.fill(T::zero());
        for tile in (keys.start..keys.end).step_by(KEY_TILE) {
            let tile = tile..(tile + KEY_TILE).min(keys.end);
            backward_tile(call, saved, rows.clone(), tile, scratch, Some(&mut *dq), None, true);
        }
    });
    let blocks = dk.par_chunks_mut(BLOCK * kv_width).zip(dv.par_chunks_mut(BLOCK * kv_width)).enumerate();
    blocks.for_each_init(Scratch::default, |scratch, (i, (dk, dv))| {
        let start = group.keys.start + i * BLOCK;
        let keys = start..(start + BLOCK).min(group.keys.end);
        dk.fill(T::zero());
        dv.fill(T::zero());
        for tile in (group.rows.start..group.rows.end).step_by(KEY_TILE) {
            let tile = tile..(tile + KEY_TILE).min(group.rows.end);
            backward_tile(call, saved, tile, keys.clone(), scratch, None, Some((&mut *dk, &mut *dv)), true);
        }
    });
}

/// All heads of one tile of rows × keys: P and dS once, from them the gradients asked for, added to what is there
/// or written over it.
#[multiversion(targets = "simd")]
fn backward_tile<T: Real>(
    call: &AttentionInputs<T>,
    saved: &Saved<T>,
    rows: Range<usize>,
    keys: Range<usize>,
    scratch: &mut Scratch<T>,
    mut dq: Option<&mut [T]>,
    mut dkv: Option<(&mut [T], &mut [T])>,
    add: bool,
) {
    let fused = target_cfg_f!(target_feature = "fma");
    let (heads, hd) = (call.heads, call.head_dim);
    let hp = hd.next_multiple_of(LANES);
    let per = heads / call.kv_heads;
    let (count, np) = (rows.len().next_multiple_of(ROWS), keys.len().next_multiple_of(LANES));
    let Scratch { k_by_d, v_by_d, k, q, d_o, p, ds, dk: dk_sum, dv: dv_sum, delta, spans, .. } = scratch;
    set_spans(call, rows.clone(), keys.clone(), spans);
    if add && spans.iter().all(|s| s.0 == s.1) {
        return;
    }
    let (k_by_d, v_by_d, k) = (room(k_by_d, hp * np), room(v_by_d, hp * np), room(k, np * hp));
    let (q, d_o, delta) = (room(q, count * hp), room(d_o, count * hp), room(delta, count));
    let (p, ds) = (room(p, count * np), room(ds, count * np));
    let (dk_sum, dv_sum) = (room(dk_sum, np * hp), room(dv_sum, np * hp));
    for kv in 0..call.kv_heads {
        pack_transposed(call.k, keys.clone(), call.kv_heads, kv, hd, hp, np, k_by_d);
        pack_transposed(call.v, keys.clone(), call.kv_heads, kv, hd, hp, np, v_by_d);
        pack(call.k, keys.clone(), call.kv_heads, kv, hd, hp, np, k);
        for g in 0..per {
            let head = kv * per + g;
            pack(call.q, rows.clone(), heads, head, hd, hp, count, q);
            pack(saved.d_o, rows.clone(), heads, head, hd, hp, count, d_o);
            for (i, delta) in delta[..rows.len()].iter_mut().enumerate() {
                let at = ((rows.start + i) * heads + head) * hd;
                *delta = dot(fused, &saved.d_o[at..at + hd], &saved.o[at..at + hd]);
            }
            for (t, &(low, high)) in spans.iter().enumerate() {
                for column in (low..high).step_by(LANES) {
                    let mut s = [[T::zero(); LANES]; ROWS];
                    product(fused, &q[t * ROWS * hp..], hp, &k_by_d[column..], np, hp, &mut s);
                    let mut dp = [[T::zero(); LANES]; ROWS];
                    product(fused, &d_o[t * ROWS * hp..], hp, &v_by_d[column..], np, hp, &mut dp);
                    for i in 0..ROWS {
                        let at = (t * ROWS + i) * np + column;
                        let p: &mut [T; LANES] = (&mut p[at..at + LANES]).try_into().expect("LANES");
                        let ds: &mut [T; LANES] = (&mut ds[at..at + LANES]).try_into().expect("LANES");
                        let row = rows.start + t * ROWS + i;
                        if row >= rows.end {
                            p.fill(T::zero());
                            ds.fill(T::zero());
                            continue;
                        }
                        let (lse, delta) = (saved.lse[row * heads + head], delta[t * ROWS + i]);
                        for l in 0..LANES {
                            p[l] = (s[i][l] * call.scale - lse).fast_exp();
                        }
                        for l in 0..LANES {
                            ds[l] = p[l] * (dp[i][l] - delta) * call.scale;
                        }
                        let seen = within(call.interval(row), &keys);
                        let (from, to) = (seen.start.saturating_sub(column).min(LANES), seen.end.saturating_sub(column).min(LANES));
                        if from > 0 || to < LANES {
                            for l in (0..from).chain(to.max(from)..LANES) {
                                p[l] = T::zero();
                                ds[l] = T::zero();
                            }
                        }
                    }
                }
                if let Some(dq) = &mut dq {
                    for column in (0..hp).step_by(LANES) {
                        let mut tile = [[T::zero(); LANES]; ROWS];
                        product(fused, &ds[t * ROWS * np + low..], np, &k[low * hp + column..], hp, high - low, &mut tile);
                        for i in 0..ROWS.min(rows.len() - t * ROWS) {
                            let at = ((t * ROWS + i) * heads + head) * hd;
                            put(&tile[i], &mut dq[at + column..at + hd], add);
                        }
                    }
                }
            }
            if let Some((dk, dv)) = &mut dkv {
                for first in (0..np).step_by(ROWS) {
                    for column in (0..hp).step_by(LANES) {
                        let at = first * hp + column;
                        let mut k_tile = if g == 0 { [[T::zero(); LANES]; ROWS] } else { load(&dk_sum[at..], hp) };
                        let mut v_tile = if g == 0 { [[T::zero(); LANES]; ROWS] } else { load(&dv_sum[at..], hp) };
                        for (t, _) in spans.iter().enumerate().filter(|(_, s)| s.0 <= first && first < s.1) {
                            let (from, rows) = (t * ROWS * np + first, t * ROWS * hp + column);
                            outer(fused, &ds[from..], np, &q[rows..], hp, &mut k_tile);
                            outer(fused, &p[from..], np, &d_o[rows..], hp, &mut v_tile);
                        }
                        if g + 1 < per {
                            store(&k_tile, &mut dk_sum[at..], hp);
                            store(&v_tile, &mut dv_sum[at..], hp);
                            continue;
                        }
                        for i in 0..ROWS.min(keys.len().saturating_sub(first)) {
                            let at = ((first + i) * call.kv_heads + kv) * hd;
                            put(&k_tile[i], &mut dk[at + column..at + hd], add);
                            put(&v_tile[i], &mut dv[at + column..at + hd], add);
                        }
                    }
                }
            }
        }
    }
}

// ── Intervals and tiles ───────────────────────────────────────────────────────────────────────────────────────────────

/// The keys that a row sees of a tile, counted from the tile's first.
#[inline(always)]
fn within(interval: Range<usize>, tile: &Range<usize>) -> Range<usize> {
    let (start, end) = (interval.start.max(tile.start), interval.end.min(tile.end));
    if start < end { start - tile.start..end - tile.start } else { 0..0 }
}

/// From the first key that one of the rows sees to the last.
fn union<T>(call: &AttentionInputs<T>, rows: Range<usize>) -> Range<usize> {
    let intervals = rows.map(|row| call.interval(row)).filter(|i| !i.is_empty());
    intervals.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

/// For each register tile of rows, the keys of a tile that it looks at, in whole vectors.
#[inline(always)]
fn set_spans<T: Real>(call: &AttentionInputs<T>, rows: Range<usize>, tile: Range<usize>, spans: &mut Vec<(usize, usize)>) {
    spans.clear();
    for first in (rows.start..rows.end).step_by(ROWS) {
        let mut span = (usize::MAX, 0);
        for row in first..(first + ROWS).min(rows.end) {
            let seen = within(call.interval(row), &tile);
            if !seen.is_empty() {
                span = (span.0.min(seen.start), span.1.max(seen.end));
            }
        }
        spans.push(if span.1 == 0 { (0, 0) } else { (span.0 / LANES * LANES, span.1.next_multiple_of(LANES)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_become_groups() {
        // Two causal samples of 20 rows, then five unused rows, then a row that sees nothing.
        let causal = |start: i32| (start..start + 20).flat_map(move |row| [start, row + 1]);
        let tail = (40..45).flat_map(|row| [row, row + 1]);
        let visible: Vec<i32> = causal(0).chain(causal(20)).chain(tail).chain([7, 7]).collect();
        let expected = [Group { rows: 0..20, keys: 0..20 }, Group { rows: 20..40, keys: 20..40 }, Group { rows: 40..45, keys: 40..45 }];
        assert_eq!(groups(&visible, 46, 46), expected);
        assert_eq!(bundles(&expected).len(), 1);
    }

    #[test]
    fn overlapping_and_disordered_intervals_join() {
        assert_eq!(groups(&[0, 40, 30, 70, 60, 90], 3, 90), [Group { rows: 0..3, keys: 0..90 }]);
        assert_eq!(groups(&[50, 90, 0, 40], 2, 90), [Group { rows: 0..2, keys: 0..90 }]);
        assert_eq!(groups(&[0, 40, 40, 90, 5, 6], 3, 90), [Group { rows: 0..3, keys: 0..90 }]);
        assert_eq!(groups(&[-5, 200], 1, 90), [Group { rows: 0..1, keys: 0..90 }]);
    }
}
