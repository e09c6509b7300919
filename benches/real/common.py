"""What the baselines and bars share: the pictures and sounds of a set as arrays, and our `light` augmentation in numpy."""
import json
from pathlib import Path

import numpy as np

SIDE = 48  # pixels, the demo preset's


# ── Data ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(folder):
    """Rows of a set, and an array of their splits."""
    rows = [json.loads(line) for line in (Path(folder) / "metadata.jsonl").read_text(encoding="utf8").splitlines()]
    return rows, np.array([row["split"] for row in rows])


def pictures(folder, files):
    """`[n, 48, 48, 4]` in 0 … 1: red, green and blue over white, and transparency. What is not square gets transparent bars."""
    from PIL import Image

    read = {}
    for file in dict.fromkeys(files):
        image = Image.open(Path(folder) / file).convert("RGBA")
        side = max(image.size)
        square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        values = np.asarray(square, np.float32) / 255
        alpha = values[..., 3:]
        over = np.concatenate([values[..., :3] * alpha + 1 - alpha, 1 - alpha], -1)
        channels = [np.asarray(Image.fromarray(over[..., c]).resize((SIDE, SIDE), Image.BOX)) for c in range(4)]
        read[file] = np.stack(channels, -1)
    return np.stack([read[file] for file in files])


def mels(folder, files, seconds):
    """`[n, frames, 40]`: log-mel frames of the first `seconds`, by Whisper's front end; 100 a second."""
    import soundfile
    from scipy.signal import resample_poly

    rate, size, hop, bands = 16_000, 400, 160, 40
    # The Slaney scale: linear below 1 kHz, logarithmic above.
    to_mel = lambda f: np.where(f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1) / 1000) / np.log(6.4))
    to_hz = lambda m: np.where(m < 15, 200 * m / 3, 1000 * np.exp((m - 15) * np.log(6.4) / 27))
    edges = to_hz(np.linspace(0, to_mel(np.float64(rate / 2)), bands + 2))
    bins = np.linspace(0, rate / 2, size // 2 + 1)
    rising, falling = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None], (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    bank = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    window = np.hanning(size + 1)[:-1]
    all_frames = []
    for file in files:
        wave, found = soundfile.read(Path(folder) / file, dtype="float64", always_2d=True)
        wave = wave[: int((seconds + 0.1) * found)].mean(1)
        shared = np.gcd(rate, found)
        wave = resample_poly(wave, rate // shared, found // shared)
        wave = np.pad(wave, (0, max(0, int(seconds * rate) - len(wave))))[: int(seconds * rate)]
        wave = np.pad(wave, size // 2, mode="reflect")
        spectrum = np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(wave, size)[::hop][:-1] * window)) ** 2
        values = np.log10(np.maximum(spectrum @ bank.T, 1e-10))
        all_frames.append((np.maximum(values, values.max() - 8) + 4) / 4)
    return np.array(all_frames, np.float32)


def white(pictures):
    """Over white, as one row each."""
    return np.ascontiguousarray(pictures[..., :3]).reshape(len(pictures), -1)


# ── Augmentation: what `augment = "light"` does (crates/trimodal-data/src/augment), drawn from another generator ────────


LIGHT = dict(shift=0.075, scale=0.11, aspect=0.06, rotation=0.11, flip=0.5, background=0.5, brightness=0.1, contrast=0.18, saturation=0.3, hue=0.18, erase=0.2, erase_size=0.4)
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
SIDES = ("left", "right")


def names_a_side(text):
    return any(side in text.replace("-", " ").split() or f"{side}wards" in text for side in SIDES)


def light(pictures, random, mirrors=None, strengths=LIGHT):
    """`[n, side, side, 4]` as one visit sees each: `[n, side, side, 3]` in 0 … 1. `mirrors` says which may be mirrored."""
    s, (n, side) = strengths, pictures.shape[:2]
    within = lambda most, *more: random.uniform(-most, most, (n, *more)).astype(np.float32)
    happens = lambda share: random.random(n) < share
    factor, aspect, angle, shift = np.exp(within(s["scale"])), np.exp(within(s["aspect"]) / 2), within(s["rotation"]), within(s["shift"], 2)
    mirror = np.where(happens(s["flip"]) & (True if mirrors is None else mirrors), -1, 1)
    x, y = mirror / (factor * aspect), aspect / factor
    matrix = np.stack([np.stack([x * np.cos(angle), x * np.sin(angle)], -1), np.stack([-y * np.sin(angle), y * np.cos(angle)], -1)], 1)
    # From the middle of each pixel to where it is read, both from the picture's middle.
    middles = (np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="xy"), -1).reshape(-1, 2) + 0.5 - side / 2).astype(np.float32)
    at = np.einsum("nij,pj->npi", matrix, middles) - (matrix @ shift[..., None])[:, None, :, 0] * side + side / 2 + 0.5
    # What is around a picture is white and wholly transparent; opaque ones repeat their edge (ours are mirrored at it).
    around = np.ones((n, side + 2, side + 2, 4), np.float32)
    around[:, 1:-1, 1:-1] = pictures
    opaque = pictures[..., 3].reshape(n, -1).max(1) == 0
    around[opaque] = np.pad(pictures[opaque], ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    at = np.clip(at, 0, side + 1 - 1e-3)
    corner = at.astype(np.int32)
    part = (at - corner).astype(np.float32)
    place = (np.arange(n)[:, None] * (side + 2) + corner[..., 1]) * (side + 2) + corner[..., 0]
    flat = around.reshape(-1, 4)
    u, v = part[..., :1], part[..., 1:]
    upper, lower = flat[place] * (1 - u) + flat[place + 1] * u, flat[place + side + 2] * (1 - u) + flat[place + side + 3] * u
    seen = upper * (1 - v) + lower * v
    behind = np.where(happens(s["background"])[:, None], random.random((n, 3)), 1).astype(np.float32)
    rgb = seen[..., :3] + seen[..., 3:] * (behind[:, None] - 1)
    contrast, brightness, saturation, hue = np.exp(within(s["contrast"])), within(s["brightness"]), np.exp(within(s["saturation"])), within(s["hue"])
    turn = np.zeros((n, 3, 3))
    turn[:, 0, 0], turn[:, 1, 1], turn[:, 2, 2] = 1, saturation * np.cos(hue), saturation * np.cos(hue)
    turn[:, 1, 2], turn[:, 2, 1] = -saturation * np.sin(hue), saturation * np.sin(hue)
    colours = (np.linalg.inv(YIQ) @ turn @ YIQ * contrast[:, None, None]).astype(np.float32)
    rgb = rgb @ colours.transpose(0, 2, 1) + (0.5 - 0.5 * contrast + brightness)[:, None, None]
    rgb = rgb.clip(0, 1).reshape(n, side, side, 3)
    for i in np.flatnonzero(happens(s["erase"])):
        width, height = (max(1, round(side * s["erase_size"] * random.uniform(0.375, 1))) for _ in range(2))
        left, top = random.integers(side - width + 1), random.integers(side - height + 1)
        rgb[i, top : top + height, left : left + width] = random.random(3)
    return rgb
