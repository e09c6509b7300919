// matmul: C (+)= A · B + bias + residual, three layouts of A and B, f32 or bf16 operands, f32 sums, f32 or bf16 output.
//
//   layout   A        B        suffix
//   NT       [M, K]   [N, K]   _nt      y = x · Wᵀ, a linear layer with its weight as checkpoints store it
//   NN       [M, K]   [K, N]   _nn      dx = dy · W
//   TN       [K, M]   [K, N]   _tn      dW = dyᵀ · x: M and N small, K long: the split rung
//
// Backward.  With Y = X · Wᵀ:   dX = dY · W (NN),   dW = dYᵀ · X (TN).
//
// Every entry but split_finish has a variant per layout, and after the layout's suffix one per type:
//   naive, tile:  none: all f32                         naive_nt, tile_small_tn
//   naive, mma:   _bf16: A and B bf16, all else f32     mma_nt_bf16 (a gradient that accumulates in f32)
//                 _bf16_bf16: all bf16                  mma_nt_bf16_bf16 (activations)
//
// The ladder, in the order of this file, each rung one idea away from the last:
//   rung 1: naive  one thread per element of C.
//   rung 2: tile   f32: a block owns 128 × 128 of C, stages 8 of K in shared memory with k as the row, a thread keeps 8 × 8 of C
//                  in registers.
//   rung 3: mma    bf16: a block owns 128 × 128 of C, three stages of 32 of K are on their way by cp.async, warps of tensor cores
//                  multiply 64 × 32.
//   rung 4: small  tile_small, mma_small: 64 × 64 of C with half the threads, where 128 × 128 would leave multiprocessors idle.
//   rung 5: split  rungs 2 to 4 with splits > 1, then split_finish: several blocks share a tile of C, each with its own stretch of
//                  K; their partial tiles are added in order by a second pass, so that every run has the same bits.
//
// naive         block 64, one element of C per thread, grid = ceil(M · N / 64): C
//   0  a         [M, K]  f32|bf16  read (_tn: [K, M])
//   1  b         [N, K]  f32|bf16  read (_nn, _tn: [K, N])
//   2  bias      [N]     f32|bf16  read (only if flags & 1; _bf16_bf16: bf16)
//   3  residual  [M, N]  f32|bf16  read (only if flags & 2; _bf16_bf16: bf16)
//   4  c         [M, N]  f32|bf16  overwritten (accumulated if flags & 4; _bf16_bf16: bf16)
//   5  dims      by value
// tile          block 256, 128 × 128 of C over one stretch of K, grid = splits · ceil(M / 128) · ceil(N / 128): C, or its parts
//   0  a         [M, K]  f32  read (_tn: [K, M])
//   1  b         [N, K]  f32  read (_nn, _tn: [K, N])
//   2  bias      [N]     f32  read (only if flags & 1)
//   3  residual  [M, N]  f32  read (only if flags & 2)
//   4  c         [splits, M, N]  f32  overwritten (accumulated if flags & 4; no flags where splits > 1)
//   5  dims      by value
// mma           block 256, 128 × 128 of C over one stretch of K, grid = splits · ceil(M / 128) · ceil(N / 128): C, or its parts
//   0  a         [M, K]  bf16  read (_tn: [K, M])
//   1  b         [N, K]  bf16  read (_nn, _tn: [K, N])
//   2  bias      [N]     f32|bf16  read (only if flags & 1; _bf16_bf16: bf16)
//   3  residual  [M, N]  f32|bf16  read (only if flags & 2; _bf16_bf16: bf16)
//   4  c         [splits, M, N]  f32|bf16  overwritten (accumulated if flags & 4; no flags where splits > 1; _bf16_bf16: bf16)
//   5  dims      by value
// tile_small    block 128, 64 × 64 of C over one stretch of K, grid = splits · ceil(M / 64) · ceil(N / 64): C, or its parts
//   0  a         [M, K]  f32  read (_tn: [K, M])
//   1  b         [N, K]  f32  read (_nn, _tn: [K, N])
//   2  bias      [N]     f32  read (only if flags & 1)
//   3  residual  [M, N]  f32  read (only if flags & 2)
//   4  c         [splits, M, N]  f32  overwritten (accumulated if flags & 4; no flags where splits > 1)
//   5  dims      by value
// mma_small     block 128, 64 × 64 of C over one stretch of K, grid = splits · ceil(M / 64) · ceil(N / 64): C, or its parts
//   0  a         [M, K]  bf16  read (_tn: [K, M])
//   1  b         [N, K]  bf16  read (_nn, _tn: [K, N])
//   2  bias      [N]     f32|bf16  read (only if flags & 1; _bf16_bf16: bf16)
//   3  residual  [M, N]  f32|bf16  read (only if flags & 2; _bf16_bf16: bf16)
//   4  c         [splits, M, N]  f32|bf16  overwritten (accumulated if flags & 4; no flags where splits > 1; _bf16_bf16: bf16)
//   5  dims      by value
// split_finish  block 64, one element of C per thread, grid = ceil(M · N / 64): C from its parts
//   0  partial   [splits, M, N]  f32  read (the c of tile or mma, in f32)
//   1  bias      [N]             f32|bf16  read (only if flags & 1)
//   2  residual  [M, N]          f32|bf16  read (only if flags & 2)
//   3  c         [M, N]          f32|bf16  overwritten (accumulated if flags & 4)
//   4  dims      by value
// Precision: f32 sums in a fixed order, the same bits on every run, for bf16 operands too; bf16 is rounded once, when it is stored.
// Limits: M, N ≥ 1, K ≥ 0, every matrix < 2³¹ elements; rows that are not a multiple of 16 bytes are read one element at a time.
// 2 · M · N · K operations. A block reads 2 · TILE · K elements for 2 · TILE² · K operations: 64 operations per byte in bf16
// with a TILE of 128, 32 with 64, all but the first reads from L2. Shared memory: 17 KiB (tile, tile_small), 48 KiB (mma),
// 24 KiB (mma_small).
// Twin: shaders/matmul.wgsl.
#include <cuda_bf16.h>

