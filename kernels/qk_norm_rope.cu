// qk_norm_rope: what queries and keys go through between their projection and attention, each head of d columns by itself:
// RMSNorm, then the rotation of column i with column i + d/2 by the angle position · θ^(−2i/d) (rotate-half):
//
//   n = x · r · w,   r = 1/sqrt(mean(x²) + eps)
//   y[i]       = n[i] · cos − n[i + d/2] · sin
//   y[i + d/2] = n[i + d/2] · cos + n[i] · sin
//
// Backward.  The rotation's transpose is its inverse, then RMSNorm's:
//
//   dn[i]       = dy[i] · cos + dy[i + d/2] · sin
//   dn[i + d/2] = dy[i + d/2] · cos − dy[i] · sin
//   dx = r · (g − x · r² · mean(g · x)) with g = dn · w,   dw = Σ_heads dn · x · r
//
// The ladder, in the order of this file:
//   rung 1: naive   one head per thread, one column after the other.
//   rung 2: shared  forward and backward: head_threads threads share a head.
//   beside it       dweight_finish adds up the parts of dw that either rung leaves.
//
// forward_naive   block 256, one head per thread, grid = ceil(N · H / 256): y and rstd
//   0  x          [N, H, d]     f32|bf16  read
//   1  weight     [d]           f32|bf16  read
//   2  position   [N]           i32       read
//   3  table      [P, d/2, 2]   f32       read
//   4  y          [N, H, d]     f32|bf16  overwritten
//   5  rstd       [N, H]        f32       overwritten
//   6  dims       by value
// forward         block 256, 256 / head_threads heads per block, grid = ceil(N · H · head_threads / 256), E = 4 (f32) or 8 (bf16): y and rstd
//   0  x          [N, H, d]     f32|bf16  read
//   1  weight     [d]           f32|bf16  read
//   2  position   [N]           i32       read
//   3  table      [P, d/2, 2]   f32       read (cos, sin; computed in f64 on the host)
//   4  y          [N, H, d]     f32|bf16  overwritten
//   5  rstd       [N, H]        f32       overwritten (backward needs it)
//   6  dims       by value
// dweight_naive   block 64, one pair of columns of one range of heads per thread, grid = ceil(d/2 / 64) · parts: parts of dw
//   0  x          [N, H, d]     f32|bf16  read
//   1  rstd       [N, H]        f32       read
//   2  position   [N]           i32       read
//   3  table      [P, d/2, 2]   f32       read
//   4  gradient   [N, H, d]     f32|bf16  read (dy: before backward_naive)
//   5  partial    [parts, d]    f32       overwritten
//   6  dims       by value
// backward_naive  block 256, one head per thread, grid = ceil(N · H / 256): dx
//   0  x          [N, H, d]     f32|bf16  read
//   1  weight     [d]           f32|bf16  read
//   2  rstd       [N, H]        f32       read
//   3  position   [N]           i32       read
//   4  table      [P, d/2, 2]   f32       read
//   5  gradient   [N, H, d]     f32|bf16  in place: dy becomes dx
//   6  dims       by value
// backward        block 256, one range of heads per block, 256 / head_threads at a time, grid = parts, E = 4 (f32) or 8 (bf16): dx and parts of dw
//   0  x          [N, H, d]     f32|bf16  read
//   1  weight     [d]           f32|bf16  read
//   2  rstd       [N, H]        f32       read
//   3  position   [N]           i32       read
//   4  table      [P, d/2, 2]   f32       read
//   5  gradient   [N, H, d]     f32|bf16  in place: dy becomes dx
//   6  partial    [parts, d]    f32       overwritten
//   7  dims       by value
// dweight_finish  block 256, 16 columns × 16 lanes over the parts, grid = ceil(d / 16): dw += Σ of its parts
//   0  partial    [parts, d]    f32       read
//   1  dweight    [d]           f32       accumulated
//   2  dims       by value
//
// Each entry but the last is there twice: for f32, and with `_bf16` after its name for bf16, which is rounded once, when it is
// stored. Statistics, angles, products and sums are f32 in both.
// Precision: f32 statistics and sums in a fixed order, the same bits on every run; the table comes from f64.
// Limits: d even, half = d/2, N · H · d < 2³¹; positions outside the table are clamped into it. forward and backward: d/2 a multiple of E, the
// elements of 16 bytes (4 in f32, 8 in bf16), head_threads a power of two up to 32 and at least d/2 / E, so d ≤ 64 · E. Traffic:
// forward 2 · N · H · d elements, backward 3; bound by memory. So a thread holds 16 bytes of both halves of a head, which it reads
// once, and in backward the weight and the sums for dw of its columns all along its range of heads.
// Twin: shaders/qk_norm_rope.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned rows;         // N
    unsigned heads;        // H
    unsigned head_dim;     // d
    unsigned half;         // d/2
    unsigned positions;    // P
    unsigned parts;        // ranges of the N · H heads that dw is summed over apart
    float eps;
    unsigned head_threads; // threads that share a head
};

