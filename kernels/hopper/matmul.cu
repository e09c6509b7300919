// matmul: C (+)= A · B + bias + residual on Hopper's tensor cores: bf16 operands, f32 sums, f32 or bf16 output, three layouts.
//
//   layout   A        B        suffix
//   NT       [M, K]   [N, K]   _nt      y = x · Wᵀ, a linear layer with its weight as checkpoints store it
//   NN       [M, K]   [K, N]   _nn      dx = dy · W
//   TN       [K, M]   [K, N]   _tn      dW = dyᵀ · x
//
// Backward.  With Y = X · Wᵀ:   dX = dY · W (NN),   dW = dYᵀ · X (TN).
//
// Every entry has a variant per layout and per type of C, bias and residual: _bf16 (they are f32), _bf16_bf16 (all bf16).
//
// The ladder, in the order of this file, after the portable ../matmul.cu. Each rung is one idea away from the last:
//   rung 1: wgmma              TMA brings boxes of A and B to four stages of shared memory, two warp groups multiply 64 × 128 each
//                              straight from there. Nothing is copied by threads; but all threads wait for each other at every step.
//   rung 2: specialised        one warp only gives orders to TMA, two warp groups only multiply (64 × 256 of C each, in registers
//                              that the first warp group gave up), mbarriers between them; C leaves through shared memory by TMA.
//   rung 3: specialised_small  the same with 128 × 128 of C: where 128 × 256 would leave multiprocessors idle.
//   rung 4: persistent         the same with as many blocks as multiprocessors, each of which walks over tiles: the next tile's
//                              operands come in while this one's results go out. Two blocks are a cluster, share a tile of B, and
//                              fetch half of it each.
// Not measured yet: no Hopper GPU was within reach when this was written.
//
// wgmma              block 256, 128 × 128 of C, dynamic shared memory 131,136 bytes, grid = ceil(M / 128) · ceil(N / 128): C
//   0  a         [M, K]  bf16      read through TMA (_tn: [K, M]), box 64 × 64, 128-byte swizzle
//   1  b         [N, K]  bf16      read through TMA (_nn, _tn: [K, N]), box 64 × 64, 128-byte swizzle
//   2  bias      [N]     f32|bf16  read (only if flags & 1; _bf16_bf16: bf16)
//   3  residual  [M, N]  f32|bf16  read (only if flags & 2; _bf16_bf16: bf16)
//   4  c         [M, N]  f32|bf16  overwritten (accumulated if flags & 4; _bf16_bf16: bf16)
//   5  dims      by value
// specialised        block 384, 128 × 256 of C, dynamic shared memory 229,504 bytes, grid = min(ceil(M / 128) · ceil(N / 256), multiprocessors), or any: C
//   0  a         [M, K]  bf16      read through TMA (_tn: [K, M]), box 64 × 64, 128-byte swizzle
//   1  b         [N, K]  bf16      read through TMA (_nn, _tn: [K, N]), box 64 × 64, 128-byte swizzle
//   2  c         [M, N]  f32|bf16  written through TMA (added to if flags & 4 and not bf16; _bf16_bf16: bf16), box 64 rows × 128 bytes, 128-byte swizzle
//   3  bias      [N]     f32|bf16  read (only if flags & 1; _bf16_bf16: bf16)
//   4  residual  [M, N]  f32|bf16  read (only if flags & 2; _bf16_bf16: bf16)
//   5  before    [M, N]  f32|bf16  read (only if flags & 4 and bf16: it is c itself; _bf16_bf16: bf16)
//   6  dims      by value
// specialised_small  block 384, 128 × 128 of C, dynamic shared memory 229,504 bytes, grid = min(ceil(M / 128) · ceil(N / 128), multiprocessors), or any: C
//   0  a         [M, K]  bf16      read through TMA (_tn: [K, M]), box 64 × 64, 128-byte swizzle
//   1  b         [N, K]  bf16      read through TMA (_nn, _tn: [K, N]), box 64 × 64, 128-byte swizzle
//   2  c         [M, N]  f32|bf16  written through TMA (added to if flags & 4 and not bf16; _bf16_bf16: bf16), box 64 rows × 128 bytes, 128-byte swizzle
//   3  bias      [N]     f32|bf16  read (only if flags & 1; _bf16_bf16: bf16)
//   4  residual  [M, N]  f32|bf16  read (only if flags & 2; _bf16_bf16: bf16)
//   5  before    [M, N]  f32|bf16  read (only if flags & 4 and bf16: it is c itself; _bf16_bf16: bf16)
//   6  dims      by value
// persistent         block 384, cluster of 2, 256 × 256 of C at a time per cluster, dynamic shared memory 229,504 bytes,
//                    grid = 2 · min(ceil(M / 256) · ceil(N / 256), max(multiprocessors / 2, 1)), or any multiple of 2: C
//   0  a         [M, K]  bf16      read through TMA (_tn: [K, M]), box 64 × 64, 128-byte swizzle
//   1  b         [N, K]  bf16      read through TMA (_nn, _tn: [K, N]), box 64 × 64, 128-byte swizzle
//   2  c         [M, N]  f32|bf16  written through TMA (added to if flags & 4 and not bf16; _bf16_bf16: bf16), box 64 rows × 128 bytes, 128-byte swizzle
//   3  bias      [N]     f32|bf16  read (only if flags & 1; _bf16_bf16: bf16)
//   4  residual  [M, N]  f32|bf16  read (only if flags & 2; _bf16_bf16: bf16)
//   5  before    [M, N]  f32|bf16  read (only if flags & 4 and bf16: it is c itself; _bf16_bf16: bf16)
//   6  dims      by value
// Precision: f32 sums in a fixed order, the same bits on every run; bf16 is rounded once, when it is stored.
// Limits: M, N, K ≥ 1, every matrix < 2³¹ elements, at 16 bytes, with rows of a multiple of 16 bytes (what TMA asks for: others take
// the portable rungs). No sizes beyond that: TMA fills what lies outside with zeros, and does not write there. Every element of C
// is computed by one warp group.
// 2 · M · N · K operations. A cluster of `persistent` reads 2 · 256 · K elements for 2 · 256² · K operations: 128 per byte from L2.

