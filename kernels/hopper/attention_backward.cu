// attention_backward: the gradients of o = softmax(scale · q·kᵀ) · v (attention.cu) from the saved lse on Hopper's tensor cores, without
// atomics: the same bits on every run.
//
//   p = exp(scale · q·kᵀ − lse),   dv = pᵀ·do,   dp = do·vᵀ,   delta = rowsum(do ∘ o),   ds = p ∘ (dp − delta) · scale,
//   dq = ds·k,   dk = dsᵀ·q.   dk and dv of a KV head add up over the H / Hkv query heads that read it.
//
// Order: `delta` of the portable ../attention_backward.cu (one pass over o and do, bound by memory), then dkv and dq_rows in any order.
//
// dkv      block 384, 128 keys of one KV head per block, dynamic shared memory d64 67,648, d128 133,184 bytes, grid = ceil(Nk / 128) · Hkv: dk and dv
//   0  q           [Nq, H, d]        bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   1  k           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   2  v           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   3  d_o         [Nq, H, d]        bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   4  dk          [Nk, Hkv, d]      bf16  written through TMA, box 64 × 1 × 64, 128-byte swizzle
//   5  dv          [Nk, Hkv, d]      bf16  written through TMA, box 64 × 1 × 64, 128-byte swizzle
//   6  lse         [Nq, H]           f32   read
//   7  delta       [Nq, H]           f32   read
//   8  visible     [Nq, 2]           i32   read
//   9  visible_by  [Nk, 2]           i32   read: rows that may see a key (visible decides which of them do)
//   10  dims       by value
// dq_rows  block 384, 128 rows of one head per block, dynamic shared memory d64 98,368, d128 196,672 bytes, grid = ceil(Nq / 128) · H: dq
//   0  q           [Nq, H, d]        bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   1  k           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   2  v           [Nk, Hkv, d]      bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   3  d_o         [Nq, H, d]        bf16  read through TMA, box 64 × 1 × 64, 128-byte swizzle
//   4  dq          [Nq, H, d]        bf16  written through TMA, box 64 × 1 × 64, 128-byte swizzle
//   5  lse         [Nq, H]           f32   read
//   6  delta       [Nq, H]           f32   read
//   7  visible     [Nq, 2]           i32   read
//   8  dims        by value
//
// Every map is of the tensor as it lies, sizes { d, heads, rows }, box { 64, 1, 64 }: 64 rows and 64 elements of one head.
//
// Both dkv and dq_rows own rows of two matrices (dkv: K and V of its keys, dq_rows: Q and dO of its rows) and sweep over rows of
// the other two. With A and B for what is owned, U and W for what is swept over:
//   s = A·Uᵀ,   dp = B·Wᵀ,   p and ds from them;   dkv: dv += p·W, dk += ds·U;   dq_rows: dq += ds·U
// where dkv's s, p and ds are the transposes of dq_rows': no matrix is ever transposed in memory. p and ds go from the registers of
// one product into those of the next. A warp group owns 64 rows; one warp sends for what is swept over, two tiles ahead.
// Not measured yet: no Hopper GPU was within reach when this was written.
//
// d64 and d128 are compiled sizes: the launcher takes the smallest D ≥ d, TMA brings zeros for the rest.
// Limits: d a multiple of 8, d ≤ D, H a multiple of Hkv, every tensor at 16 bytes.
// Precision: sums are f32, in a fixed order, the same bits on every run; exp is ex2.approx. p and ds are rounded to bf16 before the products.
// FLOPs: dkv 8 · d and dq_rows 6 · d per pair of a row and a key that it sees, per head.

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

constexpr unsigned GROUPS = 2;      // warp groups that multiply
constexpr unsigned OWN = 64 * GROUPS;
constexpr unsigned STAGES = 2;
constexpr unsigned BOX = 64 * 128;  // bytes of 64 rows and 64 elements
constexpr float LOG2E = 1.4426950408889634f;
constexpr unsigned ALL = 0xffffffffu;

// ┌ the same in attention.cu, attention_backward.cu, hopper/attention.cu, hopper/attention_backward.cu: powers of two
// 2ˣ within 2 ulp, in one instruction; 0 from x = −126 down.
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// └ the same up to here: powers of two