constexpr unsigned BLOCK = 256;
constexpr unsigned FULL = 0xffffffffu; // all lanes of a warp

__device__ __forceinline__ unsigned all_heads(const Dims& dims) { return dims.rows * dims.heads; }

// The angles of a head: those of its row's position.
__device__ __forceinline__ const float2* angles_of(const int* __restrict__ position, const float* __restrict__ table, unsigned head, const Dims& dims) {
    const unsigned turn = min(max(position[head / dims.heads], 0), static_cast<int>(dims.positions) - 1);
    return reinterpret_cast<const float2*>(table) + static_cast<size_t>(turn) * dims.half;
}

// ── rung 1: naive: one head per thread ───────────────────────────────────────────────────────────────────────────────

template <typename T>
__device__ __forceinline__ void forward_head(const T* __restrict__ x, const T* __restrict__ weight, const int* __restrict__ position,
                                             const float* __restrict__ table, T* __restrict__ y, float* __restrict__ rstd, const Dims& dims) {
    const unsigned head = blockIdx.x * BLOCK + threadIdx.x;
    if (head >= all_heads(dims)) {
        return;
    }
    const size_t base = static_cast<size_t>(head) * dims.head_dim;
    float squares = 0.0f;
    for (unsigned c = 0; c < dims.head_dim; ++c) {
        const float value = static_cast<float>(x[base + c]);
        squares = fmaf(value, value, squares);
    }
    const float r = rsqrtf(squares / static_cast<float>(dims.head_dim) + dims.eps);
    const float2* angles = angles_of(position, table, head, dims);
    for (unsigned i = 0; i < dims.half; ++i) {
        const float cosine = angles[i].x, sine = angles[i].y;
        const float a = static_cast<float>(x[base + i]) * r * static_cast<float>(weight[i]);
        const float b = static_cast<float>(x[base + dims.half + i]) * r * static_cast<float>(weight[dims.half + i]);
        y[base + i] = static_cast<T>(a * cosine - b * sine);
        y[base + dims.half + i] = static_cast<T>(b * cosine + a * sine);
    }
    rstd[head] = r;
}

extern "C" __global__ void __launch_bounds__(256)
forward_naive(const float* __restrict__ x, const float* __restrict__ weight, const int* __restrict__ position, const float* __restrict__ table,
              float* __restrict__ y, float* __restrict__ rstd, const Dims dims) {
    forward_head(x, weight, position, table, y, rstd, dims);
}

extern "C" __global__ void __launch_bounds__(256)
forward_naive_bf16(const __nv_bfloat16* __restrict__ x, const __nv_bfloat16* __restrict__ weight, const int* __restrict__ position,
                   const float* __restrict__ table, __nv_bfloat16* __restrict__ y, float* __restrict__ rstd, const Dims dims) {
    forward_head(x, weight, position, table, y, rstd, dims);
}

