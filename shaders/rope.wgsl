// rope: rotary position embedding, Hugging Face's rotate-half convention: column i of a head is paired with column
// i + d/2 (d = head_dim) and the pair is turned by the angle position · θ^(−2i/d):
//
//   y[i]       = x[i] · cos − x[i + d/2] · sin
//   y[i + d/2] = x[i + d/2] · cos + x[i] · sin
//
// Backward.  A rotation's transpose is its inverse: the same with −sin (dims.sign = −1).
//
// The ladder, in the order of this file, each rung one idea away from the last:
//   rung 1: scalar  rotate: one pair per thread.
//   rung 2: vec4    rotate_vec4: a vec4 of both halves of a head per thread: four pairs.
//
// rotate         block 256, one pair per thread, grid = ceil(N · H · d/2 / 256): y
//   0  x         [N, H, d]       f32   read (backward: dy)
//   1  position  [N]             i32   read
//   2  table     [P, d/2, 2]     f32   read (cos, sin; computed in f64 on the host: WGSL's own are coarse)
//   3  y         [N, H, d]       f32   overwritten (backward: dx)
//   4  dims      uniform
// rotate_vec4    block 256, four pairs per thread, d a multiple of 8, grid = ceil(N · H · d/8 / 256): y
//   0  x         [N, H, d]       f32   read (backward: dy)
//   1  position  [N]             i32   read
//   2  table     [P, d/2, 2]     f32   read
//   3  y         [N, H, d]       f32   overwritten (backward: dx)
//   4  dims      uniform
//
// Precision: f32 products, the same bits on every run; the table comes from f64.
// Limits: d even, half = d/2, pairs = N · H · half, N · H · d < 2³¹; positions outside the table are clamped into it. Traffic: 2 · N · H · d · 4 bytes; bound
// by memory.
// Twin: kernels/rope.cu.

struct Dims {
    pairs: u32,            // all of them: N · H · d/2
    heads: u32,            // H
    half: u32,             // d/2
    positions: u32,        // P
    sign: f32,             // 1 forward, −1 backward
    rows: u32,             // N
    head_dim: u32,         // d
    padding: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> position: array<i32>;
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> dims: Dims;

const BLOCK: u32 = 256u;

// ── rung 1: scalar: one pair per thread ──────────────────────────────────────────────────────────────────────────────

@compute @workgroup_size(BLOCK)
fn rotate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let pair = (group.x + group.y * groups.x) * BLOCK + thread;
    if pair >= dims.pairs {
        return;
    }
    let head = pair / dims.half; // n · H + h
    let i = pair % dims.half;
    let turn = u32(clamp(position[head / dims.heads], 0, i32(dims.positions) - 1));
    let angle = table[turn * dims.half + i];
    let cosine = angle.x;
    let sine = angle.y * dims.sign;
    let low = head * 2u * dims.half + i;
    let high = low + dims.half;
    let a = x[low];
    let b = x[high];
    y[low] = a * cosine - b * sine;
    y[high] = b * cosine + a * sine;
}

// ── rung 2: vec4: a vec4 of both halves per thread ───────────────────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> v_x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> v_position: array<i32>;
@group(0) @binding(2) var<storage, read> v_table: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v_y: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> v_dims: Dims;

@compute @workgroup_size(BLOCK)
fn rotate_vec4(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) thread: u32) {
    let quad = (group.x + group.y * groups.x) * BLOCK + thread;
    if quad >= v_dims.pairs / 4u {
        return;
    }
    let quads = v_dims.half / 4u; // of one head's half
    let head = quad / quads;
    let i = quad % quads;
    let turn = u32(clamp(v_position[head / v_dims.heads], 0, i32(v_dims.positions) - 1));
    let angles = 2u * (turn * quads + i);
    let first = v_table[angles];
    let second = v_table[angles + 1u];
    let cosine = vec4(first.xz, second.xz);
    let sine = vec4(first.yw, second.yw) * v_dims.sign;
    let low = head * 2u * quads + i;
    let high = low + quads;
    let a = v_x[low];
    let b = v_x[high];
    v_y[low] = a * cosine - b * sine;
    v_y[high] = b * cosine + a * sine;
}
