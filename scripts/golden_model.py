"""Writes tests/golden/model/: a tiny model with random weights and one training step of it in float64, by Hugging Face's
Qwen3ForCausalLM and plain PyTorch. tests/golden_model.rs compares ours with it; nothing runs this script.

    python scripts/golden_model.py [tied|untied]      (torch, transformers, safetensors)
"""
import json, os, sys
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

for tied in (True, False):
    torch.manual_seed(20 + tied)
    D, H, KV, HD, FFN, V, L = 20, 4, 2, 6, 28, 31, 2  # GQA, and head_dim is not D / H
    config = dict(
        architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_size=D, intermediate_size=FFN, num_hidden_layers=L,
        num_attention_heads=H, num_key_value_heads=KV, head_dim=HD, vocab_size=V, max_position_embeddings=64, rms_norm_eps=1e-6,
        rope_theta=10000.0, tie_word_embeddings=tied, hidden_act="silu", attention_bias=False, use_sliding_window=False,
        attention_dropout=0.0, torch_dtype="float32",
        vision_config=dict(image_size=12, patch_size=4, bidirectional=True),
        audio_config=dict(num_mel_bins=5, sample_rate=16000, clip_seconds=0.1, layers=3),
    )
    G, P, M, FRAMES, AUDIO_ROWS = 3, 4, 5, 10, 3
    keys = {k: v for k, v in config.items() if k not in ("vision_config", "audio_config", "architectures", "model_type", "torch_dtype")}
    model = Qwen3ForCausalLM(Qwen3Config(**keys, attn_implementation="eager")).double()
    for name, parameter in model.named_parameters():  # f32 numbers in f64, far from their defaults
        parameter.data = ((1 + 0.3 * torch.randn(parameter.shape)) if parameter.dim() == 1 else 0.3 * torch.randn(parameter.shape)).double()
    embed = {
        "vision_embed_tokens.weight": 0.1 * torch.randn(D, P * P * 3), "vision_embed_tokens.bias": 0.1 * torch.randn(D),
        "vision_position.weight": 0.2 * torch.randn(G, 2, D),
        **{f"audio_embed.conv{i}.weight": 0.3 * torch.randn(D, M if i == 1 else D, 3) for i in (1, 2, 3)},
        **{f"audio_embed.conv{i}.bias": 0.1 * torch.randn(D) for i in (1, 2, 3)},
    }
    embed = {k: v.double().requires_grad_() for k, v in embed.items()}

    # Samples: (picture, sound, words); rows <bos=0> patches frames words, every word learned.
    samples = [(True, True, [5, 9, 11]), (True, False, [7, 30]), (False, True, [12, 6, 6, 8]), (False, False, [3, 4])]
    ids, position, visible, target, patch_row, frame_row = [], [], [], [], [], []
    for picture, sound, words in samples:
        start = len(ids)
        rows = [0] + [1] * (G * G * picture) + [2] * (AUDIO_ROWS * sound) + words
        end_picture = start + 1 + G * G * picture
        for i, token in enumerate(rows):
            here = start + i
            ids.append(token)
            position.append(i)
            visible.append([start, end_picture if token == 1 else here + 1])
            text = len(rows) - len(words)
            target.append(rows[i + 1] if text - 1 <= i < len(rows) - 1 else -1)
            (patch_row if token == 1 else frame_row if token == 2 else []).append(here)
    images, clips = sum(s[0] for s in samples), sum(s[1] for s in samples)
    pixels = torch.randint(0, 256, (images, 12, 12, 3), dtype=torch.uint8)
    mel = torch.randn(clips, FRAMES, M)

    x = model.model.embed_tokens(torch.tensor(ids))
    patches = ((pixels.double() / 255 - 0.5) / 0.5).reshape(-1, G, P, G, P, 3).permute(0, 1, 3, 2, 4, 5).reshape(-1, G * G, P * P * 3)
    grid = embed["vision_position.weight"]
    grid = (grid[None, :, 0] + grid[:, None, 1]).reshape(G * G, D)
    rows = F.linear(patches, embed["vision_embed_tokens.weight"], embed["vision_embed_tokens.bias"]) + grid
    y = mel.double().transpose(1, 2)
    for i in (1, 2, 3):
        y = F.gelu(F.conv1d(y, embed[f"audio_embed.conv{i}.weight"], embed[f"audio_embed.conv{i}.bias"], stride=1 if i == 1 else 2, padding=1))
    x = x.index_put((torch.tensor(patch_row),), rows.reshape(-1, D)).index_put((torch.tensor(frame_row),), y.transpose(1, 2).reshape(-1, D))
    n, v, column = len(ids), torch.tensor(visible), torch.arange(len(ids))
    seen = (column[None] >= v[:, :1]) & (column[None] < v[:, 1:])
    mask = torch.zeros(n, n, dtype=torch.float64).masked_fill(~seen, torch.finfo(torch.float64).min)[None, None]
    logits = model(inputs_embeds=x[None], attention_mask=mask, position_ids=torch.tensor(position)[None]).logits[0]
    loss = F.cross_entropy(logits, torch.tensor(target), ignore_index=-1)
    loss.backward()

    parameters = {**dict(model.named_parameters()), **embed}
    folder = f"tests/golden/model_{'tied' if tied else 'untied'}"
    os.makedirs(folder, exist_ok=True)
    json.dump(config, open(f"{folder}/config.json", "w"), indent=2)
    save_file({k: p.detach().float().contiguous() for k, p in parameters.items()}, f"{folder}/model.safetensors", {"format": "pt"})
    save_file({
        "input.pixels": pixels, "input.mel": mel, "embedded": x.detach(), "logits": logits.detach(), "loss": loss.detach().reshape(1),
        **{f"grad.{k}": p.grad.contiguous() for k, p in parameters.items()},
    }, f"{folder}/step.safetensors", {"format": "pt"})
    print(folder, n, "rows, loss", loss.item())
