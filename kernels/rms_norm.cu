// rms_norm: y = s · r · w,   s = x (+ residual),   r = 1/sqrt(mean(s²) + eps), one row of C at a time.
//
// Backward.  With g = dy · w:   ds = r · (g − s · r² · mean(g · s)) (+ dresidual),   dw = Σ_rows dy · s · r.
//
// forward          block 256, 256 / row_threads rows per block, grid = ceil(rows · row_threads / 256): y and rstd, and the sum
//   0  x           [rows, C]         f32|bf16  read
//   1  residual    [rows, C]         f32|bf16  read (only if has_residual)
//   2  weight      [C]               f32|bf16  read
//   3  sum         [rows, C]         f32|bf16  overwritten (only if has_residual)
//   4  y           [rows, C]         f32|bf16  overwritten
//   5  rstd        [rows]            f32       overwritten (backward needs it)
//   6  dims        by value
// backward         block 256, 256 / row_threads rows per block, grid = ceil(rows · row_threads / 256): dx
//   0  dy          [rows, C]         f32|bf16  read
//   1  x           [rows, C]         f32|bf16  read (the sum, where forward had a residual)
//   2  weight      [C]               f32|bf16  read
//   3  rstd        [rows]            f32       read
//   4  dresidual   [rows, C]         f32|bf16  read (only if has_residual)
//   5  dx          [rows, C]         f32|bf16  overwritten
//   6  dims        by value
// dweight_partial  block 256, 64 columns of one range of rows per block, grid = ceil(C / 64) · parts: parts of dw
//   0  dy          [rows, C]         f32|bf16  read
//   1  x           [rows, C]         f32|bf16  read
//   2  rstd        [rows]            f32       read
//   3  partial     [parts, C]        f32       overwritten
//   4  dims        by value
// dweight_finish   block 64, one column per thread, grid = ceil(C / 64): dw += Σ of its parts
//   0  partial     [parts, C]        f32       read
//   1  dweight     [C]               f32       accumulated
//   2  dims        by value
//
// Each entry but the last is there twice: for f32, and with `_bf16` after its name for bf16, which is rounded once, when it is
// stored. Statistics and sums are f32 in both; what forward normalises is the sum before it was rounded.
// Precision: f32 statistics and sums in a fixed order, the same bits on every run.
// Limits: C ≥ 1. forward and backward: row_threads a power of two from 4 to 256. Traffic: forward 2 · rows · C elements (4 with a residual), backward
// 3 (4); bound by memory. So each thread reads and writes 16 bytes at a time (C a multiple of 4 in f32, of 8 in bf16; other
// rows are read element by element), and keeps 16 values of a row in registers between the two passes over it: a row of up to
// 16 · row_threads columns is read once, the rest of a longer one a second time, from the cache.
// Twin: shaders/rms_norm.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned rows;
    unsigned columns;      // C
    unsigned parts;        // row ranges of dweight_partial
    unsigned has_residual;
    float eps;
    unsigned row_threads;  // threads that share a row; short rows (QK-norm: C = head_dim) share a block
    unsigned padding0;
    unsigned padding1;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned KEPT = 16; // values of a row that a thread keeps in registers

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

// The columns that a thread takes in one step along a row: as many as 16 bytes hold. WIDE: neighbours, in one access, where all
// rows start at a multiple of 16 bytes; else every threads-th one, so that a warp still reads what lies together.
template <typename T, bool WIDE> struct Step {
    static constexpr unsigned N = 16 / sizeof(T);
    unsigned first, stride, end;

    __device__ __forceinline__ Step(unsigned step, unsigned lane, unsigned threads, unsigned columns)
        : first(step * threads * N + (WIDE ? lane * N : lane)), stride(WIDE ? 1 : threads), end(columns) {}

    // Columns past the end are 0.
    __device__ __forceinline__ void load(float (&values)[N], const T* row) const {
        if constexpr (WIDE) {
            unpack(values, first < end ? *reinterpret_cast<const uint4*>(row + first) : make_uint4(0, 0, 0, 0));
        } else {
#pragma unroll
            for (unsigned j = 0; j < N; ++j) {
                const unsigned column = first + j * stride;
                values[j] = column < end ? static_cast<float>(row[column]) : 0.0f;
            }
        }
    }

    __device__ __forceinline__ void store(T* row, const float (&values)[N]) const {
        if constexpr (WIDE) {
            if (first < end) {
                *reinterpret_cast<uint4*>(row + first) = pack(values);
            }
        } else {
#pragma unroll
            for (unsigned j = 0; j < N; ++j) {
                const unsigned column = first + j * stride;
                if (column < end) {
                    row[column] = static_cast<T>(values[j]);
                }
            }
        }
    }
};

