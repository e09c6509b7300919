// conv2d: z[b, y, x] = bias + Σ_{i, ky, kx} W[:, i, ky, kx] · in[b, y·stride + ky − 1, x·stride + kx − 1, i],   y = gelu(z) = z · (1 + erf(z/√2)) / 2.
//
// 3 × 3 taps, one pixel of zeros on every side, stride 1 or 2, H' = ceil(H / stride) and W' = ceil(W / stride) pixels out. Pixels
// are rows and channels are contiguous; K is numbered as in the weight, k = i · 9 + tap, tap = ky · 3 + kx; but in the parts of dW
// it is tap · in + i, so that what lies side by side there does so in the picture too.
// Names: M = B · H' · W'; K = 9 · in.
//
// Backward.  dz = dy · gelu'(z), gelu'(z) = (1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π), then three implicit GEMMs that gather:
//   dW = Σ_m dz[m]ᵀ in[m],   db = Σ_m dz[m],
//   dx[b, v, u] = Σ_{ky, kx} W[:, :, ky, kx]ᵀ dz[b, (v + 1 − ky)/stride, (u + 1 − kx)/stride] where that is a pixel.
// With stride 2 a pixel in an even row meets only the middle row of taps and one in an odd row the outer two, and so across: rows
// of the dx GEMM are ordered by phase (even row and even column first, then even and odd, odd and even, odd and odd), so that a
// tile skips the taps that none of its rows meets. With stride 1 there is one phase.
//
// Variants: none: all f32; _bf16: x, weight, bias, z, y, dy, dz and dx bf16, sums, partials and parameter gradients f32.
//
// The ladder, in the order of this file:
//   rung 1: naive  one result per thread.
//   rung 2: tile   f32: a block owns 64 × 64 results, both operands staged 16 of K deep with k as the row, a thread keeps 4 × 8
//                  results in registers.
//   rung 3: mma    bf16: the same on tensor cores.
//   beside it      what goes element by element, and the second passes, which add up parts.
//
// Nothing is unfolded: of a row of a tile a block knows the pixel under its first tap and, as nine bits, which taps meet a pixel at
// all; where they do not, zeros are staged. The weight's nine taps are neighbours in memory; they are taken apart in registers on
// the way to shared memory.
//
// forward_naive     block 64, one result per thread, grid = ceil(M · out / 64): z and y
//   0  x            [B, H, W, in]     f32|bf16   read
//   1  weight       [out, in, 3, 3]   f32|bf16   read
//   2  bias         [out]             f32|bf16   read
//   3  z            [B, H', W', out]  f32|bf16   overwritten
//   4  y            [B, H', W', out]  f32|bf16   overwritten
//   5  dims         by value
// forward_tile      block 128, grid = ceil(M / 64) · ceil(out / 64): z and y
//   0  x            [B, H, W, in]     f32   read
//   1  weight       [out, in, 3, 3]   f32   read
//   2  bias         [out]             f32   read
//   3  z            [B, H', W', out]  f32   overwritten
//   4  y            [B, H', W', out]  f32   overwritten
//   5  dims         by value
// forward_mma       block 128, grid = ceil(M / 64) · ceil(out / 64): z and y
//   0  x            [B, H, W, in]     bf16  read
//   1  weight       [out, in, 3, 3]   bf16  read
//   2  bias         [out]             bf16  read
//   3  z            [B, H', W', out]  bf16  overwritten
//   4  y            [B, H', W', out]  bf16  overwritten
//   5  dims         by value
// gelu_backward     block 256, 16 bytes of results per thread, grid = ceil(M · out / (256 · V)), V = 4 (f32) or 8 (bf16): dz = dy · gelu'(z)
//   0  z            [B, H', W', out]  f32|bf16   read
//   1  dy           [B, H', W', out]  f32|bf16   read
//   2  dz           [B, H', W', out]  f32|bf16   overwritten
//   3  dims         by value
// dweight_naive     block 64, one result per thread, grid = ceil(out · K / 64): dW
//   0  x            [B, H, W, in]     f32|bf16   read
//   1  dz           [B, H', W', out]  f32|bf16   read
//   2  partial      [out, in, 3, 3]   f32   accumulated (dweight itself: one part)
//   3  dims         by value
// dweight_tile      block 128, grid = parts · ceil(out / 64) · ceil(K / 64): parts of dW
//   0  x            [B, H, W, in]     f32   read
//   1  dz           [B, H', W', out]  f32   read
//   2  partial      [parts, out, K]   f32   overwritten
//   3  dims         by value
// dweight_mma       block 128, grid = parts · ceil(out / 64) · ceil(K / 64): parts of dW
//   0  x            [B, H, W, in]     bf16  read
//   1  dz           [B, H', W', out]  bf16  read
//   2  partial      [parts, out, K]   f32   overwritten
//   3  dims         by value
// dweight_finish    block 64, one result per thread, grid = ceil(out · K / 64): dW += Σ of its parts
//   0  partial      [parts, out, K]   f32   read
//   1  dweight      [out, in, 3, 3]   f32   accumulated
//   2  dims         by value
// dbias_partial     block 256, 16 pixels by 16 channels at a time, grid = parts · ceil(out / 16): parts of db
//   0  dz           [B, H', W', out]  f32|bf16   read
//   1  partial      [parts, out]      f32   overwritten (from element parts · out · K of the workspace)
//   2  dims         by value
// dbias_finish      block 64, one result per thread, grid = ceil(out / 64): db += Σ of its parts
//   0  partial      [parts, out]      f32   read (from element parts · out · K of the workspace)
//   1  dbias        [out]             f32   accumulated
//   2  dims         by value
// dx_naive          block 64, one result per thread, grid = ceil(B · H · W · in / 64): dx
//   0  weight       [out, in, 3, 3]   f32|bf16   read
//   1  dz           [B, H', W', out]  f32|bf16   read
//   2  dx           [B, H, W, in]     f32|bf16   overwritten
//   3  dims         by value
// dx_tile           block 128, grid = ceil(B · H · W / 64) · ceil(in / 64): dx
//   0  weight       [out, in, 3, 3]   f32   read
//   1  dz           [B, H', W', out]  f32   read
//   2  dx           [B, H, W, in]     f32   overwritten
//   3  dims         by value
// dx_mma            block 128, grid = ceil(B · H · W / 64) · ceil(in / 64): dx
//   0  weight       [out, in, 3, 3]   bf16  read
//   1  dz           [B, H', W', out]  bf16  read
//   2  dx           [B, H, W, in]     bf16  overwritten
//   3  dims         by value
// Precision: f32 sums in a fixed order, the same bits on every run; bf16 is rounded once, when it is stored.
// Limits: every tensor < 2³¹ elements, 1 ≤ stride ≤ 2, H' = ceil(H / stride), W' = ceil(W / stride). Channels that are not a
// multiple of 8 (bf16) are read one by one. Forward: 18 · M · in · out operations, backward twice that; bound by arithmetic from
// about 10 channels on in f32, 70 in bf16. Shared memory: 18 KiB (tile), 36 KiB (forward_mma, dx_mma), 25 KiB (dweight_mma).
// Twin: shaders/conv2d.wgsl.
#include <cuda_bf16.h>

