// attention_backward: the gradients of o = softmax(scale · q·kᵀ) · v (attention.cu) from the saved lse, in three kernels and
// without atomics (FlashAttention-2: Dao 2023, arXiv 2307.08691).
//
//   p = exp(scale · q·kᵀ − lse),   dv = pᵀ·do,   dp = do·vᵀ,   delta = rowsum(do ∘ o),   ds = p ∘ (dp − delta) · scale,
//   dq = ds·k,   dk = dsᵀ·q.   dk and dv of a KV head add up over the H / Hkv query heads that read it.
//
// In the order of this file, with attention.cu's names and numbers. Rung 1 (naive) is not built: rung 2 takes every shape, and the CPU has the plain loops:
//   delta          one pass over o and do, which both rungs need.
//   rung 2: tile   dkv_d16 … _d128, dq_rows_d16 … _d128: f32, tiles in shared memory and registers.
//   rung 3: mma    dkv_d…_bf16, dq_rows_d…_bf16: the same on tensor cores.
//
// delta    block 128, one row of one head per eight threads, grid = ceil(Nq · H / 16): delta = rowsum(do ∘ o)
//   0  o           [Nq, H, d]        f32|bf16  read
//   1  d_o         [Nq, H, d]        f32|bf16  read
//   2  delta       [Nq, H]           f32       overwritten
//   3  dims        by value
// dkv      block 128, OWN keys of one KV head per block, grid = ceil(Nk / OWN) · Hkv, OWN = 32 (f32) or 64 (bf16): dk and dv
//   0  q           [Nq, H, d]        f32|bf16  read
//   1  k           [Nk, Hkv, d]      f32|bf16  read
//   2  v           [Nk, Hkv, d]      f32|bf16  read
//   3  d_o         [Nq, H, d]        f32|bf16  read
//   4  lse         [Nq, H]           f32       read
//   5  delta       [Nq, H]           f32       read
//   6  visible     [Nq, 2]           i32       read
//   7  visible_by  [Nk, 2]           i32       read: rows that may see a key (visible decides which of them do)
//   8  dk          [Nk, Hkv, d]      f32|bf16  overwritten
//   9  dv          [Nk, Hkv, d]      f32|bf16  overwritten
//   10  dims       by value
// dq_rows  block 128, OWN rows of one head per block, grid = ceil(Nq / OWN) · H, OWN = 32 (f32) or 64 (bf16): dq
//   0  q           [Nq, H, d]        f32|bf16  read
//   1  k           [Nk, Hkv, d]      f32|bf16  read
//   2  v           [Nk, Hkv, d]      f32|bf16  read
//   3  d_o         [Nq, H, d]        f32|bf16  read
//   4  lse         [Nq, H]           f32       read
//   5  delta       [Nq, H]           f32       read
//   6  visible     [Nq, 2]           i32       read
//   7  dq          [Nq, H, d]        f32|bf16  overwritten
//   8  dims        by value
//
// Order: delta, then dkv and dq_rows in any order. CUDA has no limit of eight buffers: dkv takes lse, delta and visible as they
// are, where the WGSL twin has delta gather them into one buffer (`stats`); so delta needs neither of them.
//
// Both dkv and dq_rows own rows of two matrices (dkv: K and V of its keys, dq_rows: Q and dO of its rows) and sweep over rows of
// the other two. With A and B for what is owned, U and W for what is swept over:
//   s = A·Uᵀ,   dp = B·Wᵀ,   p and ds from them;   dkv: dv += p·W, dk += ds·U;   dq_rows: dq += ds·U
// where dkv's s, p and ds are the transposes of dq_rows': no matrix is ever transposed in memory. In bf16, p and ds go from the
// registers of one tensor-core product into those of the next. Sums are f32 and in a fixed order.
// d16, d32, d64, d96, d128 are compiled sizes: the launcher takes the smallest D ≥ d, the rest is zeros in shared memory.
// Limits: 1 ≤ d ≤ D, H a multiple of Hkv, Nq · H and Nk · Hkv < 2³¹ (offsets of elements are 64-bit). Rows of whole 16-byte pieces
// (d a multiple of 4 in f32, of 8 in bf16) are copied as such, others element by element. Shared memory: f32 up to 46,464 bytes
// (d128), bf16 up to 35,840 (d128).
// Precision: sums are f32, in a fixed order, the same bits on every run; exp is ex2.approx. In bf16, p and ds are rounded before the products.
// FLOPs: dkv 8 · d and dq_rows 6 · d per pair of a row and a key that it sees, per head.
// Twin: shaders/attention_backward.wgsl.
#include <cuda_bf16.h>

typedef __nv_bfloat16 bf16;

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

constexpr unsigned BLOCK = 128;
constexpr unsigned OWN_F32 = 32;   // eight per warp
constexpr unsigned OWN_BF16 = 64;  // sixteen per warp
constexpr float LOG2E = 1.4426950408889634f;
constexpr unsigned ALL = 0xffffffffu;

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __bfloat162float(x); }

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

// ── delta ────────────────────────────────────────────────────────────────────────────────────────────────────────────

// 16 bytes of a row, as floats.
__device__ inline void read16(float (&to)[4], const float* from) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
}
__device__ inline void read16(float (&to)[8], const bf16* from) {
    const uint4 x = *reinterpret_cast<const uint4*>(from);
    const unsigned pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(pairs[i] << 16);
        to[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
    }
}

