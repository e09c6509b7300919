#!/usr/bin/env python3
"""Makes everything under tests/golden/ from PyTorch and transformers, in float64. The tests read the files and never run this.

    log_mel_80, log_mel_40   Whisper's front end on 16-bit waveforms; agrees with WhisperFeatureExtractor
    conv_stem                Whisper's convolution stem, forward and backward
    conv_eye                 3 × 3 convolutions with GELU over channels-last pixels, strides 1 and 2, forward and backward
    patch_embed              Fuyu's patch embedding (agrees with FuyuImageProcessorPil's patches) with positions, forward and backward
    histograms               local histograms of colours and edges in several grids, of pictures of noise, areas, ramps and one colour
    model_tied, model_untied a Qwen3 with GQA and head_dim ≠ D / H, a picture and a sound embedder, random weights:
                             config.json, model.safetensors, one step with every gradient, ten steps of torch's AdamW
    model_stem               a narrower one with a convolutional stem for pictures: one step with every gradient, and the word-bag loss
                             with the gradients of caption loss + 0.75 · word-bag loss that differ
    model_histograms         a narrower one yet: a stem that leaves a row of the picture as a whole alone, and histograms that are added
                             to it; one step with every gradient

Inputs are stored in the type in which they are exact (f32, i32, i16, u8), results in f64.

    python scripts/golden.py        (torch, transformers, safetensors, numpy, Pillow)
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank
from transformers.image_utils import SizeDict
from transformers.models.fuyu.image_processing_pil_fuyu import FuyuImageProcessorPil

import reference

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
METADATA = {"format": "pt", "made_by": "scripts/golden.py"}
generator = torch.Generator().manual_seed(2026)


def normal(*shape, deviation=1.0, generator=generator):
    """Normals that f32 holds exactly."""
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * deviation).float().double()


def save(name, **tensors):
    path = FOLDER / f"{name}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, path, metadata=METADATA)
    assert path.stat().st_size < 300_000, f"{path}: {path.stat().st_size} bytes"


def sounds(samples):
    """A falling chirp with harmonics and an envelope; a soft hum with a click and silence after it. As 16-bit samples."""
    t = torch.arange(samples, dtype=torch.float64) / 16_000
    phase = 2 * math.pi * (900 * t - 700 * t**2)
    chirp = sum(torch.sin(k * phase) / k**1.5 for k in (1, 2, 3, 5)) * torch.exp(-3 * t) * torch.clamp(40 * t, max=1)
    hum = 0.2 * torch.sin(2 * math.pi * 220 * t) * (t < 0.2)
    hum[1000:1010] += 0.7
    noise = torch.randn(2, samples, generator=generator, dtype=torch.float64)
    both = 0.5 * torch.stack([chirp, hum]) + noise * torch.tensor([[3e-3], [1e-4]])
    return torch.clamp(torch.round(both * 32_768), -32_768, 32_767).to(torch.int16)


def golden_log_mel():
    stored = sounds(8_070)  # not a whole number of hops
    waveform = stored.double() / 32_768
    for mels in (80, 40):
        bank = torch.from_numpy(mel_filter_bank(201, mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")).T
        mel = reference.log_mel(waveform, bank)
        extractor = WhisperFeatureExtractor(feature_size=mels, sampling_rate=16_000, hop_length=160, n_fft=400, chunk_length=30)
        for ours, sound in zip(mel, waveform):
            whisper = extractor._np_extract_fbank_features(sound.numpy()[None], "cpu")[0]
            assert np.abs(whisper - ours.T.numpy()).max() < 1e-5, np.abs(whisper - ours.T.numpy()).max()
        save(f"log_mel_{mels}", waveform=stored, mel=mel)


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


def golden_conv_eye():
    own = torch.Generator().manual_seed(17)  # what others draw stays as it is
    images, height, width, channels, depth = 2, 7, 6, 3, 5
    given = {
        "x": normal(images, height, width, channels, generator=own),
        "conv1.weight": normal(depth, channels, 3, 3, deviation=0.3, generator=own),
        "conv1.bias": normal(depth, deviation=0.2, generator=own),
        "conv2.weight": normal(depth, depth, 3, 3, deviation=0.3, generator=own),
        "conv2.bias": normal(depth, deviation=0.2, generator=own),
        "conv3.weight": normal(depth, depth, 3, 3, deviation=0.3, generator=own),
        "conv3.bias": normal(depth, deviation=0.2, generator=own),
    }
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    h = leaves["x"].permute(0, 3, 1, 2)
    made = {}
    for layer, stride in ((1, 1), (2, 2), (3, 2)):
        h = F.gelu(F.conv2d(h, leaves[f"conv{layer}.weight"], leaves[f"conv{layer}.bias"], stride=stride, padding=1))
        made[f"y{layer}"] = h.permute(0, 2, 3, 1)
    dy = normal(*made["y3"].shape, generator=own)
    made["y3"].backward(dy)
    gradients = {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
    save("conv_eye", **{name: value.float() for name, value in given.items()}, dy=dy.float(), **made, **gradients)


def fuyu_patches(pixels, patch):
    """The patches of a normalised picture [H, W, 3] as Fuyu's processor cuts them: [patches, 3 · P · P]."""
    patches = FuyuImageProcessorPil().patchify_image(pixels.permute(2, 0, 1).numpy(), SizeDict(height=patch, width=patch))
    return torch.from_numpy(patches)


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
    embedded = embedded.permute(0, 2, 3, 1)
    for picture, ours in zip(x.detach(), embedded.detach()):
        theirs = F.linear(fuyu_patches(picture, patch), given["weight"], given["bias"])
        assert (theirs - ours.reshape(-1, depth)).abs().max() < 1e-12
    place = leaves["position"][None, :across, 0] + leaves["position"][:down, None, 1]  # [down, across, D]
    embedded = (embedded + place).reshape(-1, depth)
    row = torch.randperm(rows, generator=generator)[: len(embedded)].int()
    row[4] = -1
    used = row >= 0
    y = torch.zeros(rows, depth, dtype=torch.float64).index_copy(0, row[used].long(), embedded[used])
    dy = normal(rows, depth)
    y.backward(dy)
    gradients = {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
    inputs = {name: value.float() for name, value in given.items()}
    save("patch_embed", pixels=pixels, row=row, **inputs, dy=dy.float(), y=y, **gradients)


def golden_histograms():
    own = torch.Generator().manual_seed(18)  # what others draw stays as it is
    height, width, grids = 12, 24, [3, 2, 1]
    noise = torch.randint(0, 256, (height, width, 3), generator=own)
    palette = torch.tensor([[255, 255, 255], [250, 128, 5], [0, 90, 127], [128, 0, 255]])
    line, column = torch.arange(height)[:, None], torch.arange(width)[None]
    areas = palette[(line // 5 + column // 7) % 4]
    ramps = torch.stack([line * 21 + 0 * column, column * 11 + 0 * line, (3 * line + 5 * column).clamp(max=255)], -1)
    pixels = torch.stack([noise, areas, ramps, palette[1].expand(height, width, 3)]).to(torch.uint8)
    save("histograms", pixels=pixels, grids=torch.tensor(grids).int(), y=reference.local_histograms(pixels, grids))


# Samples of the batch: (picture, sound, words); rows are <bos> patches frames words, every word is learned.
SAMPLES = [(True, True, [5, 9, 11]), (True, False, [7, 30]), (False, True, [12, 6, 6, 8]), (False, False, [3, 4])]
BOS, IMAGE, AUDIO = 0, 1, 2


def packed(patches, frames, whole):
    """The batch's rows: a picture sees all of itself, everything else what is before it in its sample. `whole`: whether each picture's
    patches are followed by a row of the picture as a whole."""
    rows = {"token_id": [], "position": [], "visible": [], "target": [], "patch_row": [], "frame_row": []} | ({"whole_row": []} if whole else {})
    for picture, sound, words in SAMPLES:
        start = len(rows["token_id"])
        given = [BOS] + [IMAGE] * ((patches + whole) * picture) + [AUDIO] * (frames * sound)
        tokens = given + words
        end_of_picture = start + 1 + (patches + whole) * picture
        for i, token in enumerate(tokens):
            rows["token_id"].append(token)
            rows["position"].append(i)
            rows["visible"].append([start, end_of_picture if token == IMAGE else start + i + 1])
            rows["target"].append(tokens[i + 1] if len(given) - 1 <= i < len(tokens) - 1 else -1)
            if token == IMAGE:
                rows["whole_row" if i == 1 + patches else "patch_row"].append(start + i)
            if token == AUDIO:
                rows["frame_row"].append(start + i)
    return {name: torch.tensor(values) for name, values in rows.items()}


STEPS, WARMUP, PEAK, FLOOR, BETAS, EPS, DECAY, CLIP = 10, 3, 5e-3, 0.1, (0.9, 0.98), 1e-8, 0.1, 1.0


def learning_rate(step):
    """Linear warm-up, then a cosine down to a share of the peak; steps count from 1."""
    if step <= WARMUP:
        return PEAK * step / WARMUP
    return PEAK * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))))


