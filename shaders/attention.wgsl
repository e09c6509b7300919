// attention: o = softmax(scale · q·kᵀ) · v per head, where row i sees the keys visible[i] = [start, end) and nothing else.
//
// Grouped heads: query head h reads KV head h / (H / Hkv). The sum of exponentials is built online (Milakov and Gimelshein
// 2018, arXiv 1805.02867; FlashAttention: Dao et al. 2022, arXiv 2205.14135): per row a running maximum m and sum l; a new
// tile of keys rescales what is there by exp(m_old − m_new). lse = m + ln l is what backward recomputes p from
// (attention_backward.wgsl). A row that sees nothing gets o = 0, lse = −1e30.
//
// The ladder, in the order of this file (the CUDA twin has a third rung, on tensor cores):
//   rung 1: naive  forward_naive: a thread walks its row's keys one by one.
//   rung 2: tile   forward: a workgroup owns TILE_Q rows and takes tiles of keys that its threads share; scores and outputs lie in
//                  register tiles.
//   beside it      weights writes what the others never hold: the rows p = exp(scale · q·k − lse) of those who want to look, 0
//                  outside `visible`.
//
// forward_naive  block 64, one row of one head per thread, grid = ceil(Nq · H / 64): o and lse
//   0  q           [Nq, H, d]        f32   read
//   1  k           [Nk, Hkv, d]      f32   read
//   2  v           [Nk, Hkv, d]      f32   read
//   3  visible     [Nq, 2]           i32   read
//   4  o           [Nq, H, d]        f32   overwritten
//   5  lse         [Nq, H]           f32   overwritten
//   6  dims        uniform
// forward        block 64, TILE_Q rows of one head per workgroup, grid = ceil(Nq / TILE_Q) · H: o and lse
//   0  q           [Nq, H, d]        f32   read
//   1  k           [Nk, Hkv, d]      f32   read
//   2  v           [Nk, Hkv, d]      f32   read
//   3  visible     [Nq, 2]           i32   read
//   4  o           [Nq, H, d]        f32   overwritten
//   5  lse         [Nq, H]           f32   overwritten (backward needs it)
//   6  dims        uniform
//
// weights        block 64, one weight per thread, grid = ceil(R · H · Nk / 64): p = exp(scale · q·k − lse) of the rows asked for
//   0  q           [Nq, H, d]        f32   read
//   1  k           [Nk, Hkv, d]      f32   read
//   2  lse         [Nq, H]           f32   read (what forward wrote)
//   3  visible     [Nq, 2]           i32   read
//   4  row         [R]               i32   read (rows of q; one outside 0..Nq gets zeros)
//   5  p           [R, H, Nk]        f32   overwritten
//   6  dims        uniform
//
// Constants: HEAD_DIM = head_dim: 1..128; TILE_Q: 16, 32, 64 (a multiple of 64 / THREADS_X); TILE_K:
// 8, 16, 32; THREADS_X: 4, 8. What is shared must fit the workgroup memory that was asked for.
// Precision: f32 sums in a fixed order, the same bits on every run. Softmax by its running maximum; exp as the device has it.
// Limits: 1 ≤ d ≤ 128 (HEAD_DIM), H a multiple of Hkv, every tensor < 2³¹ elements. q, k and v are bound as vec4: their
// buffers end on a multiple of 16 bytes. Shared memory: 16 · (TILE_Q + TILE_K) · STRIDE + 4 · TILE_Q · (TILE_K + 2) bytes.
// FLOPs: 4 · d per pair of a row and a key that it sees, per head.
// Twin: kernels/attention.cu.

