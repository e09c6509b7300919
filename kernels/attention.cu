// attention: o = softmax(scale · q·kᵀ) · v per head, where row i sees the keys visible[i] = [start, end) and nothing else.
//
// Grouped heads: query head h reads KV head h / (H / Hkv). The sum of exponentials is built online (Milakov and Gimelshein
// 2018, arXiv 1805.02867; FlashAttention-2: Dao 2023, arXiv 2307.08691): per row a running maximum m and sum l; a new tile of
// keys rescales what is there by exp(m_old − m_new). lse = m + ln l is what backward recomputes p from
// (attention_backward.cu). A row that sees nothing gets o = 0, lse = −1e30.
//
// The ladder, in the order of this file, each rung one idea away from the last:
//   rung 1: naive  forward_naive, _bf16: a warp walks its row's keys one by one; lanes share the head's elements.
//   rung 2: tile   forward_d16 … _d128: f32: a warp owns 16 rows and takes tiles of keys that the block shares; scores and outputs
//                  lie in register tiles, 4 loads from shared memory feed 16 to 64 multiplies.
//   rung 3: mma    forward_d…_bf16: the same on tensor cores: m16n8k16 with f32 sums. A score tile leaves the tensor core in just
//                  the registers in which the second product wants its left operand, so that P never sees memory; the next tile's
//                  K and V travel (cp.async) while this one is computed with.
//   beside it      weights, _bf16 write what the others never hold: the rows p = exp(scale · q·k − lse) of those who want to look,
//                  0 outside `visible`.
//
// forward_naive  block 128, one row of one head per warp, grid = ceil(Nq · H / 4): o and lse
//   0  q           [Nq, H, d]        f32|bf16  read
//   1  k           [Nk, Hkv, d]      f32|bf16  read
//   2  v           [Nk, Hkv, d]      f32|bf16  read
//   3  visible     [Nq, 2]           i32       read
//   4  o           [Nq, H, d]        f32|bf16  overwritten
//   5  lse         [Nq, H]           f32       overwritten
//   6  dims        by value
// forward        block 128, 64 rows of one head per block, grid = ceil(Nq / 64) · H: o and lse
//   0  q           [Nq, H, d]        f32|bf16  read
//   1  k           [Nk, Hkv, d]      f32|bf16  read
//   2  v           [Nk, Hkv, d]      f32|bf16  read
//   3  visible     [Nq, 2]           i32       read
//   4  o           [Nq, H, d]        f32|bf16  overwritten
//   5  lse         [Nq, H]           f32       overwritten (backward needs it)
//   6  dims        by value
// weights        block 128, one weight per thread, grid = ceil(R · H · Nk / 128): p = exp(scale · q·k − lse) of the rows asked for
//   0  q           [Nq, H, d]        f32|bf16  read
//   1  k           [Nk, Hkv, d]      f32|bf16  read
//   2  lse         [Nq, H]           f32       read (what forward wrote)
//   3  visible     [Nq, 2]           i32       read
//   4  row         [R]               i32       read (rows of q; one outside 0..Nq gets zeros)
//   5  p           [R, H, Nk]        f32       overwritten
//   6  dims        by value
//
// d16, d32, d64, d96, d128 are compiled sizes: the launcher takes the smallest D ≥ d, the rest is zeros in shared memory.
//
// Limits: 1 ≤ d ≤ D, H a multiple of Hkv, Nq · H and Nk · Hkv < 2³¹ (offsets of elements are 64-bit). Rows of whole 16-byte pieces
// (d a multiple of 4 in f32, of 8 in bf16) are copied as such, others element by element. Shared memory: f32 up to 48,640 bytes
// (d96), bf16 4 · KEYS · (D + 8) · 2 bytes, up to 34,816 (d128).
// Precision: sums and softmax are f32, in a fixed order, the same bits on every run; exp is ex2.approx. In bf16, P is rounded before the second product.
// FLOPs: 4 · d per pair of a row and a key that it sees, per head. Traffic: q, o once, k and v once per 64 rows.
// Twin: shaders/attention.wgsl.
#include <cuda_bf16.h>

typedef __nv_bfloat16 bf16;

