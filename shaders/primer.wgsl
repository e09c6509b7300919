// primer: z = x + y,   y[i] = Σ_j x[i, j],   C = A · B: three first kernels. No model calls them: they are what chapter 0 of LEARN.md reads.
//
// Each has one idea more than the last: `add` shares the work out among threads, in `row_sum` the threads of a workgroup work together,
// and in `tile_product` they do so to read memory less often. The CUDA file has the same names, the same steps and the same comments.
//
// add           block 64, one element per thread, grid = ceil(N / 64): z = x + y
//   0  x        [N]       f32  read
//   1  y        [N]       f32  read
//   2  z        [N]       f32  overwritten
//   3  dims     uniform
// row_sum       block 64, one row per workgroup, grid = M: the sum of each row
//   0  s_x      [M, N]    f32  read
//   1  s_y      [M]       f32  overwritten
//   2  s_dims   uniform
// tile_product  block 16, 4 × 4 results per workgroup, grid = ceil(M / 4) · ceil(N / 4): C = A · B
//   0  a        [M, K]    f32  read
//   1  b        [K, N]    f32  read
//   2  c        [M, N]    f32  overwritten
//   3  p_dims   uniform
//
// Precision: f32 sums in a fixed order, the same bits on every run.
// Limits: every tensor < 2³¹ elements. Shared memory: 256 bytes (row_sum), 128 (tile_product).
// Twin: kernels/primer.cu.

// What all threads of a launch are told: the sizes. An entry reads those that it needs.
struct Dims {
    m: u32, // M: rows
    n: u32, // N: columns, or elements where there are no rows
    k: u32, // K: what a product sums over
    padding: u32, // a uniform's size is a multiple of 16 bytes
}

// ── add: every thread has one element ────────────────────────────────────────────────────────────────────────────────

// The buffers, in the order in which the host binds them. `storage` is the GPU's large memory; `read` and `read_write` say what we may do.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const BLOCK: u32 = 64u; // threads of a workgroup

// This function is run by every thread of every workgroup. They differ in nothing but these built-in numbers.
@compute @workgroup_size(BLOCK)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) thread: u32) {
    // 1. Which element is mine? Workgroup 0 has elements 0 to 63, workgroup 1 has 64 to 127, and so on. Neighbouring threads have
    //    neighbouring elements: the hardware then reads those of many threads in one access (coalescing).
    let block = group.x + group.y * groups.x; // more than 65,535 workgroups are numbered in x and y
    let i = block * BLOCK + thread;
    // 2. Is there one? N need not be a multiple of 64: in the last workgroup the threads beyond the end have nothing to do.
    if i >= dims.n {
        return;
    }
    // 3. The work.
    z[i] = x[i] + y[i];
}

// ── row_sum: a workgroup shares a row ────────────────────────────────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> s_x: array<f32>;
@group(0) @binding(1) var<storage, read_write> s_y: array<f32>;
@group(0) @binding(2) var<uniform> s_dims: Dims;

// Shared memory: small, fast, one copy for each workgroup, gone when it ends. All of its threads read and write it.
var<workgroup> lanes: array<f32, BLOCK>;

@compute @workgroup_size(BLOCK)
fn row_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let row = group.x + group.y * groups.x;
    if row >= s_dims.m { // the whole workgroup ends or none of it: a barrier that only some threads reach is an error
        return;
    }
    // 1. Each thread sums every 64th element of the row, in a register of its own. In each turn of this loop neighbouring threads
    //    read neighbouring elements.
    var sum = 0.0;
    for (var j = thread; j < s_dims.n; j += BLOCK) {
        sum += s_x[row * s_dims.n + j];
    }
    // 2. It shows its sum to the others, and waits until all have: after the barrier, everybody sees what everybody wrote.
    lanes[thread] = sum;
    workgroupBarrier();
    // 3. A tree: half of the threads add the other half's sums to theirs, then a half of that half: 32, 16, 8, 4, 2, 1. After each
    //    round all wait, because the next one reads what other threads have just written.
    for (var width = BLOCK / 2u; width > 0u; width /= 2u) {
        if thread < width {
            lanes[thread] += lanes[thread + width];
        }
        workgroupBarrier();
    }
    // 4. One thread writes the result.
    if thread == 0u {
        s_y[row] = lanes[0];
    }
}

// ── tile_product: a workgroup reads together what each of its threads needs ──────────────────────────────────────────

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<uniform> p_dims: Dims;

const SIDE: u32 = 4u; // a workgroup computes SIDE × SIDE elements of C. Real kernels take 32 to 128.
const AREA: u32 = SIDE * SIDE; // elements of such a tile, and threads to fetch them

// 4 × 4 elements of either operand, row by row.
var<workgroup> a_tile: array<f32, AREA>;
var<workgroup> b_tile: array<f32, AREA>;

@compute @workgroup_size(AREA)
fn tile_product(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
    // 1. Which tile of C is the workgroup's, and which of its 16 elements is mine?
    let block = group.x + group.y * groups.x;
    let across = (p_dims.n + SIDE - 1u) / SIDE; // tiles from left to right
    if block >= (p_dims.m + SIDE - 1u) / SIDE * across {
        return;
    }
    let tile_row = thread / SIDE;
    let tile_column = thread % SIDE;
    let row = block / across * SIDE + tile_row;
    let column = block % across * SIDE + tile_column;

    var sum = 0.0;
    // 2. K in steps of 4: the next 4 columns of A meet the next 4 rows of B.
    for (var k0 = 0u; k0 < p_dims.k; k0 += SIDE) {
        // 3. Each thread fetches one element of either tile; beyond the edges of the matrices there are zeros, which add nothing.
        let a_column = k0 + tile_column;
        let b_row = k0 + tile_row;
        a_tile[thread] = 0.0;
        if row < p_dims.m && a_column < p_dims.k {
            a_tile[thread] = a[row * p_dims.k + a_column];
        }
        b_tile[thread] = 0.0;
        if b_row < p_dims.k && column < p_dims.n {
            b_tile[thread] = b[b_row * p_dims.n + column];
        }
        workgroupBarrier(); // both tiles are whole
        // 4. A row of one tile times a column of the other. Every number that was fetched once is used by 4 threads.
        for (var k = 0u; k < SIDE; k++) {
            sum = fma(a_tile[tile_row * SIDE + k], b_tile[k * SIDE + tile_column], sum);
        }
        workgroupBarrier(); // all have read them: the next turn may overwrite them
    }
    // 5. Threads beyond the edges helped to fetch. They have no result.
    if row < p_dims.m && column < p_dims.n {
        c[row * p_dims.n + column] = sum;
    }
}
