#!/usr/bin/env python3
"""Makes tests/golden/{log_mel_80,log_mel_40,conv_stem,patch_embed}.safetensors from PyTorch in float64.

Inputs are stored in the type in which they are exact (f32, i16, u8), results in f64. Nothing here shares code with the
crate: the spectrogram is torch.stft with transformers' own mel bank (and agrees with WhisperFeatureExtractor), the stem is
torch.nn.functional.conv1d with channels first, the patch embedding is a strided conv2d.

    python scripts/golden_frontend.py        (torch, transformers, safetensors, numpy)
"""

import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
METADATA = {"made_by": "scripts/golden_frontend.py", "torch": torch.__version__}
generator = torch.Generator().manual_seed(2026)


def normal(*shape, deviation=1.0):
    """Normals that f32 holds exactly."""
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * deviation).float().double()


def save(name, **tensors):
    path = FOLDER / f"{name}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, path, metadata=METADATA)
    size = path.stat().st_size
    assert size <= 100_000, f"{path}: {size} bytes"
    print(f"{path}: {size} bytes")


def sounds(samples):
    """A falling chirp with harmonics and an envelope; a soft hum with a click and silence behind it. As 16-bit samples."""
    t = torch.arange(samples, dtype=torch.float64) / 16_000
    phase = 2 * math.pi * (900 * t - 700 * t**2)
    chirp = sum(torch.sin(k * phase) / k**1.5 for k in (1, 2, 3, 5)) * torch.exp(-3 * t) * torch.clamp(40 * t, max=1)
    hum = 0.2 * torch.sin(2 * math.pi * 220 * t) * (t < 0.2)
    hum[1000:1010] += 0.7
    noise = torch.randn(2, samples, generator=generator, dtype=torch.float64)
    both = 0.5 * torch.stack([chirp, hum]) + noise * torch.tensor([[3e-3], [1e-4]])
    return torch.clamp(torch.round(both * 32_768), -32_768, 32_767).to(torch.int16)


def log_mel(waveform, mels):
    """WhisperFeatureExtractor in float64."""
    window = torch.hann_window(400, periodic=True, dtype=torch.float64)
    stft = torch.stft(waveform, 400, 160, window=window, center=True, pad_mode="reflect", return_complex=True)
    power = stft[..., :-1].abs() ** 2
    bank = torch.from_numpy(mel_filter_bank(201, mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney"))
    spectrogram = torch.clamp(bank.T @ power, min=1e-10).log10()
    largest = spectrogram.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(spectrogram, largest - 8.0) + 4.0) / 4.0


def golden_log_mel():
    samples = 8_070  # not a whole number of hops
    stored = sounds(samples)
    waveform = stored.double() / 32_768
    for mels in (80, 40):
        mel = log_mel(waveform, mels)
        extractor = WhisperFeatureExtractor(feature_size=mels, sampling_rate=16_000, hop_length=160, n_fft=400, chunk_length=30)
        for ours, sound in zip(mel, waveform):
            whisper = extractor._np_extract_fbank_features(sound.numpy()[None], "cpu")[0]
            assert np.abs(whisper - ours.numpy()).max() < 1e-5, np.abs(whisper - ours.numpy()).max()
        save(f"log_mel_{mels}", waveform=stored, mel=mel.transpose(1, 2))


def golden_conv_stem():
    clips, frames, mels, width = 3, 22, 10, 14
    given = {
        "x": normal(clips, frames, mels),
        "conv1.weight": normal(width, mels, 3, deviation=0.3),
        "conv1.bias": normal(width, deviation=0.2),
        "conv2.weight": normal(width, width, 3, deviation=0.3),
        "conv2.bias": normal(width, deviation=0.2),
        "conv3.weight": normal(width, width, 3, deviation=0.3),
        "conv3.bias": normal(width, deviation=0.2),
    }
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    h = leaves["x"].transpose(1, 2)
    made = {}
    for layer, stride in ((1, 1), (2, 2), (3, 2)):
        h = F.gelu(F.conv1d(h, leaves[f"conv{layer}.weight"], leaves[f"conv{layer}.bias"], stride=stride, padding=1))
        made[f"y{layer}"] = h.transpose(1, 2)
    dy = normal(*made["y3"].shape)
    made["y3"].backward(dy)
    gradients = {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
    save("conv_stem", **{name: value.float() for name, value in given.items()}, dy=dy.float(), **made, **gradients)


def golden_patch_embed():
    images, height, width, patch, depth, rows = 2, 24, 16, 8, 10, 20
    pixels = torch.randint(0, 256, (images, height, width, 3), generator=generator, dtype=torch.uint8)
    given = {
        "weight": normal(depth, patch * patch * 3, deviation=0.1),
        "bias": normal(depth, deviation=0.2),
        "position": normal(4, 2, depth, deviation=0.2),
    }
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    leaves["pixels"] = pixels.double().requires_grad_()
    # Fuyu's linear map over patches flattened (row, column, channel), as a convolution.
    kernel = leaves["weight"].view(depth, patch, patch, 3).permute(0, 3, 1, 2)
    x = (leaves["pixels"] / 255 - 0.5) / 0.5
    embedded = F.conv2d(x.permute(0, 3, 1, 2), kernel, leaves["bias"], stride=patch)  # [images, D, down, across]
    down, across = embedded.shape[2:]
    place = leaves["position"][None, :across, 0] + leaves["position"][:down, None, 1]  # [down, across, D]
    embedded = (embedded.permute(0, 2, 3, 1) + place).reshape(-1, depth)
    row = torch.randperm(rows, generator=generator)[: len(embedded)].int()
    row[4] = -1
    used = row >= 0
    y = torch.zeros(rows, depth, dtype=torch.float64).index_copy(0, row[used].long(), embedded[used])
    dy = normal(rows, depth)
    y.backward(dy)
    gradients = {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
    inputs = {name: value.float() for name, value in given.items()}
    save("patch_embed", pixels=pixels, row=row, **inputs, dy=dy.float(), y=y, **gradients)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    golden_log_mel()
    golden_conv_stem()
    golden_patch_embed()