template <typename T> __device__ inline void delta_rows(const T* __restrict__ o, const T* __restrict__ d_o, float* __restrict__ delta, const Dims& dims) {
    constexpr unsigned VECTOR = 16 / sizeof(T);
    const unsigned index = blockIdx.x * (BLOCK / 8) + threadIdx.x / 8;
    const unsigned x = threadIdx.x % 8;
    float sum = 0.0f;
    if (index < dims.queries * dims.heads) {
        const size_t at = (size_t)index * dims.head_dim;
        if (dims.head_dim % VECTOR == 0) {
            for (unsigned c = x * VECTOR; c < dims.head_dim; c += 8 * VECTOR) {
                float a[VECTOR], b[VECTOR];
                read16(a, o + at + c);
                read16(b, d_o + at + c);
#pragma unroll
                for (unsigned i = 0; i < VECTOR; i++) {
                    sum = fmaf(a[i], b[i], sum);
                }
            }
        } else {
            for (unsigned c = x; c < dims.head_dim; c += 8) {
                sum = fmaf(widen(o[at + c]), widen(d_o[at + c]), sum);
            }
        }
    }
#pragma unroll
    for (unsigned other = 4; other > 0; other /= 2) {
        sum += __shfl_xor_sync(ALL, sum, other);
    }
    if (x == 0 && index < dims.queries * dims.heads) {
        delta[index] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(128) delta(
    const float* __restrict__ o, const float* __restrict__ d_o, float* __restrict__ delta, Dims dims) {
    delta_rows(o, d_o, delta, dims);
}

extern "C" __global__ void __launch_bounds__(128) delta_bf16(
    const bf16* __restrict__ o, const bf16* __restrict__ d_o, float* __restrict__ delta, Dims dims) {
    delta_rows(o, d_o, delta, dims);
}

// ── What both rungs share: rows between global and shared memory ─────────────────────────────────────────────────────

// ┌ the same in attention.cu, attention_backward.cu: rows between global and shared memory
// 16 bytes, asynchronously; zeros, and no access to `from`, unless `there`.
__device__ inline void copy16(void* to, const void* from, bool there) {
    const unsigned address = __cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(there ? 16 : 0) : "memory");
}

// What this thread has copied has arrived; a barrier tells the others.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// A row in shared memory: 16 bytes longer than D, so that the same 16 bytes of eight rows lie in different banks.
template <typename T, int D> constexpr unsigned STRIDE = D + 16 / sizeof(T);

// Rows first, first + 1, … of one head, zeros from row `end` on and behind d. Arrives after wait_for_copies and a barrier.
template <typename T, int D, int COUNT>
__device__ inline void load_rows(T* tile, const T* __restrict__ from, unsigned first, unsigned end, unsigned heads, unsigned head, unsigned head_dim) {
    constexpr unsigned VECTOR = 16 / sizeof(T);
    if (head_dim % VECTOR == 0) {
#pragma unroll
        for (unsigned i = threadIdx.x; i < COUNT * D / VECTOR; i += BLOCK) {
            const unsigned r = i / (D / VECTOR), c = i % (D / VECTOR) * VECTOR;
            const bool there = first + r < end && c < head_dim;
            const size_t at = there ? (size_t)((first + r) * heads + head) * head_dim + c : 0;
            copy16(tile + r * STRIDE<T, D> + c, from + at, there);
        }
    } else {
#pragma unroll 4
        for (unsigned i = threadIdx.x; i < COUNT * D; i += BLOCK) {
            const unsigned r = i / D, c = i % D;
            const bool there = first + r < end && c < head_dim;
            tile[r * STRIDE<T, D> + c] = there ? from[(size_t)((first + r) * heads + head) * head_dim + c] : T(0.0f);
        }
    }
}

// The way back, for rows below `end`. The caller has put a barrier before.
template <int D, int COUNT>
__device__ inline void store_rows(const bf16* tile, bf16* __restrict__ to, unsigned first, unsigned end, unsigned heads, unsigned head, unsigned head_dim) {
    if (head_dim % 8 == 0) {
#pragma unroll
        for (unsigned i = threadIdx.x; i < COUNT * D / 8; i += BLOCK) {
            const unsigned r = i / (D / 8), c = i % (D / 8) * 8;
            if (first + r < end && c < head_dim) {
                const uint4 piece = *reinterpret_cast<const uint4*>(tile + r * STRIDE<bf16, D> + c);
                *reinterpret_cast<uint4*>(to + (size_t)((first + r) * heads + head) * head_dim + c) = piece;
            }
        }
    } else {
#pragma unroll 4
        for (unsigned i = threadIdx.x; i < COUNT * D; i += BLOCK) {
            const unsigned r = i / D, c = i % D;
            if (first + r < end && c < head_dim) {
                to[(size_t)((first + r) * heads + head) * head_dim + c] = tile[r * STRIDE<bf16, D> + c];
            }
        }
    }
}
// └ the same up to here: rows between global and shared memory

// What dkv needs to know of the rows of a tile.
template <unsigned COUNT> struct Stats {
    float lse[COUNT];
    float delta[COUNT];
    int2 seen[COUNT];
};

// 4 or 8 bytes, asynchronously; zeros, and no access to `from`, unless `there`.
template <int BYTES> __device__ inline void copy_small(void* to, const void* from, bool there) {
    const unsigned address = __cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(BYTES), "r"(there ? BYTES : 0) : "memory");
}

