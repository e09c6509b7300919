// log_mel: Whisper's front end. waveform → windowed DFT → power → mel bank → log10 → floor at the clip's maximum − 8 → (v + 4)/4.
//
// Frame t of a clip is samples t·160 − 200 .. t·160 + 200, reflected at both ends; the last frame of the centred transform
// is left out, so that F = S / 160. The DFT with its periodic Hann window is one matrix (cosine and minus sine of a bin side
// by side), made in f64 on the host. The transform is then an implicit GEMM over overlapping frames, and a thread's four columns
// are two whole bins, squared where they lie.
//
// The cosine is the same at n and 400 − n, the sine changes its sign there, and the window is 0 at n = 0: the columns need
// only x[n] + x[400 − n] (cosines) and x[n] − x[400 − n] (sines) for n = 1..=200, and the basis is [200, 2·201], its last
// row halved because n = 200 meets itself. That is half of the multiplications for one more staged tile.
//
// The ladder of the transform, in the order of this file:
//   rung 1: naive  power_naive reads two samples and two numbers of the basis for two multiplications.
//   rung 2: tile   power_tile stages both in shared memory and uses each number 32 (64) times.
//   beside it      mel_bank, clip_max and clamp_scale.
//
// power_naive       block 64, one bin of one frame per thread, grid = ceil(C · F · 201 / 64): |DFT|² of each frame
//   0  waveform     [C, S]          f32   read
//   1  basis        [200, 402]      f32   read
//   2  power        [C · F, 201]    f32   overwritten (the workspace's first part)
//   3  dims         by value
// power_tile        block 64 or 256, TILE frames × columns, grid = ceil(C · F / TILE) · ceil(402 / TILE), TILE = 32 (_32) or 64 (_64): |DFT|² of each frame
//   0  waveform     [C, S]          f32   read
//   1  basis        [200, 402]      f32   read
//   2  power        [C · F, 201]    f32   overwritten (the workspace's first part)
//   3  dims         by value
// mel_bank          block 64, one band of one frame per thread, grid = ceil(C · F · mels / 64): log10 of the mel bands
//   0  power        [C · F, 201]    f32   read (the workspace's first part)
//   1  bank         [mels, 201]     f32   read
//   2  range        [mels, 2]       i32   read (the bins that a band weighs: first, end)
//   3  mel          [C, F, mels]    f32   overwritten (log10)
//   4  dims         by value
// clip_max          block 256, one clip per block, grid = C: each clip's maximum
//   0  mel          [C, F, mels]    f32   read
//   1  max          [C]             f32   overwritten (from element C · F · 201 of the workspace)
//   2  dims         by value
// clamp_scale       block 256, four values per thread, grid = ceil(C · F · mels / 1024): floor at maximum − 8, (v + 4)/4
//   0  max          [C]             f32   read (from element C · F · 201 of the workspace)
//   1  mel          [C, F, mels]    f32   updated in place
//   2  dims         by value
//
// `power_tile` is there twice: as `power_tile_32` (TILE = 32, block 64) and `power_tile_64` (TILE = 64, block 256).
// Precision: f32 sums in a fixed order, the same bits on every run; the tables come from f64.
// Limits: S > 200, F = S / 160; every size and product < 2³¹.
// Twin: shaders/log_mel.wgsl.
struct Dims {
    unsigned clips;   // C
    unsigned samples; // S
    unsigned frames;  // F
    unsigned mels;
};

constexpr unsigned N_FFT = 400;
constexpr unsigned HALF = 200;
constexpr unsigned HOP = 160;
constexpr unsigned BINS = 201;
constexpr unsigned COLUMNS = 402;
constexpr unsigned TILE_K = 8; // divides HALF

// Sample k of frame m, reflected at the ends of its clip.
__device__ __forceinline__ float sample(const float* __restrict__ waveform, const Dims& dims, unsigned m, unsigned k) {
    const int last = static_cast<int>(dims.samples) - 1;
    const int at = abs(static_cast<int>(m % dims.frames * HOP + k) - static_cast<int>(N_FFT / 2));
    return waveform[m / dims.frames * dims.samples + (at > last ? 2 * last - at : at)];
}

// ── rung 1: naive: one bin of one frame per thread ───────────────────────────────────────────────────────────────────

