// local_histogram: what each cell of a picture shows: 27 bins of colours and 9 of the directions of its edges, in up to four grids.
//
// A picture has C cells in all grids: grid after grid, in each in raster order, g · g of them in a grid of g. With v = pixel / 255:
//   colours     bin (i, j, k): the mean over the cell's pixels of t_i(red) · t_j(green) · t_k(blue), t_i(v) = max(0, 1 − 2·|v − i/2|)
//   directions  bin k: the mean h of max(0, |gx·cos θ + gy·sin θ| − cot(π/9)·|gy·cos θ − gx·sin θ|), summed over the channels, with
//               θ = k·π/9 and g the central difference of v (0 across the border): g's coordinate between two directions, without its sign;
//               then h / √(4·e + 10⁻⁴), where e is the mean over 3 × 3 cells (a border's cell again beyond it) of Σ h²
// and of both x / √(x + 0.01).
//
// There is no backward pass: it is fixed, like a spectrogram, and nothing before it is trained.
//
// Variants: none: y f32; _bf16: y bf16, all sums f32.
//
// bins              block 64, one bin of one cell per thread, grid = ceil(I · C · 36 / 64): colours, and means of directions
//   0  pixels       [I, H, W, 3]   u8         read
//   1  y            [I, C · 36]    f32|bf16   overwritten (only the first 27 of each cell's 36)
//   2  means        [I, C, 9]      f32        overwritten (the workspace)
//   3  dims         by value
// normalise         block 64, one direction of one cell per thread, grid = ceil(I · C · 9 / 64): directions
//   0  means        [I, C, 9]      f32        read (the workspace)
//   1  y            [I, C · 36]    f32|bf16   overwritten (only the last 9 of each cell's 36)
//   2  dims         by value
//
// Precision: f32 sums in raster order, the same bits on every run; bf16 is rounded once, when it is stored.
// Limits: every grid divides H and W; every tensor < 2³¹ elements. 20 · H · W · 36 operations for each grid; bound by arithmetic.
// Twin: shaders/local_histogram.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned grid0;          // cells along each side
    unsigned grid1;          // the same of the next grid, 0 where there is none
    unsigned grid2;
    unsigned grid3;
    unsigned images;         // I
    unsigned height;         // H
    unsigned width;          // W
    unsigned cells;          // C
};

constexpr unsigned BLOCK = 64;
constexpr unsigned COLORS = 27;
constexpr unsigned DIRECTIONS = 9;
constexpr unsigned BINS = 36;
constexpr float COT = 2.7474774194546225f;
// θ = 0°, 20°, …, 160°
__device__ constexpr float COSINES[9] = {1.0f,
                                         0.9396926207859084f,
                                         0.766044443118978f,
                                         0.5f,
                                         0.17364817766693041f,
                                         -0.17364817766693033f,
                                         -0.5f,
                                         -0.7660444431189779f,
                                         -0.9396926207859083f};
__device__ constexpr float SINES[9] = {0.0f,
                                       0.3420201433256687f,
                                       0.6427876096865393f,
                                       0.8660254037844386f,
                                       0.984807753012208f,
                                       0.984807753012208f,
                                       0.8660254037844387f,
                                       0.6427876096865395f,
                                       0.3420201433256689f};

// A cell: its picture, its grid as cells along a side, its place there.
struct Cell {
    unsigned image, grid, place;

    __device__ Cell(unsigned cell, const Dims& dims) : image(cell / dims.cells), grid(dims.grid0), place(cell % dims.cells) {
        const unsigned grids[4] = {dims.grid0, dims.grid1, dims.grid2, dims.grid3};
#pragma unroll
        for (unsigned i = 1; i < 4; ++i) {
            if (grid == grids[i - 1] && place >= grid * grid && grids[i] != 0) {
                place -= grid * grid;
                grid = grids[i];
            } else {
                break;
            }
        }
    }
};

__device__ __forceinline__ float root(float x) { return x / sqrtf(x + 0.01f); }

// How much of a channel's value belongs to bin 0, 1 or 2.
__device__ __forceinline__ float share(unsigned bin, unsigned char value) {
    return fmaxf(0.0f, 1.0f - fabsf(static_cast<float>(value) * (2.0f / 255.0f) - static_cast<float>(bin)));
}

__device__ __forceinline__ float color(const unsigned char* pixel, unsigned bin) {
    return share(bin / 9, pixel[0]) * share(bin / 3 % 3, pixel[1]) * share(bin % 3, pixel[2]);
}