#include "hopper.cuh"

struct Dims {
    unsigned m;              // M
    unsigned n;              // N
    unsigned k;              // K
    unsigned flags;          // 1 bias, 2 residual, 4 accumulate
    unsigned splits;         // of the portable rungs
    unsigned k_per_split;    // of the portable rungs
    unsigned padding0;
    unsigned padding1;
};

enum Layout { NT, NN, TN };

constexpr unsigned ALL = 0xffffffffu;
constexpr unsigned BOX = 64 * 128;  // bytes of a box: 64 rows of 128 bytes
constexpr unsigned STEP = 64;       // of K at a time

// Which way k runs in memory. A box holds 64 of M or N and 64 of K either way: only its coordinates, the descriptor's distances and
// a bit of the instruction differ.
template <Layout LAYOUT> __device__ constexpr Major major_of_a() { return LAYOUT == TN ? MN_MAJOR : K_MAJOR; }
template <Layout LAYOUT> __device__ constexpr Major major_of_b() { return LAYOUT == NT ? K_MAJOR : MN_MAJOR; }

// The box of 64 of M or N from `row` on and 64 of K from `k` on; to two blocks if they are a cluster that shares it.
template <Major MAJOR, int CLUSTER> __device__ inline void load_box(unsigned to, const TensorMap& map, unsigned barrier, unsigned row, unsigned k) {
    const unsigned x = MAJOR == K_MAJOR ? k : row, y = MAJOR == K_MAJOR ? row : k;
    if (CLUSTER == 1) {
        tma_load(to, map, barrier, x, y);
    } else {
        tma_load_multicast(to, map, barrier, (1 << CLUSTER) - 1, x, y);
    }
}

// Adds a warp group's 64 × N of C over the 64 of K in shared memory: four instructions. a: one box; b: one box per 64 columns.
template <Layout LAYOUT, int COUNT> __device__ inline void multiply_step(float (&sum)[COUNT], unsigned a, unsigned b, bool first) {
    constexpr Major MAJOR_A = major_of_a<LAYOUT>(), MAJOR_B = major_of_b<LAYOUT>();
    wgmma_fence();
#pragma unroll
    for (unsigned i = 0; i < STEP / 16; i++) {
        wgmma<MAJOR_A, MAJOR_B>(sum, descriptor(a + i * next_16(MAJOR_A), BOX), descriptor(b + i * next_16(MAJOR_B), BOX), !first || i > 0);
    }
    wgmma_commit();
}

