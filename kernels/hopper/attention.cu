// attention: o = softmax(scale · q·kᵀ) · v per head on Hopper's tensor cores, where row i sees the keys visible[i] = [start, end) and
// nothing else.
//
// Grouped heads: query head h reads KV head h / (H / Hkv). The sum of exponentials is built online (Milakov and Gimelshein
// 2018, arXiv 1805.02867): per row a running maximum m and sum l; a new tile of keys rescales what is there by exp(m_old − m_new).
// lse = m + ln l is what backward recomputes p from (attention_backward.cu). A row that sees nothing gets o = 0, lse = −1e30.
//
// The ladder, in the order of this file, after the portable ../attention.cu. Both rungs give the orders to TMA from one warp and compute with 64 rows per warp
// group; S and O stay in registers from the first product to the end, K and V go straight from shared memory into wgmma.
//   rung 1: wgmma       forward_wgmma_d64, _d128: per tile of 128 keys: S = Q·Kᵀ, softmax, O += P·V, each after the other.
//   rung 2: overlapped  forward_overlapped_d64, _d128: the tensor cores never wait for exponentials: a warp group starts the S of a
//                       tile before the P·V of the one before, and takes the softmax of the first while the second runs; and the
//                       warp groups take turns in starting their products, so that one's softmax falls into the others' products
//                       (FlashAttention-3: Shah et al. 2024, arXiv 2407.08608).
// Not measured yet: no Hopper GPU was within reach when this was written.
//
// forward_wgmma       block 384, 128 rows of one head per block, dynamic shared memory d64 82,048, d128 163,968 bytes,
//                     grid = ceil(Nq / 128) · H: o and lse
//   0  q           [Nq, H, d]        bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   1  k           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   2  v           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   3  o           [Nq, H, d]        bf16  written through TMA, box 64 × 1 × 64, 128-byte swizzle
//   4  visible     [Nq, 2]           i32   read
//   5  lse         [Nq, H]           f32   overwritten (backward needs it)
//   6  dims        by value
// forward_overlapped  block 512 or 384, ROWS = 192 (d64: three warp groups) or 128 (d128: two) rows of one head per block,
//                     dynamic shared memory d64 90,240, d128 163,968 bytes, grid = ceil(Nq / ROWS) · H, ROWS = 192 (d64) or 128 (d128): o and lse
//   0  q           [Nq, H, d]        bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   1  k           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   2  v           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   3  o           [Nq, H, d]        bf16  written through TMA, box 64 × 1 × 64, 128-byte swizzle
//   4  visible     [Nq, 2]           i32   read
//   5  lse         [Nq, H]           f32   overwritten (backward needs it)
//   6  dims        by value
//
// Every map is of the tensor as it lies, sizes { d, heads, rows }, box { 64, 1, 64 }: 64 rows and 64 elements of one head.
// d64 and d128 are compiled sizes: the launcher takes the smallest D ≥ d, TMA brings zeros for the rest.
// Limits: d a multiple of 8, d ≤ D, H a multiple of Hkv, scale ≥ 0, every tensor at 16 bytes.
// Precision: sums and softmax are f32, in a fixed order, the same bits on every run; exp is ex2.approx. P is rounded to bf16 before the second product.
// FLOPs: 4 · d per pair of a row and a key that it sees, per head. Traffic: q, o once, k and v once per block of rows, mostly from L2.

#include "hopper.cuh"

struct Dims {
    unsigned queries;   // Nq
    unsigned keys;      // Nk
    unsigned heads;     // H
    unsigned kv_heads;  // Hkv
    float scale;
    unsigned head_dim;  // d
    unsigned padding0;
    unsigned padding1;
};

constexpr unsigned KEYS = 128;       // of a tile
constexpr unsigned STAGES = 2;       // tiles of K, and of V, on their way
constexpr unsigned BOX = 64 * 128;   // bytes of 64 rows and 64 elements
constexpr float LOW = -1e30f;        // below every score: what has not been seen
constexpr float LOG2E = 1.4426950408889634f;
constexpr float LN2 = 0.6931471805599453f;
constexpr unsigned ALL = 0xffffffffu;

