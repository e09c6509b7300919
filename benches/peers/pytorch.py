"""PyTorch on the shapes of a score card: what `trimodal bench --peers` puts beside ours.

    trimodal bench --json card.json
    python benches/peers/pytorch.py card.json > peer.json           on CUDA if there is one, else on the CPU
    trimodal bench --card card.json --peers peer.json

The shapes are read from the card's rows, so that both measure the same; the answer is a card as well (docs/score-card.md), and
so is the method: normal random inputs, buffers that together exceed three times the last cache, warming up, at least 20 samples
or a standard error below 0.5 %, the median. On CUDA events stop the time, on the CPU a monotonic clock.

Scaled dot-product attention is timed with each backend that takes the shape, the training step eager and compiled, AdamW fused.
Nothing here is derived from what it is compared with: these are the calls that PyTorch's own documentation recommends.
"""
import argparse
import datetime
import json
import math
import re
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("card", help="a score card of `trimodal bench --json`")
parser.add_argument("--op", help="only this operation")
parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, help="threads on the CPU (default: as the card says)")
parser.add_argument("--seconds", type=float, default=1.0, help="sampling time of a row (default 1)")
parser.add_argument("--no-compile", action="store_true", help="leave the compiled training step out")
arguments = parser.parse_args()

card = json.load(open(arguments.card))
assert card["schema"] == "trimodal-card/1", f"expected a card of schema trimodal-card/1, found {card['schema']}"
device = torch.device(arguments.device)
CUDA = device.type == "cuda"
if not CUDA:
    torch.set_num_threads(arguments.threads or card["device"].get("cores") or torch.get_num_threads())
torch.manual_seed(0)
CACHE = torch.cuda.get_device_properties(0).L2_cache_size if CUDA else card["device"].get("cache_bytes") or 64 << 20
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
rows, left_out = [], []


# ── Timing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def timed(calls, run):
    """Seconds per call."""
    if CUDA:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / calls
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def sample(run, sample_seconds=None):
    """Samples after warming up, as src/bench/mod.rs takes them."""
    target = sample_seconds or (0.5e-3 if CUDA else 50e-6)
    timed(1, run)
    one, warm = timed(1, run), time.perf_counter()
    calls = max(1, min(200, math.ceil(target / one)))
    while time.perf_counter() - warm < arguments.seconds / 10:
        one = timed(calls, run)
        calls = max(1, min(200, math.ceil(target / one)))
    samples, begun = [], time.perf_counter()
    while True:
        samples.append(timed(calls, run))
        error = statistics.stdev(samples) / math.sqrt(len(samples)) / statistics.mean(samples) if len(samples) > 1 else 1.0
        if len(samples) >= 5 and error < 0.005 or len(samples) >= 20 and time.perf_counter() - begun > arguments.seconds:
            return samples, calls, error


