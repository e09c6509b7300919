// rms_norm: y = s · r · w,   s = x (+ residual),   r = 1/sqrt(mean(s²) + eps), one row of C at a time.
//
// Backward.  With g = dy · w:   ds = r · (g − s · r² · mean(g · s)) (+ dresidual),   dw = Σ_rows dy · s · r.
//
// forward          block 256, 256 / ROW_THREADS rows per workgroup, grid = ceil(rows · ROW_THREADS / 256): y and rstd, and the sum
//   0  x           [rows, C]         f32   read
//   1  residual    [rows, C]         f32   read (only if has_residual)
//   2  weight      [C]               f32   read
//   3  sum         [rows, C]         f32   overwritten (only if has_residual)
//   4  y           [rows, C]         f32   overwritten
//   5  rstd        [rows]            f32   overwritten (backward needs it)
//   6  dims        uniform
// backward         block 256, 256 / ROW_THREADS rows per workgroup, grid = ceil(rows · ROW_THREADS / 256): dx
//   0  dy          [rows, C]         f32   read
//   1  x           [rows, C]         f32   read (the sum, where forward had a residual)
//   2  weight      [C]               f32   read
//   3  rstd        [rows]            f32   read
//   4  dresidual   [rows, C]         f32   read (only if has_residual)
//   5  dx          [rows, C]         f32   overwritten
//   6  dims        uniform
// dweight_partial  block 256, 64 columns × 4 row lanes per workgroup, grid = ceil(C / 64) · parts: parts of dw
//   0  dy          [rows, C]         f32   read
//   1  x           [rows, C]         f32   read
//   2  rstd        [rows]            f32   read
//   3  partial     [parts, C]        f32   overwritten
//   4  dims        uniform
// dweight_finish   block 64, one column per thread, grid = ceil(C / 64): dw += Σ of its parts
//   0  partial     [parts, C]        f32   read
//   1  dweight     [C]               f32   accumulated
//   2  dims        uniform
//
// Constants: ROW_THREADS = row_threads: 8, 16, 32, 64, 128, 256.
// Precision: f32 statistics and sums in a fixed order, the same bits on every run.
// Limits: C ≥ 1, rows · C < 2³¹. Traffic: forward 2 · rows · C · 4 bytes (4 with a residual); bound by memory.
// Twin: kernels/rms_norm.cu.

struct Dims {
    rows: u32,
    columns: u32,          // C
    parts: u32,            // row ranges of dweight_partial
    has_residual: u32,
    eps: f32,
    row_threads: u32,      // threads that share a row: ROW_THREADS here
    padding0: u32,
    padding1: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> residual: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<uniform> dims: Dims;

const BLOCK: u32 = 256u;
// Threads that share a row: a power of two up to BLOCK. Short rows (QK-norm: C = head_dim) share a workgroup.
const ROW_THREADS: u32 = 256u;

var<workgroup> lanes: array<f32, BLOCK>;

// The sum of one value per thread of a row, by halving: the order depends on ROW_THREADS alone. Every thread gets it.
fn row_sum(thread: u32, value: f32) -> f32 {
    lanes[thread] = value;
    workgroupBarrier();
    for (var width = ROW_THREADS / 2u; width > 0u; width = width / 2u) {
        if thread % ROW_THREADS < width {
            lanes[thread] += lanes[thread + width];
        }
        workgroupBarrier();
    }
    return lanes[thread - thread % ROW_THREADS];
}

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let row = (group.x + group.y * groups.x) * (BLOCK / ROW_THREADS) + thread / ROW_THREADS;
    // A row past the end has no columns: its threads only keep the others company at the barriers.
    let columns = select(0u, dims.columns, row < dims.rows);
    let base = row * dims.columns;
    var squares = 0.0;
    for (var c = thread % ROW_THREADS; c < columns; c += ROW_THREADS) {
        var value = x[base + c];
        if dims.has_residual != 0u {
            value += residual[base + c];
            sum[base + c] = value;
        }
        squares = fma(value, value, squares);
    }
    let r = inverseSqrt(row_sum(thread, squares) / f32(dims.columns) + dims.eps);
    for (var c = thread % ROW_THREADS; c < columns; c += ROW_THREADS) {
        var value = x[base + c];
        if dims.has_residual != 0u {
            value = sum[base + c]; // this thread wrote it
        }
        y[base + c] = value * r * weight[c];
    }
    if thread % ROW_THREADS == 0u && row < dims.rows {
        rstd[row] = r;
    }
}

