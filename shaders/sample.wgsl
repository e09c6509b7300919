// sample: one id per row of V logits.
//
//   greedy (temperature 0)   the id of the largest logit; of equal ones the lowest
//   otherwise                p[v] ∝ exp((logits[v] − max) / temperature) over the ids whose logit is at least the k-th
//                            largest (all, if k = 0; more than k where the k-th is tied, as in Hugging Face); of these the
//                            nucleus: the fewest of the most likely whose probabilities reach top_p, and those tied with the
//                            last of them (all, if top_p = 1; never none); and of the nucleus the lowest id whose cumulative
//                            probability exceeds random
//
// forward        block 256, one row per workgroup, grid = R: id
//   0  logits    [R, V]  f32   read
//   1  random    [R]     f32   read (0 ≤ random < 1; only if inverse_temperature > 0)
//   2  id        [R]     i32   overwritten
//   3  dims      uniform
//
// The k-th largest is found by radix selection: logits become unsigned numbers of the same order, and four passes over the
// row each count one byte's 256 values among the numbers that share the bytes found so far (integer atomics: exact, whatever
// the order). The nucleus is all numbers from a threshold up, found two bits at a time: sixteen passes each sum the weights from
// four candidates up. Every sum is one of all ids in the same order, with 0 for those below its candidate: rounding does not
// change that it never grows with the candidate, so the search ends at the very threshold that trying every number would find,
// without a sort. The cumulative sum is taken over 256 contiguous blocks, one per thread, then inside one block.
//
// Precision: counts of integers, exact; f32 sums of weights in a fixed order, the same bits on every run.
// Limits: V ≥ 1, R · V < 2³¹, no NaN. Traffic: 4 · R · V bytes, 2 reads more for sampling, 4 more for top-k and 16 more for top-p.
// Twin: kernels/sample.cu.

