// log_mel: Whisper's front end. waveform → windowed DFT → power → mel bank → log10 → floor at the clip's maximum − 8 → (v + 4)/4.
//
// Frame t of a clip is samples t·160 − 200 .. t·160 + 200, reflected at both ends; the last frame of the centred transform
// is left out, so that F = S / 160. The DFT with its periodic Hann window is one matrix (cosine and minus sine of a bin side
// by side), made in f64 on the host: WGSL's own sin and cos are too coarse. The transform is then an implicit GEMM over
// overlapping frames, and a thread's four columns are two whole bins, squared where they lie.
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
//   3  dims         uniform
// power_tile        block (TILE/4)², grid = ceil(C · F / TILE) · ceil(402 / TILE): |DFT|² of each frame
//   0  waveform     [C, S]          f32   read
//   1  basis        [200, 402]      f32   read
//   2  power        [C · F, 201]    f32   overwritten (the workspace's first part)
//   3  dims         uniform
// mel_bank          block 64, one band of one frame per thread, grid = ceil(C · F · mels / 64): log10 of the mel bands
//   0  m_power      [C · F, 201]    f32   read (the workspace's first part)
//   1  m_bank       [mels, 201]     f32   read
//   2  m_range      [mels, 2]       i32   read (the bins that a band weighs: first, end)
//   3  m_mel        [C, F, mels]    f32   overwritten (log10)
//   4  m_dims       uniform
// clip_max          block 256, one clip per workgroup, grid = C: each clip's maximum
//   0  c_mel        [C, F, mels]    f32   read
//   1  c_max        [C]             f32   overwritten (from element C · F · 201 of the workspace)
//   2  c_dims       uniform
// clamp_scale       block 256, one value per thread, grid = ceil(C · F · mels / 256): floor at maximum − 8, (v + 4)/4
//   0  s_max        [C]             f32   read (from element C · F · 201 of the workspace)
//   1  s_mel        [C, F, mels]    f32   updated in place
//   2  s_dims       uniform
//
// Constants: TILE: 32, 64.
// Precision: f32 sums in a fixed order, the same bits on every run; the tables come from f64. log as the device has it.
// Limits: S > 200, F = S / 160; every size and product < 2³¹.
// Twin: kernels/log_mel.cu.

struct Dims {
    clips: u32,            // C
    samples: u32,          // S
    frames: u32,           // F
    mels: u32,
}

const N_FFT: u32 = 400u;
const HALF: u32 = 200u;
const HOP: u32 = 160u;
const BINS: u32 = 201u;
const COLUMNS: u32 = 402u;

@group(0) @binding(0) var<storage, read> waveform: array<f32>;
@group(0) @binding(1) var<storage, read> basis: array<f32>;
@group(0) @binding(2) var<storage, read_write> power: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

// Sample k of frame m, reflected at the ends of its clip.
fn sample(m: u32, k: u32) -> f32 {
    let last = i32(dims.samples) - 1;
    let at = abs(i32((m % dims.frames) * HOP + k) - i32(N_FFT / 2u));
    return waveform[(m / dims.frames) * dims.samples + u32(select(at, 2 * last - at, at > last))];
}

// ── rung 1: naive: one bin of one frame per thread ───────────────────────────────────────────────────────────────────

@compute @workgroup_size(64)
fn power_naive(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= dims.clips * dims.frames * BINS {
        return;
    }
    var real = 0.0;
    var imaginary = 0.0;
    for (var k = 0u; k < HALF; k++) {
        let left = sample(index / BINS, k + 1u);
        let right = sample(index / BINS, N_FFT - 1u - k);
        real = fma(left + right, basis[k * COLUMNS + 2u * (index % BINS)], real);
        imaginary = fma(left - right, basis[k * COLUMNS + 2u * (index % BINS) + 1u], imaginary);
    }
    power[index] = real * real + imaginary * imaginary;
}

// ── rung 2: tile: frames × columns in shared memory and registers ────────────────────────────────────────────────────

const TILE: u32 = 32u;
const TILE_K: u32 = 8u;    // divides HALF
const THREADS: u32 = (TILE / 4u) * (TILE / 4u);
// vec4s from one k to the next; the odd one keeps neighbouring k in different banks.
const STRIDE: u32 = TILE / 4u + 1u;
const QUADS: u32 = TILE_K * (TILE / 4u);

var<workgroup> even_tile: array<vec4<f32>, TILE_K * STRIDE>;
var<workgroup> odd_tile: array<vec4<f32>, TILE_K * STRIDE>;
var<workgroup> b_tile: array<vec4<f32>, TILE_K * STRIDE>;

struct Acc { r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32> }

// One staged slice: acc[4, 4] += a[k, 4]ᵀ b[k, 4] for every k, where the columns are cosine, sine, cosine, sine.
fn multiply(start: Acc, thread: u32) -> Acc {
    var acc = start;
    let i = thread / (TILE / 4u);
    let j = thread % (TILE / 4u);
    for (var k = 0u; k < TILE_K; k++) {
        let even = even_tile[k * STRIDE + i];
        let odd = odd_tile[k * STRIDE + i];
        let b = b_tile[k * STRIDE + j];
        acc.r0 = fma(vec4(even.x, odd.x, even.x, odd.x), b, acc.r0);
        acc.r1 = fma(vec4(even.y, odd.y, even.y, odd.y), b, acc.r1);
        acc.r2 = fma(vec4(even.z, odd.z, even.z, odd.z), b, acc.r2);
        acc.r3 = fma(vec4(even.w, odd.w, even.w, odd.w), b, acc.r3);
    }
    return acc;
}