// ┌ the same in attention_backward.cu, hopper/attention_backward.cu: what intervals hold
// An interval inside [0, limit), as it should be: [0, 0) if it is empty.
__device__ inline uint2 clamped(int2 seen, unsigned limit) {
    const unsigned start = max(seen.x, 0);
    const unsigned end = min((unsigned)max(seen.y, 0), limit);
    return start < end ? make_uint2(start, end) : make_uint2(0, 0);
}

// From the first that one of COUNT intervals holds to behind the last: no other tile is touched. Every warp finds the same.
template <unsigned COUNT> __device__ inline uint2 union_of(const int2* __restrict__ intervals, unsigned first, unsigned rows, unsigned limit) {
    unsigned low = limit, high = 0;
    for (unsigned r = threadIdx.x % 32; r < COUNT; r += 32) {
        if (first + r < rows) {
            const uint2 seen = clamped(intervals[first + r], limit);
            if (seen.x < seen.y) {
                low = min(low, seen.x);
                high = max(high, seen.y);
            }
        }
    }
    return make_uint2(__reduce_min_sync(ALL, low), __reduce_max_sync(ALL, high));
}
// └ the same up to here: what intervals hold

// ── What both passes do ──────────────────────────────────────────────────────────────────────────────────────────────

// What dkv needs to know of the rows of a tile.
template <unsigned SWEEP> struct Stats {
    float shift[SWEEP];  // lse, for exponentials of 2
    float mean[SWEEP];   // delta
    uint2 seen[SWEEP];
};

// Shared memory: A and B in boxes per warp group and half of the head; per stage U and W, per half boxes of 64 rows; Stats per stage;
// mbarriers.
template <int D, unsigned SWEEP> struct Memory {
    static constexpr unsigned HALVES = D / 64;
    static constexpr unsigned TILE = SWEEP / 64 * HALVES * BOX;  // bytes of a tile of U or W
    unsigned a, b, swept, stats, own_full, full, empty;

    __device__ inline Memory(unsigned start, unsigned stats_bytes) {
        a = start;
        b = a + GROUPS * HALVES * BOX;
        swept = b + GROUPS * HALVES * BOX;
        stats = swept + STAGES * 2 * TILE;
        full = stats + stats_bytes;
        empty = full + 8 * STAGES;
        own_full = empty + 8 * STAGES;
    }

    __device__ inline void init() const {
        barrier_init(own_full, 1);
        for (unsigned stage = 0; stage < STAGES; stage++) {
            barrier_init(full + 8 * stage, 1);
            barrier_init(empty + 8 * stage, 4 * GROUPS);  // the warps that read it
        }
        fence_barrier_init();
    }

    // OWN rows of A and B from `first` on.
    __device__ inline void load_own(const TensorMap& a_map, const TensorMap& b_map, unsigned head, unsigned first) const {
        barrier_arrive_expect(own_full, 2 * GROUPS * HALVES * BOX);
        for (unsigned group = 0; group < GROUPS; group++) {
#pragma unroll
            for (unsigned half = 0; half < HALVES; half++) {
                tma_load(a + (group * HALVES + half) * BOX, a_map, own_full, half * 64, head, first + 64 * group);
                tma_load(b + (group * HALVES + half) * BOX, b_map, own_full, half * 64, head, first + 64 * group);
            }
        }
    }

    // SWEEP rows of U and W from `first` on. The stage is free.
    __device__ inline void load_swept(unsigned stage, const TensorMap& u_map, const TensorMap& w_map, unsigned head, int first) const {
        const unsigned u = swept + stage * 2 * TILE, w = u + TILE, barrier = full + 8 * stage;
        barrier_arrive_expect(barrier, 2 * TILE);
#pragma unroll
        for (unsigned half = 0; half < HALVES; half++) {
#pragma unroll
            for (unsigned i = 0; i < SWEEP / 64; i++) {
                tma_load(u + (half * (SWEEP / 64) + i) * BOX, u_map, barrier, half * 64, head, first + int(64 * i));
                tma_load(w + (half * (SWEEP / 64) + i) * BOX, w_map, barrier, half * 64, head, first + int(64 * i));
            }
        }
    }
};