// ┌ the same in attention.cu, attention_backward.cu, hopper/attention.cu, hopper/attention_backward.cu: powers of two
// 2ˣ within 2 ulp, in one instruction; 0 from x = −126 down.
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// └ the same up to here: powers of two

// ┌ the same in attention.cu, hopper/attention.cu: the keys that rows see
// The keys that a row sees, inside those that there are; [0, 0) if there are none, or no such row.
__device__ inline uint2 interval(const int2* __restrict__ visible, unsigned row, const Dims& dims) {
    if (row >= dims.queries) {
        return make_uint2(0, 0);
    }
    const int2 seen = visible[row];
    const unsigned start = max(seen.x, 0);
    const unsigned end = min((unsigned)max(seen.y, 0), dims.keys);
    return start < end ? make_uint2(start, end) : make_uint2(0, 0);
}

// From the first key that one of COUNT rows sees to behind the last: no other tile is touched. Every warp finds the same.
template <unsigned COUNT> __device__ inline uint2 seen_by(const int2* __restrict__ visible, unsigned first, const Dims& dims) {
    unsigned low = dims.keys, high = 0;
    for (unsigned r = threadIdx.x % 32; r < COUNT; r += 32) {
        const uint2 seen = interval(visible, first + r, dims);
        if (seen.x < seen.y) {
            low = min(low, seen.x);
            high = max(high, seen.y);
        }
    }
    return make_uint2(__reduce_min_sync(ALL, low), __reduce_max_sync(ALL, high));
}
// └ the same up to here: the keys that rows see

// ── What both rungs do ───────────────────────────────────────────────────────────────────────────────────────────────

// Shared memory, in boxes: Q per warp group and half of the head, K and V per stage and half (two boxes of 64 keys each); mbarriers.
template <int D, int GROUPS> struct Memory {
    static constexpr unsigned HALVES = D / 64;
    static constexpr unsigned TILE = KEYS / 64 * HALVES * BOX;  // bytes of a tile of K or V
    unsigned q, k, v, q_full, k_full, k_empty, v_full, v_empty;

    __device__ inline explicit Memory(unsigned start) {
        q = start;
        k = q + GROUPS * HALVES * BOX;
        v = k + STAGES * TILE;
        k_full = v + STAGES * TILE;
        k_empty = k_full + 8 * STAGES;
        v_full = k_empty + 8 * STAGES;
        v_empty = v_full + 8 * STAGES;
        q_full = v_empty + 8 * STAGES;
    }

    __device__ inline void init() const {
        barrier_init(q_full, 1);
        for (unsigned stage = 0; stage < STAGES; stage++) {
            barrier_init(k_full + 8 * stage, 1);
            barrier_init(v_full + 8 * stage, 1);
            barrier_init(k_empty + 8 * stage, 4 * GROUPS);  // the warps that read it
            barrier_init(v_empty + 8 * stage, 4 * GROUPS);
        }
        fence_barrier_init();
    }
};

// What a block works at. Tiles of keys end where the last key ends that one of its rows sees, so that only keys before that one are
// read: of a cache, nothing that has not been written yet. The first tile may begin before key 0: TMA brings zeros from there.
struct Work {
    unsigned head, kv_head;
    unsigned first;   // row
    unsigned tiles;   // of keys
    int begin;        // first key of the first tile

    template <unsigned ROWS> __device__ static inline Work of_block(const int2* __restrict__ visible, const Dims& dims) {
        Work work;
        // The last rows first: under a causal mask they have the most to do.
        work.head = blockIdx.x % dims.heads;
        work.kv_head = work.head / (dims.heads / dims.kv_heads);
        work.first = (gridDim.x - 1 - blockIdx.x) / dims.heads * ROWS;
        const uint2 all = seen_by<ROWS>(visible, work.first, dims);
        work.tiles = all.x < all.y ? (all.y - all.x + KEYS - 1) / KEYS : 0;
        work.begin = int(all.y) - int(work.tiles * KEYS);
        return work;
    }
};