using bf16 = __nv_bfloat16;

struct Dims {
    unsigned images;         // B
    unsigned height;         // H
    unsigned width;          // W
    unsigned height_out;     // H'
    unsigned width_out;      // W'
    unsigned channels_in;    // in
    unsigned channels_out;   // out
    unsigned stride;         // 1 or 2
    unsigned parts;          // ranges of output pixels that dW and db are summed over apart
    unsigned padding0;
    unsigned padding1;
    unsigned padding2;
};

constexpr unsigned NONE = 0xffffffffu;

// ┌ the same in conv1d.cu, conv2d.cu, matmul.cu, patch_embed.cu: f32 and bf16
__device__ float to_float(float x) { return x; }
__device__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ void round_to(float& to, float x) { to = x; }
__device__ void round_to(bf16& to, float x) { to = __float2bfloat16_rn(x); }
// └ the same up to here: f32 and bf16

// ┌ the same in conv1d.cu, conv2d.cu: gelu
__device__ float gelu(float z) { return 0.5f * z * (1.0f + erff(z * 0.70710678f)); }

__device__ float gelu_slope(float z) {
    return 0.5f * (1.0f + erff(z * 0.70710678f)) + z * 0.39894228f * __expf(-0.5f * z * z); // 1/√(2π)
}
// └ the same up to here: gelu

__device__ unsigned pixels_in(const Dims& dims) { return dims.images * dims.height * dims.width; }
__device__ unsigned pixels_out(const Dims& dims) { return dims.images * dims.height_out * dims.width_out; }

// ── rung 1: naive: one result per thread ─────────────────────────────────────────────────────────────────────────────

template <typename T>
__device__ void forward_one(const T* x, const T* weight, const T* bias, T* z, T* y, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (index >= size_t(pixels_out(dims)) * dims.channels_out) {
        return;
    }
    unsigned m = index / dims.channels_out, n = index % dims.channels_out;
    unsigned image = m / dims.width_out / dims.height_out;
    // Of x, and one too large: the first tap is the row above and the column before.
    unsigned first_row = m / dims.width_out % dims.height_out * dims.stride, first_column = m % dims.width_out * dims.stride;
    const T* of_n = weight + size_t(n) * dims.channels_in * 9;
    float total = 0.0f;
#pragma unroll 1
    for (unsigned tap = 0; tap < 9; tap++) {
        unsigned row = first_row + tap / 3, column = first_column + tap % 3;
        if (row >= 1 && row <= dims.height && column >= 1 && column <= dims.width) {
            const T* pixel = x + size_t((image * dims.height + row - 1) * dims.width + column - 1) * dims.channels_in;
            for (unsigned i = 0; i < dims.channels_in; i++) {
                total = fmaf(to_float(pixel[i]), to_float(of_n[i * 9 + tap]), total);
            }
        }
    }
    total += to_float(bias[n]);
    round_to(z[index], total);
    round_to(y[index], gelu(total));
}

template <typename T>
__device__ void dweight_one(const T* x, const T* dz, float* partial, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    unsigned inner = 9 * dims.channels_in;
    if (index >= size_t(dims.channels_out) * inner) {
        return;
    }
    unsigned n = index / inner, i = index % inner / 9, tap = index % 9;
    float total = 0.0f;
#pragma unroll 1
    for (unsigned m = 0; m < pixels_out(dims); m++) {
        unsigned row = m / dims.width_out % dims.height_out * dims.stride + tap / 3, column = m % dims.width_out * dims.stride + tap % 3;
        if (row >= 1 && row <= dims.height && column >= 1 && column <= dims.width) {
            unsigned pixel = (m / dims.width_out / dims.height_out * dims.height + row - 1) * dims.width + column - 1;
            total = fmaf(to_float(dz[size_t(m) * dims.channels_out + n]), to_float(x[size_t(pixel) * dims.channels_in + i]), total);
        }
    }
    partial[index] += total;
}

template <typename T>
__device__ void dx_one(const T* weight, const T* dz, T* dx, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (index >= size_t(pixels_in(dims)) * dims.channels_in) {
        return;
    }
    unsigned i = index % dims.channels_in, pixel = index / dims.channels_in;
    float total = 0.0f;
#pragma unroll 1
    for (unsigned tap = 0; tap < 9; tap++) {
        // Row 0 minus 1 wraps, and is then odd and too large.
        unsigned at_row = pixel / dims.width % dims.height + 1 - tap / 3, at_column = pixel % dims.width + 1 - tap % 3;
        unsigned row = at_row / dims.stride, column = at_column / dims.stride;
        if (at_row % dims.stride == 0 && at_column % dims.stride == 0 && row < dims.height_out && column < dims.width_out) {
            unsigned m = (pixel / dims.width / dims.height * dims.height_out + row) * dims.width_out + column;
#pragma unroll 1
            for (unsigned o = 0; o < dims.channels_out; o++) {
                float slope = to_float(dz[size_t(m) * dims.channels_out + o]);
                total = fmaf(slope, to_float(weight[(size_t(o) * dims.channels_in + i) * 9 + tap]), total);
            }
        }
    }
    round_to(dx[index], total);
}

// ┌ the same in conv1d.cu, conv2d.cu: naive entries
extern "C" __global__ void __launch_bounds__(64) forward_naive(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias, float* __restrict__ z, float* __restrict__ y, Dims dims) {
    forward_one(x, weight, bias, z, y, dims);
}

extern "C" __global__ void __launch_bounds__(64) forward_naive_bf16(
    const bf16* __restrict__ x, const bf16* __restrict__ weight, const bf16* __restrict__ bias, bf16* __restrict__ z, bf16* __restrict__ y, Dims dims) {
    forward_one(x, weight, bias, z, y, dims);
}

