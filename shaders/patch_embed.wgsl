// patch_embed: y[row[m]] = x[m] · Wᵀ + b + position[px(m), 0] + position[py(m), 1],   x = (pixel / 255 − 0.5) / 0.5.
//
// Names: M = I · patches. Patch m of them: raster order within its image; its K = P·P·3 numbers in the order (row, column,
// channel). x is never written out: every kernel is an implicit GEMM whose loads unfold the picture.
//
// Backward, with g[m] = dy[row[m]] (0 where the patch is unused):
//   dW = Σ_m g[m]ᵀ x[m],   db = Σ_m g[m],   dposition[c, 0] = Σ_{px(m)=c} g[m],   dposition[r, 1] = Σ_{py(m)=r} g[m],
//   dpixels[m] = g[m] · W / 127.5.
// The sums for b and position share one first pass: sums[p] = Σ_images g[image, p].
//
// The ladder, in the order of this file (the CUDA twin has a third rung, on tensor cores):
//   rung 1: naive  one result per thread.
//   rung 2: tile   TILE × TILE results per workgroup, (TILE/4)² threads of 4 × 4 results, TILE_K deep, both operands staged as vec4.
//   beside it      the sums for b and position, and the second pass of dW, which adds up parts.
//
// forward_naive     block 64, one result per thread, grid = ceil(M · D / 64): y
//   0  pixels       [I, H, W, 3]   f32|u8     read (is_u8: u8)
//   1  weight       [D, K]         f32   read
//   2  bias         [D]            f32   read
//   3  position     [G, 2, D]      f32   read
//   4  row          [M]            i32   read
//   5  y            [N, D]         f32   overwritten (only the rows that are named)
//   6  dims         uniform
// forward_tile      block (TILE/4)², grid = ceil(M / TILE) · ceil(D / TILE): y
//   0  pixels       [I, H, W, 3]   f32|u8     read (is_u8: u8; as words, four u8 to one)
//   1  weight       [D, K]         f32   read
//   2  bias         [D]            f32   read
//   3  position     [G, 2, D]      f32   read
//   4  row          [M]            i32   read (outside 0..N: the patch is unused)
//   5  y            [N, D]         f32   overwritten (only the rows that are named)
//   6  dims         uniform
// dweight_naive     block 64, one result per thread, grid = ceil(D · K / 64): dW
//   0  pixels       [I, H, W, 3]   f32|u8     read (is_u8: u8)
//   1  w_row        [M]            i32   read
//   2  w_dy         [N, D]         f32   read
//   3  w_partial    [D, K]         f32   accumulated (dweight itself: one part)
//   4  w_dims       uniform
// dweight_tile      block (TILE/4)², grid = parts · ceil(D / TILE) · ceil(K / TILE): parts of dW
//   0  pixels       [I, H, W, 3]   f32|u8     read (is_u8: u8)
//   1  w_row        [M]            i32   read
//   2  w_dy         [N, D]         f32   read
//   3  w_partial    [parts, D, K]  f32   overwritten
//   4  w_dims       uniform
// dweight_finish    block 64, one result per thread, grid = ceil(D · K / 64): dW += Σ of its parts
//   0  f_partial    [parts, D, K]  f32   read
//   1  f_dweight    [D, K]         f32   accumulated
//   2  f_dims       uniform
// position_sums     block 64, one result per thread, grid = ceil(patches · D / 64): Σ_images g
//   0  s_row        [M]            i32   read
//   1  s_dy         [N, D]         f32   read
//   2  s_sums       [patches, D]   f32   overwritten (from element parts · D · K of the workspace)
//   3  s_dims       uniform
// position_finish   block 64, one result per thread, grid = ceil((2 · G + 1) · D / 64): db and dposition from these sums
//   0  t_sums       [patches, D]   f32   read (from element parts · D · K of the workspace)
//   1  t_dbias      [D]            f32   accumulated
//   2  t_dposition  [G, 2, D]      f32   accumulated
//   3  t_dims       uniform
// dpixels_naive     block 64, one result per thread, grid = ceil(M · K / 64): dpixels
//   0  x_weight     [D, K]         f32   read
//   1  x_row        [M]            i32   read
//   2  x_dy         [N, D]         f32   read
//   3  dpixels      [I, H, W, 3]   f32   overwritten
//   4  x_dims       uniform
// dpixels_tile      block (TILE/4)², grid = ceil(M / TILE) · ceil(K / TILE): dpixels
//   0  x_weight     [D, K]         f32   read
//   1  x_row        [M]            i32   read
//   2  x_dy         [N, D]         f32   read
//   3  dpixels      [I, H, W, 3]   f32   overwritten
//   4  x_dims       uniform
//
// Constants: TILE: 32, 64.
// Precision: f32 sums in a fixed order, the same bits on every run.
// Limits: H and W multiples of P, G ≥ W/P, G ≥ H/P, across = W/P, patches = across · (H/P), K = P · P · 3, rows distinct, every size < 2³¹.
// Twin: kernels/patch_embed.cu.

