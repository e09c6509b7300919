// What the model sees and hears, on canvases, and how much of it a word looked at: what was not looked at is darkened.

// A picture of side · side · 3 bytes; `weights` (or null) has one number per patch of a grid.
export function drawPicture(canvas, pixels, side, weights, grid) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!pixels) return;
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set([pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255], 4 * i);
  paint(context, image);
  if (weights) veil(context, weights, grid, grid);
}

// A spectrogram of mel frames [frames, mels], low bands at the bottom; `weights` (or null) has one number per row of the stem.
export function drawSound(canvas, mel, mels, weights) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!mel) return;
  const frames = mel.length / mels;
  const [low, high] = mel.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
  const image = new ImageData(frames, mels);
  mel.forEach((value, i) => {
    const at = (mels - 1 - (i % mels)) * frames + Math.floor(i / mels);
    image.data.set([...colour((value - low) / Math.max(high - low, 1e-6)), 255], 4 * at);
  });
  paint(context, image);
  if (weights) veil(context, weights, weights.length, 1);
}

// From dark blue over purple and orange to pale yellow: brighter and brighter, so that it can also be read in grey.
const RAMP = [[12, 12, 50], [92, 24, 110], [190, 60, 80], [245, 150, 50], [252, 245, 180]];

function colour(x) {
  const place = Math.min(Math.max(x, 0), 1) * (RAMP.length - 1);
  const [i, part] = [Math.min(Math.floor(place), RAMP.length - 2), place - Math.min(Math.floor(place), RAMP.length - 2)];
  return RAMP[i].map((value, c) => value + (RAMP[i + 1][c] - value) * part);
}

function paint(context, image) {
  const small = new OffscreenCanvas(image.width, image.height);
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
}

function veil(context, weights, across, down) {
  const { width, height } = context.canvas;
  const most = Math.max(...weights, 1e-9);
  const edge = (i, parts, length) => Math.round((i * length) / parts);
  weights.forEach((weight, i) => {
    const [x, y] = [i % across, Math.floor(i / across)];
    const [left, top] = [edge(x, across, width), edge(y, down, height)];
    context.fillStyle = `rgb(0 0 0 / ${0.85 * (1 - weight / most)})`;
    context.fillRect(left, top, edge(x + 1, across, width) - left, edge(y + 1, down, height) - top);
  });
}

// A word's weights of one layer and one head, or their mean where `layer` or `head` is null.
export function chosenWeights(weights, layer, head) {
  const layers = layer === null ? weights : [weights[layer]];
  const each = layers.flatMap((heads) => (head === null ? heads : [heads[head]]));
  return each[0].map((_, row) => each.reduce((sum, w) => sum + w[row], 0) / each.length);
}