extern "C" __global__ void __launch_bounds__(64) dweight_naive(const float* __restrict__ x, const float* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    dweight_one(x, dz, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64) dweight_naive_bf16(const bf16* __restrict__ x, const bf16* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    dweight_one(x, dz, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64) dx_naive(const float* __restrict__ weight, const float* __restrict__ dz, float* __restrict__ dx, Dims dims) {
    dx_one(weight, dz, dx, dims);
}

extern "C" __global__ void __launch_bounds__(64) dx_naive_bf16(const bf16* __restrict__ weight, const bf16* __restrict__ dz, bf16* __restrict__ dx, Dims dims) {
    dx_one(weight, dz, dx, dims);
}
// └ the same up to here: naive entries

// ── What the tiles have in common: which pixels a row of theirs meets ────────────────────────────────────────────────

// ┌ the same in conv1d.cu, conv2d.cu, patch_embed.cu: a division
// n / by and n % by for n < 2³¹, without a division: 2³²/by from below errs by less than one.
struct Divider {
    unsigned by, inverse;
    __device__ explicit Divider(unsigned by) : by(by), inverse(0xffffffffu / by) {}
    __device__ void split(unsigned n, unsigned& quotient, unsigned& rest) const {
        quotient = __umulhi(n, inverse);
        rest = n - quotient * by;
        if (rest >= by) {
            quotient++;
            rest -= by;
        }
    }
};
// └ the same up to here: a division

// Where a row of a tile meets what is gathered: the pixel under its first tap (which may wrap, where it is none), and a bit per
// tap that meets a pixel.
struct Corner {
    unsigned pixel;
    unsigned taps;
};

// The bits of nine taps from those of three rows and three columns.
__device__ unsigned nine(unsigned rows, unsigned columns) { return columns * ((rows & 1) | (rows & 2) << 2 | (rows & 4) << 4); }

// Output pixel m, where there is one, in x: tap (ky, kx) meets pixel + ky · W + kx. across and down divide by W' and H'.
__device__ Corner corner_in_x(unsigned m, const Divider& across, const Divider& down, const Dims& dims) {
    unsigned line, column, image, row;
    across.split(m, line, column);
    down.split(line, image, row);
    row *= dims.stride, column *= dims.stride;
    // The middle tap is always there, the first one from row 1 on, the last one up to H − 2.
    unsigned rows = 2 | (row >= 1) | (row + 2 <= dims.height) << 2;
    unsigned columns = 2 | (column >= 1) | (column + 2 <= dims.width) << 2;
    return {(image * dims.height + row - 1) * dims.width + column - 1, nine(rows, columns)};
}

// The pixels of dx in even (0) or odd (1) rows and columns; with stride 1 all of them count as even.
struct Phase {
    unsigned height, width, count;
    __device__ Phase(unsigned phase, const Dims& dims)
        : height(phase < 2 ? dims.height_out : dims.height - dims.height_out),
          width(phase % 2 == 0 ? dims.width_out : dims.width - dims.width_out),
          count(dims.images * height * width) {}
};

// The taps that a tile's rows of dx meet, m0 .. m0 + rows: those of every phase that it has a row of.
__device__ unsigned taps_of_rows(unsigned m0, unsigned rows, const Dims& dims) {
    unsigned met = 0, first = 0;
#pragma unroll
    for (unsigned phase = 0; phase < 4; phase++) {
        unsigned count = Phase(phase, dims).count;
        if (count > 0 && first < m0 + rows && m0 < first + count) {
            met |= dims.stride == 1 ? 0x1ff : nine(phase < 2 ? 2 : 5, phase % 2 == 0 ? 2 : 5);
        }
        first += count;
    }
    return met;
}

// Row m of dx, numbered by phase: which pixel of x it is (NONE past the last), and where it meets dz: tap (ky, kx) meets
// corner − (ky / stride) · W' − kx / stride.
__device__ Corner corner_in_dz(unsigned m, unsigned& pixel, const Dims& dims) {
    pixel = NONE;
    Corner corner = {0, 0};
#pragma unroll 1
    for (unsigned number = 0; number < 4; number++) {
        Phase phase(number, dims);
        if (m < phase.count) {
            unsigned image = m / phase.width / phase.height;
            unsigned row = m / phase.width % phase.height * dims.stride + number / 2, column = m % phase.width * dims.stride + number % 2;
            pixel = (image * dims.height + row) * dims.width + column;
            unsigned rows = 0, columns = 0;
#pragma unroll
            for (unsigned k = 0; k < 3; k++) {
                unsigned at_row = row + 1 - k, at_column = column + 1 - k; // 0 − 1 wraps, and is then odd and too large
                rows |= (at_row % dims.stride == 0 && at_row / dims.stride < dims.height_out) << k;
                columns |= (at_column % dims.stride == 0 && at_column / dims.stride < dims.width_out) << k;
            }
            corner = {(image * dims.height_out + (row + 1) / dims.stride) * dims.width_out + (column + 1) / dims.stride, nine(rows, columns)};
            break;
        }
        m -= phase.count;
    }
    return corner;
}

// ── rung 2: tile: f32, 4 × 8 results in registers per thread ─────────────────────────────────────────────────────────

// ┌ the same in conv1d.cu, conv2d.cu, patch_embed.cu: tiles of a product
constexpr int TILE = 64;
constexpr int TILE_K = 16;
constexpr int THREADS = 128;
constexpr int PITCH = TILE + 4; // rows stay at 16 bytes, and neighbouring k lie in other banks

// Two stages: one is multiplied while the next one's elements are on their way.
struct Tiles {
    float a[2][TILE_K][PITCH];
    float b[2][TILE_K][PITCH];
};

struct Sums {
    float of[4][8] = {};
};

// A thread's rows are row() .. + 4, its columns column() .. + 4 and those 32 further on.
__device__ unsigned tile_row() { return threadIdx.x / 8 * 4; }
__device__ unsigned tile_column() { return threadIdx.x % 8 * 4; }

// Element e of the TILE · TILE_K / THREADS that a thread stages: neighbouring threads take neighbours in memory.
template <bool ALONG_K>
__device__ void staged(int e, unsigned& k, unsigned& i) {
    unsigned index = threadIdx.x + e * THREADS;
    k = ALONG_K ? index % TILE_K : index / TILE;
    i = ALONG_K ? index / TILE_K : index % TILE;
}

// sums += Σ_k a(k, row) · b(k, column) over k of [first, end). a and b give zeros outside their matrices.
template <bool A_ALONG_K, bool B_ALONG_K, typename A, typename B>
__device__ void multiply_tiles(Sums& sums, Tiles& tiles, unsigned first, unsigned end, A a, B b) {
    constexpr int EACH = TILE * TILE_K / THREADS;
    float a_held[EACH], b_held[EACH];
    auto load = [&](unsigned k0) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            unsigned k, i;
            staged<A_ALONG_K>(e, k, i);
            a_held[e] = k0 + k < end ? a(k0 + k, i) : 0.0f;
            staged<B_ALONG_K>(e, k, i);
            b_held[e] = k0 + k < end ? b(k0 + k, i) : 0.0f;
        }
    };
    auto store = [&](unsigned stage) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            unsigned k, i;
            staged<A_ALONG_K>(e, k, i);
            tiles.a[stage][k][i] = a_held[e];
            staged<B_ALONG_K>(e, k, i);
            tiles.b[stage][k][i] = b_held[e];
        }
    };
    if (first < end) {
        load(first);
        store(0);
    }
    __syncthreads();
    unsigned stage = 0;
