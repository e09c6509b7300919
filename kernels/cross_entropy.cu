// cross_entropy: loss = weight · Σ_rows (lse − logits[target]),   lse = log Σ_v exp(logits[v]), over rows of V logits.
// Rows with target −1 do not count: their row_loss, lse and gradient are 0.
//
// Backward.  dlogits = weight · (exp(logits − lse) − [v = target]), in place.
//
// forward        block 256, 256 / row_threads rows per block, grid = ceil(M · row_threads / 256): row_loss and lse
//   0  logits    [M, V]  f32|bf16  read
//   1  goal      [M]     i32       read
//   2  row_loss  [M]     f32       overwritten
//   3  lse       [M]     f32       overwritten (backward needs it)
//   4  dims      by value
// total          block 256, one block, grid = 1: loss = weight · Σ row_loss
//   0  row_loss  [M]     f32       read
//   1  weight    [1]     f32       read
//   2  loss      [1]     f32       overwritten (added to if accumulate)
//   3  dims      by value
// backward       block 256, E elements per thread, grid = ceil(M · V / (256 · E)), E = 4 (f32) or 8 (bf16): dlogits
//   0  logits    [M, V]  f32|bf16  in place: becomes dlogits
//   1  goal      [M]     i32       read
//   2  lse       [M]     f32       read
//   3  weight    [1]     f32       read
//   4  dims      by value
//
// The weight (1 / the rows that count) lies in memory, not in the dims: it changes from step to step, and a CUDA graph that
// replays the launches keeps their arguments. With accumulate the rows of one loss may come in several chunks.
//
// forward and backward are there twice: for f32, and with `_bf16` after the name for bf16. Maxima, sums and the loss are f32 in
// both.
// Precision: maxima, sums and the loss are f32, in a fixed order, the same bits on every run; exp is ex2.approx.
// Limits: V ≥ 1, M · V < 2³¹. forward: row_threads a power of two from 4 to 256. A goal that is not below V counts as −1. Traffic: forward
// M · V elements (one read: maximum and sum are kept online), backward 2 · M · V; bound by memory. So each thread reads and
// writes 16 bytes at a time where V is a multiple of 4 (f32) or 8 (bf16), and an exponential is two instructions.
// Twin: shaders/cross_entropy.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned rows;        // M
    unsigned vocabulary;  // V
    unsigned parts;       // only WGSL's backward needs it
    unsigned accumulate;  // of total
    unsigned row_threads; // threads that share a row of forward
    unsigned padding0;
    unsigned padding1;
    unsigned padding2;
};

constexpr unsigned BLOCK = 256;
// Below every logit, and finite: the difference of two is a number.
constexpr float LOWEST = -1e30f;

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

// eˣ for x ≤ 0 as 2^(x · log₂ e), within 2 + |x| ulp: where x is far from 0, the result is next to nothing.
__device__ __forceinline__ float exponential(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.442695041f));
    return y;
}

// Online softmax: the running maximum, and the sum of exponentials below it.
struct Softmax {
    float top, total;

    __device__ __forceinline__ void join(const Softmax& other) {
        const float higher = fmaxf(top, other.top);
        total = total * exponential(top - higher) + other.total * exponential(other.top - higher);
        top = higher;
    }
};

template <typename T, bool WIDE>
__device__ __forceinline__ void forward_rows(const T* __restrict__ logits, const int* __restrict__ goal, float* __restrict__ row_loss,
                                             float* __restrict__ lse, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    __shared__ Softmax warps[BLOCK / 32];
    const unsigned threads = dims.row_threads;
    const unsigned lane = threadIdx.x % threads;
    const unsigned row = blockIdx.x * (BLOCK / threads) + threadIdx.x / threads;
    const unsigned answer = row < dims.rows ? static_cast<unsigned>(goal[row]) : dims.vocabulary; // −1 becomes a huge number
    const bool counts = answer < dims.vocabulary;
    // A row that does not count has no columns: its threads only keep the others company at shuffles and barriers.
    const unsigned columns = counts ? dims.vocabulary : 0;
    const T* from = logits + static_cast<size_t>(row) * dims.vocabulary;

    // 1. Online softmax, E columns at a time: E + 1 exponentials instead of 2 E. WIDE: neighbours, in one access, where all rows
    //    start at a multiple of 16 bytes; else every threads-th one, so that a warp still reads what lies together.
    Softmax softmax = {LOWEST, 0.0f};
    for (unsigned first = WIDE ? lane * E : lane; first < columns; first += threads * E) {
        float values[E];
        if constexpr (WIDE) {
            unpack(values, *reinterpret_cast<const uint4*>(from + first));
        } else {
#pragma unroll
            for (unsigned e = 0; e < E; ++e) {
                const unsigned column = first + e * threads;
                values[e] = column < columns ? static_cast<float>(from[column]) : LOWEST;
            }
        }
        float higher = softmax.top;
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            higher = fmaxf(higher, values[e]);
        }
        float sum = 0.0f;
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            sum += exponential(values[e] - higher);
        }
        softmax.total = softmax.total * exponential(softmax.top - higher) + sum;
        softmax.top = higher;
    }

    // 2. The same rule joins the threads' pairs: in each warp by halving, then over the row's warps.
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        if (width < threads) {
            softmax.join({__shfl_xor_sync(0xffffffffu, softmax.top, width), __shfl_xor_sync(0xffffffffu, softmax.total, width)});
        }
    }
    if (threads > 32) {
        const unsigned warp = threadIdx.x / 32;
        if (threadIdx.x % 32 == 0) {
            warps[warp] = softmax;
        }
        __syncthreads();
        if (lane == 0) {
            for (unsigned w = 1; w < threads / 32; ++w) {
                softmax.join(warps[warp + w]);
            }
        }
    }
    if (lane == 0 && row < dims.rows) {
        float found_loss = 0.0f, found_lse = 0.0f;
        if (counts) {
            const float logarithm = logf(softmax.total);
            found_lse = softmax.top + logarithm;
            // Not lse − logit: that would round the sum of two large numbers first.
            found_loss = (softmax.top - static_cast<float>(from[answer])) + logarithm;
        }
        row_loss[row] = found_loss;
        lse[row] = found_lse;
    }
}

