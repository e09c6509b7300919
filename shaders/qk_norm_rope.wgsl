// qk_norm_rope: what queries and keys go through between their projection and attention, each head of d columns by itself:
// RMSNorm, then the rotation of column i with column i + d/2 by the angle position · θ^(−2i/d) (rotate-half):
//
//   n = x · r · w,   r = 1/sqrt(mean(x²) + eps)
//   y[i]       = n[i] · cos − n[i + d/2] · sin
//   y[i + d/2] = n[i + d/2] · cos + n[i] · sin
//
// Backward.  The rotation's transpose is its inverse, then RMSNorm's:
//
//   dn[i]       = dy[i] · cos + dy[i + d/2] · sin
//   dn[i + d/2] = dy[i + d/2] · cos − dy[i] · sin
//   dx = r · (g − x · r² · mean(g · x)) with g = dn · w,   dw = Σ_heads dn · x · r
//
// The ladder, in the order of this file:
//   rung 1: naive   one head per thread, one column after the other.
//   rung 2: shared  forward and backward: HEAD_THREADS threads share a head.
//   beside it       dweight_finish adds up the parts of dw that either rung leaves.
//
// forward_naive   block 256, one head per thread, grid = ceil(N · H / 256): y and rstd
//   0  x          [N, H, d]     f32   read
//   1  weight     [d]           f32   read
//   2  position   [N]           i32   read
//   3  table      [P, d/2, 2]   f32   read
//   4  y          [N, H, d]     f32   overwritten
//   5  rstd       [N, H]        f32   overwritten
//   6  dims       uniform
// forward         block 256, 256 / HEAD_THREADS heads per workgroup, grid = ceil(N · H · HEAD_THREADS / 256): y and rstd
//   0  x          [N, H, d]     f32   read
//   1  weight     [d]           f32   read
//   2  position   [N]           i32   read
//   3  table      [P, d/2, 2]   f32   read (cos, sin; computed in f64 on the host: WGSL's own are coarse)
//   4  y          [N, H, d]     f32   overwritten
//   5  rstd       [N, H]        f32   overwritten (backward needs it)
//   6  dims       uniform
// dweight_naive   block 64, one pair of columns of one range of heads per thread, grid = ceil(d/2 / 64) · parts: parts of dw
//   0  x          [N, H, d]     f32   read
//   1  rstd       [N, H]        f32   read
//   2  position   [N]           i32   read
//   3  table      [P, d/2, 2]   f32   read
//   4  gradient   [N, H, d]     f32   read (dy: before backward_naive)
//   5  partial    [parts, d]    f32   overwritten
//   6  dims       uniform
// backward_naive  block 256, one head per thread, grid = ceil(N · H / 256): dx
//   0  x          [N, H, d]     f32   read
//   1  weight     [d]           f32   read
//   2  rstd       [N, H]        f32   read
//   3  position   [N]           i32   read
//   4  table      [P, d/2, 2]   f32   read
//   5  gradient   [N, H, d]     f32   in place: dy becomes dx
//   6  dims       uniform
// backward        block 256, one range of heads per workgroup, 256 / HEAD_THREADS at a time, grid = parts: dx and parts of dw
//   0  x          [N, H, d]     f32   read
//   1  weight     [d]           f32   read
//   2  rstd       [N, H]        f32   read
//   3  position   [N]           i32   read
//   4  table      [P, d/2, 2]   f32   read
//   5  gradient   [N, H, d]     f32   in place: dy becomes dx
//   6  partial    [parts, d]    f32   overwritten
//   7  dims       uniform
// dweight_finish  block 256, 16 columns × 16 lanes over the parts, grid = ceil(d / 16): dw += Σ of its parts
//   0  partial    [parts, d]    f32   read
//   1  dweight    [d]           f32   accumulated
//   2  dims       uniform
//
// Constants: HEAD_THREADS = head_threads: 1, 2, 4, 8, 16, 32. forward and backward alone read it.
// Precision: f32 statistics and sums in a fixed order, the same bits on every run; the table comes from f64.
// Limits: d even, half = d/2, N · H · d < 2³¹; positions outside the table are clamped into it. forward and backward: d a multiple of 8,
// HEAD_THREADS a power of two up to 32 and at least d/8, so d ≤ 256. Traffic: forward 2 · N · H · d · 4 bytes, backward 3; bound
// by memory. So a thread holds a vec4 of both halves of a head, which it reads once, and in backward the weight and the sums for
// dw of its columns all along its range of heads.
// Twin: kernels/qk_norm_rope.cu.

