"""Compares one training step of ours with Hugging Face's Qwen3 and plain PyTorch, in float64.

    trimodal dump RUN DATA --samples 4 --out step.safetensors
    python scripts/compare_dump.py RUN step.safetensors

Builds the embedders from the dump's own inputs, runs `transformers`' Qwen3ForCausalLM on `inputs_embeds` with a 4-D mask
made from `input.visible` (scripts/reference.py), and compares mel frames, embedded rows, logits, loss and every gradient. Exit code 1
beyond 1e-5 (forward) or 1e-4 (gradients) relative L2. Needs torch, transformers and safetensors; nothing of ours imports it.
"""
import json, os, sys
import torch
from safetensors.torch import load_file
from transformers.audio_utils import mel_filter_bank

import reference

run, dump_path = sys.argv[1:3]
if os.path.exists(f"{run}/latest"):  # a run: its newest checkpoint is the model
    run = f"{run}/{open(f'{run}/latest').read().strip()}"
config = json.load(open(f"{run}/config.json"))
single, index = f"{run}/model.safetensors", f"{run}/model.safetensors.index.json"
shards = [single] if os.path.exists(single) else [f"{run}/{name}" for name in sorted(set(json.load(open(index))["weight_map"].values()))]
weights = {name: tensor.double().requires_grad_() for shard in shards for name, tensor in load_file(shard).items()}
dump = load_file(dump_path)
worst = {"forward": 0.0, "gradient": 0.0}


def compare(kind, name, expected, found):
    expected, found = expected.detach().double(), found.double().reshape(expected.shape)
    error = ((expected - found).norm() / expected.norm().clamp_min(1e-30)).item()
    limit = 1e-5 if kind == "forward" else 1e-4
    worst[kind] = max(worst[kind], error)
    if not error <= limit:
        print(f"{name}: relative error {error:.2e}, allowed {limit:.0e}")
    return error <= limit


fine = True
if dump["input.waveform"].numel():
    audio = config["audio_config"]
    bank = torch.from_numpy(mel_filter_bank(201, audio["num_mel_bins"], 0.0, 8000.0, audio["sample_rate"], norm="slaney", mel_scale="slaney")).T
    fine &= compare("forward", "input.mel", reference.log_mel(dump["input.waveform"], bank), dump["input.mel"])

# The decoder is Hugging Face's, as it is.
model = reference.qwen3(config)
text = {k: v for k, v in weights.items() if k.startswith(("model.", "lm_head."))}
missing, unexpected = model.load_state_dict({k: v.detach() for k, v in text.items()}, strict=False)
missing = [m for m in missing if m != "lm_head.weight" or not config["tie_word_embeddings"]]
assert not missing and not unexpected, (missing, unexpected)
names = ["token_id", "position", "visible", "target", "pixels", "patch_row", "mel", "frame_row"]
names += ["whole_row"] if "input.whole_row" in dump else []  # a model with a row of each picture as a whole
batch = {name: dump[f"input.{name}"] for name in names}
batch = {name: value if name in ("pixels", "mel") else value.long() for name, value in batch.items()}
x, logits, loss = reference.forward(config, model, weights, model.model.embed_tokens.weight, batch)
fine &= compare("forward", "embedded", x, dump["embedded"])
fine &= compare("forward", "logits", logits, dump["logits"])
fine &= compare("forward", "loss", loss.reshape(1), dump["loss"])
loss.backward()
gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
gradients |= {name: tensor.grad for name, tensor in weights.items() if name not in text}
for name, gradient in gradients.items():
    fine &= compare("gradient", f"grad.{name}", gradient, dump[f"grad.{name}"])
count = sum(name.startswith("grad.") for name in dump)
assert count == len(gradients), (count, len(gradients))
print(f"{len(x)} rows, {count} gradients: worst relative error {worst['forward']:.1e} forward, {worst['gradient']:.1e} gradients: {'agrees' if fine else 'DISAGREES'}")
sys.exit(0 if fine else 1)
