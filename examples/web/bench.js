// A small benchmark: the forward kernels at the sizes of the demo's batch and one large product, beside the best that this GPU can do.
// A browser's clock is coarse, so calls are repeated inside one submission until it takes long enough to be timed.

import * as kernels from "./kernels.js";

const SAMPLES = 5;
const LONG = 50; // milliseconds of one sample
const PATIENCE = 1000;
const MAX_CALLS = 4096;

// Words and their product as `trimodal bench --shapes demo` has them; pictures, sounds and norms as a small model of 124 million
// parameters has them, one sample at a time; attention over one long sample.
const [N, D, V] = [1920, 64, 450];
const [A, H, d] = [1024, 4, 16];

// What is measured: { op, shape, flops, bytes, make }. `make(floats, ints)` gives the launches of one call on new buffers: normal
// numbers in floats(n), i % limit in ints(n, limit). Bytes: every input read once, every output written once.
export const WORK = [
  {
    op: "embedding", shape: `M=${N} V=${V} D=${D}`, flops: 0, bytes: 4 * N * (2 * D + 1),
    make: (floats, ints) => [kernels.embedding({ table: floats(V * D), id: ints(N, V), y: floats(N * D), entries: N, columns: D, vocabulary: V, rows: N })],
  },
  {
    op: "patch_embed", shape: `224×224 P=16 D=768`, flops: 2 * 196 * 768 * 768, bytes: 224 * 224 * 3 + 4 * (768 * 768 + 768 + 28 * 768 + 196 + 196 * 768),
    make: (floats, ints) => [kernels.patchEmbed({
      pixels: ints(224 * 224 * 3 / 4, 1 << 30), weight: floats(768 * 768), bias: floats(768), position: floats(28 * 768), row: ints(196, 196),
      y: floats(196 * 768), side: 224, patch: 16, width: 768, rows: 196,
    })],
  },
  {
    // The demo's pictures: every bin asks every pixel of its cell, once in each grid.
    op: "local_histogram", shape: "48×48 grids=8,6,4,3", flops: 20 * 48 * 48 * 4 * kernels.COUNTS, bytes: 48 * 48 * 3 + 4 * 125 * kernels.COUNTS,
    make: (floats, ints) => kernels.localHistogram({
      pixels: ints(48 * 48 * 3 / 4, 1 << 30), y: floats(125 * kernels.COUNTS), workspace: floats(125 * 9), side: 48, grids: [8, 6, 4, 3],
    }),
  },
  {
    op: "log_mel", shape: "S=160000 mels=80", flops: 2 * 1000 * 200 * 402, bytes: 4 * (160000 + 200 * 402 + 80 * 201 + 160 + 1000 * 80),
    make: (floats, ints) => kernels.logMel({
      waveform: floats(160000), basis: floats(200 * 402), bank: floats(80 * 201), range: ints(160, 80),
      mel: floats(1000 * 80), workspace: floats(1000 * 201 + 1), samples: 160000, frames: 1000, mels: 80,
    }),
  },
  {
    op: "conv1d", shape: "F=1000 in=80 out=768", flops: 2 * 3 * 1000 * 80 * 768, bytes: 4 * (1000 * 80 + 3 * 80 * 768 + 768 + 2 * 1000 * 768),
    make: (floats) => [kernels.conv1d({
      x: floats(1000 * 80), weight: floats(3 * 80 * 768), bias: floats(768), z: floats(1000 * 768), y: floats(1000 * 768),
      frames: 1000, framesOut: 1000, widthIn: 80, widthOut: 768, stride: 1,
    })],
  },
  {
    op: "conv2d", shape: "28×28 in=256 out=256", flops: 2 * 9 * 784 * 256 * 256, bytes: 4 * (3 * 784 * 256 + 9 * 256 * 256 + 256),
    make: (floats) => [kernels.conv2d({
      x: floats(784 * 256), weight: floats(9 * 256 * 256), bias: floats(256), z: floats(784 * 256), y: floats(784 * 256),
      height: 28, width: 28, channelsIn: 256, channelsOut: 256, stride: 1,
    })],
  },
  product(N, V, D),
  product(1024, 768, 768),
  {
    op: "rms_norm", shape: `rows=${N} C=768`, flops: 5 * N * 768, bytes: 4 * (2 * N * 768 + 768 + N),
    make: (floats) => [kernels.rmsNorm({ x: floats(N * 768), weight: floats(768), y: floats(N * 768), rstd: floats(N), rows: N, columns: 768, eps: 1e-6 })],
  },
  {
    op: "qk_norm_rope", shape: `N=${N} H=12 d=64`, flops: 8 * N * 768, bytes: 4 * (2 * N * 768 + 64 + N + 64 * N + 12 * N),
    make: (floats, ints) => [kernels.qkNormRope({
      x: floats(N * 768), weight: floats(64), position: ints(N, N), table: floats(N * 64), y: floats(N * 768), rstd: floats(N * 12),
      rows: N, heads: 12, headDim: 64, positions: N, eps: 1e-6,
    })],
  },
  {
    op: "attention", shape: `N=${A} H=${H} d=${d}, every row sees all`, flops: 4 * d * A * A * H, bytes: 4 * (4 * A * H * d + 2 * A + A * H),
    make: (floats, ints) => [kernels.attention({
      q: floats(A * H * d), k: floats(A * H * d), v: floats(A * H * d), visible: ints(2 * A, 2, A), o: floats(A * H * d), lse: floats(A * H),
      queries: A, keys: A, heads: H, kvHeads: H, headDim: d,
    })],
  },
  {
    op: "swiglu", shape: `n=${N * 2048}`, flops: 6 * N * 2048, bytes: 12 * N * 2048,
    make: (floats) => [kernels.swiglu({ gate: floats(N * 2048), up: floats(N * 2048), y: floats(N * 2048), count: N * 2048 })],
  },
  {
    op: "sample", shape: "R=32 V=50304", flops: 10 * 32 * 50304, bytes: 4 * (32 * 50304 + 32),
    make: (floats, ints) => [kernels.sample({ logits: floats(32 * 50304), id: ints(32, 1), rows: 32, vocabulary: 50304 })],
  },
];

