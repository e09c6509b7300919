// cross_entropy: loss = weight · Σ_rows (lse − logits[target]),   lse = log Σ_v exp(logits[v]), over rows of V logits.
// Rows with target −1 do not count: their row_loss, lse and gradient are 0.
//
// Backward.  dlogits = weight · (exp(logits − lse) − [v = target]), in place.
//
// forward        block 256, 256 / ROW_THREADS rows per workgroup, grid = ceil(M · ROW_THREADS / 256): row_loss and lse
//   0  logits    [M, V]  f32   read
//   1  goal      [M]     i32   read
//   2  row_loss  [M]     f32   overwritten
//   3  lse       [M]     f32   overwritten (backward needs it)
//   4  dims      uniform
// total          block 256, one workgroup, grid = 1: loss = weight · Σ row_loss
//   0  row_loss  [M]     f32   read
//   1  weight    [1]     f32   read
//   2  loss      [1]     f32   overwritten (added to if accumulate)
//   3  dims      uniform
// backward       block 256, 1024 elements of a row per workgroup, grid = M · parts: dlogits
//   0  logits    [M, V]  f32   in place: becomes dlogits
//   1  goal      [M]     i32   read
//   2  lse       [M]     f32   read
//   3  weight    [1]     f32   read
//   4  dims      uniform
//
// With accumulate the rows of one loss may come in several chunks; the weight is 1 / the rows that count in all of them.
// (`target` is a reserved word of WGSL, hence `goal`.)
//
// Constants: ROW_THREADS = row_threads: 8, 16, 32, 64, 128, 256.
// Precision: f32; maximum and sum in a fixed order, the same bits on every run. exp and log as the device has them.
// Limits: V ≥ 1, parts = ceil(V / 1024), M · V < 2³¹. A goal that is not below V counts as −1. Traffic: forward 4 · M · V bytes (one read: maximum
// and sum are kept online), backward 8 · M · V; bound by memory.
// Twin: kernels/cross_entropy.cu.

struct Dims {
    rows: u32,             // M
    vocabulary: u32,       // V
    parts: u32,            // workgroups on one row of backward: ceil(V / 1024)
    accumulate: u32,       // of total
    row_threads: u32,      // threads that share a row: ROW_THREADS here
    padding0: u32,
    padding1: u32,
    padding2: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> goal: array<i32>;
@group(0) @binding(2) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<uniform> dims: Dims;

const BLOCK: u32 = 256u;
// Threads that share a row: a power of two up to BLOCK.
const ROW_THREADS: u32 = 256u;
const PART: u32 = 1024u;
// Below every logit, and finite: WGSL may assume that there are no infinities.
const LOWEST: f32 = -1e30;

var<workgroup> maxima: array<f32, BLOCK>;
var<workgroup> sums: array<f32, BLOCK>;

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let row = (group.x + group.y * groups.x) * (BLOCK / ROW_THREADS) + thread / ROW_THREADS;
    let lane = thread % ROW_THREADS;
    var answer = dims.vocabulary;
    if row < dims.rows {
        answer = u32(goal[row]); // −1 becomes a huge number
    }
    let counts = answer < dims.vocabulary;
    // A row that does not count has no columns: its threads only keep the others company at the barriers.
    let columns = select(0u, dims.vocabulary, counts);
    let base = row * dims.vocabulary;
    // 1. Online softmax: the running maximum, and the sum of exponentials below it, rescaled whenever it rises.
    var top = LOWEST;
    var total = 0.0;
    //    Four columns at a time: five exponentials instead of eight.
    var c = lane;
    for (; c + 3u * ROW_THREADS < columns; c += 4u * ROW_THREADS) {
        let i = base + c;
        let value = vec4(logits[i], logits[i + ROW_THREADS], logits[i + 2u * ROW_THREADS], logits[i + 3u * ROW_THREADS]);
        let higher = max(max(top, max(value.x, value.y)), max(value.z, value.w));
        let weights = exp(value - higher);
        total = total * exp(top - higher) + ((weights.x + weights.y) + (weights.z + weights.w));
        top = higher;
    }
    for (; c < columns; c += ROW_THREADS) {
        let value = logits[base + c];
        let higher = max(top, value);
        total = total * exp(top - higher) + exp(value - higher);
        top = higher;
    }
    // 2. The same rule joins the threads' pairs by halving.
    maxima[thread] = top;
    sums[thread] = total;
    workgroupBarrier();
    for (var width = ROW_THREADS / 2u; width > 0u; width = width / 2u) {
        if lane < width {
            let a = maxima[thread];
            let b = maxima[thread + width];
            let higher = max(a, b);
            maxima[thread] = higher;
            sums[thread] = sums[thread] * exp(a - higher) + sums[thread + width] * exp(b - higher);
        }
        workgroupBarrier();
    }
    if lane == 0u && row < dims.rows {
        var found_loss = 0.0;
        var found_lse = 0.0;
        if counts {
            let logarithm = log(sums[thread]);
            found_lse = maxima[thread] + logarithm;
            // Not lse − logit: that would round the sum of two large numbers first.
            found_loss = (maxima[thread] - logits[base + answer]) + logarithm;
        }
        row_loss[row] = found_loss;
        lse[row] = found_lse;
    }
}

@group(0) @binding(0) var<storage, read> t_row_loss: array<f32>;
@group(0) @binding(1) var<storage, read> t_weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> t_loss: array<f32>;
@group(0) @binding(3) var<uniform> t_dims: Dims;

@compute @workgroup_size(BLOCK)
fn total(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    var part = 0.0;
    for (var row = thread; row < t_dims.rows; row += BLOCK) {
        part += t_row_loss[row];
    }
    sums[thread] = part;
    workgroupBarrier();
    for (var width = BLOCK / 2u; width > 0u; width = width / 2u) {
        if thread < width {
            sums[thread] += sums[thread + width];
        }
        workgroupBarrier();
    }
    if thread == 0u && group.x + group.y * groups.x == 0u {
        let part = t_weight[0] * sums[0];
        if t_dims.accumulate != 0u {
            t_loss[0] += part;
        } else {
            t_loss[0] = part;
        }
    }
}

@group(0) @binding(0) var<storage, read_write> b_logits: array<f32>;
@group(0) @binding(1) var<storage, read> b_goal: array<i32>;
@group(0) @binding(2) var<storage, read> b_lse: array<f32>;
@group(0) @binding(3) var<storage, read> b_weight: array<f32>;
@group(0) @binding(4) var<uniform> b_dims: Dims;

@compute @workgroup_size(BLOCK)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    if index >= b_dims.rows * b_dims.parts {
        return;
    }
    let row = index / b_dims.parts;
    let first = index % b_dims.parts * PART;
    let end = min(first + PART, b_dims.vocabulary);
    let answer = u32(b_goal[row]);
    let counts = answer < b_dims.vocabulary;
    let base = row * b_dims.vocabulary;
    let log_sum_exp = b_lse[row];
    let weight = b_weight[0];
    for (var c = first + thread; c < end; c += BLOCK) {
        var gradient = 0.0;
        if counts {
            gradient = weight * (exp(b_logits[base + c] - log_sum_exp) - select(0.0, 1.0, c == answer));
        }
        b_logits[base + c] = gradient;
    }
}
