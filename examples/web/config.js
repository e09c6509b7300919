// A model's config.json, as `src/model/stored_config.rs` reads it, which says of every key why it is read, refused or ignored: a key
// that is missing or null stands for transformers' default, and what would change the numbers and is not computed here is refused by name.

const DEFAULTS = {
  vocab_size: 151936, hidden_size: 4096, intermediate_size: 22016, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 32,
  head_dim: 128, max_position_embeddings: 32768, rms_norm_eps: 1e-6, tie_word_embeddings: false, rope_theta: 10_000,
  use_sliding_window: false, sliding_window: 4096, max_window_layers: 28,
};

// The keys that the model needs, each with its value: { hidden_size, …, rope_theta, eos_token_id: [ids], vision_config, audio_config }.
export function readConfig(json, file = "config.json") {
  const wrong = (key, expected, found) => new Error(`${file}: ${key}: expected ${expected}, found ${JSON.stringify(found)}`);
  if (json === null || typeof json !== "object" || Array.isArray(json)) throw new Error(`${file}: expected an object`);
  const given = (key) => json[key] ?? DEFAULTS[key];
  const number = (key) => {
    if (typeof given(key) !== "number") throw wrong(key, "a number", json[key]);
    return given(key);
  };
  const whole = (key) => {
    if (!Number.isInteger(number(key)) || number(key) < 1 || number(key) > 1 << 20) throw wrong(key, `1 to ${1 << 20}`, json[key]);
    return number(key);
  };
  const flag = (key) => {
    if (typeof (given(key) ?? false) !== "boolean") throw wrong(key, "true or false", json[key]);
    return given(key) ?? false;
  };
  refuse(json, { wrong, given, flag, layers: whole("num_hidden_layers") });
  const config = { rope_theta: theta(json, wrong, number), tie_word_embeddings: flag("tie_word_embeddings"), rms_norm_eps: number("rms_norm_eps") };
  const sizes = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim", "max_position_embeddings"];
  for (const key of sizes) config[key] = whole(key);
  // null says: as many as there are of the others.
  config.num_key_value_heads = json.num_key_value_heads === null ? config.num_attention_heads : whole("num_key_value_heads");
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: width } = config;
  if (heads % kvHeads !== 0) throw wrong("num_key_value_heads", `a divisor of num_attention_heads (${heads})`, kvHeads);
  if (width % 2 !== 0 || width > 128) throw wrong("head_dim", "an even number up to 128", width);
  if (!(config.rms_norm_eps >= 0 && config.rms_norm_eps < 1)) throw wrong("rms_norm_eps", "0 to 1", config.rms_norm_eps);
  if (!(config.rope_theta > 1)) throw wrong("rope_theta", "more than 1", config.rope_theta);
  config.eos_token_id = [json.eos_token_id ?? []].flat();
  if (!config.eos_token_id.every(Number.isInteger)) throw wrong("eos_token_id", "an id or a list of ids", json.eos_token_id);
  config.eos_token_id = config.eos_token_id.filter((id) => id >= 0); // a negative one is never chosen
  if (!["crop", "pad"].includes(json.picture_fit ?? "crop")) throw wrong("picture_fit", '"crop" or "pad"', json.picture_fit);
  const { picture_fit: fit, vision_config: vision, audio_config: audio } = json;
  const eyes = vision == null ? null : checkEyes(vision, wrong);
  return { ...config, picture_fit: fit ?? "crop", vision_config: eyes, audio_config: audio ?? null, met: json.met ?? null };
}

// Says that training never showed the model such a thing, where that is known, as `src/model/met.rs` does: what it says then is a guess, or nothing.
export function neverMet({ met }, picture, sound) {
  if (!met || [met.words, met.picture, met.sound, met.both].every((count) => count === 0)) return null;
  if (picture && !sound && met.picture === 0) return met.both > 0 ? "it never met a picture without a sound" : "it never met a picture";
  if (!picture && sound && met.sound === 0) return met.both > 0 ? "it never met a sound without a picture" : "it never met a sound";
  return picture && sound && met.both === 0 ? "it never met a picture together with a sound" : null;
}

