// attention_backward: the gradients of o = softmax(scale · q·kᵀ) · v (attention.wgsl) from the saved lse, in three kernels
// and without atomics (FlashAttention-2: Dao 2023, arXiv 2307.08691).
//
//   p = exp(scale · q·kᵀ − lse),   dv = pᵀ·do,   dp = do·vᵀ,   delta = rowsum(do ∘ o),   ds = p ∘ (dp − delta) · scale,
//   dq = ds·k,   dk = dsᵀ·q.   dk and dv of a KV head add up over the H / Hkv query heads that read it.
//
// In this order, numbered as in attention.wgsl; the CUDA twin has a rung 3. Rung 1 (naive) is not built: rung 2 takes every shape, the CPU has the plain loops:
//   delta          one pass over o and do, which gathers what dkv needs to know of a row.
//   rung 2: tile   dkv and dq_rows, in shared memory and registers.
//
// delta    block 64, one row of one head per thread, grid = ceil(Nq · H / 64): delta = rowsum(do ∘ o)
//   0  o           [Nq, H, d]        f32   read
//   1  d_o         [Nq, H, d]        f32   read
//   2  lse         [Nq, H]           f32   read
//   3  visible     [Nq, 2]           i32   read
//   4  delta       [Nq, H]           f32   overwritten
//   5  stats       [Nq, H, d]        u32   overwritten in part: lse, delta, start, end, bit by bit, at the start of each row
//   6  dims        uniform
// dkv      block 64, OWN keys of one KV head per workgroup, grid = ceil(Nk / OWN) · Hkv: dk and dv
//   0  q           [Nq, H, d]        f32   read
//   1  k           [Nk, Hkv, d]      f32   read
//   2  v           [Nk, Hkv, d]      f32   read
//   3  d_o         [Nq, H, d]        f32   read
//   4  stats       [Nq, H, d]        u32   read
//   5  visible_by  [Nk, 2]           i32   read: rows that may see a key (visible decides which of them do)
//   6  dk          [Nk, Hkv, d]      f32   overwritten
//   7  dv          [Nk, Hkv, d]      f32   overwritten
//   8  dims        uniform
// dq_rows  block 64, OWN rows of one head per workgroup, grid = ceil(Nq / OWN) · H: dq
//   0  q           [Nq, H, d]        f32   read
//   1  k           [Nk, Hkv, d]      f32   read
//   2  v           [Nk, Hkv, d]      f32   read
//   3  d_o         [Nq, H, d]        f32   read
//   4  lse         [Nq, H]           f32   read
//   5  delta       [Nq, H]           f32   read
//   6  visible     [Nq, 2]           i32   read
//   7  dq          [Nq, H, d]        f32   overwritten
//   8  dims        uniform
//
// Order: delta, dkv, dq_rows. WebGPU grants eight storage buffers, and dkv would need ten: what it needs to know of a row (lse,
// delta, its interval) comes in one, `stats`, for which the launcher lends dq's memory until dq_rows fills it.
//
// Constants: HEAD_DIM = head_dim: 4..128; OWN: 8, 16, 32 (a multiple of 64 / THREADS_X); SWEEP:
// 4, 8, 16, 32; THREADS_X: 4, 8. What is shared must fit the workgroup memory that was asked for.
// Precision: f32 sums in a fixed order, the same bits on every run. exp as the device has it.
// Limits: 4 ≤ d ≤ 128 (HEAD_DIM; four words of stats must fit), H a multiple of Hkv, every tensor < 2³¹ elements. q, k, v, o
// and d_o are bound as vec4: their buffers end on a multiple of 16 bytes. Shared memory:
// 32 · (OWN + SWEEP) · STRIDE + 8 · OWN · (SWEEP + 1) + 16 · SWEEP bytes.
// FLOPs: dkv 8 · d and dq_rows 6 · d per pair of a row and a key that it sees, per head.
// Twin: kernels/attention_backward.cu.

struct Dims {
    queries: u32,          // Nq
    keys: u32,             // Nk
    heads: u32,            // H
    kv_heads: u32,         // Hkv
    scale: f32,
    head_dim: u32,         // d = HEAD_DIM
    padding0: u32,
    padding1: u32,
}

