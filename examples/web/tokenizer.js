// Ids to text: byte-level BPE as `tokenizer.json` of the `tokenizers` crate holds it. Describing does not need the other direction.

// The ids of these have a meaning for the model; a vocabulary without them is not one of ours.
const SPECIAL = ["<bos>", "<eos>", "<boi>", "<eoi>", "<boa>", "<eoa>", "<image>", "<audio>"];

export class Tokenizer {
  constructor(json) {
    if (json.decoder?.type !== "ByteLevel") throw new Error(`tokenizer.json: expected a decoder of the type ByteLevel, found ${json.decoder?.type}`);
    this.tokens = new Map(Object.entries(json.model?.vocab ?? {}).map(([token, id]) => [id, token]));
    this.hidden = new Set(); // special tokens say nothing
    for (const { id, content, special } of json.added_tokens ?? []) {
      this.tokens.set(id, content);
      if (special) this.hidden.add(id);
    }
    const ids = new Map([...this.tokens].map(([id, token]) => [token, id]));
    this.special = Object.fromEntries(SPECIAL.map((token) => {
      if (!ids.has(token)) throw new Error(`tokenizer.json: the vocabulary has no special token ${token}: expected one that trimodal wrote`);
      return [token.slice(1, -1), ids.get(token)];
    }));
  }

  // The text of some ids, without special tokens and without the space before the first word.
  decode(ids) {
    const letters = ids.filter((id) => !this.hidden.has(id)).map((id) => this.tokens.get(id) ?? "").join("");
    const bytes = [...letters].flatMap((letter) => BYTES.get(letter) ?? [...new TextEncoder().encode(letter)]);
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes)).replace(/^ /, "");
  }
}

// GPT-2's letters for bytes: a byte that prints stands for itself, the others are numbered from 256 on.
const BYTES = (() => {
  const prints = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return new Map(Array.from({ length: 256 }, (_, byte) => [String.fromCodePoint(prints(byte) ? byte : next++), byte]));
})();