#pragma unroll 1
    for (unsigned k0 = first; k0 < end; k0 += TILE_K) {
        bool more = k0 + TILE_K < end;
        if (more) {
            load(k0 + TILE_K);
        }
#pragma unroll
        for (int k = 0; k < TILE_K; k++) {
            float4 x = *reinterpret_cast<const float4*>(&tiles.a[stage][k][tile_row()]);
            float4 y = *reinterpret_cast<const float4*>(&tiles.b[stage][k][tile_column()]);
            float4 w = *reinterpret_cast<const float4*>(&tiles.b[stage][k][tile_column() + 32]);
            float rows[4] = {x.x, x.y, x.z, x.w};
            float columns[8] = {y.x, y.y, y.z, y.w, w.x, w.y, w.z, w.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    sums.of[i][j] = fmaf(rows[i], columns[j], sums.of[i][j]);
                }
            }
        }
        stage ^= 1;
        if (more) {
            store(stage);
        }
        __syncthreads();
    }
}

// Hands the sums out: write(row, column, sum) for each of a thread's results, by way of its own floats of shared memory, so that
// one small loop serves them all.
template <typename Write>
__device__ void write_tile(const Sums& sums, Tiles& tiles, Write write) {
    float* own = &tiles.a[0][0][0] + threadIdx.x * 8;
    static_assert(sizeof(tiles.a) >= THREADS * 8 * sizeof(float), "every thread has its eight floats");
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            own[j] = sums.of[i][j];
        }
#pragma unroll 1
        for (unsigned j = 0; j < 8; j++) {
            write(tile_row() + i, tile_column() + j % 4 + j / 4 * 32, own[j]);
        }
    }
}
// └ the same up to here: tiles of a product

// Per row of a tile: its corner, and for dx the pixel that it is.
struct Rows {
    unsigned first[TILE];
    unsigned taps[TILE];
    unsigned pixel[TILE];
};

__device__ void forward_tile_f32(const float* x, const float* weight, const float* bias, float* z, float* y, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    __shared__ Rows rows;
    unsigned across = (dims.channels_out + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    unsigned inner = 9 * dims.channels_in;
    if (threadIdx.x < TILE) {
        unsigned m = m0 + threadIdx.x;
        Corner corner = corner_in_x(m, Divider(dims.width_out), Divider(dims.height_out), dims);
        rows.first[threadIdx.x] = corner.pixel;
        rows.taps[threadIdx.x] = m < pixels_out(dims) ? corner.taps : 0;
    }
    __syncthreads();

    Sums sums;
    auto a = [&](unsigned k, unsigned i) {
        unsigned tap = k % 9;
        unsigned pixel = rows.first[i] + tap / 3 * dims.width + tap % 3;
        return rows.taps[i] >> tap & 1 ? x[size_t(pixel) * dims.channels_in + k / 9] : 0.0f;
    };
    auto b = [&](unsigned k, unsigned i) { return n0 + i < dims.channels_out ? weight[size_t(n0 + i) * inner + k] : 0.0f; };
    multiply_tiles<true, true>(sums, tiles, 0, inner, a, b);
    write_tile(sums, tiles, [&](unsigned row, unsigned column, float sum) {
        unsigned m = m0 + row, n = n0 + column;
        if (m < pixels_out(dims) && n < dims.channels_out) {
            float value = sum + bias[n];
            z[size_t(m) * dims.channels_out + n] = value;
            y[size_t(m) * dims.channels_out + n] = gelu(value);
        }
    });
}

// The sum runs over output pixels: rows of the result are n of out, columns are tap · in + i, so that neighbours are channels.
__device__ void dweight_tile_f32(const float* x, const float* dz, float* partial, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    unsigned inner = 9 * dims.channels_in;
    unsigned across = (inner + TILE - 1) / TILE;
    unsigned per_stretch = (dims.channels_out + TILE - 1) / TILE * across;
    unsigned part = blockIdx.x / per_stretch;
    unsigned n0 = blockIdx.x % per_stretch / across * TILE;
    unsigned k0 = blockIdx.x % across * TILE;
    unsigned count = pixels_out(dims);
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned end = min(count, (part + 1) * per_part);
    // A thread stages one column of x for all its m.
    static_assert(THREADS % TILE == 0, "the column of staged<false> is the thread's");
    unsigned own = k0 + threadIdx.x % TILE;
    unsigned tap = own / dims.channels_in, channel = own % dims.channels_in;
    unsigned down = tap / 3 - 1, right = tap % 3 - 1; // −1 wraps, and so does a row or column before the first
    Divider pixels_across(max(dims.width_out, 1u)), pixels_down(max(dims.height_out, 1u)); // no pixels: no steps either

    Sums sums;
    auto a = [&](unsigned m, unsigned i) { return n0 + i < dims.channels_out ? dz[size_t(m) * dims.channels_out + n0 + i] : 0.0f; };
    auto b = [&](unsigned m, unsigned) {
        unsigned line, column, image, row;
        pixels_across.split(m, line, column);
        pixels_down.split(line, image, row);
        row = row * dims.stride + down, column = column * dims.stride + right;
        bool there = own < inner && row < dims.height && column < dims.width;
        return there ? x[size_t((image * dims.height + row) * dims.width + column) * dims.channels_in + channel] : 0.0f;
    };
    multiply_tiles<false, false>(sums, tiles, part * per_part, end, a, b);
    write_tile(sums, tiles, [&](unsigned row, unsigned column, float sum) {
        unsigned n = n0 + row, k = k0 + column;
        if (n < dims.channels_out && k < inner) {
            partial[(size_t(part) * dims.channels_out + n) * inner + k] = sum;
        }
    });
}

__device__ void dx_tile_f32(const float* weight, const float* dz, float* dx, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    __shared__ Rows rows;
    unsigned across = (dims.channels_in + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    if (threadIdx.x < TILE) {
        Corner corner = corner_in_dz(m0 + threadIdx.x, rows.pixel[threadIdx.x], dims);
        rows.first[threadIdx.x] = corner.pixel;
        rows.taps[threadIdx.x] = corner.taps;
    }
    unsigned met = taps_of_rows(m0, TILE, dims);
    __syncthreads();

    Sums sums;
#pragma unroll 1
    for (unsigned tap = 0; tap < 9; tap++) {
        // The same answer for the whole block: the barriers inside stay uniform.
        if ((met >> tap & 1) == 0) {
            continue;
        }
        unsigned shift = tap / 3 / dims.stride * dims.width_out + tap % 3 / dims.stride;
        auto a = [&](unsigned o, unsigned i) {
            return rows.taps[i] >> tap & 1 ? dz[size_t(rows.first[i] - shift) * dims.channels_out + o] : 0.0f;
        };
        auto b = [&](unsigned o, unsigned i) {
            return n0 + i < dims.channels_in ? weight[(size_t(o) * dims.channels_in + n0 + i) * 9 + tap] : 0.0f;
        };
        multiply_tiles<true, false>(sums, tiles, 0, dims.channels_out, a, b);
    }
    write_tile(sums, tiles, [&](unsigned row, unsigned column, float sum) {
        unsigned n = n0 + column;
        if (rows.pixel[row] != NONE && n < dims.channels_in) {
            dx[size_t(rows.pixel[row]) * dims.channels_in + n] = sum;
        }
    });
}

// ┌ the same in conv1d.cu, conv2d.cu: tile entries
extern "C" __global__ void __launch_bounds__(128) forward_tile(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias, float* __restrict__ z, float* __restrict__ y, Dims dims) {
    forward_tile_f32(x, weight, bias, z, y, dims);
}

extern "C" __global__ void __launch_bounds__(128) dweight_tile(const float* __restrict__ x, const float* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    dweight_tile_f32(x, dz, partial, dims);
}

extern "C" __global__ void __launch_bounds__(128) dx_tile(const float* __restrict__ weight, const float* __restrict__ dz, float* __restrict__ dx, Dims dims) {
    dx_tile_f32(weight, dz, dx, dims);
}
// └ the same up to here: tile entries

// ── rung 3: mma: bf16 on tensor cores ────────────────────────────────────────────────────────────────────────────────

// ┌ the same in conv1d.cu, conv2d.cu, matmul.cu, patch_embed.cu: tensor cores
__device__ unsigned shared_address(const void* pointer) { return static_cast<unsigned>(__cvta_generic_to_shared(pointer)); }

// 16 bytes from global to shared memory without passing through registers; zeros where there is nothing to copy.
__device__ void copy_async(void* to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0) : "memory");
}

