// patch_embed: y[row[m]] = x[m] · Wᵀ + b + position[px(m), 0] + position[py(m), 1],   x = (pixel / 255 − 0.5) / 0.5.
//
// Names: M = I · patches. Patch m of them: raster order within its image; its K = P·P·3 numbers in the order (row, column,
// channel). x is never written out: every kernel is an implicit GEMM whose loads unfold the picture.
//
// Backward, with g[m] = dy[row[m]] (0 where the patch is unused):
//   dW = Σ_m g[m]ᵀ x[m],   db = Σ_m g[m],   dposition[c, 0] = Σ_{px(m)=c} g[m],   dposition[r, 1] = Σ_{py(m)=r} g[m],
//   dpixels[m] = g[m] · W / 127.5.
// The sums for b and position share one first pass: sums[p] = Σ_images g[image, p].
//
// Variants: none: all f32 (pixels u8 or f32); _bf16: weight, bias, position, y and dy bf16, pixels u8 or f32, sums, partials and
// all gradients but dy f32.
//
// The ladder, in the order of this file:
//   rung 1: naive  one result per thread.
//   rung 2: tile   f32: a block owns 64 × 64 results, both operands staged 16 deep with the summed index as the row, a thread keeps
//                  4 × 8 results in registers.
//   rung 3: mma    bf16: the same on tensor cores, both operands staged 64 deep; the picture is unfolded in registers on the way to
//                  shared memory, the other operand copied by cp.async. A byte is exact there: 2 · byte − 255 is an integer that
//                  bf16 holds, and the sum is divided by 255. Real pixels are normalised and then rounded to bf16.
//   beside it      the sums for b and position, and the second pass of dW, which adds up parts.
//
// forward_naive     block 64, one result per thread, grid = ceil(M · D / 64): y
//   0  pixels       [I, H, W, 3]   f32|u8   read (is_u8: u8)
//   1  weight       [D, K]         f32|bf16   read
//   2  bias         [D]            f32|bf16   read
//   3  position     [G, 2, D]      f32|bf16   read
//   4  row          [I, patches]   i32   read
//   5  y            [N, D]         f32|bf16   overwritten (only the rows that are named)
//   6  dims         by value
// forward_tile      block 128, grid = ceil(M / 64) · ceil(D / 64): y
//   0  pixels       [I, H, W, 3]   f32|u8   read (is_u8: u8)
//   1  weight       [D, K]         f32   read
//   2  bias         [D]            f32   read
//   3  position     [G, 2, D]      f32   read
//   4  row          [I, patches]   i32   read (outside 0..N: the patch is unused)
//   5  y            [N, D]         f32   overwritten (only the rows that are named)
//   6  dims         by value
// forward_mma       block 128, grid = ceil(M / 64) · ceil(D / 64): y
//   0  pixels       [I, H, W, 3]   f32|u8   read (is_u8: u8)
//   1  weight       [D, K]         bf16  read
//   2  bias         [D]            bf16  read
//   3  position     [G, 2, D]      bf16  read
//   4  row          [I, patches]   i32   read (outside 0..N: the patch is unused)
//   5  y            [N, D]         bf16  overwritten (only the rows that are named)
//   6  dims         by value
// dweight_naive     block 64, one result per thread, grid = ceil(D · K / 64): dW
//   0  pixels       [I, H, W, 3]   f32|u8   read (is_u8: u8)
//   1  row          [I, patches]   i32   read
//   2  dy           [N, D]         f32|bf16   read
//   3  partial      [D, K]         f32   accumulated (dweight itself: one part)
//   4  dims         by value
// dweight_tile      block 128, grid = parts · ceil(D / 64) · ceil(K / 64): parts of dW
//   0  pixels       [I, H, W, 3]   f32|u8   read (is_u8: u8)
//   1  row          [I, patches]   i32   read
//   2  dy           [N, D]         f32   read
//   3  partial      [parts, D, K]  f32   overwritten
//   4  dims         by value
// dweight_mma       block 128, grid = parts · ceil(D / 64) · ceil(K / 64): parts of dW
//   0  pixels       [I, H, W, 3]   f32|u8   read (is_u8: u8)
//   1  row          [I, patches]   i32   read
//   2  dy           [N, D]         bf16  read
//   3  partial      [parts, D, K]  f32   overwritten
//   4  dims         by value
// dweight_finish    block 64, one result per thread, grid = ceil(D · K / 64): dW += Σ of its parts
//   0  partial      [parts, D, K]  f32   read
//   1  dweight      [D, K]         f32   accumulated
//   2  dims         by value
// position_sums     block 64, one result per thread, grid = ceil(patches · D / 64): Σ_images g
//   0  row          [I, patches]   i32   read
//   1  dy           [N, D]         f32|bf16   read
//   2  sums         [patches, D]   f32   overwritten (from element parts · D · K of the workspace)
//   3  dims         by value
// position_finish   block 64, one result per thread, grid = ceil((2 · G + 1) · D / 64): db and dposition from these sums
//   0  sums         [patches, D]   f32   read (from element parts · D · K of the workspace)
//   1  dbias        [D]            f32   accumulated
//   2  dposition    [G, 2, D]      f32   accumulated
//   3  dims         by value
// dpixels_naive     block 64, one result per thread, grid = ceil(M · K / 64): dpixels
//   0  weight       [D, K]         f32|bf16   read
//   1  row          [I, patches]   i32   read
//   2  dy           [N, D]         f32|bf16   read
//   3  dpixels      [I, H, W, 3]   f32   overwritten
//   4  dims         by value
// dpixels_tile      block 128, grid = ceil(M / 64) · ceil(K / 64): dpixels
//   0  weight       [D, K]         f32   read
//   1  row          [I, patches]   i32   read
//   2  dy           [N, D]         f32   read
//   3  dpixels      [I, H, W, 3]   f32   overwritten
//   4  dims         by value
// dpixels_mma       block 128, grid = ceil(M / 64) · ceil(K / 64): dpixels
//   0  weight       [D, K]         bf16  read
//   1  row          [I, patches]   i32   read
//   2  dy           [N, D]         bf16  read
//   3  dpixels      [I, H, W, 3]   f32   overwritten
//   4  dims         by value
// Precision: f32 sums in a fixed order, the same bits on every run; bf16 is rounded once, when it is stored.
// Limits: H and W multiples of P, G ≥ W/P, G ≥ H/P, across = W/P, patches = across · (H/P), K = P · P · 3, rows distinct, every tensor < 2³¹
// elements. Patches whose side is not a multiple of 8, and rows of W or dy that are not a multiple of 16 bytes, are read element by element. Forward:
// 2 · M · D · K operations, backward the same for W and again for the pixels; bound by arithmetic. Shared memory: 18 KiB (tile), 33 KiB (mma).
// Twin: shaders/patch_embed.wgsl.
#include <cuda_bf16.h>

