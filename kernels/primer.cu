// primer: z = x + y,   y[i] = Σ_j x[i, j],   C = A · B: three first kernels. No model calls them: they are what chapter 0 of LEARN.md reads.
//
// Each has one idea more than the last: `add` shares the work out among threads, in `row_sum` the threads of a block work together,
// and in `tile_product` they do so to read memory less often. The WGSL file has the same names, the same steps and the same comments.
//
// add           block 64, one element per thread, grid = ceil(N / 64): z = x + y
//   0  x        [N]       f32  read
//   1  y        [N]       f32  read
//   2  z        [N]       f32  overwritten
//   3  dims     by value
// row_sum       block 64, one row per block, grid = M: the sum of each row
//   0  x        [M, N]    f32  read
//   1  y        [M]       f32  overwritten
//   2  dims     by value
// tile_product  block 16, 4 × 4 results per block, grid = ceil(M / 4) · ceil(N / 4): C = A · B
//   0  a        [M, K]    f32  read
//   1  b        [K, N]    f32  read
//   2  c        [M, N]    f32  overwritten
//   3  dims     by value
//
// Precision: f32 sums in a fixed order, the same bits on every run.
// Limits: every tensor < 2³¹ elements. Shared memory: 256 bytes (row_sum), 128 (tile_product).
// Twin: shaders/primer.wgsl.

// What all threads of a launch are told: the sizes. An entry reads those that it needs.
struct Dims {
    unsigned m; // M: rows
    unsigned n; // N: columns, or elements where there are no rows
    unsigned k; // K: what a product sums over
    unsigned padding; // 16 bytes, as in WGSL
};

// ── add: every thread has one element ────────────────────────────────────────────────────────────────────────────────

constexpr unsigned BLOCK = 64; // threads of a block

// This function is run by every thread of every block. They differ in nothing but the built-in numbers blockIdx and threadIdx. The pointers
// lead to the GPU's large memory; `__restrict__` promises that no two of them lead to the same place.
extern "C" __global__ void __launch_bounds__(64)
add(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ z, const Dims dims) {
    // 1. Which element is mine? Block 0 has elements 0 to 63, block 1 has 64 to 127, and so on. Neighbouring threads have
    //    neighbouring elements: the hardware then reads those of many threads in one access (coalescing).
    const unsigned i = blockIdx.x * BLOCK + threadIdx.x;
    // 2. Is there one? N need not be a multiple of 64: in the last block the threads beyond the end have nothing to do.
    if (i >= dims.n) {
        return;
    }
    // 3. The work.
    z[i] = x[i] + y[i];
}

// ── row_sum: a block shares a row ────────────────────────────────────────────────────────────────────────────────────

extern "C" __global__ void __launch_bounds__(64)
row_sum(const float* __restrict__ x, float* __restrict__ y, const Dims dims) {
    // Shared memory: small, fast, one copy for each block, gone when it ends. All of its threads read and write it.
    __shared__ float lanes[BLOCK];
    const unsigned thread = threadIdx.x, row = blockIdx.x;
    // 1. Each thread sums every 64th element of the row, in a register of its own. In each turn of this loop neighbouring threads
    //    read neighbouring elements.
    float sum = 0.0f;
    for (unsigned j = thread; j < dims.n; j += BLOCK) {
        sum += x[row * dims.n + j];
    }
    // 2. It shows its sum to the others, and waits until all have: after the barrier, everybody sees what everybody wrote.
    lanes[thread] = sum;
    __syncthreads();
    // 3. A tree: half of the threads add the other half's sums to theirs, then a half of that half: 32, 16, 8, 4, 2, 1. After each
    //    round all wait, because the next one reads what other threads have just written.
    for (unsigned width = BLOCK / 2; width > 0; width /= 2) {
        if (thread < width) {
            lanes[thread] += lanes[thread + width];
        }
        __syncthreads();
    }
    // 4. One thread writes the result.
    if (thread == 0) {
        y[row] = lanes[0];
    }
}

// ── tile_product: a block reads together what each of its threads needs ──────────────────────────────────────────────

constexpr unsigned SIDE = 4; // a block computes SIDE × SIDE elements of C. Real kernels take 32 to 128.

extern "C" __global__ void __launch_bounds__(16)
tile_product(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, const Dims dims) {
    // 4 × 4 elements of either operand, row by row.
    __shared__ float a_tile[SIDE * SIDE], b_tile[SIDE * SIDE];
    // 1. Which tile of C is the block's, and which of its 16 elements is mine?
    const unsigned thread = threadIdx.x;
    const unsigned across = (dims.n + SIDE - 1) / SIDE; // tiles from left to right
    const unsigned tile_row = thread / SIDE;
    const unsigned tile_column = thread % SIDE;
    const unsigned row = blockIdx.x / across * SIDE + tile_row;
    const unsigned column = blockIdx.x % across * SIDE + tile_column;

    float sum = 0.0f;
    // 2. K in steps of 4: the next 4 columns of A meet the next 4 rows of B.
    for (unsigned k0 = 0; k0 < dims.k; k0 += SIDE) {
        // 3. Each thread fetches one element of either tile; beyond the edges of the matrices there are zeros, which add nothing.
        const unsigned a_column = k0 + tile_column;
        const unsigned b_row = k0 + tile_row;
        a_tile[thread] = 0.0f;
        if (row < dims.m && a_column < dims.k) {
            a_tile[thread] = a[row * dims.k + a_column];
        }
        b_tile[thread] = 0.0f;
        if (b_row < dims.k && column < dims.n) {
            b_tile[thread] = b[b_row * dims.n + column];
        }
        __syncthreads(); // both tiles are whole
        // 4. A row of one tile times a column of the other. Every number that was fetched once is used by 4 threads.
        for (unsigned k = 0; k < SIDE; ++k) {
            sum = fmaf(a_tile[tile_row * SIDE + k], b_tile[k * SIDE + tile_column], sum);
        }
        __syncthreads(); // all have read them: the next turn may overwrite them
    }
    // 5. Threads beyond the edges helped to fetch. They have no result.
    if (row < dims.m && column < dims.n) {
        c[row * dims.n + column] = sum;
    }
}