__device__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING of this thread's groups are still on their way.
template <int PENDING>
__device__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8 × 8 matrices: lanes 8·i .. 8·i + 8 point to the rows of the i-th. A lane gets elements 2·(lane % 4) and the next of row
// lane / 4 of each.
__device__ void load_matrices(unsigned (&to)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(from))
                 : "memory");
}

// As load_matrices, each matrix transposed.
__device__ void load_transposed(unsigned (&to)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(from))
                 : "memory");
}

// sum[16, 8] += a[16, 16] · b[16, 8].
__device__ void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// └ the same up to here: tensor cores

// As copy_async, by way of the first-level cache: nine taps gather almost the same pixels, and all but the first find them there.
__device__ void copy_cached(void* to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0) : "memory");
}

// ┌ the same in conv1d.cu, conv2d.cu, matmul.cu: where a run lies in a tile
// Where 8 neighbours (16 bytes) of a row of COLUMNS lie in a staged tile. Rows keep their order, their 16-byte chunks are
// permuted by the row: any eight consecutive rows, one phase of ldmatrix, are then in eight different groups of four banks.
template <int COLUMNS>
__device__ unsigned place(unsigned row, unsigned chunk) {
    constexpr unsigned SHARE = COLUMNS < 64 ? 64 / COLUMNS : 1; // rows that fill the 128 bytes of all banks
    return row * COLUMNS + (chunk ^ row / SHARE % (8 / SHARE)) * 8;
}
// └ the same up to here: where a run lies in a tile

// Stages 8 neighbours, each from element(j), which gives its bits, zero where there is none.
template <typename Element>
__device__ void stage_each(bf16* to, Element element) {
    unsigned words[4];
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {
        words[j] = unsigned(element(2 * j)) | unsigned(element(2 * j + 1)) << 16;
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

// Stages the 8 channels from `channel` on of row `row` of [rows, width]; zeros where there is no such row and past its end.
// ALIGNED: width is a multiple of 8.
template <bool ALIGNED>
__device__ void stage_run(bf16* to, const bf16* matrix, bool there, unsigned row, unsigned channel, unsigned width) {
    const bf16* from = matrix + size_t(row) * width + channel;
    if (ALIGNED) {
        there = there && channel < width;
        copy_cached(to, there ? from : matrix, there);
    } else {
        unsigned count = there && channel < width ? width - channel : 0;
        const unsigned short* bits = reinterpret_cast<const unsigned short*>(from);
        stage_each(to, [&](unsigned j) { return j < count ? bits[j] : 0; });
    }
}

constexpr int DEEP = 16; // channels staged at a time: nine taps of them are a weight tile

// Eight channels of one weight row with their nine taps between them, on the way to nine tiles of one tap each.
struct Taps {
    unsigned words[36];

    // From weight[row, channel, 0, 0] on; `count` of the 72 exist, all or none of them if ALIGNED.
    template <bool ALIGNED>
    __device__ void load(const bf16* from, unsigned count) {
        if (ALIGNED) {
#pragma unroll
            for (int i = 0; i < 9; i++) {
                uint4 x = count > 0 ? reinterpret_cast<const uint4*>(from)[i] : make_uint4(0, 0, 0, 0);
                words[4 * i] = x.x, words[4 * i + 1] = x.y, words[4 * i + 2] = x.z, words[4 * i + 3] = x.w;
            }
            return;
        }
        const unsigned short* bits = reinterpret_cast<const unsigned short*>(from);
#pragma unroll
        for (unsigned j = 0; j < 36; j++) {
            unsigned low = 2 * j < count ? bits[2 * j] : 0;
            unsigned high = 2 * j + 1 < count ? bits[2 * j + 1] : 0;
            words[j] = low | high << 16;
        }
    }

    // The channels' weights for one tap, elements tap, tap + 9, tap + 18, … of the 72, to each tap's tile.
    __device__ void store(bf16 (&tiles)[9][TILE * DEEP], unsigned at) const {
#pragma unroll
        for (int tap = 0; tap < 9; tap++) {
            unsigned x[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int low = 18 * j + tap, high = low + 9;
                x[j] = __byte_perm(words[low / 2], words[high / 2], (high % 2 ? 0x7600 : 0x5400) | (low % 2 ? 0x32 : 0x10));
            }
            *reinterpret_cast<uint4*>(&tiles[tap][at]) = make_uint4(x[0], x[1], x[2], x[3]);
        }
    }
};

// What forward and dx stage: three taps of a row of taps, one step each, and the weight of all nine, for DEEP channels.
struct Stages {
    bf16 gathered[3][3][TILE * DEEP];
    bf16 weight[9][TILE * DEEP];
};

// ┌ the same in conv1d.cu, conv2d.cu, patch_embed.cu: the sums of a warp
// The four warps of a block are two by two; each has 32 × 32 of the tile in pieces of 16 × 8, as mma leaves them.
struct WarpSums {
    float of[2][4][4] = {};
};

__device__ unsigned warp_row() { return threadIdx.x / 64 * 32; }
__device__ unsigned warp_column() { return threadIdx.x / 32 % 2 * 32; }

// Hands the sums out: write(row, column, pair of neighbours), by way of a warp's own 16 rows of shared memory, so that a warp
// writes two whole stretches of 64 bytes at a time and one small loop serves all. own: 16 · 40 floats per warp.
constexpr int WARP_FLOATS = 16 * 40; // eight more per row: the four rows that half a warp writes are in different banks

template <typename Write>
__device__ void write_warp(const WarpSums& sums, float* own, Write write) {
    unsigned lane = threadIdx.x % 32;
    own += threadIdx.x / 32 * WARP_FLOATS;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float* at = own + lane / 4 * 40 + j * 8 + lane % 4 * 2;
            *reinterpret_cast<float2*>(at) = make_float2(sums.of[i][j][0], sums.of[i][j][1]);
            *reinterpret_cast<float2*>(at + 8 * 40) = make_float2(sums.of[i][j][2], sums.of[i][j][3]);
        }
        __syncwarp();
#pragma unroll 1
        for (unsigned row = lane / 16; row < 16; row += 2) {
            float2 pair = *reinterpret_cast<const float2*>(own + row * 40 + lane % 16 * 2);
            write(warp_row() + i * 16 + row, warp_column() + lane % 16 * 2, pair);
        }
        __syncwarp();
    }
}
// └ the same up to here: the sums of a warp