// Where a tile of ROWS × COLUMNS of C begins. Tiles are numbered in bands of 2,048 rows, column by column: blocks that run at the
// same time share rows of A and columns of B, so that most of what they read is in L2.
struct Corner {
    unsigned row;
    unsigned column;
};

template <unsigned ROWS, unsigned COLUMNS> __device__ inline unsigned tiles_of(const Dims& dims) {
    return (dims.m + ROWS - 1) / ROWS * ((dims.n + COLUMNS - 1) / COLUMNS);
}

template <unsigned ROWS, unsigned COLUMNS> __device__ inline Corner corner_of(unsigned tile, const Dims& dims) {
    constexpr unsigned HIGH = 2048 / ROWS;
    const unsigned down = (dims.m + ROWS - 1) / ROWS, across = (dims.n + COLUMNS - 1) / COLUMNS;
    const unsigned band = tile / (HIGH * across), within = tile % (HIGH * across);
    const unsigned height = min(HIGH, down - HIGH * band);
    return {(HIGH * band + within % height) * ROWS, within / height * COLUMNS};
}

// ── What is added to the sums ────────────────────────────────────────────────────────────────────────────────────────

// Two neighbours in memory, in one predicated load; zeros, and no access, unless `there`. As asm, so that all of a piece's loads set
// out before the first of them is waited for: the compiler makes branches of conditions.
__device__ inline void add_pair(float& x, float& y, const float* more, bool there) {
    float a, b;
    asm("{\n.reg .pred there;\nsetp.ne.u32 there, %3, 0;\nmov.f32 %0, 0f00000000;\nmov.f32 %1, 0f00000000;\n"
        "@there ld.global.v2.f32 {%0, %1}, [%2];\n}"
        : "=&f"(a), "=&f"(b)
        : "l"(__cvta_generic_to_global(more)), "r"(static_cast<unsigned>(there)));
    x += a;
    y += b;
}

__device__ inline void add_pair(float& x, float& y, const bf16* more, bool there) {
    unsigned pair;
    asm("{\n.reg .pred there;\nsetp.ne.u32 there, %2, 0;\nmov.u32 %0, 0;\n@there ld.global.u32 %0, [%1];\n}"
        : "=&r"(pair)
        : "l"(__cvta_generic_to_global(more)), "r"(static_cast<unsigned>(there)));
    x += __uint_as_float(pair << 16);
    y += __uint_as_float(pair & 0xffff0000u);
}

// To a warp's 16 rows of C from `row` on (d: wgmma's registers of COLUMNS columns from `column` on): what the flags in `which` say.
template <unsigned COLUMNS, typename O>
__device__ inline void add_extras(float* d, unsigned which, const O* bias, const O* residual, const O* before, unsigned row, unsigned column,
                                  const Dims& dims) {
    const unsigned lane = threadIdx.x % 32;
    const auto add = [&](const O* more, unsigned pitch) {
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            const unsigned down = row + lane / 4 + 8 * r;
            const O* from = more + size_t(down) * pitch;
#pragma unroll
            for (unsigned j = 0; j < COLUMNS / 8; j++) {
                const unsigned across = column + j * 8 + lane % 4 * 2;
                add_pair(d[4 * j + 2 * r], d[4 * j + 2 * r + 1], from + across, down < dims.m && across < dims.n);
            }
        }
    };
    if (which & 1) {
        add(bias, 0);
    }
    if (which & 2) {
        add(residual, dims.n);
    }
    if (which & 4) {
        add(before, dims.n);
    }
}

__device__ inline void put_pair(float* to, float x, float y) { *reinterpret_cast<float2*>(to) = make_float2(x, y); }
__device__ inline void put_pair(bf16* to, float x, float y) { *reinterpret_cast<unsigned*>(to) = pack(x, y); }

// ── rung 1: wgmma: the tensor cores read what TMA wrote ──────────────────────────────────────────────────────────────