fn write_power4(m: u32, n: u32, values: vec4<f32>) {
    if m >= dims.clips * dims.frames {
        return;
    }
    let bin = n / 2u;
    if bin < BINS {
        power[m * BINS + bin] = values.x * values.x + values.y * values.y;
    }
    if bin + 1u < BINS {
        power[m * BINS + bin + 1u] = values.z * values.z + values.w * values.w;
    }
}

@compute @workgroup_size(THREADS)
fn power_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
    let index = group.x + group.y * groups.x;
    let count = dims.clips * dims.frames;
    let across = (COLUMNS + TILE - 1u) / TILE;
    if index >= ((count + TILE - 1u) / TILE) * across {
        return;
    }
    let m0 = (index / across) * TILE;
    let n0 = (index % across) * TILE;

    var acc = Acc();
    for (var k0 = 0u; k0 < HALF; k0 += TILE_K) {
        for (var quad = thread; quad < QUADS; quad += THREADS) {
            // The waveform is read along its samples, the basis along its columns.
            let a_k = quad % TILE_K;
            let a_i = quad / TILE_K;
            let b_k = quad / (TILE / 4u);
            let b_i = quad % (TILE / 4u);
            var even = vec4(0.0);
            var odd = vec4(0.0);
            var b = vec4(0.0);
            for (var e = 0u; e < 4u; e++) {
                let m = m0 + a_i * 4u + e;
                if m < count {
                    let left = sample(m, k0 + a_k + 1u);
                    let right = sample(m, N_FFT - 1u - k0 - a_k);
                    even[e] = left + right;
                    odd[e] = left - right;
                }
                let n = n0 + b_i * 4u + e;
                if n < COLUMNS {
                    b[e] = basis[(k0 + b_k) * COLUMNS + n];
                }
            }
            even_tile[a_k * STRIDE + a_i] = even;
            odd_tile[a_k * STRIDE + a_i] = odd;
            b_tile[b_k * STRIDE + b_i] = b;
        }
        workgroupBarrier();
        acc = multiply(acc, thread);
        workgroupBarrier();
    }

    let m = m0 + (thread / (TILE / 4u)) * 4u;
    let n = n0 + (thread % (TILE / 4u)) * 4u;
    write_power4(m, n, acc.r0);
    write_power4(m + 1u, n, acc.r1);
    write_power4(m + 2u, n, acc.r2);
    write_power4(m + 3u, n, acc.r3);
}

// ── Beside the ladder: mel bands, their maximum, and the scale ───────────────────────────────────────────────────────

@group(0) @binding(0) var<storage, read> m_power: array<f32>;
@group(0) @binding(1) var<storage, read> m_bank: array<f32>;
@group(0) @binding(2) var<storage, read> m_range: array<i32>;
@group(0) @binding(3) var<storage, read_write> m_mel: array<f32>;
@group(0) @binding(4) var<uniform> m_dims: Dims;

const LOG10_E: f32 = 0.43429448;

@compute @workgroup_size(64)
fn mel_bank(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 64u + thread;
    if index >= m_dims.clips * m_dims.frames * m_dims.mels {
        return;
    }
    let m = index / m_dims.mels;
    let band = index % m_dims.mels;
    let end = u32(m_range[2u * band + 1u]);
    var total = 0.0;
    for (var bin = u32(m_range[2u * band]); bin < end; bin++) {
        total = fma(m_power[m * BINS + bin], m_bank[band * BINS + bin], total);
    }
    m_mel[index] = log(max(total, 1e-10)) * LOG10_E;
}

@group(0) @binding(0) var<storage, read> c_mel: array<f32>;
@group(0) @binding(1) var<storage, read_write> c_max: array<f32>;
@group(0) @binding(2) var<uniform> c_dims: Dims;

var<workgroup> lanes: array<f32, 256>;

@compute @workgroup_size(256)
fn clip_max(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32) {
    let clip = group.x + group.y * groups.x;
    if clip >= c_dims.clips {
        return;
    }
    let count = c_dims.frames * c_dims.mels;
    var largest = -1e30;
    for (var i = thread; i < count; i += 256u) {
        largest = max(largest, c_mel[clip * count + i]);
    }
    lanes[thread] = largest;
    workgroupBarrier();
    for (var width = 128u; width > 0u; width = width / 2u) {
        if thread < width {
            lanes[thread] = max(lanes[thread], lanes[thread + width]);
        }
        workgroupBarrier();
    }
    if thread == 0u {
        c_max[c_dims.clips * c_dims.frames * BINS + clip] = lanes[0];
    }
}

@group(0) @binding(0) var<storage, read> s_max: array<f32>;
@group(0) @binding(1) var<storage, read_write> s_mel: array<f32>;
@group(0) @binding(2) var<uniform> s_dims: Dims;

@compute @workgroup_size(256)
fn clamp_scale(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * 256u + thread;
    let per_clip = s_dims.frames * s_dims.mels;
    if index >= s_dims.clips * per_clip {
        return;
    }
    let least = s_max[s_dims.clips * s_dims.frames * BINS + index / per_clip] - 8.0;
    s_mel[index] = (max(s_mel[index], least) + 4.0) * 0.25;
}