struct Dims {
    images: u32,           // I
    height: u32,           // H
    width: u32,            // W
    side: u32,             // P
    depth: u32,            // D
    rows: u32,             // N
    grid: u32,             // G
    across: u32,           // patches in a row of patches: W / P
    patches: u32,          // patches of a picture
    inner: u32,            // K = P·P·3
    parts: u32,            // ranges of patches that dW is summed over apart
    is_u8: u32,
}

const NONE: u32 = 0xffffffffu;

// The first element of patch m in the picture.
fn patch_origin(m: u32, d: Dims) -> u32 {
    let p = m % d.patches;
    return (((m / d.patches) * d.height + (p / d.across) * d.side) * d.width + (p % d.across) * d.side) * 3u;
}

// Where element k of a patch lies behind its first one.
fn patch_offset(k: u32, d: Dims) -> u32 {
    let line = 3u * d.side;
    return (k / line) * d.width * 3u + k % line;
}

// Row of the token matrix, or NONE.
fn checked_row(row: i32, d: Dims) -> u32 {
    return select(NONE, u32(row), row >= 0 && row < i32(d.rows));
}

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> position: array<f32>;
@group(0) @binding(4) var<storage, read> row: array<i32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> dims: Dims;

// (v/255 − 0.5)/0.5, written so that 0, 127.5 and 255 come out as exactly −1, 0 and 1.
fn pixel(index: u32, is_u8: u32) -> f32 {
    var value: f32;
    if is_u8 != 0u {
        value = f32((pixels[index / 4u] >> (8u * (index % 4u))) & 255u);
    } else {
        value = bitcast<f32>(pixels[index]);
    }
    return (value - 127.5) * (1.0 / 127.5);
}

fn write_y(m: u32, to: u32, n: u32, value: f32) {
    if n >= dims.depth {
        return;
    }
    let p = m % dims.patches;
    let place = position[(p % dims.across) * 2u * dims.depth + n] + position[((p / dims.across) * 2u + 1u) * dims.depth + n];
    y[to * dims.depth + n] = value + bias[n] + place;
}

// ── rung 1: naive: one result per thread ─────────────────────────────────────────────────────────────────────────────

@compute @workgroup_size(64)
fn forward_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= dims.images * dims.patches * dims.depth {
        return;
    }
    let m = index / dims.depth;
    let n = index % dims.depth;
    let to = checked_row(row[m], dims);
    if to == NONE {
        return;
    }
    let first = patch_origin(m, dims);
    var total = 0.0;
    for (var k = 0u; k < dims.inner; k++) {
        total = fma(pixel(first + patch_offset(k, dims), dims.is_u8), weight[n * dims.inner + k], total);
    }
    write_y(m, to, n, total);
}

@group(0) @binding(1) var<storage, read> w_row: array<i32>;
@group(0) @binding(2) var<storage, read> w_dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> w_partial: array<f32>;
@group(0) @binding(4) var<uniform> w_dims: Dims;

@compute @workgroup_size(64)
fn dweight_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= w_dims.depth * w_dims.inner {
        return;
    }
    let n = index / w_dims.inner;
    let offset = patch_offset(index % w_dims.inner, w_dims);
    var total = 0.0;
    for (var m = 0u; m < w_dims.images * w_dims.patches; m++) {
        let source = checked_row(w_row[m], w_dims);
        if source != NONE {
            total = fma(w_dy[source * w_dims.depth + n], pixel(patch_origin(m, w_dims) + offset, w_dims.is_u8), total);
        }
    }
    w_partial[index] += total;
}

@group(0) @binding(0) var<storage, read> x_weight: array<f32>;
@group(0) @binding(1) var<storage, read> x_row: array<i32>;
@group(0) @binding(2) var<storage, read> x_dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dpixels: array<f32>;
@group(0) @binding(4) var<uniform> x_dims: Dims;

