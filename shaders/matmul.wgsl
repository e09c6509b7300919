// matmul: C (+)= A · B + bias + residual, three layouts of A and B, f32 or bf16 operands, f32 sums and output.
//
//   LAYOUT   A        B
//   NT = 0   [M, K]   [N, K]   y = x · Wᵀ, a linear layer with its weight as checkpoints store it
//   NN = 1   [M, K]   [K, N]   dx = dy · W
//   TN = 2   [K, M]   [K, N]   dW = dyᵀ · x: M and N small, K long: the split rung
//
// Backward.  With Y = X · Wᵀ:   dX = dY · W (NN),   dW = dYᵀ · X (TN).
//
// The ladder, in the order of this file, numbered as in the CUDA twin, whose rung 3 is for tensor cores:
//   rung 1: naive  one thread per element of C.
//   rung 2: tile   a workgroup owns TILE × TILE of C, stages TILE × 16 of A and B in workgroup memory, a thread keeps 4 × 4 of C in
//                  registers.
//   rung 4: small  the same code with a TILE of 32, where 64 would leave the GPU idle.
//   rung 5: split  tile with splits > 1, then split_finish: several workgroups share a tile of C, each with its own stretch of K;
//                  their partial tiles are added in order by a second pass, so that every run has the same bits.
//
// naive         block 64, grid = ceil(M · N / 64): C
//   0  a         [M, K]   f32|bf16  read (LAYOUT 2: [K, M]; BF16: bf16)
//   1  b         [N, K]   f32|bf16  read (LAYOUT 1, 2: [K, N]; BF16: bf16)
//   2  bias      [N]      f32  read (only if flags & 1)
//   3  residual  [M, N]   f32  read (only if flags & 2)
//   4  c         [M, N]   f32  overwritten (accumulated if flags & 4)
//   5  dims      uniform
// tile          block (TILE / 4)², one tile of C over one stretch of K per workgroup,
//               grid = splits · ceil(M / TILE) · ceil(N / TILE): C, or its parts
//   0  a         [M, K]   f32|bf16  read (LAYOUT 2: [K, M]; BF16: bf16)
//   1  b         [N, K]   f32|bf16  read (LAYOUT 1, 2: [K, N]; BF16: bf16)
//   2  bias      [N]      f32  read (only if flags & 1)
//   3  residual  [M, N]   f32  read (only if flags & 2)
//   4  c         [splits, M, N]  f32  overwritten (accumulated if flags & 4; no flags where splits > 1)
//   5  dims      uniform
// split_finish  block 64, one element of C per thread, grid = ceil(M · N / 64): C from its parts
//   0  partial   [splits, M, N]  f32  read (the c of tile)
//   1  bias      [N]             f32  read (only if flags & 1)
//   2  residual  [M, N]          f32  read (only if flags & 2)
//   3  c         [M, N]          f32  overwritten (accumulated if flags & 4)
//   4  dims      uniform
//
// Constants: LAYOUT: 0, 1, 2; BF16: 0, 1; VECTOR_A: 0, 1; VECTOR_B: 0, 1; TILE: 32, 64. VECTOR_A (VECTOR_B) is 1
// only where the rows of a (of b), as they lie in memory, have a multiple of 4 elements.
// Precision: f32 sums in a fixed order, the same bits on every run, for bf16 operands too; splits are added in order.
// Limits: M, N ≥ 1, K ≥ 0, every matrix < 2³¹ elements; a and b allocated in whole 16 bytes (nothing past their last element
// is used). 2 · M · N · K operations; bound by arithmetic from about K = 64 on.
// Twin: kernels/matmul.cu.

struct Dims {
    m: u32,                // M
    n: u32,                // N
    k: u32,                // K
    flags: u32,            // 1 bias, 2 residual, 4 accumulate
    splits: u32,           // stretches of K
    k_per_split: u32,      // their length, a multiple of TILE_K
    padding0: u32,
    padding1: u32,
}

// Operands are bound as words, 16 bytes at a time: one shader serves f32 (a word each) and bf16 (two to a word).
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;
@group(0) @binding(5) var<uniform> dims: Dims;

// 0 NT, 1 NN, 2 TN.
const LAYOUT: u32 = 0u;
// 1: a and b hold bf16, else f32.
const BF16: u32 = 0u;
// 1: the rows of a (of b) as they lie in memory have a multiple of 4 elements, so that four neighbours are one load.
const VECTOR_A: u32 = 0u;
const VECTOR_B: u32 = 0u;
// Rows and columns of C per workgroup: 64 or 32.
const TILE: u32 = 64u;
// Elements of K staged at a time. 16 keeps both stages in 8 KiB, so that several workgroups fit on a core.
const TILE_K: u32 = 16u;
const QUADS: u32 = TILE / 4u;
const THREADS: u32 = QUADS * QUADS;

fn low(word: u32) -> f32 {
    return bitcast<f32>(word << 16u);
}

fn high(word: u32) -> f32 {
    return bitcast<f32>(word & 0xffff0000u);
}