template <Layout LAYOUT, typename O>
__device__ inline void simple_product(const TensorMap& a, const TensorMap& b, const O* bias, const O* residual, O* c, const Dims& dims) {
    constexpr unsigned STAGES = 4, STAGE = 4 * BOX;  // two boxes of A, two of B
    extern __shared__ __align__(1024) unsigned char memory[];
    const unsigned tiles = shared_address(memory), full = tiles + STAGES * STAGE;
    const unsigned group = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const Corner corner = corner_of<128, 128>(blockIdx.x, dims);
    const unsigned steps = (dims.k + STEP - 1) / STEP;

    // 1. One thread sends for the first stages.
    const auto load = [&](unsigned step) {
        const unsigned stage = step % STAGES, to = tiles + stage * STAGE, barrier = full + 8 * stage;
        barrier_arrive_expect(barrier, STAGE);
        for (unsigned i = 0; i < 2; i++) {
            load_box<major_of_a<LAYOUT>(), 1>(to + i * BOX, a, barrier, corner.row + 64 * i, step * STEP);
            load_box<major_of_b<LAYOUT>(), 1>(to + (2 + i) * BOX, b, barrier, corner.column + 64 * i, step * STEP);
        }
    };
    if (threadIdx.x == 0) {
        for (unsigned stage = 0; stage < STAGES; stage++) {
            barrier_init(full + 8 * stage, 1);
        }
        fence_barrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned step = 0; step < min(STAGES, steps); step++) {
            load(step);
        }
    }

    // 2. Multiply what has come in; once both warp groups are through with it, its stage is sent for again.
    float sum[64];
    Ring<STAGES> ring;
#pragma unroll 1
    for (unsigned step = 0; step < steps; step++, ring.next()) {
        const unsigned stage = tiles + ring.stage * STAGE;
        barrier_wait(full + 8 * ring.stage, ring.parity);
        multiply_step<LAYOUT>(sum, stage + group * BOX, stage + 2 * BOX, step == 0);
        wgmma_wait<0>();
        __syncthreads();
        if (threadIdx.x == 0 && step + STAGES < steps) {
            load(step + STAGES);
        }
    }
    hold(sum);

    // 3. Out, two neighbours at a time.
    const unsigned first_row = corner.row + group * 64 + warp * 16;
    add_extras<128, O>(sum, dims.flags, bias, residual, c, first_row, corner.column, dims);
#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        const unsigned row = first_row + lane / 4 + 8 * r;
#pragma unroll
        for (unsigned j = 0; j < 16; j++) {
            const unsigned column = corner.column + j * 8 + lane % 4 * 2;
            if (row < dims.m && column < dims.n) {
                put_pair(c + size_t(row) * dims.n + column, sum[4 * j + 2 * r], sum[4 * j + 2 * r + 1]);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) wgmma_nt_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const float* __restrict__ bias,
    const float* __restrict__ residual, float* c, Dims dims) {
    simple_product<NT>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) wgmma_nt_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, bf16* c, Dims dims) {
    simple_product<NT>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) wgmma_nn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const float* __restrict__ bias,
    const float* __restrict__ residual, float* c, Dims dims) {
    simple_product<NN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) wgmma_nn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, bf16* c, Dims dims) {
    simple_product<NN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) wgmma_tn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const float* __restrict__ bias,
    const float* __restrict__ residual, float* c, Dims dims) {
    simple_product<TN>(a, b, bias, residual, c, dims);
}

extern "C" __global__ void __launch_bounds__(256) wgmma_tn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, bf16* c, Dims dims) {
    simple_product<TN>(a, b, bias, residual, c, dims);
}

// ── rung 2: specialised: one warp orders, two warp groups multiply ───────────────────────────────────────────────────

// A warp's 16 rows of a piece of C (128 bytes wide) into a box with 128-byte swizzle. d: its registers of those columns.
__device__ inline void put_piece(unsigned box, const float* d, unsigned warp, unsigned lane, bf16) {
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {  // 16 columns each: matrices of rows 0 – 7 and 8 – 15, columns 0 – 7, then 8 – 15
        const float* e = d + 8 * i;
        const unsigned to = swizzled(box, warp * 16 + lane % 16, 2 * i + lane / 16);
        store_matrices(to, pack(e[0], e[1]), pack(e[2], e[3]), pack(e[4], e[5]), pack(e[6], e[7]));
    }
}

