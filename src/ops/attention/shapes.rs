//! The shapes and masks that attention is tried on, and what goes in.

use crate::ops::case::{Draw, Operand};

/// What rows look at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mask {
    /// Row i sees the keys up to `i + Nk − Nq`: a causal sequence after a cache.
    Causal,
    /// Every row sees every key.
    Full,
    /// Samples of this many rows: a bidirectional picture, then causal text; the rest are unused rows.
    Packed(usize),
    /// Samples of this many rows, causal each.
    CausalSamples(usize),
    /// Samples of this many rows, which see all of their own.
    FullSamples(usize),
    /// Row i sees this many keys up to itself.
    Window(usize),
    /// Drawn, one interval in six empty.
    Random,
    /// Every row sees nothing.
    Nothing,
}

impl Mask {
    /// `visible [queries, 2]`.
    pub(super) fn intervals(self, queries: usize, keys: usize, draw: &mut Draw) -> Vec<[i32; 2]> {
        let end = |row: usize| (row + 1 + keys).saturating_sub(queries).min(keys);
        (0..queries)
            .map(|row| {
                let (start, end) = match self {
                    Mask::Causal => (0, end(row)),
                    Mask::Full => (0, keys),
                    Mask::Packed(length) => {
                        let start = row / length * length;
                        let picture = start + 2 + length / 2;
                        if start + length > queries { (row, row + 1) } else { (start, (row + 1).max(picture)) }
                    }
                    Mask::CausalSamples(length) => (row / length * length, row + 1),
                    Mask::FullSamples(length) => (row / length * length, row / length * length + length),
                    Mask::Window(width) => (end(row).saturating_sub(width), end(row)),
                    Mask::Random => {
                        let (a, b) = (draw.below(keys + 1), draw.below(keys + 1));
                        if draw.below(6) == 0 { (a, a) } else { (a.min(b), a.max(b)) }
                    }
                    Mask::Nothing => (row.min(keys), row.min(keys)),
                };
                [start.min(keys) as i32, end.min(keys) as i32]
            })
            .collect()
    }
}

/// The interval of rows that see each key.
pub(super) fn visible_by(visible: &[[i32; 2]], keys: usize) -> Vec<[i32; 2]> {
    let mut by = vec![[0, 0]; keys];
    for (row, &[start, end]) in visible.iter().enumerate() {
        for seen in &mut by[start as usize..end.max(start) as usize] {
            if seen[1] == 0 {
                seen[0] = row as i32;
            }
            seen[1] = row as i32 + 1;
        }
    }
    by
}

/// One set of sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub mask: Mask,
}

impl Shape {
    pub(super) fn new(queries: usize, keys: usize, heads: usize, kv_heads: usize, head_dim: usize, mask: Mask) -> Self {
        Shape { queries, keys, heads, kv_heads, head_dim, mask }
    }

    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    pub fn label(&self) -> String {
        let Shape { queries, keys, heads, kv_heads, head_dim, mask } = self;
        format!("Nq={queries} Nk={keys} H={heads}/{kv_heads} d={head_dim} {mask:?}")
    }
}

/// q, k, v, visible.
pub(super) fn inputs(shape: &Shape) -> (Vec<Operand>, Vec<[i32; 2]>) {
    let Shape { queries, keys, heads, kv_heads, head_dim, mask } = *shape;
    let mut draw = Draw::new(&shape.label());
    let mut inputs = vec![
        draw.normals("q", [queries, heads, head_dim], 1.0).mixed(),
        draw.normals("k", [keys, kv_heads, head_dim], 1.0).mixed(),
        draw.normals("v", [keys, kv_heads, head_dim], 1.0).mixed(),
    ];
    let visible = mask.intervals(queries, keys, &mut draw);
    inputs.push(Operand::ints("visible", [queries, 2], visible.iter().flatten().copied()));
    (inputs, visible)
}

/// Pairs of a row and a key that it sees.
pub(super) fn pairs(visible: &[[i32; 2]]) -> u64 {
    visible.iter().map(|&[start, end]| (end - start).max(0) as u64).sum()
}

/// WGSL's exp has an error of 3 + 2·|x| ulp, of which the first counts where x ≈ 0 and the probability is large.
pub(super) const EXP_ULP: f64 = 8.0;