// The one thread that gives orders: Q once, then tiles of K and V as their stages fall free.
template <int D, int GROUPS>
__device__ inline void load_all(const Memory<D, GROUPS>& memory, const Work& work, const TensorMap& q, const TensorMap& k, const TensorMap& v) {
    constexpr unsigned HALVES = Memory<D, GROUPS>::HALVES, TILE = Memory<D, GROUPS>::TILE;
    const auto load_tile = [&](const TensorMap& map, unsigned to, unsigned full, int key) {
        barrier_arrive_expect(full, TILE);
#pragma unroll
        for (unsigned half = 0; half < HALVES; half++) {
#pragma unroll
            for (unsigned i = 0; i < KEYS / 64; i++) {
                tma_load(to + (half * (KEYS / 64) + i) * BOX, map, full, half * 64, work.kv_head, key + int(64 * i));
            }
        }
    };
    if (work.tiles > 0) {
        barrier_arrive_expect(memory.q_full, GROUPS * HALVES * BOX);
        for (unsigned group = 0; group < GROUPS; group++) {
#pragma unroll
            for (unsigned half = 0; half < HALVES; half++) {
                tma_load(memory.q + (group * HALVES + half) * BOX, q, memory.q_full, half * 64, work.head, work.first + 64 * group);
            }
        }
    }
    Ring<STAGES> ring;
#pragma unroll 1
    for (unsigned tile = 0; tile < work.tiles; tile++, ring.next()) {
        const int key = work.begin + int(tile * KEYS);
        barrier_wait(memory.k_empty + 8 * ring.stage, ring.parity ^ 1);
        load_tile(k, memory.k + ring.stage * TILE, memory.k_full + 8 * ring.stage, key);
        barrier_wait(memory.v_empty + 8 * ring.stage, ring.parity ^ 1);
        load_tile(v, memory.v + ring.stage * TILE, memory.v_full + 8 * ring.stage, key);
    }
}

// Starts s = q · kᵀ: 64 rows, 128 keys. K as it lies is K-major: 64 elements of the head per 128-byte row.
template <int D> __device__ inline void start_scores(float (&s)[KEYS / 2], unsigned q, unsigned k) {
#pragma unroll
    for (unsigned i = 0; i < D / 16; i++) {
        const unsigned half = i / 4, at = i % 4 * next_16(K_MAJOR);
        wgmma<K_MAJOR, K_MAJOR>(s, descriptor(q + half * BOX + at, BOX), descriptor(k + half * (KEYS / 64) * BOX + at, BOX), i > 0);
    }
    wgmma_commit();
}

// Starts out += p · v: V as it lies is MN-major: from one 16 of keys to the next 16 rows, the halves of the head a tile of 128 rows apart.
template <int D> __device__ inline void start_output(float (&out)[D / 2], const unsigned (&p)[KEYS / 4], unsigned v, bool accumulate) {
#pragma unroll
    for (unsigned i = 0; i < KEYS / 16; i++) {
        wgmma<MN_MAJOR>(out, p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3], descriptor(v + i * next_16(MN_MAJOR), KEYS / 64 * BOX),
                        accumulate || i > 0);
    }
    wgmma_commit();
}

// What a lane knows of its two rows, g and g + 8 of its warp's 16.
struct Rows {
    uint2 seen[2];
    unsigned all_from, all_to;  // the keys that all 16 rows see: tiles in there need no mask
    float maximum[2] = {LOW, LOW};
    float total[2] = {0.0f, 0.0f};  // of this lane's columns
    float factor;                   // exp(scale · s − …) = 2^(factor · s − …): one multiply-add per score

    __device__ inline Rows(const int2* __restrict__ visible, unsigned warp_row, unsigned lane, const Dims& dims) {
        const unsigned lane_row = warp_row + lane % 16;
        const uint2 of_lane = interval(visible, lane_row, dims);
        all_from = __reduce_max_sync(ALL, of_lane.x);
        all_to = __reduce_min_sync(ALL, lane_row < dims.queries ? of_lane.y : dims.keys);
        seen[0] = interval(visible, warp_row + lane / 4, dims);
        seen[1] = interval(visible, warp_row + lane / 4 + 8, dims);
        factor = dims.scale * LOG2E;
    }