@compute @workgroup_size(64)
fn dpixels_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= x_dims.images * x_dims.patches * x_dims.inner {
        return;
    }
    let m = index / x_dims.inner;
    let k = index % x_dims.inner;
    let source = checked_row(x_row[m], x_dims);
    var total = 0.0;
    if source != NONE {
        for (var n = 0u; n < x_dims.depth; n++) {
            total = fma(x_dy[source * x_dims.depth + n], x_weight[n * x_dims.inner + k], total);
        }
    }
    dpixels[patch_origin(m, x_dims) + patch_offset(k, x_dims)] = total * (1.0 / 127.5);
}

// ── rung 2: tile: 4 × 4 results in registers per thread ──────────────────────────────────────────────────────────────

// ┌ the same in conv1d.wgsl, conv2d.wgsl, patch_embed.wgsl: tiles of a product
const TILE: u32 = 32u;
const TILE_K: u32 = 16u;
const THREADS: u32 = (TILE / 4u) * (TILE / 4u);
// vec4s from one k to the next; the odd one keeps neighbouring k in different banks.
const STRIDE: u32 = TILE / 4u + 1u;
const QUADS: u32 = TILE_K * (TILE / 4u);

var<workgroup> a_tile: array<vec4<f32>, TILE_K * STRIDE>;
var<workgroup> b_tile: array<vec4<f32>, TILE_K * STRIDE>;

struct Acc { r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32> }

// One staged slice: acc[4, 4] += a[k, 4]ᵀ b[k, 4] for every k.
fn multiply(start: Acc, thread: u32) -> Acc {
    var acc = start;
    let i = thread / (TILE / 4u);
    let j = thread % (TILE / 4u);
    for (var k = 0u; k < TILE_K; k++) {
        let a = a_tile[k * STRIDE + i];
        let b = b_tile[k * STRIDE + j];
        acc.r0 = fma(vec4(a.x), b, acc.r0);
        acc.r1 = fma(vec4(a.y), b, acc.r1);
        acc.r2 = fma(vec4(a.z), b, acc.r2);
        acc.r3 = fma(vec4(a.w), b, acc.r3);
    }
    return acc;
}
// └ the same up to here: tiles of a product

// Per row or column of the tile: where its elements start in the picture, and which row of the token matrix it is.
var<workgroup> origin: array<u32, TILE>;
var<workgroup> token: array<u32, TILE>;

fn write_y4(m: u32, to: u32, n: u32, values: vec4<f32>) {
    if to == NONE {
        return;
    }
    write_y(m, to, n, values.x);
    write_y(m, to, n + 1u, values.y);
    write_y(m, to, n + 2u, values.z);
    write_y(m, to, n + 3u, values.w);
}

@compute @workgroup_size(THREADS)
fn forward_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let count = dims.images * dims.patches;
    let across = (dims.depth + TILE - 1u) / TILE;
    if index >= ((count + TILE - 1u) / TILE) * across {
        return;
    }
    let m0 = (index / across) * TILE;
    let n0 = (index % across) * TILE;
    if thread < TILE {
        let m = m0 + thread;
        origin[thread] = NONE;
        token[thread] = NONE;
        if m < count {
            origin[thread] = patch_origin(m, dims);
            token[thread] = checked_row(row[m], dims);
        }
    }
    workgroupBarrier();

    var acc = Acc();
    for (var k0 = 0u; k0 < dims.inner; k0 += TILE_K) {
        // Neighbouring threads take neighbouring k: both operands are read along their rows.
        for (var quad = thread; quad < QUADS; quad += THREADS) {
            let k = k0 + quad % TILE_K;
            let i = quad / TILE_K;
            var a = vec4(0.0);
            var b = vec4(0.0);
            if k < dims.inner {
                let offset = patch_offset(k, dims);
                for (var e = 0u; e < 4u; e++) {
                    let first = origin[i * 4u + e];
                    if first != NONE {
                        a[e] = pixel(first + offset, dims.is_u8);
                    }
                    let n = n0 + i * 4u + e;
                    if n < dims.depth {
                        b[e] = weight[n * dims.inner + k];
                    }
                }
            }
            a_tile[(quad % TILE_K) * STRIDE + i] = a;
            b_tile[(quad % TILE_K) * STRIDE + i] = b;
        }
        workgroupBarrier();
        acc = multiply(acc, thread);
        workgroupBarrier();
    }

    let i = (thread / (TILE / 4u)) * 4u;
    let n = n0 + (thread % (TILE / 4u)) * 4u;
    write_y4(m0 + i, token[i], n, acc.r0);
    write_y4(m0 + i + 1u, token[i + 1u], n, acc.r1);
    write_y4(m0 + i + 2u, token[i + 2u], n, acc.r2);
    write_y4(m0 + i + 3u, token[i + 3u], n, acc.r3);
}