@group(0) @binding(0) var<storage, read> b_dy: array<f32>;
@group(0) @binding(1) var<storage, read> b_x: array<f32>;
@group(0) @binding(2) var<storage, read> b_weight: array<f32>;
@group(0) @binding(3) var<storage, read> b_rstd: array<f32>;
@group(0) @binding(4) var<storage, read> b_dresidual: array<f32>;
@group(0) @binding(5) var<storage, read_write> b_dx: array<f32>;
@group(0) @binding(6) var<uniform> b_dims: Dims;

@compute @workgroup_size(BLOCK)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let row = (group.x + group.y * groups.x) * (BLOCK / ROW_THREADS) + thread / ROW_THREADS;
    let columns = select(0u, b_dims.columns, row < b_dims.rows);
    let base = row * b_dims.columns;
    var dot = 0.0;
    for (var c = thread % ROW_THREADS; c < columns; c += ROW_THREADS) {
        dot = fma(b_dy[base + c] * b_weight[c], b_x[base + c], dot);
    }
    let mean = row_sum(thread, dot) / f32(b_dims.columns);
    if columns == 0u {
        return;
    }
    let r = b_rstd[row];
    let slope = r * r * mean;
    for (var c = thread % ROW_THREADS; c < columns; c += ROW_THREADS) {
        var value = r * (b_dy[base + c] * b_weight[c] - b_x[base + c] * slope);
        if b_dims.has_residual != 0u {
            value += b_dresidual[base + c];
        }
        b_dx[base + c] = value;
    }
}

@group(0) @binding(0) var<storage, read> p_dy: array<f32>;
@group(0) @binding(1) var<storage, read> p_x: array<f32>;
@group(0) @binding(2) var<storage, read> p_rstd: array<f32>;
@group(0) @binding(3) var<storage, read_write> p_partial: array<f32>;
@group(0) @binding(4) var<uniform> p_dims: Dims;

// Threads 0..63 take 64 neighbouring columns of every fourth row, so that loads coalesce; the four row lanes are added at
// the end.
@compute @workgroup_size(BLOCK)
fn dweight_partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let column_groups = (p_dims.columns + 63u) / 64u;
    if index >= column_groups * p_dims.parts {
        return;
    }
    let part = index / column_groups;
    let column = (index % column_groups) * 64u + thread % 64u;
    let rows_per_part = (p_dims.rows + p_dims.parts - 1u) / p_dims.parts;
    let end = min(p_dims.rows, (part + 1u) * rows_per_part);
    var total = 0.0;
    if column < p_dims.columns {
        for (var row = part * rows_per_part + thread / 64u; row < end; row += 4u) {
            total = fma(p_dy[row * p_dims.columns + column], p_x[row * p_dims.columns + column] * p_rstd[row], total);
        }
    }
    lanes[thread] = total;
    workgroupBarrier();
    if thread < 64u && column < p_dims.columns {
        p_partial[part * p_dims.columns + column] = (lanes[thread] + lanes[thread + 64u]) + (lanes[thread + 128u] + lanes[thread + 192u]);
    }
}

@group(0) @binding(0) var<storage, read> f_partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> f_dweight: array<f32>;
@group(0) @binding(2) var<uniform> f_dims: Dims;

@compute @workgroup_size(64)
fn dweight_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
    let column = (group.x + group.y * groups.x) * 64u + thread;
    if column >= f_dims.columns {
        return;
    }
    var total = 0.0;
    for (var part = 0u; part < f_dims.parts; part++) {
        total += f_partial[part * f_dims.columns + column];
    }
    f_dweight[column] += total;
}
