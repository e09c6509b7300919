// The safetensors format: eight bytes of length, a header of JSON, then the tensors' bytes
// (https://huggingface.co/docs/safetensors). Everything that a file claims is checked before it is used.

const SIZES = { F64: 8, F32: 4, I32: 4, U32: 4, BF16: 2, F16: 2, U8: 1, I64: 8 };

// A file's tensors and its metadata: { tensors: Map name → { dtype, shape, bytes }, metadata: { name: text } }.
export function parse(buffer, file = "the file") {
  const bad = (what) => new Error(`${file}: not a safetensors file: ${what}`);
  if (buffer.byteLength < 8) throw bad(`it has ${buffer.byteLength} bytes`);
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > buffer.byteLength - 8) throw bad(`a header of ${length} bytes in a file of ${buffer.byteLength}`);
  let header;
  try {
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  } catch (error) {
    throw bad(error.message);
  }
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: [start, end] = [] } = entry;
    const size = SIZES[dtype];
    if (!size) throw bad(`tensor ${name} has the dtype ${dtype}`);
    const bytes = shape.reduce((product, n) => product * n, size);
    if (!(start >= 0 && end - start === bytes && 8 + length + end <= buffer.byteLength)) throw bad(`tensor ${name} is not where the header says`);
    tensors.set(name, { dtype, shape, bytes: new Uint8Array(buffer, 8 + length + start, bytes) });
  }
  return { tensors, metadata: header.__metadata__ ?? {} };
}

// A tensor's numbers as a typed array that JavaScript can count with: halves become Float32Array.
export function numbers({ dtype, bytes }) {
  const copy = bytes.slice().buffer; // a tensor need not start where its numbers could be read in place
  switch (dtype) {
    case "F64": return new Float64Array(copy);
    case "F32": return new Float32Array(copy);
    case "I32": return new Int32Array(copy);
    case "U32": return new Uint32Array(copy);
    case "U8": return new Uint8Array(copy);
    case "BF16": return new Float32Array(Uint32Array.from(new Uint16Array(copy), (half) => half << 16).buffer);
    case "F16": return Float32Array.from(new Uint16Array(copy), half);
    default: throw new Error(`numbers of the dtype ${dtype} are not supported here`);
  }
}

// IEEE 754 binary16: one bit of sign, five of exponent, ten of fraction.
function half(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
