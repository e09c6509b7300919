// embedding: y[row[i]] = table[id[i]], whole rows of D; entries with a negative id or row are skipped.
//
// Backward.  dtable[v] += Σ dy[row[i]] over the entries i with id[i] = v. The host sorts the rows by id (a counting
// sort), so that each element of dtable is summed by one thread, in order: no atomics, the same bits on every run.
//
// The ladder of forward, in the order of this file:
//   rung 1: scalar  forward: one element of y per thread.
//   rung 2: vec4    forward_vec4: 16 bytes of y per thread.
//   beside it       backward has one form.
//
// forward          block 256, one element of y per thread, grid = ceil(M · D / 256): y[row[i]] = table[id[i]]
//   0  table       [V, D]     f32|bf16  read
//   1  id          [M]        i32       read
//   2  row         [M]        i32       read (only if has_row, else row i)
//   3  y           [N, D]     f32|bf16  overwritten (only the rows that are named)
//   4  dims        by value
// forward_vec4     block 256, 16 bytes of y per thread (D a multiple of E), grid = ceil(M · D / (256 · E)), E = 4 (f32) or 8 (bf16): y[row[i]] = table[id[i]]
//   0  table       [V, D]     f32|bf16  read
//   1  id          [M]        i32       read
//   2  row         [M]        i32       read (only if has_row, else row i)
//   3  y           [N, D]     f32|bf16  overwritten (only the rows that are named)
//   4  dims        by value
// backward         block 256, E elements of a row of dtable per thread, grid = ceil(V · ceil(D / E) / 256), E = 4 (f32) or 8 (bf16): dtable
//   0  dy          [N, D]     f32|bf16  read
//   1  sorted_row  [M]        i32       read
//   2  start       [V + 1]    i32       read
//   3  dtable      [V, D]     f32       accumulated
//   4  dims        by value
//
// Each entry is there twice: for f32, and with `_bf16` after its name for bf16; dtable is f32 in both.
// Precision: forward copies; backward sums f32 in the order of sorted_row, the same bits on every run.
// Limits: D ≥ 1; M · D, N · D, V · D < 2³¹; the rows of one call are distinct. Ids, rows and starts outside their tables
// are skipped, not followed. Traffic: forward 2 · M · D elements; bound by memory. Backward reads a row of dy once and touches
// no row of dtable that no entry names; its longest thread adds as many rows as the most frequent id has.
// Twin: shaders/embedding.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned entries;    // M
    unsigned columns;    // D
    unsigned vocabulary; // V
    unsigned rows;       // N
    unsigned has_row;
    unsigned padding0;
    unsigned padding1;
    unsigned padding2;
};

constexpr unsigned BLOCK = 256;

// Where entry i goes and where it comes from; false for an entry that is skipped. A negative number is a huge unsigned one: one
// comparison checks both ends.
__device__ __forceinline__ bool route(const int* __restrict__ id, const int* __restrict__ row, unsigned entry, const Dims& dims,
                                      unsigned& from, unsigned& to) {
    from = static_cast<unsigned>(id[entry]);
    to = dims.has_row ? static_cast<unsigned>(row[entry]) : entry;
    return from < dims.vocabulary && to < dims.rows;
}

// ── rung 1: scalar: one element of y per thread ──────────────────────────────────────────────────────────────────────

template <typename T>
__device__ __forceinline__ void forward_element(const T* __restrict__ table, const int* __restrict__ id, const int* __restrict__ row,
                                                T* __restrict__ y, const Dims& dims) {
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    if (index >= dims.entries * dims.columns) {
        return;
    }
    const unsigned entry = index / dims.columns;
    const unsigned column = index % dims.columns;
    unsigned from, to;
    if (route(id, row, entry, dims, from, to)) {
        y[to * dims.columns + column] = table[from * dims.columns + column];
    }
}

extern "C" __global__ void __launch_bounds__(256)
forward(const float* __restrict__ table, const int* __restrict__ id, const int* __restrict__ row, float* __restrict__ y, const Dims dims) {
    forward_element(table, id, row, y, dims);
}

extern "C" __global__ void __launch_bounds__(256)
forward_bf16(const __nv_bfloat16* __restrict__ table, const int* __restrict__ id, const int* __restrict__ row, __nv_bfloat16* __restrict__ y,
             const Dims dims) {
    forward_element(table, id, row, y, dims);
}

// ── rung 2: vec4: 16 bytes of y per thread ───────────────────────────────────────────────────────────────────────────

// A row is columns · sizeof(T) / 16 pieces of 16 bytes.
template <typename T>
__device__ __forceinline__ void forward_piece(const T* __restrict__ table, const int* __restrict__ id, const int* __restrict__ row,
                                              T* __restrict__ y, const Dims& dims) {
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    const unsigned pieces = dims.columns / (16 / sizeof(T));
    if (index >= dims.entries * pieces) {
        return;
    }
    const unsigned entry = index / pieces;
    const unsigned piece = index % pieces;
    unsigned from, to;
    if (route(id, row, entry, dims, from, to)) {
        reinterpret_cast<uint4*>(y)[to * pieces + piece] = reinterpret_cast<const uint4*>(table)[from * pieces + piece];
    }
}

