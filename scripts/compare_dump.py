"""Compares one training step of ours with Hugging Face's Qwen3 and plain PyTorch, in float64.

    trimodal dump RUN DATA --samples 4 --out step.safetensors
    python scripts/compare_dump.py RUN step.safetensors

Builds the embedders from the dump's own inputs, runs `transformers`' Qwen3ForCausalLM on `inputs_embeds` with a 4-D mask
made from `input.visible`, and compares embedded rows, logits, loss and every gradient. Exit code 1 beyond 1e-5 (forward) or
1e-4 (gradients) relative L2. Needs torch, transformers and safetensors; nothing of ours imports it.
"""
import json, os, sys
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3ForCausalLM

run, dump_path = sys.argv[1:3]
if os.path.exists(f"{run}/latest"):  # a run: its newest checkpoint is the model
    run = f"{run}/{open(f'{run}/latest').read().strip()}"
config = json.load(open(f"{run}/config.json"))
weights = {name: tensor.double().requires_grad_() for name, tensor in load_file(f"{run}/model.safetensors").items()}
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


# ── Sound: Whisper's front end ────────────────────────────────────────────────────────────────────────────────────
def slaney(mels, bins=201, rate=16000):
    to_hz = lambda m: torch.where(m < 15, m * 200 / 3, 1000 * torch.exp((m - 15) * torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27))
    top = 15 + 27 * torch.log(torch.tensor(8.0, dtype=torch.float64)) / torch.log(torch.tensor(6.4, dtype=torch.float64))
    edges = to_hz(torch.linspace(0, float(top), mels + 2, dtype=torch.float64))
    hz = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return torch.clamp(torch.minimum((hz - low) / (mid - low), (high - hz) / (high - mid)), min=0) * 2 / (high - low)


fine = True
x = weights["model.embed_tokens.weight"][dump["input.token_id"].long()]
x = x.clone()
if dump["input.waveform"].numel():
    audio = config["audio_config"]
    stft = torch.stft(dump["input.waveform"].double(), 400, 160, window=torch.hann_window(400, dtype=torch.float64), return_complex=True)
    mel = (slaney(audio["num_mel_bins"]) @ stft[..., :-1].abs() ** 2).clamp(min=1e-10).log10()
    mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8)
    mel = (mel + 4) / 4
    fine &= compare("forward", "input.mel", mel.transpose(1, 2), dump["input.mel"])
    y = dump["input.mel"].double().transpose(1, 2)
    for layer in range(1, audio["layers"] + 1):
        y = F.gelu(F.conv1d(y, weights[f"audio_embed.conv{layer}.weight"], weights[f"audio_embed.conv{layer}.bias"], stride=1 if layer == 1 else 2, padding=1))
    x = x.index_put((dump["input.frame_row"].long(),), y.transpose(1, 2).reshape(-1, y.shape[1]))
if dump["input.pixels"].numel():
    vision = config["vision_config"]
    P, G = vision["patch_size"], vision["image_size"] // vision["patch_size"]
    pixels = (dump["input.pixels"].double() / 255 - 0.5) / 0.5
    patches = pixels.reshape(-1, G, P, G, P, 3).permute(0, 1, 3, 2, 4, 5).reshape(-1, G * G, P * P * 3)
    position = weights["vision_position.weight"]
    grid = (position[None, :, 0] + position[:, None, 1]).reshape(G * G, -1)
    rows = F.linear(patches, weights["vision_embed_tokens.weight"], weights["vision_embed_tokens.bias"]) + grid
    x = x.index_put((dump["input.patch_row"].long(),), rows.reshape(-1, rows.shape[-1]))
fine &= compare("forward", "embedded", x, dump["embedded"])

# ── Decoder: Hugging Face's, as it is ─────────────────────────────────────────────────────────────────────────────
keys = {k: v for k, v in config.items() if k not in ("vision_config", "audio_config", "architectures", "model_type", "torch_dtype")}
model = Qwen3ForCausalLM(Qwen3Config(**keys, attn_implementation="eager")).double()
text = {k: v for k, v in weights.items() if k.startswith(("model.", "lm_head."))}
missing, unexpected = model.load_state_dict({k: v.detach() for k, v in text.items()}, strict=False)
missing = [m for m in missing if m != "lm_head.weight" or not config["tie_word_embeddings"]]
assert not missing and not unexpected, (missing, unexpected)
n = x.shape[0]
visible = dump["input.visible"].long()
column = torch.arange(n)
mask = (column[None] >= visible[:, :1]) & (column[None] < visible[:, 1:])
mask = torch.zeros(n, n, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)[None, None]
logits = model(inputs_embeds=x[None], attention_mask=mask, position_ids=dump["input.position"].long()[None]).logits[0]
loss = F.cross_entropy(logits, dump["input.target"].long(), ignore_index=-1)
fine &= compare("forward", "logits", logits, dump["logits"])
fine &= compare("forward", "loss", loss.reshape(1), dump["loss"])
loss.backward()
for name, parameter in model.named_parameters():
    text_gradient = parameter.grad
    if name == "model.embed_tokens.weight" and weights[name].grad is not None:
        text_gradient = text_gradient + weights[name].grad  # the lookup, which went around the module
    fine &= compare("gradient", f"grad.{name}", text_gradient, dump[f"grad.{name}"])
for name, tensor in weights.items():
    if not name.startswith(("model.", "lm_head.")):
        fine &= compare("gradient", f"grad.{name}", tensor.grad, dump[f"grad.{name}"])
count = sum(name.startswith("grad.") for name in dump)
print(f"{n} rows, {count} gradients: worst relative error {worst['forward']:.1e} forward, {worst['gradient']:.1e} gradients: {'agrees' if fine else 'DISAGREES'}")
sys.exit(0 if fine else 1)