struct Dims {
    unsigned queries;   // Nq
    unsigned keys;      // Nk
    unsigned heads;     // H
    unsigned kv_heads;  // Hkv
    float scale;
    unsigned head_dim;  // d
    unsigned rows;      // R, of weights
    unsigned padding;
};

constexpr unsigned BLOCK = 128;
constexpr unsigned ROWS = 64;  // of a block; a warp owns 16 of them
// Below every score: what has not been seen.
constexpr float LOW = -1e30f;
constexpr float LOG2E = 1.4426950408889634f;
constexpr float LN2 = 0.6931471805599453f;
constexpr unsigned ALL = 0xffffffffu;

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __bfloat162float(x); }
template <typename T> __device__ inline T narrow(float x);
template <> __device__ inline float narrow<float>(float x) { return x; }
template <> __device__ inline bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }

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

// ── rung 1: naive: a warp walks its row's keys ───────────────────────────────────────────────────────────────────────

template <typename T>
__device__ inline void forward_row(const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v, const int2* __restrict__ visible,
                                   T* __restrict__ o, float* __restrict__ lse, const Dims& dims) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned index = blockIdx.x * (BLOCK / 32) + threadIdx.x / 32;
    if (index >= dims.queries * dims.heads) {
        return;
    }
    const unsigned row = index / dims.heads;
    const unsigned kv_head = index % dims.heads / (dims.heads / dims.kv_heads);
    const uint2 seen = interval(visible, row, dims);
    const float scale = dims.scale * LOG2E;

    // Lane l has elements l, l + 32, l + 64 and l + 96 of the head.
    float query[4], out[4] = {};
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
        const unsigned c = lane + 32 * i;
        query[i] = c < dims.head_dim ? widen(q[(size_t)index * dims.head_dim + c]) : 0.0f;
    }
    float maximum = LOW, total = 0.0f;
    for (unsigned key = seen.x; key < seen.y; key++) {
        const size_t at = (size_t)(key * dims.kv_heads + kv_head) * dims.head_dim;
        float score = 0.0f;
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            const unsigned c = lane + 32 * i;
            score = fmaf(query[i], c < dims.head_dim ? widen(k[at + c]) : 0.0f, score);
        }
#pragma unroll
        for (unsigned other = 16; other > 0; other /= 2) {
            score += __shfl_xor_sync(ALL, score, other);
        }
        score *= scale;
        const float next = fmaxf(maximum, score);
        const float rescale = exp2_fast(maximum - next);
        const float p = exp2_fast(score - next);
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            const unsigned c = lane + 32 * i;
            out[i] = fmaf(out[i], rescale, p * (c < dims.head_dim ? widen(v[at + c]) : 0.0f));
        }
        total = fmaf(total, rescale, p);
        maximum = next;
    }
    const bool sees = seen.x < seen.y;
    const float inverse = sees ? 1.0f / total : 0.0f;
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
        const unsigned c = lane + 32 * i;
        if (c < dims.head_dim) {
            o[(size_t)index * dims.head_dim + c] = narrow<T>(out[i] * inverse);
        }
    }
    if (lane == 0) {
        lse[index] = sees ? maximum * LN2 + logf(total) : LOW;
    }
}