// The sizes of pictures, the grids that they are counted in, and the convolutions between their patches and their rows:
// { width, convolutions: [{ channels, stride }] }.
function checkEyes(given, wrong) {
  if (typeof given !== "object" || Array.isArray(given)) throw wrong("vision_config", "an object", given);
  const vision = { histograms: [], ...given };
  const { image_size: side, patch_size: patch, bidirectional, stem, histograms } = vision;
  const among = (least, most) => (value) => Number.isInteger(value) && value >= least && value <= most;
  if (!among(1, 8192)(side)) throw wrong("vision_config.image_size", "1 to 8192", side);
  if (!among(1, side)(patch) || side % patch !== 0) throw wrong("vision_config.patch_size", `a divisor of image_size (${side})`, patch);
  if (typeof bidirectional !== "boolean") throw wrong("vision_config.bidirectional", "true or false", bidirectional);
  if (!Array.isArray(histograms) || histograms.length > 4 || !histograms.every((grid) => among(1, side)(grid) && side % grid === 0)) {
    throw wrong("vision_config.histograms", `at most 4 divisors of image_size (${side})`, histograms);
  }
  if (stem == null) return vision;
  const refuse = (expected, found) => wrong("vision_config.stem", expected, found);
  const { convolutions, places } = stem;
  if (!Array.isArray(convolutions)) throw refuse("width and convolutions", stem);
  if (!among(1, 64)(convolutions.length)) throw refuse("1 to 64 convolutions behind the width of a patch", convolutions.length);
  const wide = [stem.width, ...convolutions.map((c) => c?.channels)].find((width) => !among(1, 4096)(width));
  if (wide !== undefined || !convolutions.every((c) => c && "channels" in c) || !("width" in stem)) throw refuse("1 to 4096 channels", wide ?? null);
  const other = convolutions.find(({ stride }) => !among(1, 2)(stride));
  if (other) throw refuse("stride 1 or 2", other.stride ?? null);
  if (!["undefined", "boolean"].includes(typeof places)) throw wrong("vision_config.stem.places", "true or false", places);
  return vision;
}

// What would change the numbers and is not computed here.
function refuse(json, { wrong, given, flag, layers }) {
  const only = (key, ...values) => {
    if (json[key] != null && !values.includes(json[key])) throw wrong(key, JSON.stringify(values[0]), json[key]);
  };
  only("model_type", "qwen3");
  only("hidden_act", "silu", "swish");
  only("attention_bias", false);
  only("is_encoder_decoder", false);
  if (json.quantization_config != null) throw wrong("quantization_config", "weights as plain numbers", json.quantization_config);
  if (Object.keys(json.per_layer_config ?? {}).length > 0) throw wrong("per_layer_config", "layers that are all alike", json.per_layer_config);
  const types = json.layer_types;
  if (types != null) {
    if (!Array.isArray(types) || types.length !== layers) throw wrong("layer_types", `one for each of the ${layers} layers`, types);
    if (!types.every((type) => type === "full_attention")) throw wrong("layer_types", '"full_attention"', types);
  } else if (flag("use_sliding_window") && json.sliding_window !== null && given("max_window_layers") < layers) {
    throw wrong("use_sliding_window", "false", true);
  }
}

// The rotary base: rope_scaling overrules rope_parameters, and what either says about the base the key rope_theta.
function theta(json, wrong, number) {
  const key = ["rope_scaling", "rope_parameters"].find((key) => json[key] != null && !(typeof json[key] === "object" && Object.keys(json[key]).length === 0));
  if (!key) return number("rope_theta");
  const rope = json[key];
  if (typeof rope !== "object" || Array.isArray(rope)) throw wrong(key, "an object", rope);
  const nested = Object.keys(rope).find((name) => rope[name] !== null && typeof rope[name] === "object" && !Array.isArray(rope[name]));
  if (nested) throw wrong(`${key}.${nested}`, "one kind of rotary frequencies for all layers", rope[nested]);
  const type = rope.rope_type ?? rope.type ?? "default";
  if (type !== "default") throw wrong(`${key}.rope_type`, '"default" rotary frequencies', type);
  const base = rope.rope_theta ?? number("rope_theta");
  if (typeof base !== "number") throw wrong(`${key}.rope_theta`, "a number", base);
  return base;
}