using bf16 = __nv_bfloat16;

struct Dims {
    unsigned m;              // M
    unsigned n;              // N
    unsigned k;              // K
    unsigned flags;          // 1 bias, 2 residual, 4 accumulate
    unsigned splits;         // stretches of K
    unsigned k_per_split;    // their length, a multiple of 32
    unsigned padding0;
    unsigned padding1;
};

enum Layout { NT, NN, TN };

// ┌ the same in conv1d.cu, conv2d.cu, matmul.cu, patch_embed.cu: f32 and bf16
__device__ float to_float(float x) { return x; }
__device__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ void round_to(float& to, float x) { to = x; }
__device__ void round_to(bf16& to, float x) { to = __float2bfloat16_rn(x); }
// └ the same up to here: f32 and bf16

// ── What is added to the sums ────────────────────────────────────────────────────────────────────────────────────────

// WIDTH neighbours in a row, one access.
template <typename T, int WIDTH>
struct alignas(sizeof(T) * WIDTH) Run {
    T x[WIDTH];
};

// Adds WIDTH neighbours in memory to sums.
template <int WIDTH, typename T>
__device__ void add(float (&sum)[WIDTH], const T* more) {
    Run<T, WIDTH> run = *reinterpret_cast<const Run<T, WIDTH>*>(more);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        sum[i] += to_float(run.x[i]);
    }
}

// Writes WIDTH neighbours of a row of C, which are inside it and aligned: their sums with what the flags add to them.
template <int WIDTH, typename T>
__device__ void finish_run(const Dims& dims, const T* bias, const T* residual, T* c, unsigned row, unsigned column, const float* sums) {
    size_t at = size_t(row) * dims.n + column;
    float sum[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        sum[i] = sums[i];
    }
    if (dims.flags & 1) {
        add(sum, bias + column);
    }
    if (dims.flags & 2) {
        add(sum, residual + at);
    }
    if (dims.flags & 4) {
        add(sum, c + at);
    }
    Run<T, WIDTH> result;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        round_to(result.x[i], sum[i]);
    }
    *reinterpret_cast<Run<T, WIDTH>*>(c + at) = result;
}

// ── rung 1: naive: one thread per element of C ───────────────────────────────────────────────────────────────────────

