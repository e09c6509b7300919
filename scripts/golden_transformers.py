#!/usr/bin/env python3
"""Makes tests/golden/transformers/: what `transformers` makes of config.json files, and of the tokenizers that trimodal saves.

    python scripts/golden_transformers.py target/release/trimodal        (torch, transformers, safetensors, tokenizers)

configs.json    a small Qwen3 whose config.json is changed key by key: what AutoConfig reads, and the logits that AutoModelForCausalLM
                computes in float64 from weights that a formula gives (`weight`, below); or its error. Also every key of Qwen3Config.
trained/        config.json, tokenizer.json, tokenizer_config.json, generation_config.json of a run on a few captions
adopted/        the same where the run was given a tokenizer built as Qwen3's
ids.json        for each of both: captions, and what AutoTokenizer.from_pretrained makes of them

`tests/transformers.rs` and `tests/web.rs` compare the crate and the page with these files; no test runs this script.
"""

import dataclasses
import inspect
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen3Config

OUT = pathlib.Path(__file__).parent.parent / "tests/golden/transformers"

# ── configs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

BASE = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu", "attention_bias": False,
    "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2,
}
IDS = [1, 5, 9, 3, 7, 2, 30, 12, 25, 4, 39, 17, 8, 21, 11, 6]
REMOVED = "(removed)"


def yarn(**more):
    return {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, **more}