function product(m, n, k) {
  const make = (floats) => [kernels.linear({ x: floats(m * k), w: floats(n * k), y: floats(m * n), m, n, k })];
  return { op: "matmul", shape: `NT M=${m} N=${n} K=${k}`, flops: 2 * m * n * k, bytes: 4 * (m * k + n * k + m * n), make };
}

// Seconds of one call, of each sample. Calls are repeated until a sample is long enough; if two of them already take longer than
// PATIENCE, two are enough.
async function time(gpu, launches) {
  await Promise.all(launches.map((launch) => gpu.pipeline(launch)));
  const sample = async (calls) => {
    const start = performance.now();
    await gpu.run(launches, calls);
    await gpu.done();
    return performance.now() - start;
  };
  let calls = 1;
  let took = await sample(calls);
  while (took < LONG && calls < MAX_CALLS) took = await sample((calls *= 4));
  const times = [took];
  while (times.length < SAMPLES && !(times.length > 1 && took > PATIENCE)) {
    times.push(await sample(calls));
    took += times.at(-1);
  }
  return { times: times.map((t) => t / calls / 1000).sort((a, b) => a - b), calls };
}

// Buffers of one measurement, and the memory of all of them given back.
async function measured(gpu, make) {
  const made = [];
  const keep = (content) => (made.push(gpu.buffer(content)), made.at(-1));
  const floats = (count) => keep(Float32Array.from({ length: count }, () => (Math.random() + Math.random() + Math.random() - 1.5) * 2));
  const ints = (count, limit, scale = 1) => keep(Int32Array.from({ length: count }, (_, i) => (i % limit) * scale));
  try {
    return await time(gpu, make(floats, ints));
  } finally {
    made.forEach((buffer) => buffer.destroy());
  }
}