template <Layout LAYOUT, typename I, typename O>
__device__ void one_element(const I* a, const I* b, const O* bias, const O* residual, O* c, const Dims& dims) {
    size_t at = size_t(blockIdx.x) * 64 + threadIdx.x;
    if (at >= size_t(dims.m) * dims.n) {
        return;
    }
    unsigned row = at / dims.n;
    unsigned column = at % dims.n;
    float sum = 0.0f;
#pragma unroll 1
    for (unsigned k = 0; k < dims.k; k++) {
        size_t a_at = LAYOUT == TN ? size_t(k) * dims.m + row : size_t(row) * dims.k + k;
        size_t b_at = LAYOUT == NT ? size_t(column) * dims.k + k : size_t(k) * dims.n + column;
        sum = fmaf(to_float(a[a_at]), to_float(b[b_at]), sum);
    }
    finish_run<1>(dims, bias, residual, c, row, column, &sum);
}

extern "C" __global__ void __launch_bounds__(64) naive_nt(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    one_element<NT>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_nt_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    one_element<NT>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_nt_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    one_element<NT>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_nn(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    one_element<NN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_nn_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    one_element<NN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_nn_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    one_element<NN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_tn(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    one_element<TN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_tn_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    one_element<TN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) naive_tn_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    one_element<TN>(a, b, bias, residual, c, dims);
}

// ── What the other rungs share: which part of C a block owns, and how a thread writes into it ────────────────────────

struct Part {
    unsigned split;
    unsigned first_row;
    unsigned first_column;
    unsigned first_k;
    unsigned end_k;
};

// Tiles are numbered in bands of eight rows of tiles, column by column: blocks that run at the same time share rows of A and
// columns of B, so that most of their reads hit L2.
template <int TILE>
__device__ Part part_of_block(const Dims& dims) {
    unsigned tiles_m = (dims.m + TILE - 1) / TILE;
    unsigned tiles_n = (dims.n + TILE - 1) / TILE;
    unsigned split = blockIdx.x / (tiles_m * tiles_n);
    unsigned index = blockIdx.x % (tiles_m * tiles_n);
    unsigned band = index / (8 * tiles_n);
    unsigned within = index % (8 * tiles_n);
    unsigned height = min(8u, tiles_m - 8 * band);
    Part part;
    part.split = split;
    part.first_row = (8 * band + within % height) * TILE;
    part.first_column = within / height * TILE;
    part.first_k = min(split * dims.k_per_split, dims.k);
    part.end_k = min(part.first_k + dims.k_per_split, dims.k);
    return part;
}

// As finish_run, anywhere in the tile.
template <int WIDTH, typename T>
__device__ void finish(const Dims& dims, const T* bias, const T* residual, T* c, unsigned row, unsigned column, const float* sums) {
    if (row >= dims.m || column >= dims.n) {
        return;
    }
    if (dims.n % WIDTH == 0) {
        finish_run<WIDTH>(dims, bias, residual, c, row, column, sums);
        return;
    }
    // Rows are not aligned, and the last run of a row may be short.
#pragma unroll 1
    for (unsigned i = 0; i < WIDTH && column + i < dims.n; i++) {
        finish_run<1>(dims, bias, residual, c, row, column + i, sums + i);
    }
}

// ── rung 2: tile: f32, registers of C per thread ─────────────────────────────────────────────────────────────────────

// Four neighbours of a stored row, zeros outside [rows, columns). aligned: every quad in use is whole and lies at 16 bytes.
__device__ float4 quad(const float* matrix, unsigned pitch, unsigned row, unsigned rows, unsigned column, unsigned columns, bool aligned) {
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row >= rows || column >= columns) {
        return x;
    }
    const float* from = matrix + size_t(row) * pitch + column;
    if (aligned) {
        return *reinterpret_cast<const float4*>(from);
    }
    x.x = from[0];
    if (column + 1 < columns) { x.y = from[1]; }
    if (column + 2 < columns) { x.z = from[2]; }
    if (column + 3 < columns) { x.w = from[3]; }
    return x;
}