extern "C" __global__ void __launch_bounds__(64)
power_naive(const float* __restrict__ waveform, const float* __restrict__ basis, float* __restrict__ power, const Dims dims) {
    const unsigned index = blockIdx.x * 64 + threadIdx.x;
    if (index >= dims.clips * dims.frames * BINS) {
        return;
    }
    const unsigned m = index / BINS, bin = index % BINS;
    float real = 0.0f, imaginary = 0.0f;
    for (unsigned k = 0; k < HALF; ++k) {
        const float left = sample(waveform, dims, m, k + 1);
        const float right = sample(waveform, dims, m, N_FFT - 1 - k);
        real = fmaf(left + right, basis[k * COLUMNS + 2 * bin], real);
        imaginary = fmaf(left - right, basis[k * COLUMNS + 2 * bin + 1], imaginary);
    }
    power[index] = real * real + imaginary * imaginary;
}

// ── rung 2: tile: frames × columns in shared memory and registers ────────────────────────────────────────────────────

template <unsigned TILE>
__device__ __forceinline__ void power_tile(const float* __restrict__ waveform, const float* __restrict__ basis, float* __restrict__ power,
                                           const Dims& dims) {
    constexpr unsigned SIDE = TILE / 4; // threads along a side of the tile
    constexpr unsigned THREADS = SIDE * SIDE;
    // float4s from one k to the next; the odd one keeps neighbouring k in different banks.
    constexpr unsigned STRIDE = SIDE + 1;
    __shared__ float4 even_tile[TILE_K * STRIDE], odd_tile[TILE_K * STRIDE], b_tile[TILE_K * STRIDE];
    const unsigned thread = threadIdx.x;
    const unsigned count = dims.clips * dims.frames;
    constexpr unsigned ACROSS = (COLUMNS + TILE - 1) / TILE;
    const unsigned m0 = blockIdx.x / ACROSS * TILE;
    const unsigned n0 = blockIdx.x % ACROSS * TILE;
    const unsigned i = thread / SIDE, j = thread % SIDE;

    float acc[4][4] = {};
    for (unsigned k0 = 0; k0 < HALF; k0 += TILE_K) {
        // 1. Stage a slice. The waveform is read along its samples, the basis along its columns.
#pragma unroll
        for (unsigned quad = thread; quad < TILE_K * SIDE; quad += THREADS) {
            const unsigned a_k = quad % TILE_K, a_i = quad / TILE_K;
            const unsigned b_k = quad / SIDE, b_i = quad % SIDE;
            float even[4], odd[4], b[4];
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) {
                const unsigned m = m0 + a_i * 4 + e;
                const float left = m < count ? sample(waveform, dims, m, k0 + a_k + 1) : 0.0f;
                const float right = m < count ? sample(waveform, dims, m, N_FFT - 1 - k0 - a_k) : 0.0f;
                even[e] = left + right;
                odd[e] = left - right;
                const unsigned n = n0 + b_i * 4 + e;
                b[e] = n < COLUMNS ? basis[(k0 + b_k) * COLUMNS + n] : 0.0f;
            }
            even_tile[a_k * STRIDE + a_i] = make_float4(even[0], even[1], even[2], even[3]);
            odd_tile[a_k * STRIDE + a_i] = make_float4(odd[0], odd[1], odd[2], odd[3]);
            b_tile[b_k * STRIDE + b_i] = make_float4(b[0], b[1], b[2], b[3]);
        }
        __syncthreads();
        // 2. acc[4, 4] += a[k, 4]ᵀ b[k, 4] for every k, where the columns are cosine, sine, cosine, sine.
#pragma unroll
        for (unsigned k = 0; k < TILE_K; ++k) {
            const float4 even = even_tile[k * STRIDE + i], odd = odd_tile[k * STRIDE + i], b = b_tile[k * STRIDE + j];
            const float evens[4] = {even.x, even.y, even.z, even.w}, odds[4] = {odd.x, odd.y, odd.z, odd.w};
#pragma unroll
            for (unsigned r = 0; r < 4; ++r) {
                acc[r][0] = fmaf(evens[r], b.x, acc[r][0]);
                acc[r][1] = fmaf(odds[r], b.y, acc[r][1]);
                acc[r][2] = fmaf(evens[r], b.z, acc[r][2]);
                acc[r][3] = fmaf(odds[r], b.w, acc[r][3]);
            }
        }
        __syncthreads();
    }

    // 3. Two bins of four frames per thread.
    const unsigned bin = (n0 + j * 4) / 2;
