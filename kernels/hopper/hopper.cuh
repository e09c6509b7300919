// hopper.cuh: the instructions that Hopper (sm_90a) added, each as a function of one line, for the kernels in this folder.
//
// How the pieces fit. A kernel's operands travel from global to shared memory as rectangular boxes, by one thread's order to the
// tensor memory accelerator (TMA); an mbarrier counts their bytes. Warp groups (four warps) multiply straight from shared memory
// (wgmma) and, when they have done, tell the thread that gives the orders by another mbarrier. Results go back by TMA as well.
//
// All of this but the registers belongs to the *async proxy*: another way to memory than ordinary loads and stores. Within a
// proxy the barriers order things; from one to the other it takes a fence (fence_async).
//
// Source: NVIDIA's PTX ISA 8.4, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate", "mbarrier", "cp.async.bulk.tensor".
// Needs no other file. Addresses in shared memory are 32-bit (shared_address), as the instructions take them.

#pragma once

#include <cuda_bf16.h>

typedef __nv_bfloat16 bf16;

// What cuTensorMapEncodeTiled fills (cuda.h calls it CUtensorMap): base, sizes, strides, box and swizzle of a tensor. A kernel takes
// it as `const __grid_constant__ TensorMap`, since TMA reads it where it lies.
struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};

__device__ inline unsigned shared_address(const void* generic) { return static_cast<unsigned>(__cvta_generic_to_shared(generic)); }

// ── mbarriers ────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// 8 bytes of shared memory. A phase ends when `count` arrivals were made and as many bytes came in as were announced; then the
// next phase begins, with the same count. Phases are told apart by their parity: 0, 1, 0, …

// By one thread, before anyone uses it; then fence_barrier_init and a barrier of all the threads that will.
__device__ inline void barrier_init(unsigned barrier, unsigned count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

// Makes initialised mbarriers known to TMA and to the other blocks of the cluster.
__device__ inline void fence_barrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// One arrival: what this thread has read or written before is settled for those who wait.
__device__ inline void barrier_arrive(unsigned barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }

// One arrival that also announces `bytes` which TMA will bring. All of them, also those that another block of the cluster sends for.
__device__ inline void barrier_arrive_expect(unsigned barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// One arrival at the mbarrier that lies at the same place in block `rank` of the cluster (mapa finds its address there).
__device__ inline void barrier_arrive_at(unsigned barrier, unsigned rank) {
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n"
        "}" ::"r"(barrier), "r"(rank)
        : "memory");
}

// Until the phase of this parity has ended. Before any phase has ended, the one "before" (parity 1) counts as over: whoever first
// waits for a buffer to be free waits with parity 1. try_wait sleeps for a while by itself, so the loop is not a busy one.
__device__ inline void barrier_wait(unsigned barrier, unsigned parity) {
    unsigned over = 0;
    while (!over) {
        asm volatile(
            "{\n"
            ".reg .pred over;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
            "selp.u32 %0, 1, 0, over;\n"
            "}"
            : "=r"(over)
            : "r"(barrier), "r"(parity)
            : "memory");
    }
}

// Which of STAGES buffers is next, and the parity of the phase that fills it: both sides of a pipeline step through it alike.
template <unsigned STAGES> struct Ring {
    unsigned stage = 0;
    unsigned parity = 0;
    __device__ inline void next() {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// ── Blocks, clusters, warps ──────────────────────────────────────────────────────────────────────────────────────────

// The place of this block in its cluster.
__device__ inline unsigned cluster_rank() {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// All threads of all blocks of the cluster: before the first use of another block's memory, and before one leaves while others
// may still use its own.
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

// A barrier of `threads` threads (whole warps) under a number from 1 to 15; __syncthreads is number 0.
__device__ inline void named_sync(unsigned id, unsigned threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

// Counts as having come to that barrier, without waiting: how one warp group lets another one go.
__device__ inline void named_arrive(unsigned id, unsigned threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

// True in one lane of the (whole) warp: the one that gives orders to TMA.
__device__ inline bool elect_one() {
    unsigned elected;
    asm volatile(
        "{\n"
        ".reg .pred elected;\n"
        "elect.sync _|elected, 0xffffffff;\n"
        "selp.u32 %0, 1, 0, elected;\n"
        "}"
        : "=r"(elected));
    return elected != 0;
}

// The warp group gives registers back, or takes what others gave back: a multiple of 8 per thread, from 24 to 256. All its warps call it.
template <unsigned REGISTERS> __device__ inline void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS)); }
template <unsigned REGISTERS> __device__ inline void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS)); }