extern "C" __global__ void __launch_bounds__(128) forward_naive(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const int2* __restrict__ visible, float* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_row(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_naive_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const int2* __restrict__ visible, bf16* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_row(q, k, v, visible, o, lse, dims);
}

// ── What the other rungs share: rows between global and shared memory ────────────────────────────────────────────────

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

// Eight lanes (x) go across a tile's columns, four (y) down the warp's 16 rows: a thread has rows y, y + 4, y + 8, y + 12 and
// keys x, x + 8, … of the scores, and of the output the same rows and columns x · WIDTH … in D / 8 registers each.
template <int D>
__device__ inline void forward_tiles(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const int2* __restrict__ visible,
                                     float* __restrict__ o, float* __restrict__ lse, const Dims& dims) {
    constexpr unsigned KEYS = D <= 32 ? 64 : D <= 96 ? 32 : 16;  // of a tile: what 48 KiB hold beside Q
    constexpr unsigned COLUMNS = KEYS / 8;
    constexpr unsigned WIDTH = D >= 32 ? 4 : 2;
    constexpr unsigned PARTS = D / (8 * WIDTH);
    constexpr unsigned P_STRIDE = KEYS + 8;  // four rows of eight neighbours: all 32 banks
    __shared__ __align__(16) float q_tile[ROWS * STRIDE<float, D>];
    __shared__ __align__(16) float kv_tile[KEYS * STRIDE<float, D>];  // K, then V of the same keys
    __shared__ __align__(16) float p_tile[ROWS * P_STRIDE];

    // The last rows first: under a causal mask they have the most to do.
    const unsigned head = blockIdx.x % dims.heads;
    const unsigned kv_head = head / (dims.heads / dims.kv_heads);
    const unsigned first = (gridDim.x - 1 - blockIdx.x) / dims.heads * ROWS;
    const unsigned x = threadIdx.x % 8;
    const unsigned y = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 8;
    const float scale = dims.scale * LOG2E;

    // 1. From the first key that one of the rows sees to the last: no other tile is touched.
    const uint2 all = seen_by<ROWS>(visible, first, dims);
    uint2 seen[4];
#pragma unroll
    for (unsigned r = 0; r < 4; r++) {
        seen[r] = interval(visible, first + y + 4 * r, dims);
    }

    // 2. The rows' queries stay in shared memory.
    load_rows<float, D, ROWS>(q_tile, q, first, dims.queries, dims.heads, head, dims.head_dim);

    float maximum[4] = {LOW, LOW, LOW, LOW};
    float total[4] = {};  // of this thread's keys
    float out[4][PARTS][WIDTH] = {};
    for (unsigned tile = all.x; tile < all.y; tile += KEYS) {
        // 3. K.
        load_rows<float, D, KEYS>(kv_tile, k, tile, all.y, dims.kv_heads, kv_head, dims.head_dim);
        wait_for_copies();
        __syncthreads();

        // 4. Scores, in registers: 4 + COLUMNS loads for 16 · COLUMNS products.
        float s[4][COLUMNS] = {};
#pragma unroll 4
        for (unsigned c = 0; c < D; c += 4) {
            float a[4][4];
#pragma unroll
            for (unsigned r = 0; r < 4; r++) {
                read(a[r], q_tile + (y + 4 * r) * STRIDE<float, D> + c);
            }
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; j++) {
                float b[4];
                read(b, kv_tile + (x + 8 * j) * STRIDE<float, D> + c);
#pragma unroll
                for (unsigned r = 0; r < 4; r++) {
#pragma unroll
                    for (unsigned i = 0; i < 4; i++) {
                        s[r][j] = fmaf(a[r][i], b[i], s[r][j]);
                    }
                }
            }
        }
        __syncthreads();

        // 5. V takes K's place (everyone has read K), while scores turn into exponentials: eight lanes share a row.
        load_rows<float, D, KEYS>(kv_tile, v, tile, all.y, dims.kv_heads, kv_head, dims.head_dim);
#pragma unroll
        for (unsigned r = 0; r < 4; r++) {
            float next = maximum[r];
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; j++) {
                const bool inside = tile + x + 8 * j - seen[r].x < seen[r].y - seen[r].x;
                s[r][j] = inside ? s[r][j] * scale : LOW;
                next = fmaxf(next, s[r][j]);
            }
#pragma unroll
            for (unsigned other = 4; other > 0; other /= 2) {
                next = fmaxf(next, __shfl_xor_sync(ALL, next, other));
            }
            const float rescale = exp2_fast(maximum[r] - next);
            maximum[r] = next;
            total[r] *= rescale;
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; j++) {
                const float p = s[r][j] == LOW ? 0.0f : exp2_fast(s[r][j] - next);
                p_tile[(y + 4 * r) * P_STRIDE + x + 8 * j] = p;
                total[r] += p;
            }
#pragma unroll
            for (unsigned c = 0; c < PARTS; c++) {
#pragma unroll
                for (unsigned i = 0; i < WIDTH; i++) {
                    out[r][c][i] *= rescale;
                }
            }
        }
        wait_for_copies();
        __syncthreads();

        // 6. out += p · V, four keys at a time.