    // Scores that a row does not see become `value`.
    __device__ inline void mask(float (&s)[KEYS / 2], int key, unsigned lane, float value) const {
#pragma unroll
        for (unsigned i = 0; i < KEYS / 2; i++) {
            const uint2 row = seen[i / 2 % 2];
            // In unsigned numbers a key before 0 is a very large one.
            const bool inside = unsigned(key) + i / 4 * 8 + lane % 4 * 2 + i % 2 - row.x < row.y - row.x;
            s[i] = inside ? s[i] : value;
        }
    }

    // Scores become exponentials; rescale: by how much what was summed up before them is too large.
    __device__ inline void softmax(float (&s)[KEYS / 2], float (&rescale)[2], int key, unsigned lane) {
        const bool whole = key >= int(all_from) && key + int(KEYS) <= int(all_to);
        if (!whole) {
            mask(s, key, lane, LOW);
        }
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            float next = maximum[r];
#pragma unroll
            for (unsigned j = 0; j < KEYS / 8; j++) {
                next = fmaxf(next, fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]));
            }
            // The four lanes of a row share its maximum.
            next = fmaxf(next, __shfl_xor_sync(ALL, next, 1));
            next = fmaxf(next, __shfl_xor_sync(ALL, next, 2));
            rescale[r] = exp2_fast((maximum[r] - next) * factor);
            maximum[r] = next;
            const float shift = next * factor;
#pragma unroll
            for (unsigned j = 0; j < KEYS / 8; j++) {
                s[4 * j + 2 * r] = exp2_fast(fmaf(s[4 * j + 2 * r], factor, -shift));
                s[4 * j + 2 * r + 1] = exp2_fast(fmaf(s[4 * j + 2 * r + 1], factor, -shift));
            }
        }
        if (!whole) {
            mask(s, key, lane, 0.0f);  // where a row has seen nothing at all yet, LOW − LOW was no reason to be 0
        }
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            float sum = 0.0f;
#pragma unroll
            for (unsigned j = 0; j < KEYS / 8; j++) {
                sum += s[4 * j + 2 * r] + s[4 * j + 2 * r + 1];
            }
            total[r] = fmaf(total[r], rescale[r], sum);
        }
    }
};

template <int COUNT> __device__ inline void scale_rows(float (&out)[COUNT], const float (&by)[2]) {
#pragma unroll
    for (unsigned i = 0; i < COUNT; i++) {
        out[i] *= by[i / 2 % 2];
    }
}

// P as the left operand of the second product: it lies in the right registers already.
__device__ inline void round_to(unsigned (&p)[KEYS / 4], const float (&s)[KEYS / 2]) {
#pragma unroll
    for (unsigned i = 0; i < KEYS / 4; i++) {
        p[i] = pack(s[2 * i], s[2 * i + 1]);
    }
}

// Divides by the sums and writes a warp group's 64 rows, through its own boxes of Q (which nobody reads any more).
template <int D>
__device__ inline void finish(float (&out)[D / 2], Rows& rows, unsigned boxes, const TensorMap& o, float* __restrict__ lse, const Work& work, unsigned group,
                              unsigned barrier, const Dims& dims) {
    const unsigned warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const unsigned first = work.first + 64 * group;
    float inverse[2];
#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        float total = rows.total[r];
        total += __shfl_xor_sync(ALL, total, 1);
        total += __shfl_xor_sync(ALL, total, 2);
        const bool sees = rows.seen[r].x < rows.seen[r].y;
        const unsigned row = first + warp * 16 + lane / 4 + 8 * r;
        inverse[r] = sees ? 1.0f / total : 0.0f;
        if (lane % 4 == 0 && row < dims.queries) {
            lse[size_t(row) * dims.heads + work.head] = sees ? rows.maximum[r] * rows.factor * LN2 + logf(total) : LOW;
        }
    }
    scale_rows(out, inverse);
    named_sync(barrier, 128);  // all four warps have done with Q