template <unsigned COUNT>
__device__ inline void load_stats(Stats<COUNT>& to, const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible,
                                  unsigned first, unsigned end, unsigned head, const Dims& dims) {
    const unsigned r = threadIdx.x;
    if (r < COUNT) {
        const bool there = first + r < end;
        const unsigned row = there ? first + r : 0;
        copy_small<4>(&to.lse[r], lse + row * dims.heads + head, there);
        copy_small<4>(&to.delta[r], delta + row * dims.heads + head, there);
        copy_small<8>(&to.seen[r], visible + row, there);
    }
}

// ── rung 2: tile: f32, in shared memory and registers ────────────────────────────────────────────────────────────────

// ┌ the same in attention.cu, attention_backward.cu: neighbours in shared memory
// N neighbouring floats of shared memory, in as few loads as there are. As pairs: of four floats the compiler now and then makes
// two loads, and not on every run of it the same ones.
template <int N> __device__ inline void read(float (&to)[N], const float* from) {
    const auto split = [&](int at, unsigned long long pair) {
        to[at] = __uint_as_float(static_cast<unsigned>(pair));
        to[at + 1] = __uint_as_float(static_cast<unsigned>(pair >> 32));
    };
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const ulonglong2 x = *reinterpret_cast<const ulonglong2*>(from + i);
            split(i, x.x), split(i + 2, x.y);
        }
    } else {
        static_assert(N == 2, "four or two");
        split(0, *reinterpret_cast<const unsigned long long*>(from));
    }
}
// └ the same up to here: neighbours in shared memory

// What 48 KiB hold beside the owned rows, and the distance of the rows of p and ds: rows of a warp in different banks.
template <int D> constexpr unsigned SWEEP = D <= 64 ? 32 : D <= 96 ? 16 : 8;
template <int D> constexpr unsigned P_STRIDE = SWEEP<D> + 8;
// Eight lanes (x) go across a tile's columns, four (y) down the warp's 8 rows: a thread has rows y and y + 4; swept rows x, x + 8,
// … as columns of s and dp; of a gradient the same rows and D / 8 columns, WIDTH neighbours at a time.
template <int D> constexpr unsigned WIDTH = D >= 32 ? 4 : 2;
template <int D> constexpr unsigned PARTS = D / (8 * WIDTH<D>);

// s = A·Uᵀ and dp = B·Wᵀ.
template <int D>
__device__ inline void pair_products(float (&s)[2][SWEEP<D> / 8], float (&dp)[2][SWEEP<D> / 8], const float* a, const float* b, const float* u, const float* w,
                                     unsigned x, unsigned y) {
#pragma unroll 4
    for (unsigned c = 0; c < D; c += 4) {
        float own_a[2][4], own_b[2][4];
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            read(own_a[r], a + (y + 4 * r) * STRIDE<float, D> + c);
            read(own_b[r], b + (y + 4 * r) * STRIDE<float, D> + c);
        }
#pragma unroll
        for (unsigned j = 0; j < SWEEP<D> / 8; j++) {
            float swept_u[4], swept_w[4];
            read(swept_u, u + (x + 8 * j) * STRIDE<float, D> + c);
            read(swept_w, w + (x + 8 * j) * STRIDE<float, D> + c);
#pragma unroll
            for (unsigned r = 0; r < 2; r++) {
#pragma unroll
                for (unsigned i = 0; i < 4; i++) {
                    s[r][j] = fmaf(own_a[r][i], swept_u[i], s[r][j]);
                    dp[r][j] = fmaf(own_b[r][i], swept_w[i], dp[r][j]);
                }
            }
        }
    }
}

// sum += p · rows, four swept rows at a time.
template <int D>
__device__ inline void add_rows(float (&sum)[2][PARTS<D>][WIDTH<D>], const float* p_tile, const float* rows, unsigned x, unsigned y) {
#pragma unroll 2
    for (unsigned j = 0; j < SWEEP<D>; j += 4) {
        float p[2][4];
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            read(p[r], p_tile + (y + 4 * r) * P_STRIDE<D> + j);
        }
#pragma unroll
        for (unsigned jj = 0; jj < 4; jj++) {
#pragma unroll
            for (unsigned c = 0; c < PARTS<D>; c++) {
                float b[WIDTH<D>];
                read(b, rows + (j + jj) * STRIDE<float, D> + (x + 8 * c) * WIDTH<D>);
#pragma unroll
                for (unsigned r = 0; r < 2; r++) {
#pragma unroll
                    for (unsigned i = 0; i < WIDTH<D>; i++) {
                        sum[r][c][i] = fmaf(p[r][jj], b[i], sum[r][c][i]);
                    }
                }
            }
        }
    }
}

// A thread's share of one row of a gradient, times `factor`.
template <int D> __device__ inline void store_row(float* to, const float (&sum)[PARTS<D>][WIDTH<D>], float factor, unsigned x, unsigned head_dim) {
#pragma unroll
    for (unsigned c = 0; c < PARTS<D>; c++) {
        const unsigned column = (x + 8 * c) * WIDTH<D>;
        const float* y = sum[c];
        if (WIDTH<D> == 4 && head_dim % 4 == 0) {
            if (column < head_dim) {
                *reinterpret_cast<float4*>(to + column) = make_float4(y[0] * factor, y[1] * factor, y[2] * factor, y[WIDTH<D> - 1] * factor);
            }
        } else {
#pragma unroll
            for (unsigned i = 0; i < WIDTH<D>; i++) {
                if (column + i < head_dim) {
                    to[column + i] = y[i] * factor;
                }
            }
        }
    }
}

