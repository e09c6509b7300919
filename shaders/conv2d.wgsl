// conv2d: z[b, y, x] = bias + Σ_{i, ky, kx} W[:, i, ky, kx] · in[b, y·stride + ky − 1, x·stride + kx − 1, i],   y = gelu(z) = z · (1 + erf(z/√2)) / 2.
//
// 3 × 3 taps, one pixel of zeros on every side, stride 1 or 2, H' = ceil(H / stride) and W' = ceil(W / stride) pixels out. Pixels
// are rows and channels are contiguous; K is numbered as in the weight: k = i · 9 + tap, tap = ky · 3 + kx.
// Names: M = B · H' · W'; K = 9 · in.
//
// Backward.  dz = dy · gelu'(z), gelu'(z) = (1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π), then three implicit GEMMs that gather:
//   dW = Σ_m dz[m]ᵀ in[m],   db = Σ_m dz[m],
//   dx[b, v, u] = Σ_{ky, kx} W[:, :, ky, kx]ᵀ dz[b, (v + 1 − ky)/stride, (u + 1 − kx)/stride] where that is a pixel.
// With stride 2 a pixel in an even row meets only the middle row of taps and one in an odd row the outer two, and so across: rows
// of the dx GEMM are ordered by phase (even row and even column first, then even and odd, odd and even, odd and odd), so that a
// tile skips the taps that none of its rows meets.
//
// The ladder, in the order of this file (the CUDA twin has a third rung, on tensor cores):
//   rung 1: naive  one result per thread.
//   rung 2: tile   TILE × TILE results per workgroup, (TILE/4)² threads of 4 × 4 results, TILE_K deep, both operands staged as vec4.
//   beside it      what goes element by element, and the second passes, which add up parts.
//
// forward_naive     block 64, one result per thread, grid = ceil(M · out / 64): z and y
//   0  x            [B, H, W, in]      f32   read
//   1  weight       [out, in, 3, 3]    f32   read
//   2  bias         [out]              f32   read
//   3  z            [B, H', W', out]   f32   overwritten
//   4  y            [B, H', W', out]   f32   overwritten
//   5  dims         uniform
// forward_tile      block (TILE/4)², grid = ceil(M / TILE) · ceil(out / TILE): z and y
//   0  x            [B, H, W, in]      f32   read
//   1  weight       [out, in, 3, 3]    f32   read
//   2  bias         [out]              f32   read
//   3  z            [B, H', W', out]   f32   overwritten
//   4  y            [B, H', W', out]   f32   overwritten
//   5  dims         uniform
// gelu_backward     block 256, one result per thread, grid = ceil(M · out / 256): dz = dy · gelu'(z)
//   0  g_z          [B, H', W', out]   f32   read
//   1  g_dy         [B, H', W', out]   f32   read
//   2  g_dz         [B, H', W', out]   f32   overwritten
//   3  g_dims       uniform
// dweight_naive     block 64, one result per thread, grid = ceil(out · K / 64): dW
//   0  w_x          [B, H, W, in]      f32   read
//   1  w_dz         [B, H', W', out]   f32   read
//   2  w_partial    [out, in, 3, 3]    f32   accumulated (dweight itself: one part)
//   3  w_dims       uniform
// dweight_tile      block (TILE/4)², grid = parts · ceil(out / TILE) · ceil(K / TILE): parts of dW
//   0  w_x          [B, H, W, in]      f32   read
//   1  w_dz         [B, H', W', out]   f32   read
//   2  w_partial    [parts, out, K]    f32   overwritten
//   3  w_dims       uniform
// dweight_finish    block 64, one result per thread, grid = ceil(out · K / 64): dW += Σ of its parts
//   0  f_partial    [parts, out, K]    f32   read
//   1  f_dweight    [out, in, 3, 3]    f32   accumulated
//   2  f_dims       uniform
// dbias_partial     block 64, one result per thread, grid = ceil(parts · out / 64): parts of db
//   0  b_dz         [B, H', W', out]   f32   read
//   1  b_partial    [parts, out]       f32   overwritten (from element parts · out · K of the workspace)
//   2  b_dims       uniform
// dbias_finish      block 64, one result per thread, grid = ceil(out / 64): db += Σ of its parts
//   0  e_partial    [parts, out]       f32   read (from element parts · out · K of the workspace)
//   1  e_dbias      [out]              f32   accumulated
//   2  e_dims       uniform
// dx_naive          block 64, one result per thread, grid = ceil(B · H · W · in / 64): dx
//   0  x_weight     [out, in, 3, 3]    f32   read
//   1  x_dz         [B, H', W', out]   f32   read
//   2  dx           [B, H, W, in]      f32   overwritten
//   3  x_dims       uniform
// dx_tile           block (TILE/4)², grid = ceil(B · H · W / TILE) · ceil(in / TILE): dx
//   0  x_weight     [out, in, 3, 3]    f32   read
//   1  x_dz         [B, H', W', out]   f32   read
//   2  dx           [B, H, W, in]      f32   overwritten
//   3  x_dims       uniform
//
// Constants: TILE: 32, 64.
// Precision: f32 sums in a fixed order, the same bits on every run. erf is a polynomial of the file, exp as the device has it.
// Limits: every size and product < 2³¹; 1 ≤ stride ≤ 2, H' = ceil(H / stride), W' = ceil(W / stride).
// Twin: kernels/conv2d.cu.

