// Tables that are computed once, in double precision, because WGSL's own sin and cos are coarse.

// (cos, sin) of position · theta^(−2i/headDim): [positions, headDim/2, 2].
export function rotary(positions, headDim, theta) {
  const half = headDim / 2;
  const table = new Float32Array(positions * half * 2);
  for (let position = 0, at = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** ((-2 * i) / headDim);
      table[at++] = Math.cos(angle);
      table[at++] = Math.sin(angle);
    }
  }
  return table;
}

// Whisper's transform: windows of 400 samples, 160 apart, 201 bins.
export const HOP = 160;
export const BINS = 201;
const WINDOW = 400;

// A turn of `steps` 400ths, in radians.
const turn = (steps) => (2 * Math.PI * (steps % WINDOW)) / WINDOW;

// Window · cosine and −window · sine of a bin side by side, [200, 2 · 201]: the shader adds x[n] and x[400 − n] before it
// multiplies, so that row n = 200, which is added to itself, is halved.
export function fourier() {
  const basis = new Float32Array((WINDOW / 2) * 2 * BINS);
  for (let n = 1, at = 0; n <= WINDOW / 2; n++) {
    const weight = n === WINDOW / 2 ? 0.5 : 0.5 - 0.5 * Math.cos(turn(n));
    for (let bin = 0; bin < BINS; bin++) {
      basis[at++] = weight * Math.cos(turn(n * bin));
      basis[at++] = -weight * Math.sin(turn(n * bin));
    }
  }
  return basis;
}

// Slaney's triangular bands, each of area 1: { bank [mels, 201], range [mels, 2]: the bins that a band weighs }.
export function melBank(rate, mels) {
  const step = Math.log(6.4) / 27;
  const mel = (hz) => (hz < 1000 ? (hz * 3) / 200 : 15 + Math.log(hz / 1000) / step);
  const hz = (m) => (m < 15 ? (m * 200) / 3 : 1000 * Math.exp((m - 15) * step));
  const edges = Array.from({ length: mels + 2 }, (_, i) => hz((mel(rate / 2) * i) / (mels + 1)));
  const bank = new Float32Array(mels * BINS);
  const range = new Int32Array(mels * 2);
  for (let band = 0; band < mels; band++) {
    const [low, centre, high] = edges.slice(band, band + 3);
    const weights = Array.from({ length: BINS }, (_, bin) => {
      const f = (rate * bin) / WINDOW;
      return (Math.max(Math.min((f - low) / (centre - low), (high - f) / (high - centre)), 0) * 2) / (high - low);
    });
    bank.set(weights, band * BINS);
    const first = Math.max(weights.findIndex((w) => w !== 0), 0);
    range.set([first, Math.max(weights.findLastIndex((w) => w !== 0) + 1, first)], band * 2);
  }
  return { bank, range };
}
