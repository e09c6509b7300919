// conv1d: z[c, t] = b + Σ_{tap, i} W[:, i, tap] · x[c, t·stride + tap − 1, i],   y = gelu(z) = z · (1 + erf(z/√2)) / 2.
//
// 3 taps, one frame of zeros on either side, stride 1 or 2, F' = (F − 1)/stride + 1 frames out. Frames are rows and channels
// are contiguous; K is numbered as in the weight: k = i · 3 + tap.
// Names: M = C · F'; K = 3 · in.
//
// Backward.  dz = dy · gelu'(z), gelu'(z) = (1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π), then three implicit GEMMs that gather:
//   dW = Σ_m dz[m]ᵀ x[m],   db = Σ_m dz[m],   dx[c, u] = Σ_tap W[:, :, tap]ᵀ dz[c, (u + 1 − tap)/stride] where that is a frame.
// With stride 2 an even frame meets only the middle tap and an odd frame the outer two: rows of the dx GEMM are ordered even
// frames first, so that a tile skips the taps that none of its rows meets.
//
// The ladder, in the order of this file (the CUDA twin has a third rung, on tensor cores):
//   rung 1: naive  one result per thread.
//   rung 2: tile   TILE × TILE results per workgroup, (TILE/4)² threads of 4 × 4 results, TILE_K deep, both operands staged as vec4.
//   beside it      what goes element by element, and the second passes, which add up parts.
//
// forward_naive     block 64, one result per thread, grid = ceil(M · out / 64): z and y
//   0  x            [C, F, in]      f32   read
//   1  weight       [out, in, 3]    f32   read
//   2  bias         [out]           f32   read
//   3  z            [C, F', out]    f32   overwritten
//   4  y            [C, F', out]    f32   overwritten
//   5  dims         uniform
// forward_tile      block (TILE/4)², grid = ceil(M / TILE) · ceil(out / TILE): z and y
//   0  x            [C, F, in]      f32   read
//   1  weight       [out, in, 3]    f32   read
//   2  bias         [out]           f32   read
//   3  z            [C, F', out]    f32   overwritten
//   4  y            [C, F', out]    f32   overwritten
//   5  dims         uniform
// gelu_backward     block 256, one result per thread, grid = ceil(M · out / 256): dz = dy · gelu'(z)
//   0  g_z          [C, F', out]    f32   read
//   1  g_dy         [C, F', out]    f32   read
//   2  g_dz         [C, F', out]    f32   overwritten
//   3  g_dims       uniform
// dweight_naive     block 64, one result per thread, grid = ceil(out · K / 64): dW
//   0  w_x          [C, F, in]      f32   read
//   1  w_dz         [C, F', out]    f32   read
//   2  w_partial    [out, in, 3]    f32   accumulated (dweight itself: one part)
//   3  w_dims       uniform
// dweight_tile      block (TILE/4)², grid = parts · ceil(out / TILE) · ceil(K / TILE): parts of dW
//   0  w_x          [C, F, in]      f32   read
//   1  w_dz         [C, F', out]    f32   read
//   2  w_partial    [parts, out, K] f32   overwritten
//   3  w_dims       uniform
// dweight_finish    block 64, one result per thread, grid = ceil(out · K / 64): dW += Σ of its parts
//   0  f_partial    [parts, out, K] f32   read
//   1  f_dweight    [out, in, 3]    f32   accumulated
//   2  f_dims       uniform
// dbias_partial     block 64, one result per thread, grid = ceil(parts · out / 64): parts of db
//   0  b_dz         [C, F', out]    f32   read
//   1  b_partial    [parts, out]    f32   overwritten (from element parts · out · K of the workspace)
//   2  b_dims       uniform
// dbias_finish      block 64, one result per thread, grid = ceil(out / 64): db += Σ of its parts
//   0  e_partial    [parts, out]    f32   read (from element parts · out · K of the workspace)
//   1  e_dbias      [out]           f32   accumulated
//   2  e_dims       uniform
// dx_naive          block 64, one result per thread, grid = ceil(C · F · in / 64): dx
//   0  x_weight     [out, in, 3]    f32   read
//   1  x_dz         [C, F', out]    f32   read
//   2  dx           [C, F, in]      f32   overwritten
//   3  x_dims       uniform
// dx_tile           block (TILE/4)², grid = ceil(C · F / TILE) · ceil(in / TILE): dx
//   0  x_weight     [out, in, 3]    f32   read
//   1  x_dz         [C, F', out]    f32   read
//   2  dx           [C, F, in]      f32   overwritten
//   3  x_dims       uniform
//
// Constants: TILE: 32, 64.
// Precision: f32 sums in a fixed order, the same bits on every run. erf is a polynomial of the file, exp as the device has it.
// Limits: every size and product < 2³¹; 1 ≤ stride ≤ 2, F' = (F − 1)/stride + 1.
// Twin: kernels/conv1d.cu.