// Runs everything and gives the score card, in the form of docs/score-card.md. `tell(done, of, what)` is told how far it is;
// `work` is what to measure.
export async function run(gpu, version, tell = () => {}, work = WORK) {
  const [began, date] = [performance.now(), new Date().toISOString().replace(/\.\d+/, "")];
  const total = work.length + 2;
  const best = async (i, what, make, done) => {
    tell(i, total, what);
    return done / (await measured(gpu, make)).times[0];
  };
  const [count, threads, rounds] = [1 << 22, 1 << 16, 64];
  const add = (floats) => [kernels.multiplyAdd({ y: floats(threads), count: threads, rounds })];
  const ceilings = {
    copy_bytes_per_second: await best(0, "copy", (floats) => [kernels.copy({ x: floats(count), y: floats(count), count })], 8 * count),
    f32_flops_per_second: await best(1, "multiply_add", add, 256 * threads * rounds),
  };
  const [rows, leftOut] = [[], []];
  for (const [i, { op, shape, flops, bytes, make }] of work.entries()) {
    tell(i + 2, total, op);
    try {
      const { times, calls } = await measured(gpu, make);
      rows.push(row(op, shape, flops, bytes, times, calls, ceilings));
    } catch (error) {
      leftOut.push({ what: `${op} forward ${shape} f32`, reason: error.message });
    }
  }
  return {
    schema: "trimodal-card/1",
    tool: `trimodal web ${version}`,
    date,
    device: { kind: "webgpu", name: gpu.name, driver: browser() },
    method: {
      timer: "the browser's clock around one submission",
      inputs: "sums of uniform numbers",
      rotation: "none: the same buffers for every call",
      samples: `${SAMPLES} of at least ${LONG} ms each; 2 where they take more than ${PATIENCE} ms together`,
      shapes: ["web"],
      quick: true,
      seconds: (performance.now() - began) / 1000,
    },
    ceilings,
    rows,
    left_out: leftOut,
    interrupted: false,
  };
}

function row(op, shape, flops, bytes, times, calls, ceilings) {
  const mean = times.reduce((sum, t) => sum + t, 0) / times.length;
  const variance = times.reduce((sum, t) => sum + (t - mean) ** 2, 0) / (times.length - 1);
  const seconds = { median: times[times.length >> 1], min: times[0], max: times.at(-1), standard_error: Math.sqrt(variance / times.length) / mean };
  const [compute, memory] = [flops / ceilings.f32_flops_per_second, bytes / ceilings.copy_bytes_per_second];
  return {
    op, entry: "forward", pass: "forward", set: "web", shape, dtype: "f32", seconds, samples: times.length, calls, buffers: 1, flops, bytes,
    tflops: flops / seconds.median / 1e12, gbytes: bytes / seconds.median / 1e9, intensity: flops / bytes,
    bound: memory > compute ? "memory" : "compute", percent: (100 * Math.max(compute, memory)) / seconds.median,
  };
}

// The browser and the system in words, without what every browser claims to be.
function browser() {
  const brands = navigator.userAgentData?.brands.filter(({ brand }) => !/not.?a.?brand/i.test(brand)).map(({ brand, version }) => `${brand} ${version}`);
  const system = navigator.userAgentData?.platform;
  return brands?.length ? [...brands, system].filter(Boolean).join(", ") : navigator.userAgent;
}

// Three digits, no more.
export const digits = (x) => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x >= 1 ? x.toFixed(2) : x.toPrecision(2));

// The columns of a table of rows, and a row's texts.
export const HEADER = ["kernel", "shape", "µs", "GFLOP/s", "GB/s", "bound by", "of the ceiling"];

export function cells({ op, shape, seconds, flops, tflops, gbytes, bound, percent }) {
  return [op, shape, digits(seconds.median * 1e6), flops ? digits(tflops * 1000) : "–", digits(gbytes), bound, `${digits(percent)} %`];
}

// The card as a table that can be pasted into a message.
export function markdown({ tool, date, device, ceilings, rows, left_out: leftOut }) {
  const best = `copy ${digits(ceilings.copy_bytes_per_second / 1e9)} GB/s, f32 multiply-add ${digits(ceilings.f32_flops_per_second / 1e9)} GFLOP/s`;
  const line = (texts) => `| ${texts.join(" | ")} |`;
  return [
    `**${device.name}** in ${device.driver} (${tool}, ${date.slice(0, 10)}; at best ${best})`,
    "",
    line(HEADER),
    "|---|---|--:|--:|--:|---|--:|",
    ...rows.map((row) => line(cells(row))),
    ...(leftOut.length ? ["", ...leftOut.map(({ what, reason }) => `Left out: ${what}: ${reason}`)] : []),
    "",
  ].join("\n");
}