# What is changed, and whether the crate must read it or refuse it, naming the key. Where it reads, the logits must be these.
READ, REFUSE = "read", "refuse"
CASES = [
    ("as it is", {}, READ),
    ("theta at the top", {"rope_theta": 1e6}, READ),
    ("theta as an integer", {"rope_theta": 500000}, READ),
    ("no theta anywhere", {"rope_theta": REMOVED}, READ),
    ("rope_parameters", {"rope_theta": REMOVED, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, READ),
    ("rope_parameters without a type", {"rope_theta": REMOVED, "rope_parameters": {"rope_theta": 1e6}}, READ),
    ("rope_parameters before the top", {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, READ),
    ("rope_parameters without theta", {"rope_theta": 5e5, "rope_parameters": {"rope_type": "default"}}, READ),
    ("rope_parameters null", {"rope_theta": 1e6, "rope_parameters": None}, READ),
    ("rope_parameters empty", {"rope_theta": 1e6, "rope_parameters": {}}, READ),
    ("rope_scaling null", {"rope_theta": 1e6, "rope_scaling": None}, READ),
    ("rope_scaling of the default type", {"rope_theta": 1e6, "rope_scaling": {"rope_type": "default"}}, READ),
    ("rope_scaling of the default type, its older name", {"rope_theta": 1e6, "rope_scaling": {"type": "default"}}, READ),
    ("rope_scaling before rope_parameters", {"rope_scaling": {"rope_type": "default", "rope_theta": 2e5}, "rope_parameters": {"rope_theta": 1e6}}, READ),
    ("yarn in rope_parameters", {"rope_theta": REMOVED, "rope_parameters": yarn(rope_theta=1e6)}, REFUSE),
    ("yarn in rope_scaling", {"rope_scaling": yarn()}, REFUSE),
    ("yarn by its older name", {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}, REFUSE),
    ("linear", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, REFUSE),
    ("dynamic", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, REFUSE),
    ("llama3", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                     "original_max_position_embeddings": 16, "rope_theta": 1e4}}, REFUSE),
    ("rope by kind of layer", {"layer_types": ["full_attention"] * 2, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}}, REFUSE),
    ("partial_rotary_factor", {"partial_rotary_factor": 0.5}, None),
    ("layer_types of full attention", {"layer_types": ["full_attention"] * 2}, READ),
    ("layer_types null", {"layer_types": None}, READ),
    ("layer_types with a window", {"layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": True, "sliding_window": 4}, REFUSE),
    ("layer_types too short", {"layer_types": ["full_attention"]}, REFUSE),
    ("a window", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, REFUSE),
    ("a window in the second layer", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, REFUSE),
    ("a window in no layer", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}, READ),
    ("a window by default in no layer", {"use_sliding_window": True, "sliding_window": 4}, READ),
    ("a window of null", {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, READ),
    ("a window that is not used", {"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 0}, READ),
    ("swish", {"hidden_act": "swish"}, READ),
    ("gelu", {"hidden_act": "gelu"}, REFUSE),
    ("attention_bias", {"attention_bias": True}, REFUSE),
    ("attention_dropout", {"attention_dropout": 0.1}, READ),
    ("untied", {"tie_word_embeddings": False}, READ),
    ("untied by default", {"tie_word_embeddings": REMOVED}, READ),
    ("as many key as query heads, by null", {"num_key_value_heads": None}, READ),
    ("key heads by default", {"num_key_value_heads": REMOVED, "num_attention_heads": 32}, READ),
    ("head_dim null", {"head_dim": None}, None),
    ("head_dim by default", {"head_dim": REMOVED}, READ),
    ("eps null", {"rms_norm_eps": None}, None),
    ("eps by default", {"rms_norm_eps": REMOVED}, READ),
    ("a large eps", {"rms_norm_eps": 0.01}, READ),
    ("several ends", {"eos_token_id": [2, 7]}, READ),
    ("one end in a list", {"eos_token_id": [2]}, READ),
    ("no end", {"eos_token_id": None}, READ),
    ("no beginning", {"bos_token_id": None}, READ),
    ("dtype", {"torch_dtype": REMOVED, "dtype": "float32"}, READ),
    ("both dtypes", {"torch_dtype": "float32", "dtype": "bfloat16"}, READ),
    ("dtype null", {"torch_dtype": "bfloat16", "dtype": None}, READ),
    ("padding", {"pad_token_id": 3}, READ),
    ("initializer_range", {"initializer_range": 0.5}, READ),
    ("use_cache", {"use_cache": False}, READ),
    ("chunk_size_feed_forward", {"chunk_size_feed_forward": 4}, READ),
    ("an encoder too", {"is_encoder_decoder": True}, None),
    ("use_cache null", {"use_cache": None}, None),
    ("another model", {"model_type": "llama"}, REFUSE),
    ("quantised", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, REFUSE),
    ("layers of their own", {"per_layer_config": {"1": {"intermediate_size": 24}}}, REFUSE),
    ("keys that nobody knows", {"unsloth_fixed": True, "max_new_tokens": 5, "something": {"else": [1]}}, READ),
]


def changed(change):
    config = {**BASE, **change}
    return {key: value for key, value in config.items() if not (isinstance(value, str) and value == REMOVED)}


def weight(tensor, index, norm):
    """Element `index` of the tensor that is the `tensor`th by name."""
    return 1 + 0.3 * math.sin(0.7 * index + tensor) if norm else 0.4 * math.sin(0.013 * index * index + 1.3 * tensor + 0.5)


def fill(model):
    parameters = dict(sorted(model.named_parameters()))  # what is tied comes once
    with torch.no_grad():
        for i, parameter in enumerate(parameters.values()):
            values = [weight(i, k, parameter.dim() == 1) for k in range(parameter.numel())]
            parameter.copy_(torch.tensor(values, dtype=torch.float64).float().reshape(parameter.shape))


def read(config):
    """What transformers makes of a config.json."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        try:
            found = AutoConfig.from_pretrained(folder)
            model = AutoModelForCausalLM.from_config(found, attn_implementation="eager").double().eval()
            fill(model)
            with torch.no_grad():
                logits = model(torch.tensor([IDS])).logits[0, -1]
        except Exception as error:  # noqa: BLE001: whatever it is, it is what a user would see
            return {"error": f"{type(error).__name__}: {error}".split("\n")[0][:200]}
    if found.model_type != "qwen3":
        return {"error": f"a {type(found).__name__}"}
    listed = [] if found.eos_token_id is None else found.eos_token_id if isinstance(found.eos_token_id, list) else [found.eos_token_id]
    rope = found.rope_parameters
    return {
        "rope_theta": rope.get("rope_theta"), "rope_type": rope.get("rope_type"), "layer_types": found.layer_types, "head_dim": found.head_dim,
        "num_key_value_heads": found.num_key_value_heads, "rms_norm_eps": found.rms_norm_eps, "tie_word_embeddings": found.tie_word_embeddings,
        "bos_token_id": found.bos_token_id, "eos_token_id": listed, "dtype": str(found.dtype).removeprefix("torch."),
        "logits": [round(value, 10) for value in logits.tolist()],
    }


def configs():
    cases = [{"name": name, "config": changed(change), "must": must, "transformers": read(changed(change))} for name, change, must in CASES]
    # The file that transformers itself writes.
    with tempfile.TemporaryDirectory() as folder:
        Qwen3Config(**{key: value for key, value in changed({"rope_theta": 1e6}).items() if key != "model_type"}).save_pretrained(folder)
        written = json.loads((pathlib.Path(folder) / "config.json").read_text())
    cases.append({"name": "as transformers writes it", "config": written, "must": READ, "transformers": read(written)})
    keys = set(Qwen3Config().to_dict()) | {name for name in inspect.signature(Qwen3Config.__init__).parameters if name not in ("self", "kwargs", "args")}
    keys |= {field.name for field in dataclasses.fields(Qwen3Config)} | set(written)
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    text = f'{{\n"transformers": "{transformers.__version__}",\n"ids": {json.dumps(IDS)},\n"keys": {json.dumps(sorted(keys))},\n"cases": [\n{lines}\n]\n}}\n'
    (OUT / "configs.json").write_text(text)
    for case in cases:
        print(f"{case['name']:50} {str(case['must']):8} {case['transformers'].get('error') or case['transformers']['logits'][:3]}")


# ── tokenizers ───────────────────────────────────────────────────────────────────────────────────────────────────────

CAPTIONS = ["a fluffy orange cat", "a fluffy orange cat purring", "a red dog in the sun", "a small black bird singing at night", "two frogs by the lake"]
TEXTS = [
    *CAPTIONS, "cat", " cat", "  cat", "a  cat\n\n  at night ", "", " ", "don't!", "A CAT, 3 dogs; 12.5 %", "caf\u00e9", "cafe\u0301", "\u732b \U0001f408",
    "\U0001f408\u200d\u2b1b", "x\ty", "\u00dcberraschung!", "<notspecial>", "a<b>c", "orangecat", "fluffy's", "1234567890", "\u0421\u043e\u0431\u0430\u043a\u0430",
    " . , cat .", "it 's", "ain ' t", "\ufb01sh", "\u2019", "a\u00a0cat", "\u3000cat", "cat\r\n", "night\u0301",
]


def like_qwen3():
    """A tokenizer.json with the parts of Qwen3's."""
    tokenizer = Tokenizer(models.BPE())
    split = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CAPTIONS * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


def run_of(program, folder, *more):
    """A checkpoint of one step, as the program writes it."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / "metadata.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in CAPTIONS))
    small = ["hidden_size=16", "intermediate_size=16", "num_hidden_layers=1", "num_attention_heads=2", "num_key_value_heads=1", "head_dim=8"]
    settings = [argument for setting in small for argument in ("--set", setting)]
    command = [program, "train", data, "--out", folder / "run", "--steps", "1", "--device", "cpu", "--no-report", *settings, *more]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return folder / "run" / (folder / "run/latest").read_text().strip()


def encoded(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    batch = tokenizer(TEXTS[:4], padding=True)
    with tempfile.TemporaryDirectory() as again:
        tokenizer.save_pretrained(again)
        saved = AutoTokenizer.from_pretrained(again)
        assert [saved(text)["input_ids"] for text in TEXTS] == ids
    return {
        "class": type(tokenizer).__name__, "texts": TEXTS, "ids": ids, "decoded": [tokenizer.decode(i, skip_special_tokens=True) for i in ids],
        "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id, "tokens": len(tokenizer),
        "longest": tokenizer.model_max_length, "batch": batch["input_ids"], "attention_mask": batch["attention_mask"],
    }


def tokenizers(program):
    found = {}
    for name in ("trained", "adopted"):
        with tempfile.TemporaryDirectory() as temporary:
            folder, more = pathlib.Path(temporary), []
            if name == "adopted":
                like_qwen3().save(str(folder / "tokenizer.json"))
                more = ["--set", f"tokenizer={folder / 'tokenizer.json'}"]
            checkpoint = run_of(program, folder, *more)
            (OUT / name).mkdir(parents=True, exist_ok=True)
            for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
                shutil.copy(checkpoint / file, OUT / name / file)
            found[name] = encoded(checkpoint)
    text = ",\n".join(f'"{name}": {{\n' + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in one.items()) + "\n}" for name, one in found.items())
    (OUT / "ids.json").write_text(f'{{\n"transformers": "{transformers.__version__}",\n{text}\n}}\n')
    for name, one in found.items():
        print(f"{name}: {one['class']}, {one['tokens']} tokens, bos {one['bos']}, eos {one['eos']}, pad {one['pad']}, {TEXTS[0]!r} is {one['ids'][0]}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    OUT.mkdir(parents=True, exist_ok=True)
    configs()
    tokenizers(pathlib.Path(sys.argv[1]).resolve())