// ┌ the same in conv1d.cu, conv2d.cu: a pair of results
// Rounds a pair and writes it to row[column], row[column + 1], as far as the row goes.
__device__ void write_pair(bf16* row, unsigned column, unsigned width, float2 pair) {
    if (width % 2 == 0) {
        *reinterpret_cast<__nv_bfloat162*>(row + column) = __floats2bfloat162_rn(pair.x, pair.y);
    } else {
        row[column] = __float2bfloat16_rn(pair.x);
        if (column + 1 < width) {
            row[column + 1] = __float2bfloat16_rn(pair.y);
        }
    }
}
// └ the same up to here: a pair of results

// A warp's sums += a[32, 16] · b[16, 32].
__device__ void multiply_warp(WarpSums& sums, const unsigned (&a)[2][4], const unsigned (&b)[2][4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            multiply(sums.of[i][2 * j], a[i], b[j][0], b[j][1]);
            multiply(sums.of[i][2 * j + 1], a[i], b[j][2], b[j][3]);
        }
    }
}

// sums += Σ over the taps that are met and over the channels of `matrix` of gathered rows · weight. A step is one row of taps of
// DEEP channels; two steps are on their way while one is multiplied. The weight of the next channels waits in registers.
//   forward (!BACK): matrix is x,  `width` its channels in, a weight tile is [64 of out, DEEP of in]; every tap is met.
//   dx (BACK):       matrix is dz, `width` its channels out, a weight tile is [DEEP of out, 64 of in].
// A thread gathers one row, corner's, for all taps: half of its DEEP channels. line: pixels in a line of the matrix. ALIGNED:
// channels are multiples of 8.
template <bool BACK, bool ALIGNED>
__device__ void multiply_gathered(WarpSums& sums, Stages& stages, const bf16* matrix, unsigned width, unsigned line, const bf16* weight, unsigned n0,
                                  Corner corner, unsigned met, const Dims& dims) {
    static_assert(THREADS == TILE * DEEP / 8, "a thread has a run of every tile");
    constexpr int COLUMNS = BACK ? TILE : DEEP; // of a weight tile
    constexpr int UNROLL = ALIGNED ? 3 : 1;     // what is read one by one is long as it is
    unsigned lane = threadIdx.x % 32;
    unsigned shrink = BACK ? dims.stride - 1 : 0; // 2 >> shrink = 2 / stride

    auto stage = [&](unsigned ky, unsigned c0) {
        if (c0 < width) {
#pragma unroll UNROLL
            for (unsigned kx = 0; kx < 3; kx++) {
                unsigned tap = 3 * ky + kx;
                if (BACK && (met >> tap & 1) == 0) {
                    continue; // the whole block
                }
                unsigned shift = (ky >> shrink) * line + (kx >> shrink);
                unsigned row = BACK ? corner.pixel - shift : corner.pixel + shift;
                bf16* to = stages.gathered[ky][kx] + place<DEEP>(threadIdx.x / 2, threadIdx.x % 2);
                stage_run<ALIGNED>(to, matrix, corner.taps >> tap & 1, row, c0 + threadIdx.x % 2 * 8, width);
            }
        }
        commit_copies(); // a group per step, empty or not: the count of pending groups below stays the same
    };

    Taps taps;
    unsigned tile_row = threadIdx.x / (COLUMNS / 8), chunk = threadIdx.x % (COLUMNS / 8);
    auto load_taps = [&](unsigned c0) {
        unsigned o = (BACK ? c0 : n0) + tile_row, i = (BACK ? n0 : c0) + chunk * 8;
        unsigned there = o < dims.channels_out && i < dims.channels_in ? dims.channels_in - i : 0;
        taps.load<ALIGNED>(weight + (size_t(o) * dims.channels_in + i) * 9, 9 * there);
    };
    stage(0, 0);
    stage(1, 0);
    load_taps(0);
    taps.store(stages.weight, place<COLUMNS>(tile_row, chunk));
#pragma unroll 1
    for (unsigned c0 = 0; c0 < width; c0 += DEEP) {
        bool more = c0 + DEEP < width;
        if (more) {
            load_taps(c0 + DEEP);
        }
#pragma unroll UNROLL
        for (unsigned ky = 0; ky < 3; ky++) {
            wait_copies<1>();
            // This step is there for every thread, and nobody reads the one any more that is staged next.
            __syncthreads();
            stage((ky + 2) % 3, ky == 0 ? c0 : c0 + DEEP);
#pragma unroll
            for (unsigned kx = 0; kx < 3; kx++) {
                unsigned tap = 3 * ky + kx;
                if (BACK && (met >> tap & 1) == 0) {
                    continue; // the whole block
                }
                unsigned a[2][4], b[2][4];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    load_matrices(a[i], stages.gathered[ky][kx] + place<DEEP>(warp_row() + i * 16 + lane % 16, lane / 16));
                }
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    if (BACK) {
                        load_transposed(b[j], stages.weight[tap] + place<TILE>(lane % 16, (warp_column() + j * 16) / 8 + lane / 16));
                    } else {
                        load_matrices(b[j], stages.weight[tap] + place<DEEP>(warp_column() + j * 16 + lane % 8 + lane / 16 * 8, lane / 8 % 2));
                    }
                }
                multiply_warp(sums, a, b);
            }
        }
        if (more) {
            __syncthreads(); // nobody reads the weight any more
            taps.store(stages.weight, place<COLUMNS>(tile_row, chunk));
        }
    }
    __syncthreads(); // nobody multiplies any more
}

