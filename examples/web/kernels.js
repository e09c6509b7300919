// One function for each operation that describing needs: which entry point is taken, with which constants and sizes. Order, layout and
// grid follow from kernels.json (contract.js). Buffers are GPUBuffers; sizes are plain numbers.

import { launch } from "./contract.js";

const powerOfTwo = (n) => 2 ** Math.ceil(Math.log2(n));
const clamp = (n, least, most) => Math.min(Math.max(n, least), most);

// The side of a tile of a [rows, columns] result: the large one reads half as much, but only if its workgroups still fill the GPU.
const tile = (rows, columns) => (Math.ceil(rows / 64) * Math.ceil(columns / 64) >= 256 ? 64 : 32);

// y[row[i]] = table[id[i]]: id [entries], row [entries] or null (row i), table [vocabulary, columns], y [rows, columns].
export function embedding({ table, id, row = null, y, ...sizes }) {
  const entry = sizes.columns % 4 === 0 ? "forward_vec4" : "forward";
  return launch("embedding", entry, {}, { table, id, row, y }, { ...sizes, has_row: row ? 1 : 0 });
}

// The patches of one picture (side × side × 3 bytes) into the rows of y [rows, width] that `row` names.
export function patchEmbed({ side, patch, width, rows, ...buffers }) {
  const grid = side / patch;
  const sizes = { images: 1, height: side, width: side, side: patch, depth: width, rows, grid, across: grid, patches: grid * grid, inner: patch * patch * 3 };
  return launch("patch_embed", "forward_tile", { TILE: tile(grid * grid, width) }, buffers, { ...sizes, parts: 1, is_u8: 1 });
}

// One clip: waveform [samples] → mel [frames, mels]. The workspace, frames · 201 + 1 elements, holds the power and the maximum.
export function logMel({ waveform, basis, bank, range, mel, workspace, samples, frames, mels }) {
  const step = (entry, buffers, constants = {}) => launch("log_mel", entry, constants, buffers, { clips: 1, samples, frames, mels });
  return [
    step("power_tile", { waveform, basis, power: workspace }, { TILE: tile(frames, 402) }),
    step("mel_bank", { m_power: workspace, m_bank: bank, m_range: range, m_mel: mel }),
    step("clip_max", { c_mel: mel, c_max: workspace }),
    step("clamp_scale", { s_max: workspace, s_mel: mel }),
  ];
}

// One convolution of the stem: x [frames, widthIn] → z before and y after the GELU [framesOut, widthOut].
export function conv1d({ frames, framesOut, widthIn, widthOut, stride, ...buffers }) {
  const sizes = { clips: 1, frames, frames_out: framesOut, width_in: widthIn, width_out: widthOut, stride, parts: 1 };
  return launch("conv1d", "forward_tile", { TILE: tile(framesOut, widthOut) }, buffers, sizes);
}

// One convolution of the eye: x [height, width, channelsIn] → z before and y after the GELU [heightOut, widthOut, channelsOut].
export function conv2d({ height, width, channelsIn, channelsOut, stride, ...buffers }) {
  const [heightOut, widthOut] = [Math.ceil(height / stride), Math.ceil(width / stride)];
  const sizes = {
    images: 1, height, width, height_out: heightOut, width_out: widthOut, channels_in: channelsIn, channels_out: channelsOut, stride, parts: 1,
  };
  return launch("conv2d", "forward_tile", { TILE: tile(heightOut * widthOut, channelsOut) }, buffers, sizes);
}

// What is counted of each cell, as `src/ops/local_histogram.rs` has it: colours and directions of edges.
export const COUNTS = 36;

export const cellsOf = (grids) => grids.reduce((sum, grid) => sum + grid * grid, 0);

// The colours and edges of one picture (side × side × 3 bytes), counted in the cells of up to four grids → y [cells, 36]. The workspace,
// cells · 9 elements, holds the edges of each cell before they are compared with their neighbours.
export function localHistogram({ pixels, y, workspace, side, grids }) {
  const [grid0, grid1, grid2, grid3] = grids;
  const sizes = { grid0, grid1, grid2, grid3, images: 1, height: side, width: side, cells: cellsOf(grids) };
  const step = (entry, buffers) => launch("local_histogram", entry, {}, buffers, sizes);
  return [step("bins", { pixels, y, means: workspace }), step("normalise", { n_means: workspace, n_y: y })];
}