// ── TMA ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// Coordinates are in elements, innermost dimension first, and may be negative or too large: what lies outside comes as zeros (and
// counts as bytes), and is not written. A box in shared memory is dense; with 128-byte swizzle its rows are 128 bytes, it lies at
// a multiple of 1,024, and the 16-byte piece p of row r lies where piece p ^ (r % 8) would.

// Starts to fetch a map, ahead of its first use.
__device__ inline void prefetch_map(const TensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

__device__ inline void tma_load(unsigned to, const TensorMap& map, unsigned barrier, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(&map),
                 "r"(barrier), "r"(x), "r"(y)
                 : "memory");
}

__device__ inline void tma_load(unsigned to, const TensorMap& map, unsigned barrier, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to), "l"(&map),
                 "r"(barrier), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

// The same box to every block of the cluster whose bit is set in `blocks`: read once from L2, written, and counted by the mbarrier,
// at the same places in each.
__device__ inline void tma_load_multicast(unsigned to, const TensorMap& map, unsigned barrier, unsigned short blocks, int x, int y) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to),
        "l"(&map), "r"(barrier), "h"(blocks), "r"(x), "r"(y)
        : "memory");
}

// Between this thread's ordinary accesses to shared memory and those of TMA or wgmma: every thread that wrote what they will read
// fences, then a barrier, then the order.
__device__ inline void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// From shared memory out; part of the thread's open group.
__device__ inline void tma_store(const TensorMap& map, unsigned from, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map), "r"(from), "r"(x), "r"(y) : "memory");
}

__device__ inline void tma_store(const TensorMap& map, unsigned from, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map), "r"(from), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

// Adds the box to what is there, in the map's type, one rounding per element.
__device__ inline void tma_add(const TensorMap& map, unsigned from, int x, int y) {
    asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map), "r"(from), "r"(x), "r"(y)
                 : "memory");
}

// Closes the thread's group of stores.
__device__ inline void tma_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until all but the thread's last PENDING groups have *read* shared memory: it may be written again (or left, at the end).
template <int PENDING> __device__ inline void tma_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory"); }

// ── wgmma ────────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// D (64 × N, f32 in registers) = A (64 × 16) · B (16 × N) + D, by a warp group; warp w has rows 16·w … of D and A. Lane 4·g + t:
//   d[4·j + 0, 1]   row g,     columns 8·j + 2·t, + 1       a[0]  row g,     columns 2·t, + 1        a[2]  row g,     columns 2·t + 8, + 9
//   d[4·j + 2, 3]   row g + 8, the same columns             a[1]  row g + 8, the same                a[3]  row g + 8, the same
// so that d of columns 16·k … + 16, rounded to bf16, is the A of step k of the next product as it lies.
//
// A descriptor says how an operand lies in shared memory. All of ours are boxes with 128-byte swizzle (code 1 in bits 62, 63) at
// multiples of 1,024, made of pieces of 8 rows (1,024 bytes), the unit of the swizzle. Two ways:
//   k inside a row (K-major)          64 of k per row. Stride: from 8 rows to the next 8. Leading: unused.
//                                     The next 16 of k: 32 bytes on (the hardware swizzles the address it has added up).
//   k from row to row (MN-major, the  64 of M or N per row. Stride: from 8 of k to the next 8. Leading: from 64 of M or N
//   transpose bit of the instruction) to the next 64. The next 16 of k: two pieces, 2,048 bytes on.
// Stride is 1,024 in both where a box follows its neighbour. Addresses and distances are given in 16 bytes, 14 bits each.
__device__ inline unsigned long long descriptor(unsigned address, unsigned leading) {
    constexpr unsigned long long STRIDE = 1024 >> 4, SWIZZLE_128 = 1;
    return SWIZZLE_128 << 62 | STRIDE << 32 | static_cast<unsigned long long>(leading >> 4) << 16 | (address & 0x3ffff) >> 4;
}

enum Major : unsigned { K_MAJOR, MN_MAJOR };

// How far on the next 16 of k lie, in bytes.
__device__ constexpr unsigned next_16(Major major) { return major == MN_MAJOR ? 2048 : 32; }

// Before the first wgmma, and again once registers that it takes or adds to were written in another way.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Closes a group of wgmmas.
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until all but the last PENDING groups are done: their D may be read, the A and B they read may be overwritten.
template <int PENDING> __device__ inline void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }

