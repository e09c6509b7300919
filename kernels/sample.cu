// sample: one id per row of V logits.
//
//   greedy (temperature 0)   the id of the largest logit; of equal ones the lowest
//   otherwise                p[v] ∝ exp((logits[v] − max) / temperature) over the ids whose logit is at least the k-th
//                            largest (all, if k = 0; more than k where the k-th is tied, as in Hugging Face); of these the
//                            nucleus: the fewest of the most likely whose probabilities reach top_p, and those tied with the
//                            last of them (all, if top_p = 1; never none); and of the nucleus the lowest id whose cumulative
//                            probability exceeds random
//
// forward        block 1024, one row per block, grid = R: id
//   0  logits    [R, V]  f32|bf16  read
//   1  random    [R]     f32       read (0 ≤ random < 1; only if inverse_temperature > 0)
//   2  id        [R]     i32       overwritten
//   3  dims      by value
//
// It is there twice: as `forward` for f32 and as `forward_bf16`.
//
// The k-th largest is found by radix selection: logits become unsigned numbers of the same order, and four passes over the
// row (two in bf16) each count one byte's 256 values among the numbers that share the bytes found so far (integer atomics: exact,
// whatever the order). The nucleus is all numbers from a threshold up, found two bits at a time: sixteen passes (eight in bf16) each
// sum the weights from four candidates up. Every sum is one of all ids in the same order, with 0 for those below its candidate:
// rounding does not change that it never grows with the candidate, so the search ends at the very threshold that trying every
// number would find, without a sort and without float atomics. The cumulative sum is taken over 32 warps, each of 32 contiguous
// shares of ids, then inside one share.
// Precision: counts of integers, exact; f32 sums of weights in a fixed order, the same bits on every run.
// Limits: V ≥ 1, R · V < 2³¹, no NaN. Traffic: R · V elements, 2 reads more for sampling, 4 (2) more for top-k and 16 (8) more for
// top-p; what is read again comes from the cache. One row at a time is bound by one multiprocessor, hence the large block.
// Twin: shaders/sample.wgsl.
#include <cuda_bf16.h>

struct Dims {
    unsigned rows;              // R
    unsigned vocabulary;        // V
    unsigned top_k;             // 0: all
    float inverse_temperature;  // 0: greedy
    float top_p;                // 1: all
    unsigned padding0;
    unsigned padding1;
    unsigned padding2;
};

constexpr unsigned BLOCK = 1024;
constexpr unsigned FULL = 0xffffffffu; // all lanes of a warp

// The logits that a thread takes in one step along the row: as many as 16 bytes hold. WIDE: neighbours, in one access, where all
// rows start at a multiple of 16 bytes; else every APART-th one.
template <typename T, bool WIDE, unsigned APART> struct Step {
    static constexpr unsigned E = 16 / sizeof(T);
    float values[E];
    unsigned first;
    unsigned count; // of values that are there

    __device__ __forceinline__ Step(const T* row, unsigned first, unsigned end) : first(first) {
        if constexpr (WIDE) {
            count = E;
            const uint4 bits = *reinterpret_cast<const uint4*>(row + first);
            const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
            for (unsigned e = 0; e < E; ++e) {
                // A bf16 is the upper half of an f32.
                const unsigned half = e % 2 == 0 ? words[e / 2] << 16 : words[e / 2] & 0xffff0000u;
                values[e] = __uint_as_float(E == 4 ? words[e % 4] : half);
            }
        } else {
            count = min((end - first + APART - 1) / APART, E);
#pragma unroll
            for (unsigned e = 0; e < E; ++e) {
                values[e] = e < count ? static_cast<float>(row[first + e * APART]) : 0.0f;
            }
        }
    }

    __device__ __forceinline__ unsigned id(unsigned e) const { return first + (WIDE ? e : e * APART); }
};

// Unsigned numbers in the order of the floats; −0 counts as 0.
__device__ __forceinline__ unsigned ordered(float x) {
    const unsigned bits = __float_as_uint(x);
    if (bits == 0x80000000u) {
        return 0x80000000u;
    }
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

struct Best {
    float value;
    unsigned id;

    // The larger of two; of equal ones that with the lower id.
    __device__ __forceinline__ void join(float other, unsigned other_id) {
        if (other > value || (other == value && other_id < id)) {
            value = other;
            id = other_id;
        }
    }
};

__device__ __forceinline__ Best best_of_warp(Best best) {
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        best.join(__shfl_xor_sync(FULL, best.value, width), __shfl_xor_sync(FULL, best.id, width));
    }
    return best;
}

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
    for (unsigned width = 16; width > 0; width /= 2) {
        value += __shfl_xor_sync(FULL, value, width);
    }
    return value;
}

