// swiglu: y = silu(gate) · up,   silu(g) = g · σ(g),   σ(g) = 1 / (1 + e⁻ᵍ), element by element.
//
// Backward.  dgate = dy · up · σ · (1 + g · (1 − σ)),   dup = dy · g · σ.
//
// forward      block 256, four elements per thread, grid = ceil(n / 1024): y
//   0  gate    [n]  f32   read
//   1  up      [n]  f32   read
//   2  y       [n]  f32   overwritten
//   3  dims    uniform
// backward     block 256, four elements per thread, grid = ceil(n / 1024): dgate and dup
//   0  gate    [n]  f32   read
//   1  up      [n]  f32   read
//   2  dy      [n]  f32   read
//   3  dgate   [n]  f32   overwritten
//   4  dup     [n]  f32   overwritten
//   5  dims    uniform
//
// Precision: f32, the same bits on every run. exp as the device has it.
// Limits: n < 2³¹; buffers are bound as vec4, so they hold a multiple of 16 bytes: what lies behind element n − 1 in the
// last vec4 may be read but is never written. Traffic: forward 12 n bytes, backward 20 n; bound by memory.
// Twin: kernels/swiglu.cu.

struct Dims {
    n: u32,
    padding0: u32,
    padding1: u32,
    padding2: u32,
}

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> dims: Dims;

const BLOCK: u32 = 256u;

// e^−|g| never overflows, whatever g.
fn sigmoid(g: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(g));
    return select(e, vec4(1.0), g >= vec4(0.0)) / (1.0 + e);
}

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + group.y * groups.x) * BLOCK + thread;
    if i >= (dims.n + 3u) / 4u {
        return;
    }
    let g = gate[i];
    let value = g * sigmoid(g) * up[i];
    if 4u * i + 4u <= dims.n {
        y[i] = value;
    } else {
        for (var c = 0u; c < dims.n - 4u * i; c++) {
            y[i][c] = value[c];
        }
    }
}

@group(0) @binding(0) var<storage, read> b_gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b_up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b_dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> b_dgate: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> b_dup: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> b_dims: Dims;

@compute @workgroup_size(BLOCK)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + group.y * groups.x) * BLOCK + thread;
    if i >= (b_dims.n + 3u) / 4u {
        return;
    }
    let g = b_gate[i];
    let s = sigmoid(g);
    let dy = b_dy[i];
    let dgate = dy * b_up[i] * s * (1.0 + g * (1.0 - s));
    let dup = dy * g * s;
    if 4u * i + 4u <= b_dims.n {
        b_dgate[i] = dgate;
        b_dup[i] = dup;
    } else {
        for (var c = 0u; c < b_dims.n - 4u * i; c++) {
            b_dgate[i][c] = dgate[c];
            b_dup[i][c] = dup[c];
        }
    }
}