template <int D>
__device__ inline void dkv_tiles(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
                                 const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible,
                                 const int2* __restrict__ visible_by, float* __restrict__ dk, float* __restrict__ dv, const Dims& dims) {
    __shared__ __align__(16) float k_tile[OWN_F32 * STRIDE<float, D>];
    __shared__ __align__(16) float v_tile[OWN_F32 * STRIDE<float, D>];
    __shared__ __align__(16) float q_tile[SWEEP<D> * STRIDE<float, D>];
    __shared__ __align__(16) float d_o_tile[SWEEP<D> * STRIDE<float, D>];
    __shared__ __align__(16) float p_tile[OWN_F32 * P_STRIDE<D>];
    __shared__ __align__(16) float ds_tile[OWN_F32 * P_STRIDE<D>];
    __shared__ __align__(16) Stats<SWEEP<D>> stats;

    const unsigned kv_head = blockIdx.x % dims.kv_heads;
    const unsigned first = blockIdx.x / dims.kv_heads * OWN_F32;
    const unsigned per = dims.heads / dims.kv_heads;
    const unsigned x = threadIdx.x % 8;
    const unsigned y = threadIdx.x / 32 * 8 + threadIdx.x % 32 / 8;

    // 1. From the first row that may see one of the keys to the last: no other tile is touched.
    const uint2 rows = union_of<OWN_F32>(visible_by, first, dims.keys, dims.queries);

    // 2. The keys stay in shared memory.
    load_rows<float, D, OWN_F32>(k_tile, k, first, dims.keys, dims.kv_heads, kv_head, dims.head_dim);
    load_rows<float, D, OWN_F32>(v_tile, v, first, dims.keys, dims.kv_heads, kv_head, dims.head_dim);

    float k_sum[2][PARTS<D>][WIDTH<D>] = {};
    float v_sum[2][PARTS<D>][WIDTH<D>] = {};
    for (unsigned head = kv_head * per; head < (kv_head + 1) * per; head++) {
        for (unsigned tile = rows.x; tile < rows.y; tile += SWEEP<D>) {
            // 3. A tile of rows of one of the heads that read this KV head.
            load_rows<float, D, SWEEP<D>>(q_tile, q, tile, rows.y, dims.heads, head, dims.head_dim);
            load_rows<float, D, SWEEP<D>>(d_o_tile, d_o, tile, rows.y, dims.heads, head, dims.head_dim);
            load_stats(stats, lse, delta, visible, tile, rows.y, head, dims);
            wait_for_copies();
            __syncthreads();

            // 4. p and ds of the tile; a warp's share is its own.
            float s[2][SWEEP<D> / 8] = {}, dp[2][SWEEP<D> / 8] = {};
            pair_products<D>(s, dp, k_tile, v_tile, q_tile, d_o_tile, x, y);
#pragma unroll
            for (unsigned j = 0; j < SWEEP<D> / 8; j++) {
                const unsigned i = x + 8 * j;
                const uint2 seen = clamped(stats.seen[i], dims.keys);
#pragma unroll
                for (unsigned r = 0; r < 2; r++) {
                    const bool inside = first + y + 4 * r - seen.x < seen.y - seen.x;
                    const float p = inside ? exp2_fast((s[r][j] * dims.scale - stats.lse[i]) * LOG2E) : 0.0f;
                    p_tile[(y + 4 * r) * P_STRIDE<D> + i] = p;
                    ds_tile[(y + 4 * r) * P_STRIDE<D> + i] = p * (dp[r][j] - stats.delta[i]);
                }
            }
            __syncwarp();

            // 5. dk += dsᵀ·Q, dv += pᵀ·dO.
            add_rows<D>(k_sum, ds_tile, q_tile, x, y);
            add_rows<D>(v_sum, p_tile, d_o_tile, x, y);
            // The next tile overwrites what was just read.
            __syncthreads();
        }
    }
    wait_for_copies();  // K and V, where there was no tile

#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        const unsigned key = first + y + 4 * r;
        if (key < dims.keys) {
            const size_t at = (size_t)(key * dims.kv_heads + kv_head) * dims.head_dim;
            store_row<D>(dk + at, k_sum[r], dims.scale, x, dims.head_dim);
            store_row<D>(dv + at, v_sum[r], 1.0f, x, dims.head_dim);
        }
    }
}