# The eye of model_stem: 6 × 6 patches → 6 × 6 → 3 × 3 → 3 × 3 → 2 × 2 → 2 × 2 places; the first, the third and the last convolution are
# added to what they read.
STEM = {"width": 3, "convolutions": [{"channels": c, "stride": s} for c, s in ((3, 1), (4, 2), (4, 1), (5, 2), (5, 1))]}
BAG = 0.75  # what a word of the word-bag loss weighs beside one of the captions
CONTRAST = 3.0  # and what a sample of the contrastive loss


def stem_weights(stem, width, places):
    """Random weights of the eye, far from where training starts: norms around 1, the others so that no activation is flat."""
    made, before = {}, stem["width"]
    for i, convolution in enumerate(stem["convolutions"], 1):
        after = convolution["channels"]
        made[f"vision_stem.conv{i}.norm"] = 1 + 0.3 * torch.randn(before)
        made[f"vision_stem.conv{i}.weight"] = 0.25 * torch.randn(after, before, 3, 3)
        made[f"vision_stem.conv{i}.bias"] = 0.1 * torch.randn(after)
        before = after
    if stem.get("places", True):
        made["vision_stem.places.norm"], made["vision_stem.places.weight"] = 1 + 0.3 * torch.randn(before), 0.3 * torch.randn(width, before)
    made["vision_stem.whole.norm"], made["vision_stem.whole.weight"] = 1 + 0.3 * torch.randn(before), 0.2 * torch.randn(width, places * before)
    return made