// Starts s = own · sweptᵀ: both K-major, 64 elements of the head per 128-byte row.
template <int D, unsigned SWEEP> __device__ inline void start_product(float (&s)[SWEEP / 2], unsigned own, unsigned swept) {
#pragma unroll
    for (unsigned i = 0; i < D / 16; i++) {
        const unsigned half = i / 4, at = i % 4 * next_16(K_MAJOR);
        wgmma<K_MAJOR, K_MAJOR>(s, descriptor(own + half * BOX + at, BOX), descriptor(swept + half * (SWEEP / 64) * BOX + at, BOX), i > 0);
    }
    wgmma_commit();
}

// Starts sum += p · swept: MN-major, from one 16 of swept rows to the next 16 rows of 128 bytes, the halves of the head a tile apart.
template <int D, unsigned SWEEP> __device__ inline void start_sum(float (&sum)[D / 2], const unsigned (&p)[SWEEP / 4], unsigned swept) {
#pragma unroll
    for (unsigned i = 0; i < SWEEP / 16; i++) {
        wgmma<MN_MAJOR>(sum, p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3], descriptor(swept + i * next_16(MN_MAJOR), SWEEP / 64 * BOX), true);
    }
    wgmma_commit();
}

// A product's result as the left operand of the next: it lies in the right registers already.
template <unsigned SWEEP> __device__ inline void round_to(unsigned (&to)[SWEEP / 4], const float (&from)[SWEEP / 2]) {
#pragma unroll
    for (unsigned i = 0; i < SWEEP / 4; i++) {
        to[i] = pack(from[2 * i], from[2 * i + 1]);
    }
}

// A warp's 16 rows of a gradient, times `factor`, into its warp group's boxes.
template <int D> __device__ inline void put_rows(unsigned boxes, const float (&sum)[D / 2], float factor, unsigned warp, unsigned lane) {
#pragma unroll
    for (unsigned i = 0; i < D / 16; i++) {  // 16 columns each
        const float* d = sum + 8 * i;
        store_matrices(swizzled(boxes + i / 4 * BOX, warp * 16 + lane % 16, i % 4 * 2 + lane / 16), pack(d[0] * factor, d[1] * factor),
                       pack(d[2] * factor, d[3] * factor), pack(d[4] * factor, d[5] * factor), pack(d[6] * factor, d[7] * factor));
    }
}

// By one thread: the boxes of 64 rows from `first` on go out.
template <int D> __device__ inline void store_rows(const TensorMap& map, unsigned boxes, unsigned head, unsigned first) {
#pragma unroll
    for (unsigned half = 0; half < D / 64; half++) {
        tma_store(map, boxes + half * BOX, half * 64, head, first);
    }
    tma_commit();
}

// ── dkv ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