// `across` and `down`: whether there are pixels on both sides.
__device__ __forceinline__ float direction(const unsigned char* pixel, unsigned width, bool across, bool down, float cosine, float sine) {
    const int line = static_cast<int>(width) * 3;
    float total = 0.0f;
#pragma unroll
    for (int channel = 0; channel < 3; ++channel) {
        const float dx = across ? static_cast<float>(pixel[channel + 3] - pixel[channel - 3]) * (1.0f / 255.0f) : 0.0f;
        const float dy = down ? static_cast<float>(pixel[channel + line] - pixel[channel - line]) * (1.0f / 255.0f) : 0.0f;
        total += fmaxf(0.0f, fabsf(dx * cosine + dy * sine) - COT * fabsf(dy * cosine - dx * sine));
    }
    return total;
}

template <typename T>
__device__ __forceinline__ void bins_of(const unsigned char* __restrict__ pixels, T* __restrict__ y, float* __restrict__ means, const Dims& dims) {
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    if (index >= dims.images * dims.cells * BINS) {
        return;
    }
    const unsigned bin = index % BINS;
    const Cell cell(index / BINS, dims);
    const unsigned high = dims.height / cell.grid, wide = dims.width / cell.grid;
    const unsigned top = cell.place / cell.grid * high, left = cell.place % cell.grid * wide;
    float total = 0.0f;
    for (unsigned line = top; line < top + high; ++line) {
        const bool down = line > 0 && line + 1 < dims.height;
        for (unsigned column = left; column < left + wide; ++column) {
            const unsigned char* pixel = pixels + ((static_cast<size_t>(cell.image) * dims.height + line) * dims.width + column) * 3;
            if (bin < COLORS) {
                total += color(pixel, bin);
            } else {
                total += direction(pixel, dims.width, column > 0 && column + 1 < dims.width, down, COSINES[bin - COLORS], SINES[bin - COLORS]);
            }
        }
    }
    const float mean = total / static_cast<float>(high * wide);
    if (bin < COLORS) {
        y[index] = static_cast<T>(root(mean));
    } else {
        means[index / BINS * DIRECTIONS + bin - COLORS] = mean;
    }
}

extern "C" __global__ void __launch_bounds__(64)
bins(const unsigned char* __restrict__ pixels, float* __restrict__ y, float* __restrict__ means, const Dims dims) {
    bins_of(pixels, y, means, dims);
}

extern "C" __global__ void __launch_bounds__(64)
bins_bf16(const unsigned char* __restrict__ pixels, __nv_bfloat16* __restrict__ y, float* __restrict__ means, const Dims dims) {
    bins_of(pixels, y, means, dims);
}

template <typename T>
__device__ __forceinline__ void normalised(const float* __restrict__ means, T* __restrict__ y, const Dims& dims) {
    const unsigned index = blockIdx.x * BLOCK + threadIdx.x;
    if (index >= dims.images * dims.cells * DIRECTIONS) {
        return;
    }
    const Cell cell(index / DIRECTIONS, dims);
    const unsigned first = index / DIRECTIONS - cell.place;
    float energy = 0.0f;
    for (unsigned i = 0; i < 9; ++i) {
        // One less than the neighbour's line and column, which the border ends.
        const unsigned line = min(max(cell.place / cell.grid + i / 3, 1u), cell.grid) - 1;
        const unsigned column = min(max(cell.place % cell.grid + i % 3, 1u), cell.grid) - 1;
        const float* near = means + static_cast<size_t>(first + line * cell.grid + column) * DIRECTIONS;
#pragma unroll
        for (unsigned k = 0; k < DIRECTIONS; ++k) {
            energy = fmaf(near[k], near[k], energy);
        }
    }
    const float value = root(means[index] / sqrtf(energy * (4.0f / 9.0f) + 1e-4f));
    y[index / DIRECTIONS * BINS + COLORS + index % DIRECTIONS] = static_cast<T>(value);
}

extern "C" __global__ void __launch_bounds__(64) normalise(const float* __restrict__ means, float* __restrict__ y, const Dims dims) {
    normalised(means, y, dims);
}

extern "C" __global__ void __launch_bounds__(64) normalise_bf16(const float* __restrict__ means, __nv_bfloat16* __restrict__ y, const Dims dims) {
    normalised(means, y, dims);
}