const HEAD_DIM: u32 = 64u;
// Keys (dkv) or rows (dq) that a workgroup owns, and how many of the others it takes at a time.
const OWN: u32 = 16u;
const SWEEP: u32 = 8u;
// Threads across a head's vec4 when gradients are added up; BLOCK / THREADS_X of them share a vec4's column.
const THREADS_X: u32 = 8u;
const BLOCK: u32 = 64u;
const THREADS_Y: u32 = BLOCK / THREADS_X;
// A head's row in vec4, zeros behind HEAD_DIM; and the same in shared memory, odd so that neighbouring rows lie in
// different banks.
const D4: u32 = (HEAD_DIM + 3u) / 4u;
const STRIDE: u32 = D4 | 1u;
// What one thread holds of a gradient tile.
const ROWS: u32 = OWN / THREADS_Y;
const PARTS: u32 = (D4 + THREADS_X - 1u) / THREADS_X;
// Threads on a tile of p and ds, and what one of them computes of it.
const OWN_THREADS: u32 = min(OWN, 8u);
const SWEEP_THREADS: u32 = min(SWEEP, 8u);
const OWN_EACH: u32 = OWN / OWN_THREADS;
const SWEEP_EACH: u32 = SWEEP / SWEEP_THREADS;
// exp(LOW) is 0; never an infinity, which WGSL may assume away.
const LOW: f32 = -1e30;

// ── delta ────────────────────────────────────────────────────────────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> r_o: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> r_d_o: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> r_lse: array<f32>;
@group(0) @binding(3) var<storage, read> r_visible: array<vec2<i32>>;
@group(0) @binding(4) var<storage, read_write> r_delta: array<f32>;
@group(0) @binding(5) var<storage, read_write> r_stats: array<u32>;
@group(0) @binding(6) var<uniform> r_dims: Dims;

@compute @workgroup_size(BLOCK)
fn delta(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    if index >= r_dims.queries * r_dims.heads {
        return;
    }
    let at = index * HEAD_DIM;
    // In the order in which dp is added up below, so that the two cancel where a row sees one key.
    var sum = 0.0;
    for (var c = 0u; c < D4; c++) {
        if HEAD_DIM % 4u == 0u {
            sum += dot(r_d_o[at / 4u + c], r_o[at / 4u + c]);
        } else {
            var a = vec4<f32>();
            var b = vec4<f32>();
            for (var i = 0u; i < min(4u, HEAD_DIM - c * 4u); i++) {
                let element = at + c * 4u + i;
                a[i] = r_d_o[element / 4u][element % 4u];
                b[i] = r_o[element / 4u][element % 4u];
            }
            sum += dot(a, b);
        }
    }
    r_delta[index] = sum;
    let seen = vec2<u32>(clamp(r_visible[index / r_dims.heads], vec2<i32>(0, 0), vec2<i32>(i32(r_dims.keys))));
    r_stats[at] = bitcast<u32>(r_lse[index]);
    r_stats[at + 1u] = bitcast<u32>(sum);
    r_stats[at + 2u] = seen.x;
    r_stats[at + 3u] = seen.y;
}

// ── rung 2: tile: dkv and dq_rows, in shared memory and registers ────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> stats: array<u32>;
@group(0) @binding(5) var<storage, read> visible_by: array<vec2<i32>>;
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;
@group(0) @binding(8) var<uniform> dims: Dims;

@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> row_delta: array<f32>;
@group(0) @binding(6) var<storage, read> visible: array<vec2<i32>>;
@group(0) @binding(7) var<storage, read_write> dq: array<f32>;

var<workgroup> own_a: array<vec4<f32>, OWN * STRIDE>;          // dkv: K, dq: Q
var<workgroup> own_b: array<vec4<f32>, OWN * STRIDE>;          // dkv: V, dq: dO
var<workgroup> sweep_a: array<vec4<f32>, SWEEP * STRIDE>;      // dkv: Q, dq: K
var<workgroup> sweep_b: array<vec4<f32>, SWEEP * STRIDE>;      // dkv: dO, dq: V
var<workgroup> p_tile: array<f32, OWN * (SWEEP + 1u)>;         // + 1 against bank conflicts
var<workgroup> ds_tile: array<f32, OWN * (SWEEP + 1u)>;
var<workgroup> row_stats: array<vec4<u32>, SWEEP>;             // dkv: lse, delta, start, end of the rows of a tile