template <int D, unsigned SWEEP>
__device__ inline void dkv_sweep(const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& d_o, const TensorMap& dk, const TensorMap& dv,
                                 const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible,
                                 const int2* __restrict__ visible_by, const Dims& dims) {
    using Layout = Memory<D, SWEEP>;
    extern __shared__ __align__(1024) unsigned char shared[];
    const Layout memory(shared_address(shared), STAGES * sizeof(Stats<SWEEP>));
    Stats<SWEEP>* stats = reinterpret_cast<Stats<SWEEP>*>(shared + (memory.stats - memory.a));
    const unsigned warp = __shfl_sync(ALL, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        memory.init();
    }
    __syncthreads();

    // 1. From the first row that may see one of the keys to the last, for each of the heads that read this KV head.
    const unsigned kv_head = blockIdx.x % dims.kv_heads;
    const unsigned first = blockIdx.x / dims.kv_heads * OWN;
    const uint2 rows = union_of<OWN>(visible_by, first, dims.keys, dims.queries);
    const unsigned per = dims.heads / dims.kv_heads;
    const unsigned tiles = rows.x < rows.y ? (rows.y - rows.x + SWEEP - 1) / SWEEP : 0;

    if (warp < 4) {
        // 2. K and V of the block's keys, then tiles of Q and dO as stages fall free. What else is to know of a tile's rows comes by
        //    ordinary loads: lane 0's arrival tells of those as well as of TMA's bytes.
        give_registers<24>();
        if (warp == 0 && tiles > 0) {
            if (lane == 0) {
                memory.load_own(k, v, kv_head, first);
            }
            Ring<STAGES> ring;
#pragma unroll 1
            for (unsigned step = 0; step < per * tiles; step++, ring.next()) {
                const unsigned head = kv_head * per + step / tiles, tile = rows.x + step % tiles * SWEEP;
                barrier_wait(memory.empty + 8 * ring.stage, ring.parity ^ 1);
                Stats<SWEEP>& of = stats[ring.stage];
#pragma unroll
                for (unsigned r = lane; r < SWEEP; r += 32) {
                    const unsigned row = tile + r;
                    const bool there = row < rows.y;
                    const size_t at = size_t(row) * dims.heads + head;
                    of.shift[r] = there ? lse[at] * LOG2E : 0.0f;
                    of.mean[r] = there ? delta[at] : 0.0f;
                    of.seen[r] = there ? clamped(visible[row], dims.keys) : make_uint2(0, 0);
                }
                __syncwarp();
                if (lane == 0) {
                    memory.load_swept(ring.stage, q, d_o, head, tile);
                }
            }
        }
        return;
    }
    take_registers<240>();
    const unsigned group = warp / 4 - 1;
    const unsigned own_k = memory.a + group * Layout::HALVES * BOX, own_v = memory.b + group * Layout::HALVES * BOX;
    const unsigned group_key = first + 64 * group, key = group_key + warp % 4 * 16 + lane / 4;
    const float factor = dims.scale * LOG2E;
    float k_sum[D / 2] = {}, v_sum[D / 2] = {}, s[SWEEP / 2], dp[SWEEP / 2];
    unsigned p[SWEEP / 4], ds[SWEEP / 4];
    if (tiles > 0) {
        barrier_wait(memory.own_full, 0);
    }
    Ring<STAGES> ring;
#pragma unroll 1
    for (unsigned step = 0; step < per * tiles; step++, ring.next()) {
        const unsigned q_tile = memory.swept + ring.stage * 2 * Layout::TILE, d_o_tile = q_tile + Layout::TILE;
        const Stats<SWEEP>& of = stats[ring.stage];
        barrier_wait(memory.full + 8 * ring.stage, ring.parity);

        // Which of the group's keys the rows see. Where all see all there is no mask, where none sees any no work.
        bool any = false, whole = true;
#pragma unroll
        for (unsigned r = lane; r < SWEEP; r += 32) {
            const uint2 seen = of.seen[r];
            any = any || (seen.x < group_key + 64 && seen.y > group_key);
            whole = whole && seen.x <= group_key && seen.y >= group_key + 64;
        }
        any = __any_sync(ALL, any);
        whole = __all_sync(ALL, whole);
        if (any) {
            // 3. sᵀ and dpᵀ: rows are keys, columns are rows of the tile. pᵀ, while dpᵀ is still being multiplied.
            wgmma_fence();
            start_product<D, SWEEP>(s, own_k, q_tile);
            start_product<D, SWEEP>(dp, own_v, d_o_tile);
            wgmma_wait<1>();
            hold(s);
#pragma unroll
            for (unsigned j = 0; j < SWEEP / 8; j++) {
                const float2 shift = *reinterpret_cast<const float2*>(&of.shift[j * 8 + lane % 4 * 2]);
#pragma unroll
                for (unsigned i = 0; i < 4; i++) {
                    s[4 * j + i] = exp2_fast(fmaf(s[4 * j + i], factor, i % 2 ? -shift.y : -shift.x));
                }
            }
            if (!whole) {
#pragma unroll
                for (unsigned i = 0; i < SWEEP / 2; i++) {
                    const uint2 seen = of.seen[i / 4 * 8 + lane % 4 * 2 + i % 2];
                    s[i] = key + i / 2 % 2 * 8 - seen.x < seen.y - seen.x ? s[i] : 0.0f;
                }
            }
            round_to<SWEEP>(p, s);

            // 4. dv += pᵀ·dO; meanwhile dsᵀ.
            hold(p);
            hold(v_sum);
            wgmma_fence();
            start_sum<D, SWEEP>(v_sum, p, d_o_tile);
            wgmma_wait<1>();
            hold(dp);
#pragma unroll
            for (unsigned j = 0; j < SWEEP / 8; j++) {
                const float2 mean = *reinterpret_cast<const float2*>(&of.mean[j * 8 + lane % 4 * 2]);
#pragma unroll
                for (unsigned i = 0; i < 4; i++) {
                    dp[4 * j + i] = s[4 * j + i] * (dp[4 * j + i] - (i % 2 ? mean.y : mean.x));
                }
            }
            round_to<SWEEP>(ds, dp);

            // 5. dk += dsᵀ·Q.
            hold(ds);
            hold(k_sum);
            wgmma_fence();
            start_sum<D, SWEEP>(k_sum, ds, q_tile);
            wgmma_wait<0>();
            hold(k_sum);
            hold(v_sum);
        }
        __syncwarp();
        if (lane == 0) {
            barrier_arrive(memory.empty + 8 * ring.stage);
        }
    }

    // 6. Out, through the group's own boxes of K and V.
    named_sync(1 + group, 128);
    put_rows<D>(own_k, k_sum, dims.scale, warp % 4, lane);
    put_rows<D>(own_v, v_sum, 1.0f, warp % 4, lane);
    fence_async();
    named_sync(1 + group, 128);
    if (threadIdx.x % 128 == 0) {
        store_rows<D>(dk, own_k, kv_head, group_key);
        store_rows<D>(dv, own_v, kv_head, group_key);
        tma_wait_read<0>();
    }
}