extern "C" __global__ void __launch_bounds__(256)
forward_vec4(const float* __restrict__ table, const int* __restrict__ id, const int* __restrict__ row, float* __restrict__ y,
             const Dims dims) {
    forward_piece(table, id, row, y, dims);
}

extern "C" __global__ void __launch_bounds__(256)
forward_vec4_bf16(const __nv_bfloat16* __restrict__ table, const int* __restrict__ id, const int* __restrict__ row,
                  __nv_bfloat16* __restrict__ y, const Dims dims) {
    forward_piece(table, id, row, y, dims);
}

// ── Beside the ladder: backward ──────────────────────────────────────────────────────────────────────────────────────

// The 16 bytes of dy at `from`, added in f32.
__device__ __forceinline__ void add(float (&totals)[4], const float* __restrict__ from) {
    const float4 values = *reinterpret_cast<const float4*>(from);
    totals[0] += values.x;
    totals[1] += values.y;
    totals[2] += values.z;
    totals[3] += values.w;
}

// A bf16 is the upper half of an f32.
__device__ __forceinline__ void add(float (&totals)[8], const __nv_bfloat16* __restrict__ from) {
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        totals[2 * i] += __uint_as_float(words[i] << 16);
        totals[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000u);
    }
}

// The entries of one id: sorted_row[first..end].
__device__ __forceinline__ void entries_of(const int* __restrict__ start, unsigned v, const Dims& dims, unsigned& first, unsigned& end) {
    first = max(start[v], 0);
    end = min(static_cast<unsigned>(max(start[v + 1], 0)), dims.entries);
}

// All rows start at a multiple of 16 bytes: a thread takes E neighbours of one row at a time, in the order of the list.
template <typename T>
__device__ __forceinline__ void backward_wide(const T* __restrict__ dy, const int* __restrict__ sorted_row, const int* __restrict__ start,
                                              float* __restrict__ dtable, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    const unsigned pieces = dims.columns / E;
    const unsigned v = index / pieces;
    if (v >= dims.vocabulary) {
        return;
    }
    const unsigned column = index % pieces * E;
    unsigned first, end;
    entries_of(start, v, dims, first, end);
    if (first >= end) {
        return;
    }
    float4* to = reinterpret_cast<float4*>(dtable + v * dims.columns + column);
    float totals[E];
#pragma unroll
    for (unsigned e = 0; e < E; e += 4) {
        const float4 values = to[e / 4];
        totals[e] = values.x;
        totals[e + 1] = values.y;
        totals[e + 2] = values.z;
        totals[e + 3] = values.w;
    }
#pragma unroll 4
    for (unsigned j = first; j < end; ++j) {
        const unsigned row = sorted_row[j];
        if (row < dims.rows) {
            add(totals, dy + row * dims.columns + column);
        }
    }
#pragma unroll
    for (unsigned e = 0; e < E; e += 4) {
        to[e / 4] = make_float4(totals[e], totals[e + 1], totals[e + 2], totals[e + 3]);
    }
}

// Any other rows: a thread takes every pieces-th element, so that a warp still reads what lies together.
template <typename T>
__device__ __forceinline__ void backward_narrow(const T* __restrict__ dy, const int* __restrict__ sorted_row, const int* __restrict__ start,
                                                float* __restrict__ dtable, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    const unsigned pieces = (dims.columns + E - 1) / E;
    const unsigned v = index / pieces;
    if (v >= dims.vocabulary) {
        return;
    }
    unsigned first, end;
    entries_of(start, v, dims, first, end);
    if (first >= end) {
        return;
    }
    for (unsigned column = index % pieces; column < dims.columns; column += pieces) {
        float total = dtable[v * dims.columns + column];
#pragma unroll 4
        for (unsigned j = first; j < end; ++j) {
            const unsigned row = sorted_row[j];
            if (row < dims.rows) {
                total += static_cast<float>(dy[row * dims.columns + column]);
            }
        }
        dtable[v * dims.columns + column] = total;
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward(const float* __restrict__ dy, const int* __restrict__ sorted_row, const int* __restrict__ start, float* __restrict__ dtable,
         const Dims dims) {
    if (dims.columns % 4 == 0) {
        backward_wide(dy, sorted_row, start, dtable, dims);
    } else {
        backward_narrow(dy, sorted_row, start, dtable, dims);
    }
}

extern "C" __global__ void __launch_bounds__(256)
backward_bf16(const __nv_bfloat16* __restrict__ dy, const int* __restrict__ sorted_row, const int* __restrict__ start,
              float* __restrict__ dtable, const Dims dims) {
    if (dims.columns % 8 == 0) {
        backward_wide(dy, sorted_row, start, dtable, dims);
    } else {
        backward_narrow(dy, sorted_row, start, dtable, dims);
    }
}
