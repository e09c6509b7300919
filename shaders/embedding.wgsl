// embedding: y[row[i]] = table[id[i]], whole rows of D; entries with a negative id or row are skipped.
//
// Backward.  dtable[v] += Σ dy[row[i]] over the entries i with id[i] = v. The host sorts the rows by id (a counting
// sort), so that each element of dtable is summed by one thread, in order: no atomics, the same bits on every run.
//
// The ladder of forward, in the order of this file:
//   rung 1: scalar  forward: one element of y per thread.
//   rung 2: vec4    forward_vec4: four elements of y per thread.
//   beside it       backward has one form.
//
// forward          block 256, one element of y per thread, grid = ceil(M · D / 256): y[row[i]] = table[id[i]]
//   0  table       [V, D]     f32   read
//   1  id          [M]        i32   read
//   2  row         [M]        i32   read (only if has_row, else row i)
//   3  y           [N, D]     f32   overwritten (only the rows that are named)
//   4  dims        uniform
// forward_vec4     block 256, four elements of y per thread, D a multiple of 4, grid = ceil(M · D / 1024): y[row[i]] = table[id[i]]
//   0  table       [V, D]     f32   read
//   1  id          [M]        i32   read
//   2  row         [M]        i32   read (only if has_row, else row i)
//   3  y           [N, D]     f32   overwritten (only the rows that are named)
//   4  dims        uniform
// backward         block 256, one element of dtable per thread, grid = ceil(V · D / 256): dtable
//   0  dy          [N, D]     f32   read
//   1  sorted_row  [M]        i32   read
//   2  start       [V + 1]    i32   read
//   3  dtable      [V, D]     f32   accumulated
//   4  dims        uniform
//
// Precision: forward copies; backward sums f32 in the order of sorted_row, the same bits on every run.
// Limits: D ≥ 1; M · D, N · D, V · D < 2³¹; the rows of one call are distinct. Ids, rows and starts outside their tables
// are skipped, not followed. Traffic: forward 2 · M · D · 4 bytes; bound by memory.
// Twin: kernels/embedding.cu.

struct Dims {
    entries: u32,          // M
    columns: u32,          // D
    vocabulary: u32,       // V
    rows: u32,             // N
    has_row: u32,
    padding0: u32,
    padding1: u32,
    padding2: u32,
}

@group(0) @binding(0) var<storage, read> table: array<f32>;
@group(0) @binding(1) var<storage, read> id: array<i32>;
@group(0) @binding(2) var<storage, read> row: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> dims: Dims;

const BLOCK: u32 = 256u;

// ── rung 1: scalar: one element of y per thread ──────────────────────────────────────────────────────────────────────

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    if index >= dims.entries * dims.columns {
        return;
    }
    let entry = index / dims.columns;
    let column = index % dims.columns;
    var to = i32(entry);
    if dims.has_row != 0u {
        to = row[entry];
    }
    let from_row = id[entry];
    // A negative number is a huge unsigned one: one comparison checks both ends.
    if u32(from_row) < dims.vocabulary && u32(to) < dims.rows {
        y[u32(to) * dims.columns + column] = table[u32(from_row) * dims.columns + column];
    }
}

// ── rung 2: vec4: four elements of y per thread ──────────────────────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> v_table: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> v_id: array<i32>;
@group(0) @binding(2) var<storage, read> v_row: array<i32>;
@group(0) @binding(3) var<storage, read_write> v_y: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> v_dims: Dims;

@compute @workgroup_size(BLOCK)
fn forward_vec4(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    let quads = v_dims.columns / 4u;
    if index >= v_dims.entries * quads {
        return;
    }
    let entry = index / quads;
    let quad = index % quads;
    var to = i32(entry);
    if v_dims.has_row != 0u {
        to = v_row[entry];
    }
    let from_row = v_id[entry];
    if u32(from_row) < v_dims.vocabulary && u32(to) < v_dims.rows {
        v_y[u32(to) * quads + quad] = v_table[u32(from_row) * quads + quad];
    }
}

// ── Beside the ladder: backward ──────────────────────────────────────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> b_dy: array<f32>;
@group(0) @binding(1) var<storage, read> b_sorted_row: array<i32>;
@group(0) @binding(2) var<storage, read> b_start: array<i32>;
@group(0) @binding(3) var<storage, read_write> b_dtable: array<f32>;
@group(0) @binding(4) var<uniform> b_dims: Dims;

@compute @workgroup_size(BLOCK)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    if index >= b_dims.vocabulary * b_dims.columns {
        return;
    }
    let v = index / b_dims.columns;
    let column = index % b_dims.columns;
    let first = u32(max(b_start[v], 0));
    let end = min(u32(max(b_start[v + 1u], 0)), b_dims.entries);
    if first >= end {
        return;
    }
    var total = b_dtable[index];
    for (var j = first; j < end; j++) {
        let from_row = u32(b_sorted_row[j]);
        if from_row < b_dims.rows {
            total += b_dy[from_row * b_dims.columns + column];
        }
    }
    b_dtable[index] = total;
}