// ── dq_rows: the same with the roles of rows and keys exchanged ──────────────────────────────────────────────────────

template <int D, unsigned SWEEP>
__device__ inline void dq_sweep(const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& d_o, const TensorMap& dq,
                                const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, const Dims& dims) {
    using Layout = Memory<D, SWEEP>;
    extern __shared__ __align__(1024) unsigned char shared[];
    const Layout memory(shared_address(shared), 0);
    const unsigned warp = __shfl_sync(ALL, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        memory.init();
    }
    __syncthreads();

    // 1. From the first key that one of the rows sees to the last; tiles end with the last, and the first may begin before key 0. The
    //    last rows first: under a causal mask they have the most to do.
    const unsigned head = blockIdx.x % dims.heads;
    const unsigned kv_head = head / (dims.heads / dims.kv_heads);
    const unsigned first = (gridDim.x - 1 - blockIdx.x) / dims.heads * OWN;
    const uint2 keys = union_of<OWN>(visible, first, dims.queries, dims.keys);
    const unsigned tiles = keys.x < keys.y ? (keys.y - keys.x + SWEEP - 1) / SWEEP : 0;
    const int begin = int(keys.y) - int(tiles * SWEEP);

    if (warp < 4) {
        // 2. Q and dO of the block's rows, then tiles of K and V as stages fall free.
        give_registers<24>();
        if (warp == 0 && tiles > 0 && elect_one()) {
            memory.load_own(q, d_o, head, first);
            Ring<STAGES> ring;
#pragma unroll 1
            for (unsigned tile = 0; tile < tiles; tile++, ring.next()) {
                barrier_wait(memory.empty + 8 * ring.stage, ring.parity ^ 1);
                memory.load_swept(ring.stage, k, v, kv_head, begin + int(tile * SWEEP));
            }
        }
        return;
    }
    take_registers<240>();
    const unsigned group = warp / 4 - 1;
    const unsigned own_q = memory.a + group * Layout::HALVES * BOX, own_d_o = memory.b + group * Layout::HALVES * BOX;
    const unsigned group_row = first + 64 * group, warp_row = group_row + warp % 4 * 16;
    const float factor = dims.scale * LOG2E;

    // The keys that all of the warp's 16 rows see: tiles there need no mask. What a lane knows of its two rows.
    const unsigned lane_row = warp_row + lane % 16;
    const uint2 of_lane = lane_row < dims.queries ? clamped(visible[lane_row], dims.keys) : make_uint2(0, 0);
    const unsigned all_from = __reduce_max_sync(ALL, of_lane.x);
    const unsigned all_to = __reduce_min_sync(ALL, lane_row < dims.queries ? of_lane.y : dims.keys);
    uint2 seen[2] = {};
    float shift[2] = {}, mean[2] = {};
#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        const unsigned row = warp_row + lane / 4 + 8 * r;
        if (row < dims.queries) {
            seen[r] = clamped(visible[row], dims.keys);
            shift[r] = lse[size_t(row) * dims.heads + head] * LOG2E;
            mean[r] = delta[size_t(row) * dims.heads + head];
        }
    }

    float sum[D / 2] = {}, s[SWEEP / 2], dp[SWEEP / 2];
    unsigned ds[SWEEP / 4];
    if (tiles > 0) {
        barrier_wait(memory.own_full, 0);
    }
    Ring<STAGES> ring;
