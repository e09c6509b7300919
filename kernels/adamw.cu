// adamw: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), in PyTorch's form:
//
//   g ← g · min(1, max_norm / (norm + 10⁻⁶))                          (only if max_norm > 0)
//   p ← p · (1 − lr · weight_decay)
//   m ← m + (g − m) · (1 − β₁)
//   v ← β₂ · v + (1 − β₂) · g²
//   p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
//
// norm = √ Σ g² over every gradient of the model: partial sums per 4096 elements, then one block adds those in a fixed
// order. The norm stays on the device: the update reads it.
//
// squares        block 256, 4096 elements per block, grid = ceil(n / 4096), one launch per gradient: Σ g² of 4096 elements
//   0  grad      [n]       f32   read
//   1  partials  [ceil(n / 4096)]  f32  overwritten (from element offset of all the partial sums)
//   2  dims      by value (n and offset)
// global_norm    block 256, one block, grid = 1: norm = √ Σ parts
//   0  parts     [n]       f32   read
//   1  norm_out  [1]       f32   overwritten
//   2  dims      by value (n and offset)
// update         block 256, four elements per thread, grid = ceil(n / 1024): p, m and v, one step on
//   0  p         [n]       f32   updated
//   1  g         [n]       f32   read
//   2  m         [n]       f32   updated
//   3  v         [n]       f32   updated
//   4  coefficients  [8]   f32   read: one step's, in the order of `Coefficients`
//   5  clip_norm  [1]      f32   read (only if max_norm > 0 or has_loss)
//   6  loss      [1]       f32   read (only if has_loss): where it or the norm is not finite, nothing changes
//   7  copy      [n]       bf16  overwritten (only if has_copy): p, rounded to nearest even
//   8  dims      by value
//
// The coefficients lie in memory, not in the dims: they change from step to step, and a CUDA graph that replays the launches
// keeps their arguments. Elements from `decayed` on keep their weight: tensors that lie in one buffer, those that decay first, are
// one launch.
//
// In mixed precision p is the f32 master of the weights, and copy is what the other kernels read.
// Precision: f32; sums of squares in a fixed order, the same bits on every run. The copy is rounded to nearest even.
// Limits: n < 2³¹; buffers start at a multiple of 16 bytes. Traffic: update 28 n bytes (30 n with the copy); bound by memory.
// Twin: shaders/adamw.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned n;
    unsigned has_copy;
    unsigned has_loss;
    unsigned decayed;      // the first elements of p, which decay
    unsigned offset;       // of the partial sums of `squares`
    unsigned padding0;
    unsigned padding1;
    unsigned padding2;
};

struct Coefficients {
    float decay;           // 1 − lr · weight_decay
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float step_size;       // lr / (1 − β₁ᵗ)
    float correction2;     // √(1 − β₂ᵗ)
    float eps;
    float max_norm;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned CHUNK = 4096;

// The sum of one value per thread: in each warp by halving, then over the warps, always in the same order. Thread 0 gets it.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float warps[BLOCK / 32];
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, width);
    }
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = value;
    }
    __syncthreads();
    float total = 0.0f;
    if (threadIdx.x == 0) {
#pragma unroll
        for (unsigned w = 0; w < BLOCK / 32; ++w) {
            total += warps[w];
        }
    }
    return total;
}

extern "C" __global__ void __launch_bounds__(256)
squares(const float* __restrict__ grad, float* __restrict__ partials, const Dims dims) {
    const unsigned chunk = blockIdx.x;
    float sums[4] = {};
#pragma unroll
    for (unsigned round = 0; round < CHUNK / (4 * BLOCK); ++round) {
        const unsigned i = chunk * CHUNK + (round * BLOCK + threadIdx.x) * 4;
        if (i + 4 <= dims.n) {
            const float4 g = *reinterpret_cast<const float4*>(grad + i);
            sums[0] = fmaf(g.x, g.x, sums[0]);
            sums[1] = fmaf(g.y, g.y, sums[1]);
            sums[2] = fmaf(g.z, g.z, sums[2]);
            sums[3] = fmaf(g.w, g.w, sums[3]);
        } else {
#pragma unroll
            for (unsigned e = 0; e < 3; ++e) {
                const float g = i + e < dims.n ? grad[i + e] : 0.0f;
                sums[e] = fmaf(g, g, sums[e]);
            }
        }
    }
    const float total = block_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (threadIdx.x == 0) {
        partials[dims.offset + chunk] = total;
    }
}