using bf16 = __nv_bfloat16;

struct Dims {
    unsigned images;         // I
    unsigned height;         // H
    unsigned width;          // W
    unsigned side;           // P
    unsigned depth;          // D
    unsigned rows;           // N
    unsigned grid;           // G
    unsigned across;         // patches in a row of patches: W / P
    unsigned patches;        // patches of a picture
    unsigned inner;          // K = P·P·3
    unsigned parts;          // ranges of patches that dW is summed over apart
    unsigned is_u8;
};

constexpr unsigned NONE = 0xffffffffu;

// ┌ the same in conv1d.cu, conv2d.cu, matmul.cu, patch_embed.cu: f32 and bf16
__device__ float to_float(float x) { return x; }
__device__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ void round_to(float& to, float x) { to = x; }
__device__ void round_to(bf16& to, float x) { to = __float2bfloat16_rn(x); }
// └ the same up to here: f32 and bf16

// The first element of patch m in the picture.
__device__ unsigned patch_origin(unsigned m, const Dims& dims) {
    unsigned p = m % dims.patches;
    return (((m / dims.patches) * dims.height + (p / dims.across) * dims.side) * dims.width + (p % dims.across) * dims.side) * 3;
}

// Where element k of a patch lies behind its first one.
__device__ unsigned patch_offset(unsigned k, const Dims& dims) {
    unsigned line = 3 * dims.side;
    return (k / line) * dims.width * 3 + k % line;
}

// Row of the token matrix, or NONE.
__device__ unsigned checked_row(int row, const Dims& dims) { return row >= 0 && unsigned(row) < dims.rows ? row : NONE; }

// (v/255 − 0.5)/0.5, written so that 0, 127.5 and 255 come out as exactly −1, 0 and 1.
__device__ float normalised(float value) { return (value - 127.5f) * (1.0f / 127.5f); }

__device__ float pixel(const void* pixels, unsigned index, const Dims& dims) {
    return normalised(dims.is_u8 ? float(static_cast<const unsigned char*>(pixels)[index]) : static_cast<const float*>(pixels)[index]);
}

// What is added to x[m] · Wᵀ in column n.
template <typename T>
__device__ float place_of(unsigned m, unsigned n, const T* bias, const T* position, const Dims& dims, float value) {
    unsigned p = m % dims.patches;
    float x = to_float(position[size_t(p % dims.across) * 2 * dims.depth + n]);
    float y = to_float(position[(size_t(p / dims.across) * 2 + 1) * dims.depth + n]);
    return value + to_float(bias[n]) + (x + y);
}