__device__ void forward_mma_with(const bf16* x, const bf16* weight, const bf16* bias, bf16* z, bf16* y, const Dims& dims, Stages& stages) {
    unsigned across = (dims.channels_out + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    unsigned gathered = m0 + threadIdx.x / 2;
    Corner corner = corner_in_x(gathered, Divider(dims.width_out), Divider(dims.height_out), dims);
    if (gathered >= pixels_out(dims)) {
        corner.taps = 0;
    }
    WarpSums sums;
    if (dims.channels_in % 8 == 0) {
        multiply_gathered<false, true>(sums, stages, x, dims.channels_in, dims.width, weight, n0, corner, 0x1ff, dims);
    } else {
        multiply_gathered<false, false>(sums, stages, x, dims.channels_in, dims.width, weight, n0, corner, 0x1ff, dims);
    }
    write_warp(sums, reinterpret_cast<float*>(&stages), [&](unsigned row, unsigned column, float2 pair) {
        unsigned m = m0 + row, n = n0 + column;
        if (m >= pixels_out(dims) || n >= dims.channels_out) {
            return;
        }
        size_t at = size_t(m) * dims.channels_out;
        pair.x += to_float(bias[n]);
        pair.y += n + 1 < dims.channels_out ? to_float(bias[n + 1]) : 0.0f;
        write_pair(z + at, n, dims.channels_out, pair);
        write_pair(y + at, n, dims.channels_out, make_float2(gelu(pair.x), gelu(pair.y)));
    });
}

__device__ void dx_mma_with(const bf16* weight, const bf16* dz, bf16* dx, const Dims& dims, Stages& stages, unsigned (&pixels)[TILE]) {
    unsigned across = (dims.channels_in + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    unsigned pixel;
    Corner corner = corner_in_dz(m0 + threadIdx.x / 2, pixel, dims);
    if (threadIdx.x % 2 == 0) {
        pixels[threadIdx.x / 2] = pixel; // read after the barriers of the product
    }
    WarpSums sums;
    unsigned met = taps_of_rows(m0, TILE, dims);
    if (dims.channels_in % 8 == 0 && dims.channels_out % 8 == 0) {
        multiply_gathered<true, true>(sums, stages, dz, dims.channels_out, dims.width_out, weight, n0, corner, met, dims);
    } else {
        multiply_gathered<true, false>(sums, stages, dz, dims.channels_out, dims.width_out, weight, n0, corner, met, dims);
    }
    write_warp(sums, reinterpret_cast<float*>(&stages), [&](unsigned row, unsigned column, float2 pair) {
        unsigned to = pixels[row], n = n0 + column;
        if (to != NONE && n < dims.channels_in) {
            write_pair(dx + size_t(to) * dims.channels_in, n, dims.channels_in, pair);
        }
    });
}

// The sum runs over output pixels, 32 at a time: dz and what its pixels meet in x lie with their channels along the rows. Columns
// are tap · in + i: where in is a multiple of 8, eight neighbours are channels of one tap.
struct SumStage {
    bf16 dz[32 * TILE];
    bf16 x[32 * TILE];
};

// Per column of a tile of dW: its tap (NONE past the last column), how far that is from the first one, and its channel.
struct Columns {
    unsigned tap[TILE];
    unsigned shift[TILE];
    unsigned channel[TILE];
};

template <bool ALIGNED>
__device__ void dweight_mma_by(const bf16* x, const bf16* dz, float* partial, const Dims& dims, SumStage (&stages)[3], Columns& columns) {
    constexpr int ROWS = 32;
    static_assert(THREADS == 4 * ROWS && TILE == 4 * 16, "a thread stages two runs of one row");
    unsigned inner = 9 * dims.channels_in;
    unsigned across = (inner + TILE - 1) / TILE;
    unsigned tiles = (dims.channels_out + TILE - 1) / TILE * across;
    unsigned part = blockIdx.x / tiles;
    unsigned n0 = blockIdx.x % tiles / across * TILE;
    unsigned k0 = blockIdx.x % across * TILE;
    unsigned count = pixels_out(dims);
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned first = min(count, part * per_part);
    unsigned end = min(count, first + per_part);
    unsigned steps = (end - first + ROWS - 1) / ROWS;
    unsigned lane = threadIdx.x % 32;
    Divider pixels_across(max(dims.width_out, 1u)), pixels_down(max(dims.height_out, 1u)); // no pixels: no steps either
    if (threadIdx.x < TILE) {
        unsigned k = k0 + threadIdx.x, tap = k / dims.channels_in;
        columns.tap[threadIdx.x] = k < inner ? tap : NONE;
        columns.shift[threadIdx.x] = tap / 3 * dims.width + tap % 3;
        columns.channel[threadIdx.x] = k % dims.channels_in;
    }
    __syncthreads();
    // A thread stages 16 neighbouring columns of one row: two runs, whose taps it keeps as a bit each.
    unsigned row = threadIdx.x / 4, chunk = threadIdx.x % 4 * 2;
    unsigned run_bit[2], run_shift[2], run_channel[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        unsigned at = (chunk + i) * 8;
        run_bit[i] = columns.tap[at] == NONE ? 0 : 1 << columns.tap[at];
        run_shift[i] = columns.shift[at];
        run_channel[i] = columns.channel[at];
    }

    auto stage = [&](SumStage& to, unsigned step) {
        unsigned m = first + step * ROWS + row;
        Corner corner = corner_in_x(m, pixels_across, pixels_down, dims);
        unsigned taps = m < end ? corner.taps : 0;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            unsigned at = place<TILE>(row, chunk + i);
            stage_run<ALIGNED>(to.dz + at, dz, m < end, m, n0 + (chunk + i) * 8, dims.channels_out);
            if (ALIGNED) {
                bool there = taps & run_bit[i];
                const bf16* from = x + size_t(corner.pixel + run_shift[i]) * dims.channels_in + run_channel[i];
                copy_cached(to.x + at, there ? from : x, there);
            } else {
                const unsigned short* bits = reinterpret_cast<const unsigned short*>(x);
                stage_each(to.x + at, [&](unsigned j) {
                    unsigned column = (chunk + i) * 8 + j, tap = columns.tap[column];
                    size_t from = size_t(corner.pixel + columns.shift[column]) * dims.channels_in + columns.channel[column];
                    return tap != NONE && taps >> tap & 1 ? bits[from] : 0;
                });
            }
        }
    };

    WarpSums sums;
#pragma unroll
    for (unsigned step = 0; step < 2; step++) {
        if (step < steps) {
            stage(stages[step], step);
        }
        commit_copies(); // a group per step, empty or not: the count of pending groups below stays the same
    }
    unsigned turn = 0; // step % 3
#pragma unroll 1
    for (unsigned step = 0; step < steps; step++) {
        wait_copies<1>();
        // This stage is there for every thread, and nobody reads the one any more that is staged next.
        __syncthreads();
        if (step + 2 < steps) {
            stage(stages[turn == 0 ? 2 : turn - 1], step + 2);
        }
        commit_copies();
        const SumStage& now = stages[turn];
        turn = turn == 2 ? 0 : turn + 1;
#pragma unroll
        for (int k = 0; k < ROWS; k += 16) {
            unsigned a[2][4], b[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_transposed(a[i], now.dz + place<TILE>(k + lane % 8 + lane / 16 * 8, (warp_row() + i * 16) / 8 + lane / 8 % 2));
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                load_transposed(b[j], now.x + place<TILE>(k + lane % 16, (warp_column() + j * 16) / 8 + lane / 16));
            }
            multiply_warp(sums, a, b);
        }
    }
    __syncthreads(); // nobody multiplies any more
    write_warp(sums, reinterpret_cast<float*>(&stages[0]), [&](unsigned row, unsigned column, float2 pair) {
        unsigned n = n0 + row, k = k0 + column;
        if (n < dims.channels_out && k < inner) {
            float* to = partial + (size_t(part) * dims.channels_out + n) * inner + k;
            if (inner % 2 == 0) {
                *reinterpret_cast<float2*>(to) = pair;
            } else {
                to[0] = pair.x;
                if (k + 1 < inner) {
                    to[1] = pair.y;
                }
            }
        }
    });
}

extern "C" __global__ void __launch_bounds__(128) forward_mma_bf16(
    const bf16* __restrict__ x, const bf16* __restrict__ weight, const bf16* __restrict__ bias, bf16* __restrict__ z, bf16* __restrict__ y, Dims dims) {
    __shared__ alignas(128) Stages stages;
    forward_mma_with(x, weight, bias, z, y, dims, stages);
}

extern "C" __global__ void __launch_bounds__(128) dweight_mma_bf16(const bf16* __restrict__ x, const bf16* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    __shared__ alignas(128) SumStage stages[3];
    __shared__ Columns columns;
    if (dims.channels_in % 8 == 0 && dims.channels_out % 8 == 0) {
        dweight_mma_by<true>(x, dz, partial, dims, stages, columns);
    } else {
        dweight_mma_by<false>(x, dz, partial, dims, stages, columns);
    }
}

extern "C" __global__ void __launch_bounds__(128) dx_mma_bf16(const bf16* __restrict__ weight, const bf16* __restrict__ dz, bf16* __restrict__ dx, Dims dims) {
    __shared__ alignas(128) Stages stages;
    __shared__ unsigned pixels[TILE];
    dx_mma_with(weight, dz, dx, dims, stages, pixels);
}

// ── Beside the ladder: element by element, and the second passes ─────────────────────────────────────────────────────

// ┌ the same in conv1d.cu, conv2d.cu: gelu backward
template <typename T>
struct alignas(16) Run {
    T x[16 / sizeof(T)];
};

template <typename T>
__device__ void gelu_backward_run(const T* z, const T* dy, T* dz, size_t count) {
    constexpr int WIDTH = 16 / sizeof(T);
    size_t first = (size_t(blockIdx.x) * 256 + threadIdx.x) * WIDTH;
    if (first + WIDTH <= count) {
        Run<T> value = *reinterpret_cast<const Run<T>*>(z + first);
        Run<T> slope = *reinterpret_cast<const Run<T>*>(dy + first);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            round_to(slope.x[i], to_float(slope.x[i]) * gelu_slope(to_float(value.x[i])));
        }
        *reinterpret_cast<Run<T>*>(dz + first) = slope;
    } else {
#pragma unroll 1
        for (size_t i = first; i < count; i++) {
            round_to(dz[i], to_float(dy[i]) * gelu_slope(to_float(z[i])));
        }
    }
}
// └ the same up to here: gelu backward