template <typename T>
__device__ __forceinline__ void dweight_pair(const T* __restrict__ x, const float* __restrict__ rstd, const int* __restrict__ position,
                                             const float* __restrict__ table, const T* __restrict__ gradient, float* __restrict__ partial,
                                             const Dims& dims) {
    const unsigned column_groups = (dims.half + 63) / 64;
    const unsigned part = blockIdx.x / column_groups;
    const unsigned i = blockIdx.x % column_groups * 64 + threadIdx.x;
    if (i >= dims.half) {
        return;
    }
    const unsigned per_part = (all_heads(dims) + dims.parts - 1) / dims.parts;
    const unsigned end = min(all_heads(dims), (part + 1) * per_part);
    float low = 0.0f, high = 0.0f;
    for (unsigned head = part * per_part; head < end; ++head) {
        const size_t base = static_cast<size_t>(head) * dims.head_dim;
        const float2 angle = angles_of(position, table, head, dims)[i];
        const float a = static_cast<float>(gradient[base + i]);
        const float b = static_cast<float>(gradient[base + dims.half + i]);
        low = fmaf(a * angle.x + b * angle.y, static_cast<float>(x[base + i]) * rstd[head], low);
        high = fmaf(b * angle.x - a * angle.y, static_cast<float>(x[base + dims.half + i]) * rstd[head], high);
    }
    const size_t to = static_cast<size_t>(part) * dims.head_dim;
    partial[to + i] = low;
    partial[to + dims.half + i] = high;
}