fn write_partial4(part: u32, n: u32, k: u32, values: vec4<f32>) {
    if n >= w_dims.depth {
        return;
    }
    for (var e = 0u; e < 4u; e++) {
        if k + e < w_dims.inner {
            w_partial[(part * w_dims.depth + n) * w_dims.inner + k + e] = values[e];
        }
    }
}

// The sum runs over patches: rows of the result are n of D, columns are k of K.
@compute @workgroup_size(THREADS)
fn dweight_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let across = (w_dims.inner + TILE - 1u) / TILE;
    let tiles = ((w_dims.depth + TILE - 1u) / TILE) * across;
    if index >= tiles * w_dims.parts {
        return;
    }
    let part = index / tiles;
    let n0 = ((index % tiles) / across) * TILE;
    let k0 = (index % across) * TILE;
    let count = w_dims.images * w_dims.patches;
    let per_part = (count + w_dims.parts - 1u) / w_dims.parts;
    let end = min(count, (part + 1u) * per_part);
    if thread < TILE {
        origin[thread] = select(NONE, patch_offset(k0 + thread, w_dims), k0 + thread < w_dims.inner);
    }
    workgroupBarrier();

    var acc = Acc();
    for (var m0 = part * per_part; m0 < end; m0 += TILE_K) {
        for (var quad = thread; quad < QUADS; quad += THREADS) {
            let m = m0 + quad / (TILE / 4u);
            let i = quad % (TILE / 4u);
            var a = vec4(0.0);
            var b = vec4(0.0);
            var source = NONE;
            if m < end {
                source = checked_row(w_row[m], w_dims);
            }
            if source != NONE {
                let first = patch_origin(m, w_dims);
                for (var e = 0u; e < 4u; e++) {
                    let n = n0 + i * 4u + e;
                    if n < w_dims.depth {
                        a[e] = w_dy[source * w_dims.depth + n];
                    }
                    let offset = origin[i * 4u + e];
                    if offset != NONE {
                        b[e] = pixel(first + offset, w_dims.is_u8);
                    }
                }
            }
            // ┌ the same in conv1d.wgsl, conv2d.wgsl, patch_embed.wgsl: a stage of dW, and its sums
            a_tile[(quad / (TILE / 4u)) * STRIDE + i] = a;
            b_tile[(quad / (TILE / 4u)) * STRIDE + i] = b;
        }
        workgroupBarrier();
        acc = multiply(acc, thread);
        workgroupBarrier();
    }

    let n = n0 + (thread / (TILE / 4u)) * 4u;
    let k = k0 + (thread % (TILE / 4u)) * 4u;
    write_partial4(part, n, k, acc.r0);
    write_partial4(part, n + 1u, k, acc.r1);
    write_partial4(part, n + 2u, k, acc.r2);
    write_partial4(part, n + 3u, k, acc.r3);
    // └ the same up to here: a stage of dW, and its sums
}

fn write_pixels4(first: u32, k: u32, values: vec4<f32>) {
    if first == NONE {
        return;
    }
    for (var e = 0u; e < 4u; e++) {
        if k + e < x_dims.inner {
            dpixels[first + patch_offset(k + e, x_dims)] = values[e] * (1.0 / 127.5);
        }
    }
}