// ┌ the same in attention.wgsl, attention_backward.wgsl: vec4s of a row
// vec4 number c of a row of HEAD_DIM elements, with zeros behind the last.
fn q4(row: u32, c: u32) -> vec4<f32> {
    let at = row * HEAD_DIM + c * 4u;
    if HEAD_DIM % 4u == 0u {
        return q[at / 4u];
    }
    var x = vec4<f32>();
    for (var i = 0u; i < min(4u, HEAD_DIM - c * 4u); i++) {
        x[i] = q[(at + i) / 4u][(at + i) % 4u];
    }
    return x;
}

fn k4(row: u32, c: u32) -> vec4<f32> {
    let at = row * HEAD_DIM + c * 4u;
    if HEAD_DIM % 4u == 0u {
        return k[at / 4u];
    }
    var x = vec4<f32>();
    for (var i = 0u; i < min(4u, HEAD_DIM - c * 4u); i++) {
        x[i] = k[(at + i) / 4u][(at + i) % 4u];
    }
    return x;
}

fn v4(row: u32, c: u32) -> vec4<f32> {
    let at = row * HEAD_DIM + c * 4u;
    if HEAD_DIM % 4u == 0u {
        return v[at / 4u];
    }
    var x = vec4<f32>();
    for (var i = 0u; i < min(4u, HEAD_DIM - c * 4u); i++) {
        x[i] = v[(at + i) / 4u][(at + i) % 4u];
    }
    return x;
}
// └ the same up to here: vec4s of a row

fn d_o4(row: u32, c: u32) -> vec4<f32> {
    let at = row * HEAD_DIM + c * 4u;
    if HEAD_DIM % 4u == 0u {
        return d_o[at / 4u];
    }
    var x = vec4<f32>();
    for (var i = 0u; i < min(4u, HEAD_DIM - c * 4u); i++) {
        x[i] = d_o[(at + i) / 4u][(at + i) % 4u];
    }
    return x;
}

