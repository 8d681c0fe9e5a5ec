"""Decoders of language models, as GPT-2, LLaMA and those that follow them are written: built, and equal at every position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from decoders import GPT2, HEADS, WIDE, WIDTH, WORDS, attended
from rebuilding import rebuilt, same
from torch import Tensor, nn
from torch.nn import functional as F

from fifomark.core.errors import CannotBuild


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def test_gpt2_whose_matrices_are_in_out() -> None:
    declared = {"nhead": HEADS, "activation": "gelu_tanh", "norm_first": True, "causal": True, "pooling": "none"}
    same(GPT2(), torch.randint(0, WORDS, (3, 9)), declared)


# LLaMA and its kind


class RMSNorm(nn.Module):
    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.rand(WIDTH) + 0.5), eps

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.weight


def turned(x: Tensor, halves: bool, base: float) -> Tensor:
    """(N, T, H, d): pairs as complex numbers, as LLaMA's own code turns them."""
    size = x.shape[-1]
    angles = torch.outer(torch.arange(x.shape[1]).float(), base ** (-torch.arange(0, size, 2).float() / size))
    pairs = torch.complex(*x.chunk(2, -1)) if halves else torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((pairs.real, pairs.imag), -1) if halves else torch.view_as_real(pairs).flatten(-2)


class GroupedAttention(nn.Module):
    def __init__(self, keys: int, halves: bool, base: float) -> None:
        super().__init__()
        size = WIDTH // HEADS
        self.q_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(WIDTH, keys * size, bias=False) for _ in range(2))
        self.size, self.halves, self.base = size, halves, base

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).unflatten(-1, (-1, self.size)) for each in (self.q_proj, self.k_proj, self.v_proj))
        if self.base:
            q, k = (turned(each, self.halves, self.base) for each in (q, k))
        return self.o_proj(attended(q, k, v))


class Gated(nn.Module):
    def __init__(self, names: tuple[str, str, str]) -> None:
        super().__init__()
        sizes = ((WIDTH, WIDE), (WIDTH, WIDE), (WIDE, WIDTH))
        for name, (inputs, outputs) in zip(names, sizes, strict=True):
            self.add_module(name, nn.Linear(inputs, outputs, bias=False))
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(F.silu(gate(x)) * up(x))


class Layer(nn.Module):
    def __init__(self, attention: nn.Module, names: tuple[str, str, str]) -> None:
        super().__init__()
        self.self_attn, self.mlp = attention, Gated(names)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(), RMSNorm()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(
        self, keys: int = 2, halves: bool = True, base: float = 10000.0, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    ) -> None:
        super().__init__()
        layers = nn.ModuleList(Layer(GroupedAttention(keys, halves, base), names) for _ in range(2))
        self.model = nn.ModuleDict({"embed_tokens": nn.Embedding(WORDS, WIDTH), "layers": layers, "norm": RMSNorm()})
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.model["embed_tokens"](x)
        for layer in self.model["layers"]:  # type: ignore[union-attr]
            h = layer(h)
        return self.lm_head(self.model["norm"](h))


LLAMA: Mapping[str, Any] = {
    "nhead": HEADS, "activation": "silu", "norm_first": True, "causal": True, "pooling": "none", "norm_eps": 1e-6, "rotary": "halves"
}  # fmt: skip
TOKENS = (3, 9)


@pytest.mark.parametrize("keys", [1, 2, 4])
def test_llama_with_one_key_for_several_queries(keys: int) -> None:
    built = same(Llama(keys), torch.randint(0, WORDS, TOKENS), LLAMA)
    assert any("turned by their positions, halves, base 10000" in sentence for sentence in built.assumed)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        ({"halves": False}, {"rotary": "pairs"}),
        ({"base": 500.0}, {"rotary_base": 500}),
        ({"base": 0.0}, {"rotary": "none"}),
        ({"names": ("w1", "w3", "w2")}, {}),
        ({"names": ("up_gate", "up", "down")}, {}),
    ],
)
def test_what_a_file_does_not_tell_of_it_is_declared(options: dict[str, Any], declared: dict[str, Any]) -> None:
    same(Llama(**options), torch.randint(0, WORDS, TOKENS), {**LLAMA, **declared})


def test_another_base_is_another_model() -> None:
    model, x = Llama().eval(), torch.randint(0, WORDS, TOKENS)
    built = rebuilt(model.state_dict(), x.shape[1:], {**LLAMA, "rotary_base": 100.0})
    with torch.no_grad():
        assert not torch.allclose(built(x), model(x), atol=1e-3)


class Bare(nn.Module):
    """A layer norm that has no bias, as nanoGPT may have it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(WORDS, WIDTH)
        self.block = nn.TransformerEncoderLayer(WIDTH, HEADS, WIDE, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.block(self.tokens(x))).mean(1))


def test_a_norm_without_bias_is_what_the_rubric_says() -> None:
    same(Bare(), torch.randint(0, WORDS, TOKENS), {"nhead": HEADS, "bare_norm": "layer"})


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"nhead": 16}, "heads of 1 have no pairs to turn"),
        ({"nhead": 1}, "8 is no multiple of 16, the width of one of 1 heads"),
    ],
)
def test_heads_that_do_not_fit_are_the_weights_fault(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotBuild) as e:
        rebuilt(Llama(keys=2).state_dict(), TOKENS[1:], {**LLAMA, **declared})
    assert said in str(e.value)
    assert e.value.findings


def test_all_steps_of_a_recurrent_network_go_on_where_that_is_declared() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.gru, self.fc = nn.Embedding(WORDS, 8), nn.GRU(8, 12, batch_first=True), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.gru(self.embedding(x))[0])

    same(Tagger(), torch.randint(0, WORDS, TOKENS), {"pooling": "none"})