struct Dims {
    rows: u32,             // N
    heads: u32,            // H
    head_dim: u32,         // d
    half: u32,             // d/2
    positions: u32,        // P
    parts: u32,            // ranges of the N · H heads that dw is summed over apart
    eps: f32,
    head_threads: u32,     // threads that share a head: HEAD_THREADS here
}

const BLOCK: u32 = 256u;
// Threads that share a head: a power of two.
const HEAD_THREADS: u32 = 32u;

// ── rung 1: naive: one head per thread ───────────────────────────────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> n_x: array<f32>;
@group(0) @binding(1) var<storage, read> n_weight: array<f32>;
@group(0) @binding(2) var<storage, read> n_position: array<i32>;
@group(0) @binding(3) var<storage, read> n_table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> n_y: array<f32>;
@group(0) @binding(5) var<storage, read_write> n_rstd: array<f32>;
@group(0) @binding(6) var<uniform> n_dims: Dims;

@compute @workgroup_size(BLOCK)
fn forward_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let head = (group.x + group.y * groups.x) * BLOCK + thread;
    if head >= n_dims.rows * n_dims.heads {
        return;
    }
    let half = n_dims.half;
    let base = head * 2u * half;
    var squares = 0.0;
    for (var c = 0u; c < 2u * half; c++) {
        squares = fma(n_x[base + c], n_x[base + c], squares);
    }
    let r = inverseSqrt(squares / f32(2u * half) + n_dims.eps);
    let turn = u32(clamp(n_position[head / n_dims.heads], 0, i32(n_dims.positions) - 1));
    for (var i = 0u; i < half; i++) {
        let angle = n_table[turn * half + i];
        let a = n_x[base + i] * r * n_weight[i];
        let b = n_x[base + half + i] * r * n_weight[half + i];
        n_y[base + i] = a * angle.x - b * angle.y;
        n_y[base + half + i] = b * angle.x + a * angle.y;
    }
    n_rstd[head] = r;
}

@group(0) @binding(0) var<storage, read> w_x: array<f32>;
@group(0) @binding(1) var<storage, read> w_rstd: array<f32>;
@group(0) @binding(2) var<storage, read> w_position: array<i32>;
@group(0) @binding(3) var<storage, read> w_table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> w_gradient: array<f32>;
@group(0) @binding(5) var<storage, read_write> w_partial: array<f32>;
@group(0) @binding(6) var<uniform> w_dims: Dims;

@compute @workgroup_size(64)
fn dweight_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let half = w_dims.half;
    let column_groups = (half + 63u) / 64u;
    let part = index / column_groups;
    let i = index % column_groups * 64u + thread;
    if i >= half || part >= w_dims.parts {
        return;
    }
    let per_part = (w_dims.rows * w_dims.heads + w_dims.parts - 1u) / w_dims.parts;
    let end = min(w_dims.rows * w_dims.heads, (part + 1u) * per_part);
    var low = 0.0;
    var high = 0.0;
    for (var head = part * per_part; head < end; head++) {
        let base = head * 2u * half;
        let turn = u32(clamp(w_position[head / w_dims.heads], 0, i32(w_dims.positions) - 1));
        let angle = w_table[turn * half + i];
        let a = w_gradient[base + i];
        let b = w_gradient[base + half + i];
        low = fma(a * angle.x + b * angle.y, w_x[base + i] * w_rstd[head], low);
        high = fma(b * angle.x - a * angle.y, w_x[base + half + i] * w_rstd[head], high);
    }
    w_partial[part * 2u * half + i] = low;
    w_partial[part * 2u * half + half + i] = high;
}