struct Dims {
    queries: u32,          // Nq
    keys: u32,             // Nk
    heads: u32,            // H
    kv_heads: u32,         // Hkv
    scale: f32,
    head_dim: u32,         // d = HEAD_DIM
    rows: u32,             // R, of weights
    padding: u32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> visible: array<vec2<i32>>;
@group(0) @binding(4) var<storage, read_write> o: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<uniform> dims: Dims;
// Those of weights that are others than forward's.
@group(0) @binding(2) var<storage, read> w_lse: array<f32>;
@group(0) @binding(4) var<storage, read> w_row: array<i32>;
@group(0) @binding(5) var<storage, read_write> w_p: array<f32>;

const HEAD_DIM: u32 = 64u;
const TILE_Q: u32 = 32u;
const TILE_K: u32 = 16u;
// Threads across the columns of a tile; BLOCK / THREADS_X of them share a column.
const THREADS_X: u32 = 8u;
const BLOCK: u32 = 64u;
const THREADS_Y: u32 = BLOCK / THREADS_X;
// A head's row in vec4, zeros behind HEAD_DIM; and the same in shared memory, odd so that neighbouring rows lie in
// different banks.
const D4: u32 = (HEAD_DIM + 3u) / 4u;
const STRIDE: u32 = D4 | 1u;
// What one thread holds: ROWS × COLUMNS scores, ROWS × PARTS vec4 of the output.
const ROWS: u32 = TILE_Q / THREADS_Y;
const COLUMNS: u32 = TILE_K / THREADS_X;
const PARTS: u32 = (D4 + THREADS_X - 1u) / THREADS_X;
// Below every score; never an infinity, which WGSL may assume away.
const LOW: f32 = -1e30;

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

// ── rung 1: naive: a thread walks its row's keys ─────────────────────────────────────────────────────────────────────

// Nothing is shared. It teaches, and anchors the rung below.
@compute @workgroup_size(BLOCK)
fn forward_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    if index >= dims.queries * dims.heads {
        return;
    }
    let row = index / dims.heads;
    let kv_head = index % dims.heads / (dims.heads / dims.kv_heads);
    let seen = interval(row);
    var maximum = LOW;
    var total = 0.0;
    var out: array<vec4<f32>, D4>;
    var query: array<vec4<f32>, D4>;
    for (var c = 0u; c < D4; c++) {
        query[c] = q4(index, c);
    }
    for (var key = seen.x; key < seen.y; key++) {
        var score = 0.0;
        for (var c = 0u; c < D4; c++) {
            score += dot(query[c], k4(key * dims.kv_heads + kv_head, c));
        }
        score *= dims.scale;
        let next = max(maximum, score);
        let rescale = exp(maximum - next);
        let p = exp(score - next);
        for (var c = 0u; c < D4; c++) {
            out[c] = out[c] * rescale + p * v4(key * dims.kv_heads + kv_head, c);
        }
        total = total * rescale + p;
        maximum = next;
    }
    let sees = seen.x < seen.y;
    let inverse = select(0.0, 1.0 / total, sees);
    for (var i = 0u; i < HEAD_DIM; i++) {
        o[index * HEAD_DIM + i] = out[i / 4u][i % 4u] * inverse;
    }
    lse[index] = select(LOW, maximum + log(total), sees);
}

// ── rung 2: tile: in shared memory and registers ─────────────────────────────────────────────────────────────────────

