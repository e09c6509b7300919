// The model: a folder's files to weights on the GPU, a picture and a sound to rows, rows to words. The operations, and their
// order, are those of the program's `src/model/generate.rs`: the prompt goes through in one pass that fills the cache of keys and
// values, then one row per word.

import { readConfig } from "./config.js";
import * as kernels from "./kernels.js";
import { numbers, parse } from "./safetensors.js";
import { BINS, HOP, fourier, melBank, rotary } from "./tables.js";
import { Tokenizer } from "./tokenizer.js";

export class Model {
  // files: { config, tokenizer: parsed JSON, weights: [{ name, bytes: ArrayBuffer }] }: one safetensors file, or the shards.
  constructor(gpu, { config, tokenizer, weights }) {
    this.gpu = gpu;
    this.config = config = readConfig(config);
    this.tokenizer = new Tokenizer(tokenizer);
    this.sizes = sizesOf(config);
    this.tensors = new Map(weights.flatMap(({ name, bytes }) => [...parse(bytes, name).tensors]));
    const { D, F, H, Hkv, d, V, vision, audio } = this.sizes;
    const layer = (i) => {
      const of = (name, ...shape) => this.upload(`model.layers.${i}.${name}.weight`, shape);
      return {
        inputNorm: of("input_layernorm", D), attentionNorm: of("post_attention_layernorm", D),
        q: of("self_attn.q_proj", H * d, D), k: of("self_attn.k_proj", Hkv * d, D), v: of("self_attn.v_proj", Hkv * d, D),
        qNorm: of("self_attn.q_norm", d), kNorm: of("self_attn.k_norm", d), o: of("self_attn.o_proj", D, H * d),
        gate: of("mlp.gate_proj", F, D), up: of("mlp.up_proj", F, D), down: of("mlp.down_proj", D, F),
      };
    };
    const table = this.tensors.get("model.embed_tokens.weight");
    this.embedding = this.upload("model.embed_tokens.weight", [V, D]);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => layer(i));
    this.norm = this.upload("model.norm.weight", [D]);
    this.head = config.tie_word_embeddings ? this.tied(table) : this.upload("lm_head.weight", [V, D]);
    this.eyes = vision && {
      weight: this.upload("vision_embed_tokens.weight", [vision.width, vision.patch ** 2 * 3]),
      bias: this.upload("vision_embed_tokens.bias", [vision.width]),
      position: this.upload("vision_position.weight", [vision.across, 2, vision.width]),
    };
    this.stem = vision?.stem && this.uploadStem(vision, D);
    this.histograms = vision?.histograms.length ? this.upload("vision_histograms.weight", [D, kernels.cellsOf(vision.histograms) * kernels.COUNTS]) : null;
    this.ears = audio && audio.frames.slice(1).map((_, i) => ({
      weight: this.upload(`audio_embed.conv${i + 1}.weight`, [D, i === 0 ? audio.mels : D, 3]),
      bias: this.upload(`audio_embed.conv${i + 1}.bias`, [D]),
    }));
    const [left] = this.tensors.keys();
    if (left) throw new Error(`model.safetensors: tensor ${left}: a model of this config.json has no such tensor`);
    this.tensors = null; // the GPU has them
    this.allocate();
  }

  // The embedding table as the output layer. A file may store that one too, but not with other numbers.
  tied(table) {
    const head = this.tensors.get("lm_head.weight");
    this.tensors.delete("lm_head.weight");
    const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
    if (head && !same(numbers(head), numbers(table))) {
      throw new Error("model.safetensors: tensor lm_head.weight: expected the numbers of model.embed_tokens.weight, because config.json says "
        + '"tie_word_embeddings": true, found others');
    }
    return this.embedding;
  }

  // A tensor of the file, as f32, on the GPU.
  upload(name, shape) {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new Error(`model.safetensors: expected a tensor ${name}, as config.json says, found none`);
    if (tensor.shape.join() !== shape.join()) throw new Error(`model.safetensors: ${name}: expected [${shape}], found [${tensor.shape}]`);
    this.tensors.delete(name);
    this.parameters = (this.parameters ?? 0) + shape.reduce((product, n) => product * n, 1);
    return this.gpu.buffer(Float32Array.from(numbers(tensor)));
  }

  // The convolutions between the patches and the rows; what makes the rows of places, and the row of the picture as a whole.
  uploadStem({ stem, places, grid }, D) {
    const of = (name, ...shape) => this.upload(`vision_stem.${name}`, shape);
    const last = stem.at(-1).channelsOut;
    return {
      convolutions: stem.map(({ channelsIn, channelsOut }, i) => ({
        norm: of(`conv${i + 1}.norm`, channelsIn),
        weight: of(`conv${i + 1}.weight`, channelsOut, channelsIn, 3, 3),
        bias: of(`conv${i + 1}.bias`, channelsOut),
      })),
      places: places ? { norm: of("places.norm", last), weight: of("places.weight", D, last) } : null,
      whole: { norm: of("whole.norm", last), weight: of("whole.weight", D, grid * grid * last) },
    };
  }

  // Everything that a pass writes, once, for as many rows as the model allows.
  allocate() {
    const { D, F, H, Hkv, d, V, length, audio } = this.sizes;
    const floats = (...shape) => this.gpu.buffer(4 * shape.reduce((product, n) => product * n, 1));
    this.a = {
      x: floats(length, D), sum: floats(length, D), normed: floats(length, D), delta: floats(length, D), rstd: floats(length, Math.max(H, Hkv)),
      q: floats(length, H, d), qRotated: floats(length, H, d), k: floats(length, Hkv, d), kRotated: floats(length, Hkv, d),
      attended: floats(length, H, d), lse: floats(length, H), gate: floats(length, F), up: floats(length, F), gated: floats(length, F),
      picked: floats(1, D), logits: floats(1, V), id: floats(1),
    };
    this.cache = this.layers.map(() => ({ keys: floats(length, Hkv, d), values: floats(length, Hkv, d), weights: floats(H, length) }));
    this.rotary = this.gpu.buffer(rotary(length, d, this.config.rope_theta));
    // The output layer may have more rows than the tokenizer has tokens: those are never chosen.
    const absent = Array.from({ length: V }, (_, id) => (this.tokenizer.tokens.has(id) ? 0 : -1e38));
    this.mask = absent.some((value) => value !== 0) ? this.gpu.buffer(Float32Array.from(absent)) : null;
    this.iota = this.gpu.buffer(Int32Array.from({ length }, (_, i) => i));
    if (audio) {
      const { bank, range } = melBank(audio.rate, audio.mels);
      this.mel = { basis: this.gpu.buffer(fourier()), bank: this.gpu.buffer(bank), range: this.gpu.buffer(range) };
    }
  }

  // Gives the GPU its memory back.
  destroy() {
    const each = (value) => (value instanceof GPUBuffer ? value.destroy() : value && typeof value === "object" && Object.values(value).forEach(each));
    const weights = [this.embedding, this.layers, this.norm, this.head, this.eyes, this.stem, this.histograms, this.ears];
    [...weights, this.a, this.cache, this.rotary, this.mask, this.iota, this.mel].forEach(each);
  }

  // Waveform to mel frames [frames, mels]: what the model hears, and what a spectrogram shows.
  async hear(waveform) {
    const { samples, frames: [frames], mels } = this.sizes.audio;
    const [given, mel, workspace] = [this.gpu.buffer(waveform), this.gpu.buffer(4 * frames * mels), this.gpu.buffer(4 * (frames * BINS + 1))];
    await this.gpu.run(kernels.logMel({ waveform: given, ...this.mel, mel, workspace, samples, frames, mels }));
    const [bytes] = await this.gpu.read([[mel, 4 * frames * mels]]);
    [given, mel, workspace].forEach((buffer) => buffer.destroy());
    return new Float32Array(bytes);
  }

  // The rows of a sample before its words: <bos> <boi> patches… <eoi> <boa> frames… <eoa>. Patches and frames are −1 here: the
  // embedding table does not make them. Patches see the whole picture, everything else what came before it. With a stem, patches are the
  // places that it leaves (or none); with a stem or histograms, a last row is of the picture as a whole. Where attention is drawn: `shown`
  // rows from the start on.
  prompt(pixels, mel) {
    const { vision, audio } = this.sizes;
    const { bos, boi, eoi, boa, eoa } = this.tokenizer.special;
    const places = pixels && vision.places ? vision.grid ** 2 : 0;
    const patches = pixels ? places + (vision.whole ? 1 : 0) : 0;
    const heard = mel ? audio.frames.at(-1) : 0;
    const none = (count) => Array(count).fill(-1);
    const ids = [bos, ...(pixels ? [boi, ...none(patches), eoi] : []), ...(mel ? [boa, ...none(heard), eoa] : [])];
    const picture = { start: 2, end: 2 + patches, places, shown: places || patches };
    const sound = { start: ids.length - 1 - heard, end: ids.length - 1 };
    const sees = (row) => (vision?.bidirectional && row >= picture.start && row < picture.end ? picture.end : row + 1);
    return { ids, visible: ids.flatMap((_, row) => [0, sees(row)]), picture: pixels ? picture : null, sound: mel ? sound : null };
  }

  // Says what is in a picture (bytes), a sound (mel frames) or both. `onWord` is told each word as it is made; a word is
  // { id, weights: [layer][head] → Float32Array over the rows before it }: what the row that made it looked at.
  // Returns { ids, words, text, ended, prompt }.
  async describe({ pixels = null, mel = null, most = 256, onWord = () => {} }) {
    const prompt = this.prompt(pixels, mel);
    const { ids: given, visible } = prompt;
    const { length } = this.sizes;
    if (given.length > length) throw new Error(`a sample of ${given.length} rows is too long: the model takes at most ${length}`);
    const words = [];
    const result = (ended) => ({ ids: words.map((w) => w.id), words, text: this.tokenizer.decode(words.map((w) => w.id)), ended, prompt });
    let next = await this.pass(given, 0, visible, [
      ...(pixels ? this.patches(pixels, prompt) : []),
      ...(mel ? this.frames(mel, prompt) : []),
    ]);
    while (next.id !== this.tokenizer.special.eos && !this.config.eos_token_id.includes(next.id)) {
      words.push(next);
      onWord(next, result(false));
      const row = given.length + words.length - 1;
      if (words.length === most || row >= length) return result(false);
      next = await this.pass([next.id], row, [0, row + 1]);
    }
    return result(true);
  }

  // The picture's patches into their rows of x, or through the stem; then the row of all of it, where there is one.
  patches(pixels, { ids, picture: { start, places } }) {
    const { side, patch, across, width } = this.sizes.vision;
    const counted = (first, length) => this.temporary(Int32Array.from({ length }, (_, i) => first + i));
    const rows = counted(start, places);
    const bytes = this.temporary(pixels);
    const embed = (row, y, count) => kernels.patchEmbed({ ...this.eyes, pixels: bytes, row, y, side, patch, width, rows: count });
    const move = (table, row, entries) => (
      kernels.embedding({ table, id: this.iota, row, y: this.a.x, entries, columns: this.sizes.D, vocabulary: entries, rows: ids.length })
    );
    const all = [];
    let whole = null;
    if (this.stem) {
      const embedded = this.temporary(4 * across * across * width);
      const seen = this.look(embedded);
      all.push(embed(counted(0, across * across), embedded, across * across), ...seen.launches, ...(seen.each ? [move(seen.each, rows, places)] : []));
      whole = seen.whole;
    } else {
      all.push(embed(rows, this.a.x, ids.length));
    }
    if (this.histograms) {
      const { launches, y } = this.count(bytes, whole);
      all.push(...launches);
      whole = y;
    }
    return whole ? [...all, move(whole, counted(start + places, 1), 1)] : all;
  }

  // What is counted in a picture, as a row; with the one that a stem made of it (or null) added.
  count(pixels, residual) {
    const { D, vision: { side, histograms: grids } } = this.sizes;
    const cells = kernels.cellsOf(grids);
    const [counts, workspace, y] = [cells * kernels.COUNTS, cells * 9, D].map((floats) => this.temporary(4 * floats));
    const linear = kernels.linear({ x: counts, w: this.histograms, residual, y, m: 1, n: D, k: cells * kernels.COUNTS });
    return { launches: [...kernels.localHistogram({ pixels, y: counts, workspace, side, grids }), linear], y };
  }

  // Embedded patches through the convolutions: each reads the picture normalised and is added to it, where both have the same shape.
  // Gives the rows of its places, or null, and the one of all of it.
  look(x) {
    const { D, eps, vision: { stem, grid } } = this.sizes;
    const floats = (count) => this.temporary(4 * count);
    const launches = [];
    let added = null; // what the next norm adds to x before it normalises
    const norm = (weight, pixels, columns) => {
      const [y, rstd, residual] = [floats(pixels * columns), floats(pixels), added];
      const sum = residual && floats(pixels * columns);
      launches.push(kernels.rmsNorm({ x, residual, weight, sum, y, rstd, rows: pixels, columns, eps }));
      [x, added] = [sum ?? x, null];
      return y;
    };
    stem.forEach(({ side, sideOut, ...sizes }, i) => {
      const { norm: before, ...weights } = this.stem.convolutions[i];
      const read = norm(before, side * side, sizes.channelsIn);
      const [z, y] = [floats(sideOut * sideOut * sizes.channelsOut), floats(sideOut * sideOut * sizes.channelsOut)];
      launches.push(kernels.conv2d({ x: read, ...weights, z, y, height: side, width: side, ...sizes }));
      if (sizes.stride === 1 && sizes.channelsIn === sizes.channelsOut) added = y;
      else x = y;
    });
    const [pixels, columns] = [grid * grid, stem.at(-1).channelsOut];
    // `pixels` rows of so many columns each, or one of all of them.
    const project = (by, m, k) => {
      const y = floats(m * D);
      launches.push(kernels.linear({ x: norm(by.norm, pixels, columns), w: by.weight, y, m, n: D, k }));
      return y;
    };
    const each = this.stem.places && project(this.stem.places, pixels, columns);
    return { launches, each, whole: project(this.stem.whole, 1, pixels * columns) };
  }

  // The sound's frames through the stem, then into their rows of x.
  frames(mel, { ids, sound: { start, end } }) {
    const { audio: { frames, mels }, D } = this.sizes;
    let x = this.temporary(mel);
    const launches = this.ears.map((weights, i) => {
      const [z, y] = [this.temporary(4 * frames[i + 1] * D), this.temporary(4 * frames[i + 1] * D)];
      const sizes = { frames: frames[i], framesOut: frames[i + 1], widthIn: i === 0 ? mels : D, widthOut: D, stride: i === 0 ? 1 : 2 };
      const launch = kernels.conv1d({ x, ...weights, z, y, ...sizes });
      x = y;
      return launch;
    });
    const row = this.temporary(Int32Array.from({ length: end - start }, (_, i) => start + i));
    const move = { table: x, id: this.iota, row, y: this.a.x, entries: end - start, columns: D, vocabulary: end - start, rows: ids.length };
    return [...launches, kernels.embedding(move)];
  }

  // A buffer for one pass.
  temporary(content) {
    const buffer = this.gpu.buffer(content);
    (this.passing ??= []).push(buffer);
    return buffer;
  }

  // Rows [first, first + n) through the decoder, where `inputs` fill what the embedding table does not; then the likeliest word
  // after the last of them: { id, weights }.
  async pass(ids, first, visible, inputs = []) {
    const { D, F, H, Hkv, d, V, eps, length } = this.sizes;
    const a = this.a;
    const rows = ids.length;
    const keys = first + rows;
    const ints = (values) => this.temporary(Int32Array.from(values));
    const [id, position, seen, last] = [ints(ids), ints(ids.map((_, i) => first + i)), ints(visible), ints([rows - 1])];
    const heads = { position, table: this.rotary, rstd: a.rstd, rows, headDim: d, positions: length, eps };
    const place = { id: this.iota, row: position, entries: rows, columns: Hkv * d, vocabulary: rows, rows: length };
    const store = (from, to) => kernels.embedding({ table: from, y: to, ...place });
    const norm = (from, weight, to) => kernels.rmsNorm({ ...from, weight, ...to, y: a.normed, rstd: a.rstd, rows, columns: D, eps });
    const launches = [kernels.embedding({ table: this.embedding, id, y: a.x, entries: rows, columns: D, vocabulary: V, rows }), ...inputs];
    this.layers.forEach((w, i) => {
      const { keys: k, values: v, weights: p } = this.cache[i];
      const sizes = { queries: rows, keys, heads: H, kvHeads: Hkv, headDim: d };
      launches.push(
        // x and sum take turns as the residual stream: each norm adds what the block before it left in delta.
        i === 0 ? norm({ x: a.x }, w.inputNorm, {}) : norm({ x: a.sum, residual: a.delta }, w.inputNorm, { sum: a.x }),
        kernels.linear({ x: a.normed, w: w.q, y: a.q, m: rows, n: H * d, k: D }),
        kernels.qkNormRope({ ...heads, x: a.q, weight: w.qNorm, y: a.qRotated, heads: H }),
        kernels.linear({ x: a.normed, w: w.k, y: a.k, m: rows, n: Hkv * d, k: D }),
        kernels.qkNormRope({ ...heads, x: a.k, weight: w.kNorm, y: a.kRotated, heads: Hkv }),
        store(a.kRotated, k),
        kernels.linear({ x: a.normed, w: w.v, y: a.k, m: rows, n: Hkv * d, k: D }),
        store(a.k, v),
        kernels.attention({ q: a.qRotated, k, v, visible: seen, o: a.attended, lse: a.lse, ...sizes }),
        kernels.attentionWeights({ q: a.qRotated, k, lse: a.lse, visible: seen, row: last, p, rows: 1, ...sizes }),
        kernels.linear({ x: a.attended, w: w.o, y: a.delta, m: rows, n: D, k: H * d }),
        norm({ x: a.x, residual: a.delta }, w.attentionNorm, { sum: a.sum }),
        kernels.linear({ x: a.normed, w: w.gate, y: a.gate, m: rows, n: F, k: D }),
        kernels.linear({ x: a.normed, w: w.up, y: a.up, m: rows, n: F, k: D }),
        kernels.swiglu({ gate: a.gate, up: a.up, y: a.gated, count: rows * F }),
        kernels.linear({ x: a.gated, w: w.down, y: a.delta, m: rows, n: D, k: F }),
      );
    });
    launches.push(
      norm({ x: a.sum, residual: a.delta }, this.norm, { sum: a.x }),
      kernels.embedding({ table: a.normed, id: last, y: a.picked, entries: 1, columns: D, vocabulary: rows, rows: 1 }),
      kernels.linear({ x: a.picked, w: this.head, bias: this.mask, y: a.logits, m: 1, n: V, k: D }),
      kernels.sample({ logits: a.logits, id: a.id, rows: 1, vocabulary: V }),
    );
    await this.gpu.run(launches);
    const [chosen, ...weights] = await this.gpu.read([[a.id, 4], ...this.cache.map((c) => [c.weights, 4 * H * keys])]);
    this.passing.splice(0).forEach((buffer) => buffer.destroy());
    const byHead = (bytes) => Array.from({ length: H }, (_, head) => new Float32Array(bytes, 4 * head * keys, keys));
    return { id: new Int32Array(chosen)[0], weights: weights.map(byHead) };
  }
}