// One operand of a tile on its way to shared memory, where k is the row: [TILE_K][TILE + 4]. The four floats of padding keep the
// rows at 16 bytes and move the transposed stores of neighbouring k to other banks.
template <bool ALONG_K, int TILE, int TILE_K, int THREADS>
struct Fetch {
    static constexpr int PITCH = TILE + 4;
    static constexpr int QUADS = TILE * TILE_K / 4 / THREADS;
    static constexpr int ACROSS = (ALONG_K ? TILE_K : TILE) / 4;
    static_assert(QUADS * THREADS * 4 == TILE * TILE_K, "threads share the quads out evenly");

    float4 held[QUADS];

    // first, size: of the operand's rows of C (A) or columns of C (B); first_k, end_k: of K.
    __device__ void load(const float* matrix, unsigned first, unsigned size, unsigned first_k, unsigned end_k, unsigned pitch) {
        bool aligned = pitch % 4 == 0;
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            unsigned index = threadIdx.x + i * THREADS;
            unsigned row = index / ACROSS, column = index % ACROSS * 4;
            held[i] = ALONG_K ? quad(matrix, pitch, first + row, size, first_k + column, end_k, aligned)
                              : quad(matrix, pitch, first_k + row, end_k, first + column, size, aligned);
        }
    }

    __device__ void store(float (&tile)[TILE_K][PITCH]) {
#pragma unroll
        for (int i = 0; i < QUADS; i++) {
            unsigned index = threadIdx.x + i * THREADS;
            unsigned row = index / ACROSS, column = index % ACROSS * 4;
            if (ALONG_K) {
                tile[column][row] = held[i].x;
                tile[column + 1][row] = held[i].y;
                tile[column + 2][row] = held[i].z;
                tile[column + 3][row] = held[i].w;
            } else {
                *reinterpret_cast<float4*>(&tile[row][column]) = held[i];
            }
        }
    }
};

// A thread's ROWS × 8 of C are quads: ROWS / 4 of rows, 2 of columns, spread over the tile so that the 32 lanes of a warp
// (4 × 8) read whole 128-byte lines of shared memory.
template <Layout LAYOUT, int TILE, int TILE_K, int ROWS>
__device__ void tile_of_c(const float* a, const float* b, const float* bias, const float* residual, float* c, const Dims& dims) {
    constexpr int THREADS = TILE / ROWS * (TILE / 8);
    constexpr int PITCH = TILE + 4;
    constexpr int WARPS_ACROSS = TILE / 64;
    __shared__ alignas(16) float a_tile[2][TILE_K][PITCH];
    __shared__ alignas(16) float b_tile[2][TILE_K][PITCH];

    Part part = part_of_block<TILE>(dims);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned row = (warp / WARPS_ACROSS * 4 + lane / 8) * 4;
    unsigned column = (warp % WARPS_ACROSS * 8 + lane % 8) * 4;
    unsigned a_pitch = LAYOUT == TN ? dims.m : dims.k;
    unsigned b_pitch = LAYOUT == NT ? dims.k : dims.n;
    Fetch<LAYOUT != TN, TILE, TILE_K, THREADS> fetch_a;
    Fetch<LAYOUT == NT, TILE, TILE_K, THREADS> fetch_b;

    float sum[ROWS][8];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sum[i][j] = 0.0f;
        }
    }
    if (part.first_k < part.end_k) {
        fetch_a.load(a, part.first_row, dims.m, part.first_k, part.end_k, a_pitch);
        fetch_b.load(b, part.first_column, dims.n, part.first_k, part.end_k, b_pitch);
        fetch_a.store(a_tile[0]);
        fetch_b.store(b_tile[0]);
    }
    __syncthreads();
    unsigned stage = 0;
    for (unsigned k0 = part.first_k; k0 < part.end_k; k0 += TILE_K) {
        // The next stage's loads are on their way while this one is multiplied.
        bool more = k0 + TILE_K < part.end_k;
        if (more) {
            fetch_a.load(a, part.first_row, dims.m, k0 + TILE_K, part.end_k, a_pitch);
            fetch_b.load(b, part.first_column, dims.n, k0 + TILE_K, part.end_k, b_pitch);
        }
#pragma unroll
        for (int k = 0; k < TILE_K; k++) {
            float x[ROWS], y[8];
#pragma unroll
            for (int i = 0; i < ROWS; i += 4) {
                *reinterpret_cast<float4*>(x + i) = *reinterpret_cast<const float4*>(&a_tile[stage][k][row + i / 4 * (4 * TILE / ROWS)]);
            }
#pragma unroll
            for (int j = 0; j < 8; j += 4) {
                *reinterpret_cast<float4*>(y + j) = *reinterpret_cast<const float4*>(&b_tile[stage][k][column + j / 4 * (TILE / 2)]);
            }
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
                }
            }
        }
        stage ^= 1;
        if (more) {
            fetch_a.store(a_tile[stage]);
            fetch_b.store(b_tile[stage]);
        }
        // One barrier: this stage is written before anyone reads it, and the other one is read before anyone overwrites it.
        __syncthreads();
    }
    c += size_t(part.split) * dims.m * dims.n;
    // Row by row through a thread's own eight floats of shared memory: one small loop finishes any of them.
    float* own = &a_tile[0][0][0] + threadIdx.x * 8;
    static_assert(sizeof(a_tile) >= THREADS * 8 * sizeof(float), "every thread has its eight floats");
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            own[j] = sum[i][j];
        }