def record(row, entry, make, bytes_of_set, pass_name=None):
    """Times `make(turn)() ` over enough sets of buffers, and writes a row with the sizes of ours."""
    sets = [make(turn) for turn in range(min(512, 3 * CACHE // max(1, bytes_of_set) + 1))] if bytes_of_set else [make(0)]
    turn = 0

    def run():
        nonlocal turn
        turn += 1
        return sets[turn % len(sets)]()

    try:
        samples, calls, error = sample(run)
    except Exception as problem:  # a backend that does not take the shape says so
        left_out.append({"what": f"{row['op']} {entry} {row['shape']} {row['dtype']}", "reason": str(problem).strip().splitlines()[0][:200]})
        return
    rows.append({
        "op": row["op"], "entry": entry, "pass": pass_name or row["pass"], "set": row["set"], "shape": row["shape"], "dtype": row["dtype"],
        "seconds": {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "standard_error": error},
        "unsure": error > 0.02, "samples": len(samples), "calls": calls, "buffers": len(sets), "flops": row["flops"], "bytes": row.get("bytes"),
        "tflops": row["flops"] / statistics.median(samples) / 1e12,
    })
    print(f"{row['op']} {entry} {row['shape']} {row['dtype']}: {1e6 * statistics.median(samples):.1f} us", file=sys.stderr)


def size(text, name):
    found = re.search(rf"(?:^| ){name}=(\d+)", text)
    return int(found[1])


def normal(*shape, dtype, grad=False):
    return torch.randn(*shape, device=device).to(dtype).requires_grad_(grad)


# ── Operations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def backward(output, leaves, gradient):
    """A backward pass alone: the graph stays, gradients are new tensors as in ours."""
    return lambda: torch.autograd.grad(output, leaves, gradient, retain_graph=True)


def forward_and_backward(row, entry, function, make_inputs, wrt):
    """Either pass of a function of tensors."""
    dtype = DTYPES[row["dtype"]]

    def make(_):
        inputs = make_inputs(dtype)
        if row["pass"] == "forward":
            def run():
                with torch.no_grad():
                    return function(*inputs)
            return run
        for i in wrt:
            inputs[i].requires_grad_(True)
        output = function(*inputs)
        return backward(output, [inputs[i] for i in wrt], torch.randn_like(output))

    record(row, entry, make, row["bytes"])


def matmul(row):
    layout, m, n, k = row["shape"].split()[0], size(row["shape"], "M"), size(row["shape"], "N"), size(row["shape"], "K")
    dtype, accumulate = DTYPES[row["dtype"]], "accumulate" in row["shape"]

    def make(_):
        a = normal(k, m, dtype=dtype).T if layout == "Tn" else normal(m, k, dtype=dtype)
        b = normal(n, k, dtype=dtype).T if layout == "Nt" else normal(k, n, dtype=dtype)
        c = normal(m, n, dtype=dtype)
        return (lambda: c.addmm_(a, b)) if accumulate else (lambda: torch.mm(a, b, out=c))

    record(row, "mm", make, row["bytes"])


def rms_norm(row):
    count, columns = size(row["shape"], "rows"), size(row["shape"], "C")
    if "residual" in row["shape"]:
        return  # PyTorch has no fused one
    make = lambda dtype: [normal(count, columns, dtype=dtype), normal(columns, dtype=dtype)]
    forward_and_backward(row, "rms_norm", lambda x, w: F.rms_norm(x, (columns,), w, 1e-6), make, [0, 1])
    forward_and_backward(row, "layer_norm", lambda x, w: F.layer_norm(x, (columns,), w, None, 1e-6), make, [0, 1])


def cross_entropy(row):
    count, vocabulary = size(row["shape"], "M"), size(row["shape"], "V")
    target = torch.randint(0, vocabulary, (count,), device=device)
    target[torch.rand(count, device=device) < 0.2] = -1
    loss = lambda x: F.cross_entropy(x, target, ignore_index=-1)
    forward_and_backward(row, "cross_entropy", loss, lambda dtype: [normal(count, vocabulary, dtype=dtype)], [0])


def conv1d(row):
    s = row["shape"]
    clips, frames, width_in, width_out, stride = (size(s, name) for name in ("clips", "frames", "in", "out", "stride"))
    make = lambda dtype: [normal(clips, width_in, frames, dtype=dtype), normal(width_out, width_in, 3, dtype=dtype), normal(width_out, dtype=dtype)]
    # As in our stem, what lies before the first convolution has no gradient.
    wrt = [1, 2] if stride == 1 else [0, 1, 2]
    forward_and_backward(row, "conv1d+gelu", lambda x, w, b: F.gelu(F.conv1d(x, w, b, stride, 1)), make, wrt)


def conv2d(row):
    s = row["shape"]
    images, height, width, inputs, outputs, stride = (size(s, name) for name in ("images", "height", "width", "in", "out", "stride"))
    # Channels last in memory, as ours are.
    last = lambda x: x.contiguous(memory_format=torch.channels_last)
    make = lambda dtype: [last(normal(images, inputs, height, width, dtype=dtype)), last(normal(outputs, inputs, 3, 3, dtype=dtype)), normal(outputs, dtype=dtype)]
    forward_and_backward(row, "conv2d+gelu", lambda x, w, b: F.gelu(F.conv2d(x, w, b, stride, 1)), make, [0, 1, 2])


def swiglu(row):
    count, columns = size(row["shape"], "N"), size(row["shape"], "F")
    make = lambda dtype: [normal(count, columns, dtype=dtype), normal(count, columns, dtype=dtype)]
    forward_and_backward(row, "silu*up", lambda g, u: F.silu(g) * u, make, [0, 1])


BACKENDS = {"math": SDPBackend.MATH, "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def attention(row):
    if row["pass"] == "weights":
        return  # ours are of a few rows; PyTorch gives none without computing all
    s, dtype = row["shape"], DTYPES[row["dtype"]]
    n, head_dim = size(s, "Nq"), size(s, "d")
    heads, kv_heads = map(int, re.search(r"H=(\d+)/(\d+)", s).groups())
    kind, length = re.search(r"(Packed|CausalSamples|FullSamples)\((\d+)\)", s).groups()
    length = int(length)
    samples, mask, causal = n // length, None, kind == "CausalSamples"
    if kind == "Packed":  # what our `visible` says: a picture of length / 2 rows that sees all of itself, then words
        i = torch.arange(length, device=device)
        mask = i[None] < torch.maximum(i[:, None] + 1, torch.tensor(2 + length // 2, device=device))

    def make(_):
        grad = row["pass"] == "backward"
        q = normal(samples, heads, length, head_dim, dtype=dtype, grad=grad)
        k, v = (normal(samples, kv_heads, length, head_dim, dtype=dtype, grad=grad) for _ in range(2))
        call = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=heads != kv_heads)
        if not grad:
            def run():
                with torch.no_grad():
                    return call()
            return run
        output = call()
        return backward(output, [q, k, v], torch.randn_like(output))

    for name, backend in BACKENDS.items():
        if name == "math" and samples * heads * length * length * 4 > 8 << 30:
            continue  # it writes all scores
        try:
            with sdpa_kernel(backend):
                record(row, f"sdpa {name}", make, row["bytes"])
        except RuntimeError as problem:  # already while the graph is made
            left_out.append({"what": f"attention sdpa {name} {s} {row['dtype']}", "reason": str(problem).strip().splitlines()[0][:200]})


def adamw(row):
    if row["pass"] != "update":
        return
    n = size(row["shape"], "n")

    def make(_):
        p = nn.Parameter(normal(n, dtype=torch.float32))
        p.grad = normal(n, dtype=torch.float32)
        optimizer = torch.optim.AdamW([p], lr=1e-3, weight_decay=0.1, fused=True)
        return optimizer.step

    record(row, "fused AdamW", make, row["bytes"])


# ── The training step ───────────────────────────────────────────────────────────────────────────────────────────────


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-6)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s, width, inner, key = s, s["D"], s["H"] * s["d"], s["Hkv"] * s["d"]
        self.n1, self.n2, self.qn, self.kn = RMSNorm(width), RMSNorm(width), RMSNorm(s["d"]), RMSNorm(s["d"])
        self.q, self.k, self.v = nn.Linear(width, inner, bias=False), nn.Linear(width, key, bias=False), nn.Linear(width, key, bias=False)
        self.o = nn.Linear(inner, width, bias=False)
        self.gate, self.up = nn.Linear(width, s["F"], bias=False), nn.Linear(width, s["F"], bias=False)
        self.down = nn.Linear(s["F"], width, bias=False)

    def forward(self, x, cos, sin, mask):
        b, t, _ = x.shape
        h = self.n1(x)
        q, k, v = (f(h).view(b, t, -1, self.s["d"]).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = rotate(self.qn(q), cos, sin), rotate(self.kn(k), cos, sin)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=self.s["H"] != self.s["Hkv"])
        x = x + self.o(a.transpose(1, 2).reshape(b, t, -1))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    """Qwen3's decoder with our patch embedding and convolution stem; tied output on the rows that predict a word."""

    def __init__(self, s):
        super().__init__()
        self.s, width = s, s["D"]
        self.grid = s["image"] // s["patch"]
        self.patches, self.frames = self.grid**2, s["frames"]
        self.rows = 6 + self.patches + self.frames + s["words"]
        self.embed = nn.Embedding(s["V"], width)
        self.patch, self.position = nn.Linear(s["patch"] ** 2 * 3, width), nn.Parameter(torch.zeros(self.grid, 2, width))
        self.convs = nn.ModuleList([nn.Conv1d(width if i else s["mels"], width, 3, 2 if i else 1, 1) for i in range(s["convs"])])
        self.layers, self.norm = nn.ModuleList([Layer(s) for _ in range(s["layers"])]), RMSNorm(width)
        angle = torch.arange(self.rows)[:, None] * 10_000 ** (-torch.arange(0, s["d"], 2) / s["d"])
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        i = torch.arange(self.rows)
        picture = (i >= 2) & (i < 2 + self.patches)
        self.register_buffer("mask", (i[None] <= i[:, None]) | (picture[None] & picture[:, None]))

    def forward(self, tokens, pixels, mel):
        x, b, p, g = self.embed(tokens), tokens.shape[0], self.s["patch"], self.grid
        patches = pixels.view(b, g, p, g, p, 3).permute(0, 1, 3, 2, 4, 5).reshape(b, self.patches, p * p * 3)
        grid = (self.position[None, :, 0] + self.position[:, None, 1]).reshape(1, self.patches, -1)
        f = mel
        for conv in self.convs:
            f = F.gelu(conv(f))
        eoi = 2 + self.patches
        x = torch.cat((x[:, :2], self.patch((patches / 255 - 0.5) / 0.5) + grid, x[:, eoi:eoi + 2], f.transpose(1, 2), x[:, eoi + 2 + self.frames:]), 1)
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, self.mask)
        first = self.rows - self.s["words"] - 2
        return self.norm(x)[:, first:-1] @ self.embed.weight.T  # only the rows that predict a word, and <eos>


DEMO = dict(H=4, Hkv=4, d=16, F=176, image=48, patch=8, mels=40, mel_frames=50, convs=3, words=13)
SMALL = dict(H=12, Hkv=12, d=64, F=2048, image=224, patch=16, mels=80, mel_frames=1000, convs=2, words=322)
SETS = {"demo": DEMO, "small": SMALL, "large": {**SMALL, "H": 32, "Hkv": 8, "d": 128, "F": 12_288}}


def step(row):
    shape = row["shape"]
    s = {**SETS[row["set"]], "D": size(shape, "D"), "layers": size(shape, "layers"), "V": size(shape, "V")}
    s["frames"] = s["mel_frames"]
    for _ in range(s["convs"] - 1):
        s["frames"] = (s["frames"] - 1) // 2 + 1
    samples, bf16 = size(shape, "samples"), row["dtype"] == "bf16"
    for mode in ["eager"] if arguments.no_compile else ["eager", "compiled"]:
        torch.manual_seed(0)
        model = Model(s).to(device)
        assert samples * model.rows == size(shape, "N"), "the same rows"
        call = torch.compile(model) if mode == "compiled" else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        tokens = torch.randint(0, s["V"], (samples, model.rows), device=device)
        pixels = torch.randint(0, 256, (samples, s["image"], s["image"], 3), device=device).float()
        mel = torch.randn(samples, s["mels"], s["mel_frames"], device=device)
        first = model.rows - s["words"] - 1

        def run():
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = call(tokens, pixels, mel)
                loss = F.cross_entropy(logits.float().reshape(-1, s["V"]), tokens[:, first:].reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss.item()

        record(row, mode, lambda _: run, 0)


OPERATIONS = {
    "matmul": matmul, "rms_norm": rms_norm, "cross_entropy": cross_entropy, "conv1d": conv1d, "conv2d": conv2d, "swiglu": swiglu, "attention": attention,
    "adamw": adamw, "step": step,
}

begun, seen = time.time(), set()
for row in card["rows"]:
    key = (row["op"], row["pass"], row["shape"], row["dtype"])
    if key in seen or row["op"] not in OPERATIONS or arguments.op not in (None, row["op"]):
        continue
    seen.add(key)
    OPERATIONS[row["op"]](row)

json.dump({
    "schema": "trimodal-card/1",
    # "+cu132" names the build for a GPU, which a processor does not run.
    "tool": "pytorch " + (torch.__version__ if CUDA else torch.__version__.split("+")[0]),
    "date": datetime.datetime.fromtimestamp(begun, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "device": {
        "kind": device.type, "name": torch.cuda.get_device_name(0) if CUDA else card["device"]["name"],
        "cores": torch.cuda.get_device_properties(0).multi_processor_count if CUDA else torch.get_num_threads(), "cache_bytes": CACHE,
    },
    "method": {
        "timer": "CUDA events around a batch of calls" if CUDA else "the host's monotonic clock",
        "inputs": "normal random numbers, never zeros",
        "rotation": "calls take turns with so many buffers that they exceed three times the last cache (at most 512)",
        "samples": f"after warming up at least 20 samples, or a standard error below 0.5 %; then more until either that or {arguments.seconds} s are reached",
        "shapes": card["method"]["shapes"], "quick": False, "seconds": time.time() - begun,
    },
    "ceilings": {},
    "rows": rows,
    "left_out": left_out,
    "interrupted": False,
}, sys.stdout, indent=1)
print()