extern "C" __global__ void __launch_bounds__(64)
dweight_naive(const float* __restrict__ x, const float* __restrict__ rstd, const int* __restrict__ position, const float* __restrict__ table,
              const float* __restrict__ gradient, float* __restrict__ partial, const Dims dims) {
    dweight_pair(x, rstd, position, table, gradient, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64)
dweight_naive_bf16(const __nv_bfloat16* __restrict__ x, const float* __restrict__ rstd, const int* __restrict__ position,
                   const float* __restrict__ table, const __nv_bfloat16* __restrict__ gradient, float* __restrict__ partial, const Dims dims) {
    dweight_pair(x, rstd, position, table, gradient, partial, dims);
}

template <typename T>
__device__ __forceinline__ void backward_head(const T* __restrict__ x, const T* __restrict__ weight, const float* __restrict__ rstd,
                                              const int* __restrict__ position, const float* __restrict__ table, T* __restrict__ gradient,
                                              const Dims& dims) {
    const unsigned head = blockIdx.x * BLOCK + threadIdx.x;
    if (head >= all_heads(dims)) {
        return;
    }
    const T* s = x + static_cast<size_t>(head) * dims.head_dim;
    T* d = gradient + static_cast<size_t>(head) * dims.head_dim;
    const float2* angles = angles_of(position, table, head, dims);
    // g of a pair of columns.
    auto pair = [&](unsigned i, float& low, float& high) {
        const float a = static_cast<float>(d[i]), b = static_cast<float>(d[dims.half + i]);
        low = (a * angles[i].x + b * angles[i].y) * static_cast<float>(weight[i]);
        high = (b * angles[i].x - a * angles[i].y) * static_cast<float>(weight[dims.half + i]);
    };
    float sum = 0.0f;
    for (unsigned i = 0; i < dims.half; ++i) {
        float low, high;
        pair(i, low, high);
        sum = fmaf(low, static_cast<float>(s[i]), fmaf(high, static_cast<float>(s[dims.half + i]), sum));
    }
    const float r = rstd[head];
    const float slope = r * r * (sum / static_cast<float>(dims.head_dim));
    for (unsigned i = 0; i < dims.half; ++i) {
        float low, high;
        pair(i, low, high);
        d[i] = static_cast<T>(r * (low - static_cast<float>(s[i]) * slope));
        d[dims.half + i] = static_cast<T>(r * (high - static_cast<float>(s[dims.half + i]) * slope));
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward_naive(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ rstd, const int* __restrict__ position,
               const float* __restrict__ table, float* __restrict__ gradient, const Dims dims) {
    backward_head(x, weight, rstd, position, table, gradient, dims);
}

extern "C" __global__ void __launch_bounds__(256)
backward_naive_bf16(const __nv_bfloat16* __restrict__ x, const __nv_bfloat16* __restrict__ weight, const float* __restrict__ rstd,
                    const int* __restrict__ position, const float* __restrict__ table, __nv_bfloat16* __restrict__ gradient, const Dims dims) {
    backward_head(x, weight, rstd, position, table, gradient, dims);
}

// ── rung 2: shared: threads share a head ─────────────────────────────────────────────────────────────────────────────

// ┌ the same in cross_entropy.cu, qk_norm_rope.cu, rms_norm.cu, rope.cu, swiglu.cu: 16 bytes as floats
__device__ __forceinline__ void unpack(float (&values)[4], uint4 bits) {
    values[0] = __uint_as_float(bits.x);
    values[1] = __uint_as_float(bits.y);
    values[2] = __uint_as_float(bits.z);
    values[3] = __uint_as_float(bits.w);
}

// A bf16 is the upper half of an f32.
__device__ __forceinline__ void unpack(float (&values)[8], uint4 bits) {
    const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        values[2 * i] = __uint_as_float(words[i] << 16);
        values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ uint4 pack(const float (&values)[4]) {
    return make_uint4(__float_as_uint(values[0]), __float_as_uint(values[1]), __float_as_uint(values[2]), __float_as_uint(values[3]));
}

__device__ __forceinline__ uint4 pack(const float (&values)[8]) {
    unsigned words[4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
        words[i] = reinterpret_cast<const unsigned&>(pair);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}
// └ the same up to here: 16 bytes as floats

__device__ __forceinline__ void turn(float& low, float& high, float cosine, float sine) {
    const float a = low, b = high;
    low = a * cosine - b * sine;
    high = b * cosine + a * sine;
}

// The part of a head that a thread holds: E columns of the lower half and the E columns that they are paired with.
template <typename T> struct Piece {
    static constexpr unsigned E = 16 / sizeof(T);
    float low[E], high[E];

    __device__ __forceinline__ void load(const T* head, unsigned first, unsigned half) {
        unpack(low, *reinterpret_cast<const uint4*>(head + first));
        unpack(high, *reinterpret_cast<const uint4*>(head + first + half));
    }

    __device__ __forceinline__ void store(T* head, unsigned first, unsigned half) const {
        *reinterpret_cast<uint4*>(head + first) = pack(low);
        *reinterpret_cast<uint4*>(head + first + half) = pack(high);
    }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            low[e] = 0.0f;
            high[e] = 0.0f;
        }
    }

    // Turned by the angles, or back by them (sign −1). Two pairs' (cos, sin, cos, sin) per access.
    __device__ __forceinline__ void rotate(const float2* angles, float sign) {
#pragma unroll
        for (unsigned e = 0; e < E; e += 2) {
            const float4 angle = reinterpret_cast<const float4*>(angles)[e / 2];
            turn(low[e], high[e], angle.x, angle.y * sign);
            turn(low[e + 1], high[e + 1], angle.z, angle.w * sign);
        }
    }
};

template <typename T> __device__ __forceinline__ float dot(const Piece<T>& a, const Piece<T>& b) {
    float sum = 0.0f;
#pragma unroll
    for (unsigned e = 0; e < Piece<T>::E; ++e) {
        sum = fmaf(a.low[e], b.low[e], fmaf(a.high[e], b.high[e], sum));
    }
    return sum;
}

// The sum of one value per thread of a head, by halving: the order depends on head_threads alone. Every thread gets it.
__device__ __forceinline__ float head_sum(float value, unsigned head_threads) {
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        if (width < head_threads) {
            value += __shfl_xor_sync(FULL, value, width);
        }
    }
    return value;
}

template <typename T>
__device__ __forceinline__ void forward_heads(const T* __restrict__ x, const T* __restrict__ weight, const int* __restrict__ position,
                                              const float* __restrict__ table, T* __restrict__ y, float* __restrict__ rstd, const Dims& dims) {
    constexpr unsigned E = Piece<T>::E;
    const unsigned first = threadIdx.x % dims.head_threads * E; // column
    const unsigned head = blockIdx.x * (BLOCK / dims.head_threads) + threadIdx.x / dims.head_threads;
    const bool there = head < all_heads(dims) && first < dims.half; // else the thread only keeps the others company in head_sum
    const size_t base = static_cast<size_t>(head) * dims.head_dim;

    const float share = 1.0f / static_cast<float>(dims.head_dim); // early: ptxas makes a call of a division, across which it would spill
    Piece<T> piece;
    piece.clear();
    if (there) {
        piece.load(x + base, first, dims.half);
    }
    const float squares = head_sum(dot(piece, piece), dims.head_threads);
    if (!there) {
        return;
    }
    const float r = rsqrtf(squares * share + dims.eps);
    auto scale = [&](float (&values)[E], const T* columns) {
        float w[E];
        unpack(w, *reinterpret_cast<const uint4*>(columns));
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            values[e] *= r * w[e];
        }
    };
    scale(piece.low, weight + first);
    scale(piece.high, weight + first + dims.half);
    piece.rotate(angles_of(position, table, head, dims) + first, 1.0f);
    piece.store(y + base, first, dims.half);
    if (first == 0) {
        rstd[head] = r;
    }
}

extern "C" __global__ void __launch_bounds__(256)
forward(const float* __restrict__ x, const float* __restrict__ weight, const int* __restrict__ position, const float* __restrict__ table,
        float* __restrict__ y, float* __restrict__ rstd, const Dims dims) {
    forward_heads(x, weight, position, table, y, rstd, dims);
}

extern "C" __global__ void __launch_bounds__(256)
forward_bf16(const __nv_bfloat16* __restrict__ x, const __nv_bfloat16* __restrict__ weight, const int* __restrict__ position,
             const float* __restrict__ table, __nv_bfloat16* __restrict__ y, float* __restrict__ rstd, const Dims dims) {
    forward_heads(x, weight, position, table, y, rstd, dims);
}

template <typename T>
__device__ __forceinline__ void backward_heads(const T* __restrict__ x, const T* __restrict__ weight, const float* __restrict__ rstd,
                                               const int* __restrict__ position, const float* __restrict__ table, T* __restrict__ gradient,
                                               float* __restrict__ partial, const Dims& dims) {
    constexpr unsigned E = Piece<T>::E;
    __shared__ float warp_sums[BLOCK / 32][2 * E][32];
    const unsigned lane = threadIdx.x % dims.head_threads;
    const unsigned first = lane * E; // column
    const unsigned per_part = (all_heads(dims) + dims.parts - 1) / dims.parts;
    const unsigned end = min(all_heads(dims), (blockIdx.x + 1) * per_part);

    Piece<T> w, dw;
    w.clear();
    dw.clear();
    if (first < dims.half) {
        w.load(weight, first, dims.half);
    }
    // 1. dx of 256 / head_threads heads at a time. All threads stay together: head_sum needs them.
    for (unsigned group = blockIdx.x * per_part; group < end; group += BLOCK / dims.head_threads) {
        const unsigned head = group + threadIdx.x / dims.head_threads;
        const bool there = head < end && first < dims.half;
        const size_t base = static_cast<size_t>(head) * dims.head_dim;
        Piece<T> s, g;
        s.clear();
        g.clear();
        float r = 0.0f;
        if (there) {
            s.load(x + base, first, dims.half);
            g.load(gradient + base, first, dims.half);
            g.rotate(angles_of(position, table, head, dims) + first, -1.0f);
            r = rstd[head];
        }
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            dw.low[e] = fmaf(g.low[e], s.low[e] * r, dw.low[e]);
            dw.high[e] = fmaf(g.high[e], s.high[e] * r, dw.high[e]);
            g.low[e] *= w.low[e];
            g.high[e] *= w.high[e];
        }
        const float mean = head_sum(dot(g, s), dims.head_threads) / static_cast<float>(dims.head_dim);
        if (there) {
            const float slope = r * r * mean;
#pragma unroll
            for (unsigned e = 0; e < E; ++e) {
                g.low[e] = r * (g.low[e] - s.low[e] * slope);
                g.high[e] = r * (g.high[e] - s.high[e] * slope);
            }
            g.store(gradient + base, first, dims.half);
        }
    }

    // 2. dw of the range: over the threads of a warp that hold the same columns, then over the warps.
#pragma unroll
    for (unsigned e = 0; e < E; ++e) {
        for (unsigned width = 16; width >= dims.head_threads; width /= 2) {
            dw.low[e] += __shfl_xor_sync(FULL, dw.low[e], width);
            dw.high[e] += __shfl_xor_sync(FULL, dw.high[e], width);
        }
        if (threadIdx.x % 32 < dims.head_threads) {
            warp_sums[threadIdx.x / 32][e][lane] = dw.low[e];
            warp_sums[threadIdx.x / 32][E + e][lane] = dw.high[e];
        }
    }
    __syncthreads();
    for (unsigned column = threadIdx.x; column < dims.head_dim; column += BLOCK) {
        const unsigned i = column % dims.half;
        const unsigned slot = i % E + (column < dims.half ? 0 : E);
        float total = 0.0f;
#pragma unroll
        for (unsigned warp = 0; warp < BLOCK / 32; ++warp) {
            total += warp_sums[warp][slot][i / E];
        }
        partial[static_cast<size_t>(blockIdx.x) * dims.head_dim + column] = total;
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ rstd, const int* __restrict__ position,
         const float* __restrict__ table, float* __restrict__ gradient, float* __restrict__ partial, const Dims dims) {
    backward_heads(x, weight, rstd, position, table, gradient, partial, dims);
}

extern "C" __global__ void __launch_bounds__(256)
backward_bf16(const __nv_bfloat16* __restrict__ x, const __nv_bfloat16* __restrict__ weight, const float* __restrict__ rstd,
              const int* __restrict__ position, const float* __restrict__ table, __nv_bfloat16* __restrict__ gradient,
              float* __restrict__ partial, const Dims dims) {
    backward_heads(x, weight, rstd, position, table, gradient, partial, dims);
}

// ── Beside the ladder: the second pass of dw ─────────────────────────────────────────────────────────────────────────

extern "C" __global__ void __launch_bounds__(256)
dweight_finish(const float* __restrict__ partial, float* __restrict__ dweight, const Dims dims) {
    __shared__ float lanes[16][16];
    const unsigned across = threadIdx.x % 16, down = threadIdx.x / 16;
    const unsigned column = blockIdx.x * 16 + across;
    float total = 0.0f;
    if (column < dims.head_dim) {
#pragma unroll 4
        for (unsigned part = down; part < dims.parts; part += 16) {
            total += partial[static_cast<size_t>(part) * dims.head_dim + column];
        }
    }
    lanes[down][across] = total;
    __syncthreads();
    if (down == 0 && column < dims.head_dim) {
        total = 0.0f;
#pragma unroll
        for (unsigned lane = 0; lane < 16; ++lane) {
            total += lanes[lane][across];
        }
        dweight[column] += total;
    }
}
