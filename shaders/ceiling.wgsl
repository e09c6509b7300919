// ceiling: what a device does at best. `trimodal bench` divides by it: no kernel of ours computes anything with these.
//
// copy           block 256, 8 accesses of 16 bytes per thread, grid = ceil(n / 8192): y = x
//   0  x      [n]  f32  read
//   1  y      [n]  f32  overwritten
//   2  dims   uniform
// multiply_add   block 256, 16 sums per thread, 8 multiply-adds each per round, grid = n / 256: chains of multiply-adds
//   0  y      [n]  f32  overwritten (the thread's sums, added up)
//   1  dims   uniform
// shared_memory  block 256, 8 accesses of 16 bytes per thread and round, grid = n / 256: reads of shared memory
//   0  y      [n]  f32  overwritten (what was read, added up)
//   1  dims   uniform
//
// Work: copy moves 8 n bytes; multiply_add does 256 n rounds operations, and shared_memory reads 128 n rounds bytes.
// Precision: f32, the same bits on every run.
// Limits: n a multiple of 256, and of 4 in copy; a grid has no surplus groups (at most 65,535 in all).
// Twin: kernels/ceiling.cu.

struct Dims {
    n: u32,
    rounds: u32,
    scale: f32,
    shift: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> dims: Dims;

const BLOCK: u32 = 256u;

@compute @workgroup_size(BLOCK)
fn copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let first = (group.x + group.y * groups.x) * BLOCK * 8u + thread;
    for (var access = 0u; access < 8u; access++) {
        let i = first + access * BLOCK;
        if i < dims.n / 4u {
            y[i] = x[i];
        }
    }
}

@group(0) @binding(0) var<storage, read_write> f_y: array<f32>;
@group(0) @binding(1) var<uniform> f_dims: Dims;

@compute @workgroup_size(BLOCK)
fn multiply_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + group.y * groups.x) * BLOCK + thread;
    var a = vec4(f32(thread)) + vec4(0.0, 1.0, 2.0, 3.0);
    var b = a + vec4(4.0);
    var c = a + vec4(8.0);
    var d = a + vec4(12.0);
    // scale and shift come from the host: nothing can be computed ahead.
    let scale = vec4(f_dims.scale);
    let shift = vec4(f_dims.shift);
    for (var round = 0u; round < f_dims.rounds; round++) {
        for (var step = 0u; step < 8u; step++) {
            a = fma(a, scale, shift);
            b = fma(b, scale, shift);
            c = fma(c, scale, shift);
            d = fma(d, scale, shift);
        }
    }
    let sums = a + b + c + d;
    if i < f_dims.n {
        f_y[i] = sums.x + sums.y + sums.z + sums.w;
    }
}

var<workgroup> tile: array<vec4<f32>, 1024>;

@compute @workgroup_size(BLOCK)
fn shared_memory(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let i = (group.x + group.y * groups.x) * BLOCK + thread;
    for (var part = 0u; part < 4u; part++) {
        let place = part * BLOCK + thread;
        tile[place] = vec4(f32(place), f_dims.scale, f_dims.shift, 1.0);
    }
    workgroupBarrier();
    var total = vec4(0.0);
    // Neighbours read neighbours: no two threads meet in a bank. The place moves, so that no read can be saved.
    var place = thread;
    for (var round = 0u; round < f_dims.rounds; round++) {
        for (var access = 0u; access < 8u; access++) {
            total += tile[(place + access * 96u) % 1024u];
        }
        place += 32u;
    }
    if i < f_dims.n {
        f_y[i] = total.x + total.y + total.z + total.w;
    }
}
