// kernels.json, the kernels' contract for machines: it says in which order an entry point binds what, how its Dims are laid out, and
// how many workgroups a launch has. So a launch here names its buffers and sizes, and nothing has to be counted by hand.

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

// Checks a launch, as golden vectors write it down, against the contract, and throws what does not fit: a Dims that says more than a
// buffer holds would give wrong numbers somewhere else. `described` are the vector's buffers.
export function hold({ file: path, entry: name, constants, buffers, dims_hex, groups, block }, described) {
  const file = files.get(path);
  const entry = file?.entries.find((e) => e.name === name);
  const expect = (right, what) => {
    if (!right) throw new Error(`${path}, ${name}: ${what}`);
  };
  expect(entry, "kernels.json has no such entry");
  const bytes = new DataView(Uint8Array.from(dims_hex.match(/../g) ?? [], (byte) => parseInt(byte, 16)).buffer);
  expect(bytes.byteLength === file.dims.bytes, `Dims of ${file.dims.bytes} bytes, found ${bytes.byteLength}`);
  const values = Object.fromEntries((file.constants ?? []).map((c) => [c.name, constants[c.name] ?? c.default]));
  for (const { name: field, type, offset } of file.dims.fields) {
    values[field] = type === "f32" ? bytes.getFloat32(offset, true) : bytes.getUint32(offset, true);
  }
  for (const [constant, value] of Object.entries(constants)) {
    const { values: legal = [], range: [least, most] = [1, 0], multiple_of: of, equals } = file.constants?.find((c) => c.name === constant) ?? {};
    expect(legal.includes(value) || (least <= value && value <= most), `${constant} = ${value} is not legal`);
    expect(!of || value % evaluate(of, values) === 0, `${constant} = ${value} is not a multiple of ${of}`);
    expect(!equals || values[equals] === value, `${constant} = ${value}, but ${equals} is ${values[equals]}: they must be equal`);
  }
  for (const rule of [...(file.checks ?? []), ...(entry.checks ?? [])]) expect(holds(rule, values), `the Dims break ${rule}`);
  expect(groups === evaluate(entry.grid, values), `${groups} groups, expected ${evaluate(entry.grid, values)}: ${entry.grid}`);
  expect(block === evaluate(entry.block, values), `${block} threads in a group, expected ${evaluate(entry.block, values)}`);
  expect(buffers.length === entry.buffers.length, `${buffers.length} buffers, expected ${entry.buffers.length}`);
  entry.buffers.forEach(({ name: operand, shape, dtype, from = "0", only_if: condition, alternatives = [] }, i) => {
    if (condition && !isSo(condition, values)) return; // absent; or absent by a number in a buffer, which only the kernel knows
    expect(buffers[i] !== null, `${operand} is not there${condition ? `, although ${condition}` : ""}`);
    const others = alternatives.filter((a) => a.values.includes(values[a.name]));
    const [sides, type] = [others.find((a) => a.shape)?.shape ?? shape, others.find((a) => a.dtype)?.dtype ?? dtype];
    const elements = sides.reduce((product, side) => product * evaluate(side, values), 1);
    const needed = (evaluate(from, values) + elements) * ({ u8: 1, bf16: 2 }[type] ?? 4);
    const has = described[buffers[i]].bytes;
    expect(has >= needed, `${operand} has ${has} bytes, ${needed} are needed: ${sides}`);
    expect(!(elements >= file.elements_below), `${operand} has ${elements} elements, expected fewer than ${file.elements_below}`);
  });
}

// `rows * columns < 2147483648`, `columns % 4 == 0`.
function holds(rule, values) {
  const [, left, of, sign, right] = rule.match(/^(.*?)(?: % (.*?))? (<=|>=|==|<|>) (.*)$/);
  const [a, b] = [of ? evaluate(left, values) % evaluate(of, values) : evaluate(left, values), evaluate(right, values)];
  return { "<=": a <= b, ">=": a >= b, "==": a === b, "<": a < b, ">": a > b }[sign];
}

// `has_row`, `flags & 4`, `max_norm > 0 or has_loss`.
function isSo(condition, values) {
  const atom = (text) => {
    const [name, sign, number] = text.split(" ");
    if (sign === "&") return (values[name] & number) !== 0;
    return sign === ">" ? values[name] > 0 : name !== "0" && values[name] !== 0;
  };
  return condition.split(" or ").some((all) => all.split(" and ").every(atom));
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
    if (!(token in values)) throw new Error(`${expression}: expected a name or a number, found ${token ?? "the end"}`);
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
