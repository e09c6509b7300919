"""The whole model in PyTorch and transformers, in float64: what golden.py makes fixtures with and compare_dump.py compares with.

Nothing here shares code with the crate: the decoder is transformers' Qwen3ForCausalLM, the patches go through one linear map as
Fuyu's do, the eye's stem is torch's conv2d and rms_norm, the sound stem torch's conv1d, the spectrogram torch.stft, the local histograms
whole tensors under an einsum.
"""

import math

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


def embedded_patches(config, weights, pixels):
    """The embedded patches [images, patches, C] of pictures [images, side, side, 3] in 0 … 255."""
    vision = config["vision_config"]
    across = vision["image_size"] // vision["patch_size"]
    patches = patchify((pixels.double() / 255 - 0.5) / 0.5, vision["patch_size"])
    position = weights["vision_position.weight"]
    place = (position[None, :across, 0] + position[:across, None, 1]).reshape(across * across, -1)
    return F.linear(patches, weights["vision_embed_tokens.weight"], weights["vision_embed_tokens.bias"]) + place


def local_histograms(pixels, grids):
    """What each cell of each grid shows of pictures [images, H, W, 3] in 0 … 255: [images, cells · 36], of a cell 27 bins of colours (red
    slowest), then 9 of directions. See src/ops/local_histogram.rs."""
    v = pixels.double() / 255
    images, height, width, _ = v.shape
    red, green, blue = (1 - 2 * (v[..., None] - torch.tensor([0, 0.5, 1])).abs()).clamp(min=0).unbind(3)
    colors = torch.einsum("...i,...j,...k->...ijk", red, green, blue).flatten(3)
    gx, gy = torch.zeros_like(v), torch.zeros_like(v)
    gx[:, :, 1:-1] = v[:, :, 2:] - v[:, :, :-2]
    gy[:, 1:-1] = v[:, 2:] - v[:, :-2]
    angle = torch.arange(9, dtype=torch.float64) * math.pi / 9
    along = gx[..., None] * angle.cos() + gy[..., None] * angle.sin()
    beside = gy[..., None] * angle.cos() - gx[..., None] * angle.sin()
    votes = (along.abs() - beside.abs() / math.tan(math.pi / 9)).clamp(min=0).sum(3)
    counted = []
    for grid in grids:
        cells = torch.cat([colors, votes], -1).reshape(images, grid, height // grid, grid, width // grid, 36).mean((2, 4))
        energy = cells[..., 27:].square().sum(-1)
        around = F.avg_pool2d(F.pad(energy[:, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
        cells = torch.cat([cells[..., :27], cells[..., 27:] / (4 * around + 1e-4).sqrt()[..., None]], -1)
        counted.append((cells / (cells + 0.01).sqrt()).flatten(1))
    return torch.cat(counted, 1)


def picture_rows(config, weights, pixels):
    """The rows of pictures, [images · places, D], or None where a stem makes none; those of pictures as a whole, [images, D], or None without
    a stem and histograms."""
    rows, whole = places_and_whole(config, weights, pixels)
    grids = config["vision_config"].get("histograms")
    if grids:
        counted = local_histograms(pixels, grids) @ weights["vision_histograms.weight"].T
        whole = counted if whole is None else whole + counted
    return rows, whole


def places_and_whole(config, weights, pixels):
    """The same, of patches and stem alone."""
    x = embedded_patches(config, weights, pixels)
    stem = config["vision_config"].get("stem")
    if stem is None:
        return x.reshape(-1, x.shape[-1]), None
    eps = config["rms_norm_eps"]
    across = math.isqrt(x.shape[1])
    x = x.reshape(len(x), across, across, -1)  # a picture of C channels, channels last
    for layer, convolution in enumerate(stem["convolutions"], 1):
        part = {name: weights[f"vision_stem.conv{layer}.{name}"] for name in ("norm", "weight", "bias")}
        read = F.rms_norm(x, x.shape[-1:], part["norm"], eps).permute(0, 3, 1, 2)
        y = F.gelu(F.conv2d(read, part["weight"], part["bias"], stride=convolution["stride"], padding=1)).permute(0, 2, 3, 1)
        x = x + y if x.shape == y.shape else y
    whole = F.rms_norm(x, x.shape[-1:], weights["vision_stem.whole.norm"], eps).flatten(1) @ weights["vision_stem.whole.weight"].T
    if not stem.get("places", True):
        return None, whole
    rows = F.rms_norm(x, x.shape[-1:], weights["vision_stem.places.norm"], eps) @ weights["vision_stem.places.weight"].T
    return rows.reshape(-1, rows.shape[-1]), whole


def frame_rows(config, weights, mel):
    """The rows of sounds [clips, frames, mels]."""
    y = mel.double().transpose(1, 2)
    for layer in range(1, config["audio_config"]["layers"] + 1):
        weight, bias = weights[f"audio_embed.conv{layer}.weight"], weights[f"audio_embed.conv{layer}.bias"]
        y = F.gelu(F.conv1d(y, weight, bias, stride=1 if layer == 1 else 2, padding=1))
    return y.transpose(1, 2).reshape(-1, y.shape[1])


def forward(config, model, weights, table, batch):
    """Token matrix, logits and loss of a packed batch: ids, position, visible, target, pixels, patch_row, mel, frame_row; whole_row with a stem or
    histograms.

    `table` is the embedding that ids are looked up in, `weights` hold the embedders of pictures and sounds."""
    x = table[batch["token_id"]].clone()
    if len(batch["pixels"]):
        rows, whole = picture_rows(config, weights, batch["pixels"])
        x = x if rows is None else x.index_put((batch["patch_row"],), rows)
        if whole is not None:
            x = x.index_put((batch["whole_row"],), whole)
    if len(batch["mel"]):
        x = x.index_put((batch["frame_row"],), frame_rows(config, weights, batch["mel"]))
    logits = model(inputs_embeds=x[None], attention_mask=mask(batch["visible"]), position_ids=batch["position"][None]).logits[0]
    return x, logits, F.cross_entropy(logits, batch["target"], ignore_index=-1)


def told(config, model, x, batch):
    """Of each sample with a picture or a sound: the logits of all words, told from the sum of the rows that it saw and heard (of a picture the row of
    all of it, where there is one), normalised as the model's last norm does; and its caption's words but the end."""
    position, target = batch["position"].tolist(), batch["target"].tolist()
    starts = [row for row, place in enumerate(position) if place == 0] + [len(position)]
    seen = set((batch["patch_row"] if batch.get("whole_row") is None else batch["whole_row"]).tolist()) | set(batch["frame_row"].tolist())
    for start, end in zip(starts, starts[1:]):
        rows = [row for row in range(start, end) if row in seen]
        words = [target[row] for row in range(start, end - 2) if target[row] >= 0]
        if rows and words:
            normed = F.rms_norm(x[rows].sum(0), x.shape[1:], model.model.norm.weight, config["rms_norm_eps"])
            yield normed @ model.get_output_embeddings().weight.T, words


def counted(batch):
    """The words that count in the captions."""
    return sum(word >= 0 for word in batch["target"].tolist())


def word_bag(config, model, x, batch):
    """An auxiliary loss of training: every word of the caption is told from picture and sound alone; the sum of −log softmax over those words, divided
    by the words that count in the captions."""
    return -sum(torch.log_softmax(logits, 0)[words].sum() for logits, words in told(config, model, x, batch)) / counted(batch)


def contrast(config, model, x, batch, captions, scale=8.0):
    """An auxiliary loss of training: which of some captions is the sample's, told from picture and sound alone. A caption's logit is the mean of its
    words' logits times a scale; the sum of −log softmax over the samples whose caption is there, divided by the words that count in the captions."""
    total = 0
    for logits, words in told(config, model, x, batch):
        if words in captions:
            each = torch.stack([scale * logits[caption].mean() for caption in captions])
            total = total - torch.log_softmax(each, 0)[captions.index(words)]
    return total / counted(batch)


def log_mel(waveform, bank):
    """Whisper's front end: [clips, samples] and a mel bank [mels, 201] → [clips, frames, mels]."""
    window = torch.hann_window(400, periodic=True, dtype=torch.float64)
    stft = torch.stft(waveform.double(), 400, 160, window=window, center=True, pad_mode="reflect", return_complex=True)
    spectrogram = torch.clamp(bank @ stft[..., :-1].abs() ** 2, min=1e-10).log10()
    spectrogram = torch.maximum(spectrogram, spectrogram.amax(dim=(1, 2), keepdim=True) - 8)
    return ((spectrogram + 4) / 4).transpose(1, 2)
