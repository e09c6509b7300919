// The part of WebGPU that our shaders need: buffers of bytes, launches, reading back.
//
// A launch is { file, entry, constants, buffers, dims, groups }:
//   file       the shader, "shaders/rms_norm.wgsl", as it is beside this page
//   entry      its entry point
//   constants  { ROW_THREADS: 64 }: `const NAME: u32 = …;` lines of the file to be replaced before it is compiled
//   buffers    in the order of the bindings; null where dims tell the shader not to read it
//   dims       the bytes of the uniform, which is the last binding
//   groups     workgroups in all. More than 65,535 are laid out in two dimensions; the shaders stop at their own bound.

// Where shaders/ is: beside the page, or two folders up where the page is opened in the repository itself, or with copied shaders.
export const ROOT = /\/(examples|self_test)\/web\//.test(location.pathname) ? "../../" : "./";

// The most workgroups in one dimension that every WebGPU grants.
const MAX_GROUPS = 65535;

export class Gpu {
  // Asks for the fastest GPU with as large buffers as it has. Throws an Error that a person can act on.
  static async open() {
    if (!window.isSecureContext) {
      throw new Error("This page was loaded over plain HTTP from another machine, and browsers do not let such pages use WebGPU. "
        + "Open it on the machine that serves it (http://localhost/…, http://127.0.0.1/…), or serve it over HTTPS.");
    }
    if (!navigator.gpu) {
      throw new Error("This browser has no WebGPU. It is in Chrome and Edge from 113 (Android: 121), Safari from 26, "
        + "and Firefox from 141 (Windows) or 145 (macOS); in Chrome on Linux it may need chrome://flags/#enable-unsafe-webgpu.");
    }
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) {
      throw new Error("This browser has WebGPU, but offers no GPU to it: the graphics driver may be too old or on the browser's block list. "
        + "chrome://gpu (or about:support) says why; a software adapter helps: chromium --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader");
    }
    const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
    const device = await adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
    return new Gpu(adapter, device);
  }

  constructor(adapter, device) {
    this.info = adapter.info ?? {};
    this.device = device;
    this.sources = new Map(); // file → promise of its text
    this.pipelines = new Map(); // file, entry and constants → promise of a pipeline
    this.compiling = { done: 0, of: 0 }; // since nothing was left to compile
    this.onCompile = () => {}; // told of each change
    this.uniforms = new Map(); // bytes in hexadecimal → buffer: the same sizes come again with every layer and word
    this.nothing = Array.from({ length: 8 }, () => this.buffer(16)); // one for each binding: what is read may not also be written
    // Never resolves. Code that waits for the GPU races against it.
    this.trouble = new Promise((_, reject) => {
      device.lost.then((why) => reject(new Error(`The GPU was lost (${why.message || why.reason}). Reload the page.`)));
      device.addEventListener("uncapturederror", ({ error }) => reject(new Error(`The GPU refused: ${error.message}`)));
    });
    this.trouble.catch(() => {});
  }

  // The adapter in words, as far as the browser names it.
  get name() {
    const { description, ...parts } = nameParts(this.info);
    return description || Object.values(parts).filter(Boolean).join(" ") || "unknown GPU";
  }

  // Whether the adapter is a program: the processor does what a GPU would.
  get isSoftware() {
    return this.info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|software|basic render/i.test(Object.values(nameParts(this.info)).join(" "));
  }

  // A buffer of so many bytes (zeros), or one that holds these (a typed array); in whole 16 bytes, because shaders read vec4.
  buffer(content) {
    const bytes = typeof content === "number" ? content : content.byteLength;
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    if (size > this.device.limits.maxStorageBufferBindingSize) {
      throw new Error(`A tensor of ${size.toLocaleString("en")} bytes is more than this GPU takes in one buffer `
        + `(${this.device.limits.maxStorageBufferBindingSize.toLocaleString("en")}).`);
    }
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = this.device.createBuffer({ size, usage, mappedAtCreation: typeof content !== "number" });
    if (typeof content !== "number") {
      new Uint8Array(buffer.getMappedRange()).set(bytesOf(content));
      buffer.unmap();
    }
    return buffer;
  }

  // The text of a shader; fetched once.
  source(file) {
    if (!this.sources.has(file)) {
      this.sources.set(file, fetch(ROOT + file).then((answer) => {
        if (!answer.ok) throw new Error(`${file}: the server answers ${answer.status}`);
        return answer.text();
      }));
    }
    return this.sources.get(file);
  }

  // A compiled entry point.
  pipeline({ file, entry, constants = {} }) {
    const key = JSON.stringify([file, entry, constants]);
    if (!this.pipelines.has(key)) {
      const made = this.compile(file, entry, constants);
      this.pipelines.set(key, made);
      this.count(made);
    }
    return this.pipelines.get(key);
  }

  // Tells whoever waits how many of the pipelines that were asked for are compiled.
  async count(made) {
    this.compiling.of += 1;
    this.onCompile({ ...this.compiling });
    await made.catch(() => {});
    this.compiling.done += 1;
    this.onCompile({ ...this.compiling });
    if (this.compiling.done === this.compiling.of) this.compiling = { done: 0, of: 0 };
  }

  async compile(file, entry, constants) {
    const code = withConstants(file, await this.source(file), constants);
    const module = this.device.createShaderModule({ label: file, code });
    try {
      return await this.device.createComputePipelineAsync({ label: `${file} ${entry}`, layout: "auto", compute: { module, entryPoint: entry } });
    } catch (error) {
      const { messages } = await module.getCompilationInfo();
      const lines = messages.filter((m) => m.type === "error").map((m) => `line ${m.lineNum}: ${m.message}`);
      throw new Error(`${file}, ${entry}: ${lines.join("; ") || error.message}`);
    }
  }

  uniform(bytes) {
    const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (!this.uniforms.has(key)) {
      const buffer = this.device.createBuffer({ size: Math.ceil(bytes.length / 16) * 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
      this.device.queue.writeBuffer(buffer, 0, bytes);
      this.uniforms.set(key, buffer);
    }
    return this.uniforms.get(key);
  }

  // Runs launches in order, `times` times over; each sees what the ones before it wrote. Returns before the GPU has done them.
  async run(launches, times = 1) {
    const pipelines = await Promise.all(launches.map((launch) => this.pipeline(launch)));
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    const bound = launches.map(({ buffers, dims }, i) => {
      const all = [...buffers.map((buffer, binding) => buffer ?? this.nothing[binding]), this.uniform(dims)];
      const entries = all.map((buffer, binding) => ({ binding, resource: { buffer } }));
      return this.device.createBindGroup({ layout: pipelines[i].getBindGroupLayout(0), entries });
    });
    for (let time = 0; time < times; time++) {
      launches.forEach(({ groups }, i) => {
        if (groups === 0) return;
        const across = Math.min(groups, MAX_GROUPS);
        pass.setPipeline(pipelines[i]);
        pass.setBindGroup(0, bound[i]);
        pass.dispatchWorkgroups(across, Math.ceil(groups / across));
      });
    }
    pass.end();
    this.device.queue.submit([encoder.finish()]);
  }

  // Waits for everything that was submitted.
  done() {
    return Promise.race([this.device.queue.onSubmittedWorkDone(), this.trouble]);
  }

  // The first bytes of some buffers, one copy for all of them: reads = [[buffer, bytes], …] → [ArrayBuffer, …].
  async read(reads) {
    const starts = reads.map(([, bytes]) => Math.ceil(bytes / 16) * 16).reduce((sum, bytes) => [...sum, sum.at(-1) + bytes], [0]);
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const staging = this.device.createBuffer({ size: Math.max(16, starts.at(-1)), usage });
    const encoder = this.device.createCommandEncoder();
    reads.forEach(([buffer, bytes], i) => encoder.copyBufferToBuffer(buffer, 0, staging, starts[i], Math.ceil(bytes / 4) * 4));
    this.device.queue.submit([encoder.finish()]);
    await Promise.race([staging.mapAsync(GPUMapMode.READ), this.trouble]);
    const range = staging.getMappedRange();
    const copies = reads.map(([, bytes], i) => range.slice(starts[i], starts[i] + bytes));
    staging.destroy();
    return copies;
  }

  // What the browser says against what `work` asked of the GPU: null, or the message.
  async complaint(work) {
    this.device.pushErrorScope("out-of-memory");
    this.device.pushErrorScope("validation");
    let thrown = null;
    try {
      await work();
    } catch (error) {
      thrown = error.message;
    }
    const errors = [await this.device.popErrorScope(), await this.device.popErrorScope()];
    return thrown ?? errors.find(Boolean)?.message ?? null;
  }
}

// What an adapter says of itself. (GPUAdapterInfo's own keys cannot be listed.)
const nameParts = ({ vendor, architecture, device, description }) => ({ vendor, architecture, device, description });

// The bytes of a typed array.
export function bytesOf(array) {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

// The same shader with some of its constants replaced. Each must stand on one line of its own.
function withConstants(file, code, constants) {
  for (const [name, value] of Object.entries(constants)) {
    const pattern = new RegExp(`^const ${name}: u32 = [^;]*;`, "gm");
    const found = code.match(pattern)?.length ?? 0;
    if (found !== 1) throw new Error(`${file}: expected one line "const ${name}: u32 = …;", found ${found}`);
    code = code.replace(pattern, `const ${name}: u32 = ${value}u;`);
  }
  return code;
}