// ── rung 1: naive: one result per thread ─────────────────────────────────────────────────────────────────────────────

template <typename T>
__device__ void forward_one(const void* pixels, const T* weight, const T* bias, const T* position, const int* row, T* y, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (index >= size_t(dims.images) * dims.patches * dims.depth) {
        return;
    }
    unsigned m = index / dims.depth;
    unsigned n = index % dims.depth;
    unsigned to = checked_row(row[m], dims);
    if (to == NONE) {
        return;
    }
    unsigned first = patch_origin(m, dims);
    float total = 0.0f;
#pragma unroll 1
    for (unsigned k = 0; k < dims.inner; k++) {
        total = fmaf(pixel(pixels, first + patch_offset(k, dims), dims), to_float(weight[size_t(n) * dims.inner + k]), total);
    }
    round_to(y[size_t(to) * dims.depth + n], place_of(m, n, bias, position, dims, total));
}

template <typename T>
__device__ void dweight_one(const void* pixels, const int* row, const T* dy, float* partial, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (index >= size_t(dims.depth) * dims.inner) {
        return;
    }
    unsigned n = index / dims.inner;
    unsigned offset = patch_offset(index % dims.inner, dims);
    float total = 0.0f;
#pragma unroll 1
    for (unsigned m = 0; m < dims.images * dims.patches; m++) {
        unsigned source = checked_row(row[m], dims);
        if (source != NONE) {
            total = fmaf(to_float(dy[size_t(source) * dims.depth + n]), pixel(pixels, patch_origin(m, dims) + offset, dims), total);
        }
    }
    partial[index] += total;
}

template <typename T>
__device__ void dpixels_one(const T* weight, const int* row, const T* dy, float* dpixels, const Dims& dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (index >= size_t(dims.images) * dims.patches * dims.inner) {
        return;
    }
    unsigned m = index / dims.inner;
    unsigned k = index % dims.inner;
    unsigned source = checked_row(row[m], dims);
    float total = 0.0f;
    if (source != NONE) {
#pragma unroll 1
        for (unsigned n = 0; n < dims.depth; n++) {
            total = fmaf(to_float(dy[size_t(source) * dims.depth + n]), to_float(weight[size_t(n) * dims.inner + k]), total);
        }
    }
    dpixels[patch_origin(m, dims) + patch_offset(k, dims)] = total * (1.0f / 127.5f);
}

extern "C" __global__ void __launch_bounds__(64) forward_naive(
    const void* __restrict__ pixels, const float* __restrict__ weight, const float* __restrict__ bias, const float* __restrict__ position, const int* __restrict__ row,
    float* __restrict__ y, Dims dims) {
    forward_one(pixels, weight, bias, position, row, y, dims);
}

extern "C" __global__ void __launch_bounds__(64) forward_naive_bf16(
    const void* __restrict__ pixels, const bf16* __restrict__ weight, const bf16* __restrict__ bias, const bf16* __restrict__ position, const int* __restrict__ row,
    bf16* __restrict__ y, Dims dims) {
    forward_one(pixels, weight, bias, position, row, y, dims);
}