struct Dims {
    images: u32,           // B
    height: u32,           // H
    width: u32,            // W
    height_out: u32,       // H'
    width_out: u32,        // W'
    channels_in: u32,      // in
    channels_out: u32,     // out
    stride: u32,           // 1 or 2
    parts: u32,            // ranges of output pixels that dW and db are summed over apart
    padding0: u32,
    padding1: u32,
    padding2: u32,
}

const NONE: u32 = 0xffffffffu;

// ┌ the same in conv1d.wgsl, conv2d.wgsl: gelu and its slope
// The error function: the rational approximation that Eigen and XLA use, x·P(x²)/Q(x²) on [−4, 4]; absolute error < 5e-7.
fn erf(value: f32) -> f32 {
    let x = clamp(value, -4.0, 4.0);
    let t = x * x;
    var p = -2.7261424e-10;
    p = fma(p, t, 2.7706814e-8);
    p = fma(p, t, -2.1010240e-6);
    p = fma(p, t, -5.6925063e-5);
    p = fma(p, t, -7.3499063e-4);
    p = fma(p, t, -2.9545998e-3);
    p = fma(p, t, -1.6096033e-2);
    var q = -1.4566072e-5;
    q = fma(q, t, -2.1337406e-4);
    q = fma(q, t, -1.682827e-3);
    q = fma(q, t, -7.373329e-3);
    q = fma(q, t, -1.4264739e-2);
    return x * p / q;
}

const SQRT_HALF: f32 = 0.70710678;
const RSQRT_TAU: f32 = 0.39894228; // 1/√(2π)

fn gelu(z: f32) -> f32 {
    return 0.5 * z * (1.0 + erf(z * SQRT_HALF));
}

fn gelu_slope(z: f32) -> f32 {
    return 0.5 * (1.0 + erf(z * SQRT_HALF)) + z * RSQRT_TAU * exp(max(-0.5 * z * z, -80.0));
}
// └ the same up to here: gelu and its slope

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<uniform> dims: Dims;

// ── rung 1: naive: one result per thread ─────────────────────────────────────────────────────────────────────────────

@compute @workgroup_size(64)
fn forward_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= dims.images * dims.height_out * dims.width_out * dims.channels_out {
        return;
    }
    let n = index % dims.channels_out;
    let m = index / dims.channels_out;
    let image = m / dims.width_out / dims.height_out;
    let top = ((m / dims.width_out) % dims.height_out) * dims.stride;
    let left = (m % dims.width_out) * dims.stride;
    var total = 0.0;
    for (var i = 0u; i < dims.channels_in; i++) {
        for (var tap = 0u; tap < 9u; tap++) {
            // Both counted from the pixels of zeros.
            let row = top + tap / 3u;
            let column = left + tap % 3u;
            if row >= 1u && row <= dims.height && column >= 1u && column <= dims.width {
                let source = ((image * dims.height + row - 1u) * dims.width + column - 1u) * dims.channels_in + i;
                total = fma(x[source], weight[(n * dims.channels_in + i) * 9u + tap], total);
            }
        }
    }
    total += bias[n];
    z[index] = total;
    y[index] = gelu(total);
}