@compute @workgroup_size(BLOCK)
fn dkv(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    if index >= (dims.keys + OWN - 1u) / OWN * dims.kv_heads {
        return;
    }
    let kv_head = index % dims.kv_heads;
    let first = index / dims.kv_heads * OWN;
    let per = dims.heads / dims.kv_heads;
    let x = thread % THREADS_X;
    let y = thread / THREADS_X;
    let own = thread % OWN_THREADS;
    let other = thread / OWN_THREADS;

    // 1. From the first row that may see one of the keys to the last: no other tile is touched.
    var low = dims.queries;
    var high = 0u;
    for (var j = first; j < min(first + OWN, dims.keys); j++) {
        let seen = vec2<u32>(clamp(visible_by[j], vec2<i32>(0, 0), vec2<i32>(i32(dims.queries))));
        if seen.x < seen.y {
            low = min(low, seen.x);
            high = max(high, seen.y);
        }
    }

    // 2. The keys stay in shared memory.
    for (var i = thread; i < OWN * D4; i += BLOCK) {
        let key = first + i / D4;
        var a = vec4<f32>();
        var b = vec4<f32>();
        if key < dims.keys {
            a = k4(key * dims.kv_heads + kv_head, i % D4);
            b = v4(key * dims.kv_heads + kv_head, i % D4);
        }
        own_a[i / D4 * STRIDE + i % D4] = a;
        own_b[i / D4 * STRIDE + i % D4] = b;
    }

    var k_sum: array<vec4<f32>, ROWS * PARTS>;
    var v_sum: array<vec4<f32>, ROWS * PARTS>;
    for (var g = 0u; g < per; g++) {
        let head = kv_head * per + g;
        for (var tile = low; tile < high; tile += SWEEP) {
            // 3. A tile of rows of one of the heads that read this KV head.
            for (var i = thread; i < SWEEP * D4; i += BLOCK) {
                let row = tile + i / D4;
                var a = vec4<f32>();
                var b = vec4<f32>();
                if row < high {
                    a = q4(row * dims.heads + head, i % D4);
                    b = d_o4(row * dims.heads + head, i % D4);
                }
                sweep_a[i / D4 * STRIDE + i % D4] = a;
                sweep_b[i / D4 * STRIDE + i % D4] = b;
            }
            if thread < SWEEP {
                var row = vec4<u32>();
                if tile + thread < high {
                    let at = ((tile + thread) * dims.heads + head) * HEAD_DIM;
                    row = vec4<u32>(stats[at], stats[at + 1u], stats[at + 2u], stats[at + 3u]);
                }
                row_stats[thread] = row;
            }
            workgroupBarrier();

            // 4. p and ds of the tile.
            if other < SWEEP_THREADS {
                var s = array<f32, OWN_EACH * SWEEP_EACH>();
                var dp = array<f32, OWN_EACH * SWEEP_EACH>();
                for (var c = 0u; c < D4; c++) {
                    var a: array<vec4<f32>, OWN_EACH>;
                    var b: array<vec4<f32>, OWN_EACH>;
                    for (var j = 0u; j < OWN_EACH; j++) {
                        a[j] = own_a[(own + j * OWN_THREADS) * STRIDE + c];
                        b[j] = own_b[(own + j * OWN_THREADS) * STRIDE + c];
                    }
                    for (var r = 0u; r < SWEEP_EACH; r++) {
                        let query = sweep_a[(other + r * SWEEP_THREADS) * STRIDE + c];
                        let slope = sweep_b[(other + r * SWEEP_THREADS) * STRIDE + c];
                        for (var j = 0u; j < OWN_EACH; j++) {
                            s[r * OWN_EACH + j] += dot(query, a[j]);
                            dp[r * OWN_EACH + j] += dot(slope, b[j]);
                        }
                    }
                }
                for (var r = 0u; r < SWEEP_EACH; r++) {
                    let row = row_stats[other + r * SWEEP_THREADS];
                    for (var j = 0u; j < OWN_EACH; j++) {
                        let key = first + own + j * OWN_THREADS;
                        let inside = key >= row.z && key < row.w;
                        let p = exp(select(LOW, s[r * OWN_EACH + j] * dims.scale - bitcast<f32>(row.x), inside));
                        let at = (own + j * OWN_THREADS) * (SWEEP + 1u) + other + r * SWEEP_THREADS;
                        p_tile[at] = p;
                        ds_tile[at] = p * (dp[r * OWN_EACH + j] - bitcast<f32>(row.y)) * dims.scale;
                    }
                }
            }
            workgroupBarrier();

            // 5. dk += dsᵀ·Q, dv += pᵀ·dO.
            for (var i = 0u; i < SWEEP; i++) {
                for (var c = 0u; c < PARTS; c++) {
                    // A thread beyond the last vec4 repeats it; its result is not stored.
                    let at = i * STRIDE + min(x + c * THREADS_X, D4 - 1u);
                    let query = sweep_a[at];
                    let slope = sweep_b[at];
                    for (var r = 0u; r < ROWS; r++) {
                        let pair = (y + r * THREADS_Y) * (SWEEP + 1u) + i;
                        k_sum[r * PARTS + c] = fma(vec4<f32>(ds_tile[pair]), query, k_sum[r * PARTS + c]);
                        v_sum[r * PARTS + c] = fma(vec4<f32>(p_tile[pair]), slope, v_sum[r * PARTS + c]);
                    }
                }
            }
            // The next tile overwrites what was just read.
            workgroupBarrier();
        }
    }

    for (var r = 0u; r < ROWS; r++) {
        let key = first + y + r * THREADS_Y;
        for (var c = 0u; c < PARTS; c++) {
            let column = (x + c * THREADS_X) * 4u;
            for (var i = 0u; i < 4u; i++) {
                if key < dims.keys && column + i < HEAD_DIM {
                    let at = (key * dims.kv_heads + kv_head) * HEAD_DIM + column + i;
                    dk[at] = k_sum[r * PARTS + c][i];
                    dv[at] = v_sum[r * PARTS + c][i];
                }
            }
        }
    }
}

// ┌ the same in attention.wgsl, attention_backward.wgsl: the keys that a row sees
// The keys that a row sees, inside those that there are; [0, 0) for a row that is not there.
fn interval(row: u32) -> vec2<u32> {
    if row >= dims.queries {
        return vec2<u32>(0u, 0u);
    }
    let seen = clamp(visible[row], vec2<i32>(0, 0), vec2<i32>(i32(dims.keys)));
    return vec2<u32>(seen);
}
// └ the same up to here: the keys that a row sees

