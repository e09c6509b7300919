// ceiling: what a device does at best. `trimodal bench` divides by it: no kernel of ours computes anything with these.
//
// copy           block 256, 8 accesses of 16 bytes per thread, grid = ceil(n / 8192): y = x
//   0  x      [n]  f32  read
//   1  y      [n]  f32  overwritten
//   2  dims   by value
// multiply_add   block 256, 16 sums per thread, 8 multiply-adds each per round, grid = n / 256: chains of multiply-adds
//   0  y      [n]  f32  overwritten (the thread's sums, added up)
//   1  dims   by value
// mma            block 256, 8 tiles of 16 x 8 per warp, one product over 16 (bf16, sums in f32) each per round, grid = n / 256: chains of products of tiles
//   0  y      [n]  f32  overwritten (the thread's sums, added up)
//   1  dims   by value
// shared_memory  block 256, 8 accesses of 16 bytes per thread and round, grid = n / 256: reads of shared memory
//   0  y      [n]  f32  overwritten (what was read, added up)
//   1  dims   by value
// Precision: f32 (mma: bf16 with f32 sums), the same bits on every run.
// Work: copy moves 8 n bytes; multiply_add does 256 n rounds operations, mma 1024 n rounds, and shared_memory reads 128 n rounds bytes.
// Limits: n a multiple of 256, and of 4 in copy; buffers start at a multiple of 16 bytes.
//
// mma is `mma.sync`, which every GPU from Ampere on has. Hopper's `wgmma` reaches beyond what it does there.
// Twin: shaders/ceiling.wgsl.
struct Dims {
    unsigned n;
    unsigned rounds;
    float scale;
    float shift;
};

constexpr unsigned BLOCK = 256;

extern "C" __global__ void __launch_bounds__(256) copy(const uint4* __restrict__ x, uint4* __restrict__ y, Dims dims) {
    const unsigned first = blockIdx.x * BLOCK * 8 + threadIdx.x;
#pragma unroll
    for (unsigned access = 0; access < 8; ++access) {
        const unsigned i = first + access * BLOCK;
        if (i < dims.n / 4) {
            y[i] = x[i];
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) multiply_add(float* __restrict__ y, Dims dims) {
    const unsigned i = blockIdx.x * BLOCK + threadIdx.x;
    float sums[16];
#pragma unroll
    for (unsigned s = 0; s < 16; ++s) {
        sums[s] = threadIdx.x + s;
    }
    // scale and shift come from the host: nothing can be computed ahead.
    for (unsigned round = 0; round < dims.rounds; ++round) {
#pragma unroll
        for (unsigned step = 0; step < 8; ++step) {
#pragma unroll
            for (unsigned s = 0; s < 16; ++s) {
                sums[s] = fmaf(sums[s], dims.scale, dims.shift);
            }
        }
    }
    float total = 0.0f;
#pragma unroll
    for (unsigned s = 0; s < 16; ++s) {
        total += sums[s];
    }
    y[i] = total;
}

extern "C" __global__ void __launch_bounds__(256) mma(float* __restrict__ y, Dims dims) {
    const unsigned i = blockIdx.x * BLOCK + threadIdx.x;
    // Two bf16 ones in every register of a; b is scale's upper half, twice.
    const unsigned one = 0x3f803f80u;
    const unsigned half = __float_as_uint(dims.scale) >> 16;
    const unsigned b = half | half << 16;
    float sums[8][4];
#pragma unroll
    for (unsigned s = 0; s < 8; ++s) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            sums[s][e] = dims.shift;
        }
    }
    for (unsigned round = 0; round < dims.rounds; ++round) {
#pragma unroll
        for (unsigned s = 0; s < 8; ++s) {
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, {%5, %5}, {%0, %1, %2, %3};"
                         : "+f"(sums[s][0]), "+f"(sums[s][1]), "+f"(sums[s][2]), "+f"(sums[s][3])
                         : "r"(one), "r"(b));
        }
    }
    float total = 0.0f;
#pragma unroll
    for (unsigned s = 0; s < 8; ++s) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            total += sums[s][e];
        }
    }
    y[i] = total;
}

extern "C" __global__ void __launch_bounds__(256) shared_memory(float* __restrict__ y, Dims dims) {
    __shared__ float4 tile[1024];
    const unsigned i = blockIdx.x * BLOCK + threadIdx.x;
#pragma unroll
    for (unsigned part = 0; part < 4; ++part) {
        const unsigned at = part * BLOCK + threadIdx.x;
        tile[at] = make_float4(at, dims.scale, dims.shift, 1.0f);
    }
    __syncthreads();
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    // Neighbours read neighbours: no two threads of a phase meet in a bank. The place moves, so that no read can be saved.
    unsigned at = threadIdx.x;
    for (unsigned round = 0; round < dims.rounds; ++round) {
#pragma unroll
        for (unsigned access = 0; access < 8; ++access) {
            const float4 value = tile[(at + access * 96) % 1024];
            total.x += value.x;
            total.y += value.y;
            total.z += value.z;
            total.w += value.w;
        }
        at += 32;
    }
    y[i] = total.x + total.y + total.z + total.w;
}