extern "C" __global__ void __launch_bounds__(256)
global_norm(const float* __restrict__ parts, float* __restrict__ norm_out, const Dims dims) {
    float part = 0.0f;
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < dims.n; i += BLOCK) {
        part += parts[i];
    }
    const float total = block_sum(part);
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        norm_out[0] = sqrtf(total);
    }
}

// One element: p, m and v become the new ones.
__device__ __forceinline__ void step(float& p, float g, float& m, float& v, float clip, float decay, const Coefficients& c) {
    g *= clip;
    m += (g - m) * c.one_minus_beta1;
    v = c.beta2 * v + c.one_minus_beta2 * g * g;
    p = p * decay - c.step_size * m / (sqrtf(v) / c.correction2 + c.eps);
}

__device__ __forceinline__ bool is_finite(float x) {
    return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

extern "C" __global__ void __launch_bounds__(256)
update(float* __restrict__ p, const float* __restrict__ g, float* __restrict__ m, float* __restrict__ v,
       const float* __restrict__ coefficients, const float* __restrict__ clip_norm, const float* __restrict__ loss,
       __nv_bfloat16* __restrict__ copy, const Dims dims) {
    const unsigned i = (blockIdx.x * BLOCK + threadIdx.x) * 4;
    if (i >= dims.n) {
        return;
    }
    if (dims.has_loss && !(is_finite(loss[0]) && is_finite(clip_norm[0]))) {
        return;
    }
    const Coefficients c = {coefficients[0], coefficients[1], coefficients[2], coefficients[3],
                            coefficients[4], coefficients[5], coefficients[6], coefficients[7]};
    float clip = 1.0f;
    if (c.max_norm > 0.0f) {
        const float ratio = c.max_norm / (clip_norm[0] + 1e-6f);
        clip = ratio >= 1.0f ? 1.0f : ratio; // a norm that is NaN spreads, as torch's does
    }
    if (i + 4 <= dims.n) {
        float4 weight = *reinterpret_cast<const float4*>(p + i);
        const float4 gradient = *reinterpret_cast<const float4*>(g + i);
        float4 moment = *reinterpret_cast<const float4*>(m + i);
        float4 second = *reinterpret_cast<const float4*>(v + i);
        step(weight.x, gradient.x, moment.x, second.x, clip, i < dims.decayed ? c.decay : 1.0f, c);
        step(weight.y, gradient.y, moment.y, second.y, clip, i + 1 < dims.decayed ? c.decay : 1.0f, c);
        step(weight.z, gradient.z, moment.z, second.z, clip, i + 2 < dims.decayed ? c.decay : 1.0f, c);
        step(weight.w, gradient.w, moment.w, second.w, clip, i + 3 < dims.decayed ? c.decay : 1.0f, c);
        *reinterpret_cast<float4*>(p + i) = weight;
        *reinterpret_cast<float4*>(m + i) = moment;
        *reinterpret_cast<float4*>(v + i) = second;
        if (dims.has_copy) {
            const __nv_bfloat162 low = __floats2bfloat162_rn(weight.x, weight.y), high = __floats2bfloat162_rn(weight.z, weight.w);
            *reinterpret_cast<uint2*>(copy + i) = make_uint2(reinterpret_cast<const unsigned&>(low), reinterpret_cast<const unsigned&>(high));
        }
        return;
    }
    // Not unrolled: with several bodies ptxas spills on sm_90.
#pragma unroll 1
    for (unsigned e = i; e < dims.n; ++e) {
        float weight = p[e], moment = m[e], second = v[e];
        step(weight, g[e], moment, second, clip, e < dims.decayed ? c.decay : 1.0f, c);
        p[e] = weight;
        m[e] = moment;
        v[e] = second;
        if (dims.has_copy) {
            copy[e] = __float2bfloat16_rn(weight);
        }
    }
}