#pragma unroll 2
        for (unsigned j = 0; j < KEYS; j += 4) {
            float p[4][4];
#pragma unroll
            for (unsigned r = 0; r < 4; r++) {
                read(p[r], p_tile + (y + 4 * r) * P_STRIDE + j);
            }
#pragma unroll
            for (unsigned jj = 0; jj < 4; jj++) {
#pragma unroll
                for (unsigned c = 0; c < PARTS; c++) {
                    float b[WIDTH];
                    read(b, kv_tile + (j + jj) * STRIDE<float, D> + (x + 8 * c) * WIDTH);
#pragma unroll
                    for (unsigned r = 0; r < 4; r++) {
#pragma unroll
                        for (unsigned i = 0; i < WIDTH; i++) {
                            out[r][c][i] = fmaf(p[r][jj], b[i], out[r][c][i]);
                        }
                    }
                }
            }
        }
        // The next tile overwrites kv_tile and p_tile.
        __syncthreads();
    }
    wait_for_copies();  // Q, where there was no tile

    // 7. Divide by the sums.
#pragma unroll
    for (unsigned r = 0; r < 4; r++) {
#pragma unroll
        for (unsigned other = 4; other > 0; other /= 2) {
            total[r] += __shfl_xor_sync(ALL, total[r], other);
        }
        const unsigned row = first + y + 4 * r;
        if (row >= dims.queries) {
            continue;
        }
        const bool sees = seen[r].x < seen[r].y;
        const float inverse = sees ? 1.0f / total[r] : 0.0f;
        if (x == 0) {
            lse[row * dims.heads + head] = sees ? maximum[r] * LN2 + logf(total[r]) : LOW;
        }
        float* to = o + (size_t)(row * dims.heads + head) * dims.head_dim;
#pragma unroll
        for (unsigned c = 0; c < PARTS; c++) {
            const unsigned column = (x + 8 * c) * WIDTH;
            if (WIDTH == 4 && dims.head_dim % 4 == 0) {
                if (column < dims.head_dim) {
                    const float* y4 = out[r][c];
                    *reinterpret_cast<float4*>(to + column) = make_float4(y4[0] * inverse, y4[1] * inverse, y4[2] * inverse, y4[WIDTH - 1] * inverse);
                }
            } else {
#pragma unroll
                for (unsigned i = 0; i < WIDTH; i++) {
                    if (column + i < dims.head_dim) {
                        to[column + i] = out[r][c][i] * inverse;
                    }
                }
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(128) forward_d16(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const int2* __restrict__ visible, float* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_tiles<16>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d32(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const int2* __restrict__ visible, float* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_tiles<32>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d64(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const int2* __restrict__ visible, float* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_tiles<64>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d96(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const int2* __restrict__ visible, float* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_tiles<96>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d128(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const int2* __restrict__ visible, float* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_tiles<128>(q, k, v, visible, o, lse, dims);
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

template <int D>
__device__ inline void forward_mma(const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const int2* __restrict__ visible,
                                   bf16* __restrict__ o, float* __restrict__ lse, const Dims& dims) {
    constexpr unsigned KEYS = D <= 64 ? 64 : 32;  // of a tile: two stages of K and V in 48 KiB
    constexpr unsigned TILE = KEYS * STRIDE<bf16, D>;
    __shared__ __align__(16) bf16 tiles[2][2 * TILE];  // per stage K, V

    // The last rows first: under a causal mask they have the most to do.
    const unsigned head = blockIdx.x % dims.heads;
    const unsigned kv_head = head / (dims.heads / dims.kv_heads);
    const unsigned first = (gridDim.x - 1 - blockIdx.x) / dims.heads * ROWS;
    const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const unsigned warp_row = threadIdx.x / 32 * 16;
    // exp(scale · s − …) = 2^(factor · s − …): one multiply-add per score. The maximum is taken of s itself, so the factor must not
    // be negative: its sign goes into Q.
    const float factor = fabsf(dims.scale) * LOG2E;
    const unsigned sign = dims.scale < 0.0f ? 0x80008000u : 0u;

    // 1. From the first key that one of the rows sees to the last: no other tile is touched. The same for the warp's 16 rows,
    //    and the keys that all of them see: tiles there need no mask.
    const uint2 all = seen_by<ROWS>(visible, first, dims);
    const unsigned lane_row = first + warp_row + lane % 16;
    const uint2 of_lane = interval(visible, lane_row, dims);
    const bool sees_some = of_lane.x < of_lane.y;
    const unsigned low = __reduce_min_sync(ALL, sees_some ? of_lane.x : dims.keys);
    const unsigned high = __reduce_max_sync(ALL, of_lane.y);
    const unsigned all_from = __reduce_max_sync(ALL, of_lane.x);
    const unsigned all_to = __reduce_min_sync(ALL, lane_row < dims.queries ? of_lane.y : dims.keys);
    const uint2 seen[2] = {interval(visible, first + warp_row + g, dims), interval(visible, first + warp_row + g + 8, dims)};

    float maximum[2] = {LOW, LOW};
    float total[2] = {};  // of this lane's columns
    float out[D / 8][4] = {};
    if (all.x < all.y) {
        // 2. The rows' queries go through the second stage into registers.
        unsigned query[D / 16][4];
        load_rows<bf16, D, ROWS>(tiles[1], q, first, dims.queries, dims.heads, head, dims.head_dim);
        load_rows<bf16, D, KEYS>(tiles[0], k, all.x, all.y, dims.kv_heads, kv_head, dims.head_dim);
        load_rows<bf16, D, KEYS>(tiles[0] + TILE, v, all.x, all.y, dims.kv_heads, kv_head, dims.head_dim);
        wait_for_copies();
        __syncthreads();
        left_operand<D>(query, tiles[1] + warp_row * STRIDE<bf16, D>, lane);
#pragma unroll
        for (unsigned c = 0; c < D / 16; c++) {
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                query[c][i] ^= sign;
            }
        }

        unsigned stage = 0;
        for (unsigned tile = all.x; tile < all.y; tile += KEYS, stage ^= 1) {
            // 3. This tile has arrived, and everyone has done with the other stage: the next tile may go there.
            wait_for_copies();
            __syncthreads();
            const bf16* k_tile = tiles[stage];
            const bf16* v_tile = tiles[stage] + TILE;
            if (tile + KEYS < all.y) {
                load_rows<bf16, D, KEYS>(tiles[stage ^ 1], k, tile + KEYS, all.y, dims.kv_heads, kv_head, dims.head_dim);
                load_rows<bf16, D, KEYS>(tiles[stage ^ 1] + TILE, v, tile + KEYS, all.y, dims.kv_heads, kv_head, dims.head_dim);
            }
            if (tile >= high || tile + KEYS <= low) {
                continue;  // nothing that this warp's rows see
            }

            // 4. Scores.
            float s[KEYS / 8][4] = {};
            times_transposed<D, KEYS>(s, query, k_tile, lane);

            // 5. Exponentials. The four lanes of a row share its maximum.
            const bool whole = tile >= all_from && tile + KEYS <= all_to;
            if (!whole) {
#pragma unroll
                for (unsigned j = 0; j < KEYS / 8; j++) {
#pragma unroll
                    for (unsigned i = 0; i < 4; i++) {
                        const uint2 row = seen[i / 2];
                        const bool inside = tile + j * 8 + 2 * t + i % 2 - row.x < row.y - row.x;
                        s[j][i] = inside ? s[j][i] : LOW;
                    }
                }
            }
            float rescale[2];
#pragma unroll
            for (unsigned r = 0; r < 2; r++) {
                float next = maximum[r];
#pragma unroll
                for (unsigned j = 0; j < KEYS / 8; j++) {
                    next = fmaxf(next, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
                }
                next = fmaxf(next, __shfl_xor_sync(ALL, next, 1));
                next = fmaxf(next, __shfl_xor_sync(ALL, next, 2));
                rescale[r] = exp2_fast((maximum[r] - next) * factor);
                maximum[r] = next;
                const float shift = next * factor;
                float sum = 0.0f;
#pragma unroll
                for (unsigned j = 0; j < KEYS / 8; j++) {
#pragma unroll
                    for (unsigned i = 2 * r; i < 2 * r + 2; i++) {
                        const float p = exp2_fast(fmaf(s[j][i], factor, -shift));
                        s[j][i] = !whole && s[j][i] == LOW ? 0.0f : p;
                        sum += s[j][i];
                    }
                }
                total[r] = fmaf(total[r], rescale[r], sum);
            }

            // 6. out = out · rescale + p · V. Once the maxima have settled there is nothing to rescale.
            if (__any_sync(ALL, rescale[0] != 1.0f || rescale[1] != 1.0f)) {
#pragma unroll
                for (unsigned c = 0; c < D / 8; c++) {
#pragma unroll
                    for (unsigned i = 0; i < 4; i++) {
                        out[c][i] *= rescale[i / 2];
                    }
                }
            }
#pragma unroll
            for (unsigned j = 0; j < KEYS / 16; j++) {
                unsigned p[4];
                left_operand(p, s[2 * j], s[2 * j + 1]);
                add_product<D>(out, p, v_tile + j * 16 * STRIDE<bf16, D>, lane);
            }
        }
    }

    // 7. Divide by the sums. The result leaves through shared memory, in 16-byte pieces.
    __syncthreads();
#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(ALL, total[r], 1);
        total[r] += __shfl_xor_sync(ALL, total[r], 2);
        const unsigned row = first + warp_row + g + 8 * r;
        const bool sees = seen[r].x < seen[r].y;
        const float inverse = sees ? 1.0f / total[r] : 0.0f;
        if (t == 0 && row < dims.queries) {
            lse[row * dims.heads + head] = sees ? maximum[r] * factor * LN2 + logf(total[r]) : LOW;
        }
#pragma unroll
        for (unsigned c = 0; c < D / 8; c++) {
            bf16* to = tiles[0] + (warp_row + g + 8 * r) * STRIDE<bf16, D> + c * 8 + 2 * t;
            *reinterpret_cast<unsigned*>(to) = pack(out[c][2 * r] * inverse, out[c][2 * r + 1] * inverse);
        }
    }
    __syncthreads();
    store_rows<D, ROWS>(tiles[0], o, first, dims.queries, dims.heads, head, dims.head_dim);
}

extern "C" __global__ void __launch_bounds__(128) forward_d16_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const int2* __restrict__ visible, bf16* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_mma<16>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d32_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const int2* __restrict__ visible, bf16* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_mma<32>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d64_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const int2* __restrict__ visible, bf16* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_mma<64>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d96_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const int2* __restrict__ visible, bf16* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_mma<96>(q, k, v, visible, o, lse, dims);
}

extern "C" __global__ void __launch_bounds__(128) forward_d128_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const int2* __restrict__ visible, bf16* __restrict__ o,
    float* __restrict__ lse, Dims dims) {
    forward_mma<128>(q, k, v, visible, o, lse, dims);
}

// ── Beside the ladder: weights to look at ────────────────────────────────────────────────────────────────────────────

// One weight, recomputed from the row's lse. A negative row is a large number, and not there either.
template <typename T>
__device__ inline void weight(const T* __restrict__ q, const T* __restrict__ k, const float* __restrict__ lse, const int2* __restrict__ visible,
                              const int* __restrict__ row, float* __restrict__ p, const Dims& dims) {
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    if (index >= dims.rows * dims.heads * dims.keys) {
        return;
    }
    const unsigned key = index % dims.keys;
    const unsigned head = index / dims.keys % dims.heads;
    const unsigned asked = row[index / dims.keys / dims.heads];
    const unsigned kv_head = head / (dims.heads / dims.kv_heads);
    const uint2 seen = interval(visible, asked, dims);
    float value = 0.0f;
    if (key >= seen.x && key < seen.y) {
        const T* query = q + (size_t)(asked * dims.heads + head) * dims.head_dim;
        const T* other = k + (size_t)(key * dims.kv_heads + kv_head) * dims.head_dim;
        float score = 0.0f;
        for (unsigned c = 0; c < dims.head_dim; c++) {
            score = fmaf(widen(query[c]), widen(other[c]), score);
        }
        value = exp2_fast((score * dims.scale - lse[asked * dims.heads + head]) * LOG2E);
    }
    p[index] = value;
}

extern "C" __global__ void __launch_bounds__(128) weights(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ lse, const int2* __restrict__ visible,
    const int* __restrict__ row, float* __restrict__ p, Dims dims) {
    weight(q, k, lse, visible, row, p, dims);
}

extern "C" __global__ void __launch_bounds__(128) weights_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const float* __restrict__ lse, const int2* __restrict__ visible,
    const int* __restrict__ row, float* __restrict__ p, Dims dims) {
    weight(q, k, lse, visible, row, p, dims);
}
