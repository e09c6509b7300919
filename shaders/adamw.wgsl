// adamw: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), in PyTorch's form:
//
//   g ← g · min(1, max_norm / (norm + 10⁻⁶))                          (only if max_norm > 0)
//   p ← p · (1 − lr · weight_decay)
//   m ← m + (g − m) · (1 − β₁)
//   v ← β₂ · v + (1 − β₂) · g²
//   p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
//
// norm = √ Σ g² over every gradient of the model: partial sums per 4096 elements, then one workgroup adds those in a fixed
// tree. The norm stays on the device: the update reads it.
//
// squares        block 256, 4096 elements per workgroup, grid = ceil(n / 4096), one launch per gradient: Σ g² of 4096 elements
//   0  grad      [n]       f32   read
//   1  partials  [ceil(n / 4096)]  f32  overwritten (from element offset of all the partial sums)
//   2  dims      uniform
// global_norm    block 256, one workgroup, grid = 1: norm = √ Σ parts
//   0  parts     [n]       f32   read
//   1  norm_out  [1]       f32   overwritten
//   2  dims      uniform
// update         block 256, four elements per thread, grid = ceil(n / 1024): p, m and v, one step on
//   0  p         [n]       f32   updated
//   1  g         [n]       f32   read
//   2  m         [n]       f32   updated
//   3  v         [n]       f32   updated
//   4  coefficients  [8]   f32   read: one step's, in the order of `Coefficients`
//   5  clip_norm  [1]      f32   read (only if max_norm > 0 or has_loss)
//   6  loss      [1]       f32   read (only if has_loss): where it or the norm is not finite, nothing changes
//   7  copy      [n]       bf16  overwritten (only if has_copy): p, rounded to nearest even
//   8  dims      uniform
//
// Elements from `decayed` on keep their weight: tensors that lie in one buffer, those that decay first, are one launch.
//
// Precision: f32; sums of squares in a fixed tree, the same bits on every run. The copy is rounded to nearest even.
// Limits: n < 2³¹; p, g, m, v, grad are bound as vec4, so they hold a multiple of 16 bytes: what lies behind element n − 1
// in the last vec4 may be read but is never written. Traffic: update 28 n bytes (30 n with the copy); bound by memory.
// Twin: kernels/adamw.cu.

struct Dims {
    n: u32,
    has_copy: u32,
    has_loss: u32,
    decayed: u32,              // the first elements of p, which decay
    offset: u32,               // of the partial sums of `squares`
    padding0: u32,
    padding1: u32,
    padding2: u32,
}

struct Coefficients {
    decay: f32,                // 1 − lr · weight_decay
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    step_size: f32,            // lr / (1 − β₁ᵗ)
    correction2: f32,          // √(1 − β₂ᵗ)
    eps: f32,
    max_norm: f32,
}

const BLOCK: u32 = 256u;
const CHUNK: u32 = 4096u;

var<workgroup> lanes: array<f32, BLOCK>;

// The sum of one value per thread, by halving: always the same order. Thread 0 reads it from lanes[0].
fn block_sum(thread: u32, value: f32) {
    lanes[thread] = value;
    workgroupBarrier();
    for (var width = BLOCK / 2u; width > 0u; width = width / 2u) {
        if thread < width {
            lanes[thread] += lanes[thread + width];
        }
        workgroupBarrier();
    }
}

@group(0) @binding(0) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<uniform> s_dims: Dims;

@compute @workgroup_size(BLOCK)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let chunk = group.x + group.y * groups.x;
    if chunk >= (s_dims.n + CHUNK - 1u) / CHUNK {
        return;
    }
    let end = min((chunk + 1u) * CHUNK, s_dims.n);
    var sums = vec4(0.0);
    for (var i = chunk * CHUNK + 4u * thread; i < end; i += 4u * BLOCK) {
        var g = grad[i / 4u];
        // Behind the last element: not ours, and perhaps not even numbers.
        g.y = select(0.0, g.y, i + 1u < end);
        g.z = select(0.0, g.z, i + 2u < end);
        g.w = select(0.0, g.w, i + 3u < end);
        sums = fma(g, g, sums);
    }
    block_sum(thread, (sums.x + sums.y) + (sums.z + sums.w));
    if thread == 0u {
        partials[s_dims.offset + chunk] = lanes[0];
    }
}

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm_out: array<f32>;
@group(0) @binding(2) var<uniform> n_dims: Dims;

@compute @workgroup_size(BLOCK)
fn global_norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) thread: u32) {
    var part = 0.0;
    for (var i = thread; i < n_dims.n; i += BLOCK) {
        part += parts[i];
    }
    block_sum(thread, part);
    if thread == 0u && group.x + group.y * groups.x == 0u {
        norm_out[0] = sqrt(lanes[0]);
    }
}

@group(0) @binding(0) var<storage, read_write> p: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> coefficients: array<f32>;
@group(0) @binding(5) var<storage, read> clip_norm: array<f32>;
@group(0) @binding(6) var<storage, read> loss: array<f32>;
@group(0) @binding(7) var<storage, read_write> copy: array<u32>;
@group(0) @binding(8) var<uniform> dims: Dims;

// By its bits: WGSL may assume that there are no infinities.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// The upper half of an f32, rounded to nearest, ties to even; a NaN stays one.
fn bf16(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
    return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}

@compute @workgroup_size(BLOCK)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + group.y * groups.x) * BLOCK + thread;
    if i >= (dims.n + 3u) / 4u {
        return;
    }
    if dims.has_loss != 0u && !(is_finite(loss[0]) && is_finite(clip_norm[0])) {
        return;
    }
    let c = Coefficients(coefficients[0], coefficients[1], coefficients[2], coefficients[3],
                         coefficients[4], coefficients[5], coefficients[6], coefficients[7]);
    var clip = 1.0;
    if c.max_norm > 0.0 {
        clip = min(1.0, c.max_norm / (clip_norm[0] + 1e-6));
    }
    let decay = select(vec4(1.0), vec4(c.decay), 4u * i + vec4(0u, 1u, 2u, 3u) < vec4(dims.decayed));
    let gradient = g[i] * clip;
    var moment = m[i];
    moment += (gradient - moment) * c.one_minus_beta1;
    let second = c.beta2 * v[i] + c.one_minus_beta2 * gradient * gradient;
    let value = p[i] * decay - c.step_size * moment / (sqrt(second) / c.correction2 + c.eps);
    if 4u * i + 4u <= dims.n {
        p[i] = value;
        m[i] = moment;
        v[i] = second;
        if dims.has_copy != 0u {
            copy[2u * i] = bf16(value.x) | (bf16(value.y) << 16u);
            copy[2u * i + 1u] = bf16(value.z) | (bf16(value.w) << 16u);
        }
        return;
    }
    for (var e = 0u; e < dims.n - 4u * i; e++) {
        p[i][e] = value[e];
        m[i][e] = moment[e];
        v[i][e] = second[e];
        if dims.has_copy != 0u {
            // The other half of the word may be somebody else's.
            let word = 2u * i + e / 2u;
            let shift = 16u * (e % 2u);
            copy[word] = (copy[word] & ~(0xffffu << shift)) | (bf16(value[e]) << shift);
        }
    }
}