// The sizes that config.json names, under the usual letters; an error names a value that makes no sense.
function sizesOf(config) {
  const number = (object, key, most = 1 << 20) => {
    const value = object[key];
    if (Number.isInteger(value) && value >= 1 && value <= most) return value;
    throw new Error(`config.json: ${key}: expected 1 to ${most}, found ${JSON.stringify(value)}`);
  };
  const { vision_config: eyes, audio_config: ears } = config;
  const vision = eyes && {
    side: eyes.image_size, patch: eyes.patch_size, bidirectional: eyes.bidirectional, histograms: eyes.histograms, stem: null, places: true,
    whole: Boolean(eyes.stem) || eyes.histograms.length > 0, width: config.hidden_size,
  };
  if (vision) vision.across = vision.grid = vision.side / vision.patch; // patches along one side; rows
  if (vision && eyes.stem) {
    [vision.width, vision.places] = [eyes.stem.width, eyes.stem.places ?? true];
    let channelsIn = vision.width;
    vision.stem = eyes.stem.convolutions.map(({ channels: channelsOut, stride }) => {
      const [side, sideOut] = [vision.grid, Math.ceil(vision.grid / stride)];
      const sizes = { side, sideOut, channelsIn, channelsOut, stride };
      [vision.grid, channelsIn] = [sideOut, channelsOut];
      return sizes;
    });
  }
  if (vision) vision.shown = vision.places ? vision.grid : 1; // rows along one side of the picture that shows attention
  const audio = ears && { rate: number(ears, "sample_rate"), mels: number(ears, "num_mel_bins", 128) };
  // Mel frames, then what each convolution leaves of them: the first has stride 1, every other one 2.
  if (audio) {
    audio.samples = Math.round(ears.clip_seconds * audio.rate);
    audio.frames = [Math.floor(audio.samples / HOP)];
    for (let layer = 0; layer < number(ears, "layers", 8); layer++) audio.frames.push(Math.floor((audio.frames.at(-1) - 1) / (layer === 0 ? 1 : 2)) + 1);
  }
  return {
    D: config.hidden_size, F: config.intermediate_size, V: config.vocab_size, d: config.head_dim, H: config.num_attention_heads,
    Hkv: config.num_key_value_heads, length: config.max_position_embeddings, eps: config.rms_norm_eps, vision, audio,
  };
}