// y [m, n] = x [m, k] · wᵀ + bias + residual, w [n, k], bias [n] or null, residual [m, n] or null.
export function linear({ x, w, bias = null, residual = null, y, m, n, k }) {
  const vector = k % 4 === 0 ? 1 : 0;
  const constants = { LAYOUT: 0, BF16: 0, VECTOR_A: vector, VECTOR_B: vector, TILE: tile(m, n) };
  const sizes = { m, n, k, flags: (bias ? 1 : 0) | (residual ? 2 : 0), splits: 1, k_per_split: Math.ceil(k / 16) * 16 };
  return launch("matmul", "tile", constants, { a: x, b: w, bias, residual, c: y }, sizes);
}

// y = norm(x) · weight, x [rows, columns]; with a residual, sum = x + residual is normalised and kept.
export function rmsNorm({ rows, columns, eps, ...buffers }) {
  const threads = clamp(powerOfTwo(columns), 8, 256);
  const sizes = { rows, columns, has_residual: buffers.residual ? 1 : 0, eps, row_threads: threads };
  return launch("rms_norm", "forward", { ROW_THREADS: threads }, buffers, sizes);
}

// x [rows, heads, headDim] normalised per head, then turned by its position; table [positions, headDim/2, 2].
export function qkNormRope({ rows, heads, headDim, positions, eps, ...buffers }) {
  const half = headDim / 2;
  const sizes = { rows, heads, head_dim: headDim, half, positions, parts: 1, eps };
  if (half % 4 !== 0) return launch("qk_norm_rope", "forward_naive", {}, buffers, { ...sizes, head_threads: 1 });
  const threads = powerOfTwo(half / 4);
  return launch("qk_norm_rope", "forward", { HEAD_THREADS: threads }, buffers, { ...sizes, head_threads: threads });
}

// The largest tiles that fit into the 16 KiB of workgroup memory which every WebGPU grants.
function attentionTiles(headDim) {
  const d4 = Math.ceil(headDim / 4);
  const fits = ([q, k]) => 16 * (q + k) * (d4 | 1) + 4 * q * (k + 2) <= 16384 && (q < 64 || d4 <= 16);
  const [q, k] = [[64, 32], [64, 16], [32, 16], [16, 16], [16, 8]].find(fits);
  return { HEAD_DIM: headDim, TILE_Q: q, TILE_K: k, THREADS_X: d4 <= 8 ? 4 : 8 };
}

const attentionSizes = ({ queries, keys, heads, kvHeads, headDim }) => (
  { queries, keys, heads, kv_heads: kvHeads, scale: 1 / Math.sqrt(headDim), head_dim: headDim }
);

// o [queries, heads, headDim] over the keys and values [keys, kvHeads, headDim] that visible [queries, 2] grants each row.
export function attention({ q, k, v, visible, o, lse, ...sizes }) {
  return launch("attention", "forward", attentionTiles(sizes.headDim), { q, k, v, visible, o, lse }, attentionSizes(sizes));
}

// The weights that forward never holds: p [rows, heads, keys] of the queries that row [rows] names.
export function attentionWeights({ q, k, lse, visible, row, p, rows, ...sizes }) {
  return launch("attention", "weights", { HEAD_DIM: sizes.headDim }, { q, k, lse, visible, row, p }, { ...attentionSizes(sizes), rows });
}

// y = silu(gate) · up, `count` elements each.
export function swiglu({ count, ...buffers }) {
  return launch("swiglu", "forward", {}, buffers, { n: count });
}

// The id of the largest of `vocabulary` logits, for each of `rows` rows: greedy.
export function sample({ logits, id, rows, vocabulary }) {
  return launch("sample", "forward", {}, { logits, id }, { rows, vocabulary, top_p: 1 });
}

// The best that a device can do: y = x, `count` floats; and 16 sums per thread of 8 · rounds multiply-adds each.
export function copy({ x, y, count }) {
  return launch("ceiling", "copy", {}, { x, y }, { n: count });
}

export function multiplyAdd({ y, count, rounds }) {
  return launch("ceiling", "multiply_add", {}, { y }, { n: count, rounds, scale: 0.999, shift: 0.001 });
}
