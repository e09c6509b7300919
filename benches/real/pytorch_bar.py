"""What a small PyTorch model of the same size and time gets right on the pictures of scripts/real-data: the bar beside our own model.

    python3 -m venv /tmp/real && /tmp/real/bin/pip install numpy pillow torch
    /tmp/real/bin/python benches/real/pytorch_bar.py real --set emoji-without-facebook --model cnn [--seed 0] [--seconds 1200]

Two classifiers of about 1.8 million parameters that choose one of the captions of the training split (for stamps, one of the categories): `cnn`, seven convolutions of 3 × 3 with batch
normalisation and residuals (He et al. 2015), and `vit`, a vision transformer of 36 patches (Dosovitskiy et al. 2020). 48 pixels, our `light` augmentation,
AdamW, one cosine over --seconds of CPU time (default 1,200: ten minutes of two cores), augmentation included. The model after the last step counts; nothing is chosen on
the test. Writes benches/real/results/MODEL-SET-SEED.json.
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from common import SIDE, light, names_a_side, pictures, read
from results import EMOJI, TESTS, save


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = F.relu(self.norm(self.convolution(x)))
        return x + y if self.residual else y


def cnn(classes, width=(64, 128, 240)):
    a, b, c = width
    convolutions = [Block(3, a, 2), Block(a, a), Block(a, b, 2), Block(b, b), Block(b, c, 2), Block(c, c), Block(c, c)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(c, classes))


class Vit(nn.Module):
    def __init__(self, classes, width=160, layers=5, heads=5, patch=8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.places = nn.Parameter(torch.randn(1, (SIDE // patch) ** 2, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.layers(x).mean(1))


NAMES = {"cnn": "a small CNN", "vit": "a small ViT"}
MODELS = {"cnn": (cnn, 3e-3), "vit": (Vit, 1e-3)}  # with their highest learning rate


def tensor(pixels):
    """`[n, 48, 48, 3]` in 0 … 1 to `[n, 3, 48, 48]` in −1 … 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).permute(0, 3, 1, 2).mul(2).sub(1).contiguous(memory_format=torch.channels_last)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, help="what scripts/real-data built")
    parser.add_argument("--set", choices=[*EMOJI, "stamps"], default=EMOJI[0])
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1200, help="of CPU time, all threads together [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, help="the highest learning rate [default: the model's]")
    parser.add_argument("--try", dest="dry", action="store_true", help="write no result")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    random = np.random.default_rng(arguments.seed)

    rows, split = read(arguments.dir / arguments.set)
    seen = pictures(arguments.dir / arguments.set, [row.get("file_name") or row["image"] for row in rows])
    texts = [row["text"] for row in rows]
    answers = texts if arguments.set in EMOJI else [row["attributes"]["category"] for row in rows]
    captions = sorted(set(answers))
    categories = [row["attributes"]["category"] for row in rows]
    kinds = sorted(set(categories))
    truth = torch.tensor([captions.index(answer) for answer in answers])
    kind = torch.tensor([kinds.index(category) for category in categories])
    kind_of = torch.zeros(len(captions), dtype=torch.long)
    kind_of[truth] = kind
    train = np.flatnonzero(split == "train")
    mirrors = np.array([not names_a_side(text) for text in texts])

    build, rate = MODELS[arguments.model]
    rate = arguments.rate or rate
    model = build(len(captions)).to(memory_format=torch.channels_last)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.98))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{arguments.model}: {parameters:,} parameters; {len(train)} pictures to train on, {len(rows) - len(train)} to ask about", flush=True)

    @torch.no_grad()
    def right(indices):
        model.eval()
        said = torch.cat([model(tensor(seen[part][..., :3])).argmax(1) for part in np.array_split(indices, max(1, len(indices) // 128))])
        model.train()
        exact, category = ((of == true[indices]).double().mean().item() for of, true in ((said, truth), (kind_of[said], kind)))
        return {**({"exact": round(exact, 4)} if arguments.set in EMOJI else {}), "category": round(category, 4)}

    began, wall, steps, order, told = time.process_time(), time.monotonic(), 0, np.array([], int), 0.0
    while (share := (time.process_time() - began) / arguments.seconds) < 1:
        if len(order) < arguments.batch:
            order = random.permutation(train)
        batch, order = order[: arguments.batch], order[arguments.batch :]
        for group in optimizer.param_groups:  # a warm-up of 4 % of the time, then half a cosine
            group["lr"] = rate * min(1, (share + 1e-4) / 0.04) * 0.5 * (1 + math.cos(math.pi * max(0, share - 0.04) / 0.96))
        loss = F.cross_entropy(model(tensor(light(seen[batch], random, mirrors[batch]))), truth[batch], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        if share - told >= 0.1:
            told = share
            print(f"{100 * share:3.0f} %  {steps} steps  loss {loss.item():.3f}", flush=True)
    seconds, wall = time.process_time() - began, time.monotonic() - wall
    scores = {name: right(np.flatnonzero(split == name)) for name in [*TESTS[arguments.set], "train"]}
    print(f"{steps} steps, {steps * arguments.batch:,} pictures, {seconds:.0f} CPU-seconds: {scores}")
    if not arguments.dry:
        save(
            f"{arguments.model}-{arguments.set}-{arguments.seed}",
            what=f"pytorch {arguments.model}",
            set=arguments.set,
            seed=arguments.seed,
            parameters=parameters,
            steps=steps,
            pictures=steps * arguments.batch,
            cpu_seconds=round(seconds, 1),
            wall_seconds=round(wall, 1),
            torch=torch.__version__,
            command=f"python benches/real/pytorch_bar.py real --set {arguments.set} --model {arguments.model} --seed {arguments.seed} --seconds {arguments.seconds:g}",
            rows=[{"method": f"PyTorch: {NAMES[arguments.model]}", "split": name, "scores": of} for name, of in scores.items()],
        )


if __name__ == "__main__":
    main()