@group(0) @binding(0) var<storage, read> d_x: array<f32>;
@group(0) @binding(1) var<storage, read> d_weight: array<f32>;
@group(0) @binding(2) var<storage, read> d_rstd: array<f32>;
@group(0) @binding(3) var<storage, read> d_position: array<i32>;
@group(0) @binding(4) var<storage, read> d_table: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> d_gradient: array<f32>;
@group(0) @binding(6) var<uniform> d_dims: Dims;

// g of a pair of columns.
fn pair(base: u32, turn: u32, i: u32) -> vec2<f32> {
    let half = d_dims.half;
    let angle = d_table[turn * half + i];
    let a = d_gradient[base + i];
    let b = d_gradient[base + half + i];
    return vec2((a * angle.x + b * angle.y) * d_weight[i], (b * angle.x - a * angle.y) * d_weight[half + i]);
}

@compute @workgroup_size(BLOCK)
fn backward_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
    let head = (group.x + group.y * groups.x) * BLOCK + thread;
    if head >= d_dims.rows * d_dims.heads {
        return;
    }
    let half = d_dims.half;
    let base = head * 2u * half;
    let turn = u32(clamp(d_position[head / d_dims.heads], 0, i32(d_dims.positions) - 1));
    var sum = 0.0;
    for (var i = 0u; i < half; i++) {
        let g = pair(base, turn, i);
        sum = fma(g.x, d_x[base + i], fma(g.y, d_x[base + half + i], sum));
    }
    let r = d_rstd[head];
    let slope = r * r * (sum / f32(2u * half));
    for (var i = 0u; i < half; i++) {
        let g = pair(base, turn, i);
        d_gradient[base + i] = r * (g.x - d_x[base + i] * slope);
        d_gradient[base + half + i] = r * (g.y - d_x[base + half + i] * slope);
    }
}

// ── rung 2: shared: threads share a head ─────────────────────────────────────────────────────────────────────────────

var<workgroup> lanes: array<f32, BLOCK>;
var<workgroup> low_sums: array<vec4<f32>, BLOCK>;
var<workgroup> high_sums: array<vec4<f32>, BLOCK>;

// The sum of one value per thread of a head, by halving: the order depends on HEAD_THREADS alone. Every thread gets it.
fn head_sum(thread: u32, value: f32) -> f32 {
    workgroupBarrier(); // the sum before this one was read by all
    lanes[thread] = value;
    workgroupBarrier();
    for (var width = HEAD_THREADS / 2u; width > 0u; width = width / 2u) {
        if thread % HEAD_THREADS < width {
            lanes[thread] += lanes[thread + width];
        }
        workgroupBarrier();
    }
    return lanes[thread - thread % HEAD_THREADS];
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> position: array<i32>;
@group(0) @binding(3) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<uniform> dims: Dims;

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let quads = dims.half / 4u; // of one half
    let quad = thread % HEAD_THREADS;
    let head = (group.x + group.y * groups.x) * (BLOCK / HEAD_THREADS) + thread / HEAD_THREADS;
    let there = head < dims.rows * dims.heads && quad < quads; // else the thread only keeps the others company at the barriers
    let low = head * 2u * quads + quad;
    let high = low + quads;
    var a = vec4(0.0);
    var b = vec4(0.0);
    if there {
        a = x[low];
        b = x[high];
    }
    let squares = head_sum(thread, dot(a, a) + dot(b, b));
    if !there {
        return;
    }
    let r = inverseSqrt(squares / f32(dims.head_dim) + dims.eps);
    a *= r * weight[quad];
    b *= r * weight[quads + quad];
    // Two pairs' (cos, sin, cos, sin) per access.
    let turn = u32(clamp(position[head / dims.heads], 0, i32(dims.positions) - 1));
    let first = table[2u * (turn * quads + quad)];
    let second = table[2u * (turn * quads + quad) + 1u];
    let cosine = vec4(first.xz, second.xz);
    let sine = vec4(first.yw, second.yw);
    y[low] = a * cosine - b * sine;
    y[high] = b * cosine + a * sine;
    if quad == 0u {
        rstd[head] = r;
    }
}