#pragma unroll 1
    for (unsigned tile = 0; tile < tiles; tile++, ring.next()) {
        const unsigned k_tile = memory.swept + ring.stage * 2 * Layout::TILE, v_tile = k_tile + Layout::TILE;
        const int key = begin + int(tile * SWEEP);
        const bool whole = key >= int(all_from) && key + int(SWEEP) <= int(all_to);
        barrier_wait(memory.full + 8 * ring.stage, ring.parity);

        // 3. s and dp; p, while dp is still being multiplied; ds.
        wgmma_fence();
        start_product<D, SWEEP>(s, own_q, k_tile);
        start_product<D, SWEEP>(dp, own_d_o, v_tile);
        wgmma_wait<1>();
        hold(s);
#pragma unroll
        for (unsigned i = 0; i < SWEEP / 2; i++) {
            s[i] = exp2_fast(fmaf(s[i], factor, -shift[i / 2 % 2]));
        }
        if (!whole) {
#pragma unroll
            for (unsigned i = 0; i < SWEEP / 2; i++) {
                const uint2 row = seen[i / 2 % 2];
                // In unsigned numbers a key before 0 is a very large one.
                s[i] = unsigned(key) + i / 4 * 8 + lane % 4 * 2 + i % 2 - row.x < row.y - row.x ? s[i] : 0.0f;
            }
        }
        wgmma_wait<0>();
        hold(dp);
#pragma unroll
        for (unsigned i = 0; i < SWEEP / 2; i++) {
            dp[i] = s[i] * (dp[i] - mean[i / 2 % 2]);
        }
        round_to<SWEEP>(ds, dp);

        // 4. dq += ds·K.
        hold(ds);
        hold(sum);
        wgmma_fence();
        start_sum<D, SWEEP>(sum, ds, k_tile);
        wgmma_wait<0>();
        hold(sum);
        if (lane == 0) {
            barrier_arrive(memory.empty + 8 * ring.stage);
        }
    }

    // 5. Out, through the group's own boxes of Q.
    named_sync(1 + group, 128);
    put_rows<D>(own_q, sum, dims.scale, warp % 4, lane);
    fence_async();
    named_sync(1 + group, 128);
    if (threadIdx.x % 128 == 0) {
        store_rows<D>(dq, own_q, head, group_row);
        tma_wait_read<0>();
    }
}

// ── Entries ──────────────────────────────────────────────────────────────────────────────────────────────────────────

extern "C" __global__ void __launch_bounds__(384, 1) dkv_d64_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap d_o,
    const __grid_constant__ TensorMap dk, const __grid_constant__ TensorMap dv, const float* __restrict__ lse, const float* __restrict__ delta,
    const int2* __restrict__ visible, const int2* __restrict__ visible_by, Dims dims) {
    dkv_sweep<64, 64>(q, k, v, d_o, dk, dv, lse, delta, visible, visible_by, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) dkv_d128_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap d_o,
    const __grid_constant__ TensorMap dk, const __grid_constant__ TensorMap dv, const float* __restrict__ lse, const float* __restrict__ delta,
    const int2* __restrict__ visible, const int2* __restrict__ visible_by, Dims dims) {
    dkv_sweep<128, 64>(q, k, v, d_o, dk, dv, lse, delta, visible, visible_by, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) dq_rows_d64_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap d_o,
    const __grid_constant__ TensorMap dq, const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, Dims dims) {
    dq_sweep<64, 128>(q, k, v, d_o, dq, lse, delta, visible, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) dq_rows_d128_bf16(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap d_o,
    const __grid_constant__ TensorMap dq, const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, Dims dims) {
    dq_sweep<128, 128>(q, k, v, d_o, dq, lse, delta, visible, dims);
}
