// How each kernel is launched: which entry, what is bound where, the bytes of its Dims, how many workgroups. Every number follows
// from the header of the shader; kernels.json says the same for machines. Buffers are GPUBuffers; sizes are plain numbers.

const ceilDiv = (a, b) => Math.ceil(a / b);
const powerOfTwo = (n) => 2 ** Math.ceil(Math.log2(n));
const clamp = (n, least, most) => Math.min(Math.max(n, least), most);

// A number of a Dims that is f32; all others are u32.
const f32 = (value) => ({ f32: value });

// The bytes of a Dims: four to a number, little-endian.
function dimsOf(...numbers) {
  const view = new DataView(new ArrayBuffer(numbers.length * 4));
  numbers.forEach((n, i) => (typeof n === "number" ? view.setUint32(4 * i, n, true) : view.setFloat32(4 * i, n.f32, true)));
  return new Uint8Array(view.buffer);
}

const launch = (op, entry, constants, buffers, dims, groups) => ({ file: `shaders/${op}.wgsl`, entry, constants, buffers, dims: dimsOf(...dims), groups });

// The side of a tile of a [rows, columns] result: the large one reads half as much, but only if its workgroups still fill the GPU.
function tiles(rows, columns) {
  const of = (side) => ceilDiv(rows, side) * ceilDiv(columns, side);
  const side = of(64) >= 256 ? 64 : 32;
  return [side, of(side)];
}

// y[row[i]] = table[id[i]]: id [entries], row [entries] or null (row i), table [vocabulary, columns], y [rows, columns].
export function embedding({ table, id, row = null, y, entries, columns, vocabulary, rows }) {
  const [entry, each] = columns % 4 === 0 ? ["forward_vec4", 1024] : ["forward", 256];
  const dims = [entries, columns, vocabulary, rows, row ? 1 : 0, 0, 0, 0];
  return launch("embedding", entry, {}, [table, id, row, y], dims, ceilDiv(entries * columns, each));
}

// Patches of `image` (side × side × 3 bytes) into the rows of y [rows, width] that `row` names.
export function patchEmbed({ pixels, weight, bias, position, row, y, side, patch, width, rows }) {
  const grid = side / patch;
  const [tile, groups] = tiles(grid * grid, width);
  const dims = [1, side, side, patch, width, rows, grid, grid, grid * grid, patch * patch * 3, 1, 1];
  return launch("patch_embed", "forward_tile", { TILE: tile }, [pixels, weight, bias, position, row, y], dims, groups);
}

// One clip: waveform [samples] → mel [frames, mels]. The workspace has frames · 201 + 1 elements.
export function logMel({ waveform, basis, bank, range, mel, workspace, samples, frames, mels }) {
  const dims = [1, samples, frames, mels];
  const [tile, groups] = tiles(frames, 402);
  return [
    launch("log_mel", "power_tile", { TILE: tile }, [waveform, basis, workspace], dims, groups),
    launch("log_mel", "mel_bank", {}, [workspace, bank, range, mel], dims, ceilDiv(frames * mels, 64)),
    launch("log_mel", "clip_max", {}, [mel, workspace], dims, 1),
    launch("log_mel", "clamp_scale", {}, [workspace, mel], dims, ceilDiv(frames * mels, 256)),
  ];
}

// One convolution of the stem: x [frames, widthIn] → z before and y after the GELU [framesOut, widthOut].
export function conv1d({ x, weight, bias, z, y, frames, framesOut, widthIn, widthOut, stride }) {
  const [tile, groups] = tiles(framesOut, widthOut);
  const dims = [1, frames, framesOut, widthIn, widthOut, stride, 1, 0];
  return launch("conv1d", "forward_tile", { TILE: tile }, [x, weight, bias, z, y], dims, groups);
}

// y [m, n] = x [m, k] · wᵀ, w [n, k].
export function linear({ x, w, y, m, n, k }) {
  const groups = (side) => ceilDiv(m, side) * ceilDiv(n, side);
  const tile = groups(64) >= 256 ? 64 : 32;
  const vector = k % 4 === 0 ? 1 : 0;
  const constants = { LAYOUT: 0, BF16: 0, VECTOR_A: vector, VECTOR_B: vector, TILE: tile };
  return launch("matmul", "tile", constants, [x, w, null, null, y], [m, n, k, 0, 1, ceilDiv(k, 16) * 16, 0, 0], groups(tile));
}

