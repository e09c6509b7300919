"""The whole model in PyTorch and transformers, in float64: what golden.py makes fixtures with and compare_dump.py compares with.

Nothing here shares code with the crate: the decoder is transformers' Qwen3ForCausalLM, the patches go through one linear map as
Fuyu's do, the sound stem is torch's conv1d, the spectrogram torch.stft.
"""

import torch
import torch.nn.functional as F
from transformers import Qwen3Config, Qwen3ForCausalLM

NOT_QWEN3 = ("vision_config", "audio_config", "architectures", "model_type", "torch_dtype")


def qwen3(config):
    """transformers' decoder of a config.json, in float64, with random weights."""
    keys = {key: value for key, value in config.items() if key not in NOT_QWEN3}
    return Qwen3ForCausalLM(Qwen3Config(**keys, attn_implementation="eager")).double()


def mask(visible):
    """What is added to attention's logits: row i sees rows visible[i, 0] to visible[i, 1] − 1."""
    column = torch.arange(len(visible))
    seen = (column[None] >= visible[:, :1]) & (column[None] < visible[:, 1:])
    return torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, torch.finfo(torch.float64).min)[None, None]


def patchify(pixels, patch):
    """[images, H, W, C] → [images, patches, P · P · C], each patch flattened (row, column, channel)."""
    images, height, width, channels = pixels.shape
    split = pixels.reshape(images, height // patch, patch, width // patch, patch, channels)
    return split.permute(0, 1, 3, 2, 4, 5).reshape(images, -1, patch * patch * channels)


def patch_rows(config, weights, pixels):
    """The rows of pictures [images, side, side, 3] in 0 … 255."""
    vision = config["vision_config"]
    across = vision["image_size"] // vision["patch_size"]
    patches = patchify((pixels.double() / 255 - 0.5) / 0.5, vision["patch_size"])
    position = weights["vision_position.weight"]
    place = (position[None, :across, 0] + position[:across, None, 1]).reshape(across * across, -1)
    rows = F.linear(patches, weights["vision_embed_tokens.weight"], weights["vision_embed_tokens.bias"]) + place
    return rows.reshape(-1, rows.shape[-1])


def frame_rows(config, weights, mel):
    """The rows of sounds [clips, frames, mels]."""
    y = mel.double().transpose(1, 2)
    for layer in range(1, config["audio_config"]["layers"] + 1):
        weight, bias = weights[f"audio_embed.conv{layer}.weight"], weights[f"audio_embed.conv{layer}.bias"]
        y = F.gelu(F.conv1d(y, weight, bias, stride=1 if layer == 1 else 2, padding=1))
    return y.transpose(1, 2).reshape(-1, y.shape[1])


def forward(config, model, weights, table, batch):
    """Token matrix, logits and loss of a packed batch: ids, position, visible, target, pixels, patch_row, mel, frame_row.

    `table` is the embedding that ids are looked up in, `weights` hold the embedders of pictures and sounds."""
    x = table[batch["token_id"]].clone()
    if len(batch["pixels"]):
        x = x.index_put((batch["patch_row"],), patch_rows(config, weights, batch["pixels"]))
    if len(batch["mel"]):
        x = x.index_put((batch["frame_row"],), frame_rows(config, weights, batch["mel"]))
    logits = model(inputs_embeds=x[None], attention_mask=mask(batch["visible"]), position_ids=batch["position"][None]).logits[0]
    return x, logits, F.cross_entropy(logits, batch["target"], ignore_index=-1)


def log_mel(waveform, bank):
    """Whisper's front end: [clips, samples] and a mel bank [mels, 201] → [clips, frames, mels]."""
    window = torch.hann_window(400, periodic=True, dtype=torch.float64)
    stft = torch.stft(waveform.double(), 400, 160, window=window, center=True, pad_mode="reflect", return_complex=True)
    spectrogram = torch.clamp(bank @ stft[..., :-1].abs() ** 2, min=1e-10).log10()
    spectrogram = torch.maximum(spectrogram, spectrogram.amax(dim=(1, 2), keepdim=True) - 8)
    return ((spectrogram + 4) / 4).transpose(1, 2)