# The eye of model_histograms: 3 × 3 patches → 3 × 3 → 2 × 2 places.
SMALL_STEM = {"width": 3, "convolutions": [{"channels": 3, "stride": 1}, {"channels": 4, "stride": 2}], "places": False}


def golden_model(name, tied, stem=None, histograms=()):
    torch.manual_seed(20 + tied + (20 if stem else 0) + 20 * len(histograms))
    width, vocabulary, side, patch, mels, frames, frame_rows = (12, 31, 12, 2, 5, 10, 3) if stem else (20, 31, 12, 4, 5, 10, 3)
    if histograms:
        width, patch = 8, 4
    across = side // patch  # places along one side
    for convolution in stem["convolutions"] if stem else ():
        across = math.ceil(across / convolution["stride"])
    places = across**2
    config = dict(
        architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_size=width, intermediate_size=16 if stem else 28,
        num_hidden_layers=1 if stem else 2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, vocab_size=vocabulary, max_position_embeddings=64, rms_norm_eps=1e-6,
        rope_theta=10000.0, tie_word_embeddings=tied, hidden_act="silu", attention_bias=False, use_sliding_window=False,
        attention_dropout=0.0, torch_dtype="float32",
        vision_config=dict(image_size=side, patch_size=patch, bidirectional=True)
        | ({"stem": stem} if stem else {}) | ({"histograms": list(histograms)} if histograms else {}),
        audio_config=dict(num_mel_bins=mels, sample_rate=16000, clip_seconds=0.1, layers=3),
    )
    model = reference.qwen3(config)
    for _, parameter in model.named_parameters():  # f32 numbers in f64, far from their defaults
        parameter.data = ((1 + 0.3 * torch.randn(parameter.shape)) if parameter.dim() == 1 else 0.3 * torch.randn(parameter.shape)).double()
    channels = stem["width"] if stem else width
    embedders = {
        "vision_embed_tokens.weight": 0.1 * torch.randn(channels, patch * patch * 3), "vision_embed_tokens.bias": 0.1 * torch.randn(channels),
        "vision_position.weight": 0.2 * torch.randn(side // patch, 2, channels), **(stem_weights(stem, width, places) if stem else {}),
        **{f"audio_embed.conv{i}.weight": 0.3 * torch.randn(width, mels if i == 1 else width, 3) for i in (1, 2, 3)},
        **{f"audio_embed.conv{i}.bias": 0.1 * torch.randn(width) for i in (1, 2, 3)},
    }
    if histograms:
        embedders["vision_histograms.weight"] = 0.1 * torch.randn(width, 36 * sum(grid**2 for grid in histograms))
    embedders = {name: value.double().requires_grad_() for name, value in embedders.items()}
    batch = packed(places if not stem or stem.get("places", True) else 0, frame_rows, whole=bool(stem or histograms))
    batch["pixels"] = torch.randint(0, 256, (sum(s[0] for s in SAMPLES), side, side, 3), dtype=torch.uint8)
    batch["mel"] = torch.randn(sum(s[1] for s in SAMPLES), frames, mels)
    parameters = {**dict(model.named_parameters()), **embedders}

    (FOLDER / name).mkdir(exist_ok=True)
    (FOLDER / name / "config.json").write_text(json.dumps(config, indent=2))
    save(f"{name}/model", **{key: p.float() for key, p in parameters.items()})

    captions = [words for _, words in reference.told(config, model, torch.zeros(len(batch["token_id"]), width).double(), batch)]
    captions = [[9, 7, 9], *captions[1:]]  # the first sample's caption is none of those that are told apart, and one is nobody's

    def step(bag=0.0, contrast=0.0):
        for p in parameters.values():
            p.grad = None
        x, logits, loss = reference.forward(config, model, embedders, model.model.embed_tokens.weight, batch)
        told = bag * reference.word_bag(config, model, x, batch) + contrast * reference.contrast(config, model, x, batch, captions)
        (loss + told).backward()
        return x, logits, loss.detach(), told.detach()

    x, logits, loss, _ = step()
    gradients = {f"grad.{key}": p.grad for key, p in parameters.items()}
    inputs = {"input.pixels": batch["pixels"], "input.mel": batch["mel"]}
    save(f"{name}/step", **inputs, embedded=x, logits=logits, loss=loss.reshape(1), **gradients)
    if histograms:
        print(f"{name}: {len(batch['token_id'])} rows, loss {loss:.4f}")
        return
    if stem:
        for kind, weights in (("word_bag", (BAG, 0.0)), ("contrast", (0.0, CONTRAST))):
            *_, told = step(*weights)
            # It is told from a picture's row as a whole and from a sound's frames, without a layer of the decoder between: the gradients
            # of the layers and of what makes the rows of places stay as they are.
            new = {f"grad.{key}": p.grad for key, p in parameters.items() if not torch.allclose(p.grad, gradients[f"grad.{key}"], rtol=1e-9, atol=0)}
            assert gradients.keys() - new.keys() == {key for key in gradients if ".layers." in key or ".places." in key}
            listed = {"input.captions": torch.tensor(sum(captions, [])).int(), "input.lengths": torch.tensor([len(words) for words in captions]).int()}
            save(f"{name}/{kind}", loss=told.reshape(1), **new, **(listed if kind == "contrast" else {}))
            print(f"{name}: {len(batch['token_id'])} rows, loss {loss:.4f} and {told:.4f} ({kind})")
        return

    matrices, vectors = [p for p in parameters.values() if p.dim() > 1], [p for p in parameters.values() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPS, foreach=False)
    losses, norms = [], []
    for number in range(1, STEPS + 1):
        losses.append(step()[2])
        norms.append(torch.sqrt(sum((p.grad**2).sum() for p in parameters.values())))
        for p in parameters.values():
            p.grad *= min(1.0, CLIP / norms[-1].item())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number)
        optimizer.step()
    save(f"{name}/adamw", losses=torch.stack(losses), norms=torch.stack(norms), **parameters)
    print(f"{name}: {len(batch['token_id'])} rows, loss {losses[0]:.4f} → {losses[-1]:.4f}, gradient norm {norms[0]:.3f} → {norms[-1]:.3f}")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    golden_log_mel()
    golden_conv_stem()
    golden_conv_eye()
    golden_patch_embed()
    golden_histograms()
    golden_model("model_tied", tied=True)
    golden_model("model_untied", tied=False)
    golden_model("model_stem", tied=True, stem=STEM)
    golden_model("model_histograms", tied=True, stem=SMALL_STEM, histograms=(2, 1))
    sizes = {path: path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 1_100_000
    print(f"{len(sizes)} files, {sum(sizes.values()):,} bytes")