// y = norm(x) · weight, x [rows, columns]; with a residual, sum = x + residual is normalised and kept.
export function rmsNorm({ x, residual = null, weight, sum = null, y, rstd, rows, columns, eps }) {
  const threads = clamp(powerOfTwo(columns), 8, 256);
  const dims = [rows, columns, 0, residual ? 1 : 0, f32(eps), threads, 0, 0];
  return launch("rms_norm", "forward", { ROW_THREADS: threads }, [x, residual, weight, sum, y, rstd], dims, ceilDiv(rows, 256 / threads));
}

// x [rows, heads, headDim] normalised per head, then turned by its position; table [positions, headDim/2, 2].
export function qkNormRope({ x, weight, position, table, y, rstd, rows, heads, headDim, positions, eps }) {
  const half = headDim / 2;
  const fast = half % 4 === 0 && half <= 128;
  const threads = fast ? powerOfTwo(half / 4) : 1;
  const dims = [rows, heads, headDim, half, positions, 1, f32(eps), threads];
  const [entry, constants] = fast ? ["forward", { HEAD_THREADS: threads }] : ["forward_naive", {}];
  return launch("qk_norm_rope", entry, constants, [x, weight, position, table, y, rstd], dims, ceilDiv(rows * heads, 256 / threads));
}

// The largest tiles that fit into the 16 KiB of workgroup memory which every WebGPU grants.
function attentionTiles(headDim) {
  const d4 = ceilDiv(headDim, 4);
  const fits = ([q, k]) => 16 * (q + k) * (d4 | 1) + 4 * q * (k + 2) <= 16384 && (q < 64 || d4 <= 16);
  const [q, k] = [[64, 32], [64, 16], [32, 16], [16, 16], [16, 8]].find(fits);
  return { HEAD_DIM: headDim, TILE_Q: q, TILE_K: k, THREADS_X: d4 <= 8 ? 4 : 8 };
}

const attentionDims = ({ queries, keys, heads, kvHeads, headDim }, rows) => [queries, keys, heads, kvHeads, f32(1 / Math.sqrt(headDim)), headDim, rows, 0];

// o [queries, heads, headDim] over the keys and values [keys, kvHeads, headDim] that visible [queries, 2] grants each row.
export function attention({ q, k, v, visible, o, lse, ...sizes }) {
  const { queries, heads, headDim } = sizes;
  const constants = attentionTiles(headDim);
  return launch("attention", "forward", constants, [q, k, v, visible, o, lse], attentionDims(sizes, 0), ceilDiv(queries, constants.TILE_Q) * heads);
}

// The weights that forward never holds: p [rows, heads, keys] of the queries that row [rows] names.
export function attentionWeights({ q, k, lse, visible, row, p, rows, ...sizes }) {
  const { heads, keys, headDim } = sizes;
  return launch("attention", "weights", { HEAD_DIM: headDim }, [q, k, lse, visible, row, p], attentionDims(sizes, rows), ceilDiv(rows * heads * keys, 64));
}

// y = silu(gate) · up, `count` elements each.
export function swiglu({ gate, up, y, count }) {
  return launch("swiglu", "forward", {}, [gate, up, y], [count, 0, 0, 0], ceilDiv(count, 1024));
}

// The id of the largest of `vocabulary` logits, for each of `rows` rows: greedy.
export function sample({ logits, random, id, rows, vocabulary }) {
  return launch("sample", "forward", {}, [logits, random, id], [rows, vocabulary, 0, f32(0), f32(1), 0, 0, 0], rows);
}

// What a device does at best: y = x, `count` floats; and 16 sums per thread of 8 · rounds multiply-adds each.
export function copy({ x, y, count }) {
  return launch("ceiling", "copy", {}, [x, y], [count, 0, f32(0), f32(0)], ceilDiv(count, 8192));
}

export function multiplyAdd({ y, count, rounds }) {
  return launch("ceiling", "multiply_add", {}, [y], [count, rounds, f32(0.999), f32(0.001)], count / 256);
}
