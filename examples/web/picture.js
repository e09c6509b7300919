// A picture file to the square of bytes that a model takes, as the program does it: the browser decodes, without changing colours;
// cropping (or padding with white) and scaling are ours, so that every browser scales alike.

// size · size · 3 bytes: rows from the top, red, green, blue.
export async function load(file, size, fit = "crop") {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name ?? "the file"} is not a picture that this browser can read (PNG and JPEG always are)`);
  }
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // where the picture is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  if (fit === "pad") return padded(rgb(context, 0, 0, width, height), width, height, size);
  const side = Math.min(width, height);
  return scale(rgb(context, (width - side) >> 1, (height - side) >> 1, side, side), side, side, size, size);
}

// The colours of a rectangle, without alpha.
function rgb(context, x, y, width, height) {
  const { data } = context.getImageData(x, y, width, height);
  const colours = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) colours[3 * i + c] = data[4 * i + c];
  }
  return colours;
}

// Scaled until its longer side fits, in the middle of a white square.
function padded(pixels, width, height, size) {
  const longest = Math.max(width, height);
  const [w, h] = [width, height].map((side) => Math.max(1, Math.floor((side * size + (longest >> 1)) / longest)));
  const inner = scale(pixels, width, height, w, h);
  const square = new Uint8Array(size * size * 3).fill(255);
  const [left, top] = [(size - w) >> 1, (size - h) >> 1];
  for (let y = 0; y < h; y++) square.set(inner.subarray(y * w * 3, (y + 1) * w * 3), ((top + y) * size + left) * 3);
  return square;
}

// A triangle filter as wide as the pixels of the smaller picture: first along columns, then along rows.
function scale(pixels, width, height, toWidth, toHeight) {
  if (width === toWidth && height === toHeight) return pixels;
  const columns = new Float32Array(width * toHeight * 3);
  triangle(height, toHeight).forEach(({ first, weights }, y) => {
    for (let at = 0; at < width * 3; at++) {
      columns[y * width * 3 + at] = weights.reduce((sum, w, i) => sum + w * pixels[(first + i) * width * 3 + at], 0);
    }
  });
  const out = new Uint8Array(toWidth * toHeight * 3);
  triangle(width, toWidth).forEach(({ first, weights }, x) => {
    for (let y = 0; y < toHeight; y++) {
      for (let c = 0; c < 3; c++) {
        const sum = weights.reduce((total, w, i) => total + w * columns[(y * width + first + i) * 3 + c], 0);
        out[(y * toWidth + x) * 3 + c] = Math.round(Math.min(Math.max(sum, 0), 255));
      }
    }
  });
  return out;
}

// For each place along the new side: the first place along the old one that it mixes, and the weights from there on.
function triangle(from, to) {
  const ratio = from / to;
  const reach = Math.max(ratio, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * ratio;
    const first = Math.min(Math.max(Math.floor(centre - reach), 0), from - 1);
    const end = Math.min(Math.max(Math.ceil(centre + reach), first + 1), from);
    const weights = Array.from({ length: end - first }, (_, i) => Math.max(1 - Math.abs((first + i - (centre - 0.5)) / reach), 0));
    const total = weights.reduce((sum, w) => sum + w, 0);
    return { first, weights: weights.map((w) => w / total) };
  });
}