// As dkv with the roles of rows and keys exchanged.
@compute @workgroup_size(BLOCK)
fn dq_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    if index >= (dims.queries + OWN - 1u) / OWN * dims.heads {
        return;
    }
    let head = index % dims.heads;
    let kv_head = head / (dims.heads / dims.kv_heads);
    let first = index / dims.heads * OWN;
    let x = thread % THREADS_X;
    let y = thread / THREADS_X;
    let own = thread % OWN_THREADS;
    let other = thread / OWN_THREADS;

    // 1. From the first key that one of the rows sees to the last.
    var low = dims.keys;
    var high = 0u;
    for (var r = 0u; r < OWN; r++) {
        let seen = interval(first + r);
        if seen.x < seen.y {
            low = min(low, seen.x);
            high = max(high, seen.y);
        }
    }

    // 2. The rows stay in shared memory.
    for (var i = thread; i < OWN * D4; i += BLOCK) {
        let row = first + i / D4;
        var a = vec4<f32>();
        var b = vec4<f32>();
        if row < dims.queries {
            a = q4(row * dims.heads + head, i % D4);
            b = d_o4(row * dims.heads + head, i % D4);
        }
        own_a[i / D4 * STRIDE + i % D4] = a;
        own_b[i / D4 * STRIDE + i % D4] = b;
    }

    var sum: array<vec4<f32>, ROWS * PARTS>;
    for (var tile = low; tile < high; tile += SWEEP) {
        // 3. A tile of keys.
        for (var i = thread; i < SWEEP * D4; i += BLOCK) {
            let key = tile + i / D4;
            var a = vec4<f32>();
            var b = vec4<f32>();
            if key < high {
                a = k4(key * dims.kv_heads + kv_head, i % D4);
                b = v4(key * dims.kv_heads + kv_head, i % D4);
            }
            sweep_a[i / D4 * STRIDE + i % D4] = a;
            sweep_b[i / D4 * STRIDE + i % D4] = b;
        }
        workgroupBarrier();

        // 4. ds of the tile.
        if other < SWEEP_THREADS {
            var s = array<f32, OWN_EACH * SWEEP_EACH>();
            var dp = array<f32, OWN_EACH * SWEEP_EACH>();
            for (var c = 0u; c < D4; c++) {
                var a: array<vec4<f32>, OWN_EACH>;
                var b: array<vec4<f32>, OWN_EACH>;
                for (var r = 0u; r < OWN_EACH; r++) {
                    a[r] = own_a[(own + r * OWN_THREADS) * STRIDE + c];
                    b[r] = own_b[(own + r * OWN_THREADS) * STRIDE + c];
                }
                for (var j = 0u; j < SWEEP_EACH; j++) {
                    let key = sweep_a[(other + j * SWEEP_THREADS) * STRIDE + c];
                    let value = sweep_b[(other + j * SWEEP_THREADS) * STRIDE + c];
                    for (var r = 0u; r < OWN_EACH; r++) {
                        s[j * OWN_EACH + r] += dot(a[r], key);
                        dp[j * OWN_EACH + r] += dot(b[r], value);
                    }
                }
            }
            for (var r = 0u; r < OWN_EACH; r++) {
                let row = first + own + r * OWN_THREADS;
                let seen = interval(row);
                let at = min(row, dims.queries - 1u) * dims.heads + head;
                for (var j = 0u; j < SWEEP_EACH; j++) {
                    let key = tile + other + j * SWEEP_THREADS;
                    let inside = key >= seen.x && key < seen.y;
                    let p = exp(select(LOW, s[j * OWN_EACH + r] * dims.scale - lse[at], inside));
                    ds_tile[(own + r * OWN_THREADS) * (SWEEP + 1u) + other + j * SWEEP_THREADS] =
                        p * (dp[j * OWN_EACH + r] - row_delta[at]) * dims.scale;
                }
            }
        }
        workgroupBarrier();

        // 5. dq += ds·K.
        for (var i = 0u; i < SWEEP; i++) {
            for (var c = 0u; c < PARTS; c++) {
                let key = sweep_a[i * STRIDE + min(x + c * THREADS_X, D4 - 1u)];
                for (var r = 0u; r < ROWS; r++) {
                    sum[r * PARTS + c] = fma(vec4<f32>(ds_tile[(y + r * THREADS_Y) * (SWEEP + 1u) + i]), key, sum[r * PARTS + c]);
                }
            }
        }
        // The next tile overwrites what was just read.
        workgroupBarrier();
    }

    for (var r = 0u; r < ROWS; r++) {
        let row = first + y + r * THREADS_Y;
        for (var c = 0u; c < PARTS; c++) {
            let column = (x + c * THREADS_X) * 4u;
            for (var i = 0u; i < 4u; i++) {
                if row < dims.queries && column + i < HEAD_DIM {
                    dq[(row * dims.heads + head) * HEAD_DIM + column + i] = sum[r * PARTS + c][i];
                }
            }
        }
    }
}