// ┌ the same in conv1d.wgsl, conv2d.wgsl: what dweight takes
@group(0) @binding(0) var<storage, read> w_x: array<f32>;
@group(0) @binding(1) var<storage, read> w_dz: array<f32>;
@group(0) @binding(2) var<storage, read_write> w_partial: array<f32>;
@group(0) @binding(3) var<uniform> w_dims: Dims;
// └ the same up to here: what dweight takes

@compute @workgroup_size(64)
fn dweight_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    let inner = 9u * w_dims.channels_in;
    if index >= w_dims.channels_out * inner {
        return;
    }
    let n = index / inner;
    let i = (index % inner) / 9u;
    let tap = index % 9u;
    var total = 0.0;
    for (var m = 0u; m < w_dims.images * w_dims.height_out * w_dims.width_out; m++) {
        let image = m / w_dims.width_out / w_dims.height_out;
        let row = ((m / w_dims.width_out) % w_dims.height_out) * w_dims.stride + tap / 3u;
        let column = (m % w_dims.width_out) * w_dims.stride + tap % 3u;
        if row >= 1u && row <= w_dims.height && column >= 1u && column <= w_dims.width {
            let source = ((image * w_dims.height + row - 1u) * w_dims.width + column - 1u) * w_dims.channels_in + i;
            total = fma(w_dz[m * w_dims.channels_out + n], w_x[source], total);
        }
    }
    w_partial[index] += total;
}

// ┌ the same in conv1d.wgsl, conv2d.wgsl: what dx takes
@group(0) @binding(0) var<storage, read> x_weight: array<f32>;
@group(0) @binding(1) var<storage, read> x_dz: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<uniform> x_dims: Dims;
// └ the same up to here: what dx takes

@compute @workgroup_size(64)
fn dx_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= x_dims.images * x_dims.height * x_dims.width * x_dims.channels_in {
        return;
    }
    let i = index % x_dims.channels_in;
    let column = (index / x_dims.channels_in) % x_dims.width;
    let row = (index / x_dims.channels_in / x_dims.width) % x_dims.height;
    let image = index / x_dims.channels_in / x_dims.width / x_dims.height;
    var total = 0.0;
    for (var tap = 0u; tap < 9u; tap++) {
        // Both wrap before the first pixel, and are then too large.
        let down = row + 1u - tap / 3u;
        let across = column + 1u - tap % 3u;
        let m_row = down / x_dims.stride;
        let m_column = across / x_dims.stride;
        if down % x_dims.stride == 0u && across % x_dims.stride == 0u && m_row < x_dims.height_out && m_column < x_dims.width_out {
            let m = (image * x_dims.height_out + m_row) * x_dims.width_out + m_column;
            for (var o = 0u; o < x_dims.channels_out; o++) {
                total = fma(x_dz[m * x_dims.channels_out + o], x_weight[(o * x_dims.channels_in + i) * 9u + tap], total);
            }
        }
    }
    dx[index] = total;
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

// Per row of the tile: its picture, and a row and a column of pixels.
var<workgroup> image_of: array<u32, TILE>;
var<workgroup> row_of: array<u32, TILE>;
var<workgroup> column_of: array<u32, TILE>;

fn write_z4(m: u32, n: u32, values: vec4<f32>) {
    if m >= dims.images * dims.height_out * dims.width_out {
        return;
    }
    for (var e = 0u; e < 4u; e++) {
        if n + e < dims.channels_out {
            let value = values[e] + bias[n + e];
            z[m * dims.channels_out + n + e] = value;
            y[m * dims.channels_out + n + e] = gelu(value);
        }
    }
}