@compute @workgroup_size(THREADS)
fn dpixels_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let count = x_dims.images * x_dims.patches;
    let across = (x_dims.inner + TILE - 1u) / TILE;
    if index >= ((count + TILE - 1u) / TILE) * across {
        return;
    }
    let m0 = (index / across) * TILE;
    let k0 = (index % across) * TILE;
    if thread < TILE {
        let m = m0 + thread;
        origin[thread] = NONE;
        token[thread] = NONE;
        if m < count {
            origin[thread] = patch_origin(m, x_dims);
            token[thread] = checked_row(x_row[m], x_dims);
        }
    }
    workgroupBarrier();

    var acc = Acc();
    for (var n0 = 0u; n0 < x_dims.depth; n0 += TILE_K) {
        for (var quad = thread; quad < QUADS; quad += THREADS) {
            // dy is read along n, the weight along k.
            let a_n = n0 + quad % TILE_K;
            let a_i = quad / TILE_K;
            let b_n = n0 + quad / (TILE / 4u);
            let b_i = quad % (TILE / 4u);
            var a = vec4(0.0);
            var b = vec4(0.0);
            for (var e = 0u; e < 4u; e++) {
                let source = token[a_i * 4u + e];
                if source != NONE && a_n < x_dims.depth {
                    a[e] = x_dy[source * x_dims.depth + a_n];
                }
                let k = k0 + b_i * 4u + e;
                if k < x_dims.inner && b_n < x_dims.depth {
                    b[e] = x_weight[b_n * x_dims.inner + k];
                }
            }
            a_tile[(quad % TILE_K) * STRIDE + a_i] = a;
            b_tile[(quad / (TILE / 4u)) * STRIDE + b_i] = b;
        }
        workgroupBarrier();
        acc = multiply(acc, thread);
        workgroupBarrier();
    }

    let i = (thread / (TILE / 4u)) * 4u;
    let k = k0 + (thread % (TILE / 4u)) * 4u;
    write_pixels4(origin[i], k, acc.r0);
    write_pixels4(origin[i + 1u], k, acc.r1);
    write_pixels4(origin[i + 2u], k, acc.r2);
    write_pixels4(origin[i + 3u], k, acc.r3);
}

// ── Beside the ladder: the sums for b and position, and the second pass of dW ────────────────────────────────────────

@group(0) @binding(0) var<storage, read> s_row: array<i32>;
@group(0) @binding(1) var<storage, read> s_dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> s_sums: array<f32>;
@group(0) @binding(3) var<uniform> s_dims: Dims;

@compute @workgroup_size(64)
fn position_sums(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= s_dims.patches * s_dims.depth {
        return;
    }
    let p = index / s_dims.depth;
    let n = index % s_dims.depth;
    var total = 0.0;
    for (var image = 0u; image < s_dims.images; image++) {
        let source = checked_row(s_row[image * s_dims.patches + p], s_dims);
        if source != NONE {
            total += s_dy[source * s_dims.depth + n];
        }
    }
    s_sums[s_dims.parts * s_dims.depth * s_dims.inner + index] = total;
}

@group(0) @binding(0) var<storage, read> t_sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> t_dbias: array<f32>;
@group(0) @binding(2) var<storage, read_write> t_dposition: array<f32>;
@group(0) @binding(3) var<uniform> t_dims: Dims;

// Slots 0..2G are the rows of dposition (x and y by turns), slot 2G is the bias.
@compute @workgroup_size(64)
fn position_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= (2u * t_dims.grid + 1u) * t_dims.depth {
        return;
    }
    let slot = index / t_dims.depth;
    let n = index % t_dims.depth;
    let down = t_dims.patches / t_dims.across;
    // Patches first, first + step, …, `terms` of them.
    var first = 0u;
    var step = 1u;
    var terms = t_dims.patches;
    if slot < 2u * t_dims.grid {
        let place = slot / 2u;
        if slot % 2u == 0u {
            first = place;
            step = t_dims.across;
            terms = select(0u, down, place < t_dims.across);
        } else {
            first = place * t_dims.across;
            terms = select(0u, t_dims.across, place < down);
        }
    }
    let base = t_dims.parts * t_dims.depth * t_dims.inner;
    var total = 0.0;
    for (var i = 0u; i < terms; i++) {
        total += t_sums[base + (first + i * step) * t_dims.depth + n];
    }
    if slot == 2u * t_dims.grid {
        t_dbias[n] += total;
    } else {
        t_dposition[slot * t_dims.depth + n] += total;
    }
}

@group(0) @binding(0) var<storage, read> f_partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> f_dweight: array<f32>;
@group(0) @binding(2) var<uniform> f_dims: Dims;

@compute @workgroup_size(64)
fn dweight_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    let count = f_dims.depth * f_dims.inner;
    if index >= count {
        return;
    }
    var total = 0.0;
    for (var part = 0u; part < f_dims.parts; part++) {
        total += f_partial[part * count + index];
    }
    f_dweight[index] += total;
}
