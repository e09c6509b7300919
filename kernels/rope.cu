// rope: rotary position embedding, Hugging Face's rotate-half convention: column i of a head is paired with column
// i + d/2 (d = head_dim) and the pair is turned by the angle position · θ^(−2i/d):
//
//   y[i]       = x[i] · cos − x[i + d/2] · sin
//   y[i + d/2] = x[i + d/2] · cos + x[i] · sin
//
// Backward.  A rotation's transpose is its inverse: the same with −sin (dims.sign = −1).
//
// The ladder, in the order of this file, each rung one idea away from the last:
//   rung 1: scalar  rotate: one pair per thread.
//   rung 2: vec4    rotate_vec4: 16 bytes of both halves of a head per thread: E pairs.
//
// rotate         block 256, one pair per thread, grid = ceil(N · H · d/2 / 256): y
//   0  x         [N, H, d]       f32|bf16  read (backward: dy)
//   1  position  [N]             i32       read
//   2  table     [P, d/2, 2]     f32       read (cos, sin; computed in f64 on the host)
//   3  y         [N, H, d]       f32|bf16  overwritten (backward: dx)
//   4  dims      by value
// rotate_vec4    block 256, 16 bytes of both halves per thread (d a multiple of 2 · E), grid = ceil(N · H · d/2 / (256 · E)), E = 4 (f32) or 8 (bf16): y
//   0  x         [N, H, d]       f32|bf16  read (backward: dy)
//   1  position  [N]             i32       read
//   2  table     [P, d/2, 2]     f32       read
//   3  y         [N, H, d]       f32|bf16  overwritten (backward: dx)
//   4  dims      by value
//
// Each entry is there twice: for f32, and with `_bf16` after its name for bf16; angles and products are f32 in both.
// Precision: f32 products, the same bits on every run; the table comes from f64.
// Limits: d even, half = d/2, pairs = N · H · half, N · H · d < 2³¹; positions outside the table are clamped into it. Traffic: 2 · N · H · d elements; bound by
// memory (the heads of a row share its angles, which come from the cache).
// Twin: shaders/rope.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned pairs;     // all of them: N · H · d/2
    unsigned heads;     // H
    unsigned half;      // d/2
    unsigned positions; // P
    float sign;         // 1 forward, −1 backward
    unsigned rows;      // N
    unsigned head_dim;  // d
    unsigned padding;
};

constexpr unsigned BLOCK = 256;

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

// The row of the table for a head: that of its row's position.
__device__ __forceinline__ unsigned turn_of(const int* __restrict__ position, unsigned head, const Dims& dims) {
    return min(max(position[head / dims.heads], 0), static_cast<int>(dims.positions) - 1);
}

// ── rung 1: scalar: one pair per thread ──────────────────────────────────────────────────────────────────────────────

template <typename T>
__device__ __forceinline__ void rotate_pair(const T* __restrict__ x, const int* __restrict__ position, const float* __restrict__ table,
                                            T* __restrict__ y, const Dims& dims) {
    const unsigned pair = blockIdx.x * BLOCK + threadIdx.x;
    if (pair >= dims.pairs) {
        return;
    }
    const unsigned head = pair / dims.half; // n · H + h
    const unsigned i = pair % dims.half;
    const unsigned turn = turn_of(position, head, dims);
    const float2 angle = reinterpret_cast<const float2*>(table)[static_cast<size_t>(turn) * dims.half + i];
    const float cosine = angle.x, sine = angle.y * dims.sign;
    const unsigned low = head * 2 * dims.half + i;
    const unsigned high = low + dims.half;
    const float a = static_cast<float>(x[low]);
    const float b = static_cast<float>(x[high]);
    y[low] = static_cast<T>(a * cosine - b * sine);
    y[high] = static_cast<T>(b * cosine + a * sine);
}

extern "C" __global__ void __launch_bounds__(256)
rotate(const float* __restrict__ x, const int* __restrict__ position, const float* __restrict__ table, float* __restrict__ y,
       const Dims dims) {
    rotate_pair(x, position, table, y, dims);
}

extern "C" __global__ void __launch_bounds__(256)
rotate_bf16(const __nv_bfloat16* __restrict__ x, const int* __restrict__ position, const float* __restrict__ table,
            __nv_bfloat16* __restrict__ y, const Dims dims) {
    rotate_pair(x, position, table, y, dims);
}

// ── rung 2: vec4: 16 bytes of both halves per thread ─────────────────────────────────────────────────────────────────

template <typename T>
__device__ __forceinline__ void rotate_piece(const T* __restrict__ x, const int* __restrict__ position, const float* __restrict__ table,
                                             T* __restrict__ y, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    const unsigned piece = blockIdx.x * BLOCK + threadIdx.x;
    if (piece >= dims.pairs / E) {
        return;
    }
    const unsigned pieces = dims.half / E; // of one head's half
    const unsigned head = piece / pieces;
    const unsigned i = piece % pieces;
    const unsigned turn = turn_of(position, head, dims);
    // Two pairs' (cos, sin, cos, sin) per access.
    const float4* angles = reinterpret_cast<const float4*>(table) + (static_cast<size_t>(turn) * pieces + i) * (E / 2);
    const unsigned low = head * 2 * pieces + i;
    const unsigned high = low + pieces;
    float a[E], b[E];
    unpack(a, reinterpret_cast<const uint4*>(x)[low]);
    unpack(b, reinterpret_cast<const uint4*>(x)[high]);
    float y_low[E], y_high[E];
#pragma unroll
    for (unsigned e = 0; e < E; e += 2) {
        const float4 angle = angles[e / 2];
        const float first = angle.y * dims.sign, second = angle.w * dims.sign;
        y_low[e] = a[e] * angle.x - b[e] * first;
        y_high[e] = b[e] * angle.x + a[e] * first;
        y_low[e + 1] = a[e + 1] * angle.z - b[e + 1] * second;
        y_high[e + 1] = b[e + 1] * angle.z + a[e + 1] * second;
    }
    reinterpret_cast<uint4*>(y)[low] = pack(y_low);
    reinterpret_cast<uint4*>(y)[high] = pack(y_high);
}

extern "C" __global__ void __launch_bounds__(256)
rotate_vec4(const float* __restrict__ x, const int* __restrict__ position, const float* __restrict__ table, float* __restrict__ y,
            const Dims dims) {
    rotate_piece(x, position, table, y, dims);
}

extern "C" __global__ void __launch_bounds__(256)
rotate_vec4_bf16(const __nv_bfloat16* __restrict__ x, const int* __restrict__ position, const float* __restrict__ table,
                 __nv_bfloat16* __restrict__ y, const Dims dims) {
    rotate_piece(x, position, table, y, dims);
}
