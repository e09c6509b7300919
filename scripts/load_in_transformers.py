#!/usr/bin/env python3
"""Shows that transformers opens what trimodal saves: config, weights and tokenizer, as they are.

    python scripts/load_in_transformers.py RUN [--program trimodal]        (torch, transformers, safetensors, tokenizers)

RUN is a run or a model folder. AutoModelForCausalLM must find every tensor of its Qwen3, and leave over nothing but the embedders of pictures
and sounds. AutoTokenizer must give 200 captions (those of the run's data set where it is still there, else words of the vocabulary) the ids that
tokenizer.json itself gives them, and pad a batch within the vocabulary. `generate` must say the same alone and in a padded batch, and end
where the model ends; with --program, also the same as `trimodal describe`. Exit code 1 where something does not fit.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("run", type=pathlib.Path)
arguments.add_argument("--program", help="compare `generate` with what this program says")
arguments = arguments.parse_args()
run = arguments.run
if (run / "latest").exists():  # a run: its newest checkpoint is the model
    run = run / (run / "latest").read_text().strip()
ours = ("vision_embed_tokens.", "vision_position.", "vision_stem.", "vision_histograms.", "audio_embed.")
trouble = random.Random(0)


def fail(what):
    sys.exit(f"{run}: does not fit: {what}")


def same(found, expected, what):
    if found != expected:
        fail(f"{what}: expected {expected}, found {found}")


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────

config = AutoConfig.from_pretrained(run)
same(config.model_type, "qwen3", "model_type")
model, info = AutoModelForCausalLM.from_pretrained(run, dtype=torch.float32, output_loading_info=True)
missing, mismatched = set(info["missing_keys"]), info["mismatched_keys"]
unexpected = {name for name in info["unexpected_keys"] if not name.startswith(ours)}
if missing or mismatched or unexpected:
    fail(f"missing {missing}, of another shape {mismatched}, unexpected {unexpected}")

# What was loaded is what the file holds, bit for bit; one file, or shards with an index.
loaded, compared = model.state_dict(), 0
index = run / "model.safetensors.index.json"
single = run / "model.safetensors"
files = [single] if single.exists() else [run / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
for file in files:
    with safe_open(file, "pt") as stored:
        same(stored.metadata()["format"], "pt", f"{file}: format")
        for name in stored.keys():
            if not name.startswith(ours):
                if not torch.equal(loaded[name], stored.get_tensor(name).float()):
                    fail(f"tensor {name}: other numbers than in {file}")
                compared += 1
print(f"{run}: {type(model).__name__}, {compared} tensors, {sum(p.numel() for p in model.parameters()):,} parameters")

# ── tokenizer ────────────────────────────────────────────────────────────────────────────────────────────────────────


def captions(count):
    """Captions of the run's data set, where it can still be read; then words of the vocabulary in any order."""
    found = []
    try:
        data = pathlib.Path(json.loads((run / "trainer_state.json").read_text())["settings"]["data"]["path"])
        found = [json.loads(line)["text"] for line in (data / "metadata.jsonl").read_text().splitlines()]
        found = [text for text in found if text]
    except (OSError, KeyError, TypeError, ValueError):
        pass
    trouble.shuffle(found)
    del found[count * 3 // 4 :]
    letters = Tokenizer.from_file(str(run / "tokenizer.json"))
    words = sorted(text for text in (letters.decode([i]).strip() for i in range(letters.get_vocab_size())) if text.isalpha() and text.isascii() and len(text) > 1)
    odd = ["", " ", "  two  spaces ", "don't!", "caf\u00e9, \u732b \U0001f408", "a\n\nb", "12,5 %", "\u00dcber", "A CAT"]
    while len(found) < count - len(odd):
        found.append(" ".join(trouble.choices(words or ["a"], k=trouble.randint(1, 12))))
    return found + odd


texts = captions(200)
tokenizer = AutoTokenizer.from_pretrained(run)
reference = Tokenizer.from_file(str(run / "tokenizer.json"))
reference.no_padding()
reference.no_truncation()
for text in texts:
    ids = reference.encode(text, add_special_tokens=False).ids
    same(tokenizer(text)["input_ids"], ids, f"ids of {text!r}")
    same(tokenizer.decode(ids, skip_special_tokens=True), reference.decode(ids), f"text of the ids of {text!r}")
state = json.loads((run / "config.json").read_text())
special = {token: reference.token_to_id(token) for token in ("<bos>", "<eos>")}
for name, found in [("bos", tokenizer.bos_token_id), ("eos", tokenizer.eos_token_id)]:
    same(found, special[f"<{name}>"], f"{name} of the tokenizer")
same(len(tokenizer), reference.get_vocab_size(), "tokens")
batch = tokenizer(texts, padding=True, return_tensors="pt")
if int(batch["input_ids"].max()) >= config.vocab_size or tokenizer.pad_token_id is None or tokenizer.pad_token_id >= config.vocab_size:
    fail(f"padding: ids up to {int(batch['input_ids'].max())}, <pad> is {tokenizer.pad_token_id}, the model has {config.vocab_size} rows")
for row, mask, text in zip(batch["input_ids"], batch["attention_mask"], texts):
    same(row[mask.bool()].tolist(), reference.encode(text, add_special_tokens=False).ids, f"ids of {text!r} in a batch")
with torch.no_grad():
    if not torch.isfinite(model(**batch).logits[batch["attention_mask"].bool()]).all():
        fail("logits of a padded batch are not finite")
print(f"{type(tokenizer).__name__}: {len(tokenizer)} tokens; {len(texts)} captions have the ids that tokenizer.json gives them, alone and padded")

# ── generate ─────────────────────────────────────────────────────────────────────────────────────────────────────────

same(model.generation_config.eos_token_id, state["eos_token_id"], "generation_config: eos_token_id")
bos, most = special["<bos>"], 12
prompts = [[bos], *([bos, *tokenizer(text)["input_ids"][:3]] for text in texts[:7])]


def ended(ids):
    """What was generated, up to the end."""
    return ids[: ids.index(special["<eos>"]) + 1] if special["<eos>"] in ids else ids


alone = [ended(model.generate(torch.tensor([p]), max_new_tokens=most, do_sample=False)[0, len(p) :].tolist()) for p in prompts]
padded = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
together = model.generate(**padded, max_new_tokens=most, do_sample=False)[:, padded["input_ids"].shape[1] :]
same([ended(row.tolist()) for row in together], alone, "generate in a padded batch")
print(f"generate: {len(prompts)} prompts say the same alone and in a padded batch; {tokenizer.decode(alone[1])!r}")

if arguments.program:
    for prompt, said in zip(prompts[1:], alone[1:]):
        words = tokenizer.decode(prompt[1:]).strip()
        if [bos, *tokenizer(words)["input_ids"]] != prompt:
            continue
        command = [arguments.program, "describe", run, "--prompt", words, "--max-tokens", str(most), "--device", "cpu", "--json"]
        line = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout)
        same([i for i in said if i != special["<eos>"]], line["token_ids"], f"generate after {words!r}, compared with describe")
    print(f"{arguments.program} describe says the same")

# ── there and back ───────────────────────────────────────────────────────────────────────────────────────────────────

with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder)
    same([again(text)["input_ids"] for text in texts], [tokenizer(text)["input_ids"] for text in texts], "ids after save_pretrained")
print("everything fits")
