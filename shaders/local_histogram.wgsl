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
// bins              block 64, one bin of one cell per thread, grid = ceil(I · C · 36 / 64): colours, and means of directions
//   0  pixels       [I, H, W, 3]   u8    read (as words, four u8 to one)
//   1  y            [I, C · 36]    f32   overwritten (only the first 27 of each cell's 36)
//   2  means        [I, C, 9]      f32   overwritten (the workspace)
//   3  dims         uniform
// normalise         block 64, one direction of one cell per thread, grid = ceil(I · C · 9 / 64): directions
//   0  n_means      [I, C, 9]      f32   read (the workspace)
//   1  n_y          [I, C · 36]    f32   overwritten (only the last 9 of each cell's 36)
//   2  n_dims       uniform
//
// Precision: f32 sums in raster order, the same bits on every run. sqrt and quotients as the device has them.
// Limits: every grid divides H and W; every tensor < 2³¹ elements. 20 · H · W · 36 operations for each grid; bound by arithmetic.
// Twin: kernels/local_histogram.cu.

struct Dims {
    grid0: u32,            // cells along each side
    grid1: u32,            // the same of the next grid, 0 where there is none
    grid2: u32,
    grid3: u32,
    images: u32,           // I
    height: u32,           // H
    width: u32,            // W
    cells: u32,            // C
}

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> means: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const BLOCK: u32 = 64u;
const COLORS: u32 = 27u;
const DIRECTIONS: u32 = 9u;
const BINS: u32 = 36u;
const COT: f32 = 2.7474774194546225;
// θ = 0°, 20°, …, 160°
const COSINES = array<f32, 9>(1.0, 0.9396926207859084, 0.766044443118978, 0.5, 0.17364817766693041, -0.17364817766693033, -0.5, -0.7660444431189779, -0.9396926207859083);
const SINES = array<f32, 9>(0.0, 0.3420201433256687, 0.6427876096865393, 0.8660254037844386, 0.984807753012208, 0.984807753012208, 0.8660254037844387, 0.6427876096865395, 0.3420201433256689);

// The grid of a picture's cell, as cells along its side, and the first cell of this grid.
fn grid_of(cell: u32, sizes: Dims) -> vec2<u32> {
    let grids = vec4(sizes.grid0, sizes.grid1, sizes.grid2, sizes.grid3);
    var first = 0u;
    for (var i = 0u; i < 3u; i++) {
        let count = grids[i] * grids[i];
        if cell < first + count {
            return vec2(grids[i], first);
        }
        first += count;
    }
    return vec2(grids.w, first);
}

fn root(x: f32) -> f32 {
    return x / sqrt(x + 0.01);
}

fn byte(image: u32, line: u32, column: u32, channel: u32) -> f32 {
    let index = ((image * dims.height + line) * dims.width + column) * 3u + channel;
    return f32((pixels[index / 4u] >> (8u * (index % 4u))) & 255u);
}

// How much of a channel's value belongs to bin 0, 1 or 2.
fn share(bin: u32, value: f32) -> f32 {
    return max(0.0, 1.0 - abs(value * (2.0 / 255.0) - f32(bin)));
}

fn color(image: u32, line: u32, column: u32, bin: u32) -> f32 {
    return share(bin / 9u, byte(image, line, column, 0u)) * share((bin / 3u) % 3u, byte(image, line, column, 1u)) * share(bin % 3u, byte(image, line, column, 2u));
}

fn direction(image: u32, line: u32, column: u32, cosine: f32, sine: f32) -> f32 {
    var total = 0.0;
    for (var channel = 0u; channel < 3u; channel++) {
        var dx = 0.0;
        var dy = 0.0;
        if column > 0u && column + 1u < dims.width {
            dx = (byte(image, line, column + 1u, channel) - byte(image, line, column - 1u, channel)) * (1.0 / 255.0);
        }
        if line > 0u && line + 1u < dims.height {
            dy = (byte(image, line + 1u, column, channel) - byte(image, line - 1u, column, channel)) * (1.0 / 255.0);
        }
        total += max(0.0, abs(dx * cosine + dy * sine) - COT * abs(dy * cosine - dx * sine));
    }
    return total;
}

@compute @workgroup_size(BLOCK)
fn bins(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    if index >= dims.images * dims.cells * BINS {
        return;
    }
    let cell = index / BINS;
    let bin = index % BINS;
    let image = cell / dims.cells;
    let grid = grid_of(cell % dims.cells, dims);
    let place = cell % dims.cells - grid.y;
    let high = dims.height / grid.x;
    let wide = dims.width / grid.x;
    let top = place / grid.x * high;
    let left = place % grid.x * wide;
    var cosines = COSINES;
    var sines = SINES;
    var total = 0.0;
    for (var line = top; line < top + high; line++) {
        for (var column = left; column < left + wide; column++) {
            if bin < COLORS {
                total += color(image, line, column, bin);
            } else {
                total += direction(image, line, column, cosines[bin - COLORS], sines[bin - COLORS]);
            }
        }
    }
    let mean = total / f32(high * wide);
    if bin < COLORS {
        y[index] = root(mean);
    } else {
        means[cell * DIRECTIONS + bin - COLORS] = mean;
    }
}

@group(0) @binding(0) var<storage, read> n_means: array<f32>;
@group(0) @binding(1) var<storage, read_write> n_y: array<f32>;
@group(0) @binding(2) var<uniform> n_dims: Dims;

@compute @workgroup_size(BLOCK)
fn normalise(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
             @builtin(local_invocation_index) thread: u32) {
    let index = (group.x + group.y * groups.x) * BLOCK + thread;
    if index >= n_dims.images * n_dims.cells * DIRECTIONS {
        return;
    }
    let cell = index / DIRECTIONS;
    let grid = grid_of(cell % n_dims.cells, n_dims);
    let place = cell % n_dims.cells - grid.y;
    let first = cell - place;
    var energy = 0.0;
    for (var i = 0u; i < 9u; i++) {
        // One less than the neighbour's line and column, which the border ends.
        let line = clamp(place / grid.x + i / 3u, 1u, grid.x) - 1u;
        let column = clamp(place % grid.x + i % 3u, 1u, grid.x) - 1u;
        let near = (first + line * grid.x + column) * DIRECTIONS;
        for (var k = 0u; k < DIRECTIONS; k++) {
            energy = fma(n_means[near + k], n_means[near + k], energy);
        }
    }
    n_y[cell * BINS + COLORS + index % DIRECTIONS] = root(n_means[index] / sqrt(energy * (4.0 / 9.0) + 1e-4));
}