__device__ inline void put_piece(unsigned box, const float* d, unsigned warp, unsigned lane, float) {
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {  // 8 columns each: 32 bytes, of which a lane has 8
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            const unsigned to = swizzled(box, warp * 16 + lane / 4 + 8 * r, 2 * j + lane % 4 / 2) + lane % 2 * 8;
            asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(d[4 * j + 2 * r]), "f"(d[4 * j + 2 * r + 1]) : "memory");
        }
    }
}

// CLUSTER blocks below each other share the columns of B. Shared memory: STAGES stages of A and B, two boxes per warp group for C on
// its way out, the mbarriers.
template <Layout LAYOUT, int TILE_N, int CLUSTER, typename O>
__device__ inline void specialised_product(const TensorMap& a, const TensorMap& b, const TensorMap& c, const O* bias, const O* residual, const O* before,
                                           const Dims& dims) {
    constexpr unsigned BOXES_B = TILE_N / 64, STAGE = (2 + BOXES_B) * BOX, STAGES = 192 * 1024 / STAGE;
    constexpr unsigned WIDTH = 128 / sizeof(O);  // columns of C per box
    extern __shared__ __align__(1024) unsigned char memory[];
    const unsigned tiles = shared_address(memory), out = tiles + STAGES * STAGE, full = out + 4 * BOX, empty = full + 8 * STAGES;
    // Through shfl, so that the compiler knows that a warp has one role.
    const unsigned warp = __shfl_sync(ALL, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    const unsigned rank = CLUSTER > 1 ? cluster_rank() : 0;
    const unsigned end = tiles_of<CLUSTER * 128, TILE_N>(dims);

    if (threadIdx.x == 0) {
        for (unsigned stage = 0; stage < STAGES; stage++) {
            barrier_init(full + 8 * stage, 1);             // the thread that sends for a stage
            barrier_init(empty + 8 * stage, 8 * CLUSTER);  // the warps that read it, or what it was multicast from
        }
        fence_barrier_init();
        prefetch_map(a);
        prefetch_map(b);
        prefetch_map(c);
    }
    if (CLUSTER > 1) {
        cluster_sync();
    } else {
        __syncthreads();
    }

    if (warp < 4) {
        // 1. The first warp group gives most of its registers away. One thread of it sends for A's and B's boxes as stages fall
        //    free: its own rows of A, its share of the columns of B for the whole cluster. Every block's mbarrier counts all the
        //    bytes that come into its own stage, whoever sent for them.
        give_registers<40>();
        if (warp == 0 && elect_one()) {
            Ring<STAGES> ring;
#pragma unroll 1
            for (unsigned tile = blockIdx.x / CLUSTER; tile < end; tile += gridDim.x / CLUSTER) {
                const Corner corner = corner_of<CLUSTER * 128, TILE_N>(tile, dims);
#pragma unroll 1
                for (unsigned k = 0; k < dims.k; k += STEP, ring.next()) {
                    const unsigned to = tiles + ring.stage * STAGE, barrier = full + 8 * ring.stage;
                    barrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
                    barrier_arrive_expect(barrier, STAGE);
#pragma unroll
                    for (unsigned i = 0; i < 2; i++) {
                        load_box<major_of_a<LAYOUT>(), 1>(to + i * BOX, a, barrier, corner.row + rank * 128 + 64 * i, k);
                    }
#pragma unroll
                    for (unsigned i = 0; i < BOXES_B / CLUSTER; i++) {
                        const unsigned box = rank * (BOXES_B / CLUSTER) + i;
                        load_box<major_of_b<LAYOUT>(), CLUSTER>(to + (2 + box) * BOX, b, barrier, corner.column + 64 * box, k);
                    }
                }
            }
        }
    } else {
        take_registers<232>();
        const unsigned group = warp / 4 - 1, boxes = out + group * 2 * BOX;
        const bool orders = threadIdx.x % 128 == 0;
        // A warp has read a stage: it says so to every block that may write there.
        const auto release = [&](unsigned stage) {
            if (lane < CLUSTER) {
                if (CLUSTER > 1) {
                    barrier_arrive_at(empty + 8 * stage, lane);
                } else {
                    barrier_arrive(empty + 8 * stage);
                }
            }
        };
        // f32: TMA adds to C. bf16: it would round the sum before it adds, so that C comes into the registers instead.
        const unsigned extras = sizeof(O) == 4 ? dims.flags & 3 : dims.flags & 7;
        const bool add = sizeof(O) == 4 && (dims.flags & 4);

        float sum[TILE_N / 2];
        unsigned turn = 0;  // which of the two boxes is next, over all tiles
        Ring<STAGES> ring;
#pragma unroll 1
        for (unsigned tile = blockIdx.x / CLUSTER; tile < end; tile += gridDim.x / CLUSTER) {
            const Corner corner = corner_of<CLUSTER * 128, TILE_N>(tile, dims);
            // 2. Multiply. While a step's instructions run the next one's are put behind them; then the step before is done, and
            //    its stage free.
            unsigned last = 0;
#pragma unroll 1
            for (unsigned k = 0; k < dims.k; k += STEP, ring.next()) {
                const unsigned stage = tiles + ring.stage * STAGE;
                barrier_wait(full + 8 * ring.stage, ring.parity);
                multiply_step<LAYOUT>(sum, stage + group * BOX, stage + 2 * BOX, k == 0);
                wgmma_wait<1>();
                if (k > 0) {
                    release(last);
                }
                last = ring.stage;
            }
            wgmma_wait<0>();
            hold(sum);
            release(last);

            // 3. C leaves 64 rows × 128 bytes at a time, through two boxes in turn: TMA writes one while the other is filled.
            const unsigned first_row = corner.row + rank * 128 + group * 64;
            if (first_row < dims.m) {
#pragma unroll
                for (unsigned piece = 0; piece < TILE_N / WIDTH; piece++) {
                    const unsigned first_column = corner.column + piece * WIDTH;
                    float* d = sum + piece * WIDTH / 2;
                    if (first_column < dims.n) {
                        add_extras<WIDTH, O>(d, extras, bias, residual, before, first_row + warp % 4 * 16, first_column, dims);
                        const unsigned box = boxes + turn * BOX;
                        turn ^= 1;
                        if (orders) {
                            tma_wait_read<1>();  // all but the other box's store have left
                        }
                        named_sync(1 + group, 128);
                        put_piece(box, d, warp % 4, lane, O());
                        fence_async();
                        named_sync(1 + group, 128);
                        if (orders) {
                            if (add) {
                                tma_add(c, box, first_column, first_row);
                            } else {
                                tma_store(c, box, first_column, first_row);
                            }
                            tma_commit();
                        }
                    }
                }
            }
        }
        // Shared memory must not go before TMA has read it.
        if (orders) {
            tma_wait_read<0>();
        }
    }
    // Nor while another block's warps may still count themselves off here.
    if (CLUSTER > 1) {
        cluster_sync();
    }
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_nt_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<NT, 256, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_nt_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<NT, 256, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_nn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<NN, 256, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_nn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<NN, 256, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_tn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<TN, 256, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_tn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<TN, 256, 1>(a, b, c, bias, residual, before, dims);
}

// ── rung 3: specialised_small: the same with 128 × 128 of C ──────────────────────────────────────────────────────────

extern "C" __global__ void __launch_bounds__(384, 1) specialised_small_nt_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<NT, 128, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_small_nt_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<NT, 128, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_small_nn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<NN, 128, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_small_nn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<NN, 128, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_small_tn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<TN, 128, 1>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __launch_bounds__(384, 1) specialised_small_tn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<TN, 128, 1>(a, b, c, bias, residual, before, dims);
}

// ── rung 4: persistent: the same with as many blocks as multiprocessors, in clusters of two ──────────────────────────

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) persistent_nt_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<NT, 256, 2>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) persistent_nt_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<NT, 256, 2>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) persistent_nn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<NN, 256, 2>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) persistent_nn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<NN, 256, 2>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) persistent_tn_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const float* __restrict__ bias,
    const float* __restrict__ residual, const float* before, Dims dims) {
    specialised_product<TN, 256, 2>(a, b, c, bias, residual, before, dims);
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) persistent_tn_bf16_bf16(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, const bf16* __restrict__ bias,
    const bf16* __restrict__ residual, const bf16* before, Dims dims) {
    specialised_product<TN, 256, 2>(a, b, c, bias, residual, before, dims);
}