extern "C" __global__ void __launch_bounds__(64) dweight_naive(
    const void* __restrict__ pixels, const int* __restrict__ row, const float* __restrict__ dy, float* __restrict__ partial, Dims dims) {
    dweight_one(pixels, row, dy, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64) dweight_naive_bf16(
    const void* __restrict__ pixels, const int* __restrict__ row, const bf16* __restrict__ dy, float* __restrict__ partial, Dims dims) {
    dweight_one(pixels, row, dy, partial, dims);
}

extern "C" __global__ void __launch_bounds__(64) dpixels_naive(
    const float* __restrict__ weight, const int* __restrict__ row, const float* __restrict__ dy, float* __restrict__ dpixels, Dims dims) {
    dpixels_one(weight, row, dy, dpixels, dims);
}

extern "C" __global__ void __launch_bounds__(64) dpixels_naive_bf16(
    const bf16* __restrict__ weight, const int* __restrict__ row, const bf16* __restrict__ dy, float* __restrict__ dpixels, Dims dims) {
    dpixels_one(weight, row, dy, dpixels, dims);
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

// Per row or column of the tile: where its elements start in the picture, and which row of the token matrix it is.
struct Rows {
    unsigned origin[TILE];
    unsigned token[TILE];
};

// Of patches m0 .. + TILE.
__device__ void find_rows(Rows& rows, const int* row, unsigned m0, const Dims& dims) {
    if (threadIdx.x < TILE) {
        unsigned m = m0 + threadIdx.x;
        bool there = m < dims.images * dims.patches;
        rows.origin[threadIdx.x] = there ? patch_origin(m, dims) : NONE;
        rows.token[threadIdx.x] = there ? checked_row(row[m], dims) : NONE;
    }
    __syncthreads();
}

__device__ void forward_tile_f32(const void* pixels, const float* weight, const float* bias, const float* position, const int* row, float* y, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    __shared__ Rows rows;
    unsigned across = (dims.depth + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    find_rows(rows, row, m0, dims);

    Sums sums;
    auto a = [&](unsigned k, unsigned i) {
        unsigned first = rows.origin[i];
        return first != NONE ? pixel(pixels, first + patch_offset(k, dims), dims) : 0.0f;
    };
    auto b = [&](unsigned k, unsigned i) { return n0 + i < dims.depth ? weight[size_t(n0 + i) * dims.inner + k] : 0.0f; };
    multiply_tiles<true, true>(sums, tiles, 0, dims.inner, a, b);
    write_tile(sums, tiles, [&](unsigned i, unsigned column, float sum) {
        unsigned to = rows.token[i], n = n0 + column;
        if (to != NONE && n < dims.depth) {
            y[size_t(to) * dims.depth + n] = place_of(m0 + i, n, bias, position, dims, sum);
        }
    });
}

// The sum runs over patches: rows of the result are n of D, columns are k of K.
__device__ void dweight_tile_f32(const void* pixels, const int* row, const float* dy, float* partial, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    __shared__ unsigned offset[TILE];
    unsigned across = (dims.inner + TILE - 1) / TILE;
    unsigned per_part_tiles = (dims.depth + TILE - 1) / TILE * across;
    unsigned part = blockIdx.x / per_part_tiles;
    unsigned n0 = blockIdx.x % per_part_tiles / across * TILE;
    unsigned k0 = blockIdx.x % across * TILE;
    unsigned count = dims.images * dims.patches;
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned end = min(count, (part + 1) * per_part);
    if (threadIdx.x < TILE) {
        offset[threadIdx.x] = k0 + threadIdx.x < dims.inner ? patch_offset(k0 + threadIdx.x, dims) : NONE;
    }
    __syncthreads();

    Sums sums;
    auto a = [&](unsigned m, unsigned i) {
        unsigned source = checked_row(row[m], dims);
        return source != NONE && n0 + i < dims.depth ? dy[size_t(source) * dims.depth + n0 + i] : 0.0f;
    };
    auto b = [&](unsigned m, unsigned i) {
        bool there = checked_row(row[m], dims) != NONE && offset[i] != NONE;
        return there ? pixel(pixels, patch_origin(m, dims) + offset[i], dims) : 0.0f;
    };
    multiply_tiles<false, false>(sums, tiles, part * per_part, end, a, b);
    write_tile(sums, tiles, [&](unsigned i, unsigned column, float sum) {
        unsigned n = n0 + i, k = k0 + column;
        if (n < dims.depth && k < dims.inner) {
            partial[(size_t(part) * dims.depth + n) * dims.inner + k] = sum;
        }
    });
}

__device__ void dpixels_tile_f32(const float* weight, const int* row, const float* dy, float* dpixels, const Dims& dims) {
    __shared__ alignas(16) Tiles tiles;
    __shared__ Rows rows;
    unsigned across = (dims.inner + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned k0 = blockIdx.x % across * TILE;
    find_rows(rows, row, m0, dims);

    Sums sums;
    auto a = [&](unsigned n, unsigned i) { return rows.token[i] != NONE ? dy[size_t(rows.token[i]) * dims.depth + n] : 0.0f; };
    auto b = [&](unsigned n, unsigned i) { return k0 + i < dims.inner ? weight[size_t(n) * dims.inner + k0 + i] : 0.0f; };
    multiply_tiles<true, false>(sums, tiles, 0, dims.depth, a, b);
    write_tile(sums, tiles, [&](unsigned i, unsigned column, float sum) {
        unsigned k = k0 + column;
        if (rows.origin[i] != NONE && k < dims.inner) {
            dpixels[rows.origin[i] + patch_offset(k, dims)] = sum * (1.0f / 127.5f);
        }
    });
}

extern "C" __global__ void __launch_bounds__(128) forward_tile(
    const void* __restrict__ pixels, const float* __restrict__ weight, const float* __restrict__ bias, const float* __restrict__ position, const int* __restrict__ row,
    float* __restrict__ y, Dims dims) {
    forward_tile_f32(pixels, weight, bias, position, row, y, dims);
}

extern "C" __global__ void __launch_bounds__(128) dweight_tile(
    const void* __restrict__ pixels, const int* __restrict__ row, const float* __restrict__ dy, float* __restrict__ partial, Dims dims) {
    dweight_tile_f32(pixels, row, dy, partial, dims);
}

extern "C" __global__ void __launch_bounds__(128) dpixels_tile(
    const float* __restrict__ weight, const int* __restrict__ row, const float* __restrict__ dy, float* __restrict__ dpixels, Dims dims) {
    dpixels_tile_f32(weight, row, dy, dpixels, dims);
}

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

constexpr int DEEP = 64; // of the summed index, staged at a time: a stage is two tiles of 64 × 64

struct Stage {
    bf16 a[TILE * DEEP];
    bf16 b[TILE * DEEP];
};

// Where 8 neighbours (16 bytes) of a row of 64 lie in a staged tile. Rows keep their order, their 16-byte chunks are permuted by
// the row: the eight rows that one phase of ldmatrix reads are then in eight different groups of four banks.
__device__ unsigned place(unsigned row, unsigned chunk) { return row * 64 + (chunk ^ row % 8) * 8; }

// A thread stages RUNS runs of 8 neighbours of a tile: run i is chunk run_chunk() of row run_row(i).
constexpr int RUNS = TILE * DEEP / 8 / THREADS;

__device__ unsigned run_row(int i) { return threadIdx.x / 8 + i * (THREADS / 8); }
__device__ unsigned run_chunk() { return threadIdx.x % 8; }

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

// A matrix as an operand: its rows first .. + 64 of [rows, width], from column column on. It goes to shared memory by itself.
struct Matrix {
    const bf16* data;
    unsigned rows;
    unsigned width;

    __device__ void copy(bf16* tile, unsigned first, unsigned column) const {
        column += run_chunk() * 8;
#pragma unroll
        for (int i = 0; i < RUNS; i++) {
            unsigned row = first + run_row(i);
            unsigned count = row < rows && column < width ? width - column : 0;
            stage_run(tile + place(run_row(i), run_chunk()), data + size_t(row) * width + column, data, count, width % 8 == 0);
        }
    }
};

// Rows of dy that belong to patches: those are looked up first, and the copy starts when they are known.
struct Gathered {
    const bf16* dy;
    unsigned width;
    unsigned token[RUNS];

    template <typename Find>
    __device__ void find(Find token_of) {
#pragma unroll
        for (int i = 0; i < RUNS; i++) {
            token[i] = token_of(run_row(i));
        }
    }

    __device__ void copy(bf16* tile, unsigned column) const {
        column += run_chunk() * 8;
#pragma unroll
        for (int i = 0; i < RUNS; i++) {
            unsigned count = token[i] != NONE && column < width ? width - column : 0;
            stage_run(tile + place(run_row(i), run_chunk()), dy + size_t(token[i]) * width + column, dy, count, width % 8 == 0);
        }
    }
};

// Runs of 8 neighbouring k of a thread's patches, as they lie in the picture: bytes in two words or reals in eight.
struct Unfolded {
    unsigned raw[RUNS][8];

    // origin_of(row): the first element of a row's patch, or NONE: what comes of that is finite and meets a zero.
    template <typename Origin>
    __device__ void load(const void* pixels, Origin origin_of, unsigned k, const Dims& dims) {
        unsigned line = 3 * dims.side;
        unsigned column = k % line;
        unsigned offset = k / line * dims.width * 3 + column;
#pragma unroll
        for (int i = 0; i < RUNS; i++) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                raw[i][j] = 0;
            }
            unsigned origin = origin_of(run_row(i));
            if (origin == NONE || k >= dims.inner) {
                continue;
            }
            unsigned at = origin + offset;
            const unsigned char* bytes = static_cast<const unsigned char*>(pixels);
            const unsigned* words = static_cast<const unsigned*>(pixels);
            if (dims.side % 8 == 0) {
                // Lines are whole runs, and every run lies at a multiple of 8 elements.
                if (dims.is_u8) {
                    uint2 x = *reinterpret_cast<const uint2*>(bytes + at);
                    raw[i][0] = x.x, raw[i][1] = x.y;
                } else {
                    uint4 x = *reinterpret_cast<const uint4*>(words + at), y = *reinterpret_cast<const uint4*>(words + at + 4);
                    raw[i][0] = x.x, raw[i][1] = x.y, raw[i][2] = x.z, raw[i][3] = x.w;
                    raw[i][4] = y.x, raw[i][5] = y.y, raw[i][6] = y.z, raw[i][7] = y.w;
                }
                continue;
            }
            unsigned in_line = column;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                if (k + j < dims.inner) {
                    if (dims.is_u8) {
                        raw[i][j / 4] |= unsigned(bytes[at]) << (j % 4 * 8);
                    } else {
                        raw[i][j] = words[at];
                    }
                }
                at++;
                if (++in_line == line) {
                    in_line = 0;
                    at += dims.width * 3 - line;
                }
            }
        }
    }

    // 2 · byte − 255, or the normalised real.
    __device__ float value(int i, int j, const Dims& dims) const {
        if (dims.is_u8) {
            // The byte as the low digits of 2¹⁵: cheaper than a conversion, and as exact.
            float shifted = __uint_as_float(__byte_perm(raw[i][j / 4], 0x47000000, 0x7604 | (j % 4) << 4));
            return fmaf(shifted, 2.0f, -65791.0f);
        }
        return normalised(__uint_as_float(raw[i][j]));
    }

    __device__ void store(bf16* tile, const Dims& dims) const {
#pragma unroll
        for (int i = 0; i < RUNS; i++) {
            __nv_bfloat162 pairs[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                pairs[j] = __floats2bfloat162_rn(value(i, 2 * j, dims), value(i, 2 * j + 1, dims));
            }
            *reinterpret_cast<uint4*>(tile + place(run_row(i), run_chunk())) = *reinterpret_cast<const uint4*>(pairs);
        }
    }
};

// A sum over pixels as the normalised ones give it. The correction makes the quotient the correctly rounded one.
__device__ float normalised_sum(float sum, const Dims& dims) {
    if (!dims.is_u8) {
        return sum;
    }
    float quotient = sum * (1.0f / 255.0f);
    return fmaf(fmaf(-quotient, 255.0f, sum), 1.0f / 255.0f, quotient);
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

// One stage: sums += a · b over its 64 of the summed index, which runs along the rows of a tile or down it.
template <bool A_ALONG_K, bool B_ALONG_K>
__device__ void multiply_stage(WarpSums& sums, const Stage& stage) {
    unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < DEEP; k += 16) {
        unsigned a[2][4], b[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            // Register r: the 8 × 8 at row 8·(r % 2), k 8·(r / 2).
            unsigned row = warp_row() + i * 16;
            if (A_ALONG_K) {
                load_matrices(a[i], stage.a + place(row + lane % 16, k / 8 + lane / 16));
            } else {
                load_transposed(a[i], stage.a + place(k + lane % 8 + lane / 16 * 8, row / 8 + lane / 8 % 2));
            }
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            // Register r: the 8 × 8 at column 8·(r / 2), k 8·(r % 2).
            unsigned column = warp_column() + j * 16;
            if (B_ALONG_K) {
                load_matrices(b[j], stage.b + place(column + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
            } else {
                load_transposed(b[j], stage.b + place(k + lane % 16, column / 8 + lane / 16));
            }
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

// Two stages, one multiplied while the other is filled. load(step) starts what comes by registers, copy(stage, step) what comes
// by itself, store(stage) puts down what came by registers.
template <bool A_ALONG_K, bool B_ALONG_K, typename Load, typename Copy, typename Store>
__device__ void multiply_all(WarpSums& sums, Stage (&stages)[2], unsigned steps, Load load, Copy copy, Store store) {
    if (steps > 0) {
        load(0);
        copy(stages[0], 0);
        store(stages[0]);
    }
    commit_copies();
#pragma unroll 1
    for (unsigned step = 0; step < steps; step++) {
        Stage& now = stages[step % 2];
        Stage& next = stages[(step + 1) % 2];
        bool more = step + 1 < steps;
        if (more) {
            load(step + 1);
        }
        wait_copies<0>();
        // This stage is there for every thread, and nobody reads the other one any more.
        __syncthreads();
        if (more) {
            copy(next, step + 1);
        }
        commit_copies();
        multiply_stage<A_ALONG_K, B_ALONG_K>(sums, now);
        if (more) {
            store(next);
        }
    }
    __syncthreads(); // nobody multiplies any more
}

__device__ void forward_mma_tile(const void* pixels, const bf16* weight, const bf16* bias, const bf16* position, const int* row, bf16* y, const Dims& dims) {
    __shared__ alignas(128) Stage stages[2];
    __shared__ Rows rows;
    unsigned across = (dims.depth + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned n0 = blockIdx.x % across * TILE;
    find_rows(rows, row, m0, dims);

    WarpSums sums;
    Unfolded x;
    Matrix w{weight, dims.depth, dims.inner};
    auto origin_of = [&](unsigned i) { return rows.token[i] != NONE ? rows.origin[i] : NONE; };
    multiply_all<true, true>(
        sums, stages, (dims.inner + DEEP - 1) / DEEP,
        [&](unsigned step) { x.load(pixels, origin_of, step * DEEP + run_chunk() * 8, dims); },
        [&](Stage& stage, unsigned step) { w.copy(stage.b, n0, step * DEEP); },
        [&](Stage& stage) { x.store(stage.a, dims); });
    write_warp(sums, reinterpret_cast<float*>(&stages[0]), [&](unsigned i, unsigned column, float2 pair) {
        unsigned to = rows.token[i], n = n0 + column;
        if (to == NONE || n >= dims.depth) {
            return;
        }
        bf16* at = y + size_t(to) * dims.depth + n;
        pair.x = place_of(m0 + i, n, bias, position, dims, normalised_sum(pair.x, dims));
        if (n + 1 < dims.depth) {
            pair.y = place_of(m0 + i, n + 1, bias, position, dims, normalised_sum(pair.y, dims));
        }
        if (dims.depth % 2 == 0) {
            *reinterpret_cast<__nv_bfloat162*>(at) = __floats2bfloat162_rn(pair.x, pair.y);
        } else {
            at[0] = __float2bfloat16_rn(pair.x);
            if (n + 1 < dims.depth) {
                at[1] = __float2bfloat16_rn(pair.y);
            }
        }
    });
}

// The sum runs over patches: rows of the result are n of D, columns are k of K.
__device__ void dweight_mma_tile(const void* pixels, const int* row, const bf16* dy, float* partial, const Dims& dims) {
    __shared__ alignas(128) Stage stages[2];
    unsigned across = (dims.inner + TILE - 1) / TILE;
    unsigned tiles = (dims.depth + TILE - 1) / TILE * across;
    unsigned part = blockIdx.x / tiles;
    unsigned n0 = blockIdx.x % tiles / across * TILE;
    unsigned k0 = blockIdx.x % across * TILE;
    unsigned count = dims.images * dims.patches;
    unsigned per_part = (count + dims.parts - 1) / dims.parts;
    unsigned first = min(count, part * per_part);
    unsigned end = min(count, first + per_part);
    Divider per_image(dims.patches), per_line(dims.across);

    WarpSums sums;
    Gathered g{dy, dims.depth, {}};
    Unfolded x;
    auto load = [&](unsigned step) {
        unsigned m0 = first + step * DEEP;
        g.find([&](unsigned i) { return m0 + i < end ? checked_row(row[m0 + i], dims) : NONE; });
        auto origin_of = [&](unsigned i) {
            unsigned image, p, down, right;
            per_image.split(m0 + i, image, p);
            per_line.split(p, down, right);
            unsigned origin = ((image * dims.height + down * dims.side) * dims.width + right * dims.side) * 3;
            return g.token[(i - threadIdx.x / 8) / (THREADS / 8)] != NONE ? origin : NONE;
        };
        x.load(pixels, origin_of, k0 + run_chunk() * 8, dims);
    };
    multiply_all<false, false>(
        sums, stages, (end - first + DEEP - 1) / DEEP, load,
        [&](Stage& stage, unsigned) { g.copy(stage.a, n0); },
        [&](Stage& stage) { x.store(stage.b, dims); });
    write_warp(sums, reinterpret_cast<float*>(&stages[0]), [&](unsigned i, unsigned column, float2 pair) {
        unsigned n = n0 + i, k = k0 + column;
        if (n < dims.depth && k < dims.inner) {
            float* to = partial + (size_t(part) * dims.depth + n) * dims.inner + k;
            to[0] = normalised_sum(pair.x, dims);
            if (k + 1 < dims.inner) {
                to[1] = normalised_sum(pair.y, dims);
            }
        }
    });
}

__device__ void dpixels_mma_tile(const bf16* weight, const int* row, const bf16* dy, float* dpixels, const Dims& dims) {
    __shared__ alignas(128) Stage stages[2];
    __shared__ Rows rows;
    unsigned across = (dims.inner + TILE - 1) / TILE;
    unsigned m0 = blockIdx.x / across * TILE;
    unsigned k0 = blockIdx.x % across * TILE;
    find_rows(rows, row, m0, dims);

    WarpSums sums;
    Gathered g{dy, dims.depth, {}};
    g.find([&](unsigned i) { return rows.token[i]; });
    Matrix w{weight, dims.depth, dims.inner};
    multiply_all<true, false>(
        sums, stages, (dims.depth + DEEP - 1) / DEEP, [](unsigned) {},
        [&](Stage& stage, unsigned step) {
            g.copy(stage.a, step * DEEP);
            w.copy(stage.b, step * DEEP, k0);
        },
        [](Stage&) {});
    write_warp(sums, reinterpret_cast<float*>(&stages[0]), [&](unsigned i, unsigned column, float2 pair) {
        unsigned first = rows.origin[i], k = k0 + column;
        if (first == NONE || k >= dims.inner) {
            return;
        }
        dpixels[first + patch_offset(k, dims)] = pair.x * (1.0f / 127.5f);
        if (k + 1 < dims.inner) {
            dpixels[first + patch_offset(k + 1, dims)] = pair.y * (1.0f / 127.5f);
        }
    });
}

extern "C" __global__ void __launch_bounds__(128) forward_mma_bf16(
    const void* __restrict__ pixels, const bf16* __restrict__ weight, const bf16* __restrict__ bias, const bf16* __restrict__ position, const int* __restrict__ row,
    bf16* __restrict__ y, Dims dims) {
    forward_mma_tile(pixels, weight, bias, position, row, y, dims);
}

extern "C" __global__ void __launch_bounds__(128) dweight_mma_bf16(
    const void* __restrict__ pixels, const int* __restrict__ row, const bf16* __restrict__ dy, float* __restrict__ partial, Dims dims) {
    dweight_mma_tile(pixels, row, dy, partial, dims);
}

extern "C" __global__ void __launch_bounds__(128) dpixels_mma_bf16(
    const bf16* __restrict__ weight, const int* __restrict__ row, const bf16* __restrict__ dy, float* __restrict__ dpixels, Dims dims) {
    dpixels_mma_tile(weight, row, dy, dpixels, dims);
}

// ── Beside the ladder: the sums for b and position, and the second pass of dW ────────────────────────────────────────

template <typename T>
__device__ void sum_images(const int* row, const T* dy, float* sums, const Dims& dims) {
    unsigned index = blockIdx.x * 64 + threadIdx.x;
    if (index >= dims.patches * dims.depth) {
        return;
    }
    unsigned p = index / dims.depth;
    unsigned n = index % dims.depth;
    float total = 0.0f;
    for (unsigned image = 0; image < dims.images; image++) {
        unsigned source = checked_row(row[size_t(image) * dims.patches + p], dims);
        if (source != NONE) {
            total += to_float(dy[size_t(source) * dims.depth + n]);
        }
    }
    sums[size_t(dims.parts) * dims.depth * dims.inner + index] = total;
}

extern "C" __global__ void __launch_bounds__(64) position_sums(const int* __restrict__ row, const float* __restrict__ dy, float* __restrict__ sums, Dims dims) {
    sum_images(row, dy, sums, dims);
}

extern "C" __global__ void __launch_bounds__(64) position_sums_bf16(const int* __restrict__ row, const bf16* __restrict__ dy, float* __restrict__ sums, Dims dims) {
    sum_images(row, dy, sums, dims);
}

// Slots 0..2G are the rows of dposition (x and y by turns), slot 2G is the bias.
extern "C" __global__ void __launch_bounds__(64) position_finish(
    const float* __restrict__ sums, float* __restrict__ dbias, float* __restrict__ dposition, Dims dims) {
    unsigned index = blockIdx.x * 64 + threadIdx.x;
    if (index >= (2 * dims.grid + 1) * dims.depth) {
        return;
    }
    unsigned slot = index / dims.depth;
    unsigned n = index % dims.depth;
    unsigned down = dims.patches / dims.across;
    // Patches first, first + step, …, `terms` of them.
    unsigned first = 0, step = 1, terms = dims.patches;
    if (slot < 2 * dims.grid) {
        unsigned place = slot / 2;
        if (slot % 2 == 0) {
            first = place;
            step = dims.across;
            terms = place < dims.across ? down : 0;
        } else {
            first = place * dims.across;
            terms = place < down ? dims.across : 0;
        }
    }
    const float* by_patch = sums + size_t(dims.parts) * dims.depth * dims.inner;
    float total = 0.0f;
    for (unsigned i = 0; i < terms; i++) {
        total += by_patch[size_t(first + i * step) * dims.depth + n];
    }
    if (slot == 2 * dims.grid) {
        dbias[n] += total;
    } else {
        dposition[index] += total;
    }
}

extern "C" __global__ void __launch_bounds__(64) dweight_finish(const float* __restrict__ partial, float* __restrict__ dweight, Dims dims) {
    size_t index = size_t(blockIdx.x) * 64 + threadIdx.x;
    size_t count = size_t(dims.depth) * dims.inner;
    if (index >= count) {
        return;
    }
    float total = 0.0f;
    for (unsigned part = 0; part < dims.parts; part++) {
        total += partial[part * count + index];
    }
    dweight[index] += total;
}
