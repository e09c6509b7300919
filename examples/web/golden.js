// The self-test: every golden case is replayed on this browser's GPU, launch by launch as it was written down, and every element of
// its result is compared with the float64 oracle. `trimodal golden` made the cases; `golden/golden.json` lists them.

import { hold, load } from "./contract.js";
import { ROOT } from "./gpu.js";
import { numbers, parse } from "./safetensors.js";

const FOLDER = `${ROOT}golden/`;

// The cases beside this page: [{ file, op, case, label, entries, bytes }].
export async function list() {
  const answer = await fetch(`${FOLDER}golden.json`);
  if (!answer.ok) throw new Error("found no golden vectors beside this page: `trimodal golden golden` writes them");
  const { format, language, cases } = await answer.json();
  if (format !== 1 || language !== "wgsl") throw new Error(`golden.json: expected format 1 in wgsl, found format ${format} in ${language}`);
  await load();
  return cases;
}

// Fetches a case and compiles what it launches: what `replay` takes. Several cases may be prepared at a time; browsers compile on
// threads of their own.
export async function prepare(gpu, { file }) {
  try {
    const answer = await fetch(FOLDER + file);
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const { tensors, metadata } = parse(await answer.arrayBuffer(), file);
    const { buffers, launches, compare } = JSON.parse(metadata.trimodal);
    launches.forEach((launch) => hold(launch, buffers));
    await Promise.all(launches.map(async (launch) => {
      await unchanged(gpu, launch);
      await gpu.pipeline(launch);
    }));
    return { tensors, buffers, launches, compare };
  } catch (error) {
    return { error: `${file}: ${error.message}` };
  }
}

// Replays a case that was prepared, one at a time: { ok, error } with what is wrong, or { ok, worst } with the largest error as a
// part of what is allowed.
export async function replay(gpu, { tensors, buffers, launches, compare, error }) {
  if (error) return { ok: false, error };
  const memory = buffers.map(({ name, bytes }) => gpu.buffer(tensors.get(`before.${name}`)?.bytes ?? bytes));
  let found;
  const complaint = await gpu.complaint(async () => {
    await gpu.run(launches.map((launch) => ({
      ...launch,
      buffers: launch.buffers.map((i) => (i === null ? null : memory[i])),
      dims: Uint8Array.from(launch.dims_hex.match(/../g) ?? [], (byte) => parseInt(byte, 16)),
    })));
    found = await gpu.read(compare.map(({ buffer }) => [memory[buffer], buffers[buffer].bytes]));
  });
  memory.forEach((buffer) => buffer.destroy());
  return complaint ? { ok: false, error: complaint } : verdict({ tensors, buffers, compare }, found);
}

// Compares every element with the oracle.
function verdict({ tensors, buffers, compare }, found) {
  let worst = 0;
  for (const [i, { buffer, absolute, relative }] of compare.entries()) {
    const { name, dtype } = buffers[buffer];
    const got = numbers({ dtype: dtype.toUpperCase(), bytes: new Uint8Array(found[i]) });
    const expected = numbers(tensors.get(`expected.${name}`));
    for (let at = 0; at < expected.length; at++) {
      const [error, allowed] = [Math.abs(got[at] - expected[at]), absolute + relative * Math.abs(expected[at])];
      // Written so that a NaN fails: nothing that is expected is one.
      if (!(error <= allowed)) {
        return { ok: false, error: `${name}[${at}]: expected ${expected[at]}, found ${got[at]}; allowed: ${allowed}` };
      }
      if (error > 0) worst = Math.max(worst, error / allowed);
    }
  }
  return { ok: true, worst };
}

// Whether the shader beside this page is the one that the case was recorded with.
async function unchanged(gpu, { file, sha256 }) {
  const bytes = new TextEncoder().encode(await gpu.source(file));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new Error(`${file} is not the file that this case was recorded with: expected SHA-256 ${sha256}, found ${found}`);
}