struct Dims {
    clips: u32,            // C
    frames: u32,           // F
    frames_out: u32,       // F'
    width_in: u32,         // in
    width_out: u32,        // out
    stride: u32,           // 1 or 2
    parts: u32,            // ranges of output frames that dW and db are summed over apart
    padding: u32,
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
    if index >= dims.clips * dims.frames_out * dims.width_out {
        return;
    }
    let m = index / dims.width_out;
    let n = index % dims.width_out;
    let clip = m / dims.frames_out;
    let first = (m % dims.frames_out) * dims.stride;
    var total = 0.0;
    for (var i = 0u; i < dims.width_in; i++) {
        for (var tap = 0u; tap < 3u; tap++) {
            let frame = first + tap; // counted from the frame of zeros
            if frame >= 1u && frame <= dims.frames {
                total = fma(x[(clip * dims.frames + frame - 1u) * dims.width_in + i], weight[(n * dims.width_in + i) * 3u + tap], total);
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
    let inner = 3u * w_dims.width_in;
    if index >= w_dims.width_out * inner {
        return;
    }
    let n = index / inner;
    let k = index % inner;
    var total = 0.0;
    for (var m = 0u; m < w_dims.clips * w_dims.frames_out; m++) {
        let frame = (m % w_dims.frames_out) * w_dims.stride + k % 3u;
        if frame >= 1u && frame <= w_dims.frames {
            let source = ((m / w_dims.frames_out) * w_dims.frames + frame - 1u) * w_dims.width_in + k / 3u;
            total = fma(w_dz[m * w_dims.width_out + n], w_x[source], total);
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
    if index >= x_dims.clips * x_dims.frames * x_dims.width_in {
        return;
    }
    let i = index % x_dims.width_in;
    let frame = (index / x_dims.width_in) % x_dims.frames;
    let clip = index / x_dims.width_in / x_dims.frames;
    var total = 0.0;
    for (var tap = 0u; tap < 3u; tap++) {
        let at = frame + 1u - tap; // wraps for frame 0 and tap 2, and is then too large
        let t = at / x_dims.stride;
        if at % x_dims.stride == 0u && t < x_dims.frames_out {
            for (var o = 0u; o < x_dims.width_out; o++) {
                total = fma(x_dz[(clip * x_dims.frames_out + t) * x_dims.width_out + o], x_weight[(o * x_dims.width_in + i) * 3u + tap], total);
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

// Per row of the tile: its clip and its frame.
var<workgroup> clip_of: array<u32, TILE>;
var<workgroup> frame_of: array<u32, TILE>;

fn write_z4(m: u32, n: u32, values: vec4<f32>) {
    if m >= dims.clips * dims.frames_out {
        return;
    }
    for (var e = 0u; e < 4u; e++) {
        if n + e < dims.width_out {
            let value = values[e] + bias[n + e];
            z[m * dims.width_out + n + e] = value;
            y[m * dims.width_out + n + e] = gelu(value);
        }
    }
}

@compute @workgroup_size(THREADS)
fn forward_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let count = dims.clips * dims.frames_out;
    let across = (dims.width_out + TILE - 1u) / TILE;
    if index >= ((count + TILE - 1u) / TILE) * across {
        return;
    }
    let m0 = (index / across) * TILE;
    let n0 = (index % across) * TILE;
    let inner = 3u * dims.width_in;
    if thread < TILE {
        let m = m0 + thread;
        clip_of[thread] = m / dims.frames_out;
        // Of x, and one too large: tap 0 is the frame before. Past the last row it is no frame at all.
        frame_of[thread] = select(NONE, (m % dims.frames_out) * dims.stride, m < count);
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
                let channel = k / 3u;
                let tap = k % 3u;
                for (var e = 0u; e < 4u; e++) {
                    let r = i * 4u + e;
                    let frame = frame_of[r] + tap; // counted from the frame of zeros
                    if frame_of[r] != NONE && frame >= 1u && frame <= dims.frames {
                        a[e] = x[(clip_of[r] * dims.frames + frame - 1u) * dims.width_in + channel];
                    }
                    let n = n0 + r;
                    if n < dims.width_out {
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
    if n >= w_dims.width_out {
        return;
    }
    let inner = 3u * w_dims.width_in;
    for (var e = 0u; e < 4u; e++) {
        if k + e < inner {
            w_partial[(part * w_dims.width_out + n) * inner + k + e] = values[e];
        }
    }
}

// The sum runs over output frames: rows of the result are n of out, columns are k of K.
@compute @workgroup_size(THREADS)
fn dweight_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let inner = 3u * w_dims.width_in;
    let across = (inner + TILE - 1u) / TILE;
    let tiles = ((w_dims.width_out + TILE - 1u) / TILE) * across;
    if index >= tiles * w_dims.parts {
        return;
    }
    let part = index / tiles;
    let n0 = ((index % tiles) / across) * TILE;
    let k0 = (index % across) * TILE;
    let count = w_dims.clips * w_dims.frames_out;
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
                let clip = m / w_dims.frames_out;
                let first = (m % w_dims.frames_out) * w_dims.stride;
                for (var e = 0u; e < 4u; e++) {
                    let n = n0 + i * 4u + e;
                    if n < w_dims.width_out {
                        a[e] = w_dz[m * w_dims.width_out + n];
                    }
                    let k = k0 + i * 4u + e;
                    let frame = first + k % 3u;
                    if k < inner && frame >= 1u && frame <= w_dims.frames {
                        b[e] = w_x[(clip * w_dims.frames + frame - 1u) * w_dims.width_in + k / 3u];
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

fn write_dx4(row: u32, n: u32, values: vec4<f32>) {
    if frame_of[row] == NONE {
        return;
    }
    let base = (clip_of[row] * x_dims.frames + frame_of[row]) * x_dims.width_in;
    for (var e = 0u; e < 4u; e++) {
        if n + e < x_dims.width_in {
            dx[base + n + e] = values[e];
        }
    }
}

@compute @workgroup_size(THREADS)
fn dx_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let count = x_dims.clips * x_dims.frames;
    let across = (x_dims.width_in + TILE - 1u) / TILE;
    if index >= ((count + TILE - 1u) / TILE) * across {
        return;
    }
    let m0 = (index / across) * TILE;
    let n0 = (index % across) * TILE;
    // Rows before `turn` are frames 0, stride, 2·stride, … of every clip; with stride 2 the odd frames follow.
    let even = x_dims.frames_out;
    let odd = max(x_dims.frames - even, 1u);
    let turn = x_dims.clips * even;
    if thread < TILE {
        let m = m0 + thread;
        clip_of[thread] = 0u;
        frame_of[thread] = NONE;
        if m < turn {
            clip_of[thread] = m / even;
            frame_of[thread] = (m % even) * x_dims.stride;
        } else if m < count {
            clip_of[thread] = (m - turn) / odd;
            frame_of[thread] = ((m - turn) % odd) * 2u + 1u;
        }
    }
    workgroupBarrier();

    var acc = Acc();
    for (var tap = 0u; tap < 3u; tap++) {
        // The same answer for the whole workgroup: the barriers below stay uniform.
        if x_dims.stride == 2u && ((tap == 1u && m0 >= turn) || (tap != 1u && m0 + TILE <= turn)) {
            continue;
        }
        for (var o0 = 0u; o0 < x_dims.width_out; o0 += TILE_K) {
            for (var quad = thread; quad < QUADS; quad += THREADS) {
                // dz is read along o; the weight is three numbers apart either way.
                let a_o = o0 + quad % TILE_K;
                let a_i = quad / TILE_K;
                let b_o = o0 + quad / (TILE / 4u);
                let b_i = quad % (TILE / 4u);
                var a = vec4(0.0);
                var b = vec4(0.0);
                for (var e = 0u; e < 4u; e++) {
                    let r = a_i * 4u + e;
                    let at = frame_of[r] + 1u - tap; // wraps for frame 0 and tap 2, and is then too large
                    let t = at / x_dims.stride;
                    if frame_of[r] != NONE && a_o < x_dims.width_out && at % x_dims.stride == 0u && t < x_dims.frames_out {
                        a[e] = x_dz[(clip_of[r] * x_dims.frames_out + t) * x_dims.width_out + a_o];
                    }
                    let n = n0 + b_i * 4u + e;
                    if n < x_dims.width_in && b_o < x_dims.width_out {
                        b[e] = x_weight[(b_o * x_dims.width_in + n) * 3u + tap];
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

    let i = (thread / (TILE / 4u)) * 4u;
    let n = n0 + (thread % (TILE / 4u)) * 4u;
    write_dx4(i, n, acc.r0);
    write_dx4(i + 1u, n, acc.r1);
    write_dx4(i + 2u, n, acc.r2);
    write_dx4(i + 3u, n, acc.r3);
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
    if index >= g_dims.clips * g_dims.frames_out * g_dims.width_out {
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
    let count = f_dims.width_out * 3u * f_dims.width_in;
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
    if index >= b_dims.parts * b_dims.width_out {
        return;
    }
    let part = index / b_dims.width_out;
    let count = b_dims.clips * b_dims.frames_out;
    let per_part = (count + b_dims.parts - 1u) / b_dims.parts;
    let end = min(count, (part + 1u) * per_part);
    var total = 0.0;
    for (var m = part * per_part; m < end; m++) {
        total += b_dz[m * b_dims.width_out + index % b_dims.width_out];
    }
    b_partial[b_dims.parts * b_dims.width_out * 3u * b_dims.width_in + index] = total;
}

@group(0) @binding(0) var<storage, read> e_partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> e_dbias: array<f32>;
@group(0) @binding(2) var<uniform> e_dims: Dims;

@compute @workgroup_size(64)
fn dbias_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let n = (group.x + group.y * groups.x) * 64u + thread;
    if n >= e_dims.width_out {
        return;
    }
    let base = e_dims.parts * e_dims.width_out * 3u * e_dims.width_in;
    var total = 0.0;
    for (var part = 0u; part < e_dims.parts; part++) {
        total += e_partial[base + part * e_dims.width_out + n];
    }
    e_dbias[n] += total;
}
