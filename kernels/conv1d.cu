// conv1d: z[c, t] = b + Σ_{tap, i} W[:, i, tap] · x[c, t·stride + tap − 1, i],   y = gelu(z) = z · (1 + erf(z/√2)) / 2.
//
// 3 taps, one frame of zeros on either side, stride 1 or 2, F' = (F − 1)/stride + 1 frames out. Frames are rows, channels contiguous.
// Names: M = C · F'; K = 3 · in. K is numbered as in the weight: k = i · 3 + tap.
//
// Backward.  dz = dy · gelu'(z), gelu'(z) = (1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π), then three implicit GEMMs that gather:
//   dW = Σ_m dz[m]ᵀ x[m],   db = Σ_m dz[m],   dx[c, u] = Σ_tap W[:, :, tap]ᵀ dz[c, (u + 1 − tap)/stride] where that is a frame.
// With stride 2 an even frame meets only the middle tap and an odd frame the outer two.
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
// The mma entries number rows so that nothing is unfolded: clips lie one after the other with zeros between them, a tile is 64
// such rows (those between clips come to nothing and are not written), and the frames that it meets are one slab of shared
// memory, which each tap reads a row further down. The weight's three taps are neighbours in memory; they are taken apart in
// registers on the way to shared memory.
//   forward, dweight: L = ceil((F + 2) / stride) rows per clip: row c·L + t meets padded frames (c·L + t)·stride + tap.
//   dx: L = F' + 1 rows per clip, row c·L + t + 1 of dz is its frame t: with stride 1 row c·L + u of dx is its frame u, with
//   stride 2 row c·L + j is frames 2j and 2j + 1 together.
//
// forward_naive     block 64, one result per thread, grid = ceil(M · out / 64): z and y
//   0  x            [C, F, in]      f32|bf16   read
//   1  weight       [out, in, 3]    f32|bf16   read
//   2  bias         [out]           f32|bf16   read
//   3  z            [C, F', out]    f32|bf16   overwritten
//   4  y            [C, F', out]    f32|bf16   overwritten
//   5  dims         by value
// forward_tile      block 128, grid = ceil(M / 64) · ceil(out / 64): z and y
//   0  x            [C, F, in]      f32   read
//   1  weight       [out, in, 3]    f32   read
//   2  bias         [out]           f32   read
//   3  z            [C, F', out]    f32   overwritten
//   4  y            [C, F', out]    f32   overwritten
//   5  dims         by value
// forward_mma       block 128, grid = ceil(C · L / 64) · ceil(out / 64), L = ceil((F + 2) / stride): z and y
//   0  x            [C, F, in]      bf16  read
//   1  weight       [out, in, 3]    bf16  read
//   2  bias         [out]           bf16  read
//   3  z            [C, F', out]    bf16  overwritten
//   4  y            [C, F', out]    bf16  overwritten
//   5  dims         by value
// gelu_backward     block 256, 16 bytes of results per thread, grid = ceil(M · out / (256 · V)), V = 4 (f32) or 8 (bf16): dz = dy · gelu'(z)
//   0  z            [C, F', out]    f32|bf16   read
//   1  dy           [C, F', out]    f32|bf16   read
//   2  dz           [C, F', out]    f32|bf16   overwritten
//   3  dims         by value
// dweight_naive     block 64, one result per thread, grid = ceil(out · K / 64): dW
//   0  x            [C, F, in]      f32|bf16   read
//   1  dz           [C, F', out]    f32|bf16   read
//   2  partial      [out, in, 3]    f32   accumulated (dweight itself: one part)
//   3  dims         by value
// dweight_tile      block 128, grid = parts · ceil(out / 64) · ceil(K / 64): parts of dW
//   0  x            [C, F, in]      f32   read
//   1  dz           [C, F', out]    f32   read
//   2  partial      [parts, out, 3 · in]  f32   overwritten
//   3  dims         by value
// dweight_mma       block 128, all taps of 64 × 64 channels, grid = parts · ceil(out / 64) · ceil(in / 64): parts of dW
//   0  x            [C, F, in]      bf16  read
//   1  dz           [C, F', out]    bf16  read
//   2  partial      [parts, out, 3 · in]  f32   overwritten
//   3  dims         by value
// dweight_finish    block 64, one result per thread, grid = ceil(out · K / 64): dW += Σ of its parts
//   0  partial      [parts, out, 3 · in]  f32   read
//   1  dweight      [out, in, 3]    f32   accumulated
//   2  dims         by value
// dbias_partial     block 64, one result per thread, grid = ceil(parts · out / 64): parts of db
//   0  dz           [C, F', out]    f32|bf16   read
//   1  partial      [parts, out]    f32   overwritten (from element parts · out · K of the workspace)
//   2  dims         by value
// dbias_finish      block 64, one result per thread, grid = ceil(out / 64): db += Σ of its parts
//   0  partial      [parts, out]    f32   read (from element parts · out · K of the workspace)
//   1  dbias        [out]           f32   accumulated
//   2  dims         by value
// dx_naive          block 64, one result per thread, grid = ceil(C · F · in / 64): dx
//   0  weight       [out, in, 3]    f32|bf16   read
//   1  dz           [C, F', out]    f32|bf16   read
//   2  dx           [C, F, in]      f32|bf16   overwritten
//   3  dims         by value
// dx_tile           block 128, grid = ceil(C · F / 64) · ceil(in / 64): dx
//   0  weight       [out, in, 3]    f32   read
//   1  dz           [C, F', out]    f32   read
//   2  dx           [C, F, in]      f32   overwritten
//   3  dims         by value
// dx_mma            block 128, grid = ceil(C · L / 64) · ceil(in / 64), L = F' + 1: dx
//   0  weight       [out, in, 3]    bf16  read
//   1  dz           [C, F', out]    bf16  read
//   2  dx           [C, F, in]      bf16  overwritten
//   3  dims         by value
// Precision: f32 sums in a fixed order, the same bits on every run; bf16 is rounded once, when it is stored.
// Limits: every tensor < 2³¹ elements, C · (F + 3) < 2³¹, 1 ≤ stride ≤ 2, F' = (F − 1)/stride + 1. Channels that are
// not a multiple of 8 (bf16) are read one by one. Forward: 6 · M · in · out operations, backward twice that; bound by arithmetic from about 32 channels on.
// Shared memory: 18 KiB (tile), 41 KiB (forward_mma), 38 KiB (dweight_mma), 33 KiB (dx_mma).
// Twin: shaders/conv1d.wgsl.
#include <cuda_bf16.h>