// Element i of a.
fn a_element(i: u32) -> f32 {
    if BF16 == 1u {
        let word = a[i / 8u][(i / 2u) % 4u];
        return select(low(word), high(word), i % 2u == 1u);
    }
    return bitcast<f32>(a[i / 4u][i % 4u]);
}

fn b_element(i: u32) -> f32 {
    if BF16 == 1u {
        let word = b[i / 8u][(i / 2u) % 4u];
        return select(low(word), high(word), i % 2u == 1u);
    }
    return bitcast<f32>(b[i / 4u][i % 4u]);
}

// Writes one element of C: its sum with what the flags add to it.
fn finish(split: u32, row: u32, column: u32, sum: f32) {
    let at = (split * dims.m + row) * dims.n + column;
    var value = sum;
    if (dims.flags & 1u) != 0u {
        value += bias[column];
    }
    if (dims.flags & 2u) != 0u {
        value += residual[at];
    }
    if (dims.flags & 4u) != 0u {
        value += c[at];
    }
    c[at] = value;
}

// ── rung 1: naive: one thread per element of C ───────────────────────────────────────────────────────────────────────

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    let at = (group.x + group.y * groups.x) * 64u + thread;
    if at >= dims.m * dims.n {
        return;
    }
    let row = at / dims.n;
    let column = at % dims.n;
    var sum = 0.0;
    for (var k = 0u; k < dims.k; k++) {
        let a_at = select(row * dims.k + k, k * dims.m + row, LAYOUT == 2u);
        let b_at = select(k * dims.n + column, column * dims.k + k, LAYOUT == 0u);
        sum = fma(a_element(a_at), b_element(b_at), sum);
    }
    finish(0u, row, column, sum);
}

// ── rung 2: tile: 4 × 4 of C in registers per thread ─────────────────────────────────────────────────────────────────

// Four neighbours of a stored row of a: (row, column .. column + 4), zeros outside [rows, columns].
fn a_quad(row: u32, column: u32, rows: u32, columns: u32) -> vec4<f32> {
    var quad = vec4<f32>(0.0);
    if row >= rows || column >= columns {
        return quad;
    }
    let i = row * columns + column;
    if VECTOR_A == 1u {
        if BF16 == 1u {
            let words = a[i / 8u];
            let pair = select(words.xy, words.zw, i % 8u >= 4u);
            return vec4<f32>(low(pair.x), high(pair.x), low(pair.y), high(pair.y));
        }
        return bitcast<vec4<f32>>(a[i / 4u]);
    }
    quad.x = a_element(i);
    if column + 1u < columns { quad.y = a_element(i + 1u); }
    if column + 2u < columns { quad.z = a_element(i + 2u); }
    if column + 3u < columns { quad.w = a_element(i + 3u); }
    return quad;
}

fn b_quad(row: u32, column: u32, rows: u32, columns: u32) -> vec4<f32> {
    var quad = vec4<f32>(0.0);
    if row >= rows || column >= columns {
        return quad;
    }
    let i = row * columns + column;
    if VECTOR_B == 1u {
        if BF16 == 1u {
            let words = b[i / 8u];
            let pair = select(words.xy, words.zw, i % 8u >= 4u);
            return vec4<f32>(low(pair.x), high(pair.x), low(pair.y), high(pair.y));
        }
        return bitcast<vec4<f32>>(b[i / 4u]);
    }
    quad.x = b_element(i);
    if column + 1u < columns { quad.y = b_element(i + 1u); }
    if column + 2u < columns { quad.z = b_element(i + 2u); }
    if column + 3u < columns { quad.w = b_element(i + 3u); }
    return quad;
}

// Both staged with k as the row, four neighbours of C's row (column) to an element: a step of k is one read of each.
var<workgroup> a_tile: array<vec4<f32>, TILE_K * QUADS>;
var<workgroup> b_tile: array<vec4<f32>, TILE_K * QUADS>;