// As dkv with the roles of rows and keys exchanged.
template <int D>
__device__ inline void dq_tiles(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
                                const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, float* __restrict__ dq,
                                const Dims& dims) {
    __shared__ __align__(16) float q_tile[OWN_F32 * STRIDE<float, D>];
    __shared__ __align__(16) float d_o_tile[OWN_F32 * STRIDE<float, D>];
    __shared__ __align__(16) float k_tile[SWEEP<D> * STRIDE<float, D>];
    __shared__ __align__(16) float v_tile[SWEEP<D> * STRIDE<float, D>];
    __shared__ __align__(16) float ds_tile[OWN_F32 * P_STRIDE<D>];

    // The last rows first: under a causal mask they have the most to do.
    const unsigned head = blockIdx.x % dims.heads;
    const unsigned kv_head = head / (dims.heads / dims.kv_heads);
    const unsigned first = (gridDim.x - 1 - blockIdx.x) / dims.heads * OWN_F32;
    const unsigned x = threadIdx.x % 8;
    const unsigned y = threadIdx.x / 32 * 8 + threadIdx.x % 32 / 8;

    // 1. From the first key that one of the rows sees to the last.
    const uint2 keys = union_of<OWN_F32>(visible, first, dims.queries, dims.keys);
    uint2 seen[2] = {};
    float row_lse[2] = {}, row_delta[2] = {};
#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        const unsigned row = first + y + 4 * r;
        if (row < dims.queries) {
            seen[r] = clamped(visible[row], dims.keys);
            row_lse[r] = lse[row * dims.heads + head];
            row_delta[r] = delta[row * dims.heads + head];
        }
    }

    // 2. The rows stay in shared memory.
    load_rows<float, D, OWN_F32>(q_tile, q, first, dims.queries, dims.heads, head, dims.head_dim);
    load_rows<float, D, OWN_F32>(d_o_tile, d_o, first, dims.queries, dims.heads, head, dims.head_dim);

    float sum[2][PARTS<D>][WIDTH<D>] = {};
    for (unsigned tile = keys.x; tile < keys.y; tile += SWEEP<D>) {
        // 3. A tile of keys.
        load_rows<float, D, SWEEP<D>>(k_tile, k, tile, keys.y, dims.kv_heads, kv_head, dims.head_dim);
        load_rows<float, D, SWEEP<D>>(v_tile, v, tile, keys.y, dims.kv_heads, kv_head, dims.head_dim);
        wait_for_copies();
        __syncthreads();

        // 4. ds of the tile; a warp's share is its own.
        float s[2][SWEEP<D> / 8] = {}, dp[2][SWEEP<D> / 8] = {};
        pair_products<D>(s, dp, q_tile, d_o_tile, k_tile, v_tile, x, y);
#pragma unroll
        for (unsigned j = 0; j < SWEEP<D> / 8; j++) {
#pragma unroll
            for (unsigned r = 0; r < 2; r++) {
                const bool inside = tile + x + 8 * j - seen[r].x < seen[r].y - seen[r].x;
                const float p = inside ? exp2_fast((s[r][j] * dims.scale - row_lse[r]) * LOG2E) : 0.0f;
                ds_tile[(y + 4 * r) * P_STRIDE<D> + x + 8 * j] = p * (dp[r][j] - row_delta[r]);
            }
        }
        __syncwarp();

        // 5. dq += ds·K.
        add_rows<D>(sum, ds_tile, k_tile, x, y);
        // The next tile overwrites what was just read.
        __syncthreads();
    }
    wait_for_copies();  // Q and dO, where there was no tile

#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        const unsigned row = first + y + 4 * r;
        if (row < dims.queries) {
            store_row<D>(dq + (size_t)(row * dims.heads + head) * dims.head_dim, sum[r], dims.scale, x, dims.head_dim);
        }
    }
}

// f32: at least three blocks per multiprocessor. Left to itself, ptxas aims at as many as shared memory admits, and spills.