@group(0) @binding(0) var<storage, read> b_x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b_weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b_rstd: array<f32>;
@group(0) @binding(3) var<storage, read> b_position: array<i32>;
@group(0) @binding(4) var<storage, read> b_table: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> b_gradient: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> b_partial: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> b_dims: Dims;

@compute @workgroup_size(BLOCK)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let part = group.x + group.y * groups.x;
    let quads = b_dims.half / 4u;
    let quad = thread % HEAD_THREADS;
    let per_part = (b_dims.rows * b_dims.heads + b_dims.parts - 1u) / b_dims.parts;
    let end = min(b_dims.rows * b_dims.heads, (part + 1u) * per_part);
    var low_weight = vec4(0.0);
    var high_weight = vec4(0.0);
    var low_sum = vec4(0.0);
    var high_sum = vec4(0.0);
    if quad < quads {
        low_weight = b_weight[quad];
        high_weight = b_weight[quads + quad];
    }
    // 1. dx of 256 / HEAD_THREADS heads at a time. All threads stay together: head_sum needs them.
    for (var at = part * per_part; at < end; at += BLOCK / HEAD_THREADS) {
        let head = at + thread / HEAD_THREADS;
        let there = head < end && quad < quads;
        let low = head * 2u * quads + quad;
        let high = low + quads;
        var a = vec4(0.0);
        var b = vec4(0.0);
        var g = vec4(0.0);
        var h = vec4(0.0);
        var r = 0.0;
        if there {
            a = b_x[low];
            b = b_x[high];
            let turn = u32(clamp(b_position[head / b_dims.heads], 0, i32(b_dims.positions) - 1));
            let first = b_table[2u * (turn * quads + quad)];
            let second = b_table[2u * (turn * quads + quad) + 1u];
            let cosine = vec4(first.xz, second.xz);
            let sine = vec4(first.yw, second.yw);
            g = b_gradient[low] * cosine + b_gradient[high] * sine;
            h = b_gradient[high] * cosine - b_gradient[low] * sine;
            r = b_rstd[head];
        }
        low_sum = fma(g, a * r, low_sum);
        high_sum = fma(h, b * r, high_sum);
        g *= low_weight;
        h *= high_weight;
        let mean = head_sum(thread, dot(g, a) + dot(h, b)) / f32(b_dims.head_dim);
        if there {
            let slope = r * r * mean;
            b_gradient[low] = r * (g - a * slope);
            b_gradient[high] = r * (h - b * slope);
        }
    }

    // 2. dw of the range: over the threads that hold the same columns, by halving.
    low_sums[thread] = low_sum;
    high_sums[thread] = high_sum;
    workgroupBarrier();
    for (var width = BLOCK / 2u; width >= HEAD_THREADS; width = width / 2u) {
        if thread < width {
            low_sums[thread] += low_sums[thread + width];
            high_sums[thread] += high_sums[thread + width];
        }
        workgroupBarrier();
    }
    if thread < quads && part < b_dims.parts {
        b_partial[part * 2u * quads + thread] = low_sums[thread];
        b_partial[part * 2u * quads + quads + thread] = high_sums[thread];
    }
}

// ── Beside the ladder: the second pass of dw ─────────────────────────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> f_partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> f_dweight: array<f32>;
@group(0) @binding(2) var<uniform> f_dims: Dims;

@compute @workgroup_size(BLOCK)
fn dweight_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
    let columns = f_dims.head_dim;
    let across = thread % 16u;
    let down = thread / 16u;
    let column = (group.x + group.y * groups.x) * 16u + across;
    var total = 0.0;
    if column < columns {
        for (var part = down; part < f_dims.parts; part += 16u) {
            total += f_partial[part * columns + column];
        }
    }
    lanes[thread] = total;
    workgroupBarrier();
    if down == 0u && column < columns {
        total = 0.0;
        for (var lane = 0u; lane < 16u; lane++) {
            total += lanes[16u * lane + across];
        }
        f_dweight[column] += total;
    }
}