#pragma unroll 1
        for (unsigned j = 0; j < 8; j += 4) {
            finish<4>(dims, bias, residual, c, part.first_row + row + i / 4 * (4 * TILE / ROWS) + i % 4, part.first_column + column + j * (TILE / 8), own + j);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) tile_nt(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    tile_of_c<NT, 128, 8, 8>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) tile_nn(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    tile_of_c<NN, 128, 8, 8>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) tile_tn(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    tile_of_c<TN, 128, 8, 8>(a, b, bias, residual, c, dims);
}

// ── rung 3: mma: bf16 on tensor cores ────────────────────────────────────────────────────────────────────────────────

constexpr int TILE_K = 32;
constexpr int STAGES = 3;

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

// Stages [first_row .. + ROWS, first_column .. + COLUMNS] of a stored matrix, zeros outside [rows, columns).
template <int ROWS, int COLUMNS, int THREADS>
__device__ void stage(bf16* tile, const bf16* matrix, unsigned pitch, unsigned first_row, unsigned rows, unsigned first_column, unsigned columns) {
    constexpr int CHUNKS = COLUMNS / 8;
    static_assert(ROWS * CHUNKS % THREADS == 0, "threads share the chunks out evenly");
#pragma unroll
    for (int i = 0; i < ROWS * CHUNKS / THREADS; i++) {
        unsigned index = threadIdx.x + i * THREADS;
        unsigned row = first_row + index / CHUNKS, column = first_column + index % CHUNKS * 8;
        bf16* to = tile + place<COLUMNS>(index / CHUNKS, index % CHUNKS);
        const bf16* from = matrix + size_t(row) * pitch + column;
        bool there = row < rows && column < columns;
        if (pitch % 8 == 0) {
            copy_async(to, there ? from : matrix, there);
        } else {
            const unsigned short* bits = reinterpret_cast<const unsigned short*>(from);
            unsigned words[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                unsigned low = there && column + 2 * j < columns ? bits[2 * j] : 0;
                unsigned high = there && column + 2 * j + 1 < columns ? bits[2 * j + 1] : 0;
                words[j] = low | high << 16;
            }
            *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
        }
    }
}

// Stages TILE_K of one operand from k0 on: as it is stored, [TILE][TILE_K] if K runs along its rows, else [TILE_K][TILE].
template <bool ALONG_K, int TILE, int THREADS>
__device__ void stage_operand(bf16* tile, const bf16* matrix, unsigned pitch, unsigned first, unsigned size, unsigned k0, unsigned end_k) {
    if (ALONG_K) {
        stage<TILE, TILE_K, THREADS>(tile, matrix, pitch, first, size, k0, end_k);
    } else {
        stage<TILE_K, TILE, THREADS>(tile, matrix, pitch, k0, end_k, first, size);
    }
}

// The fragment of A for mma: rows row .. + 16 of C, k .. k + 16. Register i is the 8 × 8 at row 8·(i % 2), k 8·(i / 2).
template <bool ALONG_K, int TILE>
__device__ void fragment_a(unsigned (&to)[4], const bf16* tile, unsigned row, unsigned k, unsigned lane) {
    if (ALONG_K) {
        load_matrices(to, tile + place<TILE_K>(row + lane % 16, k / 8 + lane / 16));
    } else {
        load_transposed(to, tile + place<TILE>(k + lane % 8 + lane / 16 * 8, row / 8 + lane / 8 % 2));
    }
}