#pragma unroll
    for (unsigned i = 0; i < D / 16; i++) {  // 16 columns each
        const float* d = out + 8 * i;
        const unsigned to = swizzled(boxes + i / 4 * BOX, warp * 16 + lane % 16, i % 4 * 2 + lane / 16);
        store_matrices(to, pack(d[0], d[1]), pack(d[2], d[3]), pack(d[4], d[5]), pack(d[6], d[7]));
    }
    fence_async();
    named_sync(barrier, 128);
    if (threadIdx.x % 128 == 0) {
#pragma unroll
        for (unsigned half = 0; half < D / 64; half++) {
            tma_store(o, boxes + half * BOX, half * 64, work.head, first);
        }
        tma_commit();
        tma_wait_read<0>();
    }
}

// ── rung 1: wgmma: one after the other ───────────────────────────────────────────────────────────────────────────────

template <int D>
__device__ inline void forward_simple(const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& o, const int2* __restrict__ visible,
                                      float* __restrict__ lse, const Dims& dims) {
    constexpr int GROUPS = 2;
    constexpr unsigned TILE = Memory<D, GROUPS>::TILE;
    extern __shared__ __align__(1024) unsigned char shared[];
    const Memory<D, GROUPS> memory(shared_address(shared));
    const Work work = Work::of_block<64 * GROUPS>(visible, dims);
    const unsigned warp = __shfl_sync(ALL, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        memory.init();
    }
    __syncthreads();

    if (warp < 4) {
        give_registers<24>();
        if (warp == 0 && elect_one()) {
            load_all(memory, work, q, k, v);
        }
        return;
    }
    take_registers<240>();
    const unsigned group = warp / 4 - 1;
    const unsigned own = memory.q + group * Memory<D, GROUPS>::HALVES * BOX;
    Rows rows(visible, work.first + 64 * group + warp % 4 * 16, lane, dims);
    float out[D / 2] = {}, s[KEYS / 2], rescale[2];
    unsigned p[KEYS / 4];
    if (work.tiles > 0) {
        barrier_wait(memory.q_full, 0);
    }
    Ring<STAGES> ring;
#pragma unroll 1
    for (unsigned tile = 0; tile < work.tiles; tile++, ring.next()) {
        // 1. Scores.
        barrier_wait(memory.k_full + 8 * ring.stage, ring.parity);
        wgmma_fence();
        start_scores<D>(s, own, memory.k + ring.stage * TILE);
        wgmma_wait<0>();
        hold(s);
        if (lane == 0) {
            barrier_arrive(memory.k_empty + 8 * ring.stage);
        }

        // 2. Exponentials.
        rows.softmax(s, rescale, work.begin + int(tile * KEYS), lane);
        scale_rows(out, rescale);
        round_to(p, s);

        // 3. out += p · V.
        barrier_wait(memory.v_full + 8 * ring.stage, ring.parity);
        hold(out);
        hold(p);
        wgmma_fence();
        start_output<D>(out, p, memory.v + ring.stage * TILE, true);
        wgmma_wait<0>();
        hold(out);
        if (lane == 0) {
            barrier_arrive(memory.v_empty + 8 * ring.stage);
        }
    }
    finish<D>(out, rows, own, o, lse, work, group, 1 + group, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) forward_wgmma_d64_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap o,
    const int2* __restrict__ visible, float* __restrict__ lse, Dims dims) {
    forward_simple<64>(q, k, v, o, visible, lse, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) forward_wgmma_d128_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap o,
    const int2* __restrict__ visible, float* __restrict__ lse, Dims dims) {
    forward_simple<128>(q, k, v, o, visible, lse, dims);
}

// ── rung 2: overlapped: two tiles at a time, and warp groups by turns ────────────────────────────────────────────────