@compute @workgroup_size(THREADS)
fn forward_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let count = dims.images * dims.height_out * dims.width_out;
    let across = (dims.channels_out + TILE - 1u) / TILE;
    if index >= ((count + TILE - 1u) / TILE) * across {
        return;
    }
    let m0 = (index / across) * TILE;
    let n0 = (index % across) * TILE;
    let inner = 9u * dims.channels_in;
    if thread < TILE {
        let m = m0 + thread;
        image_of[thread] = m / dims.width_out / dims.height_out;
        // Of x, and one too large: the first taps are the pixels before. Past the last row they are no pixels at all.
        row_of[thread] = select(NONE, ((m / dims.width_out) % dims.height_out) * dims.stride, m < count);
        column_of[thread] = (m % dims.width_out) * dims.stride;
    }
    workgroupBarrier();

    var acc = Acc();
    for (var k0 = 0u; k0 < inner; k0 += TILE_K) {
        // Neighbouring threads take neighbouring k: the weight is read along its rows.
        for (var quad = thread; quad < QUADS; quad += THREADS) {
            let k = k0 + quad % TILE_K;
            let i = quad / TILE_K;
            var a = vec4(0.0);
            var b = vec4(0.0);
            if k < inner {
                let channel = k / 9u;
                let tap = k % 9u;
                for (var e = 0u; e < 4u; e++) {
                    let r = i * 4u + e;
                    let row = row_of[r] + tap / 3u; // both counted from the pixels of zeros
                    let column = column_of[r] + tap % 3u;
                    if row_of[r] != NONE && row >= 1u && row <= dims.height && column >= 1u && column <= dims.width {
                        a[e] = x[((image_of[r] * dims.height + row - 1u) * dims.width + column - 1u) * dims.channels_in + channel];
                    }
                    let n = n0 + r;
                    if n < dims.channels_out {
                        b[e] = weight[n * inner + k];
                    }
                }
            }
            // ┌ the same in conv1d.wgsl, conv2d.wgsl: a stage of z, and its sums
            a_tile[(quad % TILE_K) * STRIDE + i] = a;
            b_tile[(quad % TILE_K) * STRIDE + i] = b;
        }
        workgroupBarrier();
        acc = multiply(acc, thread);
        workgroupBarrier();
    }

    let m = m0 + (thread / (TILE / 4u)) * 4u;
    let n = n0 + (thread % (TILE / 4u)) * 4u;
    write_z4(m, n, acc.r0);
    write_z4(m + 1u, n, acc.r1);
    write_z4(m + 2u, n, acc.r2);
    write_z4(m + 3u, n, acc.r3);
    // └ the same up to here: a stage of z, and its sums
}

fn write_partial4(part: u32, n: u32, k: u32, values: vec4<f32>) {
    if n >= w_dims.channels_out {
        return;
    }
    let inner = 9u * w_dims.channels_in;
    for (var e = 0u; e < 4u; e++) {
        if k + e < inner {
            w_partial[(part * w_dims.channels_out + n) * inner + k + e] = values[e];
        }
    }
}