// The sum of one value per thread of a row: in each warp by halving, then over the row's warps. The order depends on row_threads
// alone. Every thread gets it.
__device__ __forceinline__ float row_sum(float value, unsigned row_threads) {
    __shared__ float warps[BLOCK / 32];
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        if (width < row_threads) {
            value += __shfl_xor_sync(0xffffffffu, value, width);
        }
    }
    if (row_threads <= 32) {
        return value;
    }
    const unsigned warp = threadIdx.x / 32;
    if (threadIdx.x % 32 == 0) {
        warps[warp] = value;
    }
    __syncthreads();
    const unsigned row_warps = row_threads / 32;
    float total = 0.0f;
    for (unsigned w = 0; w < row_warps; ++w) {
        total += warps[warp - warp % row_warps + w];
    }
    return total;
}

template <typename T, bool WIDE>
__device__ __forceinline__ void forward_rows(const T* __restrict__ x, const T* __restrict__ residual, const T* __restrict__ weight,
                                             T* __restrict__ sum, T* __restrict__ y, float* __restrict__ rstd, const Dims& dims) {
    using Step = Step<T, WIDE>;
    constexpr unsigned STEPS = KEPT / Step::N;
    const unsigned lane = threadIdx.x % dims.row_threads;
    const unsigned row = blockIdx.x * (BLOCK / dims.row_threads) + threadIdx.x / dims.row_threads;
    // A row past the end has no columns: its threads only keep the others company in row_sum.
    const unsigned columns = row < dims.rows ? dims.columns : 0;
    const size_t base = static_cast<size_t>(row) * dims.columns;

    // 1. s and the sum of its squares.
    float squares = 0.0f;
    auto take = [&](const Step& step, float (&s)[Step::N]) {
        step.load(s, x + base);
        if (dims.has_residual) {
            float more[Step::N];
            step.load(more, residual + base);
#pragma unroll
            for (unsigned j = 0; j < Step::N; ++j) {
                s[j] += more[j];
            }
        }
    };
    auto square = [&](const Step& step, const float (&s)[Step::N]) {
        if (dims.has_residual) {
            step.store(sum + base, s);
        }
#pragma unroll
        for (unsigned j = 0; j < Step::N; ++j) {
            squares = fmaf(s[j], s[j], squares);
        }
    };
    float kept[STEPS][Step::N];
#pragma unroll
    for (unsigned step = 0; step < STEPS; ++step) {
        take(Step(step, lane, dims.row_threads, columns), kept[step]);
    }
#pragma unroll
    for (unsigned step = 0; step < STEPS; ++step) {
        square(Step(step, lane, dims.row_threads, columns), kept[step]);
    }
    for (unsigned step = STEPS; step * dims.row_threads * Step::N < columns; ++step) {
        float s[Step::N];
        take(Step(step, lane, dims.row_threads, columns), s);
        square(Step(step, lane, dims.row_threads, columns), s);
    }

    // 2. y.
    const float r = rsqrtf(row_sum(squares, dims.row_threads) / static_cast<float>(dims.columns) + dims.eps);
    auto put = [&](const Step& step, const float (&s)[Step::N]) {
        float w[Step::N], value[Step::N];
        step.load(w, weight);
#pragma unroll
        for (unsigned j = 0; j < Step::N; ++j) {
            value[j] = s[j] * r * w[j];
        }
        step.store(y + base, value);
    };
#pragma unroll
    for (unsigned step = 0; step < STEPS; ++step) {
        put(Step(step, lane, dims.row_threads, columns), kept[step]);
    }
    for (unsigned step = STEPS; step * dims.row_threads * Step::N < columns; ++step) {
        float s[Step::N];
        take(Step(step, lane, dims.row_threads, columns), s);
        put(Step(step, lane, dims.row_threads, columns), s);
    }
    if (lane == 0 && row < dims.rows) {
        rstd[row] = r;
    }
}