#pragma unroll
    for (unsigned r = 0; r < 4; ++r) {
        const unsigned m = m0 + i * 4 + r;
        if (m < count && bin < BINS) {
            power[m * BINS + bin] = acc[r][0] * acc[r][0] + acc[r][1] * acc[r][1];
        }
        if (m < count && bin + 1 < BINS) {
            power[m * BINS + bin + 1] = acc[r][2] * acc[r][2] + acc[r][3] * acc[r][3];
        }
    }
}

extern "C" __global__ void __launch_bounds__(64)
power_tile_32(const float* __restrict__ waveform, const float* __restrict__ basis, float* __restrict__ power, const Dims dims) {
    power_tile<32>(waveform, basis, power, dims);
}

extern "C" __global__ void __launch_bounds__(256)
power_tile_64(const float* __restrict__ waveform, const float* __restrict__ basis, float* __restrict__ power, const Dims dims) {
    power_tile<64>(waveform, basis, power, dims);
}

// ── Beside the ladder: mel bands, their maximum, and the scale ───────────────────────────────────────────────────────

extern "C" __global__ void __launch_bounds__(64)
mel_bank(const float* __restrict__ power, const float* __restrict__ bank, const int* __restrict__ range, float* __restrict__ mel,
         const Dims dims) {
    const unsigned index = blockIdx.x * 64 + threadIdx.x;
    if (index >= dims.clips * dims.frames * dims.mels) {
        return;
    }
    const unsigned m = index / dims.mels;
    const unsigned band = index % dims.mels;
    const unsigned end = range[2 * band + 1];
    float total = 0.0f;
    for (unsigned bin = range[2 * band]; bin < end; ++bin) {
        total = fmaf(power[m * BINS + bin], bank[band * BINS + bin], total);
    }
    mel[index] = log10f(fmaxf(total, 1e-10f));
}

extern "C" __global__ void __launch_bounds__(256)
clip_max(const float* __restrict__ mel, float* __restrict__ max, const Dims dims) {
    __shared__ float warps[256 / 32];
    const unsigned clip = blockIdx.x;
    const unsigned count = dims.frames * dims.mels;
    const float* from = mel + static_cast<size_t>(clip) * count;
    float largest = -1e30f;
    if (count % 4 == 0) { // and so every clip starts at a multiple of 16 bytes
        for (unsigned i = threadIdx.x; i < count / 4; i += 256) {
            const float4 values = reinterpret_cast<const float4*>(from)[i];
            largest = fmaxf(largest, fmaxf(fmaxf(values.x, values.y), fmaxf(values.z, values.w)));
        }
    } else {
        for (unsigned i = threadIdx.x; i < count; i += 256) {
            largest = fmaxf(largest, from[i]);
        }
    }
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, width));
    }
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = largest;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll
        for (unsigned w = 1; w < 256 / 32; ++w) {
            largest = fmaxf(largest, warps[w]);
        }
        max[dims.clips * dims.frames * BINS + clip] = largest;
    }
}

__device__ __forceinline__ float scaled(float value, float largest) { return (fmaxf(value, largest - 8.0f) + 4.0f) * 0.25f; }

extern "C" __global__ void __launch_bounds__(256)
clamp_scale(const float* __restrict__ max, float* __restrict__ mel, const Dims dims) {
    const unsigned per_clip = dims.frames * dims.mels;
    const unsigned count = dims.clips * per_clip;
    const float* clip_max = max + dims.clips * dims.frames * BINS;
    if (per_clip % 4 == 0) { // a thread's four neighbours belong to one clip
        const unsigned index = (blockIdx.x * 256 + threadIdx.x) * 4;
        if (index < count) {
            const float largest = clip_max[index / per_clip];
            float4* at = reinterpret_cast<float4*>(mel + index);
            const float4 values = *at;
            *at = make_float4(scaled(values.x, largest), scaled(values.y, largest), scaled(values.z, largest), scaled(values.w, largest));
        }
    } else {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e) {
            const unsigned index = (blockIdx.x * 4 + e) * 256 + threadIdx.x;
            if (index < count) {
                mel[index] = scaled(mel[index], clip_max[index / per_clip]);
            }
        }
    }
}