// The first of 32 sums with which the running sum exceeds the goal; where rounding lets the walk end without a hit, the last that
// had a chance. `before` becomes the sum before it. Sums in one order only: they never decrease.
__device__ __forceinline__ unsigned walk(const float* sums, float goal, float& before) {
    unsigned found = 0;
    float next = before;
    for (unsigned i = 0; i < 32; ++i) {
        if (sums[i] > 0.0f) {
            found = i;
            before = next;
            next += sums[i];
            if (next > goal) {
                break;
            }
        }
    }
    return found;
}

template <typename T, bool WIDE>
__device__ __forceinline__ void choose(const T* __restrict__ logits, const float* __restrict__ random, int* __restrict__ id, const Dims& dims) {
    constexpr unsigned E = 16 / sizeof(T);
    __shared__ Best warp_best[32];
    __shared__ unsigned counts[256];
    __shared__ unsigned chosen_value, chosen_rank;
    __shared__ float warp_masses[4][32];
    __shared__ float warp_sums[32], thread_sums[BLOCK];
    using Across = Step<T, WIDE, BLOCK>; // the block's threads side by side
    using Along = Step<T, WIDE, 1>;      // one thread's own share
    const unsigned thread = threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned row = blockIdx.x;
    const T* from = logits + static_cast<size_t>(row) * dims.vocabulary;

    // 1. The largest logit and its lowest id. A thread without an element has id V: it never wins.
    Best best = {__uint_as_float(0xff800000u), dims.vocabulary}; // −∞
    for (unsigned first = WIDE ? thread * E : thread; first < dims.vocabulary; first += BLOCK * E) {
        const Across step(from, first, dims.vocabulary);
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            if (e < step.count) {
                best.join(step.values[e], step.id(e));
            }
        }
    }
    best = best_of_warp(best);
    if (lane == 0) {
        warp_best[warp] = best;
    }
    __syncthreads();
    best = best_of_warp(warp_best[lane]);
    if (dims.inverse_temperature == 0.0f) {
        if (thread == 0) {
            id[row] = static_cast<int>(best.id);
        }
        return;
    }

    // 2. The k-th largest as an ordered number; 0 is below all. In bf16 only the upper half is known, and the lower stays 0.
    unsigned threshold = 0;
    if (dims.top_k > 0 && dims.top_k < dims.vocabulary) {
        unsigned rank = dims.top_k; // among the numbers that share the bytes found so far, from 1
#pragma unroll 1
        for (unsigned byte = 4; byte > 4 - sizeof(T); --byte) {
            const unsigned shift = 8 * (byte - 1);
            if (thread < 256) {
                counts[thread] = 0;
            }
            __syncthreads();
            for (unsigned first = WIDE ? thread * E : thread; first < dims.vocabulary; first += BLOCK * E) {
                const Across step(from, first, dims.vocabulary);
#pragma unroll
                for (unsigned e = 0; e < E; ++e) {
                    const unsigned number = ordered(step.values[e]);
                    // (the bytes above this one; a shift by 32 is undefined, two are not)
                    if (e < step.count && ((number ^ threshold) >> shift >> 8) == 0) {
                        atomicAdd(&counts[(number >> shift) & 255], 1u);
                    }
                }
            }
            __syncthreads();
            if (warp == 0) {
                // Each lane has eight values, lane 0 the highest; the rank falls into one lane's.
                unsigned sum = 0;
#pragma unroll
                for (unsigned b = 0; b < 8; ++b) {
                    sum += counts[255 - 8 * lane - b];
                }
                unsigned up_to = sum;
#pragma unroll
                for (unsigned width = 1; width < 32; width *= 2) {
                    const unsigned other = __shfl_up_sync(FULL, up_to, width);
                    up_to += lane >= width ? other : 0;
                }
                if (up_to - sum < rank && rank <= up_to) {
                    unsigned value = 255 - 8 * lane;
                    unsigned left = rank - (up_to - sum);
                    while (counts[value] < left) {
                        left -= counts[value];
                        value -= 1;
                    }
                    chosen_value = value;
                    chosen_rank = left;
                }
            }
            __syncthreads();
            threshold |= chosen_value << shift;
            rank = chosen_rank;
        }
    }

    // 3. The nucleus: the largest number from which up the weights sum to top_p of all. In bf16 its lower half stays 0.
    if (dims.top_p < 1.0f) {
        unsigned nucleus = 0;
        float goal = 0.0f;
#pragma unroll 1
        for (unsigned bits = 32; bits > 32 - 8 * sizeof(T); bits -= 2) {
            const unsigned shift = bits - 2;
            float masses[4] = {};
            for (unsigned first = WIDE ? thread * E : thread; first < dims.vocabulary; first += BLOCK * E) {
                const Across step(from, first, dims.vocabulary);
#pragma unroll
                for (unsigned e = 0; e < E; ++e) {
                    const unsigned number = ordered(step.values[e]);
                    if (e < step.count && number >= threshold) {
                        const float weight = expf((step.values[e] - best.value) * dims.inverse_temperature);
#pragma unroll
                        for (unsigned digit = 0; digit < 4; ++digit) {
                            masses[digit] += number >= (nucleus | digit << shift) ? weight : 0.0f;
                        }
                    }
                }
            }
            // Over the block: every thread gets the sums.
#pragma unroll
            for (unsigned digit = 0; digit < 4; ++digit) {
                masses[digit] = sum_of_warp(masses[digit]);
                if (lane == 0) {
                    warp_masses[digit][warp] = masses[digit];
                }
            }
            __syncthreads();
#pragma unroll
            for (unsigned digit = 0; digit < 4; ++digit) {
                masses[digit] = sum_of_warp(warp_masses[digit][lane]);
            }
            __syncthreads(); // before the next pass overwrites them
            if (bits == 32) {
                goal = dims.top_p * masses[0]; // from 0 up: all
            }
            nucleus |= ((masses[1] >= goal) + (masses[2] >= goal) + (masses[3] >= goal)) << shift;
        }
        // The best stays in, even if top_p is so small that the goal is 0.
        threshold = max(threshold, min(nucleus, ordered(best.value)));
    }

    // 4. Each thread sums the weights of one contiguous share of ids, a whole number of steps; each warp those of its threads.
    const unsigned share = ((dims.vocabulary + BLOCK - 1) / BLOCK + E - 1) / E * E;
    float sum = 0.0f;
    const unsigned end = min((thread + 1) * share, dims.vocabulary);
    for (unsigned first = thread * share; first < end; first += E) {
        const Along step(from, first, end);
#pragma unroll
        for (unsigned e = 0; e < E; ++e) {
            if (e < step.count && ordered(step.values[e]) >= threshold) {
                sum += expf((step.values[e] - best.value) * dims.inverse_temperature);
            }
        }
    }
    thread_sums[thread] = sum;
    sum = sum_of_warp(sum);
    if (lane == 0) {
        warp_sums[warp] = sum;
    }
    __syncthreads();

    // 5. One thread finds the warp, then the share, then the id in it.
    if (thread == 0) {
        float total = 0.0f;
        for (unsigned w = 0; w < 32; ++w) {
            total += warp_sums[w];
        }
        const float goal = random[row] * total;
        float before = 0.0f;
        const unsigned in_warp = walk(warp_sums, goal, before);
        const unsigned in_share = in_warp * 32 + walk(thread_sums + in_warp * 32, goal, before);
        unsigned chosen = best.id;
        for (unsigned v = in_share * share; v < min((in_share + 1) * share, dims.vocabulary); ++v) {
            const float value = static_cast<float>(from[v]);
            if (ordered(value) >= threshold) {
                chosen = v;
                before += expf((value - best.value) * dims.inverse_temperature);
                if (before > goal) {
                    break;
                }
            }
        }
        id[row] = static_cast<int>(chosen);
    }
}

extern "C" __global__ void __launch_bounds__(1024)
forward(const float* __restrict__ logits, const float* __restrict__ random, int* __restrict__ id, const Dims dims) {
    if (dims.vocabulary % 4 == 0) {
        choose<float, true>(logits, random, id, dims);
    } else {
        choose<float, false>(logits, random, id, dims);
    }
}

extern "C" __global__ void __launch_bounds__(1024)
forward_bf16(const __nv_bfloat16* __restrict__ logits, const float* __restrict__ random, int* __restrict__ id, const Dims dims) {
    if (dims.vocabulary % 8 == 0) {
        choose<__nv_bfloat16, true>(logits, random, id, dims);
    } else {
        choose<__nv_bfloat16, false>(logits, random, id, dims);
    }
}