template <int D, int GROUPS>
__device__ inline void forward_two_tiles(const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& o, const int2* __restrict__ visible,
                                         float* __restrict__ lse, const Dims& dims) {
    constexpr unsigned TILE = Memory<D, GROUPS>::TILE;
    constexpr unsigned TURN = 1 + GROUPS;  // number of the first group's barrier of turns; 1 … GROUPS are finish's
    extern __shared__ __align__(1024) unsigned char shared[];
    const Memory<D, GROUPS> memory(shared_address(shared));
    const Work work = Work::of_block<64 * GROUPS>(visible, dims);
    const unsigned warp = __shfl_sync(ALL, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        memory.init();
    }
    __syncthreads();

    if (warp < 4) {
        give_registers<GROUPS == 2 ? 24 : 32>();
        if (warp == 0 && elect_one()) {
            load_all(memory, work, q, k, v);
        }
        return;
    }
    take_registers<GROUPS == 2 ? 240 : 160>();
    const unsigned group = warp / 4 - 1;
    const unsigned own = memory.q + group * Memory<D, GROUPS>::HALVES * BOX;
    Rows rows(visible, work.first + 64 * group + warp % 4 * 16, lane, dims);
    float out[D / 2] = {}, s[KEYS / 2], rescale[2];
    unsigned p[KEYS / 4];
    Ring<STAGES> now, before;  // K's stage, V's stage of the tile before
    const auto release = [&](unsigned empty) {
        if (lane == 0) {
            barrier_arrive(empty);
        }
    };
    if (work.tiles > 0) {
        // 1. The first tile's scores and exponentials.
        barrier_wait(memory.q_full, 0);
        barrier_wait(memory.k_full, 0);
        wgmma_fence();
        start_scores<D>(s, own, memory.k);
        wgmma_wait<0>();
        hold(s);
        release(memory.k_empty);
        rows.softmax(s, rescale, work.begin, lane);
        round_to(p, s);
        now.next();

#pragma unroll 1
        for (unsigned tile = 1; tile < work.tiles; tile++, now.next(), before.next()) {
            // 2. When its turn has come, a group starts this tile's scores and puts the last tile's p · V behind them; then it is the
            //    next group's turn. The first group has the first.
            barrier_wait(memory.k_full + 8 * now.stage, now.parity);
            barrier_wait(memory.v_full + 8 * before.stage, before.parity);
            if (tile > 1 || group > 0) {
                named_sync(TURN + group, 256);
            }
            hold(out);
            hold(p);
            wgmma_fence();
            start_scores<D>(s, own, memory.k + now.stage * TILE);
            start_output<D>(out, p, memory.v + before.stage * TILE, true);
            if (tile + 1 < work.tiles || group + 1 < GROUPS) {
                named_arrive(TURN + (group + 1 < GROUPS ? group + 1 : 0), 256);
            }

            // 3. The scores are there: exponentials, while p · V runs.
            wgmma_wait<1>();
            hold(s);
            release(memory.k_empty + 8 * now.stage);
            rows.softmax(s, rescale, work.begin + int(tile * KEYS), lane);

            // 4. p · V is done: its registers may be touched.
            wgmma_wait<0>();
            hold(out);
            hold(p);
            release(memory.v_empty + 8 * before.stage);
            scale_rows(out, rescale);
            round_to(p, s);
        }

        // 5. The last tile's p · V.
        barrier_wait(memory.v_full + 8 * before.stage, before.parity);
        hold(out);
        hold(p);
        wgmma_fence();
        start_output<D>(out, p, memory.v + before.stage * TILE, true);
        wgmma_wait<0>();
        hold(out);
    }
    finish<D>(out, rows, own, o, lse, work, group, 1 + group, dims);
}

extern "C" __global__ void __launch_bounds__(512, 1) forward_overlapped_d64_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap o,
    const int2* __restrict__ visible, float* __restrict__ lse, Dims dims) {
    forward_two_tiles<64, 3>(q, k, v, o, visible, lse, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) forward_overlapped_d128_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap o,
    const int2* __restrict__ visible, float* __restrict__ lse, Dims dims) {
    forward_two_tiles<128, 2>(q, k, v, o, visible, lse, dims);
}