var<workgroup> q_tile: array<vec4<f32>, TILE_Q * STRIDE>;
var<workgroup> kv_tile: array<vec4<f32>, TILE_K * STRIDE>;  // K, then V of the same keys
var<workgroup> p_tile: array<f32, TILE_Q * (TILE_K + 1u)>;  // scores, then exponentials; + 1 against bank conflicts
var<workgroup> factor: array<f32, TILE_Q>;                  // what a row's output is multiplied with

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    if index >= (dims.queries + TILE_Q - 1u) / TILE_Q * dims.heads {
        return;
    }
    let head = index % dims.heads;
    let kv_head = head / (dims.heads / dims.kv_heads);
    let first = index / dims.heads * TILE_Q;
    let x = thread % THREADS_X;
    let y = thread / THREADS_X;

    // 1. From the first key that one of the rows sees to the last: no other tile is touched.
    var low = dims.keys;
    var high = 0u;
    for (var r = 0u; r < TILE_Q; r++) {
        let seen = interval(first + r);
        if seen.x < seen.y {
            low = min(low, seen.x);
            high = max(high, seen.y);
        }
    }

    // 2. The rows' queries stay in shared memory.
    for (var i = thread; i < TILE_Q * D4; i += BLOCK) {
        let row = first + i / D4;
        var value = vec4<f32>();
        if row < dims.queries {
            value = q4(row * dims.heads + head, i % D4);
        }
        q_tile[i / D4 * STRIDE + i % D4] = value;
    }

    // Thread r < TILE_Q keeps row r's running maximum and sum.
    var maximum = LOW;
    var total = 0.0;
    let seen = interval(first + thread);
    var out: array<vec4<f32>, ROWS * PARTS>;

    for (var tile = low; tile < high; tile += TILE_K) {
        // 3. K.
        for (var i = thread; i < TILE_K * D4; i += BLOCK) {
            let key = tile + i / D4;
            var value = vec4<f32>();
            if key < high {
                value = k4(key * dims.kv_heads + kv_head, i % D4);
            }
            kv_tile[i / D4 * STRIDE + i % D4] = value;
        }
        workgroupBarrier();

        // 4. Scores, in registers: ROWS + COLUMNS loads for ROWS · COLUMNS products.
        var s = array<f32, ROWS * COLUMNS>();
        for (var c = 0u; c < D4; c++) {
            var a: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                a[r] = q_tile[(y + r * THREADS_Y) * STRIDE + c];
            }
            for (var j = 0u; j < COLUMNS; j++) {
                let b = kv_tile[(x + j * THREADS_X) * STRIDE + c];
                for (var r = 0u; r < ROWS; r++) {
                    s[r * COLUMNS + j] += dot(a[r], b);
                }
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            for (var j = 0u; j < COLUMNS; j++) {
                p_tile[(y + r * THREADS_Y) * (TILE_K + 1u) + x + j * THREADS_X] = s[r * COLUMNS + j] * dims.scale;
            }
        }
        workgroupBarrier();

        // 5. V takes K's place (everyone has read K), while one thread per row turns scores into exponentials.
        for (var i = thread; i < TILE_K * D4; i += BLOCK) {
            let key = tile + i / D4;
            var value = vec4<f32>();
            if key < high {
                value = v4(key * dims.kv_heads + kv_head, i % D4);
            }
            kv_tile[i / D4 * STRIDE + i % D4] = value;
        }
        if thread < TILE_Q {
            let row = thread * (TILE_K + 1u);
            let before = maximum;
            for (var j = 0u; j < TILE_K; j++) {
                if tile + j >= seen.x && tile + j < seen.y {
                    maximum = max(maximum, p_tile[row + j]);
                }
            }
            var sum = 0.0;
            for (var j = 0u; j < TILE_K; j++) {
                var p = 0.0;
                if tile + j >= seen.x && tile + j < seen.y {
                    p = exp(p_tile[row + j] - maximum);
                }
                p_tile[row + j] = p;
                sum += p;
            }
            let rescale = exp(before - maximum);
            total = fma(total, rescale, sum);
            factor[thread] = rescale;
        }
        workgroupBarrier();

        // 6. out = out · rescale + p · V.
        for (var r = 0u; r < ROWS; r++) {
            let rescale = factor[y + r * THREADS_Y];
            for (var c = 0u; c < PARTS; c++) {
                out[r * PARTS + c] *= rescale;
            }
        }
        for (var j = 0u; j < TILE_K; j++) {
            var p: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                p[r] = p_tile[(y + r * THREADS_Y) * (TILE_K + 1u) + j];
            }
            for (var c = 0u; c < PARTS; c++) {
                // A thread beyond the last vec4 repeats it; its result is not stored.
                let b = kv_tile[j * STRIDE + min(x + c * THREADS_X, D4 - 1u)];
                for (var r = 0u; r < ROWS; r++) {
                    out[r * PARTS + c] = fma(vec4<f32>(p[r]), b, out[r * PARTS + c]);
                }
            }
        }
        // The next tile overwrites kv_tile, p_tile and factor.
        workgroupBarrier();
    }

    // 7. Divide by the sums.
    if thread < TILE_Q {
        let row = first + thread;
        let sees = seen.x < seen.y;
        factor[thread] = select(0.0, 1.0 / total, sees);
        if row < dims.queries {
            lse[row * dims.heads + head] = select(LOW, maximum + log(total), sees);
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < ROWS; r++) {
        let row = first + y + r * THREADS_Y;
        let inverse = factor[y + r * THREADS_Y];
        for (var c = 0u; c < PARTS; c++) {
            let value = out[r * PARTS + c] * inverse;
            let column = (x + c * THREADS_X) * 4u;
            for (var i = 0u; i < 4u; i++) {
                if row < dims.queries && column + i < HEAD_DIM {
                    o[(row * dims.heads + head) * HEAD_DIM + column + i] = value[i];
                }
            }
        }
    }
}

// ── Beside the ladder: weights to look at ────────────────────────────────────────────────────────────────────────────

// One weight, recomputed from the row's lse. A negative row is a large number, and not there either.
@compute @workgroup_size(BLOCK)
fn weights(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    if index >= dims.rows * dims.heads * dims.keys {
        return;
    }
    let key = index % dims.keys;
    let head = index / dims.keys % dims.heads;
    let row = u32(w_row[index / dims.keys / dims.heads]);
    let kv_head = head / (dims.heads / dims.kv_heads);
    let seen = interval(row);
    var p = 0.0;
    if key >= seen.x && key < seen.y {
        var score = 0.0;
        for (var c = 0u; c < D4; c++) {
            score += dot(q4(row * dims.heads + head, c), k4(key * dims.kv_heads + kv_head, c));
        }
        p = exp(score * dims.scale - w_lse[row * dims.heads + head]);
    }
    w_p[index] = p;
}
