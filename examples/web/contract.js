// kernels.json, the kernels' contract for machines: it says in which order an entry point binds what, how its Dims lie in memory, and
// how many workgroups a launch has. So a launch here names its buffers and sizes, and nothing is counted by hand.

import { ROOT } from "./gpu.js";

let files = new Map();

// Fetches it; once, before the first launch.
export async function load() {
  const answer = await fetch(`${ROOT}kernels.json`);
  if (!answer.ok) throw new Error(`kernels.json: the server answers ${answer.status}`);
  const { format, files: all } = await answer.json();
  if (format !== 1) throw new Error(`kernels.json: expected format 1, found ${format}`);
  files = new Map(all.map((file) => [file.file, file]));
}

// A launch as Gpu.run takes it: buffers { name: buffer }, dims { field: number }; what is not given is null, or 0.
export function launch(op, name, constants, buffers, dims) {
  const file = files.get(`shaders/${op}.wgsl`);
  const entry = file?.entries.find((e) => e.name === name);
  if (!entry) throw new Error(`kernels.json has no entry ${name} of shaders/${op}.wgsl`);
  const unknown = [
    ...Object.keys(buffers).filter((given) => !entry.buffers.some((b) => b.name === given)),
    ...Object.keys(dims).filter((given) => !file.dims.fields.some((f) => f.name === given)),
    ...Object.keys(constants).filter((given) => !file.constants?.some((c) => c.name === given)),
  ];
  if (unknown.length) throw new Error(`${op}.${name} has no ${unknown.join(", ")}`);
  const bytes = new DataView(new ArrayBuffer(file.dims.bytes));
  for (const { name: field, type, offset } of file.dims.fields) {
    if (type === "f32") bytes.setFloat32(offset, dims[field] ?? 0, true);
    else bytes.setUint32(offset, dims[field] ?? 0, true);
  }
  const defaults = Object.fromEntries((file.constants ?? []).map((c) => [c.name, c.default]));
  return {
    file: file.file,
    entry: name,
    constants,
    buffers: entry.buffers.map((b) => buffers[b.name] ?? null),
    dims: new Uint8Array(bytes.buffer),
    groups: evaluate(entry.grid, { ...defaults, ...constants, ...dims }),
  };
}

// Works out a size: names, whole numbers, + - * and / (rounding down), ceil_div, min, max, parentheses.
export function evaluate(expression, values) {
  const tokens = expression.match(/\w+'*|[-+*/(),]/g) ?? [];
  const functions = { ceil_div: (a, b) => Math.ceil(a / b), min: Math.min, max: Math.max };
  const take = (expected) => {
    const token = tokens.shift();
    if (expected && token !== expected) throw new Error(`${expression}: expected ${expected}, found ${token ?? "the end"}`);
    return token;
  };
  const atom = () => {
    const token = take();
    if (token === "(") return [sum(), take(")")][0];
    if (/^\d+$/.test(token)) return Number(token);
    if (functions[token]) {
      take("(");
      const left = sum();
      take(",");
      return [functions[token](left, sum()), take(")")][0];
    }
    if (!(token in values)) throw new Error(`${expression}: what is ${token ?? "at its end"}?`);
    return values[token];
  };
  const chain = (next, operators) => () => {
    let value = next();
    while (operators[tokens[0]]) value = operators[take()](value, next());
    return value;
  };
  const product = chain(atom, { "*": (a, b) => a * b, "/": (a, b) => Math.floor(a / b) });
  const sum = chain(product, { "+": (a, b) => a + b, "-": (a, b) => a - b });
  const value = sum();
  if (tokens.length) throw new Error(`${expression}: ${tokens[0]} does not belong there`);
  return value;
}
