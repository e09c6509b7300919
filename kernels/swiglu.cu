// swiglu: y = silu(gate) · up,   silu(g) = g · σ(g),   σ(g) = 1 / (1 + e⁻ᵍ), element by element.
//
// Backward.  dgate = dy · up · σ · (1 + g · (1 − σ)),   dup = dy · g · σ.
//
// forward      block 256, 16 bytes per thread, grid = ceil(n / (256 · E)), E = 4 (f32) or 8 (bf16): y
//   0  gate    [n]  f32|bf16  read
//   1  up      [n]  f32|bf16  read
//   2  y       [n]  f32|bf16  overwritten
//   3  dims    by value
// backward     block 256, 16 bytes per thread, grid = ceil(n / (256 · E)), E = 4 (f32) or 8 (bf16): dgate and dup
//   0  gate    [n]  f32|bf16  read
//   1  up      [n]  f32|bf16  read
//   2  dy      [n]  f32|bf16  read
//   3  dgate   [n]  f32|bf16  overwritten
//   4  dup     [n]  f32|bf16  overwritten
//   5  dims    by value
//
// Each entry is there twice: for f32, and with `_bf16` after its name for bf16, which is rounded once, when it is stored.
// Precision: f32, the same bits on every run; bf16 is rounded once, when it is stored.
// Limits: n < 2³¹; buffers start at a multiple of 16 bytes. Traffic: forward 3 n elements, backward 5 n; bound by memory.
// Twin: shaders/swiglu.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned n;
    unsigned padding0;
    unsigned padding1;
    unsigned padding2;
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

// Elements i .. i + E of n: in one access, but for the few at the end.
template <typename T, unsigned E> __device__ __forceinline__ void load(float (&values)[E], const T* from, unsigned i, unsigned n) {
    if (i + E <= n) {
        unpack(values, *reinterpret_cast<const uint4*>(from + i));
    } else {
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            values[e] = i + e < n ? static_cast<float>(from[i + e]) : 0.0f;
        }
    }
}

template <typename T, unsigned E> __device__ __forceinline__ void store(T* to, const float (&values)[E], unsigned i, unsigned n) {
    if (i + E <= n) {
        *reinterpret_cast<uint4*>(to + i) = pack(values);
    } else {
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            if (i + e < n) {
                to[i + e] = static_cast<T>(values[e]);
            }
        }
    }
}

// e^−|g| never overflows, whatever g.
__device__ __forceinline__ float sigmoid(float g) {
    const float e = expf(-fabsf(g));
    return __fdividef(g >= 0.0f ? 1.0f : e, 1.0f + e); // the denominator is within [1, 2]: 2 ulp
}

template <typename T>
__device__ __forceinline__ void gated(const T* __restrict__ gate, const T* __restrict__ up, T* __restrict__ y, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    const unsigned i = (blockIdx.x * BLOCK + threadIdx.x) * E;
    if (i >= dims.n) {
        return;
    }
    float g[E], u[E], value[E];
    load(g, gate, i, dims.n);
    load(u, up, i, dims.n);
#pragma unroll
    for (unsigned e = 0; e < E; ++e) {
        value[e] = g[e] * sigmoid(g[e]) * u[e];
    }
    store(y, value, i, dims.n);
}

extern "C" __global__ void __launch_bounds__(256)
forward(const float* __restrict__ gate, const float* __restrict__ up, float* __restrict__ y, const Dims dims) {
    gated(gate, up, y, dims);
}

extern "C" __global__ void __launch_bounds__(256)
forward_bf16(const __nv_bfloat16* __restrict__ gate, const __nv_bfloat16* __restrict__ up, __nv_bfloat16* __restrict__ y, const Dims dims) {
    gated(gate, up, y, dims);
}

template <typename T>
__device__ __forceinline__ void gated_backward(const T* __restrict__ gate, const T* __restrict__ up, const T* __restrict__ dy,
                                               T* __restrict__ dgate, T* __restrict__ dup, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    const unsigned i = (blockIdx.x * BLOCK + threadIdx.x) * E;
    if (i >= dims.n) {
        return;
    }
    float g[E], u[E], d[E], d_gate[E], d_up[E];
    load(g, gate, i, dims.n);
    load(u, up, i, dims.n);
    load(d, dy, i, dims.n);
#pragma unroll
    for (unsigned e = 0; e < E; ++e) {
        const float s = sigmoid(g[e]);
        d_gate[e] = d[e] * u[e] * s * (1.0f + g[e] * (1.0f - s));
        d_up[e] = d[e] * g[e] * s;
    }
    store(dgate, d_gate, i, dims.n);
    store(dup, d_up, i, dims.n);
}

extern "C" __global__ void __launch_bounds__(256)
backward(const float* __restrict__ gate, const float* __restrict__ up, const float* __restrict__ dy, float* __restrict__ dgate,
         float* __restrict__ dup, const Dims dims) {
    gated_backward(gate, up, dy, dgate, dup, dims);
}

extern "C" __global__ void __launch_bounds__(256)
backward_bf16(const __nv_bfloat16* __restrict__ gate, const __nv_bfloat16* __restrict__ up, const __nv_bfloat16* __restrict__ dy,
              __nv_bfloat16* __restrict__ dgate, __nv_bfloat16* __restrict__ dup, const Dims dims) {
    gated_backward(gate, up, dy, dgate, dup, dims);
}