// Keeps the compiler from moving its own uses of wgmma's registers over the wait before this, or over the wgmma after it: it
// cannot know that they change in between. No instruction comes of it.
template <int COUNT> __device__ inline void hold(float (&registers)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        asm volatile("" : "+f"(registers[i])::"memory");
    }
}
template <int COUNT> __device__ inline void hold(unsigned (&registers)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        asm volatile("" : "+r"(registers[i])::"memory");
    }
}

// Operands 0 to N / 2 − 1 of the instruction, as text and as registers.
#define NAMES_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
    ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64 \
    NAMES_32 \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55" \
    ", %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_128 \
    NAMES_64 \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87" \
    ", %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
    ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define FOUR(d, i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define SIXTEEN(d, i) FOUR(d, i), FOUR(d, (i) + 4), FOUR(d, (i) + 8), FOUR(d, (i) + 12)
#define REGISTERS_32(d) SIXTEEN(d, 0), SIXTEEN(d, 16)
#define REGISTERS_64(d) REGISTERS_32(d), SIXTEEN(d, 32), SIXTEEN(d, 48)
#define REGISTERS_128(d) REGISTERS_64(d), SIXTEEN(d, 64), SIXTEEN(d, 80), SIXTEEN(d, 96), SIXTEEN(d, 112)
// A and B by descriptor. The text names the operands behind D's: a, b, accumulate, and whether A and B are MN-major.
#define WGMMA_SHARED(N, COUNT, A, B, ADD, MAJOR_A, MAJOR_B) \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " ADD ", 0;\n" \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" NAMES_##COUNT "}, " A ", " B ", add, 1, 1, " MAJOR_A \
                 ", " MAJOR_B ";\n}" \
                 : REGISTERS_##COUNT(d) \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(MAJOR_OF_A)), "n"(static_cast<int>(MAJOR_OF_B)))
// A from registers (always K-major).
#define WGMMA_REGISTERS(N, COUNT, A0, A1, A2, A3, B, ADD, MAJOR_B) \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " ADD ", 0;\n" \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" NAMES_##COUNT "}, {" A0 ", " A1 ", " A2 ", " A3 "}, " B \
                 ", add, 1, 1, " MAJOR_B ";\n}" \
                 : REGISTERS_##COUNT(d) \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(MAJOR_OF_B)))

// d = a · b, added to d if `accumulate` (else d need not be cleared). Asynchronous: fence before; commit and wait after.
template <Major MAJOR_OF_A, Major MAJOR_OF_B, int COUNT>
__device__ inline void wgmma(float (&d)[COUNT], unsigned long long a, unsigned long long b, bool accumulate) {
    static_assert(COUNT == 32 || COUNT == 64 || COUNT == 128, "N is 64, 128 or 256");
    if constexpr (COUNT == 32) {
        WGMMA_SHARED(64, 32, "%32", "%33", "%34", "%35", "%36");
    } else if constexpr (COUNT == 64) {
        WGMMA_SHARED(128, 64, "%64", "%65", "%66", "%67", "%68");
    } else {
        WGMMA_SHARED(256, 128, "%128", "%129", "%130", "%131", "%132");
    }
}

// The same with 16 columns of A in registers.
template <Major MAJOR_OF_B, int COUNT>
__device__ inline void wgmma(float (&d)[COUNT], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned long long b, bool accumulate) {
    static_assert(COUNT == 32 || COUNT == 64, "N is 64 or 128");
    if constexpr (COUNT == 32) {
        WGMMA_REGISTERS(64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38");
    } else {
        WGMMA_REGISTERS(128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70");
    }
}

// ── From wgmma's registers to shared memory ──────────────────────────────────────────────────────────────────────────

// Two f32 as bf16 in one register, the first in the lower half.
__device__ inline unsigned pack(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// Four 8 × 8 matrices of 16-bit elements: lane l names where row l % 8 of matrix l / 8 goes, and has row l / 4, columns 2·(l % 4), + 1
// of each, which is how wgmma leaves D.
__device__ inline void store_matrices(unsigned to, unsigned m0, unsigned m1, unsigned m2, unsigned m3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(m0), "r"(m1), "r"(m2), "r"(m3) : "memory");
}

// Where the 16-byte piece `piece` of row `row` lies in a box with 128-byte swizzle.
__device__ inline unsigned swizzled(unsigned box, unsigned row, unsigned piece) { return box + row * 128 + (piece ^ row % 8) * 16; }
