"""GPT-2 after its description, small: attention step by step, and linear layers whose weights are (in, out)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, WIDE, WORDS, HEADS = 16, 40, 30, 4


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(N, T, H, d) each, to (N, T, H·d); step by step, as the papers say it."""
    k, v = (each.repeat_interleave(q.shape[2] // each.shape[2], dim=2) for each in (k, v))
    scores = torch.einsum("nthd,nshd->nhts", q, k) / q.shape[-1] ** 0.5
    later = torch.ones(q.shape[1], q.shape[1]).triu(1).bool()
    return torch.einsum("nhts,nshd->nthd", scores.masked_fill(later, float("-inf")).softmax(-1), v).flatten(2)


class Conv1D(nn.Module):
    """Hugging Face's linear layer, whose weight is (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5), nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Attention2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = Conv1D(WIDTH, 3 * WIDTH), Conv1D(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(attended(*(each.unflatten(-1, (HEADS, -1)) for each in self.c_attn(x).chunk(3, -1))))


class MLP2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(WIDTH, WIDE), Conv1D(WIDE, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = nn.LayerNorm(WIDTH), Attention2(), nn.LayerNorm(WIDTH), MLP2()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        tables = {"wte": nn.Embedding(WORDS, WIDTH), "wpe": nn.Embedding(12, WIDTH)}
        nn.init.normal_(tables["wte"].weight, std=0.1)
        self.transformer = nn.ModuleDict({**tables, "h": nn.ModuleList([Block2(), Block2()]), "ln_f": nn.LayerNorm(WIDTH)})
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, x: Tensor) -> Tensor:
        body = self.transformer
        h = body["wte"](x) + body["wpe"](torch.arange(x.shape[1]))
        for block in body["h"]:  # type: ignore[union-attr]
            h = block(h)
        return self.lm_head(body["ln_f"](h))