extern "C" __global__ void __launch_bounds__(256)
forward(const float* __restrict__ x, const float* __restrict__ residual, const float* __restrict__ weight, float* __restrict__ sum,
        float* __restrict__ y, float* __restrict__ rstd, const Dims dims) {
    if (dims.columns % 4 == 0) {
        forward_rows<float, true>(x, residual, weight, sum, y, rstd, dims);
    } else {
        forward_rows<float, false>(x, residual, weight, sum, y, rstd, dims);
    }
}

extern "C" __global__ void __launch_bounds__(256)
forward_bf16(const __nv_bfloat16* __restrict__ x, const __nv_bfloat16* __restrict__ residual, const __nv_bfloat16* __restrict__ weight,
             __nv_bfloat16* __restrict__ sum, __nv_bfloat16* __restrict__ y, float* __restrict__ rstd, const Dims dims) {
    if (dims.columns % 8 == 0) {
        forward_rows<__nv_bfloat16, true>(x, residual, weight, sum, y, rstd, dims);
    } else {
        forward_rows<__nv_bfloat16, false>(x, residual, weight, sum, y, rstd, dims);
    }
}

template <typename T, bool WIDE>
__device__ __forceinline__ void backward_rows(const T* __restrict__ dy, const T* __restrict__ x, const T* __restrict__ weight,
                                              const float* __restrict__ rstd, const T* __restrict__ dresidual, T* __restrict__ dx,
                                              const Dims& dims) {
    using Step = Step<T, WIDE>;
    constexpr unsigned STEPS = KEPT / Step::N;
    const unsigned lane = threadIdx.x % dims.row_threads;
    const unsigned row = blockIdx.x * (BLOCK / dims.row_threads) + threadIdx.x / dims.row_threads;
    const unsigned columns = row < dims.rows ? dims.columns : 0;
    const size_t base = static_cast<size_t>(row) * dims.columns;

    // 1. mean(g · s).
    float dot = 0.0f;
    auto take = [&](const Step& step, float (&g)[Step::N], float (&s)[Step::N]) {
        float w[Step::N];
        step.load(g, dy + base);
        step.load(s, x + base);
        step.load(w, weight);
#pragma unroll
        for (unsigned j = 0; j < Step::N; ++j) {
            g[j] *= w[j];
        }
    };
    auto multiply = [&](const float (&g)[Step::N], const float (&s)[Step::N]) {
#pragma unroll
        for (unsigned j = 0; j < Step::N; ++j) {
            dot = fmaf(g[j], s[j], dot);
        }
    };
    float kept_g[STEPS][Step::N], kept_s[STEPS][Step::N];
#pragma unroll
    for (unsigned step = 0; step < STEPS; ++step) {
        take(Step(step, lane, dims.row_threads, columns), kept_g[step], kept_s[step]);
    }
#pragma unroll
    for (unsigned step = 0; step < STEPS; ++step) {
        multiply(kept_g[step], kept_s[step]);
    }
    for (unsigned step = STEPS; step * dims.row_threads * Step::N < columns; ++step) {
        float g[Step::N], s[Step::N];
        take(Step(step, lane, dims.row_threads, columns), g, s);
        multiply(g, s);
    }
    const float mean = row_sum(dot, dims.row_threads) / static_cast<float>(dims.columns);
    if (columns == 0) {
        return;
    }

    // 2. dx.
    const float r = rstd[row];
    const float slope = r * r * mean;
    auto put = [&](const Step& step, const float (&g)[Step::N], const float (&s)[Step::N]) {
        float value[Step::N];
#pragma unroll
        for (unsigned j = 0; j < Step::N; ++j) {
            value[j] = r * (g[j] - s[j] * slope);
        }
        if (dims.has_residual) {
            float around[Step::N];
            step.load(around, dresidual + base);
#pragma unroll
            for (unsigned j = 0; j < Step::N; ++j) {
                value[j] += around[j];
            }
        }
        step.store(dx + base, value);
    };
#pragma unroll
    for (unsigned step = 0; step < STEPS; ++step) {
        put(Step(step, lane, dims.row_threads, columns), kept_g[step], kept_s[step]);
    }
    for (unsigned step = STEPS; step * dims.row_threads * Step::N < columns; ++step) {
        float g[Step::N], s[Step::N];
        take(Step(step, lane, dims.row_threads, columns), g, s);
        put(Step(step, lane, dims.row_threads, columns), g, s);
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward(const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ rstd,
         const float* __restrict__ dresidual, float* __restrict__ dx, const Dims dims) {
    if (dims.columns % 4 == 0) {
        backward_rows<float, true>(dy, x, weight, rstd, dresidual, dx, dims);
    } else {
        backward_rows<float, false>(dy, x, weight, rstd, dresidual, dx, dims);
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward_bf16(const __nv_bfloat16* __restrict__ dy, const __nv_bfloat16* __restrict__ x, const __nv_bfloat16* __restrict__ weight,
              const float* __restrict__ rstd, const __nv_bfloat16* __restrict__ dresidual, __nv_bfloat16* __restrict__ dx, const Dims dims) {
    if (dims.columns % 8 == 0) {
        backward_rows<__nv_bfloat16, true>(dy, x, weight, rstd, dresidual, dx, dims);
    } else {
        backward_rows<__nv_bfloat16, false>(dy, x, weight, rstd, dresidual, dx, dims);
    }
}

// 64 / N neighbouring threads read 64 columns of a row; the DOWN groups of them take every DOWN-th row, and are added at the end.
template <typename T, bool WIDE>
__device__ __forceinline__ void dweight_columns(const T* __restrict__ dy, const T* __restrict__ x, const float* __restrict__ rstd,
                                                float* __restrict__ partial, const Dims& dims) {
    using Step = Step<T, WIDE>;
    constexpr unsigned ACROSS = 64 / Step::N, DOWN = BLOCK / ACROSS;
    __shared__ float lanes[DOWN][64];
    const unsigned column_groups = (dims.columns + 63) / 64;
    const unsigned part = blockIdx.x / column_groups;
    const unsigned group = blockIdx.x % column_groups;
    const unsigned across = threadIdx.x % ACROSS, down = threadIdx.x / ACROSS;
    const Step step(group, across, ACROSS, dims.columns);
    const unsigned rows_per_part = (dims.rows + dims.parts - 1) / dims.parts;
    const unsigned end = min(dims.rows, (part + 1) * rows_per_part);

    float totals[Step::N] = {};
#pragma unroll 2
    for (unsigned row = part * rows_per_part + down; row < end; row += DOWN) {
        float g[Step::N], s[Step::N];
        step.load(g, dy + static_cast<size_t>(row) * dims.columns);
        step.load(s, x + static_cast<size_t>(row) * dims.columns);
        const float r = rstd[row];
#pragma unroll
        for (unsigned j = 0; j < Step::N; ++j) {
            totals[j] = fmaf(g[j], s[j] * r, totals[j]);
        }
    }
#pragma unroll
    for (unsigned j = 0; j < Step::N; ++j) {
        lanes[down][j * ACROSS + across] = totals[j]; // neighbouring threads in neighbouring banks
    }
    __syncthreads();
    const unsigned slot = threadIdx.x;
    const unsigned column = group * 64 + (WIDE ? slot % ACROSS * Step::N + slot / ACROSS : slot);
    if (slot < 64 && column < dims.columns) {
        float total = 0.0f;
#pragma unroll
        for (unsigned d = 0; d < DOWN; ++d) {
            total += lanes[d][slot];
        }
        partial[static_cast<size_t>(part) * dims.columns + column] = total;
    }
}

extern "C" __global__ void __launch_bounds__(256)
dweight_partial(const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ rstd, float* __restrict__ partial,
                const Dims dims) {
    if (dims.columns % 4 == 0) {
        dweight_columns<float, true>(dy, x, rstd, partial, dims);
    } else {
        dweight_columns<float, false>(dy, x, rstd, partial, dims);
    }
}

extern "C" __global__ void __launch_bounds__(256)
dweight_partial_bf16(const __nv_bfloat16* __restrict__ dy, const __nv_bfloat16* __restrict__ x, const float* __restrict__ rstd,
                     float* __restrict__ partial, const Dims dims) {
    if (dims.columns % 8 == 0) {
        dweight_columns<__nv_bfloat16, true>(dy, x, rstd, partial, dims);
    } else {
        dweight_columns<__nv_bfloat16, false>(dy, x, rstd, partial, dims);
    }
}

extern "C" __global__ void __launch_bounds__(64)
dweight_finish(const float* __restrict__ partial, float* __restrict__ dweight, const Dims dims) {
    const unsigned column = blockIdx.x * 64 + threadIdx.x;
    if (column >= dims.columns) {
        return;
    }
    float total = 0.0f;
#pragma unroll 8
    for (unsigned part = 0; part < dims.parts; ++part) {
        total += partial[static_cast<size_t>(part) * dims.columns + column];
    }
    dweight[column] += total;
}