// Two fragments of B: columns column .. + 16 of C, k .. k + 16. Register i is the 8 × 8 at column 8·(i / 2), k 8·(i % 2).
template <bool ALONG_K, int TILE>
__device__ void fragments_b(unsigned (&to)[4], const bf16* tile, unsigned column, unsigned k, unsigned lane) {
    if (ALONG_K) {
        load_matrices(to, tile + place<TILE_K>(column + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
    } else {
        load_transposed(to, tile + place<TILE>(k + lane % 16, column / 8 + lane / 16));
    }
}

// WARPS_M × WARPS_N warps share a tile of C.
template <Layout LAYOUT, int TILE, int WARPS_M, int WARPS_N, typename O>
__device__ void mma_of_c(const bf16* a, const bf16* b, const O* bias, const O* residual, O* c, const Dims& dims) {
    constexpr int THREADS = 32 * WARPS_M * WARPS_N;
    constexpr int DOWN = TILE / WARPS_M / 16, ACROSS = TILE / WARPS_N / 16; // 16 × 16 pieces of C per warp
    __shared__ alignas(128) bf16 a_tile[STAGES][TILE * TILE_K];
    __shared__ alignas(128) bf16 b_tile[STAGES][TILE * TILE_K];

    Part part = part_of_block<TILE>(dims);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned row = warp / WARPS_N * (TILE / WARPS_M);
    unsigned column = warp % WARPS_N * (TILE / WARPS_N);
    unsigned a_pitch = LAYOUT == TN ? dims.m : dims.k;
    unsigned b_pitch = LAYOUT == NT ? dims.k : dims.n;
    unsigned steps = (part.end_k - part.first_k + TILE_K - 1) / TILE_K;

    float sum[DOWN][2 * ACROSS][4];
#pragma unroll
    for (int i = 0; i < DOWN; i++) {
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; j++) {
            sum[i][j][0] = sum[i][j][1] = sum[i][j][2] = sum[i][j][3] = 0.0f;
        }
    }

    auto stage_step = [&](unsigned step) {
        unsigned k0 = part.first_k + step * TILE_K;
        stage_operand<LAYOUT != TN, TILE, THREADS>(a_tile[step % STAGES], a, a_pitch, part.first_row, dims.m, k0, part.end_k);
        stage_operand<LAYOUT == NT, TILE, THREADS>(b_tile[step % STAGES], b, b_pitch, part.first_column, dims.n, k0, part.end_k);
    };
#pragma unroll 1
    for (unsigned step = 0; step < STAGES - 1; step++) {
        if (step < steps) {
            stage_step(step);
        }
        commit_copies(); // a group per step, empty or not: the count of pending groups below stays the same
    }
#pragma unroll 1
    for (unsigned step = 0; step < steps; step++) {
        wait_copies<STAGES - 2>();
        // This step is there for every thread, and nobody reads the stage any more that is staged next.
        __syncthreads();
        if (step + STAGES - 1 < steps) {
            stage_step(step + STAGES - 1);
        }
        commit_copies();
        const bf16* a_now = a_tile[step % STAGES];
        const bf16* b_now = b_tile[step % STAGES];
#pragma unroll
        for (int k = 0; k < TILE_K; k += 16) {
            unsigned x[DOWN][4], y[ACROSS][4];
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
                fragment_a<LAYOUT != TN, TILE>(x[i], a_now, row + i * 16, k, lane);
            }
#pragma unroll
            for (int j = 0; j < ACROSS; j++) {
                fragments_b<LAYOUT == NT, TILE>(y[j], b_now, column + j * 16, k, lane);
            }
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
#pragma unroll
                for (int j = 0; j < ACROSS; j++) {
                    multiply(sum[i][2 * j], x[i], y[j][0], y[j][1]);
                    multiply(sum[i][2 * j + 1], x[i], y[j][2], y[j][3]);
                }
            }
        }
    }
    // A lane has two neighbours of row lane / 4 of every 16 × 8 of C, and two of the row eight below: each warp turns 16 rows at a
    // time in shared memory of its own, so that lanes write 16 bytes and whole sectors.
    constexpr int PITCH = 16 * ACROSS + 8; // eight more floats: the four rows that half a warp writes are in different banks
    constexpr int WIDTH = 16 / sizeof(O);
    static_assert(sizeof(a_tile) >= WARPS_M * WARPS_N * 16 * PITCH * sizeof(float), "every warp has its 16 rows");
    float* own = reinterpret_cast<float*>(&a_tile[0][0]) + warp * 16 * PITCH;
    c += size_t(part.split) * dims.m * dims.n;
    __syncthreads(); // nobody multiplies any more