// The sum runs over output pixels: rows of the result are n of out, columns are k of K.
@compute @workgroup_size(THREADS)
fn dweight_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let inner = 9u * w_dims.channels_in;
    let across = (inner + TILE - 1u) / TILE;
    let tiles = ((w_dims.channels_out + TILE - 1u) / TILE) * across;
    if index >= tiles * w_dims.parts {
        return;
    }
    let part = index / tiles;
    let n0 = ((index % tiles) / across) * TILE;
    let k0 = (index % across) * TILE;
    let count = w_dims.images * w_dims.height_out * w_dims.width_out;
    let per_part = (count + w_dims.parts - 1u) / w_dims.parts;
    let end = min(count, (part + 1u) * per_part);

    var acc = Acc();
    for (var m0 = part * per_part; m0 < end; m0 += TILE_K) {
        for (var quad = thread; quad < QUADS; quad += THREADS) {
            let m = m0 + quad / (TILE / 4u);
            let i = quad % (TILE / 4u);
            var a = vec4(0.0);
            var b = vec4(0.0);
            if m < end {
                let image = m / w_dims.width_out / w_dims.height_out;
                let top = ((m / w_dims.width_out) % w_dims.height_out) * w_dims.stride;
                let left = (m % w_dims.width_out) * w_dims.stride;
                for (var e = 0u; e < 4u; e++) {
                    let n = n0 + i * 4u + e;
                    if n < w_dims.channels_out {
                        a[e] = w_dz[m * w_dims.channels_out + n];
                    }
                    let k = k0 + i * 4u + e;
                    let row = top + (k % 9u) / 3u;
                    let column = left + k % 3u; // 9 is a multiple of 3
                    if k < inner && row >= 1u && row <= w_dims.height && column >= 1u && column <= w_dims.width {
                        b[e] = w_x[((image * w_dims.height + row - 1u) * w_dims.width + column - 1u) * w_dims.channels_in + k / 9u];
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

// With stride 2 rows of the dx GEMM are ordered by phase, 2 · (row % 2) + column % 2 of their pixel; with stride 1 all are in phase 0.
// Rows and columns of pixels that a phase has in one picture:
fn phase_sides(phase: u32) -> vec2<u32> {
    let rows = select(x_dims.height_out, x_dims.height - x_dims.height_out, phase >= 2u);
    let columns = select(x_dims.width_out, x_dims.width - x_dims.width_out, phase % 2u == 1u);
    return vec2(rows, columns);
}

// The picture, row and column of row m of the GEMM; NONE past the last.
fn pixel_of(m: u32) -> vec3<u32> {
    var rest = m;
    for (var phase = 0u; phase < 4u; phase++) {
        let sides = phase_sides(phase);
        let pixels = sides.x * sides.y;
        if rest < x_dims.images * pixels {
            let row = ((rest % pixels) / sides.y) * x_dims.stride + phase / 2u;
            return vec3(rest / pixels, row, (rest % sides.y) * x_dims.stride + phase % 2u);
        }
        rest -= x_dims.images * pixels;
    }
    return vec3(NONE);
}

// Whether some of the rows m0 .. m0 + TILE meet a tap.
fn meets(m0: u32, tap: u32) -> bool {
    if x_dims.stride == 1u {
        return true;
    }
    let wanted = select(0u, 2u, tap / 3u != 1u) + select(0u, 1u, tap % 3u != 1u);
    var first = 0u;
    for (var phase = 0u; phase < wanted; phase++) {
        let sides = phase_sides(phase);
        first += x_dims.images * sides.x * sides.y;
    }
    let sides = phase_sides(wanted);
    return m0 < first + x_dims.images * sides.x * sides.y && m0 + TILE > first;
}

fn write_dx4(r: u32, n: u32, values: vec4<f32>) {
    if row_of[r] == NONE {
        return;
    }
    let base = ((image_of[r] * x_dims.height + row_of[r]) * x_dims.width + column_of[r]) * x_dims.channels_in;
    for (var e = 0u; e < 4u; e++) {
        if n + e < x_dims.channels_in {
            dx[base + n + e] = values[e];
        }
    }
}

@compute @workgroup_size(THREADS)
fn dx_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let count = x_dims.images * x_dims.height * x_dims.width;
    let across = (x_dims.channels_in + TILE - 1u) / TILE;
    if index >= ((count + TILE - 1u) / TILE) * across {
        return;
    }
    let m0 = (index / across) * TILE;
    let n0 = (index % across) * TILE;
    if thread < TILE {
        let pixel = pixel_of(m0 + thread);
        image_of[thread] = pixel.x;
        row_of[thread] = pixel.y;
        column_of[thread] = pixel.z;
    }
    workgroupBarrier();

    var acc = Acc();
    for (var tap = 0u; tap < 9u; tap++) {
        // The same answer for the whole workgroup: the barriers below stay uniform.
        if !meets(m0, tap) {
            continue;
        }
        for (var o0 = 0u; o0 < x_dims.channels_out; o0 += TILE_K) {
            for (var quad = thread; quad < QUADS; quad += THREADS) {
                // dz is read along o; the weight is nine numbers apart either way.
                let a_o = o0 + quad % TILE_K;
                let a_i = quad / TILE_K;
                let b_o = o0 + quad / (TILE / 4u);
                let b_i = quad % (TILE / 4u);
                var a = vec4(0.0);
                var b = vec4(0.0);
                for (var e = 0u; e < 4u; e++) {
                    let r = a_i * 4u + e;
                    // Both wrap before the first pixel, and are then too large.
                    let down = row_of[r] + 1u - tap / 3u;
                    let right = column_of[r] + 1u - tap % 3u;
                    let row = down / x_dims.stride;
                    let column = right / x_dims.stride;
                    let met = down % x_dims.stride == 0u && right % x_dims.stride == 0u && row < x_dims.height_out && column < x_dims.width_out;
                    if row_of[r] != NONE && a_o < x_dims.channels_out && met {
                        a[e] = x_dz[((image_of[r] * x_dims.height_out + row) * x_dims.width_out + column) * x_dims.channels_out + a_o];
                    }
                    let n = n0 + b_i * 4u + e;
                    if n < x_dims.channels_in && b_o < x_dims.channels_out {
                        b[e] = x_weight[(b_o * x_dims.channels_in + n) * 9u + tap];
                    }
                }
                a_tile[(quad % TILE_K) * STRIDE + a_i] = a;
                b_tile[(quad / (TILE / 4u)) * STRIDE + b_i] = b;
            }
            workgroupBarrier();
            acc = multiply(acc, thread);
            workgroupBarrier();
        }
    }

    let r = (thread / (TILE / 4u)) * 4u;
    let n = n0 + (thread % (TILE / 4u)) * 4u;
    write_dx4(r, n, acc.r0);
    write_dx4(r + 1u, n, acc.r1);
    write_dx4(r + 2u, n, acc.r2);
    write_dx4(r + 3u, n, acc.r3);
}

// ── Beside the ladder: element by element, and the second passes ─────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> g_z: array<f32>;
@group(0) @binding(1) var<storage, read> g_dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> g_dz: array<f32>;
@group(0) @binding(3) var<uniform> g_dims: Dims;

@compute @workgroup_size(256)
fn gelu_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 256u + thread;
    if index >= g_dims.images * g_dims.height_out * g_dims.width_out * g_dims.channels_out {
        return;
    }
    g_dz[index] = g_dy[index] * gelu_slope(g_z[index]);
}

@group(0) @binding(0) var<storage, read> f_partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> f_dweight: array<f32>;
@group(0) @binding(2) var<uniform> f_dims: Dims;

@compute @workgroup_size(64)
fn dweight_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    let count = f_dims.channels_out * 9u * f_dims.channels_in;
    if index >= count {
        return;
    }
    // ┌ the same in conv1d.wgsl, conv2d.wgsl: parts of dW added up, and what db takes
    var total = 0.0;
    for (var part = 0u; part < f_dims.parts; part++) {
        total += f_partial[part * count + index];
    }
    f_dweight[index] += total;
}

@group(0) @binding(0) var<storage, read> b_dz: array<f32>;
@group(0) @binding(1) var<storage, read_write> b_partial: array<f32>;
@group(0) @binding(2) var<uniform> b_dims: Dims;
// └ the same up to here: parts of dW added up, and what db takes

@compute @workgroup_size(64)
fn dbias_partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= b_dims.parts * b_dims.channels_out {
        return;
    }
    let part = index / b_dims.channels_out;
    let count = b_dims.images * b_dims.height_out * b_dims.width_out;
    let per_part = (count + b_dims.parts - 1u) / b_dims.parts;
    let end = min(count, (part + 1u) * per_part);
    var total = 0.0;
    for (var m = part * per_part; m < end; m++) {
        total += b_dz[m * b_dims.channels_out + index % b_dims.channels_out];
    }
    b_partial[b_dims.parts * b_dims.channels_out * 9u * b_dims.channels_in + index] = total;
}

@group(0) @binding(0) var<storage, read> e_partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> e_dbias: array<f32>;
@group(0) @binding(2) var<uniform> e_dims: Dims;

@compute @workgroup_size(64)
fn dbias_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let n = (group.x + group.y * groups.x) * 64u + thread;
    if n >= e_dims.channels_out {
        return;
    }
    let base = e_dims.parts * e_dims.channels_out * 9u * e_dims.channels_in;
    var total = 0.0;
    for (var part = 0u; part < e_dims.parts; part++) {
        total += e_partial[base + part * e_dims.channels_out + n];
    }
    e_dbias[n] += total;
}