// 16 channels of one part: thread 16 · r + c has channel c of every sixteenth pixel from the r-th on.
template <typename T>
__device__ void dbias_part(const T* dz, float* partial, const Dims& dims) {
    __shared__ float sums[16][16];
    unsigned across = (dims.channels_out + 15) / 16;
    unsigned part = blockIdx.x / across;
    unsigned column = threadIdx.x % 16, row = threadIdx.x / 16;
    unsigned n = blockIdx.x % across * 16 + column;
    unsigned count = pixels_out(dims);
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned end = min(count, (part + 1) * per_part);
    float total = 0.0f;
    if (n < dims.channels_out) {
#pragma unroll 8
        for (unsigned m = part * per_part + row; m < end; m += 16) {
            total += to_float(dz[size_t(m) * dims.channels_out + n]);
        }
    }
    sums[row][column] = total;
    __syncthreads();
    if (row == 0 && n < dims.channels_out) {
        for (unsigned r = 1; r < 16; r++) {
            total += sums[r][column];
        }
        partial[size_t(dims.parts) * dims.channels_out * 9 * dims.channels_in + size_t(part) * dims.channels_out + n] = total;
    }
}

extern "C" __global__ void __launch_bounds__(256) gelu_backward(const float* __restrict__ z, const float* __restrict__ dy, float* __restrict__ dz, Dims dims) {
    gelu_backward_run(z, dy, dz, size_t(pixels_out(dims)) * dims.channels_out);
}

extern "C" __global__ void __launch_bounds__(256) gelu_backward_bf16(const bf16* __restrict__ z, const bf16* __restrict__ dy, bf16* __restrict__ dz, Dims dims) {
    gelu_backward_run(z, dy, dz, size_t(pixels_out(dims)) * dims.channels_out);
}

// A thread takes a column of the parts, so that neighbours read neighbours; the one write of each goes to where the weight has it.
extern "C" __global__ void __launch_bounds__(64) dweight_finish(const float* __restrict__ partial, float* __restrict__ dweight, Dims dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    unsigned inner = 9 * dims.channels_in;
    size_t count = size_t(dims.channels_out) * inner;
    if (index >= count) {
        return;
    }
    float total = 0.0f;
#pragma unroll 8
    for (unsigned part = 0; part < dims.parts; part++) {
        total += partial[part * count + index];
    }
    unsigned n = index / inner, k = index % inner;
    unsigned tap = k / dims.channels_in, i = k % dims.channels_in;
    dweight[size_t(n) * inner + i * 9 + tap] += total;
}

extern "C" __global__ void __launch_bounds__(256) dbias_partial(const float* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    dbias_part(dz, partial, dims);
}

extern "C" __global__ void __launch_bounds__(256) dbias_partial_bf16(const bf16* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    dbias_part(dz, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64) dbias_finish(const float* __restrict__ partial, float* __restrict__ dbias, Dims dims) {
    unsigned n = blockIdx.x * 64 + threadIdx.x;
    if (n >= dims.channels_out) {
        return;
    }
    const float* sums = partial + size_t(dims.parts) * dims.channels_out * 9 * dims.channels_in;
    float total = 0.0f;
#pragma unroll 8
    for (unsigned part = 0; part < dims.parts; part++) {
        total += sums[size_t(part) * dims.channels_out + n];
    }
    dbias[n] += total;
}