#pragma unroll
    for (int i = 0; i < DOWN; i++) {
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; j++) {
            float* at = own + lane / 4 * PITCH + j * 8 + lane % 4 * 2;
            *reinterpret_cast<float2*>(at) = make_float2(sum[i][j][0], sum[i][j][1]);
            *reinterpret_cast<float2*>(at + 8 * PITCH) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
        __syncwarp();
#pragma unroll 1
        for (unsigned run = lane; run < 16 * 16 * ACROSS / WIDTH; run += 32) {
            unsigned r = run / (16 * ACROSS / WIDTH), n = run % (16 * ACROSS / WIDTH) * WIDTH;
            finish<WIDTH>(dims, bias, residual, c, part.first_row + row + i * 16 + r, part.first_column + column + n, own + r * PITCH + n);
        }
        __syncwarp();
    }
}

extern "C" __global__ void __launch_bounds__(256) mma_nt_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    mma_of_c<NT, 128, 2, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) mma_nt_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    mma_of_c<NT, 128, 2, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) mma_nn_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    mma_of_c<NN, 128, 2, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) mma_nn_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    mma_of_c<NN, 128, 2, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) mma_tn_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    mma_of_c<TN, 128, 2, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) mma_tn_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    mma_of_c<TN, 128, 2, 4>(a, b, bias, residual, c, dims);
}

// ── rung 4: small: the same with 64 × 64 of C ────────────────────────────────────────────────────────────────────────

extern "C" __global__ void __launch_bounds__(128) tile_small_nt(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    tile_of_c<NT, 64, 16, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) tile_small_nn(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    tile_of_c<NN, 64, 16, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) tile_small_tn(
    const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    tile_of_c<TN, 64, 16, 4>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) mma_small_nt_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    mma_of_c<NT, 64, 2, 2>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) mma_small_nt_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    mma_of_c<NT, 64, 2, 2>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) mma_small_nn_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    mma_of_c<NN, 64, 2, 2>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) mma_small_nn_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    mma_of_c<NN, 64, 2, 2>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) mma_small_tn_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    mma_of_c<TN, 64, 2, 2>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(128) mma_small_tn_bf16_bf16(
    const bf16* __restrict__ a, const bf16* __restrict__ b, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    mma_of_c<TN, 64, 2, 2>(a, b, bias, residual, c, dims);
}

// ── rung 5: split: the partial tiles of all stretches of K, in order ─────────────────────────────────────────────────

template <typename T>
__device__ void add_splits(const float* partial, const T* bias, const T* residual, T* c, const Dims& dims) {
    size_t at = size_t(blockIdx.x) * 64 + threadIdx.x;
    size_t elements = size_t(dims.m) * dims.n;
    if (at >= elements) {
        return;
    }
    float sum = 0.0f;
    for (unsigned split = 0; split < dims.splits; split++) {
        sum += partial[split * elements + at];
    }
    finish_run<1>(dims, bias, residual, c, at / dims.n, at % dims.n, &sum);
}

extern "C" __global__ void __launch_bounds__(64) split_finish(
    const float* __restrict__ partial, const float* __restrict__ bias, const float* __restrict__ residual, float* __restrict__ c, Dims dims) {
    add_splits(partial, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(64) split_finish_bf16(
    const float* __restrict__ partial, const bf16* __restrict__ bias, const bf16* __restrict__ residual, bf16* __restrict__ c, Dims dims) {
    add_splits(partial, bias, residual, c, dims);
}