extern "C" __global__ void __launch_bounds__(128, 3) dkv_d16(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by,
    float* __restrict__ dk, float* __restrict__ dv, Dims dims) {
    dkv_tiles<16>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dkv_d32(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by,
    float* __restrict__ dk, float* __restrict__ dv, Dims dims) {
    dkv_tiles<32>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dkv_d64(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by,
    float* __restrict__ dk, float* __restrict__ dv, Dims dims) {
    dkv_tiles<64>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dkv_d96(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by,
    float* __restrict__ dk, float* __restrict__ dv, Dims dims) {
    dkv_tiles<96>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dkv_d128(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by,
    float* __restrict__ dk, float* __restrict__ dv, Dims dims) {
    dkv_tiles<128>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dq_rows_d16(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, float* __restrict__ dq, Dims dims) {
    dq_tiles<16>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dq_rows_d32(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, float* __restrict__ dq, Dims dims) {
    dq_tiles<32>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dq_rows_d64(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, float* __restrict__ dq, Dims dims) {
    dq_tiles<64>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dq_rows_d96(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, float* __restrict__ dq, Dims dims) {
    dq_tiles<96>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128, 3) dq_rows_d128(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ d_o,
    const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, float* __restrict__ dq, Dims dims) {
    dq_tiles<128>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

// ── rung 3: mma: bf16 on tensor cores ────────────────────────────────────────────────────────────────────────────────

// ┌ the same in attention.cu, attention_backward.cu: products on tensor cores
// mma.m16n8k16: lane l = 4 · g + t holds, of the left operand's 16×16, rows g and g + 8 at columns 2t, 2t + 1 and 2t + 8, 2t + 9;
// of the right one's 16×8 column g at the same four places; of the 16×8 result rows g and g + 8 at columns 2t, 2t + 1.
__device__ inline void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8×8 matrices: lane l names a row of matrix l / 8, and gets row g, columns 2t and 2t + 1 of each.
__device__ inline void ldmatrix(unsigned (&to)[4], const bf16* row) {
    const unsigned address = __cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// The same with each matrix transposed on the way.
__device__ inline void ldmatrix_trans(unsigned (&to)[4], const bf16* row) {
    const unsigned address = __cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// Two f32 as bf16 in one register, the first in the lower half.
__device__ inline unsigned pack(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// 16 rows of shared memory as left operands, 16 columns each.
template <int D> __device__ inline void left_operand(unsigned (&a)[D / 16][4], const bf16* rows, unsigned lane) {
#pragma unroll
    for (unsigned c = 0; c < D / 16; c++) {
        ldmatrix(a[c], rows + lane % 16 * STRIDE<bf16, D> + c * 16 + lane / 16 * 8);
    }
}

// Two 16×8 results side by side as the next product's left operand: they lie in its registers already.
__device__ inline void left_operand(unsigned (&a)[4], const float (&left)[4], const float (&right)[4]) {
    a[0] = pack(left[0], left[1]);
    a[1] = pack(left[2], left[3]);
    a[2] = pack(right[0], right[1]);
    a[3] = pack(right[2], right[3]);
}

// s = a · rowsᵀ for N rows of shared memory: they are the columns of the right operand as they lie.
template <int D, int N> __device__ inline void times_transposed(float (&s)[N / 8][4], const unsigned (&a)[D / 16][4], const bf16* rows, unsigned lane) {
#pragma unroll
    for (unsigned c = 0; c < D / 16; c++) {
#pragma unroll
        for (unsigned j = 0; j < N / 16; j++) {
            unsigned b[4];
            ldmatrix(b, rows + (j * 16 + lane / 16 * 8 + lane % 8) * STRIDE<bf16, D> + c * 16 + lane / 8 % 2 * 8);
            mma(s[2 * j], a[c], b[0], b[1]);
            mma(s[2 * j + 1], a[c], b[2], b[3]);
        }
    }
}

// out += a · rows for 16 rows of shared memory, transposed on their way.
template <int D> __device__ inline void add_product(float (&out)[D / 8][4], const unsigned (&a)[4], const bf16* rows, unsigned lane) {
#pragma unroll
    for (unsigned c = 0; c < D / 16; c++) {
        unsigned b[4];
        ldmatrix_trans(b, rows + lane % 16 * STRIDE<bf16, D> + c * 16 + lane / 16 * 8);
        mma(out[2 * c], a, b[0], b[1]);
        mma(out[2 * c + 1], a, b[2], b[3]);
    }
}
// └ the same up to here: products on tensor cores

// A warp's 16 rows of a gradient into shared memory, times `factor`.
template <int D> __device__ inline void put_rows(bf16* rows, const float (&sum)[D / 8][4], float factor, unsigned lane) {
#pragma unroll
    for (unsigned c = 0; c < D / 8; c++) {
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            bf16* to = rows + (lane / 4 + 8 * r) * STRIDE<bf16, D> + c * 8 + lane % 4 * 2;
            *reinterpret_cast<unsigned*>(to) = pack(sum[c][2 * r] * factor, sum[c][2 * r + 1] * factor);
        }
    }
}

// Rows swept over per stage: what is owned (64 rows of A, 64 of B) comes through the same memory as two stages of U and W.
constexpr unsigned SWEEP_BF16 = 32;
// Of these, how many at a time: what registers hold beside the sums.
template <int D> constexpr unsigned PART = D <= 96 ? 32 : 16;

template <int D>
__device__ inline void dkv_mma(const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o,
                               const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible,
                               const int2* __restrict__ visible_by, bf16* __restrict__ dk, bf16* __restrict__ dv, const Dims& dims) {
    constexpr unsigned TILE = SWEEP_BF16 * STRIDE<bf16, D>;
    __shared__ __align__(16) bf16 tiles[4 * TILE];  // two stages of Q, dO; first, and last, 64 rows of K and of V
    __shared__ __align__(16) Stats<SWEEP_BF16> stats[2];

    const unsigned kv_head = blockIdx.x % dims.kv_heads;
    const unsigned first = blockIdx.x / dims.kv_heads * OWN_BF16;
    const unsigned per = dims.heads / dims.kv_heads;
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const unsigned warp_key = threadIdx.x / 32 * 16;
    const float factor = dims.scale * LOG2E;

    // 1. From the first row that may see one of the keys to the last: no other tile is touched.
    const uint2 rows = union_of<OWN_BF16>(visible_by, first, dims.keys, dims.queries);

    float k_sum[D / 8][4] = {};
    float v_sum[D / 8][4] = {};
    if (rows.x < rows.y) {
        // 2. The warp's keys stay in registers.
        unsigned own_k[D / 16][4], own_v[D / 16][4];
        load_rows<bf16, D, OWN_BF16>(tiles, k, first, dims.keys, dims.kv_heads, kv_head, dims.head_dim);
        load_rows<bf16, D, OWN_BF16>(tiles + 2 * TILE, v, first, dims.keys, dims.kv_heads, kv_head, dims.head_dim);
        wait_for_copies();
        __syncthreads();
        left_operand<D>(own_k, tiles + warp_key * STRIDE<bf16, D>, lane);
        left_operand<D>(own_v, tiles + 2 * TILE + warp_key * STRIDE<bf16, D>, lane);
        __syncthreads();

        // 3. Tiles of rows of the heads that read this KV head, one after the other; the first sets out.
        const unsigned last_head = (kv_head + 1) * per;
        const auto load = [&](unsigned stage, unsigned head, unsigned tile) {
            load_rows<bf16, D, SWEEP_BF16>(tiles + 2 * stage * TILE, q, tile, rows.y, dims.heads, head, dims.head_dim);
            load_rows<bf16, D, SWEEP_BF16>(tiles + (2 * stage + 1) * TILE, d_o, tile, rows.y, dims.heads, head, dims.head_dim);
            load_stats(stats[stage], lse, delta, visible, tile, rows.y, head, dims);
        };
        unsigned head = kv_head * per, tile = rows.x, stage = 0;
        load(stage, head, tile);
        while (head < last_head) {
            // This tile has arrived, and everyone has done with the other stage: the next tile may go there.
            wait_for_copies();
            __syncthreads();
            const bf16* q_tile = tiles + 2 * stage * TILE;
            const bf16* d_o_tile = tiles + (2 * stage + 1) * TILE;
            const Stats<SWEEP_BF16>& of = stats[stage];
            tile += SWEEP_BF16;
            if (tile >= rows.y) {
                tile = rows.x;
                head++;
            }
            stage ^= 1;
            if (head < last_head) {
                load(stage, head, tile);
            }

            // Which of the warp's keys a row sees: a lane per row. Where all see all there is no mask, where none sees any no work.
            const unsigned key = first + warp_key;
            const uint2 of_lane = clamped(of.seen[lane], dims.keys);
            if (!__any_sync(ALL, of_lane.x < key + 16 && of_lane.y > key)) {
                continue;
            }
            const bool whole = __all_sync(ALL, of_lane.x <= key && of_lane.y >= key + 16);

#pragma unroll
            for (unsigned part = 0; part < SWEEP_BF16; part += PART<D>) {
                // 4. pᵀ and dsᵀ: rows are keys, columns are rows of the tile.
                float s[PART<D> / 8][4] = {}, dp[PART<D> / 8][4] = {};
                times_transposed<D, PART<D>>(s, own_k, q_tile + part * STRIDE<bf16, D>, lane);
                times_transposed<D, PART<D>>(dp, own_v, d_o_tile + part * STRIDE<bf16, D>, lane);
#pragma unroll
                for (unsigned j = 0; j < PART<D> / 8; j++) {
#pragma unroll
                    for (unsigned column = 0; column < 2; column++) {
                        const unsigned row = part + j * 8 + 2 * t + column;
                        const float shift = of.lse[row] * LOG2E, mean = of.delta[row];
                        const uint2 seen = clamped(of.seen[row], dims.keys);
#pragma unroll
                        for (unsigned r = 0; r < 2; r++) {
                            const unsigned i = 2 * r + column;
                            const bool inside = whole || key + g + 8 * r - seen.x < seen.y - seen.x;
                            const float p = exp2_fast(fmaf(s[j][i], factor, -shift));
                            s[j][i] = inside ? p : 0.0f;
                            dp[j][i] = s[j][i] * (dp[j][i] - mean);
                        }
                    }
                }

                // 5. dk += dsᵀ·Q, dv += pᵀ·dO.
#pragma unroll
                for (unsigned j = 0; j < PART<D> / 16; j++) {
                    unsigned a[4];
                    left_operand(a, s[2 * j], s[2 * j + 1]);
                    add_product<D>(v_sum, a, d_o_tile + (part + j * 16) * STRIDE<bf16, D>, lane);
                    left_operand(a, dp[2 * j], dp[2 * j + 1]);
                    add_product<D>(k_sum, a, q_tile + (part + j * 16) * STRIDE<bf16, D>, lane);
                }
            }
        }
    }

    // 6. Out through shared memory, in 16-byte pieces.
    __syncthreads();
    put_rows<D>(tiles + warp_key * STRIDE<bf16, D>, k_sum, dims.scale, lane);
    put_rows<D>(tiles + 2 * TILE + warp_key * STRIDE<bf16, D>, v_sum, 1.0f, lane);
    __syncthreads();
    store_rows<D, OWN_BF16>(tiles, dk, first, dims.keys, dims.kv_heads, kv_head, dims.head_dim);
    store_rows<D, OWN_BF16>(tiles + 2 * TILE, dv, first, dims.keys, dims.kv_heads, kv_head, dims.head_dim);
}

// As dkv with the roles of rows and keys exchanged.
template <int D>
__device__ inline void dq_mma(const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o,
                              const float* __restrict__ lse, const float* __restrict__ delta, const int2* __restrict__ visible, bf16* __restrict__ dq,
                              const Dims& dims) {
    constexpr unsigned TILE = SWEEP_BF16 * STRIDE<bf16, D>;
    __shared__ __align__(16) bf16 tiles[4 * TILE];  // two stages of K, V; first 64 rows of Q and of dO, last 64 of dq

    // The last rows first: under a causal mask they have the most to do.
    const unsigned head = blockIdx.x % dims.heads;
    const unsigned kv_head = head / (dims.heads / dims.kv_heads);
    const unsigned first = (gridDim.x - 1 - blockIdx.x) / dims.heads * OWN_BF16;
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const unsigned warp_row = threadIdx.x / 32 * 16;
    const float factor = dims.scale * LOG2E;

    // 1. From the first key that one of the rows sees to the last. The same for the warp's 16 rows, and the keys that all of them
    //    see: tiles there need no mask.
    const uint2 keys = union_of<OWN_BF16>(visible, first, dims.queries, dims.keys);
    const unsigned lane_row = first + warp_row + lane % 16;
    const uint2 of_lane = lane_row < dims.queries ? clamped(visible[lane_row], dims.keys) : make_uint2(0, 0);
    const unsigned low = __reduce_min_sync(ALL, of_lane.x < of_lane.y ? of_lane.x : dims.keys);
    const unsigned high = __reduce_max_sync(ALL, of_lane.y);
    const unsigned all_from = __reduce_max_sync(ALL, of_lane.x);
    const unsigned all_to = __reduce_min_sync(ALL, lane_row < dims.queries ? of_lane.y : dims.keys);
    uint2 seen[2] = {};
    float shift[2] = {}, mean[2] = {};
#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        const unsigned row = first + warp_row + g + 8 * r;
        if (row < dims.queries) {
            seen[r] = clamped(visible[row], dims.keys);
            shift[r] = lse[row * dims.heads + head] * LOG2E;
            mean[r] = delta[row * dims.heads + head];
        }
    }

    float sum[D / 8][4] = {};
    if (keys.x < keys.y) {
        // 2. The warp's rows stay in registers.
        unsigned own_q[D / 16][4], own_d_o[D / 16][4];
        load_rows<bf16, D, OWN_BF16>(tiles, q, first, dims.queries, dims.heads, head, dims.head_dim);
        load_rows<bf16, D, OWN_BF16>(tiles + 2 * TILE, d_o, first, dims.queries, dims.heads, head, dims.head_dim);
        wait_for_copies();
        __syncthreads();
        left_operand<D>(own_q, tiles + warp_row * STRIDE<bf16, D>, lane);
        left_operand<D>(own_d_o, tiles + 2 * TILE + warp_row * STRIDE<bf16, D>, lane);
        __syncthreads();

        // 3. Tiles of keys; the first sets out.
        const auto load = [&](unsigned stage, unsigned tile) {
            load_rows<bf16, D, SWEEP_BF16>(tiles + 2 * stage * TILE, k, tile, keys.y, dims.kv_heads, kv_head, dims.head_dim);
            load_rows<bf16, D, SWEEP_BF16>(tiles + (2 * stage + 1) * TILE, v, tile, keys.y, dims.kv_heads, kv_head, dims.head_dim);
        };
        unsigned stage = 0;
        load(stage, keys.x);
        for (unsigned tile = keys.x; tile < keys.y; tile += SWEEP_BF16, stage ^= 1) {
            // This tile has arrived, and everyone has done with the other stage: the next tile may go there.
            wait_for_copies();
            __syncthreads();
            const bf16* k_tile = tiles + 2 * stage * TILE;
            const bf16* v_tile = tiles + (2 * stage + 1) * TILE;
            if (tile + SWEEP_BF16 < keys.y) {
                load(stage ^ 1, tile + SWEEP_BF16);
            }
            if (tile >= high || tile + SWEEP_BF16 <= low) {
                continue;  // nothing that this warp's rows see
            }
            const bool whole = tile >= all_from && tile + SWEEP_BF16 <= all_to;

#pragma unroll
            for (unsigned part = 0; part < SWEEP_BF16; part += PART<D>) {
                // 4. ds.
                float s[PART<D> / 8][4] = {}, dp[PART<D> / 8][4] = {};
                times_transposed<D, PART<D>>(s, own_q, k_tile + part * STRIDE<bf16, D>, lane);
                times_transposed<D, PART<D>>(dp, own_d_o, v_tile + part * STRIDE<bf16, D>, lane);
#pragma unroll
                for (unsigned j = 0; j < PART<D> / 8; j++) {
#pragma unroll
                    for (unsigned i = 0; i < 4; i++) {
                        const uint2 row = seen[i / 2];
                        const bool inside = whole || tile + part + j * 8 + 2 * t + i % 2 - row.x < row.y - row.x;
                        const float p = exp2_fast(fmaf(s[j][i], factor, -shift[i / 2]));
                        dp[j][i] = (inside ? p : 0.0f) * (dp[j][i] - mean[i / 2]);
                    }
                }

                // 5. dq += ds·K.
#pragma unroll
                for (unsigned j = 0; j < PART<D> / 16; j++) {
                    unsigned a[4];
                    left_operand(a, dp[2 * j], dp[2 * j + 1]);
                    add_product<D>(sum, a, k_tile + (part + j * 16) * STRIDE<bf16, D>, lane);
                }
            }
        }
    }

    // 6. Out through shared memory, in 16-byte pieces.
    __syncthreads();
    put_rows<D>(tiles + warp_row * STRIDE<bf16, D>, sum, dims.scale, lane);
    __syncthreads();
    store_rows<D, OWN_BF16>(tiles, dq, first, dims.queries, dims.heads, head, dims.head_dim);
}

extern "C" __global__ void __launch_bounds__(128) dkv_d16_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by, bf16* __restrict__ dk,
    bf16* __restrict__ dv, Dims dims) {
    dkv_mma<16>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128) dkv_d32_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by, bf16* __restrict__ dk,
    bf16* __restrict__ dv, Dims dims) {
    dkv_mma<32>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128) dkv_d64_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by, bf16* __restrict__ dk,
    bf16* __restrict__ dv, Dims dims) {
    dkv_mma<64>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128) dkv_d96_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by, bf16* __restrict__ dk,
    bf16* __restrict__ dv, Dims dims) {
    dkv_mma<96>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128) dkv_d128_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, const int2* __restrict__ visible_by, bf16* __restrict__ dk,
    bf16* __restrict__ dv, Dims dims) {
    dkv_mma<128>(q, k, v, d_o, lse, delta, visible, visible_by, dk, dv, dims);
}

extern "C" __global__ void __launch_bounds__(128) dq_rows_d16_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, bf16* __restrict__ dq, Dims dims) {
    dq_mma<16>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128) dq_rows_d32_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, bf16* __restrict__ dq, Dims dims) {
    dq_mma<32>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128) dq_rows_d64_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, bf16* __restrict__ dq, Dims dims) {
    dq_mma<64>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128) dq_rows_d96_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, bf16* __restrict__ dq, Dims dims) {
    dq_mma<96>(q, k, v, d_o, lse, delta, visible, dq, dims);
}

extern "C" __global__ void __launch_bounds__(128) dq_rows_d128_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ lse,
    const float* __restrict__ delta, const int2* __restrict__ visible, bf16* __restrict__ dq, Dims dims) {
    dq_mma<128>(q, k, v, d_o, lse, delta, visible, dq, dims);
}