// Stages A[first_row .. + TILE, first_k .. + TILE_K] and B likewise; zeros outside the matrices.
fn stage(thread: u32, first_row: u32, first_column: u32, first_k: u32) {
    if LAYOUT == 2u {
        for (var i = thread; i < TILE_K * QUADS; i += THREADS) {
            a_tile[i] = a_quad(first_k + i / QUADS, first_row + (i % QUADS) * 4u, dims.k, dims.m);
        }
    } else {
        // K runs along the stored rows: a thread transposes a 4 × 4 block in registers. TILE threads take A …
        if thread < TILE {
            let k = (thread % 4u) * 4u;
            let row = thread / 4u;
            let block = transpose(mat4x4<f32>(
                a_quad(first_row + row * 4u, first_k + k, dims.m, dims.k),
                a_quad(first_row + row * 4u + 1u, first_k + k, dims.m, dims.k),
                a_quad(first_row + row * 4u + 2u, first_k + k, dims.m, dims.k),
                a_quad(first_row + row * 4u + 3u, first_k + k, dims.m, dims.k)));
            a_tile[k * QUADS + row] = block[0];
            a_tile[(k + 1u) * QUADS + row] = block[1];
            a_tile[(k + 2u) * QUADS + row] = block[2];
            a_tile[(k + 3u) * QUADS + row] = block[3];
        }
    }
    if LAYOUT == 0u {
        // … and the last TILE take B, which are other threads: at least 2 · TILE of them exist.
        if thread >= THREADS - TILE {
            let lane = thread - (THREADS - TILE);
            let k = (lane % 4u) * 4u;
            let row = lane / 4u;
            let block = transpose(mat4x4<f32>(
                b_quad(first_column + row * 4u, first_k + k, dims.n, dims.k),
                b_quad(first_column + row * 4u + 1u, first_k + k, dims.n, dims.k),
                b_quad(first_column + row * 4u + 2u, first_k + k, dims.n, dims.k),
                b_quad(first_column + row * 4u + 3u, first_k + k, dims.n, dims.k)));
            b_tile[k * QUADS + row] = block[0];
            b_tile[(k + 1u) * QUADS + row] = block[1];
            b_tile[(k + 2u) * QUADS + row] = block[2];
            b_tile[(k + 3u) * QUADS + row] = block[3];
        }
    } else {
        for (var i = thread; i < TILE_K * QUADS; i += THREADS) {
            b_tile[i] = b_quad(first_k + i / QUADS, first_column + (i % QUADS) * 4u, dims.k, dims.n);
        }
    }
}

// A thread's 4 × 4 of C over [first_k, end_k): row i of it in column i of the matrix.
fn tile_sum(thread: u32, first_row: u32, first_column: u32, first_k: u32, end_k: u32) -> mat4x4<f32> {
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    let quad_row = thread / QUADS;
    let quad_column = thread % QUADS;
    for (var k0 = first_k; k0 < end_k; k0 += TILE_K) {
        stage(thread, first_row, first_column, k0);
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k++) {
            let x = a_tile[k * QUADS + quad_row];
            let y = b_tile[k * QUADS + quad_column];
            sum0 = fma(vec4<f32>(x.x), y, sum0);
            sum1 = fma(vec4<f32>(x.y), y, sum1);
            sum2 = fma(vec4<f32>(x.z), y, sum2);
            sum3 = fma(vec4<f32>(x.w), y, sum3);
        }
        // The next stage overwrites what slower threads still read.
        workgroupBarrier();
    }
    return mat4x4<f32>(sum0, sum1, sum2, sum3);
}

fn finish_row(split: u32, row: u32, column: u32, sum: vec4<f32>) {
    if row >= dims.m {
        return;
    }
    if column < dims.n { finish(split, row, column, sum.x); }
    if column + 1u < dims.n { finish(split, row, column + 1u, sum.y); }
    if column + 2u < dims.n { finish(split, row, column + 2u, sum.z); }
    if column + 3u < dims.n { finish(split, row, column + 3u, sum.w); }
}

@compute @workgroup_size(THREADS)
fn tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let tiles_m = (dims.m + TILE - 1u) / TILE;
    let tiles_n = (dims.n + TILE - 1u) / TILE;
    let split = index / (tiles_m * tiles_n);
    if split >= dims.splits {
        return;
    }
    let first_row = (index / tiles_n) % tiles_m * TILE;
    let first_column = index % tiles_n * TILE;
    let first_k = split * dims.k_per_split;
    let end_k = min(first_k + dims.k_per_split, dims.k);
    let sum = tile_sum(thread, first_row, first_column, first_k, end_k);
    let row = first_row + thread / QUADS * 4u;
    let column = first_column + thread % QUADS * 4u;
    finish_row(split, row, column, sum[0]);
    finish_row(split, row + 1u, column, sum[1]);
    finish_row(split, row + 2u, column, sum[2]);
    finish_row(split, row + 3u, column, sum[3]);
}

// ── rung 5: split: the partial tiles of all stretches of K, in order ─────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> s_partial: array<f32>;
@group(0) @binding(1) var<storage, read> s_bias: array<f32>;
@group(0) @binding(2) var<storage, read> s_residual: array<f32>;
@group(0) @binding(3) var<storage, read_write> s_c: array<f32>;
@group(0) @binding(4) var<uniform> s_dims: Dims;

@compute @workgroup_size(64)
fn split_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let at = (group.x + group.y * groups.x) * 64u + thread;
    let elements = s_dims.m * s_dims.n;
    if at >= elements {
        return;
    }
    var value = 0.0;
    for (var split = 0u; split < s_dims.splits; split++) {
        value += s_partial[split * elements + at];
    }
    if (s_dims.flags & 1u) != 0u {
        value += s_bias[at % s_dims.n];
    }
    if (s_dims.flags & 2u) != 0u {
        value += s_residual[at];
    }
    if (s_dims.flags & 4u) != 0u {
        value += s_c[at];
    }
    s_c[at] = value;
}
