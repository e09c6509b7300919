"""The demo's training step in PyTorch, eager, on the CPU: what `trimodal` is compared with.

    python benches/peers/pytorch.py [--threads 2] [--steps 30] [--compile]

The same model (Qwen3 decoder, patch embedding, convolution stem, tied output on the counted rows only), the same batch
shape (32 samples packed to N rows, attention per sample as PyTorch does it fastest: one padded batch through SDPA), the
same optimiser (AdamW, clip 1.0). Prints JSON: median milliseconds of a step. Run `trimodal bench-step` in the same hour:
only the ratio means something.
"""
import argparse, json, statistics, time
import torch
import torch.nn as nn
import torch.nn.functional as F

arguments = argparse.ArgumentParser()
arguments.add_argument("--threads", type=int, default=2)
arguments.add_argument("--steps", type=int, default=30)
arguments.add_argument("--vocabulary", type=int, default=317)
arguments.add_argument("--width", type=int, default=64)
arguments.add_argument("--ffn", type=int, default=176)
arguments.add_argument("--compile", action="store_true")
arguments = arguments.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(0)

D, H, LAYERS, FFN, V = arguments.width, 4, 3, arguments.ffn, arguments.vocabulary
HD = D // H
SAMPLES, PATCHES, FRAMES, WORDS = 28, 36, 13, 13
ROWS = 1 + 1 + PATCHES + 1 + 1 + FRAMES + 1 + WORDS + 1  # 68 of one sample: bos boi patches eoi boa frames eoa words eos


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
    def __init__(self):
        super().__init__()
        self.n1, self.n2, self.qn, self.kn = RMSNorm(D), RMSNorm(D), RMSNorm(HD), RMSNorm(HD)
        self.q, self.k, self.v, self.o = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(D, FFN, bias=False), nn.Linear(D, FFN, bias=False), nn.Linear(FFN, D, bias=False)

    def forward(self, x, cos, sin, mask):
        b, t, _ = x.shape
        h = self.n1(x)
        q, k, v = (f(h).view(b, t, H, HD).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = rotate(self.qn(q), cos, sin), rotate(self.kn(k), cos, sin)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, D))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.patch, self.position = nn.Linear(192, D), nn.Parameter(torch.zeros(6, 2, D))
        self.convs = nn.ModuleList([nn.Conv1d(40, D, 3, padding=1), nn.Conv1d(D, D, 3, 2, 1), nn.Conv1d(D, D, 3, 2, 1)])
        self.layers, self.norm = nn.ModuleList([Layer() for _ in range(LAYERS)]), RMSNorm(D)
        angle = torch.arange(ROWS)[:, None] * 10_000 ** (-torch.arange(0, HD, 2) / HD)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        i = torch.arange(ROWS)
        picture = (i >= 2) & (i < 2 + PATCHES)
        self.register_buffer("mask", (i[None] <= i[:, None]) | (picture[None] & picture[:, None]))

    def forward(self, tokens, pixels, mel):
        x = self.embed(tokens)
        b = tokens.shape[0]
        p = pixels.view(b, 6, 8, 6, 8, 3).permute(0, 1, 3, 2, 4, 5).reshape(b, PATCHES, 192)
        grid = (self.position[None, :, 0] + self.position[:, None, 1]).reshape(1, PATCHES, D)
        f = mel
        for conv in self.convs:
            f = F.gelu(conv(f))
        x = torch.cat((x[:, :2], self.patch((p / 255 - 0.5) / 0.5) + grid, x[:, 38:40], f.transpose(1, 2), x[:, 53:]), 1)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, self.mask)
        return self.norm(x)[:, 53:67] @ self.embed.weight.T  # only the rows that predict a word


model = Model()
step_model = torch.compile(model) if arguments.compile else model
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
tokens = torch.randint(0, V, (SAMPLES, ROWS))
pixels = torch.randint(0, 256, (SAMPLES, 48, 48, 3)).float()
mel = torch.randn(SAMPLES, 40, 50)
times = []
for step in range(arguments.steps + 5):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = F.cross_entropy(step_model(tokens, pixels, mel).reshape(-1, V), tokens[:, 54:68].reshape(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    loss.item()
    if step >= 5:
        times.append(1e3 * (time.perf_counter() - start))
print(json.dumps({
    "peer": "pytorch " + torch.__version__, "mode": "compiled" if arguments.compile else "eager", "threads": arguments.threads,
    "rows": SAMPLES * ROWS, "parameters": sum(p.numel() for p in model.parameters()),
    "ms_per_step": {"median": statistics.median(times), "min": min(times), "max": max(times)},
}))
