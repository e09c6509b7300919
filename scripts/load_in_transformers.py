#!/usr/bin/env python3
"""Shows that transformers opens what trimodal saves: config, weights and tokenizer, as they are.

    python scripts/load_in_transformers.py RUN        (torch, transformers, safetensors)

RUN is a run or a model folder. AutoModelForCausalLM must find every tensor of its Qwen3, and leave over nothing but the embedders of pictures
and sounds; the tokenizer must encode and decode; the decoder must run. Exit code 1 where something does not fit.
"""

import json
import pathlib
import sys

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

run = pathlib.Path(sys.argv[1])
if (run / "latest").exists():  # a run: its newest checkpoint is the model
    run = run / (run / "latest").read_text().strip()
ours = ("vision_embed_tokens.", "vision_position.", "audio_embed.")

config = AutoConfig.from_pretrained(run)
assert config.model_type == "qwen3", config.model_type
model, info = AutoModelForCausalLM.from_pretrained(run, dtype=torch.float32, output_loading_info=True)
missing, mismatched = set(info["missing_keys"]), info["mismatched_keys"]
unexpected = {name for name in info["unexpected_keys"] if not name.startswith(ours)}
if missing or mismatched or unexpected:
    sys.exit(f"does not fit: missing {missing}, of another shape {mismatched}, unexpected {unexpected}")

# What was loaded is what the file holds, bit for bit.
loaded, compared = model.state_dict(), 0
with safe_open(run / "model.safetensors", "pt") as stored:
    assert stored.metadata()["format"] == "pt"
    for name in stored.keys():
        if not name.startswith(ours):
            assert torch.equal(loaded[name], stored.get_tensor(name).float()), name
            compared += 1

lines = [f"{run}: {type(model).__name__}, {compared} tensors, {sum(p.numel() for p in model.parameters()):,} parameters"]
ids = torch.tensor([[0, 1, 2]])
if (run / "tokenizer.json").exists():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(run / "tokenizer.json"))
    words = [token for token in tokenizer.get_vocab() if token.startswith("Ġ") and len(token) > 3][:5]
    text = " ".join(word[1:] for word in sorted(words))
    encoded = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(encoded).strip() == text, (text, tokenizer.decode(encoded))
    ids = torch.tensor([[json.loads((run / "config.json").read_text()).get("bos_token_id") or 0, *encoded]])
    lines.append(f"tokenizer: {len(tokenizer)} tokens, {text!r} is {encoded} and back")
with torch.no_grad():
    logits = model(ids).logits
assert logits.shape == (1, ids.shape[1], config.vocab_size) and torch.isfinite(logits).all()
made = model.generate(ids, max_new_tokens=5, do_sample=False)
lines.append(f"logits {list(logits.shape)}, finite; generate() continues with {made[0, ids.shape[1]:].tolist()}")
print("\n".join(lines))