using bf16 = __nv_bfloat16;

struct Dims {
    unsigned clips;          // C
    unsigned frames;         // F
    unsigned frames_out;     // F'
    unsigned width_in;       // in
    unsigned width_out;      // out
    unsigned stride;         // 1 or 2
    unsigned parts;          // ranges of output frames that dW and db are summed over apart
    unsigned padding;
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

// ── rung 1: naive: one result per thread ─────────────────────────────────────────────────────────────────────────────

template <typename T>
__device__ void forward_one(const T* x, const T* weight, const T* bias, T* z, T* y, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (index >= size_t(dims.clips) * dims.frames_out * dims.width_out) {
        return;
    }
    unsigned m = index / dims.width_out;
    unsigned n = index % dims.width_out;
    unsigned clip = m / dims.frames_out;
    unsigned first = m % dims.frames_out * dims.stride;
    float total = 0.0f;
    for (unsigned i = 0; i < dims.width_in; i++) {
#pragma unroll 1
        for (unsigned tap = 0; tap < 3; tap++) {
            unsigned frame = first + tap; // counted from the frame of zeros
            if (frame >= 1 && frame <= dims.frames) {
                size_t source = size_t(clip * dims.frames + frame - 1) * dims.width_in + i;
                total = fmaf(to_float(x[source]), to_float(weight[(size_t(n) * dims.width_in + i) * 3 + tap]), total);
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
    unsigned inner = 3 * dims.width_in;
    if (index >= size_t(dims.width_out) * inner) {
        return;
    }
    unsigned n = index / inner;
    unsigned k = index % inner;
    float total = 0.0f;
#pragma unroll 1
    for (unsigned m = 0; m < dims.clips * dims.frames_out; m++) {
        unsigned frame = m % dims.frames_out * dims.stride + k % 3;
        if (frame >= 1 && frame <= dims.frames) {
            size_t source = size_t(m / dims.frames_out * dims.frames + frame - 1) * dims.width_in + k / 3;
            total = fmaf(to_float(dz[size_t(m) * dims.width_out + n]), to_float(x[source]), total);
        }
    }
    partial[index] += total;
}

template <typename T>
__device__ void dx_one(const T* weight, const T* dz, T* dx, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (index >= size_t(dims.clips) * dims.frames * dims.width_in) {
        return;
    }
    unsigned i = index % dims.width_in;
    unsigned frame = index / dims.width_in % dims.frames;
    unsigned clip = index / dims.width_in / dims.frames;
    float total = 0.0f;
#pragma unroll 1
    for (unsigned tap = 0; tap < 3; tap++) {
        unsigned at = frame + 1 - tap; // wraps for frame 0 and tap 2, and is then too large
        unsigned t = at / dims.stride;
        if (at % dims.stride == 0 && t < dims.frames_out) {
#pragma unroll 1
            for (unsigned o = 0; o < dims.width_out; o++) {
                float slope = to_float(dz[size_t(clip * dims.frames_out + t) * dims.width_out + o]);
                total = fmaf(slope, to_float(weight[(size_t(o) * dims.width_in + i) * 3 + tap]), total);
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

// Per row of a tile: its clip and its frame.
struct Rows {
    unsigned clip[TILE];
    unsigned frame[TILE];
};

__device__ void forward_tile_f32(const float* x, const float* weight, const float* bias, float* z, float* y, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    __shared__ Rows rows;
    unsigned count = dims.clips * dims.frames_out;
    unsigned across = (dims.width_out + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    unsigned inner = 3 * dims.width_in;
    if (threadIdx.x < TILE) {
        unsigned m = m0 + threadIdx.x;
        rows.clip[threadIdx.x] = m / dims.frames_out;
        // Of x, and one too large: tap 0 is the frame before. Past the last row it is no frame at all.
        rows.frame[threadIdx.x] = m < count ? m % dims.frames_out * dims.stride : NONE;
    }
    __syncthreads();

    Sums sums;
    auto a = [&](unsigned k, unsigned i) {
        unsigned first = rows.frame[i];
        unsigned frame = first + k % 3; // counted from the frame of zeros
        bool there = first != NONE && frame >= 1 && frame <= dims.frames;
        return there ? x[size_t(rows.clip[i] * dims.frames + frame - 1) * dims.width_in + k / 3] : 0.0f;
    };
    auto b = [&](unsigned k, unsigned i) { return n0 + i < dims.width_out ? weight[size_t(n0 + i) * inner + k] : 0.0f; };
    multiply_tiles<true, true>(sums, tiles, 0, inner, a, b);
    write_tile(sums, tiles, [&](unsigned row, unsigned column, float sum) {
        unsigned m = m0 + row, n = n0 + column;
        if (m < count && n < dims.width_out) {
            float value = sum + bias[n];
            z[size_t(m) * dims.width_out + n] = value;
            y[size_t(m) * dims.width_out + n] = gelu(value);
        }
    });
}

// The sum runs over output frames: rows of the result are n of out, columns are k of K.
__device__ void dweight_tile_f32(const float* x, const float* dz, float* partial, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    unsigned inner = 3 * dims.width_in;
    unsigned across = (inner + TILE - 1) / TILE;
    unsigned per_stretch = (dims.width_out + TILE - 1) / TILE * across;
    unsigned part = blockIdx.x / per_stretch;
    unsigned n0 = blockIdx.x % per_stretch / across * TILE;
    unsigned k0 = blockIdx.x % across * TILE;
    unsigned count = dims.clips * dims.frames_out;
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned end = min(count, (part + 1) * per_part);

    Sums sums;
    auto a = [&](unsigned m, unsigned i) { return n0 + i < dims.width_out ? dz[size_t(m) * dims.width_out + n0 + i] : 0.0f; };
    auto b = [&](unsigned m, unsigned i) {
        unsigned k = k0 + i;
        unsigned frame = m % dims.frames_out * dims.stride + k % 3;
        bool there = k < inner && frame >= 1 && frame <= dims.frames;
        return there ? x[size_t(m / dims.frames_out * dims.frames + frame - 1) * dims.width_in + k / 3] : 0.0f;
    };
    multiply_tiles<false, false>(sums, tiles, part * per_part, end, a, b);
    write_tile(sums, tiles, [&](unsigned row, unsigned column, float sum) {
        unsigned n = n0 + row, k = k0 + column;
        if (n < dims.width_out && k < inner) {
            partial[(size_t(part) * dims.width_out + n) * inner + k] = sum;
        }
    });
}

__device__ void dx_tile_f32(const float* weight, const float* dz, float* dx, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    __shared__ Rows rows;
    unsigned count = dims.clips * dims.frames;
    unsigned across = (dims.width_in + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    // Rows before `turn` are frames 0, stride, 2·stride, … of every clip; with stride 2 the odd frames follow, so that a tile
    // skips the taps that none of its rows meets.
    unsigned even = dims.frames_out;
    unsigned odd = max(dims.frames - even, 1u);
    unsigned turn = dims.clips * even;
    if (threadIdx.x < TILE) {
        unsigned m = m0 + threadIdx.x;
        unsigned clip = 0, frame = NONE;
        if (m < turn) {
            clip = m / even;
            frame = m % even * dims.stride;
        } else if (m < count) {
            clip = (m - turn) / odd;
            frame = (m - turn) % odd * 2 + 1;
        }
        rows.clip[threadIdx.x] = clip;
        rows.frame[threadIdx.x] = frame;
    }
    __syncthreads();

    Sums sums;
#pragma unroll 1
    for (unsigned tap = 0; tap < 3; tap++) {
        // The same answer for the whole block: the barriers inside stay uniform.
        if (dims.stride == 2 && ((tap == 1 && m0 >= turn) || (tap != 1 && m0 + TILE <= turn))) {
            continue;
        }
        auto a = [&](unsigned o, unsigned i) {
            unsigned frame = rows.frame[i];
            unsigned at = frame + 1 - tap; // wraps for frame 0 and tap 2, and is then too large
            unsigned t = at / dims.stride;
            bool there = frame != NONE && at % dims.stride == 0 && t < dims.frames_out;
            return there ? dz[size_t(rows.clip[i] * dims.frames_out + t) * dims.width_out + o] : 0.0f;
        };
        auto b = [&](unsigned o, unsigned i) {
            return n0 + i < dims.width_in ? weight[(size_t(o) * dims.width_in + n0 + i) * 3 + tap] : 0.0f;
        };
        multiply_tiles<true, false>(sums, tiles, 0, dims.width_out, a, b);
    }
    write_tile(sums, tiles, [&](unsigned row, unsigned column, float sum) {
        unsigned n = n0 + column;
        if (rows.frame[row] != NONE && n < dims.width_in) {
            dx[size_t(rows.clip[row] * dims.frames + rows.frame[row]) * dims.width_in + n] = sum;
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

// ┌ the same in conv1d.cu, conv2d.cu, matmul.cu: where a run lies in a tile
// Where 8 neighbours (16 bytes) of a row of COLUMNS lie in a staged tile. Rows keep their order, their 16-byte chunks are
// permuted by the row: any eight consecutive rows, one phase of ldmatrix, are then in eight different groups of four banks.
template <int COLUMNS>
__device__ unsigned place(unsigned row, unsigned chunk) {
    constexpr unsigned SHARE = COLUMNS < 64 ? 64 / COLUMNS : 1; // rows that fill the 128 bytes of all banks
    return row * COLUMNS + (chunk ^ row / SHARE % (8 / SHARE)) * 8;
}
// └ the same up to here: where a run lies in a tile

// ┌ the same in conv1d.cu, patch_embed.cu: a run on its way to shared memory
// Stages the 8 neighbours from `from` on, of which `count` exist (none: zeros). aligned: all of them or none, at 16 bytes.
__device__ void stage_run(bf16* to, const bf16* from, const bf16* matrix, unsigned count, bool aligned) {
    if (aligned) {
        copy_async(to, count > 0 ? from : matrix, count > 0);
        return;
    }
    const unsigned short* bits = reinterpret_cast<const unsigned short*>(from);
    unsigned words[4];
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {
        unsigned low = 2 * j < count ? bits[2 * j] : 0;
        unsigned high = 2 * j + 1 < count ? bits[2 * j + 1] : 0;
        words[j] = low | high << 16;
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}
// └ the same up to here: a run on its way to shared memory

// Channels limit − first of a row of which a run from `first` on has 8 at most; none if there is no such row.
__device__ unsigned run_length(bool there, unsigned first, unsigned limit) { return there && first < limit ? limit - first : 0; }

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

// Eight channels of one weight row with their taps between them, on the way to three tiles of one tap each.
struct Taps {
    unsigned words[12];

    // From weight[row, channel, 0] on; `count` of the 24 exist.
    __device__ void load(const bf16* from, unsigned count, bool aligned) {
        if (aligned) {
#pragma unroll
            for (int i = 0; i < 3; i++) {
                uint4 x = count > 0 ? reinterpret_cast<const uint4*>(from)[i] : make_uint4(0, 0, 0, 0);
                words[4 * i] = x.x, words[4 * i + 1] = x.y, words[4 * i + 2] = x.z, words[4 * i + 3] = x.w;
            }
            return;
        }
        const unsigned short* bits = reinterpret_cast<const unsigned short*>(from);
#pragma unroll
        for (unsigned j = 0; j < 12; j++) {
            unsigned low = 2 * j < count ? bits[2 * j] : 0;
            unsigned high = 2 * j + 1 < count ? bits[2 * j + 1] : 0;
            words[j] = low | high << 16;
        }
    }

    // The channels' weights for one tap: elements tap, tap + 3, tap + 6, … of the 24.
    template <int TAP>
    __device__ uint4 of() const {
        unsigned x[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int low = 6 * j + TAP, high = low + 3;
            x[j] = __byte_perm(words[low / 2], words[high / 2], (high % 2 ? 0x7600 : 0x5400) | (low % 2 ? 0x32 : 0x10));
        }
        return make_uint4(x[0], x[1], x[2], x[3]);
    }
};

constexpr int DEEP = 32; // channels staged at a time

// Stages of forward and dx: a slab of frames that the taps share, and the weight by tap.
template <int SLOTS>
struct Stage {
    bf16 slab[SLOTS * DEEP];
    bf16 weight[3][TILE * DEEP];
};

// The two weight runs of a thread in a tile of ROWS rows and COLUMNS channels from (first_row, first_channel) on.
template <int ROWS, int COLUMNS>
struct WeightTile {
    static constexpr int RUNS = ROWS * COLUMNS / 8 / THREADS;
    Taps held[RUNS];

    __device__ void load(const bf16* weight, unsigned first_row, unsigned first_channel, const Dims& dims) {
#pragma unroll
        for (int i = 0; i < RUNS; i++) {
            unsigned index = threadIdx.x + i * THREADS;
            unsigned row = first_row + index / (COLUMNS / 8), channel = first_channel + index % (COLUMNS / 8) * 8;
            unsigned count = 3 * run_length(row < dims.width_out, channel, dims.width_in);
            held[i].load(weight + (size_t(row) * dims.width_in + channel) * 3, count, dims.width_in % 8 == 0);
        }
    }

    __device__ void store(bf16 (&tile)[3][TILE * DEEP]) const {
#pragma unroll
        for (int i = 0; i < RUNS; i++) {
            unsigned index = threadIdx.x + i * THREADS;
            unsigned at = place<COLUMNS>(index / (COLUMNS / 8), index % (COLUMNS / 8));
            *reinterpret_cast<uint4*>(&tile[0][at]) = held[i].template of<0>();
            *reinterpret_cast<uint4*>(&tile[1][at]) = held[i].template of<1>();
            *reinterpret_cast<uint4*>(&tile[2][at]) = held[i].template of<2>();
        }
    }
};

// Stages DEEP channels of a slab: slot s is row source[s] of [rows, width], or zeros.
__device__ void stage_slab(bf16* slab, const bf16* matrix, const unsigned* source, unsigned slots, unsigned first_channel, unsigned width) {
#pragma unroll 1
    for (unsigned index = threadIdx.x; index < slots * (DEEP / 8); index += THREADS) {
        unsigned slot = index / (DEEP / 8), channel = first_channel + index % (DEEP / 8) * 8;
        unsigned row = source[slot];
        const bf16* from = matrix + size_t(row) * width + channel;
        stage_run(slab + place<DEEP>(slot, index % (DEEP / 8)), from, matrix, run_length(row != NONE, channel, width), width % 8 == 0);
    }
}

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

// Which slot of a slab padded frame `offset` beyond the slab's first one has. With stride 2 the even frames come first and the
// odd ones behind them, so that the frames that one tap meets are consecutive slots.
template <int STRIDE, int ROWS>
__device__ unsigned slot_of(unsigned offset) {
    return STRIDE == 1 ? offset : offset / 2 + offset % 2 * (ROWS + 1);
}

// The padded frame that a slot holds, beyond the slab's first one.
template <int STRIDE, int ROWS>
__device__ unsigned offset_of(unsigned slot) {
    return STRIDE == 1 ? slot : slot <= ROWS ? 2 * slot : 2 * (slot - ROWS - 1) + 1;
}

// Row of x that lies at a padded frame, or NONE.
__device__ unsigned frame_row(unsigned padded, const Divider& pitch, const Dims& dims) {
    unsigned clip, frame;
    pitch.split(padded, clip, frame);
    return clip < dims.clips && frame >= 1 && frame <= dims.frames ? clip * dims.frames + frame - 1 : NONE;
}

template <int STRIDE>
__device__ void forward_mma_bf16_by(const bf16* x, const bf16* weight, const bf16* bias, bf16* z, bf16* y, const Dims& dims, Stage<130> (&stages)[2],
                                    unsigned (&source)[130]) {
    constexpr int SLOTS = STRIDE == 1 ? TILE + 2 : 2 * TILE + 1;
    unsigned lines = (dims.frames + 2 + STRIDE - 1) / STRIDE; // L
    unsigned across = (dims.width_out + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    unsigned lane = threadIdx.x % 32;
    Divider pitch(lines * STRIDE);
    for (unsigned slot = threadIdx.x; slot < SLOTS; slot += THREADS) {
        source[slot] = frame_row(m0 * STRIDE + offset_of<STRIDE, TILE>(slot), pitch, dims);
    }
    __syncthreads();

    WarpSums sums;
    WeightTile<TILE, DEEP> taps;
    stage_slab(stages[0].slab, x, source, SLOTS, 0, dims.width_in);
    commit_copies();
    taps.load(weight, n0, 0, dims);
    taps.store(stages[0].weight);
    unsigned now = 0;
#pragma unroll 1
    for (unsigned i0 = 0; i0 < dims.width_in; i0 += DEEP) {
        bool more = i0 + DEEP < dims.width_in;
        if (more) {
            taps.load(weight, n0, i0 + DEEP, dims);
        }
        wait_copies<0>();
        // This stage is there for every thread, and nobody reads the other one any more.
        __syncthreads();
        if (more) {
            stage_slab(stages[now ^ 1].slab, x, source, SLOTS, i0 + DEEP, dims.width_in);
            commit_copies();
        }
#pragma unroll
        for (int tap = 0; tap < 3; tap++) {
#pragma unroll
            for (int k = 0; k < DEEP; k += 16) {
                unsigned a[2][4], b[2][4];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    unsigned slot = warp_row() + i * 16 + lane % 16 + slot_of<STRIDE, TILE>(tap);
                    load_matrices(a[i], stages[now].slab + place<DEEP>(slot, k / 8 + lane / 16));
                }
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    unsigned n = warp_column() + j * 16 + lane % 8 + lane / 16 * 8;
                    load_matrices(b[j], stages[now].weight[tap] + place<DEEP>(n, k / 8 + lane / 8 % 2));
                }
#pragma unroll
                for (int i = 0; i < 2; i++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        multiply(sums.of[i][2 * j], a[i], b[j][0], b[j][1]);
                        multiply(sums.of[i][2 * j + 1], a[i], b[j][2], b[j][3]);
                    }
                }
            }
        }
        now ^= 1;
        if (more) {
            taps.store(stages[now].weight);
        }
    }
    __syncthreads(); // nobody multiplies any more
    Divider per_clip(lines);
    write_warp(sums, reinterpret_cast<float*>(&stages[0]), [&](unsigned row, unsigned column, float2 pair) {
        unsigned clip, t, n = n0 + column;
        per_clip.split(m0 + row, clip, t);
        if (clip >= dims.clips || t >= dims.frames_out || n >= dims.width_out) {
            return;
        }
        size_t at = size_t(clip * dims.frames_out + t) * dims.width_out;
        pair.x += to_float(bias[n]);
        pair.y += n + 1 < dims.width_out ? to_float(bias[n + 1]) : 0.0f;
        write_pair(z + at, n, dims.width_out, pair);
        write_pair(y + at, n, dims.width_out, make_float2(gelu(pair.x), gelu(pair.y)));
    });
}

// Even frames meet tap 1, odd ones taps 0 and 2 (stride 2): two sets of sums over the same rows. With stride 1 there is one.
template <int STRIDE>
__device__ void dx_mma_bf16_by(const bf16* weight, const bf16* dz, bf16* dx, const Dims& dims, Stage<TILE + 2> (&stages)[2], unsigned (&source)[TILE + 2]) {
    constexpr int SLOTS = TILE + 2;
    unsigned lines = dims.frames_out + 1; // L
    unsigned across = (dims.width_in + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    unsigned lane = threadIdx.x % 32;
    Divider per_clip(lines);
    if (threadIdx.x < SLOTS) {
        unsigned clip, t;
        per_clip.split(m0 + threadIdx.x, clip, t);
        source[threadIdx.x] = clip < dims.clips && t >= 1 ? clip * dims.frames_out + t - 1 : NONE;
    }
    __syncthreads();

    WarpSums sums[STRIDE];
    WeightTile<DEEP, TILE> taps;
    stage_slab(stages[0].slab, dz, source, SLOTS, 0, dims.width_out);
    commit_copies();
    taps.load(weight, 0, n0, dims);
    taps.store(stages[0].weight);
    unsigned now = 0;
#pragma unroll 1
    for (unsigned o0 = 0; o0 < dims.width_out; o0 += DEEP) {
        bool more = o0 + DEEP < dims.width_out;
        if (more) {
            taps.load(weight, o0 + DEEP, n0, dims);
        }
        wait_copies<0>();
        __syncthreads();
        if (more) {
            stage_slab(stages[now ^ 1].slab, dz, source, SLOTS, o0 + DEEP, dims.width_out);
            commit_copies();
        }
#pragma unroll
        for (int tap = 0; tap < 3; tap++) {
            // Which row of the slab, whose first one is a frame before that of dx, this tap meets; and whose sums these are.
            constexpr int AHEAD[2][3] = {{2, 1, 0}, {2, 1, 1}};
            const int set = STRIDE == 2 && tap != 1 ? STRIDE - 1 : 0;
#pragma unroll
            for (int k = 0; k < DEEP; k += 16) {
                unsigned a[2][4], b[2][4];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    unsigned slot = warp_row() + i * 16 + lane % 16 + AHEAD[STRIDE - 1][tap];
                    load_matrices(a[i], stages[now].slab + place<DEEP>(slot, k / 8 + lane / 16));
                }
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    unsigned chunk = (warp_column() + j * 16) / 8 + lane / 16;
                    load_transposed(b[j], stages[now].weight[tap] + place<TILE>(k + lane % 16, chunk));
                }
#pragma unroll
                for (int i = 0; i < 2; i++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        multiply(sums[set].of[i][2 * j], a[i], b[j][0], b[j][1]);
                        multiply(sums[set].of[i][2 * j + 1], a[i], b[j][2], b[j][3]);
                    }
                }
            }
        }
        now ^= 1;
        if (more) {
            taps.store(stages[now].weight);
        }
    }
    __syncthreads(); // nobody multiplies any more
#pragma unroll
    for (int set = 0; set < STRIDE; set++) {
        write_warp(sums[set], reinterpret_cast<float*>(&stages[0]), [&](unsigned row, unsigned column, float2 pair) {
            unsigned clip, t, n = n0 + column;
            per_clip.split(m0 + row, clip, t);
            unsigned frame = t * STRIDE + set;
            if (clip < dims.clips && t < dims.frames_out && frame < dims.frames && n < dims.width_in) {
                write_pair(dx + size_t(clip * dims.frames + frame) * dims.width_in, n, dims.width_in, pair);
            }
        });
    }
}

// The sum runs over rows, 32 at a time: dz and the slab of frames that they meet lie with their channels along the rows.
template <int SLOTS>
struct SumStage {
    bf16 dz[32 * TILE];
    bf16 slab[SLOTS * TILE];
};

template <int STRIDE>
__device__ void dweight_mma_bf16_by(const bf16* x, const bf16* dz, float* partial, const Dims& dims, SumStage<66> (&stages)[3]) {
    constexpr int ROWS = 32;
    constexpr int SLOTS = STRIDE == 1 ? ROWS + 2 : 2 * ROWS + 1;
    unsigned lines = (dims.frames + 2 + STRIDE - 1) / STRIDE; // L
    unsigned across = (dims.width_in + TILE - 1) / TILE;
    unsigned tiles = (dims.width_out + TILE - 1) / TILE * across;
    unsigned part = blockIdx.x / tiles;
    unsigned n0 = blockIdx.x % tiles / across * TILE;
    unsigned i0 = blockIdx.x % across * TILE;
    unsigned count = dims.clips * lines;
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned first = min(count, part * per_part);
    unsigned end = min(count, first + per_part);
    unsigned steps = (end - first + ROWS - 1) / ROWS;
    unsigned lane = threadIdx.x % 32;
    Divider per_clip(lines), pitch(lines * STRIDE);

    auto stage = [&](unsigned step) {
        SumStage<66>& to = stages[step % 3];
        unsigned r0 = first + step * ROWS;
#pragma unroll
        for (int i = 0; i < ROWS * TILE / 8 / THREADS; i++) {
            unsigned index = threadIdx.x + i * THREADS;
            unsigned row = r0 + index / 8, n = n0 + index % 8 * 8;
            unsigned clip, t;
            per_clip.split(row, clip, t);
            unsigned length = run_length(row < end && t < dims.frames_out, n, dims.width_out);
            const bf16* from = dz + size_t(clip * dims.frames_out + t) * dims.width_out + n;
            stage_run(to.dz + place<TILE>(index / 8, index % 8), from, dz, length, dims.width_out % 8 == 0);
        }
#pragma unroll 1
        for (unsigned index = threadIdx.x; index < SLOTS * 8; index += THREADS) {
            unsigned row = frame_row(r0 * STRIDE + offset_of<STRIDE, ROWS>(index / 8), pitch, dims), i = i0 + index % 8 * 8;
            const bf16* from = x + size_t(row) * dims.width_in + i;
            stage_run(to.slab + place<TILE>(index / 8, index % 8), from, x, run_length(row != NONE, i, dims.width_in), dims.width_in % 8 == 0);
        }
    };

    WarpSums sums[3];
#pragma unroll 1
    for (unsigned step = 0; step < 2; step++) {
        if (step < steps) {
            stage(step);
        }
        commit_copies(); // a group per step, empty or not: the count of pending groups below stays the same
    }
#pragma unroll 1
    for (unsigned step = 0; step < steps; step++) {
        wait_copies<1>();
        // This stage is there for every thread, and nobody reads the one any more that is staged next.
        __syncthreads();
        if (step + 2 < steps) {
            stage(step + 2);
        }
        commit_copies();
        const SumStage<66>& now = stages[step % 3];
#pragma unroll
        for (int k = 0; k < ROWS; k += 16) {
            unsigned a[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_transposed(a[i], now.dz + place<TILE>(k + lane % 8 + lane / 16 * 8, (warp_row() + i * 16) / 8 + lane / 8 % 2));
            }
#pragma unroll
            for (int tap = 0; tap < 3; tap++) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    unsigned b[4];
                    load_transposed(b, now.slab + place<TILE>(k + lane % 16 + slot_of<STRIDE, ROWS>(tap), (warp_column() + j * 16) / 8 + lane / 16));
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        multiply(sums[tap].of[i][2 * j], a[i], b[0], b[1]);
                        multiply(sums[tap].of[i][2 * j + 1], a[i], b[2], b[3]);
                    }
                }
            }
        }
    }
    __syncthreads(); // nobody multiplies any more
#pragma unroll
    for (int tap = 0; tap < 3; tap++) {
        write_warp(sums[tap], reinterpret_cast<float*>(&stages[0]), [&](unsigned row, unsigned column, float2 pair) {
            unsigned n = n0 + row, i = i0 + column;
            if (n < dims.width_out && i < dims.width_in) {
                float* to = partial + ((size_t(part) * dims.width_out + n) * dims.width_in + i) * 3 + tap;
                to[0] = pair.x;
                if (i + 1 < dims.width_in) {
                    to[3] = pair.y;
                }
            }
        });
    }
}

extern "C" __global__ void __launch_bounds__(128) forward_mma_bf16(
    const bf16* __restrict__ x, const bf16* __restrict__ weight, const bf16* __restrict__ bias, bf16* __restrict__ z, bf16* __restrict__ y, Dims dims) {
    __shared__ alignas(128) Stage<130> stages[2];
    __shared__ unsigned source[130];
    if (dims.stride == 1) {
        forward_mma_bf16_by<1>(x, weight, bias, z, y, dims, stages, source);
    } else {
        forward_mma_bf16_by<2>(x, weight, bias, z, y, dims, stages, source);
    }
}

extern "C" __global__ void __launch_bounds__(128) dweight_mma_bf16(const bf16* __restrict__ x, const bf16* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    __shared__ alignas(128) SumStage<66> stages[3];
    if (dims.stride == 1) {
        dweight_mma_bf16_by<1>(x, dz, partial, dims, stages);
    } else {
        dweight_mma_bf16_by<2>(x, dz, partial, dims, stages);
    }
}

extern "C" __global__ void __launch_bounds__(128) dx_mma_bf16(const bf16* __restrict__ weight, const bf16* __restrict__ dz, bf16* __restrict__ dx, Dims dims) {
    __shared__ alignas(128) Stage<TILE + 2> stages[2];
    __shared__ unsigned source[TILE + 2];
    if (dims.stride == 1) {
        dx_mma_bf16_by<1>(weight, dz, dx, dims, stages, source);
    } else {
        dx_mma_bf16_by<2>(weight, dz, dx, dims, stages, source);
    }
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

template <typename T>
__device__ void dbias_part(const T* dz, float* partial, const Dims& dims) {
    unsigned index = blockIdx.x * 64 + threadIdx.x;
    if (index >= dims.parts * dims.width_out) {
        return;
    }
    unsigned part = index / dims.width_out;
    unsigned count = dims.clips * dims.frames_out;
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned end = min(count, (part + 1) * per_part);
    float total = 0.0f;
    for (unsigned m = part * per_part; m < end; m++) {
        total += to_float(dz[size_t(m) * dims.width_out + index % dims.width_out]);
    }
    partial[size_t(dims.parts) * dims.width_out * 3 * dims.width_in + index] = total;
}

extern "C" __global__ void __launch_bounds__(256) gelu_backward(const float* __restrict__ z, const float* __restrict__ dy, float* __restrict__ dz, Dims dims) {
    gelu_backward_run(z, dy, dz, size_t(dims.clips) * dims.frames_out * dims.width_out);
}

extern "C" __global__ void __launch_bounds__(256) gelu_backward_bf16(const bf16* __restrict__ z, const bf16* __restrict__ dy, bf16* __restrict__ dz, Dims dims) {
    gelu_backward_run(z, dy, dz, size_t(dims.clips) * dims.frames_out * dims.width_out);
}

extern "C" __global__ void __launch_bounds__(64) dweight_finish(const float* __restrict__ partial, float* __restrict__ dweight, Dims dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    size_t count = size_t(dims.width_out) * 3 * dims.width_in;
    if (index >= count) {
        return;
    }
    float total = 0.0f;
    for (unsigned part = 0; part < dims.parts; part++) {
        total += partial[part * count + index];
    }
    dweight[index] += total;
}

extern "C" __global__ void __launch_bounds__(64) dbias_partial(const float* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    dbias_part(dz, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64) dbias_partial_bf16(const bf16* __restrict__ dz, float* __restrict__ partial, Dims dims) {
    dbias_part(dz, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64) dbias_finish(const float* __restrict__ partial, float* __restrict__ dbias, Dims dims) {
    unsigned n = blockIdx.x * 64 + threadIdx.x;
    if (n >= dims.width_out) {
        return;
    }
    const float* sums = partial + size_t(dims.parts) * dims.width_out * 3 * dims.width_in;
    float total = 0.0f;
    for (unsigned part = 0; part < dims.parts; part++) {
        total += sums[size_t(part) * dims.width_out + n];
    }
    dbias[n] += total;
}