extern "C" __global__ void __launch_bounds__(256)
forward(const float* __restrict__ logits, const int* __restrict__ goal, float* __restrict__ row_loss, float* __restrict__ lse,
        const Dims dims) {
    if (dims.vocabulary % 4 == 0) {
        forward_rows<float, true>(logits, goal, row_loss, lse, dims);
    } else {
        forward_rows<float, false>(logits, goal, row_loss, lse, dims);
    }
}

extern "C" __global__ void __launch_bounds__(256)
forward_bf16(const __nv_bfloat16* __restrict__ logits, const int* __restrict__ goal, float* __restrict__ row_loss, float* __restrict__ lse,
             const Dims dims) {
    if (dims.vocabulary % 8 == 0) {
        forward_rows<__nv_bfloat16, true>(logits, goal, row_loss, lse, dims);
    } else {
        forward_rows<__nv_bfloat16, false>(logits, goal, row_loss, lse, dims);
    }
}

extern "C" __global__ void __launch_bounds__(256)
total(const float* __restrict__ row_loss, const float* __restrict__ weight, float* __restrict__ loss, const Dims dims) {
    __shared__ float warps[BLOCK / 32];
    float part = 0.0f;
#pragma unroll 4
    for (unsigned row = threadIdx.x; row < dims.rows; row += BLOCK) {
        part += row_loss[row];
    }
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        part += __shfl_xor_sync(0xffffffffu, part, width);
    }
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = part;
    }
    __syncthreads();
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned w = 0; w < BLOCK / 32; ++w) {
            sum += warps[w];
        }
        const float part = weight[0] * sum;
        loss[0] = dims.accumulate ? loss[0] + part : part;
    }
}

__device__ __forceinline__ float gradient(float logit, unsigned column, unsigned answer, float log_sum_exp, float weight, const Dims& dims) {
    if (answer >= dims.vocabulary) {
        return 0.0f; // the row does not count
    }
    return weight * (exponential(logit - log_sum_exp) - (column == answer ? 1.0f : 0.0f));
}

// All rows start at a multiple of 16 bytes: a thread takes E neighbours, all of one row.
template <typename T>
__device__ __forceinline__ void backward_wide(T* __restrict__ logits, const int* __restrict__ goal, const float* __restrict__ lse,
                                              const float* __restrict__ weight, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    const unsigned pieces = dims.vocabulary / E;
    const unsigned row = index / pieces;
    if (row >= dims.rows) {
        return;
    }
    const unsigned column = index % pieces * E;
    const unsigned answer = static_cast<unsigned>(goal[row]);
    const float log_sum_exp = lse[row], scale = weight[0];
    uint4* at = reinterpret_cast<uint4*>(logits) + index;
    float values[E];
    unpack(values, *at);
#pragma unroll
    for (unsigned e = 0; e < E; ++e) {
        values[e] = gradient(values[e], column + e, answer, log_sum_exp, scale, dims);
    }
    *at = pack(values);
}

// Any other rows: a thread takes every 256th element of its block's.
template <typename T>
__device__ __forceinline__ void backward_narrow(T* __restrict__ logits, const int* __restrict__ goal, const float* __restrict__ lse,
                                                const float* __restrict__ weight, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    const unsigned elements = dims.rows * dims.vocabulary;
    const float scale = weight[0];
#pragma unroll
    for (unsigned e = 0; e < E; ++e) {
        const unsigned index = (blockIdx.x * E + e) * BLOCK + threadIdx.x;
        if (index < elements) {
            const unsigned row = index / dims.vocabulary;
            const float logit = static_cast<float>(logits[index]);
            const unsigned answer = static_cast<unsigned>(goal[row]);
            logits[index] = static_cast<T>(gradient(logit, index % dims.vocabulary, answer, lse[row], scale, dims));
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward(float* __restrict__ logits, const int* __restrict__ goal, const float* __restrict__ lse, const float* __restrict__ weight,
         const Dims dims) {
    if (dims.vocabulary % 4 == 0) {
        backward_wide(logits, goal, lse, weight, dims);
    } else {
        backward_narrow(logits, goal, lse, weight, dims);
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward_bf16(__nv_bfloat16* __restrict__ logits, const int* __restrict__ goal, const float* __restrict__ lse, const float* __restrict__ weight,
              const Dims dims) {
    if (dims.vocabulary % 8 == 0) {
        backward_wide(logits, goal, lse, weight, dims);
    } else {
        backward_narrow(logits, goal, lse, weight, dims);
    }
}