struct Dims {
    rows: u32,                   // R
    vocabulary: u32,             // V
    top_k: u32,                  // 0: all
    inverse_temperature: f32,    // 0: greedy
    top_p: f32,                  // 1: all
    padding0: u32,
    padding1: u32,
    padding2: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> random: array<f32>;
@group(0) @binding(2) var<storage, read_write> id: array<i32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const BLOCK: u32 = 256u;

var<workgroup> best_value: array<f32, BLOCK>; // later the blocks' sums
var<workgroup> best_id: array<u32, BLOCK>;
var<workgroup> counts: array<atomic<u32>, BLOCK>;
var<workgroup> masses: array<vec4<f32>, BLOCK>;
var<workgroup> found: u32; // the bytes of the k-th largest that are known
var<workgroup> wanted: u32; // its rank among the numbers that share them, from 1

// Unsigned numbers in the order of the floats; −0 counts as 0.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

@compute @workgroup_size(BLOCK)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) thread: u32) {
    let row = group.x + group.y * groups.x;
    if row >= dims.rows {
        return;
    }
    let base = row * dims.vocabulary;
    // 1. The largest logit and its lowest id.
    var top = -3e38;
    var top_id = dims.vocabulary;
    for (var v = thread; v < dims.vocabulary; v += BLOCK) {
        let value = logits[base + v];
        if value > top || top_id == dims.vocabulary {
            top = value;
            top_id = v;
        }
    }
    best_value[thread] = top;
    best_id[thread] = top_id;
    workgroupBarrier();
    for (var width = BLOCK / 2u; width > 0u; width = width / 2u) {
        if thread < width {
            let a = best_value[thread];
            let b = best_value[thread + width];
            let other = best_id[thread + width];
            // A thread without an element has id V: it never wins.
            if other < dims.vocabulary && (b > a || (b == a && other < best_id[thread])) {
                best_value[thread] = b;
                best_id[thread] = other;
            }
        }
        workgroupBarrier();
    }
    if dims.inverse_temperature == 0.0 {
        if thread == 0u {
            id[row] = i32(best_id[0]);
        }
        return;
    }
    top = best_value[0];
    let fallback = best_id[0];

    // 2. The k-th largest as an ordered number; 0 is below all.
    if thread == 0u {
        found = 0u;
        wanted = dims.top_k;
    }
    workgroupBarrier(); // also: best_value[0] was read by all
    if dims.top_k > 0u && dims.top_k < dims.vocabulary {
        for (var shift = 32u; shift > 0u; shift -= 8u) {
            atomicStore(&counts[thread], 0u);
            workgroupBarrier();
            // (a shift by 32 is undefined: nothing is known before the first pass)
            let known = found;
            for (var v = thread; v < dims.vocabulary; v += BLOCK) {
                let number = ordered(logits[base + v]);
                if shift == 32u || (number >> (shift % 32u)) == (known >> (shift % 32u)) {
                    atomicAdd(&counts[(number >> (shift - 8u)) & 255u], 1u);
                }
            }
            workgroupBarrier();
            if thread == 0u {
                var byte = 255u;
                var rank = wanted;
                loop {
                    let here = atomicLoad(&counts[byte]);
                    if here >= rank || byte == 0u {
                        break;
                    }
                    rank -= here;
                    byte -= 1u;
                }
                wanted = rank;
                found = known | (byte << (shift - 8u));
            }
            workgroupBarrier();
        }
    }
    var threshold = found;

    // 3. The nucleus: the largest number from which up the weights sum to top_p of all.
    if dims.top_p < 1.0 {
        var nucleus = 0u;
        var goal = 0.0;
        for (var bits = 32u; bits > 0u; bits -= 2u) {
            let shift = bits - 2u;
            let candidates = vec4(nucleus) | (vec4(0u, 1u, 2u, 3u) << vec4(shift));
            var mass = vec4(0.0);
            for (var v = thread; v < dims.vocabulary; v += BLOCK) {
                let value = logits[base + v];
                let number = ordered(value);
                if number >= threshold {
                    let weight = exp((value - top) * dims.inverse_temperature);
                    mass += select(vec4(0.0), vec4(weight), vec4(number) >= candidates);
                }
            }
            masses[thread] = mass;
            workgroupBarrier();
            for (var width = BLOCK / 2u; width > 0u; width = width / 2u) {
                if thread < width {
                    masses[thread] += masses[thread + width];
                }
                workgroupBarrier();
            }
            mass = masses[0];
            workgroupBarrier(); // before the next pass overwrites it
            if bits == 32u {
                goal = dims.top_p * mass.x; // from 0 up: all
            }
            nucleus |= (u32(mass.y >= goal) + u32(mass.z >= goal) + u32(mass.w >= goal)) << shift;
        }
        // The best stays in, even if top_p is so small that the goal is 0.
        threshold = max(threshold, min(nucleus, ordered(top)));
    }

    // 4. Each thread sums the weights of one contiguous block of ids.
    let share = (dims.vocabulary + BLOCK - 1u) / BLOCK;
    var sum = 0.0;
    for (var v = thread * share; v < min((thread + 1u) * share, dims.vocabulary); v++) {
        let value = logits[base + v];
        if ordered(value) >= threshold {
            sum += exp((value - top) * dims.inverse_temperature);
        }
    }
    best_value[thread] = sum;
    workgroupBarrier();

    // 5. One thread finds the block, then the id in it. Sums in one order only: they never decrease.
    if thread == 0u {
        var total = 0.0;
        for (var block = 0u; block < BLOCK; block++) {
            total += best_value[block];
        }
        let goal = random[row] * total;
        // Where rounding lets a walk end without a hit: the last block, and the last id, that had a chance.
        var before = 0.0;
        var block = 0u;
        var next = 0.0;
        for (var b = 0u; b < BLOCK; b++) {
            if best_value[b] > 0.0 {
                block = b;
                before = next;
                next += best_value[b];
                if next > goal {
                    break;
                }
            }
        }
        var chosen = fallback;
        for (var v = block * share; v < min((block + 1u) * share, dims.vocabulary); v++) {
            let value = logits[base + v];
            if ordered(value) >= threshold {
                chosen = v;
                before += exp((value - top) * dims.inverse_temperature);
                if before > goal {
                    break;
                }
            }
        }
        id[row] = i32(chosen);
    }
}
